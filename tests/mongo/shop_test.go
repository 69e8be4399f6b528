package mongo

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// shop is a PostgreSQL database that keeps changing: customers with a TOAST column and many types, and keyed, whose key
// has two columns and changes often.
type shop struct {
	url    string
	random *rand.Rand
	next   map[string]int
}

const shopTables = `
CREATE TABLE customers (id bigint PRIMARY KEY, name text, note text, balance numeric(20,4), vip boolean, created timestamptz, placed timestamp, ref uuid, data bytea, meta jsonb, tags text[], rev int);
ALTER TABLE customers ALTER COLUMN note SET STORAGE EXTERNAL;
CREATE TABLE keyed ("b.Key" uuid, note text, a varchar(30), rev int, PRIMARY KEY (a, "b.Key"));
ALTER TABLE keyed ALTER COLUMN note SET STORAGE EXTERNAL;
INSERT INTO customers SELECT i, 'customer ' || i, repeat(md5(i::text), 1 + (i % 3)::int * 100), i * 1.25, i % 7 = 0, timestamptz '2026-01-01 00:00:00.123456+00' + i * interval '1 minute', timestamp '2026-01-01' + i * interval '1 us',
	md5(i::text)::uuid, decode(md5(i::text), 'hex'), jsonb_build_object('n', i, 'text', 'a "quoted" ü \ ', '$x', jsonb_build_array(1, 2.5, NULL)), ARRAY['a,b', NULL, i::text], 0 FROM generate_series(1, 1500) i;
INSERT INTO keyed SELECT md5(i::text)::uuid, repeat(md5(i::text), 100), 'k' || i, 0 FROM generate_series(1, 500) i;
`

func newShop(t *testing.T, url string, random *rand.Rand) *shop {
	t.Helper()
	s := &shop{url: url, random: random, next: map[string]int{"customers": 1501, "keyed": 501}}
	conn, err := s.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), shopTables); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shop) connect() (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.url)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return pgx.ConnectConfig(context.Background(), config)
}

// change makes n statements in transactions of one to ten, some of which are rolled back.
func (s *shop) change(ctx context.Context, n int) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	for done := 0; done < n; {
		all := []string{"BEGIN"}
		for range 1 + s.random.IntN(10) {
			all = append(all, s.statement())
		}
		end := "COMMIT"
		if s.random.IntN(7) == 0 {
			end = "ROLLBACK"
		}
		if _, err := conn.Exec(ctx, strings.Join(append(all, end), ";\n")); err != nil {
			return fmt.Errorf("%w in\n%s", err, strings.Join(all, ";\n"))
		}
		done += len(all) - 1
	}
	return nil
}

func (s *shop) statement() string {
	table := []string{"customers", "keyed"}[s.random.IntN(2)]
	id, fresh, k := 1+s.random.IntN(s.next[table]-1), s.next[table], s.random.IntN(100)
	if k < 30 || k >= 82 && k < 90 {
		s.next[table]++
	}
	if s.random.IntN(1500) == 0 {
		return "TRUNCATE keyed"
	}
	large := 1 + s.random.IntN(300) // 32 bytes each: up to what a value takes of a chunk of memory, and more
	if table == "customers" {
		switch {
		case k < 30:
			return fmt.Sprintf(`INSERT INTO customers VALUES (%d, 'new %d', repeat(md5('%d'), %d), %d.%04d, %t, clock_timestamp(), clock_timestamp(), md5('%d')::uuid, '\x00ff', '{"a": [1, 1.5, null, {"b": "x%d"}]}', '{}', 0)`,
				fresh, fresh, fresh, large, s.random.IntN(1e9), s.random.IntN(1e4), k%2 == 0, fresh, fresh)
		case k < 70: // leaves a large note untouched: PostgreSQL does not send it
			return fmt.Sprintf("UPDATE customers SET balance = balance + 1, created = clock_timestamp(), rev = rev + 1 WHERE id = %d", id)
		case k < 75:
			return fmt.Sprintf("UPDATE customers SET placed = date_trunc('second', placed), meta = NULL, tags = array_append(tags, 'x'), rev = rev + 1 WHERE id = %d", id)
		case k < 82:
			return fmt.Sprintf("UPDATE customers SET note = repeat(md5('%d'), %d), name = NULL, rev = rev + 1 WHERE id = %d", s.random.IntN(1e9), large, id)
		case k < 90: // key change: the note is not sent, and only the row under the old key has it
			return fmt.Sprintf("UPDATE customers SET id = %d, rev = rev + 1 WHERE id = %d", fresh, id)
		}
		return fmt.Sprintf("DELETE FROM customers WHERE id = %d", id)
	}
	switch {
	case k < 30:
		return fmt.Sprintf("INSERT INTO keyed VALUES (md5('%d')::uuid, repeat(md5('%d'), %d), 'k%d', 0)", fresh, fresh, large, fresh)
	case k < 60:
		return fmt.Sprintf(`UPDATE keyed SET rev = rev + 1 WHERE a = 'k%d'`, id)
	case k < 82: // a row moves to and fro between two keys
		return fmt.Sprintf(`UPDATE keyed SET "b.Key" = md5((rev %% 2)::text || 'x%d')::uuid, rev = rev + 1 WHERE a = 'k%d'`, id, id)
	case k < 90:
		return fmt.Sprintf(`UPDATE keyed SET a = 'k%d', rev = rev + 1 WHERE a = 'k%d'`, fresh, id)
	}
	return fmt.Sprintf(`DELETE FROM keyed WHERE a = 'k%d'`, id)
}

