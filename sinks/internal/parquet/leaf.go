package parquet

import (
	"fmt"

	pq "github.com/parquet-go/parquet-go"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sinks/internal/table"
)

// leafConv makes a Parquet value; bytes are kept in out.
type leafConv func(out *rows, v schema.Value) (pq.Value, error)

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
		if s.Name == table.ConnectDecimal {
			return decimalNode(s)
		}
		return pq.Leaf(unbounded(pq.ByteArrayType, noBytes, maxBytes)), bytesLeaf, nil
	case schema.Struct:
		if s.Name == table.VariableDecimal {
			return variableDecimalNode(s)
		}
		// A group of no fields cannot be written.
		return pq.String(), func(out *rows, _ schema.Value) (pq.Value, error) { return text(out, []byte("{}")), nil }, nil
	case schema.Null:
		return pq.String(), func(*rows, schema.Value) (pq.Value, error) { return pq.Value{}, table.ErrKind }, nil
	}
	return nil, nil, fmt.Errorf("a type of kind %d has no place in Parquet", s.Kind)
}

func int32Node(s *schema.Schema) (pq.Node, leafConv, error) {
	switch s.Name {
	case table.Debezium + "time.Date", table.ConnectDate:
		return pq.Date(), int32Leaf, nil
	}
	if perSecond, digits, ok := table.ClockOf(s); ok {
		return pq.String(), clockLeaf(perSecond, digits), nil
	}
	return pq.Int(32), int32Leaf, nil
}

func int64Node(s *schema.Schema) (pq.Node, leafConv, error) {
	switch s.Name {
	case table.Debezium + "time.Timestamp":
		return pq.TimestampAdjusted(pq.Millisecond, false), int64Leaf, nil
	case table.ConnectInstant:
		return pq.TimestampAdjusted(pq.Millisecond, true), int64Leaf, nil
	case table.Debezium + "time.MicroTimestamp":
		return pq.TimestampAdjusted(pq.Microsecond, false), int64Leaf, nil
	case table.Debezium + "time.NanoTimestamp":
		return pq.TimestampAdjusted(pq.Nanosecond, false), int64Leaf, nil
	}
	if perSecond, digits, ok := table.ClockOf(s); ok {
		return pq.String(), clockLeaf(perSecond, digits), nil
	}
	return pq.Int(64), int64Leaf, nil
}

func stringNode(s *schema.Schema) (pq.Node, leafConv, error) {
	switch s.Name {
	case table.Debezium + "time.ZonedTimestamp":
		return pq.Timestamp(pq.Microsecond), zonedLeaf, nil
	case table.Debezium + "data.Json":
		return pq.Leaf(unbounded(pq.JSON().Type(), noBytes, maxText)), textLeaf, nil
	}
	return pq.String(), textLeaf, nil
}

func boolLeaf(_ *rows, v schema.Value) (pq.Value, error) {
	if v.Kind != schema.Bool {
		return pq.Value{}, table.ErrKind
	}
	return pq.BooleanValue(v.Bool()), nil
}

func int32Leaf(_ *rows, v schema.Value) (pq.Value, error) {
	if n := v.Int(); table.IsInt(v) && n == int64(int32(n)) {
		return pq.Int32Value(int32(n)), nil
	}
	return pq.Value{}, table.ErrKind
}

func int64Leaf(_ *rows, v schema.Value) (pq.Value, error) {
	if !table.IsInt(v) {
		return pq.Value{}, table.ErrKind
	}
	return pq.Int64Value(v.Int()), nil
}

func float32Leaf(_ *rows, v schema.Value) (pq.Value, error) {
	if v.Kind != schema.Float32 {
		return pq.Value{}, table.ErrKind
	}
	return pq.FloatValue(float32(v.Float())), nil
}

func float64Leaf(_ *rows, v schema.Value) (pq.Value, error) {
	if v.Kind != schema.Float64 && v.Kind != schema.Float32 {
		return pq.Value{}, table.ErrKind
	}
	return pq.DoubleValue(v.Float()), nil
}

func bytesLeaf(out *rows, v schema.Value) (pq.Value, error) {
	if v.Kind != schema.Bytes && v.Kind != schema.String {
		return pq.Value{}, table.ErrKind
	}
	return pq.ByteArrayValue(out.keep(v.Data)), nil
}

func textLeaf(out *rows, v schema.Value) (pq.Value, error) {
	if v.Kind != schema.String {
		return pq.Value{}, table.ErrKind
	}
	return text(out, v.Data), nil
}

func text(out *rows, p []byte) pq.Value { return pq.ByteArrayValue(out.keep(table.Text(p))) }

func clockLeaf(perSecond int64, digits int) leafConv {
	return func(out *rows, v schema.Value) (pq.Value, error) {
		if !table.IsInt(v) {
			return pq.Value{}, table.ErrKind
		}
		var buf [32]byte
		return pq.ByteArrayValue(out.keep(table.AppendClock(buf[:0], v.Int(), perSecond, digits))), nil
	}
}

func zonedLeaf(_ *rows, v schema.Value) (pq.Value, error) {
	if v.Kind != schema.String {
		return pq.Value{}, table.ErrKind
	}
	n, err := table.ZonedMicros(v.Data)
	return pq.Int64Value(n), err
}
