package frame

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

var row = &schema.Schema{Kind: schema.Struct, Name: "row", Fields: []schema.Field{
	{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}}, {Name: "on", Schema: &schema.Schema{Kind: schema.Bool}},
	{Name: "small", Schema: &schema.Schema{Kind: schema.Int16}}, {Name: "mean", Schema: &schema.Schema{Kind: schema.Float64, Optional: true}},
	{Name: "tags", Schema: &schema.Schema{Kind: schema.Array, Elem: &schema.Schema{Kind: schema.String}}},
	{Name: "of", Schema: &schema.Schema{Kind: schema.Map, Key: &schema.Schema{Kind: schema.String}, Elem: &schema.Schema{Kind: schema.Bytes}}},
}}

func rowOf(id int64) schema.Value {
	return schema.StructOf(schema.Int64Of(id), schema.BoolOf(true), schema.Int16Of(-3), schema.Value{}, schema.ArrayOf(schema.StringOf("a"), schema.StringOf("b")),
		schema.MapOf(schema.StringOf("k"), schema.BytesOf([]byte{0, 1})))
}

// records are of every shape that a record has.
func records() []connectors.Record {
	at := time.UnixMilli(1_700_000_000_123).UTC()
	key := connectors.Datum{Schema: &schema.Schema{Kind: schema.Int32}, Value: schema.Int32Of(7)}
	return []connectors.Record{
		{Topic: "a", Partition: -1, RawKey: []byte("k"), RawValue: []byte("v")},
		{Topic: "a", Partition: -1, Timestamp: at, Headers: []connectors.Header{{Key: "h", Value: []byte("x")}, {Key: "none"}, {Key: "empty", Value: []byte{}}}, RawValue: []byte{}},
		{Topic: "b", Partition: 3, Offset: 42, From: &connectors.Place{Partition: 1, Offset: 1 << 40}},
		{Topic: "b", Partition: 3, Key: key, Value: connectors.Datum{Schema: row, Value: rowOf(1)}},
		{Topic: "a", Partition: 0, Key: key, Change: &connectors.Change{Op: connectors.OpUpdate, Row: row, Before: schema.Value{}, After: rowOf(2), At: at,
			Source: connectors.Datum{Schema: row, Value: rowOf(3)}}},
		{Topic: "a", Partition: 0, Change: &connectors.Change{Op: connectors.OpDelete, Row: row, Before: rowOf(2)}},
	}
}

func encode(t testing.TB, e *Encoder, rs []connectors.Record) []byte {
	t.Helper()
	e.Begin()
	for i := range rs {
		if err := e.Record(&rs[i]); err != nil {
			t.Fatal(err)
		}
		e.Mark("key", connectors.Position(fmt.Sprint(i)), i%2 == 0)
	}
	e.Mark("gone", nil, false)
	return append([]byte(nil), e.Bytes()...)
}

