package importer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/exp/api/remote"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// RemoteWrite sends with remote write 1.0, which every receiver takes.
type RemoteWrite struct {
	api    *remote.API
	window time.Duration
	clock  clock.Clock
}

// NewRemoteWrite returns a sender to the URL of a receiver, such as
// http://prometheus:9090/api/v1/write. The client adds credentials; redirects to another
// server are refused. The window is the
// receiver's out-of-order window, for one that does not tell it; 0: nobody knows it.
func NewRemoteWrite(target string, client *http.Client, window time.Duration, clk clock.Clock) (*RemoteWrite, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("remote write URL: %w", err)
	}
	path := u.Path
	u.Path = ""
	own := *client
	own.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		err := promapi.Stay(r, via)
		if stop, ok := r.Context().Value(stopKey{}).(context.CancelCauseFunc); ok && err != nil {
			stop(err)
		}
		return err
	}
	api, err := remote.NewAPI(u.String(), remote.WithAPIHTTPClient(&own), remote.WithAPIPath(path),
		remote.WithAPIBackoff(remote.BackoffConfig{Min: 500 * time.Millisecond, Max: 10 * time.Second, MaxRetries: 10}))
	if err != nil {
		return nil, fmt.Errorf("remote write client: %w", err)
	}
	return &RemoteWrite{api, window, clk}, nil
}

// stopKey is the key of what ends a request for good: the library tries again whatever is
// no answer.
type stopKey struct{}

// Prepare implements [Sender].
func (*RemoteWrite) Prepare(context.Context) error { return nil }

// inOrder is how far behind its newest sample Prometheus takes samples without an
// out-of-order window: half of the two hours of a block.
const inOrder = time.Hour

// Limits implements [Sender].
func (w *RemoteWrite) Limits(ctx context.Context, prom *promapi.Client) (Limits, error) {
	window, err := prom.OutOfOrder(ctx)
	if err == nil {
		var head promapi.Head
		if head, err = prom.Head(ctx); err == nil {
			if window == 0 {
				return Limits{Oldest: head.Max - sample.Millis(inOrder.Milliseconds()), Notes: []string{"Prometheus has no out-of-order window: it takes samples of the last hour, and of each series only those that are newer than its newest"}}, nil
			}
			oldest := head.Max - sample.Millis(window.Milliseconds())
			return Limits{Oldest: oldest, Notes: []string{fmt.Sprintf("Prometheus takes samples from %s on (out_of_order_time_window %s)", oldest.Std().Format(time.RFC3339), window)}}, nil
		}
	}
	switch {
	case !promapi.IsUnknown(err):
		return Limits{}, err
	case w.window == 0:
		return Limits{Unknown: true}, nil
	}
	// The receiver counts from its newest sample, which is a scrape interval old.
	oldest := sample.MillisOf(w.clock.Now().Add(-w.window))
	return Limits{Oldest: oldest, Notes: []string{fmt.Sprintf("the receiver takes samples from %s on (--out-of-order-window %s)", oldest.Std().Format(time.RFC3339), w.window)}}, nil
}

// Send implements [Sender]. A receiver refuses a whole request over one sample, or does
// not say which samples it took. A refused request is therefore divided until what is
// refused stands alone: first by series, then by time. What was stored before is sent
// again with equal values, which receivers take or ignore.
func (w *RemoteWrite) Send(ctx context.Context, series []Series) ([]Refusal, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	_, err := w.api.Write(context.WithValue(ctx, stopKey{}, stop), remote.WriteV1MessageType, encode(series))
	if err == nil {
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("remote write: %w", context.Cause(ctx))
	}
	if !refused(err) {
		return nil, fmt.Errorf("remote write: %w", err)
	}
	if len(series) > 1 {
		return w.halves(ctx, series[:len(series)/2], series[len(series)/2:])
	}
	s := series[0]
	if len(s.Samples) > 1 {
		half := len(s.Samples) / 2
		return w.halves(ctx, []Series{{s.Labels, s.Samples[:half]}}, []Series{{s.Labels, s.Samples[half:]}})
	}
	at := s.Samples[0].At.Std()
	return []Refusal{{Series: Text(s.Labels), First: at, Last: at, Samples: 1, Reason: clip(err.Error())}}, nil
}

func (w *RemoteWrite) halves(ctx context.Context, a, b []Series) ([]Refusal, error) {
	one, err := w.Send(ctx, a)
	if err != nil {
		return nil, err
	}
	two, err := w.Send(ctx, b)
	return join(append(one, two...)), err
}

// join joins refusals of one series for one reason that follow one another.
func join(all []Refusal) (out []Refusal) {
	for _, r := range all {
		if n := len(out); n > 0 && out[n-1].Series == r.Series && alike(out[n-1].Reason, r.Reason) {
			out[n-1].Last, out[n-1].Samples = r.Last, out[n-1].Samples+r.Samples
			continue
		}
		out = append(out, r)
	}
	return out
}

var digits = regexp.MustCompile(`[0-9]+`)

// alike compares reasons, which may name a time.
func alike(a, b string) bool {
	return digits.ReplaceAllString(a, "") == digits.ReplaceAllString(b, "")
}

var statusCode = regexp.MustCompile(`^server returned HTTP status (\d{3}) `)

// refused reports whether the receiver rejected the content of the request. Other answers
// of 4xx are about the credential, the path or the size.
func refused(err error) bool {
	m := statusCode.FindStringSubmatch(err.Error())
	return m != nil && (m[1] == "400" || m[1] == "409" || m[1] == "422")
}

func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}

// request is an encoded prometheus.WriteRequest.
type request []byte

// Size is what the client asks of an encoded message.
func (r request) Size() int { return len(r) }

// MarshalToSizedBuffer writes the message to the end of the buffer.
func (r request) MarshalToSizedBuffer(b []byte) (int, error) {
	if len(b) < len(r) {
		return 0, errors.New("buffer is too small")
	}
	return copy(b[len(b)-len(r):], r), nil
}

// encode writes prometheus.WriteRequest: timeseries = 1 { labels = 1 { name = 1, value =
// 2 }, samples = 2 { value = 1, timestamp = 2 } }.
func encode(series []Series) request {
	var out, one, part []byte
	for _, s := range series {
		one = one[:0]
		for _, l := range s.Labels {
			part = part[:0]
			part = protowire.AppendString(protowire.AppendTag(part, 1, protowire.BytesType), l.Name)
			part = protowire.AppendString(protowire.AppendTag(part, 2, protowire.BytesType), l.Value)
			one = protowire.AppendBytes(protowire.AppendTag(one, 1, protowire.BytesType), part)
		}
		for _, x := range s.Samples {
			part = part[:0]
			part = protowire.AppendFixed64(protowire.AppendTag(part, 1, protowire.Fixed64Type), math.Float64bits(x.Value))
			part = protowire.AppendVarint(protowire.AppendTag(part, 2, protowire.VarintType), uint64(x.At))
			one = protowire.AppendBytes(protowire.AppendTag(one, 2, protowire.BytesType), part)
		}
		out = protowire.AppendBytes(protowire.AppendTag(out, 1, protowire.BytesType), one)
	}
	return out
}
