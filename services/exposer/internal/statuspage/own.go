package statuspage

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// What takes the place of texts that are not for a reader of some scopes only: they are
// Cloudflare's, or meant for those who run the collector, and may name other zones.
const (
	refusedForSome = "the plan or the token does not allow it"
	problemForSome = "those who run the collector see the message"
)

// Only returns the answer for a reader who may see the scopes that match has, and learns
// nothing of others: neither their names, nor figures of all together, nor texts that may
// name them.
func (a Answer) Only(match selection.Match) Answer {
	own := Answer{At: a.At, Err: a.Err, Datasets: a.Datasets}
	if a.Scopes != nil {
		own.Scopes = []*bucketv1.ScopeInfo{} // known, also if there are none
	}
	for _, sc := range a.Scopes {
		if sc == nil || !match.Has(selection.OwnerOf(sc)) {
			continue
		}
		sc = proto.CloneOf(sc)
		for _, e := range sc.GetEntitlements() {
			if e.GetReason() != "" {
				e.Reason = refusedForSome
			}
		}
		own.Scopes = append(own.Scopes, sc)
	}
	if m := a.Status; m != nil {
		own.Status = &bucketv1.GetStatusResponse{
			Info: m.GetInfo(), Head: m.GetHead(), CompactedRevision: m.GetCompactedRevision(), ProgressTime: m.GetProgressTime(),
			Role: m.GetRole(), Leader: m.GetLeader(), Version: m.GetVersion(),
		}
		for _, p := range m.GetProblems() {
			if slices.ContainsFunc(own.Scopes, func(sc *bucketv1.ScopeInfo) bool { return isAbout(p.GetAbout(), sc, a.Datasets) }) {
				own.Status.Problems = append(own.Status.Problems, &bucketv1.Problem{Code: p.GetCode(), About: p.GetAbout(), Message: problemForSome, Since: p.GetSince()})
			}
		}
	}
	return own
}

// isAbout reports whether the subject of a problem is a scope, its settings, or a dataset of it.
func isAbout(about string, sc *bucketv1.ScopeInfo, datasets []*bucketv1.DatasetVersion) bool {
	label := sc.GetZoneLabel()
	if sc.GetScope().GetKind() == bucketv1.ScopeKind_SCOPE_KIND_ACCOUNT {
		label = sc.GetAccountLabel()
	}
	for _, name := range []string{label, sc.GetScope().GetId()} {
		rest, is := strings.CutPrefix(about, name)
		if name == "" || !is {
			continue
		}
		if rest == "" || rest == " settings" || slices.ContainsFunc(datasets, func(d *bucketv1.DatasetVersion) bool { return rest == " "+d.GetDataset() }) {
			return true
		}
	}
	return false
}

// Only returns the coverage, which is of scopes that the reader may see, without texts that
// may name others.
func (c Coverage) Only() Coverage {
	if c.Response == nil {
		return c
	}
	c.Response = proto.CloneOf(c.Response)
	for _, one := range c.Response.GetCoverages() {
		for _, r := range one.GetRanges() {
			if r.GetDetail() == "" {
				continue
			}
			r.Detail = ""
			if r.GetState() == bucketv1.CoverageState_COVERAGE_STATE_REFUSED {
				r.Detail = refusedForSome
			}
		}
	}
	return c
}
