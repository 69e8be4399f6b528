// Package conformance is the kit that every connector passes: resume, kill at any
// moment, doubled and lost records, acknowledgement order, fencing, leaks. A
// connector's own tests call Source or Sink with a real outside system behind it.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
)

// SourceKit is a source and the outside system that it reads.
type SourceKit struct {
	// New makes the source. Every call reads the same outside system and, like
	// another process on the same config, the same splits.
	New func(t testing.TB) connectors.Source
	// Grow adds n records' worth to the outside system and returns what Identity
	// gives for each of them.
	Grow func(t testing.TB, n int) []string
	// Identity tells records apart; "" leaves one out (heartbeats, tombstones).
	// nil: topic, raw key and raw value.
	Identity func(r *connectors.Record) string
	// Wait bounds how long one batch may take to come. 0: 20 s.
	Wait time.Duration
}

// ledger stands for the log: what was committed, with its positions.
type ledger struct {
	seen      map[string]int
	positions map[connectors.PositionKey]connectors.Position
}

// Source runs the kit.
func Source(t *testing.T, k SourceKit) {
	if k.Identity == nil {
		k.Identity = func(r *connectors.Record) string {
			return fmt.Sprintf("%s\x00%s\x00%s", r.Topic, r.RawKey, r.RawValue)
		}
	}
	if k.Wait == 0 {
		k.Wait = 20 * time.Second
	}
	l := &ledger{seen: map[string]int{}, positions: map[connectors.PositionKey]connectors.Position{}}
	var want []string
	t.Run("Spec", func(t *testing.T) { k.facts(t) })
	if t.Failed() {
		return
	}
	t.Run("Resume", func(t *testing.T) {
		want = append(want, k.Grow(t, 100)...)
		k.readAll(t, l, want)
		want = append(want, k.Grow(t, 50)...)
		k.readAll(t, l, want)
	})
	t.Run("Kill", func(t *testing.T) {
		for range 20 {
			want = append(want, k.Grow(t, 1+rand.IntN(200))...)
			k.life(t, l, rand.IntN(4), func() bool { return l.holds(want) })
		}
		k.readAll(t, l, want)
	})
	t.Run("Leak", func(t *testing.T) {
		before := runtime.NumGoroutine()
		for range 5 {
			want = append(want, k.Grow(t, 1)...)
			k.readAll(t, l, want)
		}
		settled(t, before)
	})
}

// facts checks what a source says about itself.
func (k SourceKit) facts(t *testing.T) {
	src := k.New(t)
	ctx, cancel := context.WithTimeout(context.Background(), k.Wait)
	defer cancel()
	for _, f := range src.Validate(ctx) {
		if !f.Warning {
			t.Errorf("Validate finds %+v on a system that works", f)
		}
	}
	a, err := src.Plan(ctx, 4)
	if err != nil || len(a) == 0 || len(a) > 4 {
		t.Fatalf("Plan gives %v, %v; want 1 to 4 splits", a, err)
	}
	b, err := k.New(t).Plan(ctx, 4)
	if err != nil || fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("a second Plan gives %v, %v after %v: split ids must be stable", b, err, a)
	}
}

func (l *ledger) holds(want []string) bool {
	for _, id := range want {
		if l.seen[id] == 0 {
			return false
		}
	}
	return true
}

// readAll reads until the ledger holds all of want, then checks that it holds each once.
func (k SourceKit) readAll(t *testing.T, l *ledger, want []string) {
	t.Helper()
	for !l.holds(want) {
		k.life(t, l, -1, func() bool { return l.holds(want) })
	}
	times := map[string]int{}
	for _, id := range want {
		times[id]++
	}
	for id, n := range l.seen {
		if n != times[id] {
			t.Errorf("record %q is there %d times, want %d", clean(id), n, times[id])
		}
	}
}

func clean(id string) string { return strings.ReplaceAll(id, "\x00", "|") }

// life is one start of each split's task. It ends when done says so or, as a
// crash would end it, after `reads` batches (-1: never): the last batch is not
// in the ledger then, or it is and the source never hears of it.
func (k SourceKit) life(t *testing.T, l *ledger, reads int, done func() bool) {
	t.Helper()
	src := k.New(t)
	ctx, cancel := context.WithTimeout(context.Background(), k.Wait)
	defer cancel()
	splits, err := src.Plan(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, split := range splits {
		k.task(t, ctx, src, split, l, reads, done)
	}
}

func (k SourceKit) task(t *testing.T, ctx context.Context, src connectors.Source, split connectors.Split, l *ledger, reads int, done func() bool) {
	t.Helper()
	task := src.Task(split)
	if err := task.Open(ctx, clonePositions(l.positions)); err != nil {
		t.Fatal("open:", err)
	}
	defer func() {
		if err := task.Close(); err != nil {
			t.Error("close:", err)
		}
	}()
	b := connectors.NewBatch(4 << 10) // small: many batches
	for n := 0; !done(); n++ {
		b.Reset()
		err := task.Read(ctx, b)
		if ctx.Err() != nil {
			t.Fatalf("nothing more comes within %v", k.Wait)
		}
		last := n == reads
		if last && rand.IntN(2) == 0 {
			return // killed before the log had it
		}
		acked := l.take(t, k, src, b)
		if last {
			return // killed before the source heard of it
		}
		if cerr := task.Committed(ctx, acked); cerr != nil {
			t.Fatal("committed:", cerr)
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal("read:", err)
		}
	}
}

// take commits what marks cover and returns the positions to acknowledge.
func (l *ledger) take(t *testing.T, k SourceKit, src connectors.Source, b *connectors.Batch) map[connectors.PositionKey]connectors.Position {
	t.Helper()
	covered, acked := 0, map[connectors.PositionKey]connectors.Position{}
	for _, m := range b.Marks {
		if m.Upto < covered || m.Upto > len(b.Records) {
			t.Fatalf("a mark covers %d records after %d of %d", m.Upto, covered, len(b.Records))
		}
		covered = m.Upto
		if m.Position == nil {
			delete(l.positions, m.Key)
			delete(acked, m.Key)
			continue
		}
		p := append(connectors.Position{}, m.Position...)
		if old := l.positions[m.Key]; old != nil && src.Compare(m.Key, old, p) > 0 {
			t.Errorf("position %s of %q comes after %s", p, m.Key, old)
		}
		l.positions[m.Key], acked[m.Key] = p, p
	}
	for i := range b.Records[:covered] {
		if id := k.Identity(&b.Records[i]); id != "" {
			l.seen[id]++
		}
	}
	return acked
}

func clonePositions(m map[connectors.PositionKey]connectors.Position) map[connectors.PositionKey]connectors.Position {
	out := make(map[connectors.PositionKey]connectors.Position, len(m))
	for key, p := range m {
		out[key] = append(connectors.Position{}, p...)
	}
	return out
}

// settled waits until no more goroutines run than before.
func settled(t *testing.T, before int) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before {
		select {
		case <-deadline:
			buf := make([]byte, 64<<10)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		case <-tick.C:
		}
	}
}
