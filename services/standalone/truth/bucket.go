package truth

import (
	"fmt"
	"maps"
	"math"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
)

// sampleInterval is the family that says which buckets are estimates, with the
// dataset's id as label.
const sampleInterval = "cloudflare_sample_interval"

// Differs says how a stored bucket differs from what happened; empty if it does
// not. A bucket that was sampled must say so, and lie near the truth (G12).
func Differs(b *bucket.Bucket, t cfsim.Totals) string {
	have := map[string]map[string]float64{}
	for _, rows := range b.Families {
		values := map[string]float64{}
		for i, v := range rows.Values {
			label := ""
			if rows.Width() > 0 {
				label = rows.Labels[i]
			}
			values[label] = v
		}
		have[rows.Family] = values
	}
	interval, estimated := have[sampleInterval]
	if estimated != (b.SampleInterval > 1) || estimated && interval[b.Dataset] != b.SampleInterval {
		return fmt.Sprintf("its sample interval is %v, the family says %v", b.SampleInterval, interval)
	}
	delete(have, sampleInterval)
	equal := func(got float64, want uint64) bool { return got == float64(want) }
	if estimated {
		equal = Near(b.SampleInterval)
		maps.DeleteFunc(have, func(name string, _ map[string]float64) bool { return strings.Contains(name, "bytes") })
	}
	for name := range have {
		if Families[name].Dataset != b.Dataset {
			return fmt.Sprintf("family %s is not one of the dataset", name)
		}
	}
	for name, f := range Families {
		if f.Dataset != b.Dataset {
			continue
		}
		want := f.Values(t)
		got, there := have[name]
		if !there {
			if !f.Rollup && sum(want) > 0 && !(estimated && strings.Contains(name, "bytes")) {
				return fmt.Sprintf("%s is absent, the truth is %v", name, want)
			}
			continue
		}
		for label, v := range want {
			if !equal(got[label], v) {
				return fmt.Sprintf("%s %s is %v, the truth is %d", name, label, got[label], v)
			}
		}
		for label, v := range got {
			if v != 0 && !equal(v, want[label]) {
				return fmt.Sprintf("%s %s is %v, the truth is %d", name, label, v, want[label])
			}
		}
	}
	return ""
}

// Near tells what a sample of one request in interval can make of a number of
// requests. Six standard deviations are far enough out for a million samples.
func Near(interval float64) func(got float64, want uint64) bool {
	return func(got float64, want uint64) bool {
		n := float64(want)
		return (n > 0 || got == 0) && math.Abs(got-n) <= 6*math.Sqrt(n*(interval-1))+2*interval
	}
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}
