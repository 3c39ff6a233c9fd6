package catalogue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
)

// filling has a total, a family with a limit, one without, and one that is optional.
const filling = `
datasets:
  - name: filling
    description: Requests by host
    scope: zone
    size: 1h
    depth: 6
    level: cloudflare_zone_filling_requests
    zero_fill: 2h
    families:
      - {name: cloudflare_zone_filling_requests, help: Requests.}
      - {name: cloudflare_zone_filling_requests_by_host, help: Requests., labels: [host]}
      - {name: cloudflare_zone_filling_visits_by_host, help: Visits., labels: [host]}
      - {name: cloudflare_zone_filling_bytes_by_host, help: Bytes., labels: [host]}
      - {name: cloudflare_zone_filling_average_seconds, help: Duration., unit: seconds, labels: [host], additive: false}
    limits:
      cloudflare_zone_filling_requests_by_host: {top: 3, except: {host: [denied]}}
    variants:
      - name: adaptive
        node: testGroups
        filter_field: datetime
        times: {1h: datetimeHour}
        sampled: true
        interval: avg.sampleInterval
        dimensions: [host]
        rows: 100
        measures:
          - {family: cloudflare_zone_filling_requests, field: count}
          - {family: cloudflare_zone_filling_requests_by_host, field: count, labels: {host: host}}
          - {family: cloudflare_zone_filling_visits_by_host, field: sum.visits, labels: {host: host}}
          - {family: cloudflare_zone_filling_bytes_by_host, field: sum.bytes, optional: true, labels: {host: host}}
          - {family: cloudflare_zone_filling_average_seconds, field: avg.seconds, labels: {host: host}}
`

