package adminsvc_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/adminsvc"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
)

var (
	shop     = bucket.Scope{Kind: bucket.Zone, ID: "0000000000000000000000000000000a"}
	renamed  = bucket.Scope{Kind: bucket.Zone, ID: "0000000000000000000000000000000b"}
	acme     = bucket.Scope{Kind: bucket.Account, ID: "0000000000000000000000000000000c"}
	stranger = bucket.Scope{Kind: bucket.Zone, ID: "0000000000000000000000000000000d"}
)

// world is what the service is given: the facts of a store, and a loop that notes what it
// was asked.
type world struct {
	accepted []poll.AcceptGaps
	restated []poll.Restate
	listed   []store.Filter
	open     []coverage.Open
	err      error
}

func (w *world) AcceptGaps(_ context.Context, req poll.AcceptGaps) (poll.Accepted, error) {
	w.accepted = append(w.accepted, req)
	return poll.Accepted{Gaps: w.open, Revision: 7}, w.err
}

func (w *world) Restate(ctx context.Context, req poll.Restate) (poll.Restated, error) {
	w.restated = append(w.restated, req)
	if req.DryRun { // one that lasts until it is told to stop
		<-ctx.Done()
		return poll.Restated{}, context.Cause(ctx)
	}
	return poll.Restated{Revision: 8, Windows: []poll.RestatedWindow{
		{Key: bucket.Key{Dataset: "http_5m", Scope: shop, Start: 300}, End: 600, Name: "shop.example", Outcome: poll.OutcomeRestated, Before: map[string]float64{"f": 1}, After: map[string]float64{"f": 2}},
		{Key: bucket.Key{Dataset: "http_5m", Scope: shop, Start: 600}, End: 900, Outcome: poll.OutcomeFailed, Detail: "no rows"},
	}}, w.err
}

func (w *world) Scopes(context.Context) ([]*bucketv1.ScopeInfo, error) {
	return []*bucketv1.ScopeInfo{
		{Scope: wire.ProtoScope(shop), Name: "shop.example", ZoneLabel: "shop.example"},
		{Scope: wire.ProtoScope(renamed), Name: "shop.example", ZoneLabel: "shop.example#0000000b"},
		{Scope: wire.ProtoScope(acme), Name: "Acme"},
	}, nil
}

func (w *world) Open(_ context.Context, f store.Filter, _ bucket.Window, _ bool) ([]coverage.Open, error) {
	w.listed = append(w.listed, f)
	return w.open, w.err
}

// noBackfills panics in all methods but those that a test here calls.
type noBackfills struct{ adminsvc.Backfills }

func (noBackfills) WatchBackfill(ctx context.Context, _ *adminv1.WatchBackfillRequest, send func(*adminv1.WatchBackfillResponse) error) error {
	if err := send(&adminv1.WatchBackfillResponse{}); err != nil {
		return err
	}
	<-ctx.Done() // one that never ends
	return context.Cause(ctx)
}

func (noBackfills) CancelBackfill(context.Context, *adminv1.CancelBackfillRequest) (*adminv1.CancelBackfillResponse, error) {
	return &adminv1.CancelBackfillResponse{}, nil
}

