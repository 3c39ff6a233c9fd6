package expo

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

var http5m = &bucket.Definition{
	Dataset: "http_5m", Version: 1, ScopeKind: bucket.Zone, Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 30,
	Families: []bucket.Family{
		{Name: "cloudflare_zone_requests", Help: "Requests in the bucket.", Role: bucket.Total, Additive: true},
		{Name: "cloudflare_zone_bytes", Help: `Bytes "out" \ in the bucket.`, Unit: "bytes", Role: bucket.Total, Additive: true},
		{Name: "cloudflare_zone_bytes_by_status", Help: "Bytes.", Unit: "bytes", Labels: []string{"status"}, Role: bucket.Breakdown, Additive: true},
	},
}

func example() *bucket.Bucket {
	return &bucket.Bucket{
		Key:  bucket.Key{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: strings.Repeat("a", 32)}, Start: 1795341300},
		Size: 5 * time.Minute, Version: 1, Zone: "shop.example", Account: "Acme",
		Families: []bucket.Rows{
			{Family: "cloudflare_zone_requests", Values: []float64{1234567}},
			{Family: "cloudflare_zone_bytes", Values: []float64{0.25}},
			{Family: "cloudflare_zone_bytes_by_status", Labels: []string{"200", "404"}, Values: []float64{1e18, 3}},
		},
	}
}

func lines(t *testing.T, segments []Segment, f Format) string {
	t.Helper()
	var b strings.Builder
	for i := range segments {
		before := b.Len()
		b.Write(AppendLines(nil, f, segments[i].Lines))
		if got, want := LinesLen(f, segments[i].Lines, segments[i].Samples), b.Len()-before; got != want {
			t.Errorf("%s in %s has %d bytes, and is said to have %d", segments[i].Family.Name, f, want, got)
		}
	}
	return b.String()
}

func TestRenderBothFormats(t *testing.T) {
	segments, err := new(Renderer).Render(example(), http5m, sample.End)
	if err != nil {
		t.Fatal(err)
	}
	const text = `cloudflare_zone_bytes{zone="shop.example",account="Acme"} 0.25 1795341599999
cloudflare_zone_bytes_by_status{zone="shop.example",account="Acme",status="200"} 1e+18 1795341599999
cloudflare_zone_bytes_by_status{zone="shop.example",account="Acme",status="404"} 3 1795341599999
cloudflare_zone_requests{zone="shop.example",account="Acme"} 1234567 1795341599999
`
	if diff := cmp.Diff(text, lines(t, segments, Text)); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	open := strings.ReplaceAll(text, "1795341599999", "1795341599.999")
	if diff := cmp.Diff(open, lines(t, segments, OpenMetrics)); diff != "" {
		t.Errorf("OpenMetrics (-want +got):\n%s", diff)
	}
	if got := segments[1].Samples; got != 2 {
		t.Errorf("the breakdown has %d samples, want 2", got)
	}
	if series := slices.Collect(Series(segments[1].Lines)); len(series) != 2 || series[0] == series[1] {
		t.Errorf("two label sets count as the series %v", series)
	}
}

// A bucket's series must be told apart by labels, never by value or time.
func TestSeriesIgnoreValueAndTime(t *testing.T) {
	a := example()
	b := example()
	b.Start += 300
	b.Families[0].Values[0]++
	one, err := new(Renderer).Render(a, http5m, sample.End)
	if err != nil {
		t.Fatal(err)
	}
	two, err := new(Renderer).Render(b, http5m, sample.End)
	if err != nil {
		t.Fatal(err)
	}
	for i := range one {
		if diff := cmp.Diff(slices.Collect(Series(one[i].Lines)), slices.Collect(Series(two[i].Lines))); diff != "" {
			t.Errorf("%s: series differ between buckets:\n%s", one[i].Family.Name, diff)
		}
	}
}

// What a renderer has returned stays as it is when it renders the next bucket.
func TestARendererKeepsWhatItReturned(t *testing.T) {
	r := new(Renderer)
	one, err := r.Render(example(), http5m, sample.End)
	if err != nil {
		t.Fatal(err)
	}
	want := lines(t, one, Text)
	other := example()
	other.Zone = "other.example"
	if _, err := r.Render(other, http5m, sample.End); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, one, Text); got != want {
		t.Errorf("after the next bucket the lines are:\n%s\nwant:\n%s", got, want)
	}
}

