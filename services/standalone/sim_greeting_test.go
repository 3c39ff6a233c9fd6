package standalone

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// What weir sim prints can be used as it stands, on whichever addresses it listens.
func TestSimPrintsUsableURLs(t *testing.T) {
	for listen, want := range map[string]string{
		"[::]:9830":        "=http://127.0.0.1:9830/client/v4 ",
		"0.0.0.0:9830":     "=http://127.0.0.1:9830/client/v4 ",
		":9830":            "=http://127.0.0.1:9830/client/v4 ",
		"[::1]:9830":       "=http://[::1]:9830/client/v4 ",
		"192.0.2.1:9830":   "=http://192.0.2.1:9830/client/v4 ",
		"sim.example:9830": "=http://sim.example:9830/client/v4 ",
	} {
		if got := simGreeting(listen, listen, cfsim.DemoToken); !strings.Contains(got, want) || !strings.Contains(got, "admin at "+strings.Replace(want[1:], "client/v4 ", "\n", 1)) {
			t.Errorf("%s: %q does not have %q and the like for the admin listener", listen, got, want)
		}
	}
}

// A scenario is the whole world: other flags about it are refused, and so are its mistakes, by name and line.
func TestSimOfAScenario(t *testing.T) {
	path := filepath.Join(t.TempDir(), "world.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("accounts: [{name: Retail}]\nzones:\n  - {name: shop.example, account: Retail, plan: pro, requests_per_minute: 600}\n")
	s := simSettings{seed: 1, zones: demoZones, scenario: path}
	if err := s.validate(); err != nil {
		t.Error(err)
	}
	world, err := s.world()
	if err != nil || len(world.Zones) != 1 || world.Zones[0].Name != "shop.example" || world.Zones[0].Plan != cfsim.Pro {
		t.Errorf("zones are %+v (%v)", world.Zones, err)
	}
	s.zones, s.sampling = 3, true
	if err := s.validate(); err == nil || !strings.Contains(err.Error(), "--zones") || !strings.Contains(err.Error(), "--sampling") {
		t.Errorf("other flags of the world: error %v", err)
	}
	write("zones:\n  - {name: shop.example, account: Nobody, plan: pro}\n")
	if _, err := s.world(); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "Nobody") {
		t.Errorf("an account that is not there: error %v", err)
	}
}
