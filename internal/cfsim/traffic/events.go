package traffic

import "fmt"

// RulesetID is the id of the ruleset of a zone that has the rules of a source of
// firewall events.
func RulesetID(source, zone string) string { return ThingID(zone, "ruleset:"+source, 0) }

// eventTemplates builds the combinations of a zone's firewall events.
func eventTemplates(seed uint64, p Profile) []Template {
	rules := []struct {
		action, source, rule, description string
		status                            uint64
		weight                            float64
	}{
		{"block", "firewallCustom", "874a3e315c344b0281ca4d85a5a4d0f4", "Block bad paths", 403, 5},
		{"managed_challenge", "firewallCustom", "1a2b3c4d5e6f40718293a4b5c6d7e8f9", `Challenge "login" abuse`, 403, 3},
		{"block", "firewallManaged", "c1f2e3d4b5a697887766554433221100", "XSS, HTML Injection", 403, 2},
		{"managed_challenge", "bic", "", "", 403, 2},
		{"log", "rateLimit", "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "Log API bursts", 200, 1},
	}
	for i := len(rules); i < p.Variety.Rules; i++ {
		r := rules[i%3]
		r.rule, r.description, r.weight = ThingID(p.zone, "rule", i), fmt.Sprintf("Rule %d of %s", i+1, p.zone), 1/float64(i)
		rules = append(rules, r)
	}
	each := 3
	if p.Variety.any() {
		each = max(each, p.Cells/len(rules)/4)
	}
	var out []Template
	for i := range rules {
		r := rules[i]
		base := stories[8].templates(Hash(seed, 3000, uint64(i)), i*each, each, p)
		for _, t := range base {
			for name, v := range map[string]any{
				"action": r.action, "source": r.source, "ruleId": r.rule, "description": r.description,
				"edgeResponseStatus": r.status, "clientIPClass": t.Attributes["ipType"], "edgeColoName": t.Attributes["coloCode"],
				"kind": "firewall", "ref": r.rule, "rulesetId": RulesetID(r.source, p.zone),
			} {
				t.Attributes[name] = v
			}
			t.weight *= r.weight
			out = append(out, t)
		}
	}
	return out
}
