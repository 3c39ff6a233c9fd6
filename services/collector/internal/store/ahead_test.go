package store_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// counted are pages of two entries, of n in all. A page after the n-th entry fails.
type counted struct {
	n, fails int // 0: never
	reads    int
}

func (c *counted) read(_ context.Context, after *bucket.Key) (page []store.Entry, err error) {
	c.reads++
	at := bucket.Time(0)
	if after != nil {
		at = after.Start
	}
	if c.fails > 0 && int(at) >= c.fails {
		return nil, errPage
	}
	for range 2 {
		if at++; int(at) <= c.n {
			page = append(page, store.Entry{NewEntry: store.NewEntry{Key: bucket.Key{Start: at}}})
		}
	}
	return page, nil
}

var (
	errPage = errors.New("the page cannot be read")
	errEmit = errors.New("enough")
)

func TestAhead(t *testing.T) {
	for name, tc := range map[string]struct {
		pages counted
		after *bucket.Key
		stop  int // emit's error comes with this entry
		want  int // entries
		err   error
	}{
		"nothing":                    {want: 0},
		"a page that is not full":    {pages: counted{n: 5}, want: 5},
		"full pages":                 {pages: counted{n: 4}, want: 4},
		"from a key":                 {pages: counted{n: 5}, after: &bucket.Key{Start: 2}, want: 3},
		"a page that cannot be read": {pages: counted{n: 9, fails: 4}, want: 4, err: errPage},
		"enough":                     {pages: counted{n: 9}, stop: 3, want: 3, err: errEmit},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // fails if a goroutine stays
				var got []store.Entry
				err := store.Ahead(t.Context(), 2, tc.after, tc.pages.read, func(e store.Entry) error {
					if got = append(got, e); len(got) == tc.stop {
						return errEmit
					}
					return nil
				})
				if !errors.Is(err, tc.err) || len(got) != tc.want {
					t.Errorf("%d entries and %v, want %d and %v", len(got), err, tc.want, tc.err)
				}
				for i, e := range got[min(1, len(got)):] {
					if e.Key.Start != got[i].Key.Start+1 {
						t.Errorf("%d comes after %d", e.Key.Start, got[i].Key.Start)
					}
				}
			})
		})
	}
}

// The next page is read while one is emitted, and no page after it.
func TestAheadReadsOnePageAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pages := counted{n: 100}
		ctx, cancel := context.WithCancelCause(t.Context())
		err := store.Ahead(ctx, 2, nil, pages.read, func(store.Entry) error {
			if synctest.Wait(); pages.reads != 2 {
				t.Errorf("%d pages are read while the first is emitted, want 2", pages.reads)
			}
			cancel(errEmit)
			return errEmit
		})
		if !errors.Is(err, errEmit) {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestAheadEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pages := counted{n: 100}
		ctx, cancel := context.WithCancelCause(t.Context())
		entries := 0
		err := store.Ahead(ctx, 2, nil, pages.read, func(store.Entry) error {
			if entries++; entries == 3 {
				synctest.Wait() // the third page waits to be taken
				cancel(errPage)
				synctest.Wait()
			}
			return nil
		})
		if !errors.Is(err, errPage) || entries != 4 {
			t.Errorf("%d entries and %v, want the 4 of the pages that were taken, and the cause", entries, err)
		}
	})
}
