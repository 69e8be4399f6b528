package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// writers change both databases and both logs until they are stopped.
type writers struct {
	rows, documents, lines atomic.Int64 // made so far

	stop    chan struct{}
	wg      sync.WaitGroup
	mu      sync.Mutex // guards failed
	failed  error
	written map[string]int // lines by log; whole after wait
}

func (w *writers) start(work func() error) {
	w.wg.Go(func() {
		if err := work(); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.failed = errors.Join(w.failed, err)
		}
	})
}

// wait ends the writers and says what went wrong with them.
func (w *writers) wait() error {
	close(w.stop)
	w.wg.Wait()
	return w.failed
}

// pace lets d pass; false when the writers shall end.
func (w *writers) pace(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.stop:
		return false
	case <-timer.C:
		return true
	}
}

const schema = `
CREATE TABLE customers (id bigint PRIMARY KEY, name text, note text, balance numeric(12,2), vip boolean, created timestamptz, rev bigint NOT NULL);
ALTER TABLE customers ALTER COLUMN note SET STORAGE EXTERNAL;
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint, status varchar(20), total numeric(10,2), meta jsonb, placed timestamp, due date, tags text[], rev bigint NOT NULL);
INSERT INTO customers SELECT i, 'customer ' || i, repeat(md5(i::text), 1 + (i % 3)::int * 100), i * 1.25, i % 7 = 0, timestamptz '2026-01-01 00:00:00+00' + i * interval '1 minute', 0 FROM generate_series(1, 2000) i;
INSERT INTO orders SELECT i, 1 + i % 2000, 'new', i * 0.75, jsonb_build_object('n', i, 'text', 'a "quoted" ü'), timestamp '2026-02-01 12:00:00.123456' + i * interval '1 second', date '2026-02-01' + i::int, ARRAY['a,b', NULL, i::text], 0 FROM generate_series(1, 2000) i;
`

// postgres changes the shop in transactions of one to six statements; some are rolled back.
func (w *writers) postgres(url string, random *rand.Rand) error {
	ctx := context.Background()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	next := map[string]int64{"customers": 2001, "orders": 2001}
	var conn *pgx.Conn
	for w.pace(2 * time.Millisecond) {
		if conn == nil || conn.IsClosed() {
			if conn, err = pgx.ConnectConfig(ctx, config); err != nil {
				conn = nil // the server is being started again
				continue
			}
		}
		statements := []string{"BEGIN"}
		for range 1 + random.IntN(6) {
			statements = append(statements, statement(random, next))
		}
		end := "COMMIT"
		if random.IntN(8) == 0 {
			end = "ROLLBACK"
		}
		// A connection that breaks leaves the transaction undecided; the table itself is the truth, so going on is right.
		if _, err := conn.Exec(ctx, strings.Join(append(statements, end), ";\n")); err != nil {
			if !conn.IsClosed() {
				return fmt.Errorf("%w in\n%s", err, strings.Join(statements, ";\n"))
			}
			continue
		}
		w.rows.Add(int64(len(statements) - 1))
	}
	if conn == nil {
		return nil
	}
	return conn.Close(ctx)
}

func statement(random *rand.Rand, next map[string]int64) string {
	table := []string{"customers", "orders"}[random.IntN(2)]
	id, fresh := 1+random.Int64N(next[table]-1), next[table]
	switch k := random.IntN(100); {
	case k < 30:
		next[table]++
		if table == "customers" {
			return fmt.Sprintf("INSERT INTO customers VALUES (%d, 'new %d', repeat(md5('%d'), %d), %d.%02d, %t, now(), 0)", fresh, fresh, fresh, 1+random.IntN(200), random.IntN(1e6), random.IntN(100), k%2 == 0)
		}
		return fmt.Sprintf(`INSERT INTO orders VALUES (%d, %d, 'new', %d.%02d, '{"a": [1, 2, null], "b": "x%d"}', localtimestamp, current_date, '{}', 0)`, fresh, 1+random.IntN(2000), random.IntN(1e6), random.IntN(100), fresh)
	case k < 80: // leaves a large note untouched: PostgreSQL does not send it
		if table == "customers" {
			return fmt.Sprintf("UPDATE customers SET balance = balance + 1, name = NULLIF(name, 'customer %d'), rev = rev + 1 WHERE id = %d", id, id)
		}
		return fmt.Sprintf("UPDATE orders SET status = 'state %d', meta = NULL, tags = array_append(tags, 'x'), rev = rev + 1 WHERE id = %d", random.IntN(9), id)
	case k < 90: // a key change is a delete and a create
		next[table]++
		return fmt.Sprintf("UPDATE %s SET id = %d, rev = rev + 1 WHERE id = %d", table, fresh, id)
	default:
		return fmt.Sprintf("DELETE FROM %s WHERE id = %d", table, id)
	}
}

