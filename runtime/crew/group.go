package crew

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/task"
)

// presence is what a worker says of itself when it joins; JSON, so that a later version can say more.
type presence struct {
	Name       string   `json:"name"`
	Set        int64    `json:"set"` // the version of the declared set that it knows
	Generation int32    `json:"generation"`
	Owned      []string `json:"owned"`
	Releasing  []string `json:"releasing,omitempty"`
	Bound      []string `json:"bound,omitempty"`   // connectors of the set that it knows to be bound to their host
	Machine    string   `json:"machine,omitempty"` // the kernel's boot id: of members that live, two that differ are two machines
}

// orders are what a worker is told.
type orders struct {
	Run   []string `json:"run"`
	Watch []string `json:"watch,omitempty"` // names of workers
}

// watchers is how many workers watch each one: two may go at once.
const watchers = 2

func (c *Crew) metadata() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := presence{Name: c.id, Set: c.mu.set.Version, Generation: c.mu.generation, Owned: []string{}, Machine: c.machine}
	for n := range c.mu.mine {
		p.Owned = append(p.Owned, n)
	}
	for n := range c.mu.hands {
		if !c.mu.mine[n] {
			p.Releasing = append(p.Releasing, n)
		}
	}
	for _, d := range c.mu.set.Connectors {
		if c.hostBound(d) {
			p.Bound = append(p.Bound, d.Name)
		}
	}
	slices.Sort(p.Owned)
	slices.Sort(p.Releasing)
	text, _ := json.Marshal(p) // strings and numbers: never fails
	return text
}

// share shares out what is declared, as far as this worker knows it.
func (c *Crew) share(all []hublog.Attendee) map[string][]byte {
	c.mu.Lock()
	jobs := jobsOf(c.mu.set, c.hostBound)
	c.mu.Unlock()
	if slices.ContainsFunc(jobs, func(j job) bool { return j.bound }) {
		for _, host := range twins(all) {
			c.o.Worker.Logger.Error("several machines of the group have one host name: the log files of only one of them are read; give each a name of its own", "host", host)
		}
	}
	return give(jobs, all)
}

// twins are host names that more than one machine has.
func twins(all []hublog.Attendee) (hosts []string) {
	machine := map[string]string{}
	for _, a := range all {
		var p presence
		if err := json.Unmarshal(a.Metadata, &p); err != nil || p.Machine == "" {
			continue
		}
		host, _ := split(p.Name)
		if have, ok := machine[host]; ok && have != p.Machine && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
		machine[host] = p.Machine
	}
	return hosts
}

// give makes everybody's orders of what all say of themselves. A job is bound to its host if anybody knows it to be.
func give(jobs []job, all []hublog.Attendee) map[string][]byte {
	var peers []peer
	bound := map[string]bool{}
	names := map[string]string{}
	var ring []string
	for _, a := range all {
		var p presence
		if err := json.Unmarshal(a.Metadata, &p); err != nil {
			continue // nobody that knows what it is to do: it is given nothing
		}
		host, _ := split(p.Name)
		peers = append(peers, peer{a.ID, host, p.Owned, p.Releasing, p.Generation})
		names[a.ID] = p.Name
		ring = append(ring, p.Name)
		for _, n := range p.Bound {
			bound[n] = true
		}
	}
	jobs = slices.Clone(jobs)
	for i, j := range jobs {
		jobs[i].bound = j.bound || bound[j.name]
	}
	slices.Sort(ring)
	ring = slices.Compact(ring)
	out := map[string][]byte{}
	for id, run := range share(jobs, peers) {
		o := orders{Run: run}
		at := slices.Index(ring, names[id])
		for i := 1; i <= watchers && i < len(ring); i++ {
			o.Watch = append(o.Watch, ring[(at+i)%len(ring)])
		}
		text, _ := json.Marshal(o) // strings: never fails
		out[id] = text
	}
	return out
}

