package converter

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

func field(name string, k schema.Kind, opts ...func(*schema.Schema)) schema.Field {
	s := &schema.Schema{Kind: k}
	for _, o := range opts {
		o(s)
	}
	return schema.Field{Name: name, Schema: s}
}

func optional(s *schema.Schema) { s.Optional = true }
func name(n string) func(*schema.Schema) {
	return func(s *schema.Schema) { s.Name, s.Version = n, 1 }
}

var (
	keyS = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{field("id", schema.Int64)}}
	rowS = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{
		field("id", schema.Int64), field("name", schema.String, optional), field("price", schema.Float64), field("n", schema.Int32, optional),
		field("ok", schema.Bool), field("blob", schema.Bytes, optional), field("at", schema.Int64, name("io.debezium.time.MicroTimestamp")),
		field("s", schema.Int16), field("note", schema.String, optional), field("f", schema.Float32),
	}}
	sourceS = &schema.Schema{Kind: schema.Struct, Name: "io.debezium.connector.postgresql.Source", Fields: []schema.Field{
		field("version", schema.String), field("connector", schema.String), field("name", schema.String), field("ts_ms", schema.Int64),
		field("snapshot", schema.String), field("db", schema.String), field("schema", schema.String), field("table", schema.String),
		field("txId", schema.Int64, optional), field("lsn", schema.Int64, optional),
	}}
)

func row(id int64) schema.Value {
	return schema.StructOf(schema.Int64Of(id), schema.StringOf("Ada \"Lovelace\"\n\u00e9\u2028\x01"), schema.Float64Of(12.5), schema.Value{},
		schema.BoolOf(true), schema.BytesOf([]byte{0, 1, 0xff}), schema.Int64Of(1700000000123456), schema.Int16Of(-7), schema.Missing, schema.Float32Of(0.1))
}

func change(id int64) connectors.Record {
	return connectors.Record{Topic: "shop.public.orders", Partition: -1,
		Key: connectors.Datum{Schema: keyS, Value: schema.StructOf(schema.Int64Of(id))},
		Change: &connectors.Change{Op: connectors.OpCreate, Row: rowS, After: row(id),
			Source: connectors.Datum{Schema: sourceS, Value: schema.StructOf(schema.StringOf("1"), schema.StringOf("postgresql"), schema.StringOf("shop"),
				schema.Int64Of(1700000000000), schema.StringOf("false"), schema.StringOf("shop"), schema.StringOf("public"), schema.StringOf("orders"), schema.Int64Of(7), schema.Int64Of(99))},
			At: time.Unix(1700000001, 123456789).UTC()}}
}

