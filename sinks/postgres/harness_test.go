package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/testenv"
)

const topic = "shop.public.orders"

// newSink configures a sink on url.
func newSink(t testing.TB, url string, change map[string]string) *sink {
	t.Helper()
	m := map[string]string{"url": url, "topics": topic}
	for k, v := range change {
		m[k] = v
	}
	cfg, findings := Type().Spec.Parse(spec.FlatNode(m))
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	s, err := New(cfg, connectors.Env{Name: "target", Group: "g", Host: "h", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s.(*sink)
}

func dial(t testing.TB, url string) *pgconn.PgConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := pgconn.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(c) })
	return c
}

// rows runs a query and shows each row as a line.
func rows(t testing.TB, c *pgconn.PgConn, sql string) []string {
	t.Helper()
	rs, err := query(context.Background(), c, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var out []string
	for _, r := range rs {
		var cells []string
		for _, v := range r {
			if v == nil {
				cells = append(cells, "null")
			} else {
				cells = append(cells, string(v))
			}
		}
		out = append(out, strings.Join(cells, "|"))
	}
	return out
}

// holds checks what a query gives.
func holds(t testing.TB, c *pgconn.PgConn, sql string, want ...string) {
	t.Helper()
	got := rows(t, c, sql)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("%s\ngives %q\nwant  %q", sql, got, want)
	}
}

var epochs atomic.Int64

// life is one start of a sink's task on one partition.
type life struct {
	t     testing.TB
	task  *task
	tp    connectors.TopicPartition
	start int64
	next  int64
	dead  error
}

// assigned is the assignment that the tests' log gives.
func assigned(partition int32) connectors.Assignment {
	return connectors.Assignment{TopicPartition: connectors.TopicPartition{Topic: topic, Partition: partition}, TopicID: [16]byte{7}, EndOffset: 1 << 40}
}

func tryStart(t testing.TB, s *sink, as connectors.Assignment, epoch int64) (*life, error) {
	t.Helper()
	l := &life{t: t, tp: as.TopicPartition}
	l.task = s.Task(connectors.SinkEnv{Env: s.env, TaskID: fmt.Sprintf("task-%d", epochs.Add(1)), Epoch: epoch, Alive: func() error { return l.dead }}).(*task)
	if err := l.task.Open(t.Context()); err != nil {
		return nil, err
	}
	resume, err := l.task.Recover(t.Context(), []connectors.Assignment{as})
	if err != nil {
		return l, err
	}
	l.next = resume[as.TopicPartition]
	l.start = l.next
	t.Cleanup(func() { _ = l.task.Close() }) // a dropped one, too, gives its connection back at last
	return l, nil
}

// start starts a task whose epoch is above that of all before.
func start(t testing.TB, s *sink) *life {
	t.Helper()
	l, err := tryStart(t, s, assigned(0), epochs.Add(1))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// write hands records over; offsets are filled in.
func (l *life) write(records ...connectors.Record) {
	l.t.Helper()
	if rejects := l.tryWrite(records...); len(rejects) > 0 {
		l.t.Fatalf("rejected: %v", rejects[0].Reason)
	}
}

func (l *life) tryWrite(records ...connectors.Record) []connectors.Reject {
	l.t.Helper()
	for i := range records {
		records[i].Topic, records[i].Partition, records[i].Offset = l.tp.Topic, l.tp.Partition, l.next
		if records[i].Timestamp.IsZero() {
			records[i].Timestamp = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		}
		l.next++
	}
	rejects, err := l.task.Write(l.t.Context(), records)
	if err != nil {
		l.t.Fatal(err)
	}
	return rejects
}

func (l *life) prepare() []connectors.Token {
	l.t.Helper()
	tokens, err := l.task.Prepare(l.t.Context(), []connectors.TopicPartition{l.tp}, connectors.CauseFlush)
	if err != nil {
		l.t.Fatal(err)
	}
	return tokens
}

func (l *life) tryFlush() error {
	l.t.Helper()
	for _, tok := range l.prepare() {
		if err := l.task.Commit(l.t.Context(), tok); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) flush() {
	l.t.Helper()
	if err := l.tryFlush(); err != nil {
		l.t.Fatal(err)
	}
}

// Schemas of a small table: id, name, note (a TOAST column).
var (
	optText   = &schema.Schema{Kind: schema.String, Optional: true}
	int64Type = &schema.Schema{Kind: schema.Int64}
	orderKey  = structOf("k", "id", int64Type)
	orderRow  = structOf("r", "id", int64Type, "name", optText, "note", optText)
)

// structOf makes a struct schema of names and schemas.
func structOf(name string, pairs ...any) *schema.Schema {
	s := &schema.Schema{Kind: schema.Struct, Name: name}
	for i := 0; i < len(pairs); i += 2 {
		s.Fields = append(s.Fields, schema.Field{Name: pairs[i].(string), Schema: pairs[i+1].(*schema.Schema)})
	}
	return s
}

func keyOf(id int64) connectors.Datum {
	return connectors.Datum{Schema: orderKey, Value: schema.StructOf(schema.Int64Of(id))}
}

// val is nil for null, "?" for a column that was not sent.
func val(x any) schema.Value {
	switch x := x.(type) {
	case nil:
		return schema.Value{}
	case int:
		return schema.Int64Of(int64(x))
	case string:
		if x == "?" {
			return schema.Missing
		}
		return schema.StringOf(x)
	}
	return x.(schema.Value)
}

func change(op connectors.Op, row *schema.Schema, id int64, vals ...any) connectors.Record {
	list := []schema.Value{schema.Int64Of(id)}
	for _, v := range vals {
		list = append(list, val(v))
	}
	r := connectors.Record{RawKey: []byte("k"), RawValue: []byte("v"), Key: keyOf(id), Change: &connectors.Change{Op: op, Row: row, At: time.Unix(1767323045, 0)}}
	if op == connectors.OpDelete {
		for len(list) < len(row.Fields) {
			list = append(list, schema.Value{})
		}
		r.Change.Before = schema.StructOf(list...)
	} else {
		r.Change.After = schema.StructOf(list...)
	}
	return r
}

func upsert(id int64, name, note any) connectors.Record {
	return change(connectors.OpUpdate, orderRow, id, name, note)
}

func deletion(id int64) connectors.Record { return change(connectors.OpDelete, orderRow, id) }

func tombstone(id int64) connectors.Record {
	return connectors.Record{RawKey: []byte("k"), Key: keyOf(id)}
}

// move is a key change as sources/postgres emits it.
func move(from, to int64, name, note any) []connectors.Record {
	d, c := deletion(from), change(connectors.OpCreate, orderRow, to, name, note)
	d.Headers = []connectors.Header{{Key: headerNewKey, Value: fmt.Appendf(nil, `{"id":%d}`, to)}}
	c.Headers = []connectors.Header{{Key: headerOldKey, Value: fmt.Appendf(nil, `{"id":%d}`, from)}}
	return []connectors.Record{d, tombstone(from), c}
}

func truncation() connectors.Record {
	return connectors.Record{RawValue: []byte("v"), Change: &connectors.Change{Op: connectors.OpTruncate, Row: orderRow}}
}

func pg(t testing.TB) (url string, c *pgconn.PgConn) {
	url = testenv.Postgres(t).URL
	return url, dial(t, url)
}

func fatalWith(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil || !connectors.IsFatal(err) {
		t.Fatalf("want a fatal error, have %v", err)
	}
	text := err.Error()
	var f *connectors.FatalError
	if errors.As(err, &f) {
		text += " | " + f.Hint
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
}
