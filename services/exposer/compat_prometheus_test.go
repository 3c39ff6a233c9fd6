package exposer_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// What a query of another exporter's names must answer follows here from three texts and not
// from the table that is tested: the families of theirs with their labels (lablabs.txt), which
// family of Weir each is (docs/migration.md), and the catalogue (metrics.md).

// ours is a family of Weir in the catalogue.
type ours struct {
	labels   []string // its own
	dataset  string   // with the size
	additive bool
	unit     string
}

func catalogue(t testing.TB) map[string]ours {
	all := map[string]ours{}
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (.*?) \\| (.*?) \\| (.*?) \\| `(\\w+)` \\|")
	for _, m := range row.FindAllStringSubmatch(string(testkit.RepoFile(t, "services/collector/internal/catalogue/testdata/metrics.md")), -1) {
		var labels []string
		for _, l := range strings.Split(strings.ReplaceAll(m[2], "`", ""), ", ") {
			if l != "zone" && l != "account" {
				labels = append(labels, l)
			}
		}
		all[m[1]] = ours{labels: labels, dataset: m[5], additive: m[4] == "yes", unit: m[3]}
	}
	return all
}

// lablabs is a family of theirs.
type lablabs struct {
	name, kind string
	labels     []string
	of         []string // families of Weir
}

// servedLablabs are the families that the page shows.
func servedLablabs(t testing.TB, cat map[string]ours) (all []lablabs) {
	migration := string(testkit.RepoFile(t, "docs/migration.md"))
	_, migration, _ = strings.Cut(migration, "\n## lablabs/cloudflare-exporter\n")
	leftOut := []string{"cloudflare_zone_uniques_total", "cloudflare_worker_duration", "cloudflare_r2_operation_count"}
	for line := range strings.Lines(string(testkit.RepoFile(t, "services/exposer/internal/compat/testdata/lablabs.txt"))) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] == "#" || slices.Contains(leftOut, f[0]) {
			continue
		}
		row := regexp.MustCompile("(?m)^\\| `" + f[0] + "` \\| (.*?) \\|").FindStringSubmatch(migration)
		if row == nil {
			t.Fatalf("docs/migration.md does not name %s", f[0])
		}
		if row[1] == "–" || strings.Contains(f[0], "month") {
			continue
		}
		one := lablabs{name: f[0], kind: f[1], labels: strings.Split(f[2], ","), of: regexp.MustCompile(`\w+`).FindAllString(row[1], -1)}
		for _, name := range one.of {
			if cat[name].dataset == "" {
				t.Fatalf("%s is said to be %s, which is not in the catalogue", f[0], name)
			}
		}
		all = append(all, one)
	}
	return all
}

// one is a series of Weir's.
type one struct {
	family, zone, account, id string
	own                       map[string]string
	values                    []string
	size, delay               time.Duration
	index                     float64 // tells its traffic from that of others
}

// amount is its value in the window that begins at a time.
func (s *one) amount(f ours, start time.Time) float64 {
	at := start.Sub(feedtest.T0)
	n := float64(at / s.size)
	switch {
	case f.additive:
		rate := (20 + s.index) * (1 + 0.3*math.Sin(2*math.Pi*at.Hours()/24+s.index))
		return math.Round(rate * s.size.Seconds())
	case f.unit == "ratio":
		return []float64{1, 0, 0.4, 0.5, 0.9}[int(n+s.index)%5]
	case f.unit == "seconds":
		return (1 + s.index + math.Mod(n, 7)) / 1024
	}
	return 1e9*(1+s.index) + n
}

// sum is its traffic up to a time, as far as counters have it: without the first window, of
// which only the end was collected. Inside a window it is even.
func (s *one) sum(f ours, until time.Time) (sum float64) {
	for start := feedtest.T0; start.Before(until); start = start.Add(s.size) {
		sum += s.amount(f, start) * min(1, float64(until.Sub(start))/float64(s.size))
	}
	return sum
}

// variants are values of labels, with those that matter to the page.
var variants = map[string][]string{
	"country": {"DE", "T1"}, "quantile": {"0.5", "0.75", "0.95", "0.99", "0.999"}, "failure_reason": {"none", "timeout"},
	"storage_class": {"InfrequentAccess", "Standard"}, "status": {"200", "404", "503"}, "origin_status": {"200", "502"},
	"pool": {"eu \"1\"", "us"}, "script": {"shop"}, "bucket": {"a", "b"}, "job_id": {"7"}, "final": {"false", "true"},
}

