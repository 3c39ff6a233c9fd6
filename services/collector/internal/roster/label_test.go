package roster_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// label is what a bucket of the scope carries in a window.
func label(r roster.Roster, id string, start bucket.Time) string {
	zone, _ := r[scope(id)].Labels(start)
	return zone
}

// twin is a zone of the name and account of zone A.
func twin(created bucket.Time) roster.Seen {
	z := zoneA()
	z.ID, z.Created = idB, created
	return z
}

const asideB = "a.example#b0000000"

// A name is free for windows that begin after its owner's end, and for no others:
// the two never have a sample at one time.
func TestANameIsFreeAfterItsOwnersEnd(t *testing.T) {
	r, end := roster.Roster{}, noon.Add(5*time.Minute)
	discover(t, r, noon, zoneA())
	discover(t, r, end) // the owner is deleted
	discover(t, r, noon.Add(15*time.Minute), twin(noon.Add(10*time.Minute)))
	if got := r[scope(idB)].ZoneLabel; got != "a.example" {
		t.Errorf("the label of a zone that begins after the owner's end is %q", got)
	}
	// One that began while the owner was still there steps aside for that time.
	// In another account, since in one Cloudflare has a name once.
	r = roster.Roster{}
	other := twin(noon.Add(-time.Hour))
	other.AccountID = "another"
	discover(t, r, noon, zoneA())
	discover(t, r, end)
	discover(t, r, noon.Add(15*time.Minute), other)
	for start, want := range map[bucket.Time]string{noon.Add(-time.Hour): asideB, end - 1: asideB, end: "a.example", end + 1: "a.example"} {
		if got := label(r, idB, start); got != want {
			t.Errorf("a window that begins %s after the owner's end carries %q, want %q", start.Sub(end), got, want)
		}
		if got := label(r, idA, start); got != "a.example" {
			t.Errorf("what is left of the owner carries %q", got)
		}
	}
}

// Deleted and added again between two lists of zones: the old one ended when the
// new one was created, unless something later is stored of it.
func TestAZoneThatIsAddedAgainHasItsName(t *testing.T) {
	seen, created := noon.Add(time.Hour), noon.Add(23*time.Minute)
	for name, test := range map[string]struct{ newest, end bucket.Time }{
		"nothing later is stored": {noon.Add(20 * time.Minute), created},
		"something is":            {noon.Add(25 * time.Minute), noon.Add(25 * time.Minute)},
		"nothing at all is":       {0, created},
	} {
		r := roster.Roster{}
		discover(t, r, noon, zoneA())
		newest := func(of bucket.Scope) bucket.Time {
			if of.ID != idA {
				t.Errorf("asked for the newest window of %s", of)
			}
			return test.newest
		}
		if _, err := r.Discover(t.Context(), seen, bucket.Zone, listed(seen, []roster.Seen{twin(created)}, roster.Filter{}), 24*time.Hour, newest); err != nil {
			t.Fatal(err)
		}
		if got := r[scope(idA)]; got.State != roster.Gone || got.End != test.end {
			t.Errorf("%s: the old zone is %s since %s, want %s", name, got.State, got.End, test.end)
		}
		if got := r[scope(idB)]; got.ZoneLabel != "a.example" {
			t.Errorf("%s: the new zone's label is %q", name, got.ZoneLabel)
		}
		if before, after := label(r, idB, test.end-1), label(r, idB, test.end); before != asideB || after != "a.example" {
			t.Errorf("%s: windows carry %q before the old zone's end and %q after it", name, before, after)
		}
	}
}

