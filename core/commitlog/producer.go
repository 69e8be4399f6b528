package commitlog

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/forebayhub/forebay/core/record"
)

// keptBatches is how many batches of a producer are remembered: as many as a client may have in flight.
const keptBatches = 5

// batchMeta is what duplicate detection needs of a batch.
type batchMeta struct {
	firstSeq, lastSeq int32
	first, last       int64
}

// producer is the state of one idempotent producer.
type producer struct {
	id       int64
	epoch    int16
	coord    int32 // coordinator epoch of the last marker; -1
	txnStart int64 // -1: no open transaction
	time     int64 // ms of the last append
	n        int   // batches in use, oldest first
	batches  [keptBatches]batchMeta
}

func newProducer(id int64, epoch int16) *producer {
	return &producer{id: id, epoch: epoch, coord: -1, txnStart: -1}
}

func (p *producer) lastSequence() int32 {
	if p.n == 0 {
		return record.NoSequence
	}
	return p.batches[p.n-1].lastSeq
}

// bump moves to an epoch, which forgets the sequences of the old one.
func (p *producer) bump(epoch int16) {
	if epoch != p.epoch {
		p.epoch, p.n = epoch, 0
	}
}

func (p *producer) push(m batchMeta) {
	if p.n == keptBatches {
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.batches[p.n] = m
	p.n++
}

// duplicate finds the batch that h repeats.
func (p *producer) duplicate(h *record.Header) (batchMeta, bool) {
	if p.epoch == h.ProducerEpoch {
		for _, m := range p.batches[:p.n] {
			if m.firstSeq == h.BaseSequence && m.lastSeq == h.LastSequence() {
				return m, true
			}
		}
	}
	return batchMeta{}, false
}

// openTxn is a transaction without its marker; decidedTxn one whose marker may
// still be above the high watermark. abortedTxn is an AbortedTxn with the last stable offset at its marker.
type (
	openTxn    struct{ pid, first int64 }
	decidedTxn struct{ first, last int64 }
	abortedTxn struct {
		AbortedTxn
		stable int64
	}
)

// table is the producers and transactions of a log, as of an offset.
type table struct {
	byID    map[int64]*producer
	open    []openTxn    // by first offset
	decided []decidedTxn // by marker offset
	// verifying is what the coordinator is being asked about; it does not outlive the process.
	verifying map[int64]*verification
}

func newTable() *table { return &table{byID: map[int64]*producer{}} }

// check says whether a producer's batch may be appended. A duplicate is told by its batchMeta.
// Like ProducerAppendInfo.
func (t *table) check(h *record.Header, origin Origin) (dup batchMeta, is bool, err error) {
	p := t.byID[h.ProducerID]
	if v := t.verifying[h.ProducerID]; v != nil && origin == FromClient && v.epoch == h.ProducerEpoch && h.BaseSequence > v.lowest {
		return dup, false, fmt.Errorf("%w: producer %d is still to bring sequence %d, the batch begins with %d", ErrOutOfOrderSequence, h.ProducerID, v.lowest, h.BaseSequence)
	}
	if p == nil {
		// KIP-360: a producer that was forgotten (retention, expiry) may go on with any sequence.
		return dup, false, nil
	}
	if h.ProducerEpoch < p.epoch {
		return dup, false, fmt.Errorf("%w: producer %d has epoch %d, the batch %d", ErrProducerFenced, p.id, p.epoch, h.ProducerEpoch)
	}
	if !h.Attributes.Transactional() && p.txnStart >= 0 {
		return dup, false, fmt.Errorf("%w: producer %d has an open transaction and sent a batch outside of it", ErrInvalidTxnState, p.id)
	}
	if origin != FromClient || h.BaseSequence == record.NoSequence {
		return dup, false, nil
	}
	if m, ok := p.duplicate(h); ok {
		return m, true, nil
	}
	if h.ProducerEpoch != p.epoch {
		if h.BaseSequence != 0 && p.epoch != record.NoProducerEpoch {
			return dup, false, fmt.Errorf("%w: producer %d begins epoch %d with sequence %d", ErrOutOfOrderSequence, p.id, h.ProducerEpoch, h.BaseSequence)
		}
		return dup, false, nil
	}
	if last := p.lastSequence(); h.BaseSequence != nextSequence(last) {
		return dup, false, fmt.Errorf("%w: producer %d is at sequence %d, the batch begins with %d", ErrOutOfOrderSequence, p.id, last, h.BaseSequence)
	}
	return dup, false, nil
}

func nextSequence(last int32) int32 {
	if last == record.NoSequence {
		return 0
	}
	return record.AddSequence(last, 1)
}

// checkMarker says whether a marker may be appended. bumped: see FromBump.
func (t *table) checkMarker(h *record.Header, m record.Marker, bumped bool) error {
	p := t.byID[h.ProducerID]
	if p == nil {
		return nil
	}
	if h.ProducerEpoch < p.epoch {
		return fmt.Errorf("%w: producer %d has epoch %d, the marker %d", ErrProducerFenced, p.id, p.epoch, h.ProducerEpoch)
	}
	if bumped && h.ProducerEpoch == p.epoch && p.txnStart >= 0 {
		return fmt.Errorf("%w: producer %d has begun its next transaction with epoch %d, which the marker came with", ErrProducerFenced, p.id, p.epoch)
	}
	if m.CoordinatorEpoch < p.coord {
		return fmt.Errorf("%w: producer %d was decided by coordinator epoch %d, the marker has %d", ErrCoordinatorFenced, p.id, p.coord, m.CoordinatorEpoch)
	}
	return nil
}

// apply takes a batch into account that lies at h's offsets. It returns the transaction that its
// marker has aborted.
func (t *table) apply(h *record.Header, m record.Marker, marker bool, now int64) (aborted abortedTxn, is bool) {
	if !h.HasProducer() {
		return aborted, false
	}
	p := t.byID[h.ProducerID]
	if p == nil {
		p = newProducer(h.ProducerID, h.ProducerEpoch)
		t.byID[p.id] = p
	}
	if h.ProducerEpoch > p.epoch {
		p.bump(h.ProducerEpoch)
	}
	p.time = now
	if h.Attributes.Transactional() || h.Attributes.Control() {
		delete(t.verifying, p.id)
	}
	if h.Attributes.Control() {
		if !marker {
			return aborted, false
		}
		p.coord = max(p.coord, m.CoordinatorEpoch)
		if p.txnStart < 0 {
			return aborted, false
		}
		first := p.txnStart
		p.txnStart = -1
		t.close(p.id, first)
		stable := h.LastOffset()
		if len(t.open) > 0 {
			stable = min(stable, t.open[0].first)
		}
		t.decided = append(t.decided, decidedTxn{first: first, last: h.LastOffset()})
		return abortedTxn{AbortedTxn{ProducerID: p.id, FirstOffset: first, LastOffset: h.LastOffset()}, stable}, m.Type == record.Abort
	}
	if h.BaseSequence != record.NoSequence {
		p.push(batchMeta{firstSeq: h.BaseSequence, lastSeq: h.LastSequence(), first: h.BaseOffset, last: h.LastOffset()})
	}
	if h.Attributes.Transactional() && p.txnStart < 0 {
		p.txnStart = h.BaseOffset
		t.open = append(t.open, openTxn{pid: p.id, first: p.txnStart})
	}
	return aborted, false
}

func (t *table) close(pid, first int64) {
	for i, o := range t.open {
		if o.first == first && o.pid == pid {
			t.open = append(t.open[:i], t.open[i+1:]...)
			return
		}
	}
}

// forget drops the decided transactions whose marker is below hw.
func (t *table) forget(hw int64) {
	n := sort.Search(len(t.decided), func(i int) bool { return t.decided[i].last >= hw })
	if n > 0 {
		t.decided = append(t.decided[:0], t.decided[n:]...)
	}
}

// firstUnstable is the first offset of the oldest transaction that no marker below hw decides; ok is false when
// there is none.
func (t *table) firstUnstable(hw int64) (first int64, ok bool) {
	if len(t.open) > 0 {
		first, ok = t.open[0].first, true
	}
	for _, d := range t.decided {
		if d.last >= hw && (!ok || d.first < first) {
			first, ok = d.first, true
		}
	}
	return first, ok
}

// expire drops producers that have been silent since before ms and have no open transaction.
func (t *table) expire(before int64) {
	for id, p := range t.byID {
		if p.txnStart < 0 && p.time < before {
			delete(t.byID, id)
		}
	}
	for id, v := range t.verifying {
		if v.time < before {
			delete(t.verifying, id)
		}
	}
}

// encodeTable is the content of a .snapshot file (docs/formats/snapshot.md).
func encodeTable(t *table, offset int64) []byte {
	be := binary.BigEndian
	var b []byte
	b = be.AppendUint64(b, uint64(offset))
	ids := make([]int64, 0, len(t.byID))
	for id := range t.byID {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	b = be.AppendUint32(b, uint32(len(ids)))
	for _, id := range ids {
		p := t.byID[id]
		b = be.AppendUint64(b, uint64(p.id))
		b = be.AppendUint16(b, uint16(p.epoch))
		b = be.AppendUint32(b, uint32(p.coord))
		b = be.AppendUint64(b, uint64(p.txnStart))
		b = be.AppendUint64(b, uint64(p.time))
		b = append(b, byte(p.n))
		for _, m := range p.batches[:p.n] {
			b = be.AppendUint32(b, uint32(m.firstSeq))
			b = be.AppendUint32(b, uint32(m.lastSeq))
			b = be.AppendUint64(b, uint64(m.first))
			b = be.AppendUint64(b, uint64(m.last))
		}
	}
	b = be.AppendUint32(b, uint32(len(t.decided)))
	for _, d := range t.decided {
		b = be.AppendUint64(b, uint64(d.first))
		b = be.AppendUint64(b, uint64(d.last))
	}
	return sealState(snapMagic, b)
}

func decodeTable(b []byte) (t *table, offset int64, err error) {
	b, err = openState(snapMagic, b)
	if err != nil {
		return nil, 0, err
	}
	r := fields{b: b}
	t = newTable()
	offset = r.i64()
	for n := r.i32(); n > 0 && r.ok(); n-- {
		p := &producer{id: r.i64(), epoch: r.i16(), coord: r.i32(), txnStart: r.i64(), time: r.i64(), n: int(r.u8())}
		if p.n > keptBatches {
			r.bad = true
			break
		}
		for i := range p.batches[:p.n] {
			p.batches[i] = batchMeta{firstSeq: r.i32(), lastSeq: r.i32(), first: r.i64(), last: r.i64()}
		}
		t.byID[p.id] = p
		if p.txnStart >= 0 {
			t.open = append(t.open, openTxn{pid: p.id, first: p.txnStart})
		}
	}
	for n := r.i32(); n > 0 && r.ok(); n-- {
		t.decided = append(t.decided, decidedTxn{first: r.i64(), last: r.i64()})
	}
	if !r.ok() || len(r.b) != 0 || offset < 0 {
		return nil, 0, fmt.Errorf("%w: producer snapshot", errBadState)
	}
	sort.Slice(t.open, func(i, j int) bool { return t.open[i].first < t.open[j].first })
	return t, offset, nil
}

// fields reads big-endian fields; after the end it is bad and gives zeros.
type fields struct {
	b   []byte
	bad bool
}

func (r *fields) ok() bool { return !r.bad }

func (r *fields) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make([]byte, 8)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *fields) u8() uint8  { return r.take(1)[0] }
func (r *fields) i16() int16 { return int16(binary.BigEndian.Uint16(r.take(2))) }
func (r *fields) i32() int32 { return int32(binary.BigEndian.Uint32(r.take(4))) }
func (r *fields) i64() int64 { return int64(binary.BigEndian.Uint64(r.take(8))) }
