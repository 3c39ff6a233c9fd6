package testkit

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// Logger returns a logger that writes to the test's log at every level, so that
// a failing test shows what the code under test said. What is logged after the
// test has ended is dropped: a goroutine that stops late must not panic the
// whole binary. (NoLeaks finds such goroutines.)
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(newLogWriter(t), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Logs is what a [RecordingLogger] wrote. Safe for concurrent use.
type Logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// String returns everything logged so far, one line a record.
func (l *Logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Count returns how many records so far contain text, in message or attributes.
func (l *Logs) Count(text string) int {
	n := 0
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (l *Logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// RecordingLogger is [Logger] that also keeps what was logged, for tests that
// are about the log: that a change is said once, that a secret is not said.
func RecordingLogger(t testing.TB) (*slog.Logger, *Logs) {
	logs := new(Logs)
	both := teeWriter{newLogWriter(t), logs}
	return slog.New(slog.NewTextHandler(both, &slog.HandlerOptions{Level: slog.LevelDebug})), logs
}

type teeWriter struct {
	log  *logWriter
	keep *Logs
}

func (w teeWriter) Write(p []byte) (int, error) {
	if _, err := w.log.Write(p); err != nil {
		return 0, err
	}
	return w.keep.Write(p)
}

// logWriter sends each write, which slog makes one record, to t.Log.
type logWriter struct {
	mu    sync.Mutex
	t     testing.TB
	ended bool
}

func newLogWriter(t testing.TB) *logWriter {
	w := &logWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = true
	})
	return w
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.t.Log(strings.TrimSuffix(string(p), "\n"))
	}
	return len(p), nil
}