// Who stepped aside for another gets the name when the other is gone, and whoever
// comes back to find it taken steps aside in turn.
func TestANameGoesToTheLivingZone(t *testing.T) {
	at := func(n int) bucket.Time { return noon.Add(time.Duration(n) * time.Hour) }
	r := roster.Roster{}
	discover(t, r, at(0), zoneA(), twin(at(-1)))
	if a, b := label(r, idA, at(0)), label(r, idB, at(0)); a != "a.example" || b != asideB {
		t.Errorf("two living zones of one name carry %q and %q", a, b)
	}
	paused := zoneA()
	paused.State = roster.Paused
	discover(t, r, at(1), paused, twin(at(-1)))
	if got := r[scope(idB)].ZoneLabel; got != asideB {
		t.Errorf("a pause of the owner gave its name away: %q", got)
	}
	discover(t, r, at(2), twin(at(-1)))
	discover(t, r, at(3), twin(at(-1)))
	if before, after := label(r, idB, at(1)-1), label(r, idB, at(1)); before != asideB || after != "a.example" {
		t.Errorf("after the owner is gone the other carries %q before its end and %q after it", before, after)
	}
	discover(t, r, at(4), zoneA(), twin(at(-1)))
	if got := r[scope(idA)].ZoneLabel; got != "a.example#00000000" {
		t.Errorf("the zone that came back and found its name taken has the label %q", got)
	}
	if before, after := label(r, idA, at(1)-1), label(r, idA, at(1)); before != "a.example" || after != "a.example#00000000" {
		t.Errorf("it carries %q before it went and %q after it", before, after)
	}
	if got := r[scope(idB)].ZoneLabel; got != "a.example" {
		t.Errorf("the living owner's label became %q", got)
	}
	discover(t, r, at(5), zoneA())
	if got := label(r, idA, at(5)); got != "a.example" {
		t.Errorf("when it is alone again its label is %q", got)
	}
	// Which tag comes first does not matter.
	r = roster.Roster{}
	discover(t, r, at(0), twin(at(-1)))
	discover(t, r, at(1))
	discover(t, r, at(2), zoneA())
	discover(t, r, at(3), zoneA(), twin(at(-1)))
	if a, b := r[scope(idA)].ZoneLabel, r[scope(idB)].ZoneLabel; a != "a.example" || b != asideB {
		t.Errorf("the owner has the label %q, and who came back %q", a, b)
	}
}

// A name that its owner gave up is not free for the time before: what is stored
// of the owner carries it.
func TestAGivenUpNameIsNotFreeForThePast(t *testing.T) {
	r, renamed := roster.Roster{}, zoneA()
	discover(t, r, noon, zoneA())
	renamed.Name = "z.example"
	discover(t, r, noon.Add(time.Hour), renamed)
	discover(t, r, noon.Add(2*time.Hour), renamed, twin(noon.Add(-time.Hour)))
	if before, after := label(r, idB, noon.Add(time.Hour)-1), label(r, idB, noon.Add(time.Hour)); before != asideB || after != "a.example" {
		t.Errorf("the heir carries %q before the rename and %q after it", before, after)
	}
	// The owner that comes back to its name has not lost it to itself.
	r = roster.Roster{}
	discover(t, r, noon, zoneA())
	discover(t, r, noon.Add(time.Hour), renamed)
	discover(t, r, noon.Add(2*time.Hour), zoneA())
	if got := label(r, idA, 0); got != "a.example" {
		t.Errorf("the label of a zone that got its old name back is %q", got)
	}
	// Two that change names at once need not wait for each other.
	r = roster.Roster{}
	a, b := zoneA(), twin(0)
	b.Name = "b.example"
	discover(t, r, noon, a, b)
	a.Name, b.Name = b.Name, a.Name
	discover(t, r, noon.Add(time.Hour), a, b)
	if a, b := r[scope(idA)].ZoneLabel, r[scope(idB)].ZoneLabel; a != "b.example" || b != "a.example" {
		t.Errorf("after changing names the labels are %q and %q", a, b)
	}
}

// A newcomer that had to step aside keeps its label when it is paused: what is
// still stored of it belongs to the same series.
func TestALabelStaysWithItsName(t *testing.T) {
	r, twin := roster.Roster{}, twin(noon)
	discover(t, r, noon, zoneA())
	discover(t, r, noon.Add(time.Minute), zoneA(), twin)
	twin.State = roster.Paused
	discover(t, r, noon.Add(time.Hour), zoneA(), twin)
	if got := r[scope(idB)].ZoneLabel; got != asideB {
		t.Errorf("the label of a paused zone became %q", got)
	}
}

// life is one zone of TestNoTwoScopesShareASample, as Cloudflare has it.
type life struct {
	roster.Seen
	excluded, hidden bool
}

// Whatever happens to zones or accounts of few names, and however late their windows
// are stored, no two scopes ever have one label in windows of one time.
func TestNoTwoScopesShareASample(t *testing.T) {
	for _, kind := range []bucket.ScopeKind{bucket.Zone, bucket.Account} {
		t.Run(kind.String(), func(t *testing.T) { noTwoShareASample(t, kind) })
	}
}

// as is a life as Cloudflare lists it, of either kind: an account is in itself, and has
// no state but to be there.
func (z *life) as(kind bucket.ScopeKind) roster.Seen {
	seen := z.Seen
	if seen.Kind = kind; kind == bucket.Account {
		seen.AccountID, seen.AccountName, seen.State = seen.ID, seen.Name, roster.Active
	}
	return seen
}

