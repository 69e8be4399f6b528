package differential

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Offsets, coordinators and groups.

// coordinate waits until a coordinator has loaded.
func (s *side) coordinate(kind int8, key string) {
	s.await(kmsg.FindCoordinator, 4, M{"CoordinatorType": kind, "CoordinatorKeys": []string{key}}, func(r kmsg.Response) bool {
		return r.(*kmsg.FindCoordinatorResponse).Coordinators[0].ErrorCode == 0
	})
	if kind == 0 {
		s.await(kmsg.OffsetFetch, 5, M{"Group": key, "Topics": L{M{"Topic": "x", "Partitions": []int32{0}}}}, func(r kmsg.Response) bool {
			return r.(*kmsg.OffsetFetchResponse).ErrorCode == 0
		})
		return
	}
	s.await(kmsg.DescribeTransactions, 0, M{"TransactionalIDs": []string{key}}, func(r kmsg.Response) bool {
		c := r.(*kmsg.DescribeTransactionsResponse).TransactionStates[0].ErrorCode
		return c != 14 && c != 15 && c != 16
	})
}

func coordinatorScenario(s *side) {
	for kind := range int8(2) {
		s.coordinate(kind, s.n("x"))
	}
	s.each(kmsg.FindCoordinator, func(v int16) {
		for kind := range int8(4) {
			if kind > 0 && v == 0 {
				continue
			}
			if kind == 2 && v > 5 {
				continue // a share coordinator, which nobody asked for
			}
			for _, key := range []string{s.n("g"), ""} {
				m := M{"CoordinatorType": kind, "CoordinatorKey": key}
				if v >= 4 {
					m["CoordinatorKeys"] = []string{key}
				}
				s.do(fmt.Sprintf("kind %d, named %v", kind, key != ""), kmsg.FindCoordinator, v, m)
			}
		}
		if v >= 4 {
			s.do("many", kmsg.FindCoordinator, v, M{"CoordinatorType": 0, "CoordinatorKeys": []string{s.n("b"), s.n("a"), s.n("c"), ""}})
			s.do("one twice", kmsg.FindCoordinator, v, M{"CoordinatorType": 0, "CoordinatorKeys": []string{s.n("b"), s.n("b")}})
			s.do("none", kmsg.FindCoordinator, v, M{"CoordinatorType": 0, "CoordinatorKeys": []string{}})
		}
	})
}

// commit is an OffsetCommit of one partition.
func (s *side) commit(group, topic string, partition int32, offset int64, more M) M {
	return with(M{"Group": group, "Generation": -1, "RetentionTimeMillis": -1, "Topics": L{M{"Topic": topic, "TopicID": s.ids[topic],
		"Partitions": L{M{"Partition": partition, "Offset": offset, "LeaderEpoch": -1, "Metadata": "m"}}}}}, more)
}

