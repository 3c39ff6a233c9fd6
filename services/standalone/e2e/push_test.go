package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// Days, with TEST_ALL a week, are pushed to real receivers by the shipped program, which is killed at random
// moments, as the receiver is: before a request, between the receiver's acknowledgement and
// the cursor's write, and after the response. At the end the receiver holds the truth, each
// sample once.
func TestPushReceivers(t *testing.T) {
	t.Parallel()
	t.Run("prometheus", func(t *testing.T) {
		t.Parallel()
		p := promtest.Start(t, "storage: {tsdb: {out_of_order_time_window: 240h}}\n", "--storage.tsdb.retention.time=90d", "--web.enable-remote-write-receiver")
		newPushed(t, "remote-write").through(p, p, p.Kill, 0)
	})
	t.Run("prometheus with remote write 2", func(t *testing.T) {
		t.Parallel()
		p := promtest.Start(t, "storage: {tsdb: {out_of_order_time_window: 240h}}\n", "--storage.tsdb.retention.time=90d", "--web.enable-remote-write-receiver")
		newPushed(t, "remote-write-2").through(p, p, p.Kill, 0)
	})
	t.Run("victoriametrics", func(t *testing.T) {
		t.Parallel()
		_, flags := promtest.ShippedVictoria(t)
		v := promtest.FindVictoria(t).Start(t, "scrape_configs: []\n", append(flags, "-retentionPeriod=60d")...)
		// It acknowledges samples that are not on its disk yet, so that its crash loses some.
		newPushed(t, "remote-write").through(v, v, v.Stop, 1e-12)
	})
}

// The same with the receivers that a release is tested with.
func TestPushReceiversAll(t *testing.T) {
	testkit.InAll(t)
	t.Run("thanos", func(t *testing.T) {
		thanos := promtest.StartThanos(t, "--tsdb.out-of-order.time-window=240h")
		a := newPushed(t, "remote-write")
		a.adds = []string{"receive", "tenant_id"}
		a.through(thanos.Query, thanos.Receive, thanos.Receive.Kill, 0)
	})
	t.Run("mimir", func(t *testing.T) {
		p := promtest.StartMimir(t, "-ingester.out-of-order-time-window=240h", "-querier.query-ingesters-within=0")
		newPushed(t, "remote-write").through(p, p, p.Kill, 0)
	})
}

// pushed is an archive that is pushed.
type pushed struct {
	*archive
	protocol string
	rng      *rand.Rand
	folder   string // of cursor and report
	toll     *toll
}

func newPushed(t *testing.T, protocol string) *pushed {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	days := 2
	if testkit.All() {
		days = 7
	}
	return &pushed{archive: newArchive(t, days), protocol: protocol, rng: rand.New(rand.NewPCG(seed, 0)), folder: t.TempDir()}
}

// toll is a proxy in front of a receiver that kills the process whose request it has.
type toll struct {
	t      *testing.T
	target string
	url    string
	header http.Header // of requests

	mu    sync.Mutex
	next  int    // requests until it kills
	where moment // in the request
	kill  func() // nil: it does not
	dead  chan struct{}
}

// moment is when in a request the sender is killed.
type moment int

const (
	before moment = iota // the receiver has not seen the request
	between
	after // the response has passed
)

// arm makes the toll kill the sender of the n-th request from now.
func (p *toll) arm(n int, where moment, kill func()) (dead <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.where, p.kill, p.dead = n, where, kill, make(chan struct{})
	return p.dead
}

// due returns what to do with the sender of this request.
func (p *toll) due() (where moment, kill func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kill == nil {
		return 0, nil
	}
	if p.next--; p.next > 0 {
		return 0, nil
	}
	k, dead := p.kill, p.dead
	p.kill = nil
	return p.where, func() { k(); close(dead) }
}

func (p *toll) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender is gone
	}
	where, kill := p.due()
	if kill != nil && where == before {
		kill()
		return
	}
	out, err := http.NewRequest(r.Method, p.target, bytes.NewReader(body)) // not the context of a sender that dies
	if err != nil {
		p.t.Error(err)
		return
	}
	out.Header = r.Header.Clone()
	response, err := http.DefaultClient.Do(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if kill != nil && where == between {
		kill() // the receiver has the batch, and the sender never learns it
		return
	}
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(response.StatusCode)
	_, _ = w.Write(text) // of a sender that may be gone
	if kill != nil {
		_ = http.NewResponseController(w).Flush()
		kill() // while it writes the cursor, or before, or after
	}
}

// newToll returns a toll at an address of its own.
func newToll(t *testing.T, target string, header http.Header) *toll {
	p := &toll{t: t, target: target, header: header}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL + "/write"
	return p
}

