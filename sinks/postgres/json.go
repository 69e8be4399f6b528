package postgres

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strconv"

	"github.com/forebayhub/forebay/connectors/schema"
)

// maxDepth bounds the nesting of values that become JSON.
const maxDepth = 128

// jsonEncoder writes a value as JSON: what has no type of its own in PostgreSQL.
func jsonEncoder(s *schema.Schema) encodeFunc {
	return func(dst []byte, v schema.Value) ([]byte, error) { return appendJSON(dst, s, v, 0) }
}

func appendJSON(dst []byte, s *schema.Schema, v schema.Value, depth int) ([]byte, error) {
	if depth > maxDepth {
		return dst, errors.New("a value nests too deeply")
	}
	switch v.Kind {
	case schema.Null, schema.Unavailable:
		return append(dst, "null"...), nil
	case schema.Bool:
		return strconv.AppendBool(dst, v.Bool()), nil
	case schema.Float32, schema.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return append(strconv.AppendFloat(append(dst, '"'), f, 'g', -1, 64), '"'), nil
		}
	case schema.Array:
		var elem *schema.Schema
		if s != nil {
			elem = s.Elem
		}
		return jsonList(dst, v.List, elem, depth)
	case schema.Map:
		return jsonMap(dst, s, v, depth)
	}
	if s != nil && v.Kind != schema.Struct {
		return jsonScalar(dst, s, v)
	}
	if s == nil || len(s.Fields) != len(v.List) {
		return dst, errKind
	}
	if s.Name == nameVariable {
		return variableEncoder(s)(dst, v)
	}
	dst = append(dst, '{')
	for i, f := range s.Fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendJSON(append(schema.AppendQuoted(dst, []byte(f.Name)), ':'), f.Schema, v.List[i], depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func jsonList(dst []byte, list []schema.Value, elem *schema.Schema, depth int) ([]byte, error) {
	dst = append(dst, '[')
	for i, e := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendJSON(dst, elem, e, depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

// jsonMap writes an object when the keys are strings, else pairs, as Connect does.
func jsonMap(dst []byte, s *schema.Schema, v schema.Value, depth int) ([]byte, error) {
	if s == nil || len(v.List)%2 != 0 {
		return dst, errKind
	}
	object := s.Key != nil && s.Key.Kind == schema.String
	if !object {
		dst = append(dst, '[')
		for i := 0; i < len(v.List); i += 2 {
			if i > 0 {
				dst = append(dst, ',')
			}
			var err error
			if dst, err = appendJSON(append(dst, '['), s.Key, v.List[i], depth+1); err != nil {
				return dst, err
			}
			if dst, err = appendJSON(append(dst, ','), s.Elem, v.List[i+1], depth+1); err != nil {
				return dst, err
			}
			dst = append(dst, ']')
		}
		return append(dst, ']'), nil
	}
	dst = append(dst, '{')
	for i := 0; i < len(v.List); i += 2 {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendJSON(append(schema.AppendQuoted(dst, v.List[i].Data), ':'), s.Elem, v.List[i+1], depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// jsonScalar writes numbers as numbers, bytes in base64, JSON as it is, and the rest as PostgreSQL writes it.
func jsonScalar(dst []byte, s *schema.Schema, v schema.Value) ([]byte, error) {
	if s.Kind == schema.Struct || s.Kind == schema.Array || s.Kind == schema.Map {
		return dst, errKind
	}
	if v.Kind == schema.String && s.Name == nameJSON && json.Valid(v.Data) {
		return append(dst, v.Data...), nil
	}
	if v.Kind == schema.Bytes && s.Name == "" {
		return append(base64.StdEncoding.AppendEncode(append(dst, '"'), v.Data), '"'), nil
	}
	text, err := encoderOf(s, natural(s))(nil, v)
	if err != nil {
		return dst, err
	}
	if s.Name == nameDecimal || s.Name == "" && v.Kind != schema.String {
		return append(dst, text...), nil
	}
	return schema.AppendQuoted(dst, text), nil
}

// encodeHstore turns a JSON object of strings and nulls into hstore's own text.
func encodeHstore(dst []byte, v schema.Value) ([]byte, error) {
	var m map[string]*string
	if v.Kind != schema.String || json.Unmarshal(v.Data, &m) != nil {
		return dst, errors.New("the value is no JSON object of strings, as hstore needs it")
	}
	quote := func(s string) {
		dst = append(dst, '"')
		for i := range len(s) {
			if s[i] == '"' || s[i] == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, s[i])
		}
		dst = append(dst, '"')
	}
	first := true
	for k, val := range m {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		quote(k)
		dst = append(dst, "=>"...)
		if val == nil {
			dst = append(dst, "NULL"...)
		} else {
			quote(*val)
		}
	}
	return dst, nil
}