// text of a record leaves out what a decoder makes anew: the schemas' identity.
func text(r connectors.Record) string {
	out := fmt.Sprintf("%s %d %d %v %v %q key %q %v", r.Topic, r.Partition, r.Offset, r.Place(), r.Timestamp.UnixNano(), r.Headers, r.RawKey, r.RawKey == nil)
	out += fmt.Sprintf(" value %q %v", r.RawValue, r.RawValue == nil)
	for _, d := range []connectors.Datum{r.Key, r.Value} {
		out += " " + string(d.Schema.AppendJSON(nil)) + fmt.Sprint(d.Value)
	}
	if c := r.Change; c != nil {
		out += fmt.Sprintf(" %c %d %s %v %v %s %v %s", c.Op, c.At.UnixNano(), c.Row.AppendJSON(nil), c.Before, c.After, c.Source.Schema.AppendJSON(nil), c.Source.Value, c.Update.Schema.AppendJSON(nil))
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	want := records()
	e, d := NewEncoder(), NewDecoder()
	for round := range 3 { // the schemas are sent in the first one
		p := encode(t, e, want)
		if round > 0 && strings.Contains(string(p), `"type"`) {
			t.Error("a schema is sent again")
		}
		b := connectors.NewBatch(1 << 20)
		d.Feed(p)
		if err := d.Fill(b); err != nil || !d.Done() {
			t.Fatal(err)
		}
		for i := range want {
			if got, want := text(b.Records[i]), text(want[i]); got != want {
				t.Errorf("record %d:\n%s\nwant\n%s", i, got, want)
			}
			m := b.Marks[i]
			if m.Upto != i+1 || string(m.Position) != fmt.Sprint(i) || m.Boundary != (i%2 == 0) || m.Key != "key" {
				t.Errorf("mark %d: %+v", i, m)
			}
		}
		if last := b.Marks[len(want)]; last.Position != nil || last.Key != "gone" {
			t.Errorf("the last mark: %+v", last)
		}
		if b.Records[3].Value.Schema != b.Records[4].Change.Row {
			t.Error("one schema has become two")
		}
	}
}

func TestRawLeavesTypesOut(t *testing.T) {
	e := NewEncoder()
	e.Raw = true
	p := encode(t, e, []connectors.Record{{Topic: "t", RawKey: []byte("k"), RawValue: []byte("v"), Value: connectors.Datum{Schema: row, Value: rowOf(1)}}})
	b, d := connectors.NewBatch(1<<20), NewDecoder()
	d.Feed(p)
	if err := d.Fill(b); err != nil || b.Records[0].Value.Schema != nil || string(b.Records[0].RawValue) != "v" {
		t.Fatalf("%v %+v", err, b.Records)
	}
}

// TestFillEndsAtAPosition: a full batch goes on to the position that covers its records.
func TestFillEndsAtAPosition(t *testing.T) {
	e, d := NewEncoder(), NewDecoder()
	e.Begin()
	for i := range 10 {
		if err := e.Record(&connectors.Record{Topic: "t", RawValue: make([]byte, 100)}); err != nil {
			t.Fatal(err)
		}
		if i%3 == 2 || i == 9 {
			e.Mark("k", connectors.Position("p"), false)
		}
	}
	d.Feed(e.Bytes())
	var got []int
	for !d.Done() {
		b := connectors.NewBatch(150)
		if err := d.Fill(b); err != nil {
			t.Fatal(err)
		}
		got = append(got, len(b.Records))
	}
	if want := []int{3, 3, 3, 1}; !reflect.DeepEqual(got, want) {
		t.Errorf("batches of %v, want %v", got, want)
	}
}

// TestSchemasWithoutEnd: a stream goes on when there are more of them, or larger ones, than a stream holds.
func TestSchemasWithoutEnd(t *testing.T) {
	t.Run("many", func(t *testing.T) { schemasWithoutEnd(t, MaxSchemas+5, "") })
	t.Run("large", func(t *testing.T) { schemasWithoutEnd(t, 18, strings.Repeat("x", 1<<20)) })
}

func schemasWithoutEnd(t *testing.T, n int, doc string) {
	e, d := NewEncoder(), NewDecoder()
	for i := range n {
		s := &schema.Schema{Kind: schema.Int64, Doc: fmt.Sprint(i) + doc}
		e.Begin()
		if err := e.Record(&connectors.Record{Topic: "t", Value: connectors.Datum{Schema: s, Value: schema.Int64Of(int64(i))}}); err != nil {
			t.Fatal(err)
		}
		if e.Len() > MaxSchemaBytes/20 && i > 0 && i < n-3 {
			continue // it takes long to read
		}
		b := connectors.NewBatch(1 << 20)
		d.Feed(e.Bytes())
		if err := d.Fill(b); err != nil || b.Records[0].Value.Schema.Doc != s.Doc {
			t.Fatalf("schema %d: %v", i, err)
		}
	}
	if len(d.schemas) > MaxSchemas || d.held > MaxSchemaBytes || len(e.schemas) > MaxSchemas {
		t.Errorf("%d schemas of %d bytes are held", len(d.schemas), d.held)
	}
}

func TestSchemaThatCannotBeSent(t *testing.T) {
	e, d := NewEncoder(), NewDecoder()
	e.Begin()
	small := connectors.Record{Topic: "t", Key: connectors.Datum{Schema: row, Value: rowOf(1)}}
	large := small
	large.Value = connectors.Datum{Schema: &schema.Schema{Kind: schema.Int64, Doc: strings.Repeat("x", MaxSchemaBytes)}, Value: schema.Int64Of(1)}
	if err := e.Record(&small); err != nil {
		t.Fatal(err)
	}
	if err := e.Record(&large); err == nil || !strings.Contains(err.Error(), "the schemas of a record") {
		t.Fatal(err)
	}
	if err := e.Record(&small); err != nil {
		t.Fatal(err)
	}
	b := connectors.NewBatch(1 << 20)
	d.Feed(e.Bytes())
	if err := d.Fill(b); err != nil || len(b.Records) != 2 || text(b.Records[1]) != text(small) {
		t.Errorf("%d records, %v", len(b.Records), err)
	}
}

// TestWhatADecoderRefusesIsNotSent: the record can be set aside then; a damaged frame would end the task.
func TestWhatADecoderRefusesIsNotSent(t *testing.T) {
	nested := func(depth int) connectors.Datum {
		d := connectors.Datum{Schema: &schema.Schema{Kind: schema.Int64}, Value: schema.Int64Of(1)}
		for range depth {
			d = connectors.Datum{Schema: &schema.Schema{Kind: schema.Array, Elem: d.Schema}, Value: schema.ArrayOf(d.Value)}
		}
		return d
	}
	wide := connectors.Datum{Schema: &schema.Schema{Kind: schema.Array, Elem: &schema.Schema{Kind: schema.Int64, Optional: true}}, Value: schema.ArrayOf(make([]schema.Value, MaxValues+1)...)}
	for want, d := range map[string]connectors.Datum{"": nested(maxDepth), "nested deeper than 64": nested(maxDepth + 1), "more than 1048576 values": wide} {
		e := NewEncoder()
		err := e.Record(&connectors.Record{Topic: "t", Value: d})
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, ErrFull) || e.Len() > 0 {
				t.Errorf("%v; want %q", err, want)
			}
			continue
		}
		b, dec := connectors.NewBatch(1<<20), NewDecoder()
		dec.Feed(e.Bytes())
		if ferr := dec.Fill(b); err != nil || ferr != nil {
			t.Errorf("%v, %v", err, ferr)
		}
	}
}

