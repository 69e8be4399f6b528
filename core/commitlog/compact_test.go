package commitlog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/record"
)

// latest reads what a consumer of a compacted topic ends up with: the last value of each key, aborted records left out.
func latest(t *testing.T, l *Log, limit int64) (values map[string]string, records, markers int) {
	t.Helper()
	values = map[string]string{}
	aborted := l.Aborted(0, limit)
	eachBatch(t, l, limit, func(h *record.Header, b record.Batch) {
		if h.Attributes.Control() {
			markers++
			return
		}
		dead := inAborted(aborted, h)
		for r, err := range record.All(b, 0) {
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
	})
	return values, records, markers
}

// inAborted says whether a reader of committed records passes over a batch, by what the log tells it.
func inAborted(aborted []AbortedTxn, h *record.Header) bool {
	return h.Attributes.Transactional() && slices.ContainsFunc(aborted, func(a AbortedTxn) bool {
		return a.ProducerID == h.ProducerID && a.FirstOffset <= h.BaseOffset && h.BaseOffset < a.LastOffset
	})
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
	memory := int64(2+rnd.IntN(60)) * slotBytes // fewer keys than there are: several passes
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
		if err := maintain(l, end, Cleaning{Memory: memory}); err != nil {
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
			l = mustOpen(t, o)
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

func keyed(t testing.TB, ts int64, key, value string) []byte {
	t.Helper()
	w := record.NewBuilder()
	w.Append(ts, []byte(key), []byte(value))
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte(nil), b...)
}

// TestOneKeyAtATime: a map with room for a single key only takes more passes, also when the keys lie in one batch.
func TestOneKeyAtATime(t *testing.T) {
	o, _ := memoryLog(t, Config{SegmentBytes: 4000, Compact: true})
	l := mustOpen(t, o)
	for round := range 3 {
		var values []string
		for i := range 40 {
			values = append(values, fmt.Sprint(round, "-", i))
		}
		mustAppend(t, l, batch(t, 1000, values))
	}
	mustAppend(t, l, batch(t, 1000, []string{strings.Repeat("x", 3900)})) // ends the segment
	waitDurable(t, l)
	end := l.EndOffset()
	want, _, _ := latest(t, l, end)
	if err := l.Clean(end, Cleaning{Memory: 1}); err != nil {
		t.Fatal(err)
	}
	got, records, _ := latest(t, l, end)
	if fmt.Sprint(got) != fmt.Sprint(want) || records != 41 {
		t.Fatalf("%d records are left: %v", records, got)
	}
}

// TestMoreKeysThanMemory: 60,000 keys with a map of 18,000.
func TestMoreKeysThanMemory(t *testing.T) {
	const keys = 60_000
	o, _ := memoryLog(t, Config{SegmentBytes: 1 << 20, Compact: true})
	l := mustOpen(t, o)
	put := func(from, to int, value string) {
		for at := from; at < to; {
			w := record.NewBuilder()
			for ; at < to && w.Count() < 5_000; at++ {
				w.Append(1000, fmt.Appendf(nil, "%07d", at), []byte(value))
			}
			b, err := w.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, l, b)
		}
	}
	put(0, keys, "old")
	put(0, keys/2, "new")
	mustAppend(t, l, batch(t, 1000, []string{"x"}))
	if err := rollNow(l); err != nil {
		t.Fatal(err)
	}
	waitDurable(t, l)
	most := 0
	if err := l.Clean(l.EndOffset(), Cleaning{Memory: 20_000 * slotBytes, Pace: func(n int) error { most += n; return nil }}); err != nil {
		t.Fatal(err)
	}
	got, records, _ := latest(t, l, l.EndOffset())
	if len(got) != keys+1 || records != keys+1 || got["0000000"] != "new" || got["0059999"] != "old" {
		t.Fatalf("%d keys, %d records", len(got), records)
	}
	if most < 2*int(l.Size()) {
		t.Fatalf("%d bytes were paced", most)
	}
}

// TestPaceEndsCompaction: who bounds it may end it, and nothing is lost by that.
func TestPaceEndsCompaction(t *testing.T) {
	o, _ := memoryLog(t, Config{SegmentBytes: 500, Compact: true})
	l := mustOpen(t, o)
	for i := range 100 {
		mustAppend(t, l, keyed(t, 1000, fmt.Sprint("k", i%3), fmt.Sprint(i)))
	}
	waitDurable(t, l)
	want, before, _ := latest(t, l, 100)
	for left := range 60 {
		n := left * 40
		if err := l.Clean(100, Cleaning{Pace: func(b int) error {
			if n -= b; n < 0 {
				return context.Canceled
			}
			return nil
		}}); err != nil {
			t.Fatal(err)
		}
		if got, _, _ := latest(t, l, 100); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	if err := l.Clean(100, Cleaning{}); err != nil {
		t.Fatal(err)
	}
	if _, after, _ := latest(t, l, 100); after > before/4 {
		t.Fatalf("%d of %d records are left", after, before)
	}
}

// TestWhenCompactionRuns: each config, changed while the log is open, decides by itself.
func TestWhenCompactionRuns(t *testing.T) {
	const never = time.Duration(1<<63 - 1)
	lazy := Config{SegmentBytes: 500, Compact: true, MinDirtyRatio: 1, TombstoneAge: never}
	for name, c := range map[string]struct {
		change func(*Config)
		wait   time.Duration
		runs   bool
	}{
		"all is dirty, but not more than all": {func(*Config) {}, 0, false},
		"dirty ratio":                         {func(c *Config) { c.MinDirtyRatio = 0.9 }, 0, true},
		"max lag, too early":                  {func(c *Config) { c.MaxCompactionLag = time.Hour }, 50 * time.Minute, false},
		"max lag":                             {func(c *Config) { c.MaxCompactionLag = time.Hour }, 70 * time.Minute, true},
		"min lag, too early":                  {func(c *Config) { c.MinDirtyRatio, c.MinCompactionLag = 0.9, time.Hour }, 50 * time.Minute, false},
		"min lag":                             {func(c *Config) { c.MinDirtyRatio, c.MinCompactionLag = 0.9, time.Hour }, 70 * time.Minute, true},
		"only deleted":                        {func(c *Config) { c.MinDirtyRatio, c.Compact, c.Delete = 0.1, false, true }, 0, false},
		"both policies":                       {func(c *Config) { c.MinDirtyRatio, c.Delete = 0.1, true }, 0, true},
	} {
		o, ck := memoryLog(t, lazy)
		ck.tick(0)
		l := mustOpen(t, o)
		for i := range 100 {
			mustAppend(t, l, keyed(t, ck.ms, "k", fmt.Sprint(i)))
		}
		waitDurable(t, l)
		ck.tick(c.wait.Milliseconds())
		cfg := lazy
		c.change(&cfg)
		l.SetConfig(cfg)
		if err := maintain(l, 100); err != nil {
			t.Fatal(err)
		}
		waitDurable(t, l)
		if _, left, _ := latest(t, l, 100); (left < 50) != c.runs {
			t.Errorf("%s: %d records are left", name, left)
		}
	}
}

// TestMaxLagEndsASilentSegment: what was written last is compacted in time too, though no append ends its segment.
func TestMaxLagEndsASilentSegment(t *testing.T) {
	o, ck := memoryLog(t, Config{Compact: true, MaxCompactionLag: time.Hour})
	ck.tick(0)
	l := mustOpen(t, o)
	for i := range 10 {
		mustAppend(t, l, keyed(t, ck.ms, "k", fmt.Sprint(i)))
	}
	for _, wait := range []time.Duration{50 * time.Minute, 20 * time.Minute} {
		ck.tick(wait.Milliseconds())
		waitDurable(t, l)
		if err := l.Maintain(10); err != nil {
			t.Fatal(err)
		}
		l.syncer.mark(l)
		waitDurable(t, l)
		if err := l.Clean(10, Cleaning{}); err != nil {
			t.Fatal(err)
		}
		_, left, _ := latest(t, l, 10)
		if want := map[bool]int{true: 10, false: 1}[wait > 30*time.Minute]; left != want {
			t.Fatalf("%d records are left, want %d", left, want)
		}
	}
}

func rollNow(l *Log) error {
	l.w.Lock()
	_, h, err := l.roll(l.now())
	if err == nil {
		h.release()
	}
	l.w.Unlock()
	l.syncer.mark(l)
	return err
}

// What lies behind the high watermark may be cut off: then the producer's last batch is the one before, which a pass must have kept.
func TestCompactionKeepsSequencesForACut(t *testing.T) {
	o, ck := memoryLog(t, Config{SegmentBytes: 300, Compact: true, MinDirtyRatio: 1e-9})
	l := mustOpen(t, o)
	retry := func(seq int32) []byte { return batch(t, ck.ms, []string{"key=value"}, producerOf(7, 0, seq)) }
	mustAppend(t, l, retry(0))
	first := mustAppend(t, l, retry(1))
	for range 20 {
		mustAppend(t, l, batch(t, ck.ms, []string{"key=later"}))
	}
	hw := l.EndOffset()
	for seq := range int32(20) { // with snapshots of the producers, of which only the last stay
		mustAppend(t, l, retry(seq+2))
	}
	waitDurable(t, l)
	for range 2 {
		if err := l.Clean(hw, Cleaning{}); err != nil {
			t.Fatal(err)
		}
	}
	if left := len(readAll(t, l)); left > 30 {
		t.Fatalf("%d records are left: nothing was compacted", left)
	}
	if err := l.TruncateTo(hw); err != nil {
		t.Fatal(err)
	}
	if a, err := l.Append(retry(1), 0, FromClient); err != nil || !a.Duplicate || a.Base != first.Base {
		t.Errorf("the last batch before the cut, again: %+v, %v", a, err)
	}
	if _, err := l.Append(retry(2), 0, FromClient); err != nil {
		t.Errorf("the next batch: %v", err)
	}
}

// TestCompactionOfSegmentsThatAreCut: what a pass has made of segments that were cut meanwhile, and written anew, does not come in their place.
func TestCompactionOfSegmentsThatAreCut(t *testing.T) {
	cut := 0
	for at := 2; at < 80; at += 3 { // it reads each of thirty batches twice
		o, _ := memoryLog(t, Config{SegmentBytes: 500, Compact: true, MinDirtyRatio: 1e-9})
		l := mustOpen(t, o)
		fill := func(value string) {
			for i := range 40 {
				mustAppend(t, l, keyed(t, 1000, fmt.Sprint("k", i%3), value))
			}
			waitDurable(t, l)
		}
		fill("old")
		calls := 0
		if err := l.Clean(30, Cleaning{Pace: func(int) error {
			if calls++; calls == at {
				cut++
				if err := l.TruncateTo(1); err != nil {
					t.Fatal(err)
				}
				fill("new")
			}
			return nil
		}}); err != nil {
			t.Fatal(err)
		}
		for offset, value := range readAll(t, l) {
			if calls >= at && offset > 0 && value != "new" {
				t.Fatalf("cut at the %d-th batch: at %d there is %q", at, offset, value)
			}
		}
	}
	if cut < 10 {
		t.Errorf("the pass was cut into %d times", cut)
	}
}

// TestCutBelowWhatIsCleaned: what is appended in the place of compacted records that were cut off is not taken for compacted after a restart: a key whose tombstone
// lies there would come back.
func TestCutBelowWhatIsCleaned(t *testing.T) {
	o, ck := memoryLog(t, Config{SegmentBytes: 1 << 20, Compact: true, TombstoneAge: time.Hour, MinDirtyRatio: 1e-9})
	l := mustOpen(t, o)
	put := func(key, value string) {
		w := record.NewBuilder()
		b := []byte(value)
		if value == "" {
			b = nil
		}
		w.Append(ck.ms, []byte(key), b)
		one, err := w.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, one)
	}
	clean := func() {
		t.Helper()
		waitDurable(t, l)
		if err := l.Clean(l.EndOffset(), Cleaning{}); err != nil {
			t.Fatal(err)
		}
	}
	put("gone", "old")
	for i := range 100 {
		put(fmt.Sprint("filler", i), "v")
	}
	mustDo(t, rollNow(l))
	put("x", "x")
	clean()
	mustDo(t, l.TruncateTo(60))
	put("gone", "new")
	put("gone", "")
	for i := range 100 {
		put(fmt.Sprint("more", i), "v")
	}
	waitDurable(t, l)
	mustDo(t, l.Close())
	o.Syncer = NewSyncer(4, nil)
	l = mustOpen(t, o)
	put("x", "x")
	mustDo(t, rollNow(l))
	put("x", "x")
	clean()
	eachBatch(t, l, l.EndOffset(), func(_ *record.Header, b record.Batch) {
		for r, err := range record.All(b, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Key) == "gone" && r.Value != nil {
				t.Errorf("at %d there is %q of a deleted key, and nothing will look at it again", r.Offset, r.Value)
			}
		}
	})
}

