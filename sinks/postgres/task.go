package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
)

// memoryBudget bounds what all partitions of a task hold before they are due (invariant 9), or flush.size does
// where it is larger. The runtime commits what is due before it hands over more.
const memoryBudget = 64 << 20

// ticks is a time that is set by the first Tick after something has happened.
type ticks struct{ at time.Time }

func (s *ticks) age(now time.Time) time.Duration {
	if s.at.IsZero() {
		s.at = now
	}
	return now.Sub(s.at)
}

// task writes the partitions that it was given through one connection.
type task struct {
	s      *sink
	env    connectors.SinkEnv
	log    *slog.Logger
	conn   *pgconn.PgConn // nil: broken, or not yet there
	parts  map[connectors.TopicPartition]*part
	tables map[string]*table
	failed error  // only a new task may go on
	key    []byte // scratch
	stages int    // temporary tables that the session has had
	spare  *buffer
}

func newTask(s *sink, env connectors.SinkEnv) *task {
	t := &task{s: s, env: env, log: env.Logger, parts: map[connectors.TopicPartition]*part{}, tables: map[string]*table{}}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	return t
}

// Open connects and makes the table of offsets.
func (t *task) Open(ctx context.Context) error {
	c, err := t.session(ctx)
	if err != nil {
		return err
	}
	return t.s.ensureOffsets(ctx, c)
}

// session is the connection; a broken one is made anew.
func (t *task) session(ctx context.Context) (*pgconn.PgConn, error) {
	if t.conn != nil && !t.conn.IsClosed() {
		return t.conn, nil
	}
	c, err := t.s.connect(ctx)
	if err != nil {
		return nil, err
	}
	t.conn = c
	for _, tb := range t.tables {
		tb.stage = "" // temporary tables went with the session
	}
	return c, nil
}

// hangUp ends the session, and with it a transaction that is open.
func (t *task) hangUp() {
	closeConn(t.conn)
	t.conn = nil
}

// Recover takes partitions over. From here on no predecessor can commit.
func (t *task) Recover(ctx context.Context, as []connectors.Assignment) (map[connectors.TopicPartition]int64, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	if t.env.Alive != nil {
		if err := t.env.Alive(); err != nil {
			return nil, err
		}
	}
	out := map[connectors.TopicPartition]int64{}
	for _, a := range as {
		p, err := t.recoverPart(ctx, a)
		if err != nil {
			return nil, fmt.Errorf("recover %s-%d: %w", a.Topic, a.Partition, err)
		}
		t.parts[a.TopicPartition] = p
		out[a.TopicPartition] = p.start
	}
	return out, nil
}

func (t *task) recoverPart(ctx context.Context, a connectors.Assignment) (*part, error) {
	c, err := t.session(ctx)
	if err != nil {
		return nil, err
	}
	tb, err := t.tableOf(ctx, c, a.Topic)
	if err != nil {
		return nil, err
	}
	next, err := t.claim(ctx, c, a)
	if err != nil {
		return nil, err
	}
	if next < a.StartOffset {
		return nil, connectors.Fatal(fmt.Errorf("offsets %d to %d are lost: the target holds the topic up to offset %d, but the log now starts at %d",
			next, a.StartOffset-1, next-1, a.StartOffset),
			"retention removed them before they were written; to go on behind the gap: UPDATE "+t.s.offsetsTable()+fmt.Sprintf(" SET next_offset = %d WHERE ", a.StartOffset)+t.rowKey(a.TopicPartition))
	}
	if next > a.EndOffset {
		return nil, connectors.Fatal(fmt.Errorf("the target holds the topic up to offset %d, but the log ends at %d: the log has lost records, or is another one", next-1, a.EndOffset),
			"compare before you go on; to write the topic again from its start: DELETE FROM "+t.s.offsetsTable()+" WHERE "+t.rowKey(a.TopicPartition))
	}
	return &part{Assignment: a, table: tb, start: next, next: next, buf: newBuffer()}, nil
}

// tableOf is the table of a topic, as the catalog has it now.
func (t *task) tableOf(ctx context.Context, c *pgconn.PgConn, topic string) (*table, error) {
	name := t.s.tableName(topic)
	tb := t.tables[name]
	if tb == nil {
		var err error
		if tb, err = t.s.loadTable(ctx, c, name); err != nil {
			return nil, err
		}
		tb.topic = topic
		t.tables[name] = tb
	}
	if t.s.cfg.upsert && tb.topic != topic {
		return nil, connectors.Fatal(fmt.Errorf("topics %s and %s would both be kept in table %s, where their keys would overwrite each other", tb.topic, topic, tb),
			"name one of them in topics, use two sinks with a table or schema each, or mode append")
	}
	return tb, nil
}

