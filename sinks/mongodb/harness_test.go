package mongodb

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/testenv"
)

const topic = "shop.public.orders"

// newSink configures a sink on a server's test database.
func newSink(t testing.TB, m *testenv.MongoServer, change map[string]string) *sink {
	t.Helper()
	fields := map[string]string{"url": m.URL, "topics": topic, "database": m.Database}
	for k, v := range change {
		fields[k] = v
	}
	cfg, findings := Type().Spec.Parse(spec.FlatNode(fields))
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	s, err := New(cfg, connectors.Env{Name: "target", Group: "g", Host: "h", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s.(*sink)
}

// holds checks the documents of a collection, in the order of _id, as extended JSON.
func holds(t testing.TB, m *testenv.MongoServer, coll string, want ...string) {
	t.Helper()
	cur, err := m.DB().Collection(coll).Aggregate(t.Context(), bson.A{bson.D{{Key: "$sort", Value: bson.D{{Key: "_id", Value: 1}}}}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for cur.Next(t.Context()) {
		text, err := bson.MarshalExtJSON(cur.Current, false, false)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(text))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("%s holds\n%s\nwant\n%s", coll, strings.Join(got, "\n"), strings.Join(want, "\n"))
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
	t.Cleanup(func() { _ = l.task.Close() }) // a dropped one, too, gives its connections back at last
	if err := l.task.Open(t.Context()); err != nil {
		return l, err
	}
	resume, err := l.task.Recover(t.Context(), []connectors.Assignment{as})
	if err != nil {
		return l, err
	}
	l.next = resume[as.TopicPartition]
	l.start = l.next
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

// Schemas of a small table: id, name, note (a TOAST column), at.
var (
	optText   = &schema.Schema{Kind: schema.String, Optional: true}
	int64Type = &schema.Schema{Kind: schema.Int64}
	stampType = &schema.Schema{Kind: schema.Int64, Name: nameMicroTimestamp, Optional: true}
	orderKey  = structOf("k", "id", int64Type)
	orderRow  = structOf("r", "id", int64Type, "name", optText, "note", optText, "at", stampType)
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
	for len(list) < len(row.Fields) {
		list = append(list, schema.Value{})
	}
	r := connectors.Record{RawKey: []byte("k"), RawValue: []byte("v"), Key: keyOf(id), Change: &connectors.Change{Op: op, Row: row, At: time.Unix(1767323045, 0)}}
	if op == connectors.OpDelete {
		r.Change.Before = schema.StructOf(list...)
	} else {
		r.Change.After = schema.StructOf(list...)
	}
	return r
}

func upsert(id int64, vals ...any) connectors.Record {
	return change(connectors.OpUpdate, orderRow, id, vals...)
}

func deletion(id int64) connectors.Record { return change(connectors.OpDelete, orderRow, id) }

func tombstone(id int64) connectors.Record {
	return connectors.Record{RawKey: []byte("k"), Key: keyOf(id)}
}

// move is a key change as sources/postgres emits it.
func move(from, to int64, vals ...any) []connectors.Record {
	d, c := deletion(from), change(connectors.OpCreate, orderRow, to, vals...)
	d.Headers = []connectors.Header{{Key: headerNewKey, Value: fmt.Appendf(nil, `{"id":%d}`, to)}}
	c.Headers = []connectors.Header{{Key: headerOldKey, Value: fmt.Appendf(nil, `{"id":%d}`, from)}}
	return []connectors.Record{d, tombstone(from), c}
}

func truncation() connectors.Record {
	return connectors.Record{RawValue: []byte("v"), Change: &connectors.Change{Op: connectors.OpTruncate, Row: orderRow}}
}

// Schemas of a collection.
var (
	documentKey = structOf("c.Key", "id", &schema.Schema{Kind: schema.String})
	documentRow = schema.DocumentOf(&schema.Schema{Kind: schema.String, Name: nameJSON, Optional: true})
)

// docChange is a change of a document as sources/mongodb emits it. text "?" is a document that was gone when it was looked up.
func docChange(op connectors.Op, id, text string) connectors.Record {
	r := docTombstone(id)
	r.RawValue = []byte("v")
	r.Change = &connectors.Change{Op: op, Row: documentRow, At: time.Unix(1767323045, 0)}
	if op != connectors.OpDelete {
		r.Change.After = schema.StructOf(schema.StringOf(id), val(text))
	}
	return r
}

func docTombstone(id string) connectors.Record {
	return connectors.Record{RawKey: []byte("k"), Key: connectors.Datum{Schema: documentKey, Value: schema.StructOf(schema.StringOf(id))}}
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
