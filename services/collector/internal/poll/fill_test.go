package poll_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

const (
	byMethod = "cloudflare_zone_requests_by_method"
	fillSpan = 3 // buckets
)

// methods is a world that collects requests by method, with zero fill or without.
func methods(t *testing.T, fills bool) *world {
	t.Helper()
	w := newWorld(t, zones("shop.example", "blog.example"))
	var others []string
	for _, d := range w.catalogue.Available {
		if d.Name != "methods" {
			others = append(others, d.Name)
		}
	}
	zeros := ""
	if fills {
		zeros = fmt.Sprintf(", zero_fill: %d", fillSpan)
	}
	c, err := catalogue.Load([]byte("datasets:\n  - {name: methods_5m, enabled: true, delay: 5m"+zeros+"}\n"), catalogue.Options{Disable: others})
	if err != nil {
		t.Fatal(err)
	}
	w.catalogue, w.config.Catalogue = c, c
	return w
}

// silence leaves groups of a method out of what is answered for a zone, or all of them.
func (w *world) silence(zone, method string, from, to time.Time) {
	w.stand(&between{answer: func(a *cloudflare.Response) {
		for alias, groups := range a.Zones[cfsim.Tag("zone:"+zone)] {
			a.Zones[cfsim.Tag("zone:"+zone)][alias] = slices.DeleteFunc(groups, func(g map[string]any) bool {
				dims, _ := g["dimensions"].(map[string]any)
				is, _ := dims["clientRequestHTTPMethodName"].(string)
				text, _ := dims["datetimeFiveMinutes"].(string)
				at, err := time.Parse(time.RFC3339, text)
				return err == nil && (method == "" || is == method) && !at.Before(from) && at.Before(to)
			})
		}
	}})
}

// inOrder reads every bucket in the order of the log.
func (w *world) inOrder() []*bucket.Bucket {
	w.t.Helper()
	type at struct {
		revision bucket.Revision
		b        *bucket.Bucket
	}
	var all []at
	err := w.store.List(w.t.Context(), store.ListQuery{Window: bucket.Window{Start: 0, End: 1 << 40}}, func(e store.Entry) error {
		b, err := wire.DecodeBucket(e.Payload)
		all = append(all, at{e.Revision, b})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b at) int { return int(a.revision) - int(b.revision) })
	out := make([]*bucket.Bucket, len(all))
	for i := range all {
		out[i] = all[i].b
	}
	return out
}

// checkFilled compares the rows of 0 with what the log has before each bucket, and returns how
// many there are.
func (w *world) checkFilled() (filled int) {
	w.t.Helper()
	before := map[bucket.Key]map[string]float64{}
	for _, b := range w.inOrder() {
		rows := rowsOf(b, byMethod)
		want := map[string]bool{}
		for i := 1; i <= fillSpan; i++ {
			key := b.Key
			key.Start = b.Start.Add(-time.Duration(i) * b.Size)
			for method, n := range before[key] {
				if _, here := rows[method]; n != 0 && (!here || rows[method] == 0) {
					want[method] = true
				}
			}
		}
		for method, n := range rows {
			if n == 0 {
				filled++
				if !want[method] {
					w.t.Errorf("%s has a row of 0 for %s, which no bucket before it has", b.Key, method)
				}
				delete(want, method)
			}
		}
		if len(want) > 0 {
			w.t.Errorf("%s has no row for %v", b.Key, want)
		}
		before[b.Key] = rows
	}
	return filled
}

// A method that falls silent is 0 for as long as zero fill looks back, and absent then: whatever
// the order in which windows become final, and however often the collector restarts.
func TestWhatFallsSilentIsZero(t *testing.T) {
	for name, silent := range map[string]time.Duration{"one leader": 30 * time.Minute, "many leaders": 30 * time.Minute, "one append": -2 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			restart := name == "many leaders"
			w := methods(t, true)
			from := began.Add(silent).Truncate(5 * time.Minute)
			w.silence("shop.example", "POST", from, from.Add(time.Hour))
			step := 3 * time.Hour
			if restart {
				step = 7 * time.Minute
			}
			for ran := time.Duration(0); ran < 3*time.Hour; ran += step {
				w.run(step)
			}
			filled := w.checkFilled()
			posts := map[time.Duration]float64{}
			for _, b := range w.stored() {
				if n, there := rowsOf(b, byMethod)["POST"]; there && b.Scope.ID == cfsim.Tag("zone:shop.example") {
					posts[b.Start.Std().Sub(from)] = n
				}
			}
			for i := range 12 {
				n, there := posts[time.Duration(i)*5*time.Minute]
				if there != (i < fillSpan) || n != 0 {
					t.Errorf("POST is %v (there: %t) in the silent window %d", n, there, i)
				}
			}
			if posts[-5*time.Minute] == 0 || posts[time.Hour] == 0 || filled < fillSpan {
				t.Errorf("before and after it is %v and %v, and %d rows are 0", posts[-5*time.Minute], posts[time.Hour], filled)
			}
		})
	}
}

