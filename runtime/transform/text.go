package transform

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// kindName is a kind as messages have it.
func kindName(k schema.Kind) string {
	switch k {
	case schema.Struct:
		return "an object"
	case schema.Array:
		return "an array"
	case schema.Int16, schema.Int32, schema.Int64:
		return "an integer"
	}
	return "a " + k.String()
}

const decimalName = "org.apache.kafka.connect.data.Decimal"

// maxDecimal bounds what a Decimal's scale can make of a few bytes: PostgreSQL's numeric reaches 131,072 digits before the point.
const maxDecimal = 200_000

// appendText appends a scalar as people write it; false when it is none, or null.
func appendText(dst []byte, d connectors.Datum) ([]byte, bool) {
	v := d.Value
	switch v.Kind {
	case schema.Bool:
		return strconv.AppendBool(dst, v.Bool()), true
	case schema.Int16, schema.Int32, schema.Int64:
		return strconv.AppendInt(dst, v.Int(), 10), true
	case schema.Float32:
		return schema.AppendFloat(dst, v.Float(), 32), true
	case schema.Float64:
		if v.Data != nil { // all of its digits
			return append(dst, v.Data...), true
		}
		return schema.AppendFloat(dst, v.Float(), 64), true
	case schema.String:
		return append(dst, v.Data...), true
	case schema.Bytes:
		if d.Schema != nil && d.Schema.Name == decimalName {
			if text, err := decimal(d.Schema, v.Data); err == nil {
				return append(dst, text...), true
			}
		}
	}
	return dst, false
}

// decimal is a Decimal's text: an unscaled number in big-endian two's complement, and the scale of its schema.
func decimal(s *schema.Schema, unscaled []byte) (string, error) {
	scale, err := strconv.Atoi(s.Params["scale"])
	if err != nil || scale > maxDecimal || scale < -maxDecimal || len(unscaled) > maxDecimal {
		return "", errors.New("a decimal whose scale makes no sense")
	}
	n := new(big.Int).SetBytes(unscaled)
	if len(unscaled) > 0 && unscaled[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(unscaled))))
	}
	sign := ""
	if n.Sign() < 0 {
		sign = "-"
		n.Neg(n)
	}
	digits := n.String()
	if scale <= 0 {
		if digits != "0" {
			digits += strings.Repeat("0", -scale)
		}
		return sign + digits, nil
	}
	if len(digits) <= scale {
		digits = strings.Repeat("0", scale+1-len(digits)) + digits
	}
	return sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:], nil
}

// parseAs reads text as a value of a kind. Integers must fit: nothing is cut off.
func parseAs(k schema.Kind, text string) (schema.Value, error) {
	switch k {
	case schema.String:
		return schema.StringOf(text), nil
	case schema.Bool:
		switch strings.ToLower(text) {
		case "true":
			return schema.BoolOf(true), nil
		case "false":
			return schema.BoolOf(false), nil
		}
		return schema.Value{}, fmt.Errorf("%q is neither true nor false", text)
	case schema.Int16, schema.Int32, schema.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return schema.Value{}, fmt.Errorf("%q is not a whole number of 64 bits", text)
		}
		return integerOf(k, n)
	case schema.Float32, schema.Float64:
		bits := 64
		if k == schema.Float32 {
			bits = 32
		}
		f, err := strconv.ParseFloat(text, bits)
		if err != nil {
			return schema.Value{}, fmt.Errorf("%q is not a number that fits %s", text, k)
		}
		if k == schema.Float32 {
			return schema.Float32Of(float32(f)), nil
		}
		return schema.Float64Of(f), nil
	}
	return schema.Value{}, fmt.Errorf("no text makes %s", kindName(k))
}

func integerOf(k schema.Kind, n int64) (schema.Value, error) {
	switch {
	case k == schema.Int16 && n == int64(int16(n)):
		return schema.Int16Of(int16(n)), nil
	case k == schema.Int32 && n == int64(int32(n)):
		return schema.Int32Of(int32(n)), nil
	case k == schema.Int64:
		return schema.Int64Of(n), nil
	}
	return schema.Value{}, fmt.Errorf("%d does not fit %s", n, k)
}

// zeroOf is the value of a kind that says nothing, as Kafka Connect's MaskField has it.
func zeroOf(s *schema.Schema) (schema.Value, error) {
	switch s.Kind {
	case schema.Bool:
		return schema.BoolOf(false), nil
	case schema.Int16, schema.Int32, schema.Int64:
		return integerOf(s.Kind, 0)
	case schema.Float32:
		return schema.Float32Of(0), nil
	case schema.Float64:
		return schema.Float64Of(0), nil
	case schema.String:
		return schema.TextOf([]byte{}), nil
	case schema.Bytes:
		if s.Name == decimalName {
			return schema.BytesOf([]byte{0}), nil
		}
		return schema.BytesOf([]byte{}), nil
	case schema.Array, schema.Map:
		return schema.Value{Kind: s.Kind, List: []schema.Value{}}, nil
	}
	return schema.Value{}, fmt.Errorf("%s cannot be masked as a whole", kindName(s.Kind))
}
