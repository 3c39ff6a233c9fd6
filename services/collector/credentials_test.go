package collector

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/cli"

	"github.com/weir-metrics/weir/internal/testkit"
)

// credentialFile writes a configuration file beside two tokens' files.
func credentialFile(t *testing.T, content string) (path, folder string) {
	t.Helper()
	folder = t.TempDir()
	for name, text := range map[string]string{"retail": "retail-token\n", "labs": "labs-token", "quoted": `"quoted-token"`, "same": "retail-token", "empty": "\n"} {
		testkit.WriteFile(t, filepath.Join(folder, name), []byte(text))
	}
	path = filepath.Join(folder, "weir.yaml")
	testkit.WriteFile(t, path, []byte(strings.ReplaceAll(content, "DIR", folder)))
	return path, folder
}

func loadFile(file string, environ ...string) (c Config, loaded *cli.Loaded, err error) {
	loaded, err = cli.Load(c.Settings(), cli.Sources{Args: []string{"--config", file}, Environ: environ}, c.validateToRun)
	return c, loaded, err
}

const twoCredentials = `
credentials:
  - name: retail
    token_file: DIR/retail
    user: bot
    share: 40%
    accounts: [Retail, "Labs, Inc."]
    zones: [shop.example]
  - name: labs
    token_file: DIR/labs
budget_share: 20%
cf_exclude_zones: [old.example]
`

func TestSeveralCredentials(t *testing.T) {
	file, folder := credentialFile(t, twoCredentials)
	c, loaded, err := loadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.credentials()
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		Name, User, Token, Setting string
		Share                      float64
		Zones, Accounts, Exclude   []string
	}
	var got []seen
	for _, one := range all {
		got = append(got, seen{one.name, one.user, one.token.Reveal(), one.setting, one.share, one.choice.Zones, one.choice.Accounts, one.choice.Exclude})
	}
	want := []seen{
		{"retail", "bot", "retail-token", "credentials[retail].token_file", .4, []string{"shop.example"}, []string{"Retail", "Labs, Inc."}, []string{"old.example"}},
		{"labs", "labs", "labs-token", "credentials[labs].token_file", .2, nil, nil, []string{"old.example"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var out strings.Builder
	if err := loaded.Print(&out); err != nil || strings.Contains(out.String(), "-token\n") || !strings.Contains(out.String(), "token_file: "+folder+"/retail") {
		t.Errorf("error %v, printed:\n%s", err, &out)
	}
	// What is printed is a configuration file that means the same.
	again := filepath.Join(folder, "printed.yaml")
	testkit.WriteFile(t, again, []byte(out.String()))
	if same, _, err := loadFile(again); err != nil || !cmp.Equal(same.Credentials, c.Credentials) {
		t.Errorf("error %v; what was printed gives %+v, want %+v", err, same.Credentials, c.Credentials)
	}
}

func TestBadCredentials(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		environ []string
		want    []string // parts of one line each
	}{
		"no list":      {content: "credentials: []\n", want: []string{"credentials (DIR/weir.yaml:1): is an empty list"}},
		"not a list":   {content: "credentials: {name: retail}\n", want: []string{"credentials (DIR/weir.yaml:1): must be a list of credentials"}},
		"unknown key":  {content: "credentials:\n  - name: retail\n    token: abcdef\n", want: []string{"credentials (DIR/weir.yaml:1): must be a list of credentials, each with name and token_file"}},
		"both ways":    {content: twoCredentials, environ: []string{"CF_API_TOKEN=t"}, want: []string{"CF_API_TOKEN (environment): cannot be combined with the credentials"}},
		"zones beside": {content: twoCredentials + "cf_zones: [a.example]\ncf_accounts: [a]\nbudget_user: me\n", want: []string{"cf_zones", "cf_accounts", "budget_user"}},
		"all at once": {content: `
credentials:
  - name: Retail
    token_file: DIR/retail
    share: 200%
  - name: labs
  - name: labs
    token_file: DIR/nowhere
    zones: []
    accounts: [""]
`, want: []string{
			`credentials[0].name="Retail" (DIR/weir.yaml:2): must be 1 to 32`, `credentials[0].share="200%" (DIR/weir.yaml:2): must be a share from 1% to 100%`,
			"credentials[labs].token_file (DIR/weir.yaml:2): is required", `credentials[labs].name="labs" (DIR/weir.yaml:2): is also the name of another`,
			"credentials[labs].token_file (DIR/weir.yaml:2): read the secret", `credentials[labs].zones="[]" (DIR/weir.yaml:2): is empty`,
			"credentials[labs].accounts (DIR/weir.yaml:2): has an empty element",
		}},
		"one file twice":       {content: "credentials:\n  - {name: a, token_file: DIR/retail}\n  - {name: b, token_file: DIR/retail}\n", want: []string{`credentials[b].token_file="DIR/retail"`, "is also the file of credential a"}},
		"one token twice":      {content: "credentials:\n  - {name: a, token_file: DIR/retail}\n  - {name: b, token_file: DIR/same}\n", want: []string{`credentials[b].token_file="DIR/same"`, "contains the token of credential a"}},
		"quotes":               {content: "credentials:\n  - {name: a, token_file: DIR/quoted}\n", want: []string{`credentials[a].token_file="DIR/quoted"`, "quot"}},
		"nothing in it":        {content: "credentials:\n  - {name: a, token_file: DIR/empty}\n", want: []string{"credentials[a].token_file", "DIR/empty is empty"}},
		"the token itself":     {content: "credentials:\n  - {name: a, token_file: abcdefghijklmnopqrstuvwxyz}\n", want: []string{"credentials[a].token_file", "may be the secret itself"}},
		"the token as a name":  {content: "credentials:\n  - {name: full-0123456789abcdef0123456789abcdef, token_file: DIR/retail}\n", want: []string{"credentials[0].name (DIR/weir.yaml:1): has 37 characters (not shown)"}},
		"two shares of a user": {content: "credentials:\n  - {name: a, token_file: DIR/retail, user: bot, share: 40%}\n  - {name: b, token_file: DIR/labs, user: bot}\n", want: []string{"credentials[b].share", "must equal the share of credential a (40%)"}},
		"nothing at all":       {content: "cf_delay_seconds: 300\n", want: []string{"CF_API_TOKEN", "credentials in the file"}},
	} {
		file, folder := credentialFile(t, test.content)
		_, _, err := loadFile(file, test.environ...)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		text := strings.ReplaceAll(err.Error(), folder, "DIR")
		for _, part := range test.want {
			if !strings.Contains(text, part) {
				t.Errorf("%s: want %q in\n%s", name, part, text)
			}
		}
		for _, secret := range []string{"abcdef", "quoted-token", "retail-token"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: the error shows %s:\n%s", name, secret, text)
			}
		}
	}
}

