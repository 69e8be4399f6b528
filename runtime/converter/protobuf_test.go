package converter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/registry/protobuf"
)

func compiled(t testing.TB, text SchemaText) *protobuf.Schema {
	t.Helper()
	s, err := protobuf.Parse(text.Text, text.named())
	if err != nil {
		t.Fatalf("%v\n%s", err, text.Text)
	}
	return s
}

// manyTypes is a row of every type that sources make, and of names that Protobuf does not allow.
func manyTypes() (*schema.Schema, schema.Value) {
	list := func(elem *schema.Schema, opts ...func(*schema.Schema)) *schema.Schema {
		s := &schema.Schema{Kind: schema.Array, Elem: elem}
		for _, o := range opts {
			o(s)
		}
		return s
	}
	text, maybe := &schema.Schema{Kind: schema.String}, &schema.Schema{Kind: schema.String, Optional: true}
	point := &schema.Schema{Kind: schema.Struct, Name: "io.debezium.data.geometry.Point", Version: 1, Optional: true, Doc: "Geometry (POINT)", Fields: []schema.Field{
		field("x", schema.Float64), field("y", schema.Float64), field("wkb", schema.Bytes, optional), field("srid", schema.Int32, optional)}}
	price := &schema.Schema{Kind: schema.Bytes, Name: "org.apache.kafka.connect.data.Decimal", Version: 1, Optional: true, Params: map[string]string{"scale": "2", "connect.decimal.precision": "10"}}
	connect := func(k schema.Kind, n string) *schema.Schema {
		return &schema.Schema{Kind: k, Name: "org.apache.kafka.connect.data." + n, Version: 1}
	}
	at := func(x float64) schema.Value {
		return schema.StructOf(schema.Float64Of(x), schema.Float64Of(0), schema.Value{}, schema.Int32Of(4326))
	}
	s := &schema.Schema{Kind: schema.Struct, Name: "my-shop.public.orders.Value", Fields: []schema.Field{
		field("id", schema.Int64), {Name: "from", Schema: point}, {Name: "Point", Schema: point}, {Name: "price", Schema: price},
		field("mood", schema.String, optional, name("io.debezium.data.Enum"), func(s *schema.Schema) { s.Params = map[string]string{"allowed": "ok,\"bad\"\n\x01"} }),
		field("at", schema.Int64, optional, name("io.debezium.time.MicroTimestamp")), field("small", schema.Int16), field("tiny", schema.Int16, optional),
		{Name: "tags", Schema: list(maybe, optional)}, {Name: "none", Schema: list(maybe, optional)}, {Name: "empty", Schema: list(maybe, optional)}, {Name: "plain", Schema: list(text)},
		{Name: "vector", Schema: list(&schema.Schema{Kind: schema.Float32}, optional, name("io.debezium.data.FloatVector"))},
		{Name: "grid", Schema: list(list(&schema.Schema{Kind: schema.Int32}, optional))}, {Name: "points", Schema: list(point)},
		{Name: "attributes", Schema: &schema.Schema{Kind: schema.Map, Optional: true, Key: text, Elem: maybe}},
		{Name: "counts", Schema: &schema.Schema{Kind: schema.Map, Key: &schema.Schema{Kind: schema.Int32}, Elem: list(text, optional)}},
		field("order-id", schema.Int32), field("order_id", schema.Int32), field("orderId", schema.Int32, optional), field("1st", schema.Bool), field("ok", schema.Bool, optional),
		field("f", schema.Float32), field("d", schema.Float64, optional), field("b", schema.Bytes), field("nothing", schema.String, optional),
		{Name: "day", Schema: connect(schema.Int32, "Date")}, {Name: "clock", Schema: connect(schema.Int32, "Time")}, {Name: "instant", Schema: connect(schema.Int64, "Timestamp")},
		{Name: "before", Schema: connect(schema.Int64, "Timestamp")},
	}}
	x, null := schema.StringOf("x"), schema.Value{}
	v := schema.StructOf(schema.Int64Of(-7), at(1.5), at(0), schema.BytesOf([]byte{0xfb, 0x2e}), schema.StringOf("ok"), schema.Int64Of(1), schema.Int16Of(0), schema.Int16Of(0),
		schema.ArrayOf(x, null, schema.StringOf("")), null, schema.ArrayOf([]schema.Value{}...), schema.ArrayOf(x, schema.StringOf("")), schema.ArrayOf(schema.Float32Of(0), schema.Float32Of(1)),
		schema.ArrayOf(null, schema.ArrayOf(schema.Int32Of(0), schema.Int32Of(-1)), schema.ArrayOf([]schema.Value{}...)), schema.ArrayOf(null, at(2)),
		schema.MapOf(x, null, schema.StringOf(""), schema.StringOf(strings.Repeat("y", 300))), schema.MapOf(schema.Int32Of(0), schema.ArrayOf(x), schema.Int32Of(5), null),
		schema.Int32Of(1), schema.Int32Of(2), schema.Int32Of(3), schema.BoolOf(true), schema.BoolOf(false),
		schema.Float32Of(0.5), schema.Float64Of(0), schema.BytesOf([]byte{0, 0xff}), null,
		schema.Int32Of(-1), schema.Int32Of(86_399_999), schema.Int64Of(1_796_000_523_456), schema.Int64Of(-1))
	return s, v
}

