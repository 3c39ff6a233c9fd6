package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
)

// A collector with two tokens of two Cloudflare users, from its configuration file:
// each zone is asked with one of them, each user has its own budget, and a token is
// replaced while the other goes on.
func TestBinaryCollectsWithTwoCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name, content string) string {
		path := filepath.Join(dir, name)
		testkit.WriteFile(t, path, []byte(content))
		return path
	}
	retailAccount := []string{cfsim.Tag("account:retail")}
	first, renewed := cfsim.GoodToken(marked+"-retail"), cfsim.GoodToken(marked+"-retail-renewed")
	first.User, first.Accounts, renewed.User, renewed.Accounts = "retail", retailAccount, "retail", retailAccount
	sim := simulate(t, nil, first, renewed)
	file := put("weir.yaml", fmt.Sprintf("credentials:\n  - name: retail\n    token_file: %s\n    user: retail-bot\n    share: 30%%\n  - name: labs\n    token_file: %s\n",
		put("retail", first.Secret+"\n"), put("labs", apiToken+"\n")))
	c := sim.startCollector(t, "CF_API_TOKEN=", "WEIR_CONFIG_FILE="+file, "CF_COLLECTION_INTERVAL_SECONDS=1")
	want := func(metric string, value float64) func() error {
		return func() error { return isMetric(c, metric, value) }
	}
	testkit.Eventually(t, want(`weir_collector_scopes{credential="retail",state="active"}`, 4))
	testkit.Eventually(t, want(`weir_collector_scopes{credential="labs",state="active"}`, 3))
	for metric, value := range map[string]float64{
		`weir_collector_budget_share_requests{user="retail-bot"}`:     90,
		`weir_collector_budget_share_requests{user="labs"}`:           150,
		`weir_secret_usable{secret="credentials[retail].token_file"}`: 1,
		`weir_secret_usable{secret="credentials[labs].token_file"}`:   1,
	} {
		if err := want(metric, value)(); err != nil {
			t.Error(err)
		}
	}
	put("retail", renewed.Secret+"\n")
	testkit.Eventually(t, func() error {
		for _, r := range sim.Requests() {
			if r.Token == renewed.ID && r.Kind == "graphql" {
				return nil
			}
		}
		return constError("nothing was asked with the new token")
	})
	zones := map[string]bool{} // of Retail
	for _, z := range sim.Zones() {
		zones[z.ID] = z.Account == retailAccount[0]
	}
	asked := map[string]int{}
	for _, r := range sim.Requests() {
		for _, z := range r.Zones {
			if asked[r.User]++; zones[z] != (r.User == "retail") {
				t.Fatalf("user %s asks for zone %s of the other credential", r.User, z)
			}
		}
	}
	if len(asked) != 2 {
		t.Errorf("zones that were asked, by user: %v", asked)
	}
	if out := c.output.String(); strings.Contains(out, marked) {
		t.Error("the log shows a token")
	}
}
