package poll

import (
	"context"
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

// hear lists the zones that a credential sees. false: the list failed, which is
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
	l.list.Doubtful = len(zones) == 0 && d.owns(l)
	return true, nil
}

// inDoubt are the lines whose older lists have scopes that newer ones of their
// credentials lack: whether they see them still decides whether the scopes move to
// them or have gone.
func (d *discoverer) inDoubt(heard map[*line]bool) (ask []*line) {
	lacking := map[bucket.Scope]bool{}
	for id, who := range d.roster {
		if l := d.lines.named(who.Credential); l != nil && heard[l] && who.Listed() {
			lacking[id] = true
		}
	}
	for l, is := range heard {
		if is {
			for _, z := range l.list.Seen {
				delete(lacking, bucket.Scope{Kind: bucket.Zone, ID: z.ID})
			}
		}
	}
	for _, l := range d.lines {
		if _, listed := heard[l]; !listed && l.blocked == 0 && slices.ContainsFunc(l.list.Seen, func(z roster.Seen) bool {
			return lacking[bucket.Scope{Kind: bucket.Zone, ID: z.ID}]
		}) {
			ask = append(ask, l)
		}
	}
	return ask
}

// compare brings the roster up to date with the lists of all credentials, says what
// of the settings selects nothing, and when to list again.
func (d *discoverer) compare(ctx context.Context, now bucket.Time, heard map[*line]bool) (moved []bucket.Scope, err error) {
	lists, seen, all := make([]roster.List, len(d.lines)), []roster.Seen(nil), map[string]bool{}
	for i, l := range d.lines {
		lists[i] = l.list
		for _, z := range l.list.Seen {
			if !all[z.ID] {
				all[z.ID], seen = true, append(seen, z)
			}
		}
	}
	d.Metrics.visible.WithLabelValues().Set(float64(len(seen)))
	before := make(map[bucket.Scope]string, len(d.roster))
	for id, who := range d.roster {
		before[id] = who.Credential
	}
	changed, err := d.roster.Discover(ctx, now, lists, d.Lookback, d.newest)
	if err != nil {
		return nil, fmt.Errorf("compare %d zones with those that are known: %w", len(seen), err)
	}
	for _, sc := range changed {
		if was, known := before[sc.Scope]; known && was != sc.Credential {
			moved = append(moved, sc.Scope)
		}
	}
	collected := 0
	for _, l := range d.lines {
		n := d.judge(l)
		collected += n
		if heard[l] {
			d.listAgain(now, l, n)
		}
	}
	d.Metrics.selected.WithLabelValues().Set(float64(collected))
	if slices.ContainsFunc(d.lines, func(l *line) bool { return !l.list.Doubtful }) {
		d.tellUnmatched(seen)
		d.tellOdd(seen)
	}
	if len(changed) == 0 {
		return nil, nil
	}
	d.tellChanged(ctx, changed, len(seen))
	if err := d.save(ctx, d.contents, changed); err != nil {
		return nil, err
	}
	d.damaged.rewritten()
	return moved, nil
}

// listAgain says when the zones of a line are listed next.
func (d *discoverer) listAgain(now bucket.Time, l *line, collected int) {
	visible := len(l.list.Seen)
	if l.list.Doubtful {
		known := 0
		for _, who := range d.roster {
			if who.Credential == l.Name {
				known++
			}
		}
		d.Trouble.Set(trouble.ZonesUnlisted, l.about(""), fmt.Sprintf("Cloudflare lists no zones any more%s; the %d known ones are kept. Does the token still have Zone Read for them?", l.with(), known))
		l.discoverAt = now.Add(discoverSoon)
		return
	}
	d.Trouble.Clear(trouble.ZonesUnlisted, l.about(""))
	l.unmatched = l.Select.Unmatched(l.list.Seen)
	l.discoverAt = now.Add(discoverEvery)
	if collected == 0 || len(l.unmatched) > 0 {
		l.discoverAt = now.Add(min(discoverEvery, discoverSoon*time.Duration(1+visible/soonZones)))
	}
}

// tellChanged logs the zones that are new or have changed.
func (d *discoverer) tellChanged(ctx context.Context, changed []*roster.Scope, visible int) {
	level := slog.LevelInfo
	if len(changed) > mostNews {
		level = slog.LevelDebug
		d.Logger.Info("many zones are new or have changed", "zones", len(changed), "visible", visible)
	}
	for _, sc := range changed {
		d.Logger.Log(ctx, level, "zone", "zone", sc.ID, "name", sc.Name, "label", sc.ZoneLabel, "account", sc.AccountName, "plan", sc.Plan, "state", sc.State, "credential", sc.Credential)
	}
}

// seenOf is what the roster is to know of zones.
func seenOf(zones []cloudflare.Zone) []roster.Seen {
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
