package table

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"

	"github.com/forebayhub/forebay/connectors/schema"
)

// maxPrecision is what Spark, Hive, DuckDB and Arrow's decimal128 take.
const maxPrecision = 38

// maxScale bounds a decimal that is written as text: PostgreSQL's numeric has at most
// 131,072 digits before the point and 16,383 after it.
const maxScale = 200_000

// ErrDecimal says that a number has more digits than its column.
var ErrDecimal = errors.New("the decimal does not fit its column's precision")

// Decimal is Connect's Decimal as a column: digits in all, digits behind the point. Zeros are to be added to the
// unscaled value, since files have no negative scale. Text says that it has more than 38 digits and is written as text.
type Decimal struct {
	Precision, Scale int
	Zeros            int
	Text             bool
	scale            int // as declared
}

// DecimalOf reads the parameters of Connect's Decimal. Without a stated precision it is 38.
func DecimalOf(s *schema.Schema) (Decimal, error) {
	scale, err := strconv.Atoi(s.Params["scale"])
	if err != nil || scale > maxScale || scale < -maxScale {
		return Decimal{}, fmt.Errorf("a decimal of scale %q", s.Params["scale"])
	}
	precision := maxPrecision
	if p, ok := s.Params["connect.decimal.precision"]; ok {
		if precision, err = strconv.Atoi(p); err != nil || precision < 1 || precision > maxScale {
			return Decimal{}, fmt.Errorf("a decimal of precision %q", p)
		}
		if scale < 0 { // numeric(3,-2) has five digits before the point
			precision -= scale
		}
	}
	precision = max(precision, scale) // numeric(3,5) is legal in PostgreSQL and not in files
	return Decimal{Precision: precision, Scale: max(0, scale), Zeros: max(0, -scale), Text: precision > maxPrecision, scale: scale}, nil
}

// Limit is the first number that the column cannot hold, unscaled.
func (d Decimal) Limit() *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.Precision)), nil)
}

// AppendText appends a value of the column in plain digits.
func (d Decimal) AppendText(dst []byte, v schema.Value) ([]byte, error) {
	n, err := Unscaled(v)
	if err != nil {
		return dst, err
	}
	return appendDecimal(dst, n, d.scale), nil
}

// Unscaled reads a big-endian two's complement number.
func Unscaled(v schema.Value) (*big.Int, error) {
	if v.Kind != schema.Bytes || len(v.Data) > maxScale {
		return nil, ErrKind
	}
	return twos(v.Data), nil
}

func twos(p []byte) *big.Int {
	n := new(big.Int).SetBytes(p)
	if len(p) > 0 && p[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(p))))
	}
	return n
}

// VariableDecimalOf gives a function that appends a decimal that carries its scale, a value of s, in plain digits.
func VariableDecimalOf(s *schema.Schema) (func(dst []byte, v schema.Value) ([]byte, error), error) {
	at, value, fields := s.FieldIndex("scale"), s.FieldIndex("value"), len(s.Fields)
	if at < 0 || value < 0 {
		return nil, errors.New("a VariableScaleDecimal without scale and value")
	}
	return func(dst []byte, v schema.Value) ([]byte, error) {
		if v.Kind != schema.Struct || len(v.List) != fields {
			return dst, ErrKind
		}
		scale, data := v.List[at].Int(), v.List[value].Data
		if scale > maxScale || scale < -maxScale || len(data) > maxScale {
			return dst, ErrDecimal
		}
		return appendDecimal(dst, twos(data), int(scale)), nil
	}, nil
}

// appendDecimal appends n × 10^-scale in plain digits.
func appendDecimal(dst []byte, n *big.Int, scale int) []byte {
	if n.Sign() < 0 {
		dst = append(dst, '-')
	}
	digits := new(big.Int).Abs(n).Append(nil, 10)
	switch {
	case scale <= 0:
		dst = append(dst, digits...)
		if n.Sign() != 0 {
			for range -scale {
				dst = append(dst, '0')
			}
		}
		return dst
	case len(digits) <= scale:
		dst = append(dst, '0', '.')
		for range scale - len(digits) {
			dst = append(dst, '0')
		}
		return append(dst, digits...)
	}
	dst = append(dst, digits[:len(digits)-scale]...)
	return append(append(dst, '.'), digits[len(digits)-scale:]...)
}
