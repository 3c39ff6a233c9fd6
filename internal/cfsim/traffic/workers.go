package traffic

// Script is a Worker: code that runs in an account when it is asked.
type Script struct {
	Name string
	// RequestsPerMinute is its level; 0 is a script that is never asked.
	RequestsPerMinute float64
	// Subrequests are made by each request.
	Subrequests uint64
	// Failing is the share of requests that end in an error, 0 to 1.
	Failing float64
}

// NewWorkers returns the invocations of an account's scripts. All of them follow one
// curve. silent is as for [New].
func NewWorkers(seed uint64, id string, scripts []Script, silent func(minute int64) bool) *Model {
	p := Profile{}
	for _, s := range scripts {
		p.RequestsPerMinute += s.RequestsPerMinute
	}
	s := Hash(seed, HashString(id), 4000)
	return newModel(s, p.withDefaults(""), workerTemplates(s, scripts), silent)
}

// outcomes are how invocations end, of those that fail and of those that do not.
var outcomes = []struct {
	status string
	failed bool
	share  float64
}{
	{"success", false, .98},
	{"clientDisconnected", false, .02},
	{"scriptThrewException", true, .8},
	{"exceededResources", true, .2},
}

func workerTemplates(seed uint64, scripts []Script) []Template {
	var out []Template
	for i, s := range scripts {
		for j, o := range outcomes {
			share := 1 - s.Failing
			if o.failed {
				share = s.Failing
			}
			for k, colo := range []string{"FRA", "IAD"} {
				h := Hash(seed, uint64(i), uint64(j), uint64(k))
				t := Template{
					Attributes: map[string]any{
						"scriptName": s.Name, "status": o.status, "coloCode": colo, "usageModel": "standard", "environmentName": "production",
					},
					Eyeball: true, Failed: o.failed, Subrequests: s.Subrequests,
					weight: s.RequestsPerMinute * share * o.share / 2, bytes: 900 + 2000*Unit(h),
					ttfb: 900 + 2600*Unit(Hash(h, 1)), origin: 18e3 + 60e3*Unit(Hash(h, 2)),
				}
				if o.failed { // before it asked anybody
					t.Subrequests, t.bytes = 0, 0
				}
				out = append(out, t)
			}
		}
	}
	return out
}
