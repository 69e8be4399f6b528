package postgres

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

const ordersQuery = "SELECT * FROM orders ORDER BY 1"

func TestUpsertDeleteTruncate(t *testing.T) {
	url, c := pg(t)
	l := start(t, newSink(t, url, nil))
	l.write(upsert(1, "a", "x"), upsert(2, "b\t\\N\n", nil), upsert(1, "a2", "x2"), upsert(3, "c", ""))
	l.flush()
	holds(t, c, ordersQuery, "1|a2|x2", "2|b\t\\N\n|null", "3|c|")
	holds(t, c, "SELECT conname, contype FROM pg_constraint WHERE conrelid = 'orders'::regclass AND contype = 'p'", "orders_pkey|p")
	l.write(deletion(1), tombstone(1), upsert(2, "b", "y"), deletion(9), tombstone(9), upsert(4, "d", nil), deletion(4), upsert(3, nil, nil))
	l.flush()
	holds(t, c, ordersQuery, "2|b|y", "3|null|null")
	l.write(upsert(5, "lost", nil), truncation(), upsert(6, "kept", nil))
	l.flush()
	holds(t, c, ordersQuery, "6|kept|null")
	l.write(truncation())
	l.flush()
	holds(t, c, ordersQuery)
	holds(t, c, "SELECT next_offset, target FROM _forebay_offsets", fmt.Sprintf("%d|orders", l.next))
}

// Columns that PostgreSQL did not send keep what the target holds.
func TestUnchangedToast(t *testing.T) {
	url, c := pg(t)
	l := start(t, newSink(t, url, nil))
	l.write(upsert(1, "a", "large"), upsert(2, "b", "large2"), upsert(3, "c", "large3"))
	l.flush()
	l.write(upsert(1, "a2", "?"), upsert(2, "b2", "new"), upsert(2, "b3", "?"), upsert(3, "c2", "?"), upsert(3, "?", "new3"))
	l.flush()
	holds(t, c, ordersQuery, "1|a2|large", "2|b3|new", "3|c2|new3")
	// A row that the target never had: the column is null, the rest is there.
	l.write(upsert(4, "d", "?"))
	l.flush()
	holds(t, c, ordersQuery, "1|a2|large", "2|b3|new", "3|c2|new3", "4|d|null")
	// Deleted and created anew under the key: the old row's column is gone for good.
	l.write(deletion(1), upsert(1, "again", "?"))
	l.flush()
	holds(t, c, "SELECT * FROM orders WHERE id = 1", "1|again|null")
}

// A row that changes its key takes along what the event does not bring.
func TestKeyChange(t *testing.T) {
	for name, flush := range map[string]func(l *life, at int){
		"OneCommit":     func(*life, int) {},
		"CommitAfter":   func(l *life, at int) { l.flush() },
		"CommitBetween": func(l *life, at int) { l.flush() }, // record by record
	} {
		t.Run(name, func(t *testing.T) {
			url, c := pg(t)
			l := start(t, newSink(t, url, nil))
			l.write(upsert(1, "a", "one"), upsert(2, "b", "two"), upsert(3, "c", "three"))
			flush(l, 0)
			var all []connectors.Record
			all = append(all, move(1, 11, "a1", "?")...)   // from the target, or this commit
			all = append(all, move(11, 12, "a2", "?")...)  // twice
			all = append(all, upsert(2, "b1", "?"))        // partly known
			all = append(all, move(2, 21, "?", "?")...)    // … then moved: name from here, note from the target
			all = append(all, move(3, 2, "c1", "?")...)    // to a key that has just become free
			all = append(all, upsert(1, "fresh", "other")) // the old key is taken again
			if name == "CommitBetween" {
				for i, r := range all {
					l.write(r)
					if !hasHeader(&r, headerNewKey) && r.RawValue != nil { // the halves of a move come with no commit between them
						flush(l, i)
					}
				}
			} else {
				l.write(all...)
			}
			l.flush()
			holds(t, c, ordersQuery, "1|fresh|other", "2|c1|three", "12|a2|one", "21|b1|two")
			if at := rows(t, c, "SELECT next_offset FROM _forebay_offsets")[0]; at != fmt.Sprint(l.next) {
				t.Errorf("committed up to %s of %d", at, l.next)
			}
		})
	}
}