// push starts the program.
func (a *pushed) push(more ...string) *process {
	a.t.Helper()
	settings := append(a.environment(nil),
		"WEIR_PUSH_DESTINATION_URL="+a.toll.url, "WEIR_PUSH_PROTOCOL="+a.protocol, "WEIR_PUSH_FROM=beginning",
		"WEIR_PUSH_CURSOR_FILE="+filepath.Join(a.folder, "cursor.json"), "WEIR_PUSH_OPS_LISTEN=127.0.0.1:0",
		fmt.Sprintf("WEIR_PUSH_EXTERNAL_LABELS=job=%s,instance=%s", archiveJob, archiveInstance), "WEIR_PUSH_MAX_PAUSE=1s")
	for name, values := range a.toll.header {
		settings = append(settings, "WEIR_PUSH_DESTINATION_HEADERS="+name+": "+values[0])
	}
	return launch(a.t, "weir push", command(a.t, program(a.t, "weir"), append(settings, more...), "push"))
}

// cursor is the content of the cursor file.
func (a *pushed) cursor() string {
	text, err := os.ReadFile(filepath.Join(a.folder, "cursor.json"))
	if err != nil && !os.IsNotExist(err) {
		a.t.Fatal(err)
	}
	return string(text)
}

// finished reports whether the cursor is at the end of the log.
func (a *pushed) finished() error {
	// Two definitions come before the buckets.
	want := fmt.Sprintf(`"revision": %d,`, a.entries)
	if text := a.cursor(); !strings.Contains(text, want) {
		return fmt.Errorf("the cursor is %s, want revision %d", text, a.entries)
	}
	return nil
}

// through pushes to a receiver, with kills, and compares what is asked with the truth.
func (a *pushed) through(asked, stores *promtest.Server, crash func(), precision float64) {
	a.t.Helper()
	a.toll = newToll(a.t, asked.WriteURL(), asked.Header())
	kills := 9
	if testkit.All() {
		kills = 30
	}
	for i := range kills {
		p := a.push()
		dead := a.toll.arm(1+a.rng.IntN(60), moment(i%3), p.kill)
		over := false
		testkit.Eventually(a.t, func() error {
			select {
			case <-dead:
				return nil
			default:
			}
			if over = a.finished() == nil; over { // there are no more requests to be killed at
				return nil
			}
			return fmt.Errorf("after %d kills the request has not come; %s", i, p.log)
		})
		if over {
			p.kill()
		}
		<-p.exited
		if over && i <= kills/2 {
			a.t.Fatalf("the log was pushed after %d kills, before the receiver was away", i)
		} else if over {
			break
		}
		if i == kills/2 {
			// The receiver goes away for a while.
			p := a.push()
			crash()
			testkit.Eventually(a.t, func() error {
				if !strings.Contains(p.log.String(), "request failed, trying again") {
					return constError("the push does not notice that the receiver is away")
				}
				return nil
			})
			stores.Start()
			p.stop()
		}
	}
	p := a.push()
	testkit.Eventually(a.t, a.finished)
	p.stop()
	testkit.Eventually(a.t, func() error { return a.holdsTruth(asked, precision) })
	if _, err := os.Stat(filepath.Join(a.folder, "cursor.refused.jsonl")); !os.IsNotExist(err) {
		a.t.Errorf("a receiver that takes everything refused something: %v", err)
	}
}

// What a destination refuses because it is older than its out-of-order window is in the
// report, and everything else arrives. With a larger window weir backfill import sends what
// the report has, and nothing else is lacking.
func TestPushReportIsTakenUp(t *testing.T) {
	t.Parallel()
	a := newPushed(t, "remote-write")
	middle := a.start.Add(a.end.Sub(a.start) / 2)
	p := a.prometheus(promtest.Find(t), time.Since(middle).Truncate(time.Second), without(a.start.Add(time.Hour), a.end))
	a.toll = newToll(t, p.WriteURL(), nil)
	push := a.push()
	testkit.Eventually(t, a.finished)
	push.stop()
	report := filepath.Join(a.folder, "cursor.refused.jsonl")
	if lines := strings.Count(string(readFile(t, report)), "\n"); lines < 3 || lines > 2+4*len(archiveZones) {
		t.Errorf("the report has %d lines, want a few ranges of each zone", lines)
	}
	for _, x := range a.verify(p, 1).Ranges {
		if x.Kind != "missing" || x.Start.Before(a.start.Add(time.Hour)) || x.End.After(middle.Add(time.Hour)) {
			t.Errorf("%+v; want only what is missing before about %s", x, middle)
		}
	}
	p.Reload("storage: {tsdb: {out_of_order_time_window: 240h}}\nscrape_configs: []\n")
	if code, out, _ := a.weir(p, "import", "--to", "remote-write", "--remote-write-url", p.WriteURL(), "--missing-only", report); code != 0 || !strings.Contains(out, " 0 refused") {
		t.Fatalf("the import of the report exits with %d", code)
	}
	a.verify(p, 0)
	if err := a.holdsTruth(p, 0); err != nil {
		t.Error(err)
	}
}
