package avro

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/runtime/registry/tree"
)

// Options say how strictly a schema is read.
type Options struct {
	// Known are schemas by their full names that the text may name: its references. Parse adds those that the text defines.
	Known map[string]*Schema
	// Defaults has the defaults of fields checked against their types. Java's parser did not always do so: what is stored may have wrong ones.
	Defaults bool
	// Normalize puts properties and aliases in the order of their names, so that schemas that differ in nothing else are one.
	Normalize bool
}

// Parse reads a schema, in JSON or as the bare name of a primitive type.
func Parse(text string, o Options) (*Schema, error) {
	v, err := tree.Parse([]byte(text))
	if err != nil {
		if word := strings.TrimSpace(text); slices.Contains(primitives, Type(word)) && word != "null" {
			v = &tree.Value{Kind: tree.String, Text: word}
		} else {
			return nil, err
		}
	}
	if v.Kind == tree.Null { // the word null, as Java's parser has it
		return nil, errors.New("no type: null")
	}
	p := parser{o: o}
	if p.o.Known == nil {
		p.o.Known = map[string]*Schema{}
	}
	s, err := p.schema(v, "")
	if err != nil {
		return nil, err
	}
	if o.Defaults {
		for _, f := range p.fields {
			if f.Default != nil && !p.fits(f.Default, f.Type) {
				if p.steps > maxSteps {
					return nil, fmt.Errorf("the default of field %s has too many parts to check", f.Name)
				}
				return nil, fmt.Errorf("invalid default for field %s: %s is no %s", f.Name, f.Default, f.Type.kind())
			}
		}
	}
	return s, nil
}

type parser struct {
	o      Options
	fields []*Field // of all records, for their defaults
	steps  int      // that their checks took
}

// maxSteps bounds the checks of defaults: where records name each other in unions, one that fits none of them has as many ways not to fit as there are paths.
const maxSteps = 1_000_000

func (p *parser) schema(v *tree.Value, space string) (*Schema, error) {
	switch v.Kind {
	case tree.String:
		return p.named(v.Text, space)
	case tree.Array:
		return p.union(v, space)
	case tree.Object:
		return p.object(v, space)
	}
	return nil, fmt.Errorf("not a schema: %s", v)
}

// named is a primitive type or one that was defined before.
func (p *parser) named(name, space string) (*Schema, error) {
	if slices.Contains(primitives, Type(name)) {
		return &Schema{Type: Type(name)}, nil
	}
	full := nameIn(name, space)
	if s := p.o.Known[full.String()]; s != nil {
		return s, nil
	}
	// A name without a dot may be one without a namespace, though a namespace is in force: so Java reads it.
	if s := p.o.Known[name]; s != nil && !strings.Contains(name, ".") {
		return s, nil
	}
	return nil, fmt.Errorf("undefined name: %q", full)
}

func (p *parser) union(v *tree.Value, space string) (*Schema, error) {
	s := &Schema{Type: Union}
	seen := map[string]bool{}
	for _, item := range v.Items {
		t, err := p.schema(item, space)
		if err != nil {
			return nil, err
		}
		if t.Type == Union {
			return nil, errors.New("a union lies directly in a union")
		}
		if seen[t.kind()] {
			return nil, fmt.Errorf("duplicate in union: %s", t.kind())
		}
		seen[t.kind()] = true
		s.Types = append(s.Types, t)
	}
	return s, nil
}

func (p *parser) object(v *tree.Value, space string) (*Schema, error) {
	what := v.Get("type")
	if what == nil {
		return nil, fmt.Errorf("no type: %s", clip(v))
	}
	if what.Kind != tree.String { // {"type": {...}}: the inner one is the schema
		return p.schema(what, space)
	}
	s := &Schema{Type: Type(what.Text)}
	switch s.Type {
	case Record, Error, Enum, Fixed:
		return s, p.define(s, v, space)
	case Array, Map:
		of := "items"
		if s.Type == Map {
			of = "values"
		}
		inner := v.Get(of)
		if inner == nil {
			return nil, fmt.Errorf("%s without %s: %s", s.Type, of, clip(v))
		}
		var err error
		if s.Of, err = p.schema(inner, space); err != nil {
			return nil, err
		}
	default:
		if !slices.Contains(primitives, s.Type) {
			return p.named(what.Text, space)
		}
	}
	s.Props = p.props(v, schemaWords)
	return s, nil
}

