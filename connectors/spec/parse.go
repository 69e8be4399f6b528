package spec

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Parse reads a connector's mapping by its Spec: unknown keys are findings with
// the nearest known key as a hint, missing required ones too. Findings that are
// not warnings mean that the Values must not be used. Keys in ignore (type,
// delivery, …) belong to the caller.
//
// A group may be written nested (rotate: {size: 1MiB}) or with dots
// (rotate.size: 1MiB), also mixed; a key given twice is a finding.
func (s Spec) Parse(n Node, ignore ...string) (Values, []Finding) {
	p := parser{
		fields: map[string]*Field{},
		groups: map[string]bool{},
		ignore: map[string]bool{},
		values: map[string]any{},
		given:  map[string]bool{},
	}
	for _, name := range ignore {
		p.ignore[name] = true
	}
	s.each(func(name string, f *Field) {
		p.names = append(p.names, name)
		p.fields[name] = f
		for i := range len(name) {
			if name[i] == '.' {
				p.groups[name[:i]] = true
			}
		}
	})
	switch n.Shape {
	case Mapping:
		p.mapping("", n)
		p.readTrees()
	case Absent:
	default:
		p.find("", n.Line, n.Col, "a connector is a mapping of fields", "write each field on a line of its own: name: value")
	}
	for _, name := range p.names {
		f := p.fields[name]
		if p.given[name] {
			continue
		}
		p.values[name] = f.defaultValue()
		if f.Required {
			hint := ""
			if f.Example != "" {
				hint = fmt.Sprintf("for example %s: %s", name, f.Example)
			}
			p.find(name, n.Line, n.Col, fmt.Sprintf("field '%s' is required", name), hint)
		}
	}
	return Values{m: p.values, given: p.given}, p.findings
}

// Defaults are the Values of an empty config, required fields at their zero.
func (s Spec) Defaults() Values {
	v, _ := s.Parse(Node{Shape: Mapping})
	return v
}

// each calls fn for every leaf field with its flat name, in the order of the Spec.
func (s Spec) each(fn func(name string, f *Field)) { eachField("", s.Fields, fn) }

func eachField(prefix string, fields []Field, fn func(string, *Field)) {
	for i := range fields {
		f := &fields[i]
		if f.Type == Group {
			eachField(prefix+f.Name+".", f.Fields, fn)
			continue
		}
		fn(prefix+f.Name, f)
	}
}

type parser struct {
	names    []string // flat, in the order of the Spec
	fields   map[string]*Field
	groups   map[string]bool
	ignore   map[string]bool
	values   map[string]any
	given    map[string]bool
	trees    []*flatTree // written with dots
	findings []Finding
}

func (p *parser) find(path string, line, col int, message, hint string) {
	p.findings = append(p.findings, Finding{Path: path, Line: line, Col: col, Message: message, Hint: hint})
}

func (p *parser) mapping(prefix string, n Node) {
	for i := range n.Map {
		e := &n.Map[i]
		name := prefix + e.Key
		switch f := p.fields[name]; {
		case p.ignore[name]:
		case f != nil:
			p.field(name, f, e)
		case p.groups[name] && e.Value.Shape == Mapping:
			p.mapping(name+".", e.Value)
		case p.groups[name] && e.Value.Shape == Absent:
		case p.groups[name]:
			p.find(name, e.Line, e.Col, fmt.Sprintf("field '%s' is a mapping", name), "its fields are "+strings.Join(p.members(name), ", "))
		case p.tree(name, e):
		default:
			hint := ""
			if near := p.nearest(name); near != "" {
				hint = fmt.Sprintf("did you mean '%s'?", near)
			}
			p.find(name, e.Line, e.Col, fmt.Sprintf("unknown field '%s'", name), hint)
		}
	}
}

