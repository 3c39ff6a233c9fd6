package client

import (
	"context"
	"log/slog"
	"maps"
	"time"
)

const (
	// patience is how long nothing may work before it is a warning: a client that
	// was started before its server, and a server that restarts, mend themselves.
	patience = 10 * time.Second
	// What goes on is said again in pauses that double from the first. It is over,
	// and another end a first one, when a stream worked for as long as the pause,
	// or for well.
	firstPause   = time.Minute
	longestPause = time.Hour
	well         = 5 * time.Minute
)

// telling is what the log has been told of the ends of streams.
type telling struct {
	log   *slog.Logger
	since time.Time        // since when nothing works; zero: no stream has ended yet
	calm  bool             // that began with an end that was announced
	open  bool             // what was told last is not known to be over
	said  map[string]*said // by message; judge's table has a dozen
}

type said struct {
	at    time.Time
	pause time.Duration // until it is said again
	level slog.Level
	times int // since then
}

// end tells of the end of a stream that worked for some time, or for none.
func (t *telling) end(v verdict, worked time.Duration, args ...any) {
	now := time.Now()
	if worked > 0 || t.since.IsZero() {
		t.since, t.calm = now, v.calm
	}
	maps.DeleteFunc(t.said, func(_ string, s *said) bool { return worked >= min(s.pause, well) })
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

// once is the level at which to log a message: debug for what was said lately. It
// adds how often that was since.
func (t *telling) once(now time.Time, message string, level slog.Level, args *[]any) slog.Level {
	s := t.said[message]
	switch {
	case s == nil:
		t.said[message] = &said{at: now, pause: firstPause, level: level}
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

// again tells that a stream works, if it was told that one does not.
func (t *telling) again(args ...any) {
	level := slog.LevelDebug
	if t.open {
		level, t.open = slog.LevelInfo, false
	}
	t.log.Log(context.Background(), level, "following again", args...)
}