// customers and keyed rows as lines of text; null is ~.
var shopQueries = map[string]string{
	"customers": `SELECT concat_ws('|', id, coalesce(name, '~'), md5(note), balance, vip, (extract(epoch FROM created) * 1000000)::bigint, (extract(epoch FROM placed) * 1000000)::bigint, ref, encode(data, 'hex'), coalesce(meta::text, '~'), to_json(tags)::text, rev) FROM customers`,
	"keyed":     `SELECT concat_ws('|', "b.Key", md5(note), a, rev) FROM keyed`,
}

// lines are a table's rows.
func (s *shop) lines(t *testing.T, table string) map[string]bool {
	t.Helper()
	conn, err := s.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), shopQueries[table])
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, l := range all {
		out[l] = true
	}
	return out
}

// equals holds a table against a collection.
func (s *shop) equals(t *testing.T, table string, c *mongo.Collection, line func(bson.Raw) string) {
	t.Helper()
	left := s.lines(t, table)
	n, bad := 0, 0
	cur, err := c.Find(t.Context(), d{})
	if err != nil {
		t.Fatal(err)
	}
	for cur.Next(t.Context()) {
		n++
		l := line(cur.Current)
		if !left[l] {
			if bad++; bad < 5 {
				t.Errorf("%s: PostgreSQL does not have %s", table, l)
			}
		}
		delete(left, l)
	}
	if err := cur.Err(); err != nil {
		t.Fatal(err)
	}
	for l := range left {
		if bad++; bad < 10 {
			t.Errorf("%s: MongoDB does not have %s", table, l)
		}
	}
	t.Logf("%s: %d rows", table, n)
}

// micros puts a date and what stands beside it together.
func micros(doc bson.Raw, field string) int64 {
	us, _ := doc.Lookup("_us_" + field).AsInt64OK() // without it: none
	return doc.Lookup(field).DateTime()*1000 + us
}

func orTilde(v bson.RawValue) string {
	if v.Type == bson.TypeNull {
		return "~"
	}
	return v.StringValue()
}

func uuidText(v bson.RawValue) string {
	_, b := v.Binary()
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func customerLine(t *testing.T) func(bson.Raw) string {
	return func(doc bson.Raw) string {
		if doc.Lookup("_id").Int64() != doc.Lookup("id").Int64() {
			return "an _id that is not the key: " + short(doc.String())
		}
		_, data := doc.Lookup("data").Binary()
		meta := "~"
		if v := doc.Lookup("meta"); v.Type != bson.TypeNull {
			meta = jsonb(t, v)
		}
		vip := "f"
		if doc.Lookup("vip").Boolean() {
			vip = "t"
		}
		tags, err := doc.Lookup("tags").Array().Values()
		if err != nil {
			t.Fatal(err)
		}
		list := make([]any, len(tags))
		for i, v := range tags {
			if v.Type != bson.TypeNull {
				list[i] = v.StringValue()
			}
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d|%s|%s|%s|%s|%d|%d|%s|%x|%s|%s|%d", doc.Lookup("id").Int64(), orTilde(doc.Lookup("name")), md5Of(doc.Lookup("note").StringValue()), doc.Lookup("balance").Decimal128(), vip,
			micros(doc, "created"), micros(doc, "placed"), uuidText(doc.Lookup("ref")), data, meta, text, doc.Lookup("rev").Int32())
	}
}

// jsonb writes a document as PostgreSQL writes a jsonb: keys are in its order already.
func jsonb(t *testing.T, v bson.RawValue) string {
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		elements, err := v.Document().Elements()
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range elements {
			all = append(all, quoted(t, e.Key())+": "+jsonb(t, e.Value()))
		}
		return "{" + strings.Join(all, ", ") + "}"
	case bson.TypeArray:
		values, err := v.Array().Values()
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range values {
			all = append(all, jsonb(t, e))
		}
		return "[" + strings.Join(all, ", ") + "]"
	case bson.TypeString:
		return quoted(t, v.StringValue())
	case bson.TypeNull:
		return "null"
	case bson.TypeDouble:
		return fmt.Sprint(v.Double())
	}
	return fmt.Sprint(v.AsInt64())
}

func quoted(t *testing.T, s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func keyedLine(doc bson.Raw) string {
	id := doc.Lookup("_id").Document()
	if id.Lookup("a").StringValue() != doc.Lookup("a").StringValue() || uuidText(id.Lookup("b.Key")) != uuidText(doc.Lookup("b.Key")) {
		return "an _id that is not the key: " + short(doc.String())
	}
	return fmt.Sprintf("%s|%s|%s|%d", uuidText(doc.Lookup("b.Key")), md5Of(doc.Lookup("note").StringValue()), doc.Lookup("a").StringValue(), doc.Lookup("rev").Int32())
}
