package kube

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

const ha = common + `
commonLabels: {world: %[1]s}
mode: ha
store: {postgres: {urlSecret: {name: weir-postgres}}}
exposer: {replicas: 3, settings: {CF_METRICS_REPLAY_HOURS: 1}}
prometheus: {outOfOrderTimeWindow: 8h}
monitoring: {replay: {interval: 5s, scrapeTimeout: 5s}, counters: {interval: 10s}}
doctor:
  enabled: true
  prometheusURL: http://prometheus.%[1]s.svc:9090
  extraEnv: [{name: WEIR_STORE_CAPACITY, value: "100000000000"}]
`

// Two collectors, three exposers and a Postgres, of which each is taken away in turn while
// a Prometheus scrapes them: in the end it has no hole.
func TestHA(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ha")
	values := w.values(fmt.Sprintf(ha, w.name))
	w.step("Postgres on the node")
	database, url := w.postgres()
	w.secret("weir-postgres", "url", url)

	w.step("install with a token that Cloudflare refuses: helm --wait fails")
	w.secret("cloudflare", "token", unknownToken)
	w.refused([]string{"weir-collector"}, "install", "weir", chart, "--values", values, "--wait", "--timeout", "30s")
	w.step("leader and standby say why they are not ready")
	for _, p := range w.pods("collector") {
		w.says("http://"+p.Status.PodIP+":9821/-/ready", 503, "Cloudflare has not accepted an API token yet: ")
	}
	w.noted("has not accepted an API token yet")
	w.step("exposers are ready with the empty log")
	w.readyPods("exposer", 3)

	w.step("the Secret has the right token: all become ready")
	w.secret("cloudflare", "token", firstToken)
	w.readyPods("collector", 2)
	w.readyPods("exposer", 3)
	w.helm("upgrade", "weir", chart, "--values", values, "--wait", "--timeout", "5m")
	w.seen = time.Now()
	w.leader(2)

	w.step("Prometheus with the printed scrape jobs")
	p := w.startPrometheus(2 + 3)
	scraped := time.Now()

	w.step("helm test: the doctor passes")
	w.doctor()

	metrics := w.service("weir-exposer", 9810) + "/metrics"
	for _, d := range []struct {
		about string
		do    func()
	}{
		{"the leader is killed", func() { w.kill(w.leader(2)); w.leader(2) }},
		{"the leader is deleted", func() { w.k("delete", "pod", w.leader(2).Metadata.Name); w.readyPods("collector", 2); w.leader(2) }},
		{"the node is drained of collectors", func() { w.drain("collector", 2); w.leader(2) }},
		{"the node is drained of exposers", func() { w.drain("exposer", 3) }},
		{"both Deployments roll", func() {
			w.helm("upgrade", "weir", chart, "--values", values, "--wait", "--timeout", "5m",
				"--set", "collector.podAnnotations.roll=one,exposer.podAnnotations.roll=one")
		}},
		{"and roll back", func() { w.helm("rollback", "weir", "--wait", "--timeout", "5m") }},
		{"exposers: 3 to 1 to 3 to 2", func() {
			for _, count := range []int{1, 3, 2} {
				w.helm("upgrade", "weir", chart, "--values", values, "--wait", "--timeout", "5m", "--set", fmt.Sprintf("exposer.replicas=%d", count))
				w.readyPods("exposer", count)
			}
		}},
		{"the token is refused: everything stays ready, and the problem is shown", func() {
			w.secret("cloudflare", "token", unknownToken)
			w.problem("TOKEN_REFUSED", true)
			w.kill(w.leader(2))
			w.problem("TOKEN_REFUSED", true)
			w.readyPods("collector", 2)
			w.readyPods("exposer", 2)
		}},
		{"another token: it is used without a restart", func() {
			w.secret("cloudflare", "token", secondToken)
			w.problem("TOKEN_REFUSED", false)
		}},
		{"Postgres is away for a minute: collectors are not ready, exposers are", func() {
			database.Kill()
			for _, p := range w.pods("collector") {
				w.says("http://"+p.Status.PodIP+":9821/-/ready", 503, "")
			}
			time.Sleep(time.Minute) // what is tested is that nothing gives up meanwhile
			w.readyPods("exposer", 2)
			database.Start()
			w.readyPods("collector", 2)
			w.leader(2)
		}},
	} {
		w.step("%s", d.about)
		w.watched(metrics, d.do)
	}

	ended := time.Now()
	w.step("Prometheus has no hole")
	// From the first scrape, with the windows that are always shown; TestStandalone waits for
	// those of before too.
	w.holdsTruth(p, scraped.Add(-9*time.Minute), ended)
	w.countersOnlyGrow(p)
	w.step("helm test: the doctor passes again")
	w.doctor()
	w.step("the doctor passes as the Job of its page")
	w.doctorJob()
}

