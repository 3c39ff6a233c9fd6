package backfill

import (
	"cmp"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

var now = time.Date(2026, 3, 10, 12, 0, 30, 0, time.UTC)

func state(t testing.TB, definitions ...*bucket.Definition) *recent.State {
	t.Helper()
	r := recent.New(sample.Store{ID: "test", Stamp: sample.End, Retention: 30 * 24 * time.Hour}, 24*time.Hour)
	for _, d := range definitions {
		if err := r.Define(d); err != nil {
			t.Fatal(err)
		}
	}
	return r.State(bucket.Position{})
}

func twoDatasets(t testing.TB) *recent.State {
	hourly := feedtest.Definition("uniques_1h", 1)
	hourly.Size = time.Hour
	for i := range hourly.Families {
		hourly.Families[i].Additive = false
	}
	return state(t, feedtest.Definition("http_5m", 1), hourly)
}

func parse(t *testing.T, query string, d Defaults) (*Request, error) {
	t.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(q, twoDatasets(t), d, Bounds{Now: now, MaxHours: 168})
}

func TestRanges(t *testing.T) {
	day := Defaults{Hours: 24}
	for _, tc := range []struct{ query, want string }{
		// Back from now or from an end: whole days of UTC, so that no window is cut.
		{"", "[2026-03-09T00:00:00Z, 2026-03-10T12:00:30Z)"},
		{"hours=1", "[2026-03-10T00:00:00Z, 2026-03-10T12:00:30Z)"},
		{"hours=13", "[2026-03-09T00:00:00Z, 2026-03-10T12:00:30Z)"},
		{"hours=168", "[2026-03-03T00:00:00Z, 2026-03-10T12:00:30Z)"}, // more than the longest range
		{"start=2026-03-10T00:00:00Z", "[2026-03-10T00:00:00Z, 2026-03-10T12:00:30Z)"},
		{"start=2026-03-10T01:00:00%2B01:00", "[2026-03-10T00:00:00Z, 2026-03-10T12:00:30Z)"},
		{"start=2026-03-10T01:00:00+01:00", "[2026-03-10T00:00:00Z, 2026-03-10T12:00:30Z)"}, // "+" not escaped
		{"start=1773100800&end=1773104400", "[2026-03-10T00:00:00Z, 2026-03-10T01:00:00Z)"},
		{"end=2026-03-08T00:00:00Z&hours=2", "[2026-03-07T00:00:00Z, 2026-03-08T00:00:00Z)"},
		{"end=2026-03-08T00:00:00Z&hours=24", "[2026-03-07T00:00:00Z, 2026-03-08T00:00:00Z)"},
		{"end=2026-03-10T12:00:31Z&hours=1", "[2026-03-10T00:00:00Z, 2026-03-10T12:00:30Z)"}, // a little ahead is now
		{"end=2026-03-10T13:00:30Z&hours=1", "[2026-03-10T00:00:00Z, 2026-03-10T12:00:30Z)"},
		{"end=2026-02-09T00:00:00Z&hours=10", "[2026-02-08T12:00:30Z, 2026-02-09T00:00:00Z)"}, // no more than is kept
		{"start=2026-02-20T00:00:00Z&end=2026-02-27T00:00:00Z", "[2026-02-20T00:00:00Z, 2026-02-27T00:00:00Z)"},
	} {
		r, err := parse(t, tc.query, day)
		if err != nil {
			t.Errorf("%s: %v", tc.query, err)
			continue
		}
		if got := r.Range.String(); got != tc.want {
			t.Errorf("%s: range is %s, want %s", tc.query, got, tc.want)
		}
		if r.Format != expo.OpenMetrics || len(r.Datasets) != 2 || len(r.Blocks) != 4 || len(r.LeftOut) != 0 {
			t.Errorf("%s: defaults are %+v", tc.query, r)
		}
	}
}

// Defaults are nobody's mistake: they reach back as far as the store does.
func TestDefaultStaysWithinRetention(t *testing.T) {
	r, err := Parse(url.Values{}, twoDatasets(t), Defaults{Hours: 2000}, Bounds{Now: now, MaxHours: 2000})
	if err != nil {
		t.Fatal(err)
	}
	if want := bucket.TimeOf(now).Add(-30 * 24 * time.Hour); r.Range.Start != want {
		t.Errorf("range is %s, want it to begin at %s", r.Range, want)
	}
}

func TestRefused(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, tc := range []struct{ query, name, want string }{
		{"hors=1", "hors", "removed: the parameters are account, as, dataset, end,"},
		{"hours=1&hours=2", "hours", "given once"},
		{"label=job", "label", "name=value"},
		{"label=", "label", "removed or given a value"},
		{"label=job=", "label", "a value of 1 to 256 bytes"},
		{"label=job=%ff", "label", "of UTF-8"},
		{"label=job=" + strings.Repeat("x", 257), "label", "a value of 1 to 256 bytes"},
		{"label=__name__=x", "label", "does not start with __"},
		{"label=a-b=x", "label", "letters, digits and underscores"},
		{"label=zone=x", "label", "exists in the data"},
		{"label=status=x", "label", "exists in the data"},
		{"label=job=a&label=job=b", "label", "given twice"},
		{strings.Repeat("label=a=b&", 9) + "hours=1", "label", "at most 8 times"},
		{"hours=", "hours", "removed or given a value"},
		{"hours=0", "hours", "a whole number from 1 to 168 (CF_BACKFILL_MAX_HOURS)"},
		{"hours=-1", "hours", "from 1 to 168"},
		{"hours=169", "hours", "from 1 to 168"},
		{"hours=1.5", "hours", "from 1 to 168"},
		{"hours=1h", "hours", "from 1 to 168"},
		{"hours=99999999999999999999", "hours", "from 1 to 168"},
		{"start=yesterday", "start", "an RFC 3339 time such as"},
		{"start=-5", "start", "not negative"},
		{"start=1773100800000", "start", "looks like milliseconds"},
		{"start=2026-03-10", "start", "an RFC 3339 time"},
		{"start=9999-12-31T00:00:00Z", "start", "an RFC 3339 time"},
		{"start=2026-03-10T00:00:00Z&hours=1", "hours", "removed if start is given"},
		{"start=2026-03-10T02:00:00Z&end=2026-03-10T01:00:00Z", "start", "before the end, 2026-03-10T01:00:00Z"},
		{"start=2026-03-10T01:00:00Z&end=2026-03-10T01:00:00Z", "start", "before the end"},
		{"start=2026-03-10T13:00:00Z", "start", "before the end, 2026-03-10T12:00:30Z"},
		{"end=2026-03-10T13:00:31Z", "end", "at most 60 minutes after now (2026-03-10T12:00:30Z); a range ends at now at the latest"},
		{"start=2026-03-01T00:00:00Z", "start", "at or after 2026-03-03T12:00:30Z"},
		{"start=2026-03-01T00:00:00Z", "start", "in parts, split at midnight UTC, because a range contains only windows that lie entirely inside it"},
		{"hours=none", "hours", "the range starts at the preceding midnight UTC"},
		{"start=2026-02-01T00:00:00Z&end=2026-02-02T00:00:00Z", "start", "at or after 2026-02-08T12:00:30Z"},
		{"end=2026-01-02T00:00:00Z", "end", "at or after 2026-02-08T12:00:30Z"},
		{"dataset=http", "dataset", "one of http_5m, uniques_1h"},
		{"family=cloudflare_zone_cats", "family", "one of cloudflare_zone_http_5m_requests,"},
		{"dataset=uniques_1h&family=cloudflare_zone_http_5m_requests", "family", "one of cloudflare_zone_uniques_1h_requests,"},
		{"format=json", "format", "openmetrics or text"},
		{"step_seconds=0", "step_seconds", "from 1 to 86400"},
		{"step_seconds=1m", "step_seconds", "from 1 to 86400"},
		{"dataset=uniques_1h&step_seconds=7200", "step_seconds", "at most 3600, the bucket size of uniques_1h, because cloudflare_zone_uniques_1h_requests is not available with a step of 7200: its values cannot be added up"},
		{"dataset=http_5m&step_seconds=420", "step_seconds", "420 seconds are no multiple of its buckets' 300"},
		{"dataset=http_5m&step_seconds=2100", "step_seconds", "a day is no multiple of 2100 seconds, and steps begin at midnight UTC"},
		{"start=2026-03-10T12:30:00Z&end=2026-03-10T13:00:00Z", "start", "before the end, 2026-03-10T12:00:30Z"},
		{"extend_to_now=yes", "extend_to_now", "0 or 1"},
		{"as=new", "as", "restated (with the newest restatement of each bucket) or stored"},
		{"as=", "as", "removed or given a value"},
		{"extend_to_now=1&end=2026-03-10T01:00:00Z", "extend_to_now", "0 if end is given"},
		{"family=" + long, "family", "one of"},
		{long + "=1", long, "removed: the parameters are"},
	} {
		_, err := parse(t, tc.query, Defaults{Hours: 24})
		var refused *ParamError
		if !errors.As(err, &refused) || refused.Name != tc.name || !strings.Contains(refused.Want, tc.want) {
			t.Errorf("%.60s: error is %v, want one about %s: %s", tc.query, err, tc.name, tc.want)
		}
		if err != nil && len(err.Error()) > 600 {
			t.Errorf("%.60s: the message has %d bytes", tc.query, len(err.Error()))
		}
	}
}

func TestStepped(t *testing.T) {
	original := Defaults{Hours: 168, Step: time.Minute, Extend: true}
	const both = "http_5m plain, uniques_1h plain"
	for _, tc := range []struct {
		query    string
		defaults Defaults
		want     string
		left     int
	}{
		{"", Defaults{Hours: 24}, both, 0},
		{"", original, "http_5m _stepped, uniques_1h _stepped", 0},
		{"end=2026-03-10T00:00:00Z", original, "http_5m _stepped, uniques_1h _stepped", 0},
		{"extend_to_now=0&dataset=http_5m&step_seconds=300", original, "http_5m plain", 0},
		{"step_seconds=300", Defaults{Hours: 24}, "http_5m plain, uniques_1h _stepped", 0},
		{"extend_to_now=1", Defaults{Hours: 24}, "http_5m _stepped, uniques_1h _stepped", 0},
		// A default step beyond a bucket was nobody's wish: nothing is added up.
		{"end=2026-03-10T00:00:00Z&dataset=http_5m", Defaults{Hours: 24, Step: 10 * time.Minute}, "http_5m plain", 0},
		{"end=2026-03-10T00:00:00Z", Defaults{Hours: 24, Step: 10 * time.Minute}, "http_5m plain, uniques_1h _stepped", 0},
		// The URL of the exporter that Weir comes from, and steps around its.
		{"hours=24&step_seconds=3600&extend_to_now=0", original, "http_5m _summed, uniques_1h plain", 0},
		{"hours=24&step_seconds=3600", original, "http_5m _summed, uniques_1h _stepped", 0}, // sums are not extended
		{"step_seconds=86400&extend_to_now=0", original, "http_5m _summed", 2},
		{"step_seconds=5400", Defaults{Hours: 24}, "http_5m _summed", 2},
		{"step_seconds=420", Defaults{Hours: 24}, "uniques_1h _stepped", 2},  // no multiple of 300
		{"step_seconds=2100", Defaults{Hours: 24}, "uniques_1h _stepped", 2}, // 35 minutes: not of a day
	} {
		r, err := parse(t, tc.query, tc.defaults)
		if err != nil {
			t.Errorf("%s: %v", tc.query, err)
			continue
		}
		var got []string
		for i := 0; i < len(r.Blocks); i += 2 { // each dataset has two families
			b := r.Blocks[i]
			got = append(got, b.Datasets[0]+" "+cmp.Or(b.Kind.Suffix(), "plain"))
		}
		if got := strings.Join(got, ", "); got != tc.want || len(r.LeftOut) != tc.left {
			t.Errorf("%s: %s, left out %v; want %s and %d", tc.query, got, r.LeftOut, tc.want, tc.left)
		}
	}
}

// FuzzParse: whatever the query, the range is sane or refused.
func FuzzParse(f *testing.F) {
	f.Add("hours=5&step_seconds=60")
	f.Add("start=1773100800&end=2026-03-10T01:00:00Z")
	f.Add("extend_to_now=1&zone=x&family=y")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		r, err := Parse(q, twoDatasets(t), Defaults{Hours: 24}, Bounds{Now: now, MaxHours: 168})
		longest := 168 * time.Hour
		if !q.Has("start") {
			longest += day // whole days
		}
		var refused *ParamError
		switch {
		case err != nil && !errors.As(err, &refused):
			t.Errorf("error of another kind: %v", err)
		case err == nil && (r.Range.Empty() || r.Range.Len() > longest || r.Range.End > bucket.TimeOf(now) || len(r.Blocks) == 0):
			t.Errorf("accepted %+v", r)
		}
	})
}
