package converter

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// shelf is a registry in a map.
type shelf struct {
	form  Form
	texts map[int32]SchemaText
	ids   map[string]int32
	asked int
	err   error
}

func newShelf() *shelf { return shelfOf(Avro) }

func shelfOf(f Form) *shelf {
	return &shelf{form: f, texts: map[int32]SchemaText{}, ids: map[string]int32{}}
}

// inEach runs a test with each form that has a registry.
func inEach(t *testing.T, fn func(t *testing.T, newShelf func() *shelf)) {
	for _, f := range []Form{Avro, Protobuf, JSONSchema} {
		t.Run(string(f), func(t *testing.T) { fn(t, func() *shelf { return shelfOf(f) }) })
	}
}

func (s *shelf) register(subject string, text SchemaText) (int32, error) {
	if s.asked++; s.err != nil {
		return 0, s.err
	}
	id := s.put(text)
	s.ids[subject] = id
	return id, nil
}

func (s *shelf) put(text SchemaText) int32 {
	for id, t := range s.texts {
		if t.Text == text.Text {
			return id
		}
	}
	id := int32(len(s.texts) + 1)
	s.texts[id] = text
	return id
}

func (s *shelf) latest(subject string) (SchemaText, error) {
	if s.err != nil {
		return SchemaText{}, s.err
	}
	return s.texts[s.ids[subject]], nil
}

func (s *shelf) schema(id int32) (SchemaText, error) {
	if s.asked++; s.err != nil {
		return SchemaText{}, s.err
	}
	t, ok := s.texts[id]
	if !ok {
		return t, errors.New("unknown")
	}
	return t, nil
}

func (s *shelf) format(e Envelope) Format {
	return Format{Envelope: e, Key: s.form, Value: s.form, Register: s.register, Latest: s.latest}
}

func (s *shelf) decoder() *Decoder {
	d := NewDecoder(func(id string) (Entry, error) { return Entry{}, fmt.Errorf("unknown %s", id) })
	d.Read(Reading{Key: s.form, Value: s.form, Schema: s.schema})
	return d
}

