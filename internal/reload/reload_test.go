package reload_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/testkit"
)

// file is a file in memory.
type file struct {
	mu      sync.Mutex
	content string
	err     error
	reads   int
}

func (f *file) write(content string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content, f.err = content, err
}

func (f *file) read() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if f.content == "" && f.err == nil {
		return "", errors.New("the file is empty")
	}
	return f.content, f.err
}

// secret is what is made of a file: its letters in upper case.
type secret string

func (s secret) Expires() time.Time {
	if s == "MORTAL" {
		return time.Unix(2_000_000_000, 0)
	}
	return time.Time{}
}

func parse(content string) (secret, error) {
	if strings.Contains(content, "bad") {
		return "", errors.New("the file holds nothing good")
	}
	return secret(strings.ToUpper(content)), nil
}

func TestWhatCannotBeUsedChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &file{content: "first"}
		logger, logs := testkit.RecordingLogger(t)
		watch := reload.NewWatch(logger, time.Now)
		v, err := reload.NewValue(watch, "WEIR_X_FILE", f.read, parse)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			name     string
			content  string
			err      error
			want     secret
			warnings int // so far
			usable   float64
		}{
			{"as at the start", "first", nil, "FIRST", 0, 1},
			{"changed", "second", nil, "SECOND", 0, 1},
			{"empty", "", nil, "SECOND", 1, 0},
			{"missing", "", errors.New("no such file"), "SECOND", 2, 0},
			{"wrong", "bad", nil, "SECOND", 3, 0},
			{"as before", "second", nil, "SECOND", 3, 1},
			{"wrong again", "bad", nil, "SECOND", 4, 0},
			{"right", "third", nil, "THIRD", 4, 1},
		} {
			f.write(step.content, step.err)
			for range 3 { // what is said is said once
				if got := v.Get(); got != step.want {
					t.Errorf("%s: %q is in force, want %q", step.name, got, step.want)
				}
			}
			if got := logs.Count("level=WARN"); got != step.warnings {
				t.Errorf("%s: %d warnings so far, want %d", step.name, got, step.warnings)
			}
			if got := gather(t, watch)[`weir_secret_usable{WEIR_X_FILE}`]; got != step.usable {
				t.Errorf("%s: weir_secret_usable is %g, want %g", step.name, got, step.usable)
			}
		}
	})
}

// Half a token looks like a token, so a change is believed when it stands still.
func TestHalfWrittenIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &file{content: "old"}
		v, err := reload.NewValue(nil, "WEIR_X_FILE", f.read, parse)
		if err != nil {
			t.Fatal(err)
		}
		f.write("ne", nil)
		go func() {
			time.Sleep(10 * time.Millisecond) // the time of the bubble
			f.write("new", nil)
		}()
		if got := v.Get(); got != "OLD" {
			t.Errorf("while it is written, %q is in force, want OLD", got)
		}
		if got := v.Get(); got != "NEW" {
			t.Errorf("once it is written, %q is in force, want NEW", got)
		}
	})
}

// What cannot be used must not cost every use a pause.
func TestARefusedContentIsLookedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &file{content: "good"}
		v, err := reload.NewValue(nil, "WEIR_X_FILE", f.read, parse)
		if err != nil {
			t.Fatal(err)
		}
		f.write("bad", nil)
		began := time.Now()
		for range 100 {
			v.Get()
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("100 uses of a bad file paused for %s, want one pause", took)
		}
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &file{content: "mortal"}
		watch := reload.NewWatch(testkit.Logger(t), func() time.Time { return time.Unix(1_900_000_000, 0) })
		if _, err := reload.NewValue(watch, "WEIR_X_FILE", f.read, parse); err != nil {
			t.Fatal(err)
		}
		f.write("bad", nil) // nobody uses it, and the scrape sees it
		if diff := cmp.Diff(map[string]float64{
			"weir_secret_changed_timestamp_seconds{WEIR_X_FILE}": 1.9e9,
			"weir_secret_expires_timestamp_seconds{WEIR_X_FILE}": 2e9,
			"weir_secret_reload_failures_total{WEIR_X_FILE}":     1,
			"weir_secret_usable{WEIR_X_FILE}":                    0,
		}, gather(t, watch)); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
	})
}

// gather is what a scrape shows, by name and label.
func gather(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()+"{"+m.GetLabel()[0].GetValue()+"}"] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return got
}

// Of a secret that its user tries, the metrics show what came of it.
func TestWhatIsToldIsShown(t *testing.T) {
	log, said := testkit.RecordingLogger(t)
	now := time.Unix(1_900_000_000, 0)
	watch := reload.NewWatch(log, func() time.Time { return now })
	tracked := reload.Track(watch, "WEIR_X_FILE")
	refused := errors.New("it leads elsewhere")
	for i, step := range []struct {
		changed                  bool
		err                      error
		usable, failures, moment float64
	}{
		{false, nil, 1, 0, 1.9e9},
		{false, refused, 0, 1, 1.9e9},
		{false, refused, 0, 1, 1.9e9},
		{false, nil, 1, 1, 1.9e9},
		{false, refused, 0, 2, 1.9e9},
		{true, nil, 1, 2, 1.9e9 + 6},
	} {
		now = time.Unix(1_900_000_000+int64(i)+1, 0)
		tracked.Report(step.changed, step.err)
		if diff := cmp.Diff(map[string]float64{
			"weir_secret_changed_timestamp_seconds{WEIR_X_FILE}": step.moment,
			"weir_secret_reload_failures_total{WEIR_X_FILE}":     step.failures,
			"weir_secret_usable{WEIR_X_FILE}":                    step.usable,
		}, gather(t, watch)); diff != "" {
			t.Errorf("step %d: metrics (-want +got):\n%s", i, diff)
		}
	}
	if n := said.Count("level=WARN"); n != 2 {
		t.Errorf("%d warnings, want one for each fault", n)
	}
	reload.Track(nil, "WEIR_Y_FILE").Report(true, nil) // nothing is logged
}

func TestKeepRefusesABadStart(t *testing.T) {
	for _, content := range []string{"", "bad"} {
		f := &file{content: content}
		if _, err := reload.NewValue(nil, "WEIR_X_FILE", f.read, parse); err == nil {
			t.Errorf("%q was accepted at the start", content)
		}
	}
}

// Many use one value while it changes; none sees anything but old or new.
func TestConcurrentUse(t *testing.T) {
	f := &file{content: "old"}
	v, err := reload.NewValue(reload.NewWatch(testkit.Logger(t), time.Now), "WEIR_X_FILE", f.read, parse)
	if err != nil {
		t.Fatal(err)
	}
	f.write("new", nil)
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			if got := v.Get(); got != "OLD" && got != "NEW" {
				t.Errorf("%q is in force", got)
			}
		})
	}
	users.Wait()
	if got := v.Get(); got != "NEW" {
		t.Errorf("at the end %q is in force", got)
	}
}
