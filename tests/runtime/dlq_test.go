package runtime_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/dlq"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/task"
	"github.com/forebayhub/forebay/runtime/worker"
)

// keyed appends the numbers from lo up to hi, each under the key of its last digit.
func keyed(t *testing.T, l *hublog.Log, topic string, lo, hi int) {
	t.Helper()
	if _, err := l.EnsureTopic(t.Context(), connectors.TopicSpec{Name: topic}); err != nil {
		t.Fatal(err)
	}
	a, err := l.NewAppender(t.Context(), unique("keyed"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Begin(); err != nil {
		t.Fatal(err)
	}
	for i := lo; i < hi; i++ {
		a.Append(topic, 0, []byte(strconv.Itoa(i%10)), []byte(strconv.Itoa(i)), nil, time.Now())
	}
	if _, err := a.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// numbersOf are the offsets, which keyed makes equal to the numbers of one append.
func numbersOf(d *dlq.Letters) (out []int64) {
	for _, e := range d.All() {
		out = append(out, e.Offset)
	}
	return out
}

// Tasks are killed at any moment: each record is with the target once or in the dead letters once, and what comes after a
// dead letter of its key is behind it. What is dropped lets its key go on.
func TestDeadLettersThroughKills(t *testing.T) {
	b := newBench(t)
	b.letters = 10_000
	const n, bad = 20_000, 13_007
	topic := unique("keyed")
	keyed(t, b.log, topic, 0, n)
	dst := newMemory(topic)
	dst.reject = func(r *connectors.Record) bool { return string(r.RawValue) == strconv.Itoa(bad) }
	name := "dst-" + b.group
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	list := func() *dlq.Letters {
		d, err := dlq.List(ctx, b.log, b.group, name)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if list().Count() != 0 {
		t.Fatal("dead letters before there was a sink")
	}
	for range 30 {
		life, kill := context.WithCancel(ctx)
		timer := time.AfterFunc(time.Duration(rand.IntN(int(60*time.Millisecond))), kill)
		_ = b.sink(life, dst, 0) // an error is what a kill leaves behind
		timer.Stop()
		kill()
	}
	life, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- b.sink(life, dst, 10*time.Second) }()
	eventually(t, 30*time.Second, "everything is read", func() bool { return dst.given(n-2) || dst.count() == n-(n-bad+9)/10 })
	end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	d := list()
	var want []int64
	for i := int64(bad); i < n; i += 10 {
		want = append(want, i)
	}
	if got := numbersOf(d); !slices.Equal(got, want) {
		t.Fatalf("%d dead letters instead of %d: %v", len(got), len(want), got[:min(10, len(got))])
	}
	exactly(t, append(dst.all(), want...), n)
	first, _ := d.At(dlq.Place{Topic: topic, Offset: bad})
	if first.Stage != dlq.Target || first.Reason != "too odd" || first.Connector != name || first.Task == "" || first.Time.IsZero() {
		t.Errorf("entry %#v", first)
	}
	if behind, _ := d.At(dlq.Place{Topic: topic, Offset: bad + 10}); behind.Stage != dlq.Parked {
		t.Errorf("entry behind it %#v", behind)
	}

	// What is dropped lets its key go on, at a running sink too.
	life, end = context.WithCancel(ctx)
	defer end()
	go func() { done <- b.sink(life, dst, 10*time.Second) }()
	if got := drop(t, b, name); got != len(want) {
		t.Fatalf("%d dead letters dropped, not %d", got, len(want))
	}
	if got := list().Count(); got != 0 {
		t.Fatalf("%d dead letters after all were dropped", got)
	}
	end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	keyed(t, b.log, topic, n+7, n+8)
	life, end = context.WithCancel(ctx)
	defer end()
	go func() { done <- b.sink(life, dst, 10*time.Second) }()
	eventually(t, 30*time.Second, "the key goes on", func() bool { return dst.given(n + 7) })
	end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// drop takes all dead letters out and tells how many they were.
func drop(t *testing.T, b *bench, sink string) int {
	t.Helper()
	d, err := dlq.List(t.Context(), b.log, b.group, sink)
	if err != nil {
		t.Fatal(err)
	}
	var all []dlq.Place
	for _, e := range d.All() {
		all = append(all, e.Place)
	}
	if err := d.Drop(t.Context(), b.group, sink, all); err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// A sink that runs hears of what is dropped.
func TestDeadLettersAreDroppedUnderARunningSink(t *testing.T) {
	b := newBench(t)
	b.letters = 10
	topic := unique("keyed")
	keyed(t, b.log, topic, 0, 10)
	dst := newMemory(topic)
	dst.reject = func(r *connectors.Record) bool { return string(r.RawValue) == "7" }
	stats := &task.Stats{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.sinkWith(ctx, dst, 10*time.Second, stats) }()
	eventually(t, 30*time.Second, "a dead letter", func() bool { return stats.Dead.Load() == 1 && dst.given(9) })
	drop(t, b, "dst-"+b.group)
	eventually(t, 30*time.Second, "the sink hears of it", func() bool { return stats.Dead.Load() == 0 })
	keyed(t, b.log, topic, 17, 18)
	eventually(t, 30*time.Second, "the key goes on", func() bool { return dst.given(17) })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// What a transform cannot handle, and what cannot be decoded, are dead letters with their causes; the others are written.
func TestDeadLettersOfTransforms(t *testing.T) {
	log := openLog(t)
	src := &numbers{topic: unique("n"), n: 40, typed: true}
	dst := newMemory(src.topic)
	o := options(log, src, dst)
	o.Connectors[1].Values = parsed(t, worker.SinkFields, map[string]string{"on_error": "dlq", "transforms.0.type": "extract",
		"transforms.0.field": "zz", "transforms.0.when.field": "id", "transforms.0.when.matches": ".*7"})
	w, stop := start(t, o)
	eventually(t, 30*time.Second, "four dead letters", func() bool { return w.Status()[1].Dead == 4 && dst.given(39) })
	stop()
	l, err := hublog.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := dlq.List(t.Context(), l, o.Group, o.Connectors[1].Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range d.All() {
		if e.Stage != dlq.Transform || !strings.Contains(e.Reason, "which has two rows") || e.KeySHA256 == "" {
			t.Errorf("%s: %s: %s (key %s)", e.Place, e.Stage, e.Reason, e.KeySHA256)
		}
	}
	if got := dst.count(); got != 36 || d.Count() != 4 {
		t.Errorf("%d records were written, %d are dead letters", got, d.Count())
	}
}

// A change of a key is two records: neither waits without the other, and a second half that is refused fails the task.
func TestDeadLettersKeepTheHalvesOfAMoveTogether(t *testing.T) {
	for _, c := range []struct {
		bad    int64
		parked []int64
		fatal  bool
	}{{bad: 0, parked: []int64{0, 1, 2}}, {bad: 1, parked: []int64{1, 2}}, {bad: 2, fatal: true}} {
		b := newBench(t)
		b.letters = 10
		topic := unique("moves")
		if _, err := b.log.EnsureTopic(t.Context(), connectors.TopicSpec{Name: topic}); err != nil {
			t.Fatal(err)
		}
		a, err := b.log.NewAppender(t.Context(), unique("moves"), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if err := a.Begin(); err != nil {
			t.Fatal(err)
		}
		for i, header := range []string{"", "__debezium.newkey", "__debezium.oldkey", ""} {
			var hs []kgo.RecordHeader
			if header != "" {
				hs = append(hs, kgo.RecordHeader{Key: header, Value: []byte("x")})
			}
			a.Append(topic, 0, []byte{'a' + byte(i)}, []byte(strconv.Itoa(i)), hs, time.Now())
		}
		if _, err := a.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		dst := newMemory(topic)
		dst.reject = func(r *connectors.Record) bool { return r.Offset == c.bad }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.sink(ctx, dst, 10*time.Second) }()
		if c.fatal {
			if err := <-done; !connectors.IsFatal(err) || !strings.Contains(err.Error(), "moves a row to another key") {
				t.Errorf("bad %d: %v", c.bad, err)
			}
			cancel()
			continue
		}
		eventually(t, 30*time.Second, "the last is read", func() bool { return dst.given(3) })
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		d, err := dlq.List(t.Context(), b.log, b.group, "dst-"+b.group)
		if err != nil || !slices.Equal(numbersOf(d), c.parked) {
			t.Errorf("bad %d: %v, dead letters %v instead of %v", c.bad, err, numbersOf(d), c.parked)
		}
	}
}

// A whole topic of bad records is a wrong config: the task fails at the limit, and what it says leads to the letters.
func TestDeadLettersHaveALimit(t *testing.T) {
	b := newBench(t)
	b.letters = 5
	topic := unique("keyed")
	keyed(t, b.log, topic, 0, 100)
	dst := newMemory(topic)
	dst.reject = func(*connectors.Record) bool { return true }
	for range 2 { // a restart does not add to them
		err := b.sink(t.Context(), dst, 0)
		if !connectors.IsFatal(err) || !strings.Contains(err.Error(), fmt.Sprintf("%s-0@5", topic)) || !strings.Contains(err.Error(), "too odd") {
			t.Fatal(err)
		}
		d, err := dlq.List(t.Context(), b.log, b.group, "dst-"+b.group)
		if err != nil || !slices.Equal(numbersOf(d), []int64{0, 1, 2, 3, 4}) {
			t.Fatal(err, numbersOf(d))
		}
	}
	// Once the cause is mended, the records that the target has not passed are decided anew.
	dst.reject = nil
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.sink(ctx, dst, 10*time.Second) }()
	eventually(t, 30*time.Second, "all are read", func() bool { return dst.given(99) || dst.count() == 100 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	exactly(t, dst.all(), 100)
	if d, err := dlq.List(t.Context(), b.log, b.group, "dst-"+b.group); err != nil || d.Count() != 0 {
		t.Fatal(err, d.Count())
	}
}
