//go:build synctests

package exactly

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seed  = flag.Uint64("seed", 0, "TestSeed runs this one, with its trace")
	seeds = flag.Int("seeds", 0, "TestSeeds runs so many; 0: as many as fit into CI's time")
	from  = flag.Uint64("from", 1, "the first of them")
	told  = flag.Bool("told", false, "TestSeed writes the trace of a good seed, too")
)

// play runs one seed in a bubble of its own.
func play(t *testing.T, seed uint64) (w *World, violations []string) {
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed)
		violations = w.run()
	})
	return w, violations
}

// TestSeed runs one seed: -seed N.
func TestSeed(t *testing.T) {
	w, violations := play(t, max(*seed, 1))
	if len(violations) > 0 || *told {
		fmt.Fprintf(os.Stderr, "%+v\n%s\n", w.knobs, strings.Join(w.trace, "\n"))
	}
	for _, v := range violations {
		t.Error(v)
	}
	t.Logf("seed %d: %v", w.seed, w.count)
}

// counts of faults by kind, as a reader of the report wants them.
type counts map[string]int

func (c counts) String() string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(c)) {
		out = append(out, fmt.Sprintf("%s %d", kind, c[kind]))
	}
	return strings.Join(out, ", ")
}

// ciTime is what TestSeeds may take where nobody names a number.
const ciTime = 15 * time.Second

// TestSeeds runs many seeds; the first that breaks a promise ends it.
func TestSeeds(t *testing.T) {
	begin, n, rows, buried := time.Now(), 0, 0, 0
	befell := counts{}
	for s := *from; *seeds == 0 && time.Since(begin) < ciTime || n < *seeds; s++ {
		w, violations := play(t, s)
		if len(violations) > 0 {
			t.Fatalf("seed %d: %s\n%s\n\nrun it again: go test -tags synctests ./tests/exactly -run 'TestSeed$' -seed %d", s, violations[0], strings.Join(w.trace, "\n"), s)
		}
		n++
		buried += w.buried
		for _, g := range w.targets {
			rows += g.rows
		}
		for f, c := range w.count {
			befell[f] += c
		}
	}
	t.Logf("soak: %d seeds, %d rows in targets and %d in dead letters, each once and in order; %v; %v", n, rows, buried, befell, time.Since(begin).Round(time.Millisecond))
}
