package promapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What servers answer, in their order of members and with what only they have.
var answers = []string{
	`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"x","zone":"a\"\\\u00e9é"},"values":[[1795341599.999,"1"],[1.7953416e9,"-0.1"],[1795341600.5,"+Inf"]]},{"metric":{},"values":[]}]}}`,
	`{"status":"success","isPartial":false,"data":{"result":[ {"values":[ [ 1 , "4.9e-324" ] ],"metric":{"a":""} } ],"resultType":"matrix"},"stats":{"seriesFetched":"2","more":[1,{"y":null},[]],"z":-1.5e3}}`,
	"{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"parse error: \\\"x\\\"\"}\n",
	`{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["store a did not answer","b"],"infos":[true,false]}`,
}

// The parser reads what package json reads, and of no response a part.
func TestMatrix(t *testing.T) {
	type plain struct {
		Status   string
		Error    string
		Warnings []string
		Data     struct {
			ResultType string
			Result     []Series
		}
	}
	for _, text := range answers {
		got, err := parseMatrix([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var want, have plain
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		have.Status, have.Error, have.Warnings, have.Data.ResultType, have.Data.Result = got.status, got.failure, got.warnings, got.kind, got.series
		equalEmpty := cmp.FilterValues(func(a, b []Sample) bool { return len(a)+len(b) == 0 }, cmp.Ignore())
		if diff := cmp.Diff(want, have, equalEmpty, cmp.FilterValues(func(a, b []Series) bool { return len(a)+len(b) == 0 }, cmp.Ignore())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		for i := range len(text) - 1 {
			if _, err := parseMatrix([]byte(text[:i])); !errors.Is(err, errMalformed) {
				t.Errorf("the first %d bytes of %s: %v", i, text, err)
			}
		}
		// Damage is an error or another value, and no panic.
		r := rand.New(rand.NewPCG(1, uint64(len(text))))
		for range 2000 {
			damaged := []byte(text)
			damaged[r.IntN(len(damaged))] = `"{}[],:\0t.`[r.IntN(11)]
			_, _ = parseMatrix(damaged)
		}
	}
	m, err := parseMatrix([]byte(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"histograms":[[1,{"count":"1"}]]}]}}`))
	if err != nil || !m.histograms {
		t.Errorf("native histograms are %v, %v", m.histograms, err)
	}
}

// A part of the samples is not taken for all of them, and asked for again.
func TestPartialAnswers(t *testing.T) {
	for _, text := range []string{
		`{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["store a did not answer"]}`,
		`{"status":"success","isPartial":true,"data":{"resultType":"matrix","result":[]}}`,
	} {
		n := 0
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			n++
			_, _ = w.Write([]byte(text))
		}, nil)
		c.pause = time.Millisecond
		var partial *PartialError
		if _, err := c.Raw(t.Context(), "x", time.Unix(0, 0), time.Unix(60, 0)); !errors.As(err, &partial) || n != attempts {
			t.Errorf("%s is %v after %d requests", text, err, n)
		}
	}
}

// BenchmarkMatrix reads the response for a day of 360 series of 5 minutes; package json is
// beside it.
func BenchmarkMatrix(b *testing.B) {
	const series, samples = 360, 288
	body := []byte(`{"status":"success","data":{"resultType":"matrix","result":[`)
	for i := range series {
		body = fmt.Appendf(body, `{"metric":{"__name__":"cloudflare_zone_requests_by_status","account":"Example","instance":"weir","job":"weir","status":"%d","zone":"zone-00001.example"},"values":[`, i)
		for j := range samples {
			body = fmt.Appendf(body, `[%d.999,"%d"],`, 1795341299+300*j, i*j*7919%1_000_000)
		}
		body = append(body[:len(body)-1], `]},`...)
	}
	body = append(body[:len(body)-1], `]}}`...)
	for _, by := range []struct {
		name string
		read func() error
	}{
		{"weir", func() error { _, err := parseMatrix(body); return err }},
		{"json", func() error {
			var data struct {
				Type   string   `json:"resultType"`
				Result []Series `json:"result"`
			}
			return decode(queryPath, body, &data)
		}},
	} {
		b.Run(by.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := by.read(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*series*samples/b.Elapsed().Seconds(), "samples/s")
		})
	}
}
