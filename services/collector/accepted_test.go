package collector_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/collectortest"
)

// noFaults is a gate that lets everything through.
type noFaults struct{}

func (noFaults) Before(ctx context.Context, _ collectortest.Op) (context.Context, error) {
	return ctx, nil
}
func (noFaults) After(context.Context, collectortest.Op) error { return nil }

// newcomer starts a collector on a SQLite file with the token of a file.
func newcomer(t *testing.T, token, file string) *member {
	t.Helper()
	clk := clock.System()
	config, err := load("WEIR_DRAIN=100ms", "WEIR_SQLITE_FILE="+file, "WEIR_CLOUDFLARE_URL=https://simulator.example"+cfsim.Prefix)
	if err != nil {
		t.Fatal(err)
	}
	if config.Token, err = cli.ReadSecret(token); err != nil {
		t.Fatal(err)
	}
	config.Simulated = true
	return run(t, config, collector.Deps{Clock: clk, Transport: cfsimtest.Transport(cfsimtest.New(t, cfsim.Demo(clk, 1)))})
}

func (m *member) readiness(code int, says string) {
	m.t.Helper()
	testkit.Eventually(m.t, func() error {
		if got, body := m.get("/-/ready"); got != code || !strings.Contains(body, says) {
			return fmt.Errorf("readiness is %d, %s; want %d, %q", got, body, code, says)
		}
		return nil
	})
}

// A new installation with a wrong token is not ready and says why, so that helm install --wait
// fails and the alert on a refused token fires. Once a token has been accepted, one that is
// refused leaves the collector ready, also after a restart: exposers live on it.
func TestANewStoreIsReadyWhenItsTokenWasAccepted(t *testing.T) {
	dir := t.TempDir()
	token, file := filepath.Join(dir, "token"), filepath.Join(dir, "weir.db")
	testkit.WriteFile(t, token, []byte(strings.Repeat("x", 40)))
	m := newcomer(t, token, file)
	m.leads()
	m.readiness(http.StatusServiceUnavailable, "Cloudflare has not accepted an API token yet: Cloudflare refuses the API token")
	testkit.Eventually(t, func() error {
		if m.shows(`weir_collector_problems{code="TOKEN_REFUSED"} 0`) {
			return errors.New("no problem from which WeirTokenRefused fires")
		}
		return nil
	})
	m.stop()
	m = newcomer(t, token, file)
	m.readiness(http.StatusServiceUnavailable, "Cloudflare has not accepted an API token yet")
	m.stop()

	testkit.WriteFile(t, token, []byte(cfsim.DemoToken))
	m = newcomer(t, token, file)
	m.readiness(http.StatusOK, "is ready")
	m.stop()

	testkit.WriteFile(t, token, []byte(strings.Repeat("x", 40)))
	m = newcomer(t, token, file)
	m.readiness(http.StatusOK, "is ready")
	testkit.Eventually(t, func() error {
		if m.shows(`weir_collector_problems{code="TOKEN_REFUSED"} 0`) {
			return errors.New("the token is not refused")
		}
		return nil
	})
	m.readiness(http.StatusOK, "is ready")
}

// A standby has no answers of Cloudflare and learns from the store.
func TestAStandbyIsReadyWhenTheLeadersTokenWasAccepted(t *testing.T) {
	w := newWorld(t, "Acme")
	db, err := collector.OpenTemporary(t.Context(), collector.Config{SampleTimestamp: "end"}, collector.Deps{LeaseClock: clock.System()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	shared := collectortest.Share(db, clock.System())
	w.open = func(context.Context) (collector.Store, error) { return shared.Guard(noFaults{}), nil }
	leader := w.join(t)
	leader.leads()
	standby := w.join(t)
	for _, m := range []*member{leader, standby} {
		m.readiness(http.StatusServiceUnavailable, "Cloudflare has not accepted an API token yet: there is no answer of Cloudflare yet")
	}
	w.gate.release()
	for _, m := range []*member{leader, standby} {
		m.readiness(http.StatusOK, "is ready")
	}
	if standby.logs.Count("msg=leading") > 0 {
		t.Error("the standby leads")
	}
}
