package compat_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/compat"
	"github.com/weir-metrics/weir/services/exposer/internal/counters"
)

// BenchmarkPage renders a page of 100,000 counters of 1,000 zones.
func BenchmarkPage(b *testing.B) {
	r := newRig(b)
	rows := bucket.Rows{Family: "cloudflare_zone_requests_by_status"}
	for i := range 100 {
		rows.Labels, rows.Values = append(rows.Labels, fmt.Sprint(200+i)), append(rows.Values, float64(1000*i))
	}
	for z := range 1000 {
		e := &bucket.Entry{CommittedAt: noon.Add(10 * time.Minute), Kind: bucket.KindBucket, Definition: httpSet, Bucket: &bucket.Bucket{
			Key:  bucket.Key{Dataset: httpSet.Dataset, Scope: bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", z)}, Start: bucket.TimeOf(noon)},
			Size: httpSet.Size, Version: 1, Zone: fmt.Sprintf("zone-%05d.example", z), Account: "Acme Corp", Origin: bucket.Live, Families: []bucket.Rows{rows},
		}}
		if err := r.fold.Add(e); err != nil {
			b.Fatal(err)
		}
	}
	r.at = sample.MillisOf(noon.Add(16 * time.Minute))
	v, page := compat.NewView(&compat.Lablabs), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		page = v.Append(page[:0], counters.Options{Format: expo.Text}, r, r.at)
	}
	b.SetBytes(int64(len(page)))
}
