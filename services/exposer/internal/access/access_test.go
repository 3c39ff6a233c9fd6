package access_test

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/exposer/internal/access"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

func sum(token string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(token))) }

func TestParse(t *testing.T) {
	got, err := access.Parse("tokens:\n- {name: retail, sha256: " + sum("a") + ", accounts: [Example Retail], zones: [shop.example]}\n- {name: all, sha256: " + strings.ToUpper(sum("b")) + ", everything: true}\n")
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	retail, all := got[sha256.Sum256([]byte("a"))], got[sha256.Sum256([]byte("b"))]
	if all.Name != "all" || all.Only != selection.Everything {
		t.Errorf("all is %+v", all)
	}
	for owner, want := range map[selection.Owner]bool{
		{Scope: bucket.Scope{Kind: bucket.Zone, ID: "1"}, Zone: "blog.example", Account: "Example Retail"}: true,
		{Scope: bucket.Scope{Kind: bucket.Zone, ID: "2"}, Zone: "shop.example", Account: "Another"}:        true,
		{Scope: bucket.Scope{Kind: bucket.Zone, ID: "3"}, Zone: "blog.example", Account: "Another"}:        false,
		{Scope: bucket.Scope{Kind: bucket.Account, ID: "4"}, Account: "Example Retail"}:                    true,
	} {
		if retail.Only.Match().Has(owner) != want {
			t.Errorf("retail may read %v: %t", owner, !want)
		}
	}
}

// What a file has wrong is named, and never the token that may be in the place of a digest.
func TestParseRefuses(t *testing.T) {
	digest := "sha256: " + sum("a")
	for text, want := range map[string]string{
		"":                                     "tokens is empty; it must be a list of tokens",
		"tokens: []":                           "tokens is empty",
		"tokens:\n- {name: a, " + digest + "}": `tokens[0] ("a"): there are neither accounts nor zones; name what the token may read, or set everything: true`,
		"tokens:\n- {name: a, " + digest + ", everything: true, zones: [x]}":                                        "everything is true, and there are accounts or zones; give one of them",
		"tokens:\n- {name: a, " + digest + ", zones: ['']}":                                                         `zones has the element ""; it must be a name without blanks around it`,
		"tokens:\n- {name: a, " + digest + ", accounts: [' x']}":                                                    `accounts has the element " x"; it must be a name without blanks around it`,
		"tokens:\n- {name: a b, " + digest + ", everything: true}":                                                  "name is missing or invalid; it must be 1 to 64 letters, digits, dots, hyphens and underscores",
		"tokens:\n- {" + digest + ", everything: true}":                                                             "tokens[0]: name is missing or invalid",
		"tokens:\n- {name: a, sha256: secret-token, everything: true}":                                              "sha256 is not a digest; it must be 64 hexadecimal digits",
		"tokens:\n- {name: a, sha256: " + sum("") + ", everything: true}":                                           "sha256 is the digest of an empty text; it must be that of the token",
		"tokens:\n- {name: a, " + digest + ", everything: true}\n- {name: b, " + digest + ", everything: true}":     `tokens[1] ("b"): sha256 is that of "a" too; a token can be in the file once`,
		"tokens:\n- {name: a, " + digest + ", everything: true}\n- {name: a, sha256: " + sum("b") + ", zones: [x]}": `tokens[1] ("a"): name is that of another token; each needs its own`,
		"tokens:\n- {name: a, " + digest + ", everything: true, zone: x}":                                           "field zone not found",
		"tokens:\n- {name: a, sha256: [secret-token]}":                                                              "line 2",
		"tokens: secret-token": "(not shown)",
		"tokens:\n- {name: a, " + digest + ", zones: [x]}\n---\ntokens:\n- {name: b, sha256: " + sum("b") + ", zones: [x]}": "there is a second document",
		"tokens:\n- {name: a, " + digest + ", zones: [x]}\n---\nsecret: [":                                                  "there is a second document",
	} {
		_, err := access.Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
}

// Names that match nothing are told by token; those of one that reads everything are none.
func TestUnmatched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	testkit.WriteFile(t, path, []byte("tokens:\n- {name: retail, sha256: "+sum("a")+", accounts: [Example Retail, example retail], zones: [shop.example, 1, Shop.Example]}\n- {name: all, sha256: "+sum("b")+", everything: true}\n"))
	tokens, err := access.Open(path, "SETTING", reload.NewWatch(slog.New(slog.DiscardHandler), time.Now))
	if err != nil {
		t.Fatal(err)
	}
	known := []selection.Owner{
		{Scope: bucket.Scope{Kind: bucket.Zone, ID: "1"}, Zone: "blog.example", Account: "Example Retail"},
		{Scope: bucket.Scope{Kind: bucket.Zone, ID: "2"}, Zone: "shop.example", Account: "Another"},
	}
	if got := fmt.Sprint(tokens.Unmatched(known)); got != `map[retail:[account "example retail" zone "Shop.Example"]]` {
		t.Errorf("unmatched are %s", got)
	}
}
