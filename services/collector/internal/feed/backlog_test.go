package feed_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// A live stream that lags by more than fits into one batch is not told of the
// head before it has everything up to it.
func TestProgressWaitsForTheWholeBacklog(t *testing.T) {
	inBubble(t, feed.Config{}, nil, func(b *bench) {
		c := b.open(bucket.Position{}, store.Filter{})
		b.until(c, 0)
		const backlog = 3000
		b.src.add(backlog)
		time.Sleep(5 * time.Second)
		seen := uint64(0)
		for batches := 0; seen < backlog; batches++ {
			if batches == backlog {
				b.Fatalf("no end of batches at revision %d", seen)
			}
			for _, m := range b.next(c) {
				switch {
				case m.entry == seen+1:
					seen = m.entry
				case m.entry != 0:
					b.Fatalf("revision %d after %d", m.entry, seen)
				case m.progress != seen:
					b.Fatalf("progress at %d after revision %d", m.progress, seen)
				}
			}
		}
	})
}

// An entry with the right chain and the wrong number does not follow.
func TestASkippedNumberIsAnotherHistory(t *testing.T) {
	inBubble(t, feed.Config{}, func(s *source) { s.add(3) }, func(b *bench) {
		c := b.open(b.src.head(), store.Filter{})
		b.until(c, 3)
		b.src.add(1)
		b.src.set(func() { b.src.log[3].Revision = 5 })
		b.wantErr(c, feed.ErrHistoryChanged)
	})
}

// The time up to which the store was complete is that of its head: it is not
// told while pages up to there are still to be read.
func TestProgressTimeWaitsForTheLastPage(t *testing.T) {
	inBubble(t, feed.Config{Page: 2}, nil, func(b *bench) {
		c := b.open(bucket.Position{}, store.Filter{})
		b.until(c, 0)
		b.src.onRead = func() { time.Sleep(time.Second) } // between pages, streams run
		b.src.add(7)
		for seen := uint64(0); seen < 7; {
			for _, m := range b.next(c) {
				if m.entry != 0 {
					seen = m.entry
					continue
				}
				// Entry n is committed at T0 + n seconds, and so is the progress
				// that the leader reports with it.
				if covered := uint64(m.at.Sub(feedtest.T0) / time.Second); !m.at.IsZero() && covered > seen {
					b.Fatalf("progress time covers revision %d, but only %d was sent", covered, seen)
				}
			}
		}
	})
}
