package standalone

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-metrics/weir/internal/bucket"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

// full is a disk without room.
type full struct{}

var errFull = errors.New("no space left on device")

func (full) Write([]byte) (int, error) { return 0, errFull }

// A result that does not arrive is an error, in either form.
func TestOutputThatIsLost(t *testing.T) {
	for _, o := range []output{asText, asJSON} {
		text := func(w io.Writer) { fmt.Fprintln(w, "12 samples") }
		if err := o.print(full{}, 12, text); !errors.Is(err, errFull) {
			t.Errorf("%s: %v", o, err)
		}
		if err := (&operator{output: o}).print(full{}, &adminv1.Backfill{}, text); !errors.Is(err, errFull) {
			t.Errorf("a message as %s: %v", o, err)
		}
	}
}

// What others wrote does not act on the terminal, and stays in its line.
func TestOutputOfOthers(t *testing.T) {
	b := backfillOf(1, adminv1.BackfillState_BACKFILL_STATE_RUNNING)
	b.Reason, b.LastError = "a \u202ereason", "Cloudflare\x1b[2J\nforged    line"
	b.Refused = []*adminv1.RefusedRange{{Dataset: "http_5m", Name: "shop.example", Detail: "\u009b2J\nforged"}}
	var text, list strings.Builder
	o := operator{output: asText}
	if err := o.print(&text, b, func(w io.Writer) { printBackfill(w, b) }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`a \u202ereason`, `last error Cloudflare\x1b[2J forged    line`, `\u009b2J forged`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s\nlacks %s", text.String(), want)
		}
	}
	b.Reason = "a\x7f\nreason"
	if err := o.print(&list, b, func(w io.Writer) { printList(w, []*adminv1.Backfill{b}) }); err != nil || strings.Count(list.String(), "\n") != 2 {
		t.Errorf("%q, %v; want two lines", list.String(), err)
	}
}

func TestDurationOfAPlan(t *testing.T) {
	var b strings.Builder
	printEstimate(&b, &adminv1.Selection{}, &adminv1.EstimateBackfillResponse{Duration: durationpb.New(2 * time.Hour)})
	if !strings.Contains(b.String(), "time      about 2h, with") {
		t.Error(b.String())
	}
}

// The list of audit events says which backfill a change was about.
func TestAuditEventsOfBackfills(t *testing.T) {
	event := func(action bucketv1.AuditEvent_Action, id, after, refused string) *adminv1.AuditRecord {
		return &adminv1.AuditRecord{Revision: 7, CommittedAt: timestamppb.New(time.Unix(0, 0)), Event: &bucketv1.AuditEvent{
			Action: action, Actor: "ada", Reason: "why", BackfillId: id, After: after, Refused: refused,
		}}
	}
	var b strings.Builder
	auditTable(&b, []*adminv1.AuditRecord{
		event(bucketv1.AuditEvent_ACTION_BACKFILL_PAUSED, "20261201-a", "paused: 5 windows", ""),
		event(bucketv1.AuditEvent_ACTION_BACKFILL_CANCELLED, "20261201-b", "", "it has ended"),
		event(bucketv1.AuditEvent_ACTION_GAPS_ACCEPTED, "", "accepted: 5 windows", ""),
	})
	for _, want := range []string{"why     20261201-a: paused: 5 windows\n", "why     20261201-b: refused: it has ended\n", "why     accepted: 5 windows\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%s\nwhich lacks %q", b.String(), want)
		}
	}
}

// A collector that is not there is named by its setting.
func TestNoCollector(t *testing.T) {
	for err, want := range map[error]string{
		status.Error(codes.Unavailable, "connection refused"): "no collector responds; WEIR_COLLECTOR_ADDRESS must name one that runs: connection refused",
		status.Error(codes.Internal, "it broke"):              "it broke",
	} {
		if got := explain(err); got.Error() != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
	addresses, away := []string{"a:1", "b:2"}, fmt.Errorf("read: %w", status.Error(codes.Unavailable, "connection refused"))
	if err := unanswered(away, addresses); !strings.HasPrefix(err.Error(), "no collector responds at a:1, b:2; WEIR_COLLECTOR_ADDRESS must name one that runs: read: ") {
		t.Errorf("the error is %v", err)
	}
	if err := unanswered(errFull, addresses); err != errFull {
		t.Errorf("another error is %v", err)
	}
}

// An export without an end is continued later: its present is that of its beginning, also if it
// is of findings of today.
func TestExportIsContinuedLater(t *testing.T) {
	for _, findings := range []string{"", "0123"} {
		o := &export.Options{Folder: t.TempDir(), PicksSum: findings}
		o.Range = bucket.Window{Start: 86400, End: 90000}
		if got := continuedEnd(o); got != 90000 {
			t.Errorf("a new export ends at %d", got)
		}
		m := &export.Manifest{Format: "weir-export-1", Start: 86400, End: 90000, MissingOnly: findings}
		if err := m.Save(o.Folder); err != nil {
			t.Fatal(err)
		}
		o.Range.End = 91000
		if got := continuedEnd(o); got != 90000 {
			t.Errorf("findings %q: continued later it ends at %d, want 90000", findings, got)
		}
		o.PicksSum += "other"
		if got := continuedEnd(o); got != 91000 {
			t.Errorf("that of other findings ends at %d", got)
		}
	}
}
