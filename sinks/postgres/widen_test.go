package postgres

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// Columns before and after ALTER … TYPE in the source, and a value of each type before it. COPY's spelling of each is
// another than that of the value cast to the type after it.
var widenings = []struct {
	name          string
	before, after *schema.Schema
	value         schema.Value
}{
	{"b", &schema.Schema{Kind: schema.Bool}, optText, schema.BoolOf(true)},
	{"i", &schema.Schema{Kind: schema.Int64, Name: nameMicroDuration}, optText, schema.Int64Of(36*3600e6 + 500_000)},
	{"z", &schema.Schema{Kind: schema.String, Name: nameZonedTimestamp}, optText, schema.StringOf("2026-01-02T03:04:05.120Z")},
	{"f", &schema.Schema{Kind: schema.Float64}, optText, schema.Float64Of(1e6)},
	{"c", &schema.Schema{Kind: schema.String, Params: map[string]string{typeParam: "character(5)"}}, optText, schema.StringOf("ab   ")},
	{"n", &schema.Schema{Kind: schema.String, Params: map[string]string{typeParam: "numeric(10,2)"}}, optText, schema.StringOf("1.5")},
	{"r", &schema.Schema{Kind: schema.Float32}, &schema.Schema{Kind: schema.Float64}, schema.Float32Of(0.1)},
	{"d", &schema.Schema{Kind: schema.Int32, Name: nameDate}, &schema.Schema{Kind: schema.Int64, Name: nameMicroTimestamp}, schema.Int32Of(20000)},
}

const numeric = 6 // place of n in the row

// narrow and wide are records of the table before and after the columns were widened.
func narrow(id int64) connectors.Record { return widened(id, false) }
func wide(id int64) connectors.Record   { return widened(id, true) }

var widenRows = func() (out [2]*schema.Schema) {
	for i := range out {
		out[i] = structOf("r", "id", int64Type)
		for _, w := range widenings {
			s := *w.before
			if i == 1 {
				s = *w.after
			}
			s.Optional = true
			out[i].Fields = append(out[i].Fields, schema.Field{Name: w.name, Schema: &s})
		}
	}
	return out
}()

func widened(id int64, after bool) connectors.Record {
	var vals []any
	for _, w := range widenings {
		switch {
		case !after:
			vals = append(vals, w.value)
		case w.after == optText:
			vals = append(vals, "text")
		case w.after.Kind == schema.Float64:
			vals = append(vals, schema.Float64Of(0.123456789))
		default:
			vals = append(vals, nil)
		}
	}
	if after {
		return change(connectors.OpUpdate, widenRows[1], id, vals...)
	}
	return change(connectors.OpUpdate, widenRows[0], id, vals...)
}

// patch changes one column of a row that is there; the others were not sent.
func patch(id int64) connectors.Record {
	vals := []any{"patched"}
	for range widenings[1:] {
		vals = append(vals, "?")
	}
	return change(connectors.OpUpdate, widenRows[1], id, vals...)
}

// What waits for a commit when a column is widened becomes what PostgreSQL's own ALTER makes of a row that is there.
func TestWideningOfWhatIsNotCommitted(t *testing.T) {
	url, c := pg(t)
	var names []string
	for _, w := range widenings {
		names = append(names, w.name)
	}
	find := func(table string) string {
		return "SELECT id, " + strings.Join(names, ", ") + " FROM " + table + " ORDER BY 1, 2"
	}
	var want []string
	for _, mode := range []string{"upsert", "append"} {
		for _, way := range []string{"altered", "one", "prepared", "partitions"} {
			t.Run(mode+"/"+way, func(t *testing.T) {
				table := mode + "_" + way
				s := newSink(t, url, map[string]string{"table": table, "offsets": "o_" + table, "mode": mode})
				l := start(t, s)
				switch way {
				case "altered": // what the others are compared with: the rows are in the table when it is altered
					l.write(narrow(1), narrow(2))
					l.flush()
					l.write(wide(3), patch(2))
					l.flush()
				case "one":
					l.write(narrow(1), narrow(2), wide(3), patch(2))
					l.flush()
				case "prepared":
					l.write(narrow(1), narrow(2))
					tokens := l.prepare()
					l.write(wide(3), patch(2))
					for _, tok := range append(tokens, l.prepare()...) {
						if err := l.task.Commit(t.Context(), tok); err != nil {
							t.Fatal(err)
						}
					}
				case "partitions":
					other := *l
					other.tp.Partition = 1
					if _, err := l.task.Recover(t.Context(), []connectors.Assignment{assigned(1)}); err != nil {
						t.Fatal(err)
					}
					other.write(narrow(1), narrow(2))
					l.write(wide(3))
					l.flush()
					other.write(patch(2))
					other.flush()
				}
				holds(t, c, "SELECT r FROM "+table+" WHERE id = 3", "0.123456789") // not as real has it
				got := rows(t, c, find(table))
				if way == "altered" {
					want = got
					t.Logf("%q", got)
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("got  %q\nwant %q", got, want)
				}
				log := []connectors.Record{narrow(1), narrow(2), wide(3), patch(2)}
				for i := range log[:2] { // PostgreSQL itself sends 1.50: only then the column's text tells the value
					log[i].Change.After.List[numeric] = schema.StringOf("1.50")
				}
				if agreed, found := auditOf(t, s, log, l.next); way != "partitions" && (int(agreed) != len(want) || len(found) > 0) {
					t.Errorf("the audit: %d agree, %q", agreed, found)
				}
				l.write(wide(4)) // the sink works on
				l.flush()
				holds(t, c, "SELECT count(*) FROM "+table+" WHERE id = 4", "1")
			})
		}
	}
}

