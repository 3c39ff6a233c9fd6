package truth

import (
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
)

// WorkersDiffer says how a stored bucket of workers_5m differs from what the Workers of
// its account did; empty if it does not. A bucket that was sampled must say so, and lie
// near the truth in its requests (G12).
func WorkersDiffer(b *bucket.Bucket, happened []cfsim.Invocations) string {
	type key struct{ family, script, status string }
	have, want := map[key]float64{}, map[key]float64{}
	interval := 0.0
	for _, rows := range b.Families {
		if rows.Family == sampleInterval {
			interval = rows.Values[0]
			continue
		}
		for i, v := range rows.Values {
			have[key{rows.Family, rows.Labels[2*i], rows.Labels[2*i+1]}] = v
		}
	}
	const requests = "cloudflare_account_worker_requests"
	for _, one := range happened {
		want[key{requests, one.Script, one.Status}] = float64(one.Requests)
		want[key{"cloudflare_account_worker_errors", one.Script, one.Status}] = float64(one.Errors)
		want[key{"cloudflare_account_worker_subrequests", one.Script, one.Status}] = float64(one.Subrequests)
	}
	estimated := b.SampleInterval > 1
	if estimated != (interval > 1) || estimated && interval != b.SampleInterval {
		return fmt.Sprintf("its sample interval is %v, the family says %v", b.SampleInterval, interval)
	}
	right := func(k key) bool {
		if !estimated {
			return have[k] == want[k]
		}
		return k.family != requests || Near(interval)(have[k], uint64(want[k]))
	}
	for k, v := range want {
		if !right(k) {
			return fmt.Sprintf("%s of %s, %s, is %v, the truth is %v", k.family, k.script, k.status, have[k], v)
		}
	}
	for k, v := range have {
		if v != 0 && !right(k) {
			return fmt.Sprintf("%s of %s, %s, is %v, the truth is %v", k.family, k.script, k.status, v, want[k])
		}
	}
	return ""
}
