package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/metadata"
)

// SessionTimeout is how long a node's lease holds after its last heartbeat, and HeartbeatEvery how often it
// sends one. Like broker.session.timeout.ms, which Kafka has at 9 s.
const (
	SessionTimeout = time.Second
	HeartbeatEvery = 200 * time.Millisecond
	StepEvery      = 50 * time.Millisecond  // of the active controller
	HoldUp         = SessionTimeout / 4     // of the active controller: what takes longer is nobody else's silence
	uncleanEvery   = time.Second            // between two looks for partitions that an unclean election could help
	silence        = 3 * HeartbeatEvery / 2 // after which it is looked whether a node's process is gone, and how long a node is sure of its own lease
	refusals       = 2                      // in a row, by which it is
	callHeartbeat  = "heartbeat"
	askTimeout     = 300 * time.Millisecond // for all nodes that want to be admitted
	maxDeaf        = 30 * time.Second       // between two questions to one of them that does not answer
)

// ErrFenced is the answer to a heartbeat of a registration that is over: the node registers anew.
var ErrFenced = errors.New("this registration is fenced")

// Active is the controller's work that only the leader of the metadata quorum does: it keeps the leases, fences who
// has lost his, and admits new nodes. It runs on every node and works on one.
//
// Leases live in its memory only. A leader that is new, or was held up itself, gives everybody a whole
// lease before it fences: it cannot tell who was silent from whom it did not hear.
type Active struct {
	o      ActiveOptions
	logger *slog.Logger

	mu     sync.Mutex
	term   uint64                    // that it leads in; 0: it does not
	leases map[metadata.NodeID]lease // of this term
	now    func() time.Time
	refuse map[metadata.NodeID]string // nodes that cannot be admitted, and why: said once

	own   ownLease     // on every node
	apart atomic.Int64 // see ClockApart

	// Of Step alone.
	away                     map[metadata.NodeID]int64 // fenced nodes that this term has told of, and since when they are
	last, admitted, balanced time.Time
	drained                  time.Time
	watch                    watch                   // on the members' lives, of this term
	look                     bool                    // the nodes are to be looked at
	refused                  map[metadata.NodeID]int // how often in a row, while it is silent
	deaf                     map[consensus.Member]deaf
	looked                   struct {
		index uint64
		at    time.Time
	} // for partitions that an unclean election could help
}

type lease struct {
	epoch int64
	until time.Time
}

// Group is the metadata quorum as Active needs it.
type Group interface {
	Proposer
	Term() uint64
	Barrier(context.Context) error
	Leader() (metadata.NodeID, bool)
	Admit(consensus.Member) error
	Members() (voters, others []consensus.Member, err error)
	Status(ctx context.Context, addr string) (consensus.Status, error)
}

// Voters change who votes in the metadata quorum.
type Voters interface {
	Promote(consensus.Member) error
	Demote(metadata.NodeID) error
	Expel(metadata.NodeID) error
	HandOverTo(consensus.Member) error
	CaughtUp(context.Context, consensus.Member) bool
}

// ActiveOptions make an Active.
type ActiveOptions struct {
	Group Group
	Node  metadata.NodeID
	// Nodes are the nodes that seem alive by gossip, this one too.
	Nodes func() []consensus.Candidate
	// Changed is told when Nodes may have changed. Nil: never.
	Changed <-chan struct{}
	// NewClusterID names a cluster that has no name yet.
	NewClusterID func() string
	Rebalance    Rebalance
	// Unclean says whether a topic's partitions may be led by anybody when there is nobody else. Nil: none.
	Unclean func(image *metadata.Image, topic string) bool
	// Voters keep 3 to 5 living nodes with a vote. Nil: nobody's vote changes, and nobody is expelled.
	Voters Voters
	// VoterDead is how long a voter is dead before another node votes in its place. 0: 5 minutes.
	VoterDead time.Duration
	// Refused says that a node's machine is there, and that no process listens where the node did; it may be called for several nodes at a time.
	// Nil: that is not known of anybody.
	Refused func(context.Context, metadata.NodeID) bool
	Now     func() time.Time // nil: time.Now
	Logger  *slog.Logger     // nil: silent
}

// NewActive makes an Active.
func NewActive(o ActiveOptions) *Active {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.VoterDead == 0 {
		o.VoterDead = 5 * time.Minute
	}
	if o.Rebalance.Every == 0 {
		o.Rebalance.Every = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Active{
		o: o, logger: o.Logger, now: o.Now, look: true,
		refused: map[metadata.NodeID]int{},
		away:    map[metadata.NodeID]int64{}, leases: map[metadata.NodeID]lease{}, refuse: map[metadata.NodeID]string{}, watch: watch{},
	}
}

// Run works until ctx ends.
func (a *Active) Run(ctx context.Context) error {
	tick := time.NewTicker(StepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.o.Changed:
			a.look = true
		case <-tick.C:
		}
		a.Step(ctx)
	}
}

