package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// What tools/kube/e2e.sh puts into the environment.
const (
	labVariable      = "WEIR_KUBE"          // folder of the cluster's state
	previousVariable = "WEIR_KUBE_PREVIOUS" // folder of the chart before
	// Folders of the CRDs of others.
	operatorVariable    = "WEIR_KUBE_OPERATOR_CRDS"
	certManagerVariable = "WEIR_KUBE_CERTMANAGER_CRDS"
)

// chart is the folder of the chart, from this one.
const chart = "../../../deploy/helm/weir"

// nodeIP is the address at which pods reach what runs on the node.
const nodeIP = "10.99.0.1"

// namespace is a namespace of the cluster for one test, and a release called weir in it.
type namespace struct {
	t     *testing.T
	name  string
	lab   string
	began time.Time
	last  string // the step that is being taken
	since time.Time
	taken []string // summary of the steps
}

// newNamespace makes a namespace in which every pod must satisfy the restricted standard.
func newNamespace(t *testing.T, name string) *namespace {
	t.Helper()
	lab := os.Getenv(labVariable)
	if lab == "" {
		t.Skip("only in the cluster of make e2e-kube")
	}
	n := &namespace{t: t, name: name, lab: lab, began: time.Now()}
	n.run("kubectl", "delete", "namespace", name, "--ignore-not-found", "--timeout=5m")
	n.run("kubectl", "create", "namespace", name)
	n.run("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
	t.Cleanup(n.finish)
	return n
}

// finish shows what there was when a test has failed, and frees the node for the next.
func (n *namespace) finish() {
	n.step("removing the namespace")
	if n.t.Failed() {
		for _, args := range [][]string{
			{"get", "pods", "-o", "wide"},
			{"get", "events", "--sort-by=.lastTimestamp"},
			{"logs", "-l", "app.kubernetes.io/instance=weir", "--tail=15", "--prefix", "--all-containers"},
		} {
			out, err := n.try("kubectl", append([]string{"-n", n.name}, args...)...)
			n.t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, tail(out, 40))
		}
	} else {
		n.run("kubectl", "delete", "namespace", n.name, "--timeout=5m")
	}
	n.step("")
	n.t.Logf("%s in %s:\n%s", n.t.Name(), time.Since(n.began).Round(time.Second), strings.Join(n.taken, "\n"))
}

// step begins a step: its name is printed, and how long the one before took.
func (n *namespace) step(format string, args ...any) {
	now := time.Now()
	if n.last != "" {
		n.taken = append(n.taken, fmt.Sprintf("  %6.1f s  %s", now.Sub(n.since).Seconds(), n.last))
	}
	n.last, n.since = fmt.Sprintf(format, args...), now
	if n.last != "" {
		fmt.Printf("   %s %s: %s\n", now.UTC().Format(time.TimeOnly), n.name, n.last)
	}
}

// try runs a program and returns what it printed, on both streams.
func (n *namespace) try(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String() + errs.String(), fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, tail(errs.String(), 20))
	}
	return out.String(), nil
}

