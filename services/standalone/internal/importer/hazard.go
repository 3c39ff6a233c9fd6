package importer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
	"github.com/weir-metrics/weir/services/standalone/internal/verify"
)

// Hazard is a reason why an import is refused.
type Hazard struct {
	// Code is stable: RETENTION, HEAD, OVERLAP, PARALLEL, TOO_OLD, MILLISECONDS, STEPPED,
	// NOT_WHOLE, LABELS, DATA_FOLDER.
	Code string
	Text string
}

// Error ends with the code, for programs and for the table in docs/backfill.md.
func (h *Hazard) Error() string { return h.Text + " (" + h.Code + ")" }

func hazard(code, format string, args ...any) error {
	return &Hazard{code, fmt.Sprintf(format, args...)}
}

// checkRetention refuses samples that the server would delete at once.
func checkRetention(ctx context.Context, prom *promapi.Client, first sample.Millis, now time.Time) (note string, err error) {
	kept, err := prom.Retention(ctx)
	switch {
	case promapi.IsUnknown(err):
		return "the receiver does not tell its retention: check that it keeps samples from " + first.Std().Format(time.RFC3339) + " on", nil
	case err != nil:
		return "", err
	case first.Std().Before(now.Add(-kept)):
		return "", hazard("RETENTION", "the oldest sample is from %s, and the receiver keeps samples for %s: it would delete what was imported; raise its retention first (--storage.tsdb.retention.time, -retentionPeriod), or begin at %s or later",
			first.Std().Format(time.RFC3339), bucket.SizeName(kept), bucket.TimeOf(now.Add(-kept)).Ceil(history.Day))
	}
	return "", nil
}

// LabelSets returns the labels that Prometheus's series of the store have besides those of
// the store, such as job and instance: of the last two days before a time, each
// combination once. Those that the receiver adds are left out.
func LabelSets(ctx context.Context, prom *promapi.Client, store *history.Store, added []string, at time.Time) ([][]export.Label, error) {
	groups, err := store.Groups(nil)
	if err != nil {
		return nil, err
	}
	own, families := map[string]bool{"zone": true, "account": true}, map[string]bool{}
	for _, name := range added {
		own[name] = true
	}
	for _, g := range groups {
		for name, labels := range g.Families {
			families[name] = true
			for _, l := range labels {
				own[l] = true
			}
		}
	}
	matcher := promapi.Matcher("__name__", slices.Sorted(maps.Keys(families))...)
	series, err := prom.Vector(ctx, fmt.Sprintf("count without (%s) (last_over_time(%s[2d]))", strings.Join(slices.Sorted(maps.Keys(own)), ", "), promapi.Selector(matcher)), at)
	if err != nil {
		return nil, fmt.Errorf("ask for the labels of the scrape job: %w", err)
	}
	var sets [][]export.Label
	for _, s := range series {
		var set []export.Label
		for _, name := range slices.Sorted(maps.Keys(s.Labels)) {
			if name != "__name__" {
				set = append(set, export.Label{Name: name, Value: s.Labels[name]})
			}
		}
		sets = append(sets, set)
	}
	slices.SortFunc(sets, func(a, b []export.Label) int { return strings.Compare(Text(a), Text(b)) })
	return sets, nil
}

// Text writes labels as in a selector.
func Text(labels []export.Label) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, l := range labels {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s=%q", l.Name, l.Value)
	}
	b.WriteByte('}')
	return b.String()
}

// Resolve returns the labels to write. Those that are given must be the ones that a scrape
// job has, if the server has any; without job and instance they are taken from there.
// Labels that the receiver adds are not written.
func Resolve(ctx context.Context, prom *promapi.Client, store *history.Store, given []export.Label, added []string, ends ...time.Time) ([]export.Label, error) {
	has := func(name string) bool {
		return slices.ContainsFunc(given, func(l export.Label) bool { return l.Name == name })
	}
	const learn = `use the labels that the scrape job gives: query cloudflare_zone_requests[1d] in Prometheus, or see its page /targets`
	if prom == nil {
		if !has("job") || !has("instance") {
			return nil, fmt.Errorf("labels job and instance are required (--job, --instance), or --prometheus-url to read them there: %s", learn)
		}
		return given, nil
	}
	var sets [][]export.Label
	for _, at := range ends {
		found, err := LabelSets(ctx, prom, store, added, at)
		if err != nil {
			return nil, err
		}
		if sets = found; len(sets) > 0 {
			break
		}
	}
	if len(sets) == 0 {
		if !has("job") || !has("instance") {
			return nil, fmt.Errorf("no series of Weir is in Prometheus from which to read the labels: give --job and --instance; %s", learn)
		}
		return given, nil
	}
	var fitting [][]export.Label
	var all []string
	for _, set := range sets {
		all = append(all, Text(set))
		if contains(set, given) {
			fitting = append(fitting, set)
		}
	}
	switch {
	case len(fitting) == 0:
		return nil, hazard("PARALLEL", "labels %s would make series beside those that are scraped, and every sum would count twice: Prometheus has %s", Text(given), strings.Join(all, " and "))
	case len(fitting) > 1:
		return nil, fmt.Errorf("series of Weir in Prometheus have several sets of labels, %s: say which with --job, --instance and --label; if they are of the same time, every sum counts twice", strings.Join(all, " and "))
	}
	return fitting[0], nil
}

// contains reports whether set has all labels of part.
func contains(set, part []export.Label) bool {
	for _, l := range part {
		if !slices.Contains(set, l) {
			return false
		}
	}
	return true
}

// Matchers select the series with exactly these labels.
func Matchers(labels []export.Label) (out []string) {
	for _, l := range labels {
		out = append(out, promapi.Matcher(l.Name, l.Value))
	}
	return out
}

// checkOverlap refuses an import over other values.
func checkOverlap(r *verify.Report) error {
	example := func(k verify.Kind) string {
		for _, x := range r.Ranges {
			if x.Kind == k {
				return x.Example
			}
		}
		return ""
	}
	const fix = "delete that series in the range first (delete_series, clean_tombstones), then import"
	switch {
	case r.Differences[verify.Different] > 0:
		return hazard("OVERLAP", "the receiver has %d samples with other values; an import would leave a mix: %s. First: %s", r.Differences[verify.Different], fix, example(verify.Different))
	case r.Differences[verify.Parallel] > 0:
		return hazard("PARALLEL", "the receiver has %d samples in more than one series: %s", r.Differences[verify.Parallel], example(verify.Parallel))
	case r.Differences[verify.Extra] > 0:
		return hazard("OVERLAP", "the receiver has %d samples that the store does not have; was CF_SAMPLE_TIMESTAMP changed? %s. First: %s", r.Differences[verify.Extra], fix, example(verify.Extra))
	}
	return nil
}
