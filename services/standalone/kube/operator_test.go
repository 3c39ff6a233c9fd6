package kube

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

const operated = common + `
mode: ha
store: {postgres: {urlSecret: {name: weir-postgres}}}
exposer: {replicas: 2, settings: {CF_METRICS_REPLAY_HOURS: 1}}
prometheus: {outOfOrderTimeWindow: 8h}
monitoring:
  labels: {team: edge}
  replay: {kind: ScrapeConfig, interval: 5s, scrapeTimeout: 5s}
  counters: {interval: 10s}
  own: {serviceMonitor: true, interval: 10s}
  rules: {enabled: true}
doctor:
  enabled: true
  prometheusURL: http://prometheus-operated.%[1]s.svc:9090
  extraEnv: [{name: WEIR_STORE_CAPACITY, value: "100000000000"}]
`

// The Prometheus operator makes of the chart's objects what they are meant to be: each target is
// up, a sample has one series, the alerts are loaded, and the doctor finds the job by the name
// that the operator gives it.
func TestPrometheusOperator(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "operator")
	w.step("the operator, with its CRDs")
	w.crds(os.Getenv(operatorVariable) + "/*-crd.json")
	w.startOperator()
	_, url := w.postgres()
	w.secret("weir-postgres", "url", url)
	w.secret("cloudflare", "token", firstToken)

	w.step("install, monitored as the Service")
	values := w.values(fmt.Sprintf(operated, w.name))
	w.helm("install", "weir", chart, "--values", values, "--wait", "--timeout", "5m")
	w.leader(2)
	w.seen = time.Now()
	version, err := prometheusVersion()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/operated.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w.step("a Prometheus of the operator selects the chart's objects")
	w.apply(strings.ReplaceAll(string(text), "VERSION", version))
	// The operator's own Service has no address of its own.
	w.k("patch", "service", "prometheus", "-p", `{"spec":{"selector":{"app":null,"prometheus":"edge"}}}`)
	testkit.Within(t, 5*time.Minute, func() error {
		_, err := w.try("kubectl", "-n", w.name, "rollout", "status", "statefulset/prometheus-edge", "--timeout=5m")
		return err
	})
	address := w.service("prometheus", 9090)
	w.says(address+"/-/ready", 200, "")
	p := promtest.At(t, strings.TrimPrefix(address, "http://"))
	scraped := time.Now()
	w.targets(p, map[string]int{
		"scrapeConfig/operator/prometheus":    1,
		"scrapeConfig/operator/weir-replay":   1,
		"scrapeConfig/operator/weir-counters": 1,
		"serviceMonitor/operator/weir/0":      4, // two collectors, two exposers
	})

	w.step("alerts are loaded")
	testkit.Eventually(t, func() error {
		_, _, body, err := fetch(address + "/api/v1/rules")
		if err != nil {
			return err
		}
		if strings.Count(body, `"type":"alerting"`) < 10 || strings.Contains(body, `"health":"err"`) {
			return fmt.Errorf("the rules are %s", tail(body, 3))
		}
		return nil
	})

	w.step("helm test: the doctor passes")
	w.doctor()

	w.step("each exposer is a target, and the Service has a port of the node")
	w.helm("upgrade", "weir", chart, "--values", values, "--wait", "--timeout", "5m",
		"--set", "monitoring.replay.kind=ServiceMonitor,monitoring.counters.enabled=false,exposer.service.type=NodePort")
	w.targets(p, map[string]int{"serviceMonitor/operator/weir-replay/0": 2, "serviceMonitor/operator/weir/0": 4, "scrapeConfig/operator/prometheus": 1})
	// The alerts ask for these jobs.
	testkit.Eventually(t, func() error {
		time.Sleep(time.Second)
		for job, want := range map[string]int{"weir-collector": 2, "weir-exposer": 2 + 2} {
			if up := p.Query(fmt.Sprintf("up{namespace=%q,job=%q} == 1", w.name, job), time.Now()); len(up) != want {
				return fmt.Errorf("%d targets have the job %s, want %d", len(up), job, want)
			}
		}
		return nil
	})
	w.step("Prometheus has every sample, once")
	w.holdsTruth(p, scraped.Add(-9*time.Minute), time.Now()) // of the windows that are always shown
	w.doctor()
}

// startOperator starts the operator on the node, for this namespace alone.
func (w *world) startOperator() {
	w.t.Helper()
	log, err := os.Create(filepath.Join(w.lab, "log", "prometheus-operator.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command("prometheus-operator", "--namespaces="+w.name, // as KUBECONFIG says
		"--prometheus-config-reloader=docker.io/local/prometheus-config-reloader:1", "--config-reloader-cpu-limit=0", "--kubelet-endpoints=false", "--web.listen-address=127.0.0.1:9870")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has done its work
		_ = cmd.Wait()
		_ = log.Close()
		if w.t.Failed() {
			text, err := os.ReadFile(log.Name())
			w.t.Logf("the operator's log: %v\n%s", err, tail(string(text), 20))
		}
	})
}

// prometheusVersion is that of the Prometheus in the image: the module of v3.15.0 is v0.315.0.
func prometheusVersion() (string, error) {
	text, err := os.ReadFile("../../../tools/prometheus.mod")
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`github\.com/prometheus/prometheus v0\.([0-9])([0-9]{2})\.([0-9]+)`).FindStringSubmatch(string(text))
	if m == nil {
		return "", fmt.Errorf("tools/prometheus.mod has no version of Prometheus")
	}
	return fmt.Sprintf("v%s.%s.%s", m[1], strings.TrimPrefix(m[2], "0"), m[3]), nil
}

// targets waits until Prometheus has so many targets of each job of the operator, all up, and no
// other.
func (w *world) targets(p *promtest.Server, want map[string]int) {
	w.t.Helper()
	testkit.Within(w.t, 5*time.Minute, func() error {
		time.Sleep(time.Second)
		have := map[string]int{}
		for _, target := range p.Targets() {
			if target.Health != "up" {
				return fmt.Errorf("%s is %s: %s", target.ScrapeURL, target.Health, target.LastError)
			}
			have[target.ScrapePool]++
		}
		for job, count := range want {
			if have[job] != count {
				return fmt.Errorf("the targets are %v, want %v", have, want)
			}
			delete(have, job)
		}
		if len(have) > 0 {
			return fmt.Errorf("there are the targets %v besides", slices.Sorted(maps.Keys(have)))
		}
		return nil
	})
}
