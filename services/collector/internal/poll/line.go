package poll

import (
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// line is a credential in one term: what fails with it as a whole, and when it may
// be used again. What one line waits for, no other does.
type line struct {
	*upstream.Credential
	group int  // of [plan.Want]
	alone bool // it is the only one, so that nobody need be told which it is

	outage  upstream.Outage // nothing can be asked
	blocked bucket.Time     // nothing may be sent before, as this pass has found; 0: something may

	discoverAt bucket.Time
	listing    upstream.Outage // of the list of zones alone
	unlisted   bool            // the list failed in this pass, which so has nothing to read settings of
	list       roster.List     // of zones, as last heard
	// accounts are listed where any dataset is about accounts.
	accounts        roster.List
	listingAccounts upstream.Outage
	unmatched       []roster.Unmatched

	urgent   list     // settings to be read in this pass, less those of scopes to blame apart
	turns    int      // requests for settings that may be sent before one for data has to be
	refusals refusals // of variants, by answers
}

// lines are those of all credentials, in the order of the configuration.
type lines []*line

func newLines(credentials []upstream.Credential) (all lines) {
	for i := range credentials {
		c := &credentials[i]
		all = append(all, &line{
			Credential: c, group: i, alone: len(credentials) == 1, turns: settingsAtOnce,
			list: roster.List{Credential: c.Name, Select: c.Select}, accounts: roster.List{Credential: c.Name, Select: c.Select},
		})
	}
	return all
}

// named is the line of a credential; nil where it is not configured any more.
func (all lines) named(credential string) *line {
	for _, l := range all {
		if l.Name == credential {
			return l
		}
	}
	return nil
}

// about is what a problem is about: with several lines, also which it is.
func (l *line) about(what string) string {
	if l.alone {
		return what
	}
	return strings.TrimSpace(l.Name + " " + what)
}

// with says by which credential something is done, where there are several.
func (l *line) with() string {
	if l.alone {
		return ""
	}
	return " with credential " + l.Name
}

// token is what problems call the token.
func (l *line) token() string {
	if l.alone {
		return "the API token"
	}
	return "the API token of credential " + l.Name
}

// away notes that nothing can be asked at the moment, and until when.
func (f *faults) away(l *line, e *cloudflare.Error, reason ledger.Reason, p backoff.Pauses) {
	l.outage.Begin(f.trusted.Second(), e, reason, p, f.rng.Float64())
	l.blocked = l.outage.Next
}

// lineOf is the line by which a scope is asked; nil where its credential is not
// configured any more.
func (b *books) lineOf(sc bucket.Scope) *line {
	who := b.roster[sc]
	if who == nil {
		return nil
	}
	return b.lines.named(who.Credential)
}

// out reports whether nothing can be asked of a scope, and why.
func (b *books) out(sc bucket.Scope) (upstream.Outage, bool) {
	l := b.lineOf(sc)
	if l == nil || !l.outage.Active() {
		return upstream.Outage{}, false
	}
	return l.outage, true
}

// known is how many scopes of a kind are a line's.
func (b *books) known(l *line, kind bucket.ScopeKind) (n int) {
	for id, who := range b.roster {
		if id.Kind == kind && who.Credential == l.Name {
			n++
		}
	}
	return n
}

// owns reports whether any scope is asked by a line.
func (b *books) owns(l *line) bool { return b.known(l, bucket.Zone)+b.known(l, bucket.Account) > 0 }

// recovered ends an outage. What failed in it and was not tried since has failed for
// no longer than from now.
func (b *books) recovered(l *line) {
	if l.outage.Active() {
		now := b.trusted.Second()
		for of, t := range b.tries {
			if !t.alone && b.lineOf(of.Scope) == l {
				t.Since = now
			}
		}
	}
	l.outage = upstream.Outage{}
}
