package commitlog

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// keyedModel is what a compacted log was given: each record at its offset, and how the transactions ended.
type keyedModel struct {
	leo     int64
	records []keyedRecord // by offset; markers have none
	open    map[int64]bool
	seqs    map[int64]int32
}

type keyedRecord struct {
	offset, last int64 // last is the last offset of its batch
	key, value   string
	tombstone    bool
	pid          int64 // -1: no producer
	txn          bool
	ended        bool // the transaction
	aborted      bool
	ts           int64
}

// truncate forgets what a power cut has taken; markers among it open their transactions again.
func (m *keyedModel) truncate(end int64, ends []txnEnd) []txnEnd {
	for len(m.records) > 0 && m.records[len(m.records)-1].last >= end {
		m.records = m.records[:len(m.records)-1]
	}
	m.leo = end
	m.open, m.seqs = map[int64]bool{}, map[int64]int32{}
	kept := ends[:0]
	for _, e := range ends {
		if e.offset < end {
			kept = append(kept, e)
		}
	}
	next := 0
	for i := range m.records {
		r := &m.records[i]
		for ; next < len(kept) && kept[next].offset < r.offset; next++ {
			m.open[kept[next].pid] = false
		}
		if r.pid >= 0 {
			m.seqs[r.pid]++
			m.open[r.pid] = m.open[r.pid] || r.txn
		}
		if r.txn {
			r.ended, r.aborted = false, false
			for _, e := range kept {
				if e.pid == r.pid && e.offset > r.offset {
					r.ended, r.aborted = true, e.abort
					break
				}
			}
		}
	}
	for ; next < len(kept); next++ {
		m.open[kept[next].pid] = false
	}
	return kept
}

type txnEnd struct {
	pid, offset int64
	abort       bool
}

type keyedRun struct {
	t     *testing.T
	rnd   *rand.Rand
	disk  *vfs.Memory
	o     Options
	l     *Log
	m     keyedModel
	ends  []txnEnd
	ck    *clock
	boots int
	ops   []string
}

func (r *keyedRun) open() {
	r.boots++
	r.o.FS = r.disk
	r.o.Syncer = NewSyncer(2, nil)
	r.l = mustOpen(r.t, r.o)
}

// compression is a topic's compression.type: one of five, or the producers'.
func (r *keyedRun) compression() Compression {
	return Compression{Set: r.rnd.IntN(3) > 0, Compression: record.Compression{Codec: record.Codec(r.rnd.IntN(5))}}
}

func (r *keyedRun) append() {
	w := record.NewBuilder()
	w.Attributes = record.Attributes(r.rnd.IntN(5))
	pid, txn := int64(-1), false
	if r.rnd.IntN(3) > 0 {
		pid = int64(1 + r.rnd.IntN(3))
		txn = r.m.open[pid] || r.rnd.IntN(2) == 0
		w.ProducerID, w.ProducerEpoch, w.BaseSequence = pid, 0, r.m.seqs[pid]
		if txn {
			w.Attributes |= record.Transactional
		}
	}
	n := 1 + r.rnd.IntN(4)
	var list []keyedRecord
	for i := range n {
		k := keyedRecord{key: fmt.Sprint("key-", r.rnd.IntN(8)), pid: pid, txn: txn, ts: r.ck.ms, tombstone: r.rnd.IntN(4) == 0}
		value := []byte(nil)
		if !k.tombstone {
			k.value = fmt.Sprintf("%d-%d-%s", r.m.leo, i, strings.Repeat("x", r.rnd.IntN(200)))
			value = []byte(k.value)
		}
		w.Append(k.ts, []byte(k.key), value, record.RecordHeader{Key: []byte("h"), Value: []byte(k.key)})
		list = append(list, k)
	}
	b, err := w.Bytes()
	if err != nil {
		r.t.Fatal(err)
	}
	a, err := r.l.Append(b, 1, FromClient)
	if err != nil || a.Duplicate || a.Base != r.m.leo {
		r.t.Fatalf("append of producer %d, sequence %d: %+v %v; the log ends at %d", pid, w.BaseSequence, a, err, r.m.leo)
	}
	for i := range list {
		list[i].offset, list[i].last = a.Base+int64(i), a.Last
	}
	r.m.records = append(r.m.records, list...)
	r.m.leo = a.Last + 1
	if pid >= 0 {
		r.m.seqs[pid] += int32(n)
		r.m.open[pid] = r.m.open[pid] || txn
	}
}