// Step does what is due; Run calls it every StepEvery. It is for one goroutine.
func (a *Active) Step(ctx context.Context) {
	now := a.now()
	if a.last.IsZero() {
		a.last, a.balanced = now, now.Add(a.o.Rebalance.Every)
	}
	late := now.Sub(a.last) - StepEvery
	a.last = now
	leads, newly := a.lead(ctx)
	if !leads {
		return
	}
	if newly { // the leases are from now: what it took to become the leader is not added to them
		now, late = a.now(), 0
		a.last = now
	}
	if late > HoldUp {
		a.extend(late) // this process was held up: who is silent is not known
	}
	if a.look || now.Sub(a.admitted) > time.Second {
		asking := a.admit(ctx)
		a.look, a.admitted = false, now
		a.tendVoters(ctx)
		a.last = a.now() // a slow admission is no hold-up of others
		a.extend(a.last.Sub(now) - asking)
		a.keepELR(ctx)
	}
	a.fence(ctx)
	if now.Sub(a.drained) >= drainEvery {
		a.drained = now
		a.drain(ctx)
	}
	if index := a.o.Group.Image().Index; a.o.Unclean != nil && index != a.looked.index && now.Sub(a.looked.at) > uncleanEvery {
		a.looked.at = now
		if a.electUnclean(ctx) {
			a.looked.index = index
		}
	}
	if !a.o.Rebalance.Off && !now.Before(a.balanced) {
		a.balanced = now.Add(a.o.Rebalance.Every)
		if a.o.Rebalance.balance(ctx, a.o.Group) {
			a.balanced = now.Add(min(time.Second, a.o.Rebalance.Every))
		}
	}
}

// lead says whether this node is the active controller, and makes it one, newly then: it first learns all that
// was agreed on before.
func (a *Active) lead(ctx context.Context) (leads, newly bool) {
	term := a.o.Group.Term()
	a.mu.Lock()
	same := term == a.term
	if !same {
		a.term = 0
	}
	a.mu.Unlock()
	if same || term == 0 {
		return term != 0, false
	}
	ready, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := a.o.Group.Barrier(ready); err != nil {
		return false, false // tried again, if it leads still
	}
	if a.o.Group.Image().ClusterID == "" {
		for _, c := range []metadata.Command{
			&metadata.SetClusterID{ID: a.o.NewClusterID()},
			&metadata.SetFeatures{Levels: map[string]int16{"transaction.version": 2, metadata.FeatureELR: 1}},
		} {
			if _, err := a.o.Group.Propose(ready, c); err != nil {
				return false, false
			}
		}
	}
	until := a.now().Add(SessionTimeout)
	a.mu.Lock()
	a.term = term
	clear(a.leases)
	clear(a.watch) // what an earlier leader saw is not known
	clear(a.away)
	for id, n := range a.o.Group.Image().Nodes {
		a.leases[id] = lease{n.Epoch, until}
		if n.Fenced {
			a.away[id] = n.Since // an earlier leader has told of it
		}
	}
	a.mu.Unlock()
	a.logger.Info("this node is the active controller", "term", term)
	return true, true
}

func (a *Active) extend(by time.Duration) {
	a.watch.shift(by)
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, l := range a.leases {
		l.until = l.until.Add(by)
		a.leases[id] = l
	}
}

// fence ends the registrations that have no lease. They are ended one after the other: the first gives
// its partitions to nodes whose leases hold.
func (a *Active) fence(ctx context.Context) {
	a.probe(ctx)
	now := a.now()
	nodes := a.o.Group.Image().Nodes
	maps.DeleteFunc(a.away, func(id metadata.NodeID, _ int64) bool { return nodes[id] == nil })
	for _, id := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[id]
		since, away := a.away[id]
		if n.Fenced {
			if !away {
				a.away[id] = n.Since
				a.logger.Info("a node has left", "node", id, "epoch", n.Epoch)
			}
			continue
		}
		if away {
			delete(a.away, id)
			was := "unknown"
			if since != 0 && n.Since >= since { // of two leaders' clocks
				was = (time.Duration(n.Since-since) * time.Millisecond).String()
			}
			a.logger.Info("a node is back", "node", id, "epoch", n.Epoch, "away", was)
		}
		a.mu.Lock()
		l, ok := a.leases[id]
		if !ok || l.epoch < n.Epoch { // registered just now
			l = lease{n.Epoch, now.Add(SessionTimeout)}
			a.leases[id] = l
		}
		a.mu.Unlock()
		why := "a node has lost its lease: it is fenced"
		switch {
		case !now.Before(l.until):
		case a.refused[id] >= refusals:
			why = "a node's process is gone: it is fenced"
		default:
			continue
		}
		before := a.o.Group.Image()
		step, cancel := context.WithTimeout(ctx, time.Second)
		r, err := a.o.Group.Propose(step, &metadata.FenceNode{ID: id, Epoch: n.Epoch})
		cancel()
		if err != nil {
			a.logger.Warn("a node could not be fenced", "node", id, "err", err)
			return
		}
		if after := a.o.Group.Image().Nodes[id]; r.Err == nil && after != nil && after.Fenced { // else it has registered meanwhile
			a.away[id] = after.Since
			a.logger.Warn(why, "node", id, "epoch", n.Epoch, "led", before.Led(id), "replicas", before.Hosted(id))
		}
	}
}