// encoded writes r and gives it back as a sink would get it, with the decoder that knows its entry.
func encoded(t testing.TB, f Format, r connectors.Record) (connectors.Record, *Decoder) {
	t.Helper()
	_, out, err := NewEncoder(f).Encode(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	if out.New == nil || out.New.ID() != string(out.SchemaID) {
		t.Fatalf("the first record must announce its entry: %+v", out)
	}
	text := out.New.JSON()
	d := NewDecoder(func(id string) (Entry, error) {
		if id != string(out.SchemaID) {
			return Entry{}, fmt.Errorf("unknown %s", id)
		}
		return ParseEntry(text)
	})
	return connectors.Record{Topic: r.Topic, RawKey: out.Key, RawValue: out.Value, Headers: []connectors.Header{{Key: SchemaHeader, Value: out.SchemaID}}}, d
}

func TestEnvelopeIsDebeziums(t *testing.T) {
	r, _ := encoded(t, Format{}, change(42))
	if got := string(r.RawKey); got != `{"id":42}` {
		t.Errorf("key %s", got)
	}
	want := `{"before":null,"after":{"id":42,"name":"Ada \"Lovelace\"\né` + "\u2028" + `\u0001","price":12.5,"n":null,"ok":true,"blob":"AAH/","at":1700000000123456,"s":-7,"note":"__debezium_unavailable_value","f":0.1},` +
		`"source":{"version":"1","connector":"postgresql","name":"shop","ts_ms":1700000000000,"snapshot":"false","db":"shop","schema":"public","table":"orders","txId":7,"lsn":99},` +
		`"op":"c","ts_ms":1700000001123,"ts_us":1700000001123456,"ts_ns":1700000001123456789,"transaction":null}`
	if got := string(r.RawValue); got != want {
		t.Errorf("value\n got %s\nwant %s", got, want)
	}
	if !json.Valid(r.RawValue) {
		t.Error("not valid JSON")
	}
}

func TestRoundTrip(t *testing.T) {
	for _, f := range []Format{{}, {Schemas: true}} {
		want := change(42)
		r, d := encoded(t, f, want)
		if !json.Valid(r.RawValue) || !json.Valid(r.RawKey) {
			t.Fatalf("not valid JSON: %s %s", r.RawKey, r.RawValue)
		}
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if !schema.Same(r.Key.Value, want.Key.Value) || !schema.Equal(r.Key.Schema, keyS) {
			t.Errorf("key %+v", r.Key)
		}
		c := r.Change
		if c == nil || c.Op != connectors.OpCreate || !c.At.Equal(want.Change.At) || !c.Before.IsNull() ||
			!schema.Same(c.After, want.Change.After) || !schema.Same(c.Source.Value, want.Change.Source.Value) || !schema.Equal(c.Row, rowS) {
			t.Errorf("%+v: change %+v", f, c)
		}
	}
}

var (
	jsonS   = &schema.Schema{Kind: schema.String, Name: "io.debezium.data.Json", Version: 1, Optional: true}
	docS    = schema.DocumentOf(jsonS)
	docKeyS = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{field("id", schema.String)}}
	updateS = &schema.Schema{Kind: schema.Struct, Optional: true, Fields: []schema.Field{
		{Name: "removedFields", Schema: &schema.Schema{Kind: schema.Array, Optional: true, Elem: &schema.Schema{Kind: schema.String}}},
		{Name: "updatedFields", Schema: jsonS},
	}}
)

func document(op connectors.Op, after schema.Value) connectors.Record {
	r := change(1)
	r.Key = connectors.Datum{Schema: docKeyS, Value: schema.StructOf(schema.StringOf(`"k"`))}
	c := r.Change
	c.Op, c.Row, c.After = op, docS, after
	c.Update = connectors.Datum{Schema: updateS}
	return r
}

func TestDocumentsAreJSONStrings(t *testing.T) {
	row := schema.StructOf(schema.StringOf(`"k"`), schema.StringOf(`{"_id": "k","n": 1.0}`))
	unknown := schema.StructOf(schema.StringOf(`"k"`), schema.Missing)
	for _, f := range []Format{{}, {Schemas: true}} {
		for name, want := range map[string]connectors.Record{
			"create": document(connectors.OpCreate, row), "no image": document(connectors.OpUpdate, unknown), "delete": document(connectors.OpDelete, schema.Value{}),
		} {
			if want.Change.Op == connectors.OpUpdate {
				want.Change.Update.Value = schema.StructOf(schema.ArrayOf(schema.StringOf("a.b")), schema.StringOf(`{"n": 2}`))
			}
			r, d := encoded(t, f, want)
			if !json.Valid(r.RawValue) {
				t.Fatalf("%s", r.RawValue)
			}
			if name == "create" && !f.Schemas && !strings.HasPrefix(string(r.RawValue), `{"before":null,"after":"{\"_id\": \"k\",\"n\": 1.0}","updateDescription":null,"source":`) {
				t.Errorf("%s", r.RawValue)
			}
			if err := d.Decode(&r); err != nil {
				t.Fatal(name, err)
			}
			if c := r.Change; c == nil || !schema.Same(c.After, want.Change.After) || !schema.Same(c.Update.Value, want.Change.Update.Value) || !c.Before.IsNull() {
				t.Errorf("%s: %+v", name, c)
			}
		}
	}
}

