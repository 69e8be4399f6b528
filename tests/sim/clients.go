package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/record"
)

// client is a producer or a reader.
type client interface {
	begin()
	done() bool // it wants nothing more
	say() string
}

func (w *World) startClients() {
	for n := range w.partitions {
		w.clients = append(w.clients,
			&producer{w: w, id: len(w.clients), part: data(n), acks: -1},
			&producer{w: w, id: len(w.clients) + 1, part: data(n), acks: []int16{-1, 1}[w.rng.IntN(2)]},
			&reader{w: w, id: len(w.clients) + 2, part: data(n), epoch: -1, last: -1},
			&reader{w: w, id: len(w.clients) + 3, part: data(n), epoch: -1, last: -1, committed: w.txns},
		)
	}
	w.startTransactors()
	for _, c := range w.clients {
		c.begin()
	}
}

// leaderOf is the leader by the metadata of a node that the client happens to ask.
func (w *World) leaderOf(k part) (id metadata.NodeID, epoch int32, ok bool) {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if !n.serving || !n.awake() {
		return 0, 0, false
	}
	p := n.image().Partition(k.topic, k.number)
	if p == nil || p.Leader < 0 {
		return 0, 0, false
	}
	return p.Leader, int32(p.LeaderEpoch), true
}

// producer is an idempotent producer with one batch in flight: it tries until it is told that the batch is there.
type producer struct {
	w    *World
	id   int
	part part
	acks int16

	known    int32 // the newest leader epoch that it has heard of: it goes to no older leader (KIP-320)
	epoch    int16
	sequence int32
	next     int64 // of its records
	batch    []int64
	try      int
	tries    int
}

// clientTimeout is how long a client waits for an answer.
const clientTimeout = time.Second

func (p *producer) begin()     { p.w.after(p.w.between(0, 100*time.Millisecond), p.send) }
func (p *producer) done() bool { return p.batch == nil }
func (p *producer) say() string {
	return fmt.Sprintf("producer %d of %v acks %d: next %d in flight %v try %d", p.id, p.part, p.acks, p.next, p.batch, p.try)
}

// value is what record n of this producer says.
func (p *producer) value(n int64) int64 { return int64(p.id)<<32 | n }

func (p *producer) send() {
	if p.w.calm {
		return
	}
	p.batch = nil
	for range 1 + p.w.rng.IntN(3) {
		p.batch = append(p.batch, p.value(p.next))
		p.next++
	}
	p.tries = 0
	p.attempt()
}

func (p *producer) bytes() []byte {
	b := record.NewBuilder()
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = int64(p.id)+1<<40, p.epoch, p.sequence
	for _, v := range p.batch {
		b.Append(epochOfTime.UnixMilli(), p.w.key(v), binary.BigEndian.AppendUint64(nil, uint64(v)))
	}
	raw, err := b.Bytes()
	if err != nil {
		p.w.fail("batch: %v", err)
	}
	return append([]byte(nil), raw...)
}

func (p *producer) attempt() {
	p.try++
	p.tries++
	try := p.try
	p.w.after(clientTimeout, func() { p.again(try, 0) })
	leader, known, ok := p.w.leaderOf(p.part)
	if ok = ok && known >= p.known; !ok {
		p.again(try, p.w.between(10*time.Millisecond, 60*time.Millisecond))
		return
	}
	p.known = known
	raw := p.bytes()
	p.w.net.send(outside, leader, false, func(bool) {
		p.w.node(leader).produce(p.part, raw, p.acks, func(a commitlog.Appended, err error) {
			p.w.net.send(leader, outside, false, func(bool) { p.answered(try, a, err) })
		})
	})
}

// again tries once more in d, if nothing has come of a try.
func (p *producer) again(try int, d time.Duration) {
	if p.try != try {
		return
	}
	p.try++
	p.w.after(d, p.attempt)
}

func (p *producer) answered(try int, a commitlog.Appended, err error) {
	if p.try != try {
		return
	}
	switch {
	case err == nil:
		p.try++
		p.w.check.acked(p, a)
		p.sequence += int32(len(p.batch))
		p.batch = nil
		p.w.after(p.w.between(time.Millisecond, 60*time.Millisecond), p.send)
	case errors.Is(err, commitlog.ErrOutOfOrderSequence), errors.Is(err, commitlog.ErrUnknownProducer):
		if p.acks == -1 {
			p.w.fail("producer %d has had all before acknowledged with acks=all, and is told that its next batch is out of order: %v", p.id, err)
		}
		p.epoch++
		p.sequence = 0
		p.again(try, time.Millisecond)
	default:
		p.again(try, p.w.between(10*time.Millisecond, 100*time.Millisecond))
	}
}

