package exposer_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// A Prometheus takes the time from its machine, so a story is about the last days: its
// clock is behind that of the machine, and is moved a turn at a time.
const (
	half = 12 * time.Hour // rounds begin at noon and at midnight
	// oldest is how far back samples go: the longest story begins in the half day before
	// the last one, with a replay of 24 hours.
	oldest = 24*time.Hour + 26*time.Hour + half
	// quietly is the number of turns between two scrapes that show no page: what is shown
	// for being new is shown for longer.
	quietly = 5
	// checked is the number of turns of a round to one in which repeats are looked at.
	checked = 8
	// together is how many windows of a zone become final in a turn, at most.
	together = 40
)

// lane is a zone of a dataset.
type lane struct {
	dataset *bucket.Definition
	zone    int
	// Windows that end in silent have zeros, which are believed at an age of silence, or
	// with the first bucket that has traffic again.
	silent  bucket.Window
	next    bucket.Time // start of the first window that is not pending yet
	pending []bucket.Time
}

const silence = 6 * time.Hour // as package settle of the collector has it

// due is when a window can become final.
func (l *lane) due(w bucket.Window) time.Time {
	on := w.End.Std().Add(l.dataset.Delay)
	if w.End <= l.silent.Start || w.End > l.silent.End {
		return on
	}
	believed, again := w.End.Std().Add(silence), l.silent.End.Std().Add(l.dataset.Size+l.dataset.Delay)
	if again.Before(believed) {
		return again
	}
	return believed
}

// story is a course of events in exposers and those who scrape them.
type story struct {
	t        *testing.T
	log      *feedtest.Scripted
	line     *line
	service  *service
	scrapers []*scraper
	exposers []*running
	now      time.Time
	lanes    []*lane
	want     map[string][]promtest.Sample
	began    time.Time // by the machine's clock
}

// newStory has a history of a day, on time, before the time at which it begins: so long
// after the last noon or midnight that leaves room for the whole story.
func newStory(t *testing.T, after, length time.Duration, sizes ...time.Duration) *story {
	s := &story{t: t, log: scripted(), service: startService(t), want: map[string][]promtest.Sample{}, began: time.Now()}
	s.line = &line{ClientConnInterface: s.log.Serve(t)}
	begins := time.Now().Add(-after - length).Truncate(half).Add(after)
	s.now = begins.Add(-24 * time.Hour)
	for _, size := range sizes {
		d := feedtest.Definition("http_"+bucket.SizeName(size), 1)
		d.Size, d.Delay = size, min(size, 5*time.Minute)
		s.log.Append(s.now, feedtest.Entry{Definition: d})
		for zone := range 2 {
			s.lanes = append(s.lanes, &lane{dataset: d, zone: zone, next: bucket.TimeOf(s.now).Floor(size)})
		}
	}
	for s.now.Before(begins) {
		s.turn()
	}
	return s
}

// hush silences the last zone for the next so many hours of the story.
func (s *story) hush(from, to time.Duration) {
	for _, l := range s.lanes {
		if l.zone == 1 {
			l.silent = bucket.Window{Start: bucket.TimeOf(s.now.Add(from)), End: bucket.TimeOf(s.now.Add(to))}
		}
	}
}

// scrape starts both versions of Prometheus, as far as they are to be had, before there is
// anything to scrape: in an empty database the first samples are in order, however old
// they are.
func (s *story) scrape() {
	window := oldest + 6*time.Hour
	s.scrapers = []*scraper{startScraper(s.t, promtest.Find(s.t), s.service, window, map[string]string{
		"text":        "scrape_protocols: [PrometheusText0.0.4], enable_compression: false,",
		"openmetrics": "scrape_protocols: [OpenMetricsText1.0.0],",
	})}
	var debian promtest.Tools
	s.t.Run("find Debian's", func(t *testing.T) { debian = promtest.Debian(t) }) // skips where there is none
	if debian.Version != "" {
		s.scrapers = append(s.scrapers, startScraper(s.t, debian, s.service, window, map[string]string{"debian": ""}))
	}
	s.scraped(2)
}

// join starts another exposer, which is scraped as soon as it is ready.
func (s *story) join() {
	s.t.Helper()
	x := start(s.t, s.line, config(), s.now)
	x.await(int(s.log.Head().Revision))
	s.exposers = append(s.exposers, x)
	s.service.add(x)
}

// turn moves the time on by a turn, and what becomes final is committed, the newest
// windows first.
func (s *story) turn() {
	s.now = s.now.Add(carousel.Turn)
	for _, l := range s.lanes {
		for end := l.next.Add(l.dataset.Size); !end.Std().After(s.now); end = l.next.Add(l.dataset.Size) {
			l.pending, l.next = append(l.pending, l.next), end
		}
		if s.line.away.Load() {
			continue
		}
		var now []bucket.Time
		l.pending = slices.DeleteFunc(l.pending, func(start bucket.Time) bool {
			due := !l.due(bucket.Window{Start: start, End: start.Add(l.dataset.Size)}).After(s.now)
			if due {
				now = append(now, start)
			}
			return due
		})
		if n := len(now) - together; n > 0 {
			l.pending = append(l.pending, now[:n]...)
			slices.Sort(l.pending)
			now = now[n:]
		}
		for _, start := range slices.Backward(now) {
			s.commit(l, start)
		}
	}
	for _, x := range s.exposers {
		x.clock.Set(s.now)
	}
	if !s.line.away.Load() {
		s.log.SetProgress(s.now)
	}
}

