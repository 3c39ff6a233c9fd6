package deliver

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/sample"
)

// What a push builds on, seen in a real Prometheus without an out-of-order window: a request
// with the newest sample of each series may be repeated, which one with older samples may
// not; and what it says of samples is understood.
func TestRepetitionsInPrometheus(t *testing.T) {
	p := promtest.Start(t, "scrape_configs: []\n", "--web.enable-remote-write-receiver")
	now := time.Now()
	for name, two := range map[string]bool{"remote write 1": false, "remote write 2": true} {
		var to *RemoteWrite
		var err error
		if two {
			to, err = NewRemoteWrite2(p.WriteURL(), http.DefaultClient, time.Now)
		} else {
			to, err = NewRemoteWrite(p.WriteURL(), http.DefaultClient, time.Now)
		}
		if err != nil {
			t.Fatal(err)
		}
		var refused []Reason
		fresh := func() []Series {
			series := some(1, name+" fresh")
			series[0].Samples[0].At = sample.MillisOf(time.Now())
			return series
		}
		d := Divider{Send: to.Send, Doubt: true, Fresh: fresh, Refused: func(series []Series, reason Reason, _ string) {
			for range Count(series) {
				refused = append(refused, reason)
			}
		}}
		// window are samples of all series at a time, each with a value.
		window := func(ago time.Duration, value float64) []Series {
			series := some(1, name+" a", name+" b", name+" c")
			for i := range series {
				series[i].Samples[0].At, series[i].Samples[0].Value = sample.MillisOf(now.Add(-ago)), value
			}
			return series
		}
		for _, step := range []struct {
			what   string
			series []Series
			want   []Reason
		}{
			{"a window", window(20*time.Minute, 1), nil},
			{"the next one", window(10*time.Minute, 2), nil},
			{"the newest again", window(10*time.Minute, 2), nil},
			{"an older one again", window(20*time.Minute, 1), []Reason{OutOfOrder, OutOfOrder, OutOfOrder}},
			{"the newest with another value", window(10*time.Minute, 3), []Reason{Duplicate, Duplicate, Duplicate}},
			{"one of before the last hour", window(3*time.Hour, 1), []Reason{TooOld, TooOld, TooOld}},
			{"the future", window(-time.Hour, 1), nil}, // which of the reasons depends on the protocol
			{"the next one after all", window(5*time.Minute, 4), nil},
		} {
			refused = nil
			if err := d.Deliver(t.Context(), step.series); err != nil {
				t.Errorf("%s: %s: %v", name, step.what, err)
			}
			if step.what == "the future" {
				if len(refused) != 3 || refused[0] == Other {
					t.Errorf("%s: %s is refused as %v", name, step.what, refused)
				}
				continue
			}
			if !slices.Equal(refused, step.want) {
				t.Errorf("%s: %s is refused as %v, want %v", name, step.what, refused, step.want)
			}
		}
	}
}
