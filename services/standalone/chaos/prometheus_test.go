package chaos

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/standalone/chaos/tsdbtest"
)

// prometheus scrapes both exposers every minute, as two targets whose samples
// are the same series, and keeps what its model of a TSDB takes.
type prometheus struct {
	w      *world
	http   *http.Client
	parser *tsdbtest.Parser
	head   *tsdbtest.Head
	mirror *mirror
	newest map[string]bucket.Revision // by exposer
	away   int                        // reasons for not scraping

	last    []byte // body taken in last, from whichever exposer
	repeats int    // how often in a row

	rounds bool // ask for one round of older windows after another

	scrapes, failed, unready, samples, missing int
}

func newPrometheus(w *world) *prometheus {
	p := &prometheus{w: w, parser: tsdbtest.NewParser(), head: tsdbtest.NewHead(30 * time.Hour), newest: map[string]bucket.Revision{}}
	p.mirror = newMirror(w, p.parser)
	p.http = &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				host, number, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				port := "/data"
				if number == "9821" {
					port = "/ops"
				}
				return w.net.dial(ctx, nil, host+port)
			},
			DisableKeepAlives: true, DisableCompression: true,
		},
	}
	return p
}

func (p *prometheus) close() { p.http.CloseIdleConnections() }

// settled is how many repeats of a body may still put samples into the chunk in
// which repeats are recognised: one that finds it full empties it, and the next
// one brings back what stood before.
const settled = 2

// skewed says whether an exposer's clock is off.
func (p *prometheus) skewed(name string) bool { return p.w.processes[name].clock.off.Load() != 0 }

// page is an answer of /metrics.
type page struct {
	body     []byte
	revision bucket.Revision
	turn     int64
	missing  bool // some page that is in turn
}

// scrape asks both exposers once.
func (p *prometheus) scrape() {
	p.mirror.update(context.Background())
	if p.away > 0 {
		return
	}
	var pages []page
	for _, name := range exposers {
		if got, ok := p.fetch(name); ok {
			if had := p.newest[name]; got.revision < had {
				p.w.report("%s went back from revision %d to %d", name, had, got.revision)
			}
			p.newest[name] = got.revision
			pages = append(pages, got)
			p.take(name, got)
		}
	}
	if p.skewed(leftExposer) || p.skewed(rightExposer) {
		return // to different clocks different windows have expired
	}
	if time.Since(p.mirror.damaged) < 3*turn {
		return // pages were fetched before and after
	}
	if len(pages) == 2 && pages[0].revision == pages[1].revision && pages[0].turn == pages[1].turn && !pages[0].missing && !pages[1].missing && !bytes.Equal(pages[0].body, pages[1].body) {
		p.w.report("at revision %d the exposers answer with different bytes (%d and %d)", pages[0].revision, len(pages[0].body), len(pages[1].body))
	}
}

func (p *prometheus) fetch(name string) (page, bool) {
	p.scrapes++
	query := ""
	if p.rounds {
		query = "?round=5m"
	}
	response, err := p.http.Get("http://" + name + ":80/metrics" + query)
	if err != nil {
		p.failed++
		return page{}, false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.failed++
		return page{}, false
	}
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		p.unready++
		return page{}, false
	default:
		p.w.report("%s answered /metrics with %s: %s", name, response.Status, body)
		return page{}, false
	}
	n, err := strconv.ParseUint(response.Header.Get("X-Weir-Revision"), 10, 64)
	if err != nil {
		p.w.report("%s answered without a revision: %v", name, err)
		return page{}, false
	}
	turn, err := strconv.ParseInt(response.Header.Get("X-Weir-Turn"), 10, 64)
	if err != nil {
		p.w.report("%s answered without a turn: %v", name, err)
		return page{}, false
	}
	return page{body, bucket.Revision(n), turn, response.Header.Get("X-Weir-Pages-Missing") != ""}, true
}

// take gives a body to the TSDB and compares it with what the store holds.
func (p *prometheus) take(name string, got page) {
	now := time.Now()
	p.head.Advance(now)
	if p.repeats > settled && bytes.Equal(p.last, got.body) {
		return // taken in often enough for every repeat to be recognised
	}
	samples, err := p.parser.Parse(got.body)
	if err != nil {
		p.w.report("%s at revision %d: %v", name, got.revision, err)
		return
	}
	p.samples += len(samples)
	result := p.head.Scrape(now, samples)
	if result.Err != nil {
		p.w.report("%s at revision %d failed the scrape: %v", name, got.revision, result.Err)
		return
	}
	if result.Rejected() > 0 {
		p.w.report("%s at revision %d had samples rejected: %+v", name, got.revision, result)
	}
	if bytes.Equal(p.last, got.body) {
		if p.repeats++; p.repeats > settled && result.Again > 0 {
			p.w.report("%s at revision %d: %d samples are appended again at every scrape", name, got.revision, result.Again)
		}
	} else {
		p.last, p.repeats = got.body, 0
	}
	if got.missing {
		p.missing++
		return
	}
	if !p.skewed(name) {
		p.whole(name, got, now, samples)
	}
}

// whole checks that an answer shows everything that the store has for it at its
// revision, and nothing else: an exposer that answers before its first complete
// view is found here.
func (p *prometheus) whole(name string, got page, now time.Time, samples []tsdbtest.Sample) {
	at := got.revision
	if at > p.mirror.revision {
		p.mirror.update(context.Background())
	}
	want, n := uint64(0), 0
	replay := p.mirror.replay(at, now, got.turn, p.rounds)
	type point struct{ series, at int64 }
	may := map[point]bool{} // be shown, since a page may be held that was fetched before
	for _, s := range replay {
		if s.damaged {
			for _, v := range s.samples {
				may[point{int64(v.Series), v.At}] = true
			}
			continue
		}
		s.scraped = true
		want += s.digest
		n += len(s.samples)
	}
	have := uint64(0)
	samples = slices.DeleteFunc(samples, func(s tsdbtest.Sample) bool { return may[point{int64(s.Series), s.At}] })
	for _, s := range samples {
		have += digest(s)
	}
	if have == want {
		return
	}
	missing := map[[2]int64]float64{}
	for _, s := range replay {
		if s.damaged {
			continue
		}
		for _, v := range s.samples {
			missing[[2]int64{int64(v.Series), v.At}] = v.Value
		}
	}
	told := 0
	tell := func(what string, series int32, at int64, v float64) {
		if told++; told <= 5 {
			p.w.report("  %s: %s %v at %s", what, p.parser.Name(series), v, time.UnixMilli(at).UTC().Format(time.RFC3339))
		}
	}
	p.w.report("%s shows %d samples at revision %d, the store has %d to show", name, len(samples), at, n)
	for _, s := range samples {
		key := [2]int64{int64(s.Series), s.At}
		if v, there := missing[key]; !there || v != s.Value {
			tell("not in the store", s.Series, s.At, s.Value)
		}
		delete(missing, key)
	}
	for key, v := range missing {
		tell("not shown", int32(key[0]), key[1], v)
	}
}
