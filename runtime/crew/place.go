package crew

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/worker"
)

// Host is this worker's name in the answers of the REST API: where it can be asked, as Kafka Connect has it.
func (c *Crew) Host() string { return c.o.HTTP }

// Registry is what can be configured.
func (c *Crew) Registry() connectors.Registry { return c.o.Worker.Registry }

// askGroup bounds how long the group's coordinator may take: its node may have just died.
const askGroup = 3 * time.Second

// ask asks the group who has what; while it is sharing out anew, nobody has anything.
func (c *Crew) ask(ctx context.Context) (owners, error) {
	ctx, cancel := context.WithTimeout(ctx, askGroup)
	defer cancel()
	members, err := c.log.Members(ctx, c.group())
	if err != nil {
		return owners{}, err
	}
	return ownersOf(members), nil
}

// mayBeBound says whether other workers may have parts of a connector: it is bound to its host, or of a type that is missing here.
func (c *Crew) mayBeBound(d declared.Connector) bool {
	return d.Kind == declared.Source && !slices.ContainsFunc(c.o.Worker.Registry.Sources, func(t connectors.SourceType) bool { return t.Name == d.Type && !t.HostBound })
}

// Places says of every declared connector whether it runs here, and who the other workers are that may run
// it. Of one that is bound to its host each host has a part; here counts this host's.
func (c *Crew) Places(ctx context.Context) (all []declared.Place, others []string, err error) {
	all = []declared.Place{}
	elsewhere := false
	c.mu.Lock()
	for _, d := range c.mu.set.Connectors {
		here := c.mu.hands[d.Name] != nil
		all = append(all, declared.Place{Connector: d, Here: here})
		elsewhere = elsewhere || !here || c.mayBeBound(d)
	}
	c.mu.Unlock()
	if c.o.Alone || !elsewhere {
		return all, nil, nil
	}
	has, err := c.ask(ctx)
	c.mu.Lock()
	if err != nil { // when nobody can say who is there, it is who was when last heard of
		has = owners{names: c.mu.known}
	}
	c.mu.known = has.names
	c.mu.Unlock()
	others = c.except(has.names)
	for i, p := range all {
		if c.mayBeBound(p.Connector) {
			all[i].Parts = c.except(has.all(p.Name))
		}
		if !p.Here {
			_, all[i].HTTP = split(has.of(p.Name, c.o.Worker.Host))
		}
	}
	return all, others, nil
}

// local finds a connector that runs here.
func (c *Crew) local(name string) (*hand, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.mu.hands[name]; h != nil {
		return h, nil
	}
	return nil, fmt.Errorf("%w here: %s", worker.ErrUnknown, name)
}

func (c *Crew) able(name string) (*worker.Worker, error) {
	h, err := c.local(name)
	if err != nil {
		return nil, err
	}
	if h.w == nil {
		return nil, fmt.Errorf("%w: %s: %w", worker.ErrNotRunning, name, h.unfit)
	}
	return h.w, nil
}

// Status is the state of the connectors that run here, by name. One that is not declared any more is left out, though it may be ending still.
func (c *Crew) Status() []worker.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []worker.Status{}
	for n, h := range c.mu.hands {
		if !slices.ContainsFunc(c.mu.set.Connectors, func(d declared.Connector) bool { return d.Name == n }) {
			continue
		}
		if h.w != nil {
			out = append(out, h.w.Status()...)
			continue
		}
		out = append(out, worker.Status{Name: h.declared.Name, Type: h.declared.Type, Sink: h.declared.Kind == declared.Sink,
			State: cmp.Or(worker.State(h.declared.State), worker.Failed), Error: h.unfit.Error(), Since: h.since, Lag: -1, Behind: time.Since(h.since)})
	}
	slices.SortFunc(out, func(a, b worker.Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Config is a declared connector's flat map, secrets as stars.
func (c *Crew) Config(name string) (map[string]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.mu.set.Connectors {
		if d.Name == name {
			return c.o.Types.Flat(d), nil
		}
	}
	return nil, fmt.Errorf("%w: %s", worker.ErrUnknown, name)
}

// Want is worker.Worker's, of a connector that runs here. It lasts until what is declared says otherwise.
func (c *Crew) Want(name string, s worker.State) error {
	w, err := c.able(name)
	if err != nil {
		return err
	}
	return w.Want(name, s)
}

// Restart starts a connector's tasks anew. One that could not run here is tried again: a variable is not set by
// itself, but a secret's file may have come.
func (c *Crew) Restart(name string) error {
	h, err := c.local(name)
	if err != nil {
		return err
	}
	if h.w != nil {
		return h.w.Restart(name)
	}
	c.mu.Lock()
	if c.mu.hands[name] == h {
		delete(c.mu.hands, name)
	}
	c.mu.Unlock()
	c.reconcile()
	return nil
}

// Flush, Positions, SetPositions, Offsets, Topics and ForgetTopics are worker.Worker's, of a connector that runs here.
func (c *Crew) Flush(ctx context.Context, name string) (map[connectors.TopicPartition]int64, error) {
	w, err := c.able(name)
	if err != nil {
		return nil, err
	}
	return w.Flush(ctx, name)
}

func (c *Crew) Positions(ctx context.Context, name string) ([]worker.PositionOf, error) {
	w, err := c.able(name)
	if err != nil {
		return nil, err
	}
	return w.Positions(ctx, name)
}

func (c *Crew) Offsets(ctx context.Context, name string) ([]worker.OffsetOf, error) {
	w, err := c.able(name)
	if err != nil {
		return nil, err
	}
	return w.Offsets(ctx, name)
}

func (c *Crew) SetPositions(ctx context.Context, name string, positions []worker.PositionOf) error {
	w, err := c.able(name)
	if err != nil {
		return err
	}
	return w.SetPositions(ctx, name, positions)
}

func (c *Crew) Topics(name string) ([]string, error) {
	w, err := c.able(name)
	if err != nil {
		return nil, err
	}
	return w.Topics(name)
}

func (c *Crew) ForgetTopics(name string) error {
	w, err := c.able(name)
	if err != nil {
		return err
	}
	return w.ForgetTopics(name)
}

// Peers are the REST APIs of the group's other workers.
func (c *Crew) Peers(ctx context.Context) ([]string, error) {
	c.mu.Lock()
	none := c.o.Alone || len(c.mu.set.Connectors) == 0 // then nobody has joined the group
	c.mu.Unlock()
	if none {
		return nil, nil
	}
	has, err := c.ask(ctx)
	if err != nil {
		return nil, err
	}
	return c.except(has.names), nil
}

// except are the addresses of workers other than this one.
func (c *Crew) except(names []string) (http []string) {
	for _, n := range names {
		if _, at := split(n); n != c.id && at != "" {
			http = append(http, at)
		}
	}
	return http
}

// ClusterID is the log's name for itself.
func (c *Crew) ClusterID(ctx context.Context) (string, error) { return c.log.ClusterID(ctx) }
