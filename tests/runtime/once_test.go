package runtime_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/position"
	"github.com/forebayhub/forebay/runtime/schemas"
	"github.com/forebayhub/forebay/runtime/task"
	"github.com/forebayhub/forebay/runtime/worker"
)

// bench is a log with a source and a sink on it.
type bench struct {
	t       testing.TB
	log     *hublog.Log
	schemas *schemas.Store
	group   string
	split   string
	stats   task.Stats
	letters int               // DeadLetters of both
	refuse  map[string]string // transforms of the source, as in a flat config
	logger  *slog.Logger      // of the sink; nil: nobody listens
	flush   <-chan task.Flush // of the sink
}

func newBench(t testing.TB) *bench {
	t.Helper()
	return benchOn(t, openLog(t))
}

func benchOn(t testing.TB, o hublog.Options) *bench {
	t.Helper()
	l, err := hublog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, s := range []connectors.TopicSpec{position.TopicSpec(), schemas.TopicSpec()} {
		if _, err := l.EnsureTopic(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	return &bench{t: t, log: l, schemas: schemas.New(l), group: unique("g"), split: "0"}
}

func (b *bench) source(ctx context.Context, s *numbers, drain time.Duration) error {
	return b.run(ctx, s, drain)
}

func (b *bench) run(ctx context.Context, s connectors.Source, drain time.Duration) error {
	var transforms spec.Node
	if b.refuse != nil {
		v, findings := worker.SourceFields.Parse(spec.FlatNode(b.refuse))
		if len(findings) > 0 {
			b.t.Error(findings)
		}
		transforms = worker.Transforms(v)
	}
	return task.RunSource(ctx, task.SourceOptions{Log: b.log, Schemas: b.schemas, Source: s, Split: connectors.Split{ID: b.split},
		Scope: position.Scope{Group: b.group, Source: "src", Split: b.split}, Host: "h", Format: converter.Format{}, Transforms: transforms, DeadLetters: b.letters,
		Logger: slog.New(slog.DiscardHandler), Stats: &b.stats, Drain: drain})
}

func (b *bench) sink(ctx context.Context, m *memory, drain time.Duration) error {
	return b.sinkWith(ctx, m, drain, &task.Stats{})
}

func (b *bench) sinkWith(ctx context.Context, m *memory, drain time.Duration, stats *task.Stats) error {
	logger := b.logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return task.RunSink(ctx, task.SinkOptions{Log: b.log, Schemas: b.schemas, Sink: m,
		Env:    connectors.Env{Name: "dst-" + b.group, Group: b.group, Host: "h", Logger: logger},
		Logger: logger, Stats: stats, Drain: drain, DeadLetters: b.letters, Flush: b.flush})
}

// Invariants 5 and 6: tasks are killed a hundred times, at any moment, and what
// arrives is what the source holds: nothing lost, nothing doubled.
func TestExactlyOnceThroughAHundredKills(t *testing.T) {
	b := newBench(t)
	const n, kills = 60_000, 100
	src := &numbers{topic: unique("numbers"), n: n, typed: true}
	dst := newMemory(src.topic)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()

	var wg sync.WaitGroup
	defer wg.Wait()
	killing, stop := context.WithCancel(ctx)
	defer stop()
	killed := make(chan struct{}, 1000)
	keep := func(run func(context.Context, time.Duration) error) {
		for killing.Err() == nil {
			life, kill := context.WithCancel(ctx)
			timer := time.AfterFunc(time.Duration(rand.IntN(int(300*time.Millisecond))), kill)
			_ = run(life, 0) // an error is what a kill leaves behind
			timer.Stop()
			kill()
			select {
			case killed <- struct{}{}:
			default:
			}
		}
	}
	wg.Go(func() { keep(func(ctx context.Context, d time.Duration) error { return b.source(ctx, src, d) }) })
	wg.Go(func() { keep(func(ctx context.Context, d time.Duration) error { return b.sink(ctx, dst, d) }) })
	for range kills {
		select {
		case <-killed:
		case <-ctx.Done():
			t.Fatal("not a hundred kills in time")
		}
	}
	stop()
	wg.Wait()

	// Now undisturbed to the end.
	last, end := context.WithCancel(ctx)
	defer end()
	errs := make(chan error, 2)
	// A task that ends with an error is started again, as a worker does: on a busy machine a request may time out.
	lasting := func(run func(context.Context, time.Duration) error) {
		err := run(last, 10*time.Second)
		for tries := 0; err != nil && last.Err() == nil && tries < 10; tries++ {
			t.Logf("started again after: %v", err)
			err = run(last, 10*time.Second)
		}
		errs <- err
	}
	go lasting(func(ctx context.Context, d time.Duration) error { return b.source(ctx, src, d) })
	go lasting(func(ctx context.Context, d time.Duration) error { return b.sink(ctx, dst, d) })
	eventually(t, 2*time.Minute, "everything is acknowledged", func() bool { return src.acknowledged() == n })
	eventually(t, 2*time.Minute, "everything is with the sink", func() bool { return dst.given(n-1) || dst.count() == n })
	end()
	for range 2 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	exactly(t, dst.all(), n)
	if src.doubted != nil {
		t.Error(src.doubted)
	}
	if dst.decoded == 0 {
		t.Error("no record came with its types")
	}
	t.Logf("%d starts of the source", src.opens)
}
