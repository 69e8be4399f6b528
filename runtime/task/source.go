package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/pause"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/dlq"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/position"
	"github.com/forebayhub/forebay/runtime/registry/client"
	"github.com/forebayhub/forebay/runtime/schemas"
	"github.com/forebayhub/forebay/runtime/transform"
)

// SourceOptions make a source task.
type SourceOptions struct {
	Log        *hublog.Log
	Schemas    *schemas.Store
	Source     connectors.Source
	Split      connectors.Split
	Scope      position.Scope
	Host       string
	Format     converter.Format
	Registry   *client.Client // of the format's converters; nil: they need none
	Transforms spec.Node      // as transform.Field reads them; Absent: none
	Partitions int32          // of topics that the source creates and says nothing about
	// DeadLetters is how many records that cannot be appended may be in the split's dead letters before the task fails all the same. 0: the first fails it.
	DeadLetters int
	Logger      *slog.Logger
	Tracer      trace.Tracer // nil: none
	Stats       *Stats
	// Drain is how long the task may take to commit what it has read once ctx has ended.
	Drain time.Duration
}

// Transactions from a source close by size, by age, or when the source is idle.
const (
	batchBytes    = 1 << 20
	leastTxnBytes = 1 << 20
	mostTxnBytes  = 16 << 20 // under backlog
	txnAge        = 5 * time.Millisecond
	txnIdle       = time.Millisecond
	// A log where a transaction costs more gets fewer of them: commits take at
	// most about a third of the time, up to this age.
	mostTxnAge = 250 * time.Millisecond
	// A source must mark a position before so much is open.
	mostUnmarked = 64 << 20
	// What a batch of one record takes beside its key, value and headers, and more than that.
	batchOverhead = 1 << 10
)

// RunSource runs one split until ctx ends (nil), the split ends for good (nil)
// or something fails. It may be called again after an error.
func RunSource(ctx context.Context, o SourceOptions) error {
	worked, err := runSource(ctx, o)
	if ctx.Err() != nil && (!worked || errors.Is(err, context.Canceled)) {
		return nil // told to stop; what was not committed is read again
	}
	return err
}

// runSource says whether the task came as far as its loop.
func runSource(ctx context.Context, o SourceOptions) (worked bool, err error) {
	hard, cancel := drain(ctx, o.Drain)
	defer cancel()
	chain, err := SourceChain(o.Transforms)
	if err != nil {
		return false, err
	}
	o.Format.Register = func(subject string, s converter.SchemaText) (int32, error) {
		return o.Registry.Register(hard, subject, s)
	}
	o.Format.Latest = func(subject string) (converter.SchemaText, error) { return o.Registry.Latest(hard, subject) }
	t := &sourceTask{o: o, topics: map[string]*sourceTopic{}, dirty: map[connectors.PositionKey]connectors.Position{},
		encoder: converter.NewEncoder(o.Format), chain: chain, limit: leastTxnBytes}
	if err := t.ensureTopics(ctx); err != nil {
		return false, err
	}
	names := t.names()
	if o.DeadLetters > 0 {
		letters := dlq.TopicSpec(o.Scope.Group, o.Scope.Source)
		if _, err := o.Log.EnsureTopic(ctx, letters); err != nil {
			return false, err
		}
		names = append(names, letters.Name)
	}
	most, err := Bound(ctx, o.Log, o.Source, names...)
	if err != nil {
		return false, err
	}
	t.largest = int(most) - batchOverhead
	// Invariant 7: from here on every earlier task of this split is fenced.
	if t.out, err = o.Log.NewAppender(ctx, o.Scope.TransactionalID(), most); err != nil {
		return false, fencing(err, o.Scope)
	}
	defer func() { t.out.Close() }()
	loaded, err := position.Load(ctx, o.Log, t.out, o.Scope, o.Host)
	if err != nil {
		return false, fencing(err, o.Scope)
	}
	if o.DeadLetters > 0 {
		if t.dead, err = newUnappended(ctx, hard, o, t.out, int(most)); err != nil {
			return false, fencing(err, o.Scope)
		}
		t.dead.tell(o.Stats)
	}
	return true, t.run(ctx, hard, loaded.Positions)
}

// Bound is the largest batch that all of the topics take, in bytes. It tells a source that wants to know what that leaves for a record.
func Bound(ctx context.Context, l *hublog.Log, src connectors.Source, topics ...string) (most int32, err error) {
	if most, err = l.MaxMessageBytes(ctx, topics...); err != nil {
		return 0, err
	}
	if b, ok := src.(connectors.BoundedSource); ok {
		b.Bound(int(most) - batchOverhead)
	}
	return most, nil
}

