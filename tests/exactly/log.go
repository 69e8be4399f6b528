package exactly

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/runtime/position"
)

// Log is the model of a Kafka log on one node: topics, idempotent producers, transactions with their coordinator. Its memory is what a disk
// would hold: a restart loses connections and what was on its way, nothing else. Requests reach it through conn.go.
type Log struct {
	w  *World
	mu sync.Mutex // held for moments, never over a wait

	topics   map[string]*topic
	txns     map[string]*txn
	groups   map[string]*group
	lags     map[string]map[place]int64 // committed offsets by group
	nextID   int64
	changed  chan struct{} // closed with the next append or marker
	life     int           // counts restarts
	up       bool
	conns    map[*conn]struct{}
	damaged  map[place]int64 // where a batch does not fit its checksum: what is asked of its partition, but for records, is answered
	refused  int             // fetches, for damage
	headless map[place]bool  // no node leads it
	mute     map[string]bool // groups that have no coordinator
	// positions are the durable ones, by their record's key.
	positions map[string][]byte
}

type place struct {
	topic string
	part  int32
}

type topic struct {
	name  string
	id    [16]byte
	parts []*partition
}

type partition struct {
	batches   []record.Batch
	end       int64
	open      map[int64]int64 // first offset of each producer's open transaction
	aborted   []aborted
	producers map[int64]*producer
}

type aborted struct{ id, first, last int64 }

// producer is what a partition knows of an idempotent producer.
type producer struct {
	epoch int16
	last  []appended // the latest five of this epoch
}

type appended struct {
	first, last int32 // sequences
	at          int64
}

// txn is a transactional id as its coordinator has it.
type txn struct {
	name    string
	id      int64
	epoch   int16
	timeout time.Duration
	ongoing bool
	number  int // of the transaction: a timeout of an earlier one means nothing
	parts   map[place]bool
	marking chan struct{} // not nil: decided, and the markers are not all written; closed then
	decided bool          // the latest decision was made by EndTxn, so a retry of it is answered alike
	commit  bool
	pending []entry // positions that this transaction sets
}

type entry struct {
	key, value []byte
	offset     int64
}

func newLog(w *World) *Log {
	return &Log{w: w, topics: map[string]*topic{}, txns: map[string]*txn{}, groups: map[string]*group{}, lags: map[string]map[place]int64{}, nextID: 1000,
		changed: make(chan struct{}), up: true, conns: map[*conn]struct{}{}, damaged: map[place]int64{}, headless: map[place]bool{}, mute: map[string]bool{}, positions: map[string][]byte{}}
}

func (l *Log) wakeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Log) create(name string, parts int32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topics[name] != nil {
		return false
	}
	t := &topic{name: name}
	binary.BigEndian.PutUint64(t.id[8:], uint64(len(l.topics)+1))
	for range max(parts, 1) {
		t.parts = append(t.parts, &partition{open: map[int64]int64{}, producers: map[int64]*producer{}})
	}
	l.topics[name] = t
	return true
}

// damage makes the next batch of a partition one that cannot be read.
func (l *Log) damage(at place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.damaged[at] = l.partLocked(at).end
}

// behead takes its leader from a partition, which need not be there yet.
func (l *Log) behead(at place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.headless[at] = true
}

// heal ends what damage or behead began.
func (l *Log) heal(at place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.damaged, at)
	delete(l.headless, at)
}

// silence takes its coordinator from a group.
func (l *Log) silence(group string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mute[group] = true
}

func (l *Log) partLocked(at place) *partition {
	if t := l.topics[at.topic]; t != nil && at.part >= 0 && int(at.part) < len(t.parts) {
		return t.parts[at.part]
	}
	return nil
}

// lso is the last stable offset: where the first open transaction begins.
func (p *partition) lso() int64 {
	least := p.end
	for _, first := range p.open {
		least = min(least, first)
	}
	return least
}

func (p *partition) put(b record.Batch, count int64) (at int64) {
	at = p.end
	b.Patch(at, 0)
	p.batches = append(p.batches, b)
	p.end += count
	return at
}

// append takes the batches of one produce request's partition. It copies them.
func (l *Log) append(name *string, at place, raw []byte, implicit bool) (base int64, err *kerr.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.partLocked(at)
	if p == nil {
		return -1, kerr.UnknownTopicOrPartition
	}
	base = -1
	for rest := bytes.Clone(raw); len(rest) > 0; {
		h, b, more, bad := record.Next(rest)
		if bad != nil || b.Check() != nil {
			return -1, kerr.CorruptMessage
		}
		rest = more
		first, err := l.appendLocked(name, at, p, &h, b, implicit)
		if err != nil {
			return -1, err
		}
		if base < 0 {
			base = first
		}
	}
	l.wakeLocked()
	return base, nil
}

