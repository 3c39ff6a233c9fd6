package cli

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// ParseDuration reads 5m, 2h30m, 400d, 1w, 1.5h, and a bare number of seconds.
// Days have 24 hours.
func ParseDuration(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return times(n, time.Second)
	}
	rest, negative := text, false
	if after, ok := strings.CutPrefix(text, "-"); ok {
		rest, negative = after, true
	}
	if rest == "" {
		return 0, errors.New("no duration")
	}
	var sum time.Duration
	for rest != "" {
		digits := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if digits <= 0 {
			return 0, errors.New("no duration")
		}
		end := strings.IndexFunc(rest[digits:], func(r rune) bool { return r >= '0' && r <= '9' || r == '.' })
		if end < 0 {
			end = len(rest) - digits
		}
		part, err := component(rest[:digits], rest[digits:digits+end])
		if err != nil {
			return 0, err
		}
		if sum > math.MaxInt64-part {
			return 0, errTooLong
		}
		sum += part
		rest = rest[digits+end:]
	}
	if negative {
		sum = -sum
	}
	return sum, nil
}

var errTooLong = errors.New("too long for a duration")

func component(number, unit string) (time.Duration, error) {
	long := map[string]time.Duration{"d": day, "w": 7 * day}[unit]
	if long == 0 {
		return time.ParseDuration(number + unit)
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("no whole number of %s", unit)
	}
	return times(n, long)
}

func times(n int64, unit time.Duration) (time.Duration, error) {
	if n > math.MaxInt64/int64(unit) || n < math.MinInt64/int64(unit) {
		return 0, errTooLong
	}
	return time.Duration(n) * unit, nil
}

// FormatDuration writes a duration as ParseDuration reads it, without the zeros
// of [time.Duration.String]: 5m and not 5m0s, and 400d from two days on.
func FormatDuration(d time.Duration) string {
	if d >= 2*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Duration is a duration from lowest to highest; a bare number is seconds.
func Duration(p *time.Duration, lowest, highest time.Duration) Value {
	return &duration{p: p, lowest: lowest, highest: highest}
}

// DurationOneOf is one of a few durations; a bare number is seconds.
func DurationOneOf(p *time.Duration, allowed ...time.Duration) Value {
	return &duration{p: p, lowest: slices.Min(allowed), highest: slices.Max(allowed), allowed: allowed}
}

type duration struct {
	p               *time.Duration
	lowest, highest time.Duration
	allowed         []time.Duration // nil: all between
}

func (v *duration) Set(text string) error {
	d, err := ParseDuration(text)
	if err != nil || d < v.lowest || d > v.highest || v.allowed != nil && !slices.Contains(v.allowed, d) {
		return fmt.Errorf("must be %s", v.Allowed())
	}
	*v.p = d
	return nil
}

func (v *duration) String() string { return FormatDuration(*v.p) }

func (v *duration) Allowed() string {
	if v.allowed == nil {
		return fmt.Sprintf("a duration from %s to %s (a bare number is seconds)", FormatDuration(v.lowest), FormatDuration(v.highest))
	}
	words := make([]string, len(v.allowed))
	for i, d := range v.allowed {
		words[i] = FormatDuration(d)
	}
	return fmt.Sprintf("one of %s (a bare number is seconds)", strings.Join(words, ", "))
}
