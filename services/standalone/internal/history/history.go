package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// maxMessage is the same as in package client.
const maxMessage = 16 << 20

// Scope is a zone or an account that the store has data of.
type Scope struct {
	bucket.Scope
	// Names are those that it is known by now: the value of its label, and its name at
	// Cloudflare if that differs.
	Names []string
	// Account is the value of the label account for new buckets.
	Account string
}

// Store reads the buckets of one store.
type Store struct {
	Info   sample.Store
	Scopes []Scope // ordered by kind, then id

	conn grpc.ClientConnInterface
	// definitions are all versions, ascending, by dataset.
	definitions map[string][]*bucket.Definition
}

// Open reads what describes the store: its properties, the definitions of its datasets,
// and its scopes.
func Open(ctx context.Context, conn grpc.ClientConnInterface) (*Store, error) {
	s := &Store{conn: conn, definitions: map[string][]*bucket.Definition{}}
	if err := s.define(ctx); err != nil {
		return nil, fmt.Errorf("read the datasets of the store: %w", err)
	}
	answer, err := bucketv1.NewBucketServiceClient(conn).ListScopes(ctx, &bucketv1.ListScopesRequest{}, grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return nil, fmt.Errorf("list scopes: %w", err)
	}
	for _, m := range answer.GetScopes() {
		id, err := wire.Scope(m.GetScope())
		if err != nil {
			return nil, fmt.Errorf("list scopes: %w", err)
		}
		scope := Scope{Scope: id, Account: m.GetAccountLabel()}
		for _, name := range []string{m.GetZoneLabel(), m.GetName()} {
			if name != "" && !slices.Contains(scope.Names, name) {
				scope.Names = append(scope.Names, name)
			}
		}
		s.Scopes = append(s.Scopes, scope)
	}
	slices.SortFunc(s.Scopes, func(a, b Scope) int { return a.Compare(b.Scope) })
	return s, nil
}

var errDone = errors.New("the snapshot is complete")

// define reads all versions of all datasets. The follower resumes after interruptions.
func (s *Store) define(ctx context.Context) error {
	follower, err := client.New(s.conn, client.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h := &definer{store: s, end: cancel}
	if err := follower.Run(ctx, h); err != nil {
		return err
	}
	if cause := context.Cause(ctx); !errors.Is(cause, errDone) {
		return cause
	}
	return nil
}

// attempts is how often a collector may be away before that is an error.
const attempts = 8

// definer is the handler that reads one snapshot without buckets.
type definer struct {
	store  *Store
	end    context.CancelCauseFunc
	failed int
}

func (d *definer) SnapshotBegin(info *bucketv1.StoreInfo) {
	clear(d.store.definitions)
	d.Info(info)
}

func (d *definer) Info(info *bucketv1.StoreInfo) {
	var err error
	if d.store.Info, err = wire.Store(info); err != nil {
		d.end(err)
	}
}

func (d *definer) Entry(m *bucketv1.Entry) error {
	if m.GetDatasetVersion() == nil {
		return nil
	}
	v, err := wire.Definition(m.GetDatasetVersion())
	if err != nil {
		d.end(err) // it would be the same in the next snapshot
		return err
	}
	d.store.definitions[v.Dataset] = append(d.store.definitions[v.Dataset], v)
	return nil
}

func (d *definer) SnapshotEnd(*bucketv1.ResumePoint, time.Time) { d.end(errDone) }
func (d *definer) Progress(*bucketv1.ResumePoint, time.Time)    {}

func (d *definer) Disconnected(err error, retryIn time.Duration) {
	if d.failed++; d.failed >= attempts || permanent(err) {
		d.end(err)
	}
}

// permanent reports whether an error stays until somebody changes something.
func permanent(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied:
		return true
	}
	return errors.Is(err, client.ErrContract)
}

// Definition returns a version of a dataset; nil if it is unknown.
func (s *Store) Definition(dataset string, version uint32) *bucket.Definition {
	for _, d := range s.definitions[dataset] {
		if d.Version == version {
			return d
		}
	}
	return nil
}

