package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/wire"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/standalone/internal/leader"
)

// Operators ask for history, accept gaps and restate, also while faults are on. Whatever
// becomes of their requests, each leaves what G11 says: one audit event, also if it is
// refused, and nothing without one.

// operate is a request of an operator; its Call is which.
const operate kind = "operator"

const (
	operator   = "ada"
	adminToken = "operators-only-0123456789abcdef"
	// patience is how long an operator waits for an answer.
	patience = 10 * time.Minute
)

// calls are the requests, as often as they are likely.
var calls = []string{"backfill", "backfill", "backfill", "pause", "resume", "cancel", "accept", "accept", "accept", "restate", "restate"}

// operators draws some requests. Their ranges are Nth windows of five minutes that end
// Amount ago. What is read for them is old enough not to be taken for live work.
func (d dice) operators(s *schedule) {
	for range 3 + d.IntN(8) {
		e := event{At: d.between(15*time.Minute, s.Faulty), Kind: operate, Call: d.one(calls...), Amount: d.between(time.Hour, 2*time.Hour), Nth: 1 + d.IntN(36)}
		switch e.Call {
		case "backfill": // around the start of the zones
			e.Zone, e.Amount = d.one(zoneNames[:4]...), e.At+s.Lookback+d.between(-time.Hour, 2*time.Hour)
			if d.chance(.4) {
				e.Zone = silent
			}
			for at := e.At; d.chance(.6); { // soon, or it is done
				at += d.skewed(time.Second, 20*time.Minute)
				s.Events = append(s.Events, event{At: at, Kind: operate, Call: d.one("pause", "pause", "resume", "cancel"), Nth: newest})
			}
		case "accept":
			e.Zone, e.Amount = d.one(zoneNames[:4]...), d.between(10*time.Minute, time.Hour)
		}
		s.Events = append(s.Events, e)
	}
}

// silent is a zone without traffic: its windows wait for longer than a world lasts until
// their emptiness is believed, and a backfill of them with them.
const silent = "quiet.example"

// newest, as the Nth of the backfills, is the one that was created last.
const newest = -1

// request is one request of an operator and what became of it.
type request struct {
	event
	reason string // no two are alike
	of     bucket.Window

	ended    bool
	err      error
	id       string // of the backfill
	revision uint64 // of the audit event, as the answer has it
	restated int    // windows, as the answer has them
}

// outcome is the class of what became of a request.
type outcome string

const (
	done    outcome = "done"
	refused outcome = "refused"
	never   outcome = "not carried out" // malformed, or nobody leads
	unknown outcome = "unknown"
)

func outcomeOf(err error) outcome {
	switch client.Reason(err) {
	case "NOT_LEADER", "DRAINING", "BAD_REQUEST":
		return never
	case "REFUSED", "NOT_FOUND", "TOO_MANY_JOBS":
		return refused
	}
	if err == nil {
		return done
	}
	return unknown
}

func (q *request) outcome() outcome { return outcomeOf(q.err) }

// desk is where the requests of a world are kept.
type desk struct {
	mu       sync.Mutex
	requests []*request
}

// operates sends a request, and does not wait for it.
func (w *world) operates(e event) {
	w.desk.mu.Lock()
	defer w.desk.mu.Unlock()
	end := bucket.TimeOf(time.Now().Add(-e.Amount)).Floor(5 * time.Minute)
	q := &request{event: e, reason: fmt.Sprintf("request %d", len(w.desk.requests)+1), of: bucket.Window{Start: end.Add(-time.Duration(e.Nth) * 5 * time.Minute), End: end}}
	var backfills []string
	for _, earlier := range w.desk.requests {
		if earlier.id != "" && !slices.Contains(backfills, earlier.id) {
			backfills = append(backfills, earlier.id)
		}
	}
	switch e.Call {
	case "pause", "resume", "cancel":
		if q.id = "nobody's"; len(backfills) > 0 {
			q.id = backfills[(e.Nth+len(backfills))%len(backfills)]
		}
	}
	w.desk.requests = append(w.desk.requests, q)
	w.lives.Go(func() {
		id, revision, restated, err := w.ask(q)
		if e.Call == "backfill" && outcomeOf(err) == unknown {
			// Whoever does not know runs the same command again.
			id, revision, restated, err = w.ask(q)
		}
		w.desk.mu.Lock()
		defer w.desk.mu.Unlock()
		q.ended, q.err, q.revision, q.restated = true, err, revision, restated
		if id != "" {
			q.id = id
		}
	})
}

