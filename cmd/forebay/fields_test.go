package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/connectors/spec"
)

// fieldSpecs are the connectors' whole specs by "source postgres".
func fieldSpecs() map[string]spec.Spec {
	o := configOptions()
	all := map[string]spec.Spec{}
	for _, t := range o.Registry.Sources {
		all["source "+t.Name] = t.Spec.Join(o.SourceCommon)
	}
	for _, t := range o.Registry.Sinks {
		all["sink "+t.Name] = t.Spec.Join(o.SinkCommon)
	}
	return all
}

// fieldsDocument is docs/fields.md.
func fieldsDocument() string {
	var b strings.Builder
	b.WriteString("# The fields of the connectors\n\n<!-- Written from the connectors' specs by: go test ./cmd/forebay -run TestFields -update -->\n\n" +
		"What `forebay fields TYPE` shows. `forebay fields --json-schema` prints the JSON Schema of whole files, by which editors complete and check them while they are written: in VS Code's YAML\n" +
		"extension, `# yaml-language-server: $schema=forebay.schema.json` in a file's first line. `forebay lint` knows more: it also reads durations, sizes, URLs and expressions.\n")
	all := fieldSpecs()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", name, all[name].Doc)
		for _, f := range all[name].Docs() {
			kind := f.Type
			if len(f.Allowed) > 0 {
				kind = strings.Join(f.Allowed, ", ")
			}
			switch {
			case f.Required:
				kind += "; required"
			case f.Default != "":
				kind += "; default `" + f.Default + "`"
			}
			fmt.Fprintf(&b, "- `%s` (%s): %s\n", f.Name, kind, f.Doc)
		}
	}
	return b.String()
}

// TestFields: every field of every connector stands in `forebay fields`, in the JSON Schema, and in docs/fields.md, and nothing else does.
func TestFields(t *testing.T) {
	const page = "../../docs/fields.md"
	if *update {
		if err := os.WriteFile(page, []byte(fieldsDocument()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(page); err != nil || string(text) != fieldsDocument() {
		t.Errorf("docs/fields.md is not what the specs say (%v): go test ./cmd/forebay -run TestFields -update", err)
	}
	var out, errw bytes.Buffer
	if code := run(t.Context(), []string{"fields", "--json-schema"}, nil, &out, &errw); code != 0 {
		t.Fatal(errw.String())
	}
	type kinds struct {
		AdditionalProperties struct {
			AllOf []struct {
				If struct {
					Properties map[string]struct{ Const string }
				}
				Then struct {
					Properties map[string]struct {
						Properties map[string]any // of a group
					}
					Required             []string
					AdditionalProperties *bool
				}
			}
		}
	}
	var schema struct {
		Properties struct{ Sources, Sinks kinds }
	}
	if err := json.Unmarshal(out.Bytes(), &schema); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for name, s := range fieldSpecs() {
		kind, typ, _ := strings.Cut(name, " ")
		var shown bytes.Buffer
		if code := run(t.Context(), []string{"fields", typ}, nil, &shown, &errw); code != 0 {
			t.Fatal(errw.String())
		}
		_, section, ok := strings.Cut(shown.String(), name+"\n")
		for _, other := range []string{"\nsource ", "\nsink "} {
			section, _, _ = strings.Cut(section, other)
		}
		of := schema.Properties.Sources
		if kind == "sink" {
			of = schema.Properties.Sinks
		}
		for _, c := range of.AdditionalProperties.AllOf {
			if c.If.Properties["type"].Const != typ {
				continue
			}
			seen++
			if c.Then.AdditionalProperties == nil || *c.Then.AdditionalProperties {
				t.Errorf("%s: the schema allows any field", name)
			}
			want := map[string]bool{"type": true}
			for _, f := range s.Docs() {
				group, member, nested := strings.Cut(f.Name, ".")
				want[f.Name], want[group] = true, true
				_, within := c.Then.Properties[group].Properties[member]
				if _, flat := c.Then.Properties[f.Name]; !flat || nested && !within {
					t.Errorf("%s: the schema has no field %s", name, f.Name)
				}
				if f.Required != slices.Contains(c.Then.Required, f.Name) {
					t.Errorf("%s: whether %s is required", name, f.Name)
				}
				if !ok || !strings.Contains(section, "\n  "+f.Name+"  (") {
					t.Errorf("forebay fields %s does not show %s", typ, f.Name)
				}
			}
			for f := range c.Then.Properties {
				if !want[f] {
					t.Errorf("%s: the schema has a field %s, which is none", name, f)
				}
			}
		}
	}
	if seen != len(fieldSpecs()) {
		t.Errorf("%d of %d connectors are in the schema", seen, len(fieldSpecs()))
	}
	if code := run(t.Context(), []string{"fields", "postgres", "--json-schema"}, nil, &out, &errw); code != 2 {
		t.Errorf("--json-schema of one type: exit code %d", code)
	}
}

// TestDocumentedYAML lints every YAML block of every page: a whole file, or a list of transforms, or tests, which get the rest that they need.
func TestDocumentedYAML(t *testing.T) {
	const source = "sources:\n  shop:\n    type: postgres\n    url: postgres://db/shop\n    tables: [public.orders]\n"
	block := regexp.MustCompile("(?ms)^```ya?ml\n(.*?)^```")
	root, seen := filepath.Join("..", ".."), 0
	o := configOptions()
	o.Remote, o.Getenv = true, func(string) (string, bool) { return "", false } // whoever reads the page sets the variables
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && name != root && strings.HasPrefix(e.Name(), ".") {
			return filepath.SkipDir
		}
		if filepath.Ext(name) != ".md" || e.IsDir() {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for i, m := range block.FindAllStringSubmatch(string(text), -1) {
			seen++
			yaml := m[1]
			switch {
			case strings.HasPrefix(yaml, "- "):
				yaml = source + "    transforms:\n      " + strings.ReplaceAll(yaml, "\n", "\n      ")
			case strings.HasPrefix(yaml, "tests:"):
				yaml = source + yaml
			}
			file := filepath.Join(t.TempDir(), "block.yaml")
			if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
				return err
			}
			problems, err := configs.Lint([]string{file}, o)
			if err == nil {
				err = problems.Err()
			}
			if err != nil {
				t.Errorf("%s, YAML block %d: %v\n%s", name, i+1, err, yaml)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 19 {
		t.Errorf("only %d YAML blocks", seen)
	}
}