// through writes r and reads it back.
func (s *shelf) through(t testing.TB, e Envelope, r connectors.Record) connectors.Record {
	t.Helper()
	_, out, err := NewEncoder(s.format(e)).Encode(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	if out.New != nil || out.SchemaID != nil {
		t.Fatalf("types in a header, which the registry has: %+v", out)
	}
	back := connectors.Record{Topic: r.Topic, RawKey: out.Key, RawValue: out.Value}
	if err := s.decoder().Decode(&back); err != nil {
		t.Fatal(err)
	}
	if back.Declared != (out.Value != nil) {
		t.Errorf("declared: %v", back.Declared)
	}
	return back
}

// A change comes back as it was, types and all; its bytes are what they are in JSON.
func TestWireRoundTrip(t *testing.T) {
	inEach(t, func(t *testing.T, newShelf func() *shelf) {
		s := newShelf()
		want := change(42)
		want.Change.Op, want.Change.Before = connectors.OpUpdate, row(41)
		r := s.through(t, Debezium, want)
		c := r.Change
		if c == nil || c.Op != connectors.OpUpdate || !c.At.Equal(want.Change.At) || !schema.Same(c.Before, want.Change.Before) ||
			!schema.Same(c.After, want.Change.After) || !schema.Same(c.Source.Value, want.Change.Source.Value) || !schema.Same(r.Key.Value, want.Key.Value) {
			t.Fatalf("%+v %+v", r, c)
		}
		like := *rowS
		like.Name, like.Optional = "shop.public.orders.Value", true
		if !schema.Equal(c.Row, &like) || !schema.Equal(c.Source.Schema, sourceS) {
			t.Errorf("row %s\nsource %s", c.Row.AppendJSON(nil), c.Source.Schema.AppendJSON(nil))
		}
		_, plain, err := NewEncoder(Format{}).Encode(nil, &want)
		if err != nil || !bytes.Equal(r.RawValue, plain.Value) || !bytes.Equal(r.RawKey, plain.Key) {
			t.Errorf("%v\n got %s %s\nwant %s %s", err, r.RawKey, r.RawValue, plain.Key, plain.Value)
		}
		if len(s.ids) != 2 || s.ids["shop.public.orders-key"] == 0 || s.ids["shop.public.orders-value"] == 0 {
			t.Errorf("subjects %v", s.ids)
		}
		// A row alone.
		r = s.through(t, Plain, want)
		if !schema.Same(r.Value.Value, want.Change.After) || r.Value.Schema.Optional {
			t.Errorf("%+v", r.Value)
		}
		// A tombstone.
		_, out, err := NewEncoder(s.format(Debezium)).Encode(nil, &connectors.Record{Topic: "t", Key: want.Key})
		if err != nil || out.Value != nil || out.Key == nil {
			t.Errorf("%+v %v", out, err)
		}
	})
}

var update = flag.Bool("update", false, "write what is expected anew")

// The schemas are what AvroConverter makes of Debezium's.
func TestAvroSchemas(t *testing.T) {
	point := &schema.Schema{Kind: schema.Struct, Name: "io.debezium.data.geometry.Point", Version: 1, Optional: true, Doc: "Geometry (POINT)", Fields: []schema.Field{
		field("x", schema.Float64), field("y", schema.Float64), field("wkb", schema.Bytes, optional), field("srid", schema.Int32, optional)}}
	price := &schema.Schema{Kind: schema.Bytes, Name: "org.apache.kafka.connect.data.Decimal", Version: 1, Params: map[string]string{"scale": "2", "connect.decimal.precision": "10"}}
	mood := &schema.Schema{Kind: schema.String, Name: "io.debezium.data.Enum", Version: 1, Optional: true, Params: map[string]string{"allowed": "ok,bad"}}
	r := change(1)
	r.Topic = "my-shop.public.orders"
	r.Change.Row = &schema.Schema{Kind: schema.Struct, Name: "my-shop.public.orders.Value", Optional: true, Fields: []schema.Field{
		field("id", schema.Int64), {Name: "from", Schema: point}, {Name: "to", Schema: point}, {Name: "price", Schema: price}, {Name: "mood", Schema: mood},
		field("at", schema.Int64, optional, name("io.debezium.time.MicroTimestamp")), field("small", schema.Int16),
		{Name: "tags", Schema: &schema.Schema{Kind: schema.Array, Optional: true, Elem: &schema.Schema{Kind: schema.String, Optional: true}}},
		{Name: "attributes", Schema: &schema.Schema{Kind: schema.Map, Optional: true, Key: &schema.Schema{Kind: schema.String}, Elem: &schema.Schema{Kind: schema.String, Optional: true}}},
		field("order-id", schema.Int32), field("order_id", schema.Int32),
	}}
	r.Change.After = schema.Value{}
	s := newShelf()
	if _, _, err := NewEncoder(s.format(Debezium)).Encode(nil, &r); err != nil {
		t.Fatal(err)
	}
	for subject, file := range map[string]string{"my-shop.public.orders-key": "key.avsc", "my-shop.public.orders-value": "value.avsc"} {
		var got bytes.Buffer
		if err := json.Indent(&got, []byte(s.texts[s.ids[subject]].Text), "", "  "); err != nil {
			t.Fatal(err)
		}
		got.WriteByte('\n')
		path := filepath.Join("testdata", file)
		if *update {
			if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || got.String() != string(want) {
			t.Errorf("%s: %v\n%s", path, err, got.String())
		}
	}
}

// What was not sent is told from null in each type that can lie out of line.
func TestWireValuesThatWereNotSent(t *testing.T) {
	inEach(t, func(t *testing.T, newShelf func() *shelf) {
		list := func(k schema.Kind) schema.Field {
			return schema.Field{Name: "list-" + k.String(), Schema: &schema.Schema{Kind: schema.Array, Optional: true, Elem: &schema.Schema{Kind: k, Optional: true}}}
		}
		r := change(1)
		r.Change.Op = connectors.OpUpdate
		r.Change.Row = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{
			field("id", schema.Int64), field("text", schema.String, optional), field("bytes", schema.Bytes), list(schema.String), list(schema.Bytes), list(schema.Int32), list(schema.Int64),
			{Name: "map", Schema: &schema.Schema{Kind: schema.Map, Key: &schema.Schema{Kind: schema.String}, Elem: &schema.Schema{Kind: schema.String, Optional: true}}},
			{Name: "number", Schema: &schema.Schema{Kind: schema.Struct, Name: "io.debezium.data.VariableScaleDecimal", Version: 1, Optional: true,
				Fields: []schema.Field{field("scale", schema.Int32), field("value", schema.Bytes)}}},
		}}
		n := len(r.Change.Row.Fields)
		after := []schema.Value{schema.Int64Of(7)}
		for range n - 1 {
			after = append(after, schema.Missing)
		}
		r.Change.After = schema.StructOf(after...)
		got := newShelf().through(t, Debezium, r)
		if !schema.Same(got.Change.After, r.Change.After) {
			t.Errorf("%+v", got.Change.After)
		}
		if name := got.Change.Row.Fields[3].Name; name != "list-string" {
			t.Errorf("the name of a column came back as %s", name)
		}
		// What no type can say is an error, and names the column.
		r.Change.Row = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{field("id", schema.Int64), list(schema.Bool)}}
		r.Change.After, r.Change.Before = schema.StructOf(schema.Int64Of(1), schema.Missing), schema.Value{}
		if _, _, err := NewEncoder(newShelf().format(Debezium)).Encode(nil, &r); err == nil || !strings.Contains(err.Error(), "list-boolean") || !strings.Contains(err.Error(), "REPLICA IDENTITY FULL") {
			t.Error(err)
		}
		r.Change.After = schema.StructOf(schema.Value{}, schema.Value{})
		if _, _, err := NewEncoder(newShelf().format(Debezium)).Encode(nil, &r); err == nil || !strings.Contains(err.Error(), "field 'after': field 'id'") {
			t.Errorf("null in a column that has none: %v", err)
		}
	})
}