// ask sends a request to the collector that leads, as the commands do.
func (w *world) ask(q *request) (id string, revision uint64, restated int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := w.dial(nil)
	if err != nil {
		return "", 0, 0, err
	}
	defer conn.Close()
	rpc := adminv1.NewAdminServiceClient(conn)
	filter := &bucketv1.Filter{Datasets: []string{"http_5m"}}
	if q.Zone != "" {
		filter.Zones = []string{q.Zone}
	}
	sel := &adminv1.Selection{Filter: filter, StartUnixSeconds: int64(q.of.Start), EndUnixSeconds: int64(q.of.End)}
	switch q.Call {
	case "backfill":
		got, err := asked(ctx, &adminv1.CreateBackfillRequest{Selection: sel, Reason: q.reason, Requester: operator, IdempotencyKey: q.reason}, rpc.CreateBackfill)
		return got.GetBackfill().GetId(), 0, 0, err
	case "pause":
		_, err = asked(ctx, &adminv1.PauseBackfillRequest{Id: q.id, Reason: q.reason, Requester: operator}, rpc.PauseBackfill)
	case "resume":
		_, err = asked(ctx, &adminv1.ResumeBackfillRequest{Id: q.id, Reason: q.reason, Requester: operator}, rpc.ResumeBackfill)
	case "cancel":
		_, err = asked(ctx, &adminv1.CancelBackfillRequest{Id: q.id, Reason: q.reason, Requester: operator}, rpc.CancelBackfill)
	case "accept":
		got, err := asked(ctx, &adminv1.AcceptGapsRequest{Selection: sel, Reason: q.reason, Requester: operator}, rpc.AcceptGaps)
		return "", got.GetRevision(), 0, err
	case "restate":
		got, err := asked(ctx, &adminv1.RestateRequest{Selection: sel, Reason: q.reason, Requester: operator}, rpc.Restate)
		for _, window := range got.GetWindows() {
			if window.GetOutcome() == adminv1.RestatedWindow_OUTCOME_RESTATED {
				restated++
			}
		}
		return "", got.GetRevision(), restated, err
	}
	return "", 0, 0, err
}

func asked[Q, A any](ctx context.Context, req Q, do func(context.Context, Q, ...grpc.CallOption) (A, error)) (A, error) {
	return leader.Call(ctx, clock.System(), false, nil, req, func(ctx context.Context, req Q) (A, error) { return do(bearer(ctx), req) })
}

// bearer adds the token of admin access to a call.
func bearer(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+adminToken)
}