// Lines that are made piece by piece are those made at once, whatever the room.
func TestAppendFitting(t *testing.T) {
	segments, err := new(Renderer).Render(example(), http5m, sample.End)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	longest := 0
	for _, s := range segments {
		all = append(all, s.Lines...)
	}
	for line := range bytes.Lines(all) {
		longest = max(longest, len(line)+1)
	}
	for _, f := range []Format{Text, OpenMetrics} {
		want := string(AppendLines(nil, f, all))
		for room := 1; room < len(all)+20; room++ {
			var got []byte
			for rest := all; len(rest) > 0; {
				var piece []byte
				if piece, rest = AppendFitting(make([]byte, 0, room), f, rest); len(piece) == 0 || len(piece) > max(room, longest) {
					t.Fatalf("%s: a piece of %d bytes with room for %d", f, len(piece), room)
				}
				got = append(got, piece...)
			}
			if string(got) != want {
				t.Fatalf("%s, %d bytes of room:\n%s\nwant:\n%s", f, room, got, want)
			}
		}
	}
}

// Seconds in text or milliseconds in OpenMetrics cost data at the reader, and
// nobody notices at once. Both spellings are held to their unit here.
func TestTimestampUnits(t *testing.T) {
	w := bucket.Window{Start: 1795341300, End: 1795341600}
	for _, tc := range []struct {
		stamp           sample.Stamp
		millis, seconds string
	}{
		{sample.End, "1795341599999", "1795341599.999"},
		{sample.Start, "1795341300000", "1795341300.000"},
	} {
		at := tc.stamp.Of(w)
		if got := string(appendMillis(nil, at)); got != tc.millis {
			t.Errorf("%s in milliseconds is %s, want %s", tc.stamp, got, tc.millis)
		}
		if got := string(AppendSeconds(nil, at)); got != tc.seconds {
			t.Errorf("%s in seconds is %s, want %s", tc.stamp, got, tc.seconds)
		}
	}
	if got := string(AppendSeconds(nil, 1795341600007)); got != "1795341600.007" {
		t.Errorf("decimals are not padded: %s", got)
	}
}

// What has no samples that can be right is refused whole; package sample says why.
func TestRenderRefuses(t *testing.T) {
	b := example()
	b.Families[2].Family = "cloudflare_zone_cats"
	if segments, err := new(Renderer).Render(b, http5m, sample.End); err == nil || len(segments) > 0 {
		t.Errorf("%d segments and the error %v, want none and one", len(segments), err)
	}
}

func TestHeader(t *testing.T) {
	for _, tc := range []struct {
		family int
		format Format
		want   string
	}{
		{1, Text, "# HELP cloudflare_zone_bytes Bytes \"out\" \\\\ in the bucket.\n# TYPE cloudflare_zone_bytes gauge\n"},
		{1, OpenMetrics, "# HELP cloudflare_zone_bytes Bytes \\\"out\\\" \\\\ in the bucket.\n# TYPE cloudflare_zone_bytes gauge\n# UNIT cloudflare_zone_bytes bytes\n"},
		// A name that does not end with its unit must not claim it.
		{2, OpenMetrics, "# HELP cloudflare_zone_bytes_by_status Bytes.\n# TYPE cloudflare_zone_bytes_by_status gauge\n"},
	} {
		fam := &http5m.Families[tc.family]
		if diff := cmp.Diff(tc.want, string(AppendHeader(nil, tc.format, fam.Name, fam))); diff != "" {
			t.Errorf("%s in %s (-want +got):\n%s", fam.Name, tc.format, diff)
		}
	}
}

