package converter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// interner shares inferred schemas, so that equal records have one schema by address.
type interner struct {
	text, bytes *schema.Schema
	known       schema.Cache[uint64, *schema.Schema]
	connect     schema.Cache[string, *shape] // by the text of a Connect schema in the record itself
}

func newInterner() *interner {
	return &interner{
		text:  &schema.Schema{Kind: schema.String, Optional: true},
		bytes: &schema.Schema{Kind: schema.Bytes, Optional: true},
	}
}

func (in *interner) one(s *schema.Schema) *schema.Schema {
	f := s.Fingerprint()
	if k := in.known.Get(f); k != nil {
		return k
	}
	in.known.Put(f, s, s.Size())
	return s
}

// guess types bytes that carry no schema header. Only objects and arrays are
// taken as JSON: a log line that happens to be a number stays a line. An error
// says that the bytes declare types and do not have them.
func (d *Decoder) guess(b []byte) (connectors.Datum, error) {
	text := bytes.TrimLeft(b, " \t\r\n")
	if len(text) == 0 || text[0] != '{' && text[0] != '[' {
		return d.types.raw(b), nil
	}
	d.before = nil
	if datum, ok, err := d.connect(b); ok {
		return datum, err
	}
	p := parser{b: b, m: &d.memory.values}
	if datum, err := d.inferred(&p, p.end); err == nil {
		return datum, nil
	}
	return d.types.raw(b), nil
}

// inferred is the value that p comes to, and then the end.
func (d *Decoder) inferred(p *parser, end func() error) (connectors.Datum, error) {
	s, v, err := p.infer()
	if err == nil {
		err = end()
	}
	if err != nil {
		return connectors.Datum{}, err
	}
	d.before = p.before
	return connectors.Datum{Schema: d.types.one(s), Value: v}, nil
}

// connect reads {schema, payload} of somebody else's JsonConverter; false when it is none. Where the schema is null, there is none, and the payload is the value.
func (d *Decoder) connect(b []byte) (_ connectors.Datum, is bool, err error) {
	p := parser{b: b, m: &d.memory.values}
	text, ok := p.wrapped()
	if !ok {
		return connectors.Datum{}, false, nil
	}
	if string(text) == "null" {
		datum, err := d.inferred(&p, func() error { return p.close(true) })
		return datum, err == nil, nil
	}
	n := d.types.connect.Get(string(text))
	if n == nil {
		if n = d.types.shapeOf(text); n == nil {
			return connectors.Datum{}, false, nil
		}
	}
	v, err := p.value(n)
	if err == nil {
		err = p.close(true)
	}
	if err != nil {
		return connectors.Datum{}, true, fmt.Errorf("the payload does not fit the schema in front of it: %w", err)
	}
	return connectors.Datum{Schema: n.s, Value: v}, true, nil
}

// shapeOf is a text as a schema of Connect's, nil if it is none, and keeps it.
func (in *interner) shapeOf(text []byte) *shape {
	s, err := schema.ParseJSON(text)
	if err != nil || s == nil {
		return nil
	}
	n := shapeOf(s)
	in.connect.Put(string(text), n, s.Size()+len(text)/32)
	return n
}

// wrapped goes to the payload, and gives the schema in front of it; false: something else is there.
func (p *parser) wrapped() (text []byte, ok bool) {
	member := func(name string) bool {
		text, err := p.str()
		return err == nil && string(text) == name && p.take(':') == nil
	}
	if p.take('{') != nil || !member("schema") {
		return nil, false
	}
	p.peek()
	from := p.i
	if p.skip() != nil {
		return nil, false
	}
	text = p.b[from:p.i]
	return text, p.take(',') == nil && member("payload")
}

// times are an envelope's times; the finest comes last.
var times = []string{"ts_ms", "ts_us", "ts_ns"}

// changeOf recognises a Debezium envelope by its fields.
func (d *Decoder) changeOf(v connectors.Datum) *connectors.Change {
	if v.Schema == nil || v.Schema.Kind != schema.Struct || v.Value.Kind != schema.Struct {
		return nil
	}
	field := func(name string) (connectors.Datum, bool) {
		i := v.Schema.FieldIndex(name)
		if i < 0 {
			return connectors.Datum{}, false
		}
		return connectors.Datum{Schema: v.Schema.Fields[i].Schema, Value: v.Value.List[i]}, true
	}
	op, ok := field("op")
	if !ok || op.Value.Kind != schema.String || len(op.Value.Data) != 1 {
		return nil
	}
	before, hasBefore := field("before")
	after, hasAfter := field("after")
	source, hasSource := field("source")
	if !hasBefore || !hasAfter || !hasSource || source.Value.Kind != schema.Struct {
		return nil
	}
	c := d.memory.change()
	c.Op, c.Source, c.Before, c.After = connectors.Op(op.Value.Data[0]), source, before.Value, after.Value
	switch {
	case after.Value.Kind == schema.Struct:
		c.Row = d.types.one(after.Schema)
		if before.Value.Kind == schema.Struct && !schema.Equal(before.Schema, after.Schema) {
			c.Before, d.other = schema.Value{}, true // DecodeWhole has it
		}
	case before.Value.Kind == schema.Struct:
		c.Row = d.types.one(before.Schema)
	default:
		return nil
	}
	for _, name := range times {
		if ts, ok := field(name); ok && ts.Value.Kind == schema.Int64 {
			at(name, ts.Value.Int(), c)
		}
	}
	return c
}

