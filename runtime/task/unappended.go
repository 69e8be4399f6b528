package task

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/dlq"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// mostAgainBytes is how much of what letters keep is played again in one transaction.
const mostAgainBytes = 16 << 20

// unappended is what a source task with on_error: dlq knows of the records that it could not append.
//
// A letter is in the transaction of the batch that its record came with, and of the position behind it; a record that is played again is in
// the transaction that forgets its letter. So each is in the log once or in the letters once, whatever is killed.
type unappended struct {
	letters *dlq.Letters
	limit   int
	id      string             // of this start of the task
	next    int64              // number of the next letter
	told    int64              // of the letters, how many Stats knows of
	due     bool               // it is time to do what was asked for
	encoder *converter.Encoder // of what is kept: as JSON, whatever the source's records are written as
	keys    *converter.Encoder // of keys alone, to hash them
	decoder *converter.Decoder
	buf     []byte
	was     []connectors.Record // those at hand, as the source gave them: transforms change them
	outs    []outgoing
	marks   []origin
	lanes   map[string]connectors.TopicPartition // by topic
	memory  *connectors.Batch                    // of what is played again
}

func newUnappended(ctx, hard context.Context, o SourceOptions, out *hublog.Appender, most int) (*unappended, error) {
	// due: at the limit the first batch ends the task, so what was asked for comes before it.
	d := &unappended{due: true, limit: o.DeadLetters, id: uuid.NewString(), memory: connectors.NewBatch(batchBytes), lanes: map[string]connectors.TopicPartition{},
		encoder: converter.NewEncoder(converter.Format{}), keys: converter.NewEncoder(converter.Format{})}
	d.decoder = converter.NewDecoder(func(id string) (converter.Entry, error) { return o.Schemas.Lookup(hard, id) })
	var err error
	d.letters, d.next, err = dlq.LoadSource(ctx, o.Log, out, o.Scope.Group, o.Scope.Source, o.Scope.Split)
	if err == nil {
		d.letters.Bound(most / 2)
	}
	return d, err
}

// tell keeps the count of all of a source's splits; what it counts is committed.
func (d *unappended) tell(s *Stats) {
	n := int64(d.letters.Count())
	s.Dead.Add(n - d.told)
	d.told = n
}

// together is how many records from the first on become dead letters together: both halves of a change of a row's key, and what is between
// them. Else the second might be refused when the first is in the log, and the row would be gone until it is played again.
func together(records []connectors.Record) int {
	if hasHeader(&records[0], headerNewKey) {
		for i := 1; i < min(len(records), 3); i++ { // the tombstone of the old key is between them
			if records[i].Topic == records[0].Topic && hasHeader(&records[i], headerOldKey) {
				return i + 1
			}
		}
	}
	return 1
}

// lane is where letters of a topic are counted.
func (t *sourceTask) lane(topic string) connectors.TopicPartition {
	lane, ok := t.dead.lanes[topic]
	if !ok {
		p := dlq.SourcePlace(t.o.Scope.Split, topic, 0)
		lane = connectors.TopicPartition{Topic: p.Topic, Partition: p.Partition}
		t.dead.lanes[topic] = lane
	}
	return lane
}

// offer appends records that belong together, or makes letters of them when one of them cannot be appended or they have to wait.
func (t *sourceTask) offer(ctx context.Context, b *connectors.Batch, records []connectors.Record, now time.Time) error {
	d := t.dead
	d.was = append(d.was[:0], records...)
	if d.letters.Count() > 0 && slices.ContainsFunc(records, func(r connectors.Record) bool { return d.letters.Any(t.lane(r.Topic)) }) {
		if err := t.origins(records); err != nil {
			return err
		}
		if behind := t.behind(records); behind != "" {
			return t.bury(ctx, &refusal{dlq.Parked, errors.New(behind), ""}, now)
		}
	}
	bad, err := t.attempt(ctx, b, records, now)
	if bad == nil || err != nil {
		return err
	}
	if err := t.origins(d.was); err != nil {
		return err
	}
	return t.bury(ctx, bad, now)
}

// attempt appends all of the records, or none and says why one of them cannot be.
func (t *sourceTask) attempt(ctx context.Context, b *connectors.Batch, records []connectors.Record, now time.Time) (bad *refusal, err error) {
	d := t.dead
	d.outs = d.outs[:0]
	for i := range records {
		out, keep, err := t.prepare(ctx, b, &records[i], now)
		if err != nil {
			if bad = refusalOf(err); bad == nil {
				return nil, err
			}
			return bad.at(i), nil
		}
		if keep {
			d.outs = append(d.outs, out)
		}
	}
	for i := range d.outs {
		t.send(&d.outs[i])
	}
	return nil, nil
}

// at is what is said of records that belong together when it is one of them that is refused.
func (e *refusal) at(i int) *refusal {
	if i > 0 {
		return &refusal{e.stage, fmt.Errorf("the other half of its move: %w", e.error), e.hint}
	}
	return e
}

