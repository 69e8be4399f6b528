package files

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/internal/vfs"
)

var when = time.Date(2026, 11, 22, 10, 20, 30, 450e6, time.UTC)

func encode(t *testing.T, o FormatOptions, rs ...connectors.Record) string {
	t.Helper()
	f, err := NewJSON(o)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	e, err := f.NewEncoder(&b, &rs[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range rs {
		if err := e.Write(&rs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e.Size() != int64(b.Len()) {
		t.Fatalf("size %d of %d", e.Size(), b.Len())
	}
	return b.String()
}

func TestJSONValues(t *testing.T) {
	for in, want := range map[string]string{
		`{"a": 1.10, "b" : [1, 2],  "c":"\u00e9 x"}`: `{"a":1.10,"b":[1,2],"c":"\u00e9 x"}`,
		"{\n \"a\":\n null}":                         `{"a":null}`,
		`127.0.0.1 - - "GET / HTTP/1.1" 200`:         `"127.0.0.1 - - \"GET / HTTP/1.1\" 200"`,
		``:                                           `""`,
		`007`:                                        `"007"`,
		`{"a":1} trailing`:                           `"{\"a\":1} trailing"`,
		"caf\xe9":                                    "\"caf\ufffd\"",
		`[2026-11-22] x`:                             `"[2026-11-22] x"`,
	} {
		if got := encode(t, FormatOptions{}, connectors.Record{RawValue: []byte(in)}); got != want+"\n" {
			t.Errorf("%s: got %s want %s", in, got, want)
		}
	}
}

func TestJSONCoordinates(t *testing.T) {
	r := connectors.Record{Topic: "t", Partition: 3, Offset: 42, Timestamp: when, RawKey: []byte(`{"id":1}`)}
	const tail = `"_topic":"t","_partition":3,"_offset":42,"_timestamp":"2026-11-22T10:20:30.450Z","_key":{"id":1}}` + "\n"
	for in, want := range map[string]string{`{"a":1}`: `{"a":1,`, `{}`: `{`, `line`: `{"value":"line",`, `[1]`: `{"value":[1],`} {
		r.RawValue = []byte(in)
		if got := encode(t, FormatOptions{Coordinates: true}, r); got != want+tail {
			t.Errorf("%s: got %s", in, got)
		}
	}
}

func TestJSONFlatten(t *testing.T) {
	row := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{
		{Name: "id", Schema: &schema.Schema{Kind: schema.Int32}},
		{Name: "price", Schema: &schema.Schema{Kind: schema.Bytes, Name: "org.apache.kafka.connect.data.Decimal", Params: map[string]string{"scale": "2"}}},
		{Name: "day", Schema: &schema.Schema{Kind: schema.Int32, Name: "io.debezium.time.Date"}},
		{Name: "at", Schema: &schema.Schema{Kind: schema.Int64, Name: "io.debezium.time.MicroTimestamp"}},
		{Name: "doc", Schema: &schema.Schema{Kind: schema.String, Name: "io.debezium.data.Json"}},
		{Name: "big", Schema: &schema.Schema{Kind: schema.String}},
	}}
	after := schema.StructOf(schema.Int32Of(7), schema.BytesOf([]byte{0xff, 0x85}), schema.Int32Of(20000), schema.Int64Of(1_700_000_000_123_456),
		schema.StringOf(`{"x": 1}`), schema.Missing)
	got := encode(t, FormatOptions{Flatten: true},
		connectors.Record{Offset: 9, RawValue: []byte("x"), Change: &connectors.Change{Op: connectors.OpUpdate, Row: row, After: after, At: when}},
		connectors.Record{Offset: 10, RawValue: []byte("x"), Change: &connectors.Change{Op: connectors.OpTruncate, At: when}},
		connectors.Record{Offset: 11, RawValue: []byte("plain")})
	want := `{"id":7,"price":-1.23,"day":"2024-10-04","at":"2023-11-14T22:13:20.123456","doc":{"x":1},"_op":"u","_ts":"2026-11-22T10:20:30.450Z","_offset":9,"_unchanged":["big"]}
{"_op":"t","_ts":"2026-11-22T10:20:30.450Z","_offset":10}
"plain"
`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// members reads a line of JSON; a name that comes twice is no JSON that every reader takes.
func members(t *testing.T, line string) map[string]string {
	t.Helper()
	d, out := json.NewDecoder(strings.NewReader(line)), map[string]string{}
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		t.Fatalf("%s begins with %v %v", line, open, err)
	}
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err = errors.Join(err, d.Decode(&value)); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if had, twice := out[name.(string)]; twice {
			t.Errorf("%s: %v is there twice, as %s and %s", line, name, had, value)
		}
		out[name.(string)] = string(value)
	}
	return out
}

// A table's columns may be called like ours; with coordinates there are more of ours.
func TestJSONNamesAreThereOnce(t *testing.T) {
	own := []string{"id", "_op", "_op_", "_ts", "_offset", "_unchanged", "_topic", "_partition", "_timestamp", "_key"}
	row := &schema.Schema{Kind: schema.Struct}
	for _, name := range own {
		row.Fields = append(row.Fields, schema.Field{Name: name, Schema: &schema.Schema{Kind: schema.String}})
	}
	change := func(offset int64) connectors.Record {
		values := []schema.Value{schema.Missing} // id was not sent
		for _, name := range own[1:] {
			values = append(values, schema.StringOf("own "+name))
		}
		return connectors.Record{Topic: topic, Offset: offset, Timestamp: when, RawKey: []byte("1"), RawValue: []byte("x"),
			Change: &connectors.Change{Op: connectors.OpUpdate, Row: row, After: schema.StructOf(values...), At: when}}
	}
	plain := `{"_op_":"own _op","_op__":"own _op_","_ts_":"own _ts","_offset_":"own _offset","_unchanged_":"own _unchanged",`
	ours := `"_op":"u","_ts":"2026-11-22T10:20:30.450Z","_offset":9,"_unchanged":["id"]`
	for coordinates, want := range map[bool]string{
		false: plain + `"_topic":"own _topic","_partition":"own _partition","_timestamp":"own _timestamp","_key":"own _key",` + ours + "}\n",
		true: plain + `"_topic_":"own _topic","_partition_":"own _partition","_timestamp_":"own _timestamp","_key_":"own _key",` + ours +
			`,"_topic":"` + topic + `","_partition":0,"_timestamp":"2026-11-22T10:20:30.450Z","_key":1}` + "\n",
	} {
		o := FormatOptions{Flatten: true, Coordinates: coordinates}
		got := encode(t, o, change(9))
		members(t, got)
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		var records []connectors.Record
		for at := range int64(5) {
			records = append(records, change(at))
		}
		cfg := Config{}
		var err error
		if cfg.Format, err = NewJSON(o); err != nil {
			t.Fatal(err)
		}
		local := NewLocal(vfs.NewMemory(), "/lake")
		l := newLife(t, local, cfg)
		if _, err := l.Recover(t.Context(), []connectors.Assignment{assignment(5)}); err != nil {
			t.Fatal(err)
		}
		if rejects, err := l.Write(t.Context(), records); err != nil || len(rejects) > 0 {
			t.Fatal(rejects, err)
		}
		if err := errors.Join(l.flush(), l.Close()); err != nil {
			t.Fatal(err)
		}
		if n, found := audited(t, local, cfg, records, 5); n != 5 || len(found) > 0 {
			t.Errorf("%d agree, %v", n, found)
		}
	}
}

func TestDecimals(t *testing.T) {
	for _, c := range []struct {
		b     []byte
		scale int
		want  string
	}{{[]byte{1}, 3, "0.001"}, {nil, 2, "0.00"}, {[]byte{0x80}, 0, "-128"}, {[]byte{5}, -2, "500"}, {[]byte{0}, -2, "0"}, {[]byte{0xff}, 1, "-0.1"}} {
		got, err := appendDecimal(nil, c.b, c.scale)
		if err != nil || string(got) != c.want {
			t.Errorf("%v scale %d: %s %v, want %s", c.b, c.scale, got, err, c.want)
		}
	}
}

func TestPattern(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "dt=%Y-%m-%d/hour=%H": "dt=2026-11-22/hour=10", "%y/%j/%M%S": "26/326/2030", "100%%": "100%",
	} {
		p, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Dir(when.In(time.FixedZone("x", 5*3600))); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	for _, bad := range []string{"%q", "a%", "/a", "a/", "a//b", "..", "a/../b", "_x", "%H:%M", "a\nb", ".x"} {
		if _, err := ParsePattern(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	p, _ := ParsePattern("%Y-%m-%d-%H")
	if got := p.Dir(time.UnixMilli(-1)); got != "1969-12-31-23" {
		t.Error(got)
	}
}

func audited(t *testing.T, local *Local, cfg Config, records []connectors.Record, end int64) (agreed int64, found []connectors.Difference) {
	t.Helper()
	s := NewSink(cfg, connectors.Env{Name: "lake", Group: "g"}, func(context.Context) (Target, error) { return local, nil })
	i := 0
	agreed, err := s.Audit(context.Background(), connectors.SinkEnv{}, assignment(end), end, func() (*connectors.Record, error) {
		if i == len(records) {
			return nil, io.EOF
		}
		i++
		return &records[i-1], nil
	}, func(d connectors.Difference) { found = append(found, d) })
	if err != nil {
		t.Fatal(err)
	}
	return agreed, found
}

// auditedView audits at the newest commit, wherever the point was that the log was asked for.
func auditedView(t *testing.T, local *Local, cfg Config, records []connectors.Record, next int64) (agreed int64, found []connectors.Difference) {
	t.Helper()
	s := NewSink(cfg, connectors.Env{Name: "lake", Group: "g"}, func(context.Context) (Target, error) { return local, nil })
	v, err := s.AuditSnapshot(t.Context(), connectors.SinkEnv{}, assignment(next))
	if err != nil {
		t.Fatal(err)
	}
	if v.Next() != next {
		t.Errorf("the newest commit ends at %d, want %d", v.Next(), next)
	}
	i := 0
	agreed, err = v.Compare(t.Context(), func() (*connectors.Record, error) {
		if i == len(records) {
			return nil, io.EOF
		}
		i++
		return &records[i-1], nil
	}, func(d connectors.Difference) { found = append(found, d) })
	if err != nil {
		t.Fatal(err)
	}
	return agreed, found
}

// prepared writes and prepares the records of one commit.
func (l *life) prepared(t *testing.T, from, to int64) *prepared {
	t.Helper()
	if _, err := l.Write(t.Context(), logRange(from, to)); err != nil {
		t.Fatal(err)
	}
	tokens, err := l.Prepare(t.Context(), []connectors.TopicPartition{tp}, connectors.CauseDue)
	if err != nil {
		t.Fatal(err)
	}
	return tokens[0].Data.(*prepared)
}

// A sink that runs is between the two renames of a commit at any time: what is not in its place yet is not lost.
func TestAuditWhileACommitIsMade(t *testing.T) {
	cfg := hourly(t)
	local := NewLocal(vfs.NewMemory(), "/lake")
	l := newLife(t, local, cfg)
	if _, err := l.Recover(t.Context(), []connectors.Assignment{assignment(20)}); err != nil {
		t.Fatal(err)
	}
	if err := l.rename(t.Context(), l.prepared(t, 0, 10)); err != nil {
		t.Fatal(err)
	}
	if n, found := auditedView(t, local, cfg, nil, 0); n != 0 || len(found) > 0 {
		t.Fatalf("while the first commit is made: %d agree, %v", n, found)
	}
	local = NewLocal(vfs.NewMemory(), "/lake")
	if err := newLife(t, local, cfg).run(10); err != nil {
		t.Fatal(err)
	}
	l = newLife(t, local, cfg)
	if _, err := l.Recover(t.Context(), []connectors.Assignment{assignment(20)}); err != nil {
		t.Fatal(err)
	}
	if err := l.rename(t.Context(), l.prepared(t, 10, 20)); err != nil {
		t.Fatal(err)
	}
	if n, found := auditedView(t, local, cfg, logRange(0, 10), 10); n != 10 || len(found) > 0 {
		t.Fatalf("while the second commit is made: %d agree, %v", n, found)
	}
}

// The oldest manifest is pruned between the listing of the commits and its turn: its files are judged by their records alone.
func TestAuditWhileManifestsArePruned(t *testing.T) {
	cfg := hourly(t)
	local := NewLocal(vfs.NewMemory(), "/lake")
	if err := newLife(t, local, cfg).run(20); err != nil {
		t.Fatal(err)
	}
	if err := local.Remove(t.Context(), commitName(partitionID(topicID, 0), 0)+"/"+manifestFile); err != nil {
		t.Fatal(err)
	}
	if n, found := auditedView(t, local, cfg, logRange(0, 20), 20); n != 20 || len(found) > 0 {
		t.Fatalf("%d agree, %v", n, found)
	}
}

func TestAudit(t *testing.T) {
	ctx := context.Background()
	for _, compression := range []string{"none", "gzip", "zstd"} {
		for name, maker := range Formats() {
			format, err := maker(FormatOptions{Compression: compression})
			if err != nil {
				t.Fatal(err)
			}
			cfg := hourly(t)
			cfg.Format = format
			local := NewLocal(vfs.NewMemory(), "/lake")
			if err := newLife(t, local, cfg).run(50); err != nil {
				t.Fatal(err)
			}
			if n, found := audited(t, local, cfg, logRange(0, 50), 50); n != 50 || len(found) > 0 {
				t.Fatalf("%s %s: %d agree, %v", name, compression, n, found)
			}
			if n, found := audited(t, local, cfg, logRange(0, 53), 53); n != 50 || len(found) != 3 || found[0].Kind != connectors.MissingRecord {
				t.Fatalf("%s: records that no file has: %d %v", name, n, found)
			}
			if n, found := auditedView(t, local, cfg, logRange(0, 50), 50); n != 50 || len(found) > 0 {
				t.Fatalf("%s %s: at the newest commit %d agree, %v", name, compression, n, found)
			}
			if n, found := auditedView(t, local, cfg, logRange(0, 53), 50); n != 50 || len(found) != 3 || found[0].Kind != connectors.MissingRecord {
				t.Fatalf("%s: records beyond the newest commit: %d %v", name, n, found)
			}
			other := logRange(0, 50)
			other[7].RawValue = []byte("line changed")
			if n, found := audited(t, local, cfg, other, 50); n != 49 || len(found) != 1 || found[0].Kind != connectors.DifferentRecord {
				t.Fatalf("%s: a changed record: %d %v", name, n, found)
			}
			short := append(logRange(0, 30), logRange(31, 50)...)
			if _, found := audited(t, local, cfg, short, 50); len(found) == 0 {
				t.Fatalf("%s: a row that the log does not have is not found", name)
			}
			if err := writeFile(ctx, local, topic+"/dt=2026-11-22/hour=00/"+topic+"+0+0000000100+0000000101."+format.Extension(), []byte("x\n")); err != nil {
				t.Fatal(err)
			}
			if _, found := audited(t, local, cfg, logRange(0, 50), 200); len(found) != 2 || found[0].Kind != connectors.DoubledRecord {
				t.Fatalf("%s: a file too many: %v", name, found)
			}
			m, err := readManifest(ctx, local, commitName(partitionID(topicID, 0), 20))
			if err != nil {
				t.Fatal(err)
			}
			if err := local.Remove(ctx, m.Files[0].Name); err != nil {
				t.Fatal(err)
			}
			if _, found := audited(t, local, cfg, logRange(0, 50), 50); len(found) != 1+int(m.Files[0].Records) || found[0].Kind != connectors.MissingRecord {
				t.Fatalf("%s: a file that is gone: %v", name, found)
			}
		}
	}
}

func TestRefusedRecordsAreMissing(t *testing.T) {
	f := &lineFormat{extension: "x", newAppend: func() appendRecord {
		return func(dst []byte, r *connectors.Record) ([]byte, error) {
			if r.Offset%5 == 2 {
				return append(dst, "half"...), errors.New("cannot be written")
			}
			return append(append(dst, r.RawValue...), '\n'), nil
		}
	}}
	ctx := context.Background()
	local := NewLocal(vfs.NewMemory(), "/lake")
	l := newLife(t, local, Config{Format: f})
	if _, err := l.Recover(ctx, []connectors.Assignment{assignment(20)}); err != nil {
		t.Fatal(err)
	}
	rejects, err := l.Write(ctx, logRange(0, 20))
	if err != nil || len(rejects) != 4 || rejects[0].Index != 2 {
		t.Fatal(rejects, err)
	}
	if err := errors.Join(l.flush(), l.Close()); err != nil {
		t.Fatal(err)
	}
	n, found := audited(t, local, Config{Format: f}, logRange(0, 20), 20)
	if n != 16 || len(found) != 4 || found[0].Kind != connectors.MissingRecord || !strings.Contains(found[0].What, "offset 2: cannot be written") {
		t.Fatal(n, found)
	}
	last := at(22) // behind all files
	if n, found = audited(t, local, Config{Format: f}, append(logRange(0, 20), last), 23); n != 16 || len(found) != 5 || !strings.Contains(found[4].What, "offset 22: cannot be written") {
		t.Fatal(n, found)
	}
}

func TestOptionsThatDoNotFit(t *testing.T) {
	for _, o := range []FormatOptions{{Flatten: true}, {Coordinates: true}, {Compression: "snappy"}} {
		if _, err := NewText(o); err == nil {
			t.Errorf("text with %+v", o)
		}
	}
}

func FuzzCompact(f *testing.F) {
	for _, s := range []string{`{"a": [1, 2.5e-7, "x\n\u1234"], "b": {}}`, `"`, `[`, `-0.0`, ` null `, "\"\x7f\"", `{"a":}`, `[1,]`, "\xff", strings.Repeat("[", 2000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		got, ok := appendCompact([]byte("pre"), src)
		if !bytes.HasPrefix(got, []byte("pre")) {
			t.Fatal("what was there is gone")
		}
		valid := json.Valid(src) && bytes.Equal(bytes.ToValidUTF8(src, []byte("\x00?")), src)
		if ok != valid {
			if !ok && bytes.Count(src, []byte("["))+bytes.Count(src, []byte("{")) > maxJSONDepth {
				return
			}
			t.Fatalf("ok %v, valid %v: %q", ok, valid, src)
		}
		if !ok {
			if string(got) != "pre" {
				t.Fatalf("left %q", got)
			}
			return
		}
		var want bytes.Buffer
		if err := json.Compact(&want, src); err != nil || want.String() != string(got[3:]) {
			t.Fatalf("%q: %q, json.Compact %q %v", src, got[3:], want.String(), err)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"topic":"t","start_offset":0,"next_offset":5,"files":[{"temp":"_forebay/tmp/x/1","name":"t/a","first_offset":0,"last_offset":4}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if strings.HasPrefix(file.Name, "/") || strings.Contains("/"+file.Name+"/", "/../") {
				t.Fatalf("%q leaves the folder", file.Name)
			}
		}
	})
}

func BenchmarkJSONPassThrough(b *testing.B) {
	line := []byte(fmt.Sprintf(`{"before":null,"after":{"id":1,"name":%q,"price":12.5},"source":{"lsn":1234567},"op":"c"}`, strings.Repeat("x", 100)))
	r := connectors.Record{RawValue: line}
	f, err := NewJSON(FormatOptions{})
	if err != nil {
		b.Fatal(err)
	}
	e, err := f.NewEncoder(io.Discard, &r)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Write(&r); err != nil {
			b.Fatal(err)
		}
	}
}
