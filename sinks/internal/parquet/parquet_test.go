package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	pq "github.com/parquet-go/parquet-go"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sinks/internal/files"
	"github.com/forebayhub/forebay/sinks/internal/table"
)

func typ(k schema.Kind, name string, params ...string) *schema.Schema {
	s := &schema.Schema{Kind: k, Name: name, Optional: true}
	if len(params) > 0 {
		s.Params = map[string]string{}
		for i := 0; i < len(params); i += 2 {
			s.Params[params[i]] = params[i+1]
		}
	}
	return s
}

// twos is n as Connect's Decimal has it.
func twos(n int64) []byte {
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
		{Name: "x", Schema: typ(schema.Float64, "")}, {Name: "y", Schema: typ(schema.Float64, "")}}}
	variable = &schema.Schema{Kind: schema.Struct, Name: table.VariableDecimal, Optional: true, Fields: []schema.Field{
		{Name: "scale", Schema: typ(schema.Int32, "")}, {Name: "value", Schema: typ(schema.Bytes, "")}}}
	intArray = &schema.Schema{Kind: schema.Array, Optional: true, Elem: typ(schema.Int32, "")}
	dict     = &schema.Schema{Kind: schema.Map, Optional: true, Key: &schema.Schema{Kind: schema.String}, Elem: typ(schema.String, "")}
	nested   = &schema.Schema{Kind: schema.Array, Optional: true, Elem: intArray}

	everything = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{
		{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}},
		{Name: "b", Schema: typ(schema.Bool, "")},
		{Name: "i2", Schema: typ(schema.Int16, "")},
		{Name: "i4", Schema: typ(schema.Int32, "")},
		{Name: "f4", Schema: typ(schema.Float32, "")},
		{Name: "f8", Schema: typ(schema.Float64, "")},
		{Name: "txt", Schema: typ(schema.String, "")},
		{Name: "raw", Schema: typ(schema.Bytes, "")},
		{Name: "d", Schema: typ(schema.Int32, "io.debezium.time.Date")},
		{Name: "t6", Schema: typ(schema.Int64, "io.debezium.time.MicroTime")},
		{Name: "t3", Schema: typ(schema.Int32, "io.debezium.time.Time")},
		{Name: "ts3", Schema: typ(schema.Int64, "io.debezium.time.Timestamp")},
		{Name: "ts6", Schema: typ(schema.Int64, "io.debezium.time.MicroTimestamp")},
		{Name: "tz", Schema: typ(schema.String, "io.debezium.time.ZonedTimestamp")},
		{Name: "n5", Schema: typ(schema.Bytes, "org.apache.kafka.connect.data.Decimal", "scale", "2", "connect.decimal.precision", "5")},
		{Name: "n18", Schema: typ(schema.Bytes, "org.apache.kafka.connect.data.Decimal", "scale", "6", "connect.decimal.precision", "18")},
		{Name: "n38", Schema: typ(schema.Bytes, "org.apache.kafka.connect.data.Decimal", "scale", "10", "connect.decimal.precision", "38")},
		{Name: "n60", Schema: typ(schema.Bytes, "org.apache.kafka.connect.data.Decimal", "scale", "3", "connect.decimal.precision", "60")},
		{Name: "nvar", Schema: variable},
		{Name: "js", Schema: typ(schema.String, "io.debezium.data.Json")},
		{Name: "u", Schema: typ(schema.String, "io.debezium.data.Uuid")},
		{Name: "a", Schema: intArray},
		{Name: "m", Schema: dict},
		{Name: "nn", Schema: nested},
		{Name: "p", Schema: point},
	}}
	keyID = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}}}}
)

func row(id int64, rest ...schema.Value) schema.Value {
	list := append([]schema.Value{schema.Int64Of(id)}, rest...)
	for len(list) < len(everything.Fields) {
		list = append(list, schema.Value{})
	}
	return schema.StructOf(list...)
}

