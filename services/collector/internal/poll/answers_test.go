package poll_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
)

// asks counts the queries that ask a node of a zone.
func asks(q cloudflare.Query, zone, node string) (alias string, asked bool) {
	if !slices.Contains(q.Zones, zone) {
		return "", false
	}
	for _, s := range q.Selections {
		if s.Node == node {
			return s.Alias, true
		}
	}
	return "", false
}

// A zone that is missing from an answer is not a zone without traffic (G3).
func TestAZoneThatIsNotInTheAnswerIsNotVisible(t *testing.T) {
	w, shop := newWorld(t, nil), cfsim.Tag("zone:shop.example")
	w.stand(&between{answer: func(a *cloudflare.Response) { delete(a.Zones, shop) }})
	w.run(time.Hour)
	if n := w.count("http_5m", shop); n != 0 {
		t.Errorf("%d buckets of a zone that no answer held are stored", n)
	}
	if got := w.gaps("http_5m", shop); len(got) != 1 || got[ledger.NotVisible] < 36 {
		t.Errorf("gaps by reason are %v, want three hours of %s", got, ledger.NotVisible)
	}
	if n := w.count("http_5m", cfsim.Tag("zone:blog.example")); n < 36 {
		t.Errorf("only %d buckets of another zone are stored", n)
	}
}

// An answer that fills its page may have been cut: what it says is not stored,
// and a window that cannot be asked in smaller parts is a gap that says so (G12).
func TestAFullPageIsNotStored(t *testing.T) {
	shop := cfsim.Tag("zone:shop.example")
	for _, c := range []struct{ page, final int }{{1, 0}, {2, 36}} { // a window is one row
		w := newWorld(t, nil)
		w.stand(&between{settings: func(zone, node string, s *cloudflare.Settings) {
			if zone == shop && node == "httpRequests1mGroups" {
				s.MaxPageSize = c.page
			}
		}})
		w.run(time.Hour)
		if n := w.count("http_5m", shop); c.final == 0 && n > 0 || n < c.final {
			t.Errorf("with pages of %d rows %d buckets are stored", c.page, n)
		}
		if got := w.gaps("http_5m", shop)[ledger.TooBig]; (got > 0) != (c.final == 0) {
			t.Errorf("with pages of %d rows %d windows are too big", c.page, got)
		}
		w.checkTruth()
	}
}

// A question that is too big is asked in parts until every part fits.
func TestAQuestionThatIsTooBigIsAskedInParts(t *testing.T) {
	w := newWorld(t, nil)
	w.stand(&between{query: func(q cloudflare.Query) error {
		for _, s := range q.Selections {
			if strings.HasPrefix(s.Node, "httpRequests1m") && s.Window.Len() > 30*time.Minute {
				return &cloudflare.Error{Class: cloudflare.TooBig, Message: "too many rows"}
			}
		}
		return nil
	}})
	w.run(3 * time.Hour)
	w.checkTruth()
	for _, name := range []string{"shop.example", "checkout.example", "blog.example", "api.example"} {
		if n := w.missing(cfsim.Tag("zone:"+name), began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%s: %d windows are missing", name, n)
		}
	}
}

// What Cloudflare has dropped is lost once: an entry of the log for every
// window, which a change of leader does not repeat (G2, G11).
func TestWhatCloudflareDropsIsLostOnRecord(t *testing.T) {
	w, media := newWorld(t, nil), cfsim.Tag("zone:media.example")
	var away bool
	w.stand(&between{query: func(cloudflare.Query) error {
		if away {
			return &cloudflare.Error{Class: cloudflare.Transient, Message: "away"}
		}
		return nil
	}})
	w.run(time.Hour)
	away = true
	w.run(26 * time.Hour) // a Pro zone's minutes are kept for a day
	away = false
	w.run(time.Hour)
	lost := func() (spans bucket.Spans, entries int) {
		for _, e := range w.entries(bucket.KindGapDecision) {
			if e.Key.Dataset == "http_5m" && e.Key.Scope.ID == media {
				entries++
				spans = spans.Add(bucket.Window{Start: e.Key.Start, End: e.End})
			}
		}
		return spans, entries
	}
	spans, entries := lost()
	if len(spans) != 1 || spans[0].Len() < 2*time.Hour || spans[0].Len() > 3*time.Hour {
		t.Fatalf("lost are %v; want one range of two to three hours", spans)
	}
	// Everything is either lost or stored.
	stored := w.stored()
	for start := bucket.TimeOf(began.Add(-2 * time.Hour)).Ceil(5 * time.Minute); start < bucket.TimeOf(w.clock.Now()).Add(-time.Hour); start = start.Add(5 * time.Minute) {
		b := stored[bucket.Key{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: media}, Start: start}]
		if (b == nil) != spans[0].Contains(start) {
			t.Errorf("window %s: stored %t, lost %t", start, b != nil, spans[0].Contains(start))
		}
	}
	w.run(10 * time.Minute) // another leader
	if again, n := lost(); n != entries {
		t.Errorf("after a change of leader there are %d entries about lost windows (%v), before %d", n, again, entries)
	}
}

