package sim

import (
	"cmp"
	"slices"

	"github.com/forebayhub/forebay/core/commitlog"
)

// transaction is what is known of one.
type transaction struct {
	*transactor
	process    int
	from, to   int64 // inputs
	committing bool  // the process has asked for it
	ended      bool  // and was told that it is done
	outcome    outcome
}

// outcome is what the markers in the logs say.
type outcome int8

const (
	undecided outcome = iota
	committed
	aborted
)

// txnChecker knows what was promised of transactions.
type txnChecker struct {
	all     []*transaction
	of      map[int64]written        // by record
	highest []int64                  // watermarks, by the order of parts
	seenTo  map[place]bool           // whether readers of what is committed were given the record
	stables map[part]map[int64]int64 // last stable offsets that were told, and the lowest watermark with each
}

type written struct {
	in    *transaction
	input int64
}

func newTxnChecker(w *World) txnChecker {
	return txnChecker{of: map[int64]written{}, highest: make([]int64, len(w.parts)), seenTo: map[place]bool{}, stables: map[part]map[int64]int64{}}
}

func (c *checker) begun(s *session) *transaction {
	x := &transaction{transactor: s.transactor, process: s.n, from: s.at, to: s.at}
	c.all = append(c.all, x)
	return x
}

func (c *checker) wrote(x *transaction, value, input int64) { c.of[value] = written{x, input} }

func (c *checker) ended(x *transaction, commit bool) {
	x.ended = true
	c.batches++
	c.w.note("%s: process %d has ended the transaction of %d to %d, committed %v", x.name, x.process, x.from, x.to, commit)
}

// stable notes a last stable offset that a leader tells. Its own watermark may be an old one, from before it began: what lies below the highest that there ever was
// is decided for good.
func (c *checker) stable(k part, stable, watermark int64) {
	if !c.w.txns {
		return
	}
	watermark = max(watermark, c.highest[slices.Index(c.w.parts, k)])
	m := c.stables[k]
	if m == nil {
		m = map[int64]int64{}
		c.stables[k] = m
	}
	if least, ok := m[stable]; !ok || watermark < least {
		m[stable] = watermark
	}
}

// committed looks at what a reader of committed records makes of one.
func (c *checker) committed(r *reader, x entry, visible bool) {
	at := place{r.part, x.offset}
	if was, ok := c.seenTo[at]; ok && was != visible {
		c.w.fail("reader %d: whether offset %d of %v is committed was %v and is %v", r.id, x.offset, r.part, was, visible)
	}
	c.seenTo[at] = visible
	if !visible || !x.txn {
		return
	}
	if in := c.of[x.value].in; in == nil || !in.committing {
		c.w.fail("reader %d was given offset %d of %v as committed: nobody has asked to commit it", r.id, x.offset, r.part)
	}
}

// filter is how a client that reads what is committed leaves out what is not, as Kafka's consumers do.
type filter struct {
	aborted []commitlog.AbortedTxn
	open    map[int64]bool
}

func newFilter(list []commitlog.AbortedTxn) *filter {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b commitlog.AbortedTxn) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	return &filter{list, map[int64]bool{}}
}

// visible takes the entries of a read in order.
func (f *filter) visible(x entry) bool {
	for len(f.aborted) > 0 && f.aborted[0].FirstOffset <= x.offset {
		f.open[f.aborted[0].ProducerID] = true
		f.aborted = f.aborted[1:]
	}
	if x.marker {
		if !x.commit {
			delete(f.open, x.producer)
		}
		return false
	}
	return !x.txn || !f.open[x.producer]
}

// span is a transaction in a log.
type span struct {
	first   int64
	records []entry
}

// transactions looks at the end at those of one log: each has one marker, the same everywhere, and readers have seen it so.
func (c *checker) transactions(k part, log []entry) {
	if k.topic != topicName || !c.w.txns {
		return
	}
	open := map[int64]*span{}
	for _, x := range log {
		s := open[x.producer]
		switch {
		case !x.txn:
			c.readAs(k, x, true)
		case !x.marker && s == nil:
			open[x.producer] = &span{x.offset, []entry{x}}
		case !x.marker:
			s.records = append(s.records, x)
		case s != nil:
			delete(open, x.producer)
			c.decided(k, s, x)
		}
	}
	for id, s := range open {
		c.w.fail("%v: the transaction of producer %d that begins at %d has no marker", k, id, s.first)
	}
}

// decided looks at a span and its marker.
func (c *checker) decided(k part, s *span, marker entry) {
	out := aborted
	if marker.commit {
		out = committed
	}
	for _, x := range s.records {
		c.readAs(k, x, marker.commit)
		in := c.of[x.value].in
		switch {
		case in != c.of[s.records[0].value].in:
			c.w.fail("%v: the marker at %d decides two transactions, from %d on", k, marker.offset, s.first)
		case in.outcome != undecided && in.outcome != out:
			c.w.fail("%s: the transaction of process %d, %d to %d, is torn: committed is %v at offset %d of %v, and not so elsewhere", in.name, in.process, in.from, in.to, marker.commit, x.offset, k)
		case marker.commit && !in.committing:
			c.w.fail("%s: the transaction of process %d, %d to %d, is committed, and nobody has asked for it", in.name, in.process, in.from, in.to)
		}
		in.outcome = out
	}
	for stable, watermark := range c.stables[k] {
		if s.first < stable && marker.offset >= watermark {
			c.w.fail("%v: %d was told to be stable while the watermark was %d; the transaction from %d on has its marker at %d", k, stable, watermark, s.first, marker.offset)
		}
	}
}

func (c *checker) readAs(k part, x entry, visible bool) {
	if was, ok := c.seenTo[place{k, x.offset}]; ok && was != visible {
		c.w.fail("%v: readers were given offset %d as committed: %v; it is %v", k, x.offset, was, visible)
	}
}

// outcomes looks at what has come of all transactions: every input is there once, up to the offset that is committed.
func (c *checker) outcomes() {
	next := map[*transactor]int64{}
	for _, x := range c.all {
		switch {
		case x.ended && x.committing && x.outcome != committed, x.ended && !x.committing && x.outcome == committed:
			c.w.fail("%s: process %d was told that its transaction of %d to %d is ended, commit %v; what the logs have is %v", x.name, x.process, x.from, x.to, x.committing, x.outcome)
		case x.outcome != committed:
		case x.from != next[x.transactor]:
			c.w.fail("%s: the inputs %d to %d are committed by process %d, and what is committed before ends at %d", x.name, x.from, x.to, x.process, next[x.transactor])
		default:
			next[x.transactor] = x.to
		}
	}
	for _, t := range c.w.clients {
		t, ok := t.(*transactor)
		if !ok {
			continue
		}
		offset, err := c.w.committedOffset(t.name)
		if err != nil || max(offset, 0) != next[t] {
			c.w.fail("%s: inputs up to %d are committed, and its group's offset is %d, %v", t.name, next[t], offset, err)
		}
		c.w.note("end: %s has committed %d inputs with %d processes", t.name, next[t], t.process)
	}
}