// Write takes records over into what the next commit writes.
func (t *task) Write(ctx context.Context, records []connectors.Record) ([]connectors.Reject, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	if len(records) == 0 {
		return nil, nil
	}
	p := t.parts[connectors.TopicPartition{Topic: records[0].Topic, Partition: records[0].Partition}]
	if p == nil {
		return nil, fmt.Errorf("write to %s-%d, which is not assigned", records[0].Topic, records[0].Partition)
	}
	var rejects []connectors.Reject
	for i := range records {
		r := &records[i]
		if r.Offset < p.next {
			return rejects, t.fail(fmt.Errorf("%s-%d: offset %d after %d", p.Topic, p.Partition, r.Offset, p.next-1))
		}
		err := t.writeRecord(ctx, p, r)
		var bad *recordError
		switch {
		case errors.As(err, &bad):
			rejects = append(rejects, connectors.Reject{Index: i, Reason: bad.err})
		case err != nil:
			return rejects, t.fail(fmt.Errorf("write %s-%d at %d: %w", p.Topic, p.Partition, r.Offset, err))
		default:
			p.count++
		}
		p.next = r.Offset + 1
	}
	return rejects, nil
}

func (t *task) writeRecord(ctx context.Context, p *part, r *connectors.Record) error {
	if t.env.Decode != nil && r.Key.Schema == nil && r.Value.Schema == nil && r.Change == nil {
		if err := t.env.Decode(r); err != nil {
			return &recordError{err}
		}
	}
	if t.s.cfg.upsert {
		return t.upsertRecord(ctx, p, r)
	}
	return t.appendRecord(ctx, p, r)
}

func (t *task) fail(err error) error {
	if t.failed == nil {
		t.failed = err
	}
	return err
}

// Advance says that the log holds nothing readable below next beyond what was
// written: transaction markers and aborted records. See connectors.Advancer.
func (t *task) Advance(tp connectors.TopicPartition, next int64) {
	if p := t.parts[tp]; p != nil && next > p.next {
		p.next = next
	}
}

// Tick says what is due. The age of a commit counts from the first Tick after its first record.
func (t *task) Tick(now time.Time) []connectors.TopicPartition {
	total := 0
	for _, p := range t.parts {
		total += p.size()
	}
	budget := max(memoryBudget, t.s.cfg.size)
	var due []connectors.TopicPartition
	for tp, p := range t.parts {
		if p.next == p.start {
			continue
		}
		age := p.since.age(now)
		if total > budget && !p.empty() || p.size() >= t.s.cfg.size || t.s.cfg.records > 0 && p.count >= t.s.cfg.records || age >= t.s.cfg.interval {
			due = append(due, tp)
		}
	}
	sort.Slice(due, func(i, j int) bool {
		return due[i].Topic < due[j].Topic || due[i].Topic == due[j].Topic && due[i].Partition < due[j].Partition
	})
	return due
}

// batch is what one commit writes.
type batch struct {
	part        *part
	start, next int64
	bufs        []*buffer // in their order
	done        bool
}

// Prepare closes what was collected; nothing of it is in the target yet. Staging
// it there would gain nothing: the copy is a small part of the commit's time, and the fence must come first.
func (t *task) Prepare(_ context.Context, tps []connectors.TopicPartition, _ connectors.Cause) ([]connectors.Token, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	var out []connectors.Token
	for _, tp := range tps {
		p := t.parts[tp]
		if p == nil {
			continue
		}
		if p.next == p.start {
			continue
		}
		if p.moving != nil { // the log has no second half, says the runtime
			p.torn = p.moving
			t.settle(p)
		}
		b := &batch{part: p, start: p.start, next: p.next, bufs: p.take(t.buffer())}
		p.start, p.count = p.next, 0
		p.since = ticks{}
		out = append(out, connectors.Token{TopicPartition: tp, Next: p.next, Data: b})
	}
	return out, nil
}

// take empties the part and returns what it held.
func (p *part) take(spare *buffer) []*buffer {
	all := append(p.earlier, p.buf)
	spare.wider = p.buf.wider // a key change that is held (by the audit) is spelled as the buffer was
	p.earlier, p.buf = nil, spare
	return all
}

// spell begins a new buffer when columns of the table have been widened since the last record: PostgreSQL makes
// the new type's values of what is there, as it does with the rows of the table.
func (t *task) spell(p *part) {
	tb := p.table
	if p.buf.wider == len(tb.wider) {
		return
	}
	for _, w := range tb.wider[p.buf.wider:] {
		if tb.inKey(w.col) {
			t.settle(p) // its key is spelled for the old type
		}
	}
	if !p.buf.empty() {
		p.earlier = append(p.earlier, p.buf)
		p.buf = t.buffer()
	}
	p.buf.wider = len(tb.wider)
}

// buffer is an empty one, the last that was used if there is one.
func (t *task) buffer() *buffer {
	b := t.spare
	if t.spare = nil; b == nil {
		b = newBuffer()
	}
	return b
}

// giveBack keeps a buffer for the next commit, unless it has become large: then
// many partitions would each hold on to as much.
func (t *task) giveBack(b *buffer) {
	if b != nil && cap(b.arena) <= 4*t.s.cfg.size {
		t.spare = b.reset()
	}
}

// Revoke forgets partitions and what was not committed.
func (t *task) Revoke(_ context.Context, tps []connectors.TopicPartition) error {
	for _, tp := range tps {
		delete(t.parts, tp)
	}
	return nil
}

// Close hangs up. What was not committed is read again by the next task.
func (t *task) Close() error {
	clear(t.parts)
	t.hangUp()
	return nil
}
