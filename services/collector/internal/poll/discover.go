package poll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	accounts   outage          // of the list of accounts alone
	odd        map[string]bool // zones of which a problem with their names is told
}

// discover brings the roster up to date with the zones and accounts that the token
// sees, says what of the settings selects nothing, and when to look again.
func (d *discoverer) discover(ctx context.Context, now bucket.Time) error {
	zones, err := d.listZones(ctx)
	if err != nil {
		return err
	}
	accounts := d.listAccounts(ctx, now, zones)
	d.discoverAt = now.Add(discoverEvery)
	soon := now.Add(min(discoverEvery, discoverSoon*time.Duration(1+len(zones)/soonZones)))
	var changed []*roster.Scope
	if d.unlisted(len(zones)) {
		d.discoverAt = soon
	} else {
		unmatched := d.Select.Unmatched(slices.Concat(zones, accounts))
		d.tellUnmatched(unmatched)
		if len(unmatched) > 0 {
			d.discoverAt = soon
		}
		if changed, err = d.compare(ctx, now, bucket.Zone, zones); err != nil {
			return err
		}
	}
	if d.collects(bucket.Account) {
		of, err := d.compare(ctx, now, bucket.Account, accounts)
		if err != nil {
			return err
		}
		changed = append(changed, of...)
	}
	if !d.unlisted(len(zones)) {
		d.tellOdd(slices.Concat(zones, accounts))
	}
	if zones, accounts := d.judgeSelection(len(zones)), d.judgeAccounts(len(accounts)); !zones || !accounts || d.accounts.reason != "" {
		d.discoverAt = soon
	}
	if len(changed) == 0 {
		return nil
	}
	d.tellChanged(ctx, changed)
	if err := d.save(ctx, d.contents, changed); err != nil {
		return err
	}
	d.damaged.rewritten()
	return nil
}

// listZones are the zones that the token sees.
func (d *discoverer) listZones(ctx context.Context) ([]roster.Seen, error) {
	zones, err := d.Upstream.Zones(ctx)
	if err != nil {
		return nil, err
	}
	d.Metrics.visible.WithLabelValues().Set(float64(len(zones)))
	seen := make([]roster.Seen, len(zones))
	for i, z := range zones {
		seen[i] = roster.Seen{
			Kind: bucket.Zone, ID: z.ID, Name: z.Name, AccountID: z.Account.ID, AccountName: z.Account.Name, Plan: z.Plan.Name,
			State: standingOf(&z), Malformed: z.Malformed,
		}
		if !z.Created.IsZero() {
			seen[i].Created = bucket.TimeOf(z.Created)
		}
	}
	return seen, nil
}

// listAccounts are the accounts that the token sees, where any dataset is about
// accounts: those of the list of accounts, and those of the zones. A token that may ask
// for an account's analytics may be one that may not list accounts, and an account need
// not have a zone. A list that cannot be had, or is empty, ends no account: the known
// ones are among those that are returned.
func (d *discoverer) listAccounts(ctx context.Context, now bucket.Time, zones []roster.Seen) (seen []roster.Seen) {
	if !d.collects(bucket.Account) {
		return nil
	}
	listed, err := d.Upstream.Accounts(ctx)
	switch e := (*cloudflare.Error)(nil); {
	case err == nil:
		d.accounts = outage{}
	case errors.As(err, &e) && (e.Class == cloudflare.Denied || e.Class == cloudflare.Auth): // which may be meant
		d.accounts = outage{}
		d.often.Info("accounts", "the API token may not list accounts; those of the listed zones are collected", "err", err)
	default:
		d.accounts.note(now, err)
		d.often.Warn("accounts", "cannot list accounts at Cloudflare; those of the listed zones are collected, and those that are known", "err", err)
	}
	known := map[string]bool{}
	add := func(id, name string) {
		one := roster.Seen{Kind: bucket.Account, ID: id, Name: name, AccountID: id, AccountName: name, State: roster.Active}
		if known[id] || one.Scope().Validate() != nil {
			return
		}
		known[id] = true
		seen = append(seen, one)
	}
	for _, a := range listed {
		add(a.ID, a.Name)
	}
	for _, z := range zones {
		add(z.AccountID, z.AccountName)
	}
	if len(listed) == 0 {
		for id, sc := range d.roster {
			if id.Kind == bucket.Account && sc.State != roster.Gone {
				add(id.ID, sc.Name)
			}
		}
	}
	d.Metrics.visibleAccounts.WithLabelValues().Set(float64(len(seen)))
	return seen
}

