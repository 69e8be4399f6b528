package server

import (
	"log/slog"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/internal/loglevel"
)

// KIP-412, with the rooms of a node for loggers.
func TestBrokerLoggers(t *testing.T) {
	loggers := loglevel.New(slog.New(slog.DiscardHandler), "group")
	n := newNode(t, nodeOptions{deps: func(d *Deps) { d.Loggers = loggers }})
	level := func(name string) string {
		got := n.describe(loggerType, "1", name)
		if got.ErrorCode != 0 || len(got.Configs) != 1 || got.Configs[0].Source != kmsg.ConfigSourceDynamicBrokerLoggerConfig {
			t.Fatalf("%s: %+v", name, got)
		}
		return *got.Configs[0].Value
	}
	for _, step := range []struct {
		validate    bool
		name        string
		op          int8
		value       string
		root, group string
	}{
		{true, "root", 0, "INFO", "FATAL", "FATAL"},
		{false, "root", 0, "INFO", "INFO", "INFO"},
		{false, "group", 0, "TRACE", "INFO", "TRACE"},
		{true, "group", 1, "", "INFO", "TRACE"},
		{false, "group", 1, "", "INFO", "INFO"},
	} {
		if code, says := n.change(step.validate, configChange{loggerType, "1", step.name, step.op, &step.value}); code != 0 {
			t.Errorf("%+v: %d %s", step, code, says)
		}
		if root, group := level("root"), level("group"); root != step.root || group != step.group {
			t.Errorf("%+v: root %s, group %s", step, root, group)
		}
	}
	on := "INFO"
	if code, _ := n.change(false, configChange{loggerType, "1", "group", 0, &on}, configChange{loggerType, "1", "nobody's", 0, &on}); code != 40 {
		t.Error("a logger that is none:", code)
	}
	if code, _ := n.change(false, configChange{loggerType, "1", "root", 1, nil}); code != 42 {
		t.Error("the root's level was removed:", code)
	}
	if !loggers.Logger("group").Enabled(t.Context(), slog.LevelInfo) {
		t.Error("the level is shown and not in force")
	}
}
