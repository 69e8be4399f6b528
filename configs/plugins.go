package configs

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// PluginSpec is what stands in each entry under `plugins`, whose name is the type that it adds.
var PluginSpec = spec.Spec{
	Doc: "A program that is a source or a sink (docs/plugins.md). Only those that stand here are ever started.",
	Fields: []spec.Field{
		{Name: "command", Type: spec.Strings, Required: true, Example: "[/opt/forebay/forebay-csv]", Doc: "The program and its arguments."},
		{Name: "sha256", Type: spec.Strings, Check: checksums, Example: "[9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08]",
			Doc: "Checksums of files that the command names, the program or a script; while one of them has no such file the plugin is not started."},
		{Name: "env", Type: spec.Strings, Example: "[SSL_CERT_FILE]", Doc: "Names of environment variables that the plugin gets beside PATH, HOME, TMPDIR, LANG, LC_ALL and TZ."},
	},
}

func checksums(v any) error {
	for _, text := range v.([]string) { //nolint:forcetypeassert // of Strings
		if b, err := hex.DecodeString(text); err != nil || len(b) != 32 {
			return fmt.Errorf("%q is not a SHA-256 checksum: 64 hexadecimal digits, as `sha256sum` prints them", text)
		}
	}
	return nil
}

// pluginSection adds the types of plugins, which have to be there before the connectors are read.
func (l *loader) pluginSection(path string, section spec.Entry) {
	n := section.Value
	if n.Shape == spec.Absent {
		return
	}
	if n.Shape != spec.Mapping {
		l.problems.add(path, n.Line, n.Col, "`plugins` is a mapping from types to programs", "for example `plugins: {csv: {command: [/opt/forebay/forebay-csv]}}`")
		return
	}
	for _, e := range n.Map {
		who := fmt.Sprintf("plugin '%s'", e.Key)
		_, source := l.spec(e.Key, false)
		_, sink := l.spec(e.Key, true)
		switch {
		case !spec.ValidName(e.Key):
			l.problems.add(path, e.Line, e.Col, fmt.Sprintf("'%s' cannot be a plugin's name", e.Key), "letters, digits, _ and -, at most 64, a letter first")
			continue
		case source || sink || slices.ContainsFunc(l.plugins, func(p *namedPlugin) bool { return p.entry.Key == e.Key }):
			l.problems.add(path, e.Line, e.Col, fmt.Sprintf("there is a type '%s' already", e.Key), "give the plugin another name")
			continue
		}
		values, findings := PluginSpec.Parse(e.Value)
		if l.report(path, who, e.Value, findings) || e.Value.AnyUnresolved() {
			l.unasked[e.Key] = true // its connectors are not to blame
			continue
		}
		l.plugins = append(l.plugins, &namedPlugin{file: path, entry: e, values: values})
	}
}

// namedPlugin is a plugin that a file names, and what it answers.
type namedPlugin struct {
	file   string
	entry  spec.Entry
	values spec.Values
	source *connectors.SourceType
	sink   *connectors.SinkType
	err    error
}

// askPlugins asks all plugins at once: one that is slow does not make those slow that stand behind it.
func (l *loader) askPlugins() {
	var asked sync.WaitGroup
	for _, p := range l.plugins {
		if l.o.Plugin != nil {
			asked.Go(func() { p.source, p.sink, p.err = l.o.Plugin(p.entry.Key, p.values) })
		}
	}
	asked.Wait()
	for _, p := range l.plugins {
		if p.err != nil {
			hint := ""
			if f := (*connectors.FatalError)(nil); errors.As(p.err, &f) {
				hint = f.Hint
			}
			l.problems.add(p.file, p.entry.Line, p.entry.Col, strings.ReplaceAll(p.err.Error(), "\n", "; "), hint)
			l.unasked[p.entry.Key] = true // its connectors are not to blame
			continue
		}
		if p.source == nil && p.sink == nil {
			l.unasked[p.entry.Key] = true
		}
		if p.source != nil {
			l.o.Registry.Sources = append(slices.Clip(l.o.Registry.Sources), *p.source)
		}
		if p.sink != nil {
			l.o.Registry.Sinks = append(slices.Clip(l.o.Registry.Sinks), *p.sink)
		}
	}
}

// foreign are the keys of a connector whose plugin was not asked for its fields, but for those of the runtime.
func foreign(n spec.Node, common spec.Spec) (out []string) {
	for _, e := range n.Map {
		first, _, _ := strings.Cut(e.Key, ".")
		if !slices.ContainsFunc(common.Fields, func(f spec.Field) bool { return f.Name == first }) {
			out = append(out, e.Key)
		}
	}
	return out
}
