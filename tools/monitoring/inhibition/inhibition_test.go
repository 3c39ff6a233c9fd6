package inhibition

import (
	"log/slog"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
)

const alerts = "../../../deploy/alerts/"

// severities are those of the shipped rules, by alert.
func severities(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(alerts + "weir.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range regexp.MustCompile(`alert: (\w+)\n(?s:.*?)labels: \{severity: (\w+)\}`).FindAllSubmatch(text, -1) {
		out[string(m[1])] = string(m[2])
	}
	if len(out) < 30 {
		t.Fatalf("the severities of %d alerts were read; this test no longer understands the rules", len(out))
	}
	return out
}

// inhibited fires alerts and returns those that Alertmanager does not send.
func inhibited(t *testing.T, conf *config.Config, severity map[string]string, fire ...string) (out []string) {
	t.Helper()
	now := time.Now()
	log := slog.New(slog.DiscardHandler)
	all, err := mem.NewAlerts(t.Context(), time.Hour, 0, nil, log, eventrecorder.NopRecorder(), prometheus.NewRegistry(), featurecontrol.NoopFlags{})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	labels := func(name string) model.LabelSet {
		return model.LabelSet{"alertname": model.LabelValue(name), "severity": model.LabelValue(severity[name]), "dataset": "http_5m", "instance": "collector-0:9821"}
	}
	for _, name := range fire {
		if severity[name] == "" {
			t.Fatalf("there is no alert %s", name)
		}
		a := &types.Alert{Alert: model.Alert{Labels: labels(name), StartsAt: now.Add(-time.Minute), EndsAt: now.Add(time.Hour)}, UpdatedAt: now}
		if err := all.Put(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	inhibitor := inhibit.NewInhibitor(all, conf.InhibitRules, log, eventrecorder.NopRecorder())
	done := make(chan struct{})
	go func() { defer close(done); inhibitor.Run() }()
	defer func() { inhibitor.Stop(); <-done }()
	inhibitor.WaitForLoading()
	for _, name := range fire {
		if inhibitor.Mutes(t.Context(), labels(name)) {
			out = append(out, name)
		}
	}
	return out
}

// Of two alerts for one cause one is sent. A page is always sent, also if everything
// fires; and alone each alert is sent.
func TestOneNotificationForOneCause(t *testing.T) {
	conf, err := config.LoadFile(alerts + "alertmanager.yml")
	if err != nil {
		t.Fatal(err)
	}
	severity := severities(t)
	for _, pair := range []struct{ sent, inhibited string }{
		{"WeirNoLeader", "WeirTargetDown"},
		{"WeirNoExposer", "WeirTargetDown"},
		{"WeirReplayTooOld", "WeirTargetDown"},
		{"WeirNoZones", "WeirSelectionUnmatched"},
		{"WeirUpstreamFailing", "WeirDataLate"},
		{"WeirZoneDenied", "WeirDataLate"},
		{"WeirAccountDenied", "WeirDataLate"},
		{"WeirDatasetOff", "WeirDataLate"},
		{"WeirInvalidValue", "WeirDataLate"},
		{"WeirTooManyRows", "WeirDataLate"},
		{"WeirBudgetShort", "WeirDataLate"},
		{"WeirBudgetShared", "WeirDataLate"},
	} {
		if got := inhibited(t, conf, severity, pair.sent, pair.inhibited); !slices.Equal(got, []string{pair.inhibited}) {
			t.Errorf("%s and %s: %v is inhibited, want %s", pair.sent, pair.inhibited, got, pair.inhibited)
		}
	}
	var everything []string
	for name := range severity {
		everything = append(everything, name)
		if got := inhibited(t, conf, severity, name); len(got) > 0 {
			t.Errorf("%s is inhibited by nothing but itself", name)
		}
	}
	got := inhibited(t, conf, severity, everything...)
	slices.Sort(got)
	if want := []string{"WeirDataLate", "WeirSelectionUnmatched", "WeirTargetDown"}; !slices.Equal(got, want) {
		t.Errorf("when everything fires %v are inhibited, want %v", got, want)
	}
	for _, name := range got {
		if severity[name] != "warning" {
			t.Errorf("%s is a %s and can be inhibited", name, severity[name])
		}
	}
}
