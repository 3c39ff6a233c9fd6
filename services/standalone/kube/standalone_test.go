package kube

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

const standalone = common + `
commonLabels: {world: %[1]s}
exposer: {settings: {CF_METRICS_REPLAY_HOURS: 1}}
store: {sqlite: {size: 1Gi}}
prometheus: {outOfOrderTimeWindow: 8h}
monitoring: {replay: {interval: 5s, scrapeTimeout: 5s}, counters: {interval: 10s}}
`

// volume makes a volume for the claim that the chart makes.
func (n *namespace) volume() {
	n.t.Helper()
	dir := filepath.Join(n.lab, "volumes", n.name)
	if err := os.RemoveAll(dir); err != nil {
		n.t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	remove := func() { n.run("kubectl", "delete", "persistentvolume", n.name, "--ignore-not-found", "--timeout=5m") }
	remove()
	n.apply(fmt.Sprintf(`
apiVersion: v1
kind: PersistentVolume
metadata: {name: %s}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  claimRef: {namespace: %s, name: data-weir-collector-0}
  local: {path: %s}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [lab]}]}]}}
`, n.name, n.name, dir))
}

// One pod with a SQLite file: a token that Cloudflare refuses, values that cannot work, an
// upgrade that fails and is taken back.
func TestStandalone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "standalone")
	w.volume()
	values := w.values(fmt.Sprintf(standalone, w.name))

	w.step("install with a token that Cloudflare refuses: helm --wait fails")
	w.secret("cloudflare", "token", unknownToken)
	w.refused([]string{"weir-collector"}, "install", "weir", chart, "--values", values, "--wait", "--timeout", "30s")
	pods := w.pods("collector")
	if len(pods) != 1 || pods[0].ready() || pods[0].Status.PodIP == "" {
		t.Fatalf("the pods are %+v, want one that is not ready", pods)
	}
	first := pods[0]
	w.step("the pod says why it is not ready, also as the notes have it")
	for _, port := range []string{"9811", "9821"} {
		w.says("http://"+first.Status.PodIP+":"+port+"/-/ready", 503, "Cloudflare has not accepted an API token yet: ")
	}
	w.noted("has not accepted an API token yet")

	w.step("the Secret has the right token: the same pod becomes ready")
	w.secret("cloudflare", "token", firstToken)
	pods = w.readyPods("collector", 1)
	w.seen = time.Now()
	if pods[0].Metadata.UID != first.Metadata.UID || pods[0].Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("the pod was replaced or restarted: %+v", pods[0])
	}
	w.helm("upgrade", "weir", chart, "--values", values, "--wait", "--timeout", "5m")

	w.step("Prometheus with the printed scrape jobs")
	p := w.startPrometheus(2)

	w.step("the doctor, as the notes have it")
	w.doctorInPod()

	w.step("values that cannot work are refused, and nothing changes")
	upgrade := []string{"upgrade", "weir", chart, "--values", values, "--wait", "--timeout", "30s"}
	w.refused([]string{"/collector/settings/WEIR_RETENTION", "does not match pattern"}, append(upgrade, "--set", "collector.settings.WEIR_RETENTION=a year")...)
	w.refused([]string{"store.sqlite.size is 2Gi and the StatefulSet weir-collector has 1Gi", "patch pvc data-weir-collector-0"}, append(upgrade, "--set", "store.sqlite.size=2Gi")...)
	w.refused([]string{"an SQLite file has one process"}, append(upgrade, "--set", "collector.replicas=2")...)
	if after := w.readyPods("collector", 1); after[0].Metadata.UID != first.Metadata.UID {
		t.Error("a refused upgrade replaced the pod")
	}

	w.step("an upgrade whose pod does not start: helm --wait fails, and rollback brings the pod back")
	revision := w.revision()
	w.refused(nil, append(upgrade, "--set", "image.tag=absent")...)
	w.helm("rollback", "weir", "--wait", "--timeout", "5m")
	w.readyPods("collector", 1)
	if now := w.revision(); now < revision {
		t.Errorf("the log went from revision %d to %d", revision, now)
	}

	w.step("the pod is killed, and evicted")
	w.kill(w.pods("collector")[0])
	w.drain("collector", 1)
	w.readyPods("collector", 1)
	ended := time.Now()
	w.step("Prometheus has no hole")
	w.holdsTruth(p, w.seen.Add(-20*time.Minute), ended)

	w.step("uninstalled, the volume stays; installed again, the data is there")
	revision = w.revision()
	w.helm("uninstall", "weir", "--wait")
	w.k("get", "persistentvolumeclaim", "data-weir-collector-0")
	w.helm("install", "weir", chart, "--values", values, "--wait", "--timeout", "5m")
	if now := w.revision(); now < revision {
		t.Errorf("the log went from revision %d to %d", revision, now)
	}
}

// noted runs the commands of the notes that tell why a collector is not ready.
func (n *namespace) noted(text string) {
	n.t.Helper()
	notes := n.helm("get", "notes", "weir")
	command := regexp.MustCompile(`(?m)^ +kubectl (.* port-forward .*) &\n +curl -s (http\S+/-/ready)$`).FindStringSubmatch(notes)
	if command == nil {
		n.t.Fatalf("the notes have no commands that ask for readiness:\n%s", notes)
	}
	forward := exec.Command("kubectl", strings.Fields(command[1])...)
	if err := forward.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.says(command[2], http.StatusServiceUnavailable, text)
	_ = forward.Process.Kill() // it has done its work
	_ = forward.Wait()
}

// doctorInPod runs the doctor as the notes say.
func (n *namespace) doctorInPod() {
	n.t.Helper()
	notes := strings.ReplaceAll(n.helm("get", "notes", "weir"), "\\\n", " ")
	command := regexp.MustCompile(`(?m)^ +kubectl (-n \S+ exec .*)$`).FindStringSubmatch(notes)
	if command == nil {
		n.t.Fatal("the notes have no command that runs the doctor")
	}
	var report string
	testkit.Within(n.t, 5*time.Minute, func() (err error) {
		report, err = n.try("kubectl", strings.Fields(command[1])...)
		return err
	})
	n.t.Log(report)
}

// revision is that of the log, as the exposers show it.
func (n *namespace) revision() int {
	n.t.Helper()
	url, revision := n.service("weir-exposer", 9810)+"/metrics", 0
	testkit.Eventually(n.t, func() error {
		status, header, _, err := fetch(url)
		if err != nil || status != 200 {
			return fmt.Errorf("%s is %d: %w", url, status, err)
		}
		revision, err = strconv.Atoi(header.Get("X-Weir-Revision"))
		return err
	})
	return revision
}