func seriesOf(name string, f ours, size time.Duration) (all []one) {
	owns := [][]string{nil}
	for _, l := range f.labels {
		values := variants[l]
		if values == nil {
			values = []string{l + "-1"}
		}
		var next [][]string
		for _, own := range owns {
			for _, v := range values {
				next = append(next, append(slices.Clone(own), v))
			}
		}
		owns = next
	}
	for i, account := range []string{"Big Corp", "acme"} {
		for _, values := range owns {
			s := one{family: name, account: account, id: fmt.Sprintf("%032x", 0xac0+i), values: values, own: map[string]string{}, size: size}
			if strings.HasPrefix(name, "cloudflare_zone_") {
				s.zone, s.id = fmt.Sprintf("zone-%d.example", i), feedtest.Zone(i).ID
			}
			for j, l := range f.labels {
				s.own[l] = values[j]
			}
			hash := fnv.New32a()
			fmt.Fprint(hash, name, s.id, values)
			s.index = float64(hash.Sum32() % 17)
			// docs/counters.md: the length of a bucket, the delay, two readings, and 90 s.
			s.delay = size + 5*time.Minute + 150*time.Second + 90*time.Second
			all = append(all, s)
		}
	}
	return all
}

// label is the value of a label of theirs.
func (s *one) label(of *lablabs, name string) string {
	renamed := map[string]string{
		"colocation": "colo", "family": "browser", "script_name": "script", "load_balancer_name": "load_balancer", "pool_name": "pool",
		"origin_name": "origin", "asn_description": "asn_name", "type": "threat_type",
		"tunnel_name": "tunnel", "tunnel_type": "type", "client_id": "connector_id", "ip": "address",
	}
	switch {
	case name == "zone":
		return s.zone
	case name == "account" && strings.Contains(of.name, "logpush"):
		return s.id
	case name == "account" && (strings.Contains(of.name, "_r2_") || strings.Contains(of.name, "_tunnel_") || strings.Contains(of.name, "_pool_origin_")):
		return s.account
	case name == "account":
		return map[string]string{"Big Corp": "big-corp", "acme": "acme"}[s.account]
	case name == "region" && s.own["country"] != "":
		return map[string]string{"DE": "Europe", "T1": "Unknown"}[s.own["country"]]
	case name == "quantile":
		return map[string]string{"0.5": "P50", "0.75": "P75", "0.95": "P95", "0.99": "P99", "0.999": "P999"}[s.own["quantile"]]
	case name == "status" && strings.Contains(of.name, "_origin_"):
		return s.own["origin_status"]
	case renamed[name] != "":
		return s.own[renamed[name]]
	}
	return s.own[name]
}

// isOf reports whether the series is one that a family of theirs is about.
func (s *one) isOf(of *lablabs) bool {
	if !slices.Contains(of.of, s.family) {
		return false
	}
	for name, quantile := range map[string]string{"_p50_ms": "0.5", "_p95_ms": "0.95", "_p99_ms": "0.99"} {
		if strings.HasSuffix(of.name, name) {
			return s.own["quantile"] == quantile
		}
	}
	return !strings.Contains(of.name, "failed") || s.own["status"] != "200"
}

// gauge is what a gauge of theirs shows of it.
func (s *one) gauge(of *lablabs, f ours, at time.Time) float64 {
	v := s.amount(f, at.Add(-s.delay).Truncate(s.size))
	switch {
	case strings.HasSuffix(of.name, "_ms"):
		return 1000 * v
	case of.name == "cloudflare_worker_cpu_time":
		return 1e6 * v
	case of.name == "cloudflare_zone_pool_health_status":
		return math.Floor(v + 0.5)
	}
	return v
}

// added are labels that families have on the page and not in theirs.
var added = map[string][]string{
	"cloudflare_logpush_failed_jobs_account_count":     {"status"},
	"cloudflare_logpush_failed_jobs_zone_count":        {"account", "status", "zone"},
	"cloudflare_pool_origin_health_status":             {"pool_id"},
	"cloudflare_zone_health_check_events_origin_count": {"failure_reason"},
}