func noTwoShareASample(t *testing.T, kind bucket.ScopeKind) {
	sizes := []time.Duration{5 * time.Minute, time.Hour, 24 * time.Hour}
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 0))
		type sample struct {
			zone, account string
			size          time.Duration
			start         bucket.Time
		}
		type key struct {
			of    bucket.Scope
			size  time.Duration
			start bucket.Time
		}
		owner, stored, newest := map[sample]bucket.Scope{}, map[key]bool{}, map[bucket.Scope]bucket.Time{}
		var lives []*life
		r, now, ids := roster.Roster{}, noon, 0
		for range 60 {
			now = now.Add(time.Duration(1+rng.IntN(90)) * time.Minute)
			for range rng.IntN(4) {
				var z *life
				if len(lives) > 0 {
					z = lives[rng.IntN(len(lives))]
				}
				switch op := rng.IntN(10); {
				case z == nil || op == 0 && len(lives) < 8:
					ids++
					lives = append(lives, &life{Seen: roster.Seen{
						ID: fmt.Sprintf("%08x%s", rng.Uint32(), strings.Repeat(fmt.Sprint(ids%10), 24)), Name: fmt.Sprint("n", rng.IntN(2)), AccountID: fmt.Sprint("id", rng.IntN(2)),
						AccountName: "acme", State: roster.Active, Created: now.Add(-time.Duration(rng.IntN(90)) * time.Minute),
					}})
				case op <= 2: // deleted and added again
					again := *z
					again.ID, again.Created = fmt.Sprintf("%08x%s", rng.Uint32(), strings.Repeat("f", 24)), now.Add(-time.Duration(rng.IntN(30))*time.Minute)
					*z = again
				case op == 3:
					z.hidden = !z.hidden
				case op == 4:
					z.excluded = !z.excluded
				case op == 5:
					z.Name = fmt.Sprint("n", rng.IntN(2))
				case op == 6:
					z.AccountName = []string{"acme", "acme", "bcme"}[rng.IntN(3)]
				default:
					z.State = []roster.State{roster.Active, roster.Active, roster.Paused, roster.Pending, roster.Inactive}[rng.IntN(5)]
				}
			}
			var seen []roster.Seen
			var sel roster.Filter
			for _, z := range lives {
				if !z.hidden {
					seen = append(seen, z.as(kind))
				}
				switch {
				case z.excluded && kind == bucket.Zone:
					sel.Exclude = append(sel.Exclude, z.ID)
				case !z.excluded && kind == bucket.Account:
					sel.Accounts = append(sel.Accounts, z.ID)
				}
			}
			if _, err := r.Discover(t.Context(), now, kind, listed(now, seen, sel), 6*time.Hour, func(of bucket.Scope) bucket.Time { return newest[of] }); err != nil {
				t.Fatal(err)
			}
			alive := map[[2]string]int{}
			for _, s := range r {
				if s.State == roster.Active {
					alive[[2]string{s.ZoneLabel, s.AccountLabel}]++
				}
				if !s.Listed() {
					continue
				}
				for _, size := range sizes {
					until := now.Add(-5 * time.Minute).Floor(size)
					if s.End != 0 {
						until = min(until, s.End.Floor(size))
					}
					for start := max(s.Start.Floor(size), now.Add(-24*time.Hour).Floor(size)); start.Add(size) <= until; start = start.Add(size) {
						w := bucket.Window{Start: start, End: start.Add(size)}
						k := key{s.Scope, size, start}
						if stored[k] || s.Absent(size).Contains(w) || rng.IntN(3) == 0 {
							continue
						}
						zone, account := s.Labels(start)
						at := sample{zone, account, size, start}
						if other, taken := owner[at]; taken {
							t.Fatalf("seed %d: %s and %s both carry %s (%s) in the window of %s that begins at %s", seed, other, s.Scope, zone, account, size, start)
						}
						owner[at], stored[k] = s.Scope, true
						newest[s.Scope] = max(newest[s.Scope], w.End)
					}
				}
			}
			for n, count := range alive {
				if count > 1 {
					t.Fatalf("seed %d: %d living scopes have the label %v", seed, count, n)
				}
			}
			// Of scopes of one name that are alive one has it.
			for _, s := range r {
				name := [2]string{s.Name, s.AccountLabel}
				if kind == bucket.Account {
					name = [2]string{"", s.Name}
				}
				if s.State == roster.Active && strings.Contains(s.Label(), "#") && alive[name] == 0 {
					paused := false
					for _, o := range r {
						paused = paused || o.State == roster.Paused && [2]string{o.ZoneLabel, o.AccountLabel} == name
					}
					if !paused {
						t.Fatalf("seed %d: %s has the label %q, and nobody has %q", seed, s.Scope, s.Label(), s.Name)
					}
				}
			}
		}
	}
}
