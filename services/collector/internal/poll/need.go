package poll

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// span is the time that the need and the share refer to: that of Cloudflare's limit.
const span = 5 * time.Minute

// settingsLate is how long settings may remain unread before it is a problem.
const settingsLate = 10 * time.Minute

// tally counts scopes by kind.
type tally map[bucket.ScopeKind]int

func (t tally) all() int { return t[bucket.Zone] + t[bucket.Account] }

// outstanding counts a user's scopes whose settings were never read, and those whose settings
// are known. Scopes whose settings could not be read are in neither.
func (r *reporter) outstanding(u *user) (waiting, known tally) {
	waiting, known = tally{}, tally{}
	for id, sc := range r.books.roster {
		switch {
		case sc.State != roster.Active || !u.has(sc) || !r.asksAnalytics(sc.Kind):
		case sc.Checked != 0:
			known[sc.Kind]++
		case r.settings.unread[id] == nil:
			waiting[sc.Kind]++
		}
	}
	return waiting, known
}

// asks is the number of documents that request the settings of so many scopes.
func (s *settings) asks(of tally) (n int) {
	for _, kind := range []bucket.ScopeKind{bucket.Zone, bucket.Account} {
		n += plan.Asks(kind, of[kind], len(s.nodes(kind)), s.ceilings)
	}
	return n
}

// reportOutstanding reports settings that have been unread for long.
func (r *reporter) reportOutstanding(now bucket.Time) {
	all := 0
	for _, u := range r.users {
		all += r.reportWaiting(now, u)
	}
	r.metrics.unread.WithLabelValues().Set(float64(all))
}

func (r *reporter) reportWaiting(now bucket.Time, u *user) int {
	outstanding, read := r.outstanding(u)
	waiting, known := outstanding.all(), read.all()
	switch {
	case waiting == 0:
		u.waits = 0
	case u.waits == 0:
		u.waits = now
	}
	if waiting == 0 || now.Sub(u.waits) < settingsLate {
		r.trouble.Clear(trouble.BudgetShort, u.about(aboutSettings))
		return waiting
	}
	share, _ := u.lines[0].Budget.Share()
	left := span * time.Duration(r.settings.asks(outstanding)) / time.Duration(max(1, share))
	what := "zones"
	if r.collects(bucket.Account) {
		what = "zones and accounts"
	}
	r.trouble.Set(trouble.BudgetShort, u.about(aboutSettings), fmt.Sprintf(
		"the settings of %d of %d %s have not been read yet, so nothing of these is collected; at the share of %d requests in five minutes it takes %s at least. A larger %s shortens it",
		waiting, waiting+known, what, share, left.Round(time.Minute), u.setting("WEIR_BUDGET_SHARE", "share")))
	return waiting
}

const aboutSettings = "settings"

// weigh compares the need of what is selected with the shares of all users.
func (r *reporter) weigh(now bucket.Time, claims []roster.Claim) {
	for _, u := range r.users {
		r.weighUser(now, u, claims)
	}
}

// weighUser compares the need of a user with its share, when either has changed: planning an
// hour ahead takes seconds for a thousand zones. Zones whose settings are still unread are
// assumed to need as much as the others; this is computed when reading takes long, and again
// when twice as many zones are known.
func (r *reporter) weighUser(now bucket.Time, u *user, claims []roster.Claim) {
	outstanding, read := r.outstanding(u)
	waiting, known := outstanding.all(), read.all()
	if waiting > 0 && (u.waits == 0 || now.Sub(u.waits) < settingsLate || known < max(1, 2*u.weighedOf)) {
		return
	}
	u.weighedOf, u.scale = known, 1
	if waiting > 0 {
		u.scale = float64(waiting+known) / float64(known)
	}
	share, limit := u.lines[0].Budget.Share()
	wants := r.steadyWants(u, claims)
	selected := fingerprint(wants, share)
	if selected == u.weighed {
		return
	}
	u.weighed = selected
	need := r.need(u, wants)
	r.metrics.needed.WithLabelValues(strings.ToValidUTF8(u.name, "\uFFFD")).Set(need)
	u.lines[0].Budget.Expect(need)
	if need <= float64(share) {
		r.trouble.Clear(trouble.BudgetShort, u.about(""))
		r.log.Debug("the share of the budget suffices", "user", u.name, "needed", need, "share", share)
		return
	}
	r.trouble.Set(trouble.BudgetShort, u.about(""), r.short(u, wants, need, share, limit))
}

// steadyWants are a user's claims of active scopes.
func (r *reporter) steadyWants(u *user, claims []roster.Claim) (wants []plan.Want) {
	for _, c := range claims {
		if c.Variant != nil && c.Scope.State == roster.Active && u.has(c.Scope) {
			wants = append(wants, plan.Want{Dataset: c.Dataset, Variant: c.Variant, Scope: c.Scope.Scope, Group: r.lines.named(c.Scope.Credential).group, Limits: c.Limits})
		}
	}
	return wants
}

