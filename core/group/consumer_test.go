package group

import (
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/pattern"
)

// reader is one client of the consumer protocol.
type reader struct {
	n        *node
	group    string
	id       string
	instance *string
	epoch    int32
	topics   []string
	regex    *string
	assignor *string
	owned    parts
}

func (n *node) reader(group, id string, topics ...string) *reader {
	return &reader{n: n, group: group, id: id, topics: topics, owned: parts{}}
}

// beat sends a heartbeat and takes the answer over, as a client does that revokes and takes what it is told at once.
func (r *reader) beat() *kmsg.ConsumerGroupHeartbeatResponse {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = 1, r.group, r.id, r.epoch, r.instance
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if r.epoch == 0 {
		r.owned = parts{}
	}
	if r.epoch >= 0 {
		req.RebalanceTimeoutMillis = 60_000
		req.SubscribedTopicNames, req.SubscribedTopicRegex, req.ServerAssignor = r.topics, r.regex, r.assignor
		for _, t := range r.owned.topics() {
			req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t, Partitions: r.owned.numbers(t)})
		}
	}
	resp := r.n.c.ConsumerGroupHeartbeat(ctx, req, Client{ID: "app", Host: "/127.0.0.1"}, func(topic string) bool { return !strings.HasPrefix(topic, "secret") })
	if resp.ErrorCode == 0 {
		r.epoch = resp.MemberEpoch
		if resp.Assignment != nil {
			r.owned = parts{}
			for _, t := range resp.Assignment.Topics {
				for _, p := range t.Partitions {
					r.owned.add(t.TopicID, p, 0)
				}
			}
		}
	}
	return resp
}

func (r *reader) leave(epoch int32) int16 {
	r.epoch, r.owned = epoch, parts{}
	code := r.beat().ErrorCode
	r.epoch = 0
	return code
}

// settle beats all readers until nobody's epoch or assignment moves any more.
func settle(t *testing.T, rs ...*reader) {
	t.Helper()
	quiet := 0
	for range 100 {
		before := make([]string, len(rs))
		for i, r := range rs {
			before[i] = fmt.Sprint(r.epoch, r.owned)
			wantCode(t, "heartbeat of "+r.id, r.beat().ErrorCode, 0)
		}
		same := true
		for i, r := range rs {
			same = same && before[i] == fmt.Sprint(r.epoch, r.owned)
		}
		if quiet++; !same {
			quiet = 0
		}
		if quiet == 2 {
			return
		}
	}
	t.Fatal("the group does not settle")
}

func (n *node) describe(group string) kmsg.ConsumerGroupDescribeResponseGroup {
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Version, req.Groups = 1, []string{group}
	return n.c.ConsumerGroupDescribe(ctx, req).Groups[0]
}

// setTopics makes the metadata have these topics, with so many partitions, and the internal one.
func (n *node) setTopics(sizes map[string]int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	im := metadata.NewImage()
	im.Index = n.im.Index + 1
	add := func(tp *metadata.Topic) { im.Topics[tp.Name], im.TopicIDs[tp.ID] = tp, tp }
	add(n.im.Topics[Topic])
	for name, size := range sizes {
		tp := topic(name, size)
		if old := n.im.Topics[name]; old != nil {
			tp.ID = old.ID
			for _, p := range tp.Partitions {
				p.TopicID = old.ID
			}
		}
		add(tp)
	}
	n.im = im
}