// Documents and bytes without a type.
func TestWireOfOtherThings(t *testing.T) {
	inEach(t, func(t *testing.T, newShelf func() *shelf) {
		s := newShelf()
		content := schema.TextOf([]byte(`{"_id": 1, "n": "x"}`))
		doc := connectors.Record{Topic: "activity.site.events", Key: connectors.Datum{Schema: docKeyS, Value: schema.StructOf(schema.TextOf([]byte("1")))},
			Change: &connectors.Change{Op: connectors.OpUpdate, Row: docS, After: schema.StructOf(schema.TextOf([]byte("1")), content), Source: change(1).Change.Source}}
		for _, e := range []Envelope{Debezium, Plain} {
			r := s.through(t, e, doc)
			at, what := r.Value.Value, r.Value.Schema
			if e == Debezium {
				at, what = r.Change.After, r.Change.Row
			} else if string(r.RawValue) != string(content.Data) {
				t.Errorf("value %s", r.RawValue)
			}
			if !what.IsDocument() || !schema.Same(at, doc.Change.After) {
				t.Errorf("%s: %+v", e, at)
			}
		}
		for _, line := range []string{"a line", "\x00\x01\xff", ""} {
			r := s.through(t, Debezium, connectors.Record{Topic: "weblogs", RawKey: []byte("k"), RawValue: []byte(line)})
			if string(r.RawValue) != line || string(r.Value.Value.Data) != line || string(r.RawKey) != "k" {
				t.Errorf("%q: %q %+v", line, r.RawValue, r.Value)
			}
		}
	})
}

// The registry is asked once for each schema, and not at all for records; what it refuses is not kept.
func TestWireAsksOnce(t *testing.T) {
	inEach(t, func(t *testing.T, newShelf func() *shelf) {
		s := newShelf()
		s.err = errors.New("down")
		e, d := NewEncoder(s.format(Debezium)), s.decoder()
		r := change(1)
		if _, _, err := e.Encode(nil, &r); !errors.Is(err, ErrRegistry) || !errors.Is(err, s.err) {
			t.Fatal(err)
		}
		s.err, s.asked = nil, 0
		var key, value []byte
		for i := range 100 {
			r := change(int64(i))
			_, out, err := e.Encode(nil, &r)
			if err != nil {
				t.Fatal(err)
			}
			key, value = out.Key, out.Value
		}
		if s.asked != 2 {
			t.Errorf("asked %d times", s.asked)
		}
		s.err = errors.New("down again")
		records := []connectors.Record{{Topic: "t", Partition: 3, Offset: 41, RawKey: key, RawValue: value}, {Topic: "t", RawValue: []byte("no")}}
		if err := d.Prepare(records, func(error) bool { return false }); !errors.Is(err, s.err) || !strings.HasPrefix(err.Error(), "t-3 at offset 41: schema ") {
			t.Errorf("a schema that cannot be looked up: %v", err)
		}
		s.err = nil
		if err := d.Prepare(records, func(error) bool { return false }); err != nil {
			t.Error(err)
		}
		asked := s.asked
		for range 3 {
			if err := d.Decode(&connectors.Record{Topic: "t", RawKey: key, RawValue: value}); err != nil || s.asked != asked {
				t.Error(err, s.asked)
			}
		}
	})
}