// A key that is widened is still the same key.
func TestWideningOfAKey(t *testing.T) {
	url, c := pg(t)
	l := start(t, newSink(t, url, nil))
	flag := &schema.Schema{Kind: schema.Bool}
	record := func(s *schema.Schema, key schema.Value, name string) connectors.Record {
		id := connectors.Datum{Schema: structOf("k", "id", s), Value: schema.StructOf(key)}
		r := connectors.Record{RawKey: []byte("k"), RawValue: []byte("v"), Key: id, Change: &connectors.Change{Op: connectors.OpUpdate,
			Row: structOf("r", "id", s, "name", optText), After: schema.StructOf(key, schema.StringOf(name))}}
		if name == "" {
			r.Change.Op, r.Change.Before, r.Change.After = connectors.OpDelete, r.Change.After, schema.Value{}
		}
		return r
	}
	moving := record(flag, schema.BoolOf(false), "")
	moving.Headers = []connectors.Header{{Key: headerNewKey, Value: []byte("{}")}}
	l.write(record(flag, schema.BoolOf(true), "one"), record(flag, schema.BoolOf(false), "two"))
	l.flush()
	l.write(record(flag, schema.BoolOf(true), "three"), moving, record(optText, schema.StringOf("true"), "four"), record(optText, schema.StringOf("x"), "five"))
	l.flush()
	holds(t, c, ordersQuery, "true|four", "x|five")
}

// Texts of values, which are what PostgreSQL makes of the value in the type's own column.
func TestTextsAreThoseOfPostgreSQL(t *testing.T) {
	_, c := pg(t)
	for _, b := range []bool{true, false} {
		checkText(t, c, "boolean", &schema.Schema{Kind: schema.Bool}, schema.BoolOf(b))
	}
	for _, f := range []float64{0, 1, -1.5, 1e5, 123456, 999999, 1e6, 1234567, 1e14, 123456789012345, 999999999999999, 1e15, 1e16, 1e-4, 1.5e-5, -1e-5, 1e300, 0.1, math.Inf(1), math.Inf(-1), math.NaN(), math.Copysign(0, -1)} {
		checkText(t, c, "double precision", &schema.Schema{Kind: schema.Float64}, schema.Float64Of(f))
		if math.Abs(f) < 1e30 || f != f || math.IsInf(f, 0) {
			checkText(t, c, "real", &schema.Schema{Kind: schema.Float32}, schema.Float32Of(float32(f)))
		}
	}
	for _, us := range []int64{0, 1, -1, 1e6, -90e6, 3600e6, 36*3600e6 + 500_000, 1234567 * 3600e6, -(5*3600e6 + 59*60e6 + 59_999_999)} {
		checkText(t, c, "interval", &schema.Schema{Kind: schema.Int64, Name: nameMicroDuration}, schema.Int64Of(us))
	}
	for _, z := range []string{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.120Z", "2026-01-02T03:04:05.000001Z", "+21016-11-04T06:51:30Z", "-0043-12-31T23:59:59.5Z", "0000-06-01T00:00:00Z", "infinity"} {
		checkText(t, c, "timestamp with time zone", &schema.Schema{Kind: schema.String, Name: nameZonedTimestamp}, schema.StringOf(z))
	}
	for _, us := range []int64{0, 1_700_000_000_123_400, -1, -62_135_596_800_000_001, positiveInfinity} {
		checkText(t, c, "timestamp without time zone", &schema.Schema{Kind: schema.Int64, Name: nameMicroTimestamp}, schema.Int64Of(us))
	}
}

// checkText holds an encoder's text for a column of text against the one that goes through a column of its own type.
func checkText(t *testing.T, c *pgconn.PgConn, typ string, s *schema.Schema, v schema.Value) {
	t.Helper()
	text, err := encoderOf(s, pgType{base: "text"})(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, c, "SELECT "+quoteLit(string(text))+"::"+typ+"::text", string(text))
}
