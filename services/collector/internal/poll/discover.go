package poll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
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
	*asker
	damaged *damage
	odd     map[string]bool // zones of which a problem with their names is told
}

// discover lists what the credentials see of which it is time, and brings the roster
// up to date. A list that fails changes nothing of what it lists. It returns the
// scopes that are asked with another credential from now on.
func (d *discoverer) discover(ctx context.Context, now bucket.Time) (moved []bucket.Scope, err error) {
	heard := map[*line]bool{}
	for _, l := range d.lines {
		if l.blocked != 0 || now < l.discoverAt {
			continue
		}
		if heard[l], err = d.hear(ctx, now, l); err != nil {
			return nil, err
		}
	}
	for _, l := range d.inDoubt(heard) {
		if heard[l], err = d.hear(ctx, now, l); err != nil {
			return nil, err
		}
	}
	maps.DeleteFunc(heard, func(_ *line, is bool) bool { return !is })
	if len(heard) == 0 {
		return nil, nil
	}
	return d.compare(ctx, now, heard)
}

// hear lists the zones and accounts that a credential sees. false: the list failed, which is
// noted.
func (d *discoverer) hear(ctx context.Context, now bucket.Time, l *line) (bool, error) {
	zones, err := l.Client.Zones(ctx)
	if err != nil {
		l.unlisted = true
		if d.owns(l) {
			l.discoverAt = now.Add(time.Minute)
		}
		l.listing.Begin(now, err, upstream.ReasonOf(err), cloudflareAway, 0)
		return false, d.upstreamFailed(ctx, l, slog.LevelWarn, "list zones", err)
	}
	l.listing, l.outage = upstream.Outage{}, upstream.Outage{}
	l.list.At, l.list.Seen = now, seenOf(zones)
	// An empty list may also mean that the permission is gone (Cloudflare's API does
	// not tell them apart); it ends no scope.
	l.list.Incomplete = len(zones) == 0 && d.known(l, bucket.Zone) > 0
	if d.collects(bucket.Account) {
		l.accounts.At, l.accounts.Seen = now, d.listAccounts(ctx, now, l)
	}
	return true, nil
}

