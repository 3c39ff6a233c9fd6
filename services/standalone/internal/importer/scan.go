package importer

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/sample"
)

// Scanned is what an OpenMetrics file holds.
type Scanned struct {
	Samples     int64
	First, Last sample.Millis
}

// Scan reads a file that promtool is about to read, and refuses what promtool would take
// although it does harm: times in milliseconds, families whose values are repeated for the
// eye, samples without job or instance, and a file that is cut off.
func Scan(path string, now time.Time) (*Scanned, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read a file to import: %w", err)
	}
	defer f.Close()
	s := &Scanned{}
	lines := bufio.NewReaderSize(f, 256<<10)
	ended := false
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		if len(line) == 0 {
			break
		}
		if err != nil && err != bufio.ErrBufferFull {
			return nil, hazard("NOT_WHOLE", "file %s ends inside line %d: it was cut off; export it again", path, n)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: line %d is too long", path, n)
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		switch {
		case ended:
			return nil, hazard("NOT_WHOLE", "file %s goes on after # EOF in line %d", path, n)
		case bytes.Equal(line, []byte("# EOF")):
			ended = true
		case len(line) > 0 && line[0] != '#':
			if err := s.line(line, now); err != nil {
				if h, ok := err.(*Hazard); ok {
					return nil, hazard(h.Code, "file %s, line %d: %s", path, n, h.Text)
				}
				return nil, fmt.Errorf("file %s, line %d: %w", path, n, err)
			}
		}
	}
	switch {
	case !ended:
		return nil, hazard("NOT_WHOLE", "file %s has no # EOF at its end: it was cut off, or is in the text format, whose times are in milliseconds", path)
	case s.Samples == 0:
		return nil, fmt.Errorf("file %s has no sample", path)
	}
	return s, nil
}

func (s *Scanned) line(line []byte, now time.Time) error {
	open := bytes.IndexByte(line, '{')
	end := bytes.LastIndexByte(line, '}')
	if open < 0 || end < open {
		return hazard("LABELS", "sample %.80s has no labels; it needs those of the scrape job", line)
	}
	name, labels := line[:open], line[open:end]
	if bytes.HasSuffix(name, []byte("_stepped")) {
		return hazard("STEPPED", "family %s repeats the values of buckets for graphs: in a sum it would count the same traffic many times; export without step_seconds", name)
	}
	for _, label := range []string{"job", "instance"} {
		if !hasLabel(labels, label) {
			return hazard("LABELS", "sample %.80s has no label %s: it would become a series beside the one that is scraped", line, label)
		}
	}
	fields := bytes.Fields(line[end+1:])
	if len(fields) < 2 {
		return fmt.Errorf("sample %.80s has no time", line)
	}
	seconds, err := strconv.ParseFloat(string(fields[1]), 64)
	if err != nil {
		return fmt.Errorf("time %q is not a number", fields[1])
	}
	if seconds >= 1e11 {
		return hazard("MILLISECONDS", "time %s is in milliseconds, OpenMetrics has seconds: promtool would make blocks of the year %d, and Prometheus would delete all others by retention",
			fields[1], 1970+int64(seconds/(365.25*86400)))
	}
	at := sample.Millis(seconds*1000 + 0.5)
	if err := at.Check(now); err != nil {
		return hazard("MILLISECONDS", "%v", err)
	}
	s.Samples++
	if s.First == 0 || at < s.First {
		s.First = at
	}
	s.Last = max(s.Last, at)
	return nil
}

// hasLabel reports whether the labels of a line have a name.
func hasLabel(labels []byte, name string) bool {
	for _, before := range []string{"{", ","} {
		if bytes.Contains(labels, []byte(before+name+`="`)) {
			return true
		}
	}
	return false
}
