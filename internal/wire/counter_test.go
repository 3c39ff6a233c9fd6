package wire_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Totals are the same after the way through their messages, in however many parts.
func TestCounterTotals(t *testing.T) {
	want := &counter.Totals{
		Scope: bucket.Scope{Kind: bucket.Zone, ID: strings.Repeat("1", 32)},
		Begun: map[string]time.Time{"cloudflare_zone_requests": time.UnixMilli(1_795_000_000_123)},
	}
	for n := range 4500 {
		x := counter.SeriesTotal{
			Family: "cloudflare_zone_requests", Zone: "shop.example", Account: "Acme", Labels: []string{"colo"}, Values: []string{fmt.Sprint(n)},
			Began: 1_795_000_000_123, Until: 1_795_000_900_000, Live: float64(n) / 3,
		}
		if n >= 4000 {
			x.Labels = []string{"datacenter"}
		}
		if n >= 3000 {
			x.Family, x.Late, x.LateBegan = "cloudflare_zone_bytes", 2, 1_795_000_000_500
			x.Parts = []counter.Part{{From: 1_795_000_600_000, Size: 300_000, Amount: 7}, {From: 1_795_000_700_000, Amount: 1, Late: true}}
		}
		want.Series = append(want.Series, x)
	}
	got := &counter.Totals{Begun: map[string]time.Time{}}
	messages := wire.CounterTotals(want)
	for _, m := range messages {
		part, err := wire.DecodeCounterTotals(m)
		if err != nil {
			t.Fatal(err)
		}
		got.Scope = part.Scope
		for family, at := range part.Begun {
			got.Begun[family] = at
		}
		got.Series = append(got.Series, part.Series...)
	}
	if len(messages) != 3 {
		t.Errorf("%d messages", len(messages))
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("(-want +got):\n%.2000s", d)
	}
	for name, spoil := range map[string]func(*bucketv1.CounterTotals){
		"scope is missing": func(m *bucketv1.CounterTotals) { m.Scope = nil },
		`"a-b"`:            func(m *bucketv1.CounterTotals) { m.Families[0].Family = "a-b" },
		`label name "a:b"`: func(m *bucketv1.CounterTotals) { m.Families[0].Labels = []string{"a:b"} },
		`"c-d"`:            func(m *bucketv1.CounterTotals) { m.BegunUnixMs = map[string]int64{"c-d": 1} },
	} {
		m := wire.CounterTotals(want)[0]
		spoil(m)
		got, err := wire.DecodeCounterTotals(m)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want an error with %s", err, name)
		}
		switch {
		case m.Scope == nil:
			if got != nil {
				t.Errorf("totals of no scope: %+v", got)
			}
		case len(got.Unread) != 1:
			t.Errorf("%s: %q are unread, want one family", name, got.Unread)
		}
	}
}

func TestCounterEpoch(t *testing.T) {
	want := counter.Epoch{ID: "e", Began: time.UnixMilli(1_795_000_000_000).UTC(), After: 7, Settled: time.UnixMilli(1_795_000_000_001).UTC(), Rules: 3}
	m := wire.CounterEpoch(want)
	if got, err := wire.DecodeCounterEpoch(m); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	m.SettledAt = nil
	if _, err := wire.DecodeCounterEpoch(m); err == nil || !strings.Contains(err.Error(), "settled_at") {
		t.Error(err)
	}
	if _, err := wire.DecodeCounterEpoch(nil); err == nil || !strings.Contains(err.Error(), "id is empty") {
		t.Error(err)
	}
}
