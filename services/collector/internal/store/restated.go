package store

import "github.com/weir-metrics/weir/internal/bucket"

// Restate puts restatements in the places of the buckets that they correct.
func Restate(buckets, restatements []Entry) {
	if len(restatements) == 0 {
		return
	}
	newest := make(map[bucket.Key]*Entry, len(restatements))
	for i := range restatements {
		newest[restatements[i].Key] = &restatements[i]
	}
	for i := range buckets {
		// One of before the bucket corrected another, which retention dropped.
		if r := newest[buckets[i].Key]; r != nil && r.Revision > buckets[i].Revision {
			buckets[i] = *r
		}
	}
}
