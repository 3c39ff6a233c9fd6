// Package quiet keeps what happens again and again from writing the log again
// and again. The first time is a line as usual. What follows within the pause
// is counted, and one line at the end of the pause says how often; then the
// pause doubles, up to an hour. Once nothing has happened for an hour after a
// pause, the next time is a first time again.
//
// With pauses that begin at a minute, ten thousand calls that are refused within
// it are two lines, and what goes on for a day is thirty. Each line that is left
// out is still there at debug level.
//
// Conditions of a collector that last belong on its board of problems (package
// trouble); this package is for what merely happens often, above all for what a
// client can cause.
package quiet

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Longest is the longest pause, and how long after it nothing may happen before
// the next time is a first time.
const Longest = time.Hour

// most is how many different things with one message are told apart at once. The
// others share a line; messages are constants, so this bounds lines and memory.
const most = 10

// Log is a logger that says things once and then with growing pauses. Safe for
// concurrent use. Its pauses are machine time: they are about the log and not
// about the calendar.
type Log struct {
	log   *slog.Logger
	first time.Duration

	mu    sync.Mutex
	told  map[thing]*state
	count map[string]int // of told, by message
}

// thing is what is told once: a message, about something in particular.
type thing struct{ message, about string }

// state is that of a thing that was told.
type state struct {
	pause time.Duration
	next  time.Time   // when the pause ends, or, with due, when it is forgotten
	timer *time.Timer // at next
	due   bool        // the pause is over, and the next time is a line
	times int         // since the last line
	level slog.Level  // of the last time, as args
	args  []any
}

// New returns a Log that writes to log and whose pauses begin at first.
func New(log *slog.Logger, first time.Duration) *Log {
	return &Log{log: log, first: first, told: map[thing]*state{}, count: map[string]int{}}
}

// Log logs a message about something. What has the same message and the same about
// is the same thing; args may differ, and those of the last time are shown. At debug
// everything is logged. It reports whether it wrote a line at the level.
func (l *Log) Log(ctx context.Context, level slog.Level, about, message string, args ...any) bool {
	if level <= slog.LevelDebug {
		l.log.Log(ctx, level, message, args...)
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	of := thing{message, about}
	if l.told[of] == nil && l.count[message] >= most {
		of.about = ""
	}
	s := l.told[of]
	switch {
	case s == nil:
		s = &state{pause: l.first}
		l.told[of] = s
		l.count[message]++
		l.rest(of, s)
	case s.due:
		s.due = false
		s.pause = min(2*s.pause, Longest)
		l.rest(of, s)
	case level > s.level: // it has become worse
	default:
		s.times++
		s.args = args
		l.log.Log(ctx, slog.LevelDebug, message, args...)
		return false
	}
	s.level, s.args = level, args
	l.log.Log(ctx, level, message, args...)
	return true
}

// rest begins the pause.
func (l *Log) rest(of thing, s *state) {
	pause := s.pause
	if s.due {
		pause = Longest
	}
	s.next = time.Now().Add(pause)
	if s.timer == nil {
		s.timer = time.AfterFunc(pause, func() { l.wake(of, s) })
		return
	}
	s.timer.Reset(pause)
}

// Info, Warn and Error are [Log.Log] at their levels.
func (l *Log) Info(about, message string, args ...any) bool {
	return l.Log(context.Background(), slog.LevelInfo, about, message, args...)
}

// Warn is like Info.
func (l *Log) Warn(about, message string, args ...any) bool {
	return l.Log(context.Background(), slog.LevelWarn, about, message, args...)
}

// Error is like Info.
func (l *Log) Error(about, message string, args ...any) bool {
	return l.Log(context.Background(), slog.LevelError, about, message, args...)
}

// wake ends a pause.
func (l *Log) wake(of thing, s *state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.told[of] != s, time.Now().Before(s.next): // the timer went off while that changed
	case s.due:
		l.forget(of, s)
	case s.times == 0:
		s.due = true
		l.rest(of, s)
	default:
		args := append(append(make([]any, 0, len(s.args)+2), s.args...), slog.Int("times", s.times))
		l.log.Log(context.Background(), s.level, of.message, args...)
		s.times = 0
		s.pause = min(2*s.pause, Longest)
		l.rest(of, s)
	}
}

func (l *Log) forget(of thing, s *state) {
	s.timer.Stop()
	delete(l.told, of)
	if l.count[of.message]--; l.count[of.message] == 0 {
		delete(l.count, of.message)
	}
}

// Over says that a message, whatever about, holds no longer: the next time is a
// first time. It reports whether it did hold.
func (l *Log) Over(message string) (was bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for of, s := range l.told {
		if of.message == message {
			l.forget(of, s)
			was = true
		}
	}
	return was
}

// Cause is the innermost error's text, for use as about: unlike what wraps it, it
// names no addresses, which differ each time.
func Cause(err error) string {
	for err != nil {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
	return ""
}