func offsetsScenario(s *side) {
	t := s.topic("off", 2)
	s.coordinate(0, s.n("x"))
	s.each(kmsg.OffsetCommit, func(v int16) {
		g := s.n(fmt.Sprintf("c%d", v))
		s.coordinate(0, g)
		ask := func(label string, m M) { s.do(label, kmsg.OffsetCommit, v, m) }
		ask("simple", s.commit(g, t, 0, 5, nil))
		ask("leader epoch", withPartition(s.commit(g, t, 1, 7, nil), M{"LeaderEpoch": 3}))
		ask("back", s.commit(g, t, 0, 2, nil))
		ask("negative", s.commit(g, t, 0, -1, nil))
		ask("more negative", s.commit(g, t, 0, -5, nil))
		ask("long metadata", withPartition(s.commit(g, t, 0, 6, nil), M{"Metadata": string(make([]byte, 5000))}))
		ask("null metadata", withPartition(s.commit(g, t, 1, 8, nil), M{"Metadata": nil}))
		if v < 10 {
			ask("unknown topic", s.commit(g, s.n("nope"), 0, 5, nil))
		} else {
			m := s.commit(g, t, 0, 5, nil)
			m["Topics"].(L)[0].(M)["TopicID"] = nobody
			ask("unknown id", m)
			m["Topics"].(L)[0].(M)["TopicID"] = [16]byte{}
			ask("no id", m)
		}
		ask("unknown partition", s.commit(g, t, 9, 5, nil))
		ask("with a member id", s.commit(g, t, 0, 5, M{"MemberID": "nobody", "Generation": 1}))
		ask("with a generation", s.commit(g, t, 0, 5, M{"Generation": 4}))
		ask("with a member id only", s.commit(g, t, 0, 5, M{"MemberID": "nobody"}))
		ask("generation and no member, no group", s.commit(s.n(fmt.Sprintf("d%d", v)), t, 0, 5, M{"Generation": 4}))
		ask("no group", s.commit("", t, 0, 5, nil))
		ask("no topics", M{"Group": g, "Generation": -1, "RetentionTimeMillis": -1})
		ask("generation -2", s.commit(g, t, 0, 5, M{"Generation": -2}))
		if v >= 7 {
			ask("an instance that is unknown", s.commit(g, t, 0, 5, M{"MemberID": "nobody", "Generation": 1, "InstanceID": "i"}))
		}
	})
	g := s.n("of")
	s.coordinate(0, g)
	s.ask(kmsg.OffsetCommit, 9, s.commit(g, t, 0, 5, nil))
	s.ask(kmsg.OffsetCommit, 9, withPartition(s.commit(g, t, 1, 7, nil), M{"LeaderEpoch": 3, "Metadata": nil}))
	s.each(kmsg.OffsetFetch, func(v int16) {
		ask := func(label string, m M) { s.do(label, kmsg.OffsetFetch, v, m) }
		if v < 8 {
			for _, stable := range []bool{false, true} {
				if stable && v < 7 {
					continue
				}
				one := func(group, topic string, partitions ...int32) M {
					return M{"Group": group, "RequireStable": stable, "Topics": L{M{"Topic": topic, "Partitions": partitions}}}
				}
				label := fmt.Sprintf(", stable %v", stable)
				ask("two and an unknown"+label, one(g, t, 0, 1, 9))
				ask("unknown topic"+label, one(g, s.n("nope"), 0))
				ask("unknown group"+label, one(s.n("nobody"), t, 0))
				ask("no group"+label, one("", t, 0))
				ask("no topics"+label, M{"Group": g, "RequireStable": stable, "Topics": L{}})
				if v >= 2 {
					ask("all"+label, M{"Group": g, "RequireStable": stable})
					ask("all, unknown group"+label, M{"Group": s.n("nobody"), "RequireStable": stable})
				}
			}
			return
		}
		one := func(group, topic string, partitions ...int32) M {
			return M{"Group": group, "MemberEpoch": -1, "Topics": L{M{"Topic": topic, "TopicID": s.ids[topic], "Partitions": partitions}}}
		}
		groups := func(gs ...any) M { return M{"Groups": L(gs)} }
		ask("two and an unknown", groups(one(g, t, 0, 1, 9)))
		ask("stable", M{"RequireStable": true, "Groups": L{one(g, t, 0, 1, 9)}})
		if v < 10 {
			ask("unknown topic", groups(one(g, s.n("nope"), 0)))
		} else {
			ask("unknown id", groups(M{"Group": g, "MemberEpoch": -1, "Topics": L{M{"TopicID": nobody, "Partitions": []int32{0, 1}}}}))
			ask("no id", groups(M{"Group": g, "MemberEpoch": -1, "Topics": L{M{"Partitions": []int32{0}}}}))
		}
		ask("unknown group", groups(one(s.n("nobody"), t, 0)))
		ask("no group", groups(one("", t, 0)))
		ask("all", groups(M{"Group": g, "MemberEpoch": -1}))
		ask("no topics", groups(M{"Group": g, "MemberEpoch": -1, "Topics": L{}}))
		ask("two groups", groups(one(g, t, 0), one(s.n("nobody"), t, 1)))
		ask("one group twice", groups(one(g, t, 0), one(g, t, 1)))
		ask("no groups", groups())
		if v >= 9 {
			ask("with a member", groups(with(one(g, t, 0), M{"MemberID": "m", "MemberEpoch": 4})))
		}
	})
	s.each(kmsg.OffsetDelete, func(v int16) {
		ask := func(label, group, topic string, partitions ...int32) {
			var ps L
			for _, p := range partitions {
				ps = append(ps, M{"Partition": p})
			}
			s.do(label, kmsg.OffsetDelete, v, M{"Group": group, "Topics": L{M{"Topic": topic, "Partitions": ps}}})
		}
		ask("one and an unknown", g, t, 0, 9)
		ask("again", g, t, 0)
		ask("unknown topic", g, s.n("nope"), 0)
		ask("unknown group", s.n("nobody"), t, 0)
		ask("no group", "", t, 0)
		s.do("nothing", kmsg.OffsetDelete, v, M{"Group": g})
		s.do("what is left", kmsg.OffsetFetch, 7, M{"Group": g})
	})
	s.each(kmsg.DeleteGroups, func(v int16) {
		g := s.n(fmt.Sprintf("rm%d", v))
		s.coordinate(0, g)
		s.ask(kmsg.OffsetCommit, 9, s.commit(g, t, 0, 5, nil))
		s.do("two", kmsg.DeleteGroups, v, M{"Groups": []string{g, s.n("nobody")}})
		s.do("again", kmsg.DeleteGroups, v, M{"Groups": []string{g}})
		s.do("no name", kmsg.DeleteGroups, v, M{"Groups": []string{""}})
		s.do("none", kmsg.DeleteGroups, v, M{})
		s.do("no offsets", kmsg.OffsetFetch, 7, M{"Group": g})
	})
}

