package conformance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// SinkKit is a sink and a way to look into its target.
type SinkKit struct {
	// New makes a sink on an empty target, and a function that lists the values
	// which a reader of the target sees, in any order. Both live as long as t.
	New func(t testing.TB) (sink connectors.Sink, visible func() []string)
	// Topic is what the sink's globs match. "": conformance.
	Topic string
	// Value makes the value of a record; it must come back from visible. nil: "value 17".
	Value func(offset int64) []byte
	// Decode is SinkEnv.Decode. nil: key and value as strings.
	Decode func(*connectors.Record) error
}

// Sink runs the kit.
func Sink(t *testing.T, k SinkKit) {
	if k.Topic == "" {
		k.Topic = "conformance"
	}
	if k.Value == nil {
		k.Value = func(offset int64) []byte { return strconv.AppendInt([]byte("value "), offset, 10) }
	}
	if k.Decode == nil {
		k.Decode = func(r *connectors.Record) error {
			r.Value = connectors.Datum{Schema: &schema.Schema{Kind: schema.String, Optional: true}, Value: schema.TextOf(r.RawValue)}
			if r.RawKey != nil {
				r.Key = connectors.Datum{Schema: r.Value.Schema, Value: schema.TextOf(r.RawKey)}
			}
			return nil
		}
	}
	for name, fn := range map[string]func(*testing.T, *target){
		"Resume": resume, "InvisibleUntilCommitted": invisible, "KillAtAnyMoment": killSink, "OneOfTwoWriters": twoWriters,
		"NotAlive": notAlive, "TopicCreatedAgain": createdAgain, "RetentionPassed": retention, "BeginsLater": later, "Revoke": revoke, "NothingToCommit": nothing, "Leak": leak,
	} {
		t.Run(name, func(t *testing.T) {
			sink, visible := k.New(t)
			fn(t, &target{t: t, k: k, sink: sink, visible: visible, tp: connectors.TopicPartition{Topic: k.Topic}, id: [16]byte{1}, end: 1 << 40})
		})
	}
}

// target is one sink under test, with the log that it reads played by the kit.
type target struct {
	t       *testing.T
	k       SinkKit
	sink    connectors.Sink
	visible func() []string
	tp      connectors.TopicPartition
	id      [16]byte
	start   int64
	begin   int64
	end     int64
	epoch   int64
}

// life is one start of the sink's task.
type life struct {
	*target
	task connectors.SinkTask
	next int64 // what to write next
	dead error // what Alive says
}

func (g *target) ctx() context.Context { return g.t.Context() }

// open starts a task; the caller closes it, or drops it as a crash would.
func (g *target) open() *life {
	g.t.Helper()
	l, err := g.tryOpen()
	if err != nil {
		g.t.Fatal(err)
	}
	return l
}

func (g *target) tryOpen() (*life, error) {
	g.epoch++
	l := &life{target: g}
	l.task = g.sink.Task(connectors.SinkEnv{
		Env:    connectors.Env{Name: "conformance", Group: "g", Host: "h", Logger: slog.New(slog.DiscardHandler)},
		TaskID: fmt.Sprintf("00000000-0000-4000-8000-%012d", g.epoch), Epoch: g.epoch, Decode: g.k.Decode, Alive: func() error { return l.dead },
	})
	if err := l.task.Open(g.ctx()); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	resume, err := l.task.Recover(g.ctx(), []connectors.Assignment{{TopicPartition: g.tp, TopicID: g.id, StartOffset: g.start, Begin: g.begin, EndOffset: g.end}})
	if err != nil {
		return l, err
	}
	l.next = resume[g.tp]
	return l, nil
}

func (l *life) close() {
	l.t.Helper()
	if err := l.task.Close(); err != nil {
		l.t.Error("close:", err)
	}
}