// assigned takes this worker's orders.
func (c *Crew) assigned(generation int32, told []byte) {
	var o orders
	if err := json.Unmarshal(told, &o); err != nil && len(told) > 0 {
		c.o.Worker.Logger.Error("what the group says cannot be read: this worker runs nothing", "error", err)
	}
	c.mu.Lock()
	had := c.mu.mine
	c.mu.generation, c.mu.watched = generation, o.Watch
	c.mu.mine = map[string]bool{}
	for _, n := range o.Run {
		c.mu.mine[n] = true
	}
	free, gives := false, 0
	for n := range had {
		if !c.mu.mine[n] {
			gives++
			free = free || c.mu.hands[n] == nil // what it never began it need not end
		}
	}
	m, has := c.mu.member, len(c.mu.mine)
	c.mu.Unlock()
	if takes := has - len(had) + gives; takes > 0 || gives > 0 {
		c.o.Worker.Logger.Info("connectors are shared out", "generation", generation, "here", has, "taken", takes, "given", gives)
	}
	if free {
		m.Rejoin()
	}
	c.wake()
}

// lost ends everything before it finds out by itself that others have it: a task that starts once more would fence its heir. What is bound to
// this host goes on, unless another process has this worker's name: no other host is its heir, and it holds open what may be nowhere else by now (deleted log files).
func (c *Crew) lost(replaced bool) {
	c.mu.Lock()
	mine := map[string]bool{}
	for n, h := range c.mu.hands {
		if !replaced && c.mu.mine[n] && c.hostBound(h.declared) {
			mine[n] = true
		}
	}
	c.mu.mine, c.mu.watched = mine, nil
	c.mu.Unlock()
	c.reconcile()
}

// jobsOf is what a set has to share out.
func jobsOf(set declared.Set, bound func(declared.Connector) bool) []job {
	jobs := make([]job, len(set.Connectors))
	for i, d := range set.Connectors {
		jobs[i] = job{name: d.Name, pipeline: pipelineOf(d, set), bound: bound(d)}
	}
	return jobs
}

// pipelineOf names what a connector is a part of: a source is its own, a sink that of the first source that it reads from. It
// only says what should not crowd on one worker, so it need not know every topic.
func pipelineOf(d declared.Connector, set declared.Set) string {
	if d.Kind == declared.Source {
		return d.Name
	}
	for _, s := range set.Connectors {
		if s.Kind != declared.Source {
			continue
		}
		topic := s.Name
		if t := s.Fields["topic"].Text; t != "" {
			topic = t
		}
		for _, glob := range d.Fields["topics"].List {
			if strings.HasPrefix(glob, s.Name+".") || task.Matches([]string{glob}, topic) {
				return s.Name
			}
		}
	}
	return d.Name
}

// owners are the members of the group and what they were told to run.
type owners struct {
	names []string
	runs  map[string][]string // by member
}

func ownersOf(members []hublog.Told) owners {
	out := owners{runs: map[string][]string{}}
	for _, m := range members {
		if !slices.Contains(out.names, m.Name) {
			out.names = append(out.names, m.Name)
		}
		var o orders
		if json.Unmarshal(m.Told, &o) == nil { // else it has none
			out.runs[m.Name] = append(out.runs[m.Name], o.Run...)
		}
	}
	return out
}

func (o owners) has(member, connector string) bool { return slices.Contains(o.runs[member], connector) }

// all are the members that have a connector: several, when each has its host's part.
func (o owners) all(connector string) []string {
	return slices.DeleteFunc(slices.Clone(o.names), func(member string) bool { return !o.has(member, connector) })
}

// of is the member that has a connector; of several, each of which has its host's part, that on host first.
func (o owners) of(connector, host string) (member string) {
	for _, n := range o.names {
		if !o.has(n, connector) {
			continue
		}
		if h, _ := split(n); h == host {
			return n
		}
		member = n
	}
	return member
}

// orphaned says whether nobody has something that should run, now and when last asked.
func (c *Crew) orphaned(has owners) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.mu.orphans
	c.mu.orphans = nil
	if len(has.runs) == 0 {
		return false // it is sharing out just now
	}
	again := false
	for _, d := range c.mu.set.Connectors {
		if has.of(d.Name, c.o.Worker.Host) == "" {
			c.mu.orphans = append(c.mu.orphans, d.Name)
			again = again || slices.Contains(before, d.Name)
		}
	}
	return again
}
