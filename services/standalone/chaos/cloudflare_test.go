package chaos

import (
	"math"
	"net/http"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// limits draws how a Cloudflare refuses and what it lets a client have.
func (d dice) limits(s *schedule) {
	if d.chance(.3) {
		s.Switches.BudgetStatus = http.StatusTooManyRequests
	}
	s.Switches.RetryAfter = d.chance(.5)
	s.Switches.InvisibleZoneError = d.chance(.3)
	s.Odd = d.chance(.3)
	if d.chance(.2) {
		s.Limits.RESTCalls = 1 + d.IntN(4) // of 1,200: others of the user make the rest
		if s.Workers {
			s.Limits.RESTCalls++ // accounts are listed too
		}
	}
	if d.chance(.3) && !s.Starved {
		s.Limits.Queries = 12 + d.IntN(24) // less than the share: others have spent it
	}
	if d.chance(.2) {
		s.Limits.PageSize = 60 + d.IntN(300)
	}
	if d.chance(.3) {
		// One request of ten, or all, as large as the question makes it: both in one run.
		s.Sampling = cfsim.Sampling{Enabled: true, Load: 1 + 20*d.Float64(), Hundredth: math.Inf(1)}
	}
}

// apiFault draws one of the simulator's faults.
func (d dice) apiFault(s *schedule, e *event) {
	e.Kind, e.For = api, d.skewed(time.Minute, time.Hour)
	transport := []cfsim.FaultKind{
		cfsim.FaultSlow, cfsim.FaultDrip, cfsim.FaultReset, cfsim.FaultResetBody, cfsim.FaultShortBody, cfsim.FaultTruncated,
		cfsim.FaultRubbish, cfsim.FaultHTML, cfsim.FaultChallenge, cfsim.FaultEmptyBody, cfsim.FaultEmptyObject, cfsim.FaultNullData,
		cfsim.FaultEmptyErrors, cfsim.FaultNoErrors, cfsim.FaultBusy, cfsim.FaultInternal, cfsim.FaultBudget, cfsim.FaultSkew,
	}
	data := []cfsim.FaultKind{
		cfsim.FaultZoneDelayed, cfsim.FaultZoneFrozen, cfsim.FaultDatasetEmpty, cfsim.FaultDuplicate, cfsim.FaultHuge, cfsim.FaultNegative, cfsim.FaultPartial,
	}
	f := &e.Fault
	if d.chance(.5) {
		f.Kind, f.Path = transport[d.IntN(len(transport))], d.one("", "/graphql", "/graphql", "/zones")
	} else {
		f.Kind = data[d.IntN(len(data))]
	}
	if d.chance(.5) {
		f.Zone = d.scope(s)
	}
	if d.chance(.4) {
		f.Dataset = d.one("httpRequests1mGroups", "httpRequests1hGroups", "httpRequests1dGroups", "httpRequestsAdaptiveGroups", "workersInvocationsAdaptive")
	}
	if d.chance(.6) {
		f.Probability = .1 + .9*d.Float64()
	}
	switch f.Kind {
	case cfsim.FaultSlow, cfsim.FaultDrip:
		f.Delay = d.skewed(time.Second, 90*time.Second)
	case cfsim.FaultSkew:
		if f.Delay = d.skewed(time.Second, time.Hour); d.chance(.5) {
			f.Delay = -f.Delay
		}
	case cfsim.FaultHTML:
		f.Status = []int{500, 502, 503, 520, 522, 524}[d.IntN(6)]
	case cfsim.FaultZoneDelayed:
		f.Delay = d.between(2*time.Minute, 90*time.Minute)
		f.Probability = 0 // a state, not an accident
	case cfsim.FaultZoneFrozen, cfsim.FaultDatasetEmpty:
		f.Probability = 0
	case cfsim.FaultBudget:
		e.For = min(e.For, 20*time.Minute)
	}
	if f.Kind == cfsim.FaultZoneDelayed || f.Kind == cfsim.FaultZoneFrozen {
		if s.Revisions {
			// What was to be seen at an instant could not be told any more.
			e.Kind = ""
		}
		// A straggler that a delay makes stand still through two readings cannot be
		// told from a whole window; see docs/reliability.md.
		s.Settling.Stragglers = 0
	}
}

// ills are what can be wrong with a token that Cloudflare knows, from one instant
// to another.
var ills = map[string]func(t *cfsim.Token, zone string, from, to time.Time){
	"rotates":  func(*cfsim.Token, string, time.Time, time.Time) {}, // as good as the one before
	"absent":   func(t *cfsim.Token, _ string, _, _ time.Time) { t.Accounts = []string{} },
	"disabled": func(t *cfsim.Token, _ string, _, _ time.Time) { t.Disabled = true },
	"expires":  func(t *cfsim.Token, _ string, from, to time.Time) { t.ExpiresOn = from.Add(to.Sub(from) / 2) },
	"early":    func(t *cfsim.Token, _ string, from, to time.Time) { t.NotBefore = from.Add(to.Sub(from) / 2) },
	"flaps":    func(t *cfsim.Token, _ string, _, to time.Time) { t.FlapsUntil = to },
	"denies":   func(t *cfsim.Token, zone string, _, _ time.Time) { t.Denied = []string{cfsim.Tag("zone:" + zone)} },
	"hides": func(t *cfsim.Token, zone string, _, _ time.Time) {
		for _, name := range zoneNames {
			if name != zone {
				t.Zones = append(t.Zones, cfsim.Tag("zone:"+name))
			}
		}
	},
	"for zones only": func(t *cfsim.Token, _ string, _, _ time.Time) {
		t.Permissions = []cfsim.Permission{cfsim.ZoneAnalytics, cfsim.ZoneRead}
	},
	"for accounts only": func(t *cfsim.Token, _ string, _, _ time.Time) {
		t.Permissions = []cfsim.Permission{cfsim.AccountAnalytics, cfsim.AccountRead}
	},
}

// malformed is a token that cannot be one.
const malformed = "malformed"

// badToken draws a token that takes the place of the good one for a while.
func (d dice) badToken(s *schedule, e *event) {
	e.Kind, e.For = badToken, d.skewed(time.Minute, time.Hour)
	e.Becomes = d.one("rotates", "absent", "disabled", "expires", "early", "flaps", "denies", "hides", "for zones only", "for accounts only", "unknown", malformed)
	if d.chance(.5) {
		e.Target = d.one(collectors...)
	}
	if s.Several {
		if e.Credential = d.one("", retail, retail, labs, labs); d.chance(.15) {
			e.Credential, e.Becomes = "", swapped
		}
	}
	switch e.Becomes {
	case "denies":
		e.Zone = d.one(zoneNames...)
	case "hides":
		e.Zone = "changing.example" // it seems to be gone, and what passes meanwhile is not wanted
	}
}