// produce appends as the leader, as core/server does.
func (n *node) produce(k part, raw []byte, acks int16, done func(commitlog.Appended, error)) {
	p, err := n.find(k)
	if err != nil {
		done(commitlog.Appended{}, err)
		return
	}
	a, err := p.Append(raw, partition.AnyEpoch, commitlog.FromClient, acks == -1)
	if n.dying {
		return
	}
	if err != nil || acks != -1 {
		done(a, err)
		return
	}
	n.acknowledge(k, p, a, done)
}

// acknowledge answers once an append is as safe as acks=all promises.
func (n *node) acknowledge(k part, p *partition.Partition, a commitlog.Appended, done func(commitlog.Appended, error)) {
	gen := n.gen
	p.WhenAcked(a.Last, a.Epoch, func(err error) {
		if n.gen == gen && !n.dying {
			if err == nil {
				n.w.check.told(n, k, a.Last)
			}
			done(a, err)
		}
	})
}

// reader is a consumer that remembers what it was told.
type reader struct {
	w         *World
	id        int
	part      part
	committed bool // read_committed

	offset int64
	epoch  int32 // the newest leader epoch that it has heard of
	last   int32 // epoch of the last record that it has read; -1: none
	latest int64 // the end of what it knows to be there
	hw     int64 // the last watermark told in hwEpoch
	hwIn   int32
	stable int64 // the last stable offset told in hwIn
	try    int
}

func (r *reader) begin()     { r.w.after(r.w.between(0, 100*time.Millisecond), r.ask) }
func (r *reader) done() bool { return true }
func (r *reader) say() string {
	return fmt.Sprintf("reader %d of %v: at %d, knows of %d, epoch %d", r.id, r.part, r.offset, r.latest, r.epoch)
}

func (r *reader) again(try int, d time.Duration) {
	if r.try == try {
		r.try++
		r.w.after(d, r.ask)
	}
}

// ask reads on, or asks for the end.
func (r *reader) ask() {
	r.try++
	try := r.try
	r.w.after(clientTimeout, func() { r.again(try, 0) })
	leader, epoch, ok := r.w.leaderOf(r.part)
	r.epoch = max(r.epoch, epoch)
	if !ok || epoch < r.epoch {
		r.again(try, r.w.between(10*time.Millisecond, 60*time.Millisecond))
		return
	}
	if r.w.chance(0.02) { // reads some of it once more
		r.offset, r.last = int64(r.w.rng.IntN(int(r.offset)+1)), -1
	}
	if r.w.chance(0.1) {
		r.w.net.send(outside, leader, false, func(bool) { r.askEnd(leader, epoch, try) })
		return
	}
	at, last := r.offset, r.last
	r.w.net.send(outside, leader, false, func(bool) {
		n := r.w.node(leader)
		p, err := n.find(r.part)
		var res partition.ReadResult
		var raw []byte
		if err == nil {
			res, err = p.Read(partition.ReadRequest{Offset: at, Epoch: epoch, LastEpoch: last, MaxBytes: 4096, MinOne: true, Replica: -1, NodeEpoch: -1, Committed: r.committed})
		}
		if err == nil {
			raw, err = bytesOf(res.Slice)
		}
		if n.dying {
			return
		}
		if err == nil {
			r.w.check.stable(r.part, res.LastStable, res.HighWatermark)
		}
		r.w.net.send(leader, outside, false, func(bool) { r.read(try, epoch, res, raw, err) })
	})
}

func (r *reader) askEnd(leader metadata.NodeID, epoch int32, try int) {
	n := r.w.node(leader)
	p, err := n.find(r.part)
	var end int64
	if err == nil {
		bound := partition.ToWatermark
		if r.committed {
			bound = partition.ToStable
		}
		end, _, _, err = p.ListOffset(partition.Latest, epoch, bound)
	}
	r.w.net.send(leader, outside, false, func(bool) {
		if r.try != try {
			return
		}
		if err == nil {
			if end < r.latest {
				r.w.fail("reader %d was told that %v ends at %d, after it knew of %d", r.id, r.part, end, r.latest)
			}
			r.latest = end
		}
		r.again(try, r.w.between(time.Millisecond, 30*time.Millisecond))
	})
}