// Every type comes back as it was; the bytes are what another implementation of Protobuf makes of the schema.
func TestProtobufTypes(t *testing.T) {
	s, v := manyTypes()
	shelf := shelfOf(Protobuf)
	r := shelf.through(t, Debezium, connectors.Record{Topic: "t", Value: connectors.Datum{Schema: s, Value: v}})
	if !schema.Same(r.Value.Value, v) {
		for i := range v.List {
			if !schema.Same(r.Value.Value.List[i], v.List[i]) {
				t.Errorf("%s: %+v, not %+v", s.Fields[i].Name, r.Value.Value.List[i], v.List[i])
			}
		}
	}
	if !schema.Equal(r.Value.Schema, s) {
		t.Errorf("the types\n got %s\nwant %s", r.Value.Schema.AppendJSON(nil), s.AppendJSON(nil))
	}
	text := shelf.texts[shelf.ids["t-value"]]
	golden(t, "value.proto", compiled(t, text).Canonical())

	_, out, err := NewEncoder(shelf.format(Debezium)).Encode(nil, &connectors.Record{Topic: "t", Value: connectors.Datum{Schema: s, Value: v}})
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage(compiled(t, text).File().Messages().Get(0))
	if err := proto.Unmarshal(out.Value[6:], m); err != nil || len(m.GetUnknown()) > 0 {
		t.Fatal(err, m.GetUnknown())
	}
	again, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	back := connectors.Record{Topic: "t", RawValue: append(bytes.Clone(out.Value[:6]), again...)}
	if err := shelf.decoder().Decode(&back); err != nil || !schema.Same(back.Value.Value, v) {
		t.Errorf("written by another implementation: %v %+v", err, back.Value.Value)
	}
	get := func(path string) string {
		return fmt.Sprint(m.Get(m.Descriptor().Fields().ByName(protoreflect.Name(path))))
	}
	if get("id") != "-7" || !strings.Contains(get("day"), "year:1969") || !strings.Contains(get("instant"), "seconds:1796000523") || !strings.Contains(get("plain"), "x") {
		t.Errorf("%v", m)
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || got != string(want) {
		t.Errorf("%s: %v\n%s", path, err, got)
	}
}

// Values that are no struct are in Google's wrappers, as ProtobufConverter has them.
func TestProtobufWrappers(t *testing.T) {
	for _, c := range []struct {
		kind schema.Kind
		v    schema.Value
		want []byte // behind the id
	}{
		{schema.Int64, schema.Int64Of(300), []byte{2, 4, 8, 0xac, 2}},
		{schema.String, schema.StringOf("k"), []byte{2, 14, 10, 1, 'k'}},
		{schema.Float64, schema.Float64Of(0), []byte{0}},
		{schema.Bool, schema.BoolOf(true), []byte{2, 12, 8, 1}},
	} {
		s := shelfOf(Protobuf)
		in := connectors.Record{Topic: "t", Value: connectors.Datum{Schema: &schema.Schema{Kind: c.kind}, Value: c.v}}
		_, out, err := NewEncoder(s.format(Debezium)).Encode(nil, &in)
		if err != nil || !bytes.Equal(out.Value[wireLead:], c.want) {
			t.Errorf("%s: %v % x", c.kind, err, out.Value)
		}
		if r := s.through(t, Debezium, in); !schema.Same(r.Value.Value, c.v) || r.Value.Schema.Optional {
			t.Errorf("%s: %+v", c.kind, r.Value)
		}
	}
}

// Columns keep their numbers when others come and go, so readers of any version read any other, and the registry takes each.
func TestProtobufEvolution(t *testing.T) {
	list := func(name string) schema.Field {
		return schema.Field{Name: name, Schema: &schema.Schema{Kind: schema.Array, Optional: true, Elem: &schema.Schema{Kind: schema.Int32, Optional: true}}}
	}
	text := func(name string) schema.Field { return field(name, schema.String, optional) }
	s := shelfOf(Protobuf)
	var versions []*protobuf.Schema
	var records [][]byte
	for i, columns := range [][]schema.Field{
		{text("a"), list("b"), text("c")},
		{text("a"), text("c"), text("d")},            // b is gone
		{text("d"), text("c"), text("a")},            // another order
		{text("e"), text("a"), list("b"), text("d")}, // c is gone, e has come, b is back
	} {
		row := &schema.Schema{Kind: schema.Struct, Name: "shop.t.Value", Fields: columns}
		v := schema.Value{Kind: schema.Struct}
		for _, c := range columns {
			if c.Schema.Kind == schema.Array {
				v.List = append(v.List, schema.ArrayOf(schema.Int32Of(int32(i))))
			} else {
				v.List = append(v.List, schema.StringOf(c.Name))
			}
		}
		_, out, err := NewEncoder(s.format(Debezium)).Encode(nil, &connectors.Record{Topic: "t", Value: connectors.Datum{Schema: row, Value: v}})
		if err != nil {
			t.Fatal(err)
		}
		now := compiled(t, s.texts[s.ids["t-value"]])
		for n, was := range versions {
			if d := append(protobuf.Read(now, was), protobuf.Read(was, now)...); len(d) > 0 {
				t.Errorf("version %d against %d: %v\n%s", i, n, d, now.Canonical())
			}
		}
		versions, records = append(versions, now), append(records, bytes.Clone(out.Value))
	}
	last := versions[len(versions)-1].File().Messages().Get(0)
	for name, number := range map[protoreflect.Name]protoreflect.FieldNumber{"a": 1, "b": 2, "d": 4, "e": 5} {
		if f := last.Fields().ByName(name); f == nil || f.Number() != number {
			t.Errorf("%s: %v", name, f)
		}
	}
	if !last.ReservedRanges().Has(3) {
		t.Error("the number of what is gone is free")
	}
	// What the last reader makes of the first writer's bytes.
	r := connectors.Record{RawValue: append(binary.BigEndian.AppendUint32([]byte{0}, uint32(s.ids["t-value"])), records[0][wireLead:]...)}
	if err := s.decoder().Decode(&r); err != nil || string(r.RawValue) != `{"e":null,"a":"a","b":[0],"d":null}` {
		t.Errorf("%v %s", err, r.RawValue)
	}
}

// follow registers a row of columns behind what a subject has, and checks that each version reads the one before.
func (s *shelf) follow(t *testing.T, columns ...schema.Field) protoreflect.MessageDescriptor {
	t.Helper()
	row := &schema.Schema{Kind: schema.Struct, Name: "shop.t.Value", Fields: columns}
	v := schema.Value{Kind: schema.Struct, List: make([]schema.Value, len(columns))}
	before := s.texts[s.ids["t-value"]]
	if _, _, err := NewEncoder(s.format(Debezium)).Encode(nil, &connectors.Record{Topic: "t", Value: connectors.Datum{Schema: row, Value: v}}); err != nil {
		t.Fatal(err)
	}
	now := compiled(t, s.texts[s.ids["t-value"]])
	if before.Text != "" {
		if d := protobuf.Read(now, compiled(t, before)); len(d) > 0 {
			t.Errorf("%v\n%s", d, now.Canonical())
		}
	}
	asked := len(s.texts)
	if _, _, err := NewEncoder(s.format(Debezium)).Encode(nil, &connectors.Record{Topic: "t", Value: connectors.Datum{Schema: row, Value: v}}); err != nil || len(s.texts) != asked {
		t.Errorf("%v: the same once more is another schema:\n%s", err, s.texts[s.ids["t-value"]].Text)
	}
	return now.File().Messages().Get(0)
}

// numbered are a message's fields.
func numbered(d protoreflect.MessageDescriptor) string {
	var out []string
	for i := range d.Fields().Len() {
		out = append(out, fmt.Sprintf("%s=%d", d.Fields().Get(i).Name(), d.Fields().Get(i).Number()))
	}
	return strings.Join(out, " ")
}

// A number means one column of one type, whoever gave it.
func TestProtobufNumbersOfOthers(t *testing.T) {
	text := func(name string) schema.Field { return field(name, schema.String, optional) }
	long := func(name string) schema.Field { return field(name, schema.Int64, optional) }
	s := shelfOf(Protobuf)
	s.ids["t-value"] = s.put(SchemaText{Type: "PROTOBUF", Text: `syntax = "proto3"; package shop.t;
message Value { reserved 2, 4 to 6, 18995 to max; reserved "gone", "b"; optional string a = 1; optional string c = 3; }`})
	for _, c := range []struct {
		columns []schema.Field
		want    string
	}{
		{[]schema.Field{text("a"), text("c"), text("b"), text("d")}, "a=1 c=3 b=7 d=8"},
		{[]schema.Field{text("a"), text("d")}, "a=1 d=8"},
		{[]schema.Field{text("a"), long("b"), text("d")}, "a=1 b=9 d=8"}, // not 7, which was a text
		{[]schema.Field{text("a"), text("d")}, "a=1 d=8"},
		{[]schema.Field{text("a"), text("d"), text("b")}, "a=1 d=8 b=7"}, // the text is back
		{[]schema.Field{text("a"), text("d")}, "a=1 d=8"},
		{[]schema.Field{text("a"), text("d"), long("b"), text("c"), text("e")}, "a=1 d=8 b=9 c=3 e=10"},
	} {
		d := s.follow(t, c.columns...)
		if got := numbered(d); got != c.want {
			t.Errorf("%s, not %s", got, c.want)
		}
		for _, n := range []protoreflect.FieldNumber{2, 4, 6, 18995, 536870911} {
			if !d.ReservedRanges().Has(n) {
				t.Errorf("%d is free\n%s", n, s.texts[s.ids["t-value"]].Text)
			}
		}
		if !d.ReservedNames().Has("gone") {
			t.Error("a name is free")
		}
	}
	// Behind the last number others begin at the front.
	s.ids["t-value"] = s.put(SchemaText{Type: "PROTOBUF", Text: `syntax = "proto3"; package shop.t; message Value { reserved 3, 100 to max; optional string a = 99; optional string c = 1; }`})
	if got := numbered(s.follow(t, text("a"), text("b"), text("c"), text("d"))); got != "a=99 b=2 c=1 d=4" {
		t.Error(got)
	}
}

// Columns whose names become one keep what is theirs when another one of them comes or goes.
func TestProtobufNamesThatMeet(t *testing.T) {
	s := shelfOf(Protobuf)
	a, b, c := field("order-id", schema.String, optional), field("order_id", schema.String, optional), field("orderId", schema.String, optional)
	for _, c := range []struct {
		columns []schema.Field
		want    string
	}{
		{[]schema.Field{a}, "order_id=1"},
		{[]schema.Field{a, b, c}, "order_id_7255b113=1 order_id_6af45545=2 orderId_f6d8263a=3"},
		{[]schema.Field{c, b}, "orderId_f6d8263a=3 order_id_6af45545=2"},
		{[]schema.Field{b}, "order_id=2"},
		{[]schema.Field{b, a}, "order_id_6af45545=2 order_id_7255b113=1"},
	} {
		if got := numbered(s.follow(t, c.columns...)); got != c.want {
			t.Errorf("%s, not %s", got, c.want)
		}
	}
}

// A type that several columns have stays where it is when the first of them goes.
func TestProtobufSharedTypes(t *testing.T) {
	point := &schema.Schema{Kind: schema.Struct, Name: "geo.Point", Optional: true, Fields: []schema.Field{field("x", schema.Float64)}}
	list := schema.Field{Name: "list", Schema: &schema.Schema{Kind: schema.Array, Optional: true, Elem: point}}
	pairs := schema.Field{Name: "pairs", Schema: &schema.Schema{Kind: schema.Map, Optional: true, Key: &schema.Schema{Kind: schema.String}, Elem: point}}
	one := schema.Field{Name: "one", Schema: point}
	s := shelfOf(Protobuf)
	s.follow(t, list, pairs, one)
	s.follow(t, pairs, one)
	if d := s.follow(t, one); d.Fields().Get(0).Message().FullName() != "shop.t.Value.Point" {
		t.Error(d.Fields().Get(0).Message().FullName())
	}
}

const foreign = `syntax = "proto3";
package lab;
import "common/place.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "google/type/date.proto";
import "google/type/timeofday.proto";
import "confluent/type/decimal.proto";
import "confluent/meta.proto";
message Other { string s = 1; }
message Reading {
  enum State { UNKNOWN = 0; ON = 1; }
  message Inner { sint32 n = 1; repeated sint64 many = 2; }
  string sensor = 1;
  google.protobuf.Timestamp at = 2;
  google.type.Date day = 3;
  google.type.TimeOfDay clock = 4;
  confluent.type.Decimal price = 5 [(confluent.field_meta) = { params: [{key: "scale", value: "2"}, {key: "precision", value: "9"}] }];
  confluent.type.Decimal free = 6;
  State state = 7;
  repeated State states = 8;
  map<string, int32> tags = 9;
  map<uint32, Inner> inners = 10;
  oneof what { int32 count = 11; string word = 12; common.Place place = 13; }
  google.protobuf.StringValue note = 14;
  google.protobuf.UInt64Value big = 15;
  uint64 huge = 16;
  fixed32 f32 = 17;
  sfixed64 s64 = 18;
  optional int32 maybe = 19;
  repeated Inner inner = 20;
  repeated double ds = 21;
  common.Place home = 200;
}`

var foreignText = SchemaText{Type: "PROTOBUF", Text: foreign, References: []Reference{
	{"common/unit.proto", `syntax = "proto3"; package common; enum Unit { METER = 0; MILE = 1; }`},
	{"common/place.proto", `syntax = "proto3"; package common; import "common/unit.proto"; message Place { double x = 1; Unit unit = 2; }`},
}}

// Bytes that end before they say which message they are will never say it: that is about the record, as a schema that has no such message is.
func TestProtobufWithoutItsMessage(t *testing.T) {
	s := shelfOf(Protobuf)
	id := binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(foreignText)))
	for _, rest := range []string{"", "\x01", "\x80", "\x02", "\x02\x80", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", "\x02\x63"} {
		r := []connectors.Record{{Topic: "t", RawValue: append(bytes.Clone(id), rest...)}}
		d := s.decoder()
		if err := d.Prepare(r, func(err error) bool { return errors.Is(err, ErrSchema) }); err != nil {
			t.Errorf("%q may pass: %v", rest, err)
		}
		if err := d.Decode(&r[0]); !errors.Is(err, ErrSchema) {
			t.Errorf("%q: %v", rest, err)
		}
	}
}

