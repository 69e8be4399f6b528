package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/dlq"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/position"
	"github.com/forebayhub/forebay/runtime/registry/client"
	"github.com/forebayhub/forebay/runtime/schemas"
)

// SinkOptions make a sink task.
type SinkOptions struct {
	Log     *hublog.Log
	Schemas *schemas.Store
	// Reading says how keys and values are read that have no schema header; its Schema is Registry's.
	Reading  converter.Reading
	Registry *client.Client // nil: the forms need none
	Sink     connectors.Sink
	Env      connectors.Env
	Logger   *slog.Logger
	Tracer   trace.Tracer // nil: none
	Stats    *Stats
	// Transforms are as transform.Field reads them; Absent: none.
	Transforms spec.Node
	// Start is the time of the first record that a target gets of a partition of which it holds nothing; zero: the first that there is.
	Start time.Time
	// DeadLetters is how many records that cannot be handled may be in the dead letters before the task fails all the same. 0: the first fails it.
	DeadLetters int
	// Flush requests are answered between two polls. nil: none.
	Flush <-chan Flush
	// Drain is how long the task may take to commit what it has written once ctx has ended.
	Drain time.Duration
}

// Flush asks a sink task to commit what it has written.
type Flush struct {
	// Done receives, for each partition, the offset up to which everything is
	// in the target. It has room for one.
	Done chan<- FlushResult
}

// FlushResult answers a Flush.
type FlushResult struct {
	Committed map[connectors.TopicPartition]int64
	Err       error
}

const (
	pollWait      = 200 * time.Millisecond
	refreshEvery  = 2 * time.Second // new topics are found within 5 s
	tendEvery     = 500 * time.Millisecond
	groupInterval = time.Second
	groupLimit    = 5 * time.Second
)

// LagGroup is the consumer group that a sink commits to for lag tools.
func LagGroup(sink string) string { return "forebay-" + sink }

// RunSink runs a sink's one task until ctx ends (nil) or something fails. It may
// be called again after an error: the target says where to resume.
func RunSink(ctx context.Context, o SinkOptions) error {
	refused := map[connectors.TopicPartition]map[int64]error{}
	worked, err := runSink(ctx, o, refused)
	for ctx.Err() == nil && (errors.Is(err, errAnew) || refuse(o, refused, err)) {
		worked, err = runSink(ctx, o, refused)
	}
	if ctx.Err() != nil && (!worked || errors.Is(err, context.Canceled) || errors.Is(err, errAnew) || errors.Is(err, errDeleted)) {
		return nil // told to stop with nothing to commit
	}
	return err
}

// runSink says whether the task came as far as its loop. The records that are refused are dead letters when they come.
func runSink(ctx context.Context, o SinkOptions, refused map[connectors.TopicPartition]map[int64]error) (worked bool, err error) {
	hard, cancel := drain(ctx, o.Drain)
	defer cancel()
	scope := position.Scope{Group: o.Env.Group, Source: o.Env.Name}
	// Invariant 7: from here on every earlier task of this sink is fenced.
	lease, err := o.Log.NewAppender(ctx, scope.TransactionalID(), 0)
	if err != nil {
		return false, fencing(err, scope)
	}
	defer lease.Close()
	epoch, err := position.Renew(ctx, lease, scope, o.Env.Host)
	if err != nil {
		return false, fencing(err, scope)
	}
	poller, err := o.Log.NewPoller()
	if err != nil {
		return false, err
	}
	defer poller.Close()
	t := &sinkTask{o: o, scope: scope, lease: lease, poller: poller, hard: hard,
		parts: map[connectors.TopicPartition]*part{}, halves: halves{of: map[connectors.TopicPartition]*half{}}, stuck: newStuck(), ids: map[string][16]byte{}, traced: o.Stats.Records.Load()}
	decoder := converter.NewDecoder(func(id string) (converter.Entry, error) { return o.Schemas.Lookup(hard, id) })
	o.Reading.Schema = func(id int32) (converter.SchemaText, error) { return o.Registry.Schema(hard, id) }
	decoder.Read(o.Reading)
	t.decoder = decoder
	decode := decoder.Decode
	id := uuid.NewString()
	if t.chain, err = NewSinkChain(o.Transforms, decoder); err != nil {
		return false, err
	}
	if t.chain != nil {
		decode = t.chain.Decode
	}
	if o.DeadLetters > 0 {
		letters, err := dlq.Load(ctx, o.Log, lease, scope.Group, scope.Source)
		if err != nil {
			return false, fencing(err, scope)
		}
		t.dead = newDead(letters, o.DeadLetters, id, refused)
		o.Stats.Dead.Store(int64(letters.Count()))
		plain := decode
		decode = func(r *connectors.Record) error {
			if err := plain(r); err != nil {
				return decodeError{err}
			}
			return nil
		}
	}
	t.sink = o.Sink.Task(connectors.SinkEnv{
		Env: o.Env, TaskID: id, Epoch: epoch, Decode: decode, Alive: t.alive,
	})
	defer func() { o.Stats.Ready.Store(false) }()
	if err := guard(func() error { return t.sink.Open(ctx) }); err != nil {
		return false, errors.Join(fmt.Errorf("open: %w", err), guard(t.sink.Close))
	}
	defer o.Stats.stuck.Store(nil)
	defer t.stuck.settle()
	err = guard(func() error { return t.run(ctx) }) // it is closed after a panic, too
	if cerr := guard(t.sink.Close); err == nil && cerr != nil {
		err = fmt.Errorf("close: %w", cerr)
	}
	return t.ready, err
}

