package dlq

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// Letters are the dead letters of one sink as far as they were read. They belong to one goroutine.
type Letters struct {
	log   *hublog.Log
	topic string
	next  int64 // of the topic: what was read
	open  map[Place]Entry
	keys  map[blocked]int // how many of them each key has
	txns  map[int64][]change
}

type blocked struct {
	connectors.TopicPartition
	key string
}

// change is a record of the topic whose transaction has not ended yet.
type change struct {
	entry  Entry
	gone   bool
	offset int64
}

func newLetters(l *hublog.Log, group, sink string) *Letters {
	return &Letters{log: l, topic: Topic(group, sink), open: map[Place]Entry{}, keys: map[blocked]int{}, txns: map[int64][]change{}}
}

// List reads the dead letters of a sink as they are now, for people: what a transaction that has not ended holds is left
// out. A sink that never had any has none.
func List(ctx context.Context, l *hublog.Log, group, sink string) (*Letters, error) {
	d := newLetters(l, group, sink)
	at, there, err := d.settled(ctx)
	if err != nil || !there {
		return d, err
	}
	if err := d.scan(ctx, at.Start, at.End); err != nil {
		return nil, err
	}
	for _, changes := range d.txns {
		for _, c := range changes {
			if c.offset < at.LSO { // its marker has been compacted away
				d.apply(c)
			}
		}
	}
	return d, nil
}

// Load reads the dead letters of a sink for its task, whose appender has just been opened: so what its predecessor
// wrote is settled. Like position.Load it commits a barrier and reads up to that, for a high watermark may point
// behind a record that compaction has removed.
func Load(ctx context.Context, l *hublog.Log, a *hublog.Appender, group, sink string) (*Letters, error) {
	d := newLetters(l, group, sink)
	if _, err := l.EnsureTopic(ctx, TopicSpec(group, sink)); err != nil {
		return nil, err
	}
	if err := a.Begin(); err != nil {
		return nil, err
	}
	a.AppendTracked(d.topic, 0, recordKey{Open: true}.bytes(), []byte("{}"))
	barrier, err := a.Commit(ctx)
	if err != nil {
		return nil, fmt.Errorf("load dead letters: %w", err)
	}
	at, there, err := d.ends(ctx)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, fmt.Errorf("load dead letters: topic %s is gone", d.topic)
	}
	return d, d.scan(ctx, at.Start, barrier+1)
}

func (d *Letters) ends(ctx context.Context) (at hublog.Offsets, there bool, err error) {
	tp := connectors.TopicPartition{Topic: d.topic}
	all, err := d.log.Offsets(ctx, tp)
	if err != nil {
		return at, false, fmt.Errorf("read dead letters: %w", err)
	}
	at, there = all[tp]
	return at, there, nil
}

// settled are the ends once no transaction is open, for the end of one is answered before its marker is in the topic. One that was
// abandoned stays open until its timeout: that is not waited for.
func (d *Letters) settled(ctx context.Context) (at hublog.Offsets, there bool, err error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * time.Second); ; {
		at, there, err = d.ends(ctx)
		if err != nil || !there || at.LSO >= at.End || time.Now().After(deadline) {
			return at, there, err
		}
		select {
		case <-ctx.Done():
			return at, there, ctx.Err()
		case <-tick.C:
		}
	}
}

// Refresh reads what was dropped since. It asks for the end of the topic only, unless something has come.
func (d *Letters) Refresh(ctx context.Context) error {
	at, there, err := d.ends(ctx)
	if err != nil || !there {
		return err
	}
	return d.scan(ctx, max(d.next, at.Start), at.End)
}

func (d *Letters) scan(ctx context.Context, from, to int64) (err error) {
	d.next = max(d.next, from)
	next, err := d.log.Scan(ctx, d.topic, 0, from, to, d.entry)
	d.next = max(d.next, next)
	if err != nil {
		return fmt.Errorf("read dead letters: %w", err)
	}
	return nil
}