// member is one member of a classic group on a connection of its own.
type member struct {
	s          *side
	c          *conn
	v          int16 // of JoinGroup
	group      string
	id         string
	instance   any
	generation int32
	protocols  L
}

func (s *side) member(group string, v int16) *member {
	return &member{s: s, c: s.dial(), v: v, group: group, protocols: L{M{"Name": "range", "Metadata": []byte("first")}, M{"Name": "sticky", "Metadata": []byte("second")}}}
}

func (m *member) join() flight {
	return m.c.start(kmsg.JoinGroup, m.v, M{"Group": m.group, "SessionTimeoutMillis": 10000, "RebalanceTimeoutMillis": 10000, "MemberID": m.id, "InstanceID": m.instance,
		"ProtocolType": "consumer", "Protocols": m.protocols})
}

// joined notes a JoinGroup's answer; with MEMBER_ID_REQUIRED it joins again with the id.
func (m *member) joined(label string, f flight) *kmsg.JoinGroupResponse {
	r, ok := f.note(label).(*kmsg.JoinGroupResponse)
	if !ok {
		panic("no answer to JoinGroup")
	}
	if r.MemberID != "" {
		m.id = r.MemberID
	}
	if r.ErrorCode == 79 {
		return m.joined(label+", with its id", m.join())
	}
	if r.ErrorCode == 0 {
		m.generation = r.Generation
	}
	return r
}

func (m *member) sync(label string, v int16, assignments ...any) *kmsg.SyncGroupResponse {
	r, _ := m.c.do(label, kmsg.SyncGroup, v, m.syncBody(assignments...)).(*kmsg.SyncGroupResponse)
	return r
}

func (m *member) syncBody(assignments ...any) M {
	return M{"Group": m.group, "Generation": m.generation, "MemberID": m.id, "InstanceID": m.instance, "ProtocolType": "consumer", "Protocol": "range", "GroupAssignment": L(assignments)}
}

func (m *member) beat(label string, v int16, more M) {
	m.c.do(label, kmsg.Heartbeat, v, with(M{"Group": m.group, "Generation": m.generation, "MemberID": m.id, "InstanceID": m.instance}, more))
}

func (m *member) rebalancing() {
	m.s.await(kmsg.Heartbeat, 3, M{"Group": m.group, "Generation": m.generation, "MemberID": m.id, "InstanceID": m.instance}, func(r kmsg.Response) bool {
		return r.(*kmsg.HeartbeatResponse).ErrorCode == 27
	})
}

