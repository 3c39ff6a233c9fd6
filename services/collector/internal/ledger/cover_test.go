package ledger_test

import (
	"slices"
	"testing"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
)

// A decision closes windows; it does not make them final.
func TestClosedLeavesWhatIsFinalAlone(t *testing.T) {
	have := bucket.Spans{{Start: 0, End: 300}, {Start: 600, End: 900}}
	before := slices.Clone(have)
	closed := ledger.Closed(have, &ledger.Decision{Spans: []ledger.Decided{{Window: bucket.Window{Start: 300, End: 600}}}}, nil)
	if !closed.Contains(bucket.Window{Start: 0, End: 900}) {
		t.Errorf("closed is %v, want everything from 0 to 900", closed)
	}
	if !slices.Equal(have, before) {
		t.Errorf("what is final became %v, was %v", have, before)
	}
}