// What a client wrote, in the JSON that Protobuf itself has for it, as JSON here.
func TestProtobufOfClients(t *testing.T) {
	s := shelfOf(Protobuf)
	id := binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(foreignText)))
	file := compiled(t, foreignText).File()
	for _, c := range []struct{ in, want string }{
		{`{}`, `{"sensor":"","at":null,"day":null,"clock":null,"price":null,"free":null,"state":"UNKNOWN","states":[],"tags":{},"inners":[],"count":null,"word":null,"place":null,` +
			`"note":null,"big":null,"huge":"AA==","f32":0,"s64":0,"maybe":null,"inner":[],"ds":[],"home":null}`},
		{`{"sensor":"s","at":"2026-11-30T01:02:03.456789Z","day":{"year":2026,"month":11,"day":30},"clock":{"hours":1,"minutes":2,"seconds":3,"nanos":4000},
		   "price":{"value":"+y4=","scale":2},"free":{"value":"Ew==","scale":1},"state":"ON","states":["ON","UNKNOWN",7],"tags":{"a":1},"inners":{"4000000000":{"n":-3}},
		   "place":{"x":1.5,"unit":"MILE"},"note":"","big":"18446744073709551615","huge":"128","f32":4000000000,"s64":"-5","maybe":0,"inner":[{"many":["-1","2"]},{}],"ds":[1,-0.5],"home":{}}`,
			`{"sensor":"s","at":1796000523456789,"day":20787,"clock":3723000004,"price":"+y4=","free":{"scale":1,"value":"Ew=="},"state":"ON","states":["ON","UNKNOWN","7"],"tags":{"a":1},` +
				`"inners":[[4000000000,{"n":-3,"many":[]}]],"count":null,"word":null,"place":{"x":1.5,"unit":"MILE"},"note":"","big":"AP//////////","huge":"AIA=","f32":4000000000,"s64":-5,` +
				`"maybe":0,"inner":[{"n":0,"many":[-1,2]},{"n":0,"many":[]}],"ds":[1,-0.5],"home":{"x":0,"unit":"METER"}}`},
		{`{"price":{"value":"Aw==","scale":0},"count":3}`, `{"sensor":"","at":null,"day":null,"clock":null,"price":"ASw=","free":null,"state":"UNKNOWN","states":[],"tags":{},"inners":[],"count":3,"word":null,` +
			`"place":null,"note":null,"big":null,"huge":"AA==","f32":0,"s64":0,"maybe":null,"inner":[],"ds":[],"home":null}`},
	} {
		m := dynamicpb.NewMessage(file.Messages().Get(1))
		if err := protojson.Unmarshal([]byte(c.in), m); err != nil {
			t.Fatal(err)
		}
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		r := connectors.Record{Topic: "t", RawValue: append(append(bytes.Clone(id), 2, 2), b...)}
		if err := s.decoder().Decode(&r); err != nil || string(r.RawValue) != c.want {
			t.Errorf("%v\n got %s\nwant %s", err, r.RawValue, c.want)
		}
	}
	// A nested message, and the first one.
	for lead, want := range map[string]string{"\x04\x02\x00\x08\x01": `{"n":-1,"many":[]}`, "\x00\x0a\x01x": `{"s":"x"}`, "\x02\x00\x0a\x01x": `{"s":"x"}`} {
		r := connectors.Record{RawValue: append(bytes.Clone(id), lead...)}
		if err := s.decoder().Decode(&r); err != nil || string(r.RawValue) != want {
			t.Errorf("%v %s", err, r.RawValue)
		}
	}
	// Of proto2: defaults, groups, required fields.
	id = binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Type: "PROTOBUF", Text: `syntax = "proto2";
message M { required int32 a = 1; optional string b = 2 [default = "x"]; optional int32 c = 3; optional group G = 4 { optional int32 n = 1; } repeated int32 p = 5 [packed = true]; repeated group H = 6 { optional string s = 1; } }`})))
	for in, want := range map[string]string{
		"":                             `{"a":0,"b":"x","c":null,"g":null,"p":[],"h":[]}`,
		"\x08\x01\x23\x08\x05\x24":     `{"a":1,"b":"x","c":null,"g":{"n":5},"p":[],"h":[]}`,
		"\x28\x01\x2a\x02\x02\x03":     `{"a":0,"b":"x","c":null,"g":null,"p":[1,2,3],"h":[]}`,
		"\x33\x0a\x01y\x34\x33\x34":    `{"a":0,"b":"x","c":null,"g":null,"p":[],"h":[{"s":"y"},{"s":null}]}`,
		"\x18\x01\x18\x02\xf2\x01\x00": `{"a":0,"b":"x","c":2,"g":null,"p":[],"h":[]}`, // the last counts, the unknown does not
	} {
		r := connectors.Record{RawValue: append(append(bytes.Clone(id), 0), in...)}
		if err := s.decoder().Decode(&r); err != nil || string(r.RawValue) != want {
			t.Errorf("%q: %v %s", in, err, r.RawValue)
		}
	}
}

