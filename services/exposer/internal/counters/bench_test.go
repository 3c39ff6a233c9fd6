package counters_test

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/expo"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/counters"
	"github.com/weir-metrics/weir/services/exposer/internal/gzpart"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// many is a reader with that many series in zones of 100, each with the parts that it has in
// operation.
func many(t testing.TB, series int) (*reader, time.Time) {
	r := newReader(t, noon)
	if err := r.begin(first); err != nil {
		t.Fatal(err)
	}
	now := noon
	for window := range 8 {
		start := noon.Add(time.Duration(window) * http5m.Size)
		now = start.Add(12 * time.Minute)
		r.clock.set(now)
		var log []*bucketv1.Entry
		for z := range series / 100 {
			rows := bucket.Rows{Family: "cloudflare_zone_requests_by_status_total"}
			for i := range 100 {
				rows.Labels = append(rows.Labels, fmt.Sprint(200+i))
				rows.Values = append(rows.Values, float64(window*100_000+z*17+i))
			}
			scope := bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", z)}
			log = append(log, entry(scope, fmt.Sprintf("zone-%05d.example", z), start, now, bucket.Live, rows))
		}
		r.follow(now, log...)
	}
	if got := r.board.State().Series; got != series {
		t.Fatalf("%d series, want %d", got, series)
	}
	return r, now
}

// A page costs its length, in a buffer that is used again, and nothing for each series.
func TestPagesAllocateNothingForASeries(t *testing.T) {
	allocations := func(series int) float64 {
		r, _ := many(t, series)
		var buf []byte
		return testing.AllocsPerRun(3, func() {
			p, err := r.board.Page(buf[:0], counters.Options{Format: expo.Text})
			if err != nil {
				t.Fatal(err)
			}
			buf = p.Body
		})
	}
	if few, more := allocations(100), allocations(5000); more > few+1 {
		t.Errorf("a page of 100 series makes %v allocations, one of 5,000 makes %v", few, more)
	}
}

// A page in a new buffer takes its own length of memory, and not several times that for having
// grown.
func TestAPageDoesNotGrow(t *testing.T) {
	r, _ := many(t, 5000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p, err := r.board.Page(nil, counters.Options{Format: expo.Text})
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > uint64(len(p.Body))*3 { // twice with the race detector
		t.Errorf("%d bytes are allocated for a page of %d", n, len(p.Body))
	}
}

// cpu is the time that this process has had: on a busy machine it says more than the clock.
func cpu() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func BenchmarkPage(b *testing.B) {
	some := selection.Of(selection.Set{Zones: []string{"zone-00007.example"}})
	for _, o := range []counters.Options{{Format: expo.Text}, {Format: expo.OpenMetrics}, open, {Format: expo.Text, Only: some}} {
		for _, encoding := range []expo.Encoding{expo.Identity, expo.Gzip} {
			b.Run(fmt.Sprintf("%s,created=%t,all=%t,%s", o.Format, o.Created, o.Only == selection.Everything, encoding), func(b *testing.B) {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				r, _ := many(b, 100_000)
				runtime.GC()
				runtime.ReadMemStats(&after)
				var buf, zipped []byte
				page := func() {
					p, err := r.board.Page(buf[:0], o)
					if err != nil {
						b.Fatal(err)
					}
					buf = p.Body
					if encoding == expo.Gzip { // as package web
						zipped = gzpart.Append(zipped[:0], buf)
					}
				}
				page()
				b.ReportAllocs()
				began := cpu()
				for b.Loop() {
					page()
				}
				b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(len(buf)), "B/page")
				b.ReportMetric(float64(len(zipped)), "B/zipped")
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/100_000, "B/series")
			})
		}
	}
}