// A dataset that Cloudflare does not understand is asked for once an hour, and
// costs the others nothing.
func TestADatasetThatIsNotUnderstoodRests(t *testing.T) {
	w := newWorld(t, nil)
	tried := 0
	w.stand(&between{query: func(q cloudflare.Query) error {
		for _, s := range q.Selections {
			if s.Node == "httpRequests1hGroups" && slices.Contains(s.Fields, "uniq.uniques") {
				tried++
				return &cloudflare.Error{Class: cloudflare.Ours, Field: "uniques", Message: `unknown field "uniques"`}
			}
		}
		return nil
	}})
	w.run(50 * time.Minute)
	if tried < 3 || tried > 5 { // after pauses that double
		t.Errorf("a dataset that is not understood was asked for %d times in 50 minutes", tried)
	}
	if n := w.count("uniques_1h", cfsim.Tag("zone:shop.example")); n != 0 {
		t.Errorf("%d of its buckets are stored", n)
	}
	if n := w.count("http_5m", cfsim.Tag("zone:shop.example")); n < 36 {
		t.Errorf("only %d buckets of another dataset are stored", n)
	}
}

// A window that fails in each answer waits longer each time, although the witness
// that is asked along with it, and is wanted by nobody, is read well.
func TestAWitnessThatIsReadEndsNoBackoff(t *testing.T) {
	w, blog := newWorld(t, nil), cfsim.Tag("zone:blog.example") // Free, so that each window is a selection
	w.only("http_5m")
	bad, asked := began.Truncate(5*time.Minute).Add(-5*time.Minute), 0
	b := &between{}
	var spoil string // alias
	b.query = func(q cloudflare.Query) error {
		spoil = ""
		for _, s := range q.Selections {
			if slices.Contains(q.Zones, blog) && s.Window.Start.Std().Equal(bad) && s.Window.Len() == 5*time.Minute {
				spoil = s.Alias
				asked++
			}
		}
		return nil
	}
	b.answer = func(a *cloudflare.Response) {
		if groups := a.Zones[blog][spoil]; len(groups) > 0 {
			a.Zones[blog][spoil] = append(groups, groups[0])
		}
	}
	w.stand(b)
	w.run(20 * time.Minute)
	if asked < 3 || asked > 60 { // the others that are asked along with it are read
		t.Errorf("a window that cannot be read was asked %d times in twenty minutes", asked)
	}
	if n := w.gaps("http_5m", blog)[ledger.BadAnswer]; n == 0 {
		t.Error("the ledger does not say why it is missing")
	}
}

// What Cloudflare answered from a sample says so in a family of its own, on
// whatever page it is shown; what it counted has no such row (G12).
func TestASampledBucketSaysSo(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Sampling = cfsim.Sampling{Enabled: true, Load: 10} })
	w.only("http_5m")
	w.run(2 * time.Hour)
	family := w.catalogue.Find("http_5m").Interval
	estimates := map[string]int{}
	for key, b := range w.stored() {
		says := value(b, family)
		if estimate := b.SampleInterval > 1; estimate {
			estimates[b.Variant]++
			if says != b.SampleInterval {
				t.Errorf("%s has sample interval %v, %s is %v", key, b.SampleInterval, family, says)
			}
		} else if says != -1 {
			t.Errorf("%s was counted (sample interval %v), %s is %v", key, b.SampleInterval, family, says)
		}
	}
	if estimates["adaptive"] < 10 || len(estimates) != 1 {
		t.Errorf("estimates by variant: %v", estimates)
	}
	if n := w.missing(cfsim.Tag("zone:blog.example"), began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows of a zone that is sampled are missing", n)
	}
}
