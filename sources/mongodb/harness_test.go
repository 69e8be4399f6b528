package mongodb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/testenv"
)

type d = bson.D

func kv(k string, v any) d { return d{{Key: k, Value: v}} }

// configure makes a source as the config would, with times that fit a test.
func configure(t testing.TB, url string, collections []string, over map[string]any) *source {
	t.Helper()
	values := map[string]any{"url": spec.SecretText(url), "collections": collections, "snapshot": "initial", "images": "lookup"}
	for k, v := range over {
		values[k] = v
	}
	src, err := New(spec.ValuesOf(values), connectors.Env{Name: "shop", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := src.(*source)
	s.cfg.heartbeat, s.cfg.await = 100*time.Millisecond, 50*time.Millisecond
	return s
}

// logbook stands in for the runtime and the log: records and positions become durable
// together, at marks; a kill forgets everything else.
type logbook struct {
	t         testing.TB
	src       *source
	positions map[connectors.PositionKey]connectors.Position
	sink      func(connectors.Record)
	task      *task
	kills     int
	batch     int
}

func newLogbook(t testing.TB, src *source, sink func(connectors.Record)) *logbook {
	l := &logbook{t: t, src: src, sink: sink, positions: map[connectors.PositionKey]connectors.Position{}, batch: 64 << 10}
	t.Cleanup(l.close)
	return l
}

func (l *logbook) open(ctx context.Context) error {
	l.task = l.src.Task(connectors.Split{ID: splitID}).(*task)
	err := l.task.Open(ctx, l.positions)
	if err != nil {
		l.close()
	}
	return err
}

// kill drops the task as a SIGKILL does.
func (l *logbook) kill() {
	l.kills++
	_ = disconnect(l.task.client)
	l.task = nil
}

func (l *logbook) close() {
	if l.task != nil {
		if err := l.task.Close(); err != nil {
			l.t.Error(err)
		}
		l.task = nil
	}
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
	if n == len(b.Marks) && b.Marks[n-1].Upto != len(b.Records) {
		l.t.Errorf("%d of %d records are not covered by a mark", len(b.Records)-b.Marks[n-1].Upto, len(b.Records))
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

// fails reads until an error comes and returns it.
func (l *logbook) fails(ctx context.Context) error {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if l.task == nil {
		if err := l.open(ctx); err != nil {
			return err
		}
	}
	b := connectors.NewBatch(l.batch)
	for {
		if err := l.read(ctx, b, nil); err != nil {
			return err
		}
	}
}

func (l *logbook) at() stamp {
	var p streamPosition
	if b := l.positions[streamKey]; b != nil {
		if err := parsePosition(streamKey, b, &p, &p.V); err != nil {
			l.t.Fatal(err)
		}
	}
	return p.At
}

// catchUp reads until the log holds everything that the server has now.
func (l *logbook) catchUp(ctx context.Context, c *mongo.Client) {
	l.t.Helper()
	// Something after the point, in a database that nobody streams, so that the stream's time moves on.
	beyond := func() stamp {
		if _, err := c.Database("elsewhere").Collection("ticks").UpdateOne(ctx, kv("_id", 1), kv("$inc", kv("n", 1)), options.UpdateOne().SetUpsert(true)); err != nil {
			l.t.Fatal(err)
		}
		at, err := now(ctx, c)
		if err != nil {
			l.t.Fatal(err)
		}
		return at
	}
	at := beyond()
	beyond()
	l.runUntil(ctx, func() bool {
		return l.task != nil && len(l.task.pending) == 0 && len(l.task.marks) == 0 && l.at().compare(at) >= 0
	})
}

// describeRecord writes a record as a line: op, key, before, after.
func describeRecord(r connectors.Record) string {
	key := "-"
	if r.Key.Schema != nil {
		key = r.Key.Value.List[0].Text()
	}
	if r.Change == nil {
		return "tombstone " + key
	}
	c := r.Change
	return fmt.Sprintf("%c %s %s -> %s", c.Op, key, content(c.Before), content(c.After))
}

func content(v schema.Value) string {
	switch {
	case v.IsNull():
		return "null"
	case v.List[schema.DocumentContent].Kind == schema.Unavailable:
		return "missing"
	}
	return v.List[schema.DocumentContent].Text()
}

// collect keeps records as lines.
type collect struct{ lines []string }

func (c *collect) add(r connectors.Record) { c.lines = append(c.lines, describeRecord(r)) }

func (c *collect) expect(t testing.TB, want ...string) {
	t.Helper()
	if got := strings.Join(c.lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("records\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	c.lines = nil
}

func shared(t testing.TB) (*testenv.MongoServer, *mongo.Database) {
	s := testenv.Mongo(t)
	return s, s.DB()
}

func insert(t testing.TB, c *mongo.Collection, docs ...any) {
	t.Helper()
	if _, err := c.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
