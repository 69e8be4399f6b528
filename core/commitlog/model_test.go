package commitlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// model is what a log should be: batches in memory, everything recomputed from them.
type model struct {
	start, leo int64
	batches    []modelBatch
}

type modelBatch struct {
	base, last int64
	epoch      int32
	values     []string
	pid        int64
	pepoch     int16
	seq        int32
	txn        bool
	marker     bool
	abort      bool
}

func (m *model) truncate(at int64) int64 {
	n := sort.Search(len(m.batches), func(i int) bool { return m.batches[i].last >= at })
	if n < len(m.batches) {
		at = min(at, m.batches[n].base)
		m.batches = m.batches[:n:n]
	}
	m.leo = max(min(m.leo, at), m.start)
	return m.leo
}

// nextSeq is the sequence that the producer must send.
func (m *model) nextSeq(pid int64, epoch int16) int32 {
	seq := int32(0)
	for _, b := range m.batches {
		if b.pid == pid && b.pepoch == epoch && !b.marker {
			seq = b.seq + int32(len(b.values))
		}
	}
	return seq
}

func (m *model) open(pid int64) (first int64, ok bool) {
	for _, b := range m.batches {
		switch {
		case b.pid != pid:
		case b.marker:
			ok = false
		case b.txn && !ok:
			first, ok = b.base, true
		}
	}
	return first, ok
}

func (m *model) lastStable(hw int64) int64 {
	open := map[int64]int64{}
	stable := hw
	for _, b := range m.batches {
		first, is := open[b.pid]
		switch {
		case b.marker && is:
			if b.last >= hw {
				stable = min(stable, first)
			}
			delete(open, b.pid)
		case b.txn && !b.marker && !is:
			open[b.pid] = b.base
		}
	}
	for _, first := range open {
		stable = min(stable, first)
	}
	return stable
}

func (m *model) aborted(from, to int64) (list []AbortedTxn) {
	open := map[int64]int64{}
	for _, b := range m.batches {
		first, is := open[b.pid]
		switch {
		case b.marker && is:
			if b.abort && first < to && b.last >= from {
				list = append(list, AbortedTxn{b.pid, first, b.last})
			}
			delete(open, b.pid)
		case b.txn && !b.marker && !is:
			open[b.pid] = b.base
		}
	}
	return list
}

func (m *model) epochEnd(epoch int32) (int32, int64) {
	found, end := int32(-1), int64(-1)
	for _, b := range m.batches {
		if b.epoch <= epoch {
			found, end = b.epoch, m.leo
		} else if found >= 0 && end == m.leo {
			end = b.base
		}
	}
	if n := len(m.batches); n == 0 || m.batches[n-1].epoch < epoch {
		return -1, -1
	}
	return found, end
}

type modelRun struct {
	t     *testing.T
	rnd   *rand.Rand
	disk  *vfs.Memory
	o     Options
	l     *Log
	m     model
	epoch int32
	ck    *clock
	boots int
	every int64 // bytes between recovery points
	ops   []string
}

func (r *modelRun) open() {
	r.boots++
	if r.rnd.IntN(4) == 0 {
		r.o.Durability = []Durability{PowerSafe, Relaxed}[r.rnd.IntN(2)]
	}
	r.o.FS = r.disk
	r.o.Syncer = NewSyncer(2, nil)
	r.l = mustOpen(r.t, r.o)
	r.l.pointEvery = r.every
}

func (r *modelRun) append() {
	w := record.NewBuilder()
	mb := modelBatch{epoch: r.epoch, pid: -1}
	switch r.rnd.IntN(4) {
	case 0, 1:
	case 2, 3:
		mb.pid = int64(1 + r.rnd.IntN(3))
		mb.seq = r.m.nextSeq(mb.pid, 0)
		_, open := r.m.open(mb.pid)
		mb.txn = open || r.rnd.IntN(2) == 0
		w.ProducerID, w.ProducerEpoch, w.BaseSequence = mb.pid, 0, mb.seq
		if mb.txn {
			w.Attributes |= record.Transactional
		}
	}
	w.Attributes |= record.Attributes(r.rnd.IntN(5))
	for range 1 + r.rnd.IntN(4) {
		v := fmt.Sprintf("%d-%s", r.rnd.Uint32(), strings.Repeat("x", r.rnd.IntN(300)))
		mb.values = append(mb.values, v)
		w.Append(r.ck.ms+int64(r.rnd.IntN(50)), []byte("k"), []byte(v))
	}
	b, err := w.Bytes()
	if err != nil {
		r.t.Fatal(err)
	}
	r.put(mb, b, FromClient)
}

