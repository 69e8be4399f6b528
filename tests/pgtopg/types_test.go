package pgtopg

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// kinds: a column type and values of it. The target has the same type and the same
// text, but for what as and text say: what is lost on the way into the log
// (docs/formats/postgres-sink.md).
var kinds = []struct {
	typ    string
	values []string
	as     string // the target's type, if another
	text   string // a query's form of the column that both sides agree on
}{
	{typ: "boolean", values: []string{"true", "false"}},
	{typ: "bit(1)", values: []string{"B'1'", "B'0'"}},
	{typ: "bit(12)", values: []string{"B'000000010011'", "B'000000000000'", "B'111111111111'"}},
	{typ: "bit varying(20)", values: []string{"B'1100000000000000001'"}},
	{typ: "smallint", values: []string{"-32768"}},
	{typ: "integer", values: []string{"2147483647"}},
	{typ: "bigint", values: []string{"-9223372036854775808"}},
	{typ: "oid", values: []string{"4294967295"}},
	{typ: "real", values: []string{"1.1", "'-Infinity'", "'NaN'", "1e-30"}},
	{typ: "double precision", values: []string{"0.1", "'Infinity'", "1e300", "123456789012345680"}},
	{typ: "numeric(10,2)", values: []string{"-1.28", "0", "-0.01", "99999999.99"}},
	{typ: "numeric(5,0)", values: []string{"128"}},
	{typ: "numeric(38,4)", values: []string{"99999999999999999999999999.0001", "-99999999999999999999999999.0001"}},
	{typ: "numeric", values: []string{"-12.3400", "1e40", "0.00000000000000000000000000000000000001"}, text: "trim_scale(%s)"},
	{typ: "money", values: []string{"'-$1,234.50'"}},
	{typ: "text", values: []string{`E'tab\tnew\nline\\back\rx'`, "''", `'\N'`, `'\.'`, "'ü€😀'"}},
	{typ: "character varying(20)", values: []string{`'\N'`}},
	{typ: "character(5)", values: []string{"'ab'"}},
	{typ: "name", values: []string{"'n'"}},
	{typ: `"char"`, values: []string{"'c'"}},
	{typ: "bytea", values: []string{`'\x00ff5c0a'`, `'\x'`}},
	{typ: "date", values: []string{"'2024-02-29'", "'0044-03-15 BC'", "'infinity'", "'-infinity'", "'5874897-01-01'", "'0001-01-01'", "'0001-12-31 BC'"}},
	{typ: "time without time zone", values: []string{"'13:51:30.123456'", "'24:00:00'", "'00:00:00.000001'"}},
	{typ: "time(3) without time zone", values: []string{"'13:51:30.123'"}},
	{typ: "time(0) without time zone", values: []string{"'13:51:30'"}},
	{typ: "time with time zone", values: []string{"'13:51:30.1+02:30'"}, text: "%s AT TIME ZONE 'UTC'"},
	{typ: "timestamp without time zone", values: []string{"'2016-11-04 13:51:30.123456'", "'1936-10-25 22:10:12.608'", "'infinity'", "'-infinity'", "'4713-01-01 00:00:00 BC'"}},
	{typ: "timestamp(3) without time zone", values: []string{"'2016-11-04 13:51:30.123'", "'infinity'", "'1936-10-25 22:10:12.608'"}},
	{typ: "timestamp(1) without time zone", values: []string{"'2016-11-04 13:51:30.1'"}},
	{typ: "timestamp with time zone", values: []string{"'2016-11-04 13:51:30.12+02'", "'21016-11-04 06:51:30+00'", "'4713-12-31 23:59:59.999999 BC +00'", "'infinity'", "'0001-06-01 BC +00'"}},
	{typ: "timestamp(0) with time zone", values: []string{"'2016-11-04 13:51:30+02'"}},
	{typ: "interval", values: []string{"'4 hours 5 minutes 6.78 seconds'", "'-100 hours'", "'0'"}},
	{typ: "json", values: []string{`'{"a":   "\u00e9\\n", "a": "\u0000"}'`}},
	{typ: "jsonb", values: []string{`'{"b": [1, 2],   "a": null, "t": "\\u0000"}'`}},
	{typ: "xml", values: []string{"'<a>b</a>'"}},
	{typ: "uuid", values: []string{"'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"}},
	{typ: "mood", values: []string{"'ok'"}, as: "text"},
	{typ: "price", values: []string{"12.5"}, as: "numeric(8,2)"},
	{typ: "inet", values: []string{"'192.168.0.1/24'", "'::1'"}},
	{typ: "cidr", values: []string{"'10.0.0.0/8'"}},
	{typ: "macaddr", values: []string{"'08:00:2b:01:02:03'"}},
	{typ: "int4range", values: []string{"'[1,5]'", "'empty'"}},
	{typ: "tstzrange", values: []string{"'[2016-01-01 00:00+00,)'"}},
	{typ: "datemultirange", values: []string{"'{[2016-01-01,2016-02-01), [2017-01-01,)}'"}},
	{typ: "citext", values: []string{"'MiXed'"}},
	{typ: "hstore", values: []string{`'a=>1, "b c"=>NULL, d=>"x\"y\\z"'`, "''"}},
	{typ: "point", values: []string{"'(1.5,-2)'"}},
	{typ: "box", values: []string{"'(1,1),(0,0)'"}},
	{typ: "circle", values: []string{"'<(1,1),2>'"}},
	{typ: "tsvector", values: []string{"'a:1 b:2A'"}},
	{typ: "integer[]", values: []string{"'{1,NULL,-3}'", "'{}'"}},
	{typ: "text[]", values: []string{`ARRAY['a b','c"d\e','NULL',NULL,'','{}',E'\t']`}},
	{typ: "boolean[]", values: []string{"'{t,f,NULL}'"}},
	{typ: "numeric(6,1)[]", values: []string{"'{1.5,-0.1}'"}},
	{typ: "timestamp with time zone[]", values: []string{`'{"2016-11-04 13:51:30+02"}'`}},
	{typ: "timestamp without time zone[]", values: []string{`'{"2016-11-04 13:51:30"}'`}},
	{typ: "date[]", values: []string{`'{2016-11-04}'`}},
	{typ: "bytea[]", values: []string{`ARRAY['\x0102'::bytea, '\x']`}},
	{typ: "jsonb[]", values: []string{`ARRAY['{"a": "b\"c"}'::jsonb]`}},
	{typ: "inet[]", values: []string{`'{10.0.0.1}'`}},
	{typ: "uuid[]", values: []string{`'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'`}},
	{typ: "character varying(7)[]", values: []string{`'{abc}'`}},
	{typ: "box[]", values: []string{`'{(1,1),(0,0);(2,2),(1,1)}'`}},
}

