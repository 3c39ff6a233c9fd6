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

// How long Cloudflare may fail before it is a problem: as a whole, and for one dataset of
// one zone, which is retried with a back-off.
const (
	failingFor       = 2 * time.Minute
	seriesFailingFor = 4 * time.Minute
)

// reporter reports the state of the term: problems, gauges, and whether the share is enough.
type reporter struct {
	*env
	faults   *faults
	books    *books
	settings *settings
	lines    lines
	users    []*user
	changes  *transitions
	interval time.Duration   // longest pause between passes
	unusable map[string]bool // datasets that nobody may request; see reportUnusable
}

// reportProblems updates the problems that the loop knows of to the state at the end of a pass.
func (r *reporter) reportProblems(claims []roster.Claim) {
	token, unknown, failing := map[string]string{}, map[string]string{}, map[string]string{}
	now := r.trusted.Second()
	r.reportOutstanding(now)
	everything := func(l *line, o *upstream.Outage, about, consequence string) {
		switch {
		case !o.Active():
		case o.Reason == ledger.Unauthorized:
			token[l.about(about)] = "Cloudflare refuses " + l.token() + "; " + consequence + ": " + o.Detail
		case o.Reason == ledger.Unknown:
			unknown[l.about(about)] = "Cloudflare refuses requests, and the reason that it gives is not known or cannot be believed; " + consequence + ": " + o.Detail
		case now.Sub(o.Since) >= failingFor:
			failing[l.about(about)] = "requests to Cloudflare fail; " + consequence + ": " + o.Detail
		}
	}
	asked := map[ledger.Series]bool{} // a series that is no longer requested is no problem
	for _, c := range claims {
		if c.Variant != nil && c.Scope.State == roster.Active {
			asked[ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}] = true
		}
	}
	zones, accounts := map[string]string{}, map[string]string{}
	for _, l := range r.lines {
		everything(l, &l.outage, "", "nothing is collected"+l.with()+" meanwhile")
		everything(l, &l.listing, "list of zones", "no new zone is found"+l.with())
		everything(l, &l.listingAccounts, "list of accounts", "no new account without a zone is found"+l.with())
		ofZones, wholly := r.deniedOf(l, bucket.Zone, asked)
		switch n := r.books.active(l, bucket.Zone); { // if it holds for all zones, it is one problem
		case n > 0 && wholly == n:
			clear(ofZones)
			token[l.about("analytics")] = fmt.Sprintf("%s has no access to the analytics of any of the %d zones; it needs %s for them", l.token(), n, permission(bucket.Zone))
		case n > 1 && len(ofZones) == n:
			clear(ofZones)
			ofZones[l.about("all zones")] = fmt.Sprintf("%s has no access to some datasets of any of the %d zones; it needs %s for them", l.token(), n, permission(bucket.Zone))
		}
		ofAccounts, _ := r.deniedOf(l, bucket.Account, asked)
		if n := r.books.active(l, bucket.Account); n > 1 && len(ofAccounts) == n {
			clear(ofAccounts)
			ofAccounts[l.about("all accounts")] = fmt.Sprintf("%s has no access to datasets of any of the %d accounts; it needs %s for them", l.token(), n, permission(bucket.Account))
		}
		maps.Copy(zones, ofZones)
		maps.Copy(accounts, ofAccounts)
	}
	for of, t := range r.faults.tries {
		_, out := r.books.out(of.Scope)
		switch {
		case !asked[of] || t.reason == "" || t.reason == ledger.Unauthorized || out || !r.books.lacks(of):
		case t.reason != ledger.Unknown && now.Sub(t.Since) >= seriesFailingFor:
			failing[r.books.nameOf(of.Scope)+" "+of.Dataset] = fmt.Sprintf("the dataset of the %s could not be read (failures in a row: %d): %s", of.Scope.Kind, t.Failures, t.detail)
		case t.reason == ledger.Unknown && t.alone:
			unknown[r.books.nameOf(of.Scope)+" "+of.Dataset] = fmt.Sprintf(
				"Cloudflare refuses the dataset of the %s with an unrecognised error (failures in a row: %d): %s", of.Scope.Kind, t.Failures, t.detail)
		}
	}
	for sc, u := range r.settings.unread {
		who := r.books.roster[sc]
		if u.refusal == nil || who == nil || who.State != roster.Active || r.books.lineOf(sc) == nil || !r.collects(sc.Kind) {
			continue
		}
		_, out := r.books.out(sc)
		about, consequence := r.books.nameOf(sc)+" settings", "so no data of it is requested"
		if who.Checked != 0 {
			consequence = "so the last ones are used"
		}
		list, what := failing, "the settings of the "+sc.Kind.String()+" cannot be read, "
		switch {
		case u.refusal.Class == cloudflare.Denied, !u.blamed && out:
			continue // reported elsewhere
		case u.refusal.Class == cloudflare.Unknown:
			list, what = unknown, "Cloudflare refuses the settings of the "+sc.Kind.String()+" with an unrecognised error, "
		case now.Sub(u.Since) < failingFor:
			continue
		}
		if !u.blamed { // others fail too
			about, what = r.lines.named(who.Credential).about("settings"), "the settings of zones cannot be read, "
		}
		list[about] = what + consequence + ": " + u.refusal.Error()
	}
	r.reportUnusable(claims)
	r.trouble.Replace(trouble.TokenRefused, token)
	r.trouble.Replace(trouble.UnknownRefusal, unknown)
	r.trouble.Replace(trouble.UpstreamFailing, failing)
	r.trouble.Replace(trouble.ZoneDenied, zones)
	r.trouble.Replace(trouble.AccountDenied, accounts)
}