// infer reads one value of unknown type. All inferred types allow null; a null
// alone is an optional string. An array of several types stays JSON, and so does an object of more members than a table has columns.
func (p *parser) infer() (*schema.Schema, schema.Value, error) {
	optional := func(k schema.Kind) *schema.Schema { return scalars[k] }
	switch c := p.peek(); c {
	case '{':
		start := p.i
		s := &schema.Schema{Kind: schema.Struct, Optional: true}
		v := schema.Value{Kind: schema.Struct}
		var places schema.Places
		many := false
		err := p.members(func(text []byte) error {
			name, from := string(text), p.i
			fs, fv, err := p.infer()
			if err != nil {
				return err
			}
			if p.depth == 1 && name == "before" {
				p.before = p.b[from:p.i:p.i]
			}
			i := places.Find(s.Fields, name)
			if many = many || i < 0 && len(s.Fields) == maxMembers; many {
				return nil
			}
			if i >= 0 { // the last of equal names counts, as in most JSON readers
				s.Fields[i].Schema, v.List[i] = fs, fv
				return nil
			}
			s.Fields = append(s.Fields, schema.Field{Name: name, Schema: fs})
			v.List = append(v.List, fv)
			return nil
		})
		if many && err == nil {
			return mixedJSON, jsonOf(p.b[start:p.i:p.i]), nil
		}
		return s, v, err
	case '[':
		return p.inferArray()
	case '"':
		text, err := p.str()
		return optional(schema.String), schema.TextOf(text), err
	case 't':
		return optional(schema.Bool), schema.BoolOf(true), p.literal("true")
	case 'f':
		return optional(schema.Bool), schema.BoolOf(false), p.literal("false")
	case 'n':
		return optional(schema.String), schema.Value{}, p.literal("null")
	}
	text, err := p.number()
	if err != nil {
		return nil, schema.Value{}, err
	}
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return optional(schema.Int64), schema.Int64Of(n), nil
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, schema.Value{}, p.bad("not a number: " + string(text))
	}
	return optional(schema.Float64), numberOf(f, text), nil
}

func (p *parser) inferArray() (*schema.Schema, schema.Value, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, schema.Value{}, p.bad("nested too deeply")
	}
	defer func() { p.depth-- }()
	start := p.i
	p.i++
	s := &schema.Schema{Kind: schema.Array, Optional: true}
	v := schema.ArrayOf()
	mixed := false
	if p.peek() == ']' {
		p.i++
		s.Elem = scalars[schema.String]
		return s, v, nil
	}
	for {
		es, ev, err := p.infer()
		if err != nil {
			return nil, schema.Value{}, err
		}
		if s.Elem == nil {
			s.Elem = es
		}
		mixed = mixed || !schema.Equal(s.Elem, es)
		v.List = append(v.List, ev)
		switch p.peek() {
		case ',':
			p.i++
		case ']':
			p.i++
			if mixed {
				return mixedJSON, jsonOf(p.b[start:p.i:p.i]), nil
			}
			return s, v, nil
		default:
			return nil, schema.Value{}, p.bad("expected , or ]")
		}
	}
}

// maxMembers is how many members of an object are fields of a Struct: a table of MySQL has 4096 columns, of PostgreSQL 1600.
const maxMembers = 4096

// scalars are the inferred types of what is neither object nor array.
var scalars = func() (all [schema.Unavailable]*schema.Schema) {
	for k := range all {
		all[k] = &schema.Schema{Kind: schema.Kind(k), Optional: true}
	}
	return all
}()

// mixedJSON is the type of what stays JSON.
var mixedJSON = &schema.Schema{Kind: schema.String, Name: jsonName, Version: 1, Optional: true}

// jsonOf is JSON as it is, or a text, if it is not quite JSON: the parser takes numbers such as 01.
func jsonOf(text []byte) schema.Value {
	if json.Valid(text) {
		return schema.JSONOf(text)
	}
	return schema.TextOf(text)
}

// numberOf is f, with its text where a float may not hold all that the text says: 15 digits are always safe.
func numberOf(f float64, text []byte) schema.Value {
	const safe = len("-.") + 15
	tiny := math.Abs(f) < 1e-300 && (f != 0 || bytes.ContainsAny(text, "eE"))
	if (len(text) > safe || tiny) && isNumber(text) {
		return schema.NumberOf(f, text)
	}
	return schema.Float64Of(f)
}

// isNumber says whether text is a number of JSON (RFC 8259, section 6).
func isNumber(text []byte) bool {
	i := 0
	digits := func() bool {
		from := i
		for i < len(text) && text[i] >= '0' && text[i] <= '9' {
			i++
		}
		return i > from
	}
	one := func(of string) bool {
		found := i < len(text) && strings.IndexByte(of, text[i]) >= 0
		if found {
			i++
		}
		return found
	}
	if one("-"); !one("0") && !digits() {
		return false
	}
	if one(".") && !digits() {
		return false
	}
	if one("eE") {
		if one("+-"); !digits() {
			return false
		}
	}
	return i == len(text)
}
