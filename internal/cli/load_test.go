package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/testkit"
)

// config is a Config as a service has it.
type config struct {
	Token       Secret
	Zones       []string
	Delay       time.Duration
	Replay      time.Duration
	Bucket      time.Duration
	Retention   time.Duration
	Share       float64
	Parallel    int
	Timestamp   string
	Simulate    bool
	Start       time.Time
	Credentials []credential
}

type credential struct {
	Name  string `yaml:"name"`
	Token Secret `yaml:"token"`
}

func (c *config) settings() []Setting {
	return []Setting{
		{Env: "CF_API_TOKEN", Required: true, Value: SecretText(&c.Token), Help: "Cloudflare API token"},
		{Env: "CF_ZONES", Value: List(&c.Zones), Help: "zones to collect"},
		{Env: "CF_DELAY_SECONDS", Default: "300", Value: Duration(&c.Delay, time.Minute, 6*time.Hour), Help: "age at which a window is first trusted"},
		{Env: "CF_METRICS_REPLAY_HOURS", Default: "24h", Value: Duration(&c.Replay, time.Hour, 48*time.Hour), Help: "how far back a scrape repeats"},
		{Env: "CF_BUCKET_SECONDS", Default: "300", Value: DurationOneOf(&c.Bucket, time.Minute, 5*time.Minute, time.Hour), Help: "bucket size"},
		{Env: "WEIR_RETENTION", Default: "400d", Value: Duration(&c.Retention, 24*time.Hour, 10*366*24*time.Hour), Help: "how long buckets are kept"},
		{Env: "WEIR_BUDGET_SHARE", Default: "50%", Value: Share(&c.Share, 0.01, 1), Help: "share of the limit"},
		{Env: "WEIR_PARALLEL", Default: "4", Value: Int(&c.Parallel, 1, 64), Help: "requests at once"},
		{Env: "CF_SAMPLE_TIMESTAMP", Default: "end", Value: Enum(&c.Timestamp, "end", "start"), Help: "which end of a window is a sample's time"},
		{Flag: "simulate", Value: Bool(&c.Simulate), Help: "use the simulator"},
		{Flag: "start", Value: Time(&c.Start), Help: "first window"},
		{Key: "credentials", Value: Tree(&c.Credentials, "a list of name and token"), Help: "several credentials"},
	}
}

func (c *config) load(t *testing.T, src Sources) (*Loaded, error) {
	t.Helper()
	return Load(c.settings(), src, nil)
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	testkit.WriteFile(t, path, []byte(content))
	return path
}

