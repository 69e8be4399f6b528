package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/converter"
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
	for _, e := range d.Waiting() {
		out = append(out, e.Offset)
	}
	return out
}

// Tasks are killed at any moment: each record is with the target once or in the dead letters once, and what comes after a
// dead letter of its key is behind it.
func TestDeadLettersThroughKills(t *testing.T) {
	b := newBench(t)
	b.letters = 10_000
	const n, bad = 10_000, 7_007
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
	for range 20 {
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
}

// ask asks for something for dead letters, for all without numbers.
func ask(t *testing.T, b *bench, topic string, do dlq.Do, offsets ...int64) {
	t.Helper()
	d := letters(t, b)
	var places []dlq.Place
	for _, o := range offsets {
		places = append(places, dlq.Place{Topic: topic, Offset: o})
	}
	if len(offsets) == 0 {
		for _, e := range d.Waiting() {
			places = append(places, e.Place)
		}
	}
	if err := d.Ask(t.Context(), b.group, "dst-"+b.group, do, places); err != nil {
		t.Fatal(err)
	}
}

func letters(t *testing.T, b *bench) *dlq.Letters {
	t.Helper()
	d, err := dlq.List(t.Context(), b.log, b.group, "dst-"+b.group)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A sink that runs hears of what is asked, and what waited behind a letter that was dropped follows.
func TestDeadLettersUnderARunningSink(t *testing.T) {
	b := newBench(t)
	b.letters = 10
	topic := unique("keyed")
	keyed(t, b.log, topic, 0, 20)
	dst := newMemory(topic)
	var mended atomic.Bool
	dst.reject = func(r *connectors.Record) bool {
		return string(r.RawValue) == "7" || string(r.RawValue) == "8" && !mended.Load()
	}
	stats := &task.Stats{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.sinkWith(ctx, dst, 10*time.Second, stats) }()
	eventually(t, 30*time.Second, "dead letters", func() bool { return stats.Dead.Load() == 4 && dst.given(19) })
	mended.Store(true)
	keyed(t, b.log, topic, 29, 30) // so that the target moves past them
	ask(t, b, topic, dlq.Drop, 7)
	ask(t, b, topic, dlq.Replay, 8)
	eventually(t, 30*time.Second, "the sink hears of it", func() bool { return stats.Dead.Load() == 0 })
	keyed(t, b.log, topic, 37, 38)
	eventually(t, 30*time.Second, "the key goes on", func() bool { return dst.given(37) })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, n := range dst.order {
		if n%10 == 7 || n%10 == 8 {
			got = append(got, n)
		}
	}
	if slices.Sort(got); !slices.Equal(got, []int64{8, 17, 18, 37}) {
		t.Errorf("of the two keys there are %v", got)
	}
	d := letters(t, b)
	for offset, want := range map[int64]dlq.State{7: dlq.Dropped, 8: dlq.Replayed, 17: dlq.Replayed, 18: dlq.Replayed} {
		if e, ok := d.At(dlq.Place{Topic: topic, Offset: offset}); !ok || e.State != want {
			t.Errorf("%d is %q", offset, e.State)
		}
	}
}

// A replay dies between any two of its steps, and begins again: each record is in the target once, and those of a key in their order.
func TestReplayThroughDeaths(t *testing.T) {
	died := errors.New("killed")
	for _, c := range []struct {
		step   string
		times  int32
		replay bool // in the partition of replays, or in the one of the letters, which is committed first
	}{{"commit", 1, false}, {"committed", 1, false}, {"write", 2, true}, {"commit", 2, true}, {"committed", 1, true}} {
		t.Run(fmt.Sprint(c.step, c.replay), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.letters = 100
			topic := unique("keyed")
			const n = 60
			keyed(t, b.log, topic, 0, n)
			dst := newMemory(topic)
			var mended, deaths atomic.Int32
			dst.reject = func(r *connectors.Record) bool {
				return slices.Contains([][]string{{"7", "18", "31", "37"}, {"37"}, nil}[mended.Load()], string(r.RawValue))
			}
			run := func(what string, until func(d *dlq.Letters) bool) {
				t.Helper()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- b.sink(ctx, dst, 10*time.Second) }()
				eventually(t, 30*time.Second, what, func() bool { return until(letters(t, b)) })
				cancel()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			deaths.Store(c.times)
			dst.step = func(step string, tp connectors.TopicPartition) error {
				if step == c.step && (tp.Partition >= connectors.ReplayPartition) == c.replay && deaths.Load() < c.times {
					deaths.Add(1)
					return died
				}
				return nil
			}
			first := []int64{7, 17, 18, 27, 28, 31, 37, 38, 41, 47, 48, 51, 57, 58}
			later := func() { // 37 stays bad. What comes meanwhile of the keys is parked.
				mended.Store(1)
				keyed(t, b.log, topic, n, n+10)
				deaths.Store(0)
				ask(t, b, topic, dlq.Replay, 7, 18)
			}
			if c.replay {
				run("all are read", func(*dlq.Letters) bool { return dst.given(n - 1) })
				if got := numbersOf(letters(t, b)); !slices.Equal(got, first) {
					t.Fatalf("dead letters %v", got)
				}
				later()
			} else { // what was written before the letters is not in the target yet
				done := make(chan error, 1)
				go func() { done <- b.sink(t.Context(), dst, 0) }()
				eventually(t, 30*time.Second, "all are read", func() bool { return slices.Equal(numbersOf(letters(t, b)), first) })
				later()
				if err := <-done; !errors.Is(err, died) {
					t.Fatal(err)
				}
			}
			for deaths.Load() < c.times {
				if err := b.sink(t.Context(), dst, 0); !errors.Is(err, died) {
					t.Fatal(err)
				}
			}
			run("the replay is through", func(d *dlq.Letters) bool {
				got := numbersOf(d) // a marker lies before the last ten
				return (slices.Equal(got, []int64{31, 37, 41, 47, 51, 57, 62, 68}) || slices.Equal(got, []int64{37, 47, 57, 68})) && dst.given(n+8)
			})
			mended.Store(2)
			ask(t, b, topic, dlq.Replay)
			run("the rest is", func(d *dlq.Letters) bool { return d.Count() == 0 })
			exactly(t, dst.all(), n+10)
			last := map[int64]int64{}
			for _, v := range dst.order {
				if was, ok := last[v%10]; ok && was > v {
					t.Errorf("%d came after %d", v, was)
				}
				last[v%10] = v
			}
			for v, p := range dst.places {
				if p.Partition != 0 || v < n && p.Offset != v {
					t.Errorf("%d says that it lies at %v", v, p)
				}
			}
		})
	}
}

// A replay keeps the halves of a move together, and a truncate between what is before and behind it.
func TestReplayAcrossKeys(t *testing.T) {
	type record struct{ key, value, header string }
	for name, c := range map[string]struct {
		records []record
		bad     [][]int64 // offsets that are refused, for each step; before each but the first all letters are asked for that nothing is in front of
		left    [][]int64
	}{
		"move": {[]record{{"a", "0", ""}, {"a", "1", "__debezium.newkey"}, {"b", "2", "__debezium.oldkey"}, {"b", "3", ""}},
			[][]int64{{0}, {2}, {}}, [][]int64{{0, 1, 2, 3}, {1, 2, 3}, {}}},
		"truncate": {[]record{{"a", "0", ""}, {"c", "1", ""}, {"", "", ""}, {"b", "3", ""}, {"c", "4", ""}},
			[][]int64{{0}, {0}, {2}, {}}, [][]int64{{0, 2, 3, 4}, {0, 2, 3, 4}, {2, 3, 4}, {}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.letters = 10
			topic := unique("across")
			if _, err := b.log.EnsureTopic(t.Context(), connectors.TopicSpec{Name: topic}); err != nil {
				t.Fatal(err)
			}
			a, err := b.log.NewAppender(t.Context(), topic, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if err := a.Begin(); err != nil {
				t.Fatal(err)
			}
			for _, r := range c.records {
				var hs []kgo.RecordHeader
				if r.key == "" { // a truncate, as our source writes it
					_, e, err := converter.NewEncoder(converter.Format{}).Encode(nil, &connectors.Record{Topic: topic, Change: &connectors.Change{Op: connectors.OpTruncate, Row: numberRow, At: time.Now()}})
					if err != nil {
						t.Fatal(err)
					}
					if err := b.schemas.Register(t.Context(), *e.New); err != nil {
						t.Fatal(err)
					}
					a.Append(topic, 0, nil, e.Value, []kgo.RecordHeader{{Key: converter.SchemaHeader, Value: e.SchemaID}}, time.Now())
					continue
				}
				if r.header != "" {
					hs = append(hs, kgo.RecordHeader{Key: r.header, Value: []byte("x")})
				}
				a.Append(topic, 0, []byte(r.key), []byte(r.value), hs, time.Now())
			}
			a.Append(topic, 0, []byte("end"), []byte("9"), nil, time.Now())
			if _, err := a.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			dst := newMemory(topic)
			for i, bad := range c.bad {
				if i > 0 {
					ask(t, b, topic, dlq.Replay, c.left[i-1][0])
				}
				dst.reject = func(r *connectors.Record) bool { return slices.Contains(bad, r.Place().Offset) }
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- b.sink(ctx, dst, 10*time.Second) }()
				left := c.left[i]
				if name == "truncate" && i < 3 { // "end" waits, too
					left = append(slices.Clone(left), int64(len(c.records)))
				}
				eventually(t, 20*time.Second, fmt.Sprintf("step %d", i), func() bool {
					d := letters(t, b)
					// What the target was not past is no letter any more when the task starts, and comes as any record does.
					through := i+1 < len(c.bad) || dst.count() > len(c.records) || dst.given(9)
					return slices.Equal(numbersOf(d), left) && len(d.Asks()) == 0 && through
				})
				cancel()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			var order []int64
			for _, n := range dst.order {
				if n < int64(len(c.records)) {
					order = append(order, n)
				}
			}
			if want := []int64{0, 1, 2, 3, 4}[:len(c.records)]; name == "truncate" && !slices.Equal(order, []int64{1, 0, 2, 3, 4}) || name == "move" && !slices.Equal(order, want) {
				t.Errorf("order %v", order)
			}
		})
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
	for _, e := range d.Waiting() {
		if e.Stage != dlq.Transform || !strings.Contains(e.Reason, "which has two rows") || e.KeySHA256 == "" {
			t.Errorf("%s: %s: %s (key %s)", e.Place, e.Stage, e.Reason, e.KeySHA256)
		}
	}
	if got := dst.count(); got != 36 || d.Count() != 4 {
		t.Errorf("%d records were written, %d are dead letters", got, d.Count())
	}
}

// A change of a key is two records: neither waits without the other. When the second half is refused the first one waits, too, unless the target has it: then
// the task fails.
func TestDeadLettersKeepTheHalvesOfAMoveTogether(t *testing.T) {
	for _, c := range []struct {
		bad       int64
		parked    []int64
		committed bool // the first half, before the second comes
	}{{bad: 0, parked: []int64{0, 1, 2, 3}}, {bad: 1, parked: []int64{1, 2, 3}}, {bad: 2, parked: []int64{1, 2, 3}}, {bad: 2, committed: true}} {
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
		add := func(lo, hi int) {
			t.Helper()
			if err := a.Begin(); err != nil {
				t.Fatal(err)
			}
			for i := lo; i < hi; i++ {
				var hs []kgo.RecordHeader
				if header := []string{"", "__debezium.newkey", "__debezium.oldkey", "", ""}[i]; header != "" {
					hs = append(hs, kgo.RecordHeader{Key: header, Value: []byte("x")})
				}
				a.Append(topic, 0, []byte{"abccd"[i]}, []byte(strconv.Itoa(i)), hs, time.Now())
			}
			if _, err := a.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		dst := newMemory(topic)
		var mended atomic.Bool
		dst.reject = func(r *connectors.Record) bool {
			return string(r.RawValue) == strconv.Itoa(int(c.bad)) && !mended.Load()
		}
		run := func(what string, until func() bool) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- b.sink(ctx, dst, 10*time.Second) }()
			eventually(t, 30*time.Second, what, until)
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if c.committed {
			add(0, 2)
			run("the first half is read", func() bool { return dst.given(1) })
			add(2, 5)
			if err := b.sink(t.Context(), dst, 10*time.Second); !connectors.IsFatal(err) || !strings.Contains(err.Error(), "moves a row to another key") {
				t.Errorf("bad %d: %v", c.bad, err)
			}
			continue
		}
		add(0, 5)
		run("the last is read", func() bool { return dst.given(4) })
		if got := numbersOf(letters(t, b)); !slices.Equal(got, c.parked) {
			t.Errorf("bad %d: dead letters %v instead of %v", c.bad, got, c.parked)
		}
		mended.Store(true)
		ask(t, b, topic, dlq.Replay)
		run("all are played again", func() bool { return letters(t, b).Count() == 0 })
		exactly(t, dst.all(), 5)
	}
}

// A commit that is refused for the second half of a move is made without both halves.
func TestACommitIsRefusedForHalfAMove(t *testing.T) {
	b := newBench(t)
	b.letters = 200
	topic := unique("moves")
	if _, err := b.log.EnsureTopic(t.Context(), connectors.TopicSpec{Name: topic}); err != nil {
		t.Fatal(err)
	}
	a, err := b.log.NewAppender(t.Context(), topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Begin(); err != nil {
		t.Fatal(err)
	}
	const n, half = 120, 50 // a commit is made of a hundred
	for i := range n {
		var hs []kgo.RecordHeader
		if header := map[int]string{half: "__debezium.newkey", half + 1: "__debezium.oldkey"}[i]; header != "" {
			hs = append(hs, kgo.RecordHeader{Key: header, Value: []byte("x")})
		}
		a.Append(topic, 0, []byte("k"+strconv.Itoa(i)), []byte(strconv.Itoa(i)), hs, time.Now())
	}
	if _, err := a.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	dst := newMemory(topic)
	refused := atomic.Bool{}
	dst.step = func(step string, tp connectors.TopicPartition) error {
		if step == "commit" && !refused.Swap(true) {
			return &connectors.RecordError{TopicPartition: tp, Offset: half + 1, Err: errors.New("too odd")}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.sink(ctx, dst, 10*time.Second) }()
	eventually(t, 30*time.Second, "all others are in the target", func() bool { return dst.count() == n-2 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := numbersOf(letters(t, b)); !slices.Equal(got, []int64{half, half + 1}) {
		t.Errorf("dead letters %v", got)
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
	// What is dropped makes room, and stays dropped although the target asks for its records again.
	ask(t, b, topic, dlq.Drop, 0, 1, 2)
	if err := b.sink(t.Context(), dst, 0); !connectors.IsFatal(err) || !strings.Contains(err.Error(), fmt.Sprintf("%s-0@8", topic)) {
		t.Fatal(err)
	}
	// Once the cause is mended, the records that the target has not passed are decided anew.
	dst.reject = nil
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.sink(ctx, dst, 10*time.Second) }()
	eventually(t, 30*time.Second, "all are read", func() bool { return dst.given(99) || dst.count() == 97 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	exactly(t, append([]int64{0, 1, 2}, dst.all()...), 100)
	if d, err := dlq.List(t.Context(), b.log, b.group, "dst-"+b.group); err != nil || d.Count() != 0 {
		t.Fatal(err, d.Count())
	}
}

// A topic that is deleted and made again has other records at the same offsets: what became of the old ones says nothing of them.
func TestDeadLettersOfATopicMadeAgain(t *testing.T) {
	o := openLog(t)
	b := benchOn(t, o)
	b.letters = 5
	topic := unique("keyed")
	run := func(dst *memory, what string, done func() bool) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- b.sink(ctx, dst, 10*time.Second) }()
		eventually(t, 30*time.Second, what, func() bool { return done() || len(ended) > 0 })
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	keyed(t, b.log, topic, 0, 10)
	dst := newMemory(topic)
	dst.reject = func(r *connectors.Record) bool { return string(r.RawValue) == "3" || string(r.RawValue) == "5" }
	run(dst, "all are given", func() bool { return dst.given(9) })
	ask(t, b, topic, dlq.Drop, 3)
	run(dst, "3 is dropped", func() bool { return slices.Equal(numbersOf(letters(t, b)), []int64{5}) })

	if res, err := admin(t, o).DeleteTopics(t.Context(), topic); err != nil || res.Error() != nil {
		t.Fatal(err, res.Error())
	}
	eventually(t, 30*time.Second, "the topic is gone", func() bool {
		have, err := b.log.Topics(t.Context(), topic)
		return err == nil && have[topic].Partitions == 0
	})
	keyed(t, b.log, topic, 0, 10)
	again := newMemory(topic)
	run(again, "all are given again", func() bool { return again.given(9) })
	exactly(t, again.all(), 10)
	if left := letters(t, b).Count(); left != 0 {
		t.Errorf("%d dead letters of a topic that is gone", left)
	}
}
