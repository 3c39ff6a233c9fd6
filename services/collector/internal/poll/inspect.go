package poll

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// inspector reads the log once a term, from the floor to the head at its beginning, a
// page a pass, so that damage is reported before the data is needed.
type inspector struct {
	*env
	store interface {
		logReader
		Head(ctx context.Context) (store.Head, error)
	}
	unreadable  *unreadable.Register
	read, until bucket.Revision
}

// inspectPage is how many entries are inspected a pass: a few milliseconds of the database, and
// a month of a hundred zones within a day or two.
const inspectPage = 1000

// inspect reads a page of the log, as readers do, and reports what cannot be read. It never
// ends the term, since only an operator can repair the damage.
func (i *inspector) inspect(ctx context.Context) {
	if i.read >= i.until {
		return
	}
	const about = "log"
	entries, err := i.store.ReadLog(ctx, i.read, inspectPage)
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, store.ErrCompacted): // retention dropped entries meanwhile
		if head, err := i.store.Head(ctx); err == nil {
			i.read = max(head.Floor, i.read)
		}
		return
	case errors.Is(err, store.ErrUnavailable):
		return // the next read or append that needs the store reports it
	case err != nil:
		i.trouble.Set(trouble.StoreUnreadable, about, fmt.Sprintf("the log cannot be read after revision %d: %v", i.read, err))
		i.read += inspectPage
		return
	}
	for k := range entries {
		e := &entries[k]
		var err error
		switch e.Kind {
		case bucket.KindBucket:
			_, err = unreadable.Bucket(e)
		case bucket.KindDatasetVersion: // checked when the term began
		default:
			err = unreadable.Check(e)
		}
		if err != nil {
			i.unreadable.Note(e, err)
		}
		i.read = e.Revision
	}
	if len(entries) == 0 {
		i.read = i.until
	}
}
