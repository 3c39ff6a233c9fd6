package poll

import (
	"fmt"
	"maps"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// How long Cloudflare may fail before it is a problem: altogether, and for one
// dataset of one zone, which is tried after pauses.
const (
	failingFor       = 2 * time.Minute
	seriesFailingFor = 4 * time.Minute
)

// reporter tells how the term fares: problems, gauges, and whether the share is
// enough.
type reporter struct {
	*Poller
	*faults
	*books
	*settings
	*discoverer
	users []*user
}

// tell brings the problems that the loop knows of up to date. It says what is so
// at the end of a pass, whatever happened in it.
func (r *reporter) tell(claims []roster.Claim) {
	token, unknown, failing := map[string]string{}, map[string]string{}, map[string]string{}
	now := r.trusted.Second()
	r.tellOutstanding(now)
	everything := func(l *line, o *upstream.Outage, about, consequence string) {
		switch {
		case !o.Active():
		case o.Reason == ledger.Unauthorized:
			token[l.about(about)] = "Cloudflare refuses " + l.token() + "; " + consequence + ": " + o.Detail
		case o.Reason == ledger.Unknown:
			unknown[l.about(about)] = "Cloudflare refuses in words that are not recognised; " + consequence + ": " + o.Detail
		case now.Sub(o.Since) >= failingFor:
			failing[l.about(about)] = "Cloudflare does not answer as it should; " + consequence + ": " + o.Detail
		}
	}
	asked := map[ledger.Series]bool{} // what failed once and is not asked any more is no problem
	for _, c := range claims {
		if c.Variant != nil && c.Scope.State == roster.Active {
			asked[ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}] = true
		}
	}
	zones, accounts := map[string]string{}, map[string]string{}
	for _, l := range r.lines {
		everything(l, &l.outage, "", "nothing is collected"+l.with()+" meanwhile")
		everything(l, &l.listing, "list of zones", "no zone is found"+l.with()+" that is not known already")
		everything(l, &l.listingAccounts, "list of accounts", "no account is found"+l.with()+" that is not known already and has no zone")
		ofZones, wholly := r.deniedOf(l, bucket.Zone, asked)
		switch n := r.active(l, bucket.Zone); { // what is so for all is one problem
		case n > 0 && wholly == n:
			clear(ofZones)
			token[l.about("analytics")] = fmt.Sprintf("%s may not ask for the analytics of any of the %d zones; it needs %s for them", l.token(), n, permission(bucket.Zone))
		case n > 1 && len(ofZones) == n:
			clear(ofZones)
			ofZones[l.about("all zones")] = fmt.Sprintf("%s may not ask for some datasets of any of the %d zones; it needs %s for them", l.token(), n, permission(bucket.Zone))
		}
		ofAccounts, _ := r.deniedOf(l, bucket.Account, asked)
		if n := r.active(l, bucket.Account); n > 1 && len(ofAccounts) == n {
			clear(ofAccounts)
			ofAccounts[l.about("all accounts")] = fmt.Sprintf("%s may not ask for datasets of any of the %d accounts; it needs %s for them", l.token(), n, permission(bucket.Account))
		}
		maps.Copy(zones, ofZones)
		maps.Copy(accounts, ofAccounts)
	}
	for of, t := range r.tries {
		_, out := r.out(of.Scope)
		switch {
		case !asked[of] || t.reason == "" || t.reason == ledger.Unauthorized || out:
		case t.reason != ledger.Unknown && now.Sub(t.Since) >= seriesFailingFor:
			failing[r.nameOf(of.Scope)+" "+of.Dataset] = fmt.Sprintf("the dataset of the %s could not be read, %d times in a row: %s", of.Scope.Kind, t.Failures, t.detail)
		case t.reason == ledger.Unknown && t.alone:
			unknown[r.nameOf(of.Scope)+" "+of.Dataset] = fmt.Sprintf(
				"Cloudflare refuses the dataset of the %s in words that are not recognised, %d times in a row: %s", of.Scope.Kind, t.Failures, t.detail)
		}
	}
	for sc, u := range r.unread {
		who := r.roster[sc]
		if u.refusal == nil || who == nil || who.State != roster.Active || r.lineOf(sc) == nil || !r.collects(sc.Kind) {
			continue
		}
		_, out := r.out(sc)
		about, consequence := r.nameOf(sc)+" settings", "so nothing of it is asked"
		if who.Checked != 0 {
			consequence = "so the last ones are used"
		}
		list, what := failing, "the settings of the "+sc.Kind.String()+" cannot be read, "
		switch {
		case u.refusal.Class == cloudflare.Denied, !u.blamed && out:
			continue // told otherwise
		case u.refusal.Class == cloudflare.Unknown:
			list, what = unknown, "Cloudflare refuses the settings of the "+sc.Kind.String()+" in words that are not recognised, "
		case now.Sub(u.Since) < failingFor:
			continue
		}
		if !u.blamed { // others fare alike
			about, what = r.lines.named(who.Credential).about("settings"), "the settings of zones cannot be read, "
		}
		list[about] = what + consequence + ": " + u.refusal.Error()
	}
	r.Trouble.Replace(trouble.TokenRefused, token)
	r.Trouble.Replace(trouble.UnknownRefusal, unknown)
	r.Trouble.Replace(trouble.UpstreamFailing, failing)
	r.Trouble.Replace(trouble.ZoneDenied, zones)
	r.Trouble.Replace(trouble.AccountDenied, accounts)
}

// deniedOf says of each scope of a line and a kind that its token may not ask for
// something, what, and for how many of them it may not ask for anything.
func (r *reporter) deniedOf(l *line, kind bucket.ScopeKind, asked map[ledger.Series]bool) (what map[string]string, wholly int) {
	what = map[string]string{}
	if !r.collects(kind) {
		return what, 0
	}
	all, refused := map[bucket.Scope]int{}, map[bucket.Scope]int{}
	for of := range asked {
		all[of.Scope]++
		if r.denied(of) && r.tries[of].alone {
			refused[of.Scope]++
		}
	}
	for sc, who := range r.roster {
		if who.Kind != kind || who.State != roster.Active || who.Credential != l.Name {
			continue
		}
		whole := who.Checked == 0 && r.unread[sc].denied() || refused[sc] > 0 && refused[sc] == all[sc]
		if whole {
			wholly++
			what[r.nameOf(sc)] = fmt.Sprintf("%s may not ask for the analytics of the %s; it needs %s for it", l.token(), kind, permission(kind))
		} else if refused[sc] > 0 {
			what[r.nameOf(sc)] = fmt.Sprintf("%s may not ask for %d of %d datasets of the %s; it needs %s for it", l.token(), refused[sc], all[sc], kind, permission(kind))
		}
	}
	return what, wholly
}
