package parquet

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"

	pq "github.com/parquet-go/parquet-go"

	"github.com/forebayhub/forebay/connectors/schema"
)

// maxPrecision is what Spark, Hive, DuckDB and Arrow's decimal128 take.
const maxPrecision = 38

// maxScale bounds a decimal that is written as text: PostgreSQL's numeric has at most
// 131,072 digits before the point and 16,383 after it.
const maxScale = 200_000

var errDecimal = errors.New("the decimal does not fit its column's precision")

// decimalNode maps Connect's Decimal: INT32 up to 9 digits, INT64 up to 18, 16
// bytes up to 38, text beyond. Without a stated precision it is 38.
func decimalNode(s *schema.Schema) (pq.Node, leafConv, error) {
	scale, err := strconv.Atoi(s.Params["scale"])
	if err != nil || scale > maxScale || scale < -maxScale {
		return nil, nil, fmt.Errorf("a decimal of scale %q", s.Params["scale"])
	}
	precision := maxPrecision
	if p, ok := s.Params["connect.decimal.precision"]; ok {
		if precision, err = strconv.Atoi(p); err != nil || precision < 1 || precision > maxScale {
			return nil, nil, fmt.Errorf("a decimal of precision %q", p)
		}
		if scale < 0 { // numeric(3,-2) has five digits before the point
			precision -= scale
		}
	}
	precision = max(precision, scale) // numeric(3,5) is legal in PostgreSQL and not in Parquet
	if precision > maxPrecision {
		return pq.String(), decimalText(scale), nil
	}
	zeros := max(0, -scale) // Parquet has no negative scale
	scale = max(0, scale)
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(precision)), nil)
	if precision <= 18 {
		typ, conv := pq.Int64Type, decimalInt64(limit.Int64(), zeros)
		if precision <= 9 {
			typ, conv = pq.Int32Type, decimalInt32(limit.Int64(), zeros)
		}
		return pq.Decimal(scale, precision, typ), conv, nil
	}
	typ := pq.Decimal(scale, precision, pq.FixedLenByteArrayType(16)).Type()
	// The library orders these bytes as unsigned, so its bounds are wrong for
	// negative numbers, and readers would skip pages that hold what they look for.
	return pq.Leaf(unbounded(typ, min16, max16)), decimal16(limit, zeros), nil
}

// small reads an unscaled number of at most 8 bytes.
func small(p []byte) (int64, bool) {
	if len(p) == 0 || len(p) > 8 {
		return 0, len(p) == 0
	}
	n := int64(int8(p[0]))
	for _, b := range p[1:] {
		n = n<<8 | int64(b)
	}
	return n, true
}

func smallDecimal(v schema.Value, limit int64, zeros int) (int64, error) {
	if v.Kind != schema.Bytes {
		return 0, errKind
	}
	n, ok := small(v.Data)
	if !ok {
		b := unscaled(v.Data)
		if !b.IsInt64() {
			return 0, errDecimal
		}
		n = b.Int64()
	}
	if n <= -limit || n >= limit {
		return 0, errDecimal
	}
	for range zeros {
		if n *= 10; n <= -limit || n >= limit {
			return 0, errDecimal
		}
	}
	return n, nil
}

func decimalInt64(limit int64, zeros int) leafConv {
	return func(_ *rows, v schema.Value) (pq.Value, error) {
		n, err := smallDecimal(v, limit, zeros)
		return pq.Int64Value(n), err
	}
}

func decimalInt32(limit int64, zeros int) leafConv {
	return func(_ *rows, v schema.Value) (pq.Value, error) {
		n, err := smallDecimal(v, limit, zeros)
		return pq.Int32Value(int32(n)), err
	}
}

func decimal16(limit *big.Int, zeros int) leafConv {
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(zeros)), nil)
	return func(out *rows, v schema.Value) (pq.Value, error) {
		if v.Kind != schema.Bytes || len(v.Data) > maxScale {
			return pq.Value{}, errKind
		}
		var b [16]byte
		n := unscaled(v.Data)
		n.Mul(n, ten)
		if n.CmpAbs(limit) >= 0 {
			return pq.Value{}, errDecimal
		}
		fill := n.Sign() < 0
		if fill { // two's complement
			n.Add(n, two128)
		}
		n.FillBytes(b[:])
		return pq.FixedLenByteArrayValue(out.keep(b[:])), nil
	}
}

var two128 = new(big.Int).Lsh(big.NewInt(1), 128)

// unscaled reads a big-endian two's complement number.
func unscaled(p []byte) *big.Int {
	n := new(big.Int).SetBytes(p)
	if len(p) > 0 && p[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(p))))
	}
	return n
}

func decimalText(scale int) leafConv {
	return func(out *rows, v schema.Value) (pq.Value, error) {
		if v.Kind != schema.Bytes || len(v.Data) > maxScale {
			return pq.Value{}, errKind
		}
		return pq.ByteArrayValue(out.keep(appendDecimal(nil, unscaled(v.Data), scale))), nil
	}
}

// variableDecimalNode maps a decimal that carries its scale to its exact text.
func variableDecimalNode(s *schema.Schema) (pq.Node, leafConv, error) {
	at, value := s.FieldIndex("scale"), s.FieldIndex("value")
	if at < 0 || value < 0 {
		return nil, nil, errors.New("a VariableScaleDecimal without scale and value")
	}
	return pq.String(), func(out *rows, v schema.Value) (pq.Value, error) {
		if v.Kind != schema.Struct || len(v.List) != len(s.Fields) {
			return pq.Value{}, errKind
		}
		scale := v.List[at].Int()
		if scale > maxScale || scale < -maxScale || len(v.List[value].Data) > maxScale {
			return pq.Value{}, errDecimal
		}
		return pq.ByteArrayValue(out.keep(appendDecimal(nil, unscaled(v.List[value].Data), int(scale)))), nil
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
