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
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// Intervals of listing zones and accounts.
const (
	discoverEvery = time.Hour // Cloudflare's own exporters refresh zones about as often
	// discoverSoon applies if the list, or the selection from it, looks wrong: an operator is
	// probably about to fix it and waits for the effect.
	discoverSoon = 5 * time.Minute
	// soonZones is the number of zones that are listed every discoverSoon: 20 requests to the
	// REST API, which allows 1,200 in that time. More zones are listed less often.
	soonZones = 1000
	// mostNews is the number of changes that are logged one by one.
	mostNews = 20
)

// accountsAway is when zones and accounts are listed again after the list of accounts failed.
// Where others use up the user's limit of calls, each attempt blocks the user for minutes.
// Half of a pause is waited.
var accountsAway = backoff.Pauses{First: 2 * discoverSoon, Most: 2 * discoverEvery}

// discoverer lists zones and accounts, and updates the roster.
type discoverer struct {
	*env
	books      *books
	lines      lines
	lookback   time.Duration
	unreadable *unreadable.Register
	failed     func(ctx context.Context, l *line, level slog.Level, what string, err error) error
	save       func(context.Context, *roster.Contents, []*roster.Scope) error
	accept     func(ctx context.Context, now bucket.Time) error

	damaged []store.Unreadable // records of scopes that cannot be read
	odd     map[string]bool    // zones with a problem of their names on the board
}

// discover lists what the credentials that are due see, and updates the roster. A list that
// fails changes nothing of its kind. It returns the scopes that moved to another credential.
func (d *discoverer) discover(ctx context.Context, now bucket.Time) (moved []bucket.Scope, err error) {
	fresh := map[*line]bool{}
	for _, l := range d.lines {
		if l.blocked != 0 || now < l.discoverAt {
			continue
		}
		if fresh[l], err = d.list(ctx, now, l); err != nil {
			return nil, err
		}
	}
	for _, l := range d.inDoubt(fresh) {
		if fresh[l], err = d.list(ctx, now, l); err != nil {
			return nil, err
		}
	}
	maps.DeleteFunc(fresh, func(_ *line, is bool) bool { return !is })
	if len(fresh) == 0 {
		return nil, nil
	}
	if err := d.accept(ctx, now); err != nil {
		return nil, err
	}
	return d.compare(ctx, now, fresh)
}

// list lists the zones and accounts that a credential sees. It returns false if the list
// failed, which is recorded.
func (d *discoverer) list(ctx context.Context, now bucket.Time, l *line) (bool, error) {
	zones, err := l.Client.Zones(ctx)
	if err != nil {
		l.unlisted = true
		switch {
		case !d.books.owns(l):
		case l.outage.Active(): // requests for known zones find out when it ends
			l.discoverAt = now.Add(discoverSoon)
		default:
			l.discoverAt = now.Add(time.Minute)
		}
		l.listing.Begin(now, err, upstream.ReasonOf(err), cloudflareAway, 0)
		return false, d.failed(ctx, l, slog.LevelWarn, "list zones", err)
	}
	l.listing = upstream.Outage{}
	if l.outage.Reason == ledger.Unauthorized || !d.books.owns(l) { // otherwise requests for known zones find out
		l.outage = upstream.Outage{}
	}
	l.list.At, l.list.Seen = now, seenOf(zones)
	// An empty list may also mean that the permission was removed (Cloudflare's API
	// does not distinguish them); it ends no scope.
	l.list.Incomplete = len(zones) == 0 && d.books.known(l, bucket.Zone) > 0
	if d.collects(bucket.Account) {
		l.accounts.At, l.accounts.Seen = now, d.listAccounts(ctx, now, l)
	}
	return true, nil
}