// drain derives a context that outlives ctx by d.
func drain(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(max(d, 0), cancel) })
	return hard, func() { stop(); cancel() }
}

// sourceTopic is a topic that a source writes to.
type sourceTopic struct {
	partitions int32
	stats      *topicStats
	// Of the open transaction: whether it has records of the topic, and when the first of them came to be at the source.
	used   bool
	oldest time.Time
}

type sourceTask struct {
	o       SourceOptions
	out     *hublog.Appender
	encoder *converter.Encoder
	chain   *transform.Chain // nil: none
	dead    *unappended      // nil: what cannot be appended fails the task
	largest int              // bytes of a record's key, value and headers
	topics  map[string]*sourceTopic
	arena   arena

	open     bool
	since    time.Time // of the open transaction
	records  int
	unmarked bool           // it holds records that no position covers yet
	used     []*sourceTopic // those that it has records of
	oldest   time.Time      // when the first record of the batch that is being appended came to be at the source
	newest   time.Time      // and the last one of the transaction
	dirty    map[connectors.PositionKey]connectors.Position
	limit    int           // bytes at which it closes
	cost     time.Duration // of a commit, smoothed
	lastEnd  time.Time     // of the last commit
}

func (t *sourceTask) names() []string {
	names := make([]string, 0, len(t.topics))
	for n := range t.topics {
		names = append(names, n)
	}
	return names
}

func (t *sourceTask) ensureTopics(ctx context.Context) error {
	specs, err := t.o.Source.Topics(ctx)
	if err != nil {
		return fmt.Errorf("list the source's topics: %w", err)
	}
	names := make([]string, 0, len(specs))
	asked := map[string]int32{} // partitions of topics that are new to the task
	for _, s := range specs {
		if to, sure := t.chain.Topic(s.Name); sure {
			if to == "" {
				continue // nothing is appended to it
			}
			s.Name = to
		}
		s = withDefaults(s, t.o.Partitions)
		created, err := t.o.Log.EnsureTopic(ctx, s)
		if err != nil {
			return err
		}
		if created {
			t.o.Logger.Info("created topic", "topic", s.Name)
		}
		if t.topics[s.Name] == nil {
			asked[s.Name] = max(asked[s.Name], s.Partitions)
		}
		names = append(names, s.Name)
	}
	if err := t.describe(ctx, names); err != nil {
		return err
	}
	for name, n := range asked {
		if have := t.topics[name].partitions; have < n {
			t.o.Logger.Warn("the topic was there and has fewer partitions than the source asks for: what would go to the others shares those", "topic", name, "partitions", have, "asked", n)
		}
	}
	return nil
}

func (t *sourceTask) describe(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	// A topic that was created a moment ago may not be known everywhere yet.
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		have, err := t.o.Log.Topics(ctx, names...)
		if err != nil {
			return err
		}
		missing := ""
		for _, n := range names {
			if have[n].Partitions == 0 {
				missing = n
			}
			if t.topics[n] == nil {
				t.topics[n] = &sourceTopic{stats: t.o.Stats.topic(n)}
			}
			t.topics[n].partitions = have[n].Partitions
		}
		if missing == "" {
			return nil
		}
		if wait > 2*time.Second {
			return fmt.Errorf("topic %s does not appear", missing)
		}
		if err := pause.For(ctx, wait); err != nil {
			return err
		}
	}
}

// withDefaults fills in what PRODUCT says about topics that sources own.
func withDefaults(s connectors.TopicSpec, partitions int32) connectors.TopicSpec {
	if s.Partitions == 0 {
		s.Partitions = max(partitions, 1)
	}
	configs := map[string]string{"retention.ms": "604800000", "cleanup.policy": "delete", "max.message.bytes": fmt.Sprint(hublog.MaxRecordBytes)}
	for k, v := range s.Configs {
		configs[k] = v
	}
	s.Configs = configs
	return s
}

// handoff is a batch on its way from the reader to the writer.
type handoff struct {
	b   *connectors.Batch
	err error
}

