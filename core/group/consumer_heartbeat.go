package group

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/pattern"
)

// Epochs by which a member says that it leaves.
const (
	leaveEpoch       = -1
	leaveStaticEpoch = -2 // a static member that comes back
)

// refusal is a Kafka error with the words that go with it.
type refusal struct {
	code    int16
	message string
}

func refuse(e *kerr.Error, format string, args ...any) *refusal {
	return &refusal{e.Code, fmt.Sprintf(format, args...)}
}

// ConsumerGroupHeartbeat is how a member of a consumer group joins, stays, learns its assignment and leaves (KIP-848). may says of a topic
// whether the member may describe it: regular expressions match no others. As with Kafka it is the member whose heartbeat looks at the
// topics anew that counts, for all members of the same expression.
func (c *Coordinator) ConsumerGroupHeartbeat(ctx context.Context, req *kmsg.ConsumerGroupHeartbeatRequest, client Client, may func(topic string) bool) *kmsg.ConsumerGroupHeartbeatResponse {
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.Version = req.Version
	if r := validHeartbeat(req); r != nil {
		return refused(resp, r)
	}
	b := &beat{req: req, client: client, may: may, resp: resp}
	if re := req.SubscribedTopicRegex; re != nil && *re != "" {
		b.pattern, _ = pattern.Compile(*re) // before the lock, or others would wait; of an error resolve tells
	}
	s, code := c.lock(ctx, req.Group)
	if code != 0 {
		return refused(resp, &refusal{code: code})
	}
	b.state, b.image = s, c.host.image()
	outcome := make(chan error, 1)
	r := b.run()
	var err error
	if r == nil {
		err = s.write(b.changes, func(err error) { outcome <- err })
		if err == nil && b.applied != nil {
			b.applied()
		}
	}
	s.unlock()
	if r != nil {
		return refused(resp, r)
	}
	if err == nil {
		select {
		case err = <-outcome:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		empty := kmsg.NewPtrConsumerGroupHeartbeatResponse()
		empty.Version = req.Version
		return refused(empty, &refusal{code: codeOf(err)})
	}
	return resp
}

func refused(resp *kmsg.ConsumerGroupHeartbeatResponse, r *refusal) *kmsg.ConsumerGroupHeartbeatResponse {
	resp.ErrorCode = r.code
	if r.message != "" {
		resp.ErrorMessage = &r.message
	} else if e := kerr.TypedErrorForCode(r.code); e != nil {
		resp.ErrorMessage = &e.Description
	}
	return resp
}

// validHeartbeat checks what can be checked without the group.
func validHeartbeat(req *kmsg.ConsumerGroupHeartbeatRequest) *refusal {
	blank := func(s *string) bool { return s != nil && strings.TrimSpace(*s) == "" }
	switch {
	case req.Version >= 1 && strings.TrimSpace(req.MemberID) == "":
		return refuse(kerr.InvalidRequest, "MemberId can't be empty.")
	case strings.TrimSpace(req.Group) == "":
		return refuse(kerr.InvalidRequest, "GroupId can't be empty.")
	case blank(req.InstanceID):
		return refuse(kerr.InvalidRequest, "InstanceId can't be empty.")
	case blank(req.RackID):
		return refuse(kerr.InvalidRequest, "RackId can't be empty.")
	}
	switch e := req.MemberEpoch; {
	case e == 0:
		switch {
		case req.RebalanceTimeoutMillis == -1:
			return refuse(kerr.InvalidRequest, "RebalanceTimeoutMs must be provided in first request.")
		case len(req.Topics) > 0 || req.Topics == nil:
			return refuse(kerr.InvalidRequest, "TopicPartitions must be empty when (re-)joining.")
		case req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil: // empty ones are a member that reads nothing
			return refuse(kerr.InvalidRequest, "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
		}
	case (e > 0 || e == leaveEpoch || e == leaveStaticEpoch) && strings.TrimSpace(req.MemberID) == "":
		return refuse(kerr.InvalidRequest, "MemberId can't be empty.")
	case e == leaveStaticEpoch && req.InstanceID == nil:
		return refuse(kerr.InvalidRequest, "InstanceId can't be null.")
	case e < leaveStaticEpoch:
		return refuse(kerr.InvalidRequest, "MemberEpoch is invalid.")
	}
	if req.ServerAssignor != nil && assignors[*req.ServerAssignor] == nil {
		return refuse(kerr.UnsupportedAssignor, "ServerAssignor %s is not supported. Supported assignors: %s.", *req.ServerAssignor, strings.Join(assignorNames, ", "))
	}
	return nil
}

// beat is one heartbeat. It reads the state and gathers changes; the state itself it leaves as it is until they are in
// the log.
type beat struct {
	state   *state
	req     *kmsg.ConsumerGroupHeartbeatRequest
	client  Client
	may     func(topic string) bool
	resp    *kmsg.ConsumerGroupHeartbeatResponse
	image   *metadata.Image
	changes []change
	pattern *regexp.Regexp // of the request; nil without, and when it is not valid
	old     *group         // the classic group that becomes this one
	applied func()         // starts timers, once the changes are in the state
}

func (b *beat) run() *refusal {
	g := b.state.groups[b.req.Group]
	if g != nil && g.phase == dead {
		return &refusal{code: kerr.CoordinatorNotAvailable.Code}
	}
	if b.req.MemberEpoch < 0 {
		return b.leave(g)
	}
	cg, r := b.groupFor(g, b.req.MemberEpoch == 0)
	if r != nil {
		return r
	}
	id := strings.Clone(b.req.MemberID)
	if limit := b.state.c.o.Consumer.MaxSize; len(cg.members) >= limit && cg.members[id] == nil {
		return refuse(kerr.GroupMaxSizeReached, "The consumer group has reached its maximum capacity of %d members.", limit)
	}
	if id == "" {
		id = b.state.c.newID()
	}
	d := &draft{cg: cg, image: b.image, changes: b.changes, pattern: b.pattern, may: b.may}
	owned := ownedParts(b.req.Topics)
	if r := d.find(id, b.req.InstanceID, b.req.MemberEpoch, owned); r != nil {
		return r
	}
	next := *d.member
	next.classic = nil
	next.client = b.client
	b.update(&next)
	if r := d.subscribe(&next, b.state); r != nil {
		return r
	}
	d.target()
	before := d.member.assigned
	d.reconcile(owned)
	b.changes = d.changes

	m := d.next
	b.resp.MemberID, b.resp.MemberEpoch = &m.id, m.currentValue.epoch
	o := b.state.c.groupConfigs(b.req.Group)
	b.resp.HeartbeatIntervalMillis = int32(o.HeartbeatInterval.Milliseconds())
	full := b.req.RebalanceTimeoutMillis != -1 && (b.req.SubscribedTopicNames != nil || b.req.SubscribedTopicRegex != nil) && b.req.Topics != nil
	if b.req.MemberEpoch == 0 || full || !before.same(m.assigned) {
		b.resp.Assignment = assignmentFor(m.assigned)
	}
	moved := !m.currentValue.equal(d.member.currentValue)
	b.applied = func() {
		cg := b.state.groups[b.req.Group].consumer
		cg.seen, cg.lookAt = d.seen, d.lookAt
		cg.keep(m.id, o.SessionTimeout, moved)
		if b.old != nil {
			b.old.retire()
			cg.loaded()
		}
	}
	return nil
}

// update takes over what the request says about the member.
func (b *beat) update(m *consumer) {
	if b.req.InstanceID != nil {
		m.instance = clonePtr(b.req.InstanceID)
	}
	if b.req.RackID != nil {
		m.rack = clonePtr(b.req.RackID)
	}
	if b.req.RebalanceTimeoutMillis != -1 {
		m.rebalance = b.req.RebalanceTimeoutMillis
	}
	if b.req.ServerAssignor != nil {
		m.assignor = clonePtr(b.req.ServerAssignor)
	}
	if b.req.SubscribedTopicNames != nil {
		m.topics = cleanTopics(b.req.SubscribedTopicNames)
	}
	if b.req.SubscribedTopicRegex != nil {
		m.regex = nil
		if *b.req.SubscribedTopicRegex != "" {
			m.regex = clonePtr(b.req.SubscribedTopicRegex)
		}
	}
}

func clonePtr(s *string) *string {
	c := strings.Clone(*s)
	return &c
}

func cleanTopics(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.Clone(n)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func ownedParts(topics []kmsg.ConsumerGroupHeartbeatRequestTopic) parts {
	if topics == nil {
		return nil
	}
	p := parts{}
	for _, t := range topics {
		for _, n := range t.Partitions {
			p.add(t.TopicID, n, 0)
		}
	}
	return p
}

func assignmentFor(p parts) *kmsg.ConsumerGroupHeartbeatResponseAssignment {
	a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
	a.Topics = []kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{}
	for _, t := range p.topics() {
		at := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
		at.TopicID, at.Partitions = t, p.numbers(t)
		a.Topics = append(a.Topics, at)
	}
	return &a
}

// groupFor finds the consumer group, or makes one, of an empty classic group too.
func (b *beat) groupFor(g *group, create bool) (*consumerGroup, *refusal) {
	switch {
	case g != nil && g.consumer != nil:
		return g.consumer, nil
	case !create && g == nil:
		return nil, refuse(kerr.GroupIDNotFound, "Consumer group %s not found.", b.req.Group)
	case !create:
		return nil, refuse(kerr.GroupIDNotFound, "Group %s is not a consumer group.", b.req.Group)
	case g == nil:
		return newConsumerGroup(&group{id: strings.Clone(b.req.Group)}), nil // the first change makes the real one
	case g.phase == empty && len(g.members) == 0 && len(g.pending) == 0:
		if g.stored {
			b.changes = append(b.changes, change{kind: keyClassic, group: g.id})
		}
		return newConsumerGroup(g), nil
	}
	changes, r := g.upgrade(b.image)
	if r != nil {
		return nil, r
	}
	cg := newConsumerGroup(g) // as it will be
	for _, c := range changes {
		if c.value != nil {
			cg.take(c)
		}
	}
	b.changes = append(b.changes, changes...)
	b.old = g
	return cg, nil
}

func (b *beat) leave(g *group) *refusal {
	if g == nil {
		return refuse(kerr.GroupIDNotFound, "Group %s not found.", b.req.Group)
	}
	if g.consumer == nil {
		return refuse(kerr.GroupIDNotFound, "Group %s is not a consumer group.", b.req.Group)
	}
	cg := g.consumer
	m := cg.members[b.req.MemberID]
	if b.req.InstanceID != nil {
		id, ok := cg.static[*b.req.InstanceID]
		if !ok {
			return refuse(kerr.UnknownMemberID, "Instance id %s is unknown.", *b.req.InstanceID)
		}
		if id != b.req.MemberID {
			return refuse(kerr.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", b.req.MemberID, *b.req.InstanceID, id)
		}
		m = cg.members[id]
	}
	if m == nil {
		return refuse(kerr.UnknownMemberID, "Member %s is not a member of group %s.", b.req.MemberID, g.id)
	}
	id, epoch := m.id, b.req.MemberEpoch
	b.resp.MemberID, b.resp.MemberEpoch = &id, epoch
	if b.req.InstanceID != nil && epoch == leaveStaticEpoch {
		v := m.currentValue
		v.previous, v.epoch, v.revoking = v.epoch, leaveStaticEpoch, parts{}
		b.changes = []change{{keyCurrent, g.id, id, v}}
		b.applied = func() { cg.clock(id).rebalance.Disarm() }
		return nil
	}
	b.changes = cg.remove(b.image, id)
	return nil
}

// fence removes members; what the group reads without them is looked at, and the next heartbeat assigns anew.
func (cg *consumerGroup) fence(im *metadata.Image, ids ...string) []change {
	var out []change
	for _, id := range ids {
		out = append(out, removal(cg.group.id, id)...)
	}
	rest := cg.with(nil, ids...)
	used := map[string]bool{}
	for _, m := range rest {
		if m.regex != nil {
			used[*m.regex] = true
		}
	}
	for _, re := range slices.Sorted(maps.Keys(cg.regexes)) {
		if !used[re] {
			out = append(out, change{kind: keyRegex, group: cg.group.id, name: re})
		}
	}
	_, hash := subscription(rest, cg.regexes, im)
	out = append(out, change{keyEpoch, cg.group.id, "", groupEpoch{cg.epoch + 1, hash}})
	if len(rest) == 0 { // nothing is left to assign
		out = append(out, change{keyTargetEpoch, cg.group.id, "", targetEpoch(cg.epoch + 1)})
	}
	return out
}

// draft is a heartbeat's view of the group: as it is, and what is to be changed.
type draft struct {
	cg      *consumerGroup
	image   *metadata.Image
	changes []change
	pattern *regexp.Regexp // of next.regex, when it is known already
	may     func(topic string) bool

	member   *consumer // as it is
	next     *consumer // as it will be
	members  map[string]*consumer
	targets  map[string]parts
	regexes  map[string]regexValue
	replaced string // the old member id of a static member

	epoch, assignmentEpoch int32
	sizes                  map[metadata.TopicID]int32
	seen                   *metadata.Image
	lookAt                 time.Time
}

func (d *draft) put(kind int16, name string, v value) {
	d.changes = append(d.changes, change{kind, d.cg.group.id, name, v})
}

// find finds the member, makes it, or puts it in the place of the static member that has left for a while.
func (d *draft) find(id string, instance *string, epoch int32, owned parts) *refusal {
	cg := d.cg
	d.targets = cg.target
	if instance == nil {
		m := cg.members[id]
		if m == nil && epoch != 0 {
			return refuse(kerr.UnknownMemberID, "Member %s is not a member of group %s.", id, cg.group.id)
		}
		d.member = cg.member(id)
		if m == nil {
			return nil
		}
		return m.checkEpoch(epoch, owned)
	}
	current, known := cg.static[*instance]
	switch {
	case epoch == 0 && !known:
		d.member = cg.member(id)
	case epoch == 0:
		old := cg.members[current]
		if old.classic == nil && old.currentValue.epoch != leaveStaticEpoch {
			return refuse(kerr.UnreleasedInstanceID, "Static member %s with instance id %s cannot join the group because the instance id is owned by %s member.", id, *instance, current)
		}
		d.replace(old, id)
	case !known:
		return refuse(kerr.UnknownMemberID, "Instance id %s is unknown.", *instance)
	case current != id:
		return refuse(kerr.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", id, *instance, current)
	default:
		d.member = cg.member(id)
		return d.member.checkEpoch(epoch, owned)
	}
	return nil
}

// replace gives a static member that comes back its new id, with the assignment that it had.
func (d *draft) replace(old *consumer, id string) {
	m := *old
	m.id, m.currentValue.epoch, m.previous = id, 0, 0
	d.member = &m
	d.changes = append(d.changes, removal(d.cg.group.id, old.id)...)
	mv := m.memberValue
	d.put(keyMember, id, &mv)
	d.put(keyTarget, id, targetValue(d.cg.target[old.id]))
	d.put(keyCurrent, id, m.currentValue)
	d.targets = maps.Clone(d.cg.target)
	d.targets[id] = d.cg.target[old.id]
	if old.id != id {
		delete(d.targets, old.id)
		d.replaced = old.id
	}
}

func (m *consumer) checkEpoch(epoch int32, owned parts) *refusal {
	now := m.currentValue.epoch
	switch {
	case epoch > now:
		return refuse(kerr.FencedMemberEpoch, "The consumer group member has a greater member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", epoch, now)
	case epoch < now && epoch != 0 && (epoch != m.previous || owned == nil || !owned.within(m.assigned)):
		// With the epoch before, and no partition that it should not have, it has not got the answer that raised it.
		return refuse(kerr.FencedMemberEpoch, "The consumer group member has a smaller member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", epoch, now)
	}
	return nil
}

// subscribe takes the member as it will be, and raises the group's epoch when what is subscribed to has changed.
func (d *draft) subscribe(next *consumer, s *state) *refusal {
	cg := d.cg
	d.next = next
	d.members = cg.with(next, d.replaced)
	d.regexes = cg.regexes
	old := cg.members[next.id]
	if d.replaced != "" {
		old = d.member
	}
	before := &memberValue{} // of a new member
	if old != nil {
		before = &old.memberValue
	}
	changed := !slices.Equal(before.topics, next.topics) || !equalPtr(before.regex, next.regex)
	if old == nil || changed || !old.memberValue.same(&next.memberValue) {
		v := next.memberValue
		d.put(keyMember, next.id, &v)
	}
	now := s.c.keeper.Now()
	d.seen, d.lookAt = cg.seen, cg.lookAt
	fresh := d.image == cg.seen
	if r := d.resolve(changed, now, s); r != nil {
		return r
	}
	d.epoch, d.assignmentEpoch = cg.epoch, cg.assignmentEpoch
	first := cg.epoch == 0
	if first {
		d.epoch = 1
	}
	if !changed && !first && fresh && cg.epoch == cg.assignmentEpoch {
		return nil
	}
	var hash int64
	d.sizes, hash = subscription(d.members, d.regexes, d.image)
	if changed || hash != cg.hash {
		d.epoch++
	}
	if d.epoch != cg.epoch {
		d.put(keyEpoch, "", groupEpoch{d.epoch, hash})
	}
	return nil
}

// regexPause is the shortest time between two looks at which topics a regular expression matches.
const regexPause = time.Second

// resolve finds the topics of regular expressions: of a new one at once, of all when the metadata is newer than the last
// look, and forgets those that nobody uses. A classic member has no eye for topics (may is nil): what others' expressions match is left to their heartbeats.
func (d *draft) resolve(changed bool, now time.Time, s *state) *refusal {
	used := map[string]bool{}
	for _, m := range d.members {
		if m.regex != nil {
			used[*m.regex] = true
		}
	}
	stale := d.may != nil && d.image != d.cg.seen && !now.Before(d.cg.lookAt)
	if len(used) == 0 || stale {
		d.seen = d.image
	}
	if len(used) == 0 && len(d.cg.regexes) == 0 {
		return nil
	}
	if stale {
		d.lookAt = now.Add(regexPause)
	}
	d.regexes = maps.Clone(d.cg.regexes)
	maps.DeleteFunc(d.cg.patterns, func(re string, _ *regexp.Regexp) bool { return !used[re] })
	if d.pattern != nil {
		d.cg.patterns[*d.next.regex] = d.pattern
	}
	for _, re := range slices.Sorted(maps.Keys(used)) {
		old, known := d.regexes[re]
		if known && !stale || d.may == nil {
			continue
		}
		p, err := d.cg.compiled(re)
		if err != nil {
			if d.next.regex != nil && *d.next.regex == re && changed {
				return refuse(kerr.InvalidRegularExpression, "SubscribedTopicRegex `%s` is not a valid regular expression: %s.", re, complaint(err))
			}
			continue
		}
		var topics []string
		for name := range d.image.Topics {
			if p.MatchString(name) && d.may(name) {
				topics = append(topics, name)
			}
		}
		slices.Sort(topics)
		if !known || !slices.Equal(topics, old.topics) {
			v := regexValue{topics, int64(d.image.Index), now.UnixMilli()}
			d.regexes[re] = v
			d.put(keyRegex, re, v)
		}
	}
	for _, re := range slices.Sorted(maps.Keys(d.cg.regexes)) {
		if !used[re] {
			delete(d.regexes, re)
			d.put(keyRegex, re, nil)
		}
	}
	return nil
}

// complaint is what is wrong with a regular expression, in RE2's words.
func complaint(err error) string {
	var e *syntax.Error
	if errors.As(err, &e) {
		return e.Code.String()
	}
	return err.Error()
}

// compiled remembers: the regular expressions of a group are looked at again and again.
func (cg *consumerGroup) compiled(re string) (*regexp.Regexp, error) {
	if p := cg.patterns[re]; p != nil {
		return p, nil
	}
	p, err := pattern.Compile(re)
	if err == nil {
		cg.patterns[re] = p
	}
	return p, err
}

// target computes a new target assignment when the group's epoch is ahead of it.
func (d *draft) target() {
	if d.epoch <= d.assignmentEpoch {
		return
	}
	targets, changes := d.cg.assign(d.epoch, d.members, d.targets, d.regexes, d.sizes, d.image)
	d.targets, d.assignmentEpoch = targets, d.epoch
	d.changes = append(d.changes, changes...)
}

// reconcile moves the member on, towards its target.
func (d *draft) reconcile(owned parts) {
	m := d.next
	held := func(t metadata.TopicID, n int32) bool {
		by, ok := d.cg.held[topicIDPartition{t, n}]
		return ok && by != m.id && by != d.replaced
	}
	target := d.targets[m.id]
	v := reconcile(m.currentValue, d.assignmentEpoch, target, owned, held)
	if d.cg.members[m.id] == nil || !v.equal(m.currentValue) {
		d.put(keyCurrent, m.id, v)
	}
	m.currentValue = v
}

func (v currentValue) equal(w currentValue) bool {
	return v.epoch == w.epoch && v.previous == w.previous && v.state == w.state && v.assigned.same(w.assigned) && v.revoking.same(w.revoking)
}

func equalPtr(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

func (v *memberValue) same(w *memberValue) bool {
	return equalPtr(v.instance, w.instance) && equalPtr(v.rack, w.rack) && v.client == w.client && slices.Equal(v.topics, w.topics) &&
		equalPtr(v.regex, w.regex) && v.rebalance == w.rebalance && equalPtr(v.assignor, w.assignor) && v.classic.same(w.classic)
}

func (c *classicMember) same(o *classicMember) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.session == o.session && slices.EqualFunc(c.protocols, o.protocols, func(a, b classicProtocol) bool {
		return a.name == b.name && string(a.metadata) == string(b.metadata)
	})
}

// clock has the timers of a member, and makes them.
func (cg *consumerGroup) clock(id string) *clocks {
	k := cg.clocks[id]
	if k == nil {
		s := cg.group.state.shard
		k = &clocks{}
		k.session = s.NewTimer(func() { cg.expire(id, "no heartbeat within its session timeout") })
		k.rebalance = s.NewTimer(func() { cg.expire(id, "it did not follow a rebalance within its rebalance timeout") })
		cg.clocks[id] = k
	}
	return k
}

// keep starts a member's session anew and, when it has moved on, the time in which it has to give up what it must.
func (cg *consumerGroup) keep(id string, session time.Duration, moved bool) {
	m, k := cg.members[id], cg.clock(id)
	k.session.Arm(session)
	switch {
	case m.classic != nil:
	case m.state != memberUnrevoked:
		k.rebalance.Disarm()
	case moved:
		k.rebalance.Arm(millis(m.rebalance))
	}
}

// loaded starts the clocks of members that were replayed, and makes held what the members say: records of different
// members may have been compacted apart.
func (cg *consumerGroup) loaded() {
	clear(cg.held)
	o := cg.group.state.c.groupConfigs(cg.group.id)
	for id, m := range cg.members {
		for _, p := range []parts{m.assigned, m.revoking} {
			for t, numbers := range p {
				for n := range numbers {
					cg.held[topicIDPartition{t, n}] = id
				}
			}
		}
		session := o.SessionTimeout
		if m.classic != nil {
			session = millis(m.classic.session)
		}
		cg.keep(id, session, true)
	}
}

// expire puts a member out.
func (cg *consumerGroup) expire(id, reason string) {
	s := cg.group.state
	if cg.group.consumer != cg || cg.members[id] == nil {
		return
	}
	m := cg.members[id]
	s.c.log.Info("member put out of its consumer group: "+reason, "group", cg.group.id, "member", id, "client", m.client.ID, "host", m.client.Host)
	err := s.write(cg.remove(s.c.host.image(), id), func(error) {})
	if err != nil {
		s.c.log.Warn("a member could not be put out of its group", "group", cg.group.id, "member", id, "error", err)
		cg.clock(id).session.Arm(time.Second)
	}
}
