package cli

import (
	"io"
	"log/slog"
	"os"
)

// Log is the part of every service's Config that is about its log.
type Log struct {
	Level  slog.Level
	Format string
}

// Settings is the table of the log's settings.
func (l *Log) Settings() []Setting {
	return []Setting{
		{Env: "WEIR_LOG_LEVEL", Default: "info", Value: level(&l.Level), Help: "minimum level of log messages"},
		{Env: "WEIR_LOG_FORMAT", Default: "text", Value: Enum(&l.Format, "text", "json"), Help: "format of log messages"},
	}
}

func level(p *slog.Level) Value {
	return &simple{
		allowed: "one of debug, info, warn, error",
		set:     func(text string) bool { return p.UnmarshalText([]byte(text)) == nil },
		get:     p.String,
	}
}

// New returns a logger that writes to w.
func (l *Log) New(w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: l.Level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// Hangup is a service's [Command.Hangup]: it says on stderr why nothing happens.
func (l *Log) Hangup() {
	l.New(os.Stderr).Info("SIGHUP has no effect: certificates, tokens and web configuration are reloaded when they are used, other settings require a restart")
}
