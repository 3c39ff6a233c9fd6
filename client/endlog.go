package client

import (
	"context"
	"log/slog"
	"maps"
	"time"
)

const (
	// patience is how long no stream may work before a warning is logged: a client
	// that started before its server, or a server that restarts, recovers by itself.
	patience = 10 * time.Second
	// A message that keeps recurring is logged again after pauses that double from
	// firstPause to longestPause. It counts as new when a stream has worked for as
	// long as the pause, or for healthyAfter.
	firstPause   = time.Minute
	longestPause = time.Hour
	healthyAfter = 5 * time.Minute
)

// endLog logs the ends of streams, and limits how often the same one is repeated.
type endLog struct {
	log    *slog.Logger
	since  time.Time          // since when no stream works; zero: no stream has ended yet
	calm   bool               // the first of these ends was announced by the server
	open   bool               // a failure was logged, and its recovery not yet
	logged map[string]*logged // by message; judge's table has a dozen
}

type logged struct {
	at    time.Time
	pause time.Duration // until it is logged again
	level slog.Level
	times int // suppressed since then
}

// end logs the end of a stream, which worked for the given time.
func (t *endLog) end(v verdict, worked time.Duration, args ...any) {
	now := time.Now()
	if worked > 0 || t.since.IsZero() {
		t.since, t.calm = now, v.calm
	}
	maps.DeleteFunc(t.logged, func(_ string, s *logged) bool { return worked >= min(s.pause, healthyAfter) })
	level := v.level
	if !v.loud && now.Sub(t.since) < patience {
		level = min(level, slog.LevelInfo)
		if t.calm {
			level = slog.LevelDebug
		}
	}
	if level > slog.LevelDebug {
		level = t.once(now, v.message, level, &args)
	}
	if level > slog.LevelDebug {
		t.open = true
	}
	t.log.Log(context.Background(), level, v.message, args...)
}

// once returns the level at which to log a message: debug if it was logged recently.
// It adds the number of suppressed repetitions to args.
func (t *endLog) once(now time.Time, message string, level slog.Level, args *[]any) slog.Level {
	s := t.logged[message]
	switch {
	case s == nil:
		t.logged[message] = &logged{at: now, pause: firstPause, level: level}
		return level
	case level > s.level: // it has become worse
		s.at, s.level = now, level
	case now.Sub(s.at) < s.pause:
		s.times++
		return slog.LevelDebug
	default:
		s.at, s.level, s.pause = now, level, min(2*s.pause, longestPause)
	}
	if s.times > 0 {
		*args = append(*args, "times", s.times+1)
		s.times = 0
	}
	return level
}

// recovered logs that a stream works, if a failure was logged before.
func (t *endLog) recovered(args ...any) {
	level := slog.LevelDebug
	if t.open {
		level, t.open = slog.LevelInfo, false
	}
	t.log.Log(context.Background(), level, "stream recovered", args...)
}
