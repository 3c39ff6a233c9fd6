package bucketsvc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

const (
	maxFilter   = 1000 // elements of each list of a filter, as the API documents
	maxFamilies = 100  // families of one ListBuckets, as the API documents
	maxFamily   = 200  // characters of a family name, the limit of package wire

	// endOfTime is the last second of the year 9999, where Timestamp ends.
	endOfTime = 253402300799
)

func parseFilter(m *bucketv1.Filter) (feed.Filter, error) {
	var f feed.Filter
	if n := len(m.GetDatasets()); n > maxFilter {
		return f, badRequest("filter.datasets has %d elements; at most %d", n, maxFilter)
	}
	if n := len(m.GetScopes()); n > maxFilter {
		return f, badRequest("filter.scopes has %d elements; at most %d", n, maxFilter)
	}
	for i, d := range m.GetDatasets() {
		if err := wire.CheckDataset(d); err != nil {
			return f, badRequest("filter.datasets[%d]: %v", i, err)
		}
		f.Datasets = append(f.Datasets, d)
	}
	for i, p := range m.GetScopes() {
		s, err := wire.Scope(p)
		if err != nil {
			return f, badRequest("filter.scopes[%d]: %v", i, err)
		}
		f.Scopes = append(f.Scopes, s)
	}
	if n := len(m.GetZones()); n > maxFilter {
		return f, badRequest("filter.zones has %d elements; at most %d", n, maxFilter)
	}
	for i, name := range m.GetZones() {
		if name == "" || len(name) > bucket.MaxName {
			return f, badRequest("filter.zones[%d] has %d bytes; it must be a zone name of 1 to %d bytes", i, len(name), bucket.MaxName)
		}
		f.Zones = append(f.Zones, name)
	}
	return f, nil
}

// stored is the part of the filter that the store can apply. If the filter names zones,
// it selects all entries of their scopes, and keep then filters by label.
func (s *Server) stored(ctx context.Context, f feed.Filter) (of store.Filter, keep func(*store.Entry) bool, err error) {
	if len(f.Zones) == 0 {
		return f.Filter, func(*store.Entry) bool { return true }, nil
	}
	named, err := s.c.Status.Named(ctx, f.Zones)
	if err != nil {
		return of, nil, fmt.Errorf("look up the zones of the filter: %w", err)
	}
	of = f.Filter
	of.Scopes = slices.Concat(of.Scopes, named)
	if len(of.Scopes) == 0 {
		of.Scopes = []bucket.Scope{{Kind: bucket.Zone, ID: strings.Repeat("0", 32)}} // an empty list would mean all
	}
	return of, f.Matcher(), nil
}

// parseSnapshot returns the greatest age of a window's end and the most windows.
func (s *Server) parseSnapshot(m *bucketv1.SnapshotRequest) (maxAge time.Duration, maxWindows int, err error) {
	if d := m.GetMaxAge(); d != nil {
		if err := d.CheckValid(); err != nil {
			return 0, 0, badRequest("snapshot.max_age: %v", err)
		}
		maxAge = d.AsDuration()
	}
	if maxAge < 0 {
		return 0, 0, badRequest("snapshot.max_age is %s; it must not be negative", maxAge)
	}
	if r := s.c.Retention; r > 0 {
		// A client does not know the retention in advance: a larger age means
		// everything that is stored.
		maxAge = min(maxAge, r)
	}
	// Fits into an int on every platform, and a century of minutes fits into it.
	const most = 1 << 30
	if m.GetMaxWindows() > most {
		return 0, 0, badRequest("snapshot.max_windows is %d; at most %d", m.GetMaxWindows(), most)
	}
	return maxAge, int(m.GetMaxWindows()), nil
}

func parseWindow(start, end int64) (bucket.Window, error) {
	var w bucket.Window
	if start == 0 {
		return w, badRequest("start_unix_seconds is missing; it must be 1 or greater")
	}
	if end == 0 {
		return w, badRequest("end_unix_seconds is missing; it must be greater than start_unix_seconds")
	}
	return parseRange(start, end)
}

// parseRange is parseWindow where a start of 0 means the beginning.
func parseRange(start, end int64) (bucket.Window, error) {
	w := bucket.Window{Start: bucket.Time(start), End: bucket.Time(end)}
	if start < 0 || start > endOfTime {
		return w, badRequest("start_unix_seconds is %d; it must be 0 to %d", start, int64(endOfTime))
	}
	if end < 0 || end > endOfTime {
		return w, badRequest("end_unix_seconds is %d; it must be 0 to %d", end, int64(endOfTime))
	}
	if end <= start {
		return w, badRequest("end_unix_seconds is %d; it must be greater than start_unix_seconds, %d", end, start)
	}
	return w, nil
}

func parseFamilies(names []string) (map[string]bool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	if n := len(names); n > maxFamilies {
		return nil, badRequest("families has %d elements; at most %d", n, maxFamilies)
	}
	set := make(map[string]bool, len(names))
	for i, n := range names {
		if n == "" || len(n) > maxFamily {
			return nil, badRequest("families[%d] has %d characters; it must have 1 to %d", i, len(n), maxFamily)
		}
		set[n] = true
	}
	return set, nil
}
