package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/position"
	"github.com/forebayhub/forebay/runtime/registry/client"
	"github.com/forebayhub/forebay/runtime/schemas"
	"github.com/forebayhub/forebay/runtime/task"
)

// Patience after an error that may pass: doubled each time, up to the most, and
// forgotten after a while of good work.
const (
	firstBackoff = 500 * time.Millisecond
	mostBackoff  = 30 * time.Second
	goodWork     = time.Minute
)

// connector is one configured connector at work.
type connector struct {
	w      *Worker
	cfg    Config
	env    connectors.Env
	spec   spec.Spec
	logger *slog.Logger
	source connectors.Source // one for all its tasks: it may hold something from one to the next
	sink   func() (connectors.Sink, error)
	stats  task.Stats
	flush  chan task.Flush
	wake   chan struct{} // capacity 1: what is wanted has changed

	mu struct {
		sync.Mutex
		wanted  State // Running, Paused, Stopped
		restart bool
		state   State
		since   time.Time
		ailing  time.Time // since when it has not run well for goodWork without an error; zero: it does well
		err     error
		last    error // of the end
		cancel  context.CancelFunc
		splits  []string
		retries int64
		rate    float64
		sampled int64
		at      time.Time
	}
}

func (w *Worker) connector(cfg Config) (*connector, error) {
	c := &connector{w: w, cfg: cfg, flush: make(chan task.Flush), wake: make(chan struct{}, 1),
		logger: w.o.Logger.With("connector", cfg.Name),
	}
	c.env = connectors.Env{Name: cfg.Name, Group: w.o.Group, Host: w.o.Host, Logger: c.logger}
	c.mu.wanted, c.mu.state, c.mu.since = cmp.Or(cfg.Wanted, Running), Starting, time.Now()
	c.stats.Lag.Store(-1)
	c.stats.Dead.Store(-1)
	if forms(cfg.Values).registered() && w.o.SchemaRegistry == nil && len(registryURLs(cfg.Values)) == 0 {
		return nil, input(cfg, "its converters need a schema registry", "set registry.url, such as http://127.0.0.1:8080 for a node of `forebay up` or `forebay server`")
	}
	if cfg.Sink {
		return c, c.makeSink()
	}
	return c, c.makeSource()
}

// lost is where a type may be that a config was made with.
const lost = "if it is a plugin: name it with --plugins where connectors run; the log says why one is left out"

func (c *connector) makeSource() error {
	for _, t := range c.w.o.Registry.Sources {
		if t.Name == c.cfg.Type {
			c.spec = t.Spec
			var err error
			if c.source, err = t.New(c.cfg.Values, c.env); err != nil {
				return input(c.cfg, err.Error(), "")
			}
			return c.checkDelivery(c.source.Capabilities())
		}
	}
	return input(c.cfg, "no such source type", lost)
}

func (c *connector) makeSink() error {
	for _, t := range c.w.o.Registry.Sinks {
		if t.Name == c.cfg.Type {
			c.spec = t.Spec
			c.sink = func() (connectors.Sink, error) { return t.New(c.cfg.Values, c.env) }
			sink, err := c.sink()
			if err != nil {
				return input(c.cfg, err.Error(), "")
			}
			return c.checkDelivery(sink.Capabilities())
		}
	}
	return input(c.cfg, "no such sink type", lost)
}

func (c *connector) checkDelivery(have connectors.Capabilities) error {
	if f := CheckDelivery(c.cfg.Values, have); f != nil {
		return input(c.cfg, f.Message, f.Hint)
	}
	return nil
}

// CheckDelivery finds a promise that the connector cannot keep.
func CheckDelivery(v spec.Values, have connectors.Capabilities) *spec.Finding {
	if !v.Has("delivery") || v.String("delivery") != "exactly_once" || have.Delivery == connectors.ExactlyOnce {
		return nil
	}
	return &spec.Finding{Path: "delivery", Message: "cannot deliver exactly once as it is configured", Hint: "set delivery: at_least_once to run it all the same"}
}

