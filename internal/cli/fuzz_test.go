package cli

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/testkit"
)

// FuzzLoad: whatever the command line, the environment and the file hold, Load
// fills the settings or names what is wrong, one problem a line, and shows no
// secret. What it accepts is inside the ranges, and --print-config writes a
// file that means the same.
func FuzzLoad(f *testing.F) {
	const secret = "hunter2-secret"
	f.Add("--cf-delay-seconds=10m\n--simulate", "CF_ZONES=a.example, b.example\nWEIR_BUDGET_SHARE=12.5%", "retention: 30d\n")
	f.Add("--cf-delay-second\n10\n--\nrest", "WEIR_RETENTON=1d\nCF_API_TOKN=x\nWEIR_COLLECTOR_PORT=tcp://10.0.0.1:1", "retention: 3h\nparallel: {a: 1}\n")
	f.Add("--start\n2026-11-01\n--cf-zones\na\n--cf-zones=b", "", "cf_zones:\n- a.example\n- null\n- [b]\ncredentials:\n- {name: a, token: t}\n")
	f.Add("--cf-zones=\"Acme, Inc.\"\n--cf-zones=b", "", "cf_zones:\n- 'Acme, \"Inc.\"'\n- '\"'\n")
	f.Add("--help", "CF_DELAY_SECONDS=\nCF_SAMPLE_TIMESTAMP=start", "cf_delay_seconds: &x 900\nretention: *x\n---\n{}")
	f.Add("--print-config\n-\n--start=", "WEIR_PARALLEL=9999999999\nCF_ZONES=,", "? [a]\n: b\n<<: {c: d}\n\"cf_zones\": |\n  a\n!!str retention: 1w\n")
	f.Add("", "", "\xef\xbb\xbfcf_bucket_seconds: 1h # comment\ncf_metrics_replay_hours: 0x10\nbudget_share: .5\n")
	dir := f.TempDir()
	secretFile := filepath.Join(dir, "token")
	testkit.WriteFile(f, secretFile, []byte(secret+"\n"))
	file := filepath.Join(dir, "weir.yaml")
	f.Fuzz(func(t *testing.T, args, environ, content string) {
		if !utf8.ValidString(args) || !utf8.ValidString(environ) {
			return // what is no text cannot be written into a file
		}
		testkit.WriteFile(t, file, []byte(content))
		split := func(text string) []string {
			return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
		}
		var c config
		Defaults(c.settings())
		loaded, err := Load(c.settings(), Sources{
			Args:    split(args),
			Environ: append([]string{"CF_API_TOKEN_FILE=" + secretFile, "WEIR_CONFIG_FILE=" + file}, split(environ)...),
		}, nil)
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("an error that is no list of problems: %#v", err)
			}
			if text := err.Error(); strings.Contains(text, secret) || strings.Count(text, "\n") != len(problems) {
				t.Fatalf("%d problems in %q", len(problems), text)
			}
			return
		}
		if loaded.Help {
			return
		}
		var printed bytes.Buffer
		if err := loaded.Print(&printed); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(printed.String(), secret) {
			t.Fatalf("the configuration shows the secret:\n%s", &printed)
		}
		if c.Share < 0.01 || c.Share > 1 || c.Parallel < 1 || c.Parallel > 64 || c.Retention < day || c.Delay <= 0 {
			t.Fatalf("a value out of its range was accepted: %+v", c)
		}
		if len(c.Credentials) > 0 {
			return // a tree that holds secrets cannot be used as it is printed
		}
		again := config{}
		Defaults(again.settings())
		testkit.WriteFile(t, file, printed.Bytes())
		// What has only a flag is a comment in the file.
		again.Simulate, again.Start = c.Simulate, c.Start
		if _, err := Load(again.settings(), Sources{Args: []string{"--config", file}, Environ: []string{"CF_API_TOKEN_FILE=" + secretFile}}, nil); err != nil {
			t.Fatalf("what --print-config writes is refused: %v\n%s", err, &printed)
		}
		// A share is printed with six digits.
		near := cmp.Comparer(func(a, b float64) bool { return a-b < 1e-6 && b-a < 1e-6 })
		if diff := cmp.Diff(c, again, near, cmp.Comparer(Secret.Equal)); diff != "" {
			t.Fatalf("what --print-config writes means something else (-want +got):\n%s\n%s", diff, &printed)
		}
	})
}
