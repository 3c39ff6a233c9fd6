package deliver

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	writev2 "github.com/prometheus/client_golang/exp/api/remote/genproto/v2"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

var base = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// some returns series with n samples each, a minute apart, that end at base.
func some(n int, names ...string) (out []Series) {
	for _, name := range names {
		s := Series{Labels: []export.Label{{Name: "__name__", Value: "requests"}, {Name: "zone", Value: name}}, Family: &bucket.Family{Name: "requests", Help: "Requests.", Unit: "bytes", Additive: true}}
		for i := range n {
			at := base.Add(time.Duration(i+1-n) * time.Minute)
			s.Samples = append(s.Samples, Sample{At: sample.MillisOf(at) - 1, Value: float64(i), Window: bucket.Window{Start: bucket.TimeOf(at.Add(-time.Minute)), End: bucket.TimeOf(at)}})
		}
		out = append(out, s)
	}
	return out
}

// judged is a receiver in memory: refuse says what it rejects.
type judged struct {
	refuse   func(zone string, x Sample) string // why; empty: it takes it
	requests int
	taken    map[string][]sample.Millis
	refused  []string
}

func (j *judged) divider() *Divider {
	j.taken = map[string][]sample.Millis{}
	return &Divider{Send: j.send, Doubt: true, Control: true, Refused: func(series []Series, reason Reason, _ string) {
		for _, s := range series {
			for _, x := range s.Samples {
				j.refused = append(j.refused, fmt.Sprintf("%s %s %s", s.Labels[1].Value, x.At.Std().Format("15:04"), reason))
			}
		}
	}}
}

func (j *judged) send(_ context.Context, series []Series) error {
	j.requests++
	for _, s := range series {
		for _, x := range s.Samples {
			if why := j.refuse(s.Labels[1].Value, x); why != "" {
				return &RejectedError{Status: 400, Text: why}
			}
		}
	}
	for _, s := range series {
		for _, x := range s.Samples {
			j.taken[s.Labels[1].Value] = append(j.taken[s.Labels[1].Value], x.At)
		}
	}
	return nil
}

// Each sample of a request is either taken, in order, or refused with the reason.
func TestDivide(t *testing.T) {
	for _, tc := range []struct {
		text string
		want Reason
	}{
		{"out of order sample", OutOfOrder},
		{"duplicate sample for timestamp", Duplicate},
		{"out of bounds", TooOld},
		{"too old sample", TooOld},
		{"the sample has been rejected because another sample with a more recent timestamp has already been ingested and this sample is beyond the out-of-order time window of 1h (err-mimir-sample-timestamp-too-old)", TooOld},
		{"the sample has been rejected because its timestamp is too far in the future", Future},
		{"label value too long", Other},
	} {
		j := &judged{refuse: func(zone string, x Sample) string {
			if zone == "b" && x.At.Std().Before(base.Add(-3*time.Minute)) {
				return tc.text
			}
			return ""
		}}
		if err := j.divider().Deliver(t.Context(), some(6, "a", "b", "c")); err != nil {
			t.Errorf("%s: %v", tc.text, err)
		}
		want := []string{fmt.Sprintf("b 11:54 %s", tc.want), fmt.Sprintf("b 11:55 %s", tc.want), fmt.Sprintf("b 11:56 %s", tc.want)}
		if diff := cmp.Diff(want, j.refused); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.text, diff)
		}
		for zone, n := range map[string]int{"a": 6, "b": 3, "c": 6} {
			// The newest sample may be the control, which is sent again.
			if got := slices.Compact(j.taken[zone]); len(got) != n || !slices.IsSorted(got) {
				t.Errorf("%s: of %s were taken %v", tc.text, zone, j.taken[zone])
			}
		}
	}
}

