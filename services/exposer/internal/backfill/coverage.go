package backfill

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Coverage counts the stored and the missing windows of a request. A window counts
// once per scope.
type Coverage struct {
	// Known: the collector returned the coverage of every dataset.
	Known bool
	// Lacking is the number of windows that should be in the output and are not:
	// missing, lost, waiting to settle, accepted as gaps or unreadable. It does
	// not include scopes whose plan or token does not allow the dataset, nor windows
	// before the collector began to collect the scope.
	Lacking int

	datasets []*covered
	names    map[string]string // of scopes, by id
}

// covered is the coverage of one dataset.
type covered struct {
	id      string
	unknown error // not nil: why the coverage is unknown
	stored  int
	lacking int
	scopes  int         // collected for at least a part of the range
	refused int         // scopes with refused windows
	late    int         // scopes that begin inside the range
	first   bucket.Time // when the earliest of all scopes begins
	until   bucket.Time // end of the newest window that is due
	gaps    map[gap][]string
}

// gap is a range that several scopes may lack for the same reason.
type gap struct {
	bucket.Window
	state  bucketv1.CoverageState
	reason bucketv1.GapReason
}

const (
	mostGaps    = 20 // ranges listed per dataset
	mostScopes  = 3  // scopes listed per range
	mostLeftOut = 50 // families listed
)

// survey requests the coverage of the range. If the collector cannot return it, the
// history is served without it.
func (j *Job) survey(ctx context.Context) error {
	datasets := j.r.written()
	if len(datasets) == 0 {
		j.Coverage.Known = true
		return nil
	}
	all, err := j.ask(ctx, datasets)
	j.Coverage.Known = err == nil
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		for _, id := range datasets {
			j.cover(id, all)
		}
		j.name(ctx)
		return nil
	}
	j.Coverage.Known = true
	for _, id := range datasets {
		if len(datasets) > 1 && status.Code(err) == codes.InvalidArgument { // too large for one response
			one, err := j.ask(ctx, []string{id})
			if err == nil {
				j.cover(id, one)
				continue
			}
		}
		j.Coverage.Known = false
		j.Coverage.datasets = append(j.Coverage.datasets, &covered{id: id, unknown: err})
	}
	j.name(ctx)
	return nil
}

// name looks up the names of scopes, if the notes will mention any. A scope whose
// name is unknown is shown by its id.
func (j *Job) name(ctx context.Context) {
	if j.Coverage.Lacking == 0 {
		return
	}
	scopes, err := j.from.ListScopes(ctx, &bucketv1.ListScopesRequest{}, grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return
	}
	j.Coverage.names = map[string]string{}
	for _, s := range scopes.GetScopes() {
		j.Coverage.names[s.GetScope().GetId()] = cmp.Or(s.GetZoneLabel(), s.GetName(), s.GetAccountLabel())
	}
}

func (j *Job) ask(ctx context.Context, datasets []string) (answer []*bucketv1.Coverage, err error) {
	req := &bucketv1.GetCoverageRequest{
		Filter:           &bucketv1.Filter{Datasets: datasets, Scopes: j.scopes},
		StartUnixSeconds: int64(j.r.Range.Start), EndUnixSeconds: int64(j.r.Range.End),
	}
	for failed := 1; ; failed++ {
		m, err := j.from.GetCoverage(ctx, req, grpc.MaxCallRecvMsgSize(maxMessage))
		if err == nil {
			return m.GetCoverages(), nil
		}
		if failed == attempts || !transient(err) || pause(ctx, firstPause<<(failed-1)) != nil {
			return nil, err
		}
	}
}

// cover adds up the coverage of one dataset.
func (j *Job) cover(id string, all []*bucketv1.Coverage) {
	size := j.state.Dataset(id).Size
	inside := bucket.Window{Start: j.r.Range.Start.Ceil(size), End: j.r.Range.End.Floor(size)}
	d := &covered{id: id, first: inside.End, gaps: map[gap][]string{}}
	for _, c := range all {
		if c.GetDataset() != id {
			continue
		}
		begin, refused := inside.End, false
		for _, r := range c.GetRanges() {
			w := bucket.Window{Start: bucket.Time(r.GetStartUnixSeconds()).Ceil(size), End: bucket.Time(r.GetEndUnixSeconds()).Floor(size)}.Intersect(inside)
			if w.Empty() {
				continue
			}
			begin, d.until = min(begin, w.Start), max(d.until, w.End)
			n := int(w.Len() / size)
			switch r.GetState() {
			case bucketv1.CoverageState_COVERAGE_STATE_FINAL:
				d.stored += n
				continue
			case bucketv1.CoverageState_COVERAGE_STATE_REFUSED:
				refused = true
				continue
			}
			d.lacking += n
			g := gap{w, r.GetState(), r.GetReason()}
			d.gaps[g] = append(d.gaps[g], c.GetScope().GetId())
		}
		if begin == inside.End {
			continue
		}
		d.scopes++
		if refused {
			d.refused++
		}
		if begin > inside.Start {
			d.late++
		}
		d.first = min(d.first, begin)
	}
	j.Coverage.Lacking += d.lacking
	j.Coverage.datasets = append(j.Coverage.datasets, d)
}

