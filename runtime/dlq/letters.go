package dlq

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// Letters are the dead letters of one connector as far as they were read. They belong to one goroutine.
type Letters struct {
	log   *hublog.Log
	topic string
	next  int64 // of the topic: what was read
	all   map[Place]Entry
	asks  map[Place]Do
	txns  *hublog.Transactions[change]
	split *string // of a source's task: the letters and asks of others are none of its business; nil: all are
	owned bool    // by the connector's task: nobody else writes entries, and it knows its own before they can be read
	most  int     // bytes of a piece; 0: as many as there may be

	waiting int
	keys    map[blocked]int                   // how many each key has that wait
	any     map[connectors.TopicPartition]int // … and each partition
	whole   map[connectors.TopicPartition]int // … of truncates
}

type blocked struct {
	connectors.TopicPartition
	key string
}

func newLetters(l *hublog.Log, group, sink string) *Letters {
	d := &Letters{log: l, topic: Topic(group, sink), all: map[Place]Entry{}, asks: map[Place]Do{},
		keys: map[blocked]int{}, any: map[connectors.TopicPartition]int{}, whole: map[connectors.TopicPartition]int{}}
	d.txns = hublog.NewTransactions(d.apply)
	return d
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
	return d, d.txns.Finish(at.LSO, nil)
}

// Load reads the dead letters of a sink for its task, whose appender has just been opened: so what its predecessor
// wrote is settled. Like position.Load it commits a barrier and reads up to that, for a high watermark may point
// behind a record that compaction has removed.
func Load(ctx context.Context, l *hublog.Log, a *hublog.Appender, group, sink string) (*Letters, error) {
	d := newLetters(l, group, sink)
	if err := d.load(ctx, a, TopicSpec(group, sink)); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Letters) load(ctx context.Context, a *hublog.Appender, spec connectors.TopicSpec) error {
	if _, err := d.log.EnsureTopic(ctx, spec); err != nil {
		return err
	}
	if err := a.Begin(); err != nil {
		return err
	}
	a.AppendTracked(d.topic, 0, recordKey{Open: true}.bytes(), []byte("{}"))
	barrier, err := a.Commit(ctx)
	if err != nil {
		return fmt.Errorf("load dead letters: %w", err)
	}
	at, there, err := d.ends(ctx)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("load dead letters: topic %s is gone", d.topic)
	}
	if err := d.scan(ctx, at.Start, barrier+1); err != nil {
		return err
	}
	d.owned = true
	return nil
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

// Refresh reads what was asked for since. It asks for the end of the topic only, unless something has come.
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
	if d.txns.Marker(e) {
		return nil
	}
	c, ok := parse(e.Key, e.Value)
	if !ok || !d.mine(c.place) || d.owned && (!c.ask || c.do == "") {
		return nil // an own one that is read late would bring back what it was before
	}
	d.txns.Add(e, c)
	return nil
}

// mine says whether a place is one that these letters are about. It is asked before a change is held for its transaction: what is held is applied.
func (d *Letters) mine(p Place) bool {
	if d.split == nil {
		return true
	}
	end := strings.LastIndexByte(p.Topic, '/') // a split's name may have one, a topic's has none
	return end >= 0 && p.Topic[:end] == *d.split
}

func (d *Letters) apply(c change) {
	switch {
	case c.ask && c.do == "":
		delete(d.asks, c.place)
	case c.ask:
		d.asks[c.place] = c.do
	default:
		if old, ok := d.all[c.place]; ok {
			d.tally(&old, -1)
			delete(d.all, c.place)
		}
		if c.entry != nil {
			d.tally(c.entry, 1)
			d.all[c.place] = *c.entry
		}
	}
}

// tally keeps what is counted of the entries that wait.
func (d *Letters) tally(e *Entry, n int) {
	if !e.Waits() {
		return
	}
	d.waiting += n
	d.any[e.tp()] += n
	if e.KeySHA256 != "" {
		k := blocked{e.tp(), e.KeySHA256}
		if d.keys[k] += n; d.keys[k] == 0 {
			delete(d.keys, k)
		}
	}
	if e.Across == Truncate {
		d.whole[e.tp()] += n
	}
}

func (p Place) tp() connectors.TopicPartition {
	return connectors.TopicPartition{Topic: p.Topic, Partition: p.Partition}
}

// Count is how many wait.
func (d *Letters) Count() int { return d.waiting }

// Blocks says whether the later records of a key have to wait.
func (d *Letters) Blocks(tp connectors.TopicPartition, hash string) bool {
	return d.whole[tp] > 0 || hash != "" && d.keys[blocked{tp, hash}] > 0
}

// Any says whether any of a partition waits.
func (d *Letters) Any(tp connectors.TopicPartition) bool { return d.any[tp] > 0 }