// Zero fill changes nothing but rows of 0: what becomes final, when and why is the same, also of
// windows without any group, which are empty with their rows.
func TestZeroFillDecidesNothing(t *testing.T) {
	story := func(fills bool) (all []bucket.Bucket, zeros int) {
		w := methods(t, fills)
		from := began.Add(time.Hour).Truncate(5 * time.Minute)
		w.silence("blog.example", "", from, from.Add(4*time.Hour))
		w.run(3 * time.Hour)
		w.run(25 * time.Hour)
		if fills {
			w.checkFilled()
		}
		empty := 0
		for _, b := range w.inOrder() {
			one := *b
			one.Families = nil
			for _, rows := range b.Families {
				kept := bucket.Rows{Family: rows.Family}
				n := len(rows.Labels) / len(rows.Values)
				for i, v := range rows.Values {
					if v == 0 {
						zeros++
						continue
					}
					kept.Values, kept.Labels = append(kept.Values, v), append(kept.Labels, rows.Labels[i*n:(i+1)*n]...)
				}
				if kept.Values != nil {
					one.Families = append(one.Families, kept)
				}
			}
			if b.Zero() {
				empty++
			}
			all = append(all, one)
		}
		if empty < 30 {
			t.Fatalf("%d buckets are empty: the story has lost its subject", empty)
		}
		return all, zeros
	}
	with, zeros := story(true)
	without, none := story(false)
	if diff := cmp.Diff(without, with); diff != "" || zeros < fillSpan || none != 0 {
		t.Errorf("%d rows of 0 with zero fill, %d without; buckets (-without +with):\n%s", zeros, none, strings.TrimSpace(diff)[:min(len(diff), 2000)])
	}
}

// A restatement has the rows of 0 of the bucket whose place it takes, and a difference of such
// rows alone is none.
func TestARestatementKeepsFilledZeros(t *testing.T) {
	w := methods(t, true)
	shop := bucket.Scope{Kind: bucket.Zone, ID: cfsim.Tag("zone:shop.example")}
	from := bucket.TimeOf(began.Add(30 * time.Minute)).Floor(5 * time.Minute)
	moved := false
	w.silence("shop.example", "POST", from.Std(), from.Std().Add(time.Hour))
	hook := w.config.Credentials[0].Client.(*between)
	silence := hook.answer
	hook.answer = func(a *cloudflare.Response) {
		silence(a)
		for _, groups := range a.Zones[shop.ID] {
			for _, g := range groups {
				dims := g["dimensions"].(map[string]any)
				if moved && dims["clientRequestHTTPMethodName"] == "GET" && dims["datetimeFiveMinutes"] == from.Std().Format(time.RFC3339) {
					g["count"] = json.Number("77000")
				}
			}
		}
	}
	w.run(25 * time.Hour) // of sampled datasets, windows of a day ago are believed
	w.leading(2*time.Hour, func(ctx context.Context, p *poll.Poller) {
		moved = true
		got, err := p.Restate(ctx, poll.Restate{
			Selection: poll.Selection{Datasets: []string{"methods_5m"}, Window: bucket.Window{Start: from, End: from.Add(10 * time.Minute)}},
			Asked:     poll.Asked{Requester: "ada", Reason: "Cloudflare corrected itself"},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, win := range got.Windows {
			want := poll.OutcomeEqual
			if win.Scope == shop && win.Start == from {
				want = poll.OutcomeRestated
			}
			if win.Outcome != want {
				t.Errorf("%s has the outcome %d: %s", win.Key, win.Outcome, win.Detail)
			}
		}
	})
	rows := rowsOf(w.restated()[bucket.Key{Dataset: "methods_5m", Scope: shop, Start: from}], byMethod)
	if post, there := rows["POST"]; rows["GET"] != 77000 || !there || post != 0 {
		t.Errorf("the restated bucket has %v", rows)
	}
}