func TestNegotiate(t *testing.T) {
	for _, tc := range []struct {
		accept string
		want   Format
	}{
		{"", Text},
		{"*/*", Text},
		{"text/html,*/*;q=0.8", Text},
		{"application/openmetrics-text", OpenMetrics},
		{"application/openmetrics-text; version=1.0.0; charset=utf-8", OpenMetrics},
		{`application/openmetrics-text;version="1.0.0"`, OpenMetrics},
		{"Application/OpenMetrics-Text;Version=1.0.0", OpenMetrics},
		{"application/openmetrics-text;version=0.0.1", Text},
		{"application/openmetrics-text;version=2.0.0", Text},
		{"application/openmetrics-text;q=0", Text},
		{"application/openmetrics-text;q=nonsense", Text},
		{"application/openmetrics-text;q=0.2,text/plain;q=0.9", Text},
		{"application/openmetrics-text;q=0.5,text/plain;q=0.5", OpenMetrics},
		{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,text/plain;version=0.0.4;q=0.4", Text},
		// Prometheus 3.15
		{"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3", OpenMetrics},
		// Prometheus 2.5
		{"application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Text},
	} {
		if got := Negotiate(tc.accept); got != tc.want {
			t.Errorf("Negotiate(%q) = %s, want %s", tc.accept, got, tc.want)
		}
	}
}

func TestNegotiateEncoding(t *testing.T) {
	for accept, want := range map[string]Encoding{
		"":                        Identity,
		"gzip":                    Gzip,
		"GZIP":                    Gzip,
		"identity":                Identity,
		"gzip;q=0":                Identity,
		"gzip; q=0.0, *":          Identity,
		"*":                       Gzip,
		"*;q=0":                   Identity,
		"zstd, gzip;q=0.5":        Gzip,
		"zstd":                    Identity,
		"deflate, br":             Identity,
		"identity;q=1,gzip;q=0.5": Identity,
		"gzip;q=x":                Identity,
	} {
		if got := NegotiateEncoding(accept); got != want {
			t.Errorf("NegotiateEncoding(%q) = %s, want %s", accept, got, want)
		}
	}
}

// parse reads a text body with Prometheus's own parser.
func parse(t *testing.T, body []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("Prometheus's parser: %v\n%s", err, body)
	}
	return families
}

// FuzzText holds the text encoder against Prometheus's parser: whatever the
// names and values, one sample comes back with the same labels, value and time.
func FuzzText(f *testing.F) {
	f.Add("shop.example", "Acme", "text/html", "Help.", 1.5, int64(1795341300))
	f.Add(`a"b\c`+"\n", "\x00\xff", "ü€", "line\nbreak \\ \"quoted\"", math.Copysign(0, -1), int64(1795341300))
	f.Add("", "", "", "", 1e300, int64(2e9))
	f.Fuzz(func(t *testing.T, zone, account, label, help string, value float64, start int64) {
		if math.IsNaN(value) || math.IsInf(value, 0) || start < 1e9 || start > 1e11 {
			t.Skip("not a bucket that the log can hold")
		}
		fam := bucket.Family{Name: "cloudflare_x", Help: help, Labels: []string{"kind"}, Role: bucket.Total}
		d := &bucket.Definition{Dataset: "x_5m", Version: 1, Size: 5 * time.Minute, Families: []bucket.Family{fam}}
		b := example()
		b.Start, b.Zone, b.Account = bucket.Time(start), zone, account
		b.Families = []bucket.Rows{{Family: fam.Name, Labels: []string{label}, Values: []float64{value}}}
		segments, err := new(Renderer).Render(b, d, sample.Start)
		if err != nil {
			t.Fatal(err)
		}
		body := append(AppendHeader(nil, Text, fam.Name, &fam), segments[0].Lines...)
		got := parse(t, body)[fam.Name]
		if got == nil || len(got.Metric) != 1 {
			t.Fatalf("%d families of one sample expected:\n%s", 1, body)
		}
		for _, pair := range got.Metric[0].Label {
			want := map[string]string{"zone": zone, "account": account, "kind": label}[pair.GetName()]
			if got, want := pair.GetValue(), perByte(want); got != want {
				t.Errorf("label %s is %q, want %q", pair.GetName(), got, want)
			}
		}
		if got := got.Metric[0].GetGauge().GetValue(); got != value {
			t.Errorf("value is %v, want %v", got, value)
		}
		if got := got.Metric[0].GetTimestampMs(); got != start*1000 {
			t.Errorf("timestamp is %d ms, want %d", got, start*1000)
		}
		if open := AppendEnd(AppendLines(nil, OpenMetrics, segments[0].Lines), OpenMetrics); bytes.Count(open, []byte("\n")) != 2 {
			t.Errorf("OpenMetrics has other lines than one sample and the end:\n%s", open)
		}
	})
}

// perByte is s with each invalid byte and each NUL replaced.
func perByte(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == 0 {
			r = '\uFFFD'
		}
		b.WriteRune(r)
	}
	return b.String()
}
