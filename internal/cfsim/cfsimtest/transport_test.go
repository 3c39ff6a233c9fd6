package cfsimtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/clock"
)

func TestTransportInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := cfsimtest.New(t, cfsim.Demo(clock.System(), 1))
		client := &http.Client{Transport: cfsimtest.Transport(sim)}
		get := func(timeout time.Duration) (int, []byte, error) {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sim.example"+cfsim.Prefix+"/zones", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+cfsim.DemoToken)
			resp, err := client.Do(r)
			if err != nil {
				return 0, nil, err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return resp.StatusCode, body, err
		}
		fault := func(f cfsim.Fault) {
			sim.ClearFaults()
			if _, err := sim.Inject(f); err != nil {
				t.Fatal(err)
			}
		}
		status, whole, err := get(time.Minute)
		if err != nil || status != 200 {
			t.Fatalf("%d %v", status, err)
		}
		fault(cfsim.Fault{Kind: cfsim.FaultReset})
		if _, _, err := get(time.Minute); !errors.Is(err, io.EOF) {
			t.Errorf("reset: %v", err)
		}
		fault(cfsim.Fault{Kind: cfsim.FaultShortBody})
		if status, body, err := get(time.Minute); status != 200 || !errors.Is(err, io.ErrUnexpectedEOF) || len(body) >= len(whole) {
			t.Errorf("short body: %d, %d bytes, %v", status, len(body), err)
		}
		fault(cfsim.Fault{Kind: cfsim.FaultSlow, Delay: 30 * time.Second})
		before := time.Now()
		if status, _, err := get(time.Minute); status != 200 || err != nil || time.Since(before) != 30*time.Second {
			t.Errorf("slow: %d %v after %s", status, err, time.Since(before))
		}
		if _, _, err := get(10 * time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("slower than the client waits: %v", err)
		}
	})
}