// A key that names a schema of a form that keys do not have says nothing about values.
func TestFormsOfOneID(t *testing.T) {
	s := newShelf()
	id := binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Type: "AVRO", Text: `"long"`})))
	d := NewDecoder(func(id string) (Entry, error) { return Entry{}, fmt.Errorf("unknown %s", id) })
	d.Read(Reading{Key: JSONSchema, Value: Avro, Schema: s.schema})
	wrong := connectors.Record{RawKey: id, RawValue: append(bytes.Clone(id), 2)}
	if err := d.Decode(&wrong); err == nil || !strings.Contains(err.Error(), "key: schema 1: values of it cannot be read: is of type AVRO, not JSON") {
		t.Error(err)
	}
	for range 2 {
		if r := (connectors.Record{RawValue: append(bytes.Clone(id), 2)}); d.Decode(&r) != nil || r.Value.Value.Int() != 1 {
			t.Errorf("%+v", r.Value)
		}
	}
}

// A registry does not compare and set: who was overtaken between the look at the newest schema and its own makes its own anew.
func TestWireOvertaken(t *testing.T) {
	for form, other := range map[Form]string{Protobuf: `syntax = "proto3"; package shop.t; message Value { optional string theirs = 1; }`,
		JSONSchema: `{"type":"object","title":"shop.t.Value","properties":{"theirs":{"type":"integer"}},"additionalProperties":false}`} {
		s := shelfOf(form)
		f := s.format(Debezium)
		times := 0
		f.Register = func(subject string, text SchemaText) (int32, error) {
			id, err := s.register(subject, text)
			if times++; times == 1 { // what came in between is newer, or older than what is registered here
				s.ids[subject] = s.put(SchemaText{Type: text.Type, Text: other})
			}
			return id, err
		}
		row := &schema.Schema{Kind: schema.Struct, Name: "shop.t.Value", Fields: []schema.Field{field("ours", schema.String, optional)}}
		_, out, err := NewEncoder(f).Encode(nil, &connectors.Record{Topic: "t", Value: connectors.Datum{Schema: row, Value: schema.StructOf(schema.StringOf("x"))}})
		if err != nil || times != 2 {
			t.Fatalf("%s: %v, %d times", form, err, times)
		}
		last := s.ids["t-value"]
		if id := int32(binary.BigEndian.Uint32(out.Value[1:])); id != last || !strings.Contains(s.texts[last].Text, "theirs") {
			t.Errorf("%s: schema %d, not %d: %s", form, id, last, s.texts[last].Text)
		}
		if form == Protobuf && !bytes.Equal(out.Value[wireLead:], []byte("\x00\x12\x01x")) {
			t.Errorf("% x", out.Value)
		}
		// It is not tried for ever.
		f.Register = func(subject string, text SchemaText) (int32, error) {
			times++
			id, err := s.register(subject, text)
			s.ids[subject] = s.put(SchemaText{Type: text.Type, Text: strings.ReplaceAll(other, "theirs", fmt.Sprintf("theirs%d", times))})
			return id, err
		}
		if _, _, err := NewEncoder(f).Encode(nil, &connectors.Record{Topic: "t", Value: connectors.Datum{Schema: row, Value: schema.StructOf(schema.StringOf("x"))}}); !errors.Is(err, ErrRegistry) || connectors.IsFatal(err) {
			t.Errorf("%s: %v", form, err)
		}
	}
}