// part is what the task knows of one partition.
type part struct {
	tp        connectors.TopicPartition
	written   int64     // after the last record given to the sink
	committed int64     // everything before it is in the target
	durable   int64     // where a task that starts now would resume
	half      int64     // the last first half of a move that the sink was given; -1: none
	reported  int64     // to the lag group; -1: nothing yet
	oldest    int64     // milliseconds: no later than the first record that is not committed, while there is one
	made      time.Time // when that one came to be at its source, as far as it is known; zero: everything is committed
}

type sinkTask struct {
	o       SinkOptions
	scope   position.Scope
	lease   *hublog.Appender
	lost    error // why the lease is gone
	poller  *hublog.Poller
	sink    connectors.SinkTask
	decoder *converter.Decoder
	chain   *SinkChain      // nil: no transforms
	dead    *dead           // nil: what cannot be handled fails the task
	hard    context.Context // outlives the request to stop by the drain time

	parts     map[connectors.TopicPartition]*part
	halves    halves
	stuck     stuck
	ids       map[string][16]byte
	ready     bool      // the loop has begun
	began     time.Time // when the first record was written since the last commit; zero: none was
	traced    int64     // Stats.Records at the last commit
	refreshed time.Time
	looks     int  // for topics without finding any; from the second on somebody has been told
	derived   bool // somebody has been told that the log gives topics no ids
	tended    time.Time
	reported  time.Time
}

// alive is SinkEnv.Alive.
func (t *sinkTask) alive() error {
	if t.lost != nil {
		return t.lost
	}
	return t.hard.Err()
}

func (t *sinkTask) run(ctx context.Context) error {
	if err := t.refresh(ctx); err != nil {
		return err // with ctx ended there is nothing to commit yet
	}
	if err := t.tend(); err != nil { // before a limit is reached again that somebody has made room for
		return err
	}
	t.ready = true
	t.o.Stats.Ready.Store(true)
	for ctx.Err() == nil {
		if time.Since(t.refreshed) >= refreshEvery {
			if err := t.refresh(t.hard); err != nil { // a request to stop is no error half-way
				return err
			}
		}
		if time.Since(t.tended) >= tendEvery {
			if err := t.tend(); err != nil {
				return err
			}
		}
		if err := t.step(ctx); err != nil {
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				break
			}
			return err
		}
	}
	// The task ends in good order: what it has written becomes visible.
	if err := t.commit(t.all(), connectors.CauseShutdown); err != nil {
		return fmt.Errorf("commit at the end: %w", err)
	}
	t.report(true)
	return nil
}

// step polls once, writes what came, commits what is due and answers flushes.
func (t *sinkTask) step(ctx context.Context) error {
	runs, err := t.poller.Poll(ctx, pollWait)
	if err != nil {
		return t.gap(err)
	}
	for _, run := range t.halves.join(runs, time.Now(), t.behind) {
		for len(run.Records) > 0 {
			// In portions, so that rotation by size and count is not overshot by a whole fetch.
			portion := run
			portion.Records = portionOf(run.Records)
			run.Records = run.Records[len(portion.Records):]
			if err := t.write(portion); err != nil {
				return err
			}
			if due := t.sink.Tick(time.Now()); len(due) > 0 {
				if err := t.commit(due, connectors.CauseDue); err != nil {
					return err
				}
			}
		}
		if a, ok := t.sink.(connectors.Advancer); ok && t.parts[run.TopicPartition] != nil {
			a.Advance(run.TopicPartition, run.Next)
		}
	}
	if due := t.sink.Tick(time.Now()); len(due) > 0 {
		if err := t.commit(due, connectors.CauseDue); err != nil {
			return err
		}
	}
	select {
	case f := <-t.o.Flush:
		err := t.commit(t.all(), connectors.CauseFlush)
		if err == nil {
			t.report(true)
		}
		f.Done <- FlushResult{Committed: t.through(), Err: err}
		if err != nil {
			return err
		}
	default:
	}
	t.report(false)
	return nil
}

