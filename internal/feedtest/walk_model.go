package feedtest

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// node is one entry that was ever committed, in whichever history. Its parent
// is the entry before it, so a history is a path from a node to the root.
type node struct {
	at     bucket.Position
	parent *node
	entry  *bucketv1.Entry // as every stream must carry it, chain included
	key    bucket.Key
	end    bucket.Time
	kind   bucket.Kind
}

// isAncestorOf reports whether n lies on d's history, d itself included.
func (n *node) isAncestorOf(d *node) bool {
	for d.at.Revision > n.at.Revision {
		d = d.parent
	}
	return d == n
}

// version is a state that the store was in.
type version struct {
	head     *node
	dropped  map[*node]bool  // by retention; never altered
	floor    bucket.Revision // the highest that was dropped
	progress time.Time
}

// buckets returns what the store holds, ascending by revision.
func (v *version) entries(kind bucket.Kind, f *bucketv1.Filter) []*node {
	var out []*node
	for n := v.head; n.parent != nil; n = n.parent {
		if n.kind == kind && !v.dropped[n] && n.matches(f) {
			out = append(out, n)
		}
	}
	slices.Reverse(out)
	return out
}

func (n *node) matches(f *bucketv1.Filter) bool {
	return matches(f, &logged{key: n.key})
}

// model knows everything that the store ever held, and judges what streams
// say. It is safe for concurrent use; entries are committed by one goroutine.
type model struct {
	mu       sync.Mutex
	storeID  string
	root     *node
	nodes    map[bucket.Position]*node
	versions []version       // ascending in time; the last is the present
	declared map[int64]*node // a progress time in Unix milliseconds, and the head when the leader said it
}

func newModel(storeID string) *model {
	root := &node{}
	return &model{
		storeID: storeID, root: root, nodes: map[bucket.Position]*node{{}: root},
		versions: []version{{head: root}}, declared: map[int64]*node{},
	}
}

// now is the store's present state. Only the driver changes it.
func (m *model) now() version { m.mu.Lock(); defer m.mu.Unlock(); return m.versions[len(m.versions)-1] }

// moment is a point in the model's own time.
func (m *model) moment() int { m.mu.Lock(); defer m.mu.Unlock(); return len(m.versions) - 1 }

func (m *model) set(v version) {
	m.versions = append(m.versions, v)
}

// commit notes a batch. It must be called before the store is told, since
// streams may be faster than the driver; a state is then one that the store has
// been in or is just entering.
func (m *model) commit(at time.Time, entries []Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.versions[len(m.versions)-1]
	for i := range entries {
		e := entries[i].Encode()
		h := v.head
		n := &node{parent: h, key: e.Key, end: e.End, kind: e.Kind}
		n.at = bucket.Position{Revision: h.at.Revision + 1, Chain: h.at.Chain.Next(e.Kind, at, e.Payload)}
		n.entry = entries[i].message(n.at.Revision, at)
		n.entry.Chain = n.at.Chain[:]
		m.nodes[n.at] = n
		v.head = n
	}
	m.set(v)
}

func (m *model) declare(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.versions[len(m.versions)-1]
	v.progress = at
	m.declared[at.UnixMilli()] = v.head
	m.set(v)
}

// retire notes that windows up to the border are dropped, and reports whether
// there are any.
func (m *model) retire(before bucket.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.versions[len(m.versions)-1]
	dropped := maps.Clone(v.dropped)
	if dropped == nil {
		dropped = map[*node]bool{}
	}
	for _, n := range v.entries(bucket.KindBucket, nil) {
		if n.end <= before {
			dropped[n] = true
			v.floor = max(v.floor, n.at.Revision)
		}
	}
	if len(dropped) == len(v.dropped) {
		return false
	}
	v.dropped = dropped
	m.set(v)
	return true
}

// restore notes that the store is as it was.
func (m *model) restore(v version) { m.mu.Lock(); defer m.mu.Unlock(); m.set(v) }

// always reports whether n was in the store's history, and not below its floor,
// at every moment from since on.
func (m *model) always(n *node, since int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !slices.ContainsFunc(m.versions[since:], func(v version) bool { return !n.isAncestorOf(v.head) || n.at.Revision < v.floor })
}

