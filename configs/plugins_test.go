package configs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// TestPlugins: a plugin's type has its fields, in whichever file it stands, and what is wrong with it has a place.
func TestPlugins(t *testing.T) {
	o := Options{Plugin: func(name string, v spec.Values) (*connectors.SourceType, *connectors.SinkType, error) {
		if v.Strings("command")[0] == "broken" {
			return nil, nil, connectors.Fatal(errors.New("plugin "+name+" does not answer"), "mend it")
		}
		return &connectors.SourceType{Name: name, Spec: spec.Spec{Fields: []spec.Field{{Name: "folder", Required: true, Doc: "x"}}},
			New: func(spec.Values, connectors.Env) (connectors.Source, error) { return nil, nil }}, nil, nil
	}}
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", "sources:\n  x: {type: csv, folder: f}\n")
	write("b.yaml", "plugins:\n  csv: {command: [prog, arg]}\n")
	c, err := Load([]string{dir}, o)
	if err != nil || len(c.Connectors) != 1 || c.Connectors[0].Values.String("folder") != "f" || len(c.Registry.Sources) != 1 || len(o.Registry.Sources) != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	for text, want := range map[string]string{
		"plugins: {csv: {command: [prog]}}\nsources:\n  x: {type: csv, folde: f}\n": "3:18: source 'x' (csv): unknown field 'folde' (did you mean 'folder'?)",
		"plugins:\n  csv: {command: [broken]}\n":                                    "2:3: plugin csv does not answer (mend it)",
		"plugins:\n  csv: {}\n":                                                     "field 'command' is required",
		"plugins:\n  csv: {command: prog, sha256: [12]}\n":                          "is not a SHA-256 checksum",
		"plugins:\n  1x: {command: prog}\n":                                         "cannot be a plugin's name",
		"plugins: [a]\n":                                                            "is a mapping from types to programs",
		"plugins:\n  csv: {command: [prog]}\n  CSV: {command: [prog], env: {}}\n":   "'env' is a list of strings",
	} {
		write("a.yaml", text)
		if _, err := Load([]string{filepath.Join(dir, "a.yaml")}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
	write("a.yaml", "plugins:\n  csv: {command: [prog]}\n")
	o.Registry.Sinks = []connectors.SinkType{{Name: "csv"}}
	if _, err := Load([]string{filepath.Join(dir, "a.yaml")}, o); err == nil || !strings.Contains(err.Error(), "there is a type 'csv' already") {
		t.Error(err)
	}
}

// TestPluginsThatAreNotAsked: what is only read starts nothing. Their connectors may have any fields, but for those of the runtime.
func TestPluginsThatAreNotAsked(t *testing.T) {
	common := spec.Spec{Fields: []spec.Field{{Name: "delivery", Type: spec.Enum, Enum: []string{"exactly_once"}, Doc: "x"}, {Name: "registry", Type: spec.Group, Fields: []spec.Field{{Name: "url", Doc: "x"}}}}}
	file := filepath.Join(t.TempDir(), "a.yaml")
	for _, o := range []Options{
		{SourceCommon: common, SinkCommon: common},
		{SourceCommon: common, SinkCommon: common, Plugin: func(string, spec.Values) (*connectors.SourceType, *connectors.SinkType, error) { return nil, nil, nil }},
	} {
		for text, want := range map[string]string{
			"sources:\n  x: {type: csv, folder: f, rotate: {size: 1}, some.thing: [a], registry.url: u}\nsinks:\n  y: {type: csv, a: {b: {c: d}}}\n": "",
			"sources:\n  x: {type: csv, delivery: perhaps}\n":  "is not one of exactly_once",
			"sources:\n  x: {type: csv, registry: {ulr: x}}\n": "unknown field 'registry.ulr'",
			"sources:\n  x: {type: cvs}\n":                     "no source type 'cvs'",
		} {
			if err := os.WriteFile(file, []byte("plugins:\n  csv: {command: [prog]}\n"+text), 0o644); err != nil {
				t.Fatal(err)
			}
			c, err := Load([]string{file}, o)
			switch {
			case want == "" && (err != nil || len(c.Connectors) != 2 || c.Connectors[0].Values.Has("folder") || c.Connectors[0].Values.String("registry.url") != "u"):
				t.Errorf("%s: %+v, %v", text, c, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%s: %v; want %q", text, err, want)
			}
		}
	}
}

type checked struct{ connectors.Source }

func (checked) Check(context.Context) error { return errors.New("folder and files exclude each other") }

// TestPluginsAreAskedAboutFields: what one field alone does not show, a plugin that was started says.
func TestPluginsAreAskedAboutFields(t *testing.T) {
	o := Options{Plugin: func(name string, _ spec.Values) (*connectors.SourceType, *connectors.SinkType, error) {
		return &connectors.SourceType{Name: name, New: func(spec.Values, connectors.Env) (connectors.Source, error) { return checked{}, nil }}, nil, nil
	}}
	file := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(file, []byte("plugins:\n  csv: {command: [prog]}\nsources:\n  x: {type: csv}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load([]string{file}, o); err == nil || !strings.Contains(err.Error(), "4:3: source 'x' (csv): folder and files exclude each other") {
		t.Error(err)
	}
}

// TestPluginsAreAskedAtOnce: one that is slow does not make the others slow.
func TestPluginsAreAskedAtOnce(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	o := Options{Plugin: func(string, spec.Values) (*connectors.SourceType, *connectors.SinkType, error) {
		both.Done()
		both.Wait()
		return nil, nil, nil
	}}
	file := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(file, []byte("plugins:\n  a: {command: [a]}\n  b: {command: [b]}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load([]string{file}, o); err != nil {
		t.Error(err)
	}
}
