package cdc

import (
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors/schema"
)

// Plain is a schema without a semantic name.
func Plain(k schema.Kind) *schema.Schema { return &schema.Schema{Kind: k, Optional: true} }

// Semantic is a schema of one of Debezium's or Connect's named types, version 1.
func Semantic(k schema.Kind, name string) *schema.Schema {
	return &schema.Schema{Kind: k, Name: name, Version: 1, Optional: true}
}

// The names of the semantic types (io.debezium.time, io.debezium.data and
// org.apache.kafka.connect.data).
const (
	Date                 = "io.debezium.time.Date"
	Time                 = "io.debezium.time.Time"
	MicroTime            = "io.debezium.time.MicroTime"
	Timestamp            = "io.debezium.time.Timestamp"
	MicroTimestamp       = "io.debezium.time.MicroTimestamp"
	ZonedTimestamp       = "io.debezium.time.ZonedTimestamp"
	ZonedTime            = "io.debezium.time.ZonedTime"
	MicroDuration        = "io.debezium.time.MicroDuration"
	Json                 = "io.debezium.data.Json"
	Xml                  = "io.debezium.data.Xml"
	Uuid                 = "io.debezium.data.Uuid"
	Ltree                = "io.debezium.data.Ltree"
	TsVector             = "io.debezium.data.TsVector"
	Enum                 = "io.debezium.data.Enum"
	Bits                 = "io.debezium.data.Bits"
	VariableScaleDecimal = "io.debezium.data.VariableScaleDecimal"
	Point                = "io.debezium.data.geometry.Point"
	Decimal              = "org.apache.kafka.connect.data.Decimal"
)

// DecimalOf is a decimal of fixed scale: the unscaled integer as big-endian two's complement bytes.
func DecimalOf(precision, scale int) *schema.Schema {
	s := Semantic(schema.Bytes, Decimal)
	s.Params = map[string]string{"scale": strconv.Itoa(scale)}
	if precision > 0 {
		s.Params["connect.decimal.precision"] = strconv.Itoa(precision)
	}
	return s
}

// VariableDecimal is a decimal that carries its own scale.
func VariableDecimal() *schema.Schema {
	s := Semantic(schema.Struct, VariableScaleDecimal)
	s.Doc = "Variable scaled decimal"
	s.Fields = []schema.Field{
		{Name: "scale", Schema: &schema.Schema{Kind: schema.Int32}},
		{Name: "value", Schema: &schema.Schema{Kind: schema.Bytes}},
	}
	return s
}

// PointOf is a point with its coordinates and its well-known binary.
func PointOf() *schema.Schema {
	s := Semantic(schema.Struct, Point)
	s.Doc = "Geometry (POINT)"
	s.Fields = []schema.Field{
		{Name: "x", Schema: &schema.Schema{Kind: schema.Float64}},
		{Name: "y", Schema: &schema.Schema{Kind: schema.Float64}},
		{Name: "wkb", Schema: Plain(schema.Bytes)},
		{Name: "srid", Schema: Plain(schema.Int32)},
	}
	return s
}

// EnumOf is a string out of a list.
func EnumOf(allowed []string) *schema.Schema {
	s := Semantic(schema.String, Enum)
	s.Params = map[string]string{"allowed": strings.Join(allowed, ",")}
	return s
}

// BitsOf is a bit string as little-endian bytes.
func BitsOf(length int) *schema.Schema {
	s := Semantic(schema.Bytes, Bits)
	s.Params = map[string]string{"length": strconv.Itoa(length)}
	return s
}

// Required is s with null ruled out.
func Required(s *schema.Schema) *schema.Schema {
	if !s.Optional {
		return s
	}
	c := *s
	c.Optional = false
	return &c
}
