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

// span is what the need and the share are told by: Cloudflare's limit is about it.
const span = 5 * time.Minute

// settingsLate is for how long the settings of zones may be still to be asked for
// before it is a problem.
const settingsLate = 10 * time.Minute

// tally counts scopes by kind.
type tally map[bucket.ScopeKind]int

func (t tally) all() int { return t[bucket.Zone] + t[bucket.Account] }

// outstanding are how many scopes' settings are still to be asked for the first time,
// and how many are known. Those that could not be read are neither.
func (s *settings) outstanding() (waiting, known tally) {
	waiting, known = tally{}, tally{}
	for id, sc := range s.roster {
		switch {
		case sc.State != roster.Active || !s.collects(sc.Kind):
		case sc.Checked != 0:
			known[sc.Kind]++
		case s.unread[id] == nil:
			waiting[sc.Kind]++
		}
	}
	return waiting, known
}

// asks is how many documents it takes to ask for the settings of so many scopes.
func (s *settings) asks(of tally) (n int) {
	for _, kind := range []bucket.ScopeKind{bucket.Zone, bucket.Account} {
		n += plan.Asks(kind, of[kind], len(s.nodes(kind)), s.ceilings)
	}
	return n
}

// tellOutstanding tells of settings that are to be asked for and have been for long.
func (r *reporter) tellOutstanding(now bucket.Time) {
	outstanding, read := r.outstanding()
	waiting, known := outstanding.all(), read.all()
	r.Metrics.unread.WithLabelValues().Set(float64(waiting))
	switch {
	case waiting == 0:
		r.waits = 0
	case r.waits == 0:
		r.waits = now
	}
	if waiting == 0 || now.Sub(r.waits) < settingsLate {
		r.Trouble.Clear(trouble.BudgetShort, aboutSettings)
		return
	}
	share, _ := r.Budget.Share()
	left := span * time.Duration(r.asks(outstanding)) / time.Duration(max(1, share))
	what := "zones"
	if r.collects(bucket.Account) {
		what = "zones and accounts"
	}
	r.Trouble.Set(trouble.BudgetShort, aboutSettings, fmt.Sprintf(
		"the settings of %d of %d %s have not been read yet, so nothing of these is collected; at the share of %d requests in five minutes it takes %s at least. A larger WEIR_BUDGET_SHARE shortens it",
		waiting, waiting+known, what, share, left.Round(time.Minute)))
}

const aboutSettings = "settings"

// weigh compares what is selected with the share, whenever either has changed. To
// plan an hour ahead costs seconds of a thousand zones, so not each pass does it.
// Zones whose settings are still to be read need as much as the others, which is
// reckoned when it takes long, and again when twice as many are known.
func (r *reporter) weigh(now bucket.Time, claims []roster.Claim) {
	outstanding, read := r.outstanding()
	waiting, known := outstanding.all(), read.all()
	if waiting > 0 && (r.waits == 0 || now.Sub(r.waits) < settingsLate || known < max(1, 2*r.weighedOf)) {
		return
	}
	r.weighedOf, r.scale = known, 1
	if waiting > 0 {
		r.scale = float64(waiting+known) / float64(known)
	}
	share, limit := r.Budget.Share()
	wants := steadyWants(claims)
	selected := fingerprint(wants, share)
	if selected == r.weighed {
		return
	}
	r.weighed = selected
	need := r.need(wants)
	r.Metrics.needed.WithLabelValues().Set(need)
	r.Budget.Expect(need)
	if need <= float64(share) {
		r.Trouble.Clear(trouble.BudgetShort, "")
		r.Logger.Debug("the share of the budget suffices", "needed", need, "share", share)
		return
	}
	r.Trouble.Set(trouble.BudgetShort, "", r.short(wants, need, share, limit))
}

// steadyWants are the claims of scopes that go on.
func steadyWants(claims []roster.Claim) (wants []plan.Want) {
	for _, c := range claims {
		if c.Variant != nil && c.Scope.State == roster.Active {
			wants = append(wants, plan.Want{Dataset: c.Dataset, Variant: c.Variant, Scope: c.Scope.Scope, Limits: c.Limits})
		}
	}
	return wants
}

var fingerprintSeed = maphash.MakeSeed()

// fingerprint is equal where the same is asked of the same scopes.
func fingerprint(wants []plan.Want, share int) uint64 {
	var h maphash.Hash
	h.SetSeed(fingerprintSeed)
	maphash.WriteComparable(&h, share)
	for i := range wants {
		w := &wants[i]
		maphash.WriteComparable(&h, w.Dataset)
		maphash.WriteComparable(&h, w.Variant)
		maphash.WriteComparable(&h, w.Scope)
		maphash.WriteComparable(&h, w.Limits)
	}
	return h.Sum64()
}

// need is how many requests a span takes in steady state, the refresh of settings
// and scopes that are not known yet included. Zones and accounts are listed by another
// API, which the limit is not about.
func (r *reporter) need(wants []plan.Want) float64 {
	settings := float64(r.asks(scopesOf(wants))) * float64(span) / float64(entitleEvery)
	return r.scale * (plan.Need(wants, r.Interval, span, plan.DefaultCeilings) + settings)
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

// short says what to change. Each remedy is tried on the planner.
func (r *reporter) short(wants []plan.Want, need float64, share, limit int) string {
	var remedies []string
	if percent := math.Ceil(100 * need / float64(limit)); percent <= 100 {
		remedies = append(remedies, fmt.Sprintf("WEIR_BUDGET_SHARE=%.0f%%, if nothing else needs the rest of the limit", percent))
	}
	for _, size := range []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour} {
		longer, changed := resized(wants, size)
		if !changed {
			continue
		}
		if n := r.need(longer); n <= float64(share) {
			remedies = append(remedies, fmt.Sprintf("CF_BUCKET_SECONDS=%.0f, which needs %.0f", size.Seconds(), math.Ceil(n)))
			break
		}
	}
	for _, id := range datasets(wants) {
		rest := slices.DeleteFunc(slices.Clone(wants), func(w plan.Want) bool { return w.Dataset.Dataset == id })
		if n := r.need(rest); n <= float64(share) {
			remedies = append(remedies, fmt.Sprintf("leaving out %s, without which %.0f are needed", id, math.Ceil(n)))
		}
	}
	if of := scopesOf(wants)[bucket.Zone]; of > 0 {
		zones := int(math.Round(r.scale * float64(of)))
		remedies = append(remedies, fmt.Sprintf("CF_ZONES with about %d of the %d zones, and another collector with its own store and the token of another Cloudflare user for the rest", int(float64(zones)*float64(share)/need), zones))
	}
	return fmt.Sprintf("the selected zones and datasets need %.0f requests in five minutes, the share of the budget is %d: data is late, and gets later. One of these would do: %s",
		math.Ceil(need), share, strings.Join(remedies, "; "))
}

func datasets(wants []plan.Want) (ids []string) {
	for i := range wants {
		if id := wants[i].Dataset.Dataset; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// resized is what CF_BUCKET_SECONDS would make of the dataset that it is about.
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
