package standalone

import (
	"strings"
	"testing"
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
		if got := simGreeting(listen, listen); !strings.Contains(got, want) || !strings.Contains(got, "admin at "+strings.Replace(want[1:], "client/v4 ", "\n", 1)) {
			t.Errorf("%s: %q does not have %q and the like for the admin listener", listen, got, want)
		}
	}
}
