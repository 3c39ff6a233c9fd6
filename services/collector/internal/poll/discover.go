package poll

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// Intervals of looking at who there is.
const (
	discoverEvery = time.Hour // Cloudflare's own exporters refresh zones about as often
	// discoverSoon is for when the list, or what the settings make of it, looks
	// wrong: somebody is about to mend it and waits for the effect.
	discoverSoon = 5 * time.Minute
	// soonZones is how many zones are listed every discoverSoon: 20 requests to
	// the REST API, of which Cloudflare allows 1,200 in that time. More zones are
	// listed less often.
	soonZones = 1000
	// mostNews is how many changes are logged one by one.
	mostNews = 20
)

// discoverer finds out who there is.
type discoverer struct {
	*Poller
	*faults
	*books
	*writer
	damaged    *damage
	discoverAt bucket.Time
	listing    outage          // of the list of zones alone
	odd        map[string]bool // zones of which a problem with their names is told
}

// discover brings the roster up to date with the zones that the token sees, says
// what of the settings selects nothing, and when to look again.
func (d *discoverer) discover(ctx context.Context, now bucket.Time) error {
	zones, err := d.Upstream.Zones(ctx)
	if err != nil {
		return err
	}
	d.Metrics.visible.WithLabelValues().Set(float64(len(zones)))
	if len(zones) == 0 && len(d.roster) > 0 {
		// An empty list may also mean that the permission is gone (Cloudflare's
		// API does not tell them apart); it ends no scope.
		d.Trouble.Set(trouble.ZonesUnlisted, "", fmt.Sprintf("Cloudflare lists no zones any more; the %d known ones are kept. Does the token still have Zone Read for them?", len(d.roster)))
		d.discoverAt = now.Add(discoverSoon)
		d.judgeSelection(len(zones))
		return nil
	}
	d.Trouble.Clear(trouble.ZonesUnlisted, "")
	seen := make([]roster.Seen, len(zones))
	for i, z := range zones {
		seen[i] = roster.Seen{
			ID: z.ID, Name: z.Name, AccountID: z.Account.ID, AccountName: z.Account.Name, Plan: z.Plan.Name,
			State: standingOf(&z), Malformed: z.Malformed,
		}
		if !z.Created.IsZero() {
			seen[i].Created = bucket.TimeOf(z.Created)
		}
	}
	changed, err := d.roster.Discover(ctx, now, seen, d.Select, d.Lookback, d.newest)
	if err != nil {
		return fmt.Errorf("compare %d zones with those that are known: %w", len(zones), err)
	}
	unmatched := d.Select.Unmatched(seen)
	d.tellUnmatched(unmatched)
	d.tellOdd(seen)
	d.discoverAt = now.Add(discoverEvery)
	if collected := d.judgeSelection(len(zones)); collected == 0 || len(unmatched) > 0 {
		d.discoverAt = now.Add(min(discoverEvery, discoverSoon*time.Duration(1+len(zones)/soonZones)))
	}
	if len(changed) == 0 {
		return nil
	}
	level := slog.LevelInfo
	if len(changed) > mostNews {
		level = slog.LevelDebug
		d.Logger.Info("many zones are new or have changed", "zones", len(changed), "visible", len(zones))
	}
	for _, sc := range changed {
		d.Logger.Log(ctx, level, "zone", "zone", sc.ID, "name", sc.Name, "label", sc.ZoneLabel, "account", sc.AccountName, "plan", sc.Plan, "state", sc.State)
	}
	if err := d.save(ctx, d.contents, changed); err != nil {
		return err
	}
	d.damaged.rewritten()
	return nil
}

// standingOf is the state of a zone by the words that Cloudflare has for it.
func standingOf(z *cloudflare.Zone) roster.State {
	switch {
	case z.Status == "initializing", z.Status == "pending":
		return roster.Pending
	case z.Status != "active":
		return roster.Inactive
	case z.Paused:
		return roster.Paused
	}
	return roster.Active
}

// newest is the end of the newest window that is stored of a scope; 0 where none
// is.
func (d *discoverer) newest(of bucket.Scope) (end bucket.Time) {
	for i := range d.Catalogue.Datasets {
		end = max(end, d.coverage.Newest(ledger.Series{Dataset: d.Catalogue.Datasets[i].Dataset, Scope: of}))
	}
	return end
}

// tellUnmatched says which entries of the settings select nothing.
func (d *discoverer) tellUnmatched(unmatched []roster.Unmatched) {
	count, problems := map[string]int{}, map[string]string{}
	for _, u := range unmatched {
		count[u.Setting]++
		problems[u.Setting+" "+u.Entry] = u.Reason
	}
	for _, setting := range []string{roster.SettingZones, roster.SettingExclude, roster.SettingAccounts} {
		d.Metrics.unmatched.WithLabelValues(setting).Set(float64(count[setting]))
	}
	d.Trouble.Replace(trouble.SelectionUnmatched, problems)
}

// judgeSelection says why no zone is collected, if none is, and returns how many
// are.
func (d *discoverer) judgeSelection(visible int) (collected int) {
	idle := map[roster.State]int{}
	for _, sc := range d.roster {
		switch {
		case sc.Kind != bucket.Zone:
		case sc.State == roster.Active:
			collected++
		case sc.Listed():
			idle[sc.State]++
		}
	}
	d.Metrics.selected.WithLabelValues().Set(float64(collected))
	why := ""
	switch {
	case collected > 0:
		d.Trouble.Clear(trouble.NoZones, "")
		return collected
	case len(idle) > 0:
		why = fmt.Sprintf("no zone is collected: of the zones that are selected %d are paused at Cloudflare, %d are pending (added and not activated yet) and %d are moved, deactivated or the like",
			idle[roster.Paused], idle[roster.Pending], idle[roster.Inactive])
	case visible == 0:
		why = "no zone is collected: Cloudflare shows the token no zone. The token needs the permissions Zone Read and Zone Analytics Read for the zones that are wanted"
	default:
		why = fmt.Sprintf("no zone is collected: the token sees %d zones, and %s, %s and %s select none of them",
			visible, roster.SettingZones, roster.SettingExclude, roster.SettingAccounts)
	}
	d.Trouble.Set(trouble.NoZones, "", why)
	return 0
}
