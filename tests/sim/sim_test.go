package sim

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
)

var (
	seed      = flag.Uint64("seed", 0, "TestSeed runs this one, with its trace")
	seeds     = flag.Int("seeds", 0, "TestSeeds runs so many in all; 0: as many as fit into CI's time")
	from      = flag.Uint64("from", 1, "the first of each kind")
	histories = flag.String("kind", "", "of what histories; empty: TestSeed runs a common one, TestSeeds all kinds, half of them common")
	onward    = flag.Bool("onward", false, "TestSeeds goes on after a violation")
	resume    = flag.String("progress", "", "a file in which TestSeeds keeps how far it is; it goes on from there. It is of one commit, and of the same -seeds, -from and -kind")
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

// TestSeeds runs many histories; the first that breaks a promise ends it, unless -onward.
func TestSeeds(t *testing.T) {
	begin := time.Now()
	p := resumed(t)
	if p.Bad > 0 {
		t.Errorf("%d violations before this was interrupted", p.Bad)
	}
	before := p.Took
	for *seeds == 0 && time.Since(begin) < ciTime || p.Done < *seeds {
		k, s := nth(p.Done)
		w := New(Options{Seed: s, Kind: k})
		err := w.Run()
		p.Done++
		p.Steps += w.Steps()
		p.Acked += w.Acked()
		p.Took = before + time.Since(begin)
		if err != nil {
			t.Errorf("seed %d: %v\n\nrun it again: go test ./tests/sim -run 'TestSeed$' -kind %s -seed %d", s, err, k, s)
			p.Bad++
		}
		if err != nil || p.Done%100 == 0 {
			p.keep(t)
		}
		if err != nil && !*onward {
			return
		}
	}
	if err := os.Remove(*resume); err != nil && *resume != "" && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	of := *histories
	if of == "" {
		var parts []string
		for _, k := range Kinds {
			parts = append(parts, fmt.Sprintf("%d %s", count(k, p.Done), k))
		}
		of = strings.Join(parts, ", ")
	}
	t.Logf("soak: %d seeds (%s, each from %d): %d steps, %d batches acknowledged, %d violations, %v", p.Done, of, *from, p.Steps, p.Acked, p.Bad, p.Took.Round(time.Millisecond))
}

// nth is the n-th history: of one kind, or every other one a common one, and the rest of the other kinds in turn.
func nth(n int) (Kind, uint64) {
	others := len(Kinds) - 1
	switch {
	case *histories != "":
		return Kind(*histories), *from + uint64(n)
	case n%2 == 0:
		return Kinds[0], *from + uint64(n/2)
	default:
		return Kinds[1+n/2%others], *from + uint64(n/2/others)
	}
}

// count is how many of the first n histories are of a kind.
func count(k Kind, n int) (c int) {
	for i := range n {
		if of, _ := nth(i); of == k {
			c++
		}
	}
	return c
}

// progress is how far TestSeeds has come.
type progress struct {
	Done, Steps, Acked, Bad int
	Took                    time.Duration
}

// resumed is what -progress names; nothing, where that is not there yet.
func resumed(t *testing.T) (p progress) {
	t.Helper()
	b, err := os.ReadFile(*resume)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil && *resume != "" && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return p
}

// keep puts it in its place as a whole: TestSeeds may be killed at any time.
func (p progress) keep(t *testing.T) {
	t.Helper()
	if *resume == "" {
		return
	}
	b, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(*resume+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(*resume+".new", *resume)
	}
	if err != nil {
		t.Fatal(err)
	}
}
