package group

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/statelog"
)

// The states of a consumer group, by Kafka's names; Empty and Stable it has in common with a classic group.
const (
	assigning   phase = "Assigning"
	reconciling phase = "Reconciling"
)

// consumerGroup is the consumer group (KIP-848) that a group is. Its fields are changed by changes only (apply), but for
// timers and what is marked as remembered.
type consumerGroup struct {
	group           *group
	epoch           int32
	hash            int64 // of the topics, as they were when epoch was set
	assignmentEpoch int32
	members         map[string]*consumer
	static          map[string]string // instance id → member id
	target          map[string]parts
	held            map[topicIDPartition]string // by the member that owns it or must still give it up
	regexes         map[string]regexValue

	clocks   map[string]*clocks
	patterns map[string]*regexp.Regexp // remembered: compiled
	seen     *metadata.Image           // remembered: the metadata that hash was computed of
	lookAt   time.Time                 // remembered: when regular expressions are resolved again, if the metadata is newer
}

// consumer is a member of a consumer group.
type consumer struct {
	id string
	memberValue
	currentValue
}

// clocks are the timers of a member.
type clocks struct {
	session   *statelog.Timer
	rebalance *statelog.Timer // while it has to give up partitions, or as a classic member to join or sync
}

func newConsumerGroup(g *group) *consumerGroup {
	return &consumerGroup{group: g, members: map[string]*consumer{}, static: map[string]string{}, target: map[string]parts{},
		held: map[topicIDPartition]string{}, regexes: map[string]regexValue{}, clocks: map[string]*clocks{}, patterns: map[string]*regexp.Regexp{}}
}

// apply takes a record into the state; what it does must not depend on anything but the records before it.
func (s *state) apply(c change) {
	if c.kind == keyClassic { // what a consumer group writes of it, when it takes its place and when it gives it back
		if v, ok := c.value.(classicValue); ok {
			s.adopt(v.g)
		} else {
			s.replayGroup(c.group, nil)
		}
		return
	}
	g := s.groups[c.group]
	if c.value == nil {
		if g != nil && g.consumer != nil {
			g.consumer.drop(c)
		}
		return
	}
	if g == nil {
		g = s.group(c.group)
	}
	if g.consumer == nil {
		g.consumer = newConsumerGroup(g)
	}
	g.consumer.take(c)
}

// take takes a record that is no tombstone into the group.
func (cg *consumerGroup) take(c change) {
	switch v := c.value.(type) {
	case groupEpoch:
		cg.epoch, cg.hash = v.epoch, v.hash
	case targetEpoch:
		cg.assignmentEpoch = int32(v)
	case targetValue:
		cg.target[c.name] = parts(v)
	case regexValue:
		cg.regexes[c.name] = v
	case *memberValue:
		m := cg.member(c.name)
		m.memberValue = *v
		cg.members[c.name] = m
		if v.instance != nil {
			cg.static[*v.instance] = c.name
		}
	case currentValue:
		m := cg.member(c.name)
		cg.release(m)
		m.currentValue = v
		cg.members[c.name] = m
		for _, p := range []parts{v.assigned, v.revoking} {
			for t, numbers := range p {
				for n := range numbers {
					cg.held[topicIDPartition{t, n}] = c.name
				}
			}
		}
	}
}

// member is a copy of a member, or a new one: members are not changed where others look at them.
func (cg *consumerGroup) member(id string) *consumer {
	if m := cg.members[id]; m != nil {
		c := *m
		return &c
	}
	return &consumer{id: id, memberValue: memberValue{rebalance: -1}, currentValue: currentValue{state: memberStable}}
}

func (cg *consumerGroup) drop(c change) {
	switch c.kind {
	case keyEpoch: // the last one of a group that goes
		cg.stop()
		cg.group.consumer = nil
	case keyTargetEpoch:
		cg.assignmentEpoch = 0
	case keyTarget:
		delete(cg.target, c.name)
	case keyRegex:
		delete(cg.regexes, c.name)
	case keyCurrent:
		if m := cg.members[c.name]; m != nil {
			cg.release(m)
			n := *m
			n.currentValue = currentValue{state: memberStable}
			cg.members[c.name] = &n
		}
	case keyMember:
		m := cg.members[c.name]
		if m == nil {
			return
		}
		cg.release(m)
		delete(cg.members, c.name)
		if m.instance != nil && cg.static[*m.instance] == c.name {
			delete(cg.static, *m.instance)
		}
		if k := cg.clocks[c.name]; k != nil {
			k.session.Disarm()
			k.rebalance.Disarm()
			delete(cg.clocks, c.name)
		}
	}
}

func (cg *consumerGroup) release(m *consumer) {
	for _, p := range []parts{m.assigned, m.revoking} {
		for t, numbers := range p {
			for n := range numbers {
				if k := (topicIDPartition{t, n}); cg.held[k] == m.id {
					delete(cg.held, k)
				}
			}
		}
	}
}

func (cg *consumerGroup) stop() {
	for _, k := range cg.clocks {
		k.session.Disarm()
		k.rebalance.Disarm()
	}
	clear(cg.clocks)
}