// origins are what records say about what has to wait for them.
func (t *sourceTask) origins(records []connectors.Record) error {
	d := t.dead
	d.marks = d.marks[:0]
	for i := range records {
		r := &records[i]
		var o origin
		key := r.RawKey
		if r.Key.Schema != nil {
			grown, e, err := d.keys.Encode(d.buf[:0], &connectors.Record{Topic: r.Topic, Key: r.Key})
			if err != nil {
				return fmt.Errorf("hash a key of topic %s: %w", r.Topic, err)
			}
			d.buf, key = grown, e.Key
		}
		o.hash = dlq.Hash(key)
		switch {
		case len(records) > 1 || hasHeader(r, headerNewKey) || hasHeader(r, headerOldKey):
			o.across = dlq.Move
		case r.Change != nil && r.Change.Op == connectors.OpTruncate:
			o.across = dlq.Truncate
		}
		d.marks = append(d.marks, o)
	}
	return nil
}

// behind says what records have to wait for; "": nothing.
func (t *sourceTask) behind(records []connectors.Record) string {
	d := t.dead
	for i, o := range d.marks {
		lane := t.lane(records[i].Topic)
		if why := waitsFor(d.letters.Blocks(lane, o.hash), o.across != "" && d.letters.Any(lane), o.across); why != "" {
			return why
		}
	}
	return ""
}

// bury makes letters of the records at hand, with d.marks: the first for what is said, the others because they belong to it.
func (t *sourceTask) bury(ctx context.Context, why *refusal, now time.Time) error {
	d := t.dead
	first := d.next
	for i := range d.was {
		r, o := &d.was[i], d.marks[i]
		stage, reason := why.stage, why.error
		if i > 0 {
			stage, reason = dlq.Parked, errOtherHalf
		}
		e := dlq.Entry{Place: dlq.SourcePlace(t.o.Scope.Split, r.Topic, d.next), Stage: stage, Connector: t.o.Scope.Source, Task: d.id, Time: now.UTC(), KeySHA256: o.hash, Across: o.across}
		e.Explain(reason)
		if len(d.was) > 1 {
			e.With = first
		}
		if n := d.letters.Count(); n >= d.limit {
			return connectors.Fatal(fmt.Errorf("%w (%d), and the source cannot append the record of topic %s: %w", errTooMany, n, r.Topic, reason),
				fmt.Sprintf("see `forebay dlq list %s`: mend their cause, drop what is not needed, or raise dlq.limit; then restart the source", t.o.Scope.Source))
		}
		kept, err := t.keep(ctx, r, now)
		if err != nil {
			return err
		}
		var payload []byte
		payload, e.Cut = kept.Append(nil)
		d.letters.Bury(t.out, e, payload)
		d.next++
	}
	return nil
}

var errOtherHalf = errors.New("it belongs to a change of a row's key, whose first half is in the dead letters")

// keep is what a letter keeps of a record.
func (t *sourceTask) keep(ctx context.Context, r *connectors.Record, now time.Time) (dlq.Payload, error) {
	_, e, err := t.dead.encoder.Encode(nil, r)
	if err != nil {
		return dlq.Payload{}, connectors.Fatal(fmt.Errorf("keep a record of topic %s in the dead letters: %w", r.Topic, err), "")
	}
	if e.New != nil {
		if err := t.o.Schemas.Register(ctx, *e.New); err != nil {
			return dlq.Payload{}, err
		}
	}
	p := dlq.Payload{Topic: r.Topic, Partition: r.Partition, Timestamp: r.Timestamp, Key: e.Key, Value: e.Value, TypedKey: r.Key.Schema != nil, TypedValue: r.Value.Schema != nil || r.Change != nil}
	if p.Timestamp.IsZero() {
		p.Timestamp = now
	}
	for _, h := range r.Headers {
		p.Headers = append(p.Headers, dlq.Header{Key: h.Key, Value: h.Value})
	}
	if e.SchemaID != nil {
		p.Headers = append(p.Headers, dlq.Header{Key: converter.SchemaHeader, Value: e.SchemaID})
	}
	return p, nil
}

// restored is the record as the source gave it, but for its time, which is that of the append: the client gives up records that are old.
func (d *unappended) restored(p dlq.Payload) (connectors.Record, error) {
	r := connectors.Record{Topic: p.Topic, Partition: p.Partition, RawKey: p.Key, RawValue: p.Value}
	for _, h := range p.Headers {
		r.Headers = append(r.Headers, connectors.Header{Key: h.Key, Value: h.Value})
	}
	if !p.TypedKey && !p.TypedValue {
		return r, nil
	}
	if err := d.decoder.Decode(&r); err != nil {
		return r, err
	}
	if p.TypedKey {
		r.RawKey = nil
	} else {
		r.Key = connectors.Datum{}
	}
	if p.TypedValue {
		r.RawValue = nil
	} else {
		r.Value, r.Change = connectors.Datum{}, nil
	}
	if n := len(r.Headers) - 1; n >= 0 && r.Headers[n].Key == converter.SchemaHeader {
		r.Headers = r.Headers[:n]
	}
	return r, nil
}