// run is try for what must succeed.
func (n *namespace) run(program string, args ...string) string {
	n.t.Helper()
	out, err := n.try(program, args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// k runs kubectl in the namespace.
func (n *namespace) k(args ...string) string {
	n.t.Helper()
	return n.run("kubectl", append([]string{"-n", n.name}, args...)...)
}

// helm runs Helm in the namespace.
func (n *namespace) helm(args ...string) string {
	n.t.Helper()
	return n.run("helm", append([]string{"-n", n.name}, args...)...)
}

// refused runs Helm in the namespace, which must fail and say these words.
func (n *namespace) refused(words []string, args ...string) {
	n.t.Helper()
	out, err := n.try("helm", append([]string{"-n", n.name}, args...)...)
	if err == nil {
		n.t.Fatalf("helm %s succeeded: %s", strings.Join(args, " "), out)
	}
	for _, word := range words {
		if !strings.Contains(out, word) {
			n.t.Errorf("helm %s does not say %q: %s", strings.Join(args, " "), word, tail(out, 20))
		}
	}
}

// apply gives the cluster objects, as YAML.
func (n *namespace) apply(objects string) {
	n.t.Helper()
	path := filepath.Join(n.t.TempDir(), "objects.yaml")
	if err := os.WriteFile(path, []byte(objects), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.k("apply", "-f", path)
}

// crds gives the cluster the definitions of kinds in files of these patterns.
func (n *namespace) crds(patterns ...string) {
	n.t.Helper()
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			n.t.Fatalf("there is no %s: %v", pattern, err)
		}
		for _, file := range files {
			n.run("kubectl", "apply", "--server-side", "-f", file)
		}
	}
	n.run("kubectl", "wait", "--for=condition=Established", "crd", "--all", "--timeout=5m")
}

// secret makes or replaces a Secret with one key.
func (n *namespace) secret(name, key, value string) {
	n.t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		n.t.Fatal(err)
	}
	n.apply(fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s}\nstringData: {%s: %s}\n", name, key, text))
}

// values writes a file of values.
func (n *namespace) values(text string) string {
	n.t.Helper()
	path := filepath.Join(n.t.TempDir(), "values.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// pod is what a test asks of one.
type pod struct {
	Metadata struct {
		Name, UID         string
		DeletionTimestamp *time.Time
	}
	Status struct {
		Phase, PodIP string
		Conditions   []struct{ Type, Status string }
		// ContainerStatuses are in the order of the specification.
		ContainerStatuses []struct {
			ContainerID  string
			RestartCount int
		}
	}
}

func (p pod) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True" && p.Metadata.DeletionTimestamp == nil
		}
	}
	return false
}

// pods are those of a component of the release.
func (n *namespace) pods(component string) []pod {
	n.t.Helper()
	var list struct{ Items []pod }
	out := n.k("get", "pods", "-l", "app.kubernetes.io/instance=weir,app.kubernetes.io/component="+component, "-o", "json")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		n.t.Fatal(err)
	}
	return list.Items
}

// readyPods waits until a component has exactly so many pods, all ready.
func (n *namespace) readyPods(component string, count int) []pod {
	n.t.Helper()
	var pods []pod
	testkit.Within(n.t, 5*time.Minute, func() error {
		time.Sleep(200 * time.Millisecond) // kubectl is a process each time
		pods = n.pods(component)
		ready := 0
		for _, p := range pods {
			if p.ready() {
				ready++
			}
		}
		if len(pods) != count || ready != count {
			return fmt.Errorf("%d of %d pods of %s are ready, want %d", ready, len(pods), component, count)
		}
		return nil
	})
	return pods
}

// service is the address of a Service's port.
func (n *namespace) service(name string, port int) string {
	n.t.Helper()
	return fmt.Sprintf("http://%s:%d", n.k("get", "service", name, "-o", "jsonpath={.spec.clusterIP}"), port)
}

var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// fetch is the body of a page, whatever its status.
func fetch(url string) (status int, header http.Header, body string, err error) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(content), err
}

// says waits until a page has a status and a text in it.
func (n *namespace) says(url string, status int, text string) {
	n.t.Helper()
	testkit.Within(n.t, 2*time.Minute, func() error {
		got, _, body, err := fetch(url)
		if err != nil {
			return err
		}
		if got != status || !strings.Contains(body, text) {
			return fmt.Errorf("%s answers %d %q, want %d and %q", url, got, tail(body, 3), status, text)
		}
		return nil
	})
}

// metric is a value of a process's own metrics.
func metric(url, name string) (string, error) {
	_, _, body, err := fetch(url)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(body) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			return strings.TrimSpace(value), nil
		}
	}
	return "", errors.New(url + " has no " + name)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
