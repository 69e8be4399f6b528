// Package membership finds the nodes of a cluster by gossip (SWIM, hashicorp/memberlist) and
// tells each node's addresses and tags. What it says is a hint, never the truth: who is in the cluster and who
// leads is agreed on by raft, and who is alive is decided by leases.
package membership

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Member is what a node tells about itself.
type Member struct {
	ID      int32  `json:"i"`
	Cluster string `json:"c,omitempty"` // cluster id; "" as long as the node belongs to none
	Kafka   string `json:"k,omitempty"` // host:port for clients
	Peer    string `json:"p,omitempty"` // host:port for raft and the peers' calls
	HTTP    string `json:"h,omitempty"`
	Rack    string `json:"r,omitempty"`
	Roles   string `json:"o,omitempty"`
	Version string `json:"v,omitempty"`
	Expect  int    `json:"e,omitempty"` // nodes before the first bootstrap, as this node was told
	Gossip  string `json:"-"`           // where it was heard from
}

// Options make a List.
type Options struct {
	Self Member
	Bind string // host:port of the gossip listener; port 0 picks one
	// Seeds are gossip addresses of other nodes, host:port with all addresses that the name has, or file:PATH with one such on a line. The rejoin
	// loop tries them for good; it looks names up, and reads files, again each time.
	Seeds []string
	// Keys are of 16, 24 or 32 bytes: the first encrypts, any of them decrypts, and who has none of them is not heard. Nil: gossip is plain, for good.
	Keys [][]byte
	// Removed says that a node was removed from the cluster: it is forgotten once it is silent. Nil: none is.
	Removed func(id int32) bool
	// Logger hears what gossip itself has to say, at debug. Nil: silent.
	Logger *slog.Logger
}

// List is the nodes that this one has heard of. All methods may be called concurrently.
type List struct {
	o       Options
	list    *memberlist.Memberlist
	ring    *memberlist.Keyring // nil: plain
	addr    string
	changed chan struct{} // room for one

	mu    sync.Mutex
	self  Member
	known map[int32]Member // the newest word of each, dead ones too: their address may still be right
	alive map[int32]bool
}

// Open binds the gossip listener. Nothing is sent before Run.
func Open(o Options) (*List, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	host, p, err := net.SplitHostPort(o.Bind)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: %w", o.Bind, err)
	}
	port, err := strconv.Atoi(p)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: %w", o.Bind, err)
	}
	l := &List{o: o, changed: make(chan struct{}, 1), self: o.Self, known: map[int32]Member{}, alive: map[int32]bool{}}
	conf := memberlist.DefaultLANConfig()
	conf.Name = strconv.Itoa(int(o.Self.ID))
	conf.BindAddr, conf.BindPort, conf.AdvertisePort = host, port, 0
	if host == "" {
		conf.BindAddr = "0.0.0.0"
	}
	conf.TCPTimeout = 2 * time.Second
	conf.ProbeInterval, conf.ProbeTimeout = 500*time.Millisecond, 250*time.Millisecond
	conf.PushPullInterval = 10 * time.Second
	conf.EnableCompression = false // of some hundred bytes, for which LZW takes 64 KiB of tables each time; compressed ones are read all the same
	// A node that comes back at another address takes its name over from its dead self.
	conf.DeadNodeReclaimTime = time.Second
	if len(o.Keys) > 0 {
		if l.ring, err = memberlist.NewKeyring(o.Keys, o.Keys[0]); err != nil {
			return nil, fmt.Errorf("the keys of gossip: %w", err)
		}
		conf.Keyring = l.ring
	}
	conf.Delegate, conf.Events = (*delegate)(l), (*delegate)(l)
	conf.LogOutput = nil
	conf.Logger = log.New(lines{o.Logger}, "", 0)
	if l.list, err = memberlist.Create(conf); err != nil {
		return nil, fmt.Errorf("gossip on %s: %w", o.Bind, err)
	}
	// Read before anybody can call SetCluster: memberlist then writes to the node that LocalNode gives away.
	l.addr = l.list.LocalNode().Address()
	return l, nil
}

// Addr is the real gossip address.
func (l *List) Addr() string { return l.addr }

// Members are the nodes that seem alive, this one too, by id.
func (l *List) Members() []Member {
	// Not memberlist's own list: it changes the nodes in it while they are read.
	l.mu.Lock()
	var list []Member
	for id := range l.alive {
		list = append(list, l.known[id])
	}
	l.mu.Unlock()
	slices.SortFunc(list, func(a, b Member) int { return int(a.ID) - int(b.ID) })
	return list
}

// Lookup gives the newest word of a node, alive or not.
func (l *List) Lookup(id int32) (Member, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, ok := l.known[id]
	return m, ok
}

// Changed is told when the members may have changed.
func (l *List) Changed() <-chan struct{} { return l.changed }

// SetCluster tells the others which cluster this node belongs to.
func (l *List) SetCluster(id string) error {
	l.mu.Lock()
	same := l.self.Cluster == id
	l.self.Cluster = id
	l.mu.Unlock()
	if same {
		return nil
	}
	return l.list.UpdateNode(time.Second)
}

// Keys are those that there are, the first encrypts. Nil: gossip is plain.
func (l *List) Keys() [][]byte {
	if l.ring == nil {
		return nil
	}
	return l.ring.GetKeys()
}

