package cloudflare

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

const (
	answerHead = `{"data":{"viewer":{"zones":[{"zoneTag":"` + zoneA + `","s0":`
	answerTail = `}]}},"errors":null}`
	mib        = 1 << 20
)

// repeated is a list of so many bytes that repeats item.
func repeated(item string, size int) string {
	return "[" + strings.Repeat(item+",", size/(len(item)+1)) + item + "]"
}

// attacks are bodies of a size that cost many times as much to decode, or to make
// an error of.
func attacks(size int) map[string]func() string {
	data := func(groups string) string { return answerHead + groups + answerTail }
	refused := func(errors string) string { return `{"data":null,"errors":` + errors + `}` }
	chain := func() string {
		return strings.Repeat(`{"message":"m","error_chain":[`, size/32) + `{}` + strings.Repeat(`]}`, size/32)
	}
	return map[string]func() string{
		"the body is a list":    func() string { return repeated("{}", size) },
		"groups":                func() string { return data(repeated("{}", size)) },
		"groups with one name":  func() string { return data(repeated(`{"a":1}`, size)) },
		"a map":                 func() string { return data(`[{"sum":{"countryMap":` + repeated("{}", size) + `}}]`) },
		"maps":                  func() string { return data(`[{"sum":{"countryMap":` + repeated(repeated("{}", 20_000), size) + `}}]`) },
		"what nobody asked for": func() string { return data(`[],"x":` + repeated(repeated("[]", 20_000), size)) },
		"lists":                 func() string { return data(strings.Repeat("[", size/2) + strings.Repeat("]", size/2)) },
		"lists that never end":  func() string { return data(strings.Repeat("[", size)) },
		"objects":               func() string { return strings.Repeat(`{"a":`, size/6) + "1" + strings.Repeat("}", size/6) },
		"a name":                func() string { return data(`[{"` + strings.Repeat("n", size) + `":1}]`) },
		"names":                 func() string { return data(`[{` + manyNames(size) + `}]`) },
		"a number":              func() string { return data(`[{"count":` + strings.Repeat("9", size) + `}]`) },
		"numbers":               func() string { return data(`[{"sum":{"countryMap":` + repeated(repeated("1", 19_000), size) + `}}]`) },
		"zones":                 func() string { return `{"data":{"viewer":{"zones":` + repeated("{}", size) + `}}}` },
		"errors":                func() string { return refused(repeated("{}", size)) },
		"errors with a message": func() string { return refused(repeated(`{"message":"Rate limiter budget depleted."}`, size)) },
		"a path":                func() string { return refused(`[{"message":"m","path":` + repeated("0", size) + `}]`) },
		"a chain of errors":     func() string { return refused("[" + chain() + "]") },
		"a wide chain of errors": func() string {
			return refused(`[{"message":"m","error_chain":` + repeated(`{"message":"x"}`, size) + `}]`)
		},
		"white space": func() string { return strings.Repeat(" ", size) + goodBody },
		"a message":   func() string { return refused(`[{"message":"` + strings.Repeat("m ", size/2) + `"}]`) },
		"a label":     func() string { return data(`[{"dimensions":{"host":"` + strings.Repeat(`h\u0000`, size/7) + `"}}]`) },
		"a code": func() string {
			return refused(`[{"message":"m","extensions":{"code":"` + strings.Repeat("c", size) + `"}}]`)
		},
		"entries of the REST API":  func() string { return `{"success":true,"result":` + repeated("{}", size) + `}` },
		"messages of the REST API": func() string { return `{"success":true,"messages":` + repeated("{}", size) + `,"result":[]}` },
	}
}

func manyNames(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, `"n%d":1,`, i)
	}
	return b.String() + `"n":1`
}