// reportUnusable reports datasets of the user's file that no active zone or account may request.
// Settings name what a plan allows and not what exists, so a name that is misspelt looks like a
// plan without it. A built-in dataset has names that exist.
func (r *reporter) reportUnusable(claims []roster.Claim) {
	reason, usable := map[string]string{}, map[string]bool{}
	for i := range claims {
		switch c := &claims[i]; {
		case !c.Dataset.Own || c.Scope.State != roster.Active:
		case c.Variant != nil || c.Unread:
			usable[c.Dataset.Dataset] = true
		default:
			reason[c.Dataset.Dataset] = c.Refused
		}
	}
	now := map[string]bool{}
	for dataset, why := range reason {
		if !usable[dataset] {
			now[dataset] = true
			r.trouble.Set(trouble.DatasetDisabled, dataset, "nobody whose data is collected may request the dataset of the catalogue file: "+why+". Either no plan has it, or Cloudflare has no such name")
		}
	}
	for dataset := range r.unusable {
		if !now[dataset] && r.faults.off[dataset] == nil {
			r.trouble.Clear(trouble.DatasetDisabled, dataset)
		}
	}
	r.unusable = now
}

// deniedOf describes, for each scope of a line and a kind, what its token has no access to, and
// counts those to which it has no access at all.
func (r *reporter) deniedOf(l *line, kind bucket.ScopeKind, asked map[ledger.Series]bool) (what map[string]string, wholly int) {
	what = map[string]string{}
	if !r.collects(kind) {
		return what, 0
	}
	all, refused := map[bucket.Scope]int{}, map[bucket.Scope]int{}
	for of := range asked {
		all[of.Scope]++
		if r.faults.denied(of) && r.faults.tries[of].alone {
			refused[of.Scope]++
		}
	}
	for sc, who := range r.books.roster {
		if who.Kind != kind || who.State != roster.Active || who.Credential != l.Name {
			continue
		}
		whole := who.Checked == 0 && r.settings.unread[sc].denied() || refused[sc] > 0 && refused[sc] == all[sc]
		if whole {
			wholly++
			what[r.books.nameOf(sc)] = fmt.Sprintf("%s has no access to the analytics of the %s; it needs %s for it", l.token(), kind, permission(kind))
		} else if refused[sc] > 0 {
			what[r.books.nameOf(sc)] = fmt.Sprintf("%s has no access to %d of %d datasets of the %s; it needs %s for it", l.token(), refused[sc], all[sc], kind, permission(kind))
		}
	}
	return what, wholly
}