// A delete whose other half does not come is written by the next commit. When the other half comes after that, columns that it lacks are nowhere.
func TestHalfAKeyChange(t *testing.T) {
	url, c := pg(t)
	s := newSink(t, url, nil)
	l := start(t, s)
	l.write(upsert(1, "a", "one"), upsert(2, "b", "two"), upsert(3, "c", "three"))
	l.flush()
	half := func(from, to int64) []connectors.Record { return move(from, to, nil, nil)[:2] }
	l.write(half(1, 11)...)
	if due := l.task.Tick(time.Now()); len(due) > 0 {
		t.Fatalf("%v is due at once", due)
	}
	l.flush()
	holds(t, c, ordersQuery, "2|b|two", "3|c|three")
	holds(t, c, "SELECT next_offset FROM _forebay_offsets", fmt.Sprint(l.next))
	l.write(move(1, 11, "a", "whole")[2]) // this one lacks nothing
	// Another record settles it.
	l.write(append(half(2, 22), upsert(7, "g", nil), move(2, 22, "b", "?")[2])...)
	l.flush()
	holds(t, c, ordersQuery, "3|c|three", "7|g|null", "11|a|whole", "22|b|null")
	l.write(half(3, 33)[0])
	l.flush()
	l.write(half(3, 33)[1])
	l.flush()
	late := move(3, 33, "c", "?")[2]
	late.Topic, late.Offset = topic, l.next
	_, err := l.task.Write(t.Context(), []connectors.Record{late})
	fatalWith(t, err, "(note)", "by the event at offset 10", "REPLICA IDENTITY FULL")
	holds(t, c, ordersQuery, "7|g|null", "11|a|whole", "22|b|null")
	l = start(t, s) // a person has read it
	l.write(late)
	l.flush()
	holds(t, c, ordersQuery, "7|g|null", "11|a|whole", "22|b|null", "33|c|null")
}

func TestRejects(t *testing.T) {
	url, c := pg(t)
	l := start(t, newSink(t, url, nil))
	noKey := upsert(1, "a", nil)
	noKey.Key = connectors.Datum{}
	nullKey := upsert(1, "a", nil)
	nullKey.Key.Value = schema.StructOf(schema.Value{})
	zero := upsert(2, "a\x00b", nil)
	message := upsert(3, "a", nil)
	message.Change.Op = 'm'
	rejects := l.tryWrite(noKey, nullKey, zero, message, upsert(4, "good", nil))
	for i, want := range []string{"has no key", "id of its key is null", "zero byte", "no change of a row"} {
		if i >= len(rejects) || rejects[i].Index != i || !strings.Contains(rejects[i].Reason.Error(), want) {
			t.Errorf("reject %d of %v is not %q", i, rejects, want)
		}
	}
	l.flush()
	holds(t, c, ordersQuery, "4|good|null")
}

// Schemaless topics: a key and a value without columns.
func TestUpsertPlain(t *testing.T) {
	url, c := pg(t)
	l := start(t, newSink(t, url, nil))
	plain := func(key, value string) connectors.Record {
		r := connectors.Record{RawKey: []byte(key), Key: connectors.Datum{Schema: optText, Value: schema.StringOf(key)}}
		if value != "" {
			r.RawValue, r.Value = []byte(value), connectors.Datum{Schema: optText, Value: schema.StringOf(value)}
		}
		return r
	}
	l.write(plain("a", "1"), plain("b", "2"), plain("a", "3"), plain("b", ""))
	l.flush()
	holds(t, c, "SELECT _key, value FROM orders", "a|3")
}