func (p *parser) field(name string, f *Field, e *Entry) {
	if p.given[name] {
		p.find(name, e.Line, e.Col, fmt.Sprintf("field '%s' is given twice", name), "")
		return
	}
	p.given[name] = true
	p.values[name] = f.zero()
	n := e.Value
	line, col := n.Line, n.Col
	if line == 0 {
		line, col = e.Line, e.Col
	}
	if n.unresolved() {
		return // there is nothing to check here
	}
	if f.Type == Tree && n.Shape != Absent {
		p.values[name] = n
		for _, found := range f.Read(n) {
			found.Path = strings.TrimSuffix(name+"."+found.Path, ".")
			p.findings = append(p.findings, found)
		}
		return
	}
	var v any
	switch {
	case n.Shape == Absent:
		p.find(name, e.Line, e.Col, fmt.Sprintf("field '%s' has no value", name), "remove the line to take the default")
		return
	case n.Shape == List && f.Type == Strings:
		list := make([]string, 0, len(n.List))
		for _, item := range n.List {
			if item.Shape != Scalar {
				p.find(name, item.Line, item.Col, fmt.Sprintf("field '%s' is a list of strings", name), "")
				return
			}
			list = append(list, item.Text)
		}
		v = list
	case n.Shape == Scalar && f.Type == Strings && n.Flat:
		v = SplitList(n.Text)
	case n.Shape == Scalar:
		var err error
		if v, err = f.parseScalar(n.Text); err != nil {
			hint := ""
			var enum *enumError
			if errors.As(err, &enum) {
				if near := Nearest(enum.text, enum.allowed); near != "" {
					hint = fmt.Sprintf("did you mean '%s'?", near)
				}
			}
			p.find(name, line, col, fmt.Sprintf("field '%s': %v", name, err), hint)
			return
		}
	default:
		p.find(name, line, col, fmt.Sprintf("field '%s' is %s", name, f.Type.describe()), "")
		return
	}
	if f.Required && isEmpty(v) {
		p.find(name, line, col, fmt.Sprintf("field '%s' is empty", name), "it is required")
		return
	}
	if f.Check != nil {
		if err := f.Check(v); err != nil {
			p.find(name, line, col, fmt.Sprintf("field '%s': %v", name, err), "")
			return
		}
	}
	p.values[name] = v
}

// AnyUnresolved says that something in n, however deep, has no value on this machine.
func (n Node) AnyUnresolved() bool {
	return n.Unresolved || slices.ContainsFunc(n.List, Node.AnyUnresolved) || slices.ContainsFunc(n.Map, func(e Entry) bool { return e.Value.AnyUnresolved() })
}

// unresolved says that a scalar, or one of a list, has no value on this machine.
func (n Node) unresolved() bool {
	return n.Unresolved || slices.ContainsFunc(n.List, func(item Node) bool { return item.Unresolved })
}

func isEmpty(v any) bool {
	switch x := v.(type) {
	case string:
		return x == ""
	case SecretText:
		return x == ""
	case []string:
		return len(x) == 0
	}
	return false
}

// describe names the type for a message: "field 'x' is …".
func (t Type) describe() string {
	switch t {
	case Int:
		return "a whole number"
	case Bool:
		return "true or false"
	case Duration:
		return "a duration, like 30s"
	case Size:
		return "a size, like 128MiB"
	case Enum:
		return "a single word"
	case Strings:
		return "a list of strings"
	case Tree:
		return "a list of mappings"
	}
	return "a single string"
}

// members are the flat names within a group.
func (p *parser) members(group string) []string {
	var out []string
	for _, name := range p.names {
		if strings.HasPrefix(name, group+".") {
			out = append(out, name)
		}
	}
	return out
}

// nearest is the known key that was probably meant by name, or "".
func (p *parser) nearest(name string) string {
	known := append([]string(nil), p.names...)
	for g := range p.groups {
		known = append(known, g)
	}
	for k := range p.ignore {
		known = append(known, k)
	}
	if near := nearest(name, known); near != "" {
		return near
	}
	// rotate_size, rotatesize, size: the same letters, or a member without its group.
	bare := strings.NewReplacer("_", "", "-", "", ".", "")
	for _, k := range p.names {
		if strings.EqualFold(bare.Replace(k), bare.Replace(name)) || strings.HasSuffix(k, "."+name) {
			return k
		}
	}
	return ""
}
