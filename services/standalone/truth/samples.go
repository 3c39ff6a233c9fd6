package truth

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// Point is one sample's identity: series and time.
type Point struct {
	Series string // family{zone,account,label value}
	At     int64  // milliseconds
}

// Of is the point of a series at the end of a window, less a millisecond.
func Of(family, zone, account, label string, end time.Time) Point {
	return Point{fmt.Sprintf("%s{%s,%s,%s}", family, zone, account, label), end.UnixMilli() - 1}
}

// String implements fmt.Stringer.
func (p Point) String() string {
	return p.Series + " at " + time.UnixMilli(p.At).UTC().Format("2006-01-02T15:04:05.000Z")
}

// End is the end of the point's window.
func (p Point) End() time.Time { return time.UnixMilli(p.At + 1) }

// Family is the name of the point's family.
func (p Point) Family() string {
	name, _, _ := strings.Cut(p.Series, "{")
	return name
}

// Labels are zone, account and, of a breakdown, the label's value.
func (p Point) Labels() (zone, account, label string) {
	_, rest, _ := strings.Cut(p.Series, "{")
	zone, rest, _ = strings.Cut(strings.TrimSuffix(rest, "}"), ",")
	account, label, _ = strings.Cut(rest, ",")
	return zone, account, label
}

// Zone is what must be held of one zone.
type Zone struct {
	cfsim.Zone
	AccountName string
	// From is when its history may begin, and Must is when it has to;
	// aligned down to each bucket size.
	From, Must time.Time
}

// Samples are those that may be held, and which of them must be.
type Samples struct {
	May  map[Point]float64
	Must map[Point]bool
}

// Expected is [ExpectedOf] of [Families].
func Expected(sim *cfsim.Server, zones []Zone, until time.Time) (Samples, error) {
	return ExpectedOf(Families, sim, zones, until)
}

// ExpectedOf are the samples of all windows of families in default datasets that end
// at or before until. Nothing is expected of a zone without traffic: no zero of it is
// believed in a test's time. A breakdown's label values beyond the catalogue's
// limit of 20 do not occur in the simulator, which is checked.
func ExpectedOf(families map[string]Family, sim *cfsim.Server, zones []Zone, until time.Time) (Samples, error) {
	out := Samples{May: map[Point]float64{}, Must: map[Point]bool{}}
	for _, z := range zones {
		if z.Traffic.RequestsPerMinute == 0 {
			continue
		}
		for name, f := range families {
			if f.OnRequest || f.Rollup && z.Plan == cfsim.Free {
				continue
			}
			size := f.Size()
			for start := z.From.Truncate(size); !start.Add(size).After(until); start = start.Add(size) {
				totals, err := sim.True(z.ID, start, start.Add(size))
				if err != nil {
					return out, err
				}
				must, values := !start.Before(z.Must.Truncate(size)), f.Values(totals)
				if len(values) > 20 && f.Label != "status" {
					return out, fmt.Errorf("the simulator has %d values of %s; the arithmetic here ends at 20", len(values), f.Label)
				}
				for label, v := range values {
					p := Of(name, z.Name, z.AccountName, label, start.Add(size))
					out.May[p] = float64(v)
					// A zero amid traffic is believed after hours.
					if must && (f.Label != "" || v != 0 || z.Name != "quiet.example") {
						out.Must[p] = true
					}
				}
			}
		}
	}
	return out, nil
}

// Missing are the points of must that are not held, in order.
func Missing(got map[Point]float64, must map[Point]bool) (missing []Point) {
	for p := range must {
		if _, there := got[p]; !there {
			missing = append(missing, p)
		}
	}
	slices.SortFunc(missing, func(a, b Point) int { return cmp.Or(strings.Compare(a.Series, b.Series), cmp.Compare(a.At, b.At)) })
	return missing
}

// Wrong says which samples are not the truth, or not one of it although their
// windows end at or before until, in order.
func (s Samples) Wrong(got map[Point]float64, until time.Time) (wrong []string) {
	for p, v := range got {
		switch truth, there := s.May[p]; {
		case there && v != truth:
			wrong = append(wrong, fmt.Sprintf("%s is %v, the truth is %v", p, v, truth))
		case !there && p.At < until.UnixMilli():
			wrong = append(wrong, fmt.Sprintf("%s, %v, must not be there", p, v))
		}
	}
	slices.Sort(wrong)
	return wrong
}
