package poll_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// confident collects one dataset, with confidence intervals.
func confident(w *world) {
	w.t.Helper()
	w.only()
	var others []string
	for _, d := range w.catalogue.Available {
		if d.Name != "edge_responses" {
			others = append(others, d.Name)
		}
	}
	c, err := catalogue.Load([]byte("datasets:\n  - {name: edge_responses_1h, confidence: 0.95, enabled: true}\n"), catalogue.Options{Disable: others})
	if err != nil {
		w.t.Fatal(err)
	}
	w.catalogue, w.config.Catalogue = c, c
}

// rowsOf are a family's rows by labels without the level.
func rowsOf(b *bucket.Bucket, family string) map[string]float64 {
	out := map[string]float64{}
	for _, rows := range b.Families {
		if rows.Family != family {
			continue
		}
		n := len(rows.Labels) / len(rows.Values)
		for i, v := range rows.Values {
			labels := rows.Labels[i*n : (i+1)*n]
			out[strings.TrimSuffix(strings.Join(labels, "/"), "/0.95")] = v
		}
	}
	return out
}

// What is an estimate is stored with its bounds, on plans of all kinds: around it where it was
// sampled, equal to it where everything was counted.
func TestBoundsOfEstimates(t *testing.T) {
	for name, sampled := range map[string]bool{"sampled": true, "exact": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(conf *cfsim.Config) {
				zones("shop.example", "blog.example")(conf)
				conf.Sampling = cfsim.Sampling{Enabled: sampled, Load: 100, Hundredth: math.Inf(1)}
			})
			confident(w)
			w.run(5 * time.Hour)
			buckets, rows, wide, inside := 0, 0, 0, 0
			for key, b := range w.stored() {
				if b.Variant != "adaptive_confidence" {
					t.Fatalf("%s came through %s", key, b.Variant)
				}
				if sampled != (b.SampleInterval > 1) {
					continue // of small questions
				}
				buckets++
				const family = "cloudflare_zone_requests_by_status_country_host"
				values, lower, upper := rowsOf(b, family), rowsOf(b, family+"_estimate_lower"), rowsOf(b, family+"_estimate_upper")
				truth, err := w.sim.TrueGroups(key.Scope.ID, "httpRequestsAdaptiveGroups", key.Start.Std(), key.Start.Add(b.Size).Std(),
					map[string]any{"requestSource": "eyeball"}, "edgeResponseStatus", "clientCountryName", "clientRequestHTTPHost")
				if err != nil {
					t.Fatal(err)
				}
				exact := map[string]float64{}
				for _, g := range truth {
					exact[fmt.Sprintf("%v/%v/%v", g.Key[0], g.Key[1], g.Key[2])] = float64(g.Count)
				}
				for labels, low := range lower {
					rows++
					high, value := upper[labels], values[labels]
					if low > value || high < value || !sampled && low != high {
						t.Errorf("%s %s is %v, between %v and %v", key, labels, value, low, high)
					}
					if low < high {
						wide++
					}
					if low <= exact[labels] && exact[labels] <= high {
						inside++
					}
				}
				if len(lower) != len(upper) {
					t.Errorf("%s has %d lower and %d upper bounds", key, len(lower), len(upper))
				}
			}
			if buckets == 0 || rows == 0 || sampled != (wide > 0) {
				t.Fatalf("%d buckets with %d bounds, of which %d are wide", buckets, rows, wide)
			}
			if share := float64(inside) / float64(rows); share < .85 || !sampled && inside < rows {
				t.Errorf("the truth is within %d of %d bounds", inside, rows)
			}
		})
	}
}

// An API that refuses confidence intervals, or does not know them any more, costs them alone:
// the variant without them is used.
func TestRefusedConfidenceCostsTheBoundsAlone(t *testing.T) {
	shop := cfsim.Tag("zone:shop.example")
	for name, refusal := range map[string]string{
		"unknown field":     fmt.Sprintf(graphRefusal, `unknown field "confidence"`, "null", ""),
		"unknown argument":  fmt.Sprintf(graphRefusal, `error parsing args for "confidence": level`, "null", ""),
		"field not in plan": fmt.Sprintf(graphRefusal, "zone '"+shop+"' does not have access to the field 'confidence' from the path", "null", "authz"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, zones("shop.example"))
			confident(w)
			refused := 0
			w.front(func(_ time.Duration, document string) (int, string) {
				if !strings.Contains(document, "confidence(level:0.95)") {
					return 0, ""
				}
				refused++
				return 200, refusal
			})
			w.run(4 * time.Hour)
			stored := w.stored()
			if len(stored) < 6 || refused == 0 || refused > 30 {
				t.Errorf("%d buckets are stored, and %d requests were refused", len(stored), refused)
			}
			for key, b := range stored {
				if b.Variant != "adaptive" || len(rowsOf(b, "cloudflare_zone_requests_by_status_country_host_estimate_lower")) > 0 {
					t.Errorf("%s came through %s", key, b.Variant)
				}
			}
			if got := w.problems(trouble.DatasetDisabled); len(got) != 0 {
				t.Errorf("the dataset is disabled: %v", got)
			}
		})
	}
}