func newService(t *testing.T, w *world) (*adminsvc.Server, store.Store) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	service, err := adminsvc.New(adminsvc.Config{Store: s, Leader: w, Status: w, Backfills: noBackfills{}, Datasets: []string{"http_5m", "uniques_1h"}, Logger: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	return service, s
}

func accept(sel *adminv1.Selection) *adminv1.AcceptGapsRequest {
	return &adminv1.AcceptGapsRequest{Selection: sel, Reason: "why", Requester: "ada"}
}

// What a request names must be known, so that a typing error selects nothing by mistake;
// the leader is not asked about a request that is malformed.
func TestSelections(t *testing.T) {
	w := &world{}
	service, _ := newService(t, w)
	whole := func(f *bucketv1.Filter) *adminv1.Selection {
		return &adminv1.Selection{Filter: f, StartUnixSeconds: 300, EndUnixSeconds: 900}
	}
	for name, req := range map[string]*adminv1.AcceptGapsRequest{
		"selection is missing":                                  accept(nil),
		"selection.start_unix_seconds is 0":                     accept(&adminv1.Selection{EndUnixSeconds: 900}),
		"selection.end_unix_seconds 0":                          accept(&adminv1.Selection{StartUnixSeconds: 300}),
		"must be greater than start_unix_seconds, 900":          accept(&adminv1.Selection{StartUnixSeconds: 900, EndUnixSeconds: 900}),
		"selection.start_unix_seconds is -1":                    accept(&adminv1.Selection{StartUnixSeconds: -1, EndUnixSeconds: 900}),
		"datasets[0] is \"htpp_5m\"; the collector has http_5m": accept(whole(&bucketv1.Filter{Datasets: []string{"htpp_5m"}})),
		"zones[0] is \"shoop.example\"":                         accept(whole(&bucketv1.Filter{Zones: []string{"shoop.example"}})),
		"the collector does not know it":                        accept(whole(&bucketv1.Filter{Scopes: []*bucketv1.Scope{wire.ProtoScope(stranger)}})),
		"scopes[0]: ":                                           accept(whole(&bucketv1.Filter{Scopes: []*bucketv1.Scope{{Kind: 9, Id: shop.ID}}})),
		"datasets has 1001 elements":                            accept(whole(&bucketv1.Filter{Datasets: make([]string, 1001)})),
		"requester is empty":                                    {Selection: whole(nil), Reason: "why"},
		"reason is empty":                                       {Selection: whole(nil), Requester: "ada", Reason: " "},
		"reason is \"two\\nlines\"":                             {Selection: whole(nil), Requester: "ada", Reason: "two\nlines"},
		"reason has 501 bytes":                                  {Selection: whole(nil), Requester: "ada", Reason: strings.Repeat("a", 501)},
		"requester has 101 bytes":                               {Selection: whole(nil), Requester: strings.Repeat("a", 101), Reason: "why"},
	} {
		_, err := service.AcceptGaps(t.Context(), req)
		if status.Code(err) != codes.InvalidArgument || client.Reason(err) != "BAD_REQUEST" || !strings.Contains(status.Convert(err).Message(), name) {
			t.Errorf("%v; want BAD_REQUEST with %q", err, name)
		}
	}
	if len(w.accepted) > 0 {
		t.Errorf("the leader was asked: %+v", w.accepted)
	}
	for name, c := range map[string]struct {
		filter *bucketv1.Filter
		want   []bucket.Scope
	}{
		"everything":           {nil, nil},
		"a name of two zones":  {&bucketv1.Filter{Zones: []string{"shop.example"}}, []bucket.Scope{shop, renamed}},
		"a label":              {&bucketv1.Filter{Zones: []string{"shop.example#0000000b"}}, []bucket.Scope{renamed}},
		"an account":           {&bucketv1.Filter{Scopes: []*bucketv1.Scope{wire.ProtoScope(acme)}}, []bucket.Scope{acme}},
		"the same in two ways": {&bucketv1.Filter{Scopes: []*bucketv1.Scope{wire.ProtoScope(shop)}, Zones: []string{"shop.example"}}, []bucket.Scope{shop, renamed}},
	} {
		w.accepted = nil
		if _, err := service.AcceptGaps(t.Context(), accept(whole(c.filter))); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := w.accepted[0]
		if !slices.Equal(got.Scopes, c.want) || got.Window != (bucket.Window{Start: 300, End: 900}) || got.Requester != "ada" || got.Reason != "why" {
			t.Errorf("%s: %+v, want the scopes %v", name, got, c.want)
		}
	}
	// "No gaps" of what does not exist would be taken for good news.
	for name, f := range map[string]*bucketv1.Filter{
		"filter.zones[0] is \"shoop.example\"; the collector has no zone of that name": {Zones: []string{"shoop.example"}},
		"filter.datasets[0] is \"http_5\"; the collector has http_5m":                  {Datasets: []string{"http_5"}},
		"filter.scopes[0] is zone " + stranger.ID:                                      {Scopes: []*bucketv1.Scope{wire.ProtoScope(stranger)}},
	} {
		if _, err := service.ListGaps(t.Context(), &adminv1.ListGapsRequest{Filter: f}); client.Reason(err) != "BAD_REQUEST" || !strings.Contains(err.Error(), name) {
			t.Errorf("a list of gaps: %v; want BAD_REQUEST with %q", err, name)
		}
	}
	if len(w.listed) > 0 {
		t.Errorf("listed %+v", w.listed)
	}
	if _, err := service.ListGaps(t.Context(), &adminv1.ListGapsRequest{Filter: &bucketv1.Filter{Zones: []string{"shop.example"}}}); err != nil || !slices.Equal(w.listed[0].Scopes, []bucket.Scope{shop, renamed}) {
		t.Errorf("%+v, %v", w.listed, err)
	}
}

func TestResponses(t *testing.T) {
	w := &world{open: []coverage.Open{{
		Dataset: "http_5m", Scope: shop, Name: "shop.example", Size: 5 * time.Minute,
		Range: coverage.Range{Window: bucket.Window{Start: 300, End: 900}, State: coverage.Missing, Reason: ledger.TooBig, Detail: "d", Attempts: 3, Next: 1000, LostAt: 2000},
	}}}
	service, s := newService(t, w)
	sel := &adminv1.Selection{StartUnixSeconds: 300, EndUnixSeconds: 900}
	got, err := service.AcceptGaps(t.Context(), accept(sel))
	if err != nil || got.GetRevision() != 7 || len(got.GetAccepted()) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	if g := got.GetAccepted()[0]; g.GetName() != "shop.example" || g.GetReason() != bucketv1.GapReason_GAP_REASON_TOO_BIG || g.GetAttempts() != 3 ||
		g.GetNextAttempt().GetSeconds() != 1000 || g.GetLostAt().GetSeconds() != 2000 || g.GetAccepted() || g.GetLost() || g.GetWaiting() {
		t.Errorf("%v", g)
	}
	restated, err := service.Restate(t.Context(), &adminv1.RestateRequest{Selection: sel, Reason: "why", Requester: "ada"})
	if err != nil || restated.GetRevision() != 8 || restated.GetWindows()[0].GetAfter()["f"] != 2 || restated.GetWindows()[1].GetOutcome() != adminv1.RestatedWindow_OUTCOME_FAILED {
		t.Errorf("%v, %v", restated, err)
	}
	w.open = slices.Repeat(w.open, 10_001)
	if list, err := service.ListGaps(t.Context(), &adminv1.ListGapsRequest{}); err != nil || len(list.GetGaps()) != 10_000 || !list.GetTruncated() {
		t.Errorf("%d gaps, %v; want 10,000 and truncated", len(list.GetGaps()), err)
	}

	lease, err := s.Acquire(t.Context(), "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	event := &bucketv1.AuditEvent{Action: bucketv1.AuditEvent_ACTION_RESTATED, Actor: "ada", Reason: "why"}
	payload, err := wire.EncodeAuditEvent(event)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), lease.Term, lease.Head.Position, store.Batch{CommittedAt: time.Unix(100, 0), Entries: []store.NewEntry{
		{Kind: bucket.KindAudit, Payload: payload}, {Kind: bucket.KindAudit, Payload: []byte{0x12, 0x01, 0xff}}, // not UTF-8
	}}); err != nil {
		t.Fatal(err)
	}
	events, err := service.ListAuditEvents(t.Context(), &adminv1.ListAuditEventsRequest{})
	if err != nil || len(events.GetEvents()) != 2 || events.GetEvents()[0].GetEvent() != nil || events.GetEvents()[1].GetEvent().GetActor() != "ada" || events.GetEvents()[1].GetRevision() != 1 {
		t.Errorf("%v, %v; want the event, and one without content", events, err)
	}
	if _, err := service.ListAuditEvents(t.Context(), &adminv1.ListAuditEventsRequest{Limit: 1001}); client.Reason(err) != "BAD_REQUEST" {
		t.Errorf("a limit of 1001: %v", err)
	}
	if events, err := service.ListAuditEvents(t.Context(), &adminv1.ListAuditEventsRequest{BeforeRevision: 2, Limit: 1}); err != nil || len(events.GetEvents()) != 1 || events.GetEvents()[0].GetRevision() != 1 {
		t.Errorf("before revision 2: %v, %v", events, err)
	}
}

