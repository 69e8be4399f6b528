package task

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/dlq"
)

// mostAgain is how many dead letters are played again with one commit.
const mostAgain = 1000

// replayWait is how long the log may keep a replay waiting for the next record.
const replayWait = 30 * time.Second

// tend does what people have asked for, and plays again what waits behind nothing any more.
//
// A replay goes through the sink as the records of a partition of its own (connectors.ReplayPartition), so that each target takes
// them exactly once in the way that it takes all records exactly once: its offset there is committed with them. In this order:
//
//  1. What was written of the letters' own partition is committed. The target has moved past the letters: no restart brings them back.
//  2. The letters get their numbers in the log: the first is where the target stands in the partition of replays.
//  3. They are read, transformed and written under these numbers. What is refused is a dead letter again, which is in the log before 4.
//  4. The partition of replays is committed.
//  5. The letters are marked as replayed.
//
// Whoever starts after a death between 2 and 5 asks the target, and has only to write what is not in it.
func (t *sinkTask) tend() error {
	d := t.dead
	if d == nil {
		return nil
	}
	t.tended = time.Now()
	if err := d.letters.Refresh(t.hard); err != nil {
		return err
	}
	if err := t.drops(); err != nil {
		return err
	}
	done := map[connectors.TopicPartition]bool{}
	for _, e := range d.letters.Waiting() {
		tp := connectors.TopicPartition{Topic: e.Topic, Partition: e.Partition}
		if done[tp] {
			continue
		}
		done[tp] = true
		if err := t.replay(tp); err != nil {
			return err
		}
	}
	t.o.Stats.Dead.Store(int64(d.letters.Count()))
	return nil
}

// drops does what was asked for and needs no target.
func (t *sinkTask) drops() error {
	d := t.dead
	var dropped []dlq.Entry
	var ended []dlq.Place
	for _, p := range d.letters.Asks() {
		e, ok := d.letters.At(p)
		switch {
		case !ok || e.State != dlq.Dead:
			ended = append(ended, p) // somebody was faster
		case d.letters.Asked(p) == dlq.Drop:
			e.State = dlq.Dropped
			dropped, ended = append(dropped, e), append(ended, p)
		}
	}
	return t.record(dropped, ended)
}

// replay plays a partition's letters again, as far as they may be.
func (t *sinkTask) replay(tp connectors.TopicPartition) error {
	d := t.dead
	for {
		under := d.letters.Select(func(e *dlq.Entry) bool {
			return e.Topic == tp.Topic && e.Partition == tp.Partition && e.State == dlq.Replaying
		})
		due := d.letters.Due(tp, math.MaxInt64)
		if len(under) == 0 && len(due) == 0 {
			return nil
		}
		p := t.parts[tp]
		if p == nil {
			return t.unread(due)
		}
		v, err := t.replays(tp)
		if err != nil {
			return err
		}
		if len(under) > 0 {
			if left, err := t.playAgain(v, under); err != nil || left {
				return err // the target holds some back: the next time
			}
			continue
		}
		if due[len(due)-1].Offset >= p.durable {
			if err := t.commit([]connectors.TopicPartition{tp}, connectors.CauseFlush); err != nil {
				return err
			}
			_, advances := t.sink.(connectors.Advancer)
			if due = d.letters.Due(tp, p.durable); len(due) == 0 && advances {
				return nil // it will have moved past them soon
			} else if len(due) == 0 {
				return errAnew // it may never: then it is asked again, and has them as any record
			}
		}
		n := min(len(due), mostAgain)
		for n < len(due) && due[n].Across == dlq.Move { // the halves of a move stay together
			n++
		}
		due = due[:n]
		var ended []dlq.Place
		for i := range due {
			due[i].State, due[i].Number = dlq.Replaying, v.written+int64(i)
			if d.letters.Asked(due[i].Place) != "" {
				ended = append(ended, due[i].Place)
			}
		}
		if err := t.record(due, ended); err != nil {
			return err
		}
	}
}

