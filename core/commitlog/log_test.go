package commitlog

import (
	"errors"
	"fmt"
	"testing"

	"github.com/forebayhub/forebay/core/record"
)

func TestAppendReadReopen(t *testing.T) {
	o, ck := memoryLog(t, Config{SegmentBytes: 2000, IndexBytes: 200})
	l := mustOpen(t, o)
	if _, err := o.FS.Stat("/data"); err == nil {
		t.Fatal("an empty log has made files")
	}
	want := map[int64]string{}
	for i := range 100 {
		v := []string{fmt.Sprintf("value-%d", i), "x"}
		a := mustAppend(t, l, batch(t, ck.ms, v))
		if a.Base != int64(2*i) || a.Last != int64(2*i+1) {
			t.Fatalf("append %d lies at %d-%d", i, a.Base, a.Last)
		}
		want[a.Base], want[a.Last] = v[0], "x"
		ck.tick(10)
	}
	waitDurable(t, l)
	check := func(l *Log) {
		t.Helper()
		got := readAll(t, l)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("read %v, want %v", got, want)
		}
		for ts := int64(1_700_000_000_000) - 5; ts < ck.ms; ts += 5 {
			off, at, epoch, err := l.OffsetForTime(ts)
			i := max(ts-1_700_000_000_000+9, 0) / 10
			exp := 2 * i
			if ts > 1_700_000_000_000 && (ts-1_700_000_000_000)%10 == 1 {
				exp = 2*(i-1) + 1
			}
			if i >= 100 {
				exp = -1
			}
			if err != nil || off != exp || off >= 0 && (at < ts || epoch != 1) {
				t.Fatalf("time %d: offset %d at %d epoch %d (%v), want %d", ts, off, at, epoch, err, exp)
			}
		}
		if off, ts, _, err := l.MaxTimestamp(); err != nil || off != 199 || ts != ck.ms-10+1 {
			t.Fatalf("max timestamp %d at %d, %v", ts, off, err)
		}
	}
	check(l)
	if len(l.segs) < 3 {
		t.Fatalf("%d segments", len(l.segs))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, o)
	check(l)
	l2 := mustOpen(t, o) // as after SIGKILL: nothing was closed
	check(l2)
}

func TestIdempotence(t *testing.T) {
	o, ck := memoryLog(t, Config{})
	l := mustOpen(t, o)
	send := func(epoch int16, seq int32, n int) (Appended, error) {
		return l.Append(batch(t, ck.ms, make([]string, n), producerOf(7, epoch, seq)), 1, FromClient)
	}
	for i := range 7 {
		if a, err := send(0, int32(3*i), 3); err != nil || a.Duplicate {
			t.Fatal(a, err)
		}
	}
	for i := 2; i < 7; i++ {
		if a, err := send(0, int32(3*i), 3); err != nil || !a.Duplicate || a.Base != int64(3*i) || a.Last != int64(3*i+2) {
			t.Fatal(a, err)
		}
	}
	if _, err := send(0, 0, 3); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Fatal(err)
	}
	if _, err := send(0, 25, 1); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Fatal(err)
	}
	if _, err := send(1, 5, 1); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Fatal(err)
	}
	if _, err := send(1, 0, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := send(0, 21, 1); !errors.Is(err, ErrProducerFenced) {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, o)
	if a, err := send(1, 0, 1); err != nil || !a.Duplicate {
		t.Fatal(a, err)
	}
	// The sequence wraps at 2^31-1 (KIP-98).
	if _, err := l.Append(batch(t, ck.ms, make([]string, 3), producerOf(8, 0, 1<<31-2)), 1, FromClient); err != nil {
		t.Fatal(err)
	}
	if a, err := l.Append(batch(t, ck.ms, make([]string, 3), producerOf(8, 0, 1<<31-2)), 1, FromClient); err != nil || !a.Duplicate {
		t.Fatal(a, err)
	}
	if _, err := l.Append(batch(t, ck.ms, make([]string, 3), producerOf(8, 0, 1)), 1, FromClient); err != nil {
		t.Fatal(err)
	}
}

