package ledger_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

const noon = bucket.Time(1_795_262_400) // 2026-11-21T12:00:00Z

var zone = bucket.Scope{Kind: bucket.Zone, ID: "0000000000000000000000000000000a"}

// gap is the i-th window after noon.
func gap(i int, reason ledger.Reason, attempts int) ledger.Gap {
	start := noon.Add(time.Duration(i) * 5 * time.Minute)
	return ledger.Gap{
		Dataset: "http_5m", Scope: zone, Window: bucket.Window{Start: start, End: start.Add(5 * time.Minute)},
		Reason: reason, Attempts: attempts, LostAt: start.Add(time.Hour),
	}
}

// joined joins gaps as the loop does, one after the other.
func joined(gaps ...ledger.Gap) (out []ledger.Gap) {
	for _, g := range gaps {
		out = ledger.Join(out, g)
	}
	return out
}

func TestNeighboursThatSayTheSameAreOneGap(t *testing.T) {
	got := joined(gap(0, ledger.Suspect, 1), gap(1, ledger.Suspect, 1), gap(2, ledger.Delayed, 1), gap(4, ledger.Delayed, 1), gap(5, ledger.Delayed, 2))
	var windows []bucket.Window
	for _, g := range got {
		windows = append(windows, g.Window)
	}
	at := func(i int) bucket.Time { return noon.Add(time.Duration(i) * 5 * time.Minute) }
	want := []bucket.Window{{Start: at(0), End: at(2)}, {Start: at(2), End: at(3)}, {Start: at(4), End: at(5)}, {Start: at(5), End: at(6)}}
	if diff := cmp.Diff(want, windows); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got[0].LostAt != gap(0, "", 0).LostAt {
		t.Error("a merged gap is not lost when its oldest window is")
	}
}

// Applying the difference to the stored records gives the wanted ledger.
func TestDiffLeadsFromOneLedgerToTheOther(t *testing.T) {
	stored := []ledger.Gap{gap(0, ledger.Suspect, 1), gap(1, ledger.Pending, 0), gap(7, ledger.TooBig, 3)}
	wanted := []ledger.Gap{gap(0, ledger.Suspect, 2), gap(2, ledger.BadAnswer, 1), gap(7, ledger.TooBig, 3)}
	records := map[string]store.Record{}
	apply := func(rs []store.Record) {
		for _, r := range rs {
			if r.Value == nil {
				delete(records, r.Key)
			} else {
				records[r.Key] = r
			}
		}
	}
	apply(ledger.Diff(nil, stored))
	change := ledger.Diff(stored, wanted)
	if len(change) != 3 {
		t.Errorf("%d records change, want 3: what stays is not written again", len(change))
	}
	apply(change)
	var back []store.Record
	for _, g := range wanted {
		for _, r := range ledger.Diff(nil, []ledger.Gap{g}) {
			back = append(back, records[r.Key])
		}
	}
	got, bad := ledger.Gaps(back)
	if bad != nil {
		t.Fatal(bad)
	}
	if diff := cmp.Diff(wanted, got); diff != "" || len(records) != len(wanted) {
		t.Errorf("%d records; (-want +got)\n%s", len(records), diff)
	}
	if got, bad := ledger.Gaps(append(back, store.Record{Key: "k", Value: []byte("nonsense")}, store.Record{Key: "k", Value: []byte("{}")})); len(bad) != 2 || len(got) != len(wanted) {
		t.Errorf("beside two broken records %d of %d are read; %v", len(got), len(wanted), bad)
	}
}