// notes returns lines that describe the output and what it lacks.
func (j *Job) notes() []string {
	r := j.r
	out := []string{fmt.Sprintf("weir backfill of %s: windows that lie wholly inside", r.Range)}
	if slices.ContainsFunc(r.Blocks, func(b Block) bool { return b.Kind == Summed }) {
		out = append(out, fmt.Sprintf("families that end in %s hold sums over whole steps of %d seconds; a step of which a bucket is missing is left out", Summed.Suffix(), r.Step/time.Second))
	}
	if slices.ContainsFunc(r.Blocks, func(b Block) bool { return b.Kind == Stepped }) {
		out = append(out, fmt.Sprintf("families that end in %s repeat the value of a bucket, for the eye: load them nowhere", Stepped.Suffix()))
	}
	for i := range r.LeftOut {
		if i == mostLeftOut {
			out = append(out, fmt.Sprintf("left out: and %d more", len(r.LeftOut)-i))
			break
		}
		out = append(out, "left out: "+r.LeftOut[i].String())
	}
	for _, d := range j.Coverage.datasets {
		out = append(out, d.notes(j.state.Dataset(d.id).Size, j.Coverage.names)...)
	}
	return out
}

func (d *covered) notes(size time.Duration, names map[string]string) []string {
	if d.unknown != nil {
		return []string{fmt.Sprintf("coverage of %s: not known, the collector did not say (%s)", d.id, status.Code(d.unknown))}
	}
	if d.scopes == 0 {
		return []string{fmt.Sprintf("coverage of %s: nothing was wanted of any scope in this range", d.id)}
	}
	line := fmt.Sprintf("coverage of %s: %d of %d windows of %s from %s to %s, of %s",
		d.id, d.stored, d.stored+d.lacking, bucket.SizeName(size), d.first, d.until, count(d.scopes, "scope"))
	if d.late > 0 {
		line += fmt.Sprintf("; %d of them were not wanted from the beginning of the range", d.late)
	}
	if d.refused > 0 {
		line += fmt.Sprintf("; to %d of them Cloudflare refuses some or all", d.refused)
	}
	out := []string{line}
	gaps := slices.SortedFunc(maps.Keys(d.gaps), func(a, b gap) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End), cmp.Compare(a.state, b.state), cmp.Compare(a.reason, b.reason))
	})
	for i, g := range gaps {
		if i == mostGaps {
			out = append(out, fmt.Sprintf("lacks of %s: and %d more ranges", d.id, len(gaps)-i))
			break
		}
		why := strings.ToLower(strings.TrimPrefix(g.state.String(), "COVERAGE_STATE_"))
		if g.reason != bucketv1.GapReason_GAP_REASON_UNSPECIFIED {
			why += " (" + strings.ToLower(strings.TrimPrefix(g.reason.String(), "GAP_REASON_")) + ")"
		}
		scopes := d.gaps[g]
		var shown []string
		for _, id := range scopes[:min(len(scopes), mostScopes)] {
			shown = append(shown, cmp.Or(names[id], id))
		}
		if more := len(scopes) - len(shown); more > 0 {
			shown = append(shown, fmt.Sprintf("%d more", more))
		}
		out = append(out, fmt.Sprintf("lacks of %s: %s of %s: %s", d.id, g.Window, strings.Join(shown, ", "), why))
	}
	return out
}

// afterwards returns the notes that are known only at the end.
func (o *writer) afterwards() []string {
	var out []string
	if o.Incomplete > 0 {
		shown := []string{}
		for _, w := range o.partly[:min(len(o.partly), mostGaps)] {
			shown = append(shown, w.String())
		}
		if more := len(o.partly) - len(shown); more > 0 {
			shown = append(shown, fmt.Sprintf("%d more ranges", more))
		}
		out = append(out, fmt.Sprintf("left out: %s of steps of which a bucket is missing, in %s", count(o.Incomplete, "sum"), strings.Join(shown, ", ")))
	}
	if o.Estimates > 0 {
		out = append(out, fmt.Sprintf("estimates: %d of %s hold a bucket that Cloudflare answered from a sample", o.Estimates, count(o.sums, "sum")))
	}
	return out
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
