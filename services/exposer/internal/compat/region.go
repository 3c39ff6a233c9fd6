package compat

import "strings"

// regions has the part of the world of each country of ISO 3166-1, as the library has it by
// which lablabs/cloudflare-exporter derives its label region.
var regions = func() map[string]string {
	of := map[string]string{"XX": "None"} // Cloudflare: unknown
	for name, codes := range map[string]string{
		"Africa": `AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ
			NA NE NG RE RW SC SD SH SL SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW`,
		"Antarctica": "AQ BV GS HM TF",
		"Asia": `AE AF AM AZ BD BH BN BT CC CN CX CY GE HK ID IL IN IO IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY
			NP OM PH PK PS QA SA SG SY TH TJ TL TM TW UZ VN YE`,
		"Europe": `AD AL AT AX BA BE BG BY CH CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK
			MT NL NO PL PT RO RS RU SE SI SJ SK SM TR UA VA XK`,
		"North America": `AG AI AW BB BL BM BQ BS BZ CA CR CU DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM PR SV SX
			TC TT US VC VG VI`,
		"Oceania":       "AS AU CK FJ FM GU KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TO TV UM VU WF WS",
		"South America": "AR BO BR CL CO EC FK GF GY PE PY SR UY VE",
	} {
		for code := range strings.FieldsSeq(codes) {
			of[code] = name
		}
	}
	return of
}()

// regionOf is the region of a country. Of others, such as Tor (T1) and the rest of a breakdown
// (other), it is Unknown.
func regionOf(country string) string {
	if r := regions[country]; r != "" {
		return r
	}
	return "Unknown"
}
