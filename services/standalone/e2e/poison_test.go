package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// rename stands between Weir and Cloudflare and, while it is on, gives one zone
// no name, another one of a megabyte, and a third one with a NUL in it.
func (w *world) rename() *atomic.Bool {
	w.t.Helper()
	var on atomic.Bool
	target, err := url.Parse(w.simURL)
	if err != nil {
		w.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, target.Host
			r.Out.Header.Del("Accept-Encoding")
		},
		ModifyResponse: func(r *http.Response) error {
			if !strings.HasSuffix(r.Request.URL.Path, "/zones") || !on.Load() {
				return nil
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			var page map[string]any
			if err := json.Unmarshal(body, &page); err != nil {
				return err
			}
			zones, _ := page["result"].([]any)
			for _, z := range zones {
				z, _ := z.(map[string]any)
				switch z["name"] {
				case "shop.example":
					z["name"] = ""
				case "blog.example":
					z["name"] = strings.Repeat("b", 1<<20)
				case "api.example":
					z["name"] = "api\x00.example"
				}
			}
			if body, err = json.Marshal(page); err != nil {
				return err
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	w.t.Cleanup(server.Close)
	w.simURL = server.URL + target.Path
	return &on
}

// poisoned appends an entry as a release before this one could have: its chain
// and checksum are right, and no reader can take it apart. It damages three rows
// besides. All are of one zone's http_5m.
const poisoned = `
WITH old AS (SELECT * FROM bucket WHERE dataset = 'http_5m' AND scope_id = '\x%[1]s' ORDER BY window_start DESC LIMIT 1),
made AS (
	SELECT log.head + 1 AS head, substring(sha256(log.chain || '\x01' || int8send((extract(epoch FROM log.committed_at) * 1000)::bigint)
		|| int8send(7::bigint) || 'garbage'::bytea) FROM 1 FOR 16) AS chain, log.committed_at FROM log
), put AS (
	INSERT INTO bucket (revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at, sample_interval, row_count, finality, origin, variant, chain, checksum, payload)
	SELECT made.head, dataset, scope_kind, scope_id, window_start + 300, window_end + 300, made.committed_at, sample_interval, row_count, finality, origin, variant,
		made.chain, sha256('garbage'::bytea), 'garbage'::bytea FROM old, made
) UPDATE log SET head = made.head, chain = made.chain FROM made;
SET session_replication_role = replica;
UPDATE bucket SET payload = payload || '\x00' WHERE revision IN (
	SELECT revision FROM bucket WHERE dataset = 'http_5m' AND scope_id = '\x%[1]s' AND payload <> 'garbage' ORDER BY window_start DESC LIMIT 3);
UPDATE record SET value = '"damaged"' WHERE kind IN ('audit', 'drift', 'gap', 'decided') OR kind = 'scope' AND key = '1/%[1]s'`

// Names that no reader accepts, an entry that an older release stored unchecked,
// and rows and records that were damaged: each costs itself, and is told. Leader,
// standby, exposer and backfill go on for everything else.
func TestWhatCannotBeReadStopsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6*time.Hour, 120, nil)
	odd := w.rename()
	odd.Store(true)
	dsn := pgtest.DSN(t)
	first, second, data := address(t), address(t), address(t)
	collectors := []*actor{w.startCollector("first", dsn, first), w.startCollector("second", dsn, second)}
	w.startExposer("exposer", data, first, second)

	shop, blog, api, media := cfsim.Tag("zone:shop.example"), cfsim.Tag("zone:blog.example"), cfsim.Tag("zone:api.example"), cfsim.Tag("zone:media.example")
	shows := func(zone string, after int64) error {
		status, _, body, err := fetch("http://" + data + "/metrics")
		if err != nil {
			return fmt.Errorf("/metrics: %w", err)
		}
		if status != 200 {
			return fmt.Errorf("/metrics: status %d", status)
		}
		for line := range strings.Lines(string(body)) {
			fields := strings.Fields(line)
			if strings.HasPrefix(line, `cloudflare_zone_requests{zone="`+zone) {
				if at, _ := strconv.ParseInt(fields[len(fields)-1], 10, 64); at >= after*1000 {
					return nil
				}
			}
		}
		return fmt.Errorf("/metrics shows nothing of zone %q after %d", zone, after)
	}
	for _, zone := range []string{shop, "bbbbbbbb", api, "media.example"} {
		testkit.Eventually(t, func() error { return shows(zone, 0) })
	}
	status := func(address string) *bucketv1.GetStatusResponse {
		t.Helper()
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		s, err := bucketv1.NewBucketServiceClient(conn).GetStatus(t.Context(), &bucketv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	told := func(address, code, about string) error {
		for _, p := range status(address).GetProblems() {
			if p.GetCode() == code && strings.Contains(p.GetAbout(), about) {
				return nil
			}
		}
		return fmt.Errorf("collector at %s does not tell %s about %q: %v", address, code, about, status(address).GetProblems())
	}
	for _, process := range []string{first, second} {
		for _, zone := range []string{shop, blog, api} {
			testkit.Eventually(t, func() error { return told(process, "INVALID_VALUE", zone) })
		}
	}

	testkit.Eventually(t, func() error {
		if n := strings.TrimSpace(pgtest.Exec(t, dsn, fmt.Sprintf(`SELECT count(*) >= 6 FROM bucket WHERE dataset = 'http_5m' AND scope_id = '\x%s'`, media))); n != "t" {
			return constError("the zone has few buckets yet")
		}
		return nil
	})
	// The store is poisoned while no collector runs, as an upgrade finds it.
	for _, c := range collectors {
		c.stop()
	}
	pgtest.Exec(t, dsn, fmt.Sprintf(poisoned, media))
	newest, err := strconv.ParseInt(strings.TrimSpace(pgtest.Exec(t, dsn, "SELECT max(window_end) FROM bucket")), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range collectors {
		c.start()
	}
	for _, zone := range []string{shop, "bbbbbbbb", api, "media.example"} {
		testkit.Eventually(t, func() error { return shows(zone, newest+600) })
	}
	for _, process := range []string{first, second} {
		testkit.Within(t, 3*time.Minute, func() error { return told(process, "STORE_UNREADABLE", "http_5m zone "+media) })
		testkit.Eventually(t, func() error {
			for _, d := range status(process).GetDatasets() {
				if d.GetDataset() == "http_5m" && d.GetWindowsUnreadable() == 4 {
					return nil
				}
			}
			return fmt.Errorf("collector at %s does not say that 4 windows are unreadable: %v", process, status(process).GetDatasets())
		})
	}
	term := pgtest.Exec(t, dsn, "SELECT term FROM log")
	status200, header, body := get(t, "http://"+data+"/backfill?hours=3&dataset=http_5m&format=openmetrics")
	if status200 != 200 || !strings.HasSuffix(string(body), "# EOF\n") {
		t.Errorf("backfill: %d, X-Weir-Unreadable %q", status200, header.Get("X-Weir-Unreadable"))
	}
	for _, zone := range []string{`zone="` + shop, `zone="bbbbbbbb`, `zone="media.example"`} {
		if !bytes.Contains(body, []byte(zone)) {
			t.Errorf("the backfill has nothing of %s", zone)
		}
	}
	// The names are whole again, and everybody's data goes on under them.
	odd.Store(false)
	testkit.Eventually(t, func() error { return shows("shop.example", newest+600) })
	testkit.Eventually(t, func() error {
		if err := told(first, "INVALID_VALUE", "zone "); err == nil {
			return constError("problems about names are told although they are whole")
		}
		return nil
	})
	if now := pgtest.Exec(t, dsn, "SELECT term FROM log"); now != term {
		t.Errorf("the leader was elected again meanwhile: term %s, then %s", term, now)
	}
}
