package docs

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
)

// The page lists the checks and questions as the code has them, and its Job uses settings
// that the command has.
func TestPageOfTheDoctor(t *testing.T) {
	text := read(t).page(t, "docs/doctor.md")
	checks, questions := doctor.Markdown()
	for _, table := range []string{checks, questions} {
		if !strings.Contains(text, "\n"+table+"\n") {
			t.Errorf("docs/doctor.md lacks this table, as it is here:\n%s", table)
		}
	}
	commands := standalone.Commands()
	settings := commands[slices.IndexFunc(commands, func(c cli.Command) bool { return c.Name == "doctor" })].Settings
	known := map[string]bool{}
	for _, s := range settings {
		known[s.Env] = true
	}
	var job struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Args []string
						Env  []struct{ Name string }
					}
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(jobOfTheDoctor(t)), &job); err != nil {
		t.Fatal(err)
	}
	for _, c := range job.Spec.Template.Spec.Containers {
		if !slices.Equal(c.Args, []string{"doctor"}) || len(c.Env) == 0 {
			t.Errorf("the container runs %q with %d settings", c.Args, len(c.Env))
		}
		for _, e := range c.Env {
			if !known[e.Name] && !known[strings.TrimSuffix(e.Name, "_FILE")] && e.Name != "GOMEMLIMIT" {
				t.Errorf("the Job sets %s, which the command does not have", e.Name)
			}
		}
	}
}

// jobOfTheDoctor is the only Job of docs/doctor.md.
func jobOfTheDoctor(t *testing.T) (job string) {
	t.Helper()
	for _, block := range blocks(read(t).page(t, "docs/doctor.md"), "yaml") {
		if !strings.Contains(block, "kind: Job\n") {
			continue
		}
		if job != "" {
			t.Error("docs/doctor.md has several Jobs, want one")
		}
		job = block
	}
	if job == "" {
		t.Fatal("docs/doctor.md has no Job")
	}
	return job
}

var (
	doctorPod = flag.String("doctor.pod", "", "compare the Job of docs/doctor.md with this pod, which the chart made for helm test")
	doctorJob = flag.String("doctor.job", "", "write the Job of docs/doctor.md to this file")
)

// The Job of docs/doctor.md is the pod that the chart makes for helm test, but for its service
// account, which it does not need. tools/chart.sh renders the pod, and compares the Job with
// Kubernetes' schemas.
func TestJobOfTheDoctor(t *testing.T) {
	if *doctorPod == "" || *doctorJob == "" {
		t.Skip("make check runs it, with the pod that the chart makes")
	}
	job := jobOfTheDoctor(t)
	testkit.WriteFile(t, *doctorJob, []byte(job))
	rendered, err := os.ReadFile(*doctorPod)
	if err != nil {
		t.Fatal(err)
	}
	type template struct {
		Metadata struct{ Labels map[string]string }
		Spec     map[string]any
	}
	var pod template
	if err := yaml.Unmarshal(rendered, &pod); err != nil {
		t.Fatal(err)
	}
	var have struct{ Spec struct{ Template template } }
	if err := yaml.Unmarshal([]byte(job), &have); err != nil {
		t.Fatal(err)
	}
	delete(pod.Spec, "serviceAccountName")
	for _, spec := range []map[string]any{pod.Spec, have.Spec.Template.Spec} {
		for _, c := range spec["containers"].([]any) {
			c := c.(map[string]any)
			image := c["image"].(string)
			c["image"] = image[:strings.LastIndex(image, ":")]
		}
	}
	if diff := cmp.Diff(pod.Spec, have.Spec.Template.Spec); diff != "" {
		t.Errorf("the Job of docs/doctor.md is not the pod of helm test (-pod +Job):\n%s", diff)
	}
	for name, value := range have.Spec.Template.Metadata.Labels {
		if pod.Metadata.Labels[name] != value {
			t.Errorf("the Job has the label %s=%s, the pod of helm test %q", name, value, pod.Metadata.Labels[name])
		}
	}
	for _, name := range []string{"name", "instance", "component"} {
		if have.Spec.Template.Metadata.Labels["app.kubernetes.io/"+name] == "" {
			t.Errorf("the Job lacks the label app.kubernetes.io/%s, by which the chart's network policies let it pass", name)
		}
	}
}
