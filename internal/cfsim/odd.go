package cfsim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/query"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// What Fault.Odd may list for strings: each is made of the true string, so that
// different strings stay different, the empty one excepted.
var oddStrings = map[string]func(string) string{
	"empty":       func(string) string { return `""` },
	"nul":         func(s string) string { return quoted(s[:len(s)/2] + "\x00" + s[len(s)/2:]) },
	"control":     func(s string) string { return quoted("\x01\x1b[31m" + s + "\x7f\u0085") },
	"replacement": func(s string) string { return quoted(s + "\ufffd") }, // invalid UTF-8, as an encoder sends it
	"surrogate":   func(s string) string { return strings.TrimSuffix(quoted(s), `"`) + `\ud800"` },
	"quotes":      func(s string) string { return quoted(`"` + s + `\"'{},=`) },
	"newline":     func(s string) string { return quoted(s + "\r\n# HELP x\nx 1\u2028") },
	"rtl":         func(s string) string { return quoted("\u202e" + s + "\u200f\u0645") },
	"blanks":      func(s string) string { return quoted(" \t" + s + "\u00a0 ") },
	"1MB":         func(s string) string { return quoted(s + strings.Repeat("m", 1_000_000)) },
	"9MB":         func(s string) string { return quoted(s + strings.Repeat("é", 4_500_000)) },
}

// The same for numbers.
var oddNumbers = map[string]string{
	"-1": "-1", "1e400": "1e400", "1e-400": "1e-400", "2^63": "9223372036854775808", "0.5": "0.5", "null": "null", "string": `"12"`,
}

// OddStrings are the names of the odd strings. Those of megabytes come last; they
// are drawn only where Fault.Odd lists them.
func OddStrings() []string {
	return []string{"empty", "nul", "control", "replacement", "surrogate", "quotes", "newline", "rtl", "blanks", "1MB", "9MB"}
}

// OddNumbers are the names of the odd numbers.
func OddNumbers() []string { return []string{"-1", "1e400", "1e-400", "2^63", "0.5", "null", "string"} }

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	return string(b)
}

// oddKinds mutate single values.
var oddKinds = []FaultKind{FaultZoneName, FaultAccountName, FaultZoneCreated, FaultZonePaused, FaultDimension, FaultTime, FaultNumber}

func (f Fault) checkOdd() error {
	if len(f.Odd) > 0 && !slices.Contains(oddKinds, f.Kind) {
		return fmt.Errorf("cfsim: fault %s has no odd values; %v have", f.Kind, oddKinds)
	}
	known := OddStrings()
	if f.Kind == FaultNumber {
		known = OddNumbers()
	}
	for _, name := range f.Odd {
		if !slices.Contains(known, name) {
			return fmt.Errorf("cfsim: fault %s: odd value %q must be one of %v", f.Kind, name, known)
		}
	}
	return nil
}

// odd is what is sent in place of a value, as JSON, or "". identity tells the value
// from others: it is replaced by the same whenever it is asked for while the fault
// lasts, as a damaged record is, so that two readings agree.
func (s *faultSet) odd(kind FaultKind, dataset, zone string, identity uint64, value string, now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.active {
		if f.Kind != kind || !f.concerns(dataset, zone) || !f.lasts(now) {
			continue
		}
		h := traffic.Hash(s.seed, 43, uint64(f.ID), identity)
		if f.Probability > 0 && traffic.Unit(h) >= f.Probability {
			continue
		}
		f.fire(now)
		from := f.Odd
		if len(from) == 0 {
			from = OddStrings()[:9]
			if kind == FaultNumber {
				from = OddNumbers()
			}
		}
		name := from[traffic.Hash(h, 1)%uint64(len(from))]
		if kind == FaultNumber {
			return oddNumbers[name]
		}
		return oddStrings[name](value)
	}
	return ""
}

// lasts reports whether the fault may still happen at now. Callers hold mu.
func (f *ActiveFault) lasts(now time.Time) bool {
	return (f.From.IsZero() || !now.Before(f.From)) && (f.To.IsZero() || now.Before(f.To)) && (f.Count == 0 || f.Fired < f.Count)
}

// anyOdd reports whether values may have to be replaced at all.
func (s *faultSet) anyOdd() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.active, func(f *ActiveFault) bool { return slices.Contains(oddKinds, f.Kind) })
}

// name is a zone's or account's name as REST sends it.
func (s *Server) name(kind FaultKind, id, name string, now time.Time) any {
	if text := s.faults.odd(kind, "", id, traffic.HashString(id), name, now); text != "" {
		return literal(text)
	}
	return name
}

// or is another value of a zone as REST sends it: value, or text in its place.
func (s *Server) or(kind FaultKind, z *zoneState, value any, now time.Time) any {
	if text := s.faults.odd(kind, "", z.ID, traffic.HashString(z.ID), fmt.Sprint(value), now); text != "" {
		return literal(text)
	}
	return value
}

// mutation replaces values while rows are written; nil does nothing.
type mutation struct {
	faults  *faultSet
	now     time.Time
	dataset string
	tag     string
	row     uint64 // which row is being written
	n       uint64 // which of its numbers
}

// begin is called before each row.
func (m *mutation) begin(r *row) {
	if m == nil {
		return
	}
	m.row, m.n = traffic.HashString(m.dataset+m.tag), 0
	for _, k := range r.key {
		switch k := k.(type) {
		case string:
			m.row = traffic.Hash(m.row, traffic.HashString(k))
		case uint64:
			m.row = traffic.Hash(m.row, k)
		}
	}
}

func (m *mutation) number() string {
	if m == nil {
		return ""
	}
	m.n++
	return m.faults.odd(FaultNumber, m.dataset, m.tag, traffic.Hash(m.row, m.n), "", m.now)
}

// text mutates the value of a dimension or the key of a map. What is equal stays
// equal in all rows.
func (m *mutation) text(field, value string) string {
	if m == nil {
		return ""
	}
	kind := FaultDimension
	if _, isTime := query.Steps[field]; isTime || field == "datetime" || field == "date" {
		kind = FaultTime
	}
	return m.faults.odd(kind, m.dataset, m.tag, traffic.Hash(traffic.HashString(m.tag+field), traffic.HashString(value)), value, m.now)
}
