// Package jsonschema is typed values' schemas as JSON Schema, both ways; the values are JSON.
//
// The schemas are those that Confluent's JsonSchemaConverter makes of the same Connect schemas (io.confluent.connect.json.JsonSchemaData, with
// use.optional.for.nonrequired and without object.additional.properties): the name is the title, and properties say what JSON Schema has no
// word for (connect.type, connect.index, connect.version, connect.parameters).
//
// A registry's BACKWARD lets an object lose properties if it is open to others and gain them if it is not, so a table could do but one of the two. Here
// objects are closed, and a column that is dropped stays as a property that says so (forebay.dropped): both pass.
package jsonschema

import (
	"maps"
	"slices"
	"strconv"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/connect"
	"github.com/forebayhub/forebay/runtime/registry/tree"
)

const (
	propIndex   = "connect.index"   // a property's place among others
	propDropped = "forebay.dropped" // of a property that values do not have any more
	typeBytes   = "bytes"
	typeMap     = "map"
	keyField    = "key" // of a map's entries, where its keys are no strings
	valueField  = "value"
)

// numbers are the kinds that JSON has one word for.
var numbers = map[schema.Kind]struct{ typ, connect string }{
	schema.Int16: {"integer", "int16"}, schema.Int32: {"integer", "int32"}, schema.Int64: {"integer", "int64"},
	schema.Float32: {"number", "float32"}, schema.Float64: {"number", "float64"},
}

// SchemaOf is the JSON Schema of values of s. latest is the subject's newest one, Inlined, whose properties it keeps; nil: there is none.
func SchemaOf(s *schema.Schema, latest *tree.Value) *tree.Value { return of(s, latest, -1) }

func text(s string) *tree.Value { return &tree.Value{Kind: tree.String, Text: s} }
func number(n int) *tree.Value  { return &tree.Value{Kind: tree.Number, Text: strconv.Itoa(n)} }
func typed(t string) *tree.Value {
	return &tree.Value{Kind: tree.Object, Members: []tree.Member{{Name: "type", Value: text(t)}}}
}

func add(v *tree.Value, name string, to *tree.Value) {
	v.Members = append(v.Members, tree.Member{Name: name, Value: to})
}

// of is the schema of s; index is its place among properties, -1: it is none.
func of(s *schema.Schema, latest *tree.Value, index int) *tree.Value {
	v := required(s, alone(latest))
	if s.Optional && s.Kind != schema.Null {
		v = &tree.Value{Kind: tree.Object, Members: []tree.Member{{Name: "oneOf", Value: &tree.Value{Kind: tree.Array, Items: []*tree.Value{typed("null"), v}}}}}
	}
	if index >= 0 {
		add(v, propIndex, number(index))
	}
	return v
}

// alone is what a schema allows besides null.
func alone(v *tree.Value) *tree.Value {
	if list := v.Get("oneOf"); list.Is(tree.Array) && len(list.Items) == 2 && list.Items[0].Get("type").Str() == "null" {
		return list.Items[1]
	}
	return v
}

// required is s without regard to Optional.
func required(s *schema.Schema, latest *tree.Value) *tree.Value {
	var v *tree.Value
	switch n, isNumber := numbers[s.Kind]; {
	case isNumber:
		v = typed(n.typ)
		add(v, connect.PropType, text(n.connect))
	case s.Kind == schema.Bool:
		v = typed("boolean")
	case s.Kind == schema.Bytes:
		v = typed("string")
		add(v, connect.PropType, text(typeBytes))
	case s.Kind == schema.Array:
		v = typed("array")
		add(v, "items", of(s.Elem, latest.Get("items"), -1))
	case s.Kind == schema.Map && PlainKeys(s):
		v = typed("object")
		add(v, connect.PropType, text(typeMap))
		add(v, "additionalProperties", of(s.Elem, latest.Get("additionalProperties"), -1))
	case s.Kind == schema.Map:
		v = typed("array")
		add(v, connect.PropType, text(typeMap))
		entry := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: keyField, Schema: s.Key}, {Name: valueField, Schema: s.Elem}}}
		add(v, "items", required(entry, latest.Get("items")))
	case s.Kind == schema.Struct:
		v = typed("object")
		properties(v, s, latest.Get("properties"))
	case s.Kind == schema.Null:
		return typed("null")
	default:
		v = typed("string")
	}
	describe(v, s)
	return v
}

// PlainKeys says whether a map is an object: its keys are strings. Other maps are lists of entries.
func PlainKeys(s *schema.Schema) bool { return s.Key.Kind == schema.String && !s.Key.Optional }

// properties adds those of a struct, and those that it had.
func properties(v *tree.Value, s *schema.Schema, latest *tree.Value) {
	all, must := &tree.Value{Kind: tree.Object}, &tree.Value{Kind: tree.Array}
	for i, f := range s.Fields {
		add(all, f.Name, of(f.Schema, latest.Get(f.Name), i))
		if !f.Schema.Optional {
			must.Items = append(must.Items, text(f.Name))
		}
	}
	if latest != nil {
		for _, m := range latest.Members {
			if s.FieldIndex(m.Name) < 0 && m.Value.Is(tree.Object) {
				add(all, m.Name, dropped(m.Value, len(all.Members)))
			}
		}
	}
	add(v, "properties", all)
	if len(must.Items) > 0 {
		add(v, "required", must)
	}
	add(v, "additionalProperties", &tree.Value{Kind: tree.Bool})
}

// dropped is a property that is gone. Its index is its own, since JsonSchemaData has one property for each.
func dropped(v *tree.Value, index int) *tree.Value {
	return with(with(v, propIndex, number(index)), propDropped, &tree.Value{Kind: tree.Bool, True: true})
}

// describe says what s is called.
func describe(v *tree.Value, s *schema.Schema) {
	if s.Name != "" && s.Name != OneOf { // which is a struct like others once it was read
		add(v, "title", text(s.Name))
	}
	if s.Doc != "" {
		add(v, "description", text(s.Doc))
	}
	if s.Version != 0 {
		add(v, connect.PropVersion, number(s.Version))
	}
	if len(s.Params) > 0 {
		params := &tree.Value{Kind: tree.Object}
		for _, k := range slices.Sorted(maps.Keys(s.Params)) {
			add(params, k, text(s.Params[k]))
		}
		add(v, connect.PropParams, params)
	}
}
