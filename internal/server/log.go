package server

import (
	"context"
	"io"
	"log/slog"

	"github.com/quorate/quorate/internal/config"
)

// newLogger writes lines of text or of JSON to w, from level upwards.
func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: nameTrace}
	if format == config.FormatJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// nameTrace gives the level that slog doesn't know its name.
func nameTrace(groups []string, a slog.Attr) slog.Attr {
	if level, ok := a.Value.Any().(slog.Level); ok && len(groups) == 0 && a.Key == slog.LevelKey && level == config.LevelTrace {
		a.Value = slog.StringValue("TRACE")
	}
	return a
}

// quiet drops what net/http has to say: parts of requests may be in it, and of panics whole values. What matters of
// both, package httpapi logs.
type quiet struct{ slog.Handler }

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Message = "net/http had something to say about a connection"
	return q.Handler.Handle(ctx, r)
}