// A server that shuts down ends what lasts, and takes nothing new.
func TestDrain(t *testing.T) {
	service, _ := newService(t, &world{})
	long := &adminv1.RestateRequest{Selection: &adminv1.Selection{StartUnixSeconds: 300, EndUnixSeconds: 900}, Reason: "why", Requester: "ada", DryRun: true}
	ended := make(chan error, 1)
	go func() {
		_, err := service.Restate(t.Context(), long)
		ended <- err
	}()
	service.Drain()
	if err := <-ended; client.Reason(err) != "DRAINING" {
		t.Errorf("a restatement under way: %v", err)
	}
	if _, err := service.ListGaps(t.Context(), &adminv1.ListGapsRequest{}); client.Reason(err) != "DRAINING" {
		t.Errorf("a new call: %v", err)
	}
	if _, err := service.GetBackfill(t.Context(), &adminv1.GetBackfillRequest{}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("another: %v", err)
	}
}

// watcher is a client's stream.
type watcher struct {
	grpc.ServerStreamingServer[adminv1.WatchBackfillResponse]
	ctx  context.Context
	sent func()
}

func (w *watcher) Context() context.Context { return w.ctx }

func (w *watcher) Send(*adminv1.WatchBackfillResponse) error {
	w.sent()
	return nil
}

// However many watch, a backfill can be cancelled and gaps be listed.
func TestWatchesTakeNoPlaceOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, _ := newService(t, &world{})
		ctx, cancel := context.WithCancel(t.Context())
		var watching atomic.Int32
		ended := make(chan error)
		for range 100 {
			go func() {
				ended <- service.WatchBackfill(&adminv1.WatchBackfillRequest{Id: "a"}, &watcher{ctx: ctx, sent: func() { watching.Add(1) }})
			}()
		}
		synctest.Wait()
		if watching.Load() < 32 {
			t.Errorf("only %d watch", watching.Load())
		}
		if _, err := service.CancelBackfill(ctx, &adminv1.CancelBackfillRequest{Id: "a"}); err != nil {
			t.Errorf("cancel while a hundred watch: %v", err)
		}
		if _, err := service.ListGaps(ctx, &adminv1.ListGapsRequest{}); err != nil {
			t.Errorf("list while a hundred watch: %v", err)
		}
		for range 100 - watching.Load() {
			if err := <-ended; client.Reason(err) != "TOO_MANY_STREAMS" {
				t.Errorf("one watcher too many: %v", err)
			}
		}
		cancel()
		for range watching.Load() {
			<-ended
		}
	})
}
