package group

import (
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/statelog"
)

// phase is the state of a classic group.
type phase string

// The states, by Kafka's names.
const (
	empty      phase = "Empty"
	preparing  phase = "PreparingRebalance"
	completing phase = "CompletingRebalance"
	stable     phase = "Stable"
	dead       phase = "Dead"
)

// newMemberTimeout is how long a member that has never been in a generation may wait in JoinGroup.
const newMemberTimeout = 5 * time.Minute

// group is a classic group, a consumer group, or a mere name under which offsets are committed ("simple": no protocol
// type). It is guarded by its shard's lock.
type group struct {
	id    string
	state *state
	// consumer is set when it is a consumer group: then what follows up to the offsets is as in a new group.
	consumer *consumerGroup

	phase        phase
	since        int64 // ms when phase began
	generation   int32
	protocolType string // "" until somebody joins
	protocol     string
	leader       string
	members      map[string]*member
	order        int64 // of the next member
	static       map[string]string
	pending      map[string]*statelog.Timer // member ids that were handed out and not used yet (KIP-394)
	awaitSync    map[string]struct{}        // members of this generation that have not sent SyncGroup

	subscribed map[string]struct{} // topics; nil: not known
	join, sync *statelog.Timer
	// joinLimit ends the initial delay; zero unless the first rebalance is being delayed.
	joinLimit time.Time
	grown     bool // a member came during the initial delay

	offsets map[topicPartition]*offset
	open    map[int64]struct{} // producers with pending offsets of this group

	stored         bool              // a group record is in the log: removal wants a tombstone
	nextAssignment map[string][]byte // while the leader's SyncGroup is being written
}

type topicPartition struct {
	topic     string
	partition int32
}

// member is a member of a classic group.
type member struct {
	id               string
	instance         *string
	client           Client
	sessionTimeout   time.Duration
	rebalanceTimeout time.Duration
	protocols        []kmsg.JoinGroupRequestProtocol
	assignment       []byte
	order            int64 // who came first
	isNew            bool  // has never been in a generation

	joining chan *kmsg.JoinGroupResponse // not nil: waits in JoinGroup; room for one
	syncing chan *kmsg.SyncGroupResponse // not nil: waits in SyncGroup; room for one
	timer   *statelog.Timer
}

func newGroup(s *state, id string) *group {
	g := &group{
		id: id, state: s, phase: empty, since: s.c.keeper.Now().UnixMilli(),
		members: map[string]*member{}, static: map[string]string{}, pending: map[string]*statelog.Timer{},
		awaitSync: map[string]struct{}{}, offsets: map[topicPartition]*offset{}, open: map[int64]struct{}{},
	}
	g.join = s.shard.NewTimer(g.joinExpired)
	g.sync = s.shard.NewTimer(g.syncExpired)
	return g
}

// shown is the group's state as it is shown to others.
func (g *group) shown() phase {
	if g.consumer != nil && g.phase != dead {
		return g.consumer.phase()
	}
	return g.phase
}

func (g *group) to(p phase) {
	g.phase = p
	g.since = g.state.c.keeper.Now().UnixMilli()
}

// sorted gives the members in the order in which they came.
func (g *group) sorted() []*member {
	ms := make([]*member, 0, len(g.members))
	for _, m := range g.members {
		ms = append(ms, m)
	}
	slices.SortFunc(ms, func(a, b *member) int { return int(a.order - b.order) })
	return ms
}

func (m *member) metadata(protocol string) []byte {
	for _, p := range m.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return nil
}

// matches says whether the member's protocols are unchanged.
func (m *member) matches(ps []kmsg.JoinGroupRequestProtocol) bool {
	return slices.EqualFunc(m.protocols, ps, func(a, b kmsg.JoinGroupRequestProtocol) bool {
		return a.Name == b.Name && string(a.Metadata) == string(b.Metadata)
	})
}

// maxProtocols is how many protocols a member may offer. Clients offer one for each of their assignors; who joins is compared with all that the group has.
const maxProtocols = 100