// allocated is what f allocates in all, garbage included, which bounds what it
// ever holds.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A body costs what it is long and what the question allows, never a multiple of
// what a stranger sends. 10 MB of {} took 537 MB.
func TestNoBodyCostsMoreThanItIsLong(t *testing.T) {
	c := &Client{maxReply: DefaultMaxReply}
	q := exampleQuery()
	bounds := map[string]bounds{
		"query": c.queryBounds(&q), "settings": c.settingsBounds(&q, []string{"httpRequests1mGroups"}), "page": c.restBounds(zonesPerPage),
	}
	sizes := map[string]int{"groups": 62 * mib, "the body is a list": 62 * mib, "a map": 62 * mib}
	for name := range attacks(0) {
		size := cmp.Or(sizes[name], 8*mib)
		body := []byte(attacks(size)[name]())
		for kind, b := range bounds {
			for _, status := range []int{200, 403} {
				r := &reply{status: status, header: http.Header{}, body: body, bounds: b, token: secret}
				var err error
				used := allocated(func() {
					switch kind {
					case "query":
						_, err = r.response(&q)
					case "settings":
						_, err = r.data(&q)
					default:
						var e *envelope
						if e, err = r.open(); err == nil && e.refused() {
							err = r.refusal(e, nil)
						}
					}
				})
				// What is decoded is text alone, with a copy for each way that it takes.
				if most := uint64(4 * len(body)); used > most {
					t.Errorf("%s, %d MB for a %s with status %d: %d MB were allocated (%v)", name, size/mib, kind, status, used/mib, err)
				}
				if err != nil && len(err.Error()) > 2000 {
					t.Errorf("%s for a %s: an error of %d bytes", name, kind, len(err.Error()))
				}
			}
		}
	}
}

// The class says whether a narrower question would help.
func TestClassOfABodyBeyondItsBounds(t *testing.T) {
	q := exampleQuery()
	q.Selections[0].Limit = 3
	b := (&Client{maxReply: DefaultMaxReply}).queryBounds(&q)
	attack := attacks(mib)
	for _, tc := range []struct {
		name, body string
		want       Class
		says       string
	}{
		{"more groups than the limit", answerHead + `[{},{},{},{}]` + answerTail, BadResponse, "more than 3 items"},
		{"more zones than asked", `{"data":{"viewer":{"zones":[{},{},{},{}]}}}`, BadResponse, "more than 3 items"},
		{"a longer map", attack["a map"](), TooBig, "more than 10000 items"},
		{"values", answerHead + `[{"sum":{"m":` + repeated(repeated(`{"a":{}}`, 50_000), 4*mib) + `}}]` + answerTail, TooBig, "more than 16777216 bytes"},
		{"depth", attack["lists"](), BadResponse, "deeper than 20 levels"},
		{"a name", attack["a name"](), BadResponse, "a name is longer than 256 bytes"},
		{"names", attack["names"](), BadResponse, "more than 262 names"},
		{"a number", attack["a number"](), BadResponse, "longer than 512 characters"},
		{"errors", attack["errors"](), TooBig, "more than 1000 items"},
		{"a path", attack["a path"](), BadResponse, "more than 64 items"},
	} {
		r := &reply{status: 200, body: []byte(tc.body), bounds: b}
		_, err := r.response(&q)
		if e := failure(t, err); e.Class != tc.want || !strings.Contains(e.Message, tc.says) {
			t.Errorf("%s: %v, want class %s and %q", tc.name, err, tc.want, tc.says)
		}
	}
}

