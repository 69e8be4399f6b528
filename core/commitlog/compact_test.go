package commitlog

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/record"
)

// latest reads what a consumer of a compacted topic ends up with: the last value of each key, aborted records left out.
func latest(t *testing.T, l *Log, limit int64) (values map[string]string, records, markers int) {
	t.Helper()
	values = map[string]string{}
	aborted := l.Aborted(0, limit)
	for from := l.StartOffset(); from < limit; {
		s, err := l.Read(from, limit, 1<<20, true)
		if err != nil {
			t.Fatal(err)
		}
		if s.Len == 0 {
			break
		}
		b := make([]byte, s.Len)
		if _, err := s.File.ReadAt(b, s.Pos); err != nil {
			t.Fatal(err)
		}
		s.Release()
		for len(b) > 0 {
			h, one, rest, err := record.Next(b)
			if err == nil {
				err = one.Check()
			}
			if err != nil {
				t.Fatal(err)
			}
			from, b = h.LastOffset()+1, rest
			if h.Attributes.Control() {
				markers++
				continue
			}
			dead := false
			for _, a := range aborted {
				dead = dead || h.Attributes.Transactional() && a.ProducerID == h.ProducerID && a.FirstOffset <= h.BaseOffset && h.BaseOffset < a.LastOffset
			}
			for r, err := range record.All(one, 0) {
				if err != nil {
					t.Fatal(err)
				}
				records++
				if dead {
					continue
				}
				values[string(r.Key)] = string(r.Value)
				if r.Value == nil {
					delete(values, string(r.Key))
				}
			}
		}
	}
	return values, records, markers
}

// TestCompaction: whatever compaction does, a reader from the start ends up with the same values.
func TestCompaction(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runCompaction(t, seed) })
	}
}

func runCompaction(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	o, ck := memoryLog(t, Config{SegmentBytes: 3000, IndexBytes: 300, Compact: true, TombstoneAge: time.Hour})
	l := mustOpen(t, o)
	l.maxKeys = 20 + rnd.IntN(60)
	seqs, open := map[int64]int32{}, map[int64]bool{}
	for i := range 600 {
		ck.tick(1000)
		pid := int64(1 + rnd.IntN(3))
		if open[pid] && rnd.IntN(3) == 0 {
			if _, err := l.Append(record.EndTxn(pid, 0, record.Marker{Type: record.ControlType(rnd.IntN(2))}, ck.ms), 1, FromCoordinator); err != nil {
				t.Fatal(err)
			}
			open[pid] = false
			continue
		}
		w := record.NewBuilder()
		w.Attributes = record.Attributes(rnd.IntN(5))
		if rnd.IntN(2) == 0 {
			w.Attributes |= record.Transactional
			w.ProducerID, w.ProducerEpoch, w.BaseSequence = pid, 0, seqs[pid]
			open[pid] = true
		}
		for range 1 + rnd.IntN(3) {
			value := fmt.Appendf(nil, "%d-%060d", i, 0)
			if rnd.IntN(5) == 0 {
				value = nil
			}
			w.Append(ck.ms, fmt.Appendf(nil, "key-%d", rnd.IntN(30)), value, record.RecordHeader{Key: []byte("h"), Value: []byte("v")})
			if w.ProducerID > 0 {
				seqs[pid]++
			}
		}
		b, err := w.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(b, 1, FromClient); err != nil {
			t.Fatal(err)
		}
	}
	for pid := range open {
		if _, err := l.Append(record.EndTxn(pid, 0, record.Marker{Type: record.Commit}, ck.ms), 1, FromCoordinator); err != nil {
			t.Fatal(err)
		}
	}
	waitDurable(t, l)
	end := l.EndOffset()
	want, before, _ := latest(t, l, end)
	sequences := fmt.Sprint(l.Producers())
	size := l.Size()
	for pass := range 40 {
		ck.tick((20 * time.Minute).Milliseconds())
		if err := l.Maintain(end); err != nil {
			t.Fatal(err)
		}
		got, _, _ := latest(t, l, end)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("after pass %d: %v, want %v", pass, got, want)
		}
		if pass%7 == 3 { // both kinds of start
			if pass%2 == 0 {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
			keys := l.maxKeys
			l = mustOpen(t, o)
			l.maxKeys = keys
			if l.EndOffset() != end || fmt.Sprint(l.LastStable(end)) != fmt.Sprint(end) {
				t.Fatalf("ends at %d, last stable %d, want %d", l.EndOffset(), l.LastStable(end), end)
			}
		}
	}
	_, after, _ := latest(t, l, end)
	if after > before/2 || l.Size() > size/2 {
		t.Fatalf("%d of %d records and %d of %d bytes are left", after, before, l.Size(), size)
	}
	// A replica that reads it all from the start knows the same sequences and no open transaction.
	for _, at := range l.snaps {
		if err := o.FS.Remove(segmentName(l.dir, at, snapSuffix)); err != nil {
			t.Fatal(err)
		}
	}
	l = mustOpen(t, o)
	if l.LastStable(end) != end {
		t.Fatalf("replayed: last stable %d, want %d", l.LastStable(end), end)
	}
	for _, p := range l.Producers() {
		if p.LastSequence != seqs[p.ID]-1 {
			t.Fatalf("replayed: producer %+v, sequence should be %d; before: %s", p, seqs[p.ID]-1, sequences)
		}
	}
}