func (r *modelRun) put(mb modelBatch, b []byte, origin Origin) {
	a, err := r.l.Append(b, r.epoch, origin)
	if r.m.start > 0 && mb.pid >= 0 && (err != nil || a.Duplicate) {
		return // with its records the log may forget a producer, or remember it
	}
	if err != nil || a.Base != r.m.leo || a.Duplicate {
		r.t.Fatalf("append %+v: %+v %v; log ends at %d", mb, a, err, r.m.leo)
	}
	mb.base, mb.last = a.Base, a.Last
	r.m.batches = append(r.m.batches, mb)
	r.m.leo = a.Last + 1
}

func (r *modelRun) marker() {
	pid := int64(1 + r.rnd.IntN(3))
	typ := record.ControlType(r.rnd.IntN(2))
	b := record.EndTxn(pid, 0, record.Marker{Type: typ, CoordinatorEpoch: 1}, r.ck.ms)
	r.put(modelBatch{epoch: r.epoch, pid: pid, marker: true, abort: typ == record.Abort}, b, FromCoordinator)
}

func (r *modelRun) duplicate() {
	var last *modelBatch
	for i := range r.m.batches {
		if b := &r.m.batches[i]; b.pid > 0 && !b.marker {
			last = b
		}
	}
	if last == nil || r.m.start > 0 {
		return
	}
	w := record.NewBuilder()
	w.ProducerID, w.ProducerEpoch, w.BaseSequence = last.pid, 0, last.seq
	if _, open := r.m.open(last.pid); open {
		w.Attributes |= record.Transactional
	}
	for _, v := range last.values {
		w.Append(r.ck.ms, nil, []byte(v))
	}
	b, err := w.Bytes()
	if err != nil {
		r.t.Fatal(err)
	}
	a, err := r.l.Append(b, r.epoch, FromClient)
	if err != nil || !a.Duplicate || a.Base != last.base || a.Last != last.last {
		r.t.Fatalf("duplicate of %+v: %+v %v", *last, a, err)
	}
}

// crash loses power: what is above the durable offset may go, in Relaxed what is not synced; nothing below.
func (r *modelRun) crash() {
	durable := r.l.DurableOffset()
	if r.o.Durability == Relaxed {
		r.l.mu.RLock()
		durable = r.l.synced.offset
		r.l.mu.RUnlock()
	}
	var torn *rand.Rand
	if r.rnd.IntN(3) > 0 {
		torn = r.rnd
	}
	r.disk = r.disk.Crashed(torn)
	r.o.BootID = fmt.Sprintf("boot-%d", r.boots)
	r.l.syncer.forget(r.l)
	r.open()
	end := r.l.EndOffset()
	if end < durable || end > r.m.leo {
		r.t.Fatalf("after the crash the log ends at %d; it was durable to %d and ended at %d", end, durable, r.m.leo)
	}
	r.m.start = r.l.StartOffset()
	if got := r.m.truncate(end); got != end {
		r.t.Fatalf("after the crash the log ends at %d, inside of the batch at %d", end, got)
	}
}

