// Package tabletest has records and checks that all formats with columns share in their tests.
package tabletest

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sinks/internal/files"
	"github.com/forebayhub/forebay/sinks/internal/table"
)

// Type is a type of a column that may be null; params are pairs.
func Type(k schema.Kind, name string, params ...string) *schema.Schema {
	s := &schema.Schema{Kind: k, Name: name, Optional: true}
	if len(params) > 0 {
		s.Params = map[string]string{}
		for i := 0; i < len(params); i += 2 {
			s.Params[params[i]] = params[i+1]
		}
	}
	return s
}

// Twos is n as Connect's Decimal has it.
func Twos(n int64) []byte {
	b := big.NewInt(n)
	if n >= 0 {
		p := b.Bytes()
		if len(p) == 0 || p[0]&0x80 != 0 {
			p = append([]byte{0}, p...)
		}
		return p
	}
	p := make([]byte, 9)
	new(big.Int).Add(b, new(big.Int).Lsh(big.NewInt(1), 72)).FillBytes(p)
	return p
}

var (
	point = &schema.Schema{Kind: schema.Struct, Name: "io.debezium.data.geometry.Point", Optional: true, Fields: []schema.Field{
		{Name: "x", Schema: Type(schema.Float64, "")}, {Name: "y", Schema: Type(schema.Float64, "")}}}
	variable = &schema.Schema{Kind: schema.Struct, Name: table.VariableDecimal, Optional: true, Fields: []schema.Field{
		{Name: "scale", Schema: Type(schema.Int32, "")}, {Name: "value", Schema: Type(schema.Bytes, "")}}}
	intArray = &schema.Schema{Kind: schema.Array, Optional: true, Elem: Type(schema.Int32, "")}
	dict     = &schema.Schema{Kind: schema.Map, Optional: true, Key: &schema.Schema{Kind: schema.String}, Elem: Type(schema.String, "")}
	nested   = &schema.Schema{Kind: schema.Array, Optional: true, Elem: intArray}

	// Everything is a row with a column of each type.
	Everything = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{
		{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}},
		{Name: "b", Schema: Type(schema.Bool, "")},
		{Name: "i2", Schema: Type(schema.Int16, "")},
		{Name: "i4", Schema: Type(schema.Int32, "")},
		{Name: "f4", Schema: Type(schema.Float32, "")},
		{Name: "f8", Schema: Type(schema.Float64, "")},
		{Name: "txt", Schema: Type(schema.String, "")},
		{Name: "raw", Schema: Type(schema.Bytes, "")},
		{Name: "d", Schema: Type(schema.Int32, "io.debezium.time.Date")},
		{Name: "t6", Schema: Type(schema.Int64, "io.debezium.time.MicroTime")},
		{Name: "t3", Schema: Type(schema.Int32, "io.debezium.time.Time")},
		{Name: "ts3", Schema: Type(schema.Int64, "io.debezium.time.Timestamp")},
		{Name: "ts6", Schema: Type(schema.Int64, "io.debezium.time.MicroTimestamp")},
		{Name: "tz", Schema: Type(schema.String, "io.debezium.time.ZonedTimestamp")},
		{Name: "n5", Schema: Type(schema.Bytes, "org.apache.kafka.connect.data.Decimal", "scale", "2", "connect.decimal.precision", "5")},
		{Name: "n18", Schema: Type(schema.Bytes, "org.apache.kafka.connect.data.Decimal", "scale", "6", "connect.decimal.precision", "18")},
		{Name: "n38", Schema: Type(schema.Bytes, "org.apache.kafka.connect.data.Decimal", "scale", "10", "connect.decimal.precision", "38")},
		{Name: "n60", Schema: Type(schema.Bytes, "org.apache.kafka.connect.data.Decimal", "scale", "3", "connect.decimal.precision", "60")},
		{Name: "nvar", Schema: variable},
		{Name: "js", Schema: Type(schema.String, "io.debezium.data.Json")},
		{Name: "u", Schema: Type(schema.String, "io.debezium.data.Uuid")},
		{Name: "a", Schema: intArray},
		{Name: "m", Schema: dict},
		{Name: "nn", Schema: nested},
		{Name: "p", Schema: point},
	}}
	keyID = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}}}}
)

