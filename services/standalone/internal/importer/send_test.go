package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// decode reads a prometheus.WriteRequest: "name=value,… time value" for each sample.
func decode(t *testing.T, b []byte) (out []string) {
	t.Helper()
	fields := func(b []byte, take func(n protowire.Number, v uint64, text []byte)) {
		for len(b) > 0 {
			n, kind, l := protowire.ConsumeTag(b)
			b = b[l:]
			var v uint64
			var text []byte
			switch kind {
			case protowire.BytesType:
				text, l = protowire.ConsumeBytes(b)
			case protowire.VarintType:
				v, l = protowire.ConsumeVarint(b)
			case protowire.Fixed64Type:
				v, l = protowire.ConsumeFixed64(b)
			}
			if l < 0 {
				t.Fatal("the request is no protobuf message")
			}
			b = b[l:]
			take(n, v, text)
		}
	}
	fields(b, func(_ protowire.Number, _ uint64, series []byte) {
		name := ""
		fields(series, func(n protowire.Number, _ uint64, part []byte) {
			var pair [3]string
			var value float64
			var at int64
			fields(part, func(m protowire.Number, v uint64, text []byte) {
				pair[m] = string(text)
				if m == 1 {
					value = math.Float64frombits(v)
				} else {
					at = int64(v)
				}
			})
			if n == 1 {
				name += pair[1] + "=" + pair[2] + ","
				return
			}
			out = append(out, fmt.Sprintf("%s %d %v", name, at, value))
		})
	})
	return out
}

func someSeries(names ...string) (out []deliver.Series) {
	for i, name := range names {
		s := deliver.Series{Labels: []export.Label{{Name: "__name__", Value: "x"}, {Name: "zone", Value: name}}}
		for j := range 4 {
			s.Samples = append(s.Samples, deliver.Sample{At: sample.Millis(1795341600000 + 1000*j), Value: float64(i) + 0.1})
		}
		out = append(out, s)
	}
	return out
}

// A receiver that refuses a request over one sample gets all others; only what it refuses
// alone is refused. Another failure is an error.
func TestRemoteWriteDivides(t *testing.T) {
	got := map[string]bool{}
	status := http.StatusBadRequest
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		plain, err := snappy.Decode(nil, body)
		if err != nil {
			t.Error(err)
		}
		samples := decode(t, plain)
		for _, s := range samples {
			if s == "__name__=x,zone=b, 1795341600000 1.1" || s == "__name__=x,zone=b, 1795341601000 1.1" || s == "__name__=x,zone=c, 1795341602000 2.1" {
				http.Error(w, "out of bounds", status)
				return
			}
		}
		for _, s := range samples {
			got[s] = true
		}
		if r.URL.Path != "/api/v1/write" {
			t.Errorf("the path is %s", r.URL.Path)
		}
	}))
	defer server.Close()
	w, err := NewRemoteWrite(server.URL+"/api/v1/write", server.Client(), 0, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	refused, err := w.Send(t.Context(), someSeries("a", "b", "c"))
	if err != nil {
		t.Fatal(err)
	}
	var lost []string
	for _, r := range refused {
		lost = append(lost, fmt.Sprintf("%s %d %d %d", r.Series, r.First.UnixMilli(), r.Last.UnixMilli(), r.Samples))
	}
	want := []string{`{__name__="x",zone="b"} 1795341600000 1795341601000 2`, `{__name__="x",zone="c"} 1795341602000 1795341602000 1`}
	if diff := cmp.Diff(want, lost); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if len(got) != 9 {
		t.Errorf("%d samples were stored, want 9: %v", len(got), got)
	}
	status = http.StatusUnauthorized
	if _, err := w.Send(t.Context(), someSeries("a", "b")[1:]); err == nil {
		t.Error("a rejected credential is no error")
	}
}

// recorder is a receiver that notes what it gets, and can fail.
type recorder struct {
	requests []int
	times    map[string][]sample.Millis
	fail     error
}

func (r *recorder) Flush(context.Context) error { return nil }
func (r *recorder) Limits(context.Context, *promapi.Client) (Limits, error) {
	return Limits{}, nil
}

func (r *recorder) Send(_ context.Context, series []deliver.Series) ([]Refusal, error) {
	n := 0
	for _, s := range series {
		n += len(s.Samples)
		for _, x := range s.Samples {
			r.times[Text(s.Labels)] = append(r.times[Text(s.Labels)], x.At)
		}
	}
	r.requests = append(r.requests, n)
	return nil, r.fail
}

