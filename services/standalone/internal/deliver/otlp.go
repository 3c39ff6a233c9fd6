package deliver

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/slim/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// OTLP is a [Sender] that speaks OTLP over HTTP, with protobuf and gzip. A family whose
// values can be added up is a sum with delta temporality, whose start and time are those of
// the window; any other is a gauge at the window's end. Labels of a series are attributes of
// its points, and the sender's own those of the resource.
type OTLP struct {
	target   *url.URL
	client   *http.Client
	resource *resourcepb.Resource
	now      func() time.Time
}

// scope is the instrumentation scope of everything sent.
const scope = "github.com/weir-metrics/weir"

// NewOTLP returns a sender to a URL such as http://collector:4318/v1/metrics, as it is. The labels
// are attributes of the resource; without service.name among them it is weir.
func NewOTLP(target string, client *http.Client, labels []export.Label, now func() time.Time) (*OTLP, error) {
	u, err := targetURL(target, otlpPaths)
	if err != nil {
		return nil, fmt.Errorf("OTLP URL: %w", err)
	}
	r := &resourcepb.Resource{}
	if !slices.ContainsFunc(labels, func(l export.Label) bool { return l.Name == "service.name" }) {
		r.Attributes = append(r.Attributes, attribute("service.name", "weir"))
	}
	for _, l := range labels {
		r.Attributes = append(r.Attributes, attribute(l.Name, l.Value))
	}
	return &OTLP{target: u, client: own(client, u, promapi.Stay), resource: r, now: now}, nil
}

func attribute(name, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: name, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

// Send implements [Sender].
func (o *OTLP) Send(parent context.Context, series []Series) error {
	plain, err := proto.Marshal(o.encode(series))
	if err != nil {
		return fmt.Errorf("encode an OTLP request: %w", err)
	}
	var body bytes.Buffer
	zip := gzip.NewWriter(&body)
	_, err = zip.Write(plain)
	if err = errors.Join(err, zip.Close()); err != nil {
		return fmt.Errorf("compress an OTLP request: %w", err)
	}
	ctx, a := withAnswer(parent)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.target.String(), &body)
	if err != nil {
		return fmt.Errorf("OTLP: %w", err)
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("Content-Encoding", "gzip")
	response, err := o.client.Do(r)
	if err != nil {
		var other *promapi.RedirectError
		switch {
		case parent.Err() != nil:
			return fmt.Errorf("OTLP: %w", context.Cause(parent))
		case errors.As(err, &other):
			return fmt.Errorf("OTLP: %w", other)
		}
		return &BusyError{Err: fmt.Errorf("OTLP: %w", err)}
	}
	_ = response.Body.Close() // the recorder has read it
	text := a.text
	if s := (&statuspb.Status{}); a.status/100 != 2 && proto.Unmarshal([]byte(text), s) == nil && s.GetMessage() != "" {
		text = s.GetMessage()
	}
	if err := judge(a.status, a.header, text, o.now()); err != nil {
		return err
	}
	told, err := o.told(a)
	if err != nil {
		return err
	}
	if p := told.GetPartialSuccess(); p.GetRejectedDataPoints() > 0 {
		return &PartialError{Rejected: p.GetRejectedDataPoints(), Text: clip(p.GetErrorMessage())}
	}
	return nil
}

// told reads a response of 2xx. It is empty, or the response of OTLP, in protobuf or JSON. Any
// other may be of a receiver that has taken the request, which counts again if it is repeated.
func (*OTLP) told(a *answer) (*collectorpb.ExportMetricsServiceResponse, error) {
	m := &collectorpb.ExportMetricsServiceResponse{}
	text, kind := strings.TrimSpace(a.text), a.header.Get("Content-Type")
	media, _, _ := mime.ParseMediaType(kind)
	binary := strings.Contains(media, "protobuf") || media == "application/octet-stream" || kind == ""
	switch {
	case a.text == "":
		return m, nil
	case page(kind, a.text):
	case binary && proto.Unmarshal([]byte(a.text), m) == nil: // its first byte may be a brace's
		return m, nil
	case exported(text):
		if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), m) == nil {
			return m, nil
		}
	}
	return nil, &AnswerError{Status: a.status, Type: kind, Text: clip(text), Once: true}
}

// exported reports whether a text is the response of OTLP in JSON. It may have more fields, but an
// object of others alone is the answer of something else.
func exported(text string) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &fields) != nil || fields == nil {
		return false
	}
	_, partial := fields["partialSuccess"]
	return partial || len(fields) == 0
}

// encode makes the message, with one metric for each family.
func (o *OTLP) encode(series []Series) *collectorpb.ExportMetricsServiceRequest {
	metrics, byName := []*metricspb.Metric{}, map[string]*metricspb.Metric{}
	for i := range series {
		s := &series[i]
		var name string
		attributes := make([]*commonpb.KeyValue, 0, len(s.Labels))
		for _, l := range s.Labels {
			if l.Name == "__name__" {
				name = l.Value
				continue
			}
			attributes = append(attributes, attribute(l.Name, l.Value))
		}
		m := byName[name]
		if m == nil {
			m = metric(name, s.Family)
			byName[name], metrics = m, append(metrics, m)
		}
		points := make([]*metricspb.NumberDataPoint, len(s.Samples))
		for j, x := range s.Samples {
			points[j] = &metricspb.NumberDataPoint{
				Attributes: attributes, Value: &metricspb.NumberDataPoint_AsDouble{AsDouble: x.Value},
				StartTimeUnixNano: nanos(x.Window.Start), TimeUnixNano: nanos(x.Window.End),
			}
		}
		switch d := m.GetData().(type) {
		case *metricspb.Metric_Sum:
			d.Sum.DataPoints = append(d.Sum.DataPoints, points...)
		case *metricspb.Metric_Gauge:
			d.Gauge.DataPoints = append(d.Gauge.DataPoints, points...)
		}
	}
	return &collectorpb.ExportMetricsServiceRequest{ResourceMetrics: []*metricspb.ResourceMetrics{{
		Resource:     o.resource,
		ScopeMetrics: []*metricspb.ScopeMetrics{{Scope: &commonpb.InstrumentationScope{Name: scope}, Metrics: metrics}},
	}}}
}

func metric(name string, f *bucket.Family) *metricspb.Metric {
	m := &metricspb.Metric{Name: name, Description: f.Help, Unit: unit(f.Unit)}
	if f.Additive {
		m.Data = &metricspb.Metric_Sum{Sum: &metricspb.Sum{AggregationTemporality: metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA, IsMonotonic: true}}
	} else {
		m.Data = &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{}}
	}
	return m
}

func nanos(t bucket.Time) uint64 { return uint64(t) * uint64(time.Second) }

// unit converts a unit to UCUM, which OTLP has.
func unit(prometheus string) string {
	switch prometheus {
	case "bytes":
		return "By"
	case "seconds":
		return "s"
	case "":
		return "1"
	}
	return prometheus
}
