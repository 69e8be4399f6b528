// Package avro is values as Avro's binary encoding: which Avro schema a typed value has, and its bytes, both ways.
//
// The schemas are those that Confluent's AvroConverter makes of the same Connect schemas (io.confluent.connect.avro.AvroData), so what reads Debezium's
// topics in Avro reads ours. An optional type is a union with null first and null as the field's default; a semantic name, its version and
// its parameters are properties (connect.name, connect.version, connect.parameters); decimals, dates, times and timestamps of Connect
// have Avro's logical type besides.
//
// Two things differ, since AvroConverter fails there. A name that Avro does not allow has _ in place of what is wrong with it, as Debezium
// does with field.name.adjustment.mode=avro; the property forebay.name keeps the name, so that it comes back. And where two types that
// are not the same would have one name, the second gets a number.
package avro

import (
	"maps"
	"slices"
	"strconv"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/connect"
	"github.com/forebayhub/forebay/runtime/registry/avro"
	"github.com/forebayhub/forebay/runtime/registry/tree"
)

// The names that AvroData gives to what has none, and the properties by which it knows its own.
const (
	space       = "io.confluent.connect.avro"
	noName      = "ConnectDefault"
	mapEntry    = "MapEntry"
	unionName   = space + ".Union"
	propDoc     = "connect.doc"
	propEntry   = "connect.internal.type"
	propLogical = "logicalType"
)

// defaultPrecision is AvroData's of a decimal that says none.
const defaultPrecision = 64

// SchemaOf is the schema that values of s are written with. SchemaOf(nil) is null.
func SchemaOf(s *schema.Schema) *avro.Schema {
	m := maker{made: map[string]*made{}}
	return m.of(s)
}

// maker names the types of one schema: a name means one type.
type maker struct{ made map[string]*made }

// made is a record and what it was made of.
type made struct {
	from *schema.Schema
	as   *avro.Schema
}

func (m *maker) of(s *schema.Schema) *avro.Schema {
	if s == nil {
		return &avro.Schema{Type: "null"}
	}
	base := m.base(s)
	if !s.Optional {
		return base
	}
	if base.Type == avro.Union {
		base.Types = append([]*avro.Schema{{Type: "null"}}, base.Types...)
		return base
	}
	return &avro.Schema{Type: avro.Union, Types: []*avro.Schema{{Type: "null"}, base}}
}

// base is s without regard to Optional.
func (m *maker) base(s *schema.Schema) *avro.Schema {
	var a *avro.Schema
	switch s.Kind {
	case schema.Bool:
		a = &avro.Schema{Type: "boolean"}
	case schema.Int16, schema.Int32:
		a = &avro.Schema{Type: "int"}
	case schema.Int64:
		a = &avro.Schema{Type: "long"}
	case schema.Float32:
		a = &avro.Schema{Type: "float"}
	case schema.Float64:
		a = &avro.Schema{Type: "double"}
	case schema.String:
		a = &avro.Schema{Type: "string"}
	case schema.Bytes:
		a = &avro.Schema{Type: "bytes"}
	case schema.Array:
		a = &avro.Schema{Type: avro.Array, Of: m.of(s.Elem)}
	case schema.Map:
		a = m.mapOf(s)
	case schema.Struct:
		return m.record(s)
	default: // only null has no type
		return &avro.Schema{Type: "null"}
	}
	a.Props = append(a.Props, props(s)...)
	return a
}

// mapOf is Avro's map, whose keys are strings, or an array of keys and values.
func (m *maker) mapOf(s *schema.Schema) *avro.Schema {
	if plainKeys(s) {
		return &avro.Schema{Type: avro.Map, Of: m.of(s.Elem)}
	}
	entry := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "key", Schema: s.Key}, {Name: "value", Schema: s.Elem}}}
	name := avro.Name{Space: space, Name: mapEntry}
	if s.Name != "" {
		name = nameOf(s.Name)
	}
	of := m.define(entry, name)
	if s.Name != "" && len(of.Props) == 0 {
		of.Props = []tree.Member{{Name: propEntry, Value: text(mapEntry)}}
	}
	return &avro.Schema{Type: avro.Array, Of: of}
}

