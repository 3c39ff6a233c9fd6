package e2e

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// mostMemory is what neither process may ever use under these floods, in MiB:
// half of what a small container has, several times what was measured.
const mostMemory = 512

// overloadZones sets the size of the bodies, 1,212 samples a zone, for whoever
// wants to measure more than CI does.
var overloadZones = flag.Int("overload.zones", 40, "zones in the test of an exposer's overload")

// Two hundred scrapers of 48,000 samples, with people who read slowly, not at
// all, or never finish asking, and several backfills at one time: whoever gets
// an answer gets the right one, whoever does not is told why, the probes are
// answered all along, and afterwards nothing is left of it.
func TestBinaryExposerUnderOverload(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the memory and the sockets of another process are read from /proc")
	}
	x := startExposerBinary(t, []string{"CF_METRICS_REPLAY_HOURS=24", "CF_BACKFILL_MAX_HOURS=48"}, scriptedCollector(t, *overloadZones))
	x.ready()
	const text, open = "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"
	url, ops := "http://"+x.data, "http://"+x.ops
	bodies := map[string][]byte{}
	for _, accept := range []string{text, open} {
		bodies[accept] = reference(t, url+"/metrics", accept)
	}
	// Both ends are given: what a file says of its range would differ each second.
	end := time.Now().UTC().Truncate(time.Second)
	past := fmt.Sprintf("%s/backfill?start=%s&end=%s", url, end.Add(-24*time.Hour).Truncate(24*time.Hour).Format(time.RFC3339), end.Format(time.RFC3339))
	history := reference(t, past, "")
	if n := strings.Count(string(bodies[text]), "\ncloudflare_zone_"); n < *overloadZones*1200 {
		t.Fatalf("%d samples, want a large body", n)
	}
	idle, sockets, goroutines := x.memory("VmRSS"), x.sockets(), x.metric("go_goroutines ")

	c := newCrowd(t)
	const scrapers = 200
	for i := range scrapers {
		accept, encoding := []string{text, open}[i%2], []string{"gzip", "identity"}[i/2%2]
		from := c.caller()
		c.member(func() {
			c.scrape(from, "scrape "+encoding, url+"/metrics", accept, encoding, bodies[accept])
			select { // faster than anyone's Prometheus
			case <-c.over:
			case <-time.After(time.Second):
			}
		})
	}
	for i := range 8 { // ever other lengths of replay, each another body
		from := c.caller()
		c.member(func() {
			c.other(from, "scrape of another length", fmt.Sprintf("%s/metrics?replay_hours=%d", url, 3+i))
		})
	}
	for range 4 {
		from := c.caller()
		c.member(func() { c.backfill(from, past, history) })
	}
	get := "GET /metrics HTTP/1.1\r\nHost: weir\r\nAccept-Encoding: identity\r\n\r\n"
	for range 20 {
		c.member(func() { c.raw(x.data, get, "", 250) })                                // 1 kB/s
		c.member(func() { c.raw(x.data, get, "", 0) })                                  // does not read
		c.member(func() { c.raw(x.data, "", "", 0) })                                   // says nothing
		c.member(func() { c.raw(x.data, "GET /metrics HTTP/1.1\r\nX-Slow: ", "a", 0) }) // letter by letter
		c.member(func() { c.raw(x.ops, "GET /metrics HTTP/1.1\r\nX-Slow: ", "a", 0) })
	}
	for _, path := range []string{"/", "/-/ready", "/metrics", "/backfill?hours=1"} { // pipelines that nobody reads
		flood := strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: weir\r\n\r\n", 200)
		c.member(func() { c.raw(x.data, "", flood, 0) })
		c.member(func() { c.raw(x.ops, "", flood, 0) })
	}
	c.member(func() { // large questions
		c.raw(x.data, "GET /backfill?zone="+strings.Repeat("x", 200<<10)+" HTTP/1.1\r\nHost: weir\r\n\r\n", "", 4<<10)
		c.raw(x.data, "GET /metrics HTTP/1.1\r\nHost: weir\r\nContent-Length: 1000000000\r\n\r\n", strings.Repeat("x", 64<<10), 4<<10)
		c.raw(x.data, "POST /metrics HTTP/1.1\r\nHost: weir\r\nTransfer-Encoding: chunked\r\n\r\n", "8000\r\n"+strings.Repeat("x", 0x8000)+"\r\n", 4<<10)
	})
	for _, of := range []string{url + "/-/ready", url + "/-/healthy", ops + "/-/ready", ops + "/metrics"} {
		from := c.caller()
		kind := strings.NewReplacer(url, "data", ops, "operations").Replace(of)
		c.member(func() {
			c.probe(from, kind, of)
			time.Sleep(50 * time.Millisecond) // a probe's pace, not a wait for anything
		})
	}
	c.end(4 * time.Second)
	c.report()
	if c.count("scrape gzip", "200") == 0 || c.count("scrape identity", "200") == 0 || c.count("backfill", "200") == 0 {
		t.Error("nobody was served")
	}
	if c.count("backfill", "503") == 0 {
		t.Error("four backfills at one time, and none was refused")
	}

	// Everybody has gone, and so is everything that was for them.
	testkit.Eventually(t, func() error {
		now, open := x.metric("go_goroutines "), x.sockets()
		if flying := x.metric("weir_exposer_scrapes_in_flight ") + x.metric("weir_exposer_backfills_in_flight "); flying != 0 {
			return fmt.Errorf("%v requests are still in flight", flying)
		}
		if open > sockets+4 || now > goroutines+20 {
			return fmt.Errorf("%d sockets and %v goroutines are left; before there were %d and %v", open, now, sockets, goroutines)
		}
		return nil
	})
	for accept, want := range bodies {
		if got := reference(t, url+"/metrics", accept); string(got) != string(want) {
			t.Errorf("%s: the body is another one afterwards", accept)
		}
	}
	peak := x.memory("VmHWM")
	t.Logf("exposer: %.0f MiB idle, %.0f MiB at most, %.0f MiB afterwards; %v cut scrapes, %d bytes of body",
		idle, peak, x.memory("VmRSS"), x.metric("weir_exposer_scrapes_cut_total "), len(bodies[text]))
	if peak > mostMemory {
		t.Errorf("the exposer used %.0f MiB, want at most %d", peak, mostMemory)
	}
}

