package traffic

import (
	"fmt"
	"math"
	"strings"
)

// Variety is how many different values the dimensions of a zone have that grow with its
// size. 0 leaves the few values of a small site. Values that are seldom chosen appear
// seldom: the number of combinations ([Profile.Cells]) bounds how many there are at all.
type Variety struct {
	Countries int // at most [MostCountries]
	Colos     int // at most [MostColos]
	Networks  int // ASNs
	Hosts     int
	Paths     int
	Rules     int // of the firewall
}

// MostCountries and MostColos are how many there are.
var MostCountries, MostColos = len(isoCountries), len(iataCodes)

func (v Variety) any() bool { return v != Variety{} }

// limited is v within what there is.
func (v Variety) limited() Variety {
	v.Countries, v.Colos = min(v.Countries, MostCountries), min(v.Colos, MostColos)
	return v
}

// Wide is the profile of a busy site: visitors from nearly everywhere, by hundreds of
// networks and data centres, to hundreds of hosts.
func Wide(requestsPerMinute float64) Profile {
	return Profile{
		RequestsPerMinute: requestsPerMinute, SpikesPerDay: 2, IncidentsPerDay: 1, Cells: 6000,
		Variety: Variety{Countries: 220, Colos: 180, Networks: 900, Hosts: 400, Paths: 2500, Rules: 60},
	}
}

// isoCountries are the codes of ISO 3166, the most frequent first.
var isoCountries = strings.Fields(`US DE GB FR IN BR JP NL PL CA AU ES SE IT ID MX TR KR RU VN TH PH AR CO ZA UA CH BE AT NO DK FI IE PT CZ GR RO HU
	SG MY TW HK CN IL AE SA EG NG KE MA PK BD LK NZ CL PE EC VE UY PY BO CR PA GT DO CU PR JM TT HN SV NI BG RS HR SI SK LT LV EE BY MD GE AM AZ KZ
	UZ KG TJ TM MN NP BT MM KH LA BN MO IR IQ SY LB JO KW QA BH OM YE AF DZ TN LY SD SS ET ER DJ SO UG TZ RW BI CD CG GA GQ CM CF TD NE ML BF SN GM
	GN GW SL LR CI GH TG BJ AO ZM ZW MW MZ BW NA SZ LS MG MU SC KM RE YT MV IS LU MT CY MC SM LI AD VA AL MK BA ME XK FO GI IM JE GG GL BM BS BB GD
	LC VC AG DM KN HT BZ GY SR GF GP MQ AW CW SX BQ KY TC VG VI AI MS BL MF PM FK FJ PG SB VU NC PF WS TO TV KI NR PW FM MH GU MP AS CK NU TK WF NF
	CX CC IO SH ST CV EH TL PS KP AX SJ`)

// iataCodes are data centres, by the airport next to them.
var iataCodes = strings.Fields(`IAD FRA LHR AMS CDG SIN NRT HKG SYD GRU BOM DEL MAA LAX SJC SEA ORD DFW ATL MIA EWR BOS DEN PHX IAH MSP DTW YYZ YUL YVR
	MEX BOG LIM SCL EZE GIG MAD BCN LIS MXP FCO ZRH GVA VIE MUC DUS HAM BER BRU CPH ARN OSL HEL DUB MAN EDI WAW PRG BUD OTP SOF ATH IST KBP TLL RIX VNO
	BEG ZAG LJU BTS LUX MRS LYS TLV DXB DOH BAH KWI MCT RUH JED AMM BEY CAI CMN TUN ALG LOS ACC ABJ DKR NBO EBB DAR KGL ADD JNB CPT DUR MRU TNR LAD LUN
	HRE MPM ICN KIX FUK TPE MNL CGK SUB BKK CNX KUL PEN SGN HAN PNH VTE RGN CMB DAC KTM ISB LHE KHI HYD BLR CCU AMD COK NAG PAT TAS ALA GYD TBS EVN ULN
	MFM MEL BNE PER ADL CBR AKL CHC NOU PPT GUM HNL ANC PDX SLC LAS SAN SMF OKC MCI STL OMA IND CMH CLE PIT PHL CLT RDU BNA MEM JAX TPA MCO MSY AUS SAT
	ABQ TUS BUF RIC YOW YYC YWG YHZ YXE QRO GDL MTY SAL GUA SJO PTY SJU SDQ KIN POS UIO GYE CCS MVD ASU LPB CNF POA CWB FOR REC SSA BSB BEL MAO`)[:200]

// ranked is a position below n, the first ones most often: the k-th about as often as
// 1/k of the first.
func ranked(n int, u float64) int {
	return min(int(math.Exp(u*math.Log(float64(n)+1)))-1, n-1)
}

// widen replaces the attributes of the i-th combination of a zone that its variety
// speaks about. What belongs together stays together: networks and data centres have a
// country.
func (v Variety) widen(attrs map[string]any, i int, zone string, draw func(salt uint64) float64) {
	place := 0
	if v.Countries > 0 {
		place = ranked(v.Countries, draw(40))
		if i < v.Countries {
			place = i
		}
		attrs["clientCountryName"] = isoCountries[place]
	}
	if v.Colos > 0 {
		near := max(1, v.Colos/max(v.Countries, 1)) // those of the country
		attrs["coloCode"] = iataCodes[(place*near+int(draw(41)*float64(near)))%v.Colos]
	}
	if v.Networks > 0 {
		near := max(1, v.Networks/max(v.Countries, 1))
		n := (place*near + ranked(near, draw(42))) % v.Networks
		attrs["clientAsn"], attrs["clientASNDescription"] = fmt.Sprint(4_200_000_000+n), fmt.Sprintf("NETWORK-%04d %s", n+1, isoCountries[place])
	}
	if v.Hosts > 0 {
		attrs["clientRequestHTTPHost"] = fmt.Sprintf("host-%05d.%s", i%v.Hosts+1, zone)
	}
	if v.Paths > 0 {
		n := ranked(v.Paths, draw(43))
		id := ThingID(zone, "path", n)
		attrs["clientRequestPath"] = [...]string{fmt.Sprintf("/items/%d", 1000+n), "/orders/" + UUID(id), fmt.Sprintf("/users/name-%d/edit", n), "/" + id[:6] + "/index.html"}[n%4]
	}
}
