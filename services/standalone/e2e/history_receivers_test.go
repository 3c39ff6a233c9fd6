package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
	"github.com/weir-metrics/weir/services/standalone/internal/importer"
)

// A three-day hole in Mimir and in Thanos Receive is found, filled with remote write and
// proven filled, sample by sample. What their out-of-order window refuses is said before
// anything is sent; where it is sent all the same, it takes no other sample along.
func TestBackfillReceivers(t *testing.T) {
	testkit.InAll(t)
	t.Run("mimir", func(t *testing.T) {
		promtest.FindMimir(t) // before the clock is read
		const window = "-ingester.out-of-order-time-window="
		testReceiver(t, nil, func(d time.Duration) (p, stores *promtest.Server) {
			// By default Mimir does not look into its ingesters, where imported samples are at
			// first, for what is older than 13 hours.
			p = promtest.StartMimir(t, window+d.String(), "-querier.query-ingesters-within=0")
			return p, p
		}, window)
	})
	t.Run("thanos", func(t *testing.T) {
		promtest.FindThanos(t)
		const window = "--tsdb.out-of-order.time-window="
		var query *promtest.Server
		a := testReceiver(t, []string{"receive", "tenant_id"}, func(d time.Duration) (p, stores *promtest.Server) {
			thanos := promtest.StartThanos(t, window+d.String())
			query = thanos.Query
			return query, thanos.Receive
		}, window)
		// What a Query without its Receive answers is not taken for what there is.
		a.receiver.Stop()
		if code, _, errs := a.weir(query, "verify", "--start", a.start.Format(time.DateOnly)); code != 2 || !strings.Contains(errs, "the answer may lack samples") {
			t.Errorf("verify of a part of the samples exits with %d", code)
		}
	})
}

// received is an archive and the process that stores what is sent.
type received struct {
	*archive
	receiver *promtest.Server
}

// testReceiver repairs a hole in a receiver that adds some labels to each series. Start
// starts it with an out-of-order window, and flag sets another.
func testReceiver(t *testing.T, adds []string, start func(window time.Duration) (p, stores *promtest.Server), flag string) received {
	a := newArchive(t, 4)
	a.adds = adds
	from, to := a.start.Add(12*time.Hour), a.start.Add(84*time.Hour)
	// Samples of the first hour of the hole are older than the window.
	now, border := time.Now(), from.Add(time.Hour+30*time.Second)
	window := now.Sub(border).Truncate(time.Second)
	p, stores := start(window)
	a.send(p, without(from, to), now)
	inside := func(start, end time.Time) (n int64) {
		for series, samples := range a.truth {
			for at := range samples {
				if !without(start, end)(series, at) {
					n++
				}
			}
		}
		return n
	}
	hole, old := inside(from, to), inside(from, border)
	verify := func(want int, more ...string) verified {
		return a.verify(p, want, append(more, "--ignore-label", strings.Join(append([]string{"job", "instance"}, adds...), ","))...)
	}

	findings := filepath.Join(t.TempDir(), "findings.jsonl")
	r := verify(1, "--findings", findings)
	if r.Differing["missing"] != hole || r.Equal != a.size()-hole || r.Differing["extra"]+r.Differing["different"]+r.Differing["repeated"] != 0 {
		t.Fatalf("the report is %+v; want %d samples of which %d are missing", r, a.size(), hole)
	}
	for _, x := range r.Ranges {
		if x.Kind != "missing" || !x.Start.Equal(from) || !x.End.Equal(to) {
			t.Errorf("range %+v, want the hole from %s to %s", x, from, to)
		}
	}

	load := []string{"import", "--to", "remote-write", "--remote-write-url", p.WriteURL(), "--missing-only", findings}
	if len(adds) > 0 {
		load = append(load, "--ignore-label", strings.Join(adds, ","))
	}
	with := func(more ...string) []string { return append(slices.Clone(load), more...) }
	tooOld := fmt.Sprintf("%d of %d samples are from before", old, hole)
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"does not tell its out-of-order window", load},
		{tooOld, with("--out-of-order-window", window.String())},
		{tooOld, with("--out-of-order-window", window.String(), "--dry-run")},
	} {
		if code, _, errs := a.weir(p, tc.args...); code != 1 || !strings.Contains(errs, tc.want) {
			t.Errorf("an import beyond the window exits with %d, want 1 and %q", code, tc.want)
		}
	}
	if n := verify(1).Differing["missing"]; n != hole {
		t.Errorf("%d samples are missing after the refused imports, want %d as before", n, hole)
	}
	code, out, _ := a.weir(p, with("--partial")...)
	if want := fmt.Sprintf("the receiver lacked %d samples; %d sent, %d refused, 0 left out", hole, hole-old, old); code != 1 || !strings.Contains(out, want) {
		t.Fatalf("an import of all exits with %d, want 1 and %q", code, want)
	}
	r = verify(1)
	if r.Differing["missing"] != old || r.Equal != a.size()-old {
		t.Errorf("%d samples are equal and %d missing, want %d missing: those that were refused", r.Equal, r.Differing["missing"], old)
	}
	for _, x := range r.Ranges {
		if x.Kind != "missing" || !x.Start.Equal(from) || !x.End.Equal(from.Add(time.Hour)) {
			t.Errorf("range %+v, want the hour from %s", x, from)
		}
	}

	const enough = 120 * time.Hour
	stores.Restart(flag + enough.String())
	testkit.Eventually(t, func() error {
		if len(p.Samples(mark, now.Add(-time.Minute), now.Add(time.Minute))) != 1 {
			return constError("the receiver does not show its samples yet")
		}
		return nil
	})
	if code, out, _ := a.weir(p, with("--out-of-order-window", enough.String())...); code != 0 || !strings.Contains(out, fmt.Sprintf("lacked %d samples; %d sent, 0 refused, 0 left out as too old", old, old)) {
		t.Fatalf("an import within the window exits with %d", code)
	}
	verify(0)
	if err := a.holdsTruth(p, 0); err != nil {
		t.Error(err)
	}
	if code, out, _ := a.weir(p, load...); code != 0 || !strings.Contains(out, "the receiver lacks nothing") {
		t.Errorf("an import again exits with %d", code)
	}
	return received{a, stores}
}