// TestMarksEndABatch: they have memory, too.
func TestMarksEndABatch(t *testing.T) {
	e, d, b := NewEncoder(), NewDecoder(), connectors.NewBatch(1<<20)
	for range 20 {
		e.Mark("k", make([]byte, 100<<10), false)
	}
	d.Feed(e.Bytes())
	if err := d.Fill(b); err != nil || len(b.Marks) != 11 {
		t.Errorf("%d marks, %v", len(b.Marks), err)
	}
}

// TestFullFrame: the record that had no room is whole in the next one, its schema with it.
func TestFullFrame(t *testing.T) {
	e, d := NewEncoder(), NewDecoder()
	e.Begin()
	big := connectors.Record{Topic: "t", RawValue: make([]byte, MaxBytes-1000)}
	next := connectors.Record{Topic: "u", Key: connectors.Datum{Schema: row, Value: rowOf(1)}, RawValue: make([]byte, 1000)}
	if err := e.Record(&big); err != nil {
		t.Fatal(err)
	}
	if err := e.Record(&next); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	for _, want := range []*connectors.Record{&big, &next} {
		b := connectors.NewBatch(1 << 20)
		d.Feed(e.Bytes())
		if err := d.Fill(b); err != nil || len(b.Records) != 1 || b.Records[0].Topic != want.Topic || len(b.Records[0].RawValue) != len(want.RawValue) ||
			fmt.Sprint(b.Records[0].Key.Value) != fmt.Sprint(want.Key.Value) {
			t.Fatalf("%d records, %v", len(b.Records), err)
		}
		e.Begin()
		if err := e.Record(&next); err != nil {
			t.Fatal(err)
		}
	}
}