func TestConsumerGroupOfOne(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		r := n.reader("g", "m1", "orders")
		resp := r.beat()
		wantCode(t, "join", resp.ErrorCode, 0)
		if resp.MemberEpoch != 2 || *resp.MemberID != "m1" || resp.HeartbeatIntervalMillis != 5000 || r.owned.count() != 3 {
			t.Fatalf("join: %+v, owns %v", resp, r.owned)
		}
		if got := n.describe("g"); got.State != "Stable" || got.Epoch != 2 || got.AssignmentEpoch != 2 || got.AssignorName != "uniform" ||
			len(got.Members) != 1 || got.Members[0].MemberEpoch != 2 || got.Members[0].Assignment.TopicPartitions[0].Topic != "orders" {
			t.Fatalf("describe: %+v", got)
		}
		if got := n.state("g"); got != "Dead" {
			t.Fatalf("DescribeGroups shows a consumer group as %s", got)
		}
		n.restart()
		wantCode(t, "heartbeat at the next coordinator", r.beat().ErrorCode, 0)
		if r.epoch != 2 || r.owned.count() != 3 {
			t.Fatalf("epoch %d, owns %v after a restart", r.epoch, r.owned)
		}
		wantCode(t, "leave", r.leave(leaveEpoch), 0)
		if got := n.describe("g"); got.State != "Empty" || got.Epoch != 3 || got.AssignmentEpoch != 3 || len(got.Members) != 0 {
			t.Fatalf("describe: %+v", got)
		}
	})
}

// A partition goes to its next owner only when the last one has said that it has given it up.
func TestRevokeBeforeAssign(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		a, b := n.reader("g", "a", "orders"), n.reader("g", "b", "orders")
		a.beat()
		before := a.owned
		resp := b.beat()
		wantCode(t, "join", resp.ErrorCode, 0)
		if b.owned.count() != 0 || b.epoch != 3 {
			t.Fatalf("the second has %v at epoch %d before the first gave anything up", b.owned, b.epoch)
		}
		a.beat()
		if a.epoch != 2 || a.owned.count() != 2 || !a.owned.within(before) {
			t.Fatalf("the first has %v at epoch %d", a.owned, a.epoch)
		}
		if b.beat(); b.owned.count() != 0 {
			t.Fatal("the second got a partition that the first has not given up yet")
		}
		if got := n.describe("g"); got.State != "Reconciling" || len(got.Members[0].Assignment.TopicPartitions[0].Partitions) != 3 {
			t.Fatalf("%+v: the first still has three", got)
		}
		a.beat() // without the third one
		if a.epoch != 3 {
			t.Fatalf("the first is at epoch %d", a.epoch)
		}
		if b.beat(); b.owned.count() != 1 || b.owned.meets(a.owned) {
			t.Fatalf("the first has %v, the second %v", a.owned, b.owned)
		}
		if got := n.describe("g").State; got != "Stable" {
			t.Fatalf("state %s", got)
		}
	})
}

func TestRebalanceTimeoutOfRevocation(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		a, b := n.reader("g", "a", "orders"), n.reader("g", "b", "orders")
		a.beat()
		b.beat()
		a.beat() // told to give one up, and beats on without doing so
		held := parts{}
		for id, m := range n.im.TopicIDs[n.im.Topics["orders"].ID].Partitions {
			held.add(m.TopicID, int32(id), 0)
		}
		for range 59 {
			<-time.After(tick)
			a.owned = held
			wantCode(t, "heartbeat", a.beat().ErrorCode, 0)
			b.beat()
		}
		if b.owned.count() != 0 {
			t.Fatal("a partition has two owners")
		}
		<-time.After(2 * tick)
		wantCode(t, "heartbeat of the one that did not give up", a.beat().ErrorCode, kerr.UnknownMemberID.Code)
		settle(t, b)
		if b.owned.count() != 3 {
			t.Fatalf("the other has %v", b.owned)
		}
	})
}

func TestConsumerSessionTimeout(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		a, b := n.reader("g", "a", "orders"), n.reader("g", "b", "orders")
		settle(t, a, b)
		for range 46 {
			<-time.After(tick)
			b.beat()
		}
		wantCode(t, "heartbeat of the silent one", a.beat().ErrorCode, kerr.UnknownMemberID.Code)
		settle(t, b)
		if b.owned.count() != 3 {
			t.Fatalf("the other has %v", b.owned)
		}
	})
}

