package recent

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// feeder is a dataset with samples of families that others may have too.
type feeder struct {
	id      string
	size    time.Duration
	windows int       // held, the newest of which ends at last
	last    time.Time // zero: noon
	zones   string    // one letter each; empty: one zone
	// Of the newest window, the one before it, and so on: label values of the
	// breakdown. The last one is that of all that are older. None: there is only the
	// total, which has a label too if the dataset's id is to tell it apart.
	rows []string
	own  bool // the total bears the dataset's id as a label
}

const (
	sharedTotal     = "cloudflare_zone_shared"
	sharedBreakdown = "cloudflare_zone_shared_by_status"
)

// hold renders the buckets of the feeders, as they come in a snapshot.
func hold(t testing.TB, feeders ...feeder) *State {
	t.Helper()
	r := New(sample.Store{ID: "test", Stamp: sample.End}, 1000*time.Hour)
	for _, f := range feeders {
		d := &bucket.Definition{Dataset: f.id, Version: 1, ScopeKind: bucket.Zone, Size: f.size, Depth: 30, Families: []bucket.Family{
			{Name: sharedTotal, Help: "Shared.", Role: bucket.Total},
			{Name: sharedBreakdown, Help: "Shared, by status.", Role: bucket.Breakdown, Labels: []string{"status"}},
		}}
		total := bucket.Rows{Family: sharedTotal, Values: []float64{1}}
		if f.own {
			d.Families[0].Labels, total.Labels = []string{"dataset"}, []string{f.id}
		}
		if err := r.Define(d); err != nil {
			t.Fatal(err)
		}
		last := f.last
		if last.IsZero() {
			last = noon
		}
		if f.zones == "" {
			f.zones = "a"
		}
		for n := f.windows - 1; n >= 0; n-- {
			for _, zone := range strings.Split(f.zones, "") {
				b := &bucket.Bucket{
					Key:  bucket.Key{Dataset: f.id, Scope: bucket.Scope{Kind: bucket.Zone, ID: strings.Repeat(zone, 32)}, Start: bucket.TimeOf(last).Add(-time.Duration(n+1) * f.size)},
					Size: f.size, Version: 1, Zone: zone + ".example", Account: "Acme", Families: []bucket.Rows{total},
				}
				if len(f.rows) > 0 {
					if values := f.rows[min(n, len(f.rows)-1)]; values != "" {
						rows := bucket.Rows{Family: sharedBreakdown, Labels: strings.Split(values, " ")}
						rows.Values = make([]float64, len(rows.Labels))
						b.Families = append(b.Families, rows)
					}
				}
				if held, err := r.Add(b, d, noon); err != nil || !held {
					t.Fatalf("%s is not held: %v", b.Key, err)
				}
			}
		}
	}
	return r.State(bucket.Position{})
}

func all() Limits { return Limits{MaxAge: 1000 * time.Hour, Soft: math.MaxInt, Hard: math.MaxInt} }

// After a change of bucket size two datasets carry the same series. Together
// they must stay below the cliff.
func TestSharedFamilyIsCapped(t *testing.T) {
	c, err := hold(t,
		feeder{id: "http_15m", size: 15 * time.Minute, windows: 8},
		feeder{id: "http_5m", size: 5 * time.Minute, windows: 30, last: noon.Add(-2 * time.Hour)},
	).Choose(noon, all())
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Datasets[0].Serve[0].Len(); got != 8 {
		t.Errorf("the new size serves %d windows, want all 8", got)
	}
	if got := c.Datasets[1].Serve[0].Len(); got != MaxDepth-8 {
		t.Errorf("the old size serves %d windows, want the newest %d", got, MaxDepth-8)
	}
}
