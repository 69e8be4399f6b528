package exactly

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/crew"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

// process is one worker: the runtime's own Crew, and all that it can do to the outside. A process that dies, or stands still, does nothing more to the
// log, the source or the target, from one call to the next; what its goroutines do among themselves changes nothing.
type process struct {
	w    *World
	name string
	crew *crew.Crew
	stop context.CancelFunc
	done chan struct{}

	dialled int // under the log's mutex

	hearing sync.Mutex
	heard   int64 // the version of the set; under hearing

	mu      sync.Mutex
	died    chan struct{} // closed with its death
	still   chan struct{} // not nil: it stands still; closed when it goes on
	calls   int           // that change something outside, so far
	crashAt int           // the call in which it dies; 0: none
	after   bool          // it dies when the call has had its effect
}

var errDead = errors.New("the process is dead")

func (w *World) start(name string) *process {
	p := &process{w: w, name: name, died: make(chan struct{}), done: make(chan struct{})}
	o := p.worker()
	c, err := crew.New(crew.Options{
		Worker: o,
		Types:  declared.Types{Registry: o.Registry, SourceCommon: worker.SourceFields, SinkCommon: worker.SinkFields},
		HTTP:   name, Ask: w.ask,
	})
	if err != nil {
		panic(err)
	}
	p.crew = c
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	w.mu.Lock()
	set := w.set
	w.processes[name] = p
	w.mu.Unlock()
	w.note("%s starts", name)
	go func() {
		defer close(p.done)
		if err := c.Run(ctx); err != nil {
			w.note("%s has ended: %v", name, err)
		}
	}()
	p.hear(set)
	return p
}

// worker is what it is as one that runs connectors.
func (p *process) worker() worker.Options {
	registry := connectors.Registry{
		Sources: []connectors.SourceType{{Name: "rows", Spec: sourceSpec, New: func(v spec.Values, env connectors.Env) (connectors.Source, error) {
			return &source{p: p, env: env, batch: int(v.Int("batch"))}, nil
		}}},
		Sinks: []connectors.SinkType{{Name: "store", Spec: sinkSpec, New: func(v spec.Values, env connectors.Env) (connectors.Sink, error) {
			return &sink{p: p, env: env, topics: v.Strings("topics"), size: int(v.Int("size")), interval: v.Duration("interval")}, nil
		}}},
	}
	return worker.Options{
		Log:   hublog.Options{Dial: func(ctx context.Context) (net.Conn, error) { return p.w.log.dial(ctx, p) }},
		Group: group1, Host: p.name, Registry: registry, Logger: slog.New(p.w.logger(p.name)),
	}
}

// hear tells the worker what is declared, as a follower of the topic hears it: in order.
func (p *process) hear(set declared.Set) {
	p.hearing.Lock()
	defer p.hearing.Unlock()
	if set.Version > p.heard {
		p.heard = set.Version
		p.crew.Declare(set)
	}
}

// ask is crew.Options.Ask: who answers at the address of a worker.
func (w *World) ask(ctx context.Context, name string) (string, error) {
	w.mu.Lock()
	p := w.processes[name]
	w.mu.Unlock()
	if p == nil {
		return "", errDead
	}
	if err := p.pass(ctx); err != nil {
		return "", err
	}
	select {
	case <-p.done:
		return "", errDead
	default:
		return p.crew.Answer(), nil
	}
}

// pass waits while the process stands still.
func (p *process) pass(ctx context.Context) error {
	for {
		p.mu.Lock()
		still := p.still
		p.mu.Unlock()
		select {
		case <-p.died:
			return errDead
		default:
		}
		if still == nil {
			return nil
		}
		select {
		case <-still:
		case <-p.died:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// enter is pass at the beginning of a call that changes something outside: here it may die. after: the caller has it die when it is done.
func (p *process) enter(ctx context.Context, what string) (after bool, err error) {
	if err := p.pass(ctx); err != nil {
		return false, err
	}
	p.mu.Lock()
	p.calls++
	now, after := p.calls == p.crashAt, p.after
	p.mu.Unlock()
	switch {
	case now && after:
		return true, nil
	case now:
		p.die("before a " + what)
		return false, errDead
	}
	return false, nil
}

// call does something to the outside.
func (p *process) call(what string, fn func() error) error {
	after, err := p.enter(context.Background(), what)
	if err != nil {
		return err
	}
	err = fn()
	if after {
		p.die("after a " + what)
	}
	if perr := p.pass(context.Background()); perr != nil { // it never hears of it
		return perr
	}
	return err
}

// crashIn has the process die in the n-th call from now.
func (p *process) crashIn(n int, after bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.crashAt, p.after = p.calls+n, after
}

// die is SIGKILL.
func (p *process) die(why string) {
	p.mu.Lock()
	select {
	case <-p.died:
		p.mu.Unlock()
		return
	default:
	}
	close(p.died)
	p.mu.Unlock()
	p.w.note("%s dies %s", p.name, why)
	p.w.log.disconnect(p)
	p.stop()
}

func (p *process) alive() bool {
	select {
	case <-p.died:
		return false
	case <-p.done:
		return false
	default:
		return true
	}
}

// stand is SIGSTOP, as far as others can see; the returned function is SIGCONT.
func (p *process) stand() (goOn func()) {
	still := make(chan struct{})
	p.mu.Lock()
	p.still = still
	p.mu.Unlock()
	p.w.note("%s stands still", p.name)
	return func() {
		p.mu.Lock()
		if p.still == still {
			p.still = nil
		}
		p.mu.Unlock()
		close(still)
		p.w.note("%s goes on", p.name)
	}
}

// disconnect loses a process's connections.
func (l *Log) disconnect(p *process) {
	l.mu.Lock()
	var of []*conn
	for c := range l.conns {
		if c.p == p {
			of = append(of, c)
		}
	}
	l.mu.Unlock()
	for _, c := range of {
		c.close()
	}
}