// A rotation that puts one token into two files is not taken: the credential keeps the
// token that it has, and takes the other once nobody else uses it.
func TestARotationGivesNoTokenTwice(t *testing.T) {
	file, folder := credentialFile(t, "credentials:\n  - {name: a, token_file: DIR/retail}\n  - {name: b, token_file: DIR/labs}\n")
	c, _, err := loadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.credentials()
	if err != nil {
		t.Fatal(err)
	}
	inUse := &tokens{of: map[string]string{}}
	a, err := all[0].keep(nil, inUse)
	if err != nil {
		t.Fatal(err)
	}
	b, err := all[1].keep(nil, inUse)
	if err != nil {
		t.Fatal(err)
	}
	hasA, hasB := a.Get(), b.Get()
	write := func(name, token string) { testkit.WriteFile(t, filepath.Join(folder, name), []byte(token+"\n")) }
	write("labs", hasA)
	if got := b.Get(); got != hasB {
		t.Error("two credentials use one token")
	}
	next := strings.Repeat("another-token-", 3)
	write("retail", next)
	if got := a.Get(); got != next {
		t.Error("a token that nobody else uses is not taken")
	}
	if got := b.Get(); got != hasA {
		t.Error("a token that nobody uses any more is not taken")
	}
}

// The example of the documentation is a list that loads.
func TestTheDocumentedCredentialsLoad(t *testing.T) {
	text := testkit.RepoFile(t, "docs/settings.md")
	_, example, found := strings.Cut(string(text), "```yaml\ncredentials:\n")
	example, _, closed := strings.Cut(example, "```")
	if !found || !closed {
		t.Fatal("docs/settings.md has no example of credentials")
	}
	file, _ := credentialFile(t, strings.ReplaceAll("credentials:\n"+example, "/run/secrets", "DIR"))
	c, _, err := loadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := c.credentials(); err != nil || len(all) != 2 || all[0].user != "retail-bot" || all[1].user != "labs" {
		t.Errorf("the example gives %d credentials, error %v", len(all), err)
	}
}