// setGroup gives a group a config of its own.
func (n *node) setGroup(group string, configs map[string]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.im, _ = metadata.Apply(n.im, n.im.Index+1, &metadata.AlterGroupConfigs{Group: group, Set: configs})
}

// A group's own configs are in force from a member's next heartbeat on, within the bounds of the node.
func TestConfigsOfOneGroup(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		for group, want := range map[string]struct {
			configs   map[string]string
			heartbeat int32
			session   int // seconds
		}{
			"g":     {map[string]string{"consumer.session.timeout.ms": "60000", "consumer.heartbeat.interval.ms": "6000"}, 6000, 60},
			"h":     {map[string]string{"consumer.session.timeout.ms": "1", "consumer.heartbeat.interval.ms": "99000"}, 15_000, 45},
			"other": {nil, 5000, 45},
		} {
			a, b := n.reader(group, "a", "orders"), n.reader(group, "b", "orders")
			settle(t, a, b)
			n.setGroup(group, want.configs)
			if got := a.beat().HeartbeatIntervalMillis; got != want.heartbeat {
				t.Errorf("%s: a heartbeat every %d ms", group, got)
			}
			beat := func(seconds int) int {
				for range seconds {
					<-time.After(time.Second)
					b.beat()
				}
				return len(n.describe(group).Members)
			}
			if got := beat(want.session - 1); got != 2 {
				t.Errorf("%s: %d members before the session timeout", group, got)
			}
			if got := beat(2); got != 1 {
				t.Errorf("%s: %d members after the session timeout", group, got)
			}
		}
	})
}

func TestMemberEpochs(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		a, b := n.reader("g", "a", "orders"), n.reader("g", "b", "orders")
		settle(t, a, b)
		ahead := *a
		ahead.epoch = 9
		wantCode(t, "a greater epoch", ahead.beat().ErrorCode, kerr.FencedMemberEpoch.Code)
		stranger := n.reader("g", "x", "orders")
		stranger.epoch = 1
		wantCode(t, "an unknown member", stranger.beat().ErrorCode, kerr.UnknownMemberID.Code)
		nowhere := n.reader("none", "x", "orders")
		nowhere.epoch = 1
		wantCode(t, "an unknown group", nowhere.beat().ErrorCode, kerr.GroupIDNotFound.Code)
		// The answer that raised the epoch was lost: the epoch before will do, with no more than is assigned.
		lost := *a
		wantCode(t, "leave", b.leave(leaveEpoch), 0)
		a.beat()
		if a.epoch == lost.epoch {
			t.Fatal("the epoch was not raised")
		}
		again := lost
		wantCode(t, "the epoch before", again.beat().ErrorCode, 0)
		if again.epoch != a.epoch {
			t.Fatalf("epoch %d, want %d", again.epoch, a.epoch)
		}
		greedy := lost
		greedy.owned = greedy.owned.clone()
		greedy.owned.add(n.im.Topics[Topic].ID, 0, 0)
		wantCode(t, "the epoch before, with a partition of others", greedy.beat().ErrorCode, kerr.FencedMemberEpoch.Code)
	})
}

func (r *reader) commit(version int16, partition int32, offset int64) int16 {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = version, r.group, r.id, r.instance, r.epoch
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic, t.TopicID = "orders", r.n.im.Topics["orders"].ID
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, offset
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return r.n.c.OffsetCommit(ctx, req).Topics[0].Partitions[0].ErrorCode
}