func (l *Log) appendLocked(name *string, at place, p *partition, h *record.Header, b record.Batch, implicit bool) (int64, *kerr.Error) {
	var t *txn
	if h.Attributes.Transactional() {
		if name == nil || l.txns[*name] == nil || l.txns[*name].id != h.ProducerID {
			return 0, kerr.InvalidProducerIDMapping
		}
		t = l.txns[*name]
		switch {
		case h.ProducerEpoch != t.epoch: // invariant 7 stands on this
			return 0, kerr.InvalidProducerEpoch
		case t.marking != nil:
			return 0, kerr.ConcurrentTransactions
		case !implicit && !(t.ongoing && t.parts[at]):
			return 0, kerr.InvalidTxnState
		}
	}
	if h.HasProducer() {
		known := p.producers[h.ProducerID]
		if known == nil || h.ProducerEpoch > known.epoch {
			known = &producer{epoch: h.ProducerEpoch}
		}
		if h.ProducerEpoch < known.epoch {
			return 0, kerr.InvalidProducerEpoch
		}
		for _, a := range known.last {
			if a.first == h.BaseSequence && a.last == h.LastSequence() {
				return a.at, nil // a retry
			}
		}
		if n := len(known.last); n == 0 && h.BaseSequence != 0 || n > 0 && h.BaseSequence != record.AddSequence(known.last[n-1].last, 1) {
			return 0, kerr.OutOfOrderSequenceNumber
		}
		known.last = append(known.last, appended{h.BaseSequence, h.LastSequence(), p.end})
		if len(known.last) > 5 {
			known.last = known.last[1:]
		}
		p.producers[h.ProducerID] = known
	}
	if t != nil {
		l.enlistLocked(t, at)
		if _, is := p.open[t.id]; !is {
			p.open[t.id] = p.end
		}
	}
	if at.topic == position.Topic {
		for r, err := range record.All(b, 0) {
			if err != nil {
				return 0, kerr.CorruptMessage
			}
			e := entry{bytes.Clone(r.Key), bytes.Clone(r.Value), 0}
			if t == nil {
				l.settleLocked(e)
			} else {
				t.pending = append(t.pending, e)
			}
		}
	}
	return p.put(b, int64(h.LastOffsetDelta)+1), nil
}

// enlistLocked makes a partition one of a transaction's, and begins that.
func (l *Log) enlistLocked(t *txn, at place) {
	if !t.ongoing {
		t.ongoing, t.parts, t.decided = true, map[place]bool{}, false
		t.number++
		number := t.number
		time.AfterFunc(t.timeout, func() { l.expire(t, number) })
	}
	t.parts[at] = true
}

// expire gives a transaction up that is open for too long.
func (l *Log) expire(t *txn, number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.ongoing && t.number == number && t.marking == nil {
		l.w.note("the log gives up the transaction of %s", t.name)
		t.epoch++
		l.decideLocked(t, false, false)
	}
}

// initialize is InitProducerId: it fences whoever has the id.
func (l *Log) initialize(name *string, timeout time.Duration, id int64, epoch int16) (int64, int16, *kerr.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name == nil {
		l.nextID++
		return l.nextID, 0, nil
	}
	t := l.txns[*name]
	if t == nil {
		l.nextID++
		t = &txn{name: *name, id: l.nextID, epoch: -1}
		l.txns[*name] = t
	}
	switch {
	case id >= 0 && (id != t.id || epoch != t.epoch):
		return -1, -1, kerr.ProducerFenced // KIP-360
	case t.marking != nil:
		return -1, -1, kerr.ConcurrentTransactions
	case t.ongoing: // whoever has it is fenced now, and asks again when the markers are written
		t.epoch++
		l.decideLocked(t, false, false)
		return -1, -1, kerr.ConcurrentTransactions
	}
	t.epoch++
	t.timeout, t.decided = timeout, false
	return t.id, t.epoch, nil
}

// enlist is AddPartitionsToTxn.
func (l *Log) enlist(name string, id int64, epoch int16, at place) *kerr.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, err := l.holderLocked(name, id, epoch)
	switch {
	case err != nil:
		return err
	case t.marking != nil:
		return kerr.ConcurrentTransactions
	case l.partLocked(at) == nil:
		return kerr.UnknownTopicOrPartition
	}
	l.enlistLocked(t, at)
	return nil
}

func (l *Log) holderLocked(name string, id int64, epoch int16) (*txn, *kerr.Error) {
	t := l.txns[name]
	switch {
	case t == nil || t.id != id:
		return nil, kerr.InvalidProducerIDMapping
	case t.epoch != epoch:
		return nil, kerr.ProducerFenced
	}
	return t, nil
}

// finish is EndTxn. With bump each transaction has an epoch of its own (KIP-890, TV2).
func (l *Log) finish(name string, id int64, epoch int16, commit, bump bool) (int16, *kerr.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.txns[name]
	if t == nil || t.id != id {
		return -1, kerr.InvalidProducerIDMapping
	}
	if again := epoch == t.epoch && !bump || epoch == t.epoch-1 && bump; again && !t.ongoing && t.decided {
		switch {
		case t.commit != commit:
			return -1, kerr.InvalidTxnState
		case t.marking != nil:
			return -1, kerr.ConcurrentTransactions
		}
		return t.epoch, nil
	}
	switch {
	case epoch != t.epoch:
		return -1, kerr.ProducerFenced
	case t.marking != nil:
		return -1, kerr.ConcurrentTransactions
	case !t.ongoing && commit:
		return -1, kerr.InvalidTxnState
	case !t.ongoing:
		return t.epoch, nil
	}
	if bump {
		t.epoch++
	}
	l.decideLocked(t, commit, true)
	return t.epoch, nil
}

