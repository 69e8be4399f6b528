package avro

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/connect"
	"github.com/forebayhub/forebay/runtime/registry/avro"
	"github.com/forebayhub/forebay/runtime/registry/tree"
)

// maxTypes bounds what a schema comes to when each name in it is written out: types that name each other twice double at each step.
const maxTypes = 20_000

var errRecursive = errors.New("is part of itself: such records have no columns")

// form is how bytes of an Avro schema become a value.
type form struct {
	s       *schema.Schema
	kind    avro.Type // of the branch that is not null
	null    int64     // the union's branch that is null; -1: it is none
	pick    bool      // the union's branch is written, whatever is
	fields  []*form   // of a record; the branches of a union of several types (nil: null)
	of      *form     // of an array, a map
	key     *form     // of an array that stands for a map
	symbols [][]byte
	size    int  // of a fixed
	types   int  // that it comes to
	whole   bool // a struct that is one value: not sent when a member of it was not
}

type compiler struct {
	done map[*avro.Schema]*form // without regard to the union around it
	busy map[*avro.Schema]bool
}

// compile makes the form of a. The types are those that AvroData.toConnectSchema gives, and besides: logical types that Connect has no name for
// have Debezium's.
func compile(a *avro.Schema) (*form, error) {
	c := compiler{map[*avro.Schema]*form{}, map[*avro.Schema]bool{}}
	return c.of(a)
}

func (c *compiler) of(a *avro.Schema) (*form, error) {
	if a.Type != avro.Union {
		return c.branch(a)
	}
	null, others := int64(-1), 0
	for i, t := range a.Types {
		if t.Type == "null" {
			null = int64(i)
		} else {
			others++
		}
	}
	switch others {
	case 0:
		return &form{s: &schema.Schema{Kind: schema.String, Optional: true}, kind: "null", null: null, pick: len(a.Types) > 0, types: 1}, nil
	case 1:
		i := slices.IndexFunc(a.Types, func(t *avro.Schema) bool { return t.Type != "null" })
		f, err := c.branch(a.Types[i])
		if err != nil {
			return nil, err
		}
		out := *f
		out.null, out.pick = null, true
		if null >= 0 {
			out.s = schema.OptionalOf(f.s)
		}
		return &out, nil
	}
	return c.union(a, null)
}