// What is older than a refused sample is not sent, and the next time its newest is sent
// first, which shows whether the receiver takes more now.
func TestAgeIsLearnt(t *testing.T) {
	limit := base.Add(-2 * time.Hour)
	j := &judged{refuse: func(_ string, x Sample) string {
		if x.At.Std().Before(limit) {
			return "out of bounds"
		}
		return ""
	}}
	d := j.divider()
	d.Now = func() time.Time { return base }
	d.Fresh = fresh(j, func() bool { return true })
	zones := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	total := 0
	send := func() (requests int) {
		t.Helper()
		j.requests, j.refused, j.taken = 0, nil, map[string][]sample.Millis{}
		if err := d.Deliver(t.Context(), some(240, zones...)); err != nil {
			t.Fatal(err)
		}
		total = 0
		for zone, times := range j.taken {
			if zone != "fresh" {
				total += len(slices.Compact(times)) // the control is sent again
			}
		}
		if total+len(j.refused) != 240*len(zones) {
			t.Errorf("%d samples were taken and %d refused, want %d together", total, len(j.refused), 240*len(zones))
		}
		return j.requests
	}
	first := send()
	if total != 120*len(zones) || d.Age() < 2*time.Hour || d.Age() > 2*time.Hour+2*time.Minute {
		t.Errorf("%d samples were taken, the age is %s", total, d.Age())
	}
	if again := send(); again != 2 || total != 120*len(zones) {
		t.Errorf("%d requests at first, then %d for %d samples, want 2", first, again, total)
	}
	limit = base.Add(-24 * time.Hour)
	if send(); total != 240*len(zones) || d.Age() != 0 {
		t.Errorf("after the window has grown %d samples are taken, the age is %s", total, d.Age())
	}
}

// A receiver whose clock is behind calls a new sample out of bounds too. That says nothing
// about older ones.
func TestAClockThatIsBehindIsNoAge(t *testing.T) {
	j := &judged{refuse: func(_ string, x Sample) string {
		if x.At.Std().After(base.Add(-2 * time.Minute)) {
			return "out of bounds"
		}
		return ""
	}}
	d := j.divider()
	d.Now = func() time.Time { return base }
	err := d.Deliver(t.Context(), some(10, "a", "b"))
	taken := len(slices.Compact(j.taken["a"])) + len(slices.Compact(j.taken["b"])) // the control is sent again
	if err != nil || len(j.refused) != 4 || taken != 16 || d.Age() != 0 {
		t.Errorf("%v, refused %v, an age of %s", err, j.refused, d.Age())
	}
}

// A receiver that rejects everything for an unknown reason says nothing about samples. One
// that takes what it took before does.
func TestDoubt(t *testing.T) {
	closed := ""
	j := &judged{refuse: func(zone string, _ Sample) string {
		if closed != "" && (zone != "known" || closed == "all") {
			return "no such tenant"
		}
		return ""
	}}
	d := j.divider()
	closed = "all"
	if err := d.Deliver(t.Context(), some(50, "a", "b")); !errors.Is(err, ErrEverything) || j.requests > 60 || len(j.refused) > 0 {
		t.Errorf("without an accepted sample: %v after %d requests", err, j.requests)
	}
	if err := d.Deliver(t.Context(), some(1, "a")); !errors.Is(err, ErrEverything) || len(j.refused) > 0 {
		t.Errorf("a single sample: %v", err)
	}
	closed = ""
	if err := d.Deliver(t.Context(), some(1, "known")); err != nil {
		t.Fatal(err)
	}
	closed, j.requests = "all", 0
	if err := d.Deliver(t.Context(), some(50, "a", "b")); !errors.Is(err, ErrEverything) || j.requests != 2 || len(j.refused) > 0 {
		t.Errorf("with an accepted sample that is rejected now: %v after %d requests", err, j.requests)
	}
	closed = "others"
	if err := d.Deliver(t.Context(), some(2, "a")); err != nil || !slices.Equal(j.refused, []string{"a 11:58 other", "a 11:59 other"}) {
		t.Errorf("with an accepted sample that is taken again: %v, refused %v", err, j.refused)
	}
	// Without doubt each sample is rejected by itself.
	j.refused, closed = nil, "all"
	d = j.divider()
	d.Doubt = false
	if err := d.Deliver(t.Context(), some(20, "a")); err != nil || len(j.refused) != 20 {
		t.Errorf("without doubt: %v, %d refused", err, len(j.refused))
	}
}

