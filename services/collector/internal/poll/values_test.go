package poll_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// strangeTexts and strangeNumbers are what nobody expects in JSON.
var (
	strangeTexts = []string{
		"", " ", "\x00", "a\x00b", "\t\n", "\u200b", "\u202eevil", "\uFFFD", "a\xff\xfe", `\u0000`, `"`, `\`, "'; DROP TABLE bucket; --",
		"unknown", "other", "\uFFFD~6e340b9c", strings.Repeat("x", 1100), strings.Repeat("ä", 4000), strings.Repeat("\x00", 2000),
		"9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "10000-01-01", "NaN", "-1", "1e400",
	}
	strangeNumbers = []string{"0", "-0", "-1", "1e-320", "1e308", "1e400", "9223372036854775807", "18446744073709551616", "0.1", "4294967296", "1e3", "-9223372036854775808"}
)

// spoiler alters strings and numbers of some JSON answers on their way, each
// place and each value drawn from a seed.
type spoiler struct {
	http.RoundTripper
	rng  *rand.Rand
	rate float64 // of answers
	hits int
}

func (s *spoiler) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(r)
	if err != nil || s.rng.Float64() >= s.rate {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if d.Decode(&v) == nil {
		leaves := 0
		count(v, &leaves)
		for range 1 + s.rng.IntN(3) {
			at := s.rng.IntN(max(1, leaves))
			v = s.spoil(v, &at)
			s.hits++
		}
		if body, err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return resp, nil
}

func count(v any, n *int) {
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			count(e, n)
		}
	case []any:
		for _, e := range v {
			count(e, n)
		}
	default:
		*n++
	}
}

// spoil replaces the leaf that at counts down to.
func (s *spoiler) spoil(v any, at *int) any {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range sortedKeys(v) {
			v[k] = s.spoil(v[k], at)
		}
		return v
	case []any:
		for i := range v {
			v[i] = s.spoil(v[i], at)
		}
		return v
	}
	*at--
	if *at != -1 {
		return v
	}
	switch v.(type) {
	case string:
		return strangeTexts[s.rng.IntN(len(strangeTexts))]
	case json.Number:
		return json.Number(strangeNumbers[s.rng.IntN(len(strangeNumbers))])
	}
	return v
}

// Whatever strings and numbers Cloudflare sends, a term does not end, what is
// stored is what readers accept, and what is not is on record (G2, G12).
func FuzzValuesOfCloudflare(f *testing.F) {
	for seed := range uint64(8) { // more are drawn by make fuzz
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { strangeValues(t, seed) })
}

func strangeValues(t *testing.T, seed uint64) {
	w := newWorld(t, nil)
	transport := &spoiler{RoundTripper: cfsimtest.Transport(w.sim), rng: rand.New(rand.NewPCG(seed, 0)), rate: .5}
	client, err := cloudflare.New(cloudflare.Config{
		BaseURL: "https://simulator.example" + cfsim.Prefix, Transport: transport, Token: func() (string, error) { return w.token, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.config.Credentials[0].Client = client
	w.config.Trouble = trouble.New(w.config.Logger, w.clock.Now, nil)
	w.config.Unreadable = unreadable.New(w.config.Trouble, nil)
	w.run(20 * time.Minute)
	w.run(20 * time.Minute)
	if transport.hits < 10 {
		t.Fatalf("only %d values were altered", transport.hits)
	}
	for _, e := range w.entries(bucket.KindBucket) {
		b, err := unreadable.Bucket(&e)
		if err != nil {
			t.Fatalf("stored and not to be read: %v", err)
		}
		if len(e.Payload) > wire.MaxEntry || len(b.Zone) > bucket.MaxName || len(b.Account) > bucket.MaxName {
			t.Fatalf("bucket %s has %d bytes, labels %.40q, %.40q", b.Key, len(e.Payload), b.Zone, b.Account)
		}
	}
	if n := w.config.Unreadable.Len(); n != 0 {
		t.Fatalf("%d entries or records cannot be read", n)
	}
	for _, kind := range []string{roster.KindScope, roster.KindEntitlements, ledger.KindGap, trouble.KindProblems} {
		for _, r := range w.records(kind) {
			if len(r.Value) > 200<<10 {
				t.Errorf("record %s %s has %d bytes", kind, r.Key, len(r.Value))
			}
		}
	}
	// Sane again, everything that Cloudflare still has comes in.
	transport.rate = 0
	w.run(90 * time.Minute)
	for _, name := range []string{"shop.example", "blog.example"} {
		if n := w.count("http_5m", cfsim.Tag("zone:"+name)); n < 12 {
			t.Errorf("%s: %d windows are stored after an hour and a half of sane answers", name, n)
		}
	}
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