func (r *reader) read(try int, epoch int32, res partition.ReadResult, raw []byte, err error) {
	if r.try != try {
		return
	}
	wait := r.w.between(10*time.Millisecond, 50*time.Millisecond)
	switch {
	case errors.Is(err, commitlog.ErrOffsetOutOfRange) && (r.offset < r.w.check.deleted[r.part] || r.w.keep.Delete && r.offset < res.LogStart):
		r.offset, r.last, wait = res.LogStart, -1, 0 // auto.offset.reset=earliest
		r.latest = max(r.latest, r.offset)
	case errors.Is(err, commitlog.ErrOffsetOutOfRange):
		r.w.fail("reader %d of %v: offset %d, up to which it has read, is out of range: %v", r.id, r.part, r.offset, err)
	case errors.Is(err, commitlog.ErrCorrupt):
		r.w.fail("reader %d of %v at %d: %v", r.id, r.part, r.offset, err)
	case err != nil:
	case res.Diverging != nil:
		r.w.fail("reader %d of %v at %d after epoch %d: what it has read is gone: %+v", r.id, r.part, r.offset, r.last, *res.Diverging)
	default:
		if r.hwIn == epoch && res.HighWatermark < r.hw {
			r.w.fail("reader %d of %v: the watermark fell from %d to %d in epoch %d", r.id, r.part, r.hw, res.HighWatermark, epoch)
		}
		if r.hwIn == epoch && res.LastStable < r.stable {
			r.w.fail("reader %d of %v: the last stable offset fell from %d to %d in epoch %d", r.id, r.part, r.stable, res.LastStable, epoch)
		}
		if res.LogStart > r.w.check.deleted[r.part] && !(r.w.keep.Delete && res.LogStart <= res.HighWatermark) {
			r.w.fail("reader %d of %v: the log begins at %d, and nobody has deleted beyond %d", r.id, r.part, res.LogStart, r.w.check.deleted[r.part])
		}
		r.hw, r.hwIn, r.stable = res.HighWatermark, epoch, res.LastStable
		filter := newFilter(res.Aborted)
		for _, x := range entriesOf(r.w, raw) {
			visible := filter.visible(x)
			if x.offset < r.offset {
				continue
			}
			if x.offset >= res.HighWatermark || r.committed && x.offset >= res.LastStable {
				r.w.fail("reader %d of %v was given offset %d, beyond the watermark %d or the last stable offset %d", r.id, r.part, x.offset, res.HighWatermark, res.LastStable)
			}
			r.w.check.read(r, x)
			if r.committed {
				r.w.check.committed(r, x, visible)
			}
			r.offset, r.last = x.offset+1, x.epoch
			wait = 2 * time.Millisecond
		}
		if end, epoch := endOf(raw); end > r.offset {
			r.offset, r.last = end, epoch // beyond batches that compaction has left without records
		}
		r.latest = max(r.latest, r.offset)
	}
	r.again(try, wait)
}

// entry is a record in a log.
type entry struct {
	offset, value int64 // value: of a marker, what tells it from all others
	epoch         int32

	producer      int64
	producerEpoch int16
	txn           bool // part of a transaction, or its marker
	marker        bool
	commit        bool // of a marker
}

// entriesOf are the records of whole batches.
func entriesOf(w *World, raw []byte) (list []entry) {
	var rd record.Reader
	for len(raw) > 0 {
		h, batch, rest, err := record.Next(raw)
		if err == nil {
			err = batch.Check()
		}
		x := entry{offset: h.BaseOffset, epoch: h.LeaderEpoch, producer: h.ProducerID, producerEpoch: h.ProducerEpoch, txn: h.Attributes.Transactional()}
		if err == nil && h.Attributes.Control() {
			var m record.Marker
			if m, x.marker, err = record.ParseMarker(&h, batch); err == nil {
				x.txn, x.commit = true, m.Type == record.Commit
				x.value = -(h.ProducerID<<20 | int64(h.ProducerEpoch)<<2 | int64(m.Type&1)<<1 | 1)
				list = append(list, x)
				raw = rest
				continue
			}
		}
		if err == nil {
			err = rd.Reset(h, batch, 0)
		}
		if err != nil {
			w.fail("records that are not whole were given out: %v", err)
			return list
		}
		for rd.Next() {
			r := rd.Record()
			x.offset, x.value = r.Offset, 0
			if len(r.Value) == 8 {
				x.value = int64(binary.BigEndian.Uint64(r.Value))
			} else {
				x.value = sum(r.Key, r.Value) // of a coordinator
			}
			list = append(list, x)
		}
		raw = rest
	}
	return list
}
