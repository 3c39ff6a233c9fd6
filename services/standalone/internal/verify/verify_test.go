package verify

import (
	"context"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// The first progress comes before Prometheus is asked anything: one that does not answer is
// waited for visibly.
func TestProgressBeginsBeforeTheFirstAnswer(t *testing.T) {
	scripted := feedtest.NewScripted("01hzzzzzzzzzzzzzzzzzzzzzzz")
	conn := scripted.Serve(t)
	here := feedtest.Bucket("http_5m", feedtest.Zone(1), 0)
	scripted.Append(feedtest.T0.Add(time.Hour), feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)}, feedtest.Entry{Bucket: here})
	store, err := history.Open(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	silent := testkit.Listen(t) // nobody accepts
	defer func() { _ = silent.Close() }()
	prom, err := promapi.New(promapi.Config{URL: "http://" + silent.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var told []int
	_, err = Run(ctx, store, prom, Options{
		Selection: history.Selection{Range: bucket.Window{Start: here.Window().Start, End: here.Window().End}},
		Clock:     clock.NewManual(feedtest.T0.Add(24 * time.Hour)),
		Progress: func(done, total int) {
			told = append(told, done, total)
			cancel()
		},
	})
	if err == nil || len(told) != 2 || told[0] != 0 || told[1] == 0 {
		t.Errorf("told %v, error %v; want 0 of some", told, err)
	}
}