// want changes what the connector should be doing.
func (c *connector) want(s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.wanted != s || s == Running && c.mu.state == Failed {
		c.beginAnewLocked(s)
	}
}

// restart ends what is, and does what is wanted again.
func (c *connector) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beginAnewLocked(c.mu.wanted)
}

func (c *connector) beginAnewLocked(s State) {
	c.mu.wanted, c.mu.restart = s, true
	if s == Running && c.mu.state == Failed { // what is shown until it runs is the restart, not the failure before it
		c.mu.state, c.mu.since = Restarting, time.Now()
	}
	if c.mu.cancel != nil {
		c.mu.cancel()
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *connector) set(s State, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.state != s {
		c.mu.state, c.mu.since = s, time.Now()
	}
	c.mu.err = err
}

// run keeps the connector doing what is wanted until ctx ends.
func (c *connector) run(ctx context.Context) {
	defer c.giveUp()
	backoff := firstBackoff
	for ctx.Err() == nil {
		c.mu.Lock()
		wanted := c.mu.wanted
		c.mu.restart = false
		select { // what was asked for up to here is done now: left over, it would start again what fails for good, or is fenced (invariant 7)
		case <-c.wake:
		default:
		}
		rctx, cancel := context.WithCancel(ctx)
		c.mu.cancel = cancel
		c.mu.Unlock()
		if wanted != Running {
			cancel()
			if wanted == Stopped {
				c.giveUp()
			}
			c.set(wanted, nil)
			c.await(ctx, 0)
			continue
		}
		began := time.Now()
		err := c.once(rctx)
		cancel()
		if ctx.Err() != nil {
			c.mu.Lock()
			c.mu.last = err
			c.mu.Unlock()
			break
		}
		c.mu.Lock()
		asked := c.mu.restart
		c.mu.Unlock()
		switch {
		case asked:
			backoff = firstBackoff
			c.mu.Lock()
			c.mu.ailing = time.Time{}
			c.mu.Unlock()
		case err == nil: // every split has ended for good
			c.set(Stopped, nil)
			c.await(ctx, 0)
		case connectors.IsFatal(err):
			c.ails()
			c.set(Failed, err)
			c.logger.Error("connector failed", "error", err, "hint", hintOf(err))
			c.await(ctx, 0)
		default:
			if time.Since(began) > goodWork {
				backoff = firstBackoff
			}
			c.ails()
			c.set(Restarting, err)
			c.mu.Lock()
			c.mu.retries++
			c.mu.Unlock()
			c.logger.Warn("connector will be restarted", "error", err, "in", backoff)
			c.await(ctx, backoff)
			backoff = min(2*backoff, mostBackoff)
		}
	}
	c.set(Stopped, c.lastWords())
}

// giveUp closes what a source holds between its tasks.
func (c *connector) giveUp() {
	if s, ok := c.source.(io.Closer); ok {
		if err := s.Close(); err != nil {
			c.logger.Warn("a source could not be closed", "error", err)
		}
	}
}

// ails notes an error, before the state says so: the first since it ran well.
func (c *connector) ails() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.mu.ailing.IsZero() || c.mu.state == Running && now.Sub(c.mu.since) > goodWork {
		c.mu.ailing = now
	}
}

// await waits for a change of what is wanted, for d (0: for ever), or for the end.
func (c *connector) await(ctx context.Context, d time.Duration) {
	var late <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-ctx.Done():
	case <-c.wake:
	case <-late:
	}
}

func hintOf(err error) string {
	var f *connectors.FatalError
	if errors.As(err, &f) {
		return f.Hint
	}
	return ""
}

// once runs the connector's tasks until one of them ends.
func (c *connector) once(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil { // a connector's mistake must not take the others along
			err = connectors.Fatal(fmt.Errorf("the connector panicked: %v", r), "this is a bug in the connector")
		}
	}()
	for _, t := range []connectors.TopicSpec{position.TopicSpec(), schemas.TopicSpec()} {
		if _, err := c.w.log.EnsureTopic(ctx, t); err != nil {
			return err
		}
	}
	if c.cfg.Sink {
		return c.sinkOnce(ctx)
	}
	return c.sourceOnce(ctx)
}

