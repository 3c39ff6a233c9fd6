package poll_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
)

// The label is the scope's, not its name: two zones of one name must not share
// a series.
func TestBucketsCarryTheFrozenLabel(t *testing.T) {
	w, shop, blog := newWorld(t, nil), cfsim.Tag("zone:shop.example"), cfsim.Tag("zone:blog.example")
	w.stand(&between{zones: func(zones []cloudflare.Zone) []cloudflare.Zone {
		var of *cloudflare.Zone
		for i := range zones {
			if zones[i].ID == shop {
				of = &zones[i]
			}
		}
		for i := range zones {
			if zones[i].ID == blog {
				zones[i].Name, zones[i].Account = of.Name, of.Account
			}
		}
		return zones
	}})
	w.run(time.Hour)
	labels := map[string]string{}
	for key, b := range w.stored() {
		if was := labels[key.Scope.ID]; was != "" && was != b.Zone {
			t.Fatalf("%s has label %q, another of its buckets %q", key, b.Zone, was)
		}
		labels[key.Scope.ID] = b.Zone
	}
	owner, other := min(shop, blog), max(shop, blog) // of two seen at once the lower tag keeps the name
	if labels[owner] != "shop.example" || labels[other] != "shop.example#"+other[:8] {
		t.Errorf("labels are %q and %q", labels[owner], labels[other])
	}
}

// A changed definition is another version; an unchanged one is not.
func TestAChangedDefinitionIsANewVersion(t *testing.T) {
	w := newWorld(t, nil)
	w.run(30 * time.Minute)
	w.catalogue.Find("http_5m").Description += " In other words."
	w.run(30 * time.Minute)
	w.run(30 * time.Minute)
	versions := map[string]int{}
	for _, e := range w.entries(bucket.KindDatasetVersion) {
		versions[e.Key.Dataset]++
	}
	if versions["http_5m"] != 2 || versions["uniques_1h"] != 1 {
		t.Errorf("versions by dataset are %v", versions)
	}
	last := bucket.Time(0)
	for key, b := range w.stored() {
		if key.Dataset == "http_5m" && b.ReadAt > last {
			last = b.ReadAt
			if want := uint32(2); b.ReadAt > bucket.TimeOf(began.Add(31*time.Minute)) && b.Version != want {
				t.Fatalf("%s read at %s is of version %d, want %d", key, b.ReadAt, b.Version, want)
			}
		}
	}
}

// The API shows no zones to a token that has lost its permission: that ends no
// scope.
func TestAnEmptyListOfZonesEndsNothing(t *testing.T) {
	w := newWorld(t, nil)
	b := &between{}
	w.stand(b)
	w.run(30 * time.Minute)
	b.zones = func([]cloudflare.Zone) []cloudflare.Zone { return nil }
	w.run(3 * time.Hour)
	if n := w.missing(cfsim.Tag("zone:shop.example"), began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows are missing since no zone is listed", n)
	}
}

// A refused variant is not tried again for hours, by the next leader either;
// the next variant and the neighbours are collected meanwhile.
func TestARefusalIsRemembered(t *testing.T) {
	w, media := newWorld(t, nil), cfsim.Tag("zone:media.example")
	refused := 0
	w.stand(&between{query: func(q cloudflare.Query) error {
		alias, asked := asks(q, media, "httpRequests1mGroups")
		if !asked {
			return nil
		}
		refused++
		return &cloudflare.Error{Class: cloudflare.Entitlement, Zone: media, Alias: alias, Message: "zone does not have access to the path"}
	}})
	w.run(time.Hour)
	w.run(time.Hour)
	w.run(time.Hour)
	// Once, and then after 10, 20, 40 and 80 minutes, whoever leads.
	if refused != 5 {
		t.Errorf("the refused variant was asked for %d times in three hours, want 5", refused)
	}
	variants := map[string]int{}
	for key, b := range w.stored() {
		if key.Dataset == "http_5m" && key.Scope.ID == media {
			variants[b.Variant]++
		}
	}
	if variants["adaptive"] < 36 || variants["rollup_1m"] != 0 {
		t.Errorf("buckets by variant are %v, want all of the next variant", variants)
	}
	if n := w.missing(cfsim.Tag("zone:api.example"), began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows of a neighbour are missing", n)
	}
}

