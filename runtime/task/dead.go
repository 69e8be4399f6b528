package task

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/dlq"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// decodeError is an error of a record's bytes, however a sink wraps it.
type decodeError struct{ error }

func (e decodeError) Unwrap() error { return e.error }

// dead is what a sink task with on_error: dlq knows of its dead letters.
type dead struct {
	letters *dlq.Letters
	refused map[connectors.TopicPartition]map[int64]error // by a commit of this task's predecessors
	limit   int
	id      string      // of the task
	fresh   []dlq.Entry // of the portion at hand, not written yet
	blocked map[string]bool
	whole   bool            // a truncate is among the fresh ones
	seen    map[string]bool // keys of the records that wait to be handed on
	batch   []connectors.Record
	origins []origin // … and what they were in the log: a transform may change it

	replays map[connectors.TopicPartition]*part // partitions of replays that the target was asked for
	again   *again                              // nil: no replay is under way
}

// origin is what a record says, as it is in the log, about what has to wait for it.
type origin struct {
	hash   string // of its key
	across dlq.Across
}

func newDead(letters *dlq.Letters, limit int, id string, refused map[connectors.TopicPartition]map[int64]error) *dead {
	return &dead{letters: letters, refused: refused, limit: limit, id: id, blocked: map[string]bool{}, seen: map[string]bool{}, replays: map[connectors.TopicPartition]*part{}}
}

// errAnew ends a task in good order for another one that knows more.
var errAnew = errors.New("the task begins anew")

// refuse notes the record that a commit has failed for; false: it has not, or all that may be are noted. The target has nothing of that
// commit, so the next task reads its records again.
func refuse(o SinkOptions, refused map[connectors.TopicPartition]map[int64]error, err error) bool {
	var bad *connectors.RecordError
	if o.DeadLetters == 0 || !errors.As(err, &bad) {
		return false
	}
	return later(refused, bad.TopicPartition, bad.Offset, bad, o.DeadLetters)
}

// later has the next task refuse a record; false: it was not handed on, which is a mistake in the connector, or there are as many as may be.
func later(refused map[connectors.TopicPartition]map[int64]error, tp connectors.TopicPartition, offset int64, reason error, most int) bool {
	of := refused[tp]
	if of == nil {
		of = map[int64]error{}
		refused[tp] = of
	}
	if of[offset] != nil || len(of) > most {
		return false
	}
	of[offset] = reason
	return true
}

// writeApart is write with on_error: dlq. What cannot be handled becomes dead letters, and what comes later of the same key
// waits behind it: so no older state of a key can follow a newer one when it is put right. The letters are
// in the log before the target can move past their records. When the task dies in between, its successor
// takes them out again and decides anew (redecide).
func (t *sinkTask) writeApart(run hublog.Run) error {
	t.anew()
	for i := range run.Records {
		if err := t.offer(&run.Records[i]); err != nil {
			return t.note(err)
		}
	}
	return t.note(t.handApart(run.TopicPartition))
}

// anew forgets the portion before.
func (t *sinkTask) anew() {
	d := t.dead
	d.fresh, d.batch, d.origins, d.whole = d.fresh[:0], d.batch[:0], d.origins[:0], false
	clear(d.blocked)
	clear(d.seen)
	if t.chain != nil {
		t.chain.Reset()
	}
}

// note writes the dead letters of a portion, of one that was not finished for err, too.
func (t *sinkTask) note(err error) error {
	if err != nil && !errors.Is(err, errTooMany) {
		return err
	}
	if werr := t.record(t.dead.fresh, nil); werr != nil {
		return werr
	}
	return err
}

// record writes entries, and ends what was asked for places.
func (t *sinkTask) record(entries []dlq.Entry, ended []dlq.Place) error {
	if err := t.dead.letters.Write(t.hard, t.lease, entries, ended); err != nil {
		t.lost = fencing(err, t.scope)
		return t.lost
	}
	t.o.Stats.Dead.Store(int64(t.dead.letters.Count()))
	return nil
}

