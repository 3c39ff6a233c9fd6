// Package access knows the bearer tokens of the data port, and what each may read.
//
// The file has digests of tokens, not the tokens, so that it need not be secret. A token that
// is revoked is refused from the next request on.
package access

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v2"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/smallfile"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// Client is who has a token.
type Client struct {
	// Name is that of the file, for the log.
	Name string
	// Only is what the client may read.
	Only selection.Selection

	named selection.Set // in the file
}

// Tokens are those of a file, which is read again when it changes; the last valid content
// stays in use. It is safe for concurrent use.
type Tokens struct {
	kept *reload.Value[string, map[digest]Client]
}

// digest is that of a token.
type digest = [sha256.Size]byte

// Open reads the file that a setting names.
func Open(path, setting string, watch *reload.Watch) (*Tokens, error) {
	kept, err := reload.NewValue(watch, setting, func() (string, error) {
		text, err := smallfile.Read(path, smallfile.YAML)
		return string(text), err
	}, Parse)
	if err != nil {
		return nil, fmt.Errorf("%s is %s: %w", setting, path, err)
	}
	return &Tokens{kept}, nil
}

// Client returns who has a token.
func (t *Tokens) Client(token string) (Client, bool) {
	c, known := t.kept.Get()[sha256.Sum256([]byte(token))]
	return c, known
}

// Unmatched returns the names in the file that are of none of the zones and accounts that exist, by
// the name of the token.
func (t *Tokens) Unmatched(known []selection.Owner) map[string][]string {
	out := map[string][]string{}
	for _, c := range t.kept.Get() {
		for _, name := range c.named.Unmatched(known) {
			out[c.Name] = append(out[c.Name], fmt.Sprintf("%s %q", name.Kind, bucket.Clip(name.Name)))
		}
	}
	return out
}

// file is the format of the file.
type file struct {
	Tokens []entry `yaml:"tokens"`
}

type entry struct {
	Name       string   `yaml:"name"`
	SHA256     string   `yaml:"sha256"`
	Accounts   []string `yaml:"accounts"`
	Zones      []string `yaml:"zones"`
	Everything bool     `yaml:"everything"`
}

// shown matches a value that a YAML error quotes, which may be a misplaced token.
var shown = regexp.MustCompile("`[^`]*`")

var goodName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// mostTokens bounds the file's tokens, and mostNames the zones and accounts of each.
const (
	mostTokens = 1000
	mostNames  = 1000
)

// Parse returns the clients of a file by the digest of their tokens. No error shows the
// value of sha256, which may be a token by mistake.
func Parse(text string) (map[[sha256.Size]byte]Client, error) {
	var f file
	documents := yaml.NewDecoder(strings.NewReader(text))
	documents.SetStrict(true)
	if err := documents.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(shown.ReplaceAllString(err.Error(), "(not shown)"))
	}
	var more any
	if err := documents.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is a second document, after ---; a file has one, with all tokens")
	}
	if len(f.Tokens) == 0 {
		return nil, errors.New("tokens is empty; it must be a list of tokens, each with name and sha256, and with accounts and zones, or with everything: true")
	}
	if len(f.Tokens) > mostTokens {
		return nil, fmt.Errorf("tokens has %d elements; it must have at most %d", len(f.Tokens), mostTokens)
	}
	out, names := make(map[digest]Client, len(f.Tokens)), map[string]bool{}
	for i := range f.Tokens {
		e := &f.Tokens[i]
		where := fmt.Sprintf("tokens[%d]", i)
		if e.Name != "" {
			where += fmt.Sprintf(" (%q)", bucket.Clip(e.Name))
		}
		sum, client, err := e.client()
		switch {
		case err != nil:
		case names[e.Name]:
			err = errors.New("name is that of another token; each needs its own")
		case out[sum].Name != "":
			err = fmt.Errorf("sha256 is that of %q too; a token can be in the file once", out[sum].Name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		names[e.Name], out[sum] = true, client
	}
	return out, nil
}

// nobody is the digest of no text at all, as of a command that printed nothing.
var nobody = sha256.Sum256(nil)

func (e *entry) client() (sum digest, c Client, err error) {
	if !goodName.MatchString(e.Name) {
		return sum, c, errors.New("name is missing or invalid; it must be 1 to 64 letters, digits, dots, hyphens and underscores, and the log shows it")
	}
	raw, err := hex.DecodeString(e.SHA256)
	if err != nil || len(raw) != len(sum) {
		return sum, c, errors.New("sha256 is not a digest; it must be 64 hexadecimal digits: printf %s \"$TOKEN\" | sha256sum")
	}
	if sum = digest(raw); sum == nobody {
		return sum, c, errors.New("sha256 is the digest of an empty text; it must be that of the token")
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{"accounts", e.Accounts}, {"zones", e.Zones}} {
		if len(list.names) > mostNames {
			return sum, c, fmt.Errorf("%s has %d elements; it must have at most %d", list.key, len(list.names), mostNames)
		}
		for _, name := range list.names {
			if strings.TrimSpace(name) != name || name == "" {
				return sum, c, fmt.Errorf("%s has the element %q; it must be a name without blanks around it", list.key, bucket.Clip(name))
			}
		}
	}
	some := len(e.Accounts)+len(e.Zones) > 0
	switch {
	case e.Everything && some:
		return sum, c, errors.New("everything is true, and there are accounts or zones; give one of them")
	case !e.Everything && !some:
		return sum, c, errors.New("there are neither accounts nor zones; name what the token may read, or set everything: true")
	case e.Everything:
		return sum, Client{Name: e.Name}, nil
	}
	named := selection.Set{Accounts: e.Accounts, Zones: e.Zones}
	return sum, Client{Name: e.Name, Only: selection.Of(named), named: named}, nil
}
