package plan_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// paid and mixed are plans of zones, in turn.
var (
	paid  = []cfsim.Plan{cfsim.Pro}
	mixed = cfsim.Plans()
)

// offered are the wants of a zone of each plan, and of an account with the highest, as Cloudflare's
// settings grant them.
type offered struct {
	zone    map[cfsim.Plan][]plan.Want
	account []plan.Want
}

func offer(tb testing.TB, profile string) offered {
	tb.Helper()
	c, err := catalogue.Load(nil, catalogue.Options{Profile: profile})
	if err != nil {
		tb.Fatal(err)
	}
	config := cfsim.Demo(clock.NewManual(noon.Std()), 1)
	config.Limits.Queries = 10_000 // it is not sending that is measured here
	config.Zones = config.Zones[:0]
	for i, p := range mixed {
		config.Zones = append(config.Zones, cfsim.Zone{ID: zone(i).ID, Name: fmt.Sprintf("%s.example", p), Account: config.Accounts[0].ID, Plan: p})
	}
	sim, err := cfsim.New(config)
	if err != nil {
		tb.Fatal(err)
	}
	client, err := cloudflare.New(cloudflare.Config{
		BaseURL: "https://simulator.example" + cfsim.Prefix, Transport: cfsimtest.Transport(sim),
		Token: func() (string, error) { return cfsim.DemoToken, nil },
	})
	if err != nil {
		tb.Fatal(err)
	}
	account := bucket.Scope{Kind: bucket.Account, ID: config.Accounts[0].ID}
	all, contents := roster.Roster{}, roster.NewContents()
	for _, sc := range []bucket.Scope{zone(0), zone(1), zone(2), zone(3), account} {
		nodes := map[string]roster.Node{}
		for part := range slices.Chunk(nodesOf(c, sc.Kind), 50) {
			of, zones := sc.ID, []string(nil)
			if sc.Kind == bucket.Zone {
				of, zones = "", []string{sc.ID}
			}
			got, err := client.Settings(tb.Context(), of, zones, part)
			if err != nil {
				tb.Fatal(err)
			}
			for name, n := range got[sc.ID] {
				nodes[name] = roster.Node{
					Enabled: n.Enabled, MaxDuration: n.MaxDuration, MaxFields: n.MaxFields, MaxPageSize: n.MaxPageSize,
					NotOlderThan: n.NotOlderThan, Fields: n.Available,
				}
			}
		}
		all[sc] = &roster.Scope{Scope: sc, State: roster.Active}
		all[sc].Entitle(noon, contents.Of(nodes))
	}
	out := offered{zone: map[cfsim.Plan][]plan.Want{}}
	for _, claim := range all.Claims(noon, c.Datasets, roster.Terms{}) {
		w := plan.Want{Dataset: claim.Dataset, Variant: claim.Variant, Scope: claim.Scope.Scope, Limits: claim.Limits}
		switch {
		case w.Variant == nil || w.Dataset.State:
		case w.Scope == account:
			out.account = append(out.account, w)
		default:
			for i, p := range mixed {
				if w.Scope == zone(i) {
					out.zone[p] = append(out.zone[p], w)
				}
			}
		}
	}
	return out
}