// schemaWords are the members that are no properties: Java's SCHEMA_RESERVED.
var (
	schemaWords = []string{"doc", "fields", "items", "name", "namespace", "size", "symbols", "values", "type", "aliases"}
	enumWords   = append(slices.Clone(schemaWords), "default")
	fieldWords  = []string{"default", "doc", "name", "order", "type", "aliases"}
)

func (p *parser) props(v *tree.Value, words []string) (out []tree.Member) {
	for _, m := range v.Members {
		if !slices.Contains(words, m.Name) {
			out = append(out, m)
		}
	}
	if p.o.Normalize {
		rank := func(name string) int { return slices.Index([]string{"scale", "precision", "logicalType"}, name) }
		slices.SortFunc(out, func(a, b tree.Member) int {
			if r := rank(b.Name) - rank(a.Name); r != 0 {
				return r
			}
			return strings.Compare(a.Name, b.Name)
		})
	}
	return out
}

func (p *parser) define(s *Schema, v *tree.Value, space string) error {
	name := v.Get("name").Str()
	if name == "" {
		return fmt.Errorf("%s without a name: %s", s.Type, clip(v))
	}
	in := space
	if given := v.Get("namespace"); given.Is(tree.String) {
		in = given.Text
	}
	s.Name = nameIn(name, in)
	if err := checkFull(s.Name.String()); err != nil {
		return err
	}
	if slices.Contains(primitives, Type(s.Name.Name)) && s.Name.Space == "" {
		return fmt.Errorf("%q is the name of a primitive type", s.Name)
	}
	if p.o.Known[s.Name.String()] != nil {
		return fmt.Errorf("can't redefine: %s", s.Name)
	}
	p.o.Known[s.Name.String()] = s
	s.Doc = p.doc(v)
	aliases, err := p.aliases(v)
	if err != nil {
		return err
	}
	for _, a := range aliases {
		s.Aliases = append(s.Aliases, nameIn(a, s.Name.Space))
	}
	words := schemaWords
	switch s.Type {
	case Enum:
		words = enumWords
		err = enumOf(s, v)
	case Fixed:
		size := v.Get("size")
		var n uint64
		if size.Is(tree.Number) {
			n, err = strconv.ParseUint(size.Text, 10, 31)
		}
		if !size.Is(tree.Number) || err != nil {
			return fmt.Errorf("fixed %s without a size", s.Name)
		}
		s.Size = int(n)
	default:
		err = p.record(s, v)
	}
	s.Props = p.props(v, words)
	return err
}

func (p *parser) doc(v *tree.Value) *string {
	doc := v.Get("doc")
	if !doc.Is(tree.String) || p.o.Normalize && doc.Text == "" {
		return nil
	}
	return &doc.Text
}

func (p *parser) aliases(v *tree.Value) (out []string, err error) {
	list := v.Get("aliases")
	if list == nil {
		return nil, nil
	}
	if list.Kind != tree.Array {
		return nil, fmt.Errorf("aliases are no array: %s", clip(list))
	}
	seen := map[string]bool{}
	for _, item := range list.Items {
		if item.Kind != tree.String {
			return nil, fmt.Errorf("an alias is no string: %s", clip(item))
		}
		if !seen[item.Text] {
			seen[item.Text] = true
			out = append(out, item.Text)
		}
	}
	if p.o.Normalize {
		slices.Sort(out)
	}
	return out, nil
}

func enumOf(s *Schema, v *tree.Value) error {
	list := v.Get("symbols")
	if !list.Is(tree.Array) {
		return fmt.Errorf("enum %s without symbols", s.Name)
	}
	seen := map[string]bool{}
	for _, item := range list.Items {
		if item.Kind != tree.String {
			return fmt.Errorf("enum %s: a symbol is no string: %s", s.Name, clip(item))
		}
		if err := check(item.Text); err != nil {
			return err
		}
		if seen[item.Text] {
			return fmt.Errorf("enum %s: duplicate symbol %s", s.Name, item.Text)
		}
		seen[item.Text] = true
		s.Symbols = append(s.Symbols, item.Text)
	}
	if d := v.Get("default"); d.Is(tree.String) {
		if !seen[d.Text] {
			return fmt.Errorf("the enum default %s is not in the symbols of %s", d.Text, s.Name)
		}
		s.Default = &d.Text
	}
	return nil
}

