package verify

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// Format is the value of [Header.Format].
const Format = "weir-findings-1"

// Header is the first line of a file of findings. Every further line is a [Finding]; the
// last is a [Trailer]. Lines are JSON.
type Header struct {
	Format   string      `json:"format"`
	StoreID  string      `json:"store_id"`
	Start    bucket.Time `json:"start_unix_seconds"`
	End      bucket.Time `json:"end_unix_seconds"`
	Restated bool        `json:"as_restated,omitempty"`
}

// Finding is consecutive samples of one series that differ in the same way. Without a family
// it is whole windows of a dataset and scope, of which samples may be missing: the report of
// weir push has these.
type Finding struct {
	Kind      Kind              `json:"kind"`
	Dataset   string            `json:"dataset"`
	ScopeKind string            `json:"scope_kind,omitempty"` // zone or account; empty if the store has no bucket
	ScopeID   string            `json:"scope_id,omitempty"`
	Family    string            `json:"family,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	First     sample.Millis     `json:"first_ms"`
	Last      sample.Millis     `json:"last_ms"` // inclusive
	Samples   int64             `json:"samples"`
	// Store and Prometheus are the values, if the finding is of one sample.
	Store      *Value `json:"store,omitempty"`
	Prometheus *Value `json:"prometheus,omitempty"`
	// Reason is why, if that is known; for people.
	Reason string `json:"reason,omitempty"`
}

// Trailer closes a file of findings: without it the file is incomplete.
type Trailer struct {
	Complete bool  `json:"complete"`
	Findings int64 `json:"findings"`
	Samples  int64 `json:"samples"`
}

// Value is a float as JSON: a string, which NaN and infinities have too.
type Value float64

// MarshalText implements encoding.TextMarshaler.
func (v Value) MarshalText() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(v), 'g', -1, 64), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Value) UnmarshalText(text []byte) error {
	f, err := strconv.ParseFloat(string(text), 64)
	*v = Value(f)
	return err
}

func (v Value) String() string {
	if math.IsNaN(float64(v)) {
		return "NaN"
	}
	return strconv.FormatFloat(float64(v), 'g', -1, 64)
}

// writer writes findings, if anybody wants them.
type writer struct {
	out     *json.Encoder // nil: nobody does
	trailer Trailer
}

func newWriter(w io.Writer, h Header) (*writer, error) {
	if w == nil {
		return &writer{}, nil
	}
	out := &writer{out: json.NewEncoder(w)}
	out.out.SetEscapeHTML(false)
	return out, out.out.Encode(h)
}

func (w *writer) write(f *Finding) error {
	if w.out == nil {
		return nil
	}
	w.trailer.Findings++
	w.trailer.Samples += f.Samples
	return w.out.Encode(f)
}

func (w *writer) close() error {
	if w.out == nil {
		return nil
	}
	w.trailer.Complete = true
	return w.out.Encode(w.trailer)
}

// Borders of what a comparison can be about: a header with others is damaged.
const (
	earliest = bucket.Time(sample.Earliest / 1000)
	latest   = earliest + 100*365*86400
)

// Write writes a whole file of findings.
func Write(w io.Writer, h Header, findings []Finding) error {
	out, err := newWriter(w, h)
	if err != nil {
		return err
	}
	for i := range findings {
		if err := out.write(&findings[i]); err != nil {
			return err
		}
	}
	return out.close()
}

// check reports what is wrong with the range.
func (h *Header) check() error {
	if h.Start < earliest || h.End <= h.Start || h.End > latest {
		return fmt.Errorf("the header's range is from %d to %d; both must be seconds since 1970, from %d to %d, and the start before the end", int64(h.Start), int64(h.End), int64(earliest), int64(latest))
	}
	return nil
}

// check reports what is wrong with a finding of a file with this header.
func (f *Finding) check(h *Header) error {
	switch start, end := sample.Millis(h.Start)*1000, sample.Millis(h.End)*1000; {
	case f.First < start || f.Last < f.First || f.Last >= end:
		return fmt.Errorf("the finding is from %d to %d ms; it must be inside the header's range, from %d and before %d", f.First, f.Last, start, end)
	case f.Samples < 1:
		return fmt.Errorf("the finding has %d samples; it must have at least one", f.Samples)
	}
	return nil
}

// ReadFindings reads a file of findings and passes each finding of a kind. A file
// without its trailer, or with other counts than those, is an error: what it lacks would be
// left out without a word.
func ReadFindings(r io.Reader, kind Kind, take func(Finding) error) (Header, error) {
	var h Header
	var read Trailer
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	n, complete := 0, false
	for lines.Scan() {
		n++
		switch {
		case n == 1:
			if err := json.Unmarshal(lines.Bytes(), &h); err != nil || h.Format != Format {
				return h, fmt.Errorf("line 1 is not the header of a findings file (format %q)", Format)
			}
			if err := h.check(); err != nil {
				return h, fmt.Errorf("line 1: %w", err)
			}
			continue
		case complete:
			return h, fmt.Errorf("line %d follows the end of the file", n)
		}
		var both struct {
			Finding
			Complete bool  `json:"complete"`
			Findings int64 `json:"findings"`
		}
		if err := json.Unmarshal(lines.Bytes(), &both); err != nil {
			return h, fmt.Errorf("line %d: %w", n, err)
		}
		if both.Complete {
			complete = true
			if told := (Trailer{true, both.Findings, both.Samples}); read.Findings != told.Findings || read.Samples != told.Samples {
				return h, fmt.Errorf("the file has %d findings of %d samples, and its last line says %d of %d: it was changed, or a part of it is lost; run weir backfill verify again",
					read.Findings, read.Samples, told.Findings, told.Samples)
			}
			continue
		}
		if err := both.check(&h); err != nil {
			return h, fmt.Errorf("line %d: %w", n, err)
		}
		read.Findings, read.Samples = read.Findings+1, read.Samples+both.Samples
		if both.Kind == kind {
			if err := take(both.Finding); err != nil {
				return h, fmt.Errorf("line %d: %w", n, err)
			}
		}
	}
	switch {
	case lines.Err() != nil:
		return h, lines.Err()
	case n == 0:
		return h, errors.New("the file is empty")
	case !complete:
		return h, errors.New("the file is incomplete: weir backfill verify did not finish; run it again")
	}
	return h, nil
}