// supports says whether a member with these protocols may join.
func (g *group) supports(protocolType string, ps []kmsg.JoinGroupRequestProtocol) bool {
	if g.phase == empty {
		return protocolType != "" && len(ps) > 0
	}
	all := g.common()
	return g.protocolType == protocolType && slices.ContainsFunc(ps, func(p kmsg.JoinGroupRequestProtocol) bool { return all[p.Name] == len(g.members) })
}

// common counts for each protocol the members that offer it, so long as all before them do: those that everybody speaks have len(g.members). It takes time in
// what the members offer, and no more. Like Kafka's ClassicGroup.supportedProtocols.
func (g *group) common() map[string]int {
	all, before := map[string]int{}, 0
	for _, m := range g.members {
		for _, p := range m.protocols { // one that is named twice counts once
			if all[p.Name] == before {
				all[p.Name] = before + 1
			}
		}
		before++
	}
	return all
}

// selectProtocol lets each member vote for the first of its protocols that all speak; ties go to the protocol that the
// oldest member prefers.
func (g *group) selectProtocol() string {
	all := g.common()
	votes := map[string]int{}
	var names []string
	for _, m := range g.sorted() {
		for _, p := range m.protocols {
			if all[p.Name] == len(g.members) {
				if votes[p.Name] == 0 {
					names = append(names, p.Name)
				}
				votes[p.Name]++
				break
			}
		}
	}
	best := ""
	for _, n := range names {
		if votes[n] > votes[best] {
			best = n
		}
	}
	return best
}

// add takes a member in; the first one says what type of group it is.
func (g *group) add(m *member, protocolType string) {
	if len(g.members) == 0 {
		g.protocolType = protocolType
	}
	g.order++
	m.order = g.order
	if m.instance != nil {
		g.static[*m.instance] = m.id
	}
	if g.leader == "" {
		g.leader = m.id
	}
	g.members[m.id] = m
	g.dropPending(m.id)
}

// remove takes a member out; whoever waits for it has been answered before.
func (g *group) remove(m *member) {
	m.timer.Disarm()
	delete(g.members, m.id)
	delete(g.awaitSync, m.id)
	if m.instance != nil && g.static[*m.instance] == m.id {
		delete(g.static, *m.instance)
	}
	if g.leader == m.id {
		g.leader = ""
		if ms := g.sorted(); len(ms) > 0 {
			g.leader = ms[0].id
		}
	}
}

func (g *group) dropPending(id string) {
	if t := g.pending[id]; t != nil {
		t.Disarm()
		delete(g.pending, id)
	}
}

func (g *group) joiningMembers() (n int) {
	for _, m := range g.members {
		if m.joining != nil {
			n++
		}
	}
	return n
}

func (g *group) allJoined() bool { return g.joiningMembers() == len(g.members) && len(g.pending) == 0 }

// rebalanceTimeout is the longest of the members'.
func (g *group) rebalanceTimeout() (d time.Duration) {
	for _, m := range g.members {
		d = max(d, m.rebalanceTimeout)
	}
	return d
}

// subscribe learns the topics of a consumer group from the members' subscriptions: their version 0 is a prefix of all.
func (g *group) subscribe() {
	g.subscribed = nil
	if g.protocolType != "consumer" {
		return
	}
	topics := map[string]struct{}{}
	for _, m := range g.members {
		meta := kmsg.NewConsumerMemberMetadata()
		if err := meta.ReadFrom(m.metadata(g.protocol)); err != nil {
			return
		}
		for _, t := range meta.Topics {
			topics[strings.Clone(t)] = struct{}{}
		}
	}
	g.subscribed = topics
}

// subscribes says whether a member may be reading the topic: yes when that is not known.
func (g *group) subscribes(topic string) bool {
	if g.consumer != nil {
		return g.consumer.subscribes(topic)
	}
	if g.phase == empty || g.phase == dead {
		return false
	}
	if g.subscribed == nil {
		return true
	}
	_, ok := g.subscribed[topic]
	return ok
}

// roster is what the leader is told: everybody with their metadata.
func (g *group) roster() []kmsg.JoinGroupResponseMember {
	var out []kmsg.JoinGroupResponseMember
	for _, m := range g.sorted() {
		out = append(out, kmsg.JoinGroupResponseMember{MemberID: m.id, InstanceID: m.instance, ProtocolMetadata: m.metadata(g.protocol)})
	}
	return out
}
