package jsonschema

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/connect"
	"github.com/forebayhub/forebay/runtime/registry/jsonschema"
	"github.com/forebayhub/forebay/runtime/registry/tree"
)

// maxTypes bounds what a schema comes to when each reference in it is written out: schemas that name each other twice double at each step.
const maxTypes = 20_000

// maxLevels bounds how deep types lie in each other, and references lead on.
const maxLevels = 128

// Anything is the type of what a schema does not describe, or only by itself: its JSON text. It is told by its address.
var Anything = &schema.Schema{Kind: schema.String, Name: "io.debezium.data.Json", Version: 1, Optional: true}

// OneOf is the name that JsonSchemaData gives to a struct that has a member for each type that a value may have.
const OneOf = "io.confluent.connect.json.OneOf"

// TypesOf describes the values of a schema, as JsonSchemaData.toConnectSchema does. defaults are those of types that may not be null.
func TypesOf(s *jsonschema.Schema) (_ *schema.Schema, defaults map[*schema.Schema]*tree.Value, _ error) {
	c := compiler{s: s, busy: map[*tree.Value]bool{}, defaults: map[*schema.Schema]*tree.Value{}}
	t, err := c.of(s.Root(), s.Root(), 0)
	return t, c.defaults, err
}

type compiler struct {
	s        *jsonschema.Schema
	busy     map[*tree.Value]bool // references that are being followed
	types    int
	defaults map[*schema.Schema]*tree.Value
}

// of describes v, which stands in doc.
func (c *compiler) of(v, doc *tree.Value, level int) (*schema.Schema, error) {
	s, err := c.described(v, doc, level)
	if err == nil && !s.Optional {
		if d := v.Get("default"); d != nil && d.Kind != tree.Null {
			c.defaults[s] = d
		}
	}
	return s, err
}

func (c *compiler) described(v, doc *tree.Value, level int) (*schema.Schema, error) {
	if c.types++; c.types > maxTypes {
		return nil, fmt.Errorf("the schema comes to more than %d types", maxTypes)
	}
	if level++; level > maxLevels || !v.Is(tree.Object) {
		return Anything, nil
	}
	if ref := v.Get("$ref"); ref != nil {
		to, in, err := c.s.Follow(ref, doc)
		if err != nil {
			return nil, err
		}
		if c.busy[to] { // part of itself
			return Anything, nil
		}
		c.busy[to] = true
		defer delete(c.busy, to)
		return c.of(to, in, level)
	}
	for _, how := range []string{"oneOf", "anyOf"} {
		if list := v.Get(how); list.Is(tree.Array) {
			if s, err := c.union(v, list.Items, doc, level); err != nil || s != Anything {
				return s, err
			} // else they only say more of what v says itself
		}
	}
	if list := v.Get("allOf"); list.Is(tree.Array) {
		return c.all(v, list.Items, doc, level)
	}
	if list := v.Get("type"); list.Is(tree.Array) {
		var types []*tree.Value
		for _, t := range list.Items {
			types = append(types, with(v, "type", t))
		}
		return c.union(&tree.Value{Kind: tree.Object}, types, doc, level)
	}
	s, err := c.typed(v, doc, level)
	if err != nil || s == Anything {
		return s, err
	}
	describeBy(s, v)
	return s, nil
}

// with is v with another value of a member.
func with(v *tree.Value, name string, to *tree.Value) *tree.Value {
	out := without(v, name)
	if out == v {
		out = &tree.Value{Kind: tree.Object, Members: slices.Clone(v.Members)}
	}
	add(out, name, to)
	return out
}

// without is v, or one without a member if it is an object that has it.
func without(v *tree.Value, name string) *tree.Value {
	if v.Get(name) == nil {
		return v
	}
	return &tree.Value{Kind: tree.Object, Members: slices.DeleteFunc(slices.Clone(v.Members), func(m tree.Member) bool { return m.Name == name })}
}

func describeBy(s *schema.Schema, v *tree.Value) {
	if title := v.Get("title").Str(); title != "" {
		s.Name = title
	}
	if doc := v.Get("description").Str(); doc != "" {
		s.Doc = doc
	}
	if n, err := strconv.Atoi(digits(v.Get(connect.PropVersion))); err == nil {
		s.Version = n
	}
	if params := v.Get(connect.PropParams); params.Is(tree.Object) && len(params.Members) > 0 {
		s.Params = make(map[string]string, len(params.Members))
		for _, m := range params.Members {
			s.Params[m.Name] = m.Value.Str()
		}
	}
}

func digits(v *tree.Value) string {
	if v.Is(tree.Number) {
		return v.Text
	}
	return ""
}

// typeOf is the type that v says, or that its other words or its values do.
func typeOf(v *tree.Value) string {
	if t := v.Get("type").Str(); t != "" {
		return t
	}
	values := []*tree.Value{v.Get("const")}
	if list := v.Get("enum"); list.Is(tree.Array) {
		values = list.Items
	}
	if len(values) > 0 && !slices.ContainsFunc(values, func(v *tree.Value) bool { return !v.Is(tree.String) }) {
		return "string"
	}
	switch {
	case v.Get("properties") != nil:
		return "object"
	case v.Get("items") != nil:
		return "array"
	}
	return ""
}

