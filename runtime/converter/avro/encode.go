package avro

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/connect"
)

// Writer writes values of one schema. It holds nothing of them and may be used concurrently.
type Writer struct{ s *schema.Schema }

// NewWriter makes a Writer of what SchemaOf describes.
func NewWriter(s *schema.Schema) Writer { return Writer{s} }

// Append appends v. An error names the field that cannot be written.
func (w Writer) Append(dst []byte, v *schema.Value) ([]byte, error) { return encode(dst, w.s, v) }

func appendText(dst, b []byte) []byte {
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

// encode appends v as s describes it.
func encode(dst []byte, s *schema.Schema, v *schema.Value) ([]byte, error) {
	if s == nil {
		return dst, nil
	}
	if v.Kind == schema.Null {
		switch {
		case s.Optional:
			return append(dst, 0), nil
		case s.Kind == schema.Null:
			return dst, nil
		}
		return dst, connect.ErrNull
	}
	if s.Optional {
		dst = append(dst, 2) // the union's second branch
	}
	if v.Kind == schema.Unavailable {
		return missing(dst, s, false)
	}
	switch s.Kind {
	case schema.Int16, schema.Int32, schema.Int64:
		if v.Kind != schema.Int16 && v.Kind != schema.Int32 && v.Kind != schema.Int64 {
			return dst, connect.KindError(s, v)
		}
		if n := v.Int(); s.Kind != schema.Int64 && n != int64(int32(n)) {
			return dst, fmt.Errorf("%d does not fit %s", n, s.Kind)
		}
		return binary.AppendVarint(dst, v.Int()), nil
	case schema.Float32:
		if v.Kind != schema.Float32 && v.Kind != schema.Float64 {
			return dst, connect.KindError(s, v)
		}
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(v.Float()))), nil
	case schema.Float64:
		if v.Kind != schema.Float32 && v.Kind != schema.Float64 {
			return dst, connect.KindError(s, v)
		}
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v.Float())), nil
	}
	if v.Kind != s.Kind {
		return dst, connect.KindError(s, v)
	}
	switch s.Kind {
	case schema.Bool:
		if v.Bool() {
			return append(dst, 1), nil
		}
		return append(dst, 0), nil
	case schema.String:
		if utf8.Valid(v.Data) {
			return appendText(dst, v.Data), nil
		}
		return appendText(dst, []byte(string([]rune(string(v.Data))))), nil // Avro's strings are UTF-8: what is not becomes U+FFFD
	case schema.Bytes:
		return appendText(dst, v.Data), nil
	case schema.Struct:
		return encodeStruct(dst, s, v)
	case schema.Array:
		return encodeArray(dst, s, v)
	case schema.Map:
		return encodeMap(dst, s, v)
	}
	return dst, connect.KindError(s, v)
}

func encodeStruct(dst []byte, s *schema.Schema, v *schema.Value) ([]byte, error) {
	if len(v.List) != len(s.Fields) {
		return dst, fmt.Errorf("%d values for %d fields", len(v.List), len(s.Fields))
	}
	for i := range s.Fields {
		var err error
		if dst, err = encode(dst, s.Fields[i].Schema, &v.List[i]); err != nil {
			return dst, fmt.Errorf("field '%s': %w", s.Fields[i].Name, err)
		}
	}
	return dst, nil
}

func encodeArray(dst []byte, s *schema.Schema, v *schema.Value) (_ []byte, err error) {
	if len(v.List) > 0 {
		dst = binary.AppendVarint(dst, int64(len(v.List)))
	}
	for i := range v.List {
		if dst, err = encode(dst, s.Elem, &v.List[i]); err != nil {
			return dst, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return append(dst, 0), nil
}

func encodeMap(dst []byte, s *schema.Schema, v *schema.Value) (_ []byte, err error) {
	if n := len(v.List) / 2; n > 0 {
		dst = binary.AppendVarint(dst, int64(n))
	}
	for i := 0; i+1 < len(v.List); i += 2 {
		if dst, err = encode(dst, s.Key, &v.List[i]); err == nil {
			dst, err = encode(dst, s.Elem, &v.List[i+1])
		}
		if err != nil {
			return dst, fmt.Errorf("pair %d: %w", i/2, err)
		}
	}
	return append(dst, 0), nil
}

// zero appends what stands beside the placeholder in a struct: 0, false, nothing.
func zero(dst []byte, s *schema.Schema) []byte {
	switch {
	case s == nil || s.Kind == schema.Null:
		return dst
	case s.Optional:
		return append(dst, 0)
	}
	switch s.Kind {
	case schema.Float32:
		return append(dst, 0, 0, 0, 0)
	case schema.Float64:
		return append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	case schema.Struct:
		for i := range s.Fields {
			dst = zero(dst, s.Fields[i].Schema)
		}
		return dst
	}
	return append(dst, 0) // the number, false, no bytes, no items
}

// missing appends what stands for a value that was not sent. Before it the union's branch was written. Numbers can only stand
// for themselves, unless they are in an array.
func missing(dst []byte, s *schema.Schema, inArray bool) ([]byte, error) {
	switch s.Kind {
	case schema.String, schema.Bytes:
		return append(binary.AppendVarint(dst, int64(len(connect.Placeholder))), connect.Placeholder...), nil
	case schema.Int32, schema.Int64:
		if inArray {
			return binary.AppendVarint(dst, int64(connect.PlaceholderNumber)), nil
		}
	case schema.Array:
		return one(dst, s.Elem)
	case schema.Map:
		dst, err := part(append(dst, 2), s.Key)
		if err == nil {
			dst, err = part(dst, s.Elem)
		}
		return append(dst, 0), err
	case schema.Struct: // one of its members must say so
		said := false
		for i := range s.Fields {
			f := s.Fields[i].Schema
			if !said && (f.Kind == schema.String || f.Kind == schema.Bytes) {
				said = true
				dst, _ = part(dst, f) // texts and bytes have a placeholder
				continue
			}
			dst = zero(dst, f)
		}
		if said {
			return dst, nil
		}
	}
	return dst, connect.ErrMissing
}

// one appends an array of one item that was not sent.
func one(dst []byte, elem *schema.Schema) ([]byte, error) {
	dst = append(dst, 2)
	if elem.Optional {
		dst = append(dst, 2)
	}
	dst, err := missing(dst, elem, true)
	return append(dst, 0), err
}

func part(dst []byte, s *schema.Schema) ([]byte, error) {
	if s.Optional {
		dst = append(dst, 2)
	}
	return missing(dst, s, false)
}
