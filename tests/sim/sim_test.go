package sim

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

var (
	seed  = flag.Uint64("seed", 0, "TestSeed runs this one, with its trace")
	seeds = flag.Int("seeds", 0, "TestSeeds runs so many; 0: as many as fit into CI's time")
	from  = flag.Uint64("from", 1, "the first of them")
	gone  = flag.Bool("deletions", false, "TestSeed runs a seed of TestDeletions")
	trace = flag.Bool("trace", false, "TestSeed writes the trace of a good seed, too")
)

// TestSeed runs one seed: -seed N.
func TestSeed(t *testing.T) {
	s := max(*seed, 1)
	w := New(Options{Seed: s, Trace: true, Deletions: *gone})
	err := w.Run()
	text, hash := w.Trace()
	if err != nil || *trace {
		fmt.Fprintln(os.Stderr, text)
	}
	if err != nil {
		t.Fatalf("seed %d: %v", s, err)
	}
	t.Logf("seed %d: %d steps, %d batches acknowledged, trace %016x", s, w.Steps(), w.Acked(), hash)
}

// TestSame runs seeds twice: a seed is a whole history, with or without its trace being kept.
func TestSame(t *testing.T) {
	for s := uint64(1); s <= 8; s++ {
		a, b := New(Options{Seed: s}), New(Options{Seed: s, Trace: true})
		errA, errB := a.Run(), b.Run()
		_, hashA := a.Trace()
		_, hashB := b.Trace()
		if hashA != hashB || a.Steps() != b.Steps() || fmt.Sprint(errA) != fmt.Sprint(errB) {
			t.Errorf("seed %d: %d steps, trace %016x, %v; then %d steps, trace %016x, %v", s, a.Steps(), hashA, errA, b.Steps(), hashB, errB)
		}
	}
}

// TestDeletions runs seeds in which records are deleted.
func TestDeletions(t *testing.T) {
	begin, steps, count := time.Now(), 0, *seeds
	if count == 0 {
		count = 60
	}
	for s := *from; s < *from+uint64(count); s++ {
		w := New(Options{Seed: s, Deletions: true})
		if err := w.Run(); err != nil {
			t.Fatalf("seed %d: %v\n\nrun it again: go test ./tests/sim -run 'TestSeed$' -deletions -seed %d", s, err, s)
		}
		steps += w.Steps()
	}
	t.Logf("%d seeds, %d steps, %v", count, steps, time.Since(begin).Round(time.Millisecond))
}

// ciTime is what TestSeeds may take where nobody names a number.
const ciTime = 30 * time.Second

// TestSeeds runs many seeds; the first that breaks a promise ends it.
func TestSeeds(t *testing.T) {
	begin := time.Now()
	steps, acked, n := 0, 0, 0
	for s := *from; *seeds == 0 && time.Since(begin) < ciTime || n < *seeds; s++ {
		w := New(Options{Seed: s})
		if err := w.Run(); err != nil {
			t.Fatalf("seed %d: %v\n\nrun it again: go test ./tests/sim -run 'TestSeed$' -seed %d", s, err, s)
		}
		n++
		steps += w.Steps()
		acked += w.Acked()
	}
	t.Logf("%d seeds, %d steps, %d batches acknowledged, %v", n, steps, acked, time.Since(begin).Round(time.Millisecond))
}