func TestPrecedence(t *testing.T) {
	file := write(t, "weir.yaml", "cf_delay_seconds: 900\ncf_zones: [a.example, b.example]\nretention: 30d\n")
	env := []string{"CF_API_TOKEN=t", "CF_DELAY_SECONDS=600", "WEIR_CONFIG_FILE=" + file, "CF_SAMPLE_TIMESTAMP="}
	for _, test := range []struct {
		name string
		src  Sources
		want time.Duration
	}{
		{"default", Sources{Environ: env[:1]}, 300 * time.Second},
		{"file over default", Sources{Args: []string{"--config", file}, Environ: env[:1]}, 900 * time.Second},
		{"environment over file", Sources{Environ: env}, 600 * time.Second},
		{"flag over environment", Sources{Args: []string{"--cf-delay-seconds=2m"}, Environ: env}, 2 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			var c config
			if _, err := c.load(t, test.src); err != nil {
				t.Fatal(err)
			}
			if c.Delay != test.want {
				t.Errorf("delay is %v, want %v", c.Delay, test.want)
			}
		})
	}
	var c config
	if _, err := c.load(t, Sources{Environ: env}); err != nil {
		t.Fatal(err)
	}
	c.Token = Secret{}
	want := config{
		Zones: []string{"a.example", "b.example"}, Delay: 10 * time.Minute, Replay: 24 * time.Hour, Bucket: 5 * time.Minute,
		Retention: 30 * 24 * time.Hour, Share: 0.5, Parallel: 4, Timestamp: "end",
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// TestEveryProblemAtOnce is the promise of the package: one run, all mistakes.
func TestEveryProblemAtOnce(t *testing.T) {
	file := write(t, "weir.yaml", "retention: 3h\ncf_zone: a.example\nparallel: {a: 1}\n")
	var c config
	_, err := Load(c.settings(), Sources{
		Args: []string{"--cf-delay-second", "10", "--simulat", "--start=yesterday", "--config", file, "--body"},
		Environ: []string{
			"CF_METRICS_REPLAY_HOURS=72", "CF_BUCKET_SECONDS=120", "WEIR_BUDGET_SHARE=150%", "WEIR_RETENTON=1d", "CF_API_TOKN=hunter2",
			"CF_INSTANCE_GUID=of-someone-else", "WEIR_COLLECTOR_SERVICE_HOST=10.0.0.1", "WEIR_COLLECTOR_PORT=tcp://10.0.0.1:9820", "HOME=/",
		},
	}, func() error {
		return errors.Join(
			Problem{Setting: "CF_METRICS_REPLAY_HOURS", Reason: "dropped, since the setting has a problem already"},
			Problem{Setting: "CF_DELAY_SECONDS", Reason: "must be less than a bucket"},
			errors.New("nothing to collect"),
		)
	})
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("got error %v, want Problems", err)
	}
	got := strings.ReplaceAll(err.Error(), file, "weir.yaml")
	want := `15 problems with the settings:
  --cf-delay-second (flag): unknown flag; did you mean --cf-delay-seconds?
  --simulat (flag): unknown flag; did you mean --simulate?
  --body (flag): unknown flag
  CF_API_TOKEN (default): is required: set CF_API_TOKEN or CF_API_TOKEN_FILE or --cf-api-token-file or the file's cf_api_token
  CF_METRICS_REPLAY_HOURS="72" (environment): must be a duration from 1h to 2d (a bare number is seconds)
  CF_BUCKET_SECONDS="120" (environment): must be one of 1m, 5m, 1h (a bare number is seconds)
  retention="3h" (weir.yaml:1): must be a duration from 24h to 3660d (a bare number is seconds)
  WEIR_BUDGET_SHARE="150%" (environment): must be a share from 1% to 100%
  parallel (weir.yaml:3): must be a single value: a whole number from 1 to 64
  --start="yesterday" (flag): must be a time such as 2026-11-01T15:00:00Z or a date such as 2026-11-01 (in UTC)
  CF_API_TOKN (environment): unknown setting; did you mean CF_API_TOKEN?
  WEIR_RETENTON (environment): unknown setting; did you mean WEIR_RETENTION?
  cf_zone (weir.yaml:2): unknown key; did you mean cf_zones?
  CF_DELAY_SECONDS="300" (default): must be less than a bucket
  nothing to collect`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestSecrets(t *testing.T) {
	token := write(t, "token", "hunter2\n")
	empty := write(t, "empty", "\n")
	yaml := write(t, "weir.yaml", "cf_api_token_file: "+token+"\n")
	both := write(t, "both.yaml", "cf_api_token_file: "+token+"\ncf_api_token: hunter3\n")
	for _, test := range []struct {
		name    string
		src     Sources
		want    string // the secret
		problem string // or a part of the problem
	}{
		{"environment", Sources{Environ: []string{"CF_API_TOKEN=hunter2"}}, "hunter2", ""},
		{"file named in the environment", Sources{Environ: []string{"CF_API_TOKEN_FILE=" + token}}, "hunter2", ""},
		{"file named by flag, over environment", Sources{Args: []string{"--cf-api-token-file", token}, Environ: []string{"CF_API_TOKEN=other"}}, "hunter2", ""},
		{"file named in the file", Sources{Args: []string{"--config", yaml}}, "hunter2", ""},
		{"both in the environment", Sources{Environ: []string{"CF_API_TOKEN=hunter2", "CF_API_TOKEN_FILE=" + token}}, "", "CF_API_TOKEN (environment): is set together with CF_API_TOKEN_FILE"},
		{"both in the file", Sources{Args: []string{"--config", both}}, "", "is set together with cf_api_token_file"},
		{"empty file", Sources{Environ: []string{"CF_API_TOKEN_FILE=" + empty}}, "", "is empty"},
		{"no file", Sources{Environ: []string{"CF_API_TOKEN_FILE=/does/not/exist"}}, "", "no such file"},
		{"text as a flag", Sources{Args: []string{"--cf-api-token", "hunter2"}}, "", "use CF_API_TOKEN or --cf-api-token-file"},
		{"text as a flag with =", Sources{Args: []string{"--cf-api-token=hunter2"}}, "", "use CF_API_TOKEN or --cf-api-token-file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var c config
			loaded, err := c.load(t, test.src)
			if test.problem == "" {
				if err != nil || c.Token.Reveal() != test.want {
					t.Fatalf("got %q, error %v, want %q", c.Token.Reveal(), err, test.want)
				}
				var out strings.Builder
				if err := loaded.Print(&out); err != nil || strings.Contains(out.String(), "hunter") {
					t.Errorf("error %v, or the secret is printed:\n%s", err, &out)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("got error %v, want one with %q", err, test.problem)
			}
			if err != nil && strings.Contains(err.Error(), "hunter") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

func TestSecretIsNotShown(t *testing.T) {
	holder := struct {
		Public  Secret
		private Secret
		pointer *Secret
	}{Public: NewSecret("hunter2"), private: NewSecret("hunter2")}
	holder.pointer = &holder.private
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{holder, &holder, holder.Public, []Secret{holder.Public}} {
			out := fmt.Sprintf(format, value)
			if strings.Contains(out, "hunter2") || strings.Contains(out, fmt.Sprintf("%x", "hunter2")) {
				t.Errorf("%s of %T shows the secret: %s", format, value, out)
			}
		}
	}
	if !NewSecret("a").Equal(NewSecret("a")) || NewSecret("a").Equal(NewSecret("b")) {
		t.Error("Equal does not compare texts")
	}
}

// What editors and shells put around a secret is no part of it; what is no text
// is refused, and nothing shows it.
func TestSecretFiles(t *testing.T) {
	for name, content := range map[string]string{
		"line end": "hunter2\n", "Windows": "\ufeffhunter2\r\n", "blanks": " \t hunter2 \n\n", "bare": "hunter2",
	} {
		if s, err := ReadSecret(write(t, "token", content)); err != nil || s.Reveal() != "hunter2" {
			t.Errorf("%s: %q, error %v", name, s.Reveal(), err)
		}
	}
	for name, content := range map[string]string{
		"empty": "", "blank": " \r\n\t\n", "byte-order mark": "\ufeff", "UTF-16": "\xff\xfeh\x00u\x00n\x00t\x00", "zero bytes": "hunter2\x00hunter2",
		"too large": strings.Repeat("hunter2", 10_000),
	} {
		path := write(t, "token", content)
		if s, err := ReadSecret(path); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunt") {
			t.Errorf("%s: %q, error %v; it must name the file and not show it", name, s.Reveal(), err)
		}
	}
	var s Secret
	if err := SecretText(&s).Set("\ufeff hunter2 \r\n"); err != nil || s.Reveal() != "hunter2" {
		t.Errorf("from the environment: %q, error %v", s.Reveal(), err)
	}
}

func TestSecretReread(t *testing.T) {
	path := write(t, "token", "old\n")
	s, err := ReadSecret(path)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, path, []byte("new\r\n"))
	if next, err := s.Reread(); err != nil || next.Reveal() != "new" || s.Reveal() != "old" {
		t.Errorf("got %q, error %v, want new; and the old one is %q", next.Reveal(), err, s.Reveal())
	}
	if same, err := NewSecret("x").Reread(); err != nil || same.Reveal() != "x" {
		t.Errorf("a secret without a file became %q, error %v", same.Reveal(), err)
	}
}

func TestTree(t *testing.T) {
	good := write(t, "good.yaml", "credentials:\n  - name: one\n    token: hunter2\n  - name: two\n    token: hunter3\n")
	var c config
	loaded, err := c.load(t, Sources{Args: []string{"--config", good}, Environ: []string{"CF_API_TOKEN=t"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Credentials) != 2 || c.Credentials[1].Name != "two" || c.Credentials[1].Token.Reveal() != "hunter3" {
		t.Errorf("got %+v", c.Credentials)
	}
	var out strings.Builder
	if err := loaded.Print(&out); err != nil || strings.Contains(out.String(), "hunter") || !strings.Contains(out.String(), "name: two") {
		t.Errorf("error %v, printed:\n%s", err, &out)
	}
	bad := write(t, "bad.yaml", "credentials:\n  - name: one\n    tokn: hunter2\n")
	_, err = new(config).load(t, Sources{Args: []string{"--config", bad}, Environ: []string{"CF_API_TOKEN=t"}})
	if err == nil || !strings.Contains(err.Error(), "tokn") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got error %v, want one that names the key and no value", err)
	}
}

func TestFileThatIsNoMapping(t *testing.T) {
	for content, want := range map[string]string{
		"- a\n":                                "not a mapping",
		"a: [\n":                               "not valid YAML",
		"retention: 30d\nretention: 31d\n":     "not valid YAML",
		"retention: 30d\n---\nretention: 1d\n": "several YAML documents",
	} {
		_, err := new(config).load(t, Sources{Args: []string{"--config", write(t, "weir.yaml", content)}, Environ: []string{"CF_API_TOKEN=t"}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--config") {
			t.Errorf("%q: got error %v, want one with %q", content, err, want)
		}
	}
	for _, content := range []string{"", "# nothing\n", "retention:\n"} {
		if _, err := new(config).load(t, Sources{Args: []string{"--config", write(t, "weir.yaml", content)}, Environ: []string{"CF_API_TOKEN=t"}}); err != nil {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// TestPrintIsAConfigurationFile loads what --print-config wrote and expects the
// same settings.
func TestPrintIsAConfigurationFile(t *testing.T) {
	env := []string{"CF_API_TOKEN=t", "CF_ZONES=a.example,b.example", "CF_DELAY_SECONDS=2h30m", "WEIR_BUDGET_SHARE=12.5%"}
	var first, second config
	loaded, err := first.load(t, Sources{Environ: env})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := loaded.Print(&out); err != nil {
		t.Fatal(err)
	}
	if _, err := second.load(t, Sources{Args: []string{"--config", write(t, "printed.yaml", out.String())}, Environ: env[:1]}); err != nil {
		t.Fatalf("%v in\n%s", err, &out)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("settings (-first +second):\n%s\nfrom\n%s", diff, &out)
	}
	for _, want := range []string{"cf_delay_seconds: 2h30m  # environment CF_DELAY_SECONDS\n", "retention: 400d  # default\n", "# cf_api_token: <redacted>  # environment CF_API_TOKEN\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
}

func TestSameSettingTwice(t *testing.T) {
	var a, b config
	if _, err := Load(append(a.settings(), b.settings()...), Sources{Environ: []string{"CF_API_TOKEN=t", "CF_DELAY_SECONDS=600"}}, nil); err != nil {
		t.Fatal(err)
	}
	if a.Delay != 10*time.Minute || b.Delay != a.Delay || b.Token.Reveal() != "t" {
		t.Errorf("delays are %v and %v, want both set", a.Delay, b.Delay)
	}
}

func TestOthersAreNoMistakes(t *testing.T) {
	var other string
	others := []Setting{{Env: "WEIR_POSTGRES_POOLER", Value: Text(&other), Help: "of another command"}}
	file := write(t, "weir.yaml", "postgres_pooler: transaction\n")
	src := Sources{Args: []string{"--config", file}, Environ: []string{"CF_API_TOKEN=t", "WEIR_POSTGRES_POOLER=transaction"}}
	if _, err := new(config).load(t, src); err == nil {
		t.Error("an unknown variable and key were accepted")
	}
	src.Others = others
	if _, err := new(config).load(t, src); err != nil {
		t.Error(err)
	}
}

func TestEmptyFlag(t *testing.T) {
	for _, args := range [][]string{{"--cf-zones="}, {"--cf-zones", ""}, {"--cf-zones", " \t"}, {"--cf-zones", "", "--cf-zones", ""}, {"--cf-zones", "a.example", "--cf-zones", ""}, {"--cf-zones", "", "--cf-zones", "a.example"}} {
		var c config
		_, err := c.load(t, Sources{Args: args, Environ: []string{"CF_API_TOKEN=t", "CF_ZONES=b.example"}})
		if err == nil || !strings.Contains(err.Error(), "--cf-zones") || !strings.Contains(err.Error(), "empty") {
			t.Errorf("%q, where no element would mean all: error %v", args, err)
		}
	}
	for _, src := range []Sources{
		{Environ: []string{"CF_API_TOKEN=t", "CF_ZONES= "}}, // CF_ZONES="$A $B", neither of them set
		{Environ: []string{"CF_API_TOKEN=t"}, Args: []string{"--config", write(t, "weir.yaml", "cf_zones: ' '\n")}},
	} {
		if _, err := new(config).load(t, src); err == nil || !strings.Contains(strings.ToLower(err.Error()), "cf_zones") || !strings.Contains(err.Error(), "is empty") {
			t.Errorf("%q %q, blanks where no element would mean all: error %v", src.Environ, src.Args, err)
		}
	}
	if _, err := new(config).load(t, Sources{Environ: []string{"CF_API_TOKEN=t", "CF_ZONES="}}); err != nil {
		t.Errorf("an empty variable, which is not there: %v", err)
	}
	if _, err := new(config).load(t, Sources{Args: []string{"--retention="}, Environ: []string{"CF_API_TOKEN=t"}}); err == nil {
		t.Error("an empty duration was accepted")
	}
}

func TestTableMistakesPanic(t *testing.T) {
	var s string
	good := Setting{Env: "WEIR_GOOD", Value: Text(&s), Help: "good"}
	for name, table := range map[string][]Setting{
		"no name":       {{Value: Text(&s), Help: "x"}},
		"no value":      {{Env: "WEIR_X", Help: "x"}},
		"no help":       {{Env: "WEIR_X", Value: Text(&s)}},
		"foreign name":  {{Env: "PGHOST", Value: Text(&s), Help: "x"}},
		"service link":  {{Env: "WEIR_EXPOSER_PORT", Value: Text(&s), Help: "x"}},
		"other default": {good, {Env: "WEIR_GOOD", Default: "x", Value: Text(&s), Help: "good"}},
		"same flag":     {good, {Flag: "good", Value: Text(&s), Help: "x"}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			Defaults(table)
		}()
	}
}

// What looks right and is not is told as what it is.
func TestWhatLooksRight(t *testing.T) {
	first := write(t, "first.yaml", "\ufeffcf_delay_seconds: 900\n")
	second := write(t, "second.yaml", "retention: 30d\n\ufeffcf_delay_seconds: 900\n")
	for name, test := range map[string]struct {
		src  Sources
		want string // empty: nothing is wrong
	}{
		"a byte-order mark":              {Sources{Args: []string{"--config", first}}, ""},
		"one in the middle":              {Sources{Args: []string{"--config", second}}, `"\ufeffcf_delay_seconds" (` + second + `:2): unknown key, with invisible characters in its name; did you mean cf_delay_seconds?`},
		"one in a variable's name":       {Sources{Environ: []string{"\ufeffCF_DELAY_SECONDS=900"}}, `"\ufeffCF_DELAY_SECONDS" (environment): unknown setting, with invisible characters in its name; did you mean CF_DELAY_SECONDS?`},
		"a scalar twice":                 {Sources{Args: []string{"--cf-delay-seconds", "300", "--cf-delay-seconds=900"}}, "--cf-delay-seconds (flag): is given more than once: only a list may be repeated"},
		"a list twice":                   {Sources{Args: []string{"--cf-zones", "a.example", "--cf-zones=b.example"}}, ""},
		"an address that is empty":       {Sources{Args: []string{"--listen="}}, "--listen (flag): is empty; it must be host:port"},
		"an empty variable is not there": {Sources{Environ: []string{"WEIR_LISTEN="}}, ""},
	} {
		var c config
		var listen string
		test.src.Environ = append(test.src.Environ, "CF_API_TOKEN=t")
		table := append(c.settings(), Setting{Env: "WEIR_LISTEN", Default: ":9820", Value: Address(&listen), Help: "where"})
		_, err := Load(table, test.src, nil)
		if want := "1 problem with the settings:\n  " + test.want; err == nil && test.want != "" || err != nil && err.Error() != want {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
		if err == nil && listen != ":9820" {
			t.Errorf("%s: listens on %q", name, listen)
		}
	}
}