// Bad bytes are an error that says what is wrong, whatever they are.
func TestProtobufBadBytes(t *testing.T) {
	s := shelfOf(Protobuf)
	id := func(text string) []byte {
		return binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Type: "PROTOBUF", Text: `syntax = "proto3"; ` + text})))
	}
	m := slices.Clip(id(`import "google/protobuf/timestamp.proto"; import "google/type/date.proto"; import "confluent/type/decimal.proto"; import "confluent/meta.proto";
		message M { string s = 1; int32 i = 2; google.protobuf.Timestamp at = 3; google.type.Date day = 4; M2 inner = 5;
		int32 small = 6 [(confluent.field_meta) = {params: [{key: "connect.type", value: "int16"}]}];
		confluent.type.Decimal d = 7 [(confluent.field_meta) = {params: [{key: "scale", value: "1"}]}]; } message M2 { fixed32 f = 1; }`))
	for _, c := range []struct {
		value []byte
		want  string
	}{
		{m, "which message of its schema it is cannot be read"},
		{append(m, 0x80), "which message of its schema"},
		{append(m, 4, 0), "which message of its schema"},
		{append(m, 2, 10), "message 5 where there are 2"},
		{append(m, 4, 0, 0), "message 0 where there are 0"},
		{append(m, 0, 10), "the bytes end in the middle of a value"},
		{append(m, 0, 10, 0xff, 0xff, 0xff, 0xff, 0x7f), "the bytes end"},
		{append(m, 0, 10, 1, 0xff), "field 's': a string that is not UTF-8"},
		{append(m, 0, 8, 1), "field 's': bytes of wire type 0 where string has 2"},
		{append(m, 0, 0), "the bytes end"}, // no field has the number 0
		{append(m, 0, 26, 2, 16, 0xff), "the bytes end"},
		{append(m, 0, 26, 11, 16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), "field 'at': 0 s and -1 ns is no timestamp"},
		{append(m, 0, 34, 2, 8, 5), "field 'day': 5-0-0 is no day"},
		{append(m, 0, 42, 2, 13, 1), "field 'inner': the bytes end"},
		{append(m, 0, 0x30, 0x80, 0x80, 4), "field 'small': 65536 does not fit 16 bits"},
		{append(m, 0, 58, 5, 10, 1, 5, 24, 2), "field 'd': a decimal of scale 2 where the schema says 1"},
		{append(id(`message R { R r = 1; }`), 0), "the message R is part of itself"},
		{append(id(`message {`), 0), "syntax error"},
		{append(id(`import "gone.proto"; message M {}`), 0), `no reference is called "gone.proto"`},
		{binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Type: "AVRO", Text: `"int"`}))), "is of type AVRO, not PROTOBUF"},
	} {
		r := connectors.Record{RawValue: c.value}
		err := s.decoder().Decode(&r)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "value: schema ") {
			t.Errorf("%q: %v, not %s", c.value, err, c.want)
		}
		if r.Value.Schema != nil || !bytes.Equal(r.RawValue, c.value) {
			t.Errorf("%q: half read: %+v", c.value, r)
		}
	}
}

