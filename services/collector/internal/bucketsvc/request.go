package bucketsvc

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

const (
	maxFilter   = 1000 // elements of each list of a filter, as the contract says
	maxFamilies = 100  // families of one ListBuckets, as the contract says
	maxFamily   = 200  // characters of a family name, as long as wire accepts

	// endOfTime is the last second of the year 9999, where Timestamp ends.
	endOfTime = 253402300799
)

func parseFilter(m *bucketv1.Filter) (store.Filter, error) {
	var f store.Filter
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
	return f, nil
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
		// A reader cannot know what is kept before it is answered, and nothing
		// older is: it gets all there is.
		maxAge = min(maxAge, r)
	}
	// A depth that no int of any platform wraps; the windows of a century of minutes fit.
	const most = 1 << 30
	if m.GetMaxWindows() > most {
		return 0, 0, badRequest("snapshot.max_windows is %d; at most %d", m.GetMaxWindows(), most)
	}
	return maxAge, int(m.GetMaxWindows()), nil
}

func parseWindow(start, end int64) (bucket.Window, error) {
	w := bucket.Window{Start: bucket.Time(start), End: bucket.Time(end)}
	if start < 0 || start > endOfTime {
		return w, badRequest("start_unix_seconds is %d; it must be 0 to %d", start, int64(endOfTime))
	}
	if end < 0 || end > endOfTime {
		return w, badRequest("end_unix_seconds is %d; it must be 0 to %d", end, int64(endOfTime))
	}
	if end <= start {
		return w, badRequest("end_unix_seconds is %d; it must be above start_unix_seconds, %d", end, start)
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
