package mongodb

import (
	"bytes"
	"math"
	"math/big"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/forebayhub/forebay/connectors/schema"
)

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The texts are those of sources/mongodb (and Debezium): v1 strict in documents, v2 relaxed in keys.
func TestExtendedJSON(t *testing.T) {
	oid := bson.ObjectID{1, 2, 11: 0xff}
	dec, err := bson.ParseDecimal128("1.50E+3")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]any{
		`1`:                                    int32(1),
		`-2147483649`:                          int64(-2147483649),
		`{"$numberLong": "1"}`:                 int64(1),
		`{"$numberInt": "1"}`:                  int32(1),
		`1.0`:                                  1.0,
		`1.0E+22`:                              1e22,
		`-0.0`:                                 math.Copysign(0, -1),
		`4.9E-324`:                             5e-324,
		`{"$numberDouble": "-Infinity"}`:       math.Inf(-1),
		`{"$numberDecimal": "1.50E+3"}`:        dec,
		`"a\"\\\né\u0001"`:                     "a\"\\\né\x01",
		`true`:                                 true,
		`null`:                                 nil,
		`{"$oid": "0102000000000000000000ff"}`: oid,
		`{"$date": -5}`:                        bson.DateTime(-5),
		`{"$date": {"$numberLong": "253402300800000"}}`:                             bson.DateTime(253402300800000),
		`{"$date": "2026-01-02T03:04:05.678Z"}`:                                     bson.DateTime(1767323045678),
		`{"$binary": "AP8=","$type": "80"}`:                                         bson.Binary{Subtype: 0x80, Data: []byte{0, 0xff}},
		`{"$binary": "AP8=","$type": "02"}`:                                         bson.Binary{Subtype: 2, Data: []byte{0, 0xff}},
		`{"$binary": {"base64": "AP8=", "subType": "04"}}`:                          bson.Binary{Subtype: 4, Data: []byte{0, 0xff}},
		`{"$timestamp": {"t": 4294967295,"i": 7}}`:                                  bson.Timestamp{T: math.MaxUint32, I: 7},
		`{"$regex": "a/b","$options": "i"}`:                                         bson.Regex{Pattern: "a/b", Options: "i"},
		`{"$regularExpression": {"pattern": "a","options": ""}}`:                    bson.Regex{Pattern: "a"},
		`{"$symbol": "s"}`:                                                          bson.Symbol("s"),
		`{"$code": "f"}`:                                                            bson.JavaScript("f"),
		`{"$code": "f","$scope": {"x": {"$numberLong": "2"}}}`:                      bson.CodeWithScope{Code: "f", Scope: bson.D{{Key: "x", Value: int64(2)}}},
		`{"$undefined": true}`:                                                      bson.Undefined{},
		`{"$minKey": 1}`:                                                            bson.MinKey{},
		`{"$maxKey": 1}`:                                                            bson.MaxKey{},
		`{"$dbPointer": {"$ref": "c","$id": {"$oid": "0102000000000000000000ff"}}}`: bson.DBPointer{DB: "c", Pointer: oid},
		`{"$uuid": "00112233-4455-6677-8899-aabbccddeeff"}`:                         bson.Binary{Subtype: 4, Data: []byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}},
		`[1,[],{"a": {"$numberLong": "3"}}]`:                                        bson.A{int32(1), bson.A{}, bson.D{{Key: "a", Value: int64(3)}}},
		// Documents like any other.
		`{}`:                           bson.D{},
		`{"$ref": "c","$id": 1}`:       bson.D{{Key: "$ref", Value: "c"}, {Key: "$id", Value: int32(1)}},
		`{"$numberLong": "x"}`:         bson.D{{Key: "$numberLong", Value: "x"}},
		`{"$date": 1,"a": 2}`:          bson.D{{Key: "$date", Value: int32(1)}, {Key: "a", Value: int32(2)}},
		`{"$minKey": 2}`:               bson.D{{Key: "$minKey", Value: int32(2)}},
		`{"$regex": 1,"$options": ""}`: bson.D{{Key: "$regex", Value: int32(1)}, {Key: "$options", Value: ""}},
		`{"a": 1,"a": 2}`:              bson.D{{Key: "a", Value: int32(1)}, {Key: "a", Value: int32(2)}},
	} {
		got, err := document(nil, []byte(`{"v": `+text+`}`), true)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if w := marshal(t, bson.D{{Key: "v", Value: want}}); !bytes.Equal(got, w) {
			t.Errorf("%s\ngives %s\nwant  %s", text, bson.Raw(got), bson.Raw(w))
		}
	}
	for _, bad := range []string{``, `{`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `[1]`, `{"a":01}`, `{"a":1}x`, `{"a":[1,]}`, `{"a":tru}`, `{"a":"\x"}`, "{\"a\":\"\xff\"}", `{"a\u0000":1}`, `{"a":+1}`, `{,"a":1}`} {
		if got, err := document(nil, []byte(bad), true); err == nil {
			t.Errorf("%q gives %s", bad, bson.Raw(got))
		}
	}
}