// hosts folds a window with so many requests by host.
func hosts(t *testing.T, d *Dataset, v *Variant, start bucket.Time, interval float64, of map[string]int) *Folded {
	t.Helper()
	var list []string
	for host, n := range of {
		list = append(list, fmt.Sprintf(`{"dimensions":{"datetimeHour":%q,"host":%q},"count":%d,"sum":{"visits":%d,"bytes":%d},"avg":{"seconds":1,"sampleInterval":%v}}`,
			start.Std().Format(time.RFC3339), host, n, n/2, 100*n, interval))
	}
	folded, err := d.Fold(v, bucket.Window{Start: start, End: start.Add(d.Size)}, groups(t, "["+strings.Join(list, ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	return &folded[0]
}

func bucketOf(d *Dataset, start bucket.Time, families []bucket.Rows) *bucket.Bucket {
	return &bucket.Bucket{Key: bucket.Key{Dataset: d.Dataset, Start: start}, Size: d.Size, Families: families}
}

// rowsOf are the rows of one family.
func rowsOf(families []bucket.Rows, family string) map[string]float64 {
	out := map[string]float64{}
	for name, v := range flatten(Folded{Families: families}) {
		if labels, ok := strings.CutPrefix(name, family+"["); ok {
			out[strings.TrimSuffix(labels, "]")] = v
		}
	}
	return out
}

func TestFillZeros(t *testing.T) {
	d := load(t, filling, Options{}).Find("filling_1h")
	v := &d.Variants[0]
	at := func(hour int) bucket.Time { return at10(60 * hour) }
	const requests, visits, bytes = "cloudflare_zone_filling_requests_by_host", "cloudflare_zone_filling_visits_by_host", "cloudflare_zone_filling_bytes_by_host"
	earlier := func(of ...map[string]int) (out []*bucket.Bucket) {
		for i, hosts1 := range of {
			start := at(i - len(of))
			out = append(out, bucketOf(d, start, hosts(t, d, v, start, 1, hosts1).Families))
		}
		return out
	}
	without := v.Without([]string{"sum_bytes"})
	for name, test := range map[string]struct {
		earlier  []*bucket.Bucket
		now      map[string]int
		interval float64
		variant  *Variant
		want     map[string]map[string]float64 // by family
		filled   int
	}{
		"silent": {
			earlier: earlier(map[string]int{"a": 5, "b": 1}), now: map[string]int{"a": 4}, filled: 2, // b had no visit
			want: map[string]map[string]float64{requests: {"a": 4, "b": 0}, visits: {"a": 2}, bytes: {"a": 400, "b": 0}},
		},
		"nothing at all": {
			earlier: earlier(map[string]int{"a": 5}), now: nil, filled: 3,
			want: map[string]map[string]float64{requests: {"a": 0}, visits: {"a": 0}, bytes: {"a": 0}, "cloudflare_zone_filling_requests": {"": 0}, "cloudflare_zone_filling_average_seconds": {}},
		},
		"no earlier": {now: map[string]int{"a": 4}, want: map[string]map[string]float64{requests: {"a": 4}}},
		"an estimate": {
			earlier: earlier(map[string]int{"a": 5, "b": 10}), now: map[string]int{"a": 40}, interval: 10,
			want: map[string]map[string]float64{requests: {"a": 40}},
		},
		"not fed": {
			earlier: earlier(map[string]int{"b": 10}), now: map[string]int{"a": 4}, variant: without, filled: 2,
			want: map[string]map[string]float64{requests: {"a": 4, "b": 0}, visits: {"a": 2, "b": 0}, bytes: {}},
		},
		// What is in other is not zero.
		"summed by the limit": {
			earlier: earlier(map[string]int{"z": 50}), now: map[string]int{"a": 4, "b": 3, "c": 2, "z": 1}, filled: 0,
			want: map[string]map[string]float64{requests: {"a": 4, "b": 3, "c": 2, "other": 1}, bytes: {"a": 400, "b": 300, "c": 200, "z": 100}},
		},
		"denied": {
			earlier: []*bucket.Bucket{bucketOf(d, at(-1), []bucket.Rows{{Family: requests, Labels: []string{"denied"}, Values: []float64{7}}})},
			now:     map[string]int{"a": 4, "denied": 1}, want: map[string]map[string]float64{requests: {"a": 4, "other": 1}},
		},
		"other is nothing": {
			earlier: []*bucket.Bucket{bucketOf(d, at(-1), []bucket.Rows{{Family: requests, Labels: []string{"other"}, Values: []float64{7}}})},
			now:     map[string]int{"a": 4}, want: map[string]map[string]float64{requests: {"a": 4, "other": 0}}, filled: 1,
		},
		// With the limit, the latest and then the largest stay: three, and one for other.
		"the limit": {
			earlier: earlier(map[string]int{"a": 90}, map[string]int{"b": 2, "c": 4, "d": 4}), now: map[string]int{"x": 1, "y": 1},
			want:   map[string]map[string]float64{requests: {"x": 1, "y": 1, "c": 0, "d": 0}, visits: {"x": 0, "y": 0, "a": 0, "b": 0, "c": 0, "d": 0}},
			filled: 2 + 4 + 4,
		},
		"a filled row": {
			earlier: []*bucket.Bucket{bucketOf(d, at(-1), []bucket.Rows{{Family: requests, Labels: []string{"b"}, Values: []float64{0}}})},
			now:     map[string]int{"a": 4}, want: map[string]map[string]float64{requests: {"a": 4}},
		},
		"other labels": {
			earlier: []*bucket.Bucket{bucketOf(d, at(-1), []bucket.Rows{{Family: requests, Labels: []string{"b", "c"}, Values: []float64{1}}})},
			now:     map[string]int{"a": 4}, want: map[string]map[string]float64{requests: {"a": 4}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			variant := v
			if test.variant != nil {
				variant = test.variant
			}
			f := hosts(t, d, variant, at(0), max(1, test.interval), test.now)
			before := flatten(*f)
			got, filled := d.FillZeros(variant, f, test.earlier)
			slices.Reverse(test.earlier)
			if again, _ := d.FillZeros(variant, f, test.earlier); !cmp.Equal(got, again) {
				t.Error("the order of earlier buckets makes a difference")
			}
			if filled != test.filled {
				t.Errorf("%d rows are said to be filled, not %d", filled, test.filled)
			}
			for family, want := range test.want {
				if diff := cmp.Diff(want, rowsOf(got, family)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", family, diff)
				}
			}
			if diff := cmp.Diff(before, flatten(*f)); diff != "" {
				t.Errorf("the reading was altered:\n%s", diff)
			}
			var order []int
			for _, r := range got {
				order = append(order, d.family(r.Family))
			}
			if !slices.IsSorted(order) {
				t.Errorf("families are in the order %v", order)
			}
		})
	}
	if w, ok := d.Earlier(at(0)); !ok || w != (bucket.Window{Start: at(-2), End: at(0)}) {
		t.Errorf("earlier buckets are of %s, %v", w, ok)
	}
	if text := d.Markdown(); !strings.Contains(text, "stored as 0 where they fall silent, for up to 2 buckets") {
		t.Errorf("the description does not say so:\n%s", text)
	}
	// A family without a limit has bounds of its own.
	many := map[string]int{}
	for i := range 1500 {
		many[fmt.Sprint("h", i)] = 10 + i
	}
	if got, _ := d.FillZeros(v, hosts(t, d, v, at(0), 1, nil), earlier(many)); len(rowsOf(got, bytes)) != mostFilled || rowsOf(got, bytes)["h1499"] != 0 {
		t.Errorf("%d rows", len(rowsOf(got, bytes)))
	}
	// A restatement keeps the rows of 0, and adds none.
	f := hosts(t, d, v, at(0), 1, map[string]int{"a": 4})
	was := bucketOf(d, at(0), []bucket.Rows{{Family: requests, Labels: []string{"a", "b", "c"}, Values: []float64{3, 0, 1}}})
	if diff := cmp.Diff(map[string]float64{"a": 4, "b": 0}, rowsOf(d.KeepZeros(v, f, was), requests)); diff != "" {
		t.Errorf("a restatement (-want +got):\n%s", diff)
	}
}

// Whatever the windows hold: sums stay, no row is lost or doubled, filled rows are 0 and were
// something in the windows before.
func TestFillZerosChangesNoSum(t *testing.T) {
	d := load(t, filling, Options{}).Find("filling_1h")
	v := &d.Variants[0]
	rng := rand.New(rand.NewPCG(14, 21))
	var log []*bucket.Bucket
	for hour := range 200 {
		of := map[string]int{}
		for range rng.IntN(6) {
			of[string(rune('a'+rng.IntN(8)))] = 1 + rng.IntN(50)
		}
		start := at10(60 * hour)
		f := hosts(t, d, v, start, 1, of)
		w, _ := d.Earlier(start)
		var earlier []*bucket.Bucket
		for _, b := range log {
			if w.Contains(b.Start) {
				earlier = append(earlier, b)
			}
		}
		families, filled := d.FillZeros(v, f, earlier)
		got, had := flatten(Folded{Families: families}), flatten(*f)
		if len(got) != len(had)+filled {
			t.Fatalf("%d rows became %d with %d filled", len(had), len(got), filled)
		}
		for name, value := range got {
			was, there := had[name]
			seen := slices.ContainsFunc(earlier, func(b *bucket.Bucket) bool { return flatten(Folded{Families: b.Families})[name] != 0 })
			if there && was != value || !there && (value != 0 || !seen) {
				t.Fatalf("%s is %v, and was %v", name, value, was)
			}
		}
		log = append(log, bucketOf(d, start, families))
	}
}

func TestZeroFillErrors(t *testing.T) {
	for name, test := range map[string]struct{ to, want string }{
		"none":      {"zero_fill: 0", `zero_fill is "0"; it must be 1 to 12 buckets, or a duration such as 1h`},
		"many":      {"zero_fill: 13", `zero_fill is "13"; it must be 1 to 12 buckets`},
		"long":      {"zero_fill: 13h", "dataset filling_1h: zero_fill must be 1 to 12 buckets of 1h, or a duration of as many"},
		"part":      {"zero_fill: 90m", "zero_fill must be 1 to 12 buckets of 1h"},
		"no number": {"zero_fill: yes", `zero_fill is "yes"; it must be `},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Load([]byte(strings.Replace(filling, "zero_fill: 2h", test.to, 1)), Options{}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v\nnot %s", err, test.want)
			}
		})
	}
	for text, want := range map[string]string{
		"{name: tunnels, zero_fill: 3}":    "zero_fill is set; what a state does not have is gone, not zero",
		"{name: uniques_1h, zero_fill: 3}": "zero_fill is set, and no family is an amount with labels, which alone can be filled",
	} {
		if _, err := Load([]byte("datasets:\n  - "+text+"\n"), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if d := load(t, "datasets:\n  - {name: countries, zero_fill: 12}\n", Options{}).Find("countries_1h"); d.ZeroFill != 12 {
		t.Errorf("a built-in dataset looks %d buckets back", d.ZeroFill)
	}
}
