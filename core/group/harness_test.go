package group

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/statelog"
	"github.com/forebayhub/forebay/core/statelog/statelogtest"
)

// node is a node with one partition of __consumer_offsets in memory.
type node struct {
	t    *testing.T
	log  *statelogtest.Memory
	im   *metadata.Image
	lead func(number int32, leading bool, epoch int32)
	mu   sync.Mutex
	c    *Coordinator
	stop func()
	ids  int

	lease Lease // of the next start
}

func (n *node) image() *metadata.Image {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.im
}
func (n *node) createTopic(context.Context) error  { return nil }
func (n *node) open(int32) (statelog.Store, error) { return n.log, nil }
func (n *node) follow(fn func(int32, bool, int32)) { n.lead = fn; fn(0, true, 1) }

func topic(name string, partitions int) *metadata.Topic {
	t := &metadata.Topic{Name: name, ID: uuid.New()}
	for i := range partitions {
		t.Partitions = append(t.Partitions, &metadata.Partition{Topic: name, TopicID: t.ID, Number: int32(i), Leader: 1})
	}
	return t
}

func newNode(t *testing.T, o Options) *node {
	im := metadata.NewImage()
	for _, tp := range []*metadata.Topic{topic(Topic, 1), topic("orders", 3)} {
		im.Topics[tp.Name], im.TopicIDs[tp.ID] = tp, tp
	}
	n := &node{t: t, log: &statelogtest.Memory{}, im: im}
	n.start(o)
	return n
}

func (n *node) start(o Options) {
	n.c = newCoordinator(Deps{NodeID: 1, Lease: n.lease, Options: o}, n)
	n.c.newID = func() string { n.ids++; return strconv.Itoa(n.ids) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = n.c.Run(ctx) }()
	n.stop = func() { cancel(); <-done }
}

// restart is a SIGKILL and a new process: what was not acknowledged is gone.
func (n *node) restart() {
	n.stop()
	n.log = n.log.Crash()
	n.start(Options{})
}

var ctx = context.Background()

// testNode runs fn in a bubble with its own clock.
func testNode(t *testing.T, o Options, fn func(t *testing.T, n *node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, o)
		defer func() { n.stop() }()
		fn(t, n)
	})
}

// client is one consumer.
type client struct {
	n        *node
	group    string
	id       string
	instance *string
	gen      int32
	version  int16
	protos   []kmsg.JoinGroupRequestProtocol
}

func (n *node) client(group string) *client {
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{"orders"}
	return &client{n: n, group: group, version: 9, protos: []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: meta.AppendTo(nil)}}}
}

func (c *client) joinOnce() *kmsg.JoinGroupResponse {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID, r.ProtocolType, r.Protocols = c.version, c.group, c.id, c.instance, "consumer", c.protos
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 10_000, 60_000
	return c.n.c.JoinGroup(ctx, r, Client{ID: "app", Host: "/127.0.0.1"})
}

// join joins, and takes a member id first when it is told to.
func (c *client) join() *kmsg.JoinGroupResponse {
	r := c.joinOnce()
	if r.ErrorCode == 79 {
		c.id = r.MemberID
		r = c.joinOnce()
	}
	if r.ErrorCode == 0 {
		c.id, c.gen = r.MemberID, r.Generation
	}
	return r
}

func (c *client) joinAsync() chan *kmsg.JoinGroupResponse {
	ch := make(chan *kmsg.JoinGroupResponse, 1)
	go func() { ch <- c.join() }()
	synctest.Wait()
	return ch
}

// sync sends SyncGroup; assignment is the leader's.
func (c *client) sync(assignment map[string]string) *kmsg.SyncGroupResponse {
	r := kmsg.NewPtrSyncGroupRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID, r.Generation = 5, c.group, c.id, c.instance, c.gen
	for m, a := range assignment {
		r.GroupAssignment = append(r.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: m, MemberAssignment: []byte(a)})
	}
	return c.n.c.SyncGroup(ctx, r)
}