// Requests are limited, and the samples of a series ascend over all of them.
func TestDeliver(t *testing.T) {
	var columns []*deliver.Series
	for i := range 3 {
		s := &deliver.Series{Labels: []export.Label{{Name: "zone", Value: fmt.Sprint(i)}}}
		for j := range 4000 + 4000*i {
			s.Samples = append(s.Samples, deliver.Sample{At: sample.Millis(j), Value: 1})
		}
		columns = append(columns, s)
	}
	to, r := &recorder{times: map[string][]sample.Millis{}}, &PushResult{}
	if err := deliverAll(t.Context(), to, columns, r); err != nil {
		t.Fatal(err)
	}
	if r.Sent != 24000 {
		t.Errorf("%d samples were sent, want 24000", r.Sent)
	}
	for _, n := range to.requests {
		if n > requestSamples {
			t.Errorf("a request has %d samples, at most %d are right", n, requestSamples)
		}
	}
	for name, times := range to.times {
		for i := range times {
			if times[i] != sample.Millis(i) {
				t.Fatalf("sample %d of %s has the time %d: not in order, or not once", i, name, times[i])
			}
		}
	}
	to.fail = errors.New("away")
	if err := deliverAll(t.Context(), to, columns, r); !errors.Is(err, to.fail) {
		t.Errorf("a failure is %v", err)
	}
}

// A receiver that redirects to another server gets an error that names both, at once, and
// the other server gets nothing. Nor is a redirect followed that loses the samples. Where it
// leads to is told without the query.
func TestSendersStayOnTheirServer(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the other server is asked for %s with %q", r.URL, r.Header)
	}))
	defer other.Close()
	asked, to, status := 0, other.URL+"/x?state=secret", http.StatusTemporaryRedirect
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.URL.Path == "/login" {
			return // 200: a page
		}
		http.Redirect(w, r, to, status)
	}))
	defer server.Close()
	prom, err := promapi.New(promapi.Config{URL: server.URL, Access: promapi.Access{Token: cli.NewSecret("marked")}})
	if err != nil {
		t.Fatal(err)
	}
	defer prom.Close()
	write, err := NewRemoteWrite(server.URL+"/api/v1/write", prom.HTTP(), 0, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	for name, sender := range map[string]Sender{"remote write": write, "VictoriaMetrics": NewVictoria(server.URL, prom.HTTP())} {
		for _, body := range []bool{false, true} {
			asked, to, status = 0, other.URL+"/x?state=secret", http.StatusTemporaryRedirect
			if body {
				to, status = "/login?state=secret", http.StatusFound
			}
			var redirect *promapi.RedirectError
			if _, err := sender.Send(t.Context(), someSeries("a")); !errors.As(err, &redirect) || redirect.Body != body || asked != 1 || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s, after %d requests: %v; want an error without what may be a secret", name, asked, err)
			}
		}
	}
}

// What was sent to VictoriaMetrics is made visible at the end, so that a comparison that follows
// finds it; if it cannot be, it was sent nevertheless.
func TestPushMakesVisibleWhatItSent(t *testing.T) {
	scripted := feedtest.NewScripted("01hzzzzzzzzzzzzzzzzzzzzzzz")
	conn := scripted.Serve(t)
	here := feedtest.Bucket("http_5m", feedtest.Zone(1), 0)
	scripted.Append(feedtest.T0.Add(time.Hour), feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)}, feedtest.Entry{Bucket: here})
	store, err := history.Open(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	for name, works := range map[string]bool{"flushes": true, "does not flush": false} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/api/v1/query":
					fmt.Fprint(w, `{"status":"success","data":{"resultType":"matrix","result":[]}}`)
				case "/flags":
					fmt.Fprintln(w, `-dedup.minScrapeInterval="1ms"`)
				case "/api/v1/import":
					asked = append(asked, "import")
				case "/internal/force_flush":
					if asked = append(asked, "flush"); !works {
						panic(http.ErrAbortHandler)
					}
				default:
					http.NotFound(w, r)
				}
			}))
			defer server.Close()
			prom, err := promapi.New(promapi.Config{URL: server.URL})
			if err != nil {
				t.Fatal(err)
			}
			defer prom.Close()
			r, err := Push(t.Context(), store, prom, NewVictoria(server.URL, prom.HTTP()), PushOptions{
				Selection: history.Selection{Range: bucket.Window{Start: here.Window().Start, End: here.Window().End}},
				Labels:    []export.Label{{Name: "instance", Value: "i"}, {Name: "job", Value: "weir"}}, Clock: clock.NewManual(feedtest.T0.Add(24 * time.Hour)),
			})
			if err != nil || r.Sent == 0 || r.Sent != r.Missing {
				t.Fatalf("%+v, %v", r, err)
			}
			if got := strings.Join(asked, " "); !strings.HasPrefix(got, "import flush") { // a request whose connection broke is sent again
				t.Errorf("asked for %s, want import, then flush", got)
			}
			if noted := strings.Contains(strings.Join(r.Notes, " "), "may be visible after some seconds"); noted == works {
				t.Errorf("the notes are %q", r.Notes)
			}
		})
	}
}