// A subject whose newest schema cannot be read ends the source: it is no fault of a record.
func TestNewestSchemaCannotBeRead(t *testing.T) {
	for _, f := range []Form{Protobuf, JSONSchema} {
		s := shelfOf(f)
		s.ids["shop.public.orders-key"] = s.put(SchemaText{Type: map[Form]string{Protobuf: "PROTOBUF", JSONSchema: "JSON"}[f], Text: "{"})
		r := change(1)
		if _, _, err := NewEncoder(s.format(Debezium)).Encode(nil, &r); !errors.Is(err, ErrRegistry) || !connectors.IsFatal(err) || !strings.Contains(err.Error(), "shop.public.orders-key") {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// Bad bytes are an error that says what is wrong, whatever they are.
func TestAvroBadBytes(t *testing.T) {
	s := newShelf()
	lead := func(text string) []byte {
		return binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Type: "AVRO", Text: text})))
	}
	huge := binary.AppendVarint(nil, math.MaxInt64)
	for _, c := range []struct {
		value []byte
		want  string
	}{
		{[]byte(`{"id":1}`), `not in Confluent's wire format, which begins with a zero and a schema's id: "{\"id\":1}"`},
		{[]byte{0, 0, 0}, "not in Confluent's wire format"},
		{[]byte{0, 0, 0, 99, 99, 1}, "schema 25443: unknown"},
		{append(lead(`"long"`), 0x80), "the bytes end in the middle of a value"},
		{append(lead(`"long"`), 2, 2), "1 bytes are left"},
		{append(lead(`"int"`), huge...), "does not fit 32 bits"},
		{append(lead(`"string"`), huge...), "the bytes end"},
		{append(lead(`"string"`), 2, 0xff), "not UTF-8"},
		{append(lead(`"boolean"`), 7), "a boolean is 0 or 1"},
		{append(lead(`{"type":"enum","name":"E","symbols":["A"]}`), 2), "symbol 1 of an enum of 1"},
		{append(lead(`["null","int"]`), 4), "branch 2 of a union"},
		{append(lead(`{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}`), 8, 'x'), "field 'a': the bytes end"},
		{append(lead(`{"type":"array","items":"null"}`), huge...), "more values than its bytes can hold"},
		{append(lead(`{"type":"array","items":{"type":"record","name":"Z","fields":[]}}`), binary.AppendVarint(nil, 1<<40)...), "more values than its bytes can hold"},
		{append(lead(`{"type":"array","items":"int"}`), binary.AppendVarint(nil, math.MinInt64)...), "the bytes end"},
		{append(lead(`{"type":"record","name":"R","fields":[{"name":"r","type":["null","R"]}]}`), 0), "the record R is part of itself"},
		{append(lead(`{"type":`), 0), "unexpected EOF"},
		{append(binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Type: "PROTOBUF", Text: "message M {}"}))), 0), "is of type PROTOBUF, not AVRO"},
	} {
		r := connectors.Record{RawValue: c.value}
		err := s.decoder().Decode(&r)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "value: ") {
			t.Errorf("%q: %v, not %s", c.value, err, c.want)
		}
		if r.Value.Schema != nil || r.Change != nil || !bytes.Equal(r.RawValue, c.value) {
			t.Errorf("%q: half read: %+v", c.value, r)
		}
	}
}

// Types that name each other twice at each step would be millions of columns.
func TestAvroWideSchema(t *testing.T) {
	text := `{"type":"record","name":"R0","fields":[]}`
	for i := 1; i < 40; i++ {
		text = fmt.Sprintf(`{"type":"record","name":"R%d","fields":[{"name":"a","type":%s},{"name":"b","type":"R%d"}]}`, i, text, i-1)
	}
	s := newShelf()
	r := connectors.Record{RawValue: binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Text: text})))}
	if err := s.decoder().Decode(&r); err == nil || !strings.Contains(err.Error(), "more than 20000 types") {
		t.Error(err)
	}
}

func FuzzAvroDecode(f *testing.F) {
	s := newShelf()
	texts := []string{
		`["null","int","string",{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"null"}}]}]`,
		`{"type":"map","values":{"type":"array","items":["null","long"]}}`, `{"type":"enum","name":"E","symbols":["A","B"]}`, `{"type":"fixed","name":"F","size":3}`,
		`{"type":"array","items":{"type":"record","name":"MapEntry","namespace":"io.confluent.connect.avro","fields":[{"name":"key","type":"int"},{"name":"value","type":"bytes"}]}}`,
	}
	for _, text := range texts {
		s.put(SchemaText{Text: text})
	}
	for _, e := range []Envelope{Debezium, Plain} {
		r := change(1)
		_, out, err := NewEncoder(s.format(e)).Encode(nil, &r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(out.Key, out.Value)
	}
	f.Add([]byte{0, 0, 0, 0, 1, 6, 2, 0}, []byte{0, 0, 0, 0, 2, 2, 2, 'k', 3, 4, 2, 1, 0, 0})
	d := s.decoder()
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r := connectors.Record{Topic: "t", RawKey: key, RawValue: value}
		if err := d.Decode(&r); err != nil {
			return
		}
		if r.Value.Schema == nil && r.Change == nil && value != nil {
			t.Fatalf("neither a value nor an error of %q", value)
		}
		if c := r.Change; c != nil && len(c.Row.Fields) > 0 && c.After.Kind == schema.Struct && len(c.After.List) != len(c.Row.Fields) {
			t.Fatalf("%d values for %d columns", len(c.After.List), len(c.Row.Fields))
		}
	})
}

