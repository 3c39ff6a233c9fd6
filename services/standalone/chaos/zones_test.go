package chaos

import (
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
	"github.com/weir-metrics/weir/internal/clock"
)

// The zones of every world. Two see changes in their lives, one appears late,
// one has no traffic.
var zoneNames = []string{"shop.example", "blog.example", "api.example", "docs.example", "quiet.example", "changing.example", "late.example"}

// lively are zones and accounts with steady traffic that nothing but faults happens to.
var lively = map[string]bool{"shop.example": true, "blog.example": true, "api.example": true, "docs.example": true, retailAccount: true, labsAccount: true}

// zones draws what happens to zones, as events.
func (d dice) zones(s *schedule) {
	at := d.between(40*time.Minute, s.Faulty-30*time.Minute)
	changes := []string{"rename", "downgrade", "upgrade", "move", "pause", "leave", "delete", ""}
	first := d.one(changes...)
	if first != "" {
		s.Events = append(s.Events, event{At: at, Kind: zoneEvent, Zone: "changing.example", Becomes: first})
	}
	if first == "pause" || first == "leave" {
		s.Events = append(s.Events, event{At: d.between(at, s.Faulty), Kind: zoneEvent, Zone: "changing.example", Becomes: "resume"})
	}
	if first == "move" && d.chance(.5) {
		s.Events = append(s.Events, event{At: d.between(at, s.Faulty), Kind: zoneEvent, Zone: "changing.example", Becomes: "return"})
	}
	s.Events = append(s.Events, event{At: d.between(time.Minute, s.Faulty), Kind: zoneEvent, Zone: "late.example", Becomes: "create"})
}

// cloudflare is the simulated world of a schedule.
func (s *schedule) cloudflare(c clock.Clock) (cfsim.Config, error) {
	retail, labs := cfsim.Account{ID: cfsim.Tag("account:retail"), Name: "Retail"}, cfsim.Account{ID: cfsim.Tag("account:labs"), Name: "Labs"}
	if s.Workers {
		retail.Workers = []traffic.Script{{Name: "checkout", RequestsPerMinute: 300, Subrequests: 2, Failing: .01}, {Name: "nightly", RequestsPerMinute: .2}}
		labs.Workers = []traffic.Script{{Name: "api", RequestsPerMinute: 120, Failing: .1}}
	}
	zone := func(name string, account cfsim.Account, plan cfsim.Plan, perMinute float64) cfsim.Zone {
		p := traffic.Profile{RequestsPerMinute: perMinute, PeakHour: int(s.Seed % 24), Cells: 12, Subrequests: .1, OddStrings: s.Odd}
		return cfsim.Zone{ID: cfsim.Tag("zone:" + name), Name: name, Account: account.ID, Plan: plan, Traffic: p}
	}
	out := cfsim.Config{
		Clock: c, Seed: s.Seed, Accounts: []cfsim.Account{retail, labs},
		Settling: s.Settling, Switches: s.Switches, Limits: s.Limits, Sampling: s.Sampling, LogSize: 500,
		Zones: []cfsim.Zone{
			zone("shop.example", retail, cfsim.Enterprise, 900),
			zone("blog.example", retail, cfsim.Free, 60),
			zone("api.example", labs, cfsim.Pro, 400),
			zone("docs.example", labs, cfsim.Business, 120),
			zone("quiet.example", labs, cfsim.Pro, 0),
			zone("changing.example", retail, cfsim.Pro, 200),
			zone("late.example", labs, cfsim.Business, 300),
		},
	}
	for _, c := range s.credentials() {
		out.Tokens = append(out.Tokens, c.token(c.secret))
	}
	byName := map[string]*cfsim.Zone{}
	for i := range out.Zones {
		byName[out.Zones[i].Name] = &out.Zones[i]
	}
	for _, e := range s.Events {
		switch e.Kind {
		case api:
			f := e.Fault
			f.From, f.To = s.Began.Add(e.At), s.Began.Add(e.At+e.For)
			out.Faults = append(out.Faults, f)
		case badToken:
			out.Tokens = append(out.Tokens, s.tokens(e)...)
		case zoneEvent:
			z, at := byName[e.Zone], s.Began.Add(e.At).Truncate(time.Minute)
			change := cfsim.ZoneEvent{At: at}
			switch e.Becomes {
			case "create":
				z.Created = at
				continue
			case "rename":
				change.Rename = "renamed.example"
			case "downgrade":
				change.Plan = cfsim.Free
			case "upgrade":
				change.Plan = cfsim.Business
			case "move":
				change.Account = labs.ID
			case "return":
				change.Account = retail.ID
			case "pause":
				change.Pause = true
			case "leave":
				change.Leave = true
			case "resume":
				change.Resume = true
			case "delete":
				change.Delete = true
			default:
				return out, fmt.Errorf("zone %s becomes %q: unknown", e.Zone, e.Becomes)
			}
			z.Events = append(z.Events, change)
		}
	}
	return out, nil
}
