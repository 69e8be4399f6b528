package converter

import (
	"encoding/base64"
	"strconv"

	"github.com/forebayhub/forebay/connectors/schema"
)

// Debezium writes these in place of a value that PostgreSQL did not send.
const (
	unavailable       = "__debezium_unavailable_value"
	unavailableBase64 = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="
)

// shape is a schema made ready for writing and reading.
type shape struct {
	s      *schema.Schema
	names  [][]byte // of a Struct's fields: `{"id":` for the first, `,"name":` for the others
	fields []*shape
	places schema.Places
	elem   *shape
	key    *shape
	// strict is for values that a JSON Schema describes: it has a type for what was not sent, and for maps whose keys are no strings.
	strict bool
	// declared says that a schema stands beside the values: JSON is a string there, as the schema says.
	declared bool
	// fallback is what a value is that is null or not there, if that is not allowed and the JSON Schema has a default; nil: it has none.
	fallback *schema.Value
}

func shapeOf(s *schema.Schema) *shape { return newShape(s, false) }

func newShape(s *schema.Schema, strict bool) *shape {
	if s == nil {
		return nil
	}
	n := &shape{s: s, elem: newShape(s.Elem, strict), key: newShape(s.Key, strict), strict: strict, declared: strict}
	for i, f := range s.Fields {
		lead := byte(',')
		if i == 0 {
			lead = '{'
		}
		n.names = append(n.names, append(schema.AppendQuoted([]byte{lead}, []byte(f.Name)), ':'))
		n.fields = append(n.fields, newShape(f.Schema, strict))
	}
	return n
}

// declare makes it the shape of values with a schema beside them.
func (n *shape) declare() {
	if n == nil {
		return
	}
	n.declared = true
	n.elem.declare()
	n.key.declare()
	for _, f := range n.fields {
		f.declare()
	}
}

// append writes v as Connect's JsonConverter does.
func (n *shape) append(dst []byte, v *schema.Value) []byte {
	switch v.Kind {
	case schema.Null:
		return append(dst, "null"...)
	case schema.Bool:
		return strconv.AppendBool(dst, v.Bool())
	case schema.Int16, schema.Int32, schema.Int64:
		return strconv.AppendInt(dst, v.Int(), 10)
	case schema.Float32:
		return appendFloat(dst, v.Float(), 32)
	case schema.Float64:
		if v.Data != nil {
			return append(dst, v.Data...)
		}
		return appendFloat(dst, v.Float(), 64)
	case schema.String:
		if v.IsJSON() && (n == nil || !n.declared) {
			return append(dst, v.Data...)
		}
		return schema.AppendQuoted(dst, v.Data)
	case schema.Bytes:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, v.Data)
		return append(dst, '"')
	case schema.Struct:
		return n.appendStruct(dst, v)
	case schema.Array:
		dst = append(dst, '[')
		for i := range v.List {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = n.child().append(dst, &v.List[i])
		}
		return append(dst, ']')
	case schema.Map:
		return n.appendMap(dst, v)
	case schema.Unavailable:
		return n.appendUnavailable(dst)
	}
	return append(dst, "null"...)
}

func (n *shape) child() *shape {
	if n == nil {
		return nil
	}
	return n.elem
}

func (n *shape) appendStruct(dst []byte, v *schema.Value) []byte {
	if n == nil || len(v.List) == 0 || len(n.fields) == 0 {
		return append(dst, '{', '}')
	}
	for i := range min(len(v.List), len(n.fields)) {
		dst = append(dst, n.names[i]...)
		dst = n.fields[i].append(dst, &v.List[i])
	}
	return append(dst, '}')
}

// appendMap writes an object when the keys are strings, pairs otherwise.
func (n *shape) appendMap(dst []byte, v *schema.Value) []byte {
	object := n == nil || n.key == nil || n.key.s.Kind == schema.String && !(n.strict && n.key.s.Optional)
	start, end := byte('['), byte(']')
	if object {
		start, end = '{', '}'
	}
	dst = append(dst, start)
	for i := 0; i+1 < len(v.List); i += 2 {
		if i > 0 {
			dst = append(dst, ',')
		}
		if object {
			dst = append(schema.AppendQuoted(dst, v.List[i].Data), ':')
			dst = n.child().append(dst, &v.List[i+1])
			continue
		}
		if n.strict {
			dst = append(n.key.append(append(dst, `{"key":`...), &v.List[i]), `,"value":`...)
			dst = append(n.child().append(dst, &v.List[i+1]), '}')
			continue
		}
		dst = append(n.key.append(append(dst, '['), &v.List[i]), ',')
		dst = append(n.child().append(dst, &v.List[i+1]), ']')
	}
	return append(dst, end)
}

func (n *shape) appendUnavailable(dst []byte) []byte {
	if n != nil && n.strict {
		return n.appendMissing(dst, false)
	}
	if n != nil {
		switch n.s.Kind {
		case schema.Bytes:
			return append(append(append(dst, '"'), unavailableBase64...), '"')
		case schema.Array:
			return append(append(append(dst, `["`...), unavailable...), `"]`...)
		}
	}
	return append(append(append(dst, '"'), unavailable...), '"')
}

// appendFloat writes what JSON has no number for as Jackson does: quoted.
func appendFloat(dst []byte, f float64, bits int) []byte {
	if f-f != 0 { // NaN and the infinities
		return append(schema.AppendFloat(append(dst, '"'), f, bits), '"')
	}
	return schema.AppendFloat(dst, f, bits)
}