// TestValuesOfABatch: a null is one byte, and many in memory. A frame of them is shared out among batches.
func TestValuesOfABatch(t *testing.T) {
	nulls := &schema.Schema{Kind: schema.Array, Elem: &schema.Schema{Kind: schema.Int64, Optional: true}}
	const each, n = 1 << 16, 12
	e, d := NewEncoder(), NewDecoder()
	e.Begin()
	for range n {
		if err := e.Record(&connectors.Record{Topic: "t", Value: connectors.Datum{Schema: nulls, Value: schema.ArrayOf(make([]schema.Value, each)...)}}); err != nil {
			t.Fatal(err)
		}
	}
	d.Feed(e.Bytes())
	records := 0
	for b := connectors.NewBatch(1 << 30); !d.Done(); b.Reset() {
		if err := d.Fill(b); err != nil {
			t.Fatal(err)
		}
		if values := len(b.Records) * each; values > batchValues+each || b.Size() < values*valueBytes {
			t.Fatalf("a batch of %d bytes has %d values", b.Size(), values)
		}
		records += len(b.Records)
	}
	if records != n {
		t.Errorf("%d records", records)
	}
}

func TestBad(t *testing.T) {
	e := NewEncoder()
	whole := encode(t, e, records())
	for n := range len(whole) {
		b, d := connectors.NewBatch(1<<20), NewDecoder()
		d.Feed(whole[:n])
		if err := d.Fill(b); err != nil && !errors.Is(err, ErrBad) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	schemaOf := func(text string) []byte { return appendText(le.AppendUint32([]byte{schemaEntry}, 1), text) }
	topic := le.AppendUint32(appendText([]byte{topicEntry}, "t"), 0)
	typedRecord := func(datum ...byte) []byte {
		head := append([]byte{recordEntry, none, typed, 0, 0}, make([]byte, 16)...)
		return append(le.AppendUint32(head, 1), datum...)
	}
	count := func(kind schema.Kind, n uint32) []byte { return le.AppendUint32([]byte{byte(kind)}, n) }
	for name, c := range map[string]struct {
		p    []byte
		want string
	}{
		"no topic":         {[]byte{recordEntry}, "before its topic"},
		"no entry":         {[]byte{0}, "an entry"},
		"no schema":        {append(append([]byte{}, topic...), typedRecord(0)...), "has not been sent"},
		"no JSON":          {schemaOf("{"), "schema"},
		"null schema":      {schemaOf("null"), "is none"},
		"another kind":     {concat(schemaOf(`{"type":"int64"}`), topic, typedRecord(byte(schema.Bool), 1)), "boolean where the schema has int64"},
		"a short struct":   {concat(schemaOf(`{"type":"struct","fields":[{"type":"int64","field":"a"}]}`), topic, typedRecord(count(schema.Struct, 0)...)), "struct of 0 values"},
		"a huge array":     {concat(schemaOf(`{"type":"array","items":{"type":"int64"}}`), topic, typedRecord(count(schema.Array, 1<<31)...)), "values where"},
		"an int16 too big": {concat(schemaOf(`{"type":"int16"}`), topic, typedRecord(append([]byte{byte(schema.Int16)}, 0, 0, 1, 0, 0, 0, 0, 0)...)), "is no int16"},
		"many headers":     {concat(topic, []byte{recordEntry, 0, 0, 255, 255}, make([]byte, 16)), "middle of an entry"},
	} {
		b, d := connectors.NewBatch(1<<20), NewDecoder()
		d.Feed(c.p)
		if err := d.Fill(b); !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func concat(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// FuzzDecoder: any bytes give records or an error, what they give can be sent on, and it is the same there.
func FuzzDecoder(f *testing.F) {
	f.Add(encode(f, NewEncoder(), records()))
	f.Add(append([]byte("F"), encode(f, NewEncoder(), records())...))
	f.Add([]byte("T\x00\x00\x00\x00\x00\x00\x00\x00R"))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, d := connectors.NewBatch(1<<16), NewDecoder()
		d.Feed(p)
		for !d.Done() {
			b.Reset()
			if err := d.Fill(b); err != nil {
				if !errors.Is(err, ErrBad) {
					t.Fatal(err)
				}
				return
			}
			e, again := NewEncoder(), connectors.NewBatch(1<<20)
			for i := range b.Records {
				if err := e.Record(&b.Records[i]); err != nil {
					t.Fatal(err)
				}
			}
			d := NewDecoder()
			d.Feed(e.Bytes())
			if err := d.Fill(again); err != nil {
				t.Fatal(err)
			}
			for i := range again.Records {
				if got, want := text(again.Records[i]), text(b.Records[i]); got != want {
					t.Fatalf("%s\nwas\n%s", got, want)
				}
			}
		}
	})
}
