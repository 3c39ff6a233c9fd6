package adminsvc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

const (
	maxFilter = 1000 // elements of each list of a filter, as the API documents
	// endOfTime is the last second of the year 9999, where Timestamp ends.
	endOfTime = 253402300799
)

// Selection resolves a selection.
func (s *Server) Selection(ctx context.Context, m *adminv1.Selection) (poll.Selection, error) {
	var sel poll.Selection
	if m == nil {
		return sel, reason.BadRequest("selection is missing")
	}
	w, err := parseRange("selection.", m.GetStartUnixSeconds(), m.GetEndUnixSeconds())
	if err != nil {
		return sel, err
	}
	if w.Start == 0 || w.End == 0 {
		return sel, reason.BadRequest("selection.start_unix_seconds is %d and selection.end_unix_seconds %d; both must be set", w.Start, w.End)
	}
	f, err := s.resolve(ctx, "selection.filter.", m.GetFilter())
	return poll.Selection{Datasets: f.Datasets, Scopes: f.Scopes, Window: w}, err
}

// resolve converts a filter to datasets and scopes. They must be ones that the collector
// knows, so that a typing error is not taken for a selection of nothing.
func (s *Server) resolve(ctx context.Context, field string, m *bucketv1.Filter) (f store.Filter, err error) {
	for name, n := range map[string]int{"datasets": len(m.GetDatasets()), "scopes": len(m.GetScopes()), "zones": len(m.GetZones())} {
		if n > maxFilter {
			return f, reason.BadRequest("%s%s has %d elements; at most %d", field, name, n, maxFilter)
		}
	}
	for i, d := range m.GetDatasets() {
		if err := wire.CheckDataset(d); err != nil {
			return f, reason.BadRequest("%sdatasets[%d]: %v", field, i, err)
		}
		if !slices.Contains(s.c.Datasets, d) {
			return f, reason.BadRequest("%sdatasets[%d] is %q; the collector has %s", field, i, d, strings.Join(s.c.Datasets, ", "))
		}
		f.Datasets = append(f.Datasets, d)
	}
	if len(m.GetScopes())+len(m.GetZones()) == 0 {
		return f, nil
	}
	known, err := s.c.Status.Scopes(ctx)
	if err != nil {
		return f, fmt.Errorf("read scopes: %w", err)
	}
	byID, byName := map[bucket.Scope]bool{}, map[string][]bucket.Scope{}
	for _, info := range known {
		sc := bucket.Scope{Kind: bucket.ScopeKind(info.GetScope().GetKind()), ID: info.GetScope().GetId()}
		byID[sc] = true
		if sc.Kind == bucket.Zone {
			names := []string{info.GetName()}
			if l := info.GetZoneLabel(); l != info.GetName() {
				names = append(names, l)
			}
			for _, name := range names {
				byName[name] = append(byName[name], sc)
			}
		}
	}
	add := func(sc bucket.Scope) {
		if !slices.Contains(f.Scopes, sc) {
			f.Scopes = append(f.Scopes, sc)
		}
	}
	for i, p := range m.GetScopes() {
		sc, err := wire.Scope(p)
		if err != nil {
			return f, reason.BadRequest("%sscopes[%d]: %v", field, i, err)
		}
		if !byID[sc] {
			return f, reason.BadRequest("%sscopes[%d] is %s; the collector does not know it", field, i, sc)
		}
		add(sc)
	}
	for i, name := range m.GetZones() {
		if len(byName[name]) == 0 {
			return f, reason.BadRequest("%szones[%d] is %.80q; the collector has no zone of that name", field, i, name)
		}
		for _, sc := range byName[name] {
			add(sc)
		}
	}
	slices.SortFunc(f.Scopes, bucket.Scope.Compare)
	return f, nil
}

// parseRange converts a range in which 0 means no bound.
func parseRange(field string, start, end int64) (bucket.Window, error) {
	w := bucket.Window{Start: bucket.Time(start), End: bucket.Time(end)}
	switch {
	case start < 0 || start > endOfTime:
		return w, reason.BadRequest("%sstart_unix_seconds is %d; it must be 0 to %d", field, start, int64(endOfTime))
	case end < 0 || end > endOfTime:
		return w, reason.BadRequest("%send_unix_seconds is %d; it must be 0 to %d", field, end, int64(endOfTime))
	case end != 0 && end <= start:
		return w, reason.BadRequest("%send_unix_seconds is %d; it must be greater than start_unix_seconds, %d", field, end, start)
	}
	return w, nil
}

// Asked validates who asks and why.
func Asked(requester, why string) (poll.Asked, error) {
	if err := wire.CheckRequested(requester, wire.MaxActor); err != nil {
		return poll.Asked{}, reason.BadRequest("requester %v", err)
	}
	if err := wire.CheckRequested(why, wire.MaxReason); err != nil {
		return poll.Asked{}, reason.BadRequest("reason %v", err)
	}
	return poll.Asked{Requester: requester, Reason: why}, nil
}