// Row is a row of Everything; what is not given is null.
func Row(id int64, rest ...schema.Value) schema.Value {
	list := append([]schema.Value{schema.Int64Of(id)}, rest...)
	for len(list) < len(Everything.Fields) {
		list = append(list, schema.Value{})
	}
	return schema.StructOf(list...)
}

// Change is a change event of a table whose row is Everything.
func Change(op connectors.Op, offset int64, before, after schema.Value) *connectors.Record {
	r := &connectors.Record{Topic: "shop.public.t", Partition: 0, Offset: offset, Timestamp: time.UnixMilli(1_700_000_000_000 + offset),
		Headers:  []connectors.Header{{Key: "forebay.schema", Value: []byte("1")}},
		RawValue: []byte("{}"), RawKey: []byte(`{"id":1}`),
		Change: &connectors.Change{Op: op, Row: Everything, Before: before, After: after, At: time.UnixMilli(1_700_000_000_123)}}
	if op != connectors.OpTruncate {
		r.Key = connectors.Datum{Schema: keyID}
		for _, v := range []schema.Value{after, before} {
			if !v.IsNull() {
				r.Key.Value = schema.StructOf(v.List[0])
				break
			}
		}
	}
	return r
}

// Full is a row in which nothing is null.
func Full(id int64) schema.Value {
	return Row(id, schema.BoolOf(true), schema.Int16Of(-7), schema.Int32Of(math.MaxInt32), schema.Float32Of(1.5), schema.Float64Of(-2.25),
		schema.StringOf("żółw 🐢"), schema.BytesOf([]byte{0, 255, 1}), schema.Int32Of(20000), schema.Int64Of(86_399_999_999), schema.Int32Of(1),
		schema.Int64Of(1_700_000_000_123), schema.Int64Of(-1_000_001), schema.StringOf("2024-02-29T23:59:59.000001Z"),
		schema.BytesOf(Twos(-12345)), schema.BytesOf(Twos(-123456789012345678)), schema.BytesOf(Twos(-1)), schema.BytesOf(Twos(-98765)),
		schema.StructOf(schema.Int32Of(4), schema.BytesOf(Twos(1000001))), schema.StringOf(`{"k": [1, 2]}`),
		schema.StringOf("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
		schema.ArrayOf(schema.Int32Of(1), schema.Value{}, schema.Int32Of(3)), schema.MapOf(schema.StringOf("x"), schema.StringOf("1"), schema.StringOf("y"), schema.Value{}),
		schema.ArrayOf(schema.ArrayOf(schema.Int32Of(1), schema.Int32Of(2)), schema.ArrayOf(), schema.Value{}),
		schema.StructOf(schema.Float64Of(1), schema.Value{}))
}

// Missing is a row with two columns that the database did not send.
func Missing(id int64) schema.Value {
	v := Row(id)
	v.List[6], v.List[21] = schema.Missing, schema.Missing
	return v
}

// Changes are one of each kind, in the order of their offsets, with a gap.
func Changes() []*connectors.Record {
	return []*connectors.Record{
		Change(connectors.OpRead, 10, schema.Value{}, Full(1)),
		Change(connectors.OpCreate, 11, schema.Value{}, Row(2)),
		Change(connectors.OpUpdate, 13, Row(2), Missing(2)),
		Change(connectors.OpDelete, 14, Row(2), schema.Value{}),
	}
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// Compare returns the differences that a format finds between a file and records.
func Compare(t testing.TB, f files.Format, file []byte, want ...*connectors.Record) []string {
	t.Helper()
	var found []string
	err := f.Compare(memory{bytes.NewReader(file)}, func() (*connectors.Record, error) {
		if len(want) == 0 {
			return nil, io.EOF
		}
		r := want[0]
		want = want[1:]
		return r, nil
	}, func(row int, what string) { found = append(found, fmt.Sprintf("%d: %s", row, what)) })
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Encode writes records into one file and returns it.
func Encode(t testing.TB, f files.Format, rs ...*connectors.Record) []byte {
	t.Helper()
	var buf bytes.Buffer
	e, err := f.NewEncoder(&buf, rs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		if !f.Fits(e, r) {
			t.Fatalf("offset %d does not fit", r.Offset)
		}
		if err := e.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e.Size() != int64(buf.Len()) {
		t.Fatalf("Size says %d, the file has %d bytes", e.Size(), buf.Len())
	}
	return buf.Bytes()
}