func TestJudge(t *testing.T) {
	header := func(after string) http.Header { return http.Header{"Retry-After": {after}} }
	for _, tc := range []struct {
		status int
		after  string
		want   error
	}{
		{204, "", nil},
		{400, "", &RejectedError{400, "x"}},
		{409, "", &RejectedError{409, "x"}},
		{413, "", &RejectedError{413, "x"}},
		{422, "", &RejectedError{422, "x"}},
		{401, "", &StatusError{401, "x"}},
		{404, "", &StatusError{404, "x"}},
		{429, "7", &BusyError{429, 7 * time.Second, &StatusError{429, "x"}}},
		{503, base.Add(time.Minute).Format(http.TimeFormat), &BusyError{503, time.Minute, &StatusError{503, "x"}}},
		{503, base.Add(-time.Minute).Format(http.TimeFormat), &BusyError{503, 0, &StatusError{503, "x"}}},
		{500, "86400", &BusyError{500, time.Hour, &StatusError{500, "x"}}},
		{500, "soon", &BusyError{500, 0, &StatusError{500, "x"}}},
	} {
		if diff := cmp.Diff(fmt.Sprintf("%#v", tc.want), fmt.Sprintf("%#v", judge(tc.status, header(tc.after), " x\n", base))); diff != "" && !busyEqual(tc.want, judge(tc.status, header(tc.after), " x\n", base)) {
			t.Errorf("%d with Retry-After %q (-want +got):\n%s", tc.status, tc.after, diff)
		}
	}
}

func busyEqual(a, b error) bool {
	var x, y *BusyError
	return errors.As(a, &x) && errors.As(b, &y) && x.Status == y.Status && x.After == y.After && x.Error() == y.Error()
}

// Pauses double, and are never shorter than the receiver asks.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Duration
		began := time.Now()
		p := &Patience{Min: time.Second, Max: 8 * time.Second, To: sendFunc(func() error {
			asked = append(asked, time.Since(began))
			switch len(asked) {
			case 5:
				return &BusyError{Status: 503, After: time.Minute, Err: errors.New("busy")}
			case 6:
				return &StatusError{401, "who are you"}
			case 7:
				return nil
			}
			return &BusyError{Err: errors.New("away")}
		})}
		if err := p.Send(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second, 75 * time.Second, 83 * time.Second}, asked); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		// With a limit, an error that stays is returned at once, and another after it.
		asked, p.Attempts = nil, 3
		var busy *BusyError
		if err := p.Send(t.Context(), nil); !errors.As(err, &busy) || len(asked) != 3 {
			t.Errorf("%v after %d attempts", err, len(asked))
		}
		asked = make([]time.Duration, 5)
		var told *StatusError
		if err := p.Send(t.Context(), nil); !errors.As(err, &told) || len(asked) != 6 {
			t.Errorf("%v after %d attempts", err, len(asked)-5)
		}
		ends := make(chan struct{})
		asked, p.Attempts, p.Ends = nil, 0, ends
		close(ends)
		if err := p.Send(t.Context(), nil); !errors.Is(err, ErrEnded) || len(asked) != 1 {
			t.Errorf("when pauses are ended: %v after %d attempts", err, len(asked))
		}
	})
}

type sendFunc func() error

func (f sendFunc) Send(context.Context, []Series) error { return f() }

func now() time.Time { return base }