// run reads in one goroutine and writes in another. Two batches go round
// between them: while one is appended and committed, the other is filled
// (invariant 9: a slow log makes the reader wait).
func (t *sourceTask) run(ctx, hard context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	st := t.o.Source.Task(t.o.Split)
	rctx, stop := context.WithCancel(ctx)
	defer stop()
	free, full := make(chan *connectors.Batch, 2), make(chan handoff, 1)
	for range cap(free) {
		free <- connectors.NewBatch(batchBytes)
	}
	opened, written := make(chan error, 1), make(chan struct{})
	closed := make(chan error, 1)
	go func() { // Open, Read and Close are called from this goroutine alone
		err := guard(func() error { return st.Open(rctx, positions) })
		opened <- err
		if err == nil {
			read(rctx, st, free, full)
			<-written // Committed is not called after Close
		}
		closed <- guard(st.Close)
	}()
	if err := <-opened; err != nil {
		if cerr := <-closed; cerr != nil {
			t.o.Logger.Debug("close after a failed open", "error", cerr)
		}
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("open: %w", err)
	}
	t.o.Stats.Ready.Store(true)
	defer t.o.Stats.Ready.Store(false)
	err := guard(func() error { return t.write(hard, st, free, full) }) // it is closed after a panic, too
	stop()
	go func() { // a reader that is handing over must not wait for ever
		for range full {
		}
	}()
	close(written)
	cerr := <-closed
	if err == nil && cerr != nil && ctx.Err() == nil {
		err = fmt.Errorf("close: %w", cerr)
	}
	return fencing(err, t.o.Scope)
}

// guard turns a connector's panic into an error: its mistake must not take the
// other connectors along.
func guard(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = connectors.Fatal(fmt.Errorf("the connector panicked: %v\n%s", r, debug.Stack()), "this is a bug in the connector")
		}
	}()
	return fn()
}

// read fills batches until an error, which goes along with the last one.
func read(ctx context.Context, st connectors.SourceTask, free <-chan *connectors.Batch, full chan<- handoff) {
	defer close(full)
	for {
		var b *connectors.Batch
		select {
		case <-ctx.Done():
			full <- handoff{err: ctx.Err()}
			return
		case b = <-free:
		}
		b.Reset()
		err := guard(func() error { return st.Read(ctx, b) })
		full <- handoff{b: b, err: err}
		if err != nil {
			return
		}
	}
}

// write appends batches and ends transactions until the reader has ended.
func (t *sourceTask) write(ctx context.Context, st connectors.SourceTask, free chan<- *connectors.Batch, full <-chan handoff) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var tend <-chan time.Time
	if t.dead != nil {
		ticker := time.NewTicker(tendEvery)
		defer ticker.Stop()
		tend = ticker.C
	}
	for {
		if t.dead != nil && t.dead.due && !t.open {
			if err := t.tend(ctx, st); err != nil {
				return err
			}
		}
		var due <-chan time.Time
		if t.open && !t.unmarked {
			timer.Reset(t.wait())
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tend:
			t.dead.due = true
		case <-due:
			if err := t.commit(ctx, st); err != nil {
				return err
			}
		case h := <-full:
			if h.b != nil {
				if err := t.append(ctx, h.b); err != nil {
					return err
				}
			}
			if h.err != nil {
				return t.finish(ctx, st, h.err)
			}
			free <- h.b
			if t.open && !t.unmarked && (t.out.Bytes() >= t.limit || time.Since(t.since) >= t.age()) {
				t.resize(len(full) > 0)
				if err := t.commit(ctx, st); err != nil {
					return err
				}
			}
		}
	}
}

// finish commits what the last batches brought, as far as positions cover it.
func (t *sourceTask) finish(ctx context.Context, st connectors.SourceTask, cause error) error {
	if t.open && !t.unmarked {
		if err := t.commit(ctx, st); err != nil {
			return err
		}
	}
	if errors.Is(cause, io.EOF) {
		if t.unmarked {
			return errors.New("the split ended after records without a position")
		}
		return nil
	}
	return cause
}

// age is how long a transaction may stay open.
func (t *sourceTask) age() time.Duration { return min(max(txnAge, 2*t.cost), mostTxnAge) }

// wait is how long to wait for more before the open transaction is ended.
func (t *sourceTask) wait() time.Duration {
	now := time.Now()
	left := t.age() - now.Sub(t.since)
	// A quiet source is not kept waiting, unless it would make transactions
	// faster than the log takes them.
	idle := max(txnIdle, t.lastEnd.Add(2*t.cost).Sub(now))
	return max(0, min(left, idle))
}

// resize lets transactions grow while there is a backlog, and shrink after it.
func (t *sourceTask) resize(backlog bool) {
	if backlog {
		t.limit = min(2*t.limit, mostTxnBytes)
	} else {
		t.limit = max(t.limit/2, leastTxnBytes)
	}
}

// fencing makes an error fatal that says that somebody else has the scope. Others, such as a log that cannot be reached or a machine that slept
// within a transaction, may pass.
func fencing(err error, s position.Scope) error {
	if !errors.Is(err, hublog.ErrFenced) || errors.Is(err, hublog.ErrGivenUp) {
		return err
	}
	return connectors.Fatal(err, fmt.Sprintf("another worker of group %q runs %s: stop one of them, or give one another --group", s.Group, s.Source))
}