func (p *parser) record(s *Schema, v *tree.Value) error {
	list := v.Get("fields")
	if !list.Is(tree.Array) {
		return fmt.Errorf("record %s without fields", s.Name)
	}
	seen := map[string]bool{}
	fields := make([]Field, len(list.Items)) // fixed: pointers into it are kept
	for i, item := range list.Items {
		f := &fields[i]
		f.Name = item.Get("name").Str()
		if err := check(f.Name); err != nil {
			return fmt.Errorf("record %s: field %d: %w", s.Name, i, err)
		}
		if seen[f.Name] {
			return fmt.Errorf("duplicate field %s in record %s", f.Name, s.Name)
		}
		seen[f.Name] = true
		what := item.Get("type")
		if what == nil {
			return fmt.Errorf("no field type: %s of record %s", f.Name, s.Name)
		}
		var err error
		if f.Type, err = p.schema(what, s.Name.Space); err != nil {
			return err
		}
		f.Doc = p.doc(item)
		f.Default = item.Get("default")
		if order := strings.ToLower(item.Get("order").Str()); order != "" && order != "ascending" {
			if order != "descending" && order != "ignore" {
				return fmt.Errorf("field %s of record %s: no such order: %s", f.Name, s.Name, order)
			}
			f.Order = order
		}
		if f.Aliases, err = p.aliases(item); err != nil {
			return err
		}
		f.Props = p.props(item, fieldWords)
		p.fields = append(p.fields, f)
	}
	s.Fields = fields
	return nil
}

// nameIn reads a name where a space is in force.
func nameIn(name, space string) Name {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return Name{Space: name[:i], Name: name[i+1:]}
	}
	return Name{Space: space, Name: name}
}

func checkFull(name string) error {
	for part := range strings.SplitSeq(name, ".") {
		if err := check(part); err != nil {
			return err
		}
	}
	return nil
}

// check looks at a name's letters.
func check(name string) error {
	for i, r := range name {
		if r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (i == 0 || r < '0' || r > '9') {
			return fmt.Errorf("illegal character in name %q", name)
		}
	}
	if name == "" {
		return errors.New("empty name")
	}
	return nil
}

func clip(v *tree.Value) string {
	s := v.String()
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strings.ToValidUTF8(s, "")
}

// fits says whether a default is one of a type. A union's may be of any branch, as Java has allowed since 1.9.
func (p *parser) fits(v *tree.Value, s *Schema) bool {
	if p.steps++; p.steps > maxSteps {
		return false
	}
	switch s.Type {
	case "null":
		return v.Kind == tree.Null
	case "boolean":
		return v.Kind == tree.Bool
	case "int":
		n, err := whole(v)
		return err == nil && n >= math.MinInt32 && n <= math.MaxInt32
	case "long":
		_, err := whole(v)
		return err == nil
	case "float", "double":
		return v.Kind == tree.Number || v.Kind == tree.String && slices.Contains([]string{"NaN", "Infinity", "-Infinity"}, v.Text)
	case "bytes", "string", Fixed:
		return v.Kind == tree.String
	case Enum:
		return v.Kind == tree.String && slices.Contains(s.Symbols, v.Text)
	case Array:
		return v.Kind == tree.Array && !slices.ContainsFunc(v.Items, func(item *tree.Value) bool { return !p.fits(item, s.Of) })
	case Map:
		return v.Kind == tree.Object && !slices.ContainsFunc(v.Members, func(m tree.Member) bool { return !p.fits(m.Value, s.Of) })
	case Union:
		return slices.ContainsFunc(s.Types, func(t *Schema) bool { return p.fits(v, t) })
	}
	if v.Kind != tree.Object {
		return false
	}
	p.steps += len(s.Fields)
	return !slices.ContainsFunc(s.Fields, func(f Field) bool {
		if d := v.Get(f.Name); d != nil {
			return !p.fits(d, f.Type)
		}
		return f.Default == nil // a default of its own is looked at where it stands
	})
}

// whole is a number without a fraction.
func whole(v *tree.Value) (int64, error) {
	if v.Kind != tree.Number {
		return 0, errors.New("no number")
	}
	return strconv.ParseInt(v.Text, 10, 64)
}
