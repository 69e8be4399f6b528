package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/membership"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/problem"
)

// Cluster makes a node one of several. With Expect 1 and no Join it is one until others come.
type Cluster struct {
	Peer   string // host:port for raft and the peers' calls; "": 127.0.0.1:9093
	Gossip string // host:port of memberlist; "": 127.0.0.1:7946
	// Join are gossip addresses of other nodes, host:port with all addresses of a name, or file:PATH; see membership.Options.Seeds.
	Join []string
	// Expect is how many nodes wait for each other before the first of them founds the cluster. 0: 1. It has no
	// meaning once there is a cluster.
	Expect    int
	Rack      string
	Roles     string // told to others: log,worker
	HTTP      string // told to others
	Version   string // told to others
	GossipKey string // path of a file of keys that encrypt gossip, as tlsdir.ParseKeys takes it. "": that of TLSDir; without it gossip is plain
}

const (
	defaultPeer   = "127.0.0.1:9093"
	defaultGossip = "127.0.0.1:7946"
	// joinTimeout bounds the wait for the other nodes, and for the quorum, at a start.
	joinTimeout = 5 * time.Minute
	// togetherTimeout bounds the wait of a new cluster's nodes for each other's registration: so that the first topics
	// have all their replicas.
	togetherTimeout = 5 * time.Second
	leaveTimeout    = time.Second
)

func (c *Cluster) withDefaults() *Cluster {
	d := *c
	if d.Peer == "" {
		d.Peer = defaultPeer
	}
	if d.Gossip == "" {
		d.Gossip = defaultGossip
	}
	d.Expect = max(d.Expect, 1)
	return &d
}

// openPeers listens for the other nodes and begins to look for them.
func (b *Broker) openPeers(ctx context.Context) error {
	c := b.o.Cluster
	at := address{bind: c.Peer}
	l, err := at.listen(ctx)
	if err != nil {
		var p *problem.Error
		if errors.As(err, &p) && p.Code == "port-in-use" {
			p.Where, p.Hint = "--peer "+c.Peer, "stop what listens there, or take another with --peer; port 0 picks a free one"
		}
		return err
	}
	keys, err := b.gossipKeys()
	if err != nil {
		_ = l.Close() // the first error tells more
		return err
	}
	first := keys()
	var secure *consensus.PeersTLS
	if b.secrets != nil {
		secure = &consensus.PeersTLS{Server: b.secrets.Server(), Client: b.secrets.Client, Hold: b.secrets.Hold}
	}
	host, port := at.advertise(l.Addr())
	peer := net.JoinHostPort(host, strconv.Itoa(int(port)))
	b.links = consensus.NewPeers(consensus.PeersOptions{
		Listener: l, Advertise: peer, Logger: b.loggers.Logger("consensus"), ClusterID: b.clusterID.Load, Lookup: b.peerAddress, TLS: secure,
	})
	host, port, _ = b.reached()
	b.members, err = membership.Open(membership.Options{
		Self: membership.Member{
			ID: int32(b.o.NodeID), Cluster: b.clusterID.Load(), Kafka: net.JoinHostPort(host, strconv.Itoa(int(port))), Peer: peer,
			HTTP: c.HTTP, Rack: b.rack(), Roles: c.Roles, Version: c.Version, Expect: c.Expect,
		},
		Bind: c.Gossip, Seeds: c.Join, Keys: first, Removed: b.wasRemoved, Logger: b.loggers.Logger("membership"),
	})
	if err != nil {
		return &problem.Error{Code: "gossip", Class: problem.Environment, Where: "--gossip " + c.Gossip, What: err.Error(), Hint: "take another address with --gossip; port 0 picks a free one", Err: err}
	}
	b.early.Go(func() error { return b.members.Run(b.serving) })
	if first != nil {
		b.early.Go(func() error { b.keepKeys(b.serving, first, keys); return nil })
	}
	return nil
}

func (b *Broker) rack() string {
	if b.o.Cluster != nil && b.o.Cluster.Rack != "" {
		return b.o.Cluster.Rack
	}
	return b.o.Set["broker.rack"]
}

// peerAddress is where a node of this cluster is reached, by its newest word.
func (b *Broker) peerAddress(id metadata.NodeID) (string, bool) {
	if id == b.o.NodeID {
		return b.links.Addr(), true
	}
	m, ok := b.members.Lookup(int32(id))
	ours := b.clusterID.Load()
	if !ok || m.Peer == "" || m.Cluster != "" && ours != "" && m.Cluster != ours {
		return "", false
	}
	return m.Peer, true
}

