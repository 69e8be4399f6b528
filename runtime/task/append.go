package task

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/dlq"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/position"
)

// append adds a batch to the open transaction, or begins one. It copies what it
// needs: the batch goes back to the reader.
func (t *sourceTask) append(ctx context.Context, b *connectors.Batch) error {
	if b.Empty() {
		return nil
	}
	if err := t.begin(); err != nil {
		return err
	}
	now := time.Now()
	if n := len(b.Records); n > 0 { // before transforms take the envelope away that says so
		t.oldest, t.newest = madeAt(&b.Records[0], now), madeAt(&b.Records[n-1], now)
	}
	for i := 0; i < len(b.Records); {
		n := 1
		if t.dead != nil {
			n = together(b.Records[i:])
			if err := t.offer(ctx, b, b.Records[i:i+n], now); err != nil {
				return err
			}
		} else if err := t.appendOrFail(ctx, b, i, now); err != nil {
			return err
		}
		i += n
	}
	covered := 0
	for i := range b.Marks {
		m := &b.Marks[i]
		covered = max(covered, m.Upto)
		if m.Position == nil {
			t.dirty[m.Key] = nil
			continue
		}
		if t.dirty[m.Key] == nil {
			t.dirty[m.Key] = make(connectors.Position, 0, len(m.Position))
		}
		t.dirty[m.Key] = append(t.dirty[m.Key][:0], m.Position...)
	}
	switch {
	case len(b.Marks) > 0:
		t.unmarked = covered < len(b.Records)
	case len(b.Records) > 0:
		t.unmarked = true
	}
	if t.unmarked && t.out.Bytes() > mostUnmarked {
		return connectors.Fatal(fmt.Errorf("the source has added %d bytes without a position", t.out.Bytes()), "a mistake in the connector: Batch.Mark must follow its records")
	}
	return nil
}

// madeAt is when a record came to be at its source; now, if nothing says it.
func madeAt(r *connectors.Record, now time.Time) time.Time {
	if at := r.SourceTime(); !at.IsZero() {
		return at
	}
	return now
}

// begin opens a transaction unless one is open.
func (t *sourceTask) begin() error {
	if t.open {
		return nil
	}
	if err := t.out.Begin(); err != nil {
		return err
	}
	t.open, t.since = true, time.Now()
	t.oldest, t.newest = t.since, t.since
	t.records = 0
	return nil
}

// appendOrFail appends a record of a batch; one that cannot be appended ends the task.
func (t *sourceTask) appendOrFail(ctx context.Context, b *connectors.Batch, i int, now time.Time) error {
	topic := b.Records[i].Topic
	out, keep, err := t.prepare(ctx, b, &b.Records[i], now)
	if err != nil {
		no := refusalOf(err)
		switch {
		case no == nil:
			return err
		case no.stage == dlq.Transform:
			return unhandled("source", t.o.Scope.Source, t.place(b, topic, i), no.error)
		}
		return connectors.Fatal(no.error, no.hint)
	}
	if keep { // else a mark behind it covers it all the same
		t.send(&out)
	}
	return nil
}

// refusal is an error of a record itself: no retry mends it.
type refusal struct {
	stage dlq.Stage
	error
	hint string
}

func (e *refusal) Unwrap() error { return e.error }

// refusalOf is the refusal among an error's causes; nil: there is none. A function of its own, for what errors.As fills in is on the heap.
func refusalOf(err error) *refusal {
	var no *refusal
	errors.As(err, &no)
	return no
}

// outgoing is a record as it is appended.
type outgoing struct {
	topic      string
	to         *sourceTopic
	partition  int32
	key, value []byte
	headers    []kgo.RecordHeader
	at         time.Time
}

// prepare transforms a record and makes its bytes, in memory that lives until the transaction has ended; keep: it is to be appended. What
// transforms make lies in b. A refusal says that it is this record that cannot be appended.
func (t *sourceTask) prepare(ctx context.Context, b *connectors.Batch, r *connectors.Record, now time.Time) (out outgoing, keep bool, err error) {
	if t.chain != nil {
		keep, err := t.chain.Apply(b, r)
		if err != nil {
			return out, false, &refusal{dlq.Transform, err, ""}
		}
		if !keep {
			return out, false, nil
		}
	}
	topic := t.topics[r.Topic]
	if topic == nil {
		if err := t.newTopic(ctx, r.Topic); err != nil {
			return out, false, err
		}
		topic = t.topics[r.Topic]
	}
	tail := t.arena.tail()
	grown, e, err := t.encoder.Encode(tail, r)
	if errors.Is(err, converter.ErrRegistry) {
		return out, false, fmt.Errorf("topic %s: %w", r.Topic, err)
	}
	if err != nil {
		return out, false, &refusal{dlq.Converter, fmt.Errorf("write a record of topic %s: %w", r.Topic, err), ""}
	}
	t.arena.keep(tail, grown)
	if e.New != nil {
		if err := t.o.Schemas.Register(ctx, *e.New); err != nil {
			return out, false, err
		}
	}
	if e.Unwritten {
		return out, false, nil
	}
	// Typed bytes lie in the arena by now, raw ones still in the batch.
	if r.Key.Schema == nil {
		e.Key = t.arena.copy(e.Key)
	}
	if r.Change == nil && r.Value.Schema == nil {
		e.Value = t.arena.copy(e.Value)
	}
	out = outgoing{topic: r.Topic, to: topic, partition: t.partition(r, e.Key, topic.partitions), key: e.Key, value: e.Value, headers: t.headers(r, e.SchemaID), at: r.Timestamp}
	if out.at.IsZero() {
		out.at = now
	}
	if n := out.size(); n > t.largest {
		return out, false, &refusal{dlq.Size, fmt.Errorf("a record of topic %s has %d bytes; the log takes %d", r.Topic, n, t.largest),
			"leave the large column out, split the line, raise the topic's max.message.bytes, or set on_error: dlq"}
	}
	return out, true, nil
}