func (m *model) find(p *bucketv1.ResumePoint) *node {
	_, at, err := wire.Position(p)
	if err != nil || p.GetStoreId() != m.storeID {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[at]
}

func (m *model) point(n *node) *bucketv1.ResumePoint { return wire.ResumePoint(m.storeID, n.at) }

// follow judges a live entry after at and returns its node: it is one that was
// committed, unaltered, further on in the same history, and no entry that
// matches lies in between.
func (m *model) follow(at *node, e *bucketv1.Entry, f *bucketv1.Filter) (*node, error) {
	n := m.find(&bucketv1.ResumePoint{StoreId: m.storeID, Revision: e.GetRevision(), Chain: e.GetChain()})
	if n == nil {
		return nil, fmt.Errorf("revision %d with chain %x was never committed", e.GetRevision(), e.GetChain())
	}
	if !proto.Equal(n.entry, e) {
		return nil, fmt.Errorf("revision %d is not what was committed (-want +got):\n%s", e.GetRevision(), cmp.Diff(n.entry, e, protocmp.Transform()))
	}
	if !n.matches(f) {
		return nil, fmt.Errorf("revision %d does not match the filter", e.GetRevision())
	}
	return n, passed(at, n.parent, n, f)
}

// reach judges progress.
func (m *model) reach(at *node, p *bucketv1.Progress, f *bucketv1.Filter) (*node, error) {
	n := m.find(p.GetPoint())
	if n == nil {
		return nil, fmt.Errorf("progress at %v, where no entry ever was", p.GetPoint())
	}
	if err := passed(at, n, n, f); err != nil {
		return nil, err
	}
	if p.GetProgressTime() == nil {
		return n, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	said := m.declared[p.GetProgressTime().AsTime().UnixMilli()]
	if said == nil || !said.isAncestorOf(n) {
		return nil, fmt.Errorf("progress time %s at revision %d; the leader said it at %v", p.GetProgressTime().AsTime(), n.at.Revision, said.position())
	}
	return n, nil
}

func (n *node) position() string {
	if n == nil {
		return "no revision"
	}
	return fmt.Sprintf("revision %d", n.at.Revision)
}

// passed reports what lies between at and last, both included in the end only,
// on the way to n, although it matches.
func passed(at, last, n *node, f *bucketv1.Filter) error {
	if !at.isAncestorOf(n) || n == at && last != at {
		return fmt.Errorf("%s does not follow revision %d", n.position(), at.at.Revision)
	}
	for ; last != nil && last.at.Revision > at.at.Revision; last = last.parent {
		if last.matches(f) {
			return fmt.Errorf("revision %d was left out between %d and %d", last.at.Revision, at.at.Revision, n.at.Revision)
		}
	}
	return nil
}

// snapshot judges a whole snapshot that was asked for at a moment: it is a state
// that the store has been in since then.
func (m *model) snapshot(asked int, req *bucketv1.SnapshotRequest, f *bucketv1.Filter, got []*bucketv1.Entry, end *bucketv1.ResumePoint, progress time.Time) (*node, error) {
	n := m.find(end)
	if n == nil {
		return nil, fmt.Errorf("a snapshot ends at %v, where no entry ever was", end)
	}
	m.mu.Lock()
	candidates := slices.Clone(m.versions[asked:])
	m.mu.Unlock()
	var want []*bucketv1.Entry
	found := false
	for i := range candidates {
		v := &candidates[i]
		if v.head != n || !v.progress.Equal(progress) {
			continue
		}
		found = true
		// The age is counted from a progress time that may be read a little earlier.
		for _, from := range candidates[:i+1] {
			want = v.holds(from.progress, req, f)
			if slices.EqualFunc(want, got, func(a, b *bucketv1.Entry) bool { return proto.Equal(a, b) }) {
				return n, nil
			}
			if i+1 < len(candidates) && len(candidates[i+1].dropped) > len(v.dropped) && v.retiring(&candidates[i+1], from.progress, req, f, got) {
				return n, nil
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("a snapshot is of revision %d with progress %s, where the store has not been since revision %d", n.at.Revision, progress, candidates[0].head.at.Revision)
	}
	return nil, fmt.Errorf("a snapshot at revision %d is not what the store held (-want +got):\n%s", n.at.Revision, cmp.Diff(want, got, protocmp.Transform()))
}

// retiring reports whether got may be a snapshot of a moment between v and after,
// which has dropped more: stores drop old buckets in several transactions, so
// a snapshot may have any of those that go, and has all that stay.
func (v *version) retiring(after *version, progress time.Time, req *bucketv1.SnapshotRequest, f *bucketv1.Filter, got []*bucketv1.Entry) bool {
	unlimited := &bucketv1.SnapshotRequest{MaxAge: req.GetMaxAge()} // with some gone, other windows may be the newest
	return within(after.holds(progress, req, f), got) && within(got, v.holds(progress, unlimited, f))
}

// within reports whether all of few are in many, in the same order.
func within(few, many []*bucketv1.Entry) bool {
	for _, e := range many {
		if len(few) > 0 && proto.Equal(few[0], e) {
			few = few[1:]
		}
	}
	return len(few) == 0
}

// holds returns what a snapshot of the version has.
func (v *version) holds(progress time.Time, req *bucketv1.SnapshotRequest, f *bucketv1.Filter) []*bucketv1.Entry {
	var want []*bucketv1.Entry
	for _, n := range v.entries(bucket.KindDatasetVersion, f) {
		want = append(want, n.entry)
	}
	var held []*node
	starts := map[string][]bucket.Time{}
	age := req.GetMaxAge().AsDuration()
	for _, n := range v.entries(bucket.KindBucket, f) {
		if age > 0 && n.end > bucket.TimeOf(progress.Add(-age)) {
			held = append(held, n)
			starts[n.key.Dataset] = append(starts[n.key.Dataset], n.key.Start)
		}
	}
	slices.SortFunc(held, func(a, b *node) int { return a.key.Compare(b.key) })
	for _, n := range held {
		newest := slices.Compact(slices.Sorted(slices.Values(starts[n.key.Dataset])))
		if most := int(req.GetMaxWindows()); most > 0 && len(newest) > most && n.key.Start < newest[len(newest)-most] {
			continue
		}
		want = append(want, n.entry)
	}
	return want
}