// refused says that nothing listens any more where another node took its peers' calls. A name is not asked: it may mean several machines.
func (b *Broker) refused(ctx context.Context, id metadata.NodeID) bool {
	addr, ok := b.peerAddress(id)
	if !ok {
		return false
	}
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return false
	}
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err == nil {
		_ = nc.Close() // it is there
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// candidates are the nodes that gossip tells of.
func (b *Broker) candidates() (list []consensus.Candidate) {
	for _, m := range b.members.Members() {
		if m.Peer != "" {
			list = append(list, consensus.Candidate{
				Member: consensus.Member{ID: metadata.NodeID(m.ID), Address: m.Peer}, Cluster: m.Cluster, Expect: m.Expect,
			})
		}
	}
	return list
}

// joinCluster makes this node one of its cluster, and its Image current. It is registered later, when its logs are recovered.
func (b *Broker) joinCluster(ctx context.Context) error {
	b.active = controller.NewActive(controller.ActiveOptions{
		Group: b.quorum, Node: b.o.NodeID, Nodes: b.candidates, Changed: b.members.Changed(), NewClusterID: newClusterID, Logger: b.loggers.Logger("controller"),
		Unclean: b.control.Unclean, Refused: b.refused,
		Voters: b.quorum, VoterDead: b.control.Duration(controller.VoterDeadConfig),
		Rebalance: controller.Rebalance{
			Off: !b.control.Bool("auto.leader.rebalance.enable"), Every: time.Duration(b.control.Int("leader.imbalance.check.interval.seconds")) * time.Second,
			Percent: int(b.control.Int("leader.imbalance.per.broker.percentage")),
		},
	})
	b.active.Serve(b.links)
	ctx, stop := b.whileMember(ctx)
	defer stop()
	b.early.Go(func() error { return b.active.Run(b.serving) })
	if err := b.quorum.Found(ctx, b.o.Cluster.Expect, b.candidates); err != nil {
		if errors.Is(context.Cause(ctx), metadata.ErrRemovedNode) {
			return b.removedProblem()
		}
		return &problem.Error{Code: "no-cluster", Class: problem.Environment, Where: "--join", What: "this node found no cluster: " + err.Error(),
			Hint: "start the other nodes, with a --join that reaches one of them, and the same --expect", Err: err}
	}
	if err := b.quorum.Current(ctx); err != nil {
		if errors.Is(context.Cause(ctx), metadata.ErrRemovedNode) {
			return b.removedProblem()
		}
		return fmt.Errorf("wait for the metadata quorum: %w", err)
	}
	if err := b.dir.told(); err != nil {
		return err
	}
	b.quorum.Told()
	for b.quorum.Image().ClusterID == "" { // the first leader is about to name it
		if err := b.quorum.WaitIndex(ctx, b.quorum.Image().Index+1); err != nil {
			return fmt.Errorf("wait for the cluster's id: %w", err)
		}
	}
	return b.adopt(b.quorum.Image())
}

// adopt makes the data directory the cluster's, for good.
func (b *Broker) adopt(image *metadata.Image) error {
	if b.dir.meta.ClusterID == "" {
		if err := b.dir.setCluster(image.ClusterID, image.Restored); err != nil {
			return err
		}
	}
	id := image.Identity()
	if b.dir.meta.identity() != id {
		return b.foreignProblem(id)
	}
	b.clusterID.Store(id)
	if err := b.members.SetCluster(id); err != nil {
		b.o.Logger.Warn("gossip could not be told the cluster's id", "err", err) // a hint: it is told again with the next update
	}
	return nil
}

func (b *Broker) foreignProblem(id string) error {
	return &problem.Error{
		Code: "foreign-data-directory", Class: problem.Environment, Where: b.dir.root,
		What: fmt.Sprintf("its %s names cluster %s, its metadata cluster %s", metaName, b.dir.meta.identity(), id),
		Hint: "the directory was put together from two, or belongs to another cluster, or a restoration did not end; restore it from one copy, or end it",
	}
}

// join writes down what the directory has, before others tell it more.
func (b *Broker) join(remembered uint64) error {
	err := b.dir.join(remembered)
	if noRoom(err) { // it starts all the same (invariant 11); that a directory is new stands there already
		b.o.Logger.Warn("the disk is full: should this start come to nothing, the next one does not see that the data directory is an older copy", "dir", b.o.DataDir)
		return nil
	}
	return err
}

// register announces this node, with its logs recovered, and begins to keep its lease.
func (b *Broker) register(ctx context.Context) error {
	before := b.quorum.Image().Nodes[b.o.NodeID]
	// An empty directory has lost everything (invariant 4), and so has an older one.
	had := *b.dir.meta.Joining
	older := before != nil && had.older(before)
	lost := before != nil && (had.Fresh || older || b.tailLost(before))
	if older {
		b.o.Logger.Warn("the data directory is older than this node's last registration, as one that was put back from a copy: its replicas are in sync with nothing before they have copied what they lack",
			"dir", b.o.DataDir, "registered", before.Epoch)
	}
	host, port, _ := b.reached()
	if err := b.waitForPredecessor(ctx, b.o.NodeID, host, port); err != nil {
		return err
	}
	if err := b.announce(ctx, lost, lost && had.Fresh); err != nil {
		return b.registerProblem(err)
	}
	if err := b.dir.joined(); noRoom(err) && !had.Fresh {
		b.o.Logger.Warn("the disk is full: it could not be written down that this node is registered, so its next start counts as one that has lost its tail", "dir", b.o.DataDir)
	} else if err != nil {
		return err // a new directory must not pass for an empty one once there is something in it
	}
	b.quorum.Follow(func(i *metadata.Image) {
		if i.Removed(b.o.NodeID) {
			b.fail(b.removedProblem())
		}
	})
	b.early.Go(func() error { b.keepLease(b.serving); return nil })
	if before != nil {
		return nil
	}
	together, cancel := context.WithTimeout(ctx, togetherTimeout)
	defer cancel()
	for len(b.quorum.Image().Nodes) < b.o.Cluster.Expect {
		if err := b.quorum.WaitIndex(together, b.quorum.Image().Index+1); err != nil {
			return ctx.Err() // some have not come: topics will have fewer replicas, or wait
		}
	}
	return nil
}

// predecessorTimeout is longer than a lease, a lost leader of the quorum, and the lease that its successor gives.
const predecessorTimeout = 5 * time.Second

// waitForPredecessor returns once nobody else has a lease under this id. Whoever starts with a copy of a living node's data directory, or with its
// id, at another address must not take its place: the copy may be older than what the node has acknowledged since (invariant 4).
func (b *Broker) waitForPredecessor(ctx context.Context, id metadata.NodeID, host string, port int32) error {
	wait, cancel := context.WithTimeout(ctx, predecessorTimeout)
	defer cancel()
	for {
		image := b.quorum.Image()
		n := image.Nodes[id]
		if n == nil || n.Fenced || n.Host == host && n.Port == port {
			return nil
		}
		if b.quorum.WaitIndex(wait, image.Index+1) == nil {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c, err := b.dialAddr(ctx, n.Host, n.Port)
		if err != nil {
			return nil // it is gone; that it is not fenced may be for want of a leader
		}
		_ = c.Close() // it was there
		return &problem.Error{Code: "node-id-in-use", Class: problem.Environment, Where: fmt.Sprintf("--id %d", id),
			What: fmt.Sprintf("node %d lives, at %s:%d", id, n.Host, n.Port), Hint: "give each node its own --id and its own data directory; a copy of one is no second node"}
	}
}

func (b *Broker) announce(ctx context.Context, tailLost, empty bool) error {
	host, port, endpoints := b.reached()
	asked := time.Now()
	r, err := b.quorum.Propose(ctx, &metadata.RegisterNode{
		ID: b.o.NodeID, Host: host, Port: port, Rack: b.rack(), BootID: b.o.BootID, TailLost: tailLost, Endpoints: endpoints,
		Offline: b.replicas.Unavailable(b.quorum.Image()), MinISR: b.control.MinISR(), Empty: empty,
		Level: metadata.Level,
	})
	if err == nil {
		err = r.Err
	}
	if err == nil {
		b.epoch.Store(r.Epoch)
		b.active.Registered(asked)
	}
	return err
}

// keepLease sends heartbeats until ctx ends. A registration that was fenced meanwhile is made anew: this node was not heard
// for a while, and what it leads it does no more.
func (b *Broker) keepLease(ctx context.Context) {
	tick := time.NewTicker(controller.HeartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if b.leaving.Load() {
			return
		}
		step, cancel := context.WithTimeout(ctx, controller.SessionTimeout/2)
		err := b.active.SendHeartbeat(step, b.links, b.peerAddress, b.epoch.Load())
		cancel()
		if !errors.Is(err, controller.ErrFenced) || b.leaving.Load() {
			continue
		}
		host, port, _ := b.reached()
		if n := b.quorum.Image().Nodes[b.o.NodeID]; n != nil && n.Epoch > b.epoch.Load() && (n.Host != host || n.Port != port) {
			b.fail(&problem.Error{Code: "node-id-in-use", Class: problem.Environment, Where: fmt.Sprintf("--id %d", b.o.NodeID),
				What: fmt.Sprintf("another node has registered as %d, at %s:%d; this one stops", n.ID, n.Host, n.Port), Hint: "give each node its own --id"})
			return
		}
		step, cancel = context.WithTimeout(ctx, 5*time.Second)
		err = b.announce(step, false, false)
		cancel()
		if errors.Is(err, metadata.ErrRemovedNode) {
			b.fail(b.removedProblem())
			return
		}
		b.o.Logger.Warn("this node had lost its lease and registers anew", "epoch", b.epoch.Load(), "err", err)
	}
}

// leave gives away what this node leads, before it stops: so nobody waits for its lease to run out.
func (b *Broker) leave() {
	if b.o.Cluster == nil || b.epoch.Load() == 0 {
		return
	}
	b.leaving.Store(true)
	others := false
	for id, n := range b.quorum.Image().Nodes {
		others = others || id != b.o.NodeID && !n.Fenced
	}
	if !others {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if _, err := b.quorum.Propose(ctx, &metadata.FenceNode{ID: b.o.NodeID, Epoch: b.epoch.Load()}); err != nil {
		b.o.Logger.Warn("the cluster could not be told that this node leaves", "err", err)
	}
	b.quorum.HandOver()
	if err := b.members.Leave(leaveTimeout / 4); err != nil {
		b.o.Logger.Debug("gossip could not be told that this node leaves", "err", err)
	}
}