func (s *story) commit(l *lane, start bucket.Time) {
	b := feedtest.Bucket(l.dataset.Dataset, feedtest.Zone(l.zone), int(int64(start)/int64(l.dataset.Size/time.Second)))
	b.Start, b.Size, b.ReadAt = start, l.dataset.Size, bucket.TimeOf(s.now)
	end := b.Window().End
	if l.silent.Start < end && end <= l.silent.End {
		b.Families, b.Finality = b.Families[:1], bucket.SuspectConfirmed
		b.Families[0].Values[0] = 0
	} else {
		b.Families[1].Labels[1] = awkward
	}
	s.log.Append(s.now, feedtest.Entry{Bucket: b})
	for _, rows := range b.Families {
		for i, v := range rows.Values {
			key := rows.Family + " " + b.Zone
			if len(rows.Labels) > 0 {
				key += " " + rows.Labels[i]
			}
			s.want[key] = append(s.want[key], promtest.Sample{Time: end.Std().Add(-time.Millisecond), Value: v})
		}
	}
}

// scraped waits until everybody who is there has scraped so many times what there is now.
func (s *story) scraped(n int) {
	s.t.Helper()
	from := slices.Repeat([]time.Time{time.Now()}, len(s.scrapers))
	for range n {
		for i, p := range s.scrapers {
			if !p.away {
				from[i] = p.scraped(from[i])
			}
		}
	}
}

// show waits until all exposers show everything, and checks that they show the same.
func (s *story) show() {
	s.t.Helper()
	first := ""
	for _, x := range s.exposers {
		var got reply
		testkit.Eventually(s.t, func() error {
			got = x.get("/metrics")
			if h := got.header; h.Get("X-Weir-Revision") != fmt.Sprint(s.log.Head().Revision) || h.Get("X-Weir-Pages-Missing") != "" {
				return fmt.Errorf("not at revision %d with all pages: %v", s.log.Head().Revision, h)
			}
			return nil
		})
		if first == "" {
			first = got.body
		}
		if got.body != first {
			s.t.Errorf("exposers differ in the turn from %s:\n%s", s.now, cmp.Diff(first, got.body))
		}
	}
}

// pass lets time pass in which no page is of interest.
func (s *story) pass(d time.Duration) {
	s.t.Helper()
	for i := range int(d / carousel.Turn) {
		s.turn()
		if i%quietly == 0 && !s.line.away.Load() {
			s.show()
			s.scraped(1)
		}
	}
}

// collectorAway lets time pass in which the exposers do not reach the collector, and
// nothing becomes final. They are scraped all the same.
func (s *story) collectorAway(d time.Duration) {
	s.t.Helper()
	s.line.away.Store(true)
	s.log.DropConnections()
	s.pass(d)
	s.scraped(1)
	s.line.away.Store(false)
}

// round lets a number of turns pass, each of which is scraped. In every few of them it
// checks that nothing is stored again while they last.
func (s *story) round(turns int) {
	s.t.Helper()
	for i := range turns {
		s.turn()
		s.show()
		if i%checked != 0 {
			s.scraped(1)
			continue
		}
		// The samples of a scrape may not fit into the chunk that is open. The next one
		// then stores those before the border again, and the one after it none.
		s.scraped(3)
		before := make([]float64, len(s.scrapers))
		for i, p := range s.scrapers {
			before[i] = p.appended()
		}
		s.scraped(2)
		for i, p := range s.scrapers {
			if after := p.appended(); after != before[i] || after == 0 {
				s.t.Errorf("%s: in the turn from %s, %g samples are stored out of order before a scrape that repeats, %g after it", p.name, s.now, before[i], after)
			}
		}
	}
}

// pages is the number of turns of a round.
func pages(size time.Duration) int { return carousel.New(size, 24*time.Hour, carousel.Most).Pages }

// lack returns for each job how many samples that a replay of 24 hours has are not stored.
func (s *story) lack() map[string]int {
	lack := map[string]int{}
	for _, p := range s.scrapers {
		for _, job := range p.jobs {
			got := stored(p.Server, job, s.now.Add(-24*time.Hour), s.now)
			for series, samples := range s.recent() {
				lack[job] += len(samples) - len(got[series])
			}
		}
	}
	return lack
}

// recent is what was committed and is not older than 24 hours.
func (s *story) recent() map[string][]promtest.Sample { return since(s.want, s.now.Add(-24*time.Hour)) }

// since is what is younger than a time, ascending.
func since(all map[string][]promtest.Sample, begin time.Time) map[string][]promtest.Sample {
	out := map[string][]promtest.Sample{}
	for series, samples := range all {
		samples = slices.DeleteFunc(slices.Clone(samples), func(x promtest.Sample) bool { return !x.Time.After(begin) })
		slices.SortFunc(samples, func(a, b promtest.Sample) int { return a.Time.Compare(b.Time) })
		if len(samples) > 0 {
			out[series] = samples
		}
	}
	return out
}

// compare checks that everybody has stored everything that is inside the replay now, and
// at any time nothing else than what was committed.
func (s *story) compare() {
	for _, p := range s.scrapers {
		for _, job := range p.jobs {
			all := stored(p.Server, job, s.now.Add(-oldest), s.now.Add(time.Hour))
			if diff := cmp.Diff(s.recent(), since(all, s.now.Add(-24*time.Hour))); diff != "" {
				s.t.Errorf("%s, %s (-want +got):\n%s", p.name, job, diff)
			}
			for series, samples := range all {
				for _, sample := range samples {
					if !slices.Contains(s.want[series], sample) {
						s.t.Errorf("%s, %s: %s: nobody has committed %v", p.name, job, series, sample)
					}
				}
			}
		}
		p.quiet(s.began)
	}
	n := 0
	for _, samples := range s.recent() {
		n += len(samples)
	}
	s.t.Logf("%d samples in %s; the clock is %s behind", n, time.Since(s.began).Round(time.Second), time.Since(s.now).Round(time.Minute))
}
