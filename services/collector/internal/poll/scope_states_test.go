package poll_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// The gauge, the log and GetCoverage, which the status page shows, say the same of each zone and
// dataset.
func TestStatesAreThoseOfCoverage(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		zones("shop.example", "blog.example", "api.example", "media.example", "parked.example", "docs.example")(c)
		for i := range c.Zones {
			switch c.Zones[i].Name {
			case "api.example":
				c.Tokens[0].Denied = append(c.Tokens[0].Denied, c.Zones[i].ID)
			case "media.example":
				c.Zones[i].Events = []cfsim.ZoneEvent{{At: began.Add(-5 * time.Hour), Pause: true}}
			}
		}
	})
	log, logs := testkit.RecordingLogger(t)
	w.config.Logger = log
	b := &between{}
	w.stand(b)
	blog := cfsim.Tag("zone:blog.example")
	b.query = func(q cloudflare.Query) error {
		if slices.Contains(q.Zones, blog) {
			return &cloudflare.Error{Class: cloudflare.BadResponse, Zone: blog, Message: "no JSON"}
		}
		return nil
	}
	docs := cfsim.Tag("zone:docs.example")
	b.unread = func(zones []string) error {
		if slices.Contains(zones, docs) {
			return &cloudflare.Error{Class: cloudflare.BadResponse, Zone: docs, Message: "no JSON"}
		}
		return nil
	}
	w.leading(3*time.Hour, func(ctx context.Context, _ *poll.Poller) {
		found := w.statesAgree(ctx)
		for _, state := range []string{"denied unauthorized", "behind bad_answer", "paused ", "waiting suspect", "collecting "} {
			if found[state] == 0 {
				t.Errorf("nothing is %s: the story has lost its subject", state)
			}
		}
	})
	if n := logs.Count(`states="behind (bad_answer): 9, collecting: 7, denied (unauthorized): 5, paused: 5, waiting (suspect): 4"`); n != 1 {
		t.Errorf("%d lines have the states at the beginning of the term, want one: %s", n, logs)
	}
	if n := logs.Count("msg=\"collecting changed"); n > 30 {
		t.Errorf("%d lines about changes in three hours", n)
	}
}

// statesAgree compares the gauge with the coverage that a standby reads from the store, and counts
// the states.
func (w *world) statesAgree(ctx context.Context) map[string]int {
	t := w.t
	t.Helper()
	src := &status.Source{Store: w.store, Catalogue: w.catalogue, Clock: w.clock, Retention: w.config.Retention, Leading: func() bool { return false }}
	all, _, err := src.Coverage(ctx, store.Filter{}, bucket.Window{})
	scopes, err2 := src.Scopes(ctx)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	label := map[string]string{}
	for _, s := range scopes {
		label[s.GetScope().GetId()] = s.GetZoneLabel()
	}
	coverage := map[string]*bucketv1.Coverage{}
	for _, c := range all {
		coverage[label[c.GetScope().GetId()]+" "+c.GetDataset()] = c
	}
	found := map[string]int{}
	for name := range w.gauges() {
		rest, is := strings.CutPrefix(name, "weir_collector_scope_state ")
		if !is {
			continue
		}
		// account, dataset, reason, state, zone
		part := strings.Split(rest, " ")
		dataset, reason, state, zone := part[1], part[2], part[3], part[4]
		found[state+" "+reason]++
		c := coverage[zone+" "+dataset]
		if c == nil {
			t.Errorf("%s of %s is %s, and has no coverage", dataset, zone, state)
			continue
		}
		var has []string
		for _, r := range c.GetRanges() {
			has = append(has, strings.ToLower(strings.TrimPrefix(r.GetState().String(), "COVERAGE_STATE_")+" "+strings.TrimPrefix(r.GetReason().String(), "GAP_REASON_")))
		}
		wrong := func(s string) bool { return strings.HasPrefix(s, "missing") && s != "missing pending" }
		switch state {
		case "behind", "denied": // a zone without settings is, even before a window of it is due
			if len(has) > 0 && !slices.Contains(has, "missing "+reason) {
				t.Errorf("%s of %s is %s for %s, and coverage has %v", dataset, zone, state, reason, has)
			}
		case "waiting":
			if !slices.Contains(has, "waiting "+reason) || slices.ContainsFunc(has, wrong) {
				t.Errorf("%s of %s is waiting for %s, and coverage has %v", dataset, zone, reason, has)
			}
		case "paused": // its windows of before are still asked for
			if slices.ContainsFunc(has, wrong) {
				t.Errorf("%s of %s is paused, and coverage has %v", dataset, zone, has)
			}
		case "collecting":
			if slices.ContainsFunc(has, wrong) {
				t.Errorf("%s of %s is collecting, and coverage has %v", dataset, zone, has)
			}
		default:
			t.Errorf("%s of %s is %s, which the test does not know", dataset, zone, state)
		}
	}
	return found
}