// other is a scrape of which only the status is known.
func (c *crowd) other(from *http.Client, kind, url string) {
	began := time.Now()
	resp, err := from.Get(url)
	if err != nil {
		c.t.Errorf("%s: %v", kind, err)
		return
	}
	defer resp.Body.Close()
	// A body that ends before its length is an error of the client's library.
	if n, err := io.Copy(io.Discard, resp.Body); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		c.t.Errorf("%s: %s with %d bytes of %d: %v", kind, resp.Status, n, resp.ContentLength, err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		c.t.Errorf("%s: %s", kind, resp.Status)
	}
	c.saw(kind, fmt.Sprint(resp.StatusCode), time.Since(began))
}

// backfill is whole, or refused with the reason.
func (c *crowd) backfill(from *http.Client, url string, want []byte) {
	began := time.Now()
	resp, err := from.Get(url)
	if err != nil {
		c.t.Errorf("backfill: %v", err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		match := &matcher{want: want}
		if _, err := io.Copy(match, resp.Body); err != nil || len(match.want) > 0 {
			c.t.Errorf("backfill: status 200 with another body: %v, %d bytes are missing", err, len(match.want))
		}
	} else {
		reason, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(reason), "WEIR_EXPOSER_MAX_BACKFILLS") {
			c.t.Errorf("backfill: refused with %s, Retry-After %q and %q, %v", resp.Status, resp.Header.Get("Retry-After"), reason, err)
		}
		select {
		case <-c.over:
		case <-time.After(100 * time.Millisecond):
		}
	}
	c.saw("backfill", fmt.Sprint(resp.StatusCode), time.Since(began))
}

// reference is a body, asked for by one person in peace.
func reference(t *testing.T, url, accept string) (body []byte) {
	t.Helper()
	testkit.Eventually(t, func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		req.Header.Set("Accept", accept)
		req.Header.Set("Accept-Encoding", "identity")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, err = io.ReadAll(resp.Body); err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return err
	})
	return body
}

// scriptedCollector serves so many zones with 202 series each, for the last six windows.
// They are the newest and there is no page besides, so that the body of a scrape stays.
func scriptedCollector(t *testing.T, zones int) *service {
	t.Helper()
	const dataset, size, windows = "countries_5m", 5 * time.Minute, 6
	s := feedtest.NewScripted("0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f")
	definition := feedtest.Definition(dataset, 1)
	definition.Size, definition.Depth = size, windows
	last := bucket.TimeOf(time.Now()).Floor(size)
	entries := []feedtest.Entry{{Definition: definition}}
	for window := windows; window > 0; window-- {
		for z := range zones {
			b := feedtest.Bucket(dataset, feedtest.Zone(z), 0)
			b.Start, b.Size = last.Add(-time.Duration(window)*size), size
			b.ReadAt = b.Window().End
			rows := bucket.Rows{Family: feedtest.Breakdown(dataset)}
			for i := range 201 {
				rows.Labels, rows.Values = append(rows.Labels, fmt.Sprintf("C%03d", i)), append(rows.Values, float64(z*2000+window*300+i))
			}
			b.Families[1] = rows
			entries = append(entries, feedtest.Entry{Bucket: b})
		}
	}
	s.Append(last.Std(), entries...)
	s.SetProgress(last.Std())
	server := grpc.NewServer()
	bucketv1.RegisterBucketServiceServer(server, s)
	l := testkit.Listen(t)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(func() { server.Stop(); <-done })
	return &service{t: t, name: "scripted", data: l.Addr().String()}
}