func TestCommitsWithMemberEpochs(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		a, b := n.reader("g", "a", "orders"), n.reader("g", "b", "orders")
		settle(t, a, b)
		mine := a.owned.numbers(n.im.Topics["orders"].ID)[0]
		wantCode(t, "commit", a.commit(10, mine, 5), 0)
		wantCode(t, "commit of an old client version", a.commit(8, mine, 5), kerr.UnsupportedVersion.Code)
		ahead, admin, stranger := *a, *a, *a
		ahead.epoch, admin.epoch, admin.id, stranger.id = 9, -1, "", "x"
		wantCode(t, "commit with a greater epoch", ahead.commit(9, mine, 6), kerr.StaleMemberEpoch.Code)
		wantCode(t, "commit of an administrator", admin.commit(9, mine, 6), kerr.UnknownMemberID.Code)
		wantCode(t, "commit of a stranger", stranger.commit(9, mine, 6), kerr.UnknownMemberID.Code)
		old, oldB := *a, *b
		b.leave(leaveEpoch)
		settle(t, a)
		wantCode(t, "commit with an old epoch for what it has had since (KIP-1251)", old.commit(9, mine, 7), 0)
		theirs := oldB.owned.numbers(n.im.Topics["orders"].ID)[0]
		old.epoch = oldB.epoch
		wantCode(t, "commit with an old epoch for what it had not", old.commit(9, theirs, 7), kerr.StaleMemberEpoch.Code)
		if o, _ := n.fetch("g", mine, false); o != 7 {
			t.Fatalf("fetched %d", o)
		}
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version = 9
		for _, epoch := range []int32{99, a.epoch, a.epoch} {
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group, g.MemberID, g.MemberEpoch = "g", &a.id, epoch
			req.Groups = append(req.Groups, g)
		}
		resp := n.c.OffsetFetch(ctx, req)
		if len(resp.Groups) != 2 {
			t.Fatalf("all offsets of a group are told %d times", len(resp.Groups)-1)
		}
		wantCode(t, "fetch with another epoch", resp.Groups[0].ErrorCode, kerr.StaleMemberEpoch.Code)
		wantCode(t, "fetch", resp.Groups[1].ErrorCode, 0)
	})
}

func TestConsumerGroupReactsToMetadata(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		a := n.reader("g", "a", "orders", "late")
		settle(t, a)
		n.setTopics(map[string]int{"orders": 5})
		settle(t, a)
		if a.owned.count() != 5 {
			t.Fatalf("owns %v of 5 partitions", a.owned)
		}
		n.setTopics(map[string]int{"orders": 5, "late": 2})
		settle(t, a)
		if a.owned.count() != 7 {
			t.Fatalf("owns %v of 7 partitions", a.owned)
		}
		n.setTopics(map[string]int{"late": 2})
		settle(t, a)
		if a.owned.count() != 2 {
			t.Fatalf("owns %v of 2 partitions", a.owned)
		}
	})
}

func TestEmptyGroupsChangeProtocol(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		cs := stableGroup(t, n, 1)
		wantCode(t, "commit", cs[0].commit(0, 7), 0)
		wantCode(t, "leave", cs[0].leave(), 0)
		a := n.reader("g", "a", "orders")
		wantCode(t, "consumer joins", a.beat().ErrorCode, 0)
		n.restart()
		wantCode(t, "heartbeat", a.beat().ErrorCode, 0)
		if o, _ := n.fetch("g", 0, false); o != 7 {
			t.Fatalf("offset %d", o)
		}
		wantCode(t, "leave", a.leave(leaveEpoch), 0)
		c := n.client("g")
		rejoin(t, []*client{c})
		n.restart()
		wantCode(t, "heartbeat", c.heartbeat(), 0)
		if o, _ := n.fetch("g", 0, false); o != 7 {
			t.Fatalf("offset %d", o)
		}
		if got := n.describe("g").ErrorCode; got != kerr.GroupIDNotFound.Code {
			t.Fatalf("ConsumerGroupDescribe of a classic group: %d", got)
		}
	})
}

