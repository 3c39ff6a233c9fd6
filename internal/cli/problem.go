package cli

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"unicode"
)

// Problem is one error in the settings. A Config's Validate returns problems, joined
// with [errors.Join], for rules that involve several settings; [Load] sets their Value
// and Source.
type Problem struct {
	// Setting is the name as its source spelt it; in Validate, the name of
	// the environment variable.
	Setting string
	// Value is the text that was given; empty for secrets.
	Value string
	// Source says where it came from: "flag", "environment", "weir.yaml:12",
	// "default".
	Source string
	// Reason says what is allowed, or what to do: "must be a duration from 1m
	// to 6h".
	Reason string
}

// Error returns one line: what, its value, where from, what is right.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Setting)
	if p.Value != "" {
		fmt.Fprintf(&b, "=%q", p.Value)
	}
	if p.Source != "" {
		fmt.Fprintf(&b, " (%s)", p.Source)
	}
	b.WriteString(": ")
	b.WriteString(p.Reason)
	return b.String()
}

// Problems is everything that is wrong with the settings, in the order of the
// table. It is an error of at least one problem.
type Problems []error

// Error returns all problems, one a line.
func (ps Problems) Error() string {
	var b strings.Builder
	if len(ps) == 1 {
		b.WriteString("1 problem with the settings:")
	} else {
		fmt.Fprintf(&b, "%d problems with the settings:", len(ps))
	}
	for _, p := range ps {
		b.WriteString("\n  ")
		b.WriteString(p.Error())
	}
	return b.String()
}

// Unwrap gives [errors.Is] and [errors.As] every problem.
func (ps Problems) Unwrap() []error { return ps }

// Listener is an address to listen on and the setting that gives it.
type Listener struct{ Setting, Address string }

// Apart returns a [Problem] for each listener that would find its address taken by
// one after it. Port 0 is never taken, and neither is an address that is not set.
func Apart(listeners ...Listener) []error {
	var bad []error
	for i, a := range listeners {
		for _, b := range listeners[i+1:] {
			if overlap(a.Address, b.Address) {
				bad = append(bad, Problem{Setting: a.Setting, Reason: fmt.Sprintf("must differ from the address of %s (%s)", b.Setting, b.Address)})
			}
		}
	}
	return bad
}

func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	all := func(host string) bool { ip := net.ParseIP(host); return host == "" || ip != nil && ip.IsUnspecified() }
	return hostA == hostB || all(hostA) || all(hostB)
}

// flatten takes joined errors apart, so that each is reported on its own line.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []error{err}
}

// UsageError is a mistake on the command line that no table of settings can
// find, such as a missing argument. A command that returns it ends with exit
// code 2.
type UsageError struct{ Text string }

func (e UsageError) Error() string { return e.Text }

// Usagef returns a [UsageError].
func Usagef(format string, args ...any) error {
	return UsageError{fmt.Sprintf(format, args...)}
}

// CodeError ends a command with an exit code of its own. Its meaning is documented by the
// command.
type CodeError struct {
	Code int
	Err  error
}

func (e CodeError) Error() string { return e.Err.Error() }

// Unwrap returns the error that is reported.
func (e CodeError) Unwrap() error { return e.Err }

func isUsage(err error) bool {
	var problems Problems
	var usage UsageError
	return errors.As(err, &problems) || errors.As(err, &usage)
}

// suggest completes a message about an unknown name with the nearest known one
// if that is near enough to be a slip of the keyboard.
func suggest(name string, known []string) string {
	if best := nearest(name, known, max(1, len(name)/4)); best != "" {
		return "; did you mean " + best + "?"
	}
	return ""
}

// printable is a name without what does not show, such as a byte-order mark.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name)
}

// nearest returns the known name with the least edit distance to name, at most
// limit, the first in alphabetical order among equals; or "".
func nearest(name string, known []string, limit int) string {
	best, least := "", limit+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of letters to insert, drop, replace, or swap with
// their neighbour to make b of a.
func distance(a, b string) int {
	var before, previous []int
	current := make([]int, len(b)+1)
	for j := range current {
		current[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, previous, current = previous, current, make([]int, len(b)+1)
		current[0] = i
		for j := 1; j <= len(b); j++ {
			replace := previous[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			current[j] = min(replace, previous[j]+1, current[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
	}
	return current[len(b)]
}
