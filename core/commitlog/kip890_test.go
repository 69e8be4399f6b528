package commitlog

import (
	"errors"
	"testing"

	"github.com/forebayhub/forebay/core/record"
)

// TestGuardKIP890: what was true when the coordinator was asked must still be true when the batch is appended.
func TestGuardKIP890(t *testing.T) {
	o, ck := memoryLog(t, Config{})
	l := mustOpen(t, o)
	in := func(seq int32) []byte { return batch(t, 1000, []string{"v"}, producerOf(7, 0, seq), inTxn) }
	end := func(typ record.ControlType) {
		t.Helper()
		if _, err := l.Append(record.EndTxn(7, 0, record.Marker{Type: typ}, 1000), 1, FromCoordinator); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(seq int32, wantAsk bool) Guard {
		t.Helper()
		g, ask := l.Verify(7, 0, seq)
		if ask != wantAsk {
			t.Fatalf("sequence %d: ask is %v", seq, ask)
		}
		return g
	}
	put := func(seq int32, g Guard, want error) {
		t.Helper()
		if _, err := l.AppendGuarded(in(seq), 1, FromClient, g); !errors.Is(err, want) {
			t.Fatalf("sequence %d: %v, want %v", seq, err, want)
		}
	}
	stable := func() bool { return l.LastStable(l.EndOffset()) == l.EndOffset() }

	// An abort marker between the yes and the append, of a transaction without records here.
	g := verify(0, true)
	end(record.Abort)
	put(0, g, ErrInvalidTxnState)
	if !stable() {
		t.Fatal("a transaction hangs")
	}
	// The stale yes is worth nothing when the next transaction is being asked about (ABA).
	next := verify(0, true)
	put(0, g, ErrInvalidTxnState)
	put(0, next, nil)
	// The same for a batch that was not asked for, since its transaction was open.
	g = verify(1, false)
	put(1, g, nil)
	end(record.Commit)
	put(2, g, ErrInvalidTxnState)
	if !stable() {
		t.Fatal("a transaction hangs")
	}
	// Two batches in flight: the one that was sent first gets in first, whosever answer comes first.
	first, second := verify(2, true), verify(3, true)
	put(3, second, ErrOutOfOrderSequence)
	put(2, first, nil)
	put(3, second, nil)
	// The first try's retry is a duplicate, not an error.
	if a, err := l.AppendGuarded(in(3), 1, FromClient, Guard{99}); err != nil || !a.Duplicate {
		t.Fatal(a, err)
	}
	end(record.Commit)
	// A transaction of the same epoch that needs no marker here, for it has written nothing: it ends the question all the same.
	late := verify(4, true)
	if !l.Decided(7, 0) {
		t.Fatal("a transaction without records is not decided")
	}
	put(4, late, ErrInvalidTxnState)
	if !stable() {
		t.Fatal("a transaction hangs")
	}
	late = verify(4, true)
	if l.Decided(7, 1) || l.Decided(8, 0) {
		t.Fatal("an epoch, or a producer, that has no marker is decided")
	}
	put(4, late, nil)
	if l.Decided(7, 0) {
		t.Fatal("an open transaction is decided")
	}
	end(record.Abort)
	// A no leaves nothing behind, silence leaves nothing for ever.
	l.Unverified(7, verify(5, true))
	verify(5, true)
	ck.tick(25 * 3_600_000)
	if err := l.Maintain(l.EndOffset()); err != nil {
		t.Fatal(err)
	}
	if n := len(l.table.verifying); n != 0 {
		t.Fatalf("%d questions are remembered", n)
	}
}
