// Package loglevel gives each room of a node a logger by its name, whose level can be changed while the node runs, as Kafka's brokers
// have them (KIP-412). Levels are this process's: a restart forgets them. Everything here may be called concurrently.
package loglevel

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
)

// Root is the logger whose level all the others have that were given none.
const Root = "root"

// Names are Kafka's names of levels, the most serious first. slog has none for the first and the last.
var Names = []string{"FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"}

// levels are Names as slog knows them.
var levels = []slog.Level{slog.LevelError + 4, slog.LevelError, slog.LevelWarn, slog.LevelInfo, slog.LevelDebug, slog.LevelDebug - 4}

// Loggers are the loggers of a node, over one handler.
type Loggers struct {
	to   slog.Handler
	root *level
	by   map[string]*level
}

// level is that of one logger. Nil: the root's.
type level = atomic.Pointer[setting]

type setting struct {
	at    slog.Level
	since time.Time // zero: from the start
}

// New makes loggers that write to l, with the names given beside Root. The root's level is the least serious that l lets through.
func New(l *slog.Logger, names ...string) *Loggers {
	g := &Loggers{to: l.Handler(), root: &level{}, by: map[string]*level{}}
	first := levels[0]
	for _, at := range levels {
		if g.to.Enabled(context.Background(), at) {
			first = at
		}
	}
	g.root.Store(&setting{at: first})
	g.by[Root] = g.root
	for _, n := range names {
		g.by[n] = &level{}
	}
	return g
}

// Logger is the one of that name, Root's where there is none.
func (g *Loggers) Logger(name string) *slog.Logger {
	l := g.by[name]
	if l == nil {
		l = g.root
	}
	return slog.New(&handler{to: g.to, level: l, root: g.root})
}

// Has says whether there is a logger of that name.
func (g *Loggers) Has(name string) bool { return g.by[name] != nil }

// Levels are the levels in force, by the loggers' names.
func (g *Loggers) Levels() map[string]string {
	all := make(map[string]string, len(g.by))
	for name, l := range g.by {
		all[name] = Names[len(Names)-1]
		for i, at := range levels {
			if at <= inForce(l, g.root) {
				all[name] = Names[i]
				break
			}
		}
	}
	return all
}

// Since is when the level in force of a logger was set; zero: it is as at the start.
func (g *Loggers) Since(logger string) time.Time {
	if l := g.by[logger]; l != nil {
		if own := l.Load(); own != nil {
			return own.since
		}
	}
	return g.root.Load().since
}

// Set gives a logger one of Names. False: there is no such logger or level.
func (g *Loggers) Set(logger, name string) bool {
	l, i := g.by[logger], slices.Index(Names, name)
	if l == nil || i < 0 {
		return false
	}
	l.Store(&setting{levels[i], time.Now()})
	return true
}

// Unset gives a logger the root's level again. The root itself keeps its own.
func (g *Loggers) Unset(logger string) {
	if l := g.by[logger]; l != nil && l != g.root {
		l.Store(nil)
	}
}

func inForce(l, root *level) slog.Level {
	if own := l.Load(); own != nil {
		return own.at
	}
	return root.Load().at
}

// handler asks its logger's level, not that of the handler that it writes to.
type handler struct {
	to          slog.Handler
	level, root *level
}

func (h *handler) Enabled(_ context.Context, at slog.Level) bool {
	return at >= inForce(h.level, h.root)
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error { return h.to.Handle(ctx, r) }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.to.WithAttrs(attrs), h.level, h.root}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.to.WithGroup(name), h.level, h.root}
}
