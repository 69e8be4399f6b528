package task

import (
	"context"
	"errors"
	"fmt"
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
	refused map[dlq.Place]error // by a commit of this task's predecessors
	limit   int
	id      string      // of the task
	fresh   []dlq.Entry // of the portion at hand, not written yet
	blocked map[string]bool
	seen    map[string]bool // keys of the records that wait to be handed on
	batch   []connectors.Record
	hashes  []string // of their keys as they are in the log: a transform may change the key
}

func newDead(letters *dlq.Letters, limit int, id string, refused map[dlq.Place]error) *dead {
	return &dead{letters: letters, refused: refused, limit: limit, id: id, blocked: map[string]bool{}, seen: map[string]bool{}}
}

// refuse notes the record that a commit has failed for; false: it has not, or all that may be are noted. The target has nothing of that
// commit, so the next task reads its records again.
func refuse(o SinkOptions, refused map[dlq.Place]error, err error) bool {
	var bad *connectors.RecordError
	if o.DeadLetters == 0 || len(refused) > o.DeadLetters || !errors.As(err, &bad) {
		return false
	}
	p := dlq.Place{Topic: bad.Topic, Partition: bad.Partition, Offset: bad.Offset}
	if refused[p] != nil {
		return false // it was not handed on: a mistake in the connector
	}
	refused[p] = bad
	return true
}

// writeApart is write with on_error: dlq. What cannot be handled becomes dead letters, and what comes later of the same key
// waits behind it: so no older state of a key can follow a newer one when it is put right. The letters are
// in the log before the target can move past their records. When the task dies in between, its successor
// takes them out again and decides anew (redecide).
func (t *sinkTask) writeApart(run hublog.Run) error {
	d := t.dead
	d.fresh, d.batch, d.hashes = d.fresh[:0], d.batch[:0], d.hashes[:0]
	clear(d.blocked)
	clear(d.seen)
	if t.chain != nil {
		t.chain.Reset()
	}
	err := t.sort(run)
	if err == nil {
		err = t.handApart(run.TopicPartition)
	}
	if err != nil && !errors.Is(err, errTooMany) {
		return err
	}
	if werr := d.letters.Add(t.hard, t.lease, d.fresh); werr != nil {
		t.lost = fencing(werr, t.contact, t.scope)
		return t.lost
	}
	t.o.Stats.Dead.Store(int64(d.letters.Count()))
	return err
}

// sort hands on the records of a run, no two of one key at once, for the second must wait should the first be refused.
func (t *sinkTask) sort(run hublog.Run) error {
	d := t.dead
	for i := range run.Records {
		r := &run.Records[i]
		var unread error
		if t.decoder.Registered() {
			// Before the hash: with a registry one key has as many bytes as its schema has versions, but one JSON text.
			unread = t.decoder.Decode(r)
		}
		hash := dlq.Hash(r.RawKey)
		half := halfOfMove(r)
		if d.seen[hash] || half != "" { // whether a half of a move is parked depends on all before it
			if err := t.handApart(run.TopicPartition); err != nil {
				return err
			}
		}
		behind := ""
		switch {
		case d.blocked[hash] || d.letters.Blocks(run.TopicPartition, hash):
			behind = "an earlier record of its key is in the dead letters"
		case half != "" && (len(d.fresh) > 0 || d.letters.Any(run.TopicPartition)):
			behind = "it moves a row to another key, and there are dead letters of its partition"
		}
		if behind != "" {
			if err := t.bury(r, hash, dlq.Parked, errors.New(behind)); err != nil {
				return err
			}
			continue
		}
		if unread != nil {
			if half == headerOldKey {
				return moveRefused(r, unread)
			}
			if err := t.bury(r, hash, dlq.Converter, unread); err != nil {
				return err
			}
			continue
		}
		if reason := d.refused[dlq.Place{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}]; reason != nil {
			if half == headerOldKey {
				return moveRefused(r, reason)
			}
			if err := t.bury(r, hash, dlq.Target, reason); err != nil {
				return err
			}
			continue
		}
		if t.chain != nil {
			keep, err := t.chain.Apply(r)
			if err != nil {
				if half == headerOldKey {
					return moveRefused(r, err)
				}
				if err := t.bury(r, hash, dlq.Transform, err); err != nil {
					return err
				}
				continue
			}
			if !keep {
				continue
			}
		}
		if hash != "" {
			d.seen[hash] = true
		}
		d.batch, d.hashes = append(d.batch, *r), append(d.hashes, hash)
	}
	return nil
}

