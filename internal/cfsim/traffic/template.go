package traffic

import "strings"

// EyeballSource is the requestSource of requests by end users, the only ones
// that roll-ups count.
const EyeballSource = "eyeball"

// Template is one combination of attributes. Amounts refer to it by position.
type Template struct {
	// Attributes maps Cloudflare's dimension names to a string or uint64.
	// Names of dimensions that are not modelled are absent. Read only.
	Attributes map[string]any

	Eyeball   bool // counted by roll-ups
	Cached    bool
	Encrypted bool
	PageView  bool // a successful HTML answer to an end user
	Threat    bool

	LookupMs    uint64 // what each request waited for DNS; 0 when the origin was not asked, or its address known
	Failed      bool   // an invocation of a Worker that ended in an error
	Subrequests uint64 // made by each request, of a Worker

	// Values are the measures of one event by name, beyond those of [Amount]; Gauges are
	// the bases of levels, see [Template.Level]. Read only.
	Values, Gauges map[string]float64

	chance   uint64             // decides what is derived; 0 derives nothing
	asked    bool               // the origin was
	exact    map[string]float64 // the values that all events share
	weight   float64            // share of the zone's requests
	incident bool               // grows while the origin fails
	bytes    float64            // mean size of an answer
	request  float64            // mean size of a request
	visits   float64            // share of requests that are visits
	ttfb     float64            // mean time to first byte, ms
	origin   float64            // mean response time of the origin, ms
}

// String is the string attribute of that name, "" when it is not modelled.
func (t *Template) String(name string) string {
	s, _ := t.Attributes[name].(string)
	return s
}

// Uint is the numeric attribute of that name, 0 when it is not modelled.
func (t *Template) Uint(name string) uint64 {
	n, _ := t.Attributes[name].(uint64)
	return n
}

// story is a kind of request. The attributes that a story fixes belong
// together (a cached image has no origin status); the others are drawn.
type story struct {
	share    float64 // of the requests
	cells    float64 // of the combinations
	status   []uint64
	origin   bool // the origin was asked
	cache    []string
	content  []string
	methods  []string
	paths    []string
	bytes    float64
	ttfb     float64
	visits   float64
	action   string
	source   string // securitySource
	ipClass  []string
	threat   string
	incident bool
	bot      string
}

var stories = []story{
	{
		share: .17, cells: .16, status: []uint64{200}, origin: true, cache: []string{"dynamic"}, content: []string{"html"},
		methods: []string{"GET"}, paths: []string{"/", "/products", "/search", "/account"}, bytes: 21e3, ttfb: 140, visits: .3,
	},
	{
		share: .11, cells: .10, status: []uint64{200}, cache: []string{"hit", "hit", "stale"}, content: []string{"html"},
		methods: []string{"GET"}, paths: []string{"/blog", "/about", "/"}, bytes: 16e3, ttfb: 18, visits: .35,
	},
	{
		share: .34, cells: .20, status: []uint64{200}, cache: []string{"hit"}, content: []string{"js", "css", "png", "webp", "svg", "woff2"},
		methods: []string{"GET"}, paths: []string{"/assets/app", "/assets/style", "/img"}, bytes: 38e3, ttfb: 9,
	},
	{
		share: .06, cells: .08, status: []uint64{200}, origin: true, cache: []string{"miss", "expired"}, content: []string{"js", "png", "webp", "css"},
		methods: []string{"GET"}, paths: []string{"/assets/app", "/img"}, bytes: 41e3, ttfb: 95,
	},
	{
		share: .15, cells: .12, status: []uint64{200, 200, 201}, origin: true, cache: []string{"dynamic"}, content: []string{"json"},
		methods: []string{"GET", "POST", "POST", "PUT"}, paths: []string{"/v1/cart", "/v1/items", "/v1/login"}, bytes: 2200, ttfb: 85,
	},
	{
		share: .05, cells: .06, status: []uint64{304}, cache: []string{"revalidated", "hit"}, content: []string{"empty"},
		methods: []string{"GET"}, paths: []string{"/assets/app", "/img"}, bytes: 420, ttfb: 11,
	},
	{
		share: .03, cells: .05, status: []uint64{301, 302, 308}, cache: []string{"none", "dynamic"}, content: []string{"html", "empty"},
		methods: []string{"GET"}, paths: []string{"/old", "/"}, bytes: 600, ttfb: 14, visits: .4,
	},
	{
		share: .035, cells: .07, status: []uint64{404, 404, 400, 401}, origin: true, cache: []string{"dynamic", "miss"}, content: []string{"html", "json"},
		methods: []string{"GET", "GET", "POST"}, paths: []string{"/wp-login.php", "/favicon.ico", "/missing"}, bytes: 1900, ttfb: 70,
	},
	{
		share: .02, cells: .06, status: []uint64{403, 403, 429}, cache: []string{"none"}, content: []string{"html"}, methods: []string{"GET", "POST"},
		paths: []string{"/xmlrpc.php", "/.env", "/v1/login"}, bytes: 4700, ttfb: 4, action: "block", source: "firewallCustom",
		ipClass: []string{"badHost", "scan", "unknown"}, threat: "bic.ban.unknown",
	},
	{
		share: .004, cells: .06, status: []uint64{500, 502, 503, 504, 522}, origin: true, cache: []string{"dynamic"}, content: []string{"html"},
		methods: []string{"GET", "POST"}, paths: []string{"/v1/cart", "/search"}, bytes: 3100, ttfb: 900, incident: true,
	},
	{
		share: .031, cells: .04, status: []uint64{200}, origin: true, cache: []string{"dynamic", "miss"}, content: []string{"html", "xml"},
		methods: []string{"GET"}, paths: []string{"/sitemap.xml", "/products"}, bytes: 18e3, ttfb: 160,
		ipClass: []string{"searchEngine"}, bot: "Search Engine Crawler",
	},
}