// Four hours of scrapes of the compatibility page, stored by a real Prometheus. Over every family,
// queries of the shapes that dashboards and alerts of lablabs/cloudflare-exporter have give the
// traffic of a delay ago; and a real scrape takes the page in both formats, with their types (G10).
func TestLablabsQueries(t *testing.T) {
	cat := catalogue(t)
	theirs := servedLablabs(t, cat)
	s := scripted()
	c := newCounting(s, "one")
	set := config()
	set.Counters, set.Compat = true, "lablabs"
	x := start(t, c.serve(t), set, at(0))

	all := map[string][]one{} // by dataset
	var definitions []*bucket.Definition
	for _, name := range slices.Sorted(maps.Keys(cat)) {
		f := cat[name]
		if !slices.ContainsFunc(theirs, func(l lablabs) bool { return slices.Contains(l.of, name) }) {
			continue
		}
		size := 5 * time.Minute
		if strings.HasSuffix(f.dataset, "_1h") {
			size = time.Hour
		}
		of := bucket.Family{Name: name, Help: "Help.", Labels: f.labels, Role: bucket.Breakdown, Additive: f.additive}
		i := slices.IndexFunc(definitions, func(d *bucket.Definition) bool { return d.Dataset == f.dataset })
		if i < 0 {
			i = len(definitions)
			kind := bucket.Account
			if strings.HasPrefix(name, "cloudflare_zone_") {
				kind = bucket.Zone
			}
			definitions = append(definitions, &bucket.Definition{Dataset: f.dataset, Version: 1, ScopeKind: kind, Size: size, Delay: 5 * time.Minute, Depth: 6, Description: "Data."})
		}
		definitions[i].Families = append(definitions[i].Families, of)
		all[f.dataset] = append(all[f.dataset], seriesOf(name, f, size)...)
	}
	head := 0
	for _, d := range definitions {
		head = int(s.Append(at(0), feedtest.Entry{Definition: d}).Revision)
	}

	const began, length, step = 150 * time.Minute, 4 * time.Hour, 15 * time.Second
	var file bytes.Buffer
	now, next := at(0), map[string]time.Time{}
	for now.Before(at(0).Add(length)) {
		now = now.Add(step)
		for _, d := range definitions {
			if next[d.Dataset].IsZero() {
				next[d.Dataset] = at(0)
			}
			for due := next[d.Dataset].Add(d.Size + d.Delay); due.Before(now); due = due.Add(d.Size) {
				head = int(s.Append(due, buckets(d, cat, all[d.Dataset], next[d.Dataset], due)...).Revision)
				next[d.Dataset] = next[d.Dataset].Add(d.Size)
			}
		}
		s.SetProgress(now)
		x.clock.Advance(step)
		c.confirm(now)
		x.await(head)
		if now.Sub(at(0)) < began-80*time.Minute { // nothing asks about it
			continue
		}
		page := x.compat(http.StatusOK, "")
		for line := range strings.Lines(page.body) {
			if series, rest, found := strings.Cut(strings.TrimSuffix(line, "\n"), "{"); found && line[0] != '#' {
				fmt.Fprintf(&file, "%s{job=\"integrations/cloudflare\",instance=\"weir\",%s %d\n", series, rest, now.Unix())
			}
		}
	}
	file.WriteString("# EOF\n")
	if lacks := x.compat(http.StatusOK, ""); strings.Contains(lacks.body, "weir_compat_missing{") {
		t.Errorf("something is missing:\n%s", lacks.body[strings.Index(lacks.body, "weir_compat_missing{"):])
	}

	address := strings.TrimPrefix(x.data, "http://")
	p := promtest.Start(t, fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1m}
scrape_configs:
- {job_name: openmetrics, metrics_path: /counters/compat/lablabs, params: {created: ["true"]}, static_configs: [{targets: [%q]}]}
- {job_name: text, metrics_path: /counters/compat/lablabs, scrape_protocols: [PrometheusText0.0.4], static_configs: [{targets: [%q]}]}
`, address, address), "--storage.tsdb.retention.time=100y")
	p.Stop()
	path := filepath.Join(t.TempDir(), "pages.om")
	testkit.WriteFile(t, path, file.Bytes())
	if _, stderr, err := promtest.Promtool(t, "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h", path, p.DataDir()); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	p.Start()

	const seed = 20261201
	r := rand.New(rand.NewPCG(seed, 0))
	asked, compared := 0, 0
	for _, of := range theirs {
		by := strings.Join(of.labels, ", ")
		var about []one
		for _, dataset := range slices.Sorted(maps.Keys(all)) {
			for _, s := range all[dataset] {
				if s.isOf(&of) {
					about = append(about, s)
				}
			}
		}
		// Series have the labels of theirs, and those that docs/compat.md adds.
		want := slices.Concat(of.labels, []string{"__name__", "instance", "job"}, added[of.name])
		slices.Sort(want)
		for _, series := range p.Query(of.name, at(0).Add(began)) {
			if got := slices.Sorted(maps.Keys(series.Labels)); !slices.Equal(got, want) {
				t.Errorf("%s has the labels %v, want %v", series.Name(), got, want)
			}
		}
		for range 3 {
			now := at(0).Add(began + time.Duration(r.Int64N(int64((length-began)/time.Second)))*time.Second)
			// flow is the traffic of a series in a range that ends some time ago, as a counter has it.
			flow := func(length, ago time.Duration) func(*one) float64 {
				return func(s *one) float64 {
					end := now.Add(-ago - s.delay)
					return s.sum(cat[s.family], end) - s.sum(cat[s.family], end.Add(-length))
				}
			}
			const selector = `{job=~"integrations/cloudflare",instance=~"weir"}`
			type question struct {
				expr string
				want map[string]float64
				near float64
			}
			total := func(v func(*one) float64) map[string]float64 {
				sums := map[string]float64{}
				for i := range about {
					sums[key(&of, about[i].labelsOf(&of))] += v(&about[i])
				}
				return sums
			}
			var questions []question
			ask := func(expr string, near float64, v func(*one) float64) {
				questions = append(questions, question{fmt.Sprintf("sum by (%s) (%s)", by, strings.ReplaceAll(expr, "$x", of.name+selector)), total(v), near})
			}
			if of.kind == "gauge" {
				ask("$x", 1e-9, func(s *one) float64 { return s.gauge(&of, cat[s.family], now) })
			} else {
				minute := flow(time.Minute, 0)
				ask("rate($x[1m])", 0.03, func(s *one) float64 { return minute(s) / 60 })
				ask("increase($x[1m:15s])", 0.03, steps(now, flow, time.Minute, 15*time.Second))
				ask("increase($x[5m:])", 0.02, steps(now, flow, 5*time.Minute, time.Minute))
				ask("increase($x[5m:] offset 5m)", 0.02, steps(now, shifted(flow, 5*time.Minute), 5*time.Minute, time.Minute))
				ask("increase($x[5m])", 0.02, flow(5*time.Minute, 0))
				ask("sum without (instance) (increase($x[5m]))", 0.02, flow(5*time.Minute, 0))
				ask("rate($x[10m])", 0.02, func(s *one) float64 { return flow(10*time.Minute, 0)(s) / 600 })
				before := func(s *one) float64 { return flow(50*time.Minute, 10*time.Minute)(s) / 3000 }
				ask("rate($x[50m] offset 10m)", 0.02, before)
				recent := total(func(s *one) float64 { return flow(10*time.Minute, 0)(s) / 600 })
				for series, v := range total(before) {
					recent[series] = 100 * recent[series] / v
				}
				questions = append(questions, question{fmt.Sprintf("100 * sum by (%[1]s) (rate(%[2]s[10m])) / sum by (%[1]s) (rate(%[2]s[50m] offset 10m))", by, of.name+selector), recent, 0.02})
			}
			for _, q := range questions {
				asked++
				got := map[string]float64{}
				for _, series := range p.Query(q.expr, now) {
					got[key(&of, series.Labels)] = series.Samples[0].Value
				}
				if len(got) != len(q.want) || len(got) == 0 {
					t.Errorf("%s: at %s: %d series, want %d:\n%v\n%v", q.expr, now, len(got), len(q.want), slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(q.want)))
					continue
				}
				for series, want := range q.want {
					compared++
					if v, found := got[series]; !found || math.Abs(v-want) > q.near*math.Abs(want) {
						t.Errorf("%s: at %s: %s is %v (%t), the truth is %v", q.expr, now, series, v, found, want)
					}
				}
			}
		}
	}
	t.Logf("seed %d: %d families, %d queries, %d series", seed, len(theirs), asked, compared)
	if len(theirs) != 43 {
		t.Errorf("%d families are shown, want 43", len(theirs))
	}

	// A real scrape takes the page.
	testkit.Eventually(t, func() error {
		targets := p.Targets()
		if len(targets) != 2 {
			return fmt.Errorf("%d targets", len(targets))
		}
		for _, target := range targets {
			if target.Health != "up" {
				return fmt.Errorf("%s is %s: %s", target.ScrapePool, target.Health, target.LastError)
			}
		}
		return nil
	})
	for _, of := range theirs {
		for job, kind := range map[string]string{"text": of.kind, "openmetrics": of.kind} {
			name := of.name
			if bare, suffixed := strings.CutSuffix(name, "_total"); job == "openmetrics" && of.kind == "counter" && suffixed {
				name = bare // of the family
			} else if job == "openmetrics" && of.kind == "counter" {
				kind = "unknown" // OpenMetrics has no counters of other names
			}
			if got := metadata(t, p, job, name); got != kind {
				t.Errorf("%s: %s is of type %q, want %q", job, of.name, got, kind)
			}
		}
	}
}

// labelsOf are its labels as theirs.
func (s *one) labelsOf(of *lablabs) map[string]string {
	labels := map[string]string{}
	for _, name := range of.labels {
		labels[name] = s.label(of, name)
	}
	return labels
}

func key(of *lablabs, labels map[string]string) string {
	var b strings.Builder
	for _, name := range of.labels {
		fmt.Fprintf(&b, "%s=%q ", name, labels[name])
	}
	return b.String()
}

type flows = func(length, ago time.Duration) func(*one) float64

func shifted(flow flows, by time.Duration) flows {
	return func(length, ago time.Duration) func(*one) float64 { return flow(length, ago+by) }
}

// steps is what increase gives over a subquery: the traffic between its first and its last step,
// which are at whole multiples of its resolution, extrapolated to its length.
func steps(now time.Time, flow flows, length, resolution time.Duration) func(*one) float64 {
	covered, ago := length-resolution, now.Sub(now.Truncate(resolution))
	return func(s *one) float64 { return flow(covered, ago)(s) * float64(length) / float64(covered) }
}

func metadata(t *testing.T, p *promtest.Server, job, name string) string {
	t.Helper()
	resp, err := http.Get(p.URL() + "/api/v1/targets/metadata?" + url.Values{"match_target": {fmt.Sprintf("{job=%q}", job)}, "metric": {name}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Data []struct{ Type string } }
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if len(answer.Data) != 1 {
		return fmt.Sprintf("%d entries: %s", len(answer.Data), body)
	}
	return answer.Data[0].Type
}

// buckets are those of a dataset in a window.
func buckets(d *bucket.Definition, cat map[string]ours, series []one, start, due time.Time) (entries []feedtest.Entry) {
	of := map[string]*bucket.Bucket{} // by scope
	for i := range series {
		s := &series[i]
		b := of[s.id]
		if b == nil {
			b = &bucket.Bucket{
				Key:  bucket.Key{Dataset: d.Dataset, Scope: bucket.Scope{Kind: d.ScopeKind, ID: s.id}, Start: bucket.TimeOf(start)},
				Size: d.Size, Version: 1, Zone: s.zone, Account: s.account,
				Finality: bucket.Confirmed, Origin: bucket.Live, Variant: "rollup", SampleInterval: 1, ReadAt: bucket.TimeOf(due),
			}
			of[s.id] = b
		}
		if n := len(b.Families); n == 0 || b.Families[n-1].Family != s.family {
			b.Families = append(b.Families, bucket.Rows{Family: s.family})
		}
		rows := &b.Families[len(b.Families)-1]
		rows.Labels, rows.Values = append(rows.Labels, s.values...), append(rows.Values, s.amount(cat[s.family], start))
	}
	for _, id := range slices.Sorted(maps.Keys(of)) {
		entries = append(entries, feedtest.Entry{Bucket: of[id]})
	}
	return entries
}

// compat waits for an answer of the compatibility page with a status and a text.
func (r *running) compat(code int, text string) reply {
	r.t.Helper()
	var got reply
	testkit.Eventually(r.t, func() (err error) {
		if got, err = r.ask(r.data + "/counters/compat/lablabs"); err != nil {
			return err
		}
		if got.code != code || !strings.Contains(got.body, text) {
			return fmt.Errorf("/counters/compat/lablabs: %d %s; want %d with %q", got.code, got.body, code, text)
		}
		return nil
	})
	return got
}