// Messages that name each other twice at each step would be millions of columns, and a message of two bytes has as many values as it has fields.
func TestProtobufIsBounded(t *testing.T) {
	text := `syntax = "proto3"; message R { R39 r = 1; } message R0 {}`
	for i := 1; i < 40; i++ {
		text += fmt.Sprintf(" message R%d { R%d a = 1; R%d b = 2; }", i, i-1, i-1)
	}
	s := shelfOf(Protobuf)
	r := connectors.Record{RawValue: append(binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Type: "PROTOBUF", Text: text}))), 0)}
	if err := s.decoder().Decode(&r); err == nil || !strings.Contains(err.Error(), "more than 20000 types") {
		t.Error(err)
	}
	text = `syntax = "proto3"; message M { repeated Wide w = 1; } message Wide {`
	for i := 1; i <= 2000; i++ {
		text += fmt.Sprintf("\n int32 f%d = %d;", i, i)
	}
	r = connectors.Record{RawValue: append(binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Type: "PROTOBUF", Text: text + "}"}))), 0)}
	r.RawValue = append(r.RawValue, bytes.Repeat([]byte{10, 0}, 2_000)...)
	d := s.decoder()
	if err := d.Prepare([]connectors.Record{r}, func(error) bool { return false }); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := d.Decode(&r)
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "more values than its bytes can hold") || after.TotalAlloc-before.TotalAlloc > 64<<20 {
		t.Errorf("%v, after %d bytes", err, after.TotalAlloc-before.TotalAlloc)
	}
}

