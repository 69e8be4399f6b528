package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/jackc/pgx/v5/pgconn"
)

// testURL gives an empty database: on the server of FOREBAY_TEST_POSTGRES
// (postgres://user@host:port), which may be any version, or on testenv's.
func testURL(t testing.TB) string {
	base := os.Getenv("FOREBAY_TEST_POSTGRES")
	if base == "" {
		return testenv.Postgres(t).URL
	}
	db := fmt.Sprintf("t_%x", rand.Uint64())
	admin := dial(t, base+"/postgres")
	sql(t, admin, "CREATE DATABASE "+db)
	t.Cleanup(func() {
		c := dial(t, base+"/postgres")
		sql(t, c, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+db+"'")
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
			if _, err := query(context.Background(), c, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '"+db+"'"); err == nil {
				break
			}
		}
		sql(t, c, "DROP DATABASE "+db+" WITH (FORCE)")
	})
	return base + "/" + db
}

func dial(t testing.TB, url string) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(c) })
	return c
}

func sql(t testing.TB, c *pgconn.PgConn, stmts ...string) [][][]byte {
	t.Helper()
	var rows [][][]byte
	for _, s := range stmts {
		var err error
		if rows, err = query(context.Background(), c, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return rows
}

// configure makes a source as the config would.
func configure(t testing.TB, url string, tables []string, over map[string]any) *source {
	t.Helper()
	m := map[string]any{"url": spec.SecretText(url), "tables": tables, "publication": "", "slot": fmt.Sprintf("forebay_%x", rand.Uint64()),
		"snapshot": "initial", "heartbeat": 200 * time.Millisecond, "max_row": spec.ByteSize(128 << 20)}
	for k, v := range over {
		m[k] = v
	}
	src, err := New(spec.ValuesOf(m), connectors.Env{Name: "shop", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return src.(*source)
}

// logbook stands in for the runtime and the log: records and positions become
// durable together, at marks; a kill forgets everything else.
type logbook struct {
	t         testing.TB
	src       *source
	positions map[connectors.PositionKey]connectors.Position
	sink      func(connectors.Record)
	task      connectors.SourceTask
	kills     int
	batch     int
}

func newLogbook(t testing.TB, src *source, sink func(connectors.Record)) *logbook {
	return &logbook{t: t, src: src, sink: sink, positions: map[connectors.PositionKey]connectors.Position{}, batch: 64 << 10}
}

// open starts a task at the durable positions.
func (l *logbook) open(ctx context.Context) error {
	l.task = l.src.Task(connectors.Split{ID: splitID})
	return l.task.Open(ctx, l.positions)
}

// kill drops the task as a SIGKILL does: sockets closed, nothing said.
func (l *logbook) kill() {
	l.kills++
	t := l.task.(*task)
	if t.current != nil {
		_ = t.current.w.conn.Close()
	}
	if t.stream != nil {
		t.stream.stop()
		_ = t.stream.w.conn.Close()
	}
	if t.aux != nil {
		_ = t.aux.Conn().Close()
	}
	l.task = nil
}

// read reads once and commits up to the n-th mark that marks chooses, with those that cover as many records; nil means all.
func (l *logbook) read(ctx context.Context, b *connectors.Batch, marks func(n int) int) error {
	b.Reset()
	err := l.task.Read(ctx, b)
	n := len(b.Marks)
	if marks != nil {
		n = marks(n)
	}
	if n == 0 {
		return err
	}
	for n < len(b.Marks) && b.Marks[n].Upto == b.Marks[n-1].Upto {
		n++ // marks of the same records hold together, see connectors.Mark
	}
	for _, r := range b.Records[:b.Marks[n-1].Upto] {
		l.sink(r)
	}
	now := map[connectors.PositionKey]connectors.Position{}
	for _, m := range b.Marks[:n] {
		if old := l.positions[m.Key]; old != nil && l.src.Compare(m.Key, old, m.Position) > 0 {
			l.t.Errorf("position %s steps back from %s to %s", m.Key, old, m.Position)
		}
		p := connectors.Position(strings.Clone(string(m.Position)))
		l.positions[m.Key], now[m.Key] = p, p
	}
	if marks != nil && n < len(b.Marks) {
		return err // killed before Committed
	}
	return errors.Join(err, l.task.Committed(ctx, now))
}

// runUntil reads until done says so.
func (l *logbook) runUntil(ctx context.Context, done func() bool) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if l.task == nil {
		if err := l.open(ctx); err != nil {
			l.t.Fatal(err)
		}
	}
	b := connectors.NewBatch(l.batch)
	for !done() {
		if err := l.read(ctx, b, nil); err != nil {
			l.t.Fatalf("read: %v; positions %s", err, l.positions)
		}
	}
}

func (l *logbook) lsn() LSN {
	var p streamPosition
	if b := l.positions[streamKey]; b != nil {
		if err := parsePosition(streamKey, b, &p, &p.V); err != nil {
			l.t.Fatal(err)
		}
	}
	return LSN(p.LSN)
}

// catchUp reads until the log holds everything that the server has now.
func (l *logbook) catchUp(ctx context.Context, c *pgconn.PgConn) {
	l.t.Helper()
	at, err := ParseLSN(string(sql(l.t, c, "SELECT pg_current_wal_insert_lsn()")[0][0]))
	if err != nil {
		l.t.Fatal(err)
	}
	sql(l.t, c, "SELECT pg_logical_emit_message(false, 'forebay-test', 'x')") // something after it
	l.runUntil(ctx, func() bool {
		t := l.task.(*task)
		return len(t.pending) == 0 && len(t.marks) == 0 && l.lsn() >= at
	})
}

func (l *logbook) close() {
	if l.task != nil {
		if err := l.task.Close(); err != nil {
			l.t.Error(err)
		}
		l.task = nil
	}
}

// show writes a value so that two are equal when their texts are.
func show(s *schema.Schema, v schema.Value) string {
	switch v.Kind {
	case schema.Null:
		return "null"
	case schema.Unavailable:
		return "missing"
	case schema.Bool:
		return fmt.Sprint(v.Bool())
	case schema.Int16, schema.Int32, schema.Int64:
		return fmt.Sprint(v.Int())
	case schema.Float32, schema.Float64:
		return fmt.Sprint(v.Float())
	case schema.String:
		return v.Text()
	case schema.Bytes:
		return fmt.Sprintf("%x", v.Data)
	}
	var parts []string
	for i, x := range v.List {
		if v.Kind == schema.Struct {
			parts = append(parts, s.Fields[i].Name+"="+show(s.Fields[i].Schema, x))
		} else {
			parts = append(parts, show(s.Elem, x))
		}
	}
	return "{" + strings.Join(parts, " ") + "}"
}

// describe writes a record as a line: op, key, before, after.
func describe(r connectors.Record) string {
	key := "-"
	if r.Key.Schema != nil {
		key = show(r.Key.Schema, r.Key.Value)
	}
	if r.Change == nil {
		return "tombstone " + key
	}
	c := r.Change
	return fmt.Sprintf("%c %s %s -> %s", c.Op, key, show(c.Row, c.Before), show(c.Row, c.After))
}
