package leader

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/clock"
)

// A call that waits for a collector says so, once, after a few seconds.
func TestCallTellsThatItWaits(t *testing.T) {
	for name, c := range map[string]struct {
		away time.Duration // of all collectors
		told int
	}{"a moment": {2 * time.Second, 0}, "some time": {10 * time.Second, 1}, "for ever": {time.Hour, 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var told []time.Duration
				_, err := Call(t.Context(), clock.System(), true, func(until time.Time, err error) {
					if status.Code(err) != codes.Unavailable || !until.Equal(began.Add(patience)) {
						t.Errorf("told %v until %v", err, until)
					}
					told = append(told, time.Since(began))
				}, 1, func(context.Context, int) (int, error) {
					if time.Since(began) < c.away {
						return 0, status.Error(codes.Unavailable, "connection refused")
					}
					return 1, nil
				})
				if (err != nil) != (c.away > patience) {
					t.Error(err)
				}
				if len(told) != c.told || c.told > 0 && told[0] != silent {
					t.Errorf("told after %v; want %d times", told, c.told)
				}
			})
		})
	}
}
