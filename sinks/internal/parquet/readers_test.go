package parquet

import (
	"context"
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

// What other people's readers see: pyarrow and DuckDB, types and values.
func TestPyarrowAndDuckDBAgree(t *testing.T) {
	f, _ := makeFormat(t, files.FormatOptions{})
	dir := t.TempDir()
	write := func(name string, rs ...*connectors.Record) {
		if err := os.WriteFile(filepath.Join(dir, name), tabletest.Encode(t, f, rs...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("changes.parquet", tabletest.Changes()...)
	truncate := tabletest.Change(connectors.OpTruncate, 20, schema.Value{}, schema.Value{})
	write("truncate.parquet", truncate, tabletest.Change(connectors.OpCreate, 21, schema.Value{}, tabletest.Full(5)))
	write("lines.parquet", &connectors.Record{Offset: 4, Timestamp: time.UnixMilli(1_700_000_000_000), RawValue: []byte("GET / \xff"),
		Headers: []connectors.Header{{Key: "host", Value: []byte("web-1")}, {Key: "path", Value: []byte("/var/log/a")}}})
	// Bounds must never hide a row: many pages and row groups of a signed decimal and of long texts.
	var many []*connectors.Record
	for i := range int64(20_000) {
		r := tabletest.Row(i)
		r.List[16] = schema.BytesOf(tabletest.Twos((i - 10_000) * 10_000_000_000))
		r.List[6] = schema.StringOf(string(rune('a'+i%26)) + "-" + time.UnixMilli(i).String())
		many = append(many, tabletest.Change(connectors.OpCreate, i, schema.Value{}, r))
	}
	write("many.parquet", many...)

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
import pyarrow as pa, pyarrow.parquet as pq, duckdb
dir = sys.argv[1]
utc = dt.timezone.utc

def same(what, got, want):
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")

t = pq.read_table(dir + "/changes.parquet")
want = {"id": pa.int64(), "b": pa.bool_(), "i2": pa.int16(), "i4": pa.int32(), "f4": pa.float32(), "f8": pa.float64(),
  "txt": pa.string(), "raw": pa.binary(), "d": pa.date32(), "t6": pa.string(), "t3": pa.string(), "ts3": pa.timestamp("ms"),
  "ts6": pa.timestamp("us"), "tz": pa.timestamp("us", tz="UTC"), "n5": pa.decimal128(5, 2), "n18": pa.decimal128(18, 6),
  "n38": pa.decimal128(38, 10), "n60": pa.string(), "nvar": pa.string(), "u": pa.string(), "_op": pa.string(),
  "_ts": pa.timestamp("ms", tz="UTC"), "_offset": pa.int64()}
for name, typ in want.items():
    same("type of " + name, t.schema.field(name).type, typ)
same("nullable", [f.name for f in t.schema if not f.nullable], ["id", "_op", "_offset"])
rows = t.to_pylist()
same("row", {k: v for k, v in rows[0].items() if k not in ("_unchanged",)}, {
  "id": 1, "b": True, "i2": -7, "i4": 2147483647, "f4": 1.5, "f8": -2.25, "txt": "żółw 🐢", "raw": b"\x00\xff\x01",
  "d": dt.date(2024, 10, 4), "t6": "23:59:59.999999", "t3": "00:00:00.001",
  "ts3": dt.datetime(2023, 11, 14, 22, 13, 20, 123000), "ts6": dt.datetime(1969, 12, 31, 23, 59, 58, 999999),
  "tz": dt.datetime(2024, 2, 29, 23, 59, 59, 1, tzinfo=utc), "n5": D("-123.45"), "n18": D("-123456789012.345678"),
  "n38": D("-0.0000000001"), "n60": "-98.765", "nvar": "100.0001", "js": '{"k": [1, 2]}',
  "u": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "a": [1, None, 3], "m": [("x", "1"), ("y", None)],
  "nn": [[1, 2], [], None], "p": {"x": 1.0, "y": None}, "_op": "r",
  "_ts": dt.datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=utc), "_offset": 10})
same("nulls", {k: v for k, v in rows[1].items() if v is not None}, {"id": 2, "_op": "c", "_ts": rows[0]["_ts"], "_offset": 11})
same("unchanged", [r["_unchanged"] for r in rows], [None, None, ["txt", "a"], None])
same("delete", {k: v for k, v in rows[3].items() if v is not None}, {"id": 2, "_op": "d", "_ts": rows[0]["_ts"], "_offset": 14})

t = pq.read_table(dir + "/truncate.parquet").to_pylist()
same("truncate", {k: v for k, v in t[0].items() if v is not None}, {"_op": "t", "_ts": rows[0]["_ts"], "_offset": 20})
same("after it", t[1]["id"], 5)

l = pq.read_table(dir + "/lines.parquet").to_pylist()
same("line", l, [{"value": "GET / \ufffd", "_headers": [("host", "web-1"), ("path", "/var/log/a")],
  "_ts": dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=utc), "_offset": 4}])

con = duckdb.connect()
con.execute("set timezone = 'UTC'")
q = lambda sql: con.execute(sql.replace("DIR", dir)).fetchall()
types = dict((r[0], r[1]) for r in q("describe select * from 'DIR/changes.parquet'"))
for name, typ in {"id": "BIGINT", "i2": "SMALLINT", "f4": "FLOAT", "d": "DATE", "ts6": "TIMESTAMP", "tz": "TIMESTAMP WITH TIME ZONE",
    "n5": "DECIMAL(5,2)", "n18": "DECIMAL(18,6)", "n38": "DECIMAL(38,10)", "txt": "VARCHAR", "raw": "BLOB", "js": "JSON",
    "a": "INTEGER[]", "m": "MAP(VARCHAR, VARCHAR)", "nn": "INTEGER[][]", "_unchanged": "VARCHAR[]"}.items():
    same("DuckDB's type of " + name, types[name], typ)
same("DuckDB's row", q("select id, d, ts6, n38, t6::time, a, m, p.x, js->>'k', u::uuid::varchar, _unchanged from 'DIR/changes.parquet' where _offset = 10"),
  [(1, dt.date(2024, 10, 4), dt.datetime(1969, 12, 31, 23, 59, 58, 999999), D("-0.0000000001"), dt.time(23, 59, 59, 999999),
    [1, None, 3], {"x": "1", "y": None}, 1.0, "[1,2]", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", None)])
same("both files", q("select count(*), count(id) from read_parquet(['DIR/changes.parquet', 'DIR/truncate.parquet'])"), [(6, 5)])
same("count", q("select count(*), sum(id), min(n38), max(n38) from 'DIR/many.parquet'"),
  [(20000, 199990000, D("-10000.0000000000"), D("9999.0000000000"))])
for i in (0, 1, 9999, 10000, 10001, 19999):
    same("filter", q(f"select id from 'DIR/many.parquet' where n38 = {i - 10000}"), [(i,)])
    same("filter", pq.read_table(dir + "/many.parquet", columns=["id"], filters=[("n38", "=", D(i - 10000))])["id"].to_pylist(), [i])
    same("filter", q(f"select id from 'DIR/many.parquet' where txt = (select txt from 'DIR/many.parquet' where id = {i})"), [(i,)])
m = pq.ParquetFile(dir + "/many.parquet").metadata
same("creator", m.created_by, "forebay")
`

func BenchmarkWrite(b *testing.B) {
	fields := []schema.Field{{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}}}
	for _, n := range []string{"customer", "product"} {
		fields = append(fields, schema.Field{Name: n, Schema: tabletest.Type(schema.Int32, "")})
	}
	fields = append(fields, schema.Field{Name: "amount", Schema: tabletest.Type(schema.Bytes, "org.apache.kafka.connect.data.Decimal", "scale", "2", "connect.decimal.precision", "10")},
		schema.Field{Name: "status", Schema: tabletest.Type(schema.String, "")}, schema.Field{Name: "note", Schema: tabletest.Type(schema.String, "")},
		schema.Field{Name: "created", Schema: tabletest.Type(schema.Int64, "io.debezium.time.MicroTimestamp")},
		schema.Field{Name: "updated", Schema: tabletest.Type(schema.String, "io.debezium.time.ZonedTimestamp")},
		schema.Field{Name: "paid", Schema: tabletest.Type(schema.Bool, "")}, schema.Field{Name: "score", Schema: tabletest.Type(schema.Float64, "")})
	table := &schema.Schema{Kind: schema.Struct, Fields: fields}
	rs := make([]*connectors.Record, 1024)
	for i := range rs {
		n := int64(i)
		rs[i] = tabletest.Change(connectors.OpCreate, n, schema.Value{}, schema.StructOf(schema.Int64Of(n), schema.Int32Of(int32(n%100)), schema.Int32Of(int32(n*7)),
			schema.BytesOf(tabletest.Twos(n*31)), schema.StringOf([]string{"new", "paid", "shipped"}[i%3]), schema.StringOf("a note about order "+time.UnixMilli(n).String()),
			schema.Int64Of(1_700_000_000_000_000+n*1000), schema.StringOf("2026-11-22T10:20:30.123456Z"), schema.BoolOf(i%2 == 0), schema.Float64Of(float64(n)*1.1)))
		rs[i].Change.Row = table
	}
	for _, codec := range []string{"none", "snappy", "zstd"} {
		b.Run(codec, func(b *testing.B) {
			f, _ := makeFormat(b, files.FormatOptions{Compression: codec})
			var n counter
			n.w = discard{}
			e, err := f.NewEncoder(&n, rs[0])
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			rows := 0
			for b.Loop() {
				r := rs[rows%len(rs)]
				r.Offset = int64(rows)
				if !f.Fits(e, r) {
					b.Fatal("does not fit")
				}
				if err := e.Write(r); err != nil {
					b.Fatal(err)
				}
				rows++
			}
			if err := e.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(n.n)/float64(rows), "B/row")
		})
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
