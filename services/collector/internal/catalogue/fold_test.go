package catalogue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
)

// groups decodes a list as the client does.
func groups(t testing.TB, text string) []map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var out []map[string]any
	if err := d.Decode(&out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

func at10(minutes int) bucket.Time {
	return bucket.TimeOf(time.Date(2026, 11, 22, 10, minutes, 0, 0, time.UTC))
}

// flatten writes rows as family{labels}, for comparison.
func flatten(f Folded) map[string]float64 {
	out := map[string]float64{}
	for _, r := range f.Families {
		for i, v := range r.Values {
			out[fmt.Sprint(r.Family, r.Labels[i*r.Width():(i+1)*r.Width()])] = v
		}
	}
	return out
}

func rollupGroup(at, sum string) string {
	return `{"dimensions":{"datetimeFiveMinutes":"` + at + `"},"avg":{"sampleInterval":1},"sum":` + sum + `}`
}

const fullSum = `{"requests":1527,"bytes":31274011,"cachedRequests":1212,"cachedBytes":30993010,"encryptedRequests":1501,
 "encryptedBytes":31000000,"pageViews":104,"threats":0,"responseStatusMap":[{"edgeResponseStatus":404,"requests":57},{"edgeResponseStatus":200,"requests":1470}]}`

func TestFoldRollup(t *testing.T) {
	d := load(t, "", Options{}).Find("http_5m")
	got, err := d.Fold(&d.Variants[0], bucket.Window{Start: at10(0), End: at10(15)},
		groups(t, "["+rollupGroup("2026-11-22T10:10:00Z", strings.ReplaceAll(fullSum, "1527", "9007199254740993"))+","+rollupGroup("2026-11-22T10:00:00Z", fullSum)+"]"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Start != at10(0) || got[1].Start != at10(5) || got[2].Start != at10(10) {
		t.Fatalf("got %d windows %+v, want three, ascending", len(got), got)
	}
	want := Folded{
		Start: at10(0), Level: 1527, SampleInterval: 1,
		Families: []bucket.Rows{
			{Family: "cloudflare_zone_requests", Labels: []string{}, Values: []float64{1527}},
			{Family: "cloudflare_zone_bytes", Labels: []string{}, Values: []float64{31274011}},
			{Family: "cloudflare_zone_cached_requests", Labels: []string{}, Values: []float64{1212}},
			{Family: "cloudflare_zone_cached_bytes", Labels: []string{}, Values: []float64{30993010}},
			{Family: "cloudflare_zone_encrypted_requests", Labels: []string{}, Values: []float64{1501}},
			{Family: "cloudflare_zone_encrypted_bytes", Labels: []string{}, Values: []float64{31000000}},
			{Family: "cloudflare_zone_page_views", Labels: []string{}, Values: []float64{104}},
			{Family: "cloudflare_zone_threats", Labels: []string{}, Values: []float64{0}},
			{Family: "cloudflare_zone_requests_by_status", Labels: []string{"200", "404"}, Values: []float64{1470, 57}},
		},
	}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Errorf("first window (-want +got):\n%s", diff)
	}
	// The window without a group: totals of 0, no breakdown, and said to be empty (G3).
	if n := len(got[1].Families); !got[1].Empty || n != 8 || got[1].Families[7].Values[0] != 0 || got[1].Level != 0 || got[1].SampleInterval != 0 {
		t.Errorf("empty window is %+v", got[1])
	}
	// 2^53+1 is rounded to the nearest even float64, once.
	if got[2].Level != 9007199254740992 || got[2].Empty {
		t.Errorf("level of the third window is %v", got[2].Level)
	}
	for _, f := range got {
		for _, r := range f.Families {
			if err := r.Validate(); err != nil {
				t.Errorf("window %s: %v", f.Start, err)
			}
		}
	}
}

func adaptiveGroup(at string, status int, cache, tls string, count, size int, interval float64) string {
	return fmt.Sprintf(`{"dimensions":{"datetimeFifteenMinutes":%q,"edgeResponseStatus":%d,"cacheStatus":%q,"clientSSLProtocol":%q},"count":%d,"sum":{"edgeResponseBytes":%d},"avg":{"sampleInterval":%g}}`,
		at, status, cache, tls, count, size, interval)
}

// Half-hours from quarter-hours, totals from groups by status, cache and TLS.
func TestFoldAdaptive(t *testing.T) {
	d := load(t, "", Options{HTTPSize: 30 * time.Minute}).Find("http_30m")
	v := &d.Variants[1]
	first, second := "2026-11-22T10:00:00Z", "2026-11-22T10:15:00Z"
	got, err := d.Fold(v, bucket.Window{Start: at10(0), End: at10(30)}, groups(t, "["+strings.Join([]string{
		adaptiveGroup(first, 200, "hit", "TLSv1.3", 100, 1000, 1),
		adaptiveGroup(second, 200, "hit", "TLSv1.3", 100, 1000, 10),
		adaptiveGroup(first, 200, "dynamic", "TLSv1.2", 40, 400, 1),
		adaptiveGroup(first, 404, "revalidated", "none", 7, 70, 1),
		adaptiveGroup(second, 503, "", "", 0, 0, -1),
	}, ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"cloudflare_zone_requests[]": 247, "cloudflare_zone_bytes[]": 2470,
		"cloudflare_zone_cached_requests[]": 207, "cloudflare_zone_cached_bytes[]": 2070,
		"cloudflare_zone_encrypted_requests[]": 240, "cloudflare_zone_encrypted_bytes[]": 2400,
		"cloudflare_zone_requests_by_status[200]": 240, "cloudflare_zone_requests_by_status[404]": 7, "cloudflare_zone_requests_by_status[503]": 0,
		"cloudflare_sample_interval[http_30m]": got[0].SampleInterval,
	}
	if diff := cmp.Diff(want, flatten(got[0])); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	// 247 events from 147 + 10 samples; an average over nothing is -1.
	if want := 247.0 / 157; math.Abs(got[0].SampleInterval-want) > 1e-12 {
		t.Errorf("sample interval is %v, want %v", got[0].SampleInterval, want)
	}
}

// Whether something is an estimate must be told of it (G12).
func TestAnEstimateThatDoesNotSayIsRefused(t *testing.T) {
	d := load(t, "", Options{}).Find("http_5m")
	group := strings.Replace(adaptiveGroup("2026-11-22T10:00:00Z", 503, "", "", 3, 30, -1), "FifteenMinutes", "FiveMinutes", 1)
	_, err := d.Fold(&d.Variants[len(d.Variants)-1], bucket.Window{Start: at10(0), End: at10(5)}, groups(t, "["+group+"]"))
	if err == nil || !strings.Contains(err.Error(), "avg.sampleInterval is -1 beside 3 events") {
		t.Errorf("error is %v", err)
	}
}

func TestFoldLimits(t *testing.T) {
	c := load(t, `datasets:
  - name: countries_1h
    limits:
      cloudflare_zone_requests_by_country: {top: 2, deny: [T1]}
      cloudflare_zone_bytes_by_country: {top: 2, by: cloudflare_zone_requests_by_country, deny: [T1]}
`, Options{})
	d := c.Find("countries_1h")
	answer := groups(t, `[{"dimensions":{"datetime":"2026-11-22T10:00:00Z"},"avg":{"sampleInterval":1},"sum":{"countryMap":[
	 {"clientCountryName":"US","requests":5,"bytes":900},{"clientCountryName":"DE","requests":9,"bytes":1},{"clientCountryName":"FR","requests":5,"bytes":70},
	 {"clientCountryName":"","requests":2,"bytes":20},{"clientCountryName":"T1","requests":50,"bytes":500},{"clientCountryName":"ZZ","requests":0,"bytes":0}]}}]`)
	got, err := d.Fold(&d.Variants[0], bucket.Window{Start: at10(0), End: at10(60)}, answer)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		// FR and US are equal; the name decides, and the bytes follow the requests.
		"cloudflare_zone_requests_by_country[DE]": 9, "cloudflare_zone_requests_by_country[FR]": 5, "cloudflare_zone_requests_by_country[other]": 57,
		"cloudflare_zone_bytes_by_country[DE]": 1, "cloudflare_zone_bytes_by_country[FR]": 70, "cloudflare_zone_bytes_by_country[other]": 1420,
	}
	if diff := cmp.Diff(want, flatten(got[0])); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if got[0].FoldedRows != 6 || got[0].Level != 71 {
		t.Errorf("folded %d rows, level %v; want 6 (3 of each family) and the whole sum, 71", got[0].FoldedRows, got[0].Level)
	}
}

// A hand-made dataset for what the embedded ones do not use.
func tiny(additive bool, limit *Limit) *Dataset {
	d := &Dataset{
		Definition: bucket.Definition{
			Dataset: "tiny_1h", ScopeKind: bucket.Zone, Size: time.Hour,
			Families: []bucket.Family{{Name: "f", Labels: []string{"a", "b"}, Role: bucket.Breakdown, Additive: additive}},
		},
		Level: "f", Limits: map[string]Limit{},
		Variants: []Variant{{
			Name: "v", Node: "n", TimeDimension: "t", FilterField: "datetime", Step: time.Hour, Dimensions: []string{"x", "y"},
			Measures: []Measure{{Family: "f", Field: "count", Labels: map[string]string{"a": "x", "b": "class(y)"}}},
		}},
	}
	if limit != nil {
		d.Limits["f"] = *limit
	}
	return d
}

func xy(x string, y, count any) string {
	return fmt.Sprintf(`{"dimensions":{"t":"2026-11-22T10:00:00Z","x":%q,"y":%v},"count":%v}`, x, y, count)
}

func TestFoldClassesAndSeveralLabels(t *testing.T) {
	hour := bucket.Window{Start: at10(0), End: at10(60)}
	text := "[" + strings.Join([]string{
		xy("p", 200, 1), xy("p", 204, 2), xy("p", 404, 4), xy("q", 0, 8), xy("", `"none"`, 16), xy("other", 503, 32), xy("r", 999, "0.5"), xy("s", 999, "1e3"),
	}, ",") + "]"
	for name, tc := range map[string]struct {
		limit *Limit
		want  map[string]float64
		gone  int
	}{
		"no limit": {nil, map[string]float64{
			"f[p 2xx]": 3, "f[p 4xx]": 4, "f[q unknown]": 8, "f[unknown unknown]": 16, "f[other 5xx]": 32, "f[r 9xx]": .5, "f[s 9xx]": 1000,
		}, 0},
		"allowed only": {
			&Limit{Other: "other", Allow: []string{"p", "2xx", "4xx"}},
			map[string]float64{"f[p 2xx]": 3, "f[p 4xx]": 4, "f[other other]": 1056.5},
			5,
		},
		"one": {&Limit{Other: "rest", Top: 1}, map[string]float64{"f[s 9xx]": 1000, "f[rest rest]": 63.5}, 6},
	} {
		d := tiny(true, tc.limit)
		got, err := d.Fold(&d.Variants[0], hour, groups(t, text))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, flatten(got[0])); diff != "" || got[0].FoldedRows != tc.gone {
			t.Errorf("%s: folded %d, want %d; rows (-want +got):\n%s", name, got[0].FoldedRows, tc.gone, diff)
		}
	}
}

// Cloudflare's own "other" shares our row; what cannot be added is dropped.
func TestFoldRest(t *testing.T) {
	d := tiny(true, &Limit{Top: 1, Other: "other"})
	d.Variants[0].Measures[0].Labels["b"] = "x"
	hour := bucket.Window{Start: at10(0), End: at10(60)}
	text := "[" + xy("other", 1, 50) + "," + xy("p", 1, 3) + "," + xy("q", 1, 2) + "]"
	got, err := d.Fold(&d.Variants[0], hour, groups(t, text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"f[other other]": 55}, flatten(got[0])); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	d.Families[0].Additive = false
	if got, err = d.Fold(&d.Variants[0], hour, groups(t, text)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"f[other other]": 50}, flatten(got[0])); diff != "" || got[0].FoldedRows != 2 {
		t.Errorf("folded %d, want 2 dropped; rows (-want +got):\n%s", got[0].FoldedRows, diff)
	}
}

// Nothing that a correct answer cannot contain gets through (G12).
func TestFoldRefuses(t *testing.T) {
	d := load(t, "", Options{}).Find("http_5m")
	v := &d.Variants[0]
	w := bucket.Window{Start: at10(0), End: at10(10)}
	good := rollupGroup("2026-11-22T10:00:00Z", fullSum)
	for name, tc := range map[string]struct{ answer, want string }{
		"two groups of one time":   {good + "," + good, "two groups with the same key"},
		"before the window":        {strings.ReplaceAll(good, "T10:00", "T09:55"), "outside the window"},
		"at the window's end":      {strings.ReplaceAll(good, "T10:00", "T10:10"), "outside the window"},
		"not aligned":              {strings.ReplaceAll(good, "T10:00:00", "T10:01:00"), "must be aligned to 5m"},
		"a fraction of a second":   {strings.ReplaceAll(good, "T10:00:00Z", "T10:00:00.5Z"), "must be aligned"},
		"no time":                  {strings.ReplaceAll(good, "datetimeFiveMinutes", "datetime"), "datetimeFiveMinutes is missing"},
		"a time that is none":      {strings.ReplaceAll(good, "2026-11-22T10:00:00Z", "yesterday"), "must be a date or an RFC 3339 time"},
		"no dimensions":            {strings.ReplaceAll(good, "dimensions", "dim"), "dimensions is missing"},
		"dimensions null":          {strings.Replace(good, `{"datetimeFiveMinutes":"2026-11-22T10:00:00Z"}`, "null", 1), "dimensions is missing or null"},
		"no sum":                   {strings.Replace(good, `"sum"`, `"max"`, 1), "field [sum requests] is missing"},
		"a field is missing":       {strings.Replace(good, `"bytes"`, `"octets"`, 1), "family cloudflare_zone_bytes: field [sum bytes] is missing"},
		"a field is text":          {strings.Replace(good, "1527", `"1527"`, 1), "is a string; it must be a number"},
		"a negative number":        {strings.Replace(good, "1527", "-1", 1), "must not be negative"},
		"a number above 2^63":      {strings.Replace(good, "1527", "9223372036854775808", 1), "no count reaches 2^63"},
		"a number beyond floats":   {strings.Replace(good, "1527", "1e999", 1), "must be a finite number"},
		"a map is an object":       {strings.Replace(good, `[{"edgeResponseStatus":404,"requests":57},{"edgeResponseStatus":200,"requests":1470}]`, `{}`, 1), "it must be a list"},
		"a map is null":            {strings.Replace(good, `[{"edgeResponseStatus":404,"requests":57},{"edgeResponseStatus":200,"requests":1470}]`, `null`, 1), "missing or null"},
		"an element is a number":   {strings.Replace(good, `{"edgeResponseStatus":404,"requests":57}`, `7`, 1), "it must be an object"},
		"an element has no key":    {strings.Replace(good, `"edgeResponseStatus":404`, `"x":1`, 1), "is missing or null"},
		"an element has no value":  {strings.Replace(good, `"requests":57`, `"x":1`, 1), "is missing or null"},
		"two elements for one key": {strings.Replace(good, "404", "200", 1), `two of them for "200"`},
		"no sample interval":       {strings.Replace(good, "sampleInterval", "x", 1), "avg.sampleInterval is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := d.Fold(v, w, groups(t, "["+tc.answer+"]"))
			if err == nil {
				t.Fatalf("folded to %+v", got)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %q, want one that says %q", err, tc.want)
			}
		})
	}
	for _, bad := range []bucket.Window{{}, {Start: at10(0), End: at10(3)}, {Start: at10(1), End: at10(6)}, {Start: at10(5), End: at10(0)}} {
		if _, err := d.Fold(v, bad, nil); err == nil {
			t.Errorf("took %s for windows of five minutes", bad)
		}
	}
	// Distinct counts of parts are not those of the whole.
	u := tiny(false, nil)
	if _, err := u.Fold(&u.Variants[0], bucket.Window{Start: at10(0), End: at10(60)}, groups(t, "["+xy("p", 200, 1)+","+xy("p", 201, 1)+"]")); err == nil {
		t.Error("added up values that cannot be added")
	}
}