func TestDeleteConsumerGroup(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		a := n.reader("g", "a", "orders")
		settle(t, a)
		a.commit(9, 0, 3)
		del := func() int16 {
			req := kmsg.NewPtrDeleteGroupsRequest()
			req.Version, req.Groups = 2, []string{"g"}
			return n.c.DeleteGroups(ctx, req).Groups[0].ErrorCode
		}
		wantCode(t, "delete with a member", del(), kerr.NonEmptyGroup.Code)
		a.leave(leaveEpoch)
		wantCode(t, "delete", del(), 0)
		wantCode(t, "delete again", del(), kerr.GroupIDNotFound.Code)
		n.restart()
		wantCode(t, "describe", n.describe("g").ErrorCode, kerr.GroupIDNotFound.Code)
	})
}

// Nothing is told that a crash could take back: a heartbeat is answered once its records are durable.
func TestHeartbeatAnswersOnlyWhenDurable(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		a := n.reader("g", "a", "orders")
		n.log.Hold()
		answers := make(chan int16, 2)
		go func() { answers <- a.beat().ErrorCode }()
		synctest.Wait()
		go func() { answers <- n.describe("g").ErrorCode }()
		synctest.Wait()
		select {
		case <-answers:
			t.Fatal("answered before the records were durable")
		default:
		}
		n.log.Release()
		wantCode(t, "join", <-answers, 0)
		wantCode(t, "describe", <-answers, 0)
	})
}

// Members join, leave, die, come back and subscribe to other things, topics come, grow and go, and the coordinator is
// killed. Whatever happens no partition has two owners, and once it is quiet every partition has one.
func TestConsumerGroupNeverHasTwoOwners(t *testing.T) {
	for seed := range int64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			testNode(t, Options{}, func(t *testing.T, n *node) { randomGroup(t, n, rand.New(rand.NewSource(seed))) })
		})
	}
}