func (l *life) write(n int) {
	l.t.Helper()
	records := make([]connectors.Record, n)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range records {
		records[i] = connectors.Record{Topic: l.tp.Topic, Partition: l.tp.Partition, Offset: l.next, Timestamp: at, RawValue: l.k.Value(l.next)}
		l.next++
	}
	rejects, err := l.task.Write(l.ctx(), records)
	if err != nil || len(rejects) > 0 {
		l.t.Fatalf("write: %v, rejects %v", err, rejects)
	}
	for i := range records { // the sink must not have kept the records' bytes
		for j := range records[i].RawValue {
			records[i].RawValue[j] = '#'
		}
	}
}

func (l *life) prepare() []connectors.Token {
	l.t.Helper()
	tokens, err := l.task.Prepare(l.ctx(), []connectors.TopicPartition{l.tp}, connectors.CauseFlush)
	if err != nil {
		l.t.Fatal("prepare:", err)
	}
	return tokens
}

func (l *life) commit(tokens []connectors.Token) error {
	for _, tok := range tokens {
		if err := l.task.Commit(l.ctx(), tok); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) flush() {
	l.t.Helper()
	tokens := l.prepare()
	if len(tokens) == 0 || tokens[len(tokens)-1].Next != l.next {
		l.t.Fatalf("prepare gives %+v; the last Next must be %d", tokens, l.next)
	}
	if err := l.commit(tokens); err != nil {
		l.t.Fatal("commit:", err)
	}
}

// holds checks that readers see the records 0 … n-1, each once.
func (g *target) holds(n int64) {
	g.t.Helper()
	got := g.visible()
	want := make([]string, 0, n)
	for i := range n {
		want = append(want, string(g.k.Value(i)))
	}
	sort.Strings(got)
	sort.Strings(want)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		g.t.Fatalf("readers see %d values instead of %d: %s", len(got), len(want), difference(got, want))
	}
}

func difference(got, want []string) string {
	times := map[string]int{}
	for _, v := range want {
		times[v]++
	}
	for _, v := range got {
		times[v]--
	}
	var out []string
	for v, n := range times {
		if n != 0 && len(out) < 5 {
			out = append(out, fmt.Sprintf("%q %+d", v, -n))
		}
	}
	sort.Strings(out)
	return strings.Join(out, ", ")
}

func resume(t *testing.T, g *target) {
	a := g.open()
	if a.next != 0 {
		t.Fatalf("an empty target resumes at %d", a.next)
	}
	a.write(10)
	a.flush()
	a.write(5)
	a.flush()
	a.close()
	g.holds(15)
	b := g.open()
	if b.next != 15 {
		t.Fatalf("resumes at %d after 15", b.next)
	}
	b.write(5)
	b.flush()
	b.close()
	g.holds(20)
}

func invisible(_ *testing.T, g *target) {
	a := g.open()
	a.write(100)
	g.holds(0)
	tokens := a.prepare()
	g.holds(0)
	if err := a.commit(tokens); err != nil {
		g.t.Fatal(err)
	}
	g.holds(100)
	if err := a.commit(tokens); err != nil { // an unclear error makes the runtime ask again
		g.t.Fatal("a second commit of the same token:", err)
	}
	g.holds(100)
	a.close()
}

// killSink drops tasks without Close: after a write, a prepare, or a commit.
func killSink(t *testing.T, g *target) {
	committed := int64(0)
	for range 40 {
		l := g.open()
		if l.next != committed {
			t.Fatalf("resumes at %d, committed was %d", l.next, committed)
		}
		for range rand.IntN(4) {
			l.write(1 + rand.IntN(300))
			l.flush()
			committed = l.next
		}
		switch rand.IntN(4) {
		case 0:
			l.close()
		case 1:
			l.write(1 + rand.IntN(300))
		case 2:
			l.write(1 + rand.IntN(300))
			l.prepare()
		}
	}
	l := g.open()
	l.write(1)
	l.flush()
	l.close()
	g.holds(committed + 1)
}