var fingerprintSeed = maphash.MakeSeed()

// fingerprint is equal if the same is wanted of the same scopes.
func fingerprint(wants []plan.Want, share int) uint64 {
	var h maphash.Hash
	h.SetSeed(fingerprintSeed)
	maphash.WriteComparable(&h, share)
	for i := range wants {
		w := &wants[i]
		maphash.WriteComparable(&h, w.Dataset)
		maphash.WriteComparable(&h, w.Variant)
		maphash.WriteComparable(&h, w.Scope)
		maphash.WriteComparable(&h, w.Group)
		maphash.WriteComparable(&h, w.Limits)
	}
	return h.Sum64()
}

// need is the number of requests per span in steady state, including the refresh of settings
// and scopes that are not known yet. Zones and accounts are listed with another API, to which
// the limit does not apply. Neither does it apply to states, which are of that API too; they
// are counted, since each of their requests takes a permit.
func (r *reporter) need(u *user, wants []plan.Want) float64 {
	return r.needOf(u, wants, plan.Need(wants, r.interval, span, plan.DefaultCeilings))
}

// estimate is need, of a few dozen scopes: a remedy is tried for each dataset, and the loop waits.
func (r *reporter) estimate(u *user, wants []plan.Want) float64 {
	const scopes = 30
	return r.needOf(u, wants, plan.Estimate(wants, r.interval, span, plan.DefaultCeilings, scopes))
}

func (r *reporter) needOf(u *user, wants []plan.Want, steady float64) float64 {
	settings := float64(r.settings.asks(scopesOf(analytics(wants)))) * float64(span) / float64(entitleEvery)
	return u.scale * (steady + settings)
}

// analytics are the wants that are not states: settings are about those.
func analytics(wants []plan.Want) []plan.Want {
	return slices.DeleteFunc(slices.Clone(wants), func(w plan.Want) bool { return w.Dataset.State })
}

func scopesOf(wants []plan.Want) tally {
	seen, of := map[bucket.Scope]bool{}, tally{}
	for i := range wants {
		if sc := wants[i].Scope; !seen[sc] {
			seen[sc] = true
			of[sc.Kind]++
		}
	}
	return of
}

// short says what to change. Each remedy is simulated with the planner.
func (r *reporter) short(u *user, wants []plan.Want, need float64, share, limit int) string {
	var remedies []string
	if percent := math.Ceil(100 * need / float64(limit)); percent <= 100 {
		remedies = append(remedies, fmt.Sprintf("%s=%.0f%%, if nothing else needs the rest of the limit", u.setting("WEIR_BUDGET_SHARE", "share"), percent))
	}
	for _, size := range []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour} {
		longer, changed := resized(wants, size)
		if !changed {
			continue
		}
		if n := r.estimate(u, longer); n <= float64(share) {
			remedies = append(remedies, fmt.Sprintf("CF_BUCKET_SECONDS=%.0f, which needs %.0f", size.Seconds(), math.Ceil(n)))
			break
		}
	}
	for _, id := range datasets(wants) {
		rest := slices.DeleteFunc(slices.Clone(wants), func(w plan.Want) bool { return w.Dataset.Dataset == id })
		if n := r.estimate(u, rest); n <= float64(share) {
			remedies = append(remedies, fmt.Sprintf("leaving out %s, without which %.0f are needed", id, math.Ceil(n)))
		}
	}
	if zones := int(math.Round(u.scale * float64(scopesOf(wants)[bucket.Zone]))); zones > 0 {
		remedies = append(remedies, fmt.Sprintf("%s with about %d of the %d zones, and another collector with its own store and the token of another Cloudflare user for the rest", u.setting("CF_ZONES", "zones"), int(float64(zones)*float64(share)/need), zones))
	}
	of := ""
	if !u.alone {
		of = " of Cloudflare user " + u.name
	}
	return fmt.Sprintf("the selected zones and datasets%s need %.0f requests in five minutes, the share of the budget is %d: data is late, and the delay grows. One of these changes is enough: %s",
		of, math.Ceil(need), share, strings.Join(remedies, "; "))
}

func datasets(wants []plan.Want) (ids []string) {
	for i := range wants {
		if id := wants[i].Dataset.Dataset; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// resized applies CF_BUCKET_SECONDS to the dataset that it concerns.
func resized(wants []plan.Want, size time.Duration) (out []plan.Want, changed bool) {
	made := map[*catalogue.Dataset]*catalogue.Dataset{}
	out = slices.Clone(wants)
	for i := range out {
		d := out[i].Dataset
		if d.Name != "http" || d.Size >= size {
			continue
		}
		if made[d] == nil {
			longer := *d
			longer.Size = size
			made[d] = &longer
		}
		out[i].Dataset, changed = made[d], true
	}
	return out, changed
}
