package counters_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/counters"
	"github.com/weir-metrics/weir/services/exposer/internal/follow"
)

var (
	noon   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	http5m = &bucket.Definition{
		Dataset: "http_5m", Version: 1, ScopeKind: bucket.Zone, Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 30,
		Families: []bucket.Family{
			{Name: "cloudflare_zone_bytes", Help: "Bytes.", Unit: "bytes", Role: bucket.Total, Additive: true},
			{Name: "cloudflare_zone_requests", Help: "Requests.", Role: bucket.Total, Additive: true},
			{Name: "cloudflare_zone_visitors", Help: "Visitors.", Role: bucket.Total},
			{Name: "cloudflare_zone_requests_by_status_total", Help: "Requests by \"status\".", Labels: []string{"status"}, Role: bucket.Breakdown, Additive: true},
		},
	}
	days = &bucket.Definition{
		Dataset: "uniques_1d", Version: 1, ScopeKind: bucket.Zone, Size: 24 * time.Hour, Delay: time.Hour, Depth: 1,
		Families: []bucket.Family{{Name: "cloudflare_zone_uniques", Help: "Uniques.", Role: bucket.Total}},
	}
)

func zone(n int) bucket.Scope {
	return bucket.Scope{Kind: bucket.Zone, ID: strings.Repeat("0", 31) + strconv.Itoa(n)}
}

// entry is a bucket of a zone as the log has it, but for its revision.
func entry(scope bucket.Scope, name string, start, at time.Time, origin bucket.Origin, rows ...bucket.Rows) *bucketv1.Entry {
	b := &bucket.Bucket{
		Key:  bucket.Key{Dataset: http5m.Dataset, Scope: scope, Start: bucket.TimeOf(start)},
		Size: http5m.Size, Version: 1, Zone: name, Account: "Acme", Origin: origin, Finality: bucket.Confirmed, Variant: "rollup",
		SampleInterval: 1, ReadAt: bucket.TimeOf(at), Families: rows,
	}
	return &bucketv1.Entry{CommittedAt: wire.Timestamp(at), Kind: &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(b)}}
}

func requests(v float64) bucket.Rows {
	return bucket.Rows{Family: "cloudflare_zone_requests", Values: []float64{v}}
}

func defined(d *bucket.Definition) *bucketv1.Entry {
	return &bucketv1.Entry{CommittedAt: wire.Timestamp(noon), Kind: &bucketv1.Entry_DatasetVersion{DatasetVersion: wire.ProtoDefinition(d)}}
}

// hands is a clock that a test sets.
type hands struct{ at atomic.Int64 }

func (h *hands) set(t time.Time)                            { h.at.Store(t.UnixMilli()) }
func (h *hands) Now() time.Time                             { return time.UnixMilli(h.at.Load()).UTC() }
func (h *hands) WaitUntil(context.Context, time.Time) error { return errors.New("nobody waits") }

// reader is an exposer's counters, without the stream.
type reader struct {
	t        testing.TB
	clock    hands
	ends     counters.Ends
	board    *counters.Board
	in       *counters.Ingest
	rejected atomic.Int64
	given    int // entries of the log
}

func newReader(t testing.TB, now time.Time) *reader {
	r := &reader{t: t}
	r.clock.set(now)
	r.board = counters.NewBoard(&r.clock, &r.ends)
	r.in = counters.NewIngest(r.board, r, testkit.Logger(t))
	return r
}

func (r *reader) CounterRejected() { r.rejected.Add(1) }

var (
	first  = counter.Epoch{ID: "first", Began: noon.Add(-time.Hour), Settled: noon.Add(-time.Hour), Rules: counter.Rules}
	second = counter.Epoch{ID: "second", Began: noon.Add(time.Hour), Settled: noon.Add(time.Hour), Rules: counter.Rules}
)

// begin begins a stream with totals. The error is that of the handler.
func (r *reader) begin(e counter.Epoch, totals ...counter.Totals) error {
	r.in.SnapshotBegin(&bucketv1.StoreInfo{StoreId: "store"})
	for i, d := range []*bucket.Definition{http5m, days} {
		m := defined(d)
		m.Revision = uint64(i) + 1
		if err := r.in.Entry(m); err != nil {
			return err
		}
	}
	if err := r.in.CounterEpoch(wire.CounterEpoch(e)); err != nil {
		return err
	}
	for i := range totals {
		for _, m := range wire.CounterTotals(&totals[i]) {
			if err := r.in.CounterTotals(m); err != nil {
				return err
			}
		}
	}
	r.in.SnapshotEnd(&bucketv1.ResumePoint{}, time.Time{})
	return nil
}

// follow delivers entries of a log and confirms.
func (r *reader) follow(until time.Time, log ...*bucketv1.Entry) {
	r.t.Helper()
	for _, e := range log {
		if err := r.in.Entry(e); err != nil {
			r.t.Fatal(err)
		}
		r.given++
	}
	r.in.Complete(until)
	r.in.Progress(&bucketv1.ResumePoint{}, until)
}

// page is the page at a time of its clock.
func (r *reader) page(now time.Time, o counters.Options) (string, error) {
	r.clock.set(now)
	p, err := r.board.Page(nil, o)
	return string(p.Body), err
}

// reason is why there is no page; empty: there is one.
func (r *reader) reason(now time.Time) string {
	_, err := r.page(now, counters.Options{})
	var u counters.Unavailable
	if errors.As(err, &u) {
		return u.Reason
	}
	return ""
}

// values are the samples of a page by series.
func values(t testing.TB, page string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		series, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "} ")
		if text == "" {
			series, text, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if _, twice := out[series]; twice {
			t.Fatalf("%s is shown twice:\n%s", series, page)
		}
		out[series] = v
	}
	return out
}

// show passes buckets to the sink of the newest windows.
func (r *reader) show(log ...*bucketv1.Entry) {
	r.t.Helper()
	sink := r.ends.Open(sample.Store{})
	var decoder follow.Decoder
	for _, m := range log {
		e, err := decoder.Entry(m)
		if err == nil {
			err = sink.Entry(&e)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	sink.Confirm(follow.Point{})
}

var open = counters.Options{Format: expo.OpenMetrics, Created: true}