func TestPlainDocumentsAreTheirText(t *testing.T) {
	row := schema.StructOf(schema.StringOf(`"k"`), schema.StringOf(`{"_id": "k"}`))
	for _, f := range []Format{{Envelope: Plain}, {Envelope: Plain, Schemas: true}} {
		r, d := encoded(t, f, document(connectors.OpCreate, row))
		if !f.Schemas && string(r.RawValue) != `{"_id": "k"}` || !json.Valid(r.RawValue) {
			t.Errorf("%s", r.RawValue)
		}
		if err := d.Decode(&r); err != nil || !schema.Same(r.Value.Value, row) {
			t.Errorf("%v: %+v", err, r.Value)
		}
	}
	if _, out, err := NewEncoder(Format{Envelope: Plain}).Encode(nil, ptr(document(connectors.OpUpdate, schema.StructOf(schema.StringOf(`"k"`), schema.Missing)))); err != nil || !out.Unwritten {
		t.Errorf("an update without an image is no plain record: %+v, %v", out, err)
	}
}

func ptr[T any](v T) *T { return &v }

func TestPlainWritesTheRowAlone(t *testing.T) {
	r, d := encoded(t, Format{Envelope: Plain}, change(1))
	if !strings.HasPrefix(string(r.RawValue), `{"id":1,"name":`) {
		t.Fatalf("%s", r.RawValue)
	}
	if err := d.Decode(&r); err != nil || r.Change != nil || !schema.Same(r.Value.Value, row(1)) {
		t.Errorf("%v %+v", err, r.Value)
	}
	del := change(1)
	del.Change.Op, del.Change.Before, del.Change.After = connectors.OpDelete, del.Change.After, schema.Value{}
	if _, out, err := NewEncoder(Format{Envelope: Plain}).Encode(nil, &del); err != nil || !out.Unwritten {
		t.Errorf("a plain delete is left to its tombstone: %+v, %v", out, err)
	}
}

func TestTombstoneKeepsItsKeysType(t *testing.T) {
	r, d := encoded(t, Format{}, connectors.Record{Topic: "t", Key: change(5).Key})
	if r.RawValue != nil {
		t.Fatalf("value %s", r.RawValue)
	}
	if err := d.Decode(&r); err != nil || r.Change != nil || r.Value.Schema != nil || r.Key.Value.List[0].Int() != 5 {
		t.Errorf("%v %+v", err, r)
	}
}

func TestRawBytesPass(t *testing.T) {
	r := connectors.Record{RawKey: []byte("k"), RawValue: []byte("v")}
	_, out, err := NewEncoder(Format{}).Encode(nil, &r)
	if err != nil || string(out.Key) != "k" || string(out.Value) != "v" || out.SchemaID != nil {
		t.Errorf("%+v, %v", out, err)
	}
}

// A value that does not fit into dst moves it to other memory; dst's own is then used for the next
// record, and no part of this one may lie there.
func TestKeyMovesWithTheValue(t *testing.T) {
	e := NewEncoder(Format{})
	for room := range 2000 {
		dst := make([]byte, 0, room)
		first, next := change(1), change(2)
		_, out, err := e.Encode(dst, &first)
		if err != nil {
			t.Fatal(err)
		}
		grown, _, err := e.Encode(dst, &next)
		if err != nil || room == 1999 && cap(grown) != room {
			t.Fatalf("%v; a record has more than %d bytes", err, room)
		}
		if room < len(out.Key)+len(out.Value) && string(out.Key) != `{"id":1}` {
			t.Fatalf("with room for %d bytes the key is %s", room, out.Key)
		}
	}
}

