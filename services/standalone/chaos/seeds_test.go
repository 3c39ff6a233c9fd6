package chaos

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// Schedules in which something was found, cut down to what it took. Seeds are
// those of the day: they draw other schedules once the menu has changed, so the
// events are written down here.

// told is a short world in which these events happen.
func told(seed uint64, events ...event) *schedule {
	return &schedule{
		Seed: seed, Began: time.Date(2026, 5, 30, 20, 36, 43, 0, time.UTC),
		Faulty: time.Hour, Calm: 80 * time.Minute, Lookback: time.Hour, Share: .2,
		Disable: []string{"countries_1h", "content_types_1h"}, Events: events,
	}
}

// A zone was paused. What would have been its next window fell due in the past
// for ever, and the loop waited for it again and again without a pause.
func TestSeed103APausedZoneMadeTheLoopSpin(t *testing.T) {
	t.Parallel()
	run(t, told(103,
		event{At: 10 * time.Minute, Kind: zoneEvent, Zone: "late.example", Becomes: "create"},
		event{At: 20 * time.Minute, Kind: zoneEvent, Zone: "changing.example", Becomes: "pause"},
	))
}

// The leader's clock was set ahead. Until the next comparison with the
// database's, up to ten minutes, it promised completeness up to a time that had
// not come, and committed in the future.
func TestSeed1058AClockSetAheadPromisedTheFuture(t *testing.T) {
	t.Parallel()
	run(t, told(1058,
		event{At: 10 * time.Minute, Kind: zoneEvent, Zone: "late.example", Becomes: "create"},
		event{At: 32*time.Minute + 41*time.Second, For: 20 * time.Minute, Kind: jump, Target: leftCollector, Amount: 11*time.Minute + 20*time.Second},
		event{At: 55*time.Minute + 7*time.Second, For: 4 * time.Minute, Kind: jump, Target: leftCollector, Amount: -50 * time.Minute},
	))
}

// One node of one zone was half an hour late. An hour of it was first read after
// its deadline, and what the zone's other node showed was taken for proof that
// the hour was whole.
func TestSeed20251ANodeThatWasLateAlone(t *testing.T) {
	t.Parallel()
	run(t, told(20251,
		event{At: 10 * time.Minute, For: 70 * time.Minute, Kind: api, Fault: cfsim.Fault{
			Kind: cfsim.FaultZoneDelayed, Zone: cfsim.Tag("zone:blog.example"), Dataset: "httpRequests1hGroups", Delay: 27 * time.Minute,
		}},
		event{At: 23 * time.Minute, For: 20*time.Minute + 30*time.Second, Kind: storeDown},
	))
}

// The hourly node of all zones was late by a little less than its deadline. An
// hour was stored by its deadline three minutes after the next hour had its first
// rows, while its own last ones were arriving.
func TestSeed20649FirstRowsWereTakenForAllOfThem(t *testing.T) {
	t.Parallel()
	run(t, told(20649, event{At: 10 * time.Minute, For: 70 * time.Minute, Kind: api, Fault: cfsim.Fault{
		Kind: cfsim.FaultZoneDelayed, Dataset: "httpRequests1hGroups", Delay: 22*time.Minute + 30*time.Second,
	}}))
}

// An account's name had nine megabytes, once for each of its zones, and no list of
// zones could be read. The known ones went on, no new one was found, and nobody was
// told.
func TestSeed700232AListOfZonesThatIsTooLarge(t *testing.T) {
	t.Parallel()
	run(t, told(
		700232,
		event{At: 20 * time.Minute, For: 12 * time.Minute, Kind: api, Fault: cfsim.Fault{
			Kind: cfsim.FaultAccountName, Zone: cfsim.Tag("account:labs"), Odd: []string{"9MB"},
		}, Staged: true, Signals: []signal{{Code: "UPSTREAM_FAILING", About: "list of zones"}}, Quiet: overWithin},
		event{At: 20*time.Minute + time.Second, Kind: crash, Target: leftCollector, Amount: 5 * time.Second},
		event{At: 20*time.Minute + time.Second, Kind: crash, Target: rightCollector, Amount: 5 * time.Second},
	))
}

// The tokens of two credentials change places. Each collector keeps those that it has, so
// nothing is late; one that begins then has them the other way round, and moves the zones
// to whoever sees them, also back.
func TestTokensOfTwoCredentialsChangePlaces(t *testing.T) {
	t.Parallel()
	for _, overlap := range []bool{false, true} {
		s := told(
			2700000,
			event{At: 15 * time.Minute, For: 25 * time.Minute, Kind: badToken, Becomes: swapped},
			event{At: 20 * time.Minute, Kind: crash, Target: leftCollector, Amount: 5 * time.Second},
			event{At: 25 * time.Minute, Kind: crash, Target: rightCollector, Amount: 5 * time.Second},
			event{At: 50 * time.Minute, Kind: crash, Target: leftCollector, Amount: 5 * time.Second},
		)
		s.Several, s.Overlap, s.Workers = true, overlap, true
		run(t, s)
	}
}

// Requests of one credential hung until the client gave up, and that was no outage of it
// where there are several: failures in a row were counted in one pass, and a pass ended
// after the first. What belongs to the other credential waited for each of them.
func TestSeed2700003OneCredentialHangs(t *testing.T) {
	t.Parallel()
	s := told(2700003, event{
		At: 20 * time.Minute, For: 28 * time.Minute, Kind: api,
		Fault:  cfsim.Fault{Kind: cfsim.FaultSlow, Token: tokenID(retail), Delay: time.Minute},
		Staged: true, Signals: []signal{{Code: anyGap, About: "shop.example"}, {Code: "UPSTREAM_FAILING", About: retail}}, Quiet: overWithin,
	}, event{At: 30 * time.Minute, Kind: zoneEvent, Zone: "changing.example", Becomes: "move"})
	s.Several, s.Workers = true, true
	run(t, s)
}

// Accounts were listed every five minutes while their list was refused. Where others use up
// the user's limit of calls, each attempt blocked the user for five minutes, and nothing
// was collected for ever.
func TestSeed2700017TheListOfAccountsBlocksTheUser(t *testing.T) {
	t.Parallel()
	s := told(2700017, event{At: 20 * time.Minute, Kind: crash, Target: leftCollector, Amount: 5 * time.Second})
	s.Limits.RESTCalls, s.Workers, s.Calm = 1, true, 150*time.Minute
	s.Refusing = []signal{{Code: "UPSTREAM_FAILING", About: "list of accounts"}}
	run(t, s)
}
