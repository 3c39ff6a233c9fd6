package deliver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/exp/api/remote"
	writev2 "github.com/prometheus/client_golang/exp/api/remote/genproto/v2"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// RemoteWrite is a [Sender] that speaks remote write.
type RemoteWrite struct {
	api    *remote.API
	target *url.URL
	two    bool
	now    func() time.Time
}

// NewRemoteWrite returns a sender of remote write 1.0, which every receiver takes, to the
// URL of a receiver, such as http://prometheus:9090/api/v1/write, as it is. The client adds
// credentials; redirects to another server are refused. Now is for the dates of Retry-After.
func NewRemoteWrite(target string, client *http.Client, now func() time.Time) (*RemoteWrite, error) {
	u, err := targetURL(target, remoteWritePaths)
	if err != nil {
		return nil, fmt.Errorf("remote write URL: %w", err)
	}
	api, err := remote.NewAPI(target, remote.WithAPIHTTPClient(own(client, u, promapi.Stay)))
	if err != nil {
		return nil, fmt.Errorf("remote write client: %w", err)
	}
	return &RemoteWrite{api: api, target: u, now: now}, nil
}

// NewRemoteWrite2 returns a sender of remote write 2.0.
func NewRemoteWrite2(target string, client *http.Client, now func() time.Time) (*RemoteWrite, error) {
	w, err := NewRemoteWrite(target, client, now)
	if err == nil {
		w.two = true
	}
	return w, err
}

// Send implements [Sender].
func (w *RemoteWrite) Send(parent context.Context, series []Series) error {
	ctx, a := withAnswer(parent)
	// The library tries again by itself, with pauses that nobody sees. The first failure
	// ends its attempt here.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	kind, message := remote.WriteV1MessageType, any(encode(series))
	if w.two {
		kind, message = remote.WriteV2MessageType, encode2(series)
	}
	var failed error
	written, err := w.api.Write(ctx, kind, message, remote.WithWriteRetryCallback(func(err error) { failed = err; stop(err) }))
	if failed != nil {
		err = failed
	}
	switch {
	case err == nil:
		if failed := a.acknowledged(); failed != nil || !w.two {
			return failed
		}
		return short(a.status, written.Samples, Count(series))
	case parent.Err() != nil:
		return fmt.Errorf("remote write: %w", context.Cause(parent))
	}
	var other *promapi.RedirectError
	if errors.As(err, &other) {
		return fmt.Errorf("remote write: %w", other)
	}
	if a.status == 0 { // no response
		if asked := new(url.Error); errors.As(err, &asked) {
			asked.URL = w.target.Redacted() // not what the library makes of it, which is not asked
		}
		return &BusyError{Err: fmt.Errorf("remote write: %w", err)}
	}
	if answered := judge(a.status, a.header, a.text, w.now()); answered != nil {
		return answered
	}
	if page := a.acknowledged(); page != nil {
		return page
	}
	// 2xx without the numbers of remote write 2: the receiver does not speak it.
	return fmt.Errorf("remote write: %w", err)
}

// short returns an error if fewer samples were written than sent: remote write 2 says how many
// were, whatever the status is.
func short(status, written, sent int) error {
	if written >= sent {
		return nil
	}
	return &RejectedError{status, fmt.Sprintf("by its header X-Prometheus-Remote-Write-Samples-Written it has written %d of %d samples", written, sent)}
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
	for i := range series {
		s := &series[i]
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

// encode2 makes the message of remote write 2. Every family is a gauge: the amount in one
// window.
func encode2(series []Series) *writev2.Request {
	symbols := writev2.NewSymbolTable()
	out := &writev2.Request{Timeseries: make([]*writev2.TimeSeries, len(series))}
	for i := range series {
		s := &series[i]
		t := &writev2.TimeSeries{
			LabelsRefs: make([]uint32, 0, 2*len(s.Labels)), Samples: make([]*writev2.Sample, len(s.Samples)),
			Metadata: &writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE},
		}
		for _, l := range s.Labels {
			t.LabelsRefs = append(t.LabelsRefs, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
		}
		for j, x := range s.Samples {
			t.Samples[j] = &writev2.Sample{Value: x.Value, Timestamp: int64(x.At)}
		}
		if s.Family != nil {
			t.Metadata.HelpRef, t.Metadata.UnitRef = symbols.Symbolize(s.Family.Help), symbols.Symbolize(s.Family.Unit)
		}
		out.Timeseries[i] = t
	}
	out.Symbols = symbols.Symbols()
	return out
}