func TestInferred(t *testing.T) {
	d := NewDecoder(func(string) (Entry, error) { return Entry{}, fmt.Errorf("none") })
	for text, kind := range map[string]schema.Kind{
		`a line`: schema.String, `17`: schema.String, "\xff\xfe": schema.Bytes, `{"a":1,"b":[1,2],"c":{"d":null}}`: schema.Struct,
		`[1,2]`: schema.Array, `[1,"x"]`: schema.String, `{"a":`: schema.String, ``: schema.String,
	} {
		r := connectors.Record{RawValue: []byte(text)}
		if err := d.Decode(&r); err != nil || r.Value.Value.Kind != kind {
			t.Errorf("%q: %v, %v; want %v", text, r.Value.Value.Kind, err, kind)
		}
	}
	a, b := connectors.Record{RawValue: []byte(`{"a":1}`)}, connectors.Record{RawValue: []byte(`{"a":2}`)}
	_, _ = d.Decode(&a), d.Decode(&b)
	if a.Value.Schema != b.Value.Schema {
		t.Error("equal inferred schemas must be one")
	}
	foreign, _ := encoded(t, Format{Schemas: true}, change(9))
	foreign.Headers = nil
	if err := d.Decode(&foreign); err != nil || foreign.Change == nil || !schema.Same(foreign.Change.After, row(9)) {
		t.Errorf("%v %+v: {schema, payload} without a header", err, foreign.Change)
	}
	foreign, _ = encoded(t, Format{}, change(9))
	foreign.Headers = nil
	if err := d.Decode(&foreign); err != nil || foreign.Change == nil || foreign.Change.After.List[0].Int() != 9 {
		t.Errorf("%v %+v: an envelope without a header", err, foreign.Change)
	}
}

// TestConnectOfOthers: what other JsonConverters write is what they mean, or an error, and never a row with the columns schema and payload.
func TestConnectOfOthers(t *testing.T) {
	const (
		price = `{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2"},"optional":true,"field":"price"}`
		row   = `{"type":"struct","fields":[` + price + `],"optional":true`
		plain = row + `}`
		event = `{"type":"struct","fields":[` + row + `,"field":"before"},` + row + `,"field":"after"},{"type":"struct","fields":[],"field":"source"},{"type":"string","field":"op"}]}`
	)
	for text, want := range map[string]string{
		`{"schema":` + plain + `,"payload":{"price":12.34}}`:                                              "1234",
		"\n{ \"schema\" : " + plain + ` , "payload" : {"price": 1.234E+1 } } `:                            "1234",
		`{"schema":` + plain + `,"payload":{"price":-0.01}}`:                                              "-1",
		`{"schema":` + plain + `,"payload":{"price":"BNI="}}`:                                             "1234",
		`{"schema":` + event + `,"payload":{"before":null,"after":{"price":12.34},"source":{},"op":"u"}}`: "1234",
		`{"schema":` + event + `,"payload":{"before":null,"after":{"price":"x"},"source":{},"op":"u"}}`:   "error: not base64",
		`{"schema":` + plain + `,"payload":{"price":12.345}}`:                                             "error: a decimal of scale 3 where the schema says 2",
		`{"schema":` + plain + `,"payload":{"price":1e999999999}}`:                                        "error: a decimal of scale",
		`{"schema":` + plain + `,"payload":{"price":true}}`:                                               "error: expected a number",
		`{"schema":` + plain + `,"payload":{"price":12.34}`:                                               "error: expected",
		`{"schema":{"type":"int32"},"payload":"x"}`:                                                       "error: a string in place of another type",
		`{"schema":null,"payload":{"price":1234}}`:                                                        "1234",
		`{"schema":null,"payload":{"before":null,"after":{"price":1234},"source":{},"op":"u"}}`:           "1234",
		`{"schema":null,"payload":{"price":1234},"more":1}`:                                               "a row",
		`{"schema":{"type":"object"},"payload":1}`:                                                        "a row",
		`{"schema":{"type":"int32"},"data":1}`:                                                            "a row",
		`{"schema":"public","payload":1}`:                                                                 "a row",
	} {
		for _, form := range []Form{Auto, JSON} {
			d := NewDecoder(func(string) (Entry, error) { return Entry{}, errors.New("none") })
			d.Read(Reading{Value: form})
			r := connectors.Record{RawValue: []byte(text)}
			err := d.Decode(&r)
			if what, bad := strings.CutPrefix(want, "error: "); bad {
				if err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "the payload does not fit the schema in front of it") {
					t.Errorf("%s: %v, not %q", text, err, what)
				}
				continue
			}
			v := r.Value
			if r.Change != nil {
				v = connectors.Datum{Schema: r.Change.Row, Value: r.Change.After}
			}
			if err != nil || v.Value.Kind != schema.Struct {
				t.Fatalf("%s: %v %+v", text, err, r)
			}
			got := "a row"
			if f := v.Value.List[0]; v.Schema.FieldIndex("schema") < 0 {
				switch f.Kind {
				case schema.Int64:
					got = strconv.FormatInt(f.Int(), 10)
				case schema.Bytes:
					var n int16
					for i, b := range f.Data {
						if n = n<<8 | int16(b); i == 0 {
							n = int16(int8(b))
						}
					}
					got = strconv.Itoa(int(n))
				}
			}
			if got != want {
				t.Errorf("%s: %s, not %s", text, got, want)
			}
		}
	}
}