// Headers of the two halves of a change of a row's key, its delete first (Debezium's RelationalChangeRecordEmitter).
const (
	headerNewKey = "__debezium.newkey"
	headerOldKey = "__debezium.oldkey"
)

// halfOfMove is the header by which a record is one half of a change of a key; "": it is none. A sink takes columns that were not
// sent from where the row was, so the second half must not go where the first has not gone.
func halfOfMove(r *connectors.Record) string {
	for i := range r.Headers {
		if k := r.Headers[i].Key; k == headerNewKey || k == headerOldKey {
			return k
		}
	}
	return ""
}

// handApart gives the sink what sort has collected.
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
		if refused := &d.batch[r.Index]; halfOfMove(refused) == headerOldKey {
			return moveRefused(refused, r.Reason)
		}
		stage := dlq.Target
		var bytes decodeError
		if errors.As(r.Reason, &bytes) {
			stage = dlq.Converter
		}
		if err := t.bury(&d.batch[r.Index], d.hashes[r.Index], stage, r.Reason); err != nil {
			return err
		}
	}
	t.o.Stats.Records.Add(-int64(len(rejects)))
	d.batch, d.hashes = d.batch[:0], d.hashes[:0]
	clear(d.seen)
	return nil
}

func moveRefused(r *connectors.Record, reason error) error {
	return connectors.Fatal(fmt.Errorf("the sink cannot take the record of %s-%d at offset %d, which moves a row to another key, and has its first half already: %w", r.Topic, r.Partition, r.Offset, reason),
		"a half of such a change cannot wait: mend the record's cause and restart the sink")
}

// errTooMany ends a task whose dead letters have reached their limit: a whole topic of them is a wrong config.
var errTooMany = errors.New("as many records as dlq.limit allows are in the dead letters")

// bury makes a record a dead letter.
func (t *sinkTask) bury(r *connectors.Record, hash string, stage dlq.Stage, reason error) error {
	d := t.dead
	where := dlq.Place{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}
	if n := d.letters.Count() + len(d.fresh); n >= d.limit {
		return connectors.Fatal(fmt.Errorf("%w (%d), and the sink cannot take the record of %s: %w", errTooMany, n, where, reason),
			fmt.Sprintf("see `forebay dlq list %s`: mend their cause, drop what is not needed, or raise dlq.limit; then restart the sink", t.o.Env.Name))
	}
	e := dlq.Entry{Place: where, Stage: stage, Connector: t.o.Env.Name, Task: d.id, Time: time.Now().UTC(), KeySHA256: hash}
	e.Explain(reason)
	d.fresh = append(d.fresh, e)
	if hash != "" {
		d.blocked[hash] = true
	}
	return nil
}

// redecide takes the letters of records that the target asks for again out of the dead letters: their task died before the target
// had moved past them, and whether they can be handled now is decided when they come.
func (t *sinkTask) redecide(ctx context.Context, from map[connectors.TopicPartition]int64) error {
	if t.dead == nil {
		return nil
	}
	var again []dlq.Place
	for tp, at := range from {
		again = append(again, t.dead.letters.From(tp, at)...)
	}
	if err := t.dead.letters.Remove(ctx, t.lease, again); err != nil {
		return fencing(err, t.contact, t.scope)
	}
	t.o.Stats.Dead.Store(int64(t.dead.letters.Count()))
	return nil
}

// count adds records to what the sink has written.
func (t *sinkTask) count(topic string, records []connectors.Record) {
	bytes := int64(0)
	for i := range records {
		bytes += int64(len(records[i].RawKey) + len(records[i].RawValue))
	}
	t.o.Stats.topic(topic).Store(true)
	t.o.Stats.Records.Add(int64(len(records)))
	t.o.Stats.Bytes.Add(bytes)
}
