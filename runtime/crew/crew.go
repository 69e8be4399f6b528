// Package crew shares the declared connectors out among the workers of a group, as a member of which each asks the
// log's group coordinator. Who is asked to share out does it by share: incremental, sticky, level. A connector that is bound
// to its host (log files) runs once on every host instead.
//
// A worker that goes keeps its connectors for a moment, so that one that is only restarted finds them again; who watches
// it gives them on when it stays away.
//
// The group only says who should run what. That nobody else can write is the tasks' fencing (invariant 7), so a
// worker that does not know yet that it was replaced does no harm.
package crew

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

// lookEvery is how often connectors are looked for that somebody has fenced, or that nobody has.
const lookEvery = 5 * time.Second

// takeBackPause is the least time between two restarts of a connector that somebody has fenced.
const takeBackPause = 4 * lookEvery

// Options make a Crew.
type Options struct {
	Worker worker.Options // of each connector's worker; Connectors is left empty
	Types  declared.Types
	HTTP   string // where this worker's REST API answers, for the others
	Alone  bool   // no other worker can be there: no group is joined
	Idle   bool   // runs nothing, but knows who does
	// Getenv is what ${VAR} is resolved with here; nil: os.LookupEnv.
	Getenv func(string) (string, bool)
	// Ask asks who answers at the address of a worker's REST API: the worker's Name. Nil: a worker that has gone is missed when
	// its session ends, not before.
	Ask func(ctx context.Context, http string) (name string, err error)
}

// Crew runs this worker's share of what its group declares. Its methods may be called concurrently.
type Crew struct {
	o   Options
	log *hublog.Log
	id  string // of this worker in the group

	machine string               // its boot id; "": this system tells none
	changed chan struct{}        // capacity 1
	taken   map[string]time.Time // when takeBack has last restarted a connector; of its goroutine

	mu struct {
		sync.Mutex
		set        declared.Set
		news       chan struct{} // closed with the next set
		hands      map[string]*hand
		member     *hublog.Member  // nil: has not joined
		mine       map[string]bool // connectors that this worker was given, in generation
		generation int32
		watched    []string  // names of workers that it was told to watch
		known      []string  // members when last heard of
		orphans    []string  // that nobody had when last looked for
		asked      time.Time // by a worker that watches this one
		ended      bool
	}
}

// hand is one connector at work here.
type hand struct {
	declared declared.Connector
	w        *worker.Worker // nil: it cannot run here
	unfit    error
	since    time.Time
	stop     context.CancelFunc
	stopping bool
	done     chan struct{}
	err      error // after done
}

// New makes a Crew; it does no I/O.
func New(o Options) (*Crew, error) {
	if o.Worker.Host == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("the machine's name: %w", err)
		}
		o.Worker.Host = name
	}
	if o.Worker.Logger == nil {
		o.Worker.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := hublog.Open(o.Worker.Log)
	if err != nil {
		return nil, err
	}
	c := &Crew{o: o, log: l, id: name(o.Worker.Host, o.HTTP), changed: make(chan struct{}, 1)}
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		c.machine = strings.TrimSpace(string(id))
	}
	c.mu.news = make(chan struct{})
	c.mu.hands, c.mu.mine = map[string]*hand{}, map[string]bool{}
	return c, nil
}

// Answer is how this worker calls itself in its group, said to another worker that watches it.
func (c *Crew) Answer() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.asked = time.Now()
	return c.id
}

// name is how a worker calls itself in a group; split takes it apart.
func name(host, http string) string { return "forebay-worker/" + host + "/" + http }

func split(name string) (host, http string) {
	if f := strings.SplitN(name, "/", 3); len(f) == 3 && f[0] == "forebay-worker" {
		return f[1], f[2]
	}
	return "", ""
}

func (c *Crew) group() string { return "forebay-workers-" + c.o.Worker.Group }

// Declare makes the set what the group should run. Connectors that did not change go on undisturbed.
func (c *Crew) Declare(set declared.Set) {
	alike := func(a, b declared.Connector) bool { return a.Name == b.Name && a.Kind == b.Kind && a.Type == b.Type }
	c.mu.Lock()
	others := !slices.EqualFunc(c.mu.set.Connectors, set.Connectors, alike)
	for _, was := range c.mu.set.Connectors {
		// Of another type it is another connector, whoever had the one before: of what is bound to its host, for one, every worker had it.
		if !slices.ContainsFunc(set.Connectors, func(d declared.Connector) bool { return alike(was, d) }) {
			delete(c.mu.mine, was.Name)
		}
	}
	c.mu.set = set
	close(c.mu.news)
	c.mu.news = make(chan struct{})
	m := c.mu.member
	c.mu.Unlock()
	if others && m != nil {
		m.Rejoin()
	}
	c.wake()
}

// Heard returns when a set of at least that version is declared, or when ctx ends.
func (c *Crew) Heard(ctx context.Context, version int64) {
	for {
		c.mu.Lock()
		have, news := c.mu.set.Version, c.mu.news
		c.mu.Unlock()
		if have >= version {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-news:
		}
	}
}

func (c *Crew) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// hostBound says whether a connector is known here to be bound to its host; of a type that is missing here others have to say it.
func (c *Crew) hostBound(d declared.Connector) bool {
	return d.Kind == declared.Source && slices.ContainsFunc(c.o.Worker.Registry.Sources, func(t connectors.SourceType) bool { return t.Name == d.Type && t.HostBound })
}

