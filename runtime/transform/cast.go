package transform

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
)

// castKinds are Kafka Connect's names of types; int8 is not here, for no column has it.
var castKinds = map[string]schema.Kind{"int16": schema.Int16, "int32": schema.Int32, "int64": schema.Int64, "float32": schema.Float32,
	"float64": schema.Float64, "boolean": schema.Bool, "string": schema.String}

const castNames = "int16, int32, int64, float32, float64, boolean, string"

var castType = &Type{
	Name: "cast", Connect: "Cast", keyed: true,
	Spec: spec.Spec{Doc: "Gives fields another type. A number that does not fit is an error; a fraction is cut off. Null stays null.", Fields: []spec.Field{
		{Name: "fields", Type: spec.Strings, Required: true, Check: casts, Doc: "Pairs of field and type (" + castNames + "). A field that is not there is no error.", Example: "[\"amount:float64\", \"id:string\"]"}}},
	Example: "- {type: cast, fields: [\"amount:float64\", \"id:string\"]}",
	make: func(v spec.Values, _ Side) (applier, error) {
		var names []string
		to := map[string]schema.Kind{}
		for _, p := range v.Strings("fields") {
			name, kind := pair(p)
			names, to[name] = append(names, name), castKinds[kind]
		}
		return editorOf(v, names, func(b *builder, i int, path string) error {
			f, kind := b.in.Fields[i], to[path]
			if f.Schema.Kind == kind && f.Schema.Name == "" {
				b.keep(i)
				return nil
			}
			out := schema.Field{Name: f.Name, Schema: &schema.Schema{Kind: kind, Optional: f.Schema.Optional, Doc: f.Schema.Doc}}
			b.put(out, column{from: i, convert: func(w *work, v schema.Value) (schema.Value, error) {
				return cast(w, connectors.Datum{Schema: f.Schema, Value: v}, kind)
			}})
			return nil
		}), nil
	},
}

func casts(v any) error {
	for _, p := range v.([]string) { //nolint:forcetypeassert // of Strings
		name, kind := pair(p)
		if _, ok := castKinds[kind]; !ok || name == "" {
			return fmt.Errorf("%q is not field:type, the types being %s", p, castNames)
		}
	}
	return nil
}

// cast converts a scalar as Cast.java does, but for integers that do not fit: those are an error here, not other numbers.
func cast(w *work, d connectors.Datum, to schema.Kind) (schema.Value, error) {
	v := d.Value
	if v.IsNull() || v.Kind == schema.Unavailable {
		return v, nil
	}
	if v.Kind == schema.Bytes && d.Schema.Name != decimalName {
		if to != schema.String {
			return v, errors.New("bytes can only become a string")
		}
		return schema.TextOf(base64.StdEncoding.AppendEncode(nil, v.Data)), nil
	}
	text, ok := appendText(nil, d)
	if !ok {
		return v, fmt.Errorf("%s cannot be cast", kindName(v.Kind))
	}
	switch to {
	case schema.String:
		return schema.TextOf(w.b.Copy(text)), nil
	case schema.Bool:
		switch v.Kind {
		case schema.Bool:
			return v, nil
		case schema.Int16, schema.Int32, schema.Int64:
			return schema.BoolOf(v.Int() != 0), nil
		case schema.Float32, schema.Float64:
			return schema.BoolOf(int64(v.Float()) != 0), nil
		}
		return parseAs(to, string(text))
	case schema.Float32, schema.Float64:
		if v.Kind == schema.Bool {
			text = []byte{'0' + byte(integer(v.Bool()))}
		}
		return parseAs(to, string(text))
	}
	switch v.Kind {
	case schema.Bool:
		return integerOf(to, integer(v.Bool()))
	case schema.Int16, schema.Int32, schema.Int64:
		return integerOf(to, v.Int())
	case schema.Float32, schema.Float64:
		if f := v.Float(); f > -(1<<63) && f < 1<<63 {
			return integerOf(to, int64(f))
		}
		return v, fmt.Errorf("%s does not fit %s", text, to)
	case schema.Bytes: // a decimal
		whole, _, _ := strings.Cut(string(text), ".")
		return parseAs(to, whole)
	}
	return parseAs(to, string(text))
}

func integer(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

var flattenType = &Type{
	Name: "flatten", Connect: "Flatten", keyed: true,
	Spec: spec.Spec{Doc: "Makes the fields of objects within the value fields of the value, named by their path. Arrays stay as they are.", Fields: []spec.Field{
		{Name: "delimiter", Default: ".", Doc: "What stands between the names of a path.", Example: "_"}}},
	Example: "- {type: flatten, delimiter: _}",
	make: func(v spec.Values, _ Side) (applier, error) {
		delimiter := v.String("delimiter")
		return reshaperOf(v, func(in *schema.Schema) (*layout, error) {
			b := build(in)
			seen := map[string]bool{}
			err := flat(b, in, nil, "", delimiter, seen)
			return b.layout(), err
		}), nil
	},
}

// flat adds the fields of s, which lies at the end of path, to the columns.
func flat(b *builder, s *schema.Schema, path []int, prefix, delimiter string, seen map[string]bool) error {
	for i, f := range s.Fields {
		at, name := append(path[:len(path):len(path)], i), prefix+f.Name
		if f.Schema.Kind == schema.Struct && len(f.Schema.Fields) > 0 {
			if err := flat(b, f.Schema, at, name+delimiter, delimiter, seen); err != nil {
				return err
			}
			continue
		}
		if seen[name] {
			return advise("give another `delimiter`", "two fields would be called '%s'", name)
		}
		if seen[name] = true; len(at) == 1 {
			b.keep(i)
			continue
		}
		out := *f.Schema
		out.Optional = true // what it lay in may be null
		b.put(schema.Field{Name: name, Schema: &out}, column{from: at[0], convert: func(_ *work, v schema.Value) (schema.Value, error) {
			for _, i := range at[1:] {
				if v.Kind != schema.Struct || i >= len(v.List) {
					if v.Kind == schema.Unavailable {
						return v, nil
					}
					return schema.Value{}, nil
				}
				v = v.List[i]
			}
			return v, nil
		}})
	}
	return nil
}