// unread answers for letters of a topic that the sink does not read: nobody can play them again.
func (t *sinkTask) unread(due []dlq.Entry) error {
	var entries []dlq.Entry
	var ended []dlq.Place
	for _, e := range due {
		if t.dead.letters.Asked(e.Place) == "" {
			continue
		}
		e.Stage, e.Time = dlq.Gone, time.Now().UTC()
		e.Explain(errors.New("the sink does not read topic " + e.Topic))
		entries, ended = append(entries, e), append(ended, e.Place)
	}
	return t.record(entries, ended)
}

// replays is a partition's partition of replays.
func (t *sinkTask) replays(tp connectors.TopicPartition) (*part, error) {
	v := connectors.TopicPartition{Topic: tp.Topic, Partition: connectors.ReplayPartition + tp.Partition}
	if p := t.dead.replays[v]; p != nil {
		return p, nil
	}
	// Nothing is known of its end but what the target says.
	resume, err := t.sink.Recover(t.hard, []connectors.Assignment{{TopicPartition: v, TopicID: t.ids[tp.Topic], EndOffset: math.MaxInt64}})
	if err != nil {
		return nil, fmt.Errorf("recover the replays of %s-%d: %w", tp.Topic, tp.Partition, err)
	}
	at, ok := resume[v]
	if !ok {
		return nil, connectors.Fatal(fmt.Errorf("the sink does not say where to resume the replays of %s-%d", tp.Topic, tp.Partition), "a mistake in the connector")
	}
	p := &part{tp: v, written: at, committed: at, durable: at, half: -1}
	t.dead.replays[v] = p
	return p, nil
}

// playAgain writes letters that have their numbers, unless they are in the target, and marks those that are. left: some
// are neither there nor refused yet.
func (t *sinkTask) playAgain(v *part, under []dlq.Entry) (left bool, err error) {
	d := t.dead
	a := &again{part: v, done: map[int64]bool{}}
	for _, e := range under {
		if e.Number >= v.written {
			a.entries = append(a.entries, e)
		}
	}
	if len(a.entries) > 0 {
		d.again = a
		err := t.give(a)
		d.again = nil
		if err != nil {
			return false, err
		}
		v.written = a.entries[len(a.entries)-1].Number + 1
		if adv, ok := t.sink.(connectors.Advancer); ok {
			adv.Advance(v.tp, v.written) // past what a transform has left out
		}
	}
	if err := t.commit([]connectors.TopicPartition{v.tp}, connectors.CauseFlush); err != nil {
		return false, err
	}
	var marks []dlq.Entry
	for _, e := range under {
		now, _ := d.letters.At(e.Place)
		if now.State != dlq.Replaying {
			continue // refused
		}
		if now.Number < v.durable || a.done[now.Number] {
			now.State = dlq.Replayed
			marks = append(marks, now)
			continue
		}
		left = true
	}
	return left, t.record(marks, nil)
}

// again is a replay under way.
type again struct {
	part    *part
	entries []dlq.Entry // in the order of the log, and of their numbers
	done    map[int64]bool
	ahead   struct {
		any, whole int64 // offsets of the first letters that were refused before: any, and a truncate
		keys       map[string]int64
	}
}

// behind adds the letters that wait before an offset of the log to what of this portion does: those that a replay before, which died, has refused.
func (a *again) behind(at int64, hash string, key, any, whole bool) (bool, bool, bool) {
	first, ok := a.ahead.keys[hash]
	return key || ok && first < at, any || a.ahead.any < at, whole || a.ahead.whole < at
}

// leftOut notes that a transform leaves a record out: there is nothing to write.
func (d *dead) leftOut(r *connectors.Record) {
	if d.again != nil {
		d.again.done[r.Offset] = true
	}
}