// listAccounts are the accounts that a credential sees: those of the list of accounts, and
// those of the zones. A token with access to an account's analytics may lack the permission to
// list accounts, and an account need not have a zone. A list that fails or is empty ends no
// account: the known accounts are returned as well.
func (d *discoverer) listAccounts(ctx context.Context, now bucket.Time, l *line) (seen []roster.Seen) {
	listed, err := l.Client.Accounts(ctx)
	switch e := (*cloudflare.Error)(nil); {
	case err == nil:
		l.listingAccounts = upstream.Outage{}
	case errors.As(err, &e) && (e.Class == cloudflare.Denied || e.Class == cloudflare.Auth): // may be intended
		l.listingAccounts = upstream.Outage{}
		d.quiet.Info(l.about("accounts"), "the API token may not list accounts; those of the listed zones are collected", "credential", l.Name, "err", err)
	default:
		l.listingAccounts.Begin(now, err, upstream.ReasonOf(err), accountsAway, 0)
		d.quiet.Warn(l.about("accounts"), "cannot list accounts at Cloudflare; those of the listed zones and the known ones are collected", "credential", l.Name, "err", err)
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
		for id, sc := range d.books.roster {
			if id.Kind == bucket.Account && sc.Credential == l.Name && sc.State != roster.Gone {
				add(id.ID, sc.Name)
			}
		}
	}
	return seen
}

// inDoubt are the lines that were not listed in this pass although a zone is missing from the
// new list of its credential: the zone may have moved to one of these lines, or be gone.
func (d *discoverer) inDoubt(fresh map[*line]bool) (ask []*line) {
	lacking := map[bucket.Scope]bool{}
	for id, who := range d.books.roster {
		if l := d.lines.named(who.Credential); id.Kind == bucket.Zone && l != nil && fresh[l] && who.Listed() {
			lacking[id] = true
		}
	}
	for l, is := range fresh {
		if is {
			for _, z := range l.list.Seen {
				delete(lacking, z.Scope())
			}
		}
	}
	for _, l := range d.lines {
		if _, listed := fresh[l]; !listed && l.blocked == 0 && len(lacking) > 0 {
			ask = append(ask, l)
		}
	}
	return ask
}

// compare updates the roster from the lists of all credentials, reports settings that select
// nothing, and sets when to list again.
func (d *discoverer) compare(ctx context.Context, now bucket.Time, fresh map[*line]bool) (moved []bucket.Scope, err error) {
	before := make(map[bucket.Scope]string, len(d.books.roster))
	for id, who := range d.books.roster {
		before[id] = who.Credential
	}
	changed, seen, err := d.compareKind(ctx, now, bucket.Zone, func(l *line) roster.List { return l.list })
	if err != nil {
		return nil, err
	}
	d.metrics.visible.WithLabelValues().Set(float64(len(seen)))
	if d.collects(bucket.Account) {
		of, accounts, err := d.compareKind(ctx, now, bucket.Account, func(l *line) roster.List { return l.accounts })
		if err != nil {
			return nil, err
		}
		d.metrics.visibleAccounts.WithLabelValues().Set(float64(len(accounts)))
		changed, seen = append(changed, of...), append(seen, accounts...)
	}
	for _, sc := range changed {
		if was, known := before[sc.Scope]; known && was != sc.Credential {
			moved = append(moved, sc.Scope)
		}
	}
	zones, accounts := 0, 0
	for _, l := range d.lines {
		ofZones, ofAccounts := d.checkZones(l), d.checkAccounts(l)
		zones, accounts = zones+ofZones, accounts+ofAccounts
		if fresh[l] {
			d.listAgain(now, l, ofZones, ofAccounts)
		}
	}
	d.metrics.selected.WithLabelValues().Set(float64(zones))
	if d.collects(bucket.Account) {
		d.metrics.selectedAccounts.WithLabelValues().Set(float64(accounts))
	}
	if slices.ContainsFunc(d.lines, func(l *line) bool { return !l.list.Incomplete }) {
		d.reportUnmatched(seen)
		d.reportOdd(seen)
	}
	if len(changed) == 0 {
		return nil, nil
	}
	d.logChanged(ctx, changed)
	if err := d.save(ctx, d.books.contents, changed); err != nil {
		return nil, err
	}
	d.rewritten()
	return moved, nil
}