func classicGroupScenario(s *side) {
	t := s.topic("group", 2)
	s.each(kmsg.JoinGroup, func(v int16) {
		g := s.n(fmt.Sprintf("g%d", v))
		s.coordinate(0, g)
		bad := func(label string, more M) {
			s.do(label, kmsg.JoinGroup, v, with(M{"Group": g, "SessionTimeoutMillis": 10000, "RebalanceTimeoutMillis": 10000, "ProtocolType": "consumer", "Protocols": L{M{"Name": "range", "Metadata": []byte("x")}}}, more))
		}
		bad("no group", M{"Group": ""})
		bad("session too short", M{"SessionTimeoutMillis": 1})
		bad("session too long", M{"SessionTimeoutMillis": 100_000_000})
		bad("unknown member", M{"MemberID": "nobody"})
		bad("no protocols", M{"Protocols": L{}})
		bad("no protocol type", M{"ProtocolType": ""})
		if v >= 5 {
			bad("an instance with an unknown member id", M{"MemberID": "nobody", "InstanceID": "i"})
		}
		for _, f := range []func(string, kmsg.Key, int16, M) kmsg.Response{s.do} {
			f("unknown group", kmsg.Heartbeat, 3, M{"Group": s.n("nobody"), "Generation": 1, "MemberID": "x"})
			f("unknown group", kmsg.SyncGroup, 4, M{"Group": s.n("nobody"), "Generation": 1, "MemberID": "x"})
			f("unknown group", kmsg.LeaveGroup, 2, M{"Group": s.n("nobody"), "MemberID": "x"})
			f("unknown group", kmsg.LeaveGroup, 4, M{"Group": s.n("nobody"), "Members": L{M{"MemberID": "x"}}})
		}
		sv, hv, lv := min(v, 5), min(v, 4), min(v, 5)
		a := s.member(g, v)
		a.joined("first", a.join())
		a.beat("before sync", hv, nil)
		bad("another protocol type", M{"ProtocolType": "connect"})
		bad("other protocols", M{"Protocols": L{M{"Name": "other"}}})
		s.do("sync, wrong generation", kmsg.SyncGroup, sv, with(a.syncBody(), M{"Generation": 77}))
		s.do("sync, wrong member", kmsg.SyncGroup, sv, with(a.syncBody(), M{"MemberID": "nobody"}))
		if sv >= 5 {
			s.do("sync, wrong protocol", kmsg.SyncGroup, sv, with(a.syncBody(), M{"Protocol": "sticky"}))
			s.do("sync, wrong type", kmsg.SyncGroup, sv, with(a.syncBody(), M{"ProtocolType": "connect"}))
			s.do("sync, no protocol", kmsg.SyncGroup, sv, with(a.syncBody(), M{"ProtocolType": nil, "Protocol": nil}))
		}
		a.sync("sync", sv, M{"MemberID": a.id, "MemberAssignment": []byte("all of it")})
		a.sync("sync again", sv)
		a.beat("stable", hv, nil)
		a.beat("wrong generation", hv, M{"Generation": 9})
		a.beat("wrong member", hv, M{"MemberID": "nobody"})
		s.do("commit as a member", kmsg.OffsetCommit, 9, s.commit(g, t, 0, 5, M{"MemberID": a.id, "Generation": a.generation}))
		s.do("commit, wrong generation", kmsg.OffsetCommit, 9, s.commit(g, t, 0, 5, M{"MemberID": a.id, "Generation": a.generation + 1}))
		s.do("commit, wrong member", kmsg.OffsetCommit, 9, s.commit(g, t, 0, 5, M{"MemberID": "nobody", "Generation": a.generation}))
		s.do("commit as nobody", kmsg.OffsetCommit, 9, s.commit(g, t, 0, 5, nil))
		s.do("delete of a group in use", kmsg.DeleteGroups, 2, M{"Groups": []string{g}})
		s.do("delete of an offset in use", kmsg.OffsetDelete, 0, M{"Group": g, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0}}}}})
		s.describe(g)

		b := s.member(g, v)
		b.protocols = L{M{"Name": "range", "Metadata": []byte("third")}}
		join := b.join()
		if v >= 4 {
			if r := join.note("second").(*kmsg.JoinGroupResponse); r.ErrorCode == 79 {
				b.id = r.MemberID
				join = b.join()
			}
		}
		a.rebalancing()
		a.beat("rebalance", hv, nil)
		s.do("commit in a rebalance", kmsg.OffsetCommit, 9, s.commit(g, t, 0, 6, M{"MemberID": a.id, "Generation": a.generation}))
		s.do("sync in a rebalance", kmsg.SyncGroup, sv, a.syncBody())
		a.joined("rejoined", a.join())
		b.joined("second joined", join)
		wait := b.c.start(kmsg.SyncGroup, sv, b.syncBody())
		a.sync("sync of two", sv, M{"MemberID": a.id, "MemberAssignment": []byte("one")}, M{"MemberID": b.id, "MemberAssignment": []byte("other")})
		wait.note("sync of the second")
		b.joined("a follower joins again, the same", b.join())
		s.describe(g)
		if lv < 3 {
			s.do("leave", kmsg.LeaveGroup, lv, M{"Group": g, "MemberID": b.id})
			s.do("leave again", kmsg.LeaveGroup, lv, M{"Group": g, "MemberID": b.id})
		} else {
			s.do("leave, two and an unknown", kmsg.LeaveGroup, lv, M{"Group": g, "Members": L{M{"MemberID": b.id}, M{"MemberID": "nobody"}, M{"MemberID": "", "InstanceID": "none"}}})
			s.do("leave, none", kmsg.LeaveGroup, lv, M{"Group": g, "Members": L{}})
		}
		s.do("the rest leaves", kmsg.LeaveGroup, 4, M{"Group": g, "Members": L{M{"MemberID": a.id}}})
		s.describe(g)
	})
}