func (r *keyedRun) marker() {
	pid := int64(1 + r.rnd.IntN(3))
	if !r.m.open[pid] {
		return
	}
	e := txnEnd{pid: pid, offset: r.m.leo, abort: r.rnd.IntN(2) == 0}
	typ := record.Commit
	if e.abort {
		typ = record.Abort
	}
	a, err := r.l.Append(record.EndTxn(pid, 0, record.Marker{Type: typ}, r.ck.ms), 1, FromCoordinator)
	if err != nil || a.Base != r.m.leo {
		r.t.Fatal(a, err)
	}
	r.ends = append(r.ends, e)
	for i := range r.m.records {
		if k := &r.m.records[i]; k.pid == pid && k.txn && !k.ended {
			k.ended, k.aborted = true, e.abort
		}
	}
	r.m.open[pid] = false
	r.m.leo++
}

// crash loses power or, with the page cache kept, the process.
func (r *keyedRun) crash(power bool) {
	durable := r.l.DurableOffset()
	r.l.syncer.forget(r.l)
	if power {
		r.disk = r.disk.Crashed(r.rnd)
		r.o.BootID = fmt.Sprint("boot-", r.boots)
	}
	r.open()
	end := r.l.EndOffset()
	if end < durable || end > r.m.leo || !power && end != r.m.leo {
		r.t.Fatalf("after the crash the log ends at %d; it was durable to %d and ended at %d", end, durable, r.m.leo)
	}
	r.ends = r.m.truncate(end, r.ends)
}

// check reads the log as a consumer of committed records does, and compares with what the promises of compaction leave.
func (r *keyedRun) check() {
	t, l := r.t, r.l
	end := l.EndOffset()
	if end != r.m.leo {
		t.Fatalf("ends at %d, want %d", end, r.m.leo)
	}
	stable, start := l.LastStable(end), l.StartOffset()
	wantStable := end
	known := map[int64]*keyedRecord{}
	for i := range r.m.records {
		k := &r.m.records[i]
		known[k.offset] = k
		if k.txn && !k.ended {
			wantStable = min(wantStable, r.firstOf(k))
		}
	}
	if stable != max(wantStable, start) {
		t.Fatalf("last stable %d, want %d", stable, wantStable)
	}
	there := map[int64]bool{} // offsets, and whether a reader of committed records passes over them
	aborted := l.Aborted(start, stable)
	r.each(func(h *record.Header, rec *record.Record) {
		k := known[rec.Offset]
		switch {
		case k == nil || k.key != string(rec.Key) || k.value != string(rec.Value) || k.tombstone != (rec.Value == nil) || k.ts != rec.Timestamp || k.pid != h.ProducerID:
			t.Fatalf("offset %d has %.40q=%.40q of producer %d at %d, appended was %+v", rec.Offset, rec.Key, rec.Value, h.ProducerID, rec.Timestamp, k)
		}
		if _, twice := there[rec.Offset]; twice {
			t.Fatalf("offset %d is there twice", rec.Offset)
		}
		there[rec.Offset] = inAborted(aborted, h)
	})
	isThere := func(offset int64) bool { _, ok := there[offset]; return ok }
	// What a reader of committed records sees must be what was committed, but for values that newer ones replace.
	newest := map[string]*keyedRecord{}
	for i := range r.m.records {
		k := &r.m.records[i]
		if k.offset < start || k.offset >= stable {
			if k.offset >= stable && !isThere(k.offset) {
				t.Fatalf("offset %d is not stable yet and is gone", k.offset)
			}
			continue
		}
		if dead, ok := there[k.offset]; ok && k.aborted != dead {
			t.Fatalf("offset %d: aborted %v, a reader takes it for %v", k.offset, k.aborted, dead)
		}
		if !k.aborted {
			newest[k.key] = k
		}
	}
	for key, k := range newest {
		if isThere(k.offset) {
			continue
		}
		if !k.tombstone {
			t.Fatalf("%s: its newest value, at offset %d, is gone", key, k.offset)
		}
		for i := range r.m.records { // a tombstone that has gone must not leave what it deletes
			if old := &r.m.records[i]; old.key == key && old.offset < k.offset && !old.aborted && isThere(old.offset) {
				t.Fatalf("%s: the tombstone at %d is gone and the record at %d, which it deletes, is not", key, k.offset, old.offset)
			}
		}
		if r.ck.ms-k.ts < r.o.Config.TombstoneAge.Milliseconds() {
			t.Fatalf("%s: the tombstone at %d went after %d ms", key, k.offset, r.ck.ms-k.ts)
		}
	}
}

