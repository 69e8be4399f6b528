package mongodb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/forebayhub/forebay/connectors"
)

// memoryBudget bounds what all partitions of a task hold before they are due, whatever flush.size says for
// each (invariant 9). The runtime commits what is due before it hands over more.
const memoryBudget = 64 << 20

// ticks is a time that is set by the first Tick after something has happened.
type ticks struct{ at time.Time }

func (s *ticks) age(now time.Time) time.Duration {
	if s.at.IsZero() {
		s.at = now
	}
	return now.Sub(s.at)
}

// task writes the partitions that it was given through one client.
type task struct {
	s       *sink
	env     connectors.SinkEnv
	log     *slog.Logger
	client  *mongo.Client
	db      *mongo.Database
	offsets *mongo.Collection
	session *mongo.Session // of all commits; its id is in the offsets' documents
	parts   map[connectors.TopicPartition]*part
	topics  map[string]string // mode upsert: the topic of a collection
	shapes  map[string]*string
	failed  error // only a new task may go on
}

func newTask(s *sink, env connectors.SinkEnv) *task {
	t := &task{s: s, env: env, log: env.Logger, parts: map[connectors.TopicPartition]*part{}, topics: map[string]string{}, shapes: map[string]*string{}}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	return t
}

// Open connects and refuses a server without transactions.
func (t *task) Open(ctx context.Context) error {
	if err := t.connect(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.s.cfg.patience)
	defer cancel()
	if err := identify(ctx, t.client); err != nil {
		return err
	}
	var err error
	if t.session, err = t.client.StartSession(); err != nil {
		return err
	}
	return t.create(ctx, t.s.cfg.offsets)
}

func (t *task) connect() error {
	c, err := t.s.connect()
	if err != nil {
		return err
	}
	t.client = c
	t.db = c.Database(t.s.cfg.database, majority())
	t.offsets = t.db.Collection(t.s.cfg.offsets)
	return nil
}

// create makes a collection outside of any transaction: within one it would hold locks that others wait for. An empty
// one that a zombie makes does no harm.
func (t *task) create(ctx context.Context, name string) error {
	err := t.db.CreateCollection(ctx, name)
	var se mongo.ServerError
	if errors.As(err, &se) && se.HasErrorCode(codeNamespaceExists) {
		return nil
	}
	return classify(err, "create the collection "+t.s.cfg.database+"."+name)
}