// TestTypes: every type comes back as it was, through snapshot and stream.
func TestTypes(t *testing.T) {
	source, target := testenv.Postgres(t), testenv.Postgres(t)
	source.Exec("CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad','ok','happy'); CREATE DOMAIN price AS numeric(8,2)")
	target.Exec("CREATE EXTENSION citext; CREATE EXTENSION hstore")
	var cols []string
	most := 0
	for i, k := range kinds {
		cols = append(cols, fmt.Sprintf("c%d %s", i, k.typ))
		most = max(most, len(k.values))
	}
	source.Exec("CREATE TABLE every (id int PRIMARY KEY, pass int, " + strings.Join(cols, ", ") + ")")
	for row := range most + 1 { // the last one is all null
		vals := []string{fmt.Sprint(row), "0"}
		for _, k := range kinds {
			v := "NULL"
			if row < len(k.values) {
				v = k.values[row]
			}
			vals = append(vals, v)
		}
		source.Exec("INSERT INTO every VALUES (" + strings.Join(vals, ", ") + ")")
	}
	env := []string{"SLOT=types_" + source.Database, "SOURCE=" + source.URL, "TARGET=" + target.URL}
	dir := t.TempDir()
	n := node.New(t, node.WriteFile(t, dir, "job.yaml", config), "--data", dir+"/data")
	n.Setenv(env...)
	n.Start()
	for pass := range 2 {
		if pass == 1 {
			source.Exec("UPDATE every SET pass = 1")
		}
		until(t, func() bool {
			return scalar(t, target.URL, "SELECT (to_regclass('copy.every') IS NOT NULL AND to_regclass('history.every') IS NOT NULL)::text") == "true" &&
				scalar(t, target.URL, fmt.Sprintf("SELECT count(*)::text FROM copy.every WHERE pass = %d", pass)) == fmt.Sprint(most+1)
		})
		for i, k := range kinds {
			want := k.as
			if want == "" {
				want = k.typ
			}
			c := fmt.Sprintf("c%d", i)
			if got := scalar(t, target.URL, "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'copy.every'::regclass AND attname = '"+c+"'"); got != want {
				t.Errorf("%s became %s", k.typ, got)
			}
			form := c
			if k.text != "" {
				form = fmt.Sprintf(k.text, c)
			}
			sql := "SELECT coalesce((" + form + ")::text, 'null') FROM %s.every ORDER BY id"
			a, b := list(t, source.URL, fmt.Sprintf(sql, "public")), list(t, target.URL, fmt.Sprintf(sql, "copy"))
			if strings.Join(a, "\x00") != strings.Join(b, "\x00") {
				t.Errorf("pass %d, %s: %q became %q", pass, k.typ, a, b)
			}
		}
	}
}

// until asks until the answer is yes.
func until(t *testing.T, yes func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		if time.Now().After(deadline) {
			t.Fatal("the target did not get there within 30 s")
		}
		<-tick.C
	}
}