// checkRequests: each request that was carried out or refused has one audit event, what is
// not known has one or none, and everything else none; nothing was accepted, restated or
// brought without one (G11).
func (w *world) checkRequests(ctx context.Context) {
	w.desk.mu.Lock()
	defer w.desk.mu.Unlock()
	m := w.prometheus.mirror
	known := map[string]*request{}
	for _, q := range w.desk.requests {
		known[q.reason] = q
		what := fmt.Sprintf("%s of an operator (%s, %s %s %v)", q.Call, q.reason, q.Zone, q.of, q.err)
		if !q.ended {
			w.report("%s has not ended", what)
			continue
		}
		events := m.audited[q.reason]
		w.tally.request(q.Call, q.outcome())
		switch n := len(events); {
		case q.outcome() == never && n > 0, n > 1:
			w.report("%s: %s, and has %d audit events", what, q.outcome(), n)
		case q.outcome() == done && n == 0 && !q.wasSo(m):
			w.report("%s is done, and has no audit event", what)
		case q.outcome() == refused && (n == 0 || events[0].GetRefused() == ""):
			w.report("%s is refused, and has the audit events %v", what, events)
		case q.outcome() == done && n == 1 && events[0].GetRefused() != "":
			w.report("%s is done, and its audit event says that it is refused: %v", what, events[0])
		case n == 1 && (events[0].GetActor() != operator || events[0].GetAction() != actions[q.Call]):
			w.report("%s has another's audit event: %v", what, events[0])
		}
		if q.revision != 0 && m.auditedAt[q.reason] != bucket.Revision(q.revision) {
			w.report("%s: the answer names the audit event %d, the log has %d", what, q.revision, m.auditedAt[q.reason])
		}
		if got := m.restatedFor[q.reason]; q.outcome() == done && got != q.restated {
			w.report("%s: the answer has %d restated windows, the log %d", what, q.restated, got)
		}
	}
	carriedOut := func(reason, action string) bool {
		events := m.audited[reason]
		return known[reason] != nil && known[reason].Call == action && len(events) == 1 && events[0].GetRefused() == ""
	}
	for reason := range m.restatedFor {
		if !carriedOut(reason, "restate") {
			w.report("windows are restated for %q, of which no audit event tells", reason)
		}
	}
	for _, d := range m.accepted {
		if !carriedOut(d.GetComment(), "accept") {
			w.report("a gap is accepted, of which no audit event tells: %v", d)
		}
	}
	w.checkBackfills(ctx)
	for _, name := range collectors {
		w.checkRestated(ctx, name)
	}
}

var actions = map[string]bucketv1.AuditEvent_Action{
	"backfill": bucketv1.AuditEvent_ACTION_BACKFILL_CREATED, "pause": bucketv1.AuditEvent_ACTION_BACKFILL_PAUSED, "resume": bucketv1.AuditEvent_ACTION_BACKFILL_RESUMED,
	"cancel": bucketv1.AuditEvent_ACTION_BACKFILL_CANCELLED, "accept": bucketv1.AuditEvent_ACTION_GAPS_ACCEPTED, "restate": bucketv1.AuditEvent_ACTION_RESTATED,
}

// wasSo reports whether a request asked for what was so already, which changes nothing: to
// resume what nobody has paused, or another request had asked for the same.
func (q *request) wasSo(m *mirror) bool {
	if q.Call == "resume" {
		return true
	}
	for reason, events := range m.audited {
		for _, e := range events {
			if reason != q.reason && e.GetBackfillId() == q.id && q.id != "" && e.GetAction() == actions[q.Call] && e.GetRefused() == "" {
				return true
			}
		}
	}
	return false
}

// checkBackfills: each backfill has ended, with one event, or was paused; its report has each
// window once; and what only a backfill wants was asked for by one.
func (w *world) checkBackfills(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	m := w.prometheus.mirror
	conn, err := w.connect(rightCollector)
	if err != nil {
		w.report("%v", err)
		return
	}
	defer conn.Close()
	list, err := adminv1.NewAdminServiceClient(conn).ListBackfills(bearer(ctx), &adminv1.ListBackfillsRequest{})
	if err != nil {
		w.report("list the backfills: %v", err)
		return
	}
	created := 0
	for _, events := range m.audited {
		for _, e := range events {
			if e.GetAction() == bucketv1.AuditEvent_ACTION_BACKFILL_CREATED && e.GetRefused() == "" {
				created++
			}
		}
	}
	if len(list.GetBackfills()) != created {
		w.report("there are %d backfills; audit events tell of %d", len(list.GetBackfills()), created)
	}
	for _, b := range list.GetBackfills() {
		n, ends := b.GetWindows(), m.backfillsDone[b.GetId()]
		w.tally.filled += n.GetFilled()
		if n.GetTotal() != n.GetPresent()+n.GetFilled()+n.GetMissing()+n.GetRefused()+n.GetLost() {
			w.report("the report of a backfill does not add up: %v", b)
		}
		switch b.GetState() {
		case adminv1.BackfillState_BACKFILL_STATE_DONE:
			if ends != 1 || n.GetMissing() > 0 || n.GetRefused()+n.GetLost() > 0 {
				w.report("a backfill is done, with %d events of its end: %v", ends, b)
			}
			continue
		case adminv1.BackfillState_BACKFILL_STATE_RUNNING:
			if !w.Starved && b.GetSelection().GetFilter().GetZones()[0] != silent {
				w.report("a backfill is not done at the end: %v", b)
			}
		default:
		}
		if ends != 0 {
			w.report("a backfill has %d events of its end: %v", ends, b)
		}
	}
	for _, s := range m.buckets {
		if s.Origin == bucket.Backfill && !slices.ContainsFunc(w.desk.requests, func(q *request) bool {
			return q.Call == "backfill" && q.of.Start <= s.Start && s.Window().End <= q.of.End && zonesByID()[s.Scope.ID] == q.Zone && len(m.audited[q.reason]) == 1
		}) {
			w.report("bucket %s is of a backfill, and nobody asked for it", s.Key)
		}
	}
}