func TestAppend(t *testing.T) {
	url, c := pg(t)
	l := start(t, newSink(t, url, map[string]string{"mode": "append"}))
	l.write(upsert(1, "a", "x"), upsert(1, "a2", "?"), deletion(1), tombstone(1), truncation())
	l.flush()
	holds(t, c, "SELECT id, name, note, _op, _unchanged, _ts, _partition, _offset FROM orders ORDER BY _offset",
		"1|a|x|u|null|2026-01-02 03:04:05+00|0|0", "1|a2|null|u|{note}|2026-01-02 03:04:05+00|0|1", "1|null|null|d|null|2026-01-02 03:04:05+00|0|2", "null|null|null|t|null|2026-01-02 03:04:05+00|0|4")
	holds(t, c, "SELECT next_offset FROM _forebay_offsets", "5")
}

func TestAppendLines(t *testing.T) {
	url, c := pg(t)
	l := start(t, newSink(t, url, map[string]string{"mode": "append", "table": "all lines"}))
	line := func(key, value string, headers ...connectors.Header) connectors.Record {
		r := connectors.Record{RawValue: []byte(value), Headers: headers, Value: connectors.Datum{Schema: optText, Value: schema.StringOf(value)}}
		if key != "" {
			r.RawKey = []byte(key)
		}
		return r
	}
	l.write(line("", "hello\tworld", connectors.Header{Key: "host", Value: []byte("web1")}, connectors.Header{Key: "n", Value: []byte("\xff")}),
		line("k", "not\xfftext"), line("", `{"a": 1}`, connectors.Header{Key: "x", Value: []byte("1")}, connectors.Header{Key: "x", Value: []byte(`"`)}), line("", "zero\x00byte"))
	l.flush()
	holds(t, c, `SELECT value, _raw, _key, headers, _topic, _partition, _offset FROM "all lines" ORDER BY _offset`,
		"hello\tworld|null|null|{\"n\": \"\\\\xff\", \"host\": \"web1\"}|"+topic+"|0|0", `null|\x6e6f74ff74657874|k|null|`+topic+"|0|1",
		`{"a": 1}|null|null|{"x": ["1", "\""]}|`+topic+"|0|2", `null|\x7a65726f0062797465|null|null|`+topic+"|0|3")
}

func TestEvolve(t *testing.T) {
	url, c := pg(t)
	s := newSink(t, url, nil)
	l := start(t, s)
	l.write(upsert(1, "a", "x"))
	wider := structOf("r2", "id", int64Type, "name", optText, "price", &schema.Schema{Kind: schema.Int32, Optional: true})
	l.write(change(connectors.OpUpdate, wider, 2, "b", schema.Int32Of(7)), upsert(3, "old form", nil))
	l.flush()
	holds(t, c, "SELECT id, name, note, price FROM orders ORDER BY 1", "1|a|x|null", "2|b|null|7", "3|old form|null|null")
	// note is not in the new schema: what the target holds stays.
	l.write(change(connectors.OpUpdate, wider, 1, "a2", schema.Int32Of(8)))
	l.flush()
	holds(t, c, "SELECT id, name, note, price FROM orders WHERE id = 1", "1|a2|x|8")
	// int4 becomes int8: each old value fits.
	long := structOf("r3", "id", int64Type, "name", optText, "price", &schema.Schema{Kind: schema.Int64, Optional: true})
	l.write(change(connectors.OpUpdate, long, 2, "b", 1<<40))
	l.flush()
	holds(t, c, "SELECT id, price FROM orders WHERE id = 2", fmt.Sprintf("2|%d", 1<<40))
	holds(t, c, "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'price'", "bigint")
	// A number does not become a truth.
	bad := structOf("r4", "id", int64Type, "name", optText, "price", &schema.Schema{Kind: schema.Bool, Optional: true})
	r := change(connectors.OpUpdate, bad, 2, "x", schema.BoolOf(true))
	r.Topic, r.Offset = topic, l.next
	_, err := l.task.Write(t.Context(), []connectors.Record{r})
	fatalWith(t, err, "column price", "boolean", "bigint", "ALTER TABLE")
	// With evolve: false a new column is refused.
	l = start(t, newSink(t, url, map[string]string{"evolve": "false"}))
	more := structOf("r5", "id", int64Type, "extra", optText)
	r = change(connectors.OpUpdate, more, 2, "x")
	r.Topic, r.Offset = topic, l.next
	_, err = l.task.Write(t.Context(), []connectors.Record{r})
	fatalWith(t, err, "no column extra", "ADD COLUMN")
}

