package traffic

import "fmt"

// Attribute is the value of a dimension: a string or uint64, or nil when the dimension
// is not modelled.
func (t *Template) Attribute(name string) any {
	if v, ok := t.Attributes[name]; ok || t.chance == 0 {
		return v
	}
	return t.derived(name)
}

// derived are the dimensions that follow from others and from chance, and that nothing
// else depends on. They are not kept, since there are many of them and few are asked for.
func (t *Template) derived(name string) any {
	draw := func(salt uint64) float64 { return Unit(Hash(t.chance, salt)) }
	switch name {
	case "botScore", "botScoreBucketBy10", "botScoreSrcName", "botManagementDecision":
		return t.bot(name, draw)
	case "wafAttackScoreClass":
		if t.Threat {
			return "likely_attack"
		}
		return "clean"
	case "clientIP":
		return fmt.Sprintf("198.51.100.%d", 1+int(250*draw(32)))
	case "userAgent":
		return "Mozilla/5.0 (compatible; " + t.String("userAgentBrowser") + ")"
	case "clientRefererHost":
		return [...]string{"", "search.example", "news.example", "social.example"}[int(4*draw(33))]
	case "jsDetectionPassed":
		return "missing"
	}
	if !t.asked {
		return nil
	}
	switch name {
	case "originIP":
		return "192.0.2.10"
	case "originASN":
		return uint64(64496)
	case "originASNDescription":
		return "EXAMPLE-NET"
	case "upperTierColoName":
		return [...]string{"", "fra08", "iad12"}[int(3*draw(34))]
	}
	return nil
}

// bot are the dimensions of bot management: 1 is a verified bot, low scores are likely
// automated, and 0 was not computed.
func (t *Template) bot(name string, draw func(uint64) float64) any {
	score, by, decision := 30+uint64(70*draw(30)), "Machine Learning", "likely_human"
	switch {
	case t.String("verifiedBotCategory") != "":
		score, by, decision = 1, "Verified Bot", "verified_bot"
	case t.Threat:
		score, by, decision = 2+uint64(27*draw(30)), "Heuristics", "likely_automated"
	case draw(31) < .1:
		score, by, decision = 0, "Not Computed", "other"
	}
	switch name {
	case "botScore":
		return score
	case "botScoreBucketBy10":
		return score / 10 * 10
	case "botScoreSrcName":
		return by
	}
	return decision
}