// union is a struct of the branches, of which one is not null.
func (c *compiler) union(a *avro.Schema, null int64) (*form, error) {
	f := &form{s: &schema.Schema{Kind: schema.Struct, Name: unionName, Optional: null >= 0}, kind: avro.Union, null: null, pick: true, types: 1}
	for _, t := range a.Types {
		if t.Type == "null" {
			f.fields = append(f.fields, nil)
			continue
		}
		b, err := c.branch(t)
		if err != nil {
			return nil, err
		}
		name := string(t.Type)
		if t.Name.Name != "" {
			name = t.Name.Name
			if f.s.FieldIndex(name) >= 0 {
				name = t.Name.String()
			}
		}
		f.fields = append(f.fields, b)
		f.s.Fields = append(f.s.Fields, schema.Field{Name: name, Schema: schema.OptionalOf(b.s)})
		if err := f.grow(b); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *form) grow(by *form) error {
	if f.types += by.types; f.types > maxTypes {
		return fmt.Errorf("the schema comes to more than %d types", maxTypes)
	}
	return nil
}

// branch is what is no union.
func (c *compiler) branch(a *avro.Schema) (*form, error) {
	if f := c.done[a]; f != nil {
		return f, nil
	}
	if c.busy[a] {
		return nil, fmt.Errorf("the record %s %w", a.Name, errRecursive)
	}
	c.busy[a] = true
	defer delete(c.busy, a)
	f := &form{kind: a.Type, null: -1, types: 1}
	if err := c.fill(f, a); err != nil {
		return nil, err
	}
	c.done[a] = f
	return f, nil
}

func (c *compiler) fill(f *form, a *avro.Schema) error {
	f.s = &schema.Schema{}
	switch a.Type {
	case "null":
		f.s.Kind, f.s.Optional = schema.String, true // a column of nothing but null
	case "boolean":
		f.s.Kind = schema.Bool
	case "int":
		f.s.Kind = schema.Int32
	case "long":
		f.s.Kind = schema.Int64
	case "float":
		f.s.Kind = schema.Float32
	case "double":
		f.s.Kind = schema.Float64
	case "bytes":
		f.s.Kind = schema.Bytes
	case avro.Fixed:
		f.s.Kind, f.size = schema.Bytes, a.Size
	case "string":
		f.s.Kind = schema.String
	case avro.Enum:
		f.s.Kind = schema.String
		for _, symbol := range a.Symbols {
			f.symbols = append(f.symbols, []byte(symbol))
		}
	case avro.Array, avro.Map:
		if err := c.list(f, a); err != nil {
			return err
		}
	case avro.Record, avro.Error:
		f.s.Kind, f.kind = schema.Struct, avro.Record
		if err := c.record(f, a); err != nil {
			return err
		}
	}
	named(f.s, a)
	f.whole = f.s.Kind == schema.Struct && strings.HasPrefix(f.s.Name, "io.debezium.data.")
	return nil
}

func (c *compiler) record(f *form, a *avro.Schema) error {
	for i := range a.Fields {
		field := &a.Fields[i]
		inner, err := c.of(field.Type)
		if err == nil {
			err = f.grow(inner)
		}
		if err != nil {
			return fmt.Errorf("field '%s': %w", field.Name, err)
		}
		name := field.Name
		if origin := prop(field.Props, connect.PropOrigin).Str(); origin != "" {
			name = origin
		}
		f.fields = append(f.fields, inner)
		f.s.Fields = append(f.s.Fields, schema.Field{Name: name, Schema: inner.s})
	}
	return nil
}

// list is an array or a map; an array of AvroData's entries is a map, too.
func (c *compiler) list(f *form, a *avro.Schema) error {
	of, err := c.of(a.Of)
	if err == nil {
		err = f.grow(of)
	}
	if err != nil {
		return err
	}
	f.of, f.s.Kind, f.s.Elem = of, schema.Array, of.s
	switch e := a.Of; {
	case a.Type == avro.Map:
		f.s.Kind, f.s.Key = schema.Map, &schema.Schema{Kind: schema.String}
	case of.kind == avro.Record && !of.pick && len(of.fields) == 2 &&
		(e.Name == avro.Name{Space: space, Name: mapEntry} || prop(e.Props, propEntry).Str() == mapEntry):
		f.s.Kind, f.key, f.of = schema.Map, of.fields[0], of.fields[1]
		f.s.Key, f.s.Elem = f.key.s, f.of.s
	}
	return nil
}

func prop(props []tree.Member, name string) *tree.Value {
	for _, p := range props {
		if p.Name == name {
			return p.Value
		}
	}
	return nil
}

func propInt(props []tree.Member, name string) (int, bool) {
	v := prop(props, name)
	if !v.Is(tree.Number) {
		return 0, false
	}
	n, err := strconv.Atoi(v.Text)
	return n, err == nil
}

// named gives s the meaning that a's properties say.
func named(s *schema.Schema, a *avro.Schema) {
	s.Name, s.Doc = prop(a.Props, connect.PropName).Str(), prop(a.Props, propDoc).Str()
	s.Version, _ = propInt(a.Props, connect.PropVersion)
	if params := prop(a.Props, connect.PropParams); params.Is(tree.Object) && len(params.Members) > 0 {
		s.Params = make(map[string]string, len(params.Members))
		for _, m := range params.Members {
			s.Params[m.Name] = m.Value.Str()
		}
	}
	if t := prop(a.Props, connect.PropType).Str(); s.Kind == schema.Int32 && (t == "int16" || t == "int8") {
		s.Kind = schema.Int16
	}
	if s.Name == "" && s.Kind == schema.Struct && a.Name != (avro.Name{Space: space, Name: noName}) {
		s.Name = a.Name.String()
	}
	kind, _, _ := strings.Cut(prop(a.Props, propLogical).Str(), "/")
	if l, ok := meanings[meaning{a.Type, kind}]; ok && s.Name == "" {
		s.Name, s.Version = l, 1
	}
	if s.Name == connect.Decimal && s.Kind == schema.Bytes {
		s.Params = maps.Clone(s.Params)
		if s.Params == nil {
			s.Params = map[string]string{}
		}
		for param, name := range map[string]string{connect.ParamScale: "scale", connect.ParamPrecision: "precision"} {
			n, said := propInt(a.Props, name)
			if _, has := s.Params[param]; !has && (said && !(param == connect.ParamPrecision && n == defaultPrecision) || param == connect.ParamScale) {
				s.Params[param] = strconv.Itoa(n)
			}
		}
	}
}

type meaning struct {
	of      avro.Type
	logical string
}

// meanings are the semantic names of logical types that come without one: from clients that are not Connect.
var meanings = map[meaning]string{
	{"bytes", "decimal"}: connect.Decimal, {avro.Fixed, "decimal"}: connect.Decimal, {"string", "uuid"}: "io.debezium.data.Uuid",
	{"int", "date"}: connect.Date, {"int", "time-millis"}: connect.Time, {"long", "timestamp-millis"}: connect.Timestamp,
	{"long", "time-micros"}: "io.debezium.time.MicroTime", {"long", "timestamp-micros"}: "io.debezium.time.MicroTimestamp",
	{"long", "local-timestamp-millis"}: "io.debezium.time.Timestamp", {"long", "local-timestamp-micros"}: "io.debezium.time.MicroTimestamp",
	{"long", "timestamp-nanos"}: "io.debezium.time.NanoTimestamp", {"long", "local-timestamp-nanos"}: "io.debezium.time.NanoTimestamp",
}
