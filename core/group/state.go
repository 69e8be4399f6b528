package group

import (
	"bytes"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/statelog"
)

// state is the groups of one partition of __consumer_offsets.
type state struct {
	c      *Coordinator
	shard  *statelog.Shard
	groups map[string]*group
	// pending are offsets that a transaction has written and no marker has decided, by producer id.
	pending map[int64]map[groupPartition]*offset
	// writing counts the commits of an offset that are appended, and not acknowledged by the log yet: of what they write the state knows nothing.
	writing map[groupPartition]int
	expiry  *statelog.Timer
}

type groupPartition struct {
	group string
	topicPartition
}

// offset is a committed offset.
type offset struct {
	offset      int64
	leaderEpoch int32
	metadata    string
	time        int64 // ms, of the commit
	expires     int64 // ms; -1: by the retention. Only from commits of versions 2 to 4
	topicID     [16]byte
	at          int64 // where it lies in __consumer_offsets: of two, the later one counts
}

func newState(c *Coordinator, s *statelog.Shard) *state {
	return &state{c: c, shard: s, groups: map[string]*group{}, pending: map[int64]map[groupPartition]*offset{}, writing: map[groupPartition]int{}}
}

func (s *state) unlock() { s.shard.Mu.Unlock() }

// group finds or makes a group.
func (s *state) group(id string) *group {
	g := s.groups[id]
	if g == nil {
		g = newGroup(s, id)
		s.groups[id] = g
	}
	return g
}

// Replay takes a batch of the log into the state.
func (s *state) Replay(b statelog.Batch) error {
	if b.Control {
		if b.Marker {
			s.decide(b.ProducerID, b.Commit)
		}
		return nil
	}
	for _, r := range b.Records {
		d, err := decode(r)
		if err != nil {
			return err
		}
		switch {
		case d.offsetKey != nil:
			k := groupPartition{d.offsetKey.Group, topicPartition{d.offsetKey.Topic, d.offsetKey.Partition}}
			if d.offset == nil {
				s.forget(k)
				// Offsets without a group have no record that would end it.
				if g := s.groups[k.group]; g != nil && !g.stored && g.consumer == nil && len(g.offsets) == 0 && len(g.open) == 0 {
					delete(s.groups, k.group)
				}
				continue
			}
			o := &offset{offset: d.offset.Offset, leaderEpoch: d.offset.LeaderEpoch, metadata: d.offset.Metadata, time: d.offset.CommitTimestamp,
				expires: -1, topicID: d.offset.TopicID, at: r.Offset}
			if d.offset.Version == 1 {
				o.expires = d.offset.ExpireTimestamp
			}
			if b.Transactional {
				s.prepare(b.ProducerID, k, o)
			} else {
				s.commit(k, o)
			}
		case d.groupKey != nil:
			s.replayGroup(d.groupKey.Group, d.group)
		case d.change != nil:
			s.apply(*d.change)
		}
	}
	return nil
}

// commit takes a committed offset into the state, unless a later one is there.
func (s *state) commit(k groupPartition, o *offset) {
	g := s.group(k.group)
	if old := g.offsets[k.topicPartition]; old == nil || o.at >= old.at {
		g.offsets[k.topicPartition] = o
	}
}

// prepare takes an offset of an open transaction into the state.
func (s *state) prepare(producer int64, k groupPartition, o *offset) {
	m := s.pending[producer]
	if m == nil {
		m = map[groupPartition]*offset{}
		s.pending[producer] = m
	}
	m[k] = o
	s.group(k.group).open[producer] = struct{}{}
}

// decide ends a producer's transaction, as its marker says.
func (s *state) decide(producer int64, commit bool) {
	m := s.pending[producer]
	delete(s.pending, producer)
	for k, o := range m {
		g := s.group(k.group)
		delete(g.open, producer)
		if commit {
			s.commit(k, o)
		}
	}
}