// listAccounts are the accounts that a credential sees: those of the list of accounts,
// and those of the zones. A token that may ask for an account's analytics may be one
// that may not list accounts, and an account need not have a zone. A list that cannot
// be had, or is empty, ends no account: the known ones are among those that are
// returned.
func (d *discoverer) listAccounts(ctx context.Context, now bucket.Time, l *line) (seen []roster.Seen) {
	listed, err := l.Client.Accounts(ctx)
	switch e := (*cloudflare.Error)(nil); {
	case err == nil:
		l.listingAccounts = upstream.Outage{}
	case errors.As(err, &e) && (e.Class == cloudflare.Denied || e.Class == cloudflare.Auth): // which may be meant
		l.listingAccounts = upstream.Outage{}
		d.often.Info(l.about("accounts"), "the API token may not list accounts; those of the listed zones are collected", "credential", l.Name, "err", err)
	default:
		l.listingAccounts.Begin(now, err, upstream.ReasonOf(err), cloudflareAway, 0)
		d.often.Warn(l.about("accounts"), "cannot list accounts at Cloudflare; those of the listed zones are collected, and those that are known", "credential", l.Name, "err", err)
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
	for _, z := range l.list.Seen {
		add(z.AccountID, z.AccountName)
	}
	if len(listed) == 0 {
		for id, sc := range d.roster {
			if id.Kind == bucket.Account && sc.Credential == l.Name && sc.State != roster.Gone {
				add(id.ID, sc.Name)
			}
		}
	}
	return seen
}

// inDoubt are the lines that were not listed in this pass, where a zone is in no newer
// list of its credential: it may have moved to one of them, also since they were last
// listed, or be gone.
func (d *discoverer) inDoubt(heard map[*line]bool) (ask []*line) {
	lacking := map[bucket.Scope]bool{}
	for id, who := range d.roster {
		if l := d.lines.named(who.Credential); id.Kind == bucket.Zone && l != nil && heard[l] && who.Listed() {
			lacking[id] = true
		}
	}
	for l, is := range heard {
		if is {
			for _, z := range l.list.Seen {
				delete(lacking, z.Scope())
			}
		}
	}
	for _, l := range d.lines {
		if _, listed := heard[l]; !listed && l.blocked == 0 && len(lacking) > 0 {
			ask = append(ask, l)
		}
	}
	return ask
}

// compare brings the roster up to date with the lists of all credentials, says what
// of the settings selects nothing, and when to list again.
func (d *discoverer) compare(ctx context.Context, now bucket.Time, heard map[*line]bool) (moved []bucket.Scope, err error) {
	before := make(map[bucket.Scope]string, len(d.roster))
	for id, who := range d.roster {
		before[id] = who.Credential
	}
	changed, seen, err := d.compareKind(ctx, now, bucket.Zone, func(l *line) roster.List { return l.list })
	if err != nil {
		return nil, err
	}
	d.Metrics.visible.WithLabelValues().Set(float64(len(seen)))
	if d.collects(bucket.Account) {
		of, accounts, err := d.compareKind(ctx, now, bucket.Account, func(l *line) roster.List { return l.accounts })
		if err != nil {
			return nil, err
		}
		d.Metrics.visibleAccounts.WithLabelValues().Set(float64(len(accounts)))
		changed, seen = append(changed, of...), append(seen, accounts...)
	}
	for _, sc := range changed {
		if was, known := before[sc.Scope]; known && was != sc.Credential {
			moved = append(moved, sc.Scope)
		}
	}
	zones, accounts := 0, 0
	for _, l := range d.lines {
		ofZones, ofAccounts := d.judge(l), d.judgeAccounts(l)
		zones, accounts = zones+ofZones, accounts+ofAccounts
		if heard[l] {
			d.listAgain(now, l, ofZones, ofAccounts)
		}
	}
	d.Metrics.selected.WithLabelValues().Set(float64(zones))
	if d.collects(bucket.Account) {
		d.Metrics.selectedAccounts.WithLabelValues().Set(float64(accounts))
	}
	if slices.ContainsFunc(d.lines, func(l *line) bool { return !l.list.Incomplete }) {
		d.tellUnmatched(seen)
		d.tellOdd(seen)
	}
	if len(changed) == 0 {
		return nil, nil
	}
	d.tellChanged(ctx, changed)
	if err := d.save(ctx, d.contents, changed); err != nil {
		return nil, err
	}
	d.damaged.rewritten()
	return moved, nil
}

// compareKind brings the scopes of one kind up to date with the lists of all
// credentials, and returns those that changed, and each that is in any list, once.
func (d *discoverer) compareKind(ctx context.Context, now bucket.Time, kind bucket.ScopeKind, of func(*line) roster.List) (changed []*roster.Scope, seen []roster.Seen, err error) {
	lists, all := make([]roster.List, len(d.lines)), map[string]bool{}
	for i, l := range d.lines {
		lists[i] = of(l)
		for _, z := range lists[i].Seen {
			if !all[z.ID] {
				all[z.ID], seen = true, append(seen, z)
			}
		}
	}
	changed, err = d.roster.Discover(ctx, now, kind, lists, d.Lookback, d.newest)
	if err != nil {
		return nil, nil, fmt.Errorf("compare %d %ss with those that are known: %w", len(seen), kind, err)
	}
	return changed, seen, nil
}

// listAgain says when the zones and accounts of a line are listed next.
func (d *discoverer) listAgain(now bucket.Time, l *line, zones, accounts int) {
	l.discoverAt = now.Add(discoverEvery)
	soon := now.Add(min(discoverEvery, discoverSoon*time.Duration(1+len(l.list.Seen)/soonZones)))
	if l.list.Incomplete && d.known(l, bucket.Zone) > 0 { // not all have moved to other credentials
		d.Trouble.Set(trouble.ZonesUnlisted, l.about(""), fmt.Sprintf("Cloudflare lists no zones any more%s; the %d known ones are kept. Does the token still have Zone Read for them?", l.with(), d.known(l, bucket.Zone)))
		l.discoverAt = soon
		return
	}
	d.Trouble.Clear(trouble.ZonesUnlisted, l.about(""))
	l.unmatched = l.Select.Unmatched(slices.Concat(l.list.Seen, l.accounts.Seen))
	if zones == 0 && d.collects(bucket.Zone) || accounts == 0 && d.collects(bucket.Account) || len(l.unmatched) > 0 || l.listingAccounts.Active() {
		l.discoverAt = soon
	}
}

// tellChanged logs the zones and accounts that are new or have changed.
func (d *discoverer) tellChanged(ctx context.Context, changed []*roster.Scope) {
	level := slog.LevelInfo
	if len(changed) > mostNews {
		level = slog.LevelDebug
		d.Logger.Info("many scopes are new or have changed", "scopes", len(changed), "known", len(d.roster))
	}
	for _, sc := range changed {
		if sc.Kind == bucket.Account {
			d.Logger.Log(ctx, level, "account", "account", sc.ID, "name", sc.Name, "label", sc.AccountLabel, "state", sc.State, "credential", sc.Credential)
			continue
		}
		d.Logger.Log(ctx, level, "zone", "zone", sc.ID, "name", sc.Name, "label", sc.ZoneLabel, "account", sc.AccountName, "plan", sc.Plan, "state", sc.State, "credential", sc.Credential)
	}
}

// seenOf is what the roster is to know of zones.
func seenOf(zones []cloudflare.Zone) []roster.Seen {
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
	return seen
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