// A schema of a foreign registry may say anything.
func FuzzAvroSchema(f *testing.F) {
	f.Add(`{"type":"record","name":"R","fields":[{"name":"a","type":["null","int"],"default":null}]}`, []byte{2, 2})
	f.Add(`{"type":"bytes","logicalType":"decimal","precision":4,"scale":2,"connect.parameters":{"scale":"x"}}`, []byte{2, 2})
	f.Add(`["null",{"type":"array","items":["int","string"]}]`, []byte{2, 2, 0, 4, 0})
	f.Fuzz(func(t *testing.T, text string, value []byte) {
		s := newShelf()
		r := connectors.Record{RawValue: append(binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Text: text}))), value...)}
		if s.decoder().Decode(&r) == nil && r.Value.Schema == nil && r.Change == nil {
			t.Fatal("neither a value nor an error")
		}
	})
}

func BenchmarkWireEncode(b *testing.B) {
	for _, c := range []struct {
		name string
		f    Format
	}{{"json", Format{}}, {"avro", newShelf().format(Debezium)}, {"protobuf", shelfOf(Protobuf).format(Debezium)}, {"jsonschema", shelfOf(JSONSchema).format(Debezium)}} {
		b.Run(c.name, func(b *testing.B) {
			e, r, dst := NewEncoder(c.f), change(1), make([]byte, 0, 4096)
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				_, out, err := e.Encode(dst, &r)
				if err != nil {
					b.Fatal(err)
				}
				size = len(out.Key) + len(out.Value)
			}
			b.SetBytes(int64(size))
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkWireDecode(b *testing.B) {
	s := newShelf()
	r := change(1)
	_, avro, err := NewEncoder(s.format(Debezium)).Encode(nil, &r)
	if err != nil {
		b.Fatal(err)
	}
	proto, js := shelfOf(Protobuf), shelfOf(JSONSchema)
	_, buf, err := NewEncoder(proto.format(Debezium)).Encode(nil, &r)
	if err != nil {
		b.Fatal(err)
	}
	_, text, err := NewEncoder(js.format(Debezium)).Encode(nil, &r)
	if err != nil {
		b.Fatal(err)
	}
	typed, plain := encoded(b, Format{}, r)
	for _, c := range []struct {
		name string
		d    *Decoder
		r    connectors.Record
	}{{"json", plain, typed}, {"avro", s.decoder(), connectors.Record{Topic: "t", RawKey: avro.Key, RawValue: avro.Value}},
		{"protobuf", proto.decoder(), connectors.Record{Topic: "t", RawKey: buf.Key, RawValue: buf.Value}},
		{"jsonschema", js.decoder(), connectors.Record{Topic: "t", RawKey: text.Key, RawValue: text.Value}}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				in := c.r
				if err := c.d.Decode(&in); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// The first record that names an entry is the first that is written: of one that is refused nobody registers anything.
func TestRefusedRecordAnnouncesNothing(t *testing.T) {
	s := newShelf()
	f := s.format(Debezium)
	f.Key = "" // JSON, whose types are in a header
	e := NewEncoder(f)
	bad := change(1)
	bad.Change.After.List[0] = schema.Missing
	if _, _, err := e.Encode(nil, &bad); err == nil {
		t.Fatal("a number that was not sent is written")
	}
	for i, want := range []bool{true, false} {
		good := change(2)
		if _, out, err := e.Encode(nil, &good); err != nil || out.SchemaID == nil || (out.New != nil) != want {
			t.Errorf("record %d: %+v: %v", i, out, err)
		}
	}
}