// A table that somebody else has made: more columns, other order, generated ones.
func TestExistingTable(t *testing.T) {
	url, c := pg(t)
	rows(t, c, `CREATE TABLE orders (note varchar(40) NOT NULL DEFAULT 'none', mine int DEFAULT 42, id int GENERATED ALWAYS AS IDENTITY UNIQUE, name text, upper_name text GENERATED ALWAYS AS (upper(name)) STORED)`)
	int4 := &schema.Schema{Kind: schema.Int32}
	key := structOf("k", "id", int4)
	row := structOf("r", "id", int4, "name", optText, "note", optText)
	put := func(id int32, name, note any) connectors.Record {
		r := change(connectors.OpUpdate, row, 0, name, note)
		r.Change.After.List[0] = schema.Int32Of(id)
		r.Key = connectors.Datum{Schema: key, Value: schema.StructOf(schema.Int32Of(id))}
		return r
	}
	l := start(t, newSink(t, url, map[string]string{"create": "false"}))
	l.write(put(5, "a", "x"), put(6, "b", "y"))
	l.flush()
	rows(t, c, "UPDATE orders SET mine = 1 WHERE id = 5")
	l.write(put(5, "a2", "?"))
	l.flush()
	holds(t, c, "SELECT id, name, note, mine, upper_name FROM orders ORDER BY 1", "5|a2|x|1|A2", "6|b|y|42|B")
	// What a constraint refuses is fatal, and names it.
	l.write(put(7, "c", nil))
	fatalWith(t, l.tryFlush(), "null value", "column note")
	l = start(t, newSink(t, url, nil))
	l.write(put(7, "c", "z"), put(8, "d", strings.Repeat("x", 60)))
	fatalWith(t, l.tryFlush(), "too long", "column note", "offset 4")
	holds(t, c, "SELECT count(*) FROM orders", "2")
}

