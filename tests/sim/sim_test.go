package sim

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

var (
	seed      = flag.Uint64("seed", 0, "TestSeed runs this one, with its trace")
	seeds     = flag.Int("seeds", 0, "TestSeeds runs so many; 0: as many as fit into CI's time")
	from      = flag.Uint64("from", 1, "the first of them")
	histories = flag.String("kind", "", "of what histories; empty: TestSeed runs a common one, TestSeeds all kinds in turn")
	onward    = flag.Bool("onward", false, "TestSeeds goes on after a violation")
	trace     = flag.Bool("trace", false, "TestSeed writes the trace of a good seed, too")
)

// TestSeed runs one seed: -seed N.
func TestSeed(t *testing.T) {
	s := max(*seed, 1)
	w := New(Options{Seed: s, Trace: true, Kind: Kind(*histories)})
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
	for s := uint64(1); s <= 9; s++ {
		k := Kinds[s%uint64(len(Kinds))]
		a, b := New(Options{Seed: s, Kind: k}), New(Options{Seed: s, Kind: k, Trace: true})
		errA, errB := a.Run(), b.Run()
		_, hashA := a.Trace()
		_, hashB := b.Trace()
		if hashA != hashB || a.Steps() != b.Steps() || fmt.Sprint(errA) != fmt.Sprint(errB) {
			t.Errorf("seed %d: %d steps, trace %016x, %v; then %d steps, trace %016x, %v", s, a.Steps(), hashA, errA, b.Steps(), hashB, errB)
		}
	}
}

// ciTime is what TestSeeds may take where nobody names a number.
const ciTime = 34 * time.Second

// TestSeeds runs many seeds; the first that breaks a promise ends it, unless -onward.
func TestSeeds(t *testing.T) {
	kinds := Kinds
	if *histories != "" {
		kinds = []Kind{Kind(*histories)}
	}
	begin := time.Now()
	steps, acked, n, bad := 0, 0, 0, 0
	for s := *from; *seeds == 0 && time.Since(begin) < ciTime || n < *seeds; s++ {
		for _, k := range kinds {
			w := New(Options{Seed: s, Kind: k})
			if err := w.Run(); err != nil {
				t.Errorf("seed %d: %v\n\nrun it again: go test ./tests/sim -run 'TestSeed$' -kind %s -seed %d", s, err, k, s)
				if bad++; !*onward {
					return
				}
			}
			steps += w.Steps()
			acked += w.Acked()
		}
		n++
	}
	t.Logf("soak: %d seeds from %d of each of %v: %d steps, %d batches acknowledged, %d violations, %v", n, *from, kinds, steps, acked, bad, time.Since(begin).Round(time.Millisecond))
}
