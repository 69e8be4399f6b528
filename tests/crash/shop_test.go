package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/internal/testenv"
)

// shop is the database that keeps changing. Each row has a rev that every
// update raises by one, so that a lost or doubled change shows in the files.
type shop struct {
	t      *testing.T
	pg     *testenv.PostgresServer
	random *rand.Rand
	nextID map[string]int64
	err    error
}

const schema = `
CREATE TABLE customers (id bigint PRIMARY KEY, name text, note text, balance numeric(12,2), vip boolean, created timestamptz, rev bigint NOT NULL);
ALTER TABLE customers ALTER COLUMN note SET STORAGE EXTERNAL;
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint, status text, total numeric(10,2), meta jsonb, placed timestamp, rev bigint NOT NULL);
INSERT INTO customers SELECT i, 'customer ' || i, repeat(md5(i::text), 1 + (i % 3)::int * 100), i * 1.25, i % 7 = 0, timestamptz '2026-01-01 00:00:00+00' + i * interval '1 minute', 0 FROM generate_series(1, 3000) i;
INSERT INTO orders SELECT i, 1 + i % 3000, 'new', i * 0.75, jsonb_build_object('n', i, 'text', 'a "quoted" ü'), timestamp '2026-02-01 12:00:00.123456' + i * interval '1 second', 0 FROM generate_series(1, 3000) i;
`

func newShop(t *testing.T, pg *testenv.PostgresServer, random *rand.Rand) *shop {
	pg.Exec(schema)
	return &shop{t: t, pg: pg, random: random, nextID: map[string]int64{"customers": 3001, "orders": 3001}}
}

// change makes n committed row changes, in transactions of one to ten, and more that are rolled back.
func (s *shop) change(n int) {
	ctx := context.Background()
	var conn *pgx.Conn
	for done := 0; done < n; {
		if conn == nil {
			var err error
			if conn, err = s.connect(ctx); err != nil {
				s.err = err
				return
			}
		}
		changes := s.transaction()
		// A connection that breaks leaves the transaction undecided; the table itself is the truth, so going on is right.
		results, err := conn.PgConn().Exec(ctx, strings.Join(changes, ";\n")).ReadAll()
		if err != nil {
			if !conn.IsClosed() {
				s.err = fmt.Errorf("%w in\n%s", err, strings.Join(changes, ";\n"))
				return
			}
			conn = nil
			continue
		}
		done += committed(results)
	}
	s.err = conn.Close(ctx)
}

// committed counts the rows that a transaction changed for good.
func committed(results []*pgconn.Result) (n int) {
	if results[len(results)-1].CommandTag.String() != "COMMIT" {
		return 0
	}
	saved := 0
	for _, r := range results {
		switch tag := r.CommandTag; tag.String() {
		case "SAVEPOINT":
			saved = n
		case "ROLLBACK":
			n = saved
		default:
			n += int(tag.RowsAffected())
		}
	}
	return n
}

func (s *shop) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.pg.URL)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond): // the server is being started again
		}
	}
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
	table := []string{"customers", "orders"}[s.random.IntN(2)]
	id := 1 + s.random.Int64N(s.nextID[table]-1)
	switch k := s.random.IntN(100); {
	case k < 30:
		id = s.nextID[table]
		s.nextID[table]++
		if table == "customers" {
			return fmt.Sprintf("INSERT INTO customers VALUES (%d, 'new %d', repeat(md5('%d'), %d), %d.%02d, %t, now(), 0)", id, id, id, 1+s.random.IntN(200), s.random.IntN(1e6), s.random.IntN(100), k%2 == 0)
		}
		return fmt.Sprintf(`INSERT INTO orders VALUES (%d, %d, 'new', %d.%02d, '{"a": [1, 2, null], "b": "x%d"}', localtimestamp, 0)`, id, 1+s.random.IntN(3000), s.random.IntN(1e6), s.random.IntN(100), id)
	case k < 75: // leaves a large note untouched: PostgreSQL does not send it
		if table == "customers" {
			return fmt.Sprintf("UPDATE customers SET balance = balance + 1, rev = rev + 1 WHERE id = %d", id)
		}
		return fmt.Sprintf("UPDATE orders SET status = 'state %d', total = NULLIF(total, 7), rev = rev + 1 WHERE id = %d", s.random.IntN(9), id)
	case k < 82:
		if table == "customers" {
			return fmt.Sprintf("UPDATE customers SET note = repeat(md5('%d'), %d), name = NULL, rev = rev + 1 WHERE id = %d", s.random.IntN(1e9), 1+s.random.IntN(200), id)
		}
		return fmt.Sprintf("UPDATE orders SET meta = NULL, rev = rev + 1 WHERE id = %d", id)
	case k < 90: // key change: delete and create; the row has its note sent, for the key is the identity only
		to := s.nextID[table]
		s.nextID[table]++
		if table == "customers" {
			return fmt.Sprintf("UPDATE customers SET id = %d, note = 'moved', rev = rev + 1 WHERE id = %d", to, id)
		}
		return fmt.Sprintf("UPDATE orders SET id = %d, rev = rev + 1 WHERE id = %d", to, id)
	default:
		return fmt.Sprintf("DELETE FROM %s WHERE id = %d", table, id)
	}
}

// tables are the final rows as texts, columns in verify.py's order; times in microseconds since the epoch.
func (s *shop) tables() map[string][][]*string {
	s.t.Helper()
	ctx := context.Background()
	conn, err := s.connect(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(ctx)
	micros := func(column string) string {
		return fmt.Sprintf("(extract(epoch FROM %s) * 1000000)::bigint::text", column)
	}
	out := map[string][][]*string{}
	for table, query := range map[string]string{
		"customers": "SELECT id::text, name, note, balance::text, vip::text, " + micros("created") + ", rev::text FROM customers",
		"orders":    "SELECT id::text, customer_id::text, status, total::text, meta::text, " + micros("placed") + ", rev::text FROM orders",
	} {
		result, err := conn.Query(ctx, query)
		if err != nil {
			s.t.Fatal(err)
		}
		rows, err := pgx.CollectRows(result, func(r pgx.CollectableRow) ([]*string, error) {
			cells := make([]*string, 7)
			targets := make([]any, 7)
			for i := range cells {
				targets[i] = &cells[i]
			}
			return cells, r.Scan(targets...)
		})
		if err != nil {
			s.t.Fatal(err)
		}
		out[table] = rows
	}
	return out
}
