package spec

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// FieldDoc is one leaf field as people and tools read it.
type FieldDoc struct {
	Name     string   `json:"name"` // flat
	Type     string   `json:"type"`
	Default  string   `json:"default,omitempty"`
	Required bool     `json:"required,omitempty"`
	Allowed  []string `json:"allowed,omitempty"`
	Doc      string   `json:"doc"`
	Example  string   `json:"example,omitempty"`
}

// String names the type as `forebay fields` prints it.
func (t Type) String() string {
	names := [...]string{"string", "secret", "int", "bool", "duration", "size", "enum", "list", "group", "list of mappings"}
	if int(t) < len(names) {
		return names[t]
	}
	return "?"
}

// Docs lists the leaf fields in the order of the Spec.
func (s Spec) Docs() []FieldDoc {
	var out []FieldDoc
	s.each(func(name string, f *Field) {
		out = append(out, FieldDoc{Name: name, Type: f.Type.String(), Default: f.Default, Required: f.Required,
			Allowed: f.Enum, Doc: f.Doc, Example: f.Example})
	})
	return out
}

// Print writes the documentation of a connector type: what `forebay fields TYPE` shows.
func (s Spec) Print(w io.Writer, name string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", name)
	if s.Doc != "" {
		fmt.Fprintf(&b, "\n%s\n", wrap(s.Doc, "  "))
	}
	for _, f := range s.Docs() {
		kind := f.Type
		if len(f.Allowed) > 0 {
			kind = strings.Join(f.Allowed, " | ")
		}
		fmt.Fprintf(&b, "\n  %s  (%s", f.Name, kind)
		switch {
		case f.Required:
			b.WriteString(", required)")
		case f.Default != "":
			fmt.Fprintf(&b, ", default %s)", f.Default)
		default:
			b.WriteString(")")
		}
		b.WriteByte('\n')
		if f.Doc != "" {
			fmt.Fprintf(&b, "%s\n", wrap(f.Doc, "      "))
		}
		if f.Example != "" {
			fmt.Fprintf(&b, "      example: %s: %s\n", f.Name, f.Example)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap breaks text into lines of at most 96 columns, each with the indent.
func wrap(text, indent string) string {
	var b strings.Builder
	col := 0
	for _, word := range strings.Fields(text) {
		if col == 0 || col+1+len(word) > 96 {
			if col > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(indent)
			col = len(indent)
		} else {
			b.WriteByte(' ')
			col++
		}
		b.WriteString(word)
		col += len(word)
	}
	return b.String()
}

// Check finds mistakes in the Spec itself: a test calls it for every connector.
func (s Spec) Check() (err error) {
	seen := map[string]bool{}
	s.each(func(name string, f *Field) {
		if f.Name == "" || strings.ToLower(f.Name) != f.Name {
			err = errors.Join(err, fmt.Errorf("field %q: names are lower case", name))
		}
		if seen[name] {
			err = errors.Join(err, fmt.Errorf("field %s is there twice", name))
		}
		seen[name] = true
		if f.Doc == "" {
			err = errors.Join(err, fmt.Errorf("field %s has no Doc", name))
		}
		if f.Type == Enum && len(f.Enum) == 0 {
			err = errors.Join(err, fmt.Errorf("field %s is an enum of nothing", name))
		}
		if f.Required && f.Default != "" {
			err = errors.Join(err, fmt.Errorf("field %s is required and has a default", name))
		}
		if e := f.checkDefault(); e != nil {
			err = errors.Join(err, fmt.Errorf("field %s: default %q: %w", name, f.Default, e))
		}
	})
	return err
}

func (f *Field) checkDefault() error {
	if f.Type == Tree && f.Read == nil {
		return errors.New("a tree that nothing reads")
	}
	if f.Default == "" || f.Type == Strings {
		return nil
	}
	v, err := f.parseScalar(f.Default)
	if err == nil && f.Check != nil {
		err = f.Check(v)
	}
	return err
}