// working turns the state to RUNNING once the tasks are open.
func (c *connector) working(ctx context.Context) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if c.stats.Ready.Load() {
				c.set(Running, nil)
				return
			}
		}
	}
}

func (c *connector) sinkOnce(ctx context.Context) error {
	sink, err := c.sink()
	if err != nil {
		return connectors.Fatal(err, "")
	}
	if err := connectors.Check(ctx, sink); err != nil {
		return err
	}
	if err := c.validate(ctx, sink.Validate(ctx)); err != nil {
		return err
	}
	reg, err := Registry(c.cfg.Values, c.w.o.SchemaRegistry)
	if err != nil {
		return connectors.Fatal(err, "")
	}
	defer reg.Close()
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go c.working(wctx)
	return task.RunSink(ctx, task.SinkOptions{Log: c.w.log, Schemas: c.w.schemas, Registry: reg, Reading: Reading(c.cfg.Values), Sink: sink, Env: c.env,
		Transforms: Transforms(c.cfg.Values), Start: Start(c.cfg.Values), DeadLetters: deadLetters(c.cfg.Values), Logger: c.logger, Tracer: c.w.o.Tracer, Stats: &c.stats, Flush: c.flush, Drain: c.w.o.DrainTimeout})
}

func (c *connector) sourceOnce(ctx context.Context) error {
	src := c.source
	if err := connectors.Check(ctx, src); err != nil {
		return err
	}
	if err := c.validate(ctx, src.Validate(ctx)); err != nil {
		return err
	}
	splits, err := src.Plan(ctx, MaxSplits)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	reg, err := Registry(c.cfg.Values, c.w.o.SchemaRegistry)
	if err != nil {
		return connectors.Fatal(err, "")
	}
	defer reg.Close()
	var mine []connectors.Split
	for _, s := range splits {
		if s.Host == "" || s.Host == c.w.o.Host {
			mine = append(mine, s)
		}
	}
	if len(mine) == 0 {
		return fmt.Errorf("no part of this source is for this host, %s", c.w.o.Host)
	}
	c.mu.Lock()
	c.mu.splits = nil
	for _, s := range mine {
		c.mu.splits = append(c.mu.splits, s.ID)
	}
	c.mu.Unlock()
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go c.working(wctx)
	return c.tasks(wctx, cancel, src, reg, mine)
}

// MaxSplits bounds the tasks of one source on one worker.
const MaxSplits = 16

// tasks runs one task for each split; the first error ends them all.
func (c *connector) tasks(ctx context.Context, cancel context.CancelFunc, src connectors.Source, reg *client.Client, splits []connectors.Split) error {
	format := Format(c.cfg.Values)
	f := forms(c.cfg.Values)
	format.Key, format.Value = f.key, f.value
	letters := deadLetters(c.cfg.Values)
	if letters > 0 {
		c.stats.Dead.Store(0) // each task adds its own
	}
	errs := make(chan error, len(splits))
	for _, split := range splits {
		go func() {
			defer func() {
				if r := recover(); r != nil {
					errs <- connectors.Fatal(fmt.Errorf("the connector panicked: %v", r), "this is a bug in the connector")
				}
			}()
			errs <- task.RunSource(ctx, task.SourceOptions{
				Log: c.w.log, Schemas: c.w.schemas, Source: src, Split: split,
				Scope:      position.Scope{Group: c.w.o.Group, Source: c.cfg.Name, Split: split.ID},
				Host:       c.w.o.Host,
				Format:     format,
				Registry:   reg,
				Transforms: Transforms(c.cfg.Values),
				Partitions: partitions(c.cfg.Values), DeadLetters: letters,
				Logger: c.logger.With("split", split.ID), Tracer: c.w.o.Tracer,
				Stats: &c.stats,
				Drain: c.w.o.DrainTimeout,
			})
		}()
	}
	var first error
	for range splits {
		if err := <-errs; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// Format is how a source of these SourceFields writes its records, but for their converters: as JSON, which people read.
func Format(v spec.Values) converter.Format {
	var f converter.Format
	if v.Has("envelope") {
		f.Envelope = converter.Envelope(v.String("envelope"))
	}
	if v.Has("schemas") {
		f.Schemas = v.Bool("schemas")
	}
	return f
}

// Transforms are those of a connector, as transform.Field reads them; Absent: none.
func Transforms(v spec.Values) spec.Node {
	if v.Has("transforms") {
		return v.Tree("transforms")
	}
	return spec.Node{}
}

// Start is where a sink begins with what its target holds nothing of; zero: the beginning.
func Start(v spec.Values) time.Time {
	if !v.Has("start") {
		return time.Time{}
	}
	at, _ := startOf(v.String("start")) // it was checked
	return at
}

// startOf reads a sink's start.
func startOf(text string) (time.Time, error) {
	if text == "beginning" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, text)
}

// deadLetters is how many a connector may have; 0: what cannot be handled fails it.
func deadLetters(v spec.Values) int {
	if !v.Has("on_error") || v.String("on_error") != "dlq" {
		return 0
	}
	return int(v.Int("dlq.limit"))
}

func partitions(v spec.Values) int32 {
	if v.Has("partitions") {
		return int32(v.Int("partitions"))
	}
	return 1
}

// validate turns live findings into one error; warnings are logged.
func (c *connector) validate(ctx context.Context, findings []spec.Finding) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var bad []string
	for _, f := range findings {
		text := f.Message
		if f.Hint != "" {
			text += " (" + f.Hint + ")"
		}
		if f.Warning {
			c.logger.Warn(text)
			continue
		}
		bad = append(bad, text)
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "; "))
	}
	return nil
}