// give writes the entries' records to the sink.
func (t *sinkTask) give(a *again) error {
	d := t.dead
	first := a.entries[0]
	a.ahead.any, a.ahead.whole, a.ahead.keys = math.MaxInt64, math.MaxInt64, map[string]int64{}
	for _, e := range d.letters.Waiting() { // in the order of the log
		if e.Topic != first.Topic || e.Partition != first.Partition || e.State != dlq.Dead {
			continue
		}
		a.ahead.any = min(a.ahead.any, e.Offset)
		if e.Across == dlq.Truncate {
			a.ahead.whole = min(a.ahead.whole, e.Offset)
		}
		if _, ok := a.ahead.keys[e.KeySHA256]; !ok && e.KeySHA256 != "" {
			a.ahead.keys[e.KeySHA256] = e.Offset
		}
	}
	t.anew()
	return t.note(t.read(a))
}

// read offers the records of the entries, in their order.
func (t *sinkTask) read(a *again) error {
	tp := connectors.TopicPartition{Topic: a.entries[0].Topic, Partition: a.entries[0].Partition}
	ends, err := t.o.Log.Offsets(t.hard, tp)
	if err != nil {
		return err
	}
	todo := a.entries
	for len(todo) > 0 && todo[0].Offset < ends[tp].Start {
		t.missing(&todo[0], fmt.Errorf("the log has it no more: retention has removed what is below offset %d", ends[tp].Start))
		todo = todo[1:]
	}
	poller, err := t.o.Log.NewPoller()
	if err != nil {
		return err
	}
	defer func() { poller.Close() }()
	const far = 10_000 // offsets: a poller of its own is cheaper than to read over them
	at := int64(-1)
	for heard := time.Now(); len(todo) > 0; {
		if at < 0 || todo[0].Offset-at > far {
			poller.Close()
			if poller, err = t.o.Log.NewPoller(); err != nil {
				return err
			}
			at = todo[0].Offset
			poller.Add(map[connectors.TopicPartition]int64{tp: at})
		}
		runs, err := poller.Poll(t.hard, pollWait)
		if err != nil {
			return err
		}
		for _, run := range runs {
			heard, at = time.Now(), run.Next
			if todo, err = t.offerAgain(a, todo, run.Records, run.Next); err != nil {
				return err
			}
		}
		if time.Since(heard) > replayWait {
			return fmt.Errorf("read %s for a replay: the log does not answer", todo[0].Place)
		}
	}
	return nil
}

// offerAgain takes those of a run's records that are to be played again, and returns the entries that lie behind the run.
func (t *sinkTask) offerAgain(a *again, todo []dlq.Entry, records []connectors.Record, next int64) ([]dlq.Entry, error) {
	for len(todo) > 0 && todo[0].Offset < next {
		e := &todo[0]
		for len(records) > 0 && records[0].Offset < e.Offset {
			records = records[1:]
		}
		if len(records) == 0 || records[0].Offset > e.Offset {
			t.missing(e, errors.New("the log has it no more: compaction has removed it"))
		} else {
			r := &records[0]
			if err := t.decoder.Prepare(records[:1], Itself); err != nil {
				return nil, err
			}
			from := r.Place()
			r.Partition, r.Offset, r.From = a.part.tp.Partition, e.Number, &from
			if err := t.offer(r); err != nil {
				return nil, err
			}
		}
		todo = todo[1:]
	}
	// The run's memory ends with the next poll.
	if err := t.handApart(a.part.tp); err != nil {
		return nil, err
	}
	if t.chain != nil {
		t.chain.Reset()
	}
	return todo, nil
}

// missing makes a letter one whose record is gone.
func (t *sinkTask) missing(e *dlq.Entry, why error) {
	lost := *e
	lost.Stage, lost.State, lost.Number, lost.Time, lost.Task = dlq.Gone, dlq.Dead, 0, time.Now().UTC(), t.dead.id
	lost.Explain(why)
	t.dead.add(lost)
}