var (
	countries = weighted{
		{"US", 30},
		{"DE", 17},
		{"GB", 10},
		{"FR", 8},
		{"IN", 8},
		{"BR", 6},
		{"JP", 5},
		{"NL", 4},
		{"PL", 3},
		{"CA", 3},
		{"AU", 2},
		{"ES", 2},
		{"SE", 1},
		{"XX", 1},
		{"T1", .4},
	}
	colos     = map[string][]string{"US": {"IAD", "SJC", "ORD"}, "DE": {"FRA", "DUS"}, "GB": {"LHR"}, "FR": {"CDG"}, "IN": {"BOM"}, "BR": {"GRU"}, "JP": {"NRT"}}
	networks  = map[string][2]string{"US": {"7922", "COMCAST-7922"}, "DE": {"3320", "DTAG"}, "GB": {"2856", "BT-UK-AS"}, "FR": {"3215", "AS3215"}, "IN": {"55836", "RELIANCEJIO-IN"}}
	protocols = weighted{{"HTTP/2", 60}, {"HTTP/3", 25}, {"HTTP/1.1", 15}}
	tls       = weighted{{"TLSv1.3", 80}, {"TLSv1.2", 20}}
	browsers  = weighted{{"Chrome", 40}, {"ChromeMobile", 20}, {"MobileSafari", 20}, {"Firefox", 8}, {"Safari", 7}, {"Edge", 5}}
	systems   = map[string]string{"Chrome": "Windows", "ChromeMobile": "Android", "MobileSafari": "iOS", "Firefox": "Linux", "Safari": "MacOSX", "Edge": "Windows"}
	workers   = weighted{{"edgeWorkerFetch", 80}, {"edgeWorkerCacheAPI", 20}}
)

// weighted is a list of values with their weights, in any unit.
type weighted []struct {
	value  string
	weight float64
}

func (w weighted) pick(u float64) string {
	var total float64
	for _, e := range w {
		total += e.weight
	}
	u *= total
	for _, e := range w {
		if u -= e.weight; u < 0 {
			return e.value
		}
	}
	return w[len(w)-1].value
}