// Newest returns the newest version of a dataset that the store has.
func (s *Store) Newest(dataset string) *bucket.Definition {
	all := s.definitions[dataset]
	if len(all) == 0 {
		return nil
	}
	return slices.MaxFunc(all, func(a, b *bucket.Definition) int { return int(a.Version) - int(b.Version) })
}

// Datasets returns the ids of all datasets of the store, ascending.
func (s *Store) Datasets() (ids []string) {
	for id := range s.definitions {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Group is datasets that share families, directly or through one another, and what their
// versions have together. A family with the label dataset tells its datasets apart by
// itself and joins none.
type Group struct {
	Datasets []string // ascending
	Kind     bucket.ScopeKind
	// Families are the own labels of each family, of all versions.
	Families map[string][]string
}

// DatasetLabel is the label with which a family tells the datasets apart that have it.
const DatasetLabel = "dataset"

func (g *Group) String() string { return strings.Join(g.Datasets, ", ") }

// Groups returns the groups of the given datasets, or of all if none is given. A group
// may have more datasets than were given.
func (s *Store) Groups(datasets []string) ([]Group, error) {
	for _, id := range datasets {
		if s.definitions[id] == nil {
			return nil, fmt.Errorf("dataset %q is not in the store; it has %s", id, strings.Join(s.Datasets(), ", "))
		}
	}
	var groups []Group
	for _, id := range s.Datasets() {
		g := Group{Datasets: []string{id}, Kind: s.Newest(id).ScopeKind, Families: map[string][]string{}}
		for _, d := range s.definitions[id] {
			for i := range d.Families {
				f := &d.Families[i]
				for _, l := range f.Labels {
					if !slices.Contains(g.Families[f.Name], l) {
						g.Families[f.Name] = append(g.Families[f.Name], l)
					}
				}
				if g.Families[f.Name] == nil {
					g.Families[f.Name] = []string{}
				}
			}
		}
		rest := groups[:0:0]
		for _, o := range groups {
			if o.Kind != g.Kind || !o.shares(&g) {
				rest = append(rest, o)
				continue
			}
			g.Datasets = append(g.Datasets, o.Datasets...)
			for name, labels := range o.Families {
				for _, l := range labels {
					if !slices.Contains(g.Families[name], l) {
						g.Families[name] = append(g.Families[name], l)
					}
				}
				if g.Families[name] == nil {
					g.Families[name] = []string{}
				}
			}
		}
		groups = append(rest, g)
	}
	wanted := groups[:0]
	for _, g := range groups {
		slices.Sort(g.Datasets)
		if len(datasets) == 0 || slices.ContainsFunc(g.Datasets, func(id string) bool { return slices.Contains(datasets, id) }) {
			wanted = append(wanted, g)
		}
	}
	slices.SortFunc(wanted, func(a, b Group) int { return slices.Compare(a.Datasets, b.Datasets) })
	return wanted, nil
}

func (g *Group) shares(o *Group) bool {
	for name, labels := range g.Families {
		if _, both := o.Families[name]; both && !slices.Contains(labels, DatasetLabel) {
			return true
		}
	}
	return false
}

// ScopesOf returns the scopes of a kind that bear one of the names or ids, or all if none
// is given.
func (s *Store) ScopesOf(kind bucket.ScopeKind, names []string) []Scope {
	var found []Scope
	for _, scope := range s.Scopes {
		if scope.Kind == kind && (len(names) == 0 || slices.ContainsFunc(names, scope.Bears)) {
			found = append(found, scope)
		}
	}
	return found
}

// Bears reports whether the scope has this id or name.
func (s Scope) Bears(name string) bool { return s.ID == name || slices.Contains(s.Names, name) }

// CheckZones returns an error that names the first zone or account that is unknown.
func (s *Store) CheckZones(names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(s.Scopes, func(scope Scope) bool { return scope.Bears(name) }) {
			return fmt.Errorf("zone %q is not in the store; use a name or an id that the collector has seen", name)
		}
	}
	return nil
}
