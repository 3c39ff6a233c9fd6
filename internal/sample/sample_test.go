package sample_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

var http5m = &bucket.Definition{
	Dataset: "http_5m", Version: 1, ScopeKind: bucket.Zone, Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 30,
	Families: []bucket.Family{
		{Name: "cloudflare_zone_requests", Role: bucket.Total},
		{Name: "cloudflare_zone_bytes_by_status", Labels: []string{"status", "cache"}, Role: bucket.Breakdown},
	},
}

func example() *bucket.Bucket {
	return &bucket.Bucket{
		Key:  bucket.Key{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: strings.Repeat("a", 32)}, Start: 1795341300},
		Size: 5 * time.Minute, Version: 1, Zone: "shop.example", Account: "Acme",
		Families: []bucket.Rows{
			{Family: "cloudflare_zone_requests", Values: []float64{7}},
			{Family: "cloudflare_zone_bytes_by_status", Labels: []string{"200", "hit", "404", ""}, Values: []float64{0.5, 3}},
		},
	}
}

// spell writes samples as a person would.
func spell(sets []sample.Set) (out []string) {
	for i := range sets {
		s := &sets[i]
		for n := range s.Len() {
			var labels []string
			for name, value := range s.Common() {
				labels = append(labels, name+"="+value)
			}
			for j, value := range s.Own(n) {
				labels = append(labels, s.Family.Labels[j]+"="+value)
			}
			out = append(out, fmt.Sprintf("%s{%s} %g %d", s.Name, strings.Join(labels, ","), s.Value(n), s.At))
		}
	}
	return out
}

func TestSamples(t *testing.T) {
	for _, tc := range []struct {
		name  string
		stamp sample.Stamp
		spoil func(*bucket.Bucket)
		want  []string
	}{
		{"of a zone", sample.End, func(*bucket.Bucket) {}, []string{
			"cloudflare_zone_requests{zone=shop.example,account=Acme} 7 1795341599999",
			"cloudflare_zone_bytes_by_status{zone=shop.example,account=Acme,status=200,cache=hit} 0.5 1795341599999",
			"cloudflare_zone_bytes_by_status{zone=shop.example,account=Acme,status=404,cache=} 3 1795341599999",
		}},
		{"of an account, at the start", sample.Start, func(b *bucket.Bucket) { b.Zone, b.Families = "", b.Families[:1] }, []string{
			"cloudflare_zone_requests{account=Acme} 7 1795341300000",
		}},
		{"of a confirmed absence", sample.End, func(b *bucket.Bucket) { b.Families = nil }, nil},
	} {
		b := example()
		tc.spoil(b)
		sets, err := sample.Append(nil, b, http5m, tc.stamp)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if diff := cmp.Diff(tc.want, spell(sets)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// An output may add labels, give up early, and reuse the memory of the bucket before.
func TestCommonLabels(t *testing.T) {
	sets, err := sample.Append(make([]sample.Set, 0, 8), example(), http5m, sample.End)
	if err != nil {
		t.Fatal(err)
	}
	if sets, err = sample.Append(sets[:0], example(), http5m, sample.End); err != nil || len(sets) != 2 {
		t.Fatalf("%d sets: %v", len(sets), err)
	}
	sets[0].More = []sample.Label{{Name: "job", Value: "weir"}, {Name: "instance", Value: "x"}}
	for most := range 5 {
		var got []string
		for name, value := range sets[0].Common() {
			if len(got) == most {
				break
			}
			got = append(got, name+"="+value)
		}
		want := []string{"zone=shop.example", "account=Acme", "job=weir", "instance=x"}[:most]
		if diff := cmp.Diff(strings.Join(want, ","), strings.Join(got, ",")); diff != "" {
			t.Errorf("the first %d (-want +got):\n%s", most, diff)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(*bucket.Bucket)
		want  string
	}{
		{"unknown family", func(b *bucket.Bucket) { b.Families[0].Family = "cloudflare_zone_cats" }, `has no family "cloudflare_zone_cats"`},
		{"width", func(b *bucket.Bucket) { b.Families[0].Labels = []string{"x"} }, "rows with 1 labels; its definition has 0"},
		{"NaN", func(b *bucket.Bucket) { b.Families[0].Values[0] = math.NaN() }, "must be finite"},
		{"twice", func(b *bucket.Bucket) { copy(b.Families[1].Labels[2:], b.Families[1].Labels) }, "must be in ascending order"},
		{"before 2001", func(b *bucket.Bucket) { b.Start = 300 }, "must be greater than"},
	} {
		b := example()
		tc.spoil(b)
		if sets, err := sample.Append(nil, b, http5m, sample.End); err == nil || !strings.Contains(err.Error(), tc.want) || sets != nil {
			t.Errorf("%s: %d sets and the error %v, want one with %q", tc.name, len(sets), err, tc.want)
		}
	}
}

func TestTimestampPlausible(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name string
		at   sample.Millis
		ok   bool
	}{
		{"just past", sample.MillisOf(now) - 1, true},
		{"now", sample.MillisOf(now), false},
		{"future", sample.MillisOf(now) + 1, false},
		{"seconds taken for milliseconds", sample.Millis(now.Unix()), false},
		{"milliseconds taken for seconds", sample.MillisOf(now) * 1000, false},
		{"the border", sample.Earliest, false},
	} {
		if err := tc.at.Check(now); (err == nil) != tc.ok {
			t.Errorf("%s: Check(%d) = %v, want ok %v", tc.name, tc.at, err, tc.ok)
		}
	}
}

func TestStamp(t *testing.T) {
	w := bucket.Window{Start: 1795341300, End: 1795341600}
	for _, tc := range []struct {
		stamp sample.Stamp
		at    sample.Millis
		age   time.Duration // of the first sight of it
		name  string
	}{
		{sample.End, 1795341599999, 5 * time.Minute, "end"},
		{sample.Start, 1795341300000, 10 * time.Minute, "start"},
	} {
		if at, age, name := tc.stamp.Of(w), tc.stamp.Age(http5m), tc.stamp.String(); at != tc.at || age != tc.age || name != tc.name {
			t.Errorf("%s is at %d, first seen at an age of %s; want %s, %d and %s", name, at, age, tc.name, tc.at, tc.age)
		}
	}
}