func (c *connector) lastWords() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.mu.last, context.Canceled) {
		return nil
	}
	return c.mu.last
}

// sample keeps the rate, smoothed over about five seconds.
func (c *connector) sample(now time.Time) {
	n := c.stats.Records.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.at.IsZero() {
		if dt := now.Sub(c.mu.at).Seconds(); dt > 0 {
			c.mu.rate += (float64(n-c.mu.sampled)/dt - c.mu.rate) * min(1, dt/3)
		}
	}
	if c.mu.rate < 0.05 {
		c.mu.rate = 0
	}
	c.mu.sampled, c.mu.at = n, now
}

func (c *connector) status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Name: c.cfg.Name, Type: c.cfg.Type, Sink: c.cfg.Sink, State: c.mu.state, Since: c.mu.since,
		Records: c.stats.Records.Load(), Bytes: c.stats.Bytes.Load(), Rate: c.mu.rate, Lag: c.stats.Lag.Load(), Dead: c.stats.Dead.Load(), Restarts: c.mu.retries}
	now := time.Now()
	s.Behind, s.stats = c.stats.Behind(now), &c.stats
	if s.Ailing = c.mu.ailing; s.State == Running && now.Sub(s.Since) > goodWork {
		s.Ailing = time.Time{}
	}
	if s.State != Running { // nobody looks what there is to read: so much at least can be waiting
		from := s.Since
		if !s.Ailing.IsZero() && s.Ailing.Before(from) {
			from = s.Ailing
		}
		s.Lag, s.Behind = -1, max(s.Behind, now.Sub(from))
	}
	if c.mu.err != nil {
		s.Error, s.Fenced = c.mu.err.Error(), errors.Is(c.mu.err, hublog.ErrFenced) || connectors.IsFenced(c.mu.err)
		if h := hintOf(c.mu.err); h != "" {
			s.Error += " (" + h + ")"
		}
	}
	if u := c.stats.Stuck(); u != nil && s.State == Running {
		s.Error, s.Ailing, s.Behind = u.Text, u.Since, max(s.Behind, now.Sub(u.Since))
	}
	splits := c.mu.splits
	switch {
	case c.mu.state == Stopped: // KIP-875: nothing is left of its tasks
		splits = nil
	case c.cfg.Sink:
		splits = []string{""}
	}
	for i, split := range splits {
		s.Tasks = append(s.Tasks, TaskStatus{ID: i, Split: split, State: c.mu.state, Error: s.Error, Records: s.Records})
	}
	return s
}