func (c *compiler) typed(v, doc *tree.Value, level int) (*schema.Schema, error) {
	s := &schema.Schema{}
	as := v.Get(connect.PropType).Str()
	switch typeOf(v) {
	case "boolean":
		s.Kind = schema.Bool
	case "integer", "number":
		s.Kind = schema.Float64
		if typeOf(v) == "integer" {
			s.Kind = schema.Int64
		}
		for kind, n := range numbers {
			if n.connect == as {
				s.Kind = kind
			}
		}
		switch as {
		case "int8":
			s.Kind = schema.Int16
		case typeBytes: // a decimal, with decimal.format: NUMERIC
			s.Kind = schema.Bytes
		}
	case "string":
		if s.Kind = schema.String; as == typeBytes {
			s.Kind = schema.Bytes
		}
	case "null":
		s.Kind, s.Optional = schema.String, true
	case "array":
		return c.array(s, v, doc, level)
	case "object":
		return c.object(s, v, doc, level)
	default:
		return Anything, nil
	}
	return s, nil
}

func (c *compiler) array(s *schema.Schema, v, doc *tree.Value, level int) (_ *schema.Schema, err error) {
	items := v.Get("items")
	if v.Get("prefixItems") != nil { // types by places
		items = nil
	}
	if p := items.Get("properties"); v.Get(connect.PropType).Str() == typeMap && p != nil {
		s.Kind = schema.Map
		if s.Key, err = c.of(p.Get(keyField), doc, level); err != nil {
			return nil, err
		}
		s.Elem, err = c.of(p.Get(valueField), doc, level)
		return s, err
	}
	s.Kind = schema.Array
	s.Elem, err = c.of(items, doc, level)
	return s, err
}

// object is a struct; one without properties is a map.
func (c *compiler) object(s *schema.Schema, v, doc *tree.Value, level int) (_ *schema.Schema, err error) {
	p, more := v.Get("properties"), v.Get("additionalProperties")
	if v.Get(connect.PropType).Str() == typeMap || (!p.Is(tree.Object) || len(p.Members) == 0) && more.Is(tree.Object) {
		s.Kind, s.Key = schema.Map, &schema.Schema{Kind: schema.String}
		s.Elem, err = c.of(more, doc, level)
		return s, err
	}
	if !p.Is(tree.Object) {
		return Anything, nil
	}
	must := map[string]bool{}
	if list := v.Get("required"); list.Is(tree.Array) {
		for _, name := range list.Items {
			must[name.Str()] = true
		}
	}
	s.Kind = schema.Struct
	for _, m := range inOrder(p.Members) {
		if m.Value.Get(propDropped).Is(tree.Bool) {
			continue
		}
		f, err := c.of(m.Value, doc, level)
		if err != nil {
			return nil, err
		}
		if !must[m.Name] {
			f = schema.OptionalOf(f)
		}
		s.Fields = append(s.Fields, schema.Field{Name: m.Name, Schema: f})
	}
	return s, nil
}

// inOrder sorts properties by their index; those without one stay where they are, behind the others.
func inOrder(all []tree.Member) []tree.Member {
	index := func(m tree.Member) int {
		if n, err := strconv.Atoi(digits(m.Value.Get(propIndex))); err == nil {
			return n
		}
		return int(^uint(0) >> 1)
	}
	return slices.SortedStableFunc(slices.Values(all), func(a, b tree.Member) int { return cmp.Compare(index(a), index(b)) })
}

// union is the one of types that is not null, or a struct with a member for each.
func (c *compiler) union(v *tree.Value, types []*tree.Value, doc *tree.Value, level int) (*schema.Schema, error) {
	null := false
	var others []*schema.Schema
	for _, t := range types {
		if t.Get("type").Str() == "null" {
			null = true
			continue
		}
		s, err := c.of(t, doc, level)
		if err != nil {
			return nil, err
		}
		if s == Anything { // which takes the place of all others
			return Anything, nil
		}
		others = append(others, s)
	}
	switch len(others) {
	case 0:
		return &schema.Schema{Kind: schema.String, Optional: true}, nil
	case 1:
		if null {
			return schema.OptionalOf(others[0]), nil
		}
		return others[0], nil
	}
	s := &schema.Schema{Kind: schema.Struct, Name: OneOf, Optional: null, Doc: v.Get("description").Str()}
	for i, t := range others {
		s.Fields = append(s.Fields, schema.Field{Name: OneOf + ".field." + strconv.Itoa(i), Schema: schema.OptionalOf(t)})
	}
	return s, nil
}

// all is what several schemas say together: structs have the properties of all, else the first counts that says a type.
func (c *compiler) all(v *tree.Value, parts []*tree.Value, doc *tree.Value, level int) (*schema.Schema, error) {
	rest := without(v, "allOf")
	out := Anything
	for _, part := range append(slices.Clone(parts), rest) {
		s, err := c.of(part, doc, level)
		switch {
		case err != nil:
			return nil, err
		case s == Anything:
		case out == Anything:
			shared := *s
			out = &shared
		case out.Kind == schema.Struct && s.Kind == schema.Struct && s.Name != OneOf:
			for _, f := range s.Fields {
				if i := out.FieldIndex(f.Name); i < 0 {
					out.Fields = append(slices.Clip(out.Fields), f)
				} else if !f.Schema.Optional {
					out.Fields = slices.Clone(out.Fields)
					out.Fields[i] = f
				}
			}
			if s.Name != "" {
				out.Name = s.Name
			}
		}
	}
	if out != Anything {
		describeBy(out, rest)
	}
	return out, nil
}