// TestLateMarkerIsRefused is a marker that comes again when the producer has begun its next transaction with the epoch that the end of the
// last one gave it: it would end that one, half written (KIP-1228).
func TestLateMarkerIsRefused(t *testing.T) {
	o, ck := memoryLog(t, Config{})
	l := mustOpen(t, o)
	marker := func(epoch int16, origin Origin) error {
		_, err := l.Append(record.EndTxn(1, epoch, record.Marker{Type: record.Commit, CoordinatorEpoch: 3}, ck.ms), 1, origin)
		return err
	}
	mustAppend(t, l, batch(t, ck.ms, []string{"a"}, producerOf(1, 0, 0), inTxn)) // 0
	for range 2 {                                                                // 1, and again at 2: nothing is open
		if err := marker(1, FromBump); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, l, batch(t, ck.ms, []string{"b"}, producerOf(1, 1, 0), inTxn)) // 3
	if err := marker(1, FromBump); !errors.Is(err, ErrProducerFenced) {
		t.Fatalf("the marker of the transaction before: %v", err)
	}
	if p, ok := l.ProducerState(1); !ok || p.TxnStart != 3 {
		t.Fatalf("the next transaction is not open any more: %+v", p)
	}
	if err := marker(2, FromBump); err != nil {
		t.Fatal(err)
	}
	// Without a new epoch (clients before KIP-890, and operators' tools) the two cannot be told apart.
	mustAppend(t, l, batch(t, ck.ms, []string{"c"}, producerOf(1, 2, 0), inTxn))
	if err := marker(2, FromCoordinator); err != nil {
		t.Fatal(err)
	}
}

// TestLastStableWithinTheLog is a transaction whose first record DeleteRecords has deleted: what read_committed is told
// to start from must be an offset that can be fetched.
func TestLastStableWithinTheLog(t *testing.T) {
	o, ck := memoryLog(t, Config{})
	l := mustOpen(t, o)
	mustAppend(t, l, batch(t, ck.ms, []string{"plain"}))                              // 0
	mustAppend(t, l, batch(t, ck.ms, []string{"a", "b"}, producerOf(1, 0, 0), inTxn)) // 1, 2
	mustAppend(t, l, batch(t, ck.ms, []string{"plain"}))                              // 3
	if err := l.DeleteBefore(2); err != nil {
		t.Fatal(err)
	}
	for hw, want := range map[int64]int64{4: 2, 2: 2, 1: 1} {
		if got := l.LastStable(hw); got != want {
			t.Errorf("last stable at %d is %d, want %d", hw, got, want)
		}
	}
}

// TestLastStable follows a transaction as KIP-98 has it: the last stable offset stays
// at its first record until the marker is below the high watermark.
func TestLastStable(t *testing.T) {
	o, ck := memoryLog(t, Config{})
	l := mustOpen(t, o)
	mustAppend(t, l, batch(t, ck.ms, []string{"plain"}))                                   // 0
	mustAppend(t, l, batch(t, ck.ms, []string{"a", "b"}, producerOf(1, 0, 0), inTxn))      // 1, 2
	mustAppend(t, l, batch(t, ck.ms, []string{"c"}, producerOf(2, 0, 0), inTxn))           // 3
	_, err := l.Append(batch(t, ck.ms, []string{"c"}, producerOf(2, 0, 1)), 1, FromClient) // outside
	if !errors.Is(err, ErrInvalidTxnState) {
		t.Fatal(err)
	}
	expect := func(hw, want int64) {
		t.Helper()
		if got := l.LastStable(hw); got != want {
			t.Fatalf("last stable at %d is %d, want %d", hw, got, want)
		}
	}
	expect(4, 1)
	expect(1, 1)
	marker := func(id int64, typ record.ControlType) {
		t.Helper()
		if _, err := l.Append(record.EndTxn(id, 0, record.Marker{Type: typ, CoordinatorEpoch: 3}, ck.ms), 1, FromCoordinator); err != nil {
			t.Fatal(err)
		}
	}
	marker(1, record.Abort) // 4
	expect(4, 1)            // the marker is not below the high watermark
	reopened := mustOpen(t, o)
	if got := reopened.LastStable(4); got != 1 {
		t.Fatalf("reopened: %d", got)
	}
	expect(5, 3)
	marker(2, record.Commit) // 5
	expect(6, 6)
	for range 2 {
		if got := fmt.Sprint(l.Aborted(0, 6)); got != "[{1 1 4}]" {
			t.Fatal(got)
		}
		if got := l.Aborted(5, 6); got != nil {
			t.Fatal(got)
		}
		if p, ok := l.ProducerState(1); !ok || p.CoordinatorEpoch != 3 || p.TxnStart != -1 || p.LastSequence != 1 {
			t.Fatal(p, ok)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, o)
	}
	_, err = l.Append(record.EndTxn(1, 0, record.Marker{CoordinatorEpoch: 2}, ck.ms), 1, FromCoordinator)
	if !errors.Is(err, ErrCoordinatorFenced) {
		t.Fatal(err)
	}
}
