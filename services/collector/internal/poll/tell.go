package poll

import (
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
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
	weighed   uint64      // fingerprint of what was last compared with the share
	weighedOf int         // zones that were known then
	scale     float64     // all zones, by those that were known
	waits     bucket.Time // since when settings are still to be asked for; 0: none are
}

// tell brings the problems that the loop knows of up to date. It says what is so
// at the end of a pass, whatever happened in it.
func (r *reporter) tell(claims []roster.Claim) {
	token, unknown, failing := map[string]string{}, map[string]string{}, map[string]string{}
	now := r.trusted.Second()
	r.tellOutstanding(now)
	everything := func(o outage, about, consequence string) {
		switch {
		case o.reason == "":
		case o.reason == ledger.Unauthorized:
			token[about] = "Cloudflare refuses the API token; " + consequence + ": " + o.detail
		case o.reason == ledger.Unknown:
			unknown[about] = "Cloudflare refuses in words that are not recognised; " + consequence + ": " + o.detail
		case now.Sub(o.Since) >= failingFor:
			failing[about] = "Cloudflare does not answer as it should; " + consequence + ": " + o.detail
		}
	}
	everything(r.outage, "", "nothing is collected meanwhile")
	everything(r.listing, "list of zones", "no zone is found that is not known already")
	everything(r.accounts, "list of accounts", "no account is found that is not known already and has no zone")
	asked := map[ledger.Series]bool{} // what failed once and is not asked any more is no problem
	for _, c := range claims {
		if c.Variant != nil && c.Scope.State == roster.Active {
			asked[ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}] = true
		}
	}
	zones, wholly := r.deniedOf(bucket.Zone, asked)
	switch n := r.active(bucket.Zone); { // what is so for all is one problem
	case n > 0 && wholly == n:
		clear(zones)
		token["analytics"] = fmt.Sprintf("the API token may not ask for the analytics of any of the %d zones; it needs %s for them", n, permission(bucket.Zone))
	case n > 1 && len(zones) == n:
		clear(zones)
		zones["all zones"] = fmt.Sprintf("the API token may not ask for some datasets of any of the %d zones; it needs %s for them", n, permission(bucket.Zone))
	}
	accounts, _ := r.deniedOf(bucket.Account, asked)
	if n := r.active(bucket.Account); n > 1 && len(accounts) == n {
		clear(accounts)
		accounts["all accounts"] = fmt.Sprintf("the API token may not ask for datasets of any of the %d accounts; it needs %s for them", n, permission(bucket.Account))
	}
	for of, t := range r.tries {
		switch {
		case !asked[of] || t.reason == "" || t.reason == ledger.Unauthorized || r.outage.reason != "":
		case t.reason != ledger.Unknown && now.Sub(t.Since) >= seriesFailingFor:
			failing[r.nameOf(of.Scope)+" "+of.Dataset] = fmt.Sprintf("the dataset of the %s could not be read, %d times in a row: %s", of.Scope.Kind, t.Failures, t.detail)
		case t.reason == ledger.Unknown && t.alone:
			unknown[r.nameOf(of.Scope)+" "+of.Dataset] = fmt.Sprintf(
				"Cloudflare refuses the dataset of the %s in words that are not recognised, %d times in a row: %s", of.Scope.Kind, t.Failures, t.detail)
		}
	}
	for sc, u := range r.unread {
		who := r.roster[sc]
		if u.refusal == nil || who == nil || who.State != roster.Active || !r.collects(sc.Kind) {
			continue
		}
		about, consequence := r.nameOf(sc)+" settings", "so nothing of it is asked"
		if who.Checked != 0 {
			consequence = "so the last ones are used"
		}
		list, what := failing, "the settings of the "+sc.Kind.String()+" cannot be read, "
		switch {
		case u.refusal.Class == cloudflare.Denied, !u.blamed && r.outage.reason != "":
			continue // told otherwise
		case u.refusal.Class == cloudflare.Unknown:
			list, what = unknown, "Cloudflare refuses the settings of the "+sc.Kind.String()+" in words that are not recognised, "
		case now.Sub(u.Since) < failingFor:
			continue
		}
		if !u.blamed { // others fare alike
			about, what = "settings", "the settings of zones cannot be read, "
		}
		list[about] = what + consequence + ": " + u.refusal.Error()
	}
	r.Trouble.Replace(trouble.TokenRefused, token)
	r.Trouble.Replace(trouble.UnknownRefusal, unknown)
	r.Trouble.Replace(trouble.UpstreamFailing, failing)
	r.Trouble.Replace(trouble.ZoneDenied, zones)
	r.Trouble.Replace(trouble.AccountDenied, accounts)
}

// deniedOf says of each scope of a kind that the token may not ask for something, what,
// and for how many of them it may not ask for anything.
func (r *reporter) deniedOf(kind bucket.ScopeKind, asked map[ledger.Series]bool) (what map[string]string, wholly int) {
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
		if who.Kind != kind || who.State != roster.Active {
			continue
		}
		whole := who.Checked == 0 && r.unread[sc].denied() || refused[sc] > 0 && refused[sc] == all[sc]
		if whole {
			wholly++
			what[r.nameOf(sc)] = fmt.Sprintf("the API token may not ask for the analytics of the %s; it needs %s for it", kind, permission(kind))
		} else if refused[sc] > 0 {
			what[r.nameOf(sc)] = fmt.Sprintf("the API token may not ask for %d of %d datasets of the %s; it needs %s for it", refused[sc], all[sc], kind, permission(kind))
		}
	}
	return what, wholly
}