func (d *Letters) entry(e hublog.Entry) error {
	if e.Control {
		if e.Commit {
			for _, c := range d.txns[e.ProducerID] {
				d.apply(c)
			}
		}
		delete(d.txns, e.ProducerID)
		return nil
	}
	entry, gone, ok := parse(e.Key, e.Value)
	if !ok {
		return nil
	}
	c := change{entry, gone, e.Offset}
	if !e.Transactional {
		d.apply(c)
		return nil
	}
	d.txns[e.ProducerID] = append(d.txns[e.ProducerID], c)
	return nil
}

func (d *Letters) apply(c change) {
	if old, ok := d.open[c.entry.Place]; ok {
		delete(d.open, old.Place)
		if k := old.blocked(); k.key != "" {
			if d.keys[k]--; d.keys[k] == 0 {
				delete(d.keys, k)
			}
		}
	}
	if c.gone {
		return
	}
	d.open[c.entry.Place] = c.entry
	if k := c.entry.blocked(); k.key != "" {
		d.keys[k]++
	}
}

func (e *Entry) blocked() blocked {
	return blocked{connectors.TopicPartition{Topic: e.Topic, Partition: e.Partition}, e.KeySHA256}
}

// Count is how many there are.
func (d *Letters) Count() int { return len(d.open) }

// Blocks says whether a key's later records have to wait.
func (d *Letters) Blocks(tp connectors.TopicPartition, hash string) bool {
	return hash != "" && d.keys[blocked{tp, hash}] > 0
}

// Any says whether a partition has any.
func (d *Letters) Any(tp connectors.TopicPartition) bool {
	for p := range d.open {
		if p.Topic == tp.Topic && p.Partition == tp.Partition {
			return true
		}
	}
	return false
}

// At is the entry of a record.
func (d *Letters) At(p Place) (Entry, bool) {
	e, ok := d.open[p]
	return e, ok
}

// All are the entries in the order of the log: so those of a key are in its order.
func (d *Letters) All() []Entry {
	out := make([]Entry, 0, len(d.open))
	for _, e := range d.open {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return a.compare(b.Place) })
	return out
}

// From are the places of a partition from an offset on.
func (d *Letters) From(tp connectors.TopicPartition, offset int64) []Place {
	var out []Place
	for _, e := range d.All() {
		if e.Topic == tp.Topic && e.Partition == tp.Partition && e.Offset >= offset {
			out = append(out, e.Place)
		}
	}
	return out
}

// Add writes entries in one transaction; they are there when it returns.
func (d *Letters) Add(ctx context.Context, a *hublog.Appender, entries []Entry) error {
	changes := make([]change, len(entries))
	for i, e := range entries {
		changes[i].entry = e
	}
	return d.write(ctx, a, changes)
}

// Remove takes places out of the dead letters in one transaction.
func (d *Letters) Remove(ctx context.Context, a *hublog.Appender, places []Place) error {
	changes := make([]change, len(places))
	for i, p := range places {
		changes[i] = change{entry: Entry{Place: p}, gone: true}
	}
	return d.write(ctx, a, changes)
}

func (d *Letters) write(ctx context.Context, a *hublog.Appender, changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	if err := a.Begin(); err != nil {
		return err
	}
	for _, c := range changes {
		var value []byte
		if !c.gone {
			var err error
			if value, err = json.Marshal(c.entry); err != nil {
				return err
			}
		}
		a.AppendTracked(d.topic, 0, recordKey{Place: c.entry.Place}.bytes(), value)
	}
	if _, err := a.Commit(ctx); err != nil {
		return fmt.Errorf("write dead letters: %w", err)
	}
	for _, c := range changes {
		d.apply(c)
	}
	return nil
}

// Drop takes places out of a sink's dead letters for good, all or none. It may be called while the sink runs, which
// sees it within seconds: it has a transactional id of its own.
func (d *Letters) Drop(ctx context.Context, group, sink string, places []Place) error {
	a, err := d.log.NewAppender(ctx, "forebay."+group+"."+sink+".dlq-drop", 0)
	if err != nil {
		return err
	}
	defer a.Close()
	return d.Remove(ctx, a, places)
}
