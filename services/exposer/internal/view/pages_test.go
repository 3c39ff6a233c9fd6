package view_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// history is a log of buckets of http_5m, whose definition is revision 1.
type history []bucket.Entry

func (h *history) commit(at time.Time, b *bucket.Bucket) {
	*h = append(*h, bucket.Entry{Position: bucket.Position{Revision: bucket.Revision(len(*h) + 2)}, CommittedAt: at, Kind: bucket.KindBucket, Bucket: b})
}

func (h history) head() uint64 { return uint64(len(h) + 1) }

func deliver(t *testing.T, f *following, e *bucket.Entry) {
	t.Helper()
	m := &bucketv1.Entry{Revision: uint64(e.Revision), CommittedAt: timestamppb.New(e.CommittedAt), Kind: &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(e.Bucket)}}
	if err := f.Ingest.Entry(m); err != nil {
		t.Fatal(err)
	}
}

// begin gives f what a collector sends at the beginning, of a replay of a day.
func (h history) begin(t *testing.T, f *following, stamp bucketv1.SampleTimestamp, now time.Time) {
	t.Helper()
	f.SnapshotBegin(info(stamp))
	define(t, f, 1)
	var starts []bucket.Time
	late := map[string]time.Time{}
	for i := range h {
		e := &h[i]
		if w := e.Bucket.Window(); now.Sub(w.End.Std()) < 24*time.Hour {
			starts = append(starts, w.Start)
		}
		if carousel.Late(e.Bucket.Window(), e.CommittedAt, 24*time.Hour) && !e.Bucket.Zero() {
			late["http_5m"] = e.CommittedAt
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	starts = starts[max(0, len(starts)-recent.MaxNewest):]
	for i := range h {
		if slices.Contains(starts, h[i].Bucket.Start) {
			deliver(t, f, &h[i])
		}
	}
	var commits []*bucketv1.LateCommit
	for dataset, at := range late {
		commits = append(commits, &bucketv1.LateCommit{Dataset: dataset, CommittedAt: timestamppb.New(at)})
	}
	f.Ingest.LateCommits(commits)
	f.SnapshotEnd(upTo(h.head()), now)
}

// fetch gives f the pages that it wants, as the store has them.
func (h history) fetch(f *following) {
	for _, p := range f.pages.want {
		one := recent.Fetched{Page: p}
		for _, e := range h {
			if e.Bucket.Start >= p.Windows.Start && e.Bucket.Start < p.Windows.End {
				one.Entries = append(one.Entries, e)
			}
		}
		f.pages.have = append(f.pages.have, one)
	}
}

// An exposer that begins in the middle shows byte for byte what one shows that has
// followed all along, in every turn, whatever becomes final late in the meantime (G5).
// What either fetches may be newer than what it has been told of.
func TestWhoBeginsLaterShowsTheSame(t *testing.T) {
	compared, pages := 0, 0
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 4))
		clk := clock.NewManual(at(0))
		start := func() *following { return feed(testkit.Logger(t), 24*time.Hour, clk) }
		var log history
		stamp := []bucketv1.SampleTimestamp{end, bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_START}[seed%2]
		first := start()
		log.begin(t, first, stamp, clk.Now())
		second := start()
		log.begin(t, second, stamp, clk.Now())
		owed := map[[2]int]bool{} // windows of zones that are not final yet
		had := map[int]bool{}
		next := 0
		query := view.Default
		shown := func(f *following) (string, *recent.Choice) {
			v, err := f.View(query)
			if err != nil {
				t.Fatal(err)
			}
			return body(t, v, expo.Text, expo.Identity), v.Choice
		}
		for step := range 500 {
			clk.Set(clk.Now().Add(time.Duration(20+rng.IntN(500)) * time.Second))
			now := clk.Now()
			for ; at(next + 2).Before(now); next++ {
				for zone := range 3 {
					owed[[2]int{zone, next}] = true
				}
			}
			given := len(log)
			outage := step/60%3 == 1 // for hours, and then all of it
			for zone := range 3 {
				for n := range next {
					if one := [2]int{zone, n}; owed[one] && !outage && rng.IntN(10) > 0 {
						delete(owed, one)
						b := feedtest.Bucket("http_5m", feedtest.Zone(zone), n)
						if rng.IntN(4) == 0 {
							for _, rows := range b.Families {
								clear(rows.Values)
							}
						}
						log.commit(now, b)
					}
				}
			}
			if n := next - 290 + rng.IntN(8); n > 0 && rng.IntN(8) == 0 && !had[n] { // at the border of the age
				had[n] = true
				log.commit(now, feedtest.Bucket("http_5m", feedtest.Zone(3), n))
			}
			if rng.IntN(25) == 0 {
				second = start()
				log[:given].begin(t, second, stamp, now)
			}
			for _, f := range []*following{first, second} {
				switch rng.IntN(3) {
				case 0:
					log.fetch(f) // also what is delivered only now
				case 1:
					log[:given].fetch(f)
				}
				for i := given; i < len(log); i++ {
					deliver(t, f, &log[i])
				}
				f.Ingest.Progress(upTo(log.head()), now)
				if rng.IntN(3) > 0 {
					log.fetch(f)
					f.Ingest.Progress(upTo(log.head()), now)
				}
			}
			query = []view.Query{view.Default, {Hours: 24, Round: time.Hour}, {Hours: 3}}[step%3]
			a, one := shown(first)
			b, two := shown(second)
			if one.Missing+two.Missing > 0 {
				continue
			}
			compared++
			if one.Datasets[0].Page[0].Len() > 0 {
				pages++
			}
			if a != b {
				t.Fatalf("seed %d, step %d: at revision %d and %s the exposer that has followed shows %v besides %v, the other %v besides %v",
					seed, step, log.head(), now, one.Datasets[0].Page, one.Datasets[0].Serve, two.Datasets[0].Page, two.Datasets[0].Serve)
			}
		}
		if first.rejected+second.rejected > 0 {
			t.Errorf("seed %d: entries are rejected", seed)
		}
	}
	if compared < 1500 || pages < 200 {
		t.Errorf("%d bodies compared, %d of them with a page: the seeds say nothing", compared, pages)
	}
}