// JSON of a relational column is only JSON.
func TestPlainJSON(t *testing.T) {
	dec := func(s string) bson.Decimal128 {
		d, err := bson.ParseDecimal128(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for text, want := range map[string]any{
		`{"$numberLong": "1"}`:  bson.D{{Key: "$numberLong", Value: "1"}},
		`[1, 2.5, 1e3]`:         bson.A{int32(1), 2.5, 1000.0},
		`9223372036854775808`:   dec("9223372036854775808"),
		`0.1234567890123456789`: dec("0.1234567890123456789"),
		`"x"`:                   "x",
		`1e400`:                 dec("1E+400"),
		// What BSON has no exact value for stays text.
		`[123456789012345678901234567890123456789]`: `[123456789012345678901234567890123456789]`,
		`{"\u0000": 1}`: `{"\u0000": 1}`,
		`no json`:       `no json`,
	} {
		s := &schema.Schema{Kind: schema.String, Name: nameJSON}
		got := element(t, s, schema.StringOf(text), false)
		if w := marshal(t, bson.D{{Key: "v", Value: want}}); !bytes.Equal(got, w) {
			t.Errorf("%s\ngives %s\nwant  %s", text, bson.Raw(got), bson.Raw(w))
		}
	}
}

// element makes {"v": value}.
func element(t testing.TB, s *schema.Schema, v schema.Value, whole bool) []byte {
	t.Helper()
	start, b := bsoncore.AppendDocumentStart(nil)
	b, _, err := appendElement(b, "v", s, v, whole, 1)
	if err != nil {
		t.Fatalf("%+v: %v", s, err)
	}
	b, err = bsoncore.AppendDocumentEnd(b, start)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTypes(t *testing.T) {
	named := func(k schema.Kind, name string) *schema.Schema { return &schema.Schema{Kind: k, Name: name} }
	decimal := func(scale string) *schema.Schema {
		return &schema.Schema{Kind: schema.Bytes, Name: nameDecimal, Params: map[string]string{"scale": scale}}
	}
	dec := func(s string) bson.Decimal128 {
		d, err := bson.ParseDecimal128(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	variable := structOf(nameVariable, "scale", named(schema.Int32, ""), "value", named(schema.Bytes, ""))
	large, _ := new(big.Int).SetString("12345678901234567890123456789012345678", 10)
	for i, c := range []struct {
		s     *schema.Schema
		v     schema.Value
		whole bool
		want  any
	}{
		{named(schema.Bool, ""), schema.BoolOf(true), false, true},
		{named(schema.Int16, ""), schema.Int16Of(-7), false, int32(-7)},
		{named(schema.Int64, ""), schema.Int64Of(7), false, int64(7)},
		{named(schema.Float32, ""), schema.Float32Of(1.1), false, float64(float32(1.1))},
		{named(schema.Float64, ""), schema.Float64Of(math.Inf(1)), false, math.Inf(1)},
		{named(schema.Bytes, ""), schema.BytesOf([]byte{0, 255}), false, bson.Binary{Data: []byte{0, 255}}},
		{named(schema.String, nameUUID), schema.StringOf("00112233-4455-6677-8899-aabbccddeeff"), false, bson.Binary{Subtype: 4, Data: []byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}}},
		{decimal("2"), schema.BytesOf([]byte{0xff, 0x80}), false, dec("-1.28")},
		{decimal("-2"), schema.BytesOf([]byte{1}), false, dec("1E+2")},
		{decimal("4"), schema.BytesOf([]byte{0x01, 0xe2, 0x40}), false, dec("12.3456")},
		{decimal("4"), schema.BytesOf(large.Bytes()), false, "1234567890123456789012345678901234.5678"},
		{decimal("40"), schema.BytesOf(large.Bytes()), false, "0.0012345678901234567890123456789012345678"},
		{variable, schema.StructOf(schema.Int32Of(3), schema.BytesOf([]byte{0x30, 0x39})), false, dec("12.345")},
		{named(schema.Int32, nameDate), schema.Int32Of(-1), false, bson.DateTime(-86400000)},
		{named(schema.Int64, nameTimestamp), schema.Int64Of(1700000000123), false, bson.DateTime(1700000000123)},
		{named(schema.Int64, nameMicroTimestamp), schema.Int64Of(-1), false, bson.DateTime(-1)}, // and 999 µs
		{named(schema.Int64, nameMicroTimestamp), schema.Int64Of(1700000000123456), true, "2023-11-14T22:13:20.123456Z"},
		{named(schema.Int64, nameMicroTimestamp), schema.Int64Of(1700000000123000), true, bson.DateTime(1700000000123)},
		{named(schema.Int64, nameMicroTime), schema.Int64Of(49890123456), false, "13:51:30.123456"},
		{named(schema.Int64, nameMicroTime), schema.Int64Of(86400000000), false, "24:00:00"},
		{named(schema.Int32, nameTime), schema.Int32Of(49890100), false, "13:51:30.1"},
		{named(schema.String, nameZonedTimestamp), schema.StringOf("2016-11-04T11:51:30.12Z"), false, bson.DateTime(1478260290120)},
		{named(schema.String, nameZonedTimestamp), schema.StringOf("+21016-11-04T06:51:30Z"), false, bson.DateTime(601060287090000)},
		{named(schema.String, nameZonedTimestamp), schema.StringOf("-0001-01-01T00:00:00Z"), false, bson.DateTime(-62198755200000)},
		{named(schema.String, nameZonedTimestamp), schema.StringOf("infinity"), false, "infinity"},
		{&schema.Schema{Kind: schema.Array, Elem: named(schema.Int64, nameMicroTimestamp)}, schema.ArrayOf(schema.Int64Of(1_000_001), schema.Value{}), false, bson.A{"1970-01-01T00:00:01.000001Z", nil}},
		{&schema.Schema{Kind: schema.Map, Key: named(schema.String, ""), Elem: named(schema.Int32, "")}, schema.MapOf(schema.StringOf("a.$b"), schema.Int32Of(1)), false, bson.D{{Key: "a.$b", Value: int32(1)}}},
		{&schema.Schema{Kind: schema.Map, Key: named(schema.Int32, ""), Elem: named(schema.Int32, "")}, schema.MapOf(schema.Int32Of(2), schema.Int32Of(1)), false, bson.A{bson.A{int32(2), int32(1)}}},
		{structOf("p", "x", named(schema.Float64, ""), "gone", optText), schema.StructOf(schema.Float64Of(1), schema.Missing), false, bson.D{{Key: "x", Value: 1.0}}},
	} {
		if got, want := element(t, c.s, c.v, c.whole), marshal(t, bson.D{{Key: "v", Value: c.want}}); !bytes.Equal(got, want) {
			t.Errorf("%d: %s, want %s", i, bson.Raw(got), bson.Raw(want))
		}
	}
}

func TestKeys(t *testing.T) {
	shape := shapeRows
	p := &part{shape: &shape}
	two := structOf("k", "b", int64Type, "a", optText)
	rec := docTombstone("x")
	for _, c := range []struct {
		s    *schema.Schema
		v    schema.Value
		want any
	}{
		{orderKey, schema.StructOf(schema.Int64Of(7)), int64(7)},
		{two, schema.StructOf(schema.Int64Of(7), schema.StringOf("x")), bson.D{{Key: "b", Value: int64(7)}, {Key: "a", Value: "x"}}},
		{optText, schema.StringOf("x"), "x"},
		{documentKey, schema.StructOf(schema.StringOf("42")), "42"}, // of a table whose key is a text called id
	} {
		rec.Key.Schema, rec.Key.Value = c.s, c.v
		k, err := p.keyOf(&rec)
		if err != nil {
			t.Error(err)
			continue
		}
		typ, want, _ := bson.MarshalValue(c.want)
		if k.raw.Type != typ || !bytes.Equal(k.raw.Value, want) {
			t.Errorf("%+v gives %s", c.v, k.raw)
		}
	}
	rec.Key.Schema, rec.Key.Value = two, schema.StructOf(schema.Int64Of(7), schema.Value{})
	if _, err := p.keyOf(&rec); err == nil {
		t.Error("a key with a null passes")
	}
}

func FuzzExtendedJSON(f *testing.F) {
	f.Add([]byte(`{"a": {"$numberLong": "1"},"b": [{"$binary": "AP8=","$type": "00"},1.5,null]}`), true)
	f.Add([]byte(`{"$code": "f","$scope": {"x": {"$regex": "a","$options": "i"}}}`), true)
	f.Add([]byte(`{"a":[123456789012345678901,{"$date":1}]}`), false)
	f.Fuzz(func(t *testing.T, text []byte, extended bool) {
		doc, err := document(nil, text, extended)
		if err != nil {
			return
		}
		if err := bson.Raw(doc).Validate(); err != nil {
			t.Fatalf("%q gives what is no BSON: %v", text, err)
		}
	})
}

func FuzzZoned(f *testing.F) {
	f.Add("2016-11-04T11:51:30.12Z")
	f.Add("-4713-12-31T23:59:59.999999Z")
	f.Add("+294247-01-10T04:00:54.775807Z")
	f.Fuzz(func(_ *testing.T, text string) { parseZoned(text) })
}
