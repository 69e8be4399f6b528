// Package crew shares the declared connectors out among the workers of a group. The log's own group protocol
// does it: a topic's partitions stand for slots, each connector belongs to one by its name, and who has the slot runs
// it. A connector that is bound to its host (log files) is shared out among the workers of each host instead.
//
// The group only says who should run what. That nobody else can write is the tasks' fencing (invariant 7), so a
// worker that does not know yet that it was replaced does no harm.
package crew

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
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

const (
	// slotsTopic has no records, only partitions to share out.
	slotsTopic = "_forebay.slots"
	slots      = 16
	// tryAgain is the wait after the log could not be asked.
	tryAgain = time.Second
	// lookForFenced is how often connectors are looked for that somebody has fenced.
	lookForFenced = 5 * time.Second
)

// Options make a Crew.
type Options struct {
	Worker worker.Options // of each connector's worker; Connectors is left empty
	Types  declared.Types
	HTTP   string // where this worker's REST API answers, for the others
	Alone  bool   // no other worker can be there: no group is joined
	Idle   bool   // runs nothing, but knows who does
}

// Crew runs this worker's share of what its group declares. Its methods may be called concurrently.
type Crew struct {
	o   Options
	log *hublog.Log
	id  string // of this worker in the group

	changing sync.Mutex // held while connectors are started and stopped
	changed  chan struct{}

	mu struct {
		sync.Mutex
		set     declared.Set
		bound   map[string]bool // connectors of set that are bound to their host
		hands   map[string]*hand
		slots   map[scope]map[int32]bool // that this worker has
		members map[scope]*hublog.Member
		known   map[scope][]string // members when last heard of
		ended   bool
	}
}

// scope is among whom slots are shared out: everybody, or one host's workers.
type scope string

const everybody scope = ""

// hand is one connector at work here.
type hand struct {
	declared declared.Connector
	w        *worker.Worker // nil: it cannot run here
	unfit    error
	since    time.Time
	stop     context.CancelFunc
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
	c.mu.bound, c.mu.hands = map[string]bool{}, map[string]*hand{}
	c.mu.slots, c.mu.members, c.mu.known = map[scope]map[int32]bool{}, map[scope]*hublog.Member{}, map[scope][]string{}
	return c, nil
}

// name is how a worker calls itself in a group; split takes it apart.
func name(host, http string) string { return "forebay-worker/" + host + "/" + http }

func split(name string) (host, http string) {
	if f := strings.SplitN(name, "/", 3); len(f) == 3 && f[0] == "forebay-worker" {
		return f[1], f[2]
	}
	return "", ""
}

func (c *Crew) group(s scope) string {
	g := "forebay-workers-" + c.o.Worker.Group
	if s != everybody {
		g += "-host-" + string(s)
	}
	return g
}

func slot(name string) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return int32(h.Sum32() % slots)
}

// Declare makes the set what the group should run. Connectors that did not change go on undisturbed.
func (c *Crew) Declare(set declared.Set) {
	bound := map[string]bool{}
	for _, d := range set.Connectors {
		bound[d.Name] = c.hostBound(d)
	}
	c.mu.Lock()
	c.mu.set, c.mu.bound = set, bound
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// hostBound asks a source; one that cannot be made here is not.
func (c *Crew) hostBound(d declared.Connector) bool {
	if d.Kind != declared.Source {
		return false
	}
	r, err := c.o.Types.Resolve(d, nil)
	if err != nil {
		return false
	}
	for _, t := range c.o.Worker.Registry.Sources {
		if t.Name == d.Type {
			src, err := t.New(r.Values, connectors.Env{Name: d.Name, Group: c.o.Worker.Group, Host: c.o.Worker.Host, Logger: c.o.Worker.Logger})
			return err == nil && src.Capabilities().HostBound
		}
	}
	return false
}

// Run runs this worker's share until ctx ends, and lets the tasks commit what they have. It is called once.
func (c *Crew) Run(ctx context.Context) error {
	defer c.log.Close()
	fenced := time.NewTicker(lookForFenced)
	defer fenced.Stop()
	for ctx.Err() == nil {
		var again <-chan time.Time
		if !c.o.Idle {
			if err := c.join(ctx); err != nil && ctx.Err() == nil {
				c.o.Worker.Logger.Warn("cannot join the group of workers", "error", err, "again in", tryAgain)
				again = time.After(tryAgain)
			}
			c.reconcile()
		}
		select {
		case <-ctx.Done():
		case <-c.changed:
		case <-again:
		case <-fenced.C:
			c.takeBack(ctx)
		}
	}
	c.mu.Lock()
	c.mu.ended = true
	hands, members := c.mu.hands, c.mu.members
	c.mu.Unlock()
	c.reconcile()
	for _, m := range members {
		m.Leave()
	}
	var err error
	for n, h := range hands {
		if h.err != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", n, h.err))
		}
	}
	return err
}

