// Package quiet limits how often a repeated message is logged. The first occurrence is
// logged at once. Occurrences within the pause are counted, and one line at the end of
// the pause has their number; then the pause doubles, up to an hour. After an hour
// without the message, the next occurrence is a first one again.
//
// With pauses that start at a minute, ten thousand rejected calls within it are two
// lines, and a condition that lasts for a day is thirty. Suppressed lines are logged at
// debug level.
//
// Lasting conditions of a collector belong on its board of problems (package trouble);
// this package is for frequent events, above all those that a client can cause.
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

// most is how many subjects per message are tracked separately. Further ones share a
// line; messages are constants, so this bounds the number of lines and the memory.
const most = 10

// Log is a logger that repeats messages only after growing pauses. Safe for concurrent
// use. The pauses are machine time, not calendar time.
type Log struct {
	log   *slog.Logger
	first time.Duration

	mu     sync.Mutex
	logged map[event]*state
	count  map[string]int // of logged, by message
}

// event is what is logged once: a message about a subject.
type event struct{ message, about string }

// state is the state of an event that was logged.
type state struct {
	pause time.Duration
	next  time.Time   // when the pause ends or, with due, when the event is forgotten
	timer *time.Timer // fires at next
	due   bool        // the pause is over, and the next occurrence is logged
	times int         // occurrences since the last line
	level slog.Level  // of the last occurrence, like args
	args  []any
}

// New returns a Log that writes to log and whose pauses begin at first.
func New(log *slog.Logger, first time.Duration) *Log {
	return &Log{log: log, first: first, logged: map[event]*state{}, count: map[string]int{}}
}

// Log logs a message about a subject. The same message with the same subject is the same
// event; args may differ, and those of the last occurrence are logged. At debug
// everything is logged. It reports whether it wrote a line at the level.
func (l *Log) Log(ctx context.Context, level slog.Level, about, message string, args ...any) bool {
	if level <= slog.LevelDebug {
		l.log.Log(ctx, level, message, args...)
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	of := event{message, about}
	if l.logged[of] == nil && l.count[message] >= most {
		of.about = ""
	}
	s := l.logged[of]
	switch {
	case s == nil:
		s = &state{pause: l.first}
		l.logged[of] = s
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
func (l *Log) rest(of event, s *state) {
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
func (l *Log) wake(of event, s *state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.logged[of] != s, time.Now().Before(s.next): // the timer went off while that changed
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

func (l *Log) forget(of event, s *state) {
	s.timer.Stop()
	delete(l.logged, of)
	if l.count[of.message]--; l.count[of.message] == 0 {
		delete(l.count, of.message)
	}
}

// Over ends all events with a message: the next occurrence is a first one. It reports
// whether there were any.
func (l *Log) Over(message string) (was bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for of, s := range l.logged {
		if of.message == message {
			l.forget(of, s)
			was = true
		}
	}
	return was
}

// Cause is the text of the innermost error, for use as a subject: unlike the errors that
// wrap it, it has no addresses, which differ each time.
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