func (c *client) syncAsync(assignment map[string]string) chan *kmsg.SyncGroupResponse {
	ch := make(chan *kmsg.SyncGroupResponse, 1)
	go func() { ch <- c.sync(assignment) }()
	synctest.Wait()
	return ch
}

func (c *client) heartbeat() int16 {
	r := kmsg.NewPtrHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID, r.Generation = 4, c.group, c.id, c.instance, c.gen
	return c.n.c.Heartbeat(ctx, r).ErrorCode
}

func (c *client) leave() int16 {
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Version, r.Group = 5, c.group
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID, m.InstanceID = c.id, c.instance
	r.Members = append(r.Members, m)
	resp := c.n.c.LeaveGroup(ctx, r)
	if resp.ErrorCode != 0 {
		return resp.ErrorCode
	}
	return resp.Members[0].ErrorCode
}

func (c *client) commit(partition int32, offset int64) int16 {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID, r.Generation = 9, c.group, c.id, c.instance, c.gen
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = "orders"
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, offset
	t.Partitions = append(t.Partitions, p)
	r.Topics = append(r.Topics, t)
	return c.n.c.OffsetCommit(ctx, r).Topics[0].Partitions[0].ErrorCode
}

func (n *node) fetch(group string, partition int32, stable bool) (int64, int16) {
	r := kmsg.NewPtrOffsetFetchRequest()
	r.Version, r.RequireStable = 9, stable
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	t := kmsg.NewOffsetFetchRequestGroupTopic()
	t.Topic, t.Partitions = "orders", []int32{partition}
	g.Topics = append(g.Topics, t)
	r.Groups = append(r.Groups, g)
	resp := n.c.OffsetFetch(ctx, r).Groups[0]
	if resp.ErrorCode != 0 {
		return -1, resp.ErrorCode
	}
	p := resp.Topics[0].Partitions[0]
	return p.Offset, p.ErrorCode
}

func (n *node) state(group string) string {
	r := kmsg.NewPtrDescribeGroupsRequest()
	r.Version, r.Groups = 5, []string{group}
	return n.c.DescribeGroups(ctx, r).Groups[0].State
}

func wantCode(t *testing.T, what string, got, want int16) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: error code %d, want %d", what, got, want)
	}
}

// stableGroup makes a group of n members, the first of which leads.
func stableGroup(t *testing.T, n *node, count int) []*client {
	t.Helper()
	clients := make([]*client, count)
	for i := range clients {
		clients[i] = n.client("g")
	}
	rejoin(t, clients)
	return clients
}

// rejoin takes all members through one rebalance.
func rejoin(t *testing.T, clients []*client) {
	t.Helper()
	joins := make([]chan *kmsg.JoinGroupResponse, len(clients))
	for i, c := range clients {
		joins[i] = c.joinAsync()
		for j := range i { // a generation may have begun without this one: come again
			select {
			case r := <-joins[j]:
				wantCode(t, "join", r.ErrorCode, 0)
				joins[j] = clients[j].joinAsync()
			default:
			}
		}
	}
	for i, ch := range joins {
		r := <-ch
		wantCode(t, "join", r.ErrorCode, 0)
		if r.Generation != clients[0].gen {
			t.Fatalf("member %d is in generation %d, the first in %d", i, r.Generation, clients[0].gen)
		}
	}
	assignment := map[string]string{}
	for i, c := range clients {
		assignment[c.id] = strconv.Itoa(i)
	}
	var syncs []chan *kmsg.SyncGroupResponse
	for i := len(clients) - 1; i >= 0; i-- { // the first member, the leader, comes last
		if i == 0 {
			syncs = append(syncs, clients[i].syncAsync(assignment))
		} else {
			syncs = append(syncs, clients[i].syncAsync(nil))
		}
	}
	for _, ch := range syncs {
		wantCode(t, "sync", (<-ch).ErrorCode, 0)
	}
}

const tick = time.Second