// twoWriters lets a zombie and its successor commit the same offsets, in both orders.
func twoWriters(t *testing.T, g *target) {
	n := int64(0)
	for _, zombieFirst := range []bool{true, false, true} {
		zombie := g.open()
		zombie.write(10)
		zt := zombie.prepare()
		heir := g.open()
		heir.next = zombie.next - 10
		heir.write(20)
		ht := heir.prepare()
		first, ft, second, st := heir, ht, zombie, zt
		gained := int64(20)
		if zombieFirst {
			first, ft, second, st = zombie, zt, heir, ht
			gained = 10
		}
		// Recover may have fenced the zombie, by sweeping what it prepared: then the heir wins.
		if err := first.commit(ft); err != nil {
			if !zombieFirst {
				t.Fatal("the only living writer cannot commit:", err)
			}
			if err := second.commit(st); err != nil {
				t.Fatal("neither of two writers can commit:", err)
			}
			gained = 20
		} else if err := second.commit(st); err == nil {
			t.Fatal("two writers committed the same offsets")
		}
		n += gained
		g.holds(n)
		last := g.open()
		if last.next != n {
			t.Fatalf("resumes at %d after %d", last.next, n)
		}
		last.close()
		g.holds(n)
	}
}

func notAlive(t *testing.T, g *target) {
	l := g.open()
	l.write(10)
	tokens := l.prepare()
	l.dead = errors.New("the lease has run out")
	if err := l.commit(tokens); err == nil {
		t.Error("a task without a lease has committed")
	}
	g.holds(0)
}

func createdAgain(t *testing.T, g *target) {
	l := g.open()
	l.write(10)
	l.flush()
	l.close()
	g.id = [16]byte{2}
	if _, err := g.tryOpen(); err == nil || !connectors.IsFatal(err) {
		t.Errorf("a topic with another id gives %v; want a fatal error", err)
	}
	g.holds(10)
}

func retention(t *testing.T, g *target) {
	l := g.open()
	l.write(10)
	l.flush()
	l.close()
	g.start = 50
	if _, err := g.tryOpen(); err == nil || !connectors.IsFatal(err) {
		t.Errorf("a log that starts after the resume point gives %v; want a fatal error", err)
	}
	g.holds(10)
}

// later: a target that holds nothing begins where it is told, and one that holds something goes on behind it.
func later(t *testing.T, g *target) {
	g.begin = 7
	l := g.open()
	if l.next != 7 {
		t.Fatalf("an empty target begins at %d, want 7", l.next)
	}
	l.write(10)
	l.flush()
	l.close()
	for _, begin := range []int64{0, 7, 100} {
		g.begin = begin
		again := g.open()
		if again.next != 17 {
			t.Errorf("with a begin of %d it resumes at %d, want 17", begin, again.next)
		}
		again.close()
	}
}

func revoke(t *testing.T, g *target) {
	l := g.open()
	l.write(10)
	l.flush()
	l.write(10)
	if err := l.task.Revoke(g.ctx(), []connectors.TopicPartition{g.tp}); err != nil {
		t.Fatal(err)
	}
	l.close()
	g.holds(10)
	again := g.open()
	if again.next != 10 {
		t.Errorf("resumes at %d", again.next)
	}
	again.close()
}

func nothing(t *testing.T, g *target) {
	l := g.open()
	if tokens := l.prepare(); len(tokens) > 0 {
		t.Errorf("prepare gives %+v when nothing was written", tokens)
	}
	if due := l.task.Tick(time.Now().Add(time.Hour)); len(due) > 0 {
		t.Errorf("nothing was written, and %v is due", due)
	}
	l.close()
	g.holds(0)
}

func leak(t *testing.T, g *target) {
	warm := g.open()
	warm.write(1)
	warm.flush()
	warm.close()
	before := runtime.NumGoroutine()
	for range 5 {
		l := g.open()
		l.write(10)
		l.flush()
		l.write(10)
		l.close()
	}
	settled(t, before)
	g.holds(51)
}