// What only a person can mend ends the sink with what to do: tried again, it fails again for ever.
func TestRefusedByTheTable(t *testing.T) {
	url, c := pg(t)
	textKey := structOf("k", "id", optText)
	named := func(id string, note string) connectors.Record {
		r := connectors.Record{RawKey: []byte("k"), RawValue: []byte("v"), Key: connectors.Datum{Schema: textKey, Value: schema.StructOf(schema.StringOf(id))}}
		r.Change = &connectors.Change{Op: connectors.OpUpdate, Row: structOf("r", "id", optText, "note", optText), After: schema.StructOf(schema.StringOf(id), schema.StringOf(note))}
		return r
	}
	number := change(connectors.OpUpdate, structOf("r", "id", int64Type, "note", int64Type), 1, 5)
	noise := make([]byte, 9000)
	for i := range noise {
		noise[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[rand.IntN(64)]
	}
	widened := change(connectors.OpUpdate, structOf("r", "id", int64Type, "note", int64Type), 1, 1<<40)
	for name, table := range map[string]struct {
		prepare string // before the sink begins; S is its schema
		while   string // … and while it runs
		records []connectors.Record
		want    []string
	}{
		"a foreign key refers to the table": {"CREATE TABLE S.orders (id bigint PRIMARY KEY, name text, note text); CREATE TABLE S.items (of bigint REFERENCES S.orders)", "", []connectors.Record{truncation()}, []string{"foreign key", "items", "drop"}},
		"a view uses the column":            {"CREATE TABLE S.orders (id bigint PRIMARY KEY, note int); CREATE VIEW S.v AS SELECT note FROM S.orders", "", []connectors.Record{widened}, []string{"view", "drop"}},
		"a value of its own":                {"CREATE TABLE S.orders (id bigint PRIMARY KEY, note bigint GENERATED ALWAYS AS IDENTITY)", "", []connectors.Record{number}, []string{"note", "DROP IDENTITY"}},
		"the index is gone":                 {"CREATE TABLE S.orders (id bigint, name text, note text); CREATE UNIQUE INDEX k ON S.orders (id)", "DROP INDEX S.k", []connectors.Record{upsert(1, "a", "b")}, []string{"unique index"}},
		"two keys are one": {"CREATE EXTENSION citext; CREATE TABLE S.orders (id citext PRIMARY KEY, note text)", "",
			[]connectors.Record{named("a", "x"), named("A", "y")}, []string{"two keys", "citext"}},
		"too large for the index": {"", "", []connectors.Record{named(string(noise), "x")}, []string{"index row", "a key must be shorter"}},
	} {
		t.Run(name, func(t *testing.T) {
			space := strings.ReplaceAll(name, " ", "_")
			run := func(sql string) { rows(t, c, strings.ReplaceAll(sql, "S.", space+".")) }
			run("CREATE SCHEMA " + space + ";" + table.prepare)
			l := start(t, newSink(t, url, map[string]string{"schema": space}))
			l.write(table.records...)
			run(table.while)
			fatalWith(t, l.tryFlush(), table.want...)
		})
	}
}

func TestMissingPieces(t *testing.T) {
	url, c := pg(t)
	write := func(change map[string]string, prepare string) error {
		if prepare != "" {
			rows(t, c, prepare)
		}
		l, err := tryStart(t, newSink(t, url, change), assigned(0), epochs.Add(1))
		if err != nil {
			return err
		}
		r := upsert(1, "a", "b")
		r.Topic, r.Offset = topic, l.next
		_, err = l.task.Write(t.Context(), []connectors.Record{r})
		return err
	}
	fatalWith(t, write(map[string]string{"create": "false"}, ""), "no table public.orders")
	fatalWith(t, write(map[string]string{"create": "false", "schema": "other"}, ""), "no schema other")
	fatalWith(t, write(nil, "CREATE TABLE orders (id bigint, name text, note text)"), "no primary key or unique index on (id)", "CREATE UNIQUE INDEX")
	fatalWith(t, write(nil, "DROP TABLE orders; CREATE VIEW orders AS SELECT 1 AS id"), "no table")
}

// Documents: a change whose row is JSON, under a key of one text.
func TestUpsertDocuments(t *testing.T) {
	url, c := pg(t)
	l := start(t, newSink(t, url, nil))
	doc := &schema.Schema{Kind: schema.String, Name: nameJSON, Optional: true}
	key := structOf("k", "id", &schema.Schema{Kind: schema.String})
	event := func(op connectors.Op, id, after string) connectors.Record {
		r := connectors.Record{RawKey: []byte(id), RawValue: []byte("v"), Key: connectors.Datum{Schema: key, Value: schema.StructOf(schema.StringOf(id))}, Change: &connectors.Change{Op: op, Row: doc}}
		if after != "" {
			r.Change.After = schema.StringOf(after)
		}
		return r
	}
	l.write(event('r', "1", `{"_id": 1, "a": "x"}`), event('c', "2", `{"_id": 2}`), event('u', "2", ""), event('d', "2", ""), event('u', "1", `{"_id": 1, "a": [1]}`))
	l.flush()
	holds(t, c, "SELECT id, value FROM orders", `1|{"a": [1], "_id": 1}`)
	reject := l.tryWrite(event('c', "3", `{"a": "\u0000"}`))
	if len(reject) != 1 {
		t.Error("jsonb took a zero character")
	}
	l.write(event('c', "4", `{"a": "\\u0000"}`))
	l.flush()
	holds(t, c, "SELECT value->>'a' FROM orders WHERE id = '4'", `\u0000`)
}