// Run runs this worker's share until ctx ends, and lets the tasks commit what they have. It is called once.
func (c *Crew) Run(ctx context.Context) error {
	defer c.log.Close()
	// It is a member until its tasks have ended: others must not begin them before.
	group, leave := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	beside.Go(func() { c.lookAround(group) })
	for ctx.Err() == nil {
		if m := c.join(); m != nil {
			beside.Go(func() { m.Run(group) })
			beside.Go(func() { c.watch(group) })
		}
		c.reconcile()
		select {
		case <-ctx.Done():
		case <-c.changed:
		}
	}
	c.mu.Lock()
	c.mu.ended = true
	c.mu.Unlock()
	c.reconcile()
	c.mu.Lock()
	hands := maps.Clone(c.mu.hands)
	c.mu.Unlock()
	var err error
	for n, h := range hands {
		<-h.done
		if h.err != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", n, h.err))
		}
	}
	leave()
	beside.Wait()
	c.farewell()
	return err
}

// farewell: who is watched stays in the group, and has its connectors if it comes back soon. Who is not would keep them from others for a session.
func (c *Crew) farewell() {
	c.mu.Lock()
	stay := c.mu.member == nil || time.Since(c.mu.asked) < 2*(askEvery+askWorker)
	c.mu.Unlock()
	if stay {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), askGroup)
	defer cancel()
	_ = c.log.Remove(ctx, c.group(), c.id) // else the session ends
}

// join makes this worker a member of its group when there is something to share out for the first time. An idle node costs the log no group.
func (c *Crew) join() *hublog.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.o.Idle || c.o.Alone || c.mu.member != nil || len(c.mu.set.Connectors) == 0 {
		return nil
	}
	m, err := c.log.Join(hublog.MemberOptions{Group: c.group(), Name: c.id, Metadata: c.metadata, Share: c.share, Assigned: c.assigned, Lost: c.lost, Logger: c.o.Worker.Logger})
	if err != nil { // its options are those of c.log
		c.o.Worker.Logger.Error("cannot join the group of workers", "error", err)
		return nil
	}
	c.mu.member = m
	return m
}

// reconcile makes what runs what should run. It waits for nothing: what ends here starts anew, or is given to others, when it has ended.
func (c *Crew) reconcile() {
	c.mu.Lock()
	defer c.mu.Unlock()
	should := map[string]declared.Connector{}
	if !c.mu.ended && !c.o.Idle {
		for _, d := range c.mu.set.Connectors {
			if c.o.Alone || c.mu.mine[d.Name] {
				should[d.Name] = d
			}
		}
	}
	for n, h := range c.mu.hands {
		switch d, ok := should[n]; {
		case !ok || !d.Same(h.declared):
			c.end(n, h)
		case d.State != h.declared.State:
			h.declared = d
			if h.w != nil {
				_ = h.w.Want(n, wanted(d)) // it is the one that h.w has
			}
		}
		delete(should, n)
	}
	for n, d := range should {
		c.mu.hands[n] = c.start(d)
	}
}

// wanted is what a connector shall be doing, in a worker's words.
func wanted(d declared.Connector) worker.State {
	return cmp.Or(worker.State(d.State), worker.Running)
}

// end stops a connector; c.mu is held.
func (c *Crew) end(name string, h *hand) {
	if h.stopping {
		return
	}
	h.stopping = true
	h.stop()
	if c.mu.ended { // what happened at the end is told by Run
		return
	}
	go func() {
		<-h.done
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.mu.ended {
			return
		}
		delete(c.mu.hands, name)
		c.wake()
		if m := c.mu.member; m != nil && !c.mu.mine[name] {
			m.Rejoin() // others wait for it
		}
	}()
}

// lookAround repairs what the group's ordinary course leaves.
func (c *Crew) lookAround(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		m := c.mu.member
		c.mu.Unlock()
		switch {
		case c.o.Alone:
			c.takeBack(func(string) bool { return true })
		case m != nil:
			has, err := c.ask(ctx)
			if err != nil {
				continue
			}
			if c.orphaned(has) {
				m.Rejoin() // who shared out did not know of it
			}
			c.takeBack(func(connector string) bool { return has.has(c.id, connector) })
		}
	}
}

// takeBack restarts connectors that were fenced though they are this worker's: a predecessor, which did not know yet that
// it was replaced, has started once more after us. The group's word counts, for it may be we who were replaced. Once in takeBackPause: a
// target that holds the word of a log that was set up anew since would fence it for ever.
func (c *Crew) takeBack(mine func(connector string) bool) {
	for _, s := range c.Status() {
		if s.State == worker.Failed && s.Fenced && time.Since(c.taken[s.Name]) >= takeBackPause && mine(s.Name) {
			if c.taken == nil {
				c.taken = map[string]time.Time{}
			}
			c.taken[s.Name] = time.Now()
			c.o.Worker.Logger.Warn("connector was fenced by a worker that has it no more: it is restarted", "connector", s.Name)
			_ = c.Restart(s.Name) // it may be gone by now
		}
	}
}

// start runs one connector. What it cannot run is a hand that has failed.
func (c *Crew) start(d declared.Connector) *hand {
	ctx, cancel := context.WithCancel(context.Background())
	h := &hand{declared: d, since: time.Now(), stop: cancel, done: make(chan struct{})}
	r, err := c.o.Types.Resolve(d, c.o.Getenv)
	if err == nil {
		o := c.o.Worker
		o.Connectors = []worker.Config{{Name: d.Name, Type: d.Type, Sink: d.Kind == declared.Sink, Wanted: wanted(d), Values: r.Values, Node: r.Written}}
		h.w, err = worker.New(o)
	}
	if err != nil {
		if p := (*problem.Error)(nil); errors.As(err, &p) && p.What != "" {
			err = errors.New(p.What)
		}
		h.unfit = err
		c.o.Worker.Logger.Error("connector cannot run here", "connector", d.Name, "error", err)
		close(h.done)
		return h
	}
	go func() {
		defer close(h.done)
		h.err = h.w.Run(ctx)
	}()
	return h
}