// leader waits until one of so many collectors leads, and returns it.
func (n *namespace) leader(count int) (leader pod) {
	n.t.Helper()
	pods := n.readyPods("collector", count)
	testkit.Eventually(n.t, func() error {
		leading := 0
		for _, p := range pods {
			value, err := metric("http://"+p.Status.PodIP+":9821/metrics", "weir_collector_leader")
			if err != nil {
				return err
			}
			if value == "1" {
				leading, leader = leading+1, p
			}
		}
		if leading != 1 {
			return fmt.Errorf("%d collectors lead", leading)
		}
		return nil
	})
	return leader
}

// problem waits until the exposers' status page has a problem of the collectors, or not.
func (n *namespace) problem(code string, wanted bool) {
	n.t.Helper()
	url := n.service("weir-exposer", 9810) + "/status.json"
	testkit.Within(n.t, 4*time.Minute, func() error {
		status, _, body, err := fetch(url)
		if err != nil || status != 200 {
			return fmt.Errorf("%s is %d: %w", url, status, err)
		}
		if strings.Contains(body, `"`+code+`"`) != wanted {
			return fmt.Errorf("%s has %s: %t, want %t", url, code, !wanted, wanted)
		}
		return nil
	})
}

// doctor runs helm test until it passes.
func (n *namespace) doctor() {
	n.t.Helper()
	var report string
	testkit.Within(n.t, 10*time.Minute, func() (err error) {
		report, err = n.try("helm", "-n", n.name, "test", "weir", "--logs", "--timeout", "5m")
		if err != nil {
			return fmt.Errorf("%w\n%s", err, report)
		}
		return nil
	})
	n.t.Log(report)
}

// doctorJob runs the Job of docs/doctor.md until it is complete. The image is that of the chart, the
// namespace is the world's, and the environment has besides what only this world needs.
func (w *world) doctorJob() {
	w.t.Helper()
	page, err := os.ReadFile("../../../docs/doctor.md")
	if err != nil {
		w.t.Fatal(err)
	}
	const image = "registry.example/weir/weir:VERSION"
	_, text, _ := strings.Cut(string(page), "```yaml\napiVersion: batch/v1\nkind: Job\n")
	text, _, found := strings.Cut(text, "```")
	if !found || strings.Count(text, image) != 1 || strings.Count(text, "env:\n") != 1 {
		w.t.Fatalf("docs/doctor.md has no Job with the image %s and one environment", image)
	}
	text = "apiVersion: batch/v1\nkind: Job\n" + strings.NewReplacer(image, w.image(), "namespace: weir\n", "namespace: "+w.name+"\n", ".weir.svc", "."+w.name+".svc", "env:\n", `env:
            - {name: WEIR_CLOUDFLARE_URL, value: "http://cloudflare:9830/client/v4"}
            - {name: CF_BUCKET_SECONDS, value: "60"}
            - {name: CF_DELAY_SECONDS, value: "60"}
`).Replace(text)
	testkit.Within(w.t, 10*time.Minute, func() error {
		w.k("delete", "job", "weir-doctor", "--ignore-not-found", "--timeout=5m")
		w.apply(text)
		for _, condition := range []string{"complete", "failed"} {
			// A Job that has failed is never complete.
			wait, err := w.try("kubectl", "-n", w.name, "wait", "--for=condition="+condition, "job/weir-doctor", "--timeout=2m")
			report, _ := w.try("kubectl", "-n", w.name, "logs", "job/weir-doctor")
			switch {
			case err == nil && condition == "complete":
				w.t.Log(report)
				return nil
			case err == nil:
				return fmt.Errorf("the Job failed: %s", report)
			case condition == "failed":
				return fmt.Errorf("the Job neither completes nor fails: %w: %s%s", err, wait, report)
			}
		}
		return nil
	})
}

// countersOnlyGrow checks that no counter went back, whichever exposer answered.
func (n *namespace) countersOnlyGrow(p *promtest.Server) {
	n.t.Helper()
	series, samples := p.Samples(`{job="weir-counters",__name__=~"cloudflare_.*_total"}`, n.began, time.Now()), 0
	for _, s := range series {
		for i := 1; i < len(s.Samples); i++ {
			if s.Samples[i].Value < s.Samples[i-1].Value {
				n.t.Errorf("%s went from %v to %v at %s", s.Name(), s.Samples[i-1].Value, s.Samples[i].Value, s.Samples[i].Time)
				break
			}
		}
		samples += len(s.Samples)
	}
	n.t.Logf("%d counters with %d samples never went back", len(series), samples)
	if samples < 500 {
		n.t.Errorf("only %d samples of counters: the test has lost its subject", samples)
	}
}
