package store

import (
	"cmp"
	"context"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Ahead emits page after page, until one has fewer than size entries. It reads a page while
// the one before it is emitted, so that two are in memory. No read runs when it returns.
func Ahead(ctx context.Context, size int, after *bucket.Key, read func(ctx context.Context, after *bucket.Key) ([]Entry, error), emit func(Entry) error) error {
	type page struct {
		entries []Entry
		err     error
	}
	ctx, cancel := context.WithCancel(ctx)
	pages := make(chan page)
	var cut error // why the last page was not handed over
	go func() {
		defer close(pages)
		for {
			entries, err := read(ctx, after)
			select {
			case pages <- page{entries, err}:
			case <-ctx.Done():
				cut = cmp.Or(err, context.Cause(ctx))
				return
			}
			if err != nil || len(entries) < size {
				return
			}
			after = &entries[len(entries)-1].Key
		}
	}()
	defer func() {
		cancel()
		for range pages { // until the goroutine has ended
		}
	}()
	for p := range pages {
		if p.err != nil {
			return p.err
		}
		for i := range p.entries {
			if err := emit(p.entries[i]); err != nil {
				return err
			}
		}
	}
	return cut
}