// An object of 100,000 members is read in no time (looking for each name among those before it would take a minute), and stays the JSON that it is.
func TestManyMembers(t *testing.T) {
	object := func(first, n int) string {
		b := []byte{'{'}
		for i := range n {
			b = strconv.AppendInt(append(b, `"n`...), int64(first+i), 10)
			b = append(strconv.AppendInt(append(b, `":`...), int64(i), 10), ',')
		}
		b[len(b)-1] = '}'
		return string(b)
	}
	d := NewDecoder(func(string) (Entry, error) { return Entry{}, errors.New("none") })
	for n, kind := range map[int]schema.Kind{maxMembers: schema.Struct, maxMembers + 1: schema.String, 100_000: schema.String} {
		text := object(0, n)
		r := connectors.Record{RawValue: []byte(`{"a":` + text + `}`)}
		if err := d.Decode(&r); err != nil || r.Value.Value.Kind != schema.Struct || r.Value.Value.List[0].Kind != kind {
			t.Fatalf("%d members: %v", n, err)
		}
		if v := r.Value.Value.List[0]; kind == schema.String && (!v.IsJSON() || v.Text() != text) {
			t.Errorf("%d members are another text", n)
		}
		_, e, err := NewEncoder(Format{}).Encode(nil, &connectors.Record{Value: r.Value})
		if err != nil || string(e.Value) != string(r.RawValue) {
			t.Errorf("%d members: written as another text: %v", n, err)
		}
	}
	r := connectors.Record{RawValue: []byte(object(0, 50)[:1] + `"n7":"first",` + object(0, 50)[1:])}
	if err := d.Decode(&r); err != nil || len(r.Value.Value.List) != 50 || r.Value.Value.List[0].Int() != 7 {
		t.Errorf("of two members with one name the last counts: %v %+v", err, r.Value.Value)
	}

	// What is kept of objects that all differ is bounded: so many fields of each cache.
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	e := NewEncoder(Format{})
	before := heap()
	for i := range 200 {
		r := connectors.Record{RawValue: []byte(object(i*1000, 1000))}
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if _, _, err := e.Encode(nil, &connectors.Record{Value: r.Value}); err != nil {
			t.Fatal(err)
		}
	}
	if grown := heap() - before; grown > 40<<20 {
		t.Errorf("200 objects of 1,000 names hold %d MiB", grown>>20)
	}
	runtime.KeepAlive(d)
	runtime.KeepAlive(e)
}

// Fields in another order than the schema's are found by their names, many or few.
func TestFieldsInAnyOrder(t *testing.T) {
	for _, n := range []int{1, 32, 33, 200} {
		s := &schema.Schema{Kind: schema.Struct}
		text := "}"
		for i := range n {
			s.Fields = append(s.Fields, field(fmt.Sprintf("f%d", i), schema.Int64))
			text = fmt.Sprintf(`,"f%d":%d`, i, i) + text
		}
		v, err := payload([]byte(`{"unknown":0`+text), shapeOf(s), &schema.Slab{})
		if err != nil || len(v.List) != n {
			t.Fatal(err)
		}
		for i := range v.List {
			if v.List[i].Int() != int64(i) {
				t.Errorf("%d fields: field %d is %d", n, i, v.List[i].Int())
			}
		}
	}
}