func (cg *consumerGroup) phase() phase {
	switch {
	case len(cg.members) == 0:
		return empty
	case cg.epoch > cg.assignmentEpoch:
		return assigning
	}
	for _, m := range cg.members {
		if m.state != memberStable || m.currentValue.epoch != cg.assignmentEpoch {
			return reconciling
		}
	}
	return stable
}

// classicMembers counts the members that speak the classic protocol.
func (cg *consumerGroup) classicMembers() (n int) {
	for _, m := range cg.members {
		if m.classic != nil {
			n++
		}
	}
	return n
}

// with gives the members as they will be: without some, and with m in the place of who has its id.
func (cg *consumerGroup) with(m *consumer, without ...string) map[string]*consumer {
	out := maps.Clone(cg.members)
	for _, id := range without {
		delete(out, id)
	}
	if m != nil {
		out[m.id] = m
	}
	return out
}

// topicsOf are the topics that exist and that a member subscribes to, by name or by its regular expression.
func topicsOf(m *consumer, regexes map[string]regexValue, im *metadata.Image) []metadata.TopicID {
	var ids []metadata.TopicID
	for _, name := range m.topics {
		if t := im.Topics[name]; t != nil {
			ids = append(ids, t.ID)
		}
	}
	if m.regex != nil {
		for _, name := range regexes[*m.regex].topics {
			if t := im.Topics[name]; t != nil {
				ids = append(ids, t.ID)
			}
		}
	}
	slices.SortFunc(ids, compareTopics)
	return slices.Compact(ids)
}

// subscription is what all members together subscribe to, with the numbers of partitions, and a hash of it: a group whose
// hash changes needs a new assignment. It plays the part of Kafka's metadata hash (KIP-1101), computed in another way.
func subscription(members map[string]*consumer, regexes map[string]regexValue, im *metadata.Image) (map[metadata.TopicID]int32, int64) {
	sizes := map[metadata.TopicID]int32{}
	for _, m := range members {
		for _, id := range topicsOf(m, regexes, im) {
			sizes[id] = int32(len(im.TopicIDs[id].Partitions))
		}
	}
	if len(sizes) == 0 {
		return sizes, 0
	}
	h := fnv.New64a()
	for _, id := range slices.SortedFunc(maps.Keys(sizes), compareTopics) {
		h.Write(id[:])
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(sizes[id])))
	}
	return sizes, int64(h.Sum64())
}

// assignor is the one that most members ask for, or the default; ties go to the first by name.
func assignor(members map[string]*consumer) string {
	votes := map[string]int{}
	for _, m := range members {
		if m.assignor != nil {
			votes[*m.assignor]++
		}
	}
	if len(votes) == 0 {
		return assignorNames[0]
	}
	return slices.MaxFunc(slices.Sorted(maps.Keys(votes)), func(a, b string) int { return cmp.Compare(votes[a], votes[b]) })
}

// assign computes the target of all members, and the records of what changes. targets are the ones so far.
func (cg *consumerGroup) assign(epoch int32, members map[string]*consumer, targets map[string]parts, regexes map[string]regexValue,
	sizes map[metadata.TopicID]int32, im *metadata.Image,
) (map[string]parts, []change) {
	list := make([]subscriber, 0, len(members))
	for id, m := range members {
		s := subscriber{id: id, topics: topicsOf(m, regexes, im), current: targets[id]}
		if m.instance != nil {
			s.instance = *m.instance
		}
		list = append(list, s)
	}
	next := assignors[assignor(members)](list, sizes)
	var out []change
	for _, id := range slices.Sorted(maps.Keys(next)) {
		if old, ok := targets[id]; !ok || !old.same(next[id]) {
			out = append(out, change{keyTarget, cg.group.id, id, targetValue(next[id])})
		}
	}
	return next, append(out, change{keyTargetEpoch, cg.group.id, "", targetEpoch(epoch)})
}

// tombstones remove the whole consumer group.
func (cg *consumerGroup) tombstones() []change {
	var out []change
	for _, id := range slices.Sorted(maps.Keys(cg.members)) {
		out = append(out, removal(cg.group.id, id)...)
	}
	for _, re := range slices.Sorted(maps.Keys(cg.regexes)) {
		out = append(out, change{kind: keyRegex, group: cg.group.id, name: re})
	}
	return append(out, change{kind: keyTargetEpoch, group: cg.group.id}, change{kind: keyTopics, group: cg.group.id}, change{kind: keyEpoch, group: cg.group.id})
}

// removal removes one member.
func removal(group, id string) []change {
	return []change{{kind: keyCurrent, group: group, name: id}, {kind: keyTarget, group: group, name: id}, {kind: keyMember, group: group, name: id}}
}

// write appends changes and takes them into the state. done is called once they are durable; with no changes, once all
// that was written before is. An error means that nothing was written or changed.
func (s *state) write(changes []change, done func(error)) error {
	if len(changes) == 0 {
		s.shard.Settled(done)
		return nil
	}
	records := make([]statelog.Record, len(changes))
	for i, c := range changes {
		records[i] = c.record()
	}
	if err := s.shard.Append(statelog.NoProducer, records, func(_ int64, err error) { done(err) }); err != nil {
		return err
	}
	for _, c := range changes {
		s.apply(c)
	}
	return nil
}
