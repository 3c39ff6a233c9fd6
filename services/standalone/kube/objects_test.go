package kube

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each object that the chart can render is one that the API server takes, with the types of
// the Prometheus operator and of cert-manager too: Helm's own dry run does not look at them.
func TestObjectsAreAccepted(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "objects")
	n.step("CRDs of the Prometheus operator and of cert-manager")
	n.crds(os.Getenv(operatorVariable)+"/*-crd.json", os.Getenv(certManagerVariable)+"/*.yaml")
	for _, name := range []string{"weir", "edge"} { // a dry run makes none for the pod of the doctor
		n.k("create", "serviceaccount", name)
	}

	files, err := filepath.Glob(chart + "/ci/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("the chart has the values %q: %v", files, err)
	}
	operator := []string{"--set", "monitoring.own.serviceMonitor=true,monitoring.rules.enabled=true,monitoring.dashboard.enabled=true"}
	// kubectl applies to one namespace.
	here := fmt.Sprintf("monitoring.namespace=%s,monitoring.dashboard.namespace=%s", n.name, n.name)
	matrix := map[string][]string{
		"a load balancer":       {"--set", "exposer.service.type=LoadBalancer,exposer.service.nodePort=30910"},
		"a node port":           {"--set", "exposer.service.type=NodePort"},
		"an operator, Service":  append(operator, "--set", "monitoring.replay.kind=ScrapeConfig,prometheus.outOfOrderTimeWindow=30h"),
		"an operator, pods":     append(operator, "--set", "monitoring.replay.kind=ServiceMonitor,monitoring.counters.enabled=false"),
		"a network policy":      {"--set", "networkPolicy.enabled=true"},
		"no service account":    {"--set", "serviceAccount.create=false"},
		"numbers as text":       {"--set-string", "image.tag=12345,collector.settings.CF_BUCKET_SECONDS=60"},
		"labels, tolerations":   {"--set", "commonLabels.team=edge,commonLabels.app\\.kubernetes\\.io/part-of=edge,collector.podLabels.team=net,collector.tolerations[0].operator=Exists,collector.nodeSelector.disk=ssd"},
		"certificates":          {"--set", "tls.enabled=true,tls.collectorSecret=,tls.clientSecret=,tls.certManager.enabled=true,tls.certManager.issuerRef.name=weir-ca"},
		"ends of another pace":  {"--set", "collector.drainSeconds=0"},
		"slow ends of exposers": {"--set", "exposer.drainSeconds=120"},
	}
	for _, values := range files {
		name := strings.TrimSuffix(filepath.Base(values), ".yaml")
		n.step("%s", name)
		for about, args := range matrix {
			if name == "everything" && about != "numbers as text" {
				continue // it has everything already
			}
			if strings.HasPrefix(name, "standalone") && (about == "certificates" || about == "slow ends of exposers") {
				continue // refused
			}
			out, err := n.try("helm", append([]string{"template", "weir", chart, "--namespace", n.name, "--values", values, "--set", here}, args...)...)
			if err != nil {
				t.Errorf("%s with %s: %v", name, about, err)
				continue
			}
			file := n.values(out)
			if out, err := n.try("kubectl", "-n", n.name, "apply", "--server-side", "--dry-run=server", "-f", file); err != nil {
				t.Errorf("%s with %s: %v", name, about, err)
			} else if strings.Contains(out, "Warning") {
				t.Errorf("%s with %s: %s", name, about, out)
			}
		}
	}

	n.step("what the API server refuses is refused")
	for about, c := range map[string]struct{ values, text, wrong, says string }{
		"two as a number of replicas":  {"postgres", "replicas: 2", "replicas: two", "spec.replicas"},
		"a certificate of another use": {"certmanager", "client auth]", "reader auth]", "spec.usages"},
	} {
		rendered := n.run("helm", "template", "weir", chart, "--values", chart+"/ci/"+c.values+".yaml")
		wrong := strings.Replace(rendered, c.text, c.wrong, 1)
		if wrong == rendered {
			t.Errorf("the chart with %s has no %q", c.values, c.text)
		}
		if out, err := n.try("kubectl", "-n", n.name, "apply", "--server-side", "--dry-run=server", "-f", n.values(wrong)); err == nil || !strings.Contains(out, c.says) {
			t.Errorf("%s: the API server does not refuse %s: %v %s", about, c.says, err, out)
		}
	}
}

// A chart that has this one as a dependency can switch it off, and give it values.
func TestAsADependency(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "dependency")
	parent := filepath.Join(t.TempDir(), "parent")
	if err := os.MkdirAll(filepath.Join(parent, "charts"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(parent, "charts", "weir"), os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"Chart.yaml":  "apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies: [{name: weir, version: '*', condition: weir.enabled}]\n",
		"values.yaml": "global: {region: eu}\nweir: {enabled: true, cloudflare: {tokenSecret: {name: cloudflare}}}\n",
	} {
		if err := os.WriteFile(filepath.Join(parent, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.step("on")
	n.helm("install", "weir", parent)
	n.k("get", "statefulset", "weir-collector")
	n.step("off")
	n.helm("upgrade", "weir", parent, "--set", "weir.enabled=false")
	if out := n.k("get", "statefulset,service,serviceaccount", "-l", "app.kubernetes.io/name=weir", "-o", "name"); out != "" {
		t.Errorf("what is switched off is still there: %s", out)
	}
	n.step("on again, without its token")
	n.refused([]string{"cloudflare.tokenSecret.name is empty"}, "upgrade", "weir", parent, "--set", "weir.cloudflare.tokenSecret.name=")
}