// compareKind updates the scopes of one kind from the lists of all credentials. It returns
// those that changed, and everything that is in any list, once.
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
	changed, err = d.books.roster.Discover(ctx, now, kind, lists, d.lookback, d.newest)
	if err != nil {
		return nil, nil, fmt.Errorf("compare %d %ss with the known ones: %w", len(seen), kind, err)
	}
	return changed, seen, nil
}

// listAgain sets when the zones and accounts of a line are listed next.
func (d *discoverer) listAgain(now bucket.Time, l *line, zones, accounts int) {
	l.discoverAt = now.Add(discoverEvery)
	soon := now.Add(min(discoverEvery, discoverSoon*time.Duration(1+len(l.list.Seen)/soonZones)))
	if l.list.Incomplete && d.books.known(l, bucket.Zone) > 0 { // not all have moved to other credentials
		d.trouble.Set(trouble.ZonesUnlisted, l.about(""), fmt.Sprintf("Cloudflare lists no zones any more%s; the %d known ones are kept. Does the token still have Zone Read for them?", l.with(), d.books.known(l, bucket.Zone)))
		l.discoverAt = soon
		return
	}
	d.trouble.Clear(trouble.ZonesUnlisted, l.about(""))
	l.unmatched = l.Select.Unmatched(slices.Concat(l.list.Seen, l.accounts.Seen))
	if zones == 0 && d.collects(bucket.Zone) || accounts == 0 && d.collects(bucket.Account) || len(l.unmatched) > 0 {
		l.discoverAt = soon
	}
	if l.listingAccounts.Active() {
		l.discoverAt = min(l.discoverAt, l.listingAccounts.Next)
	}
}

// logChanged logs the zones and accounts that are new or have changed.
func (d *discoverer) logChanged(ctx context.Context, changed []*roster.Scope) {
	level := slog.LevelInfo
	if len(changed) > mostNews {
		level = slog.LevelDebug
		d.log.Info("many scopes are new or have changed", "scopes", len(changed), "known", len(d.books.roster))
	}
	for _, sc := range changed {
		if sc.Kind == bucket.Account {
			d.log.Log(ctx, level, "account", "account", sc.ID, "name", sc.Name, "label", sc.AccountLabel, "state", sc.State, "credential", sc.Credential)
			continue
		}
		d.log.Log(ctx, level, "zone", "zone", sc.ID, "name", sc.Name, "label", sc.ZoneLabel, "account", sc.AccountName, "plan", sc.Plan, "state", sc.State, "credential", sc.Credential)
	}
}

// seenOf converts zones for the roster.
func seenOf(zones []cloudflare.Zone) []roster.Seen {
	seen := make([]roster.Seen, len(zones))
	for i, z := range zones {
		seen[i] = roster.Seen{
			Kind: bucket.Zone, ID: z.ID, Name: z.Name, AccountID: z.Account.ID, AccountName: z.Account.Name, Plan: z.Plan.Name,
			State: stateOf(&z), Malformed: z.Malformed,
		}
		if !z.Created.IsZero() {
			seen[i].Created = bucket.TimeOf(z.Created)
		}
	}
	return seen
}

// stateOf is the state of a zone, from the words of Cloudflare.
func stateOf(z *cloudflare.Zone) roster.State {
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

// newest is the end of the newest stored window of a scope; 0 if there is none.
func (d *discoverer) newest(of bucket.Scope) (end bucket.Time) {
	for i := range d.catalogue.Datasets {
		end = max(end, d.books.coverage.Newest(ledger.Series{Dataset: d.catalogue.Datasets[i].Dataset, Scope: of}))
	}
	return end
}

// rewritten removes scopes from the damaged ones that have been found again.
func (d *discoverer) rewritten() {
	if len(d.damaged) == 0 {
		return
	}
	known := make(map[string]bool, len(d.books.roster))
	for _, sc := range d.books.roster {
		known[sc.Key()] = true
	}
	d.damaged = slices.DeleteFunc(d.damaged, func(u store.Unreadable) bool { return known[u.Key] })
	for _, kind := range []string{roster.KindScope, roster.KindAccount} {
		d.unreadable.Records(kind, roster.Of(kind, d.damaged))
	}
}