func randomGroup(t *testing.T, n *node, rnd *rand.Rand) {
	sizes := map[string]int{"orders": 3, "bills": 2}
	n.setTopics(sizes)
	live := map[string]*reader{}
	next := 0
	subscribe := func(r *reader) {
		names := []string{"orders", "bills", "mail", "notes"}
		rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		none := "" // not nil: that is "unchanged"
		r.topics, r.regex = names[:1+rnd.Intn(3)], &none
		if rnd.Intn(4) == 0 {
			re := []string{"o.*", "b|m", "[a-n].*s"}[rnd.Intn(3)]
			r.topics, r.regex = []string{}, &re
		}
		if rnd.Intn(3) == 0 {
			name := assignorNames[rnd.Intn(2)]
			r.assignor = &name
		}
	}
	pick := func() *reader {
		ids := slices.Sorted(maps.Keys(live))
		if len(ids) == 0 {
			return nil
		}
		return live[ids[rnd.Intn(len(ids))]]
	}
	beat := func(r *reader) {
		resp := r.beat()
		switch resp.ErrorCode {
		case 0:
		case kerr.FencedMemberEpoch.Code, kerr.UnknownMemberID.Code, kerr.GroupIDNotFound.Code:
			r.epoch, r.owned = 0, parts{} // as a client does: give all up and join again
		default:
			t.Fatalf("heartbeat of %s: %d %v", r.id, resp.ErrorCode, *resp.ErrorMessage)
		}
	}
	check := func() {
		t.Helper()
		owner := map[topicIDPartition]string{}
		for _, id := range slices.Sorted(maps.Keys(live)) {
			for tp, numbers := range live[id].owned {
				for p := range numbers {
					k := topicIDPartition{tp, p}
					if owner[k] != "" {
						t.Fatalf("%v-%d is owned by %s and %s", tp, p, owner[k], id)
					}
					owner[k] = id
				}
			}
		}
	}
	for range 300 {
		switch rnd.Intn(12) {
		case 0:
			next++
			r := n.reader("g", fmt.Sprint("m", next))
			if rnd.Intn(3) == 0 {
				name := fmt.Sprint("i", next)
				r.instance = &name
			}
			subscribe(r)
			live[r.id] = r
		case 1:
			if r := pick(); r != nil && r.epoch > 0 {
				if r.instance != nil && rnd.Intn(2) == 0 { // a static member is restarted under a new id
					wantCode(t, "leave for a while", r.leave(leaveStaticEpoch), 0)
					delete(live, r.id)
					next++
					r.id = fmt.Sprint("m", next)
					live[r.id] = r
				} else {
					wantCode(t, "leave", r.leave(leaveEpoch), 0)
					delete(live, r.id)
				}
			}
		case 2:
			if r := pick(); r != nil && rnd.Intn(3) == 0 { // killed
				delete(live, r.id)
				for range 46 {
					<-time.After(tick)
					for _, id := range slices.Sorted(maps.Keys(live)) {
						beat(live[id])
					}
				}
			}
		case 3:
			if r := pick(); r != nil {
				subscribe(r)
			}
		case 4:
			name := []string{"orders", "bills", "mail", "notes"}[rnd.Intn(4)]
			if rnd.Intn(3) == 0 {
				delete(sizes, name)
			} else {
				sizes[name] += rnd.Intn(4)
				if sizes[name] == 0 {
					sizes[name] = 1
				}
			}
			n.setTopics(sizes)
		case 5:
			if rnd.Intn(4) == 0 {
				shown := func() string {
					resp := kmsg.ConsumerGroupDescribeResponse{Version: 1, Groups: []kmsg.ConsumerGroupDescribeResponseGroup{n.describe("g")}}
					return string(resp.AppendTo(nil))
				}
				before := shown()
				n.restart()
				if after := shown(); before != after {
					t.Fatalf("a new coordinator shows\n%q, the old one showed\n%q", after, before)
				}
			}
		default:
			if r := pick(); r != nil {
				beat(r)
			}
		}
		check()
	}
	if len(live) == 0 {
		return
	}
	var rs []*reader
	for _, id := range slices.Sorted(maps.Keys(live)) {
		rs = append(rs, live[id])
	}
	<-time.After(2 * time.Second) // regular expressions are looked at again
	for range 3 {
		for _, r := range rs {
			beat(r)
		}
		check()
	}
	<-time.After(2 * time.Second)
	for range 60 {
		for _, r := range rs {
			beat(r)
			check()
		}
	}
	settle(t, rs...)
	got, want := 0, 0
	for _, r := range rs {
		got += r.owned.count()
	}
	for name, size := range sizes {
		for _, r := range rs {
			re := r.regex
			matches := slices.Contains(r.topics, name)
			if re != nil && *re != "" {
				p, err := pattern.Compile(*re)
				if err != nil {
					t.Fatal(err)
				}
				matches = p.MatchString(name)
			}
			if matches {
				want += size
				break
			}
		}
	}
	if got != want {
		t.Fatalf("%d of %d partitions have an owner", got, want)
	}
	if state := n.describe("g").State; state != "Stable" {
		t.Fatalf("state %s", state)
	}
}

// A few KB of text can be a program of hundreds of MB. It is refused before anybody waits for it, and leaves nothing behind.
func TestLargeRegex(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		large, small := strings.Repeat(".{0,1000}", 800), "ord.*"
		r := n.reader("g", "a")
		r.topics, r.regex = []string{}, &large
		wantCode(t, "heartbeat with a large expression", r.beat().ErrorCode, kerr.InvalidRegularExpression.Code)
		r.regex = &small
		wantCode(t, "heartbeat with a small one", r.beat().ErrorCode, 0)
		wantCode(t, "heartbeat", r.beat().ErrorCode, 0)
		stranger := n.reader("g", "b")
		other := "x.*"
		stranger.regex, stranger.topics, stranger.epoch = &other, []string{}, 7
		wantCode(t, "heartbeat of no member", stranger.beat().ErrorCode, kerr.UnknownMemberID.Code)
		s, _ := n.c.lock(ctx, "g")
		defer s.unlock()
		if cg := s.groups["g"].consumer; len(cg.patterns) != 1 || cg.patterns[small] == nil {
			t.Errorf("%d expressions are kept", len(cg.patterns))
		}
	})
}