// offer takes the next record of a partition: it becomes a dead letter, or waits to be handed on. No two of one key are handed on at once, for
// the second must wait should the first be refused.
func (t *sinkTask) offer(r *connectors.Record) error {
	d, tp := t.dead, connectors.TopicPartition{Topic: r.Topic, Partition: r.Partition}
	if e, ok := d.letters.At(dlq.Place{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}); ok && e.State == dlq.Dropped {
		return nil // before the target had moved past it
	}
	var unread error
	if t.decoder.Registered() {
		// Before the hash: with a registry one key has as many bytes as its schema has versions, but one JSON text.
		unread = t.decoder.Decode(r)
	}
	o := origin{dlq.Hash(r.RawKey), t.across(r)}
	if unread != nil && r.RawKey != nil && r.Key.Schema == nil {
		o.across = dlq.Truncate // whose record it is cannot be told, so all that comes waits
	}
	if d.seen[o.hash] || o.across != "" { // whether it has to wait depends on all before it
		if err := t.handApart(tp); err != nil {
			return err
		}
	}
	if behind := d.behind(r, o); behind != "" {
		return t.bury(r, o, dlq.Parked, errors.New(behind))
	}
	if unread != nil {
		return t.reject(r, o, dlq.Converter, unread)
	}
	if reason := d.refused[tp][r.Offset]; reason != nil {
		if r.From != nil {
			delete(d.refused[tp], r.Offset) // the number of a replay that reached nothing may be given again
		}
		return t.reject(r, o, dlq.Target, reason)
	}
	if t.chain != nil {
		keep, err := t.chain.Apply(r)
		if err != nil {
			return t.reject(r, o, dlq.Transform, err)
		}
		if !keep {
			d.leftOut(r)
			return nil
		}
	}
	if o.hash != "" {
		d.seen[o.hash] = true
	}
	d.batch, d.origins = append(d.batch, *r), append(d.origins, o)
	if p := t.part(tp); p != nil && hasHeader(r, headerNewKey) {
		p.half = r.Offset
	}
	if o.across == dlq.Truncate { // all that comes waits, should it be refused
		return t.handApart(tp)
	}
	return nil
}

// behind says what a record has to wait for; "": nothing.
func (d *dead) behind(r *connectors.Record, o origin) string {
	key, any, whole := d.blocked[o.hash], len(d.fresh) > 0, d.whole
	if d.again != nil {
		key, any, whole = d.again.behind(r.From.Offset, o.hash, key, any, whole)
	} else {
		tp := connectors.TopicPartition{Topic: r.Topic, Partition: r.Partition}
		key = key || d.letters.Blocks(tp, o.hash)
		any = any || o.across != "" && d.letters.Any(tp)
	}
	return waitsFor(key || whole, any, o.across)
}

// waitsFor says what a record has to wait for, when one of its key, or a truncate, or any record of its partition, is in the dead letters; "": nothing.
func waitsFor(key, any bool, across dlq.Across) string {
	switch {
	case key:
		return "an earlier record of its key, or a truncate, is in the dead letters"
	case any && across == dlq.Move:
		return "it moves a row to another key, and there are dead letters of its partition"
	case any && across == dlq.Truncate:
		return "it truncates, and there are dead letters of its partition"
	}
	return ""
}

// Headers of the two halves of a change of a row's key, its delete first (Debezium's RelationalChangeRecordEmitter).
const (
	headerNewKey = "__debezium.newkey"
	headerOldKey = "__debezium.oldkey"
)

// across says whether a record has to do with more than its key. A sink takes columns that were not
// sent from where the row was, so the second half of a move must not go where the first has not gone; rows that were put right behind a truncate would be there again.
func (t *sinkTask) across(r *connectors.Record) dlq.Across {
	if hasHeader(r, headerNewKey) || hasHeader(r, headerOldKey) {
		return dlq.Move
	}
	if r.Change != nil {
		if r.Change.Op == connectors.OpTruncate {
			return dlq.Truncate
		}
		return ""
	}
	if r.RawKey == nil && bytes.Contains(r.RawValue, []byte(`"op":"t"`)) {
		look := *r
		if t.decoder.Decode(&look) == nil && look.Change != nil && look.Change.Op == connectors.OpTruncate {
			return dlq.Truncate
		}
	}
	return ""
}

func hasHeader(r *connectors.Record, key string) bool {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return true
		}
	}
	return false
}

// handApart gives the sink what has been offered.
func (t *sinkTask) handApart(tp connectors.TopicPartition) error {
	d := t.dead
	if len(d.batch) == 0 {
		return nil
	}
	rejects, err := t.sink.Write(t.hard, d.batch)
	if err != nil {
		return fmt.Errorf("write %s-%d from offset %d: %w", tp.Topic, tp.Partition, d.batch[0].Offset, err)
	}
	t.count(tp.Topic, d.batch)
	for _, r := range rejects {
		if r.Index < 0 || r.Index >= len(d.batch) {
			return connectors.Fatal(fmt.Errorf("the sink cannot take a record of %s-%d and does not say which: %w", tp.Topic, tp.Partition, r.Reason), "a mistake in the connector")
		}
		stage := dlq.Target
		var unread decodeError
		if errors.As(r.Reason, &unread) {
			stage = dlq.Converter
		}
		if err := t.reject(&d.batch[r.Index], d.origins[r.Index], stage, r.Reason); err != nil {
			return err
		}
	}
	t.o.Stats.Records.Add(-int64(len(rejects)))
	d.batch, d.origins = d.batch[:0], d.origins[:0]
	clear(d.seen)
	return nil
}

