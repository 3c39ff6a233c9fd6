package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Lister is the part of a BucketService's client that a backfill needs.
type Lister interface {
	ListBuckets(context.Context, *bucketv1.ListBucketsRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[bucketv1.ListBucketsResponse], error)
	ListScopes(context.Context, *bucketv1.ListScopesRequest, ...grpc.CallOption) (*bucketv1.ListScopesResponse, error)
	GetCoverage(context.Context, *bucketv1.GetCoverageRequest, ...grpc.CallOption) (*bucketv1.GetCoverageResponse, error)
}

const (
	// attempts is the number of consecutive attempts to continue an interrupted
	// list: a collector that restarts or hands over is back by then.
	attempts   = 4
	firstPause = 250 * time.Millisecond
	// maxMessage is the same as in package client: a bucket with every family full.
	maxMessage = 16 << 20
)

// mostNamed is how many scopes a filter may name.
const mostNamed = 1000

// resolve returns the scopes that a request names: for an account the account itself and
// its zones, for a zone that zone. An unknown or ambiguous name is a *[ParamError].
func resolve(ctx context.Context, from Lister, r *Request) ([]*bucketv1.Scope, error) {
	answer, err := from.ListScopes(ctx, &bucketv1.ListScopesRequest{}, grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return nil, fmt.Errorf("list scopes: %w", err)
	}
	known := answer.GetScopes()
	if r.Only != selection.Everything {
		// From here on others do not exist, so that no error names them.
		match := r.Only.Match()
		known = slices.DeleteFunc(slices.Clone(known), func(s *bucketv1.ScopeInfo) bool { return !match.Has(selection.OwnerOf(s)) })
	}
	scopes, err := r.named(known)
	var unknown *unknownError
	if errors.As(err, &unknown) && r.Only != selection.Everything {
		return nil, &HiddenError{unknown.Name, unknown.Value}
	}
	if err == nil && len(scopes) == 0 { // which would list those of everybody
		return nil, ErrNothing
	}
	return scopes, err
}

// unknownError is a [ParamError] about a name that nothing has.
type unknownError struct{ *ParamError }

func (e *unknownError) Unwrap() error { return e.ParamError }

// named are those of the known scopes that the request names.
func (r *Request) named(known []*bucketv1.ScopeInfo) (scopes []*bucketv1.Scope, err error) {
	if r.Account != "" {
		if known, err = inAccount(known, r.Account); err != nil {
			return nil, err
		}
	}
	if r.Zone != "" {
		return zoneOf(known, r.Zone)
	}
	for _, s := range known {
		scopes = append(scopes, s.GetScope())
	}
	if len(scopes) > mostNamed {
		return nil, &ParamError{"account", r.Account, fmt.Sprintf("left out, or given together with zone: %d zones are selected, and at most %d can be named at once", len(scopes), mostNamed)}
	}
	return scopes, nil
}

// inAccount are the scopes of the account with this id, label or name.
func inAccount(known []*bucketv1.ScopeInfo, account string) (found []*bucketv1.ScopeInfo, err error) {
	ids := map[string]bool{}
	for _, s := range known {
		if s.GetAccountId() == account {
			ids = map[string]bool{account: true} // whatever else has it for a name
			break
		}
		if s.GetAccountLabel() == account || s.GetAccountName() == account {
			ids[s.GetAccountId()] = true // all of no id are one
		}
	}
	switch len(ids) {
	case 0:
		return nil, &unknownError{&ParamError{"account", account, "the name or the id of an account that the collector has seen"}}
	case 1:
	default:
		return nil, &ParamError{"account", account, "one of the ids " + strings.Join(slices.Sorted(maps.Keys(ids)), ", ") + ": several accounts have this name"}
	}
	for _, s := range known {
		if ids[s.GetAccountId()] {
			found = append(found, s)
		}
	}
	return found, nil
}

// zoneOf returns the scope with this id, or those of the zone with this label or
// name: one that was deleted and added again has two, whose samples are of one
// series. A name with the first digits of an id, as buckets carry it while another
// zone has the name, means the scope of that id.
func zoneOf(known []*bucketv1.ScopeInfo, zone string) ([]*bucketv1.Scope, error) {
	var labelled, named []*bucketv1.ScopeInfo
	for _, s := range known {
		if s.GetScope().GetKind() != bucketv1.ScopeKind_SCOPE_KIND_ZONE {
			continue
		}
		if id := s.GetScope().GetId(); id == zone || zone == s.GetName()+"#"+id[:min(8, len(id))] {
			return []*bucketv1.Scope{s.GetScope()}, nil
		}
		if s.GetZoneLabel() == zone {
			labelled = append(labelled, s)
		}
		if s.GetName() == zone {
			named = append(named, s)
		}
	}
	found := labelled
	if len(found) == 0 {
		found = named
	}
	if len(found) == 0 {
		return nil, &unknownError{&ParamError{"zone", zone, "the name or the id of a zone that the collector knows"}}
	}
	if len(found) == 1 || len(labelled) > 0 && oneAccount(labelled) {
		var scopes []*bucketv1.Scope
		for _, s := range found {
			scopes = append(scopes, s.GetScope())
		}
		return scopes, nil
	}
	var labels []string
	for _, s := range found {
		labels = append(labels, s.GetScope().GetId()+" (account "+s.GetAccountLabel()+")")
	}
	return nil, &ParamError{"zone", zone, "one of the ids " + strings.Join(labels, ", ") + ": several zones have this name"}
}

