package e2e

import (
	"path/filepath"
	"testing"

	"github.com/weir-metrics/weir/internal/pgtest"
)

// countsAlike: the build before counts by the rules of this one (counter.Rules).
// Correct it when testdata/previous-build moves.
const countsAlike = true

// The build before this one and this one have a store in turn: upgraded, taken
// back, upgraded once more. On Postgres they also lead and stand by for each
// other. An exposer of each build follows throughout. In each turn there are
// zones to collect that were not there before, so that both builds write; and
// before it is taken back the store gets what only trouble makes this build
// write. Nothing that either has written is lost, doubled or changed, and both
// exposers show what happened, in the same bytes (G1, G2, G4, G5). The counters
// go on where they were if both builds count by the same rules, and begin at zero
// if not (G10).
func TestBinaryUpgradesAndGoesBack(t *testing.T) {
	t.Parallel()
	previous := previousBuild(t)
	for _, driver := range []struct {
		name     string
		settings func(t *testing.T) []string
		together bool // two collectors may have the store open
	}{
		{"SQLite", func(t *testing.T) []string {
			return []string{"WEIR_SQLITE_FILE=" + filepath.Join(t.TempDir(), "weir.db")}
		}, false},
		{"Postgres", func(t *testing.T) []string {
			return []string{"WEIR_DATABASE_URL=" + withPassword(t, pgtest.DSN(t))}
		}, true},
	} {
		t.Run(driver.name, func(t *testing.T) {
			t.Parallel()
			u := newUpgrade(t, previous, driver.together, driver.settings(t)...)

			u.migrate(u.before)
			u.turn(u.before, "shop.example", "media.example", "checkout.example", "parked.example") // the last one is silent: its windows wait
			u.holds()

			u.migrate(u.now)
			u.turn(u.now, "api.example")
			u.holds()
			epoch := u.epoch()
			u.operate()

			u.stop()
			u.provoke()
			u.turn(u.before, "blog.example") // without its migrate, which does not know a later schema
			u.holds()

			u.migrate(u.now)
			u.turn(u.now, "docs.example")
			u.holds()
			u.provoked()
			if countsAlike {
				if now := u.epoch(); now != epoch {
					t.Errorf("counters are of epoch %s, and were of %s: they began again at zero", now, epoch)
				}
			}
		})
	}
}