// probe looks whether the processes of silent nodes are gone. One that hangs, or a machine that is busy, still takes connections in its kernel, and one
// that cannot be reached does not answer; only where nobody listens is a connection refused. A node that is fenced by mistake registers
// anew: leases are there so that this is rare, not for safety, which epochs and the ISR give.
func (a *Active) probe(ctx context.Context) {
	if a.o.Refused == nil {
		return
	}
	now := a.now()
	var silent []metadata.NodeID
	a.mu.Lock()
	for id, n := range a.o.Group.Image().Nodes {
		l, ok := a.leases[id]
		if ok && l.epoch == n.Epoch && !n.Fenced && id != a.o.Node && l.until.Sub(now) <= SessionTimeout-silence {
			silent = append(silent, id)
		} else {
			delete(a.refused, id)
		}
	}
	a.mu.Unlock()
	if len(silent) == 0 {
		return
	}
	asking, cancel := context.WithTimeout(ctx, StepEvery)
	defer cancel()
	gone := make([]bool, len(silent))
	var wg sync.WaitGroup
	for k, id := range silent {
		wg.Go(func() { gone[k] = a.o.Refused(asking, id) })
	}
	wg.Wait()
	for k, id := range silent {
		if gone[k] {
			a.refused[id]++
		} else {
			delete(a.refused, id)
		}
	}
}

// heartbeat is what a node sends.
type heartbeat struct {
	Node  metadata.NodeID `json:"n"`
	Epoch int64           `json:"e"`
}

type heartbeatReply struct {
	Fenced bool  `json:"f,omitempty"`
	Clock  int64 `json:"t,omitempty"` // of the controller: Unix time in ms
}

// Heartbeat renews the lease of a node's registration. Errors: consensus.ErrNotLeader, ErrFenced.
func (a *Active) Heartbeat(node metadata.NodeID, epoch int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.term == 0 || a.o.Group.Term() != a.term {
		return consensus.ErrNotLeader
	}
	n := a.o.Group.Image().Nodes[node]
	if n == nil || n.Fenced || n.Epoch != epoch {
		return ErrFenced
	}
	a.leases[node] = lease{epoch, a.now().Add(SessionTimeout)}
	return nil
}

// Serve answers the heartbeats of other nodes.
func (a *Active) Serve(p *consensus.Peers) {
	p.Handle(callHeartbeat, func(_ context.Context, b []byte) ([]byte, error) {
		var h heartbeat
		if err := json.Unmarshal(b, &h); err != nil {
			return nil, err
		}
		err := a.Heartbeat(h.Node, h.Epoch)
		if errors.Is(err, ErrFenced) {
			return json.Marshal(heartbeatReply{Fenced: true})
		}
		if err != nil {
			return nil, err
		}
		return json.Marshal(heartbeatReply{Clock: a.now().UnixMilli()})
	})
}

// SendHeartbeat renews the lease of this node's registration, wherever the controller is. Errors: as Heartbeat,
// or that nobody was reached.
func (a *Active) SendHeartbeat(ctx context.Context, p *consensus.Peers, address func(metadata.NodeID) (string, bool), epoch int64) error {
	sent := a.now()
	err := a.sendHeartbeat(ctx, p, address, epoch)
	switch {
	case err == nil:
		a.own.renew(sent.Add(silence))
	case errors.Is(err, ErrFenced):
		a.own.lapse()
	}
	return err
}

func (a *Active) sendHeartbeat(ctx context.Context, p *consensus.Peers, address func(metadata.NodeID) (string, bool), epoch int64) error {
	leader, ok := a.o.Group.Leader()
	if !ok {
		return fmt.Errorf("%w: there is none now", consensus.ErrNotLeader)
	}
	if leader == a.o.Node {
		return a.Heartbeat(a.o.Node, epoch)
	}
	addr, ok := address(leader)
	if !ok {
		return fmt.Errorf("the address of controller %d is not known", leader)
	}
	var r heartbeatReply
	sent := a.now()
	if err := p.Call(ctx, addr, callHeartbeat, heartbeat{a.o.Node, epoch}, &r); err != nil {
		return err
	}
	if r.Clock != 0 {
		a.apart.Store(int64(clocksApart(sent, a.now(), time.UnixMilli(r.Clock))))
	}
	if r.Fenced {
		return ErrFenced
	}
	return nil
}

