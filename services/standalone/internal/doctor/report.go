package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/cli"
)

// colours are the escape sequences of a terminal.
var colours = map[Status]string{Pass: "\x1b[32m", Warn: "\x1b[33m", Fail: "\x1b[31m", Skipped: "\x1b[2m"}

const plain = "\x1b[0m"

// Text writes the report for people.
func (r *Report) Text(w io.Writer, colour bool) error {
	var b strings.Builder
	area := ""
	line := func(f Finding, name string) {
		word := fmt.Sprintf("%-7s", f.Status)
		if colour {
			word = colours[f.Status] + word + plain
		}
		about := ""
		if f.About != "" {
			about = " [" + clean(f.About) + "]"
		}
		if !strings.HasSuffix(name, "?") {
			name += about + ":"
		}
		fmt.Fprintf(&b, "  %s  %s %s\n", word, name, clean(f.Found))
		const indent = "           "
		if f.Means != "" {
			fmt.Fprintf(&b, "%s%s\n", indent, clean(f.Means))
		}
		switch {
		case f.Fix != "" && f.Status == Skipped:
			fmt.Fprintf(&b, "%sTo check it, give %s.\n", indent, clean(strings.TrimSuffix(f.Fix, ".")))
		case f.Fix != "":
			fmt.Fprintf(&b, "%sFix: %s\n", indent, clean(f.Fix))
		}
	}
	for i := 0; i < len(r.Findings); i++ {
		f := r.Findings[i]
		of, name, _ := strings.Cut(f.Check, ".")
		// What is skipped for one reason is one line.
		for ; f.Status == Skipped && i+1 < len(r.Findings); i++ {
			next := r.Findings[i+1]
			area, also, _ := strings.Cut(next.Check, ".")
			if next.Check = f.Check; next != f || area != of {
				break
			}
			name += ", " + also
		}
		if of != area {
			if area != "" {
				b.WriteByte('\n')
			}
			area = of
			b.WriteString(of + "\n")
		}
		line(f, name)
	}
	b.WriteString("\nquestions\n")
	for _, f := range r.Questions {
		i := slices.IndexFunc(Questions, func(q Question) bool { return q.ID == f.Check })
		line(f, Questions[i].Asks)
	}
	fmt.Fprintf(&b, "\n%d passed, %d warnings, %d failed, %d skipped\n", r.Count(Pass), r.Count(Warn), r.Count(Fail), r.Count(Skipped))
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

// clean keeps what others wrote to one line and away from the terminal's controls.
func clean(text string) string {
	return cli.Plain(strings.NewReplacer("\n", " ", "\t", " ").Replace(text))
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	counts := map[Status]int{}
	for _, s := range []Status{Pass, Warn, Fail, Skipped} {
		counts[s] = r.Count(s)
	}
	out, err := json.MarshalIndent(struct {
		*Report
		Counts map[Status]int `json:"counts"`
	}{r, counts}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if _, err := w.Write(append(out, '\n')); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}