// At is the entry of a record, whatever became of it.
func (d *Letters) At(p Place) (Entry, bool) {
	e, ok := d.all[p]
	return e, ok
}

// Asked is what is asked for a place; "": nothing.
func (d *Letters) Asked(p Place) Do { return d.asks[p] }

// Asks are the places that something is asked for.
func (d *Letters) Asks() []Place { return slices.SortedFunc(maps.Keys(d.asks), Place.compare) }

// Waiting are the entries that wait, in the order of the log: so those of a key are in its order.
func (d *Letters) Waiting() []Entry {
	return d.Select(func(e *Entry) bool { return e.Waits() })
}

// Select are entries in the order of the log.
func (d *Letters) Select(want func(*Entry) bool) []Entry {
	out := []Entry{}
	for _, e := range d.all {
		if want(&e) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return a.compare(b.Place) })
	return out
}

// Due are the entries of a partition that may be played again now, in the order of the log: what is asked for, and what is parked. None of
// them overtakes one that is left: of its key, of a truncate, and, for a truncate or the half of a move, of anything. What lies at passed or behind it is left.
func (d *Letters) Due(tp connectors.TopicPartition, passed int64) []Entry {
	var out []Entry
	any, whole, keys := false, false, map[string]bool{}
	for _, e := range d.Select(func(e *Entry) bool { return e.tp() == tp && e.State == Dead }) {
		wanted := d.asks[e.Place] == Replay || e.Stage == Parked
		if wanted && e.Offset < passed && !whole && !keys[e.KeySHA256] && (e.Across == "" || !any) {
			out = append(out, e)
			continue
		}
		any, whole = true, whole || e.Across == Truncate
		if e.KeySHA256 != "" {
			keys[e.KeySHA256] = true
		}
	}
	return out
}

// Overtakes finds a place of those that may not be played again although all of them are asked for, and the entry that it would overtake.
func (d *Letters) Overtakes(places []Place) (p Place, before Entry, found bool) {
	asked := newLetters(nil, "", "")
	asked.all, asked.asks = d.all, maps.Clone(d.asks)
	for _, p := range places {
		asked.asks[p] = Replay
	}
	due := map[connectors.TopicPartition][]Entry{}
	for _, p := range places {
		if _, ok := due[p.tp()]; !ok {
			due[p.tp()] = asked.Due(p.tp(), math.MaxInt64)
		}
		in := func(q Place) bool {
			return slices.ContainsFunc(due[p.tp()], func(e Entry) bool { return e.Place == q })
		}
		if in(p) {
			continue
		}
		me := d.all[p]
		for _, e := range d.Select(func(e *Entry) bool { return e.tp() == p.tp() && e.State == Dead && e.Offset < p.Offset }) {
			if (me.Across != "" || e.Across == Truncate || e.KeySHA256 == me.KeySHA256) && !in(e.Place) {
				return p, e, true
			}
		}
	}
	return Place{}, Entry{}, false
}

// Write writes entries, and ends what was asked for places, in one transaction; it has happened when it returns.
func (d *Letters) Write(ctx context.Context, a *hublog.Appender, entries []Entry, ended []Place) error {
	changes := make([]change, 0, len(entries)+len(ended))
	for i := range entries {
		changes = append(changes, change{place: entries[i].Place, entry: &entries[i]})
	}
	for _, p := range ended {
		changes = append(changes, change{place: p, ask: true})
	}
	return d.write(ctx, a, changes)
}

// Forget removes entries and what was asked for them.
func (d *Letters) Forget(ctx context.Context, a *hublog.Appender, entries []Entry) error {
	var changes []change
	for _, e := range entries {
		changes = append(changes, change{place: e.Place})
		if d.asks[e.Place] != "" {
			changes = append(changes, change{place: e.Place, ask: true})
		}
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
		key, value := c.record()
		a.AppendTracked(d.topic, 0, key, value)
	}
	if _, err := a.Commit(ctx); err != nil {
		return fmt.Errorf("write dead letters: %w", err)
	}
	for _, c := range changes {
		d.apply(c)
	}
	return nil
}

// Ask asks the sink's task for something, for all places or none. A task that runs hears of it within seconds, and one that does not
// when it starts.
func (d *Letters) Ask(ctx context.Context, group, sink string, do Do, places []Place) error {
	a, err := d.log.NewAppender(ctx, "forebay."+group+"."+sink+"/dlq", 0) // no split's (position.Scope): it would end that task
	if err != nil {
		return err
	}
	defer a.Close()
	changes := make([]change, len(places))
	for i, p := range places {
		changes[i] = change{place: p, ask: true, do: do}
	}
	return d.write(ctx, a, changes)
}