func TestDecisionsComeBack(t *testing.T) {
	d := &ledger.Decision{Dataset: "http_5m", Scope: zone, Spans: []ledger.Decided{{Window: gap(3, "", 0).Window, Reason: ledger.Suspect}}}
	descending := &ledger.Decision{Dataset: "http_1h", Scope: zone, Spans: []ledger.Decided{{Window: gap(3, "", 0).Window}, {Window: gap(1, "", 0).Window}}}
	got, bad := ledger.Decisions([]store.Record{d.Record(), {Key: "k", Value: []byte("{}")}, {Key: "k", Value: []byte("[")}, descending.Record()})
	if len(bad) != 3 {
		t.Errorf("of three broken records %d are: %v", len(bad), bad)
	}
	if diff := cmp.Diff(map[ledger.Series]*ledger.Decision{{Dataset: "http_5m", Scope: zone}: d}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Windows that are lost one after the other are one range, and what is too old
// to be wanted is forgotten: the record does not grow for ever.
func TestDecisionsStayShort(t *testing.T) {
	of := ledger.Series{Dataset: "http_5m", Scope: zone}
	lost := func(i int, reason ledger.Reason) ledger.Decided {
		return ledger.Decided{Window: gap(i, "", 0).Window, Reason: reason}
	}
	at := func(i int) bucket.Time { return gap(i, "", 0).Window.Start }
	var d *ledger.Decision
	for _, i := range []int{0, 1, 2, 9, 5} {
		d = d.Decide(of, lost(i, ledger.Suspect), 0)
	}
	before := d
	d = d.Decide(of, lost(3, ledger.Delayed), at(1))
	want := &ledger.Decision{Dataset: "http_5m", Scope: zone, Spans: []ledger.Decided{
		{Window: bucket.Window{Start: at(0), End: at(3)}, Reason: ledger.Suspect},
		lost(3, ledger.Delayed),
		lost(5, ledger.Suspect), lost(9, ledger.Suspect),
	}}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(before.Spans) != 3 {
		t.Errorf("the decision before became %v", before.Spans)
	}
	if d = d.Decide(of, lost(20, ledger.Suspect), at(6)); len(d.Spans) != 2 {
		t.Errorf("after six windows have become too old there are %v", d.Spans)
	}
}

func TestEveryReasonIsInTheContract(t *testing.T) {
	for _, r := range []ledger.Reason{
		ledger.Pending, ledger.UpstreamError, ledger.Suspect, ledger.Delayed, ledger.NotVisible, ledger.TooBig, ledger.BadAnswer, ledger.Unauthorized,
	} {
		if r.Proto() == bucketv1.GapReason_GAP_REASON_UNSPECIFIED {
			t.Errorf("%s has no value in the contract", r)
		}
	}
}

// Windows that wait to be believed each at their own time are one record, like
// windows that are lost each at their own time; one that waits no more is another.
func TestWhatWaitsIsOneRecord(t *testing.T) {
	zone := bucket.Scope{Kind: bucket.Zone, ID: "a"}
	gap := func(start, until bucket.Time) ledger.Gap {
		return ledger.Gap{
			Dataset: "http_5m", Scope: zone, Window: bucket.Window{Start: start, End: start + 300}, Reason: ledger.Suspect, LostAt: start + 86400, WaitsUntil: until,
		}
	}
	got := joined(gap(0, 0), gap(300, 900), gap(600, 1200), gap(900, 1500))
	if len(got) != 2 || got[1].Window.End != 1200 || got[1].WaitsUntil != 900 {
		t.Fatalf("%+v, want one that is missing and one of three windows that waits as long as its oldest", got)
	}
	if got[0].Waits(0) || !got[1].Waits(899) || got[1].Waits(900) {
		t.Error("a gap waits although it does not, or the other way round")
	}
	// The build before this one knows neither field and reads the rest.
	back, err := ledger.Gaps([]store.Record{{Key: "http_5m/1/a/000000000300", Value: []byte(`{"dataset":"http_5m","scope":{"kind":1,"id":"a"},"window":{"Start":300,"End":600},"reason":"suspect"}`)}})
	if err != nil || !back[0].Suspected() || back[0].Waits(0) {
		t.Errorf("a record of the build before this one: %+v (%v), want to be in doubt and not to wait", back, err)
	}
	type before struct {
		Dataset string        `json:"dataset"`
		Window  bucket.Window `json:"window"`
		Reason  ledger.Reason `json:"reason"`
	}
	var old before
	if err := json.Unmarshal(ledger.Diff(nil, got[1:])[0].Value, &old); err != nil || old.Reason != ledger.Suspect || old.Window != got[1].Window {
		t.Errorf("the build before this one reads %+v (%v)", old, err)
	}
}
