package files

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"

	"github.com/forebayhub/forebay/connectors/schema"
)

// appendTyped appends a column's value as readers of JSON expect it: dates and
// times in ISO 8601 where Debezium has counts of days or microseconds, decimals
// as exact JSON numbers, bytes in base64.
func appendTyped(dst []byte, s *schema.Schema, v schema.Value, depth int) ([]byte, error) {
	if depth > maxJSONDepth {
		return dst, errors.New("a value nests too deeply")
	}
	switch v.Kind {
	case schema.Null, schema.Unavailable:
		return append(dst, "null"...), nil
	case schema.Bool:
		return strconv.AppendBool(dst, v.Bool()), nil
	case schema.Int16, schema.Int32, schema.Int64:
		return appendInteger(dst, s, v.Int()), nil
	case schema.Float32, schema.Float64:
		f, bits := v.Float(), 64
		if v.Kind == schema.Float32 {
			bits = 32
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return append(strconv.AppendFloat(append(dst, '"'), f, 'g', -1, bits), '"'), nil
		}
		return strconv.AppendFloat(dst, f, 'g', -1, bits), nil
	case schema.String:
		if s != nil && s.Name == "io.debezium.data.Json" {
			if out, ok := appendCompact(dst, v.Data); ok {
				return out, nil
			}
		}
		return schema.AppendQuoted(dst, v.Data), nil
	case schema.Bytes:
		if s != nil && s.Name == "org.apache.kafka.connect.data.Decimal" {
			scale, err := strconv.Atoi(s.Params["scale"])
			if err == nil {
				return appendDecimal(dst, v.Data, scale)
			}
		}
		return append(base64.StdEncoding.AppendEncode(append(dst, '"'), v.Data), '"'), nil
	case schema.Struct:
		return appendStruct(dst, s, v, depth)
	case schema.Array:
		if s == nil {
			return dst, errors.New("an array without a schema")
		}
		dst = append(dst, '[')
		for i, e := range v.List {
			if i > 0 {
				dst = append(dst, ',')
			}
			var err error
			if dst, err = appendTyped(dst, s.Elem, e, depth+1); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	case schema.Map:
		return appendMap(dst, s, v, depth)
	}
	return dst, fmt.Errorf("a value of kind %d", v.Kind)
}

func appendStruct(dst []byte, s *schema.Schema, v schema.Value, depth int) ([]byte, error) {
	if s == nil || len(s.Fields) != len(v.List) {
		return dst, errors.New("a struct does not fit its schema")
	}
	if s.Name == "io.debezium.data.VariableScaleDecimal" && len(v.List) == 2 {
		scale, value := v.List[0], v.List[1]
		if s.Fields[0].Name == "value" {
			scale, value = value, scale
		}
		return appendDecimal(dst, value.Data, int(scale.Int()))
	}
	dst = append(dst, '{')
	for i, f := range s.Fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(schema.AppendQuoted(dst, []byte(f.Name)), ':')
		var err error
		if dst, err = appendTyped(dst, f.Schema, v.List[i], depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// appendMap writes an object when the keys are strings, else an array of pairs, as Connect does.
func appendMap(dst []byte, s *schema.Schema, v schema.Value, depth int) ([]byte, error) {
	if s == nil || len(v.List)%2 != 0 {
		return dst, errors.New("a map does not fit its schema")
	}
	object := s.Key != nil && s.Key.Kind == schema.String
	open, between, end := byte('['), byte(','), byte(']')
	if object {
		open, between, end = '{', ':', '}'
	}
	dst = append(dst, open)
	for i := 0; i < len(v.List); i += 2 {
		if i > 0 {
			dst = append(dst, ',')
		}
		if !object {
			dst = append(dst, '[')
		}
		var err error
		if dst, err = appendTyped(dst, s.Key, v.List[i], depth+1); err != nil {
			return dst, err
		}
		dst = append(dst, between)
		if dst, err = appendTyped(dst, s.Elem, v.List[i+1], depth+1); err != nil {
			return dst, err
		}
		if !object {
			dst = append(dst, ']')
		}
	}
	return append(dst, end), nil
}

// appendInteger knows Debezium's and Connect's names for dates and times. What
// lies outside of years 1 to 9999 (infinity is a sentinel there) stays a number.
func appendInteger(dst []byte, s *schema.Schema, n int64) []byte {
	if s == nil {
		return strconv.AppendInt(dst, n, 10)
	}
	var t time.Time
	layout := ""
	switch s.Name {
	case "io.debezium.time.Date", "org.apache.kafka.connect.data.Date":
		if n > -1e6 && n < 4e6 {
			t, layout = time.Unix(n*86400, 0), "2006-01-02"
		}
	case "io.debezium.time.Timestamp", "org.apache.kafka.connect.data.Timestamp":
		t, layout = time.UnixMilli(n), "2006-01-02T15:04:05.000"
	case "io.debezium.time.MicroTimestamp":
		t, layout = time.UnixMicro(n), "2006-01-02T15:04:05.000000"
	case "io.debezium.time.Time", "org.apache.kafka.connect.data.Time":
		if n >= 0 && n < 86400e3 {
			t, layout = time.UnixMilli(n), "15:04:05.000"
		}
	case "io.debezium.time.MicroTime":
		if n >= 0 && n < 86400e6 {
			t, layout = time.UnixMicro(n), "15:04:05.000000"
		}
	}
	if t = t.UTC(); layout == "" || t.Year() < 1 || t.Year() > 9999 {
		return strconv.AppendInt(dst, n, 10)
	}
	return append(t.AppendFormat(append(dst, '"'), layout), '"')
}

// maxDecimal bounds a decimal's bytes and scale: PostgreSQL's numeric reaches 131,072 digits before the point.
const maxDecimal = 200_000

// appendDecimal appends an unscaled big-endian two's complement number as an exact decimal.
func appendDecimal(dst, unscaled []byte, scale int) ([]byte, error) {
	if len(unscaled) > maxDecimal || scale > maxDecimal || scale < -maxDecimal {
		return dst, errors.New("a decimal is too large")
	}
	n := new(big.Int).SetBytes(unscaled)
	if len(unscaled) > 0 && unscaled[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(unscaled))))
	}
	if n.Sign() < 0 {
		dst = append(dst, '-')
		n.Neg(n)
	}
	digits := n.String()
	if scale <= 0 {
		dst = append(dst, digits...)
		if digits != "0" {
			for range -scale {
				dst = append(dst, '0')
			}
		}
		return dst, nil
	}
	for len(digits) <= scale {
		pad := scale + 1 - len(digits)
		zeros := make([]byte, pad, pad+len(digits))
		for i := range zeros {
			zeros[i] = '0'
		}
		digits = string(append(zeros, digits...))
	}
	dst = append(dst, digits[:len(digits)-scale]...)
	dst = append(dst, '.')
	return append(dst, digits[len(digits)-scale:]...), nil
}
