package tsdbtest

import (
	"bytes"
	"fmt"
	"strconv"
)

// Parser reads expositions in the text format, version 0.0.4, and numbers their
// series. It is stricter than Prometheus: families must be contiguous, the
// samples of a series ascending, and every line must have a timestamp.
//
// A Parser belongs to one goroutine.
type Parser struct {
	ids     map[string]int32
	names   []string
	last    []int64 // newest timestamp in the present body, by series
	body    int64   // numbers bodies
	seen    []int64 // body in which a series was last seen
	samples []Sample
}

// NewParser returns a Parser that knows no series.
func NewParser() *Parser { return &Parser{ids: map[string]int32{}} }

// ID numbers a series by its name and labels, as they stand in an exposition.
func (p *Parser) ID(series []byte) int32 {
	id, known := p.ids[string(series)]
	if !known {
		id = int32(len(p.names))
		name := string(series)
		p.ids[name] = id
		p.names, p.last, p.seen = append(p.names, name), append(p.last, 0), append(p.seen, 0)
	}
	return id
}

// Name is the series with that number.
func (p *Parser) Name(id int32) string { return p.names[id] }

// Parse reads a body. The samples are valid until the next call.
func (p *Parser) Parse(body []byte) ([]Sample, error) {
	if len(body) == 0 {
		return nil, fmt.Errorf("the body is empty")
	}
	if body[len(body)-1] != '\n' {
		return nil, fmt.Errorf("the body does not end with a line feed")
	}
	p.body++
	p.samples = p.samples[:0]
	var family []byte
	families := map[string]bool{}
	for n := 1; len(body) > 0; n++ {
		end := bytes.IndexByte(body, '\n')
		line := body[:end]
		body = body[end+1:]
		if name, is := bytes.CutPrefix(line, []byte("# TYPE ")); is {
			name, kind, _ := bytes.Cut(name, []byte(" "))
			if string(kind) != "gauge" || families[string(name)] {
				return nil, fmt.Errorf("line %d: %q: every family is a gauge, announced once", n, line)
			}
			families[string(name)] = true
			family = name
			continue
		}
		if len(line) > 0 && line[0] == '#' {
			continue
		}
		s, err := p.sample(line, family)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", n, line, err)
		}
		p.samples = append(p.samples, s)
	}
	return p.samples, nil
}

func (p *Parser) sample(line, family []byte) (Sample, error) {
	brace := bytes.LastIndexByte(line, '}')
	if brace < 0 || brace+2 > len(line) || line[brace+1] != ' ' {
		return Sample{}, fmt.Errorf("want name{labels} value timestamp")
	}
	series := line[:brace+1]
	if rest, is := bytes.CutPrefix(series, family); !is || len(rest) == 0 || rest[0] != '{' {
		return Sample{}, fmt.Errorf("the sample is not of the family %q that was announced", family)
	}
	value, at, stamped := bytes.Cut(line[brace+2:], []byte(" "))
	if !stamped {
		return Sample{}, fmt.Errorf("no timestamp")
	}
	s := Sample{Series: p.ID(series)}
	var err error
	if s.Value, err = strconv.ParseFloat(string(value), 64); err != nil {
		return Sample{}, fmt.Errorf("value: %w", err)
	}
	if s.At, err = strconv.ParseInt(string(at), 10, 64); err != nil {
		return Sample{}, fmt.Errorf("timestamp: %w", err)
	}
	if p.seen[s.Series] == p.body && p.last[s.Series] >= s.At {
		return Sample{}, fmt.Errorf("the series does not ascend")
	}
	p.seen[s.Series], p.last[s.Series] = p.body, s.At
	return s, nil
}