// reject makes a record a dead letter that cannot be handled. The second half of a move becomes one behind the first: when that has been handed on, and
// the target does not have it yet, the next task refuses it.
func (t *sinkTask) reject(r *connectors.Record, o origin, stage dlq.Stage, reason error) error {
	if !hasHeader(r, headerOldKey) {
		return t.bury(r, o, stage, reason)
	}
	tp := connectors.TopicPartition{Topic: r.Topic, Partition: r.Partition}
	if p := t.part(tp); p != nil && p.half >= p.durable && later(t.dead.refused, tp, p.half, fmt.Errorf("the other half of its move: %w", reason), t.dead.limit) {
		return errAnew
	}
	return connectors.Fatal(fmt.Errorf("the sink cannot take the record of %s-%d at offset %d, which moves a row to another key, and has its first half already: %w", r.Topic, r.Partition, r.Offset, reason),
		"a half of such a change cannot wait: mend the record's cause and restart the sink")
}

// errTooMany ends a task whose dead letters have reached their limit: a whole topic of them is a wrong config.
var errTooMany = errors.New("as many records as dlq.limit allows are in the dead letters")

// bury makes a record a dead letter.
func (t *sinkTask) bury(r *connectors.Record, o origin, stage dlq.Stage, reason error) error {
	d, at := t.dead, r.Place()
	where := dlq.Place{Topic: r.Topic, Partition: at.Partition, Offset: at.Offset}
	if n := d.letters.Count() + len(d.fresh); r.From == nil && n >= d.limit {
		return connectors.Fatal(fmt.Errorf("%w (%d), and the sink cannot take the record of %s: %w", errTooMany, n, where, reason),
			fmt.Sprintf("see `forebay dlq list %s`: mend their cause, drop what is not needed, or raise dlq.limit; then restart the sink", t.o.Env.Name))
	}
	e := dlq.Entry{Place: where, Stage: stage, Connector: t.o.Env.Name, Task: d.id, Time: time.Now().UTC(), TopicID: t.topicID(r.Topic), KeySHA256: o.hash, Across: o.across}
	e.Explain(reason)
	d.add(e)
	return nil
}

func (t *sinkTask) topicID(topic string) string {
	id := t.ids[topic]
	return hex.EncodeToString(id[:])
}

func (d *dead) add(e dlq.Entry) {
	d.fresh = append(d.fresh, e)
	d.whole = d.whole || e.Across == dlq.Truncate
	if e.KeySHA256 != "" {
		d.blocked[e.KeySHA256] = true
	}
}

// redecide forgets the letters of records that the target asks for again: their task died before the target
// had moved past them, and whether they can be handled now is decided when they come. What was dropped stays dropped. Of what the log
// has no more nothing needs to be known but that it waits.
func (t *sinkTask) redecide(from, start map[connectors.TopicPartition]int64) error {
	if t.dead == nil {
		return nil
	}
	for tp, at := range from { // what the target has moved past is not read again
		maps.DeleteFunc(t.dead.refused[tp], func(offset int64, _ error) bool { return offset < at })
	}
	if err := t.drops(); err != nil { // first: what is forgotten could not be dropped any more
		return err
	}
	gone := t.dead.letters.Select(func(e *dlq.Entry) bool {
		tp := connectors.TopicPartition{Topic: e.Topic, Partition: e.Partition}
		at, ours := from[tp]
		if id := t.topicID(e.Topic); ours && e.TopicID != "" && e.TopicID != id {
			return true // of a topic that had its name before
		}
		return ours && (e.Offset >= at && e.State != dlq.Dropped || e.Offset < start[tp] && !e.Waits())
	})
	if err := t.dead.letters.Forget(t.hard, t.lease, gone); err != nil {
		return fencing(err, t.scope)
	}
	t.o.Stats.Dead.Store(int64(t.dead.letters.Count()))
	return nil
}

// count adds records to what the sink has written.
func (t *sinkTask) count(topic string, records []connectors.Record) {
	n := int64(0)
	for i := range records {
		n += int64(len(records[i].RawKey) + len(records[i].RawValue))
	}
	t.o.Stats.topic(topic).active.Store(true)
	t.o.Stats.Records.Add(int64(len(records)))
	t.o.Stats.Bytes.Add(n)
}
