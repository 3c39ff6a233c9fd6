# Everything here is also in CONTRIBUTING.md, with its reasons. Tools are pinned
# under tools/ and built on first use; nothing is downloaded but Go modules and,
# where make test says so, Debian's Postgres, PgBouncer, Prometheus and
# VictoriaMetrics and npm's Postgres 18 (make test-all: 14 too).

.DEFAULT_GOAL := help
SHELL := /usr/bin/env bash -euo pipefail

tool = GOWORK=off go tool -modfile=tools/$(1).mod
# Of the last release's tag, without its v; proto/v1.2.3 and client/v1.2.3 are tags of modules.
version := $(patsubst v%,%,$(shell git describe --tags --match 'v[0-9]*' --always --dirty 2>/dev/null || echo unknown))
# With which the chart names its images.
app_version := $(shell sed -n 's/^appVersion: *//p' deploy/helm/weir/Chart.yaml)
ldflags = -s -w -X github.com/weir-metrics/weir/internal/cli.version=$(version)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ run

.PHONY: run
run: ## the whole system in one process; against a simulated Cloudflare when CF_API_TOKEN is unset
	@echo "make run: the first build takes a minute or two"; \
	if [[ -n "$${CF_API_TOKEN:-}$${CF_API_TOKEN_FILE:-}" ]]; then \
		echo "make run: collecting from Cloudflare with the token given"; \
		exec go run ./services/standalone/cmd/weir run $(ARGS); \
	else \
		echo "make run: CF_API_TOKEN is not set, so Cloudflare is simulated (zones end in .example)"; \
		exec go run ./services/standalone/cmd/weir run --simulate $(ARGS); \
	fi

.PHONY: demo
demo: ## against a simulated Cloudflare, with a Prometheus that shows the day before; Ctrl-C ends both and leaves nothing
	@tools/demo/demo.sh $(ARGS)

.PHONY: build
build: ## static binaries in bin/
	CGO_ENABLED=0 go build -trimpath -ldflags '$(ldflags)' -o bin/ \
		./services/collector/cmd/collector ./services/exposer/cmd/exposer ./services/standalone/cmd/weir

.PHONY: image
image: build ## container images weir/collector, weir/exposer and weir/weir, from bin/ and nothing else
	mkdir -p bin/data
	for name in collector exposer weir; do \
		docker build --file deploy/Dockerfile --target $$name --tag weir/$$name:$(version) --tag weir/$$name:$(app_version) \
			--label org.opencontainers.image.version=$(version) --label org.opencontainers.image.revision=$$(git rev-parse HEAD) \
			--label org.opencontainers.image.created=$$(TZ=UTC git show --no-patch --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd) bin; \
	done

.PHONY: release
release: ## what a release consists of, made and checked, in bin/release/VERSION; VERSION=vX.Y.Z is a tag (docs/releasing.md)
	tools/release.sh '$(VERSION)'

##@ test

.PHONY: test
test: test-tools ## the tests of all modules, save those of docs/test-all.md; needs a Postgres, builds a Prometheus on first use
	go test -timeout 20m $(TESTFLAGS) work
	@echo "make test: every module on its own"
	tools/modules.sh go build ./...

# Also of the tools that they need.
test-all race e2e: export TEST_ALL = 1

.PHONY: test-all
test-all: test-tools ## every test there is, campaigns and matrices too; before a release
	go test -timeout 40m $(TESTFLAGS) work
	@echo "make test-all: every module on its own"
	tools/modules.sh go build ./...

.PHONY: test-tools
test-tools:
	@echo "make test: real Postgres and real Prometheus (with TEST_ALL also older ones, Mimir and Thanos); the first build on a machine takes minutes"
	tools/postgres.sh
	tools/neighbours.sh
	tools/browser.sh
	go run ./internal/promtest/build

.PHONY: race
race: test-tools ## all tests under the race detector
	go test -race -timeout 40m $(TESTFLAGS) work

.PHONY: e2e
e2e: test-tools ## the whole system: binaries, Postgres, Prometheus; faults included
	go test -count=1 -v -timeout 40m $(TESTFLAGS) ./services/standalone/e2e/...

.PHONY: cluster
cluster: ## the chart and its doctor in the cluster of the current kubectl context, in a namespace of its own; tools/cluster/run.sh has the settings
	tools/cluster/run.sh

.PHONY: e2e-kube
e2e-kube: ## the chart in a cluster that it builds and starts: faults, upgrades, what Prometheus holds; Linux, root; RUN=regexp picks, KEEP=1 leaves the cluster
	tools/postgres.sh
	RUN='$(RUN)' KEEP='$(KEEP)' tools/kube/e2e.sh

.PHONY: chaos
chaos: ## the fault campaign: the whole system in virtual time; SEED=first seed, RUNS=number of seeds, two at a time
	TEST_ALL=1 go test ./services/standalone/chaos -count=1 -run '^TestChaos$$' -timeout 0 -parallel 2 -v \
		-chaos.seed=$(or $(SEED),1) -chaos.runs=$(or $(RUNS),1000) $(if $(VERBOSE),-chaos.v) | grep --line-buffered -v '^ *=== '