// unlisted reports whether Cloudflare lists no zones any more. An empty list may also
// mean that the permission is gone (Cloudflare's API does not tell them apart); it ends
// no scope.
func (d *discoverer) unlisted(visible int) bool {
	known := 0
	for id := range d.roster {
		if id.Kind == bucket.Zone {
			known++
		}
	}
	if visible > 0 || known == 0 {
		d.Trouble.Clear(trouble.ZonesUnlisted, "")
		return false
	}
	d.Trouble.Set(trouble.ZonesUnlisted, "", fmt.Sprintf("Cloudflare lists no zones any more; the %d known ones are kept. Does the token still have Zone Read for them?", known))
	return true
}

// compare brings the scopes of one kind up to date with those that are seen, and
// returns those that changed.
func (d *discoverer) compare(ctx context.Context, now bucket.Time, kind bucket.ScopeKind, seen []roster.Seen) ([]*roster.Scope, error) {
	changed, err := d.roster.Discover(ctx, now, kind, seen, d.Select, d.Lookback, d.newest)
	if err != nil {
		return nil, fmt.Errorf("compare %d %ss with those that are known: %w", len(seen), kind, err)
	}
	return changed, nil
}

// tellChanged says who is new and who has changed.
func (d *discoverer) tellChanged(ctx context.Context, changed []*roster.Scope) {
	level := slog.LevelInfo
	if len(changed) > mostNews {
		level = slog.LevelDebug
		d.Logger.Info("many scopes are new or have changed", "scopes", len(changed), "known", len(d.roster))
	}
	for _, sc := range changed {
		if sc.Kind == bucket.Account {
			d.Logger.Log(ctx, level, "account", "account", sc.ID, "name", sc.Name, "label", sc.AccountLabel, "state", sc.State)
			continue
		}
		d.Logger.Log(ctx, level, "zone", "zone", sc.ID, "name", sc.Name, "label", sc.ZoneLabel, "account", sc.AccountName, "plan", sc.Plan, "state", sc.State)
	}
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

// judgeSelection says why no zone is collected, if none is and one should be.
func (d *discoverer) judgeSelection(visible int) bool {
	collected, idle := 0, map[roster.State]int{}
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
	case collected > 0 || !d.collects(bucket.Zone):
		d.Trouble.Clear(trouble.NoZones, "")
		return true
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
	return false
}

// judgeAccounts says why no account is collected, if none is and one should be.
func (d *discoverer) judgeAccounts(visible int) bool {
	if !d.collects(bucket.Account) {
		return true
	}
	collected := d.active(bucket.Account)
	d.Metrics.selectedAccounts.WithLabelValues().Set(float64(collected))
	switch {
	case collected > 0:
		d.Trouble.Clear(trouble.NoAccounts, "")
		return true
	case visible == 0:
		d.Trouble.Set(trouble.NoAccounts, "", "no account is collected: Cloudflare shows the token no account, and no zone of one. Datasets about accounts need the permission Account Analytics Read, and to find the accounts Account Settings Read or, for those with zones, Zone Read")
	default:
		d.Trouble.Set(trouble.NoAccounts, "", fmt.Sprintf("no account is collected: the token sees %d accounts, and %s selects none of them", visible, roster.SettingAccounts))
	}
	return false
}

// permission is what a token needs to ask about scopes of a kind.
func permission(kind bucket.ScopeKind) string {
	if kind == bucket.Account {
		return "Account Analytics Read"
	}
	return "Zone Analytics Read"
}
