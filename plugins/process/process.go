// Package process runs connectors that live in another process and another language. A plugin is a program that serves
// proto.Plugin; Forebay starts it, asks it what it can be, and drives its tasks as it drives those that are compiled in:
// the same positions and acknowledgements, the same two-phase commit. DESIGN.md has the protocol.
//
// Each connector has a process of its own, so that a crash is the restart of one task. serve makes a plugin of a Go connector.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	"github.com/forebayhub/forebay/connectors"
	pb "github.com/forebayhub/forebay/plugins/process/proto"
)

// linger is how long a process stays after the last use: what follows (Plan after Validate, a task after Plan) finds it running.
const linger = 2 * time.Second

// askTimeout is how long a plugin may take to answer what needs no I/O.
const askTimeout = 10 * time.Second

// lookTimeout is how long it may look at what it reaches: to validate, to plan, to list topics.
const lookTimeout = 2 * time.Minute

// Options say which program a plugin is.
type Options struct {
	Name    string       // of the plugin, and the type of its connectors
	Command []string     // the program and its arguments
	SHA256  []string     // in hex: each must be that of a file which Command names; none: not checked
	Env     []string     // names of variables that it inherits beside the common ones
	Version string       // of Forebay
	Logger  *slog.Logger // nil: silent
}

// Plugin is a plugin as it is configured. It can be used by many connectors at once.
type Plugin struct {
	o        Options
	patience time.Duration // closeTimeout
	keeps    bool          // a task finds the process of the one before; where starting one takes long, tests have it so
	mu       struct {
		sync.Mutex
		running map[string]*lease // by connector
		secret  map[string]bool   // names of fields
	}
}

// New makes a plugin; nothing is started yet.
func New(o Options) *Plugin {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Plugin{o: o, patience: closeTimeout}
	p.mu.running, p.mu.secret = map[string]*lease{}, map[string]bool{}
	return p
}

// Look says whether the program is there and has its checksums, and starts nothing.
func (p *Plugin) Look() error {
	_, err := p.o.program()
	return err
}

// lease is the process of one connector while somebody needs it.
type lease struct {
	logs  *logLines
	ready chan struct{} // closed once child or err is set
	child *child
	err   error
	users int
	last  *time.Timer // ends it
}

// acquire gives the connector's process, which it starts when there is none that lives; release says that it is not needed any more.
func (p *Plugin) acquire(ctx context.Context, env connectors.Env, config *pb.Config) (*lease, error) {
	p.mu.Lock()
	l := p.mu.running[env.Name]
	if l == nil || l.over() {
		l = &lease{logs: newLogLines(p.o.Logger.With("plugin", p.o.Name)), ready: make(chan struct{})}
		p.mu.running[env.Name] = l
		go func() {
			// Not of this caller's context: others may wait for the same process.
			l.child, l.err = p.o.start(context.WithoutCancel(ctx), l.logs)
			close(l.ready)
		}()
	}
	for _, v := range config.GetValues() {
		if p.mu.secret[v.GetName()] {
			l.logs.hide(v.GetText())
		}
	}
	// Who only asks something may be silent, and must not silence the task that the process is for.
	if env.Logger != nil && env.Logger.Enabled(ctx, slog.LevelError) {
		l.logs.use(env.Logger.With("plugin", p.o.Name))
	}
	l.users++
	if l.last != nil {
		l.last.Stop()
	}
	p.mu.Unlock()
	select {
	case <-l.ready:
	case <-ctx.Done():
		p.release(env.Name, l)
		return nil, (&child{name: p.o.Name}).failed(ctx, status.FromContextError(ctx.Err()).Err())
	}
	if l.err != nil {
		p.release(env.Name, l)
		return nil, l.err
	}
	return l, nil
}

// over says that the process has ended, or never began.
func (l *lease) over() bool {
	select {
	case <-l.ready:
		return l.err != nil || l.child.dead()
	default:
		return false
	}
}

func (p *Plugin) release(connector string, l *lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.users--; l.users > 0 {
		return
	}
	end := linger
	if p.mu.running[connector] != l {
		end = 0 // another one has taken its place
	}
	l.last = time.AfterFunc(end, func() {
		p.mu.Lock()
		if l.users > 0 {
			p.mu.Unlock()
			return
		}
		if p.mu.running[connector] == l {
			delete(p.mu.running, connector)
		}
		p.mu.Unlock()
		<-l.ready
		if l.err == nil {
			l.child.stop()
		}
	})
}

// retire kills the process of a task that was not heard to end, and returns when it has ended: whatever it was doing, it is not beside the
// task that comes next (invariant 7).
func (p *Plugin) retire(connector string, l *lease) {
	p.part(connector, l)
	l.child.run.cut()
}

// part has the connector's next task start a process of its own: a restart is to mend what is wrong with one, or to find a new program. Tasks
// that still run in this one keep it.
func (p *Plugin) part(connector string, l *lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.running[connector] == l {
		delete(p.mu.running, connector)
	}
}

// closed ends the use of a process by a task whose stream has ended so: a stream that the plugin did not end itself may have a task at work behind it.
func (p *Plugin) closed(connector string, l *lease, ended error, late bool, failure error) error {
	if errors.Is(ended, io.EOF) {
		if !p.keeps {
			p.part(connector, l)
		}
		return failure
	}
	p.retire(connector, l)
	if late {
		return errors.Join(failure, fmt.Errorf("plugin %s does not end a task: its process was killed", p.o.Name))
	}
	return failure
}

// call asks the plugin one thing, for which it has so long.
func (p *Plugin) call(ctx context.Context, env connectors.Env, config *pb.Config, within time.Duration, fn func(context.Context, *child) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	l, err := p.acquire(ctx, env, config)
	if err != nil {
		return err
	}
	defer p.release(env.Name, l)
	return fn(ctx, l.child)
}

// Describe starts the plugin and asks what it can be. Both are nil when there is an error; one of them may be.
func (p *Plugin) Describe(ctx context.Context) (*connectors.SourceType, *connectors.SinkType, error) {
	var d *pb.Description
	err := p.call(ctx, connectors.Env{}, nil, startTimeout, func(ctx context.Context, c *child) (err error) {
		d, err = c.api.Describe(ctx, &pb.DescribeRequest{Version: p.o.Version})
		return c.failed(ctx, err)
	})
	if err != nil {
		return nil, nil, err
	}
	var source *connectors.SourceType
	var sink *connectors.SinkType
	if d.Source != nil {
		if source, err = p.sourceType(d.Source); err != nil {
			return nil, nil, err
		}
	}
	if d.Sink != nil {
		if sink, err = p.sinkType(d.Sink); err != nil {
			return nil, nil, err
		}
	}
	if source == nil && sink == nil {
		return nil, nil, connectors.Fatal(errors.New("plugin "+p.o.Name+" is neither a source nor a sink"), "a mistake in the plugin")
	}
	return source, sink, nil
}

// Close ends the plugin's processes. Tasks that run in them fail.
func (p *Plugin) Close() {
	p.mu.Lock()
	var all []*lease
	for _, l := range p.mu.running {
		all = append(all, l)
	}
	clear(p.mu.running)
	p.mu.Unlock()
	for _, l := range slices.Clip(all) {
		<-l.ready
		if l.err == nil {
			l.child.stop()
		}
	}
}
