// Package progress shows how far a long command is: a bar on a terminal, one line a
// minute elsewhere.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Every is how often a line is written where there is no terminal.
const Every = time.Minute

// Meter shows the progress of one step. It is safe for concurrent use.
type Meter struct {
	mu   sync.Mutex
	w    io.Writer
	name string
	bar  *progressbar.ProgressBar // nil: no terminal
	now  func() time.Time
	last time.Time // of a line, or of a change of the bar

	changed     time.Time // when done changed
	done, total int
}

// New returns a meter that writes to w, which is best stderr.
func New(w io.Writer, name string) *Meter {
	m := &Meter{w: w, name: name, now: time.Now}
	m.last = m.now()
	m.changed = m.last
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		m.bar = progressbar.NewOptions(-1, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(name),
			progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
	}
	return m
}

// Set says that so much of the total is done.
func (m *Meter) Set(done, total int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if done != m.done {
		m.changed = m.now()
	}
	m.done, m.total = done, total
	if m.bar != nil {
		m.last = m.now()
		m.bar.ChangeMax(total)
		_ = m.bar.Set(done) // a bar that cannot be drawn does not end the command
		return
	}
	m.line("")
}

// Wait says why nothing goes on. It writes a line, also on a terminal, if nothing was shown
// for a minute.
func (m *Meter) Wait(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.line("; " + why)
}

// Remind writes a line a minute, also on a terminal, while nothing goes on and not all is
// done, until stop is called: whoever waits sees that the command does.
func (m *Meter) Remind() (stop func()) {
	end := make(chan struct{})
	var reminding sync.WaitGroup
	reminding.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				m.remind()
			}
		}
	})
	return func() {
		close(end)
		reminding.Wait()
	}
}

func (m *Meter) remind() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done < m.total && m.now().Sub(m.changed) >= Every {
		m.line("; unchanged since " + m.changed.UTC().Format(time.RFC3339))
	}
}

func (m *Meter) line(why string) {
	now := m.now()
	if now.Sub(m.last) < Every {
		return
	}
	m.last = now
	if m.bar != nil {
		_ = m.bar.Clear() // as above
	}
	fmt.Fprintf(m.w, "%s: %d of %d (%d%%)%s\n", m.name, m.done, m.total, 100*m.done/max(m.total, 1), why)
}

// Close removes the bar.
func (m *Meter) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bar != nil {
		_ = m.bar.Finish() // as above
	}
}