// describe notes what there is to be told about a group, in every version.
func (s *side) describe(group string) {
	s.each(kmsg.DescribeGroups, func(v int16) {
		s.do("one and an unknown", kmsg.DescribeGroups, v, M{"Groups": []string{group, s.n("nobody")}})
	})
	s.each(kmsg.ListGroups, func(v int16) {
		s.do("all", kmsg.ListGroups, v, M{})
	})
	if v, ok := s.last(kmsg.ListGroups); ok {
		for _, state := range []string{"Stable", "Empty", "stable", "Nonsense"} {
			s.do("state "+state, kmsg.ListGroups, v, M{"StatesFilter": []string{state}})
		}
		for _, kind := range []string{"classic", "Classic", "consumer", "nonsense"} {
			s.do("type "+kind, kmsg.ListGroups, v, M{"TypesFilter": []string{kind}})
		}
	}
}

func staticGroupScenario(s *side) {
	s.each(kmsg.JoinGroup, func(v int16) {
		if v < 5 {
			return
		}
		g := s.n(fmt.Sprintf("static%d", v))
		s.coordinate(0, g)
		a := s.member(g, v)
		a.instance = "one"
		a.joined("first", a.join())
		a.sync("sync", 5, M{"MemberID": a.id, "MemberAssignment": []byte("all")})
		again := s.member(g, v)
		again.instance = "one"
		r := again.joined("the same instance again", again.join())
		if r.LeaderID == again.id {
			again.sync("sync of the one that came back", 5, M{"MemberID": again.id, "MemberAssignment": []byte("new")})
		}
		a.beat("the one before", 3, nil)
		again.beat("the one after", 3, nil)
		again.beat("another instance", 3, M{"InstanceID": "two"})
		s.do("describe", kmsg.DescribeGroups, 5, M{"Groups": []string{g}})
		s.do("leave by member id of before", kmsg.LeaveGroup, 4, M{"Group": g, "Members": L{M{"MemberID": a.id, "InstanceID": "one"}}})
		s.do("leave by instance", kmsg.LeaveGroup, 4, M{"Group": g, "Members": L{M{"MemberID": "", "InstanceID": "one"}, M{"MemberID": "", "InstanceID": "two"}}})
		s.do("describe after it", kmsg.DescribeGroups, 5, M{"Groups": []string{g}})
	})
}

// consumerGroupScenario is KIP-848; it begins with the day that key 68 is served.
func consumerGroupScenario(s *side) {
	t := s.topic("next", 2)
	g := s.n("next")
	s.coordinate(0, g)
	s.each(kmsg.ConsumerGroupDescribe, func(v int16) {
		s.do("unknown", kmsg.ConsumerGroupDescribe, v, M{"Groups": []string{s.n("nobody")}})
		s.do("none", kmsg.ConsumerGroupDescribe, v, M{"Groups": []string{}})
		s.do("no name", kmsg.ConsumerGroupDescribe, v, M{"Groups": []string{""}})
	})
	s.each(kmsg.ConsumerGroupHeartbeat, func(v int16) {
		g := s.n(fmt.Sprintf("next%d", v))
		ask := func(label string, m M) *kmsg.ConsumerGroupHeartbeatResponse {
			r, _ := s.do(label, kmsg.ConsumerGroupHeartbeat, v, with(M{"Group": g, "RebalanceTimeoutMillis": -1, "MemberEpoch": 1}, m)).(*kmsg.ConsumerGroupHeartbeatResponse)
			return r
		}
		id := "AAAAAAAAAAAAAAAAAAAAAA"
		joins := M{"MemberID": id, "MemberEpoch": 0, "RebalanceTimeoutMillis": 10000, "SubscribedTopicNames": []string{t}, "Topics": L{}}
		ask("no group", with(joins, M{"Group": ""}))
		ask("no subscription", with(joins, M{"SubscribedTopicNames": nil}))
		ask("no rebalance timeout", with(joins, M{"RebalanceTimeoutMillis": -1}))
		ask("owns something already", with(joins, M{"Topics": L{M{"TopicID": s.ids[t], "Partitions": []int32{0}}}}))
		ask("unknown assignor", with(joins, M{"ServerAssignor": "x"}))
		ask("an epoch without a group", M{"MemberID": id, "MemberEpoch": 3})
		ask("joins", joins)
		ask("stays", M{"MemberID": id, "MemberEpoch": 1})
		ask("wrong epoch", M{"MemberID": id, "MemberEpoch": 7})
		ask("unknown member", M{"MemberID": "nobody", "MemberEpoch": 1})
		ask("leaves", M{"MemberID": id, "MemberEpoch": -1})
		ask("leaves again", M{"MemberID": id, "MemberEpoch": -1})
	})
}