func TestAmountsAreExact(t *testing.T) {
	var a amount
	for _, text := range []string{"9007199254740993", "1", "9007199254740992"} {
		b, err := parseAmount(json.Number(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.add(b); err != nil {
			t.Fatal(err)
		}
	}
	// Added as floats, 2^53+1 would have lost its 1 and the sum come out as 2^54
	// from other parts; the exact sum is 2^54+2, and only its float is rounded.
	if a.whole != 1<<54+2 || a.value() != 1<<54 {
		t.Errorf("sum is %d (%v), want 2^54+2 (2^54)", a.whole, a.value())
	}
	big := amount{whole: math.MaxUint64}
	if err := big.add(amount{whole: 1}); err == nil {
		t.Error("a sum beyond 64 bits wrapped around")
	}
}

// Fold neither panics nor lets through what Rows.Validate refuses, and one
// answer in another order gives the same rows.
func FuzzFold(f *testing.F) {
	f.Add([]byte("[" + rollupGroup("2026-11-22T10:00:00Z", fullSum) + "]"))
	f.Add([]byte("[" + adaptiveGroup("2026-11-22T10:00:00Z", 200, "hit", "TLSv1.3", 1, 2, 1) + "]"))
	f.Add([]byte(`[{"dimensions":{"datetimeFiveMinutes":"2026-11-22T10:05:00Z"},"sum":{"requests":1e3}}]`))
	d := load(f, "", Options{}).Find("http_5m")
	w := bucket.Window{Start: at10(0), End: at10(30)}
	f.Fuzz(func(t *testing.T, text []byte) {
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		var list []map[string]any
		if dec.Decode(&list) != nil {
			return
		}
		for i := range d.Variants {
			got, err := d.Fold(&d.Variants[i], w, list)
			if err != nil {
				continue
			}
			if len(got) != 6 {
				t.Fatalf("%d windows", len(got))
			}
			for _, one := range got {
				for _, r := range one.Families {
					if err := r.Validate(); err != nil {
						t.Fatal(err)
					}
				}
			}
			back := make([]map[string]any, len(list))
			for j := range list {
				back[len(list)-1-j] = list[j]
			}
			again, err := d.Fold(&d.Variants[i], w, back)
			if err != nil {
				t.Fatalf("the other way round: %v", err)
			}
			for j := range got {
				if !cmp.Equal(flatten(got[j]), flatten(again[j])) {
					t.Fatalf("order matters: %s", cmp.Diff(got[j], again[j]))
				}
			}
		}
	})
}