func TestCollectionsAndOddNumbers(t *testing.T) {
	text := &schema.Schema{Kind: schema.String}
	long := &schema.Schema{Kind: schema.Int64}
	s := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{
		{Name: "tags", Schema: &schema.Schema{Kind: schema.Array, Elem: text}},
		{Name: "h", Schema: &schema.Schema{Kind: schema.Map, Key: text, Elem: long}},
		{Name: "m", Schema: &schema.Schema{Kind: schema.Map, Key: long, Elem: text}},
		field("nan", schema.Float64), field("inf", schema.Float64), field("tiny", schema.Float64), field("huge", schema.Float32),
		field("min", schema.Int64), field("max", schema.Int64),
		{Name: "toast", Schema: &schema.Schema{Kind: schema.Array, Elem: text}}, field("lob", schema.Bytes),
	}}
	v := schema.StructOf(
		schema.ArrayOf(schema.StringOf("a"), schema.Value{}), schema.MapOf(schema.StringOf("k"), schema.Int64Of(1)),
		schema.MapOf(schema.Int64Of(1), schema.StringOf("x"), schema.Int64Of(2), schema.StringOf("y")),
		schema.Float64Of(math.NaN()), schema.Float64Of(math.Inf(-1)), schema.Float64Of(1e-300), schema.Float32Of(3e38),
		schema.Int64Of(math.MinInt64), schema.Int64Of(math.MaxInt64), schema.Missing, schema.Missing)
	r, d := encoded(t, Format{}, connectors.Record{Topic: "t", Value: connectors.Datum{Schema: s, Value: v}})
	if !json.Valid(r.RawValue) {
		t.Fatalf("%s", r.RawValue)
	}
	if err := d.Decode(&r); err != nil || !schema.Same(r.Value.Value, v) {
		t.Errorf("%v\n got %+v\nwant %+v\n%s", err, r.Value.Value, v, r.RawValue)
	}
}

func TestBadTextIsAnError(t *testing.T) {
	good, d := encoded(t, Format{}, change(1))
	for cut := range len(good.RawValue) {
		r := good
		r.RawValue = good.RawValue[:cut]
		if err := d.Decode(&r); err == nil {
			t.Fatalf("no error for %q", r.RawValue)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, d := encoded(f, Format{}, change(1))
	id := good.Headers
	f.Add(good.RawValue, true)
	f.Add([]byte(`{"schema":{"type":"struct","fields":[{"type":"int32","field":"a"}]},"payload":{"a":1}}`), false)
	f.Add([]byte(`[[[1,"\ud83d\ude00"],{"op":"c","before":null,"after":{},"source":{}}]]`), false)
	f.Fuzz(func(t *testing.T, text []byte, typed bool) {
		r := connectors.Record{RawKey: text, RawValue: text}
		if typed {
			r.Headers = id
		}
		_ = d.Decode(&r) // must neither panic nor hang
	})
}

func BenchmarkEncode(b *testing.B) {
	e := NewEncoder(Format{})
	r := change(1)
	r.Change.After.List[1] = schema.StringOf("Ada Lovelace")
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst, _, _ = e.Encode(dst[:0], &r)
	}
}

func BenchmarkDecode(b *testing.B) {
	in := change(1)
	in.Change.After.List[1] = schema.StringOf("Ada Lovelace")
	r, d := encoded(b, Format{}, in)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(&r); err != nil {
			b.Fatal(err)
		}
	}
}

// Rows and envelopes are read into chunks: no allocation for each record.
func TestDecodeAllocates(t *testing.T) {
	r := change(1)
	after := row(1)
	after.List[1], after.List[5] = schema.StringOf("Ada"), schema.Value{} // escapes and base64 need memory of their own
	r.Change.After = after
	in, d := encoded(t, Format{}, r)
	const records = 1000
	perRun := testing.AllocsPerRun(10, func() {
		for range records {
			r := in
			if err := d.Decode(&r); err != nil || r.Change == nil {
				t.Fatal(err)
			}
		}
	})
	if perRun > records/50 {
		t.Errorf("%v allocations for %d records", perRun, records)
	}
}
