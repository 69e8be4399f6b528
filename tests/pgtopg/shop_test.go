package pgtopg

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// shop is a database that keeps changing: customers with a TOAST column, orders,
// and keyed, whose key has two columns of odd names and changes often.
type shop struct {
	t      *testing.T
	url    string
	random *rand.Rand
	next   map[string]int64
}

const tables = `
CREATE TABLE customers (id bigint PRIMARY KEY, name text, note text, balance numeric(12,2), vip boolean, created timestamptz, rev bigint NOT NULL);
ALTER TABLE customers ALTER COLUMN note SET STORAGE EXTERNAL;
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id int, status varchar(20), total numeric(12,2), meta jsonb, placed timestamp, due date, tags text[], rev bigint NOT NULL);
CREATE TABLE keyed ("b Key" uuid, note text, "a""key" varchar(30), rev int, PRIMARY KEY ("a""key", "b Key"));
ALTER TABLE keyed ALTER COLUMN note SET STORAGE EXTERNAL;
INSERT INTO customers SELECT i, 'customer ' || i, repeat(md5(i::text), 1 + (i % 3)::int * 100), i * 1.25, i % 7 = 0, timestamptz '2026-01-01 00:00:00+00' + i * interval '1 minute', 0 FROM generate_series(1, 2000) i;
INSERT INTO orders SELECT i, 1 + i % 2000, 'new', i * 0.75, jsonb_build_object('n', i, 'text', 'a "quoted" ü \ '), timestamp '2026-02-01 12:00:00.123456' + i * interval '1 second', date '2026-02-01' + i, ARRAY['a,b', NULL, i::text], 0 FROM generate_series(1, 2000) i;
INSERT INTO keyed SELECT md5(i::text)::uuid, repeat(md5(i::text), 100), 'k' || i, 0 FROM generate_series(1, 500) i;
`

func newShop(t *testing.T, url string, random *rand.Rand) *shop {
	t.Helper()
	s := &shop{t: t, url: url, random: random, next: map[string]int64{"customers": 2001, "orders": 2001, "keyed": 501}}
	conn, err := s.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), tables); err != nil {
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

// change makes n row changes, committed or rolled back, in transactions of one to ten.
func (s *shop) change(n int) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	for done := 0; done < n; {
		changes := s.transaction()
		if _, err := conn.Exec(context.Background(), strings.Join(changes, ";\n")); err != nil {
			return fmt.Errorf("%w in\n%s", err, strings.Join(changes, ";\n"))
		}
		done += len(changes)
		if done > n/2 && done < n/2+40 { // the table gains a column in the middle
			if _, err := conn.Exec(context.Background(), "ALTER TABLE orders ADD COLUMN IF NOT EXISTS extra inet DEFAULT NULL"); err != nil {
				return err
			}
		}
	}
	_, err = conn.Exec(context.Background(), "UPDATE orders SET extra = ('10.0.0.' || id % 250)::inet WHERE id % 10 = 0")
	return err
}

func (s *shop) transaction() []string {
	out := []string{"BEGIN"}
	for range 1 + s.random.IntN(10) {
		out = append(out, s.statement())
		if s.random.IntN(10) == 0 {
			out = append(out, "SAVEPOINT p", s.statement(), "ROLLBACK TO SAVEPOINT p")
		}
	}
	if s.random.IntN(7) == 0 {
		return append(out, "ROLLBACK")
	}
	return append(out, "COMMIT")
}

func (s *shop) statement() string {
	table := []string{"customers", "orders", "keyed"}[s.random.IntN(3)]
	id := 1 + s.random.Int64N(s.next[table]-1)
	fresh := s.next[table]
	k := s.random.IntN(100)
	if k < 30 || k >= 82 && k < 90 {
		s.next[table]++
	}
	if s.random.IntN(2000) == 0 {
		return "TRUNCATE keyed"
	}
	switch table {
	case "customers":
		switch {
		case k < 30:
			return fmt.Sprintf("INSERT INTO customers VALUES (%d, 'new %d', repeat(md5('%d'), %d), %d.%02d, %t, now(), 0)", fresh, fresh, fresh, 1+s.random.IntN(200), s.random.IntN(1e6), s.random.IntN(100), k%2 == 0)
		case k < 75: // leaves a large note untouched: PostgreSQL does not send it
			return fmt.Sprintf("UPDATE customers SET balance = balance + 1, rev = rev + 1 WHERE id = %d", id)
		case k < 82:
			return fmt.Sprintf("UPDATE customers SET note = repeat(md5('%d'), %d), name = NULL, rev = rev + 1 WHERE id = %d", s.random.IntN(1e9), 1+s.random.IntN(200), id)
		case k < 90: // key change: the note is not sent, and only the row under the old key has it
			return fmt.Sprintf("UPDATE customers SET id = %d, rev = rev + 1 WHERE id = %d", fresh, id)
		}
	case "orders":
		switch {
		case k < 30:
			return fmt.Sprintf(`INSERT INTO orders (id, customer_id, status, total, meta, placed, due, tags, rev) VALUES (%d, %d, 'new', %d.%02d, '{"a": [1, 2, null], "b": "x%d"}', localtimestamp, current_date, '{}', 0)`, fresh, 1+s.random.IntN(2000), s.random.IntN(1e6), s.random.IntN(100), fresh)
		case k < 75:
			return fmt.Sprintf("UPDATE orders SET status = 'state %d', total = NULLIF(total, 7), rev = rev + 1 WHERE id = %d", s.random.IntN(9), id)
		case k < 82:
			return fmt.Sprintf("UPDATE orders SET meta = NULL, tags = array_append(tags, 'x'), rev = rev + 1 WHERE id = %d", id)
		case k < 90:
			return fmt.Sprintf("UPDATE orders SET id = %d, rev = rev + 1 WHERE id = %d", fresh, id)
		}
	default:
		switch {
		case k < 30:
			return fmt.Sprintf("INSERT INTO keyed VALUES (md5('%d')::uuid, repeat(md5('%d'), %d), 'k%d', 0)", fresh, fresh, 1+s.random.IntN(200), fresh)
		case k < 60:
			return fmt.Sprintf(`UPDATE keyed SET rev = rev + 1 WHERE "a""key" = 'k%d'`, id)
		case k < 82: // a row moves to and fro between two keys
			return fmt.Sprintf(`UPDATE keyed SET "b Key" = md5((rev %% 2)::text || 'x%d')::uuid, rev = rev + 1 WHERE "a""key" = 'k%d'`, id, id)
		case k < 90:
			return fmt.Sprintf(`UPDATE keyed SET "a""key" = 'k%d', rev = rev + 1 WHERE "a""key" = 'k%d'`, fresh, id)
		}
		return fmt.Sprintf(`DELETE FROM keyed WHERE "a""key" = 'k%d'`, id)
	}
	return fmt.Sprintf("DELETE FROM %s WHERE id = %d", table, id)
}
