package poll

import (
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// tell brings the problems that the loop knows of up to date. It says what is so
// at the end of a pass, whatever happened in it.
func (s *state) tell() {
	token, unknown := map[string]string{}, map[string]string{}
	everything := func(o outage, about, consequence string) {
		switch o.reason {
		case ledger.Unauthorized:
			token[about] = "Cloudflare refuses the API token; " + consequence + ": " + o.detail
		case ledger.Unknown:
			unknown[about] = "Cloudflare refuses in words that are not recognised; " + consequence + ": " + o.detail
		default:
		}
	}
	everything(s.outage, "", "nothing is collected meanwhile")
	everything(s.listing, "list of zones", "the zones that are known go on")
	s.tellUnlisted()
	for of, t := range s.tries {
		if t.alone && t.reason == ledger.Unknown {
			unknown[s.nameOf(of.Scope)+" "+of.Dataset] = fmt.Sprintf(
				"Cloudflare refuses the dataset of the zone in words that are not recognised, %d times in a row: %s", t.failures, t.detail)
		}
	}
	for sc, u := range s.unread {
		if u.refusal != nil && u.refusal.Class == cloudflare.Unknown {
			unknown[s.nameOf(sc)+" settings"] = "Cloudflare refuses the settings of the zone in words that are not recognised, so nothing of it is asked: " + u.refusal.Error()
		}
	}
	s.Trouble.Replace(trouble.TokenRefused, token)
	s.Trouble.Replace(trouble.UnknownRefusal, unknown)
}

// listFails is how often in a row the list of zones fails, a minute apart, before a
// person should know: Cloudflare's own trouble is mostly shorter.
const listFails = 5

// tellUnlisted tells of a list of zones that cannot be had while Cloudflare answers
// everything else, or while no zone is known, for whatever reason: no new zone is
// found meanwhile. The token and unknown words have problems of their own.
func (s *state) tellUnlisted() {
	const about = "list of zones"
	told := s.listing.reason == ledger.Unauthorized || s.listing.reason == ledger.Unknown
	if s.listing.failures < listFails || told || s.outage.failures > 0 && len(s.roster) > 0 {
		s.Trouble.Clear(trouble.ZonesUnlisted, about)
		return
	}
	s.Trouble.Set(trouble.ZonesUnlisted, about, fmt.Sprintf(
		"the list of zones cannot be had from Cloudflare; the %d that are known go on, and no new ones are found: %s", len(s.roster), s.listing.detail))
}

// nameOf is what people call a scope.
func (s *state) nameOf(sc bucket.Scope) string {
	if who := s.roster[sc]; who != nil && who.ZoneLabel != "" {
		return who.ZoneLabel
	}
	return sc.ID
}