// SetKeys takes other keys in place of those that there are. One that is in both goes on to decrypt all the while.
func (l *List) SetKeys(keys [][]byte) error {
	if l.ring == nil || len(keys) == 0 {
		return errors.New("gossip that is plain stays plain, and what is encrypted needs a key")
	}
	for _, k := range keys {
		if err := l.ring.AddKey(k); err != nil {
			return err
		}
	}
	if err := l.ring.UseKey(keys[0]); err != nil {
		return err
	}
	kept := func(k []byte) bool {
		return slices.ContainsFunc(keys, func(o []byte) bool { return bytes.Equal(o, k) })
	}
	// Those that go have to be the last: from the midst memberlist removes them under the eyes of who reads the ring.
	for ring := l.ring.GetKeys(); ; ring = l.ring.GetKeys() {
		last := slices.IndexFunc(ring, func(k []byte) bool { return !kept(k) })
		switch {
		case last < 0:
			return nil
		case !slices.ContainsFunc(ring[last:], kept):
			if err := l.ring.RemoveKey(ring[len(ring)-1]); err != nil {
				return err
			}
		default:
			for _, k := range slices.Backward(keys) {
				if err := l.ring.UseKey(k); err != nil {
					return err
				}
			}
		}
	}
}

const (
	firstRejoin = 50 * time.Millisecond
	lastRejoin  = 3 * time.Second
)

// Run joins by the seeds and joins again whatever was lost: memberlist forgets the dead after
// 30 s, and two halves of a healed network would never meet again by themselves.
func (l *List) Run(ctx context.Context) error {
	wait := firstRejoin
	for {
		if l.o.Removed != nil {
			l.forget(l.o.Removed)
		}
		seeds, err := resolve(ctx, l.o.Seeds)
		if err != nil {
			l.o.Logger.Debug("gossip: not all seeds could be resolved", "err", err)
		}
		lost := l.lost(seeds)
		if len(lost) > 0 {
			if n, err := l.list.Join(lost); err != nil {
				l.o.Logger.Debug("gossip: not all seeds could be joined", "joined", n, "of", len(lost), "err", err)
			}
			wait = min(wait*2, lastRejoin)
		} else {
			wait = lastRejoin
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// forget drops the silent nodes that are so.
func (l *List) forget(so func(id int32) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.known {
		if !l.alive[id] && so(id) {
			delete(l.known, id)
		}
	}
}

// lost are the seeds, and the last addresses of known nodes, that are not among the members.
func (l *List) lost(seeds []string) []string {
	there := map[string]bool{l.Addr(): true}
	for _, m := range l.Members() {
		there[m.Gossip] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost []string
	add := func(addr string) {
		if addr != "" && !there[addr] {
			there[addr] = true
			lost = append(lost, addr)
		}
	}
	for _, s := range seeds {
		add(s)
	}
	for _, m := range l.known {
		add(m.Gossip)
	}
	return lost
}

// Close leaves without a word: the others' leases tell. Leave says it before.
func (l *List) Close() error { return l.list.Shutdown() }

// Leave tells the others that this node goes.
func (l *List) Leave(timeout time.Duration) error { return l.list.Leave(timeout) }

func parse(n *memberlist.Node) (Member, error) {
	var m Member
	if err := json.Unmarshal(n.Meta, &m); err != nil {
		return m, err
	}
	if strconv.Itoa(int(m.ID)) != n.Name {
		return m, errors.New("its id is not its name")
	}
	m.Gossip = n.Address()
	return m, nil
}

// delegate is List as memberlist calls it; none of its methods blocks.
type delegate List

func (d *delegate) NodeMeta(limit int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := json.Marshal(d.self)
	if err != nil || len(b) > limit {
		d.o.Logger.Error("gossip: this node's tags are too long to be told", "bytes", len(b), "limit", limit)
		return nil
	}
	return b
}

func (d *delegate) NotifyMsg([]byte)                {}
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d *delegate) LocalState(bool) []byte          { return nil }
func (d *delegate) MergeRemoteState([]byte, bool)   {}

func (d *delegate) NotifyJoin(n *memberlist.Node)   { d.heard(n) }
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.heard(n) }

func (d *delegate) NotifyLeave(n *memberlist.Node) {
	if id, err := strconv.ParseInt(n.Name, 10, 32); err == nil {
		d.mu.Lock()
		delete(d.alive, int32(id))
		d.mu.Unlock()
	}
	d.tell()
}

// maxKnown bounds what a stranger on the gossip port can make this node remember.
const maxKnown = 4096

func (d *delegate) heard(n *memberlist.Node) {
	m, err := parse(n)
	if err != nil {
		d.o.Logger.Warn("gossip: a node tells what is not understood", "name", n.Name, "addr", n.Address(), "err", err)
		return
	}
	d.mu.Lock()
	if _, ok := d.known[m.ID]; ok || len(d.known) < maxKnown {
		d.known[m.ID] = m
		d.alive[m.ID] = true
	}
	d.mu.Unlock()
	d.tell()
}

func (d *delegate) tell() {
	select {
	case d.changed <- struct{}{}:
	default: // told already
	}
}

// lines takes memberlist's log; it tells its every step, and steady state is silent here.
type lines struct{ l *slog.Logger }

var _ io.Writer = lines{}

func (w lines) Write(b []byte) (int, error) {
	w.l.Debug("gossip: " + string(b))
	return len(b), nil
}