// join joins the groups that the set needs, once each.
func (c *Crew) join(ctx context.Context) error {
	c.mu.Lock()
	var need []scope
	for _, d := range c.mu.set.Connectors {
		s := c.scopeOf(d.Name)
		if c.mu.members[s] == nil && c.mu.slots[s] == nil && !slices.Contains(need, s) {
			need = append(need, s)
		}
	}
	c.mu.Unlock()
	for _, s := range need {
		if c.o.Alone {
			c.take(s, everySlot(), true)
			continue
		}
		if _, err := c.log.EnsureTopic(ctx, connectors.TopicSpec{Name: slotsTopic, Partitions: slots}); err != nil {
			return err
		}
		m, err := c.log.Join(c.group(s), slotsTopic, c.id,
			func(ps []int32) { c.take(s, ps, true); c.reconcile() },
			func(ps []int32) { c.take(s, ps, false); c.reconcile() })
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.mu.members[s] = m
		c.mu.Unlock()
	}
	return nil
}

func everySlot() (all []int32) {
	for i := range int32(slots) {
		all = append(all, i)
	}
	return all
}

// scopeOf is among whom a connector is shared out. c.mu is held.
func (c *Crew) scopeOf(connector string) scope {
	if c.mu.bound[connector] {
		return scope(c.o.Worker.Host)
	}
	return everybody
}

func (c *Crew) take(s scope, ps []int32, have bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.slots[s] == nil {
		c.mu.slots[s] = map[int32]bool{}
	}
	for _, p := range ps {
		if have {
			c.mu.slots[s][p] = true
		} else {
			delete(c.mu.slots[s], p)
		}
	}
}

// reconcile makes what runs what should run. When it returns, nothing runs that must not.
func (c *Crew) reconcile() {
	c.changing.Lock()
	defer c.changing.Unlock()
	c.mu.Lock()
	should := map[string]declared.Connector{}
	if !c.mu.ended {
		for _, d := range c.mu.set.Connectors {
			if c.mu.slots[c.scopeOf(d.Name)][slot(d.Name)] {
				should[d.Name] = d
			}
		}
	}
	var stop []*hand
	for n, h := range c.mu.hands {
		if d, ok := should[n]; ok && d.Same(h.declared) {
			delete(should, n)
			continue
		}
		stop = append(stop, h)
	}
	ended := c.mu.ended
	c.mu.Unlock()

	for _, h := range stop {
		h.stop()
	}
	for _, h := range stop {
		<-h.done
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range stop {
		if !ended { // what happened at the end is told by Run
			delete(c.mu.hands, h.declared.Name)
		}
	}
	for n, d := range should {
		c.mu.hands[n] = c.start(d)
	}
}

// takeBack restarts connectors that were fenced though they are this worker's: a predecessor, which did not know yet that
// it was replaced, has started once more after us. The group's word is asked for first, for it may be we who were replaced.
func (c *Crew) takeBack(ctx context.Context) {
	for _, s := range c.Status() {
		if s.State != worker.Failed || !strings.Contains(s.Error, hublog.ErrFenced.Error()) {
			continue
		}
		c.mu.Lock()
		where := c.scopeOf(s.Name)
		c.mu.Unlock()
		if !c.o.Alone {
			_, has, err := c.log.Members(ctx, c.group(where), slotsTopic)
			if err != nil || has[slot(s.Name)] != c.id {
				continue
			}
		}
		c.o.Worker.Logger.Warn("connector was fenced by a worker that has it no more: it is restarted", "connector", s.Name)
		_ = c.Restart(s.Name) // it may be gone by now
	}
}

// start runs one connector. What it cannot run is a hand that has failed.
func (c *Crew) start(d declared.Connector) *hand {
	ctx, cancel := context.WithCancel(context.Background())
	h := &hand{declared: d, since: time.Now(), stop: cancel, done: make(chan struct{})}
	r, err := c.o.Types.Resolve(d, nil)
	if err == nil {
		o := c.o.Worker
		o.Connectors = []worker.Config{{Name: d.Name, Type: d.Type, Sink: d.Kind == declared.Sink, Values: r.Values, Node: r.Written}}
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