// documents are the collection's first ones.
func documents(n int) []any {
	var out []any
	for i := range n {
		out = append(out, document(int64(i), 0))
	}
	return out
}

func document(id, rev int64) bson.D {
	return bson.D{{Key: "_id", Value: id}, {Key: "rev", Value: rev}, {Key: "user", Value: fmt.Sprintf("user %d ü", id%97)},
		{Key: "page", Value: bson.D{{Key: "path", Value: fmt.Sprintf("/p/%d", id)}, {Key: "tags", Value: bson.A{"a", rev, nil, 1.5}}}},
		{Key: "at", Value: bson.DateTime(1_770_000_000_000 + id)}}
}

// mongo changes the collection, a document at a time. What fails in an election may have been done or not: the collection is the truth.
func (w *writers) mongo(url, database string, first int64, random *rand.Rand) error {
	client, err := mongo.Connect(options.Client().ApplyURI(url).SetWriteConcern(writeconcern.Majority()).SetServerSelectionTimeout(30 * time.Second))
	if err != nil {
		return err
	}
	ctx := context.Background()
	defer func() { _ = client.Disconnect(ctx) }() // the changes are made
	events := client.Database(database).Collection("events")
	for next := first; w.pace(3 * time.Millisecond); {
		id := bson.D{{Key: "_id", Value: random.Int64N(next)}}
		switch k := random.IntN(100); {
		case k < 40:
			_, err = events.InsertOne(ctx, document(next, 0))
			next++
		case k < 75:
			_, err = events.UpdateOne(ctx, id, bson.D{{Key: "$inc", Value: bson.D{{Key: "rev", Value: 1}}}, {Key: "$set", Value: bson.D{{Key: "page.path", Value: fmt.Sprintf("/q/%d", k)}}}})
		case k < 85:
			_, err = events.ReplaceOne(ctx, id, document(id[0].Value.(int64), 1_000_000+random.Int64N(1e6)))
		default:
			_, err = events.DeleteOne(ctx, id)
		}
		if err == nil {
			w.documents.Add(1)
		}
	}
	return nil
}

// logs appends numbered lines to a file, sometimes in two pieces, and rotates it by renaming, as logrotate does.
func (w *writers) logs(dir, name string, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 9))
	path := filepath.Join(dir, name+".log")
	pad := strings.Repeat("x", 80)
	n := 0
	for rotation := 1; ; rotation++ {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		more := true
		for i := 0; i < 3000 && more; i++ {
			line := fmt.Sprintf("%s %d %s\n", name, n, pad)
			cut := len(line)
			if random.IntN(7) == 0 {
				cut = random.IntN(cut)
			}
			_, err1 := f.WriteString(line[:cut])
			if i%20 == 0 {
				more = w.pace(10 * time.Millisecond)
			}
			_, err2 := f.WriteString(line[cut:])
			if err := errors.Join(err1, err2); err != nil {
				return errors.Join(err, f.Close())
			}
			n++
			w.lines.Add(1)
		}
		if err := f.Close(); err != nil {
			return err
		}
		if !more {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.written[name] = n
			return nil
		}
		if err := os.Rename(path, fmt.Sprintf("%s.%d", path, rotation)); err != nil {
			return err
		}
	}
}
