package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// typeCases: column type, literal, schema (kind, name, params), value. The value
// must be the same from the snapshot's COPY and from the stream.
var typeCases = []struct{ typ, literal, schema, value string }{
	{"bool", "true", "bool", "true"},
	{"bit(1)", "B'1'", "bool", "true"},
	{"bit(12)", "B'000000010011'", "bytes io.debezium.data.Bits map[length:12]", "13"},
	{"varbit(20)", "B'1100000000000000001'", "bytes io.debezium.data.Bits map[length:20]", "010006"},
	{"int2", "-32768", "int16", "-32768"},
	{"int4", "2147483647", "int32", "2147483647"},
	{"int8", "-9223372036854775808", "int64", "-9223372036854775808"},
	{"oid", "4294967295", "int64", "4294967295"},
	{"float4", "1.1", "float", "1.100000023841858"},
	{"float8", "'-Infinity'", "double", "-Inf"},
	{"float8", "0.1", "double", "0.1"},
	{"numeric(10,2)", "-1.28", "bytes org.apache.kafka.connect.data.Decimal map[connect.decimal.precision:10 scale:2]", "80"},
	{"numeric(5)", "128", "bytes org.apache.kafka.connect.data.Decimal map[connect.decimal.precision:5 scale:0]", "0080"},
	{"numeric(38,4)", "99999999999999999999999999.0001", "bytes org.apache.kafka.connect.data.Decimal map[connect.decimal.precision:38 scale:4]", "0c9f2c9cd04674edea3fffd8f1"},
	{"numeric(10,2)", "'NaN'", "bytes org.apache.kafka.connect.data.Decimal map[connect.decimal.precision:10 scale:2]", "null"},
	{"numeric", "-12.3400", "struct io.debezium.data.VariableScaleDecimal", "{scale=2 value=fb2e}"},
	{"money", "'-$1,234.50'", "bytes org.apache.kafka.connect.data.Decimal map[scale:2]", "fe1dc6"},
	{"text", `E'tab\tnew\nline\\back'`, "string", "tab\tnew\nline\\back"},
	{"text", `''`, "string", ""},
	{"varchar(20)", `'\N'`, "string", `\N`},
	{"char(5)", "'ab'", "string", "ab   "},
	{"name", "'n'", "string", "n"},
	{"bytea", `'\x00ff5c0a'`, "bytes", "00ff5c0a"},
	{"date", "'2024-02-29'", "int32 io.debezium.time.Date", "19782"},
	{"date", "'0044-03-15 BC'", "int32 io.debezium.time.Date", "-735160"},
	{"date", "'infinity'", "int32 io.debezium.time.Date", "2147483647"},
	{"time", "'13:51:30.123456'", "int64 io.debezium.time.MicroTime", "49890123456"},
	{"time(3)", "'13:51:30.123'", "int32 io.debezium.time.Time", "49890123"},
	{"time", "'24:00:00'", "int64 io.debezium.time.MicroTime", "86400000000"},
	{"timetz", "'13:51:30.1+02:30'", "string io.debezium.time.ZonedTime", "11:21:30.1Z"},
	{"timestamp", "'2016-11-04 13:51:30.123456'", "int64 io.debezium.time.MicroTimestamp", "1478267490123456"},
	{"timestamp(3)", "'2016-11-04 13:51:30.123'", "int64 io.debezium.time.Timestamp", "1478267490123"},
	{"timestamp", "'1936-10-25 22:10:12.608'", "int64 io.debezium.time.MicroTimestamp", "-1047174587392000"},
	{"timestamp", "'infinity'", "int64 io.debezium.time.MicroTimestamp", "9223372036825200000"},
	{"timestamp", "'-infinity'", "int64 io.debezium.time.MicroTimestamp", "-9223372036832400000"},
	{"timestamp", "'294276-12-31 23:59:59.999999'", "int64 io.debezium.time.MicroTimestamp", "9223372036825200000"},
	{"timestamp", "'294247-01-10 04:00:25.199999'", "int64 io.debezium.time.MicroTimestamp", "9223372036825199999"},
	{"timestamp", "'294247-01-10 04:00:54.775807'", "int64 io.debezium.time.MicroTimestamp", "9223372036825200000"},
	{"timestamp", "'4714-11-24 00:00:00.000001 BC'", "int64 io.debezium.time.MicroTimestamp", "-210866803199999999"},
	{"timestamp(3)", "'294276-12-31 23:59:59.999'", "int64 io.debezium.time.Timestamp", "9224318015999999"},
	{"timestamp(3)", "'1969-12-31 23:59:59.999'", "int64 io.debezium.time.Timestamp", "-1"},
	{"timestamp(3)", "'-infinity'", "int64 io.debezium.time.Timestamp", "-9223372036832400"},
	{"timestamptz", "'2016-11-04 13:51:30.12+02'", "string io.debezium.time.ZonedTimestamp", "2016-11-04T11:51:30.120000Z"},
	{"timestamptz(0)", "'2016-11-04 13:51:30+02'", "string io.debezium.time.ZonedTimestamp", "2016-11-04T11:51:30Z"},
	{"timestamptz", "'21016-11-04 06:51:30+00'", "string io.debezium.time.ZonedTimestamp", "+21016-11-04T06:51:30.000000Z"},
	{"timestamptz", "'4714-12-31 23:59:59.999999 BC +00'", "string io.debezium.time.ZonedTimestamp", "-4713-12-31T23:59:59.999999Z"},
	{"timestamptz", "'infinity'", "string io.debezium.time.ZonedTimestamp", "infinity"},
	{"interval", "'1 year 2 months 3 days 4 hours 5 minutes 6.78 seconds'", "int64 io.debezium.time.MicroDuration", "37091106780000"},
	{"interval", "'-1 month +3 hours -0.5 seconds'", "int64 io.debezium.time.MicroDuration", "-2619000500000"},
	{"interval", "'0'", "int64 io.debezium.time.MicroDuration", "0"},
	{"interval", "'1000000 years'", "int64 io.debezium.time.MicroDuration", "9223372036854775807"},
	{"interval", "'-178000000 years 5 days'", "int64 io.debezium.time.MicroDuration", "-9223372036854775808"},
	{"interval", "'300000 years -109500000 days 1.5 seconds'", "int64 io.debezium.time.MicroDuration", "6480000001500000"},
	{"interval", "'2562047788:00:54.775807'", "int64 io.debezium.time.MicroDuration", "9223372036854775807"},
	{"interval", "'-2562047788:00:54.5'", "int64 io.debezium.time.MicroDuration", "-9223372036854500000"},
	{"json", `'{"a": "\u00e9\\n"}'`, "string io.debezium.data.Json", `{"a": "\u00e9\\n"}`},
	{"jsonb", `'{"b": [1, 2],   "a": null}'`, "string io.debezium.data.Json", `{"a": null, "b": [1, 2]}`},
	{"uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "string io.debezium.data.Uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
	{"mood", "'ok'", "string io.debezium.data.Enum map[allowed:sad,ok,happy]", "ok"},
	{"inet", "'192.168.0.1/24'", "string", "192.168.0.1/24"},
	{"cidr", "'10.0.0.0/8'", "string", "10.0.0.0/8"},
	{"macaddr", "'08:00:2b:01:02:03'", "string", "08:00:2b:01:02:03"},
	{"int4range", "'[1,5]'", "string", "[1,6)"},
	{"tstzrange", "'[2016-01-01 00:00+00,)'", "string", `["2016-01-01 00:00:00+00",)`},
	{"citext", "'MiXed'", "string", "MiXed"},
	{"hstore", `'a=>1, "b c"=>NULL, d=>"x\"y"'`, "string io.debezium.data.Json", `{"a":"1","d":"x\"y","b c":null}`},
	{"point", "'(1.5,-2)'", "struct io.debezium.data.geometry.Point", "{x=1.5 y=-2 wkb=0101000000000000000000f83f00000000000000c0 srid=null}"},
	{"box", "'(1,1),(0,0)'", "string", "(1,1),(0,0)"},
	{"tsvector", "'a b'", "string io.debezium.data.TsVector", "'a' 'b'"},
	{"int4[]", "'{1,NULL,-3}'", "array of int32", "{1 null -3}"},
	{"text[]", `ARRAY['a b','c"d\e','NULL',NULL,'']`, "array of string", `{a b c"d\e NULL null }`},
	{"int4[]", "'{{1,2},{3,4}}'", "array of int32", "{1 2 3 4}"},
	{"int4[]", "'{}'", "array of int32", "{}"},
	{"numeric(6,1)[]", "'{1.5,-0.1}'", "array of bytes org.apache.kafka.connect.data.Decimal map[connect.decimal.precision:6 scale:1]", "{0f ff}"},
	{"timestamptz[]", `'{"2016-11-04 13:51:30+02"}'`, "array of string io.debezium.time.ZonedTimestamp", "{2016-11-04T11:51:30.000000Z}"},
	{"bytea[]", `ARRAY['\x0102'::bytea]`, "array of bytes", "{0102}"},
	{"mood[]", "'{sad,happy}'", "array of string io.debezium.data.Enum map[allowed:sad,ok,happy]", "{sad happy}"},
	{"price", "12.5", "bytes org.apache.kafka.connect.data.Decimal map[connect.decimal.precision:8 scale:2]", "04e2"},
	{"pair", "'(1,x)'", "string", "(1,x)"},
}

// TestTypes: snapshot value == stream value == expected value, for every type.
func TestTypes(t *testing.T) {
	url := testURL(t)
	c := dial(t, url)
	sql(t, c, "CREATE EXTENSION citext", "CREATE EXTENSION hstore", "CREATE TYPE mood AS ENUM ('sad','ok','happy')",
		"CREATE DOMAIN price AS numeric(8,2)", "CREATE TYPE pair AS (a int, b text)")
	var cols, vals []string
	for i, tc := range typeCases {
		cols = append(cols, fmt.Sprintf("c%d %s", i, tc.typ))
		vals = append(vals, tc.literal)
	}
	sql(t, c, "SET standard_conforming_strings = on", "CREATE TABLE every (id int PRIMARY KEY, "+strings.Join(cols, ", ")+")",
		"INSERT INTO every VALUES (1, "+strings.Join(vals, ", ")+")", "INSERT INTO every (id) VALUES (2)")
	var got []string
	src := configure(t, url, []string{"public.every"}, nil)
	check := func(r connectors.Record) {
		got = append(got, string(r.Change.Op))
		if r.Topic != "shop.public.every" {
			t.Errorf("topic %s", r.Topic)
		}
		if r.Change.After.List[0].Int() == 2 {
			for i := range typeCases {
				if !r.Change.After.List[i+1].IsNull() {
					t.Errorf("%c: null of %s is %s", r.Change.Op, typeCases[i].typ, show(nil, r.Change.After.List[i+1]))
				}
			}
			return
		}
		for i, tc := range typeCases {
			f := r.Change.Row.Fields[i+1]
			s, prefix := f.Schema, ""
			if s.Elem != nil {
				prefix, s = "array of ", s.Elem
			}
			desc := prefix + strings.ToLower(s.Kind.String())
			if s.Name != "" {
				desc += " " + s.Name
			}
			params := maps.Clone(s.Params)
			delete(params, typeParam) // TestTypeNames
			if len(params) > 0 {
				desc += " " + fmt.Sprint(params)
			}
			desc = strings.Replace(desc, "boolean", "bool", 1)
			if desc != tc.schema {
				t.Errorf("%c: %s has schema %q, want %q", r.Change.Op, tc.typ, desc, tc.schema)
			}
			if v := show(f.Schema, r.Change.After.List[i+1]); v != tc.value {
				t.Errorf("%c: %s %s is %q, want %q", r.Change.Op, tc.typ, tc.literal, v, tc.value)
			}
		}
	}
	l := newLogbook(t, src, check)
	defer l.close()
	ctx := context.Background()
	l.runUntil(ctx, func() bool { return len(got) >= 2 })
	sql(t, c, "CREATE TABLE keep AS SELECT * FROM every", "DELETE FROM every WHERE false",
		"UPDATE every SET id = id") // u: every value again by the stream
	l.runUntil(ctx, func() bool { return len(got) >= 4 })
	if s := strings.Join(got, ""); s != "rruu" {
		t.Errorf("operations %s", s)
	}
}

// TestTypeNames: where a schema says what its column's type is called, PostgreSQL calls it so, too.
func TestTypeNames(t *testing.T) {
	url := testURL(t)
	c := dial(t, url)
	sql(t, c, "CREATE EXTENSION citext", "CREATE EXTENSION hstore", "CREATE EXTENSION ltree")
	want := []string{"bit(1)", "bit varying(20)", "bit varying", "oid", "money", "character varying(20)", "character(5)", "bpchar", "name", `"char"`,
		"time(0) without time zone", "time(5) with time zone", "timestamp(1) without time zone", "timestamp(0) with time zone", "json", "inet", "cidr", "macaddr", "macaddr8",
		"int4range", "tstzrange", "datemultirange", "box", "line", "circle", "path", "polygon", "lseg", "tsquery", "pg_lsn", "citext", "hstore", "ltree",
		"inet[]", "character varying(7)[]", "json[]", "citext[]", "box[]", "circle[]"}
	none := []string{"boolean", "integer", "text", "character varying", "numeric(10,2)", "numeric", "date", "time(3) without time zone", "timestamp without time zone",
		"timestamp(3) without time zone", "timestamp with time zone", "jsonb", "uuid", "bytea", "bit(12)", "xml", "point", "tsvector", "integer[]", "interval"}
	var cols []string
	for i, typ := range append(slices.Clone(want), none...) {
		cols = append(cols, fmt.Sprintf("c%d %s", i, typ))
	}
	sql(t, c, "CREATE TABLE every (id int PRIMARY KEY, "+strings.Join(cols, ", ")+")", "INSERT INTO every (id) VALUES (1)")
	var row *schema.Schema
	l := newLogbook(t, configure(t, url, []string{"public.every"}, nil), func(r connectors.Record) { row = r.Change.Row })
	defer l.close()
	l.runUntil(context.Background(), func() bool { return row != nil })
	for i, typ := range append(slices.Clone(want), none...) {
		s, array := row.Fields[i+1].Schema, ""
		if s.Elem != nil {
			s, array = s.Elem, "[]"
		}
		name := s.Params[typeParam]
		switch {
		case i < len(want) && name+array != typ:
			t.Errorf("%s is called %q", typ, name)
		case i >= len(want) && name != "" && typ != "character varying":
			t.Errorf("%s is called %q, which its schema says already", typ, name)
		}
	}
}
