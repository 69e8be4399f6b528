package parquet

import (
	"math/big"

	pq "github.com/parquet-go/parquet-go"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sinks/internal/table"
)

// decimalNode maps Connect's Decimal: INT32 up to 9 digits, INT64 up to 18, 16
// bytes up to 38, text beyond. Without a stated precision it is 38.
func decimalNode(s *schema.Schema) (pq.Node, leafConv, error) {
	d, err := table.DecimalOf(s)
	if err != nil {
		return nil, nil, err
	}
	if d.Text {
		return pq.String(), decimalText(d), nil
	}
	limit := d.Limit()
	if d.Precision <= 18 {
		typ, conv := pq.Int64Type, decimalInt64(limit.Int64(), d.Zeros)
		if d.Precision <= 9 {
			typ, conv = pq.Int32Type, decimalInt32(limit.Int64(), d.Zeros)
		}
		return pq.Decimal(d.Scale, d.Precision, typ), conv, nil
	}
	typ := pq.Decimal(d.Scale, d.Precision, pq.FixedLenByteArrayType(16)).Type()
	// The library orders these bytes as unsigned, so its bounds are wrong for
	// negative numbers, and readers would skip pages that hold what they look for.
	return pq.Leaf(unbounded(typ, min16, max16)), decimal16(limit, d.Zeros), nil
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
		return 0, table.ErrKind
	}
	n, ok := small(v.Data)
	if !ok {
		b, err := table.Unscaled(v)
		if err != nil || !b.IsInt64() {
			return 0, table.ErrDecimal
		}
		n = b.Int64()
	}
	if n <= -limit || n >= limit {
		return 0, table.ErrDecimal
	}
	for range zeros {
		if n *= 10; n <= -limit || n >= limit {
			return 0, table.ErrDecimal
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
		n, err := table.Unscaled(v)
		if err != nil {
			return pq.Value{}, err
		}
		var b [16]byte
		n.Mul(n, ten)
		if n.CmpAbs(limit) >= 0 {
			return pq.Value{}, table.ErrDecimal
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

func decimalText(d table.Decimal) leafConv {
	return func(out *rows, v schema.Value) (pq.Value, error) {
		b, err := d.AppendText(nil, v)
		return pq.ByteArrayValue(out.keep(b)), err
	}
}

// variableDecimalNode maps a decimal that carries its scale to its exact text.
func variableDecimalNode(s *schema.Schema) (pq.Node, leafConv, error) {
	digits, err := table.VariableDecimalOf(s)
	return pq.String(), func(out *rows, v schema.Value) (pq.Value, error) {
		b, err := digits(nil, v)
		return pq.ByteArrayValue(out.keep(b)), err
	}, err
}
