package dial_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-metrics/weir/internal/dial"
)

// However long collectors were away, one that is back is found soon.
func TestCollectorsAreTriedAgainSoon(t *testing.T) {
	for name, addresses := range map[string][]string{"one": {"192.0.2.1:1"}, "several": {"192.0.2.1:1", "192.0.2.2:1"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				tried := map[string][]time.Time{}
				conn, err := dial.OpenWith(dial.Config{Addresses: addresses}, nil, net.DefaultResolver.LookupHost, grpc.WithContextDialer(func(_ context.Context, to string) (net.Conn, error) {
					mu.Lock()
					defer mu.Unlock()
					tried[to] = append(tried[to], time.Now())
					return nil, errors.New("nobody is there")
				}))
				if err != nil {
					t.Fatal(err)
				}
				conn.Connect()
				time.Sleep(20 * time.Minute) // virtual
				if err := conn.Close(); err != nil {
					t.Fatal(err)
				}
				for _, a := range addresses {
					times := tried[a]
					if len(times) < 300 {
						t.Fatalf("%s was tried %d times in 20 minutes", a, len(times))
					}
					if first := times[1].Sub(times[0]); first > 300*time.Millisecond {
						t.Errorf("%s was tried again after %s", a, first)
					}
					for i := range times[1:] {
						if pause := times[i+1].Sub(times[i]); pause > 4*time.Second { // 3 s and a fifth
							t.Errorf("%s was left alone for %s", a, pause)
						}
					}
				}
			})
		})
	}
}
