package poll

import (
	"context"
	"fmt"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// AcceptGaps is the request to give up missing windows.
type AcceptGaps struct {
	Selection
	Asked
	DryRun bool
}

// Accepted is what was accepted, or would be.
type Accepted struct {
	Gaps     []coverage.Open
	Revision bucket.Revision // of the audit event; 0 for a dry run
}

// AcceptGaps gives up the missing windows of a selection: they are no longer requested, and
// no longer counted as missing. Windows that wait for confirmation are not missing. The
// decision cannot be undone.
func (p *Poller) AcceptGaps(ctx context.Context, req AcceptGaps) (Accepted, error) {
	return answer(ctx, &p.reception, func(ctx context.Context, s *state) (Accepted, error) { return s.acceptGaps(ctx, req) })
}

func (s *state) acceptGaps(ctx context.Context, req AcceptGaps) (Accepted, error) {
	now, err := s.now(ctx)
	if err != nil {
		return Accepted{}, err
	}
	event := req.event(bucketv1.AuditEvent_ACTION_GAPS_ACCEPTED, req.Asked)
	gaps, err := s.acceptable(now, &req.Selection)
	if err != nil && !req.DryRun {
		err = s.writer.refused(ctx, event, err)
	}
	if err != nil || req.DryRun {
		return Accepted{Gaps: gaps}, err
	}
	batch, decided := store.Batch{}, map[ledger.Series]*ledger.Decision{}
	windows := 0
	for _, g := range gaps {
		of := ledger.Series{Dataset: g.Dataset, Scope: g.Scope}
		payload, err := wire.EncodeGapDecision(&bucketv1.GapDecision{
			Kind: bucketv1.GapDecision_KIND_ACCEPTED, Dataset: g.Dataset, Scope: wire.ProtoScope(g.Scope),
			StartUnixSeconds: int64(g.Start), EndUnixSeconds: int64(g.End), Reason: g.Reason.Proto(), Actor: req.Requester, Comment: req.Reason,
		})
		if err != nil {
			return Accepted{}, refuse(Malformed, "%v", err)
		}
		batch.Entries = append(batch.Entries, store.NewEntry{
			Kind: bucket.KindGapDecision, Key: bucket.Key{Dataset: g.Dataset, Scope: g.Scope, Start: g.Start}, End: g.End, Payload: payload,
		})
		if decided[of] == nil {
			decided[of] = s.books.coverage.Decided[of]
		}
		decided[of] = decided[of].Decide(of, ledger.Decided{Window: g.Window, Accepted: true, Reason: g.Reason}, s.books.coverage.Keep)
		windows += g.Windows()
	}
	for _, d := range decided {
		batch.Records = append(batch.Records, d.Record())
	}
	event.Before, event.After = gapsText(gaps), fmt.Sprintf("accepted: %d windows in %d ranges", windows, len(gaps))
	revision, err := s.writer.commitAudited(ctx, batch, event)
	if err != nil {
		return Accepted{}, err
	}
	for of, d := range decided {
		s.books.coverage.Decided[of] = d
	}
	for _, g := range gaps {
		for start := g.Start; start < g.End; start = start.Add(g.Size) {
			s.faults.accepted(ledger.Series{Dataset: g.Dataset, Scope: g.Scope}, start)
		}
		s.metrics.accepted.WithLabelValues(g.Dataset).Add(float64(g.Windows()))
	}
	s.changed = true
	s.log.Info("gaps accepted", "windows", windows, "ranges", len(gaps), "requester", req.Requester, "reason", req.Reason, "revision", revision)
	return Accepted{Gaps: gaps, Revision: revision}, nil
}

// acceptable is what of a selection is missing.
func (s *state) acceptable(now bucket.Time, sel *Selection) (out []coverage.Open, err error) {
	var waiting, accepted, lost int
	for _, c := range sel.claims(s.books.claims(now)) {
		for _, o := range s.books.coverage.View(c, now).Open(sel.Window, true) {
			switch o.State {
			case coverage.Waiting:
				waiting += o.Windows()
			case coverage.Accepted:
				accepted += o.Windows()
			case coverage.Lost:
				lost += o.Windows()
			default:
				out = append(out, o)
			}
		}
	}
	switch {
	case len(out) == 0:
		text := "nothing of the selection is missing"
		for _, other := range []struct {
			windows int
			are     string
		}{{waiting, "wait for confirmation and become final by themselves"}, {accepted, "were accepted before"}, {lost, "are lost, which needs no decision"}} {
			if other.windows > 0 {
				text += fmt.Sprintf("; %d windows %s", other.windows, other.are)
			}
		}
		return nil, refuse(Refused, "%s", text)
	case len(out) >= most:
		return nil, refuse(Refused, "the selection has %d ranges of missing windows; at most %d can be accepted at once: select less", len(out), most-1)
	}
	return out, nil
}

// gapsText lists gaps for people, as far as an audit event has room.
func gapsText(gaps []coverage.Open) string {
	var b strings.Builder
	for i := range gaps {
		g := &gaps[i]
		if b.Len() > wire.MaxAuditText {
			break // it is cut
		}
		fmt.Fprintf(&b, "%s %s %s: missing, %s, %d windows\n", g.Dataset, g.Name, g.Window, g.Reason, g.Windows())
	}
	return auditText(strings.TrimSuffix(b.String(), "\n"))
}