// tend does what people have asked for, and appends what waits behind nothing any more, in transactions of its own: the letters that are
// read for them are in the log.
func (t *sourceTask) tend(ctx context.Context, st connectors.SourceTask) error {
	d := t.dead
	d.due = false
	if err := d.letters.Refresh(ctx); err != nil {
		return err
	}
	var done []dlq.Place
	for _, p := range d.letters.Asks() {
		if _, ok := d.letters.At(p); !ok || d.letters.Asked(p) == dlq.Drop { // or it is gone already
			done = append(done, p)
		}
	}
	if len(done) > 0 {
		if err := t.begin(); err != nil {
			return err
		}
		for _, p := range done {
			d.letters.Settle(t.out, p)
		}
		if err := t.commit(ctx, st); err != nil {
			return err
		}
	}
	lanes := map[connectors.TopicPartition]bool{}
	for _, e := range d.letters.Waiting() {
		lane := connectors.TopicPartition{Topic: e.Topic, Partition: e.Partition}
		if lanes[lane] {
			continue
		}
		lanes[lane] = true
		due := d.letters.Due(lane, math.MaxInt64)
		if len(due) == 0 {
			continue
		}
		if err := t.again(ctx, portionAgain(due)); err != nil {
			return err
		}
		if err := t.commit(ctx, st); err != nil {
			return err
		}
	}
	return nil
}

// belong is how many letters from the first on became ones together. What their records say of that may be unreadable.
func belong(due []dlq.Entry) int {
	n := 1
	for due[0].With != 0 && n < len(due) && due[n].With == due[0].With {
		n++
	}
	return n
}

// portionAgain is the front of letters whose records are appended in one transaction; the halves of a move stay together.
func portionAgain(due []dlq.Entry) []dlq.Entry {
	bytes := int64(0)
	for i := 0; i < len(due); {
		n := belong(due[i:])
		for _, e := range due[i : i+n] {
			bytes += e.Bytes
		}
		if i > 0 && (i+n > mostAgain || bytes > mostAgainBytes) {
			return due[:i]
		}
		i += n
	}
	return due
}

// again appends the records of letters in their order. Those that cannot be appended this time either stay, with the new reason, and what
// has to wait for them does.
func (t *sourceTask) again(ctx context.Context, due []dlq.Entry) error {
	d, now := t.dead, time.Now()
	records, bad, err := t.read(ctx, due) // it may take long: the log gives up a transaction that stays open
	if err != nil {
		return err
	}
	if err := t.begin(); err != nil {
		return err
	}
	d.memory.Reset()
	any, whole, keys := false, false, map[string]bool{} // of those that stay
	for n := 0; len(due) > 0; due, records, bad = due[n:], records[n:], bad[n:] {
		n = belong(due)
		why := firstOf(bad[:n])
		for _, e := range due[:n] {
			if behind := waitsFor(whole || keys[e.KeySHA256], any, e.Across); behind != "" {
				why = &refusal{dlq.Parked, errors.New(behind), ""}
				break
			}
		}
		if why == nil {
			if why, err = t.attempt(ctx, d.memory, records[:n], now); err != nil {
				return err
			}
		}
		for i, e := range due[:n] {
			if why == nil {
				d.letters.Settle(t.out, e.Place)
				continue
			}
			any, whole, keys[e.KeySHA256] = true, whole || e.Across == dlq.Truncate, e.KeySHA256 != ""
			if why.stage == dlq.Parked && e.Stage == dlq.Parked && d.letters.Asked(e.Place) == "" {
				continue // as before
			}
			e.Stage, e.Time, e.Task = why.stage, now.UTC(), d.id
			e.Explain(why.error)
			if i > 0 {
				e.Stage = dlq.Parked
				e.Explain(errOtherHalf)
			}
			d.letters.Amend(t.out, e)
		}
	}
	return nil
}

func firstOf(all []*refusal) *refusal {
	for i, r := range all {
		if r != nil {
			return r.at(i)
		}
	}
	return nil
}

var errCut = fmt.Errorf("only its beginning was kept, for it has more than %d bytes: write the row again in the source, then drop it", dlq.MostPayload)

// read gives the records of letters as the source gave them; bad says of which of them there is none any more.
func (t *sourceTask) read(ctx context.Context, due []dlq.Entry) (records []connectors.Record, bad []*refusal, err error) {
	d := t.dead
	payloads, err := d.letters.Payloads(ctx, due)
	if err != nil {
		return nil, nil, err
	}
	records, bad = make([]connectors.Record, len(due)), make([]*refusal, len(due))
	for i, e := range due {
		payload, there := payloads[e.Place]
		p, err := dlq.ParsePayload(payload)
		switch {
		case !there:
			bad[i] = &refusal{dlq.Gone, dlq.ErrNoPayload, ""}
			continue
		case err != nil:
			bad[i] = &refusal{dlq.Gone, err, ""}
			continue
		case e.Cut:
			bad[i] = &refusal{dlq.Gone, errCut, ""}
			continue
		}
		if records[i], err = d.restored(p); err != nil && !Itself(err) {
			return nil, nil, err // the types cannot be looked up right now
		} else if err != nil {
			bad[i] = &refusal{dlq.Gone, err, ""}
		}
	}
	return records, bad, nil
}