func (r *modelRun) check() {
	t, l, m := r.t, r.l, &r.m
	if l.EndOffset() != m.leo {
		t.Fatalf("ends at %d, want %d", l.EndOffset(), m.leo)
	}
	m.start = l.StartOffset()
	got := readAll(t, l)
	for _, b := range m.batches {
		for i, v := range b.values {
			if off := b.base + int64(i); off >= m.start {
				if got[off] != v {
					t.Fatalf("offset %d has %.30q, want %.30q", off, got[off], v)
				}
				delete(got, off)
			}
		}
	}
	for off, v := range got {
		if strings.Contains(v, "-") {
			t.Fatalf("offset %d should not be there: %.30q", off, v)
		}
	}
	hw := l.DurableOffset()
	if got, want := l.LastStable(hw), m.lastStable(hw); got != want && m.start == 0 || got < min(m.start, hw) {
		t.Fatalf("last stable at %d: %d, want %d", hw, got, want)
	}
	if m.start > 0 {
		return
	}
	a, b := r.rnd.Int64N(m.leo+1), r.rnd.Int64N(m.leo+1)
	if got, want := fmt.Sprint(l.Aborted(min(a, b), max(a, b))), fmt.Sprint(m.aborted(min(a, b), max(a, b))); got != want {
		t.Fatalf("aborted in [%d, %d): %s, want %s", min(a, b), max(a, b), got, want)
	}
	for e := int32(0); e <= r.epoch; e++ {
		if f, end := l.EpochEnd(e); m.leo > 0 {
			wf, wend := m.epochEnd(e)
			if wf >= 0 && (f != wf || end != wend) {
				t.Fatalf("epoch %d ends: %d at %d, want %d at %d", e, f, end, wf, wend)
			}
		}
	}
}

func runModel(t *testing.T, seed uint64, steps int) {
	r := &modelRun{t: t, every: 1 << 20, rnd: rand.New(rand.NewPCG(seed, 1)), disk: vfs.NewCrash(), ck: &clock{ms: 1_700_000_000_000}, epoch: 1}
	defer func() {
		if t.Failed() {
			t.Logf("seed %d, operations: %s", seed, strings.Join(r.ops, " "))
		}
	}()
	if err := vfs.MkdirAllSync(r.disk, "/data", 0o755); err != nil {
		t.Fatal(err)
	}
	r.o = Options{Dir: "/data/t-0", BootID: "boot-0", Now: r.ck.now, Config: Config{
		SegmentBytes: int64(500 + r.rnd.IntN(4000)), IndexBytes: int64(1 + r.rnd.IntN(600)), RetentionAge: -1,
	}}
	r.o.Durability = []Durability{PowerSafe, Relaxed}[seed%2]
	if r.rnd.IntN(3) > 0 {
		r.every = int64(1 + r.rnd.IntN(2000))
	}
	r.open()
	for range steps {
		r.ck.tick(int64(r.rnd.IntN(100)))
		op := r.rnd.IntN(40)
		r.ops = append(r.ops, fmt.Sprint(op))
		switch op {
		default:
			r.append()
		case 0, 1, 2, 3:
			r.marker()
		case 4:
			r.duplicate()
		case 5:
			r.l.syncer.forget(r.l)
		case 6:
			r.epoch++
			if err := r.l.BeginEpoch(r.epoch); err != nil {
				t.Fatal(err)
			}
		case 7:
			if r.m.leo > r.m.start {
				at := r.m.start + 1 + r.rnd.Int64N(r.m.leo-r.m.start)
				if err := r.l.TruncateTo(at); err != nil {
					t.Fatal(err)
				}
				r.m.truncate(at)
			}
		case 8: // killed: the page cache stays
			r.l.syncer.forget(r.l)
			r.open()
		case 9:
			if err := r.l.Close(); err != nil {
				t.Fatal(err)
			}
			r.open()
		case 10, 11:
			r.crash()
		case 12:
			if err := maintain(r.l, r.l.DurableOffset()); err != nil {
				t.Fatal(err)
			}
		case 13:
			if r.rnd.IntN(8) == 0 {
				if err := r.l.DeleteBefore(r.m.start + r.rnd.Int64N(r.l.DurableOffset()-r.m.start+1)); err != nil {
					t.Fatal(err)
				}
				r.m.start = r.l.StartOffset()
			}
		}
		if r.rnd.IntN(4) == 0 {
			r.check()
		}
		if _, err := r.l.Read(r.m.leo+1, r.m.leo+2, 1, true); !errors.Is(err, ErrOffsetOutOfRange) {
			t.Fatal(err)
		}
	}
	r.check()
}

func TestModel(t *testing.T) {
	for seed := range modelSeeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, seed, 120) })
	}
}

// modelSeeds is how many histories a test run tries.
const modelSeeds uint64 = 120
