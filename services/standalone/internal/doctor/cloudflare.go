package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// expiresSoon is when an expiry becomes a warning: a token takes people to replace.
	expiresSoon = 14 * 24 * time.Hour
	// skewed is a difference of clocks beyond what a request can explain.
	skewed = 5 * time.Second
)

func cloudflare(o *Observed) (list []Finding) {
	c := o.Cloudflare
	switch {
	case c == nil:
		return skipArea("cloudflare", "no API token was given", "CF_API_TOKEN_FILE, or credentials in the configuration file, as the collector has them")
	case c.Err != nil:
		return named("cloudflare.token", fail(c.Err.Error(), "Cloudflare could not be asked.", "Correct the setting that the error names."))
	}
	for i := range c.Credentials {
		s := &subject{Observed: o, credential: &c.Credentials[i]}
		of := s.judge(area("cloudflare")...)
		if len(c.Credentials) > 1 {
			of = about(s.credential.Name, of)
		}
		list = append(list, of...)
	}
	return list
}

func token(s *subject) []Finding {
	r := s.credential
	left := r.Token.ExpiresOn.Sub(s.Now)
	const replace = "Create a token with Zone Read and Zone Analytics Read at Cloudflare and write it to the file of CF_API_TOKEN_FILE. The collector reads the file again; it needs no restart."
	switch {
	case r.Refused:
		return fail(r.TokenErr.Error(), "Cloudflare refuses the token, so nothing is collected. What is not collected before Cloudflare drops it is lost.", replace)
	case r.TokenErr != nil && r.ZonesErr == nil:
		return warn("the token works, but cannot be verified: "+r.TokenErr.Error(), "When it expires is not known.",
			"Nothing, if it is the token of an account. Note its expiry yourself.")
	case r.TokenErr != nil:
		return fail(r.TokenErr.Error(), "Cloudflare did not answer, or not as its API does.",
			"Try it from this machine: curl -H 'Authorization: Bearer …' https://api.cloudflare.com/client/v4/user/tokens/verify. Check proxies, the network policy and WEIR_CLOUDFLARE_URL.")
	case r.Token.Status != "active":
		return fail(fmt.Sprintf("the token is %s", r.Token.Status), "Cloudflare refuses the token, so nothing is collected.", replace)
	case !r.Token.NotBefore.IsZero() && r.Token.NotBefore.After(s.Now):
		return fail("the token is not valid before "+moment(r.Token.NotBefore), "Nothing is collected until then.", "Change its validity at Cloudflare.")
	case r.Token.ExpiresOn.IsZero():
		return pass("the token is active and does not expire")
	case left <= 0:
		return fail("the token expired at "+moment(r.Token.ExpiresOn), "Nothing is collected.", replace)
	case left < expiresSoon:
		return warn(fmt.Sprintf("the token is active and expires in %s, at %s", span(left), moment(r.Token.ExpiresOn)), "Nothing is collected after that.", replace)
	default:
		return pass("the token is active until %s", moment(r.Token.ExpiresOn))
	}
}

func permissions(s *subject) []Finding {
	r := s.credential
	const grant = "Give the token Zone Read and Zone Analytics Read for these zones, and Account Analytics Read for datasets about accounts."
	collected := 0
	for _, z := range r.Zones {
		if z.Selected && z.Status == "active" && !z.Paused {
			collected++
		}
	}
	seen := fmt.Sprintf("the token sees %d zones, of which %d are collected", len(r.Zones), collected)
	switch {
	case r.Refused:
		return skip("the token is refused", "a token that Cloudflare accepts")
	case r.ZonesErr != nil:
		return fail(r.ZonesErr.Error(), "Zones cannot be listed, so new ones are not found.", grant)
	case len(r.Zones) == 0:
		return fail("Cloudflare lists no zone for this token", "An empty list also means that the permission Zone Read is missing. Nothing is collected.", grant)
	case collected == 0:
		return fail(seen, "Nothing is collected: the zones are excluded by the settings, paused, or not active.", "Check CF_ZONES, CF_EXCLUDE_ZONES and CF_ACCOUNTS, and the zones at Cloudflare.")
	case r.SettingsDenied:
		return fail(r.SettingsErr.Error(), "The token lists zones, but may not read their analytics.", grant)
	case r.SettingsErr != nil:
		return warn(seen+"; their analytics could not be asked for: "+r.SettingsErr.Error(), "Whether the token may read analytics is not known from Cloudflare; collector.entitlements has what the collector knows.", "Run it again in a few minutes.")
	case r.SettingsSkipped != "":
		return pass("%s; whether it may read analytics is what the collector knows (collector.entitlements): %s", seen, r.SettingsSkipped)
	default:
		var none []string
		for _, z := range r.Settings {
			if len(z.Allowed) == 0 {
				none = append(none, z.Zone)
			}
		}
		slices.Sort(none)
		if len(none) > 0 {
			return fail(fmt.Sprintf("%s; no dataset may be read of %s", seen, some(none)), "Nothing is collected of these zones.", grant)
		}
		return pass("%s; analytics may be read (asked of %d zones, with a permit of the budget)", seen, len(r.Settings))
	}
}

func selection(s *subject) []Finding {
	r := s.credential
	switch {
	case r.Refused || r.ZonesErr != nil:
		return skip("zones could not be listed", "a token that may list zones")
	case len(r.Unmatched) > 0:
		return fail(strings.Join(r.Unmatched, "; "), "What these entries were meant to select is not collected.", "Correct or remove them, or give the token access to the zones.")
	default:
		return pass("every entry of the selection matches what the token sees")
	}
}

func skew(s *subject) []Finding {
	r := s.credential
	switch beyond := r.Skew.Abs() - r.Uncertain; {
	case r.Uncertain == 0:
		return skip("no response had a date", "a connection to Cloudflare")
	case beyond > skewed:
		return warn(fmt.Sprintf("Cloudflare's clock minus this machine's is %s (uncertain by %s)", span(r.Skew), span(r.Uncertain)),
			"A collector decides by the earliest of the clocks: with a clock that is wrong, data is late.", "Synchronize the clock of this machine, and of those of the collectors: chronyc tracking, timedatectl.")
	default:
		return pass("Cloudflare's clock and this machine's agree within %s", span(r.Skew.Abs()+r.Uncertain))
	}
}