// forget removes an offset, and what is pending for it.
func (s *state) forget(k groupPartition) {
	g := s.groups[k.group]
	if g == nil {
		return
	}
	delete(g.offsets, k.topicPartition)
	for producer := range g.open {
		delete(s.pending[producer], k)
	}
}

// beingWritten says whether commits of one of the group's offsets are under way.
func (s *state) beingWritten(group string) bool {
	for k := range s.writing {
		if k.group == group {
			return true
		}
	}
	return false
}

// written is the end of a commit.
func (s *state) written(keys []groupPartition) {
	for _, k := range keys {
		if s.writing[k]--; s.writing[k] == 0 {
			delete(s.writing, k)
		}
	}
}

// unstable says whether a transaction that is not decided has written this offset.
func (s *state) unstable(k groupPartition) bool {
	g := s.groups[k.group]
	if g == nil {
		return false
	}
	for producer := range g.open {
		if s.pending[producer][k] != nil {
			return true
		}
	}
	return false
}

func (s *state) replayGroup(id string, v *kmsg.GroupMetadataValue) {
	if v == nil {
		if g := s.groups[id]; g != nil && g.consumer != nil {
			return // it became a consumer group later
		} else if g != nil && len(g.offsets) == 0 && len(g.open) == 0 {
			delete(s.groups, id)
		} else if g != nil {
			ng := newGroup(s, id)
			ng.offsets, ng.open = g.offsets, g.open
			s.groups[id] = ng
		}
		return
	}
	old := s.group(id)
	if old.consumer != nil {
		old.consumer.stop()
	}
	g := newGroup(s, id)
	g.offsets, g.open = old.offsets, old.open
	g.stored, g.generation, g.protocolType, g.since = true, v.Generation, v.ProtocolType, v.CurrentStateTimestamp
	if v.Protocol != nil {
		g.protocol = *v.Protocol
	}
	for _, vm := range v.Members {
		m := g.newMember(vm.MemberID, vm.InstanceID, Client{vm.ClientID, vm.ClientHost})
		m.sessionTimeout = millis(vm.SessionTimeoutMillis)
		m.rebalanceTimeout = millis(vm.RebalanceTimeoutMillis)
		if vm.RebalanceTimeoutMillis < 0 {
			m.rebalanceTimeout = m.sessionTimeout
		}
		m.protocols = []kmsg.JoinGroupRequestProtocol{{Name: g.protocol, Metadata: bytes.Clone(vm.Subscription)}}
		m.assignment = bytes.Clone(vm.Assignment)
		m.isNew = false
		g.add(m, v.ProtocolType)
	}
	if v.Leader != nil {
		g.leader = *v.Leader
	}
	if len(g.members) > 0 {
		g.phase = stable
	}
	g.subscribe()
	s.groups[id] = g
}

// Loaded starts the clocks of what was replayed.
func (s *state) Loaded() {
	for _, g := range s.groups {
		if g.consumer != nil {
			g.consumer.loaded()
		}
		for _, m := range g.members {
			g.beat(m)
		}
		if len(g.members) > s.c.o.MaxSize {
			g.prepareRebalance("the group is larger than group.max.size")
		}
	}
	s.expiry = s.shard.NewTimer(s.expire)
	s.expiry.Arm(s.c.o.ExpiryInterval)
}

// Resigned answers whoever waits in JoinGroup or SyncGroup.
func (s *state) Resigned() {
	s.expiry.Disarm()
	for _, g := range s.groups {
		g.phase = dead
		g.join.Disarm()
		g.sync.Disarm()
		if g.consumer != nil {
			g.consumer.stop()
		}
		for id := range g.pending {
			g.dropPending(id)
		}
		for _, m := range g.members {
			m.timer.Disarm()
			g.answerJoin(m, joinError(m.id, kerr.NotCoordinator.Code))
			g.answerSync(m, &kmsg.SyncGroupResponse{ErrorCode: kerr.NotCoordinator.Code})
		}
	}
}
