package avro

import (
	"bytes"
	"context"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/sinks/internal/files"
	"github.com/forebayhub/forebay/sinks/internal/table/tabletest"
)

func formatOf(t testing.TB, o files.FormatOptions) files.Format {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFormat(t *testing.T) { tabletest.Run(t, formatOf) }

// many are records of more than one block.
func many(n int64) []*connectors.Record {
	var out []*connectors.Record
	for i := range n {
		r := tabletest.Row(i)
		r.List[16] = schema.BytesOf(tabletest.Twos((i - n/2) * 10_000_000_000))
		r.List[6] = schema.StringOf(string(rune('a'+i%26)) + "-" + time.UnixMilli(i).UTC().String())
		out = append(out, tabletest.Change(connectors.OpCreate, i, schema.Value{}, r))
	}
	return out
}

// What another reader sees: fastavro, types and values, with each codec.
func TestFastavroAgrees(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, o files.FormatOptions, rs ...*connectors.Record) {
		if err := os.WriteFile(filepath.Join(dir, name), tabletest.Encode(t, formatOf(t, o), rs...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("changes.avro", files.FormatOptions{}, tabletest.Changes()...)
	truncate := tabletest.Change(connectors.OpTruncate, 20, schema.Value{}, schema.Value{})
	write("truncate.avro", files.FormatOptions{}, truncate, tabletest.Change(connectors.OpCreate, 21, schema.Value{}, tabletest.Full(5)))
	write("lines.avro", files.FormatOptions{}, &connectors.Record{Topic: "1-web.logs", Offset: 4, Timestamp: time.UnixMilli(1_700_000_000_000), RawValue: []byte("GET / \xff"),
		Headers: []connectors.Header{{Key: "host", Value: []byte("web-1")}, {Key: "path", Value: []byte("/var/log/a")}}})
	for name := range codecs {
		write("many-"+name+".avro", files.FormatOptions{Compression: name}, many(5000)...)
	}
	named := tabletest.Change(connectors.OpCreate, 1, schema.Value{}, schema.StructOf(schema.Int64Of(1), schema.Int64Of(2), schema.Int64Of(3),
		schema.MapOf(schema.Int64Of(7), schema.StringOf("seven"))))
	named.Key = connectors.Datum{}
	long := tabletest.Type(schema.Int64, "")
	named.Change.Row = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "1st col", Schema: long}, {Name: "_1st_col", Schema: long}, {Name: "größe", Schema: long},
		{Name: "pairs", Schema: &schema.Schema{Kind: schema.Map, Key: long, Elem: tabletest.Type(schema.String, "")}}}}
	write("names.avro", files.FormatOptions{Coordinates: true}, named)

	script := filepath.Join(dir, "check.py")
	if err := os.WriteFile(script, []byte(check), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, testenv.Python(t), script, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

const check = `
import sys, datetime as dt
from decimal import Decimal as D
import fastavro
dir = sys.argv[1]
utc = dt.timezone.utc

def same(what, got, want):
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")

def read(name):
    with open(dir + "/" + name, "rb") as f:
        r = fastavro.reader(f)
        return list(r), r.writer_schema, r.metadata

rows, s, meta = read("changes.avro")
same("name", (s["name"], meta["forebay.format"]), ("shop.public.t", "1"))
fields = {f["name"]: f for f in s["fields"]}
same("required", [n for n, f in fields.items() if not isinstance(f["type"], list)], ["id", "_op", "_offset"])
logical = {n: f["type"][1]["logicalType"] for n, f in fields.items() if isinstance(f["type"], list) and isinstance(f["type"][1], dict) and "logicalType" in f["type"][1]}
same("logical types", logical, {"d": "date", "ts3": "local-timestamp-millis", "ts6": "local-timestamp-micros", "tz": "timestamp-micros",
  "n5": "decimal", "n18": "decimal", "n38": "decimal", "_ts": "timestamp-millis"})
same("row", {k: v for k, v in rows[0].items() if k != "_unchanged"}, {
  "id": 1, "b": True, "i2": -7, "i4": 2147483647, "f4": 1.5, "f8": -2.25, "txt": "żółw 🐢", "raw": b"\x00\xff\x01",
  "d": dt.date(2024, 10, 4), "t6": "23:59:59.999999", "t3": "00:00:00.001",
  "ts3": dt.datetime(2023, 11, 14, 22, 13, 20, 123000), "ts6": dt.datetime(1969, 12, 31, 23, 59, 58, 999999),
  "tz": dt.datetime(2024, 2, 29, 23, 59, 59, 1, tzinfo=utc), "n5": D("-123.45"), "n18": D("-123456789012.345678"),
  "n38": D("-0.0000000001"), "n60": "-98.765", "nvar": "100.0001", "js": '{"k": [1, 2]}',
  "u": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "a": [1, None, 3], "m": {"x": "1", "y": None},
  "nn": [[1, 2], [], None], "p": {"x": 1.0, "y": None}, "_op": "r",
  "_ts": dt.datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=utc), "_offset": 10})
same("nulls", {k: v for k, v in rows[1].items() if v is not None}, {"id": 2, "_op": "c", "_ts": rows[0]["_ts"], "_offset": 11})
same("unchanged", [r["_unchanged"] for r in rows], [None, None, ["txt", "a"], None])
same("delete", {k: v for k, v in rows[3].items() if v is not None}, {"id": 2, "_op": "d", "_ts": rows[0]["_ts"], "_offset": 14})

t, _, _ = read("truncate.avro")
same("truncate", {k: v for k, v in t[0].items() if v is not None}, {"_op": "t", "_ts": rows[0]["_ts"], "_offset": 20})
same("after it", t[1]["id"], 5)

l, s, _ = read("lines.avro")
same("line", l, [{"value": "GET / \ufffd", "_headers": {"host": "web-1", "path": "/var/log/a"},
  "_ts": dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=utc), "_offset": 4}])
same("name of a topic that is none of Avro's", s["name"], "_1_web.logs")

for codec, name in {"none": "null", "gzip": "deflate", "snappy": "snappy", "zstd": "zstandard"}.items():
    m, _, meta = read(f"many-{codec}.avro")
    same("codec", meta["avro.codec"], name)
    same("many", [(r["id"], r["n38"]) for r in m], [(i, D(i - 2500)) for i in range(5000)])

n, s, _ = read("names.avro")
same("columns", {k: v for k, v in n[0].items() if k not in ("_ts", "_timestamp", "_unchanged")}, {"_1st_col": 1, "_1st_col_": 2, "gr__e": 3,
  "pairs": [{"key": 7, "value": "seven"}], "_op": "c", "_offset": 1, "_topic": "shop.public.t", "_partition": 0, "_key": '{"id":1}'})
same("their own names", [f.get("forebay.column") for f in s["fields"][:4]], ["1st col", "_1st_col", "größe", None])
`

func TestBlocksAreCompared(t *testing.T) {
	rs := many(5000)
	for name := range codecs {
		f := formatOf(t, files.FormatOptions{Compression: name})
		file := tabletest.Encode(t, f, rs...)
		if found := tabletest.Compare(t, f, file, rs...); len(found) != 0 {
			t.Errorf("%s: %q", name, found)
		}
		file[len(file)*2/3] ^= 0x40
		if found := tabletest.Compare(t, f, file, rs...); len(found) == 0 {
			t.Errorf("%s: a flipped bit was not seen", name)
		}
	}
}

func TestTwosComplement(t *testing.T) {
	for n, want := range map[int64][]byte{0: {0}, 1: {1}, 127: {127}, 128: {0, 128}, -1: {255}, -128: {128}, -129: {255, 127}, -32768: {128, 0}, -32769: {255, 127, 255}} {
		if got := twos(big.NewInt(n)); !bytes.Equal(got, want) {
			t.Errorf("%d is %x, want %x", n, got, want)
		}
	}
}

// Any bytes are a difference and nothing else, and memory stays within what is there.
func FuzzCompare(f *testing.F) {
	form := formatOf(f, files.FormatOptions{Compression: "none"})
	file := tabletest.Encode(f, form, tabletest.Changes()...)
	f.Add(file)
	f.Add(tabletest.Encode(f, formatOf(f, files.FormatOptions{}), tabletest.Changes()...))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		found := tabletest.Compare(t, form, data, tabletest.Changes()...)
		if len(found) == 0 && !bytes.Contains(data, []byte("shop")) {
			t.Errorf("%d bytes hold all records", len(data))
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	for _, codec := range []string{"none", "snappy", "zstd"} {
		b.Run(codec, func(b *testing.B) {
			rs := many(1024)
			e, err := formatOf(b, files.FormatOptions{Compression: codec}).NewEncoder(io.Discard, rs[0])
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			rows := 0
			for b.Loop() {
				if err := e.Write(rs[rows%len(rs)]); err != nil {
					b.Fatal(err)
				}
				rows++
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(e.Size())/float64(rows), "B/row")
		})
	}
}
