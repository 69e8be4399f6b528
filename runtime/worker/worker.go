package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/schemas"
	"github.com/forebayhub/forebay/runtime/task"
)

var (
	errPartitions = errors.New("from 1 to 10000")
	errLetters    = errors.New("from 1 to 100000")
	errStart      = errors.New("beginning, or a time as in 2026-11-30T08:00:00Z")
	// ErrUnknown says that no connector has that name.
	ErrUnknown = errors.New("no such connector")
	// ErrNotRunning says that the connector would have to run for this.
	ErrNotRunning = errors.New("the connector is not running")
	// ErrNotStopped says that the connector would have to be stopped for this.
	ErrNotStopped = errors.New("the connector has to be STOPPED for this")
	// ErrTarget says that a sink's offsets are its target's.
	ErrTarget = errors.New("a sink's offsets cannot be set")
)

// Worker runs connectors. Its methods may be called concurrently.
type Worker struct {
	o       Options
	log     *hublog.Log
	schemas *schemas.Store
	order   []*connector
}

// New makes every configured source and sink; it does no I/O. An error that the
// user can mend is a *problem.Error.
func New(o Options) (*Worker, error) {
	if o.Group == "" {
		o.Group = "default"
	}
	if o.Host == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("the machine's name: %w", err)
		}
		o.Host = name
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 20 * time.Second
	}
	if o.Log.Logger == nil {
		o.Log.Logger = o.Logger
	}
	l, err := hublog.Open(o.Log)
	if err != nil {
		return nil, err
	}
	w := &Worker{o: o, log: l, schemas: schemas.New(l)}
	names := map[string]bool{}
	for _, cfg := range o.Connectors {
		c, err := w.connector(cfg)
		if err == nil && names[cfg.Name] {
			err = input(cfg, "the name is taken by another connector", "")
		}
		if err != nil {
			l.Close()
			return nil, err
		}
		names[cfg.Name] = true
		w.order = append(w.order, c)
	}
	return w, nil
}

func input(cfg Config, what, hint string) error {
	kind := "source"
	if cfg.Sink {
		kind = "sink"
	}
	return &problem.Error{Code: "bad-connector", Class: problem.Input, Where: fmt.Sprintf("%s '%s' (%s)", kind, cfg.Name, cfg.Type), What: what, Hint: hint}
}

// Run runs the connectors until ctx ends, then lets the tasks commit what they
// have. It returns nil after a drain in good order. A connector's failure does
// not end it. It is called once.
func (w *Worker) Run(ctx context.Context) error {
	defer w.log.Close()
	var wg sync.WaitGroup
	for _, c := range w.order {
		wg.Go(func() { c.run(ctx) })
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	ending := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case <-done:
			if len(w.order) == 0 {
				<-ctx.Done()
			}
			return w.ended()
		case <-ending:
			ending = nil
			// A task that hears neither its context nor its drain context is left behind.
			late = time.After(w.o.DrainTimeout + 5*time.Second)
		case <-late:
			return errors.New("some tasks did not end in time")
		case now := <-ticker.C:
			for _, c := range w.order {
				c.sample(now)
			}
		}
	}
}

// ended reports tasks whose last act, the commit at the end, failed.
func (w *Worker) ended() error {
	var err error
	for _, c := range w.order {
		if e := c.lastWords(); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", c.cfg.Name, e))
		}
	}
	return err
}

// Status is the state of every connector, in the order of the config.
func (w *Worker) Status() []Status {
	out := make([]Status, len(w.order))
	for i, c := range w.order {
		out[i] = c.status()
	}
	return out
}

func (w *Worker) find(name string) (*connector, error) {
	for _, c := range w.order {
		if c.cfg.Name == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrUnknown, name)
}

// Config returns a connector's config, secrets as stars, as the flat map of Kafka Connect.
func (w *Worker) Config(name string) (map[string]string, error) {
	c, err := w.find(name)
	if err != nil {
		return nil, err
	}
	flat := c.spec.Flatten(c.cfg.Node)
	delete(flat, "type")
	flat["connector.class"], flat["name"] = c.cfg.Type, c.cfg.Name
	return flat, nil
}

// Want says what a connector shall be doing: Paused ends its tasks in good order, Running starts them again. Stopped
// is a pause that gives up what the tasks hold, like Kafka Connect's (KIP-875).
func (w *Worker) Want(name string, s State) error {
	c, err := w.find(name)
	if err != nil {
		return err
	}
	c.want(s)
	return nil
}

// Restart starts a connector's tasks anew, a failed one too. One that is paused or stopped stays so.
func (w *Worker) Restart(name string) error {
	c, err := w.find(name)
	if err != nil {
		return err
	}
	c.restart()
	return nil
}

// Flush commits what a sink has written so far and returns, for each partition,
// the offset up to which everything is in the target.
func (w *Worker) Flush(ctx context.Context, name string) (map[connectors.TopicPartition]int64, error) {
	c, err := w.find(name)
	if err != nil {
		return nil, err
	}
	if !c.cfg.Sink {
		return nil, fmt.Errorf("%s is a source: only a sink can flush", name)
	}
	if s := c.status().State; s != Running {
		return nil, fmt.Errorf("%w: %s is %s", ErrNotRunning, name, s)
	}
	done := make(chan task.FlushResult, 1)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case c.flush <- task.Flush{Done: done}:
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		return r.Committed, r.Err
	}
}