// waits reports whether a backfill waits for a zone to be believed silent.
func (w *world) waits(id string) bool {
	w.desk.mu.Lock()
	defer w.desk.mu.Unlock()
	return slices.ContainsFunc(w.desk.requests, func(q *request) bool { return q.id == id && q.Call == "backfill" && q.Zone == silent })
}

// checkRestated: lists have what was stored first, and lists as restated the newest
// restatement of what has one.
func (w *world) checkRestated(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	m := w.prometheus.mirror
	conn, err := w.connect(name)
	if err != nil {
		w.report("%v", err)
		return
	}
	defer conn.Close()
	for _, restated := range []bool{false, true} {
		stream, err := bucketv1.NewBucketServiceClient(conn).ListBuckets(ctx, &bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: time.Now().Unix(), AsRestated: restated})
		if err != nil {
			w.report("list of %s: %v", name, err)
			return
		}
		at := map[bucket.Revision]bool{}
		for {
			answer, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				w.report("list of %s: %v", name, err)
				return
			}
			at[bucket.Revision(answer.GetEntry().GetRevision())] = true
		}
		for _, s := range m.buckets {
			want := s.revision
			if newest := m.restated[s.Key]; restated && newest != 0 {
				want = newest
				w.tally.restated++
			}
			if !at[want] {
				w.report("%s lists %s (as restated: %t) and not revision %d of it", name, s.Key, restated, want)
			}
		}
	}
}

// accepts reports whether a range that is told to be accepted is one that was.
func (m *mirror) accepts(dataset, zone string, start, end int64) bool {
	for at := start; at < end; {
		next := at
		for _, d := range m.accepted {
			if d.GetDataset() == dataset && zonesByID()[d.GetScope().GetId()] == zone && d.GetStartUnixSeconds() <= at && d.GetEndUnixSeconds() > next {
				next = d.GetEndUnixSeconds()
			}
		}
		if next == at {
			return false
		}
		at = next
	}
	return true
}

// told takes in an entry that an operator's request has left.
func (m *mirror) told(rev bucket.Revision, kind bucket.Kind, payload []byte) error {
	switch kind {
	case bucket.KindAudit:
		e, err := wire.AuditEvent(payload)
		if err != nil {
			return err
		}
		if e.GetAction() == bucketv1.AuditEvent_ACTION_BACKFILL_DONE {
			m.backfillsDone[e.GetBackfillId()]++
			return nil
		}
		m.audited[e.GetReason()], m.auditedAt[e.GetReason()] = append(m.audited[e.GetReason()], e), rev
	case bucket.KindGapDecision:
		d := new(bucketv1.GapDecision)
		if err := proto.Unmarshal(payload, d); err != nil {
			return err
		}
		if d.GetKind() == bucketv1.GapDecision_KIND_ACCEPTED {
			m.accepted = append(m.accepted, d)
		}
	case bucket.KindRestatement:
		r := new(bucketv1.Restatement)
		if err := proto.Unmarshal(payload, r); err != nil {
			return err
		}
		b, err := wire.DecodeRestatement(payload)
		if err != nil {
			return err
		}
		if _, unreadable := m.w.unreadable.windows[b.Key]; m.byKey[b.Key] == nil && !unreadable {
			return fmt.Errorf("%s is restated, and was never stored", b.Key)
		}
		m.restated[b.Key] = rev
		m.restatedFor[r.GetReason()]++
	default: // states are not written
	}
	return nil
}