// behind says that the log holds more of a partition than was polled.
func (t *sinkTask) behind(tp connectors.TopicPartition) bool {
	return t.poller.Next(tp) < t.poller.End(tp)
}

// portionOf is the front of records that is given to the sink at once. It does not part the halves of a move.
func portionOf(records []connectors.Record) []connectors.Record {
	const most, mostBytes = 1000, 1 << 20
	bytes := 0
	for i := range records {
		bytes += len(records[i].RawKey) + len(records[i].RawValue)
		if i+1 >= most || bytes >= mostBytes {
			if n := wholeMoves(records[:i+1]); n > 0 {
				return records[:n]
			}
		}
	}
	return records
}

func (t *sinkTask) write(run hublog.Run) error {
	p := t.parts[run.TopicPartition]
	if p == nil || len(run.Records) == 0 {
		return nil
	}
	// A schema that cannot be looked up right now is no reason to reject a record.
	if err := t.decoder.Prepare(run.Records, Itself); err != nil {
		return err
	}
	if t.decoder.Registered() && t.dead == nil {
		for i := range run.Records {
			if err := t.decoder.Decode(&run.Records[i]); err != nil {
				return t.refused(run, i, err)
			}
		}
	}
	next := run.Records[len(run.Records)-1].Offset + 1
	if t.began.IsZero() {
		t.began = time.Now()
	}
	first := &run.Records[0]
	if p.written <= p.committed {
		p.oldest = first.Timestamp.UnixMilli()
		defer func() { p.made = first.SourceTime() }() // by then the sink has decoded it, if it does
	}
	if t.dead != nil {
		if err := t.writeApart(run); err != nil {
			return err
		}
		p.written = next
		return nil
	}
	if t.chain != nil {
		var err error
		if run.Records, err = t.transform(run.Records); err != nil {
			return err
		}
	}
	if len(run.Records) > 0 {
		if err := t.hand(run); err != nil {
			return err
		}
	}
	p.written = next // what was dropped counts as read: step tells the target with the rest of the run
	return nil
}

// hand gives records to the sink.
func (t *sinkTask) hand(run hublog.Run) error {
	rejects, err := t.sink.Write(t.hard, run.Records)
	if err != nil {
		return fmt.Errorf("write %s-%d from offset %d: %w", run.Topic, run.Partition, run.Records[0].Offset, err)
	}
	if len(rejects) > 0 {
		return t.refused(run, rejects[0].Index, rejects[0].Reason)
	}
	t.count(run.TopicPartition.Topic, run.Records)
	return nil
}

// Itself says that an error is about what a record says of its types, not about where they are looked up.
func Itself(err error) bool {
	return errors.Is(err, schemas.ErrUnknown) || errors.Is(err, client.ErrUnknown) || errors.Is(err, converter.ErrSchema)
}

// refused is the end of the task: the record at index of a run cannot be taken.
func (t *sinkTask) refused(run hublog.Run, index int, why error) error {
	where := fmt.Sprintf("%s-%d", run.Topic, run.Partition)
	if index >= 0 && index < len(run.Records) {
		where += fmt.Sprintf(" at offset %d", run.Records[index].Offset)
	}
	return connectors.Fatal(fmt.Errorf("the sink cannot take the record of %s: %w", where, why),
		"nothing after it is lost: mend the record's cause and restart the sink")
}

// commit makes what was written to the partitions visible in the target.
func (t *sinkTask) commit(tps []connectors.TopicPartition, cause connectors.Cause) (err error) {
	if len(tps) == 0 {
		return nil
	}
	began := time.Now()
	tokens, err := t.sink.Prepare(t.hard, tps, cause)
	if t.o.Tracer != nil {
		stretches := []stretch{{"write", began}, {"prepare", time.Now()}}
		defer func() {
			if len(tokens) > 0 {
				stretches = append(stretches, stretch{"commit", time.Now()})
			}
			if len(tokens) > 0 || err != nil {
				t.trace(stretches, err)
			}
		}()
	}
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if len(tokens) > 0 {
		// Invariant 7: whoever has started since then has fenced the lease.
		if _, err := position.Renew(t.hard, t.lease, t.scope, t.o.Env.Host); err != nil {
			t.lost = fencing(err, t.scope)
			return t.lost
		}
	}
	with := map[connectors.TopicPartition]bool{}
	for _, token := range tokens {
		if err := t.alive(); err != nil {
			return err
		}
		if err := t.sink.Commit(t.hard, token); err != nil {
			return fmt.Errorf("commit %s-%d up to offset %d: %w", token.Topic, token.Partition, token.Next, err)
		}
		with[token.TopicPartition] = true
		if p := t.part(token.TopicPartition); p != nil {
			p.committed, p.durable = max(p.committed, token.Next), token.Next
		}
	}
	if cause != connectors.CauseDue {
		// Everything was asked for: a partition without a token holds nothing that
		// would have to be committed (tombstones that a format leaves out).
		for _, tp := range tps {
			if p := t.parts[tp]; p != nil && !with[tp] {
				p.committed = p.written
			}
		}
	}
	if len(tokens) > 0 {
		t.observe(tps, began)
	}
	return nil
}