// clocksApart is by how much at least this clock is ahead of another one, which was read between two moments; below 0: behind. 0: they may be the same.
func clocksApart(sent, received, read time.Time) time.Duration {
	switch {
	case read.Add(time.Millisecond).Before(sent): // it was cut to milliseconds
		return sent.Sub(read)
	case read.After(received):
		return received.Sub(read)
	}
	return 0
}

// ClockApart is by how much at least this node's clock is ahead of the controller's, as the last heartbeat told; below 0: behind.
func (a *Active) ClockApart() time.Duration { return time.Duration(a.apart.Load()) }

// admit takes the nodes that gossip tells of into the metadata quorum, if they belong to no other, and says how long it waited for what they say of themselves.
func (a *Active) admit(ctx context.Context) (asking time.Duration) {
	voters, others, err := a.o.Group.Members()
	if err != nil {
		return 0 // it does not lead any more
	}
	image := a.o.Group.Image()
	cluster := image.Identity()
	var list, unknown []consensus.Candidate
	for _, c := range a.o.Nodes() {
		known := func(m consensus.Member) bool { return m.ID == c.ID }
		switch removed := image.Removed(c.ID); {
		case c.Cluster != "" && c.Cluster != cluster:
			a.refuseOnce(c.ID, "it belongs to cluster "+c.Cluster)
			continue
		case removed && c.Cluster != "":
			a.refuseOnce(c.ID, removedHint)
			continue
		case removed || !slices.ContainsFunc(voters, known) && !slices.ContainsFunc(others, known):
			unknown = append(unknown, c)
		}
		list = append(list, c)
	}
	began := a.now()
	said := a.ask(ctx, unknown)
	asking = min(a.now().Sub(began), askTimeout)
	for _, c := range list {
		removed := a.o.Group.Image().Removed(c.ID)
		s, ok := said[c.ID]
		switch {
		case !ok && (removed || slices.Contains(unknown, c)):
			continue // tried again
		case ok && s.HasState && s.Cluster != cluster:
			a.refuseOnce(c.ID, "it has founded or joined another cluster: give it an empty data directory")
			continue
		case removed && !a.readmit(ctx, c.ID, s):
			continue
		}
		if err := a.o.Group.Admit(c.Member); err != nil {
			a.logger.Debug("a node could not be admitted", "node", c.ID, "err", err)
			break
		}
	}
	return asking
}

// deaf is how a node is left alone that does not answer, as one whose port a firewall closes: for longer each time.
type deaf struct {
	pause time.Duration
	until time.Time
}

// ask has nodes say what they are, all of them within askTimeout: nobody is fenced meanwhile.
func (a *Active) ask(ctx context.Context, list []consensus.Candidate) map[metadata.NodeID]consensus.Status {
	asked, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var mu sync.Mutex
	said := map[metadata.NodeID]consensus.Status{}
	silent := map[consensus.Member]deaf{}
	var wg sync.WaitGroup
	for _, c := range list {
		before := a.deaf[c.Member]
		if a.now().Before(before.until) {
			mu.Lock()
			silent[c.Member] = before
			mu.Unlock()
			continue
		}
		wg.Go(func() {
			s, err := a.o.Group.Status(asked, c.Address)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && s.ID == c.ID:
				said[c.ID] = s
			case asked.Err() != nil:
				pause := min(max(2*before.pause, time.Second), maxDeaf)
				silent[c.Member] = deaf{pause, a.now().Add(pause)}
			}
		})
	}
	wg.Wait()
	a.deaf = silent
	return said
}

const removedHint = "it was removed from the cluster, and its data directory is from before: give it an empty one"

// readmit lets a removed node come back that has come with nothing, once its old self is out of the quorum.
func (a *Active) readmit(ctx context.Context, node metadata.NodeID, s consensus.Status) bool {
	if s.HasState {
		a.refuseOnce(node, removedHint)
		return false
	}
	voters, others, err := a.o.Group.Members()
	if err != nil || slices.ContainsFunc(slices.Concat(voters, others), func(m consensus.Member) bool { return m.ID == node }) {
		return false // tried again
	}
	step, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err = a.o.Group.Propose(step, &metadata.ReadmitNode{ID: node})
	return err == nil
}

func (a *Active) refuseOnce(id metadata.NodeID, why string) {
	a.mu.Lock()
	said := a.refuse[id] == why
	a.refuse[id] = why
	a.mu.Unlock()
	if !said {
		a.logger.Error("a node is not admitted to this cluster", "node", id, "why", why)
	}
}