// odd are attribute values that clients get wrong: quoting, empty, non-ASCII,
// very long.
var odd = []string{"", `say "hi"\`, "bücher.example", "日本.example", "line\nbreak\ttab", strings.Repeat("a", 300)}

// httpTemplates builds a zone's combinations. The same seed and profile give
// the same ones.
func httpTemplates(seed uint64, p Profile) []Template {
	var out []Template
	for i, s := range stories {
		n := max(1, int(s.cells*float64(p.Cells)+.5))
		out = append(out, s.templates(Hash(seed, uint64(i)), len(out), n, p)...)
	}
	if p.OddStrings {
		for i, text := range odd {
			t := stories[0].templates(Hash(seed, 1000, uint64(i)), 0, 1, p)[0]
			t.Attributes["clientRequestHTTPHost"], t.Attributes["clientRequestPath"] = text, "/"+text
			t.Attributes["userAgentBrowser"] = text
			t.weight = .01
			out = append(out, t)
		}
	}
	var eyeballs float64
	for _, t := range out {
		eyeballs += t.weight
	}
	if p.Subrequests > 0 {
		sub := stories[4].templates(Hash(seed, 2000), 0, max(2, p.Cells/16), p)
		var total float64
		for i := range sub {
			total += sub[i].weight
		}
		for i := range sub {
			t := &sub[i]
			t.weight *= p.Subrequests * eyeballs / total
			t.Eyeball, t.PageView, t.visits = false, false, 0
			t.Attributes["requestSource"] = workers.pick(Unit(Hash(seed, 2001, uint64(i))))
		}
		out = append(out, sub...)
	}
	return out
}

// templates draws n combinations of one story. The weights within a story fall
// off as 1/rank, so that top lists have a head and a tail. before is how many
// combinations the zone has already.
func (s story) templates(seed uint64, before, n int, p Profile) []Template {
	out := make([]Template, n)
	var total float64
	for i := range out {
		h := Hash(seed, uint64(i))
		draw := func(salt uint64) float64 { return Unit(Hash(h, salt)) }
		one := func(list []string, salt uint64, none string) string {
			if len(list) == 0 {
				return none
			}
			return list[int(draw(salt)*float64(len(list)))]
		}
		country := countries.pick(draw(1))
		browser := browsers.pick(draw(2))
		status := s.status[i%len(s.status)] // in turn: small zones shall have every status too
		encrypted := draw(3) >= p.Plaintext
		attrs := map[string]any{
			"clientCountryName":           country,
			"coloCode":                    one(colos[country], 4, "AMS"),
			"clientAsn":                   "64496",
			"clientASNDescription":        "EXAMPLE-NET",
			"clientRequestHTTPHost":       p.Hosts[int(draw(5)*draw(6)*float64(len(p.Hosts)))],
			"clientRequestHTTPMethodName": one(s.methods, 7, "GET"),
			"clientRequestHTTPProtocol":   protocols.pick(draw(8)),
			"clientRequestPath":           one(s.paths, 9, "/"),
			"clientRequestScheme":         "http",
			"clientSSLProtocol":           "none",
			"clientDeviceType":            "desktop",
			"userAgentBrowser":            browser,
			"userAgentOS":                 systems[browser],
			"cacheStatus":                 one(s.cache, 10, "none"),
			"edgeResponseContentTypeName": one(s.content, 11, "html"),
			"edgeResponseStatus":          status,
			"originResponseStatus":        uint64(0),
			"requestSource":               EyeballSource,
			"securityAction":              s.action,
			"securitySource":              s.source,
			"verifiedBotCategory":         s.bot,
			"ipType":                      one(s.ipClass, 12, "noRecord"),
			"threatPathingName":           s.threat,
		}
		if network, ok := networks[country]; ok {
			attrs["clientAsn"], attrs["clientASNDescription"] = network[0], network[1]
		}
		visits := s.visits
		if s.threat == "" {
			visits = max(visits, .01) // anything may be followed from elsewhere: a place with requests has visits
		}
		if p.Variety.any() {
			p.Variety.widen(attrs, before+i, p.zone, draw)
		}
		if encrypted {
			attrs["clientSSLProtocol"], attrs["clientRequestScheme"] = tls.pick(draw(13)), "https"
		}
		if browser == "ChromeMobile" || browser == "MobileSafari" {
			attrs["clientDeviceType"] = "mobile"
		}
		t := Template{
			Attributes: attrs, Eyeball: true, asked: s.origin, chance: h | 1, Encrypted: encrypted, Threat: s.threat != "", incident: s.incident,
			Cached:   cachedStatus[attrs["cacheStatus"].(string)],
			PageView: attrs["edgeResponseContentTypeName"] == "html" && status >= 200 && status < 300,
			bytes:    s.bytes * (.5 + draw(14)), request: 350 + 900*draw(15), visits: visits, ttfb: s.ttfb * (.6 + .8*draw(16)),
			weight: (.5 + draw(17)) / float64(i+1),
		}
		if s.origin {
			attrs["originResponseStatus"] = status
			t.origin = t.ttfb * .85
			if draw(20) < .4 {
				t.LookupMs = 1 + uint64(30*draw(21))
			}
		}
		total += t.weight
		out[i] = t
	}
	for i := range out {
		out[i].weight *= s.share / total
	}
	return out
}

// cachedStatus are the cache states that count as served from the cache.
var cachedStatus = map[string]bool{"hit": true, "stale": true, "updating": true, "revalidated": true}
