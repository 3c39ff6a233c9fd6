package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/sample"
)

// counters holds what exposers show on /counters against what the log says (G10): each
// number is the one that follows from all entries and from the time, so all exposers agree,
// and none goes back.
type counters struct {
	w     *world
	rng   *rand.Rand
	fold  *counter.Fold
	given int // buckets of the mirror
	epoch string
	last  map[string]map[string]float64 // by exposer and series
	// skewed is the latest time that a wrong clock has shown.
	skewed time.Time

	pages, values, refused int
}

func newCounters(w *world) *counters {
	return &counters{w: w, rng: rand.New(rand.NewPCG(w.Seed, 71)), last: map[string]map[string]float64{}}
}

// moments are when the pages are asked for.
func (c *counters) moments(end time.Duration) (at []time.Duration) {
	for t := time.Duration(0); t < end; t += time.Duration(1+c.rng.Int64N(int64(8*time.Minute/time.Millisecond))) * time.Millisecond {
		at = append(at, t)
	}
	return at
}

// calm reports whether the rule holds without exception: all clocks have been right for a
// while, also since the time that one of them was ahead (a page is of the time that a leader
// has said, if that is later), and no stored row was changed behind everybody's back.
func (c *counters) calm() bool {
	for _, p := range c.w.processes {
		if off := time.Duration(p.clock.off.Load()); off != 0 {
			if shown := time.Now().Add(max(0, off)); shown.After(c.skewed) {
				c.skewed = shown
			}
		}
	}
	return time.Since(c.skewed) > 15*time.Minute && c.w.prometheus.mirror.damaged.IsZero()
}

// look asks both exposers.
func (c *counters) look(atTheEnd bool) {
	c.w.prometheus.mirror.update(context.Background())
	calm := c.calm() // also where nobody answers
	for _, name := range exposers {
		asked := time.Now()
		got, epoch, began, ok := c.fetch(name)
		if !ok {
			if atTheEnd {
				c.w.report("%s does not answer /counters at the end", name)
			}
			continue
		}
		c.pages++
		if !calm {
			continue
		}
		if c.epoch == "" {
			c.epoch, c.fold = epoch, counter.New()
			c.follow(began)
		}
		if epoch != c.epoch {
			c.w.report("%s shows counters of epoch %s, and %s was shown before", name, epoch, c.epoch)
			return
		}
		for key, had := range c.last[name] {
			if is, there := got[key]; there && is < had {
				c.w.report("%s: %s went from %v to %v", name, key, had, is)
			}
		}
		c.last[name] = got
		if c.follow(began); time.Now().Equal(asked) {
			c.compare(name, got, asked)
		}
	}
}

// follow counts what was stored since.
func (c *counters) follow(began time.Time) {
	m := c.w.prometheus.mirror
	for _, s := range m.buckets[c.given:] {
		if s.committed.Before(began) {
			continue
		}
		d := m.definitions[s.Dataset]
		if err := c.fold.Add(&bucket.Entry{Position: bucket.Position{Revision: s.revision}, CommittedAt: s.committed, Kind: bucket.KindBucket, Bucket: s.Bucket, Definition: d}); err != nil {
			c.w.report("count revision %d: %v", s.revision, err)
		}
	}
	c.given = len(m.buckets)
}

// compare holds a page against the rule. What was committed less than a minute and a half
// ago may or may not be announced on it.
func (c *counters) compare(name string, got map[string]float64, now time.Time) {
	const fresh = 95 * time.Second
	t, wrong := sample.MillisOf(now), 0
	report := func(key string, is, want any) {
		if wrong++; wrong <= 3 {
			c.w.report("%s shows %s %v; the log has %v", name, key, is, want)
		}
	}
	names := map[string]int{}
	seen := map[string]bool{}
	for fam := range c.fold.Families {
		for _, s := range fam.Series() {
			v, shown := s.At(t)
			if !shown {
				continue
			}
			labels := "{" + scopeLabels(s.Scope, s.Zone, s.Account)
			for i, l := range fam.Labels {
				labels += fmt.Sprintf(`,%s="%s"`, l, escape.Replace(s.Values[i]))
			}
			key := fam.Name + "_total" + labels + "}"
			late := fam.Name + "_late_total" + labels + "}"
			seen[key], seen[late] = true, true
			if names[key]++; names[key] > 1 {
				continue // two zones that have had one name
			}
			is, there := got[key]
			if announced := t-v.Began > sample.Millis(fresh/time.Millisecond); there && is != v.Live || !there && announced {
				report(key, is, v.Live)
			}
			if is, there := got[late]; there && is != v.Late || !there && v.Late > 0 {
				report(late, is, v.Late)
			}
			c.values++
		}
	}
	for key, is := range got {
		if !seen[key] {
			report(key, is, "nothing of it")
		}
	}
}

// fetch returns the counters of a page.
func (c *counters) fetch(name string) (values map[string]float64, epoch string, began time.Time, ok bool) {
	response, err := c.w.prometheus.http.Get("http://" + name + ":80/counters")
	if err != nil {
		return nil, "", began, false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return nil, "", began, false
	case response.StatusCode == http.StatusServiceUnavailable:
		c.refused++
		return nil, "", began, false
	case response.StatusCode != http.StatusOK:
		c.w.report("%s answered /counters with %s: %s", name, response.Status, body)
		return nil, "", began, false
	}
	values = map[string]float64{}
	for line := range bytes.Lines(body) {
		text := strings.TrimSpace(string(line))
		at := strings.LastIndexByte(text, ' ')
		if at < 0 || text[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(text[at+1:], 64)
		if err != nil {
			c.w.report("%s: /counters has the line %q", name, text)
			continue
		}
		key := text[:at]
		switch {
		case strings.HasPrefix(key, "weir_counter_epoch_info{"):
			epoch = strings.TrimSuffix(strings.TrimPrefix(key, `weir_counter_epoch_info{epoch="`), `"}`)
		case key == "weir_counter_epoch_begin_timestamp_seconds":
			began = time.UnixMilli(int64(math.Round(v * 1000)))
		case strings.Contains(key, "_total{"):
			if _, twice := values[key]; twice {
				c.w.report("%s: /counters has %s twice", name, key)
			}
			values[key] = v
		}
	}
	return values, epoch, began, true
}
