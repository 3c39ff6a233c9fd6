package counter

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// window adds a window of a zone to a fold, which is committed in time.
func window(t *testing.T, f *Fold, zone, n int, values ...string) {
	t.Helper()
	d := &bucket.Definition{
		Dataset: "hosts_5m", Version: 1, ScopeKind: bucket.Zone, Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 6,
		Families: []bucket.Family{{Name: "cloudflare_zone_requests_by_host", Labels: []string{"host"}, Additive: true}},
	}
	start := noon.Add(time.Duration(n) * d.Size)
	rows := bucket.Rows{Family: d.Families[0].Name}
	for _, v := range values {
		rows.Labels, rows.Values = append(rows.Labels, v), append(rows.Values, 1)
	}
	b := &bucket.Bucket{
		Key:  bucket.Key{Dataset: d.Dataset, Scope: bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", zone)}, Start: bucket.TimeOf(start)},
		Size: d.Size, Version: 1, Zone: fmt.Sprintf("zone-%d.example", zone), Origin: bucket.Live, Families: []bucket.Rows{rows},
	}
	if err := f.Add(&bucket.Entry{CommittedAt: start.Add(11 * time.Minute), Kind: bucket.KindBucket, Definition: d, Bucket: b}); err != nil {
		t.Fatal(err)
	}
}

// Series share what they have in common, and what no series has any more is forgotten: values
// that come and go, such as hosts, must not add up.
func TestSeriesShareTheirLabels(t *testing.T) {
	f := New()
	for zone := range 3 {
		window(t, f, zone, -1, "z") // with which counting begins
		window(t, f, zone, 0, "a", "c")
	}
	window(t, f, 0, 1, "a", "b", "c")
	fam := f.families["cloudflare_zone_requests_by_host"][0]
	if len(f.owners) != 3 || len(fam.own) != 3 || len(fam.Series()) != 7 {
		t.Errorf("%d owners and %d values of %d series, want 3 and 3 of 7", len(f.owners), len(fam.own), len(fam.Series()))
	}
	window(t, f, 0, 400, "a")
	f.Settle(noon.Add(400 * 5 * time.Minute)) // by the commit of that, which is the newest
	if len(fam.of) != 1 || len(fam.own) != 1 || len(fam.Series()) != 1 {
		t.Errorf("a day later there are %d owners, %d values and %d series, want one of each", len(fam.of), len(fam.own), len(fam.Series()))
	}
}

// A catch-up leaves no room behind for all the parts that it had.
func TestACatchUpLeavesNoRoom(t *testing.T) {
	f := New()
	for n := range 100 {
		window(t, f, 0, n, "a")
	}
	f.Settle(noon.Add(98 * 5 * time.Minute))
	s := f.families["cloudflare_zone_requests_by_host"][0].Series()[0]
	if len(s.parts) == 0 || cap(s.parts) > 2*max(len(s.parts), usual) {
		t.Errorf("%d parts have room for %d", len(s.parts), cap(s.parts))
	}
}