// firstOf is the first offset of the transaction that a record is in.
func (r *keyedRun) firstOf(k *keyedRecord) int64 {
	first := k.offset
	for i := range r.m.records {
		if o := &r.m.records[i]; o.pid == k.pid && o.txn && !o.ended {
			first = min(first, o.offset)
		}
	}
	return first
}

// each calls fn for every record that is there.
func (r *keyedRun) each(fn func(*record.Header, *record.Record)) {
	r.t.Helper()
	eachBatch(r.t, r.l, r.l.EndOffset(), func(h *record.Header, b record.Batch) {
		if h.Attributes.Control() {
			return
		}
		for rec, err := range record.All(b, 0) {
			if err != nil {
				r.t.Fatal(err)
			}
			if rec.Offset >= r.l.StartOffset() {
				fn(h, rec)
			}
		}
	})
}

func runKeyedModel(t *testing.T, seed uint64, steps int) {
	r := &keyedRun{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), disk: vfs.NewCrash(), ck: &clock{ms: 1_700_000_000_000},
		m: keyedModel{open: map[int64]bool{}, seqs: map[int64]int32{}}}
	defer func() {
		if t.Failed() {
			t.Logf("seed %d, operations: %s", seed, strings.Join(r.ops, " "))
		}
	}()
	if err := vfs.MkdirAllSync(r.disk, "/data", 0o755); err != nil {
		t.Fatal(err)
	}
	r.o = Options{Dir: "/data/t-0", BootID: "boot-0", Now: r.ck.now, ProducerExpiry: 1000 * time.Hour, Config: Config{
		SegmentBytes: int64(800 + r.rnd.IntN(3000)), IndexBytes: int64(1 + r.rnd.IntN(600)), RetentionAge: -1, Compact: true,
		TombstoneAge: time.Duration(1+r.rnd.IntN(120)) * time.Minute, MinDirtyRatio: 0.01,
		Compression: r.compression(),
	}}
	r.open()
	for range steps {
		r.ck.tick(int64(r.rnd.IntN(60_000)))
		op := r.rnd.IntN(24)
		r.ops = append(r.ops, fmt.Sprint(op))
		switch op {
		default:
			r.append()
		case 0, 1, 2:
			r.marker()
		case 3, 4, 5, 6:
			r.l.syncer.forget(r.l)
			memory := int64(1+r.rnd.IntN(12)) * slotBytes
			if err := maintain(r.l, r.l.DurableOffset(), Cleaning{Memory: memory}); err != nil {
				t.Fatal(err)
			}
		case 7:
			r.crash(true)
		case 8:
			r.crash(false)
		case 9:
			if err := r.l.Close(); err != nil {
				t.Fatal(err)
			}
			r.open()
		case 10: // compression.type is changed
			r.o.Config.Compression = r.compression()
			r.l.SetConfig(r.o.Config)
		}
		if r.rnd.IntN(3) == 0 {
			r.check()
		}
	}
	r.check()
}

// TestCompactedModel: random appends, transactions, passes of compaction, kills and power cuts; after each nothing is there that was not
// appended, each key's newest committed value is, a tombstone goes late and not before what it deletes, and sequences go on.
func TestCompactedModel(t *testing.T) {
	for seed := range modelSeeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runKeyedModel(t, seed, 150) })
	}
}