func plainKeys(s *schema.Schema) bool { return s.Key.Kind == schema.String && !s.Key.Optional }

func (m *maker) record(s *schema.Schema) *avro.Schema {
	name := avro.Name{Space: space, Name: noName}
	if s.Name != "" {
		name = nameOf(s.Name)
	}
	return m.define(s, name)
}

// define is the record of that name, which may be there already.
func (m *maker) define(s *schema.Schema, name avro.Name) *avro.Schema {
	required := s
	if s.Optional {
		c := *s
		c.Optional = false
		required = &c
	}
	wanted := name
	for n := 2; ; n++ {
		have := m.made[name.String()]
		if have == nil {
			break
		}
		if schema.Equal(have.from, required) {
			return have.as
		}
		name.Name = wanted.Name + strconv.Itoa(n)
	}
	a := &avro.Schema{Type: avro.Record, Name: name, Props: props(s)}
	m.made[name.String()] = &made{required, a}
	var columns []string
	for _, f := range s.Fields {
		columns = append(columns, f.Name)
	}
	names := connect.Names(columns, func(name string) string { return name })
	for i, f := range s.Fields {
		field := avro.Field{Name: names[i], Type: m.of(f.Schema)}
		if field.Name != f.Name {
			field.Props = []tree.Member{{Name: connect.PropOrigin, Value: text(f.Name)}}
		}
		if f.Schema.Optional {
			field.Default = &tree.Value{Kind: tree.Null}
		}
		a.Fields = append(a.Fields, field)
	}
	return a
}

// nameOf splits a semantic name at its last dot.
func nameOf(full string) avro.Name {
	space, name := connect.Split(full)
	return avro.Name{Space: space, Name: name}
}

func text(s string) *tree.Value { return &tree.Value{Kind: tree.String, Text: s} }
func number(n int) *tree.Value {
	return &tree.Value{Kind: tree.Number, Text: strconv.Itoa(n)}
}

// props are the properties of a type, in AvroData's order.
func props(s *schema.Schema) (out []tree.Member) {
	add := func(name string, v *tree.Value) { out = append(out, tree.Member{Name: name, Value: v}) }
	scale, precision := decimalOf(s)
	if s.Name == connect.Decimal {
		add("scale", number(scale))
		add("precision", number(precision))
	}
	if s.Doc != "" {
		add(propDoc, text(s.Doc))
	}
	if s.Version != 0 {
		add(connect.PropVersion, number(s.Version))
	}
	if len(s.Params) > 0 {
		params := &tree.Value{Kind: tree.Object}
		for _, k := range slices.Sorted(maps.Keys(s.Params)) {
			params.Members = append(params.Members, tree.Member{Name: k, Value: text(s.Params[k])})
		}
		add(connect.PropParams, params)
	}
	if s.Name != "" {
		add(connect.PropName, text(s.Name))
	}
	if s.Kind == schema.Int16 {
		add(connect.PropType, text("int16"))
	}
	if name := logical[s.Name]; name != "" && (s.Name != connect.Decimal || scale >= 0 && scale <= precision) {
		add(propLogical, text(name))
	}
	return out
}

var logical = map[string]string{connect.Decimal: "decimal", connect.Date: "date", connect.Time: "time-millis", connect.Timestamp: "timestamp-millis"}

// decimalOf is how many digits a decimal has, behind the point and in all.
func decimalOf(s *schema.Schema) (scale, precision int) {
	precision, err := strconv.Atoi(s.Params[connect.ParamPrecision])
	if err != nil || precision < 1 {
		precision = defaultPrecision
	}
	return connect.ScaleOf(s), precision
}