func change(op connectors.Op, offset int64, before, after schema.Value) *connectors.Record {
	r := &connectors.Record{Topic: "shop.public.t", Partition: 0, Offset: offset, Timestamp: time.UnixMilli(1_700_000_000_000 + offset),
		Headers:  []connectors.Header{{Key: "forebay.schema", Value: []byte("1")}},
		RawValue: []byte("{}"), RawKey: []byte(`{"id":1}`),
		Change: &connectors.Change{Op: op, Row: everything, Before: before, After: after, At: time.UnixMilli(1_700_000_000_123)}}
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

func full(id int64) schema.Value {
	return row(id, schema.BoolOf(true), schema.Int16Of(-7), schema.Int32Of(math.MaxInt32), schema.Float32Of(1.5), schema.Float64Of(-2.25),
		schema.StringOf("żółw 🐢"), schema.BytesOf([]byte{0, 255, 1}), schema.Int32Of(20000), schema.Int64Of(86_399_999_999), schema.Int32Of(1),
		schema.Int64Of(1_700_000_000_123), schema.Int64Of(-1_000_001), schema.StringOf("2024-02-29T23:59:59.000001Z"),
		schema.BytesOf(twos(-12345)), schema.BytesOf(twos(-123456789012345678)), schema.BytesOf(twos(-1)), schema.BytesOf(twos(-98765)),
		schema.StructOf(schema.Int32Of(4), schema.BytesOf(twos(1000001))), schema.StringOf(`{"k": [1, 2]}`),
		schema.StringOf("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
		schema.ArrayOf(schema.Int32Of(1), schema.Value{}, schema.Int32Of(3)), schema.MapOf(schema.StringOf("x"), schema.StringOf("1"), schema.StringOf("y"), schema.Value{}),
		schema.ArrayOf(schema.ArrayOf(schema.Int32Of(1), schema.Int32Of(2)), schema.ArrayOf(), schema.Value{}),
		schema.StructOf(schema.Float64Of(1), schema.Value{}))
}

func missing(id int64) schema.Value {
	v := row(id)
	v.List[6], v.List[21] = schema.Missing, schema.Missing
	return v
}

func changes() []*connectors.Record {
	return []*connectors.Record{
		change(connectors.OpRead, 10, schema.Value{}, full(1)),
		change(connectors.OpCreate, 11, schema.Value{}, row(2)),
		change(connectors.OpUpdate, 13, row(2), missing(2)),
		change(connectors.OpDelete, 14, row(2), schema.Value{}),
	}
}

func encode(t testing.TB, f files.Format, rs ...*connectors.Record) []byte {
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

func makeFormat(t testing.TB, o files.FormatOptions) (files.Format, *Budget) {
	t.Helper()
	b := NewBudget(64 << 20)
	f, err := NewWith(o, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b.Used() != 0 {
			t.Errorf("%d bytes of the budget were not given back", b.Used())
		}
	})
	return f, b
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

func compare(t testing.TB, f files.Format, file []byte, want ...*connectors.Record) []string {
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

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, codec := range []string{"auto", "snappy", "zstd", "gzip", "none"} {
		f, _ := makeFormat(t, files.FormatOptions{Compression: codec, Coordinates: codec == "zstd"})
		file := encode(t, f, changes()...)
		if found := compare(t, f, file, changes()...); len(found) != 0 {
			t.Errorf("%s: %q", codec, found)
		}
	}
}

func TestColumnsOfAChange(t *testing.T) {
	f, _ := makeFormat(t, files.FormatOptions{})
	file := encode(t, f, changes()...)
	p, err := pq.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	want := `message record {
	required int64 id (INT(64,true));
	optional boolean b;
	optional int32 i2 (INT(16,true));
	optional int32 i4 (INT(32,true));
	optional float f4;
	optional double f8;
	optional binary txt (STRING);
	optional binary raw;
	optional int32 d (DATE);
	optional binary t6 (STRING);
	optional binary t3 (STRING);
	optional int64 ts3 (TIMESTAMP(isAdjustedToUTC=false,unit=MILLIS));
	optional int64 ts6 (TIMESTAMP(isAdjustedToUTC=false,unit=MICROS));
	optional int64 tz (TIMESTAMP(isAdjustedToUTC=true,unit=MICROS));
	optional int32 n5 (DECIMAL(5,2));
	optional int64 n18 (DECIMAL(18,6));
	optional fixed_len_byte_array(16) n38 (DECIMAL(38,10));
	optional binary n60 (STRING);
	optional binary nvar (STRING);
	optional binary js (JSON);
	optional binary u (STRING);
	optional group a (LIST) {
		repeated group list {
			optional int32 element (INT(32,true));
		}
	}
	optional group m (MAP) {
		repeated group key_value {
			required binary key (STRING);
			optional binary value (STRING);
		}
	}
	optional group nn (LIST) {
		repeated group list {
			optional group element (LIST) {
				repeated group list {
					optional int32 element (INT(32,true));
				}
			}
		}
	}
	optional group p {
		optional double x;
		optional double y;
	}
	required binary _op (STRING);
	optional int64 _ts (TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS));
	required int64 _offset (INT(64,true));
	optional group _unchanged (LIST) {
		repeated group list {
			optional binary element (STRING);
		}
	}
}`
	if got := p.Schema().String(); got != want {
		t.Errorf("the file's columns are\n%s", got)
	}
	if v, _ := p.Lookup("forebay.format"); v != "1" {
		t.Errorf("the format's version is %q", v)
	}
}

func TestCompareFindsWhatDiffers(t *testing.T) {
	f, _ := makeFormat(t, files.FormatOptions{})
	file := encode(t, f, changes()...)
	other := changes()
	other[1].Change.After.List[5] = schema.Float64Of(1)
	extra := change(connectors.OpUpdate, 12, schema.Value{}, row(9))
	late := change(connectors.OpUpdate, 15, schema.Value{}, row(9))
	for _, c := range []struct {
		name string
		want []*connectors.Record
		find []string
	}{
		{"a value", other, []string{`1: column f8 is null, the log has "1"`}},
		{"a missing row", []*connectors.Record{changes()[0], changes()[1], extra, changes()[2], changes()[3], late},
			[]string{"-1: offset 12 is missing", "-1: offset 15 is missing"}},
		{"a row too many", []*connectors.Record{changes()[0], changes()[2]},
			[]string{"1: offset 11 is not in the log here, or twice in the file", "3: the log has no such record"}},
	} {
		if got := compare(t, f, file, c.want...); strings.Join(got, "\n") != strings.Join(c.find, "\n") {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	if got := compare(t, f, file[:len(file)/2], changes()...); len(got) != 5 {
		t.Errorf("half a file: %q", got)
	}
}

func TestRecordsWithoutASchema(t *testing.T) {
	line := func(offset int64, value string) *connectors.Record {
		return &connectors.Record{Topic: "weblogs", Offset: offset, Timestamp: time.UnixMilli(5), RawValue: []byte(value),
			Headers: []connectors.Header{{Key: "host", Value: []byte("a")}, {Key: "offset", Value: []byte("12")}, {Key: "host", Value: []byte("b")}}}
	}
	rs := []*connectors.Record{line(0, "one"), line(1, "tw\xff"), line(7, "")}
	rs[2].Headers = nil
	for _, coordinates := range []bool{false, true} {
		f, _ := makeFormat(t, files.FormatOptions{Coordinates: coordinates})
		if found := compare(t, f, encode(t, f, rs...), rs...); len(found) != 0 {
			t.Errorf("%q", found)
		}
	}
}

// A schema change and a truncate begin a new file; an equal schema at another address does not.
func TestFits(t *testing.T) {
	f, _ := makeFormat(t, files.FormatOptions{})
	e, err := f.NewEncoder(io.Discard, changes()[0])
	if err != nil {
		t.Fatal(err)
	}
	clone := *everything
	r := changes()[1]
	r.Change.Row = &clone
	if !f.Fits(e, r) {
		t.Error("an equal schema does not fit")
	}
	clone2 := *everything
	clone2.Fields = clone2.Fields[:3]
	r = changes()[1]
	r.Change.Row = &clone2
	if f.Fits(e, r) {
		t.Error("another schema fits")
	}
	truncate := change(connectors.OpTruncate, 20, schema.Value{}, schema.Value{})
	if f.Fits(e, truncate) {
		t.Error("a truncate has no key and cannot fit where the key must not be null")
	}
	if f.Fits(e, &connectors.Record{RawValue: []byte("x")}) {
		t.Error("a line fits among rows")
	}
	e.(files.Discarder).Discard()
	rs := []*connectors.Record{truncate, change(connectors.OpCreate, 21, schema.Value{}, full(1))}
	if found := compare(t, f, encode(t, f, rs...), rs...); len(found) != 0 {
		t.Errorf("%q", found)
	}
}

// A delete of which only the key is known (REPLICA IDENTITY NOTHING gives no before).
func TestDeleteWithoutBefore(t *testing.T) {
	f, _ := makeFormat(t, files.FormatOptions{})
	r := change(connectors.OpDelete, 3, schema.Value{}, schema.Value{})
	r.Key.Value = schema.StructOf(schema.Int64Of(42))
	like := change(connectors.OpDelete, 3, row(42), schema.Value{})
	if found := compare(t, f, encode(t, f, r), like); len(found) != 0 {
		t.Errorf("%q", found)
	}
}

// A record that cannot be written leaves nothing behind.
func TestRejectedRecord(t *testing.T) {
	f, _ := makeFormat(t, files.FormatOptions{})
	var buf bytes.Buffer
	rs := changes()
	e, err := f.NewEncoder(&buf, rs[0])
	if err != nil {
		t.Fatal(err)
	}
	bad := change(connectors.OpCreate, 12, schema.Value{}, full(3))
	bad.Change.After.List[14] = schema.BytesOf(twos(123456)) // six digits in numeric(5,2)
	worse := change(connectors.OpCreate, 12, schema.Value{}, full(3))
	worse.Change.After.List[23] = schema.ArrayOf(schema.ArrayOf(schema.StringOf("no number")))
	for i, r := range []*connectors.Record{rs[0], bad, rs[1], worse, rs[2]} {
		err := e.Write(r)
		var re *files.RecordError
		if (r == bad || r == worse) != errors.As(err, &re) {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if found := compare(t, f, buf.Bytes(), rs[0], bad, rs[1], rs[2]); len(found) != 0 {
		t.Errorf("%q", found)
	}
}

// Open files share one budget: when it is spent, row groups get smaller and the memory stays.
func TestBudgetBoundsMemory(t *testing.T) {
	b := NewBudget(4 << 20)
	f, err := NewWith(files.FormatOptions{Compression: "none"}, b)
	if err != nil {
		t.Fatal(err)
	}
	line := func(i int64) *connectors.Record {
		return &connectors.Record{Offset: i, RawValue: bytes.Repeat([]byte{byte('a' + i%26)}, 1000)}
	}
	encs, bufs := make([]files.Encoder, 12), make([]bytes.Buffer, 12)
	for i := range encs {
		if encs[i], err = f.NewEncoder(&bufs[i], line(0)); err != nil {
			t.Fatal(err)
		}
	}
	most := int64(0)
	for i := range int64(2000) {
		for _, e := range encs {
			if err := e.Write(line(i)); err != nil {
				t.Fatal(err)
			}
		}
		most = max(most, b.Used())
	}
	if limit := int64(4<<20 + 12*(minRowGroup+maxBatchBytes)); most > limit {
		t.Errorf("open files held %d bytes, more than %d", most, limit)
	}
	for i, e := range encs {
		if i == 0 {
			e.(files.Discarder).Discard()
			continue
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes were not given back", b.Used())
	}
}