// A scrape of less history has rounds more often, or no window would have its turn before
// it is too old for it; pages are held for it as long as it scrapes.
func TestRoundsThatScrapesAskFor(t *testing.T) {
	clk := clock.NewManual(at(4))
	board := view.NewBoard(clk, limits(), nil)
	board.Publish(build(t, sample.End, nil))
	rounds := func(all ...recent.Rounds) []recent.Rounds { return all }
	six, hourly := recent.Rounds{Age: 6 * time.Hour}, recent.Rounds{Age: 24 * time.Hour, Every: time.Hour}
	both := recent.Rounds{Age: 6 * time.Hour, Every: time.Hour}
	of := func(hours int) recent.Rounds { return recent.Rounds{Age: time.Duration(hours) * time.Hour} }
	for _, tc := range []struct {
		query view.Query
		want  []recent.Rounds
	}{
		{view.Default, nil},
		{view.Query{Hours: 24}, nil},
		{view.Query{Hours: 0}, nil},
		{view.Query{Hours: 6}, rounds(six)},
		{view.Query{Hours: 24, Round: time.Hour}, rounds(hourly, six)},
		{view.Query{Hours: 6, Round: time.Hour}, rounds(both, hourly, six)},
		{view.Query{Hours: 6}, rounds(six, both, hourly)},
		{view.Query{Hours: 2}, rounds(of(2), six, both, hourly)},
		{view.Query{Hours: 8}, rounds(of(8), of(2), six, both)},
	} {
		if _, err := board.View(tc.query); err != nil {
			t.Fatal(err)
		}
		if got := board.Rounds(clk.Now()); !slices.Equal(got, tc.want) {
			t.Errorf("after %+v rounds are due every %v, want %v", tc.query, got, tc.want)
		}
	}
	if got := board.Rounds(clk.Now().Add(time.Hour)); len(got) != 0 {
		t.Errorf("an hour after the last scrape rounds are due every %v", got)
	}
}
