package consensus

import (
	"context"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// bridge is raft's logger on slog. Raft tells every step of an election as a
// warning; in a house where steady state is silent that is debug, and only its errors pass as they are.
type bridge struct {
	l    *slog.Logger
	name string
	args []any
}

func level(l hclog.Level) slog.Level {
	if l >= hclog.Error {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (b *bridge) Log(l hclog.Level, msg string, args ...any) {
	b.l.Log(context.Background(), level(l), "raft: "+msg, args...)
}
func (b *bridge) Trace(msg string, args ...any) { b.Log(hclog.Trace, msg, args...) }
func (b *bridge) Debug(msg string, args ...any) { b.Log(hclog.Debug, msg, args...) }
func (b *bridge) Info(msg string, args ...any)  { b.Log(hclog.Info, msg, args...) }
func (b *bridge) Warn(msg string, args ...any)  { b.Log(hclog.Warn, msg, args...) }
func (b *bridge) Error(msg string, args ...any) { b.Log(hclog.Error, msg, args...) }

func (b *bridge) enabled(l hclog.Level) bool { return b.l.Enabled(context.Background(), level(l)) }
func (b *bridge) IsTrace() bool              { return false }
func (b *bridge) IsDebug() bool              { return b.enabled(hclog.Debug) }
func (b *bridge) IsInfo() bool               { return b.enabled(hclog.Info) }
func (b *bridge) IsWarn() bool               { return b.enabled(hclog.Warn) }
func (b *bridge) IsError() bool              { return b.enabled(hclog.Error) }
func (b *bridge) ImpliedArgs() []any         { return b.args }
func (b *bridge) Name() string               { return b.name }
func (b *bridge) SetLevel(hclog.Level)       {}
func (b *bridge) GetLevel() hclog.Level      { return hclog.Debug }

func (b *bridge) With(args ...any) hclog.Logger {
	return &bridge{l: b.l.With(args...), name: b.name, args: append(b.args[:len(b.args):len(b.args)], args...)}
}
func (b *bridge) Named(name string) hclog.Logger      { return &bridge{l: b.l, name: name, args: b.args} }
func (b *bridge) ResetNamed(name string) hclog.Logger { return b.Named(name) }

func (b *bridge) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(b.l.Handler(), slog.LevelDebug)
}

func (b *bridge) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return b.StandardLogger(o).Writer()
}
