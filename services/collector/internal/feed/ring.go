package feed

import (
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// item is one encoded entry with the fields for filters.
type item struct {
	at      bucket.Position
	dataset string
	scope   bucket.Scope
	zone    string // the zone label of a bucket or a state
	frame   []byte // shared by all streams, never modified
}

// encode makes the frame of an entry, without content if no reader could decode it,
// so that a damaged entry does not block streams.
func (f *Feed) encode(e *store.Entry) item {
	kind, payload := e.Kind, e.Payload
	if err := unreadable.Check(e); err != nil {
		f.c.Unreadable.Note(e, err)
		kind, payload = wire.KindNone, nil
	}
	return item{
		at:      e.Position,
		dataset: e.Key.Dataset,
		scope:   e.Key.Scope,
		zone:    wire.ZoneLabel(kind, payload),
		frame:   wire.Frame(e.Position, e.CommittedAt, kind, payload),
	}
}

// follows reports whether e is the entry right after p, by its revision and by its
// chain, which is computed from the content. If the content is damaged or was dropped,
// only the stored chain is left, and the next entry's chain verifies it.
func follows(p bucket.Position, e *store.Entry) bool {
	return e.Revision == p.Revision+1 && (e.Damage != "" || e.Kind == bucket.KindDropped || e.Chain == p.Chain.Next(e.Kind, e.CommittedAt, e.Payload))
}

// ring holds the newest entries of the log, contiguous, within two limits. It is not
// safe for concurrent use.
type ring struct {
	maxEntries, maxBytes int

	base  bucket.Position // the entry before the first item
	items []item
	bytes int
}

// head is the newest position; base when the ring is empty.
func (r *ring) head() bucket.Position {
	if len(r.items) == 0 {
		return r.base
	}
	return r.items[len(r.items)-1].at
}

// restart empties the ring at p.
func (r *ring) restart(p bucket.Position) {
	r.base, r.items, r.bytes = p, nil, 0
}

// push appends the entry after the head and drops from the front what exceeds
// the bounds. The newest entry stays whatever its size.
func (r *ring) push(i item) {
	r.items = append(r.items, i)
	r.bytes += len(i.frame)
	for len(r.items) > 1 && (len(r.items) > r.maxEntries || r.bytes > r.maxBytes) {
		r.base = r.items[0].at
		r.bytes -= len(r.items[0].frame)
		r.items[0] = item{} // free the frame: the array keeps the element until it grows
		r.items = r.items[1:]
	}
}

// position is the position with this revision; false outside [base, head].
func (r *ring) position(rev bucket.Revision) (bucket.Position, bool) {
	switch {
	case rev == r.base.Revision:
		return r.base, true
	case rev < r.base.Revision || rev > r.head().Revision:
		return bucket.Position{}, false
	}
	return r.items[rev-r.base.Revision-1].at, true
}

// after returns the items after rev, which must lie in [base, head]. The result
// is valid until the next push.
func (r *ring) after(rev bucket.Revision) []item { return r.items[rev-r.base.Revision:] }

// Filter restricts a stream. Scopes and zones are one condition: an entry matches if
// it belongs to one of the scopes or has one of the zone labels.
type Filter struct {
	store.Filter
	Zones []string
}

// Matcher returns a function that reports whether a stored entry matches the filter.
func (f Filter) Matcher() func(*store.Entry) bool {
	c := compile(f)
	return func(e *store.Entry) bool {
		i := item{dataset: e.Key.Dataset, scope: e.Key.Scope}
		if c.zones != nil && unreadable.Check(e) == nil {
			i.zone = wire.ZoneLabel(e.Kind, e.Payload)
		}
		return c.match(&i)
	}
}

// filter is a compiled Filter; nil sets match everything.
type filter struct {
	datasets map[string]bool
	scopes   map[bucket.Scope]bool
	zones    map[string]bool
}

func compile(f Filter) filter {
	var c filter
	if len(f.Datasets) > 0 {
		c.datasets = make(map[string]bool, len(f.Datasets))
		for _, d := range f.Datasets {
			c.datasets[d] = true
		}
	}
	if len(f.Scopes) > 0 {
		c.scopes = make(map[bucket.Scope]bool, len(f.Scopes))
		for _, s := range f.Scopes {
			c.scopes[s] = true
		}
	}
	if len(f.Zones) > 0 {
		c.zones = make(map[string]bool, len(f.Zones))
		for _, name := range f.Zones {
			c.zones[name] = true
		}
	}
	return c
}

// match reports whether the item matches. An item without a dataset or without a scope
// is not restricted by that part of the filter: a dataset version, for instance, is
// needed for the buckets of every scope.
func (f *filter) match(i *item) bool {
	if f.datasets != nil && i.dataset != "" && !f.datasets[i.dataset] {
		return false
	}
	return f.scopes == nil && f.zones == nil || i.scope == (bucket.Scope{}) || f.scopes[i.scope] || i.zone != "" && f.zones[i.zone]
}