// The largest questions that the planner asks are answered by honest bodies, and
// what it costs to read them is what [scan] said it would.
func TestAnHonestAnswerIsAccepted(t *testing.T) {
	zones := []string{}
	for i := range MaxZones {
		zones = append(zones, fmt.Sprintf("%032x", i))
	}
	with := func(selections, limit int, fields ...string) Query {
		q := Query{Zones: zones}
		for i := range selections {
			s := exampleQuery().Selections[0]
			s.Alias, s.Limit, s.Fields = fmt.Sprintf("s%d", i), limit, fields
			q.Selections = append(q.Selections, s)
		}
		return q
	}
	countries := make([]string, 250)
	for i := range countries {
		countries[i] = fmt.Sprintf(`{"bytes":12730990%d,"clientCountryName":"C%d","requests":6%d}`, i, i, i)
	}
	for _, tc := range []struct {
		name, group string
		q           Query
	}{
		{"a page of ten thousand for every zone, thrice", `{"count":1180,"dimensions":{"datetimeMinute":"2026-11-22T10:00:00Z"}}`, with(3, 10_000, "count")},
		{
			"fifty pages", `{"avg":{"sampleInterval":1},"count":%d,"dimensions":{"datetimeMinute":"2026-11-22T10:00:00Z","edgeResponseStatus":200}}`,
			with(5, 5000, "count", "avg.sampleInterval"),
		},
		{
			"a day of countries by the hour", `{"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z"},"sum":{"countryMap":[` + strings.Join(countries, ",") + `]}}`,
			with(1, 24, "sum.countryMap.clientCountryName", "sum.countryMap.requests", "sum.countryMap.bytes"),
		},
	} {
		var b strings.Builder
		b.WriteString(`{"data":{"viewer":{"zones":[`)
		for i, z := range zones {
			fmt.Fprintf(&b, `%s{"zoneTag":"%s"`, strings.Repeat(",", min(i, 1)), z)
			for _, s := range tc.q.Selections {
				fmt.Fprintf(&b, `,"%s":[%s%s]`, s.Alias, strings.Repeat(tc.group+",", s.Limit-1), tc.group)
			}
			b.WriteString("}")
		}
		b.WriteString("]}}}")
		body := []byte(strings.ReplaceAll(b.String(), "%d", "1180"))
		r := &reply{status: 200, body: body, bounds: (&Client{maxReply: DefaultMaxReply}).queryBounds(&tc.q)}
		s := &scanner{b: body, bounds: &r.bounds}
		if err := s.value(0, mostItems, TooBig); err != nil {
			t.Errorf("%s, %d MB: %v", tc.name, len(body)/mib, err)
			continue
		}
		var a *Response
		var err error
		used := int64(allocated(func() { a, err = r.response(&tc.q) }))
		if err != nil || len(a.Zones[zones[9]]["s0"]) != tc.q.Selections[0].Limit {
			t.Errorf("%s: %v", tc.name, err)
		}
		t.Logf("%s: %d MB, reckoned with %d MB of %d, allocated %d", tc.name, len(body)/mib, s.memory/mib, r.bounds.memory/mib, used/mib)
		if used > s.memory*5/4 || used < s.memory/2 {
			t.Errorf("%s: %d bytes were allocated, reckoned with %d", tc.name, used, s.memory)
		}
	}
}

// A compressed body is measured by what it unpacks to, as it is read.
func TestCompressionBombs(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 128 {
		_, _ = z.Write(bytes.Repeat([]byte("{},"), mib/3))
	}
	_ = z.Close()
	for _, status := range []int{200, 403} {
		c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(status)
			_, _ = w.Write(bomb.Bytes())
		}, nil)
		var err error
		used := allocated(func() { _, err = c.Query(t.Context(), exampleQuery()) })
		class := BadResponse
		if status != 200 {
			class = Unknown
		}
		// It is not read to its end to find that out.
		if e := failure(t, err); e.Class != class || !strings.Contains(e.Message, "there is data after the JSON value at byte 2") {
			t.Errorf("status %d: %v, want class %s", status, err, class)
		}
		if used > 5*mib {
			t.Errorf("status %d: 128 MB of {} allocated %d MB", status, used/mib)
		}
	}
}