// oneAccount reports whether scopes with the same zone label also share the account
// label, and so their series.
func oneAccount(scopes []*bucketv1.ScopeInfo) bool {
	return !slices.ContainsFunc(scopes, func(s *bucketv1.ScopeInfo) bool { return s.GetAccountLabel() != scopes[0].GetAccountLabel() })
}

// listing reads the buckets of one dataset in order, and continues after an
// interrupted stream. Not for concurrent use.
type listing struct {
	from   Lister
	ctx    context.Context
	req    *bucketv1.ListBucketsRequest
	match  selection.Match // of the buckets
	wanted map[string]bool // families; the request may bring more
	stream grpc.ServerStreamingClient[bucketv1.ListBucketsResponse]
	failed int
	last   bucket.Key
	// passed is called for stored buckets that cannot be read.
	passed func(revision bucket.Revision, err error)
}

// read is a stored bucket.
type read struct {
	*bucket.Bucket
	revision bucket.Revision
	// unreadable are families whose rows the bucket has, but not in a way that can be
	// read. Its other families are as stored.
	unreadable map[string]bool
}

// next returns the next bucket that can be read, or io.EOF after the last.
func (l *listing) next() (read, error) {
	for {
		m, err := l.receive()
		if err == nil {
			l.failed = 0
			if m.GetEntry() == nil {
				return read{}, errors.New("list buckets: received a message without an entry")
			}
			e, unreadable, err := l.entry(m.GetEntry())
			if err != nil {
				l.passed(e.Revision, err)
			}
			if e.Kind != bucket.KindBucket {
				// Skip it: requesting it again would return the same bytes.
				l.req.PageToken = m.GetPageToken()
				continue
			}
			if err := l.check(e.Bucket, m.GetPageToken()); err != nil {
				return read{}, err
			}
			if !l.match.Has(selection.Owner{Scope: e.Bucket.Scope, Zone: e.Bucket.Zone, Account: e.Bucket.Account}) {
				continue // of a zone that was another account's then
			}
			return read{e.Bucket, e.Revision, unreadable}, nil
		}
		if errors.Is(err, io.EOF) {
			return read{}, io.EOF
		}
		l.stream = nil
		if l.failed++; l.failed >= attempts || !transient(err) {
			return read{}, fmt.Errorf("list buckets of %s: %w", l.req.GetFilter().GetDatasets()[0], err)
		}
		if err := pause(l.ctx, firstPause<<(l.failed-1)); err != nil {
			return read{}, err
		}
	}
}

// entry decodes an entry. The error says what of it cannot be read: the entry, if it is no
// bucket, else some wanted families, which are not in the bucket. A family that cannot be read
// costs the others nothing, whether they are listed together or each for itself.
func (l *listing) entry(m *bucketv1.Entry) (e bucket.Entry, unreadable map[string]bool, err error) {
	if r := m.GetRestatement(); r != nil && l.req.GetAsRestated() { // in the place of its bucket
		m = &bucketv1.Entry{Revision: m.GetRevision(), Chain: m.GetChain(), CommittedAt: m.GetCommittedAt(), Kind: &bucketv1.Entry_Bucket{Bucket: r.GetBucket()}}
	}
	if e, err = wire.Entry(m); err == nil && e.Kind == bucket.KindBucket {
		return e, nil, nil
	}
	if err == nil {
		return bucket.Entry{Position: e.Position}, nil, errors.New("the collector cannot read the stored bucket")
	}
	if m.GetBucket() == nil {
		return bucket.Entry{Position: e.Position}, nil, err
	}
	m = proto.CloneOf(m)
	b := m.GetBucket()
	families := map[string][]*bucketv1.FamilyRows{}
	for _, f := range b.GetFamilies() {
		families[f.GetFamily()] = append(families[f.GetFamily()], f)
	}
	b.Families = nil
	if e, err = wire.Entry(m); err != nil {
		return bucket.Entry{Position: e.Position}, nil, err
	}
	unreadable = map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if !l.wanted[name] {
			continue
		}
		b.Families = families[name]
		one, why := wire.Entry(m)
		if why != nil {
			unreadable[name], err = true, cmp.Or(err, why)
			continue
		}
		e.Bucket.Families = append(e.Bucket.Families, one.Bucket.Families...)
	}
	return e, unreadable, err
}

func (l *listing) receive() (*bucketv1.ListBucketsResponse, error) {
	if l.stream == nil {
		stream, err := l.from.ListBuckets(l.ctx, l.req, grpc.MaxCallRecvMsgSize(maxMessage), lists)
		if err != nil {
			return nil, err
		}
		l.stream = stream
	}
	return l.stream.Recv()
}

// check verifies the order and the range, on which the order of the samples depends.
func (l *listing) check(b *bucket.Bucket, token string) error {
	if l.last.Dataset != "" && l.last.Compare(b.Key) >= 0 {
		return fmt.Errorf("list buckets: received %s after %s; keys must ascend", b.Key, l.last)
	}
	if !slices.Contains(l.req.GetFilter().GetDatasets(), b.Dataset) || int64(b.Start) < l.req.GetStartUnixSeconds() || int64(b.Window().End) > l.req.GetEndUnixSeconds() {
		return fmt.Errorf("list buckets: received %s, which was not requested", b.Key)
	}
	l.last, l.req.PageToken = b.Key, token
	return nil
}

// transient reports whether an error may go away by itself.
func transient(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return true
	}
	return false
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