// Recover takes partitions over. From here on no predecessor can commit.
func (t *task) Recover(ctx context.Context, as []connectors.Assignment) (map[connectors.TopicPartition]int64, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	if err := t.alive(); err != nil {
		return nil, err
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
	// A claim waits for a transaction that is under way: the server ends one that hangs after 60 s.
	ctx, cancel := context.WithTimeout(ctx, t.s.cfg.patience+t.s.cfg.attempt)
	defer cancel()
	name := t.s.collectionName(a.Topic)
	if err := checkCollection(name); err != nil || name == t.s.cfg.offsets {
		return nil, connectors.Fatal(fmt.Errorf("topic %s cannot be written to a collection %q (%w)", a.Topic, name, err), "name another with collection")
	}
	if other, ok := t.topics[name]; ok && t.s.cfg.upsert && other != a.Topic {
		return nil, connectors.Fatal(fmt.Errorf("topics %s and %s would both be kept in collection %s, where their keys would overwrite each other", other, a.Topic, name),
			"name one of them in topics, use two sinks with a collection or database each, or mode append")
	}
	o, err := t.claim(ctx, a)
	if err != nil {
		return nil, err
	}
	if o.Next < a.StartOffset {
		return nil, connectors.Fatal(fmt.Errorf("offsets %d to %d are lost: the target holds the topic up to offset %d, but the log now starts at %d", o.Next, a.StartOffset-1, o.Next-1, a.StartOffset),
			fmt.Sprintf("retention removed them before they were written; to go on behind the gap, set next to %d in the offset's document", a.StartOffset))
	}
	if o.Next > a.EndOffset {
		return nil, connectors.Fatal(fmt.Errorf("the target holds the topic up to offset %d, but the log ends at %d: the log has lost records, or is another one", o.Next-1, a.EndOffset),
			"compare before you go on; to write the topic again from its start, "+t.forget(a.TopicPartition))
	}
	if err := t.create(ctx, name); err != nil {
		return nil, err
	}
	t.topics[name] = a.Topic
	shape := t.shapes[a.Topic]
	if shape == nil {
		shape = new(string)
		t.shapes[a.Topic] = shape
	}
	if o.Shape != "" {
		*shape = o.Shape
	}
	return &part{Assignment: a, collection: name, start: o.Next, next: o.Next, buf: newBuffer(), shape: shape, told: o.Shape}, nil
}

// Write takes records over into what the next commit writes.
func (t *task) Write(_ context.Context, records []connectors.Record) ([]connectors.Reject, error) {
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
		err := t.writeRecord(p, r)
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

func (t *task) writeRecord(p *part, r *connectors.Record) error {
	if t.env.Decode != nil && r.Key.Schema == nil && r.Value.Schema == nil && r.Change == nil {
		if err := t.env.Decode(r); err != nil {
			return &recordError{err}
		}
	}
	if t.s.cfg.upsert {
		return t.upsertRecord(p, r)
	}
	return t.appendRecord(p, r)
}

func (t *task) fail(err error) error {
	if t.failed == nil {
		t.failed = err
	}
	return err
}

func (t *task) alive() error {
	if t.env.Alive == nil {
		return nil
	}
	return t.env.Alive()
}

// Advance says that the log holds nothing readable below next beyond what was written: transaction markers and
// aborted records. See connectors.Advancer.
func (t *task) Advance(tp connectors.TopicPartition, next int64) {
	if p := t.parts[tp]; p != nil && next > p.next {
		p.next = next
	}
}

// Tick says what is due. The age of a commit counts from the first Tick after its first record.
func (t *task) Tick(now time.Time) []connectors.TopicPartition {
	total := 0
	for _, p := range t.parts {
		total += p.buf.size()
	}
	var due []connectors.TopicPartition
	for tp, p := range t.parts {
		if p.next == p.start {
			continue
		}
		age := p.since.age(now)
		if total > memoryBudget && !p.buf.empty() || p.buf.size() >= t.s.cfg.size || p.buf.moves >= maxMoves || t.s.cfg.records > 0 && p.count >= t.s.cfg.records || age >= t.s.cfg.interval {
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
	buf         *buffer
	shape       string // to be noted in the offset's document; "": it says so already
	done        bool
}

// Prepare closes what was collected; nothing of it is in the target yet.
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
		b := &batch{part: p, start: p.start, next: p.next, buf: p.buf}
		if *p.shape != p.told {
			b.shape, p.told = *p.shape, *p.shape
		}
		p.start, p.buf, p.count = p.next, newBuffer(), 0
		p.since = ticks{}
		out = append(out, connectors.Token{TopicPartition: tp, Next: p.next, Data: b})
	}
	return out, nil
}

// Revoke forgets partitions and what was not committed.
func (t *task) Revoke(_ context.Context, tps []connectors.TopicPartition) error {
	for _, tp := range tps {
		if p := t.parts[tp]; p != nil {
			delete(t.topics, p.collection)
			for other, q := range t.parts { // another partition of the topic may still be ours
				if other != tp && q.collection == p.collection {
					t.topics[p.collection] = q.Topic
				}
			}
		}
		delete(t.parts, tp)
	}
	return nil
}

// Close hangs up. What was not committed is read again by the next task.
func (t *task) Close() error {
	clear(t.parts)
	if t.session != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		t.session.EndSession(ctx)
		t.session = nil
	}
	err := disconnect(t.client)
	t.client = nil
	if errors.Is(err, mongo.ErrClientDisconnected) {
		return nil
	}
	return err
}
