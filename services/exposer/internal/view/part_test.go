package view_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// Whatever arrives in which order, the body of some accounts is the body of all without the
// lines of the others, at each point of the log, in each form; and a board that has followed all
// the time gives the bytes of one that was asked for the first time (G5).
func TestABodyOfSomeIsThatOfAllWithoutTheOthers(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := recent.New(sample.Store{ID: "test", Stamp: sample.End}, 24*time.Hour)
	for _, id := range []string{"a_5m", "b_5m"} {
		if err := r.Define(feedtest.Definition(id, 1)); err != nil {
			t.Fatal(err)
		}
	}
	hand := clock.NewManual(at(1))
	b := view.NewBoard(hand, limits(), nil)
	only := selection.Of(selection.Set{Accounts: []string{"Account 1"}, Zones: []string{feedtest.Zone(0).ID, "zone-a005.example"}})
	kept := func(line string) bool {
		return strings.HasPrefix(line, "#") || strings.Contains(line, `account="Account 1"`) || strings.Contains(line, `zone="zone-a000.example"`) || strings.Contains(line, `zone="zone-a005.example"`)
	}
	differ := 0
	for revision := range 60 {
		for range rng.IntN(8) {
			n, dataset := max(0, revision/4-rng.IntN(3)), []string{"a_5m", "b_5m"}[rng.IntN(2)]
			zone := rng.IntN(9)
			one := feedtest.Bucket(dataset, feedtest.Zone(zone), n)
			one.Account = fmt.Sprintf("Account %d", zone%3)
			if zone == 4 && n > 6 { // it moves
				one.Account = "Account 2"
			}
			one.Families = one.Families[:rng.IntN(3)]
			_, _ = r.Add(one, feedtest.Definition(dataset, 1), at(revision/4+2)) // again with fewer rows: the first stays
		}
		hand.Set(at(revision/4 + 2))
		b.Publish(r.State(bucket.Position{Revision: bucket.Revision(revision)}))
		if rng.IntN(3) == 0 {
			continue // nobody asks
		}
		anew := view.NewBoard(hand, limits(), nil)
		anew.Publish(b.State())
		for _, hours := range []int{-1, 1, 0} {
			q := view.Query{Hours: hours}
			all, err := b.View(q)
			if err != nil {
				t.Fatal(err)
			}
			q.Only = only
			some, err := b.View(q)
			if err != nil {
				t.Fatal(err)
			}
			again, err := anew.View(q)
			if err != nil {
				t.Fatal(err)
			}
			for f := range expo.Formats {
				got := body(t, some, expo.Format(f), expo.Identity)
				// With replay_hours=0 a zone that moved shows its newest bucket, and those who
				// may see what was before see the newest of that.
				moved := func(line string) bool { return hours == 0 && strings.Contains(line, `zone="zone-a004.example"`) }
				var want, has strings.Builder
				for line := range strings.Lines(got) {
					if !moved(line) {
						has.WriteString(line)
					}
				}
				for line := range strings.Lines(body(t, all, expo.Format(f), expo.Identity)) {
					if kept(line) && !moved(line) {
						want.WriteString(line)
					}
				}
				if has.String() != want.String() {
					t.Fatalf("seed %d, revision %d, %d hours, %s:\n%s\nwant\n%s", seed, revision, hours, expo.Format(f), has.String(), want.String())
				}
				if zipped := body(t, some, expo.Format(f), expo.Gzip); zipped != got {
					t.Errorf("the gzip body is another one")
				}
				if other := body(t, again, expo.Format(f), expo.Identity); other != got {
					t.Fatalf("a board that was never asked before has\n%s\nthe other\n%s", other, got)
				}
				if got != body(t, all, expo.Format(f), expo.Identity) {
					differ++
				}
			}
			if n := strings.Count(body(t, some, expo.Text, expo.Identity), "\ncloudflare"); n != some.Choice.Samples {
				t.Errorf("%d samples are said, there are %d", some.Choice.Samples, n)
			}
		}
	}
	if differ < 50 {
		t.Errorf("only %d bodies differ from that of all", differ)
	}
}

// The limits on samples are for what is shown: a few zones of a store that has too many for one
// scrape are shown whole.
func TestLimitsAreThoseOfWhatIsShown(t *testing.T) {
	b := view.NewBoard(clock.NewManual(at(4)), recent.Limits{MaxAge: 24 * time.Hour, Soft: 8, Hard: 10}, nil)
	b.Publish(build(t, sample.End, nil))
	if _, err := b.View(view.Default); err == nil {
		t.Fatal("all zones are within the limit")
	}
	q := view.Default
	q.Only = selection.Of(selection.Set{Zones: []string{feedtest.Zone(1).ID}})
	if v, err := b.View(q); err != nil || v.Choice.Samples != 6 {
		t.Errorf("one zone: %v", err)
	}
}

// However many selections are asked for, they hold as many samples as the whole at most, and
// none for longer than it is asked for.
func TestSelectionsAreBounded(t *testing.T) {
	hand := clock.NewManual(at(4))
	b := view.NewBoard(hand, limits(), nil)
	state := build(t, sample.End, nil)
	b.Publish(state)
	for i := range 500 {
		q := view.Default
		q.Only = selection.Of(selection.Set{Zones: []string{feedtest.Zone(0).ID, fmt.Sprint(i)}})
		if _, err := b.View(q); err != nil {
			t.Fatal(err)
		}
		if n, samples := b.Parts(); samples > state.Samples && n > 1 {
			t.Fatalf("%d selections have %d samples, the whole has %d", n, samples, state.Samples)
		}
	}
	for i := range 500 {
		q := view.Default
		q.Only = selection.Of(selection.Set{Zones: []string{fmt.Sprint(i)}}) // without any sample
		if _, err := b.View(q); err != nil {
			t.Fatal(err)
		}
	}
	if n, _ := b.Parts(); n > 256 {
		t.Errorf("%d selections are kept", n)
	}
	hand.Set(at(4).Add(31 * time.Minute))
	if _, err := b.View(view.Default); err != nil {
		t.Fatal(err)
	}
	if n, _ := b.Parts(); n != 0 {
		t.Errorf("%d selections are kept that nobody asks for", n)
	}
}