// A body that goes on being good is read up to the limit, wherever its beginnings
// are cut; one that cannot become good is left.
func TestABodyIsJudgedWhileItIsRead(t *testing.T) {
	q := exampleQuery()
	b := (&Client{maxReply: DefaultMaxReply}).queryBounds(&q)
	good := `{"data":{"viewer":null,"text":"\u00e9\\\"","n":[-0.5e+10,0,true,false,null,"x"],"o":{"p":{}}}} `
	for i := range len(good) {
		if hopeless([]byte(good[:i]), &b) {
			t.Errorf("%q is given up", good[:i])
		}
	}
	for _, bad := range []string{`{"a":1,"A"`, `{} {`, `[nulk`, `{"a":tru1`, "[\"\x00", `[01`, strings.Repeat("[", 40)} {
		if !hopeless([]byte(bad), &b) {
			t.Errorf("%q is not given up", bad)
		}
	}
	long := `{"data":"` + strings.Repeat("x", 5*mib) + `"}`
	if got, err := readBody(strings.NewReader(long), int64(len(long)), &b); err != nil || string(got) != long {
		t.Errorf("of %d bytes %d are read: %v", len(long), len(got), err)
	}
	if got, err := readBody(strings.NewReader(long), 3*mib, &b); err != nil || len(got) != 3*mib+1 {
		t.Errorf("up to a limit of 3 MiB %d bytes are read: %v", len(got), err)
	}
}

// Headers are bounded too.
func TestLongHeaders(t *testing.T) {
	c, _ := client(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("h", mib))
		_, _ = io.WriteString(w, goodBody)
	}, nil)
	_, err := c.Query(t.Context(), exampleQuery())
	if e := failure(t, err); e.Class != Transient || !strings.Contains(e.Message, "header") {
		t.Errorf("%v, want a transient error about the headers", err)
	}
}

// One pass over the bytes allocates nothing for a value, however many there are.
func TestScanAllocatesNothingPerValue(t *testing.T) {
	q := exampleQuery()
	b := (&Client{maxReply: DefaultMaxReply}).queryBounds(&q)
	group := `{"dimensions":{"datetimeFiveMinutes":"2026-11-22T10:00:00Z"},"sum":{"requests":1,"countryMap":[]},"avg":{"sampleInterval":1}}`
	body := []byte(answerHead + repeated(group, 90*len(group)) + answerTail)
	if n := testing.AllocsPerRun(10, func() {
		if _, err := scan(body, &b); err != nil {
			t.Error(err)
		}
	}); n > 2 {
		t.Errorf("%g allocations", n)
	}
}

// FuzzJSON compares with encoding/json: what is accepted, and what is made of it.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		goodBody, `{"a":1,"A":2}`, `{"a":1,"\u0061":2}`, `{"k":1,"K":2}`, `"\ud83d\ude00\ud800\ud800x\udc00"`, `[1,-0.5e+10,1E400,0,-0]`, `[01]`, `[1,]`, `{"a":}`,
		`"` + "\xff\xfe" + `"`, `{"` + "\xff" + `":1,"` + "\xfe" + `":2}`, `{} {}`, ` null `, `"\u12g4"`, "\"\x00\"", `[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]`, `-`, `tru`, `{"a":{"b":1},"b":[{"b":1}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 1<<16 {
			return
		}
		b := (&Client{maxReply: DefaultMaxReply}).within(mostMemory)
		_, err := scan(body, &b)
		if err != nil {
			if why := err.Error(); json.Valid(body) && !strings.Contains(why, "twice") && !strings.Contains(why, "than") {
				t.Fatalf("%q is JSON: %v", body, err)
			}
			return
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%q was accepted: %v", body, err)
		}
		if rest, err := d.Token(); err != io.EOF {
			t.Fatalf("%q was accepted with %v after it", body, rest)
		}
		var got any
		used := allocated(func() { got = parse(body, span{0, len(body)}) })
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-encoding/json +parse):\n%s", body, diff)
		}
		s := &scanner{b: bytes.TrimSpace(body), bounds: &b}
		if err := s.value(0, mostItems, TooBig); err == nil && used > uint64(2*s.memory)+64<<10 {
			t.Fatalf("%q: %d bytes were allocated, reckoned with %d", body, used, s.memory)
		}
	})
}