func nodesOf(c *catalogue.Catalogue, kind bucket.ScopeKind) (nodes []string) {
	for i := range c.Datasets {
		for _, v := range c.Datasets[i].Variants {
			if c.Datasets[i].ScopeKind == kind && !c.Datasets[i].State {
				nodes = append(nodes, v.Node)
			}
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// zones are the wants of so many zones of these plans in turn. Their ids say nothing about their plans.
func (o offered) zones(n int, plans []cfsim.Plan) (wants []plan.Want) {
	for i := range n {
		for _, w := range o.zone[plans[i%len(plans)]] {
			w.Scope.ID = cfsim.Tag(fmt.Sprintf("zone %d", i))
			wants = append(wants, w)
		}
	}
	return wants
}

// packed is what an hour of wants takes, in requests per five minutes.
type packed struct {
	sent float64
	// moments is the least for what is asked at the moments at which it is: each scope and selection
	// that a want asks alone, at most 50 in a request, and at most ten zones.
	moments float64
	// least is the same for as many readings as it takes, whenever they are, each without the windows
	// after it that show that it is whole.
	least float64
}

func pack(wants []plan.Want) (p packed) {
	c := plan.DefaultCeilings
	plan.Hour(wants, c, func(made plan.Plan, alone [][]plan.Request) {
		cells, scopes := 0., map[bucket.Scope]bool{}
		for _, requests := range alone {
			for _, r := range requests {
				cells += float64(len(r.Selections))
				scopes[r.Scopes[0]] = true
			}
		}
		zones := 0.
		for sc := range scopes {
			if sc.Kind == bucket.Account {
				zones += float64(c.Zones) // an account has a request of its own
			} else {
				zones++
			}
		}
		p.sent += float64(len(made.Requests)) / 12
		p.moments += math.Ceil(max(cells/float64(c.Selections), zones/float64(c.Zones))) / 12
	})
	cells, often := 0., map[bucket.Scope]float64{} // in five minutes
	for _, w := range wants {
		if w.Dataset.Size > time.Hour {
			continue
		}
		readings := float64(w.Dataset.Confirm)
		if w.Variant.Sampled {
			readings = 1
		}
		readings *= float64(5*time.Minute) / float64(w.Dataset.Size)
		cells += readings
		each := readings / float64(c.Zones)
		if w.Scope.Kind == bucket.Account {
			each = readings
		}
		often[w.Scope] = max(often[w.Scope], each)
	}
	sum := 0.
	for _, n := range often {
		sum += n
	}
	p.least = max(cells/float64(c.Selections), sum)
	return p
}

// lablabs is what lablabs/cloudflare-exporter sends of a paid zone in five minutes, measured.
const lablabs = 3.6

// BenchmarkPacking prints the requests per five minutes of zones of one paid plan and of all four
// plans, once nothing is missing, beside the least and beside what lablabs/cloudflare-exporter
// sends.
func BenchmarkPacking(b *testing.B) {
	for _, profile := range catalogue.Profiles {
		of := offer(b, profile)
		for name, plans := range map[string][]cfsim.Plan{"paid": paid, "mixed": mixed} {
			for _, n := range []int{10, 60, 300, 1000} {
				b.Run(fmt.Sprintf("%s/%s/zones=%d", profile, name, n), func(b *testing.B) {
					var p packed
					for b.Loop() {
						p = pack(of.zones(min(n, 300), plans))
					}
					scale := max(1, float64(n)/300)
					b.ReportMetric(p.sent*scale, "sent")
					b.ReportMetric(p.moments*scale, "moments")
					b.ReportMetric(p.least*scale, "least")
					b.ReportMetric(lablabs*float64(n), "lablabs")
				})
			}
		}
		b.Run(profile+"/account", func(b *testing.B) {
			var p packed
			for b.Loop() {
				p = pack(of.account)
			}
			b.ReportMetric(p.sent, "sent")
			b.ReportMetric(p.moments, "moments")
			b.ReportMetric(p.least, "least")
		})
	}
}

// missing are the wants with a day of windows that are not there.
func missing(wants []plan.Want, now bucket.Time) []plan.Want {
	for i := range wants {
		d := wants[i].Dataset
		due := plan.Due(now, d.Size, d.Delay)
		wants[i].Window = bucket.Window{Start: due.Add(-24 * time.Hour), End: due}
	}
	return wants
}

// cells are the scopes × selections of requests.
func cells(requests []plan.Request) (n float64) {
	for _, r := range requests {
		n += float64(len(r.Scopes) * len(r.Selections))
	}
	return n
}

// BenchmarkCatchUp plans the requests for a day that is missing of all zones: how many there are, the
// least for the same selections, and what the plan takes.
func BenchmarkCatchUp(b *testing.B) {
	for _, profile := range catalogue.Profiles {
		of := offer(b, profile)
		for _, plans := range [][]cfsim.Plan{paid, mixed} {
			for _, n := range []int{60, 300} {
				b.Run(fmt.Sprintf("%s/plans=%d/zones=%d", profile, len(plans), n), func(b *testing.B) {
					wants := missing(of.zones(n, plans), noon)
					p := benchmarkPlan(b, wants, 0)
					least := 0.
					for i := range wants {
						least += cells(plan.Make(noon, wants[i:i+1], state{}, plan.DefaultCeilings).Requests)
					}
					b.ReportMetric(float64(len(p.Requests)), "requests")
					b.ReportMetric(math.Ceil(least/50), "least")
				})
			}
		}
	}
}

// BenchmarkCatchUpStep plans a step of it: as many requests as are sent before the next plan.
func BenchmarkCatchUpStep(b *testing.B) {
	of := offer(b, catalogue.AllProfile)
	for _, n := range []int{60, 300, 1000} {
		b.Run(fmt.Sprintf("zones=%d", n), func(b *testing.B) {
			p := benchmarkPlan(b, missing(of.zones(n, mixed), noon), 300)
			b.ReportMetric(float64(len(p.Requests)), "requests")
		})
	}
}

func benchmarkPlan(b *testing.B, wants []plan.Want, ahead int) (p plan.Plan) {
	b.Helper()
	b.ReportAllocs()
	c := plan.DefaultCeilings
	c.Ahead = ahead
	for b.Loop() {
		p = plan.Make(noon, wants, state{}, c)
	}
	return p
}