.PHONY: chaos-long
chaos-long: test-tools ## the long fault campaign: real processes, Postgres and Prometheus; SEED=n begins, RUNS=n repeats, HOURS=n of the clock each
	TEST_ALL=1 go test -count=1 -v -timeout $$(( $(or $(RUNS),20) * 6 + 10 ))m -run '^TestCampaign$$' ./services/standalone/e2e \
		-campaign.seed $(or $(SEED),9) -campaign.runs $(or $(RUNS),20) -campaign.hours $(or $(HOURS),3)

.PHONY: mutants
mutants: ## break each guarantee on purpose and see that its tests notice; ONLY=regexp picks
	go run ./tools/mutants -only '$(ONLY)'

.PHONY: fuzz
fuzz: ## every fuzz target of all modules in turn, FUZZTIME each (default 1m); TARGET=regexp picks
	FUZZTIME=$(or $(FUZZTIME),1m) tools/fuzz.sh '$(or $(TARGET),.)'

.PHONY: bench
bench: ## benchmarks of all modules; BENCH=regexp picks, COUNT=n repeats
	go test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem -count $(or $(COUNT),1) work

.PHONY: footprint
footprint: test-tools ## what a zone costs a store, the processes and Prometheus, compared with docs/operations.md; half an hour
	go test -count=1 -v -timeout 0 -run '^TestFootprintOf' ./services/standalone/e2e -footprint

.PHONY: replay-cost
replay-cost: test-tools ## what repeated samples cost a Prometheus; HOURS=n of its time, a minute each
	go test -count=1 -v -timeout 0 -parallel 16 -run '^TestReplayCost$$' ./internal/carousel -cost.hours $(or $(HOURS),12)

##@ check

.PHONY: check
check: lint check-generate tidy-check check-modules check-imports check-chart check-supply ## everything CI checks besides the tests

.PHONY: lint
lint: ## formatting, go vet, golangci-lint, the contract
	@unformatted="$$($(call tool,gofumpt) gofumpt -l .)"; \
	if [[ -n "$$unformatted" ]]; then echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; fi
	go vet work
	"$$($(call tool,lint) -n golangci-lint)" run $$(go list -m -f '{{.Dir}}/...')
	$(call tool,buf) buf lint

.PHONY: fmt
fmt: ## format all Go and .proto files
	$(call tool,gofumpt) gofumpt -w .
	$(call tool,buf) buf format -w

.PHONY: generate
generate: ## generated Go of the contract, the documents made from code, the dashboards
	$(call tool,buf) buf generate
	go generate work
	cd tools/monitoring && GOWORK=off go run . ../../deploy/dashboards ../../deploy/helm/weir/files

.PHONY: check-generate
check-generate:
	tools/generated.sh
	cd tools/monitoring && GOWORK=off go vet ./... && GOWORK=off go test -count=1 ./...

.PHONY: dashboard-picture
dashboard-picture: test-tools ## the dashboard's panels as a picture, bin/dashboard.png, of hours with every kind of trouble
	mkdir -p bin
	TEST_ALL=1 go test -count=1 -run '^TestDashboardShowsEveryTrouble$$' ./services/standalone/e2e -dashboard.picture=$(CURDIR)/bin/dashboard.png

.PHONY: dashboard-pictures
dashboard-pictures: test-tools ## the dashboards of the traffic as pictures, docs/pictures, of simulated hours
	go test -count=1 -run '^TestTrafficDashboards$$' ./services/standalone/e2e -dashboard.pictures=$(CURDIR)/docs/pictures

.PHONY: breaking
breaking: ## what would break a client of the contract since AGAINST (a tag or branch; default the last tag)
	$(call tool,buf) buf breaking --against '.git#ref=$(or $(AGAINST),$(shell git describe --tags --match 'v[0-9]*' --abbrev=0 2>/dev/null || echo HEAD))'

.PHONY: tidy-check
tidy-check: ## go.mod and go.sum of every module are tidy
	tools/modules.sh go mod tidy -diff

.PHONY: check-modules
check-modules: ## every module builds and vets without the workspace
	tools/modules.sh go vet ./...

.PHONY: check-imports
check-imports:
	go test ./internal/deptest

.PHONY: check-chart
check-chart:
	tools/chart.sh

supply = cd tools/supply && GOWORK=off go build -o $(CURDIR)/bin/.supply . && cd $(CURDIR) && bin/.supply

.PHONY: check-supply
check-supply: build ## modules as their checksums say, tools pinned, licences known, binaries static, images bare, one version everywhere
	tools/verify.sh
	cd tools/supply && GOWORK=off go vet ./... && GOWORK=off go test -count=1 ./...
	$(supply) check

.PHONY: licences
licences: ## docs/licences.md: what is linked, under which licence
	@mkdir -p bin
	$(supply) licences

.PHONY: sbom
sbom: build ## bills of materials of the binaries, CycloneDX, in bin/sbom
	$(supply) sbom bin/sbom $(version)

.PHONY: vulns
vulns: ## known vulnerabilities; asks vuln.go.dev, so it is for people, not for CI
	go run golang.org/x/vuln/cmd/govulncheck@v1.8.0 work