// decideLocked ends a transaction: that is durable at once, the markers follow.
func (l *Log) decideLocked(t *txn, commit, asked bool) {
	t.ongoing, t.decided, t.commit, t.marking = false, asked, commit, make(chan struct{})
	if commit {
		for _, e := range t.pending {
			l.settleLocked(e)
		}
	}
	t.pending = nil
	places := make([]place, 0, len(t.parts))
	for at := range t.parts {
		places = append(places, at)
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.part, b.part)) })
	number := t.number
	time.AfterFunc(l.w.delay("marker", t.name, number), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, at := range places {
			l.markLocked(t, at, commit)
		}
		close(t.marking)
		t.marking = nil
		l.wakeLocked()
	})
}

// settleLocked makes a position durable.
func (l *Log) settleLocked(e entry) {
	if bytes.Contains(e.key, []byte(`"open":true`)) {
		return
	}
	if before := l.positions[string(e.key)]; number(e.value) < number(before) {
		l.w.violated("the position %s steps back from %s to %s", e.key, before, e.value)
	}
	l.positions[string(e.key)] = e.value
}

// markLocked writes a transaction's marker into one partition.
func (l *Log) markLocked(t *txn, at place, commit bool) {
	p := l.partLocked(at)
	kind := record.Abort
	if commit {
		kind = record.Commit
	}
	if first, is := p.open[t.id]; is && !commit {
		p.aborted = append(p.aborted, aborted{t.id, first, p.end})
	}
	delete(p.open, t.id)
	p.put(record.EndTxn(t.id, t.epoch, record.Marker{Type: kind}, time.Now().UnixMilli()), 1)
	if known := p.producers[t.id]; known == nil || known.epoch < t.epoch {
		p.producers[t.id] = &producer{epoch: t.epoch}
	}
}

// settled waits until a transactional id's markers are written.
func (l *Log) settled(name string) {
	for {
		l.mu.Lock()
		t := l.txns[name]
		var marking chan struct{}
		if t != nil {
			marking = t.marking
		}
		l.mu.Unlock()
		if marking == nil {
			return
		}
		<-marking
	}
}

// hang keeps a stranger's transaction open for d, which it waits: readers of committed records wait behind it.
func (l *Log) hang(at place, d time.Duration) {
	t := l.stranger(at)
	time.Sleep(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	if t != nil {
		l.decideLocked(t, false, true)
	}
}

// stranger begins a transaction of nobody that is known.
func (l *Log) stranger(at place) *txn {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.partLocked(at)
	if p == nil {
		return nil
	}
	l.nextID++
	t := &txn{name: fmt.Sprint("stranger-", l.nextID), id: l.nextID, parts: map[place]bool{at: true}, ongoing: true}
	l.txns[t.name] = t
	b := record.NewBuilder()
	b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Attributes = t.id, 0, 0, record.Transactional
	b.Append(time.Now().UnixMilli(), position.Scope{Group: "strangers", Source: t.name}.Key("x"), []byte(`{"n":1}`))
	batch, err := b.Bytes()
	if err != nil {
		panic(err)
	}
	p.open[t.id] = p.end
	p.put(batch, 1)
	l.wakeLocked()
	return t
}

// committed are the records of a partition that a reader of committed ones sees.
func (l *Log) committed(at place) (out []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.partLocked(at)
	if p == nil {
		return nil
	}
	for _, b := range p.batches {
		h, err := record.Parse(b)
		if err != nil {
			panic(err)
		}
		gone := slices.ContainsFunc(p.aborted, func(a aborted) bool {
			return a.id == h.ProducerID && h.BaseOffset >= a.first && h.BaseOffset < a.last
		})
		if h.Attributes.Control() || gone || h.BaseOffset >= p.lso() {
			continue
		}
		for r, err := range record.All(b, 0) {
			if err != nil {
				panic(err)
			}
			out = append(out, entry{bytes.Clone(r.Key), bytes.Clone(r.Value), r.Offset})
		}
	}
	return out
}

// position is where the log says that a source stands.
func (l *Log) position(key []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.positions[string(key)]
}

// restart loses all connections, and takes none for d.
func (l *Log) restart(d time.Duration) {
	l.mu.Lock()
	l.up = false
	l.life++
	conns := l.conns
	l.conns = map[*conn]struct{}{}
	l.mu.Unlock()
	for c := range conns {
		c.close()
	}
	time.Sleep(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up = true
	for _, g := range l.groups {
		g.restartedLocked()
	}
	l.wakeLocked()
}