// The client library must not try again by itself.
func TestRemoteWriteIsSentOnce(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Retry-After", "30")
		http.Error(w, "full", http.StatusServiceUnavailable)
	}))
	w, err := NewRemoteWrite(server.URL+"/api/v1/write", server.Client(), now)
	if err != nil {
		t.Fatal(err)
	}
	var busy *BusyError
	if err := w.Send(t.Context(), some(1, "a")); !errors.As(err, &busy) || busy.After != 30*time.Second || busy.Status != 503 || asked != 1 {
		t.Errorf("after %d requests: %v", asked, err)
	}
	server.Close()
	if err := w.Send(t.Context(), some(1, "a")); !errors.As(err, &busy) || busy.Status != 0 {
		t.Errorf("without a server: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	end := errors.New("enough")
	cancel(end)
	if err := w.Send(ctx, some(1, "a")); !errors.Is(err, end) {
		t.Errorf("when its context has ended: %v", err)
	}
}

func TestRemoteWrite2(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		plain, err := snappy.Decode(nil, body)
		if err != nil {
			t.Error(err)
		}
		var m writev2.Request
		if err := proto.Unmarshal(plain, &m); err != nil {
			t.Error(err)
		}
		for _, s := range m.GetTimeseries() {
			var words []string
			for _, ref := range append(s.GetLabelsRefs(), s.GetMetadata().GetHelpRef(), s.GetMetadata().GetUnitRef()) {
				words = append(words, m.GetSymbols()[ref])
			}
			for _, x := range s.GetSamples() {
				got = append(got, fmt.Sprintf("%s %s %d %v", strings.Join(words, " "), s.GetMetadata().GetType(), x.GetTimestamp(), x.GetValue()))
			}
		}
		if r.Header.Get("X-Prometheus-Remote-Write-Version") != "2.0.0" {
			t.Errorf("the headers are %v", r.Header)
		}
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", fmt.Sprint(len(got)))
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	w, err := NewRemoteWrite2(server.URL+"/api/v1/write", server.Client(), now)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Send(t.Context(), some(1, "a", "b")); err != nil {
		t.Fatal(err)
	}
	at := base.UnixMilli() - 1
	want := []string{
		fmt.Sprintf("__name__ requests zone a Requests. bytes METRIC_TYPE_GAUGE %d 0", at),
		fmt.Sprintf("__name__ requests zone b Requests. bytes METRIC_TYPE_GAUGE %d 0", at),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A sum has the window as its start and time; what cannot be added up is a gauge.
func TestOTLP(t *testing.T) {
	var got collectorpb.ExportMetricsServiceRequest
	var answer proto.Message = &collectorpb.ExportMetricsServiceResponse{}
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		zip, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		plain, err := io.ReadAll(zip)
		if err == nil {
			err = proto.Unmarshal(plain, &got)
		}
		text, bad := proto.Marshal(answer)
		if err := errors.Join(err, bad); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		_, _ = w.Write(text)
	}))
	defer server.Close()
	o, err := NewOTLP(server.URL+"/v1/metrics", server.Client(), []export.Label{{Name: "job", Value: "weir"}}, now)
	if err != nil {
		t.Fatal(err)
	}
	series := some(2, "a")
	visitors := some(1, "b")[0]
	visitors.Labels = []export.Label{{Name: "__name__", Value: "visitors"}}
	visitors.Family = &bucket.Family{Name: "visitors"}
	if err := o.Send(t.Context(), append(series, visitors)); err != nil {
		t.Fatal(err)
	}
	r := got.GetResourceMetrics()[0]
	if a := r.GetResource().GetAttributes(); len(a) != 2 || a[0].GetValue().GetStringValue() != "weir" || a[1].GetKey() != "job" {
		t.Errorf("the resource is %v", a)
	}
	metrics := r.GetScopeMetrics()[0].GetMetrics()
	sum, gauge := metrics[0].GetSum(), metrics[1].GetGauge()
	if len(metrics) != 2 || metrics[0].GetUnit() != "By" || sum.GetAggregationTemporality() != 1 || !sum.GetIsMonotonic() || len(sum.GetDataPoints()) != 2 || len(gauge.GetDataPoints()) != 1 {
		t.Fatalf("the metrics are %v", metrics)
	}
	last := sum.GetDataPoints()[1]
	if last.GetTimeUnixNano() != uint64(base.UnixNano()) || last.GetStartTimeUnixNano() != uint64(base.Add(-time.Minute).UnixNano()) || last.GetAsDouble() != 1 || last.GetAttributes()[0].GetKey() != "zone" {
		t.Errorf("the last point is %v", last)
	}

	answer = &collectorpb.ExportMetricsServiceResponse{PartialSuccess: &collectorpb.ExportMetricsPartialSuccess{RejectedDataPoints: 1, ErrorMessage: "too old"}}
	var partial *PartialError
	if err := o.Send(t.Context(), series); !errors.As(err, &partial) || partial.Rejected != 1 || partial.Text != "too old" {
		t.Errorf("a partial success is %v", err)
	}
	answer, status = &statuspb.Status{Message: "no such metric"}, http.StatusBadRequest
	var rejected *RejectedError
	if err := o.Send(t.Context(), series); !errors.As(err, &rejected) || rejected.Text != "no such metric" {
		t.Errorf("a rejection is %v", err)
	}
}

// A partial success is final for its request, and all of it may be lacking.
func TestPartialSuccessIsNotRepeated(t *testing.T) {
	asked := 0
	j := &judged{}
	d := j.divider()
	d.Send = func(context.Context, []Series) error {
		asked++
		return &PartialError{1, "x"}
	}
	if err := d.Deliver(t.Context(), some(2, "a", "b")); err != nil || asked != 1 || len(j.refused) != 4 {
		t.Errorf("%v after %d requests, refused: %v", err, asked, j.refused)
	}
}
