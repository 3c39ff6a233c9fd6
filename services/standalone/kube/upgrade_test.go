package kube

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// The chart before this one, with its programs, is upgraded with its data, goes back, and is
// upgraded again.
func TestUpgradeOfTheChartBefore(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"standalone", "ha"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "upgrade-"+mode)
			previous := os.Getenv(previousVariable)
			about, err := os.ReadFile(previous + "/Chart.yaml")
			if err != nil {
				t.Fatal(err)
			}
			first := strings.Contains(string(about), "\nversion: 0.1.") // it has drivers instead of modes
			values := w.values(fmt.Sprintf(map[string]string{"standalone": standalone, "ha": ha}[mode], w.name))
			oldValues := values
			if first {
				old := map[string]string{"standalone": "store: {driver: sqlite, sqlite: {size: 1Gi}}", "ha": "store: {postgres: {urlSecret: {name: weir-postgres}}}"}[mode]
				oldValues = w.values(fmt.Sprintf(common, w.name) + old)
			}
			exposers := map[string]int{"standalone": 0, "ha": 3}[mode]
			if mode == "ha" {
				_, url := w.postgres()
				w.secret("weir-postgres", "url", url)
			} else {
				w.volume()
			}
			w.secret("cloudflare", "token", firstToken)

			w.step("install of the chart before")
			w.helm("install", "weir", previous, "--values", oldValues, "--set", "image.tag=previous", "--wait", "--timeout", "8m")
			before := w.history(func(held map[string]string) error {
				if len(held) < 1000 {
					return fmt.Errorf("%d samples are there, want 1000", len(held))
				}
				return nil
			})

			upgrade := []string{"upgrade", "weir", chart, "--values", values, "--wait", "--timeout", "8m"}
			if mode == "standalone" && first {
				w.step("the upgrade says what to do about the StatefulSet, and changes nothing")
				w.refused([]string{"kubectl -n upgrade-standalone delete statefulset weir-collector --cascade=orphan"}, upgrade...)
				w.k("delete", "statefulset", "weir-collector", "--cascade=orphan")
			}
			w.step("upgrade")
			w.helm(upgrade...)
			w.readyPods("exposer", exposers)
			before = w.keeps(before)

			w.step("rollback")
			if mode == "standalone" && first {
				w.k("delete", "statefulset", "weir-collector", "--cascade=orphan")
			}
			w.helm("rollback", "weir", "1", "--wait", "--timeout", "8m")
			before = w.keeps(before)

			w.step("upgrade again")
			if mode == "standalone" && first {
				w.k("delete", "statefulset", "weir-collector", "--cascade=orphan")
			}
			w.helm(upgrade...)
			w.readyPods("exposer", exposers)
			w.keeps(before)
		})
	}
}

// history waits until what an exposer has of the last hours is enough, and returns it:
// values by series and time.
func (n *namespace) history(enough func(map[string]string) error) map[string]string {
	n.t.Helper()
	held := map[string]string{}
	testkit.Within(n.t, 4*time.Minute, func() error {
		time.Sleep(time.Second)
		url := n.service("weir-exposer", 9810) + "/backfill?format=text&hours=48"
		status, _, body, err := fetch(url)
		if err != nil || status != 200 {
			return fmt.Errorf("%s is %d: %w", url, status, err)
		}
		clear(held)
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			series, sample, found := strings.Cut(strings.TrimSpace(line), "} ")
			value, at, timed := strings.Cut(sample, " ")
			if !found || !timed {
				return fmt.Errorf("%s has the line %q, which is no sample with a timestamp", url, line)
			}
			held[series+"} "+at] = value
		}
		return enough(held)
	})
	return maps.Clone(held)
}

// keeps waits until an exposer has everything that it had, and more, with the same values.
func (n *namespace) keeps(before map[string]string) map[string]string {
	n.t.Helper()
	n.t.Logf("%d samples before", len(before))
	return n.history(func(held map[string]string) error {
		for key, value := range before {
			if now, there := held[key]; !there || now != value {
				return fmt.Errorf("%s was %s and is %q", key, value, now)
			}
		}
		if len(held) <= len(before) {
			return fmt.Errorf("nothing came after the %d samples before", len(before))
		}
		return nil
	})
}
