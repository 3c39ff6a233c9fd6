package observe

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
)

// point is one sample of an exposition.
type point struct {
	name   string
	labels map[string]string
	value  float64
	at     time.Time // zero: it has no timestamp
}

// expose reads an exposition line by line; unit is that of its timestamps. It reports
// whether the body ends with the line # EOF.
func expose(body string, unit time.Duration, each func(point) error) (eof bool, err error) {
	number := 0
	for line := range strings.Lines(body) {
		number++
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "" || line[0] == '#':
			eof = line == "# EOF"
			continue
		case eof:
			return false, fmt.Errorf("line %d follows # EOF", number)
		}
		p, err := parse(line, unit)
		if err == nil {
			err = each(p)
		}
		if err != nil {
			return false, fmt.Errorf("line %d: %w", number, err)
		}
	}
	return eof, nil
}

var errLine = errors.New("it is not a sample")

func parse(line string, unit time.Duration) (p point, err error) {
	end := strings.IndexAny(line, "{ ")
	if end <= 0 {
		return p, errLine
	}
	p.name, p.labels = line[:end], map[string]string{}
	rest := line[end:]
	if rest[0] == '{' {
		if rest, err = labels(rest[1:], p.labels); err != nil {
			return p, err
		}
	}
	fields := strings.Fields(rest)
	if len(fields) < 1 || len(fields) > 2 {
		return p, errLine
	}
	if p.value, err = strconv.ParseFloat(fields[0], 64); err != nil {
		return p, errLine
	}
	if len(fields) == 2 {
		at, err := strconv.ParseFloat(fields[1], 64)
		if err != nil || math.IsNaN(at) || math.Abs(at) > 1e15 {
			return p, errors.New("its timestamp is not a number")
		}
		p.at = time.UnixMilli(int64(math.Round(at * float64(unit/time.Millisecond)))).UTC()
	}
	return p, nil
}

// labels reads pairs up to the closing brace.
func labels(text string, into map[string]string) (rest string, err error) {
	for {
		text = strings.TrimLeft(text, ", ")
		if rest, closed := strings.CutPrefix(text, "}"); closed {
			return rest, nil
		}
		name, value, ok := strings.Cut(text, `="`)
		if !ok {
			return "", errLine
		}
		var b strings.Builder
		i := 0
		for ; i < len(value) && value[i] != '"'; i++ {
			if value[i] != '\\' || i+1 == len(value) {
				b.WriteByte(value[i])
				continue
			}
			i++
			if value[i] == 'n' {
				b.WriteByte('\n')
			} else {
				b.WriteByte(value[i])
			}
		}
		if i == len(value) {
			return "", errLine
		}
		into[name], text = b.String(), value[i+1:]
	}
}

// own keeps of an operations page what is judged.
func own(body, from string, wanted func(string) bool) (list []doctor.Sample, err error) {
	_, err = expose(body, time.Millisecond, func(p point) error {
		if wanted(p.name) {
			list = append(list, doctor.Sample{Name: p.name, Labels: p.labels, From: from, Value: p.value})
		}
		return nil
	})
	return list, err
}
