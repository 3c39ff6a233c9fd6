package collector

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/weir-metrics/weir/internal/bearer"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// Credential is one entry of the file's credentials: an API token, and what is
// collected with it.
type Credential struct {
	Name      string   `yaml:"name"`
	TokenFile string   `yaml:"token_file"`
	User      string   `yaml:"user,omitempty"`  // empty: the name
	Share     string   `yaml:"share,omitempty"` // empty: WEIR_BUDGET_SHARE
	Accounts  []string `yaml:"accounts,omitempty"`
	Zones     []string `yaml:"zones,omitempty"`
}

// credential is an API token with its settings, from either form of configuration.
type credential struct {
	name, user string
	share      float64
	token      cli.Secret
	setting    string // that names the token, for logs and metrics
	choice     roster.Filter
}

var credentialName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// credentials returns the configured credentials: one, or those of the file. The error has
// every problem.
func (c *Config) credentials() ([]credential, error) {
	if c.Credentials == nil {
		return []credential{{
			name: roster.DefaultCredential, user: c.BudgetUser, share: c.BudgetShare, token: c.Token, setting: "CF_API_TOKEN_FILE",
			choice: roster.Filter{Zones: c.Zones, Exclude: c.ExcludeZones, Accounts: c.Accounts},
		}}, c.checkToken()
	}
	bad := c.besides()
	var all []credential
	names, files, shares := map[string]bool{}, map[string]string{}, map[string]credential{}
	for i, given := range c.Credentials {
		at := fmt.Sprintf("credentials[%d]", i)
		if credentialName.MatchString(given.Name) {
			at = "credentials[" + given.Name + "]"
		}
		problem := func(key, value, reason string) {
			bad = append(bad, cli.Problem{Setting: at + "." + key, Value: value, Reason: reason})
		}
		switch {
		case len(given.Name) > 32: // it may be a token in the wrong place, so it is not shown
			problem("name", "", fmt.Sprintf("has %d characters (not shown); must be 1 to 32 of a to z, 0 to 9 and -", len(given.Name)))
		case !credentialName.MatchString(given.Name):
			problem("name", given.Name, "must be 1 to 32 of a to z, 0 to 9 and -")
		case names[given.Name]:
			problem("name", given.Name, "is also the name of another credential; names must be unique")
		}
		names[given.Name] = true
		one := credential{
			name: given.Name, user: cmp.Or(given.User, given.Name), share: c.BudgetShare, setting: at + ".token_file",
			choice: roster.Filter{Zones: given.Zones, Exclude: c.ExcludeZones, Accounts: given.Accounts, Credential: given.Name},
		}
		if given.Share != "" {
			if err := cli.Share(&one.share, 0.01, 1).Set(given.Share); err != nil {
				problem("share", given.Share, err.Error())
			}
		}
		if other, known := shares[one.user]; known && other.share != one.share {
			problem("share", given.Share, fmt.Sprintf("must equal the share of credential %s (%.4g%%): both belong to the Cloudflare user %s and share its budget", other.name, 100*other.share, one.user))
		} else {
			shares[one.user] = one
		}
		for key, list := range map[string][]string{"zones": given.Zones, "accounts": given.Accounts} {
			for _, entry := range list {
				if strings.TrimSpace(entry) == "" {
					problem(key, "", "has an empty element; leave the key out for all")
				}
			}
		}
		if list := given.Zones; list != nil && len(list) == 0 {
			problem("zones", "[]", "is empty, which would select nothing; leave the key out for all")
		}
		if list := given.Accounts; list != nil && len(list) == 0 {
			problem("accounts", "[]", "is empty, which would select nothing; leave the key out for all")
		}
		token, err := readToken(given.TokenFile)
		switch {
		case given.TokenFile == "":
			problem("token_file", "", "is required: the file that contains the API token")
		case err != nil && token.IsZero():
			problem("token_file", "", err.Error()) // which names the file, unless it may be the token itself
		case err != nil:
			problem("token_file", given.TokenFile, err.Error())
		case files[given.TokenFile] != "":
			problem("token_file", given.TokenFile, "is also the file of credential "+files[given.TokenFile]+"; each credential needs its own token")
		default:
			for _, o := range all {
				if o.token.Equal(token) {
					problem("token_file", given.TokenFile, "contains the token of credential "+o.name+"; each credential needs its own token")
				}
			}
		}
		files[given.TokenFile], one.token = given.Name, token
		all = append(all, one)
	}
	if len(bad) == 0 {
		return all, nil
	}
	return nil, bad
}

// readToken reads a token's file. For a malformed token it returns the token and an
// error.
func readToken(file string) (cli.Secret, error) {
	if file == "" {
		return cli.Secret{}, nil
	}
	token, err := cli.ReadSecret(file)
	if err != nil {
		return cli.Secret{}, err
	}
	return token, bearer.Check(token.Reveal())
}

// besides returns the problems of settings that conflict with a list of credentials.
func (c *Config) besides() (bad cli.Problems) {
	no := func(setting, value, reason string) {
		bad = append(bad, cli.Problem{Setting: setting, Value: value, Reason: reason})
	}
	if len(c.Credentials) == 0 {
		no("credentials", "", "is an empty list: name a credential, or leave the key out and set CF_API_TOKEN")
	}
	if !c.Token.IsZero() {
		no("CF_API_TOKEN", "", "cannot be combined with the credentials of the configuration file: remove one")
	}
	if len(c.Zones) > 0 {
		no(roster.SettingZones, "", "cannot be combined with the credentials of the configuration file, each of which has its own zones: remove it")
	}
	if len(c.Accounts) > 0 {
		no(roster.SettingAccounts, "", "cannot be combined with the credentials of the configuration file, each of which has its own accounts: remove it")
	}
	if c.BudgetUser != "" && c.BudgetUser != defaultUser {
		no("WEIR_BUDGET_USER", "", "cannot be combined with the credentials of the configuration file, each of which has its own user: remove it")
	}
	return bad
}

// defaultUser is the default of WEIR_BUDGET_USER.
const defaultUser = "default"

// checkToken validates the token of the settings. Whether one is required depends on
// the command.
func (c *Config) checkToken() error {
	if c.Token.IsZero() {
		return nil
	}
	if err := bearer.Check(c.Token.Reveal()); err != nil {
		return cli.Problem{Setting: "CF_API_TOKEN", Reason: c.Token.Flaw(err).Error()}
	}
	return nil
}

// Tokens reports whether any API token is configured.
func (c *Config) Tokens() bool { return !c.Token.IsZero() || c.Credentials != nil }
