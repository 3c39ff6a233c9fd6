package roster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

func many(n int) []roster.Seen {
	out := make([]roster.Seen, n)
	for i := range out {
		out[i] = zoneA()
		out[i].ID, out[i].Name = fmt.Sprintf("%08x%024x", uint32(i)*2654435761, i), fmt.Sprintf("z%d.example", i)
	}
	return out
}

// A list of zones that nobody waits for any more is given up, and leaves the
// roster as it was.
func TestDiscoveryEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the lease is lost")
	cancel(why)
	r := roster.Roster{}
	discover(t, r, noon, zoneA())
	if _, err := r.Discover(ctx, noon.Add(time.Hour), bucket.Zone, listed(noon.Add(time.Hour), many(1000), roster.Filter{}), time.Hour, nil); !errors.Is(err, why) {
		t.Errorf("the error is %v, want %v", err, why)
	}
	if len(r) != 1 || r[scope(idA)].State != roster.Active {
		t.Errorf("the roster has changed: %d scopes, the first is %s", len(r), r[scope(idA)].State)
	}
}

func find(t testing.TB, seen []roster.Seen) {
	r := roster.Roster{}
	for range 2 { // when all are new, and when all are known
		if _, err := r.Discover(t.Context(), noon, bucket.Zone, listed(noon, seen, roster.Filter{}), time.Hour, func(bucket.Scope) bucket.Time { return 0 }); err != nil {
			t.Fatal(err)
		}
	}
}

// How the time for a list of zones grows with their number: ns/zone stays.
func BenchmarkDiscover(b *testing.B) {
	for _, n := range []int{1000, 10_000, 30_000} {
		b.Run(fmt.Sprintf("zones=%d", n), func(b *testing.B) {
			seen := many(n)
			b.ReportAllocs()
			for b.Loop() {
				find(b, seen)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/zone")
		})
	}
}