// mark is a series with which a receiver has a newest sample.
const mark = "weir_test_mark"

// send gives a receiver the part of the truth that is kept, a day after the other, and a
// sample of now, from which its window counts.
func (a *archive) send(p *promtest.Server, kept keep, now time.Time) {
	a.t.Helper()
	to, err := importer.NewRemoteWrite(p.WriteURL(), &http.Client{Transport: headed(p.Header())}, 0, clock.System())
	if err != nil {
		a.t.Fatal(err)
	}
	requests := [][]deliver.Series{}
	for day := a.start; day.Before(a.end); day = day.AddDate(0, 0, 1) {
		var request []deliver.Series
		for _, name := range sortedKeys(a.truth) {
			s := deliver.Series{Labels: parseSeries(a.t, name)}
			for _, at := range sortedKeys(a.truth[name]) {
				if kept(name, at) && at >= day.UnixMilli() && at < day.AddDate(0, 0, 1).UnixMilli() {
					s.Samples = append(s.Samples, deliver.Sample{At: sample.Millis(at), Value: a.truth[name][at]})
				}
			}
			if len(s.Samples) > 0 {
				request = append(request, s)
			}
		}
		requests = append(requests, request)
	}
	requests = append(requests, []deliver.Series{{Labels: []export.Label{{Name: "__name__", Value: mark}}, Samples: []deliver.Sample{{At: sample.MillisOf(now), Value: 1}}}})
	for _, request := range requests {
		if refused, err := to.Send(a.t.Context(), request); err != nil || len(refused) > 0 {
			a.t.Fatalf("send what the receiver has at first: %v, %v", refused, err)
		}
	}
}

// headed adds headers to requests.
type headed http.Header

func (h headed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, values := range h {
		r.Header[name] = values
	}
	return http.DefaultTransport.RoundTrip(r)
}

// parseSeries reads name{label="value",…}, with labels in alphabetical order.
func parseSeries(t *testing.T, text string) []export.Label {
	t.Helper()
	name, rest, _ := strings.Cut(text, "{")
	labels := []export.Label{{Name: "__name__", Value: name}}
	for rest != "}" {
		name, quoted, _ := strings.Cut(strings.TrimPrefix(rest, ","), "=")
		quoted, err := strconv.QuotedPrefix(quoted)
		if err != nil {
			t.Fatalf("series %s: %v", text, err)
		}
		value, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatalf("series %s: %v", text, err)
		}
		labels = append(labels, export.Label{Name: name, Value: value})
		rest = strings.TrimPrefix(rest, ",")[len(name)+1+len(quoted):]
	}
	return labels
}
