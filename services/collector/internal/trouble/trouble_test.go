package trouble

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

type world struct {
	*Board
	now time.Time
	log bytes.Buffer
	reg *prometheus.Registry
}

func newWorld() *world {
	w := &world{now: time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC), reg: prometheus.NewRegistry()}
	w.Board = New(slog.New(slog.NewTextHandler(&w.log, nil)), func() time.Time { return w.now }, w.reg)
	return w
}

func (w *world) gauge(code Code) float64 {
	return testutil.ToFloat64(w.Board.gauge.WithLabelValues(string(code)))
}

// A problem that is set ten thousand times is one line, and one more each hour.
func TestAProblemThatLastsIsLoggedOnceAnHour(t *testing.T) {
	w := newWorld()
	for range 10_000 {
		w.Set(TokenRefused, "", "Cloudflare refuses the API token")
		w.now = w.now.Add(time.Second)
	}
	if n := strings.Count(w.log.String(), "level=ERROR"); n != 3 {
		t.Errorf("%d lines in 10,000 s; want 3, one an hour:\n%s", n, w.log.String())
	}
	w.Clear(TokenRefused, "")
	w.Clear(TokenRefused, "")
	if n := strings.Count(w.log.String(), "problem is over"); n != 1 {
		t.Errorf("its end is told %d times; want once", n)
	}
	if n := w.gauge(TokenRefused); n != 0 {
		t.Errorf("gauge is %v after its end; want 0", n)
	}
}

func TestReplaceKeepsTheBeginningOfWhatStays(t *testing.T) {
	w := newWorld()
	began := w.now
	w.Replace(SelectionUnmatched, map[string]string{"CF_ZONES a": "no zone a", "CF_ZONES b": "no zone b"})
	w.now = w.now.Add(time.Minute)
	w.Replace(SelectionUnmatched, map[string]string{"CF_ZONES b": "no zone b yet", "CF_ZONES c": "no zone c"})
	want := []Problem{
		{Code: SelectionUnmatched, About: "CF_ZONES b", Message: "no zone b yet", Since: began},
		{Code: SelectionUnmatched, About: "CF_ZONES c", Message: "no zone c", Since: w.now},
	}
	if diff := cmp.Diff(want, w.List(true), cmpopts.IgnoreUnexported(Problem{})); diff != "" {
		t.Error(diff)
	}
	if got := w.List(false); got != nil {
		t.Errorf("told as the process's own: %v", got)
	}
}

// What is listed is bounded, what is counted is not (G8).
func TestManyProblemsOfOneKindAreCounted(t *testing.T) {
	w := newWorld()
	all := map[string]string{}
	for i := range 250 {
		all[fmt.Sprintf("CF_ZONES zone-%03d", i)] = "matches nothing"
	}
	for range 2 {
		w.Replace(SelectionUnmatched, all)
		list := w.List(true)
		if len(list) != most || !strings.Contains(list[most-1].Message, "150 more") {
			t.Fatalf("%d listed, the last with %q", len(list), list[len(list)-1].Message)
		}
		if n := w.gauge(SelectionUnmatched); n != 250 {
			t.Fatalf("gauge is %v; want 250", n)
		}
	}
}

func TestALeadersProblemsEndWithItsTerm(t *testing.T) {
	w := newWorld()
	w.Set(NoZones, "", "none")
	w.Set(StoreNotWritable, "", "disk is full")
	w.StepDown()
	if w.gauge(NoZones) != 0 || w.gauge(StoreNotWritable) != 1 || len(w.List(true)) != 0 || len(w.List(false)) != 1 {
		t.Errorf("after the term: %v and %v", w.List(true), w.List(false))
	}
}

func TestProblemsComeBackFromTheirRecord(t *testing.T) {
	w := newWorld()
	w.Set(NoZones, "", "none")
	r := Record(7, w.List(true))
	got := Read(7, []store.Record{r, {Kind: KindProblems, Key: "damaged", Value: []byte(`["not a record"]`)}})
	if diff := cmp.Diff(w.List(true), got, cmpopts.IgnoreUnexported(Problem{})); diff != "" {
		t.Error(diff)
	}
	// Term 8 is led by a release that leaves the record as it is.
	if got := Read(8, []store.Record{r}); got != nil {
		t.Errorf("the leader of term 8 is said to have found %v of term 7", got)
	}
	if r := Record(7, nil); r.Value != nil {
		t.Errorf("no problems are the record %s; want none", r.Value)
	}
}

func TestANilBoardTakesEverything(t *testing.T) {
	var b *Board
	b.Set(NoZones, "", "")
	b.Replace(NoZones, nil)
	b.Clear(NoZones, "")
	b.StepDown()
	if b.List(true) != nil {
		t.Error("a nil board tells something")
	}
}
