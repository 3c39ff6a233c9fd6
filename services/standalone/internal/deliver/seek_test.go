package deliver

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func zoneNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("zone-%03d", i))
	}
	return names
}

// Right after a start, when nothing has been taken yet, samples that a receiver rejects for a reason
// that is not known do not hold up the others, wherever they are and with every protocol; and
// nothing is sent again that was taken, where that would count twice.
func TestUnknownRejectionsAtTheStart(t *testing.T) {
	for name, poison := range map[string]func(i int) bool{
		"the first half":   func(i int) bool { return i < 60 },
		"the second half":  func(i int) bool { return i >= 60 },
		"all but one part": func(i int) bool { return i < 50 || i >= 60 },
		"every other":      func(i int) bool { return i%2 == 0 },
		"one":              func(i int) bool { return i == 77 },
	} {
		for _, control := range []bool{true, false} {
			want := map[string]bool{}
			for i, zone := range zoneNames(120) {
				want[zone] = poison(i)
			}
			j := &judged{refuse: func(zone string, _ Sample) string {
				if want[zone] {
					return "label value is not allowed"
				}
				return ""
			}}
			d := j.divider()
			d.Control = control
			if err := d.Deliver(t.Context(), some(1, zoneNames(120)...)); err != nil {
				t.Errorf("%s, control %t: %v", name, control, err)
			}
			refused := 0
			for zone, is := range want {
				if is {
					refused++
				}
				if n := len(j.taken[zone]); is && n != 0 || !is && (n == 0 || !control && n > 1) {
					t.Errorf("%s, control %t: the sample of %s was taken %d times", name, control, zone, n)
				}
			}
			if len(j.refused) != refused {
				t.Errorf("%s, control %t: %d samples were refused, want %d", name, control, len(j.refused), refused)
			}
		}
	}
}

// A receiver that rejects everything for an unknown reason, and then recovers or breaks in the
// middle of a division, has said nothing about samples.
func TestUnknownRejectionsOfAReceiverThatChanges(t *testing.T) {
	for broken := range 90 {
		j := &judged{refuse: func(string, Sample) string { return "" }}
		d := j.divider()
		send := d.Send
		d.Send = func(ctx context.Context, series []Series) error {
			if j.requests < broken {
				j.requests++
				return &RejectedError{Status: 400, Text: "no such tenant"}
			}
			return send(ctx, series)
		}
		if err := d.Deliver(t.Context(), some(1, zoneNames(120)...)); len(j.refused) > 0 || err != nil && !errors.Is(err, ErrEverything) {
			t.Errorf("rejecting the first %d requests: %v, refused %v", broken, err, j.refused)
		}
	}
	for works := 1; works < 20; works++ {
		j := &judged{refuse: func(zone string, _ Sample) string {
			if zone == "zone-003" {
				return "label value is not allowed"
			}
			return ""
		}}
		d := j.divider()
		send := d.Send
		d.Send = func(ctx context.Context, series []Series) error {
			if j.requests >= works {
				j.requests++
				return &RejectedError{Status: 400, Text: "no such tenant"}
			}
			return send(ctx, series)
		}
		err := d.Deliver(t.Context(), some(1, zoneNames(120)...))
		if wrong := len(j.refused) > 1 || len(j.refused) == 1 && j.refused[0][:8] != "zone-003"; wrong && !errors.Is(err, ErrEverything) {
			t.Errorf("rejecting all after %d requests: %v, refused %v", works, err, j.refused)
		}
	}
}