// TestCompactionBesideACut: a log is cut back, and filled anew beyond where it ended, at any moment of a pass of compaction. The pass changes nothing then, and what
// it has not seen it does not count as seen: a tombstone there goes after the value before it.
func TestCompactionBesideACut(t *testing.T) {
	for name, cut := range map[string]func(*Log) error{
		"cut back":      func(l *Log) error { return l.TruncateTo(12) },
		"begins anew":   func(l *Log) error { return l.StartAt(24) },
		"cut to a part": func(l *Log) error { return l.TruncateTo(28) },
	} {
		for _, once := range []bool{false, true} { // each key that is cut off was there once: the pass has nothing to write
			t.Run(fmt.Sprintf("%s, once %t", name, once), func(t *testing.T) { compactBesideACut(t, cut, once) })
		}
	}
}

func compactBesideACut(t *testing.T, cut func(*Log) error, once bool) {
	run := func(at int) (steps int) {
		o, ck := memoryLog(t, Config{SegmentBytes: 500, Compact: true, MinDirtyRatio: 1e-9, TombstoneAge: time.Hour})
		o.Syncer = NewSteppedSyncer(nil)
		l := mustOpen(t, o)
		put := func(to int, prefix string, once bool) {
			for l.EndOffset() < int64(to) {
				i := l.EndOffset()
				w := record.NewBuilder()
				key, value := fmt.Append(nil, "k", i%8%6, "-", i/16), fmt.Appendf(nil, "%s%d", prefix, i)
				switch {
				case once:
					key = value
				case i%8 >= 6:
					value = nil // of the keys before
				}
				w.Append(ck.ms, key, value)
				b, err := w.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				mustAppend(t, l, b)
			}
			l.syncer.Step()
		}
		put(40, "old", once)
		var want map[string]string
		pace := func(int) error {
			if steps == at {
				mustDo(t, cut(l))
				put(80, "new", false)
				want, _, _ = latest(t, l, 80)
			}
			steps++
			return nil
		}
		mustDo(t, l.Clean(40, Cleaning{Pace: pace}))
		for pass := 0; want != nil && pass < 3; pass++ {
			ck.tick((2 * time.Hour).Milliseconds())
			mustDo(t, l.Clean(80, Cleaning{}))
		}
		if got, _, _ := latest(t, l, 80); want != nil && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("cut at step %d: %v, want %v", at, got, want)
		}
		return steps
	}
	all := run(-1)
	if all < 40 {
		t.Fatal("steps of a pass:", all)
	}
	for at := all - 1; at >= 0; at -= 5 {
		run(at)
	}
}
