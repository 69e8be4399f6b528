package loglevel

import (
	"bytes"
	"log/slog"
	"maps"
	"strings"
	"testing"
)

// KIP-412: a logger has its own level, or the root's, from one call to the next.
func TestLevels(t *testing.T) {
	var out bytes.Buffer
	g := New(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})), "server", "group")
	server, group := g.Logger("server").With("node", 1), g.Logger("group")
	say := func() (said string) {
		out.Reset()
		for name, l := range map[string]*slog.Logger{"s": server, "g": group, "x": g.Logger("nobody's")} {
			l.Debug(name + "d")
			l.Info(name + "i")
			l.Error(name + "e")
		}
		for _, word := range []string{"sd", "si", "se", "gd", "gi", "ge", "xd", "xi", "xe"} {
			if strings.Contains(out.String(), "msg="+word) {
				said += " " + word
			}
		}
		return said
	}
	for _, step := range []struct {
		do   func()
		want string
		has  map[string]string
	}{
		{func() {}, " si se gi ge xi xe", map[string]string{"root": "INFO", "server": "INFO", "group": "INFO"}},
		{func() { g.Set("server", "TRACE") }, " sd si se gi ge xi xe", map[string]string{"root": "INFO", "server": "TRACE", "group": "INFO"}},
		{func() { g.Set("root", "ERROR") }, " sd si se ge xe", map[string]string{"root": "ERROR", "server": "TRACE", "group": "ERROR"}},
		{func() { g.Set("group", "FATAL") }, " sd si se xe", map[string]string{"root": "ERROR", "server": "TRACE", "group": "FATAL"}},
		{func() { g.Unset("server"); g.Unset("root"); g.Unset("nobody's") }, " se xe", map[string]string{"root": "ERROR", "server": "ERROR", "group": "FATAL"}},
	} {
		step.do()
		if got := say(); got != step.want {
			t.Errorf("said%s, want%s", got, step.want)
		}
		if got := g.Levels(); !maps.Equal(got, step.has) {
			t.Errorf("%v, want %v", got, step.has)
		}
	}
	if !g.Since("server").Equal(g.Since("root")) || g.Since("group").IsZero() {
		t.Error("a logger without a level of its own has the time of the root's")
	}
	if g.Set("nobody's", "INFO") || g.Set("server", "LOUD") || g.Set("server", "info") {
		t.Error("a logger or a level that is none was set")
	}
	if got := New(slog.New(slog.DiscardHandler)).Levels()[Root]; got != "FATAL" {
		t.Error(got)
	}
}