func FuzzProtobufDecode(f *testing.F) {
	s := shelfOf(Protobuf)
	s.put(foreignText)
	row, v := manyTypes()
	_, out, err := NewEncoder(s.format(Debezium)).Encode(nil, &connectors.Record{Topic: "t", Value: connectors.Datum{Schema: row, Value: v}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(out.Value)
	f.Add([]byte("\x00\x00\x00\x00\x01\x02\x02\x0a\x01s\x38\x01\x42\x02\x01\x00\x4a\x05\x0a\x01a\x10\x01\x6a\x00\x72\x00\x80\x01\x80\x01\xa2\x01\x04\x12\x02\x01\x02"))
	d := s.decoder()
	f.Fuzz(func(t *testing.T, value []byte) {
		r := connectors.Record{Topic: "t", RawValue: value}
		if d.Decode(&r) == nil && value != nil && r.Value.Schema == nil && r.Change == nil {
			t.Fatalf("neither a value nor an error of %q", value)
		}
	})
}

// A schema of a foreign registry may say anything; what it is made into is written and read alike.
func FuzzProtobufSchema(f *testing.F) {
	f.Add(foreign, []byte{2, 2, 10, 1, 's'})
	f.Add(`syntax = "proto3"; import "confluent/meta.proto"; message M { option (confluent.message_meta) = {params: [{key: "forebay.dropped", value: "a%2C=3=repeated M,b=4,c=x=,=1=,a=3=string"}]}; reserved 3 to 5, 9 to max; reserved "z"; int32 b = 7; M.Z z = 6; message Z { reserved 1, 7 to max; } }`, []byte{0, 56, 1})
	f.Add(`syntax = "proto2"; message M { optional group G = 1 { optional string s = 1 [default = "\x00"]; } }`, []byte{0, 11, 12})
	f.Add(`syntax = "proto3"; import "confluent/meta.proto"; message M { option (confluent.message_meta) = {params: [{key: "forebay.wrapper", value: "true"}]}; repeated int32 n = 1; }`, []byte{0, 8, 1})
	f.Fuzz(func(t *testing.T, text string, value []byte) {
		s := shelfOf(Protobuf)
		id := s.put(SchemaText{Type: "PROTOBUF", Text: text, References: foreignText.References})
		r := connectors.Record{Topic: "t", RawValue: append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), value...)}
		if s.decoder().Decode(&r) != nil {
			return
		}
		if r.Value.Schema == nil && r.Change == nil {
			t.Fatal("neither a value nor an error")
		}
		s.ids["t-value"] = id // its numbers are kept
		if r.Change != nil {
			return
		}
		if _, _, err := NewEncoder(s.format(Debezium)).Encode(nil, &connectors.Record{Topic: "t", Value: r.Value}); err != nil {
			t.Fatalf("%v: %s", err, r.RawValue)
		}
		if _, err := protobuf.Parse(s.texts[s.ids["t-value"]].Text, foreignText.named()); err != nil {
			t.Fatalf("%v\n%s", err, s.texts[s.ids["t-value"]].Text)
		}
	})
}
