package docs

import (
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/weir-metrics/weir/internal/cli"
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
	jobs := 0
	for _, block := range blocks(text, "yaml") {
		var job struct {
			Kind string
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
		if err := yaml.Unmarshal([]byte(block), &job); err != nil {
			t.Errorf("%v:\n%s", err, block)
		}
		if job.Kind != "Job" {
			continue
		}
		jobs++
		for _, c := range job.Spec.Template.Spec.Containers {
			if !slices.Equal(c.Args, []string{"doctor"}) || len(c.Env) == 0 {
				t.Errorf("the container runs %q with %d settings", c.Args, len(c.Env))
			}
			for _, e := range c.Env {
				if !known[e.Name] && !known[strings.TrimSuffix(e.Name, "_FILE")] {
					t.Errorf("the Job sets %s, which the command does not have", e.Name)
				}
			}
		}
	}
	if jobs != 1 {
		t.Errorf("docs/doctor.md has %d Jobs, want 1", jobs)
	}
}