// trace tells of a commit: of what was written since the one before it, whatever partitions that was for.
func (t *sinkTask) trace(stretches []stretch, err error) {
	began := t.began
	if began.IsZero() || began.After(stretches[0].end) {
		began = stretches[0].end
	}
	records := t.o.Stats.Records.Load()
	tell(t.o.Tracer, "sink transaction", trace.SpanKindConsumer, began, stretches, err,
		attribute.String("forebay.connector", t.o.Env.Name), attribute.Int64("messaging.batch.message_count", records-t.traced))
	t.began, t.traced = time.Time{}, records
}

// observe counts a commit that began at the given time and has ended.
func (t *sinkTask) observe(tps []connectors.TopicPartition, began time.Time) {
	now := time.Now()
	t.o.Stats.Commits.Observe(now.Sub(began))
	for _, tp := range tps {
		if p := t.parts[tp]; p != nil && p.committed >= p.written && !p.made.IsZero() {
			t.o.Stats.topic(tp.Topic).latency.Observe(max(0, now.Sub(p.made)))
			p.made = time.Time{}
		}
	}
}

// part is a partition, of the log or of replays; nil: it is neither.
func (t *sinkTask) part(tp connectors.TopicPartition) *part {
	if p := t.parts[tp]; p != nil || t.dead == nil {
		return p
	}
	return t.dead.replays[tp]
}

// all lists the partitions that hold something uncommitted.
func (t *sinkTask) all() []connectors.TopicPartition {
	var out []connectors.TopicPartition
	for tp, p := range t.parts {
		if p.written > p.committed {
			out = append(out, tp)
		}
	}
	slices.SortFunc(out, compare)
	return out
}

// through says, for each partition, up to where everything is in the target:
// past transaction markers when nothing else lies between.
func (t *sinkTask) through() map[connectors.TopicPartition]int64 {
	out := make(map[connectors.TopicPartition]int64, len(t.parts))
	for tp, p := range t.parts {
		out[tp] = p.committed
		if p.committed >= p.written {
			out[tp] = max(p.committed, t.halves.before(tp, t.poller.Next(tp)))
		}
	}
	return out
}

// report keeps the lag group and the figures up to date. It is for people: a failure is no reason to stop, and unless it is to be done now, the loop does not wait
// for the group's coordinator.
func (t *sinkTask) report(now bool) {
	t.stuck.came()
	if !now && time.Since(t.reported) < groupInterval {
		return
	}
	t.reported = time.Now()
	lag, oldest := int64(0), int64(0)
	fresh := map[connectors.TopicPartition]int64{}
	for tp, at := range t.through() {
		lag += max(0, t.end(tp)-at)
		p := t.parts[tp]
		if p.reported != at {
			fresh[tp] = at
		}
		if p.written > p.committed && (oldest == 0 || p.oldest < oldest) {
			oldest = p.oldest
		}
	}
	t.o.Stats.Lag.Store(lag)
	t.o.Stats.oldest.Store(oldest)
	t.tellStuck()
	group := func(ctx context.Context) func() {
		err := t.o.Log.CommitGroup(ctx, LagGroup(t.o.Env.Name), fresh)
		return func() {
			if err != nil {
				t.o.Logger.Debug("commit the lag group", "error", err)
				return
			}
			for tp, at := range fresh {
				t.parts[tp].reported = at
			}
		}
	}
	switch {
	case now:
		t.stuck.settle()
		ctx, cancel := context.WithTimeout(t.hard, groupLimit)
		defer cancel()
		group(ctx)()
	case t.stuck.busy != nil:
	case time.Since(t.stuck.looked) >= lookEvery:
		t.look()
	case len(fresh) > 0:
		t.stuck.beside(t.hard, groupLimit, group)
	}
}