// A clock that is ahead of Cloudflare's makes nothing final early; that it is is
// said once and not with every answer.
func TestTheEarlierClockIsTrusted(t *testing.T) {
	w := newWorld(t, nil)
	log, said := testkit.RecordingLogger(t)
	w.config.Logger = log
	const ahead = 10 * time.Minute
	w.stand(&between{answer: func(a *cloudflare.Response) { a.Date = a.Date.Add(-ahead) }})
	w.run(2 * time.Hour)
	newest := bucket.Time(0)
	for key, b := range w.stored() {
		if key.Dataset == "http_5m" {
			newest = max(newest, b.Window().End)
		}
	}
	due := bucket.TimeOf(w.clock.Now()).Add(-ahead - 5*time.Minute)
	if newest > due || newest < due.Add(-15*time.Minute) {
		t.Errorf("the newest bucket ends at %s; by Cloudflare's clock the newest that is due ends at %s", newest, due)
	}
	if loud, all := said.Count("level=WARN msg=\"clock is ahead"), said.Count("clock is ahead"); loud != 1 || all < 10 {
		t.Errorf("that the clock is ahead is said %d of %d times, want once", loud, all)
	}
}

// The log's times ascend, also when a clock that is behind is heard of.
func TestCommitTimesDoNotGoBack(t *testing.T) {
	w := newWorld(t, nil)
	budget, b := w.budget(quota.Background), &between{}
	w.stand(b)
	w.run(time.Hour)
	budget.deny = nil // so that there is something to commit at once
	b.answer = func(a *cloudflare.Response) { a.Date = a.Date.Add(-30 * time.Minute) }
	w.run(time.Hour)
	last := time.Time{}
	for _, e := range w.entries(bucket.KindBucket) {
		if e.CommittedAt.Before(last) {
			t.Fatalf("revision %d was committed at %s, the one before at %s", e.Revision, e.CommittedAt, last)
		}
		last = e.CommittedAt
	}
	if !last.After(began.Add(time.Hour)) {
		t.Errorf("nothing was committed after %s", last)
	}
}

// What comes in time counts as live, what comes later as a repair (G10).
func TestLateBucketsAreRepairs(t *testing.T) {
	w := newWorld(t, nil)
	w.run(2 * time.Hour)
	n := map[bucket.Origin]int{}
	for key, b := range w.stored() {
		d := w.catalogue.Find(key.Dataset)
		late := b.ReadAt.Sub(b.Window().End.Add(d.Delay)) > 3*d.Size
		if late != (b.Origin == bucket.Repair) {
			t.Errorf("%s read at %s has origin %d", key, b.ReadAt, b.Origin)
		}
		n[b.Origin]++
	}
	if n[bucket.Live] < 100 || n[bucket.Repair] < 100 {
		t.Errorf("buckets by origin are %v; the story has lost its subject", n)
	}
}

// Nothing is fetched that retention would soon drop again.
func TestNothingIsFetchedForRetentionToDrop(t *testing.T) {
	w := newWorld(t, nil)
	w.config.Lookback, w.config.Retention = 24*time.Hour, 10*time.Hour
	w.run(time.Hour)
	oldest := bucket.TimeOf(began)
	for key := range w.stored() {
		oldest = min(oldest, key.Start)
	}
	if border := bucket.TimeOf(began.Add(-9 * time.Hour)); oldest < border || oldest > border.Add(time.Hour) {
		t.Errorf("the oldest bucket begins at %s, want the tenth of the retention's margin: %s", oldest, border)
	}
}

// A reading is of the moment at which it was asked for, however long the answer
// took: two readings a minute apart are two looks.
func TestAReadingIsOfWhenItWasSent(t *testing.T) {
	w := newWorld(t, nil)
	sent := map[bucket.Time]bool{}
	w.stand(&between{
		query: func(cloudflare.Query) error {
			sent[bucket.TimeOf(w.clock.Now())] = true
			return nil
		},
		answer: func(*cloudflare.Response) { w.clock.Advance(7 * time.Second) },
	})
	w.run(time.Hour)
	stored := w.stored()
	for key, b := range stored {
		if !sent[b.ReadAt] {
			t.Fatalf("%s was read at %s, when nothing was sent", key, b.ReadAt)
		}
	}
	if len(stored) < 100 {
		t.Errorf("only %d buckets are stored", len(stored))
	}
}