func (o *outgoing) size() int {
	n := len(o.key) + len(o.value)
	for i := range o.headers {
		n += len(o.headers[i].Key) + len(o.headers[i].Value) + 10 // and their lengths
	}
	return n
}

func (t *sourceTask) send(o *outgoing) {
	t.out.Append(o.topic, o.partition, o.key, o.value, o.headers, o.at)
	if !o.to.used {
		o.to.used, o.to.oldest = true, t.oldest
		o.to.stats.active.Store(true)
		t.used = append(t.used, o.to)
	}
	t.records++
	t.o.Stats.Records.Add(1)
	t.o.Stats.Bytes.Add(int64(len(o.key) + len(o.value)))
}

func (t *sourceTask) headers(r *connectors.Record, schemaID []byte) []kgo.RecordHeader {
	n := len(r.Headers)
	if schemaID != nil {
		n++
	}
	if n == 0 {
		return nil
	}
	out := t.arena.header(n)
	for i, h := range r.Headers {
		out[i] = kgo.RecordHeader{Key: h.Key, Value: t.arena.copy(h.Value)}
	}
	if schemaID != nil {
		out[n-1] = kgo.RecordHeader{Key: converter.SchemaHeader, Value: schemaID}
	}
	return out
}

// partition chooses by the key's hash. Without a key, changes of a table stay in
// order in partition 0, and other records stay in order per split. Of the source's own
// choices, in a topic with fewer partitions than it asks for, several share one.
func (t *sourceTask) partition(r *connectors.Record, key []byte, n int32) int32 {
	switch {
	case r.Partition >= 0:
		return r.Partition % n
	case key != nil:
		return hublog.Partition(key, n)
	case r.Change != nil:
		return 0
	}
	return hublog.Partition([]byte(t.o.Split.ID), n)
}

// newTopic makes a topic that appeared while the task runs.
func (t *sourceTask) newTopic(ctx context.Context, name string) error {
	if err := t.ensureTopics(ctx); err != nil {
		return err
	}
	if have := t.topics[name]; have != nil && have.partitions > 0 {
		return nil
	}
	if _, err := t.o.Log.EnsureTopic(ctx, withDefaults(connectors.TopicSpec{Name: name}, t.o.Partitions)); err != nil {
		return err
	}
	return t.describe(ctx, []string{name})
}

// observe counts a commit that began at start and has ended.
func (t *sourceTask) observe(start time.Time) {
	t.o.Stats.Commits.Observe(t.lastEnd.Sub(start))
	for _, topic := range t.used {
		topic.stats.latency.Observe(max(0, t.lastEnd.Sub(topic.oldest)))
		topic.used = false
	}
	if len(t.used) > 0 {
		t.o.Stats.caught(t.lastEnd, t.lastEnd.Sub(t.newest))
	}
	t.used = t.used[:0]
}

// commit ends the open transaction: records and positions in one, then, and
// only then, the source hears of it (invariant 5).
func (t *sourceTask) commit(ctx context.Context, st connectors.SourceTask) (err error) {
	for key, p := range t.dirty {
		t.out.Append(position.Topic, 0, t.o.Scope.Key(key), p, nil, time.Time{})
	}
	start := time.Now()
	if t.o.Tracer != nil {
		began, bytes := t.since, t.out.Bytes()
		stretches := []stretch{{"append", start}}
		defer func() {
			if t.open { // the commit itself has failed
				stretches = append(stretches, stretch{"commit", time.Now()})
			} else {
				stretches = append(stretches, stretch{"commit", t.lastEnd}, stretch{"acknowledge", time.Now()})
			}
			tell(t.o.Tracer, "source transaction", trace.SpanKindProducer, began, stretches, err, attribute.String("forebay.connector", t.o.Scope.Source),
				attribute.String("forebay.split", t.o.Split.ID), attribute.Int("messaging.batch.message_count", t.records), attribute.Int("forebay.bytes", bytes))
		}()
	}
	if _, err := t.out.Commit(ctx); err != nil {
		return err
	}
	t.lastEnd = time.Now()
	t.observe(start)
	t.cost += (t.lastEnd.Sub(start) - t.cost) / 8
	t.open = false
	t.arena.reset(t.limit)
	if t.dead != nil {
		t.dead.tell(t.o.Stats)
	}
	done := t.dirty                                                           // nil positions, too: the source may let go of what it kept until the key was forgotten
	t.dirty = make(map[connectors.PositionKey]connectors.Position, len(done)) // a new one: the source may keep what it is told
	if len(done) == 0 {
		return nil
	}
	if err := st.Committed(ctx, done); err != nil {
		return fmt.Errorf("acknowledge to the source: %w", err)
	}
	return nil
}
