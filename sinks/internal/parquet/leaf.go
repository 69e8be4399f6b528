package parquet

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"

	pq "github.com/parquet-go/parquet-go"

	"github.com/forebayhub/forebay/connectors/schema"
)

// leafConv makes a Parquet value; bytes are kept in out.
type leafConv func(out *rows, v schema.Value) (pq.Value, error)

// The semantic names that have a Parquet type of their own.
const (
	debezium        = "io.debezium."
	connect         = "org.apache.kafka.connect.data."
	variableDecimal = debezium + "data.VariableScaleDecimal"
)

// leafOf is the type table of docs/formats/parquet.md.
func leafOf(s *schema.Schema) (pq.Node, leafConv, error) {
	switch s.Kind {
	case schema.Bool:
		return pq.Leaf(pq.BooleanType), boolLeaf, nil
	case schema.Int16:
		return pq.Int(16), int32Leaf, nil
	case schema.Int32:
		return int32Node(s)
	case schema.Int64:
		return int64Node(s)
	case schema.Float32:
		return pq.Leaf(pq.FloatType), float32Leaf, nil
	case schema.Float64:
		return pq.Leaf(pq.DoubleType), float64Leaf, nil
	case schema.String:
		return stringNode(s)
	case schema.Bytes:
		if s.Name == connect+"Decimal" {
			return decimalNode(s)
		}
		return pq.Leaf(unbounded(pq.ByteArrayType, noBytes, maxBytes)), bytesLeaf, nil
	case schema.Struct:
		if s.Name == variableDecimal {
			return variableDecimalNode(s)
		}
		// A group of no fields cannot be written.
		return pq.String(), func(out *rows, _ schema.Value) (pq.Value, error) { return text(out, []byte("{}")), nil }, nil
	case schema.Null:
		return pq.String(), func(*rows, schema.Value) (pq.Value, error) { return pq.Value{}, errKind }, nil
	}
	return nil, nil, fmt.Errorf("a type of kind %d has no place in Parquet", s.Kind)
}

func int32Node(s *schema.Schema) (pq.Node, leafConv, error) {
	switch s.Name {
	case debezium + "time.Date", connect + "Date":
		return pq.Date(), int32Leaf, nil
	case debezium + "time.Time", connect + "Time":
		return pq.String(), clockLeaf(1000, 3), nil
	}
	return pq.Int(32), int32Leaf, nil
}

func int64Node(s *schema.Schema) (pq.Node, leafConv, error) {
	switch s.Name {
	case debezium + "time.Timestamp":
		return pq.TimestampAdjusted(pq.Millisecond, false), int64Leaf, nil
	case connect + "Timestamp":
		return pq.TimestampAdjusted(pq.Millisecond, true), int64Leaf, nil
	case debezium + "time.MicroTimestamp":
		return pq.TimestampAdjusted(pq.Microsecond, false), int64Leaf, nil
	case debezium + "time.NanoTimestamp":
		return pq.TimestampAdjusted(pq.Nanosecond, false), int64Leaf, nil
	case debezium + "time.MicroTime":
		return pq.String(), clockLeaf(1_000_000, 6), nil
	case debezium + "time.NanoTime":
		return pq.String(), clockLeaf(1_000_000_000, 9), nil
	}
	return pq.Int(64), int64Leaf, nil
}

func stringNode(s *schema.Schema) (pq.Node, leafConv, error) {
	switch s.Name {
	case debezium + "time.ZonedTimestamp":
		return pq.Timestamp(pq.Microsecond), zonedLeaf, nil
	case debezium + "data.Json":
		return pq.Leaf(unbounded(pq.JSON().Type(), noBytes, maxText)), textLeaf, nil
	}
	return pq.String(), textLeaf, nil
}

func boolLeaf(_ *rows, v schema.Value) (pq.Value, error) {
	if v.Kind != schema.Bool {
		return pq.Value{}, errKind
	}
	return pq.BooleanValue(v.Bool()), nil
}

func isInt(v schema.Value) bool {
	return v.Kind == schema.Int32 || v.Kind == schema.Int64 || v.Kind == schema.Int16
}

func int32Leaf(_ *rows, v schema.Value) (pq.Value, error) {
	if n := v.Int(); isInt(v) && n == int64(int32(n)) {
		return pq.Int32Value(int32(n)), nil
	}
	return pq.Value{}, errKind
}

func int64Leaf(_ *rows, v schema.Value) (pq.Value, error) {
	if !isInt(v) {
		return pq.Value{}, errKind
	}
	return pq.Int64Value(v.Int()), nil
}

func float32Leaf(_ *rows, v schema.Value) (pq.Value, error) {
	if v.Kind != schema.Float32 {
		return pq.Value{}, errKind
	}
	return pq.FloatValue(float32(v.Float())), nil
}

func float64Leaf(_ *rows, v schema.Value) (pq.Value, error) {
	if v.Kind != schema.Float64 && v.Kind != schema.Float32 {
		return pq.Value{}, errKind
	}
	return pq.DoubleValue(v.Float()), nil
}

func bytesLeaf(out *rows, v schema.Value) (pq.Value, error) {
	if v.Kind != schema.Bytes && v.Kind != schema.String {
		return pq.Value{}, errKind
	}
	return pq.ByteArrayValue(out.keep(v.Data)), nil
}

func textLeaf(out *rows, v schema.Value) (pq.Value, error) {
	if v.Kind != schema.String {
		return pq.Value{}, errKind
	}
	return text(out, v.Data), nil
}

// text is a string of a file, which must be UTF-8: what is not becomes U+FFFD.
func text(out *rows, p []byte) pq.Value {
	if !utf8.Valid(p) {
		p = bytes.ToValidUTF8(p, []byte("\uFFFD"))
	}
	return pq.ByteArrayValue(out.keep(p))
}

// clockLeaf writes a time of day as 13:51:30.123456. Spark and Hive refuse whole
// files over Parquet's own TIME, which cannot hold PostgreSQL's 24:00:00 either.
func clockLeaf(perSecond int64, digits int) leafConv {
	return func(out *rows, v schema.Value) (pq.Value, error) {
		if !isInt(v) {
			return pq.Value{}, errKind
		}
		var buf [32]byte
		n := v.Int()
		if n < 0 || n > 86400*perSecond {
			return pq.ByteArrayValue(out.keep(strconv.AppendInt(buf[:0], n, 10))), nil
		}
		s, frac := n/perSecond, n%perSecond
		b := two(two(two(buf[:0], s/3600, ':'), s/60%60, ':'), s%60, '.')
		for unit := perSecond / 10; digits > 0 && unit > 0; unit /= 10 {
			b = append(b, byte('0'+frac/unit%10))
		}
		return pq.ByteArrayValue(out.keep(b)), nil
	}
}

func two(b []byte, n int64, sep byte) []byte {
	return append(b, byte('0'+n/10), byte('0'+n%10), sep)
}
