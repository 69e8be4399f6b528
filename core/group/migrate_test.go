package group

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// own puts what a classic member owns into the metadata of its next JoinGroup, as a cooperative consumer does.
func (c *client) own(p parts) {
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version, meta.Topics = 1, []string{"orders"}
	id := c.n.im.Topics["orders"].ID
	if len(p[id]) > 0 {
		meta.OwnedPartitions = []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: "orders", Partitions: p.numbers(id)}}
	}
	c.protos = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: meta.AppendTo(nil)}}
}

func (c *client) read(t *testing.T, b []byte) parts {
	t.Helper()
	a := kmsg.NewConsumerMemberAssignment()
	if err := a.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	p := parts{}
	for _, tp := range a.Topics {
		for _, n := range tp.Partitions {
			p.add(c.n.im.Topics[tp.Topic].ID, n, 0)
		}
	}
	return p
}

func assignmentBytes(numbers ...int32) string {
	a := kmsg.NewConsumerMemberAssignment()
	a.Topics = []kmsg.ConsumerMemberAssignmentTopic{{Topic: "orders", Partitions: numbers}}
	return string(a.AppendTo(nil))
}

// classic brings a classic member to where its heartbeats ask for nothing; it gives up at once what it no longer has.
func (c *client) follow(t *testing.T, owned parts) parts {
	t.Helper()
	for c.heartbeat() == kerr.RebalanceInProgress.Code {
		c.own(owned)
		wantCode(t, "join again", c.join().ErrorCode, 0)
		s := c.sync(nil)
		if s.ErrorCode == kerr.RebalanceInProgress.Code {
			continue
		}
		wantCode(t, "sync", s.ErrorCode, 0)
		owned = c.read(t, s.MemberAssignment)
		c.own(owned)
	}
	return owned
}

// A classic group becomes a consumer group by its first consumer member, works on with both kinds, and becomes a classic
// one again when the last consumer member leaves. Offsets stay, and no partition ever has two owners.
func TestOnlineMigration(t *testing.T) {
	for _, crash := range []bool{false, true} {
		testNode(t, Options{}, func(t *testing.T, n *node) {
			again := func() {
				if crash {
					n.restart()
				}
			}
			a := n.client("g")
			a.own(nil)
			wantCode(t, "join", a.join().ErrorCode, 0)
			s := a.sync(map[string]string{a.id: assignmentBytes(0, 1, 2)})
			wantCode(t, "sync", s.ErrorCode, 0)
			owned := a.read(t, s.MemberAssignment)
			wantCode(t, "commit", a.commit(0, 7), 0)
			again()

			b := n.reader("g", "b", "orders")
			wantCode(t, "the first consumer member", b.beat().ErrorCode, 0)
			if b.owned.count() != 0 {
				t.Fatalf("%v has two owners", b.owned)
			}
			again()
			got := n.describe("g")
			if got.ErrorCode != 0 || len(got.Members) != 2 {
				t.Fatalf("describe: %+v", got)
			}
			for _, m := range got.Members {
				want := int8(1)
				if m.MemberID == a.id {
					want = 0
				}
				if m.MemberType != want {
					t.Fatalf("type of member %s: %d, not %d", m.MemberID, m.MemberType, want)
				}
			}
			wantCode(t, "commit of the classic member", a.commit(0, 8), 0)
			for range 6 {
				owned = a.follow(t, owned)
				wantCode(t, "heartbeat", b.beat().ErrorCode, 0)
				if owned.meets(b.owned) {
					t.Fatalf("the classic member has %v, the other %v", owned, b.owned)
				}
				again()
			}
			if owned.count()+b.owned.count() != 3 || b.owned.count() == 0 {
				t.Fatalf("the classic member has %v, the other %v", owned, b.owned)
			}

			c := n.client("g") // another classic one
			c.own(nil)
			wantCode(t, "join of a second classic member", c.join().ErrorCode, 0)
			ownedC := parts{}
			wantCode(t, "its sync", c.sync(nil).ErrorCode, 0)
			for range 6 {
				owned, ownedC = a.follow(t, owned), c.follow(t, ownedC)
				wantCode(t, "heartbeat", b.beat().ErrorCode, 0)
				if owned.meets(b.owned) || owned.meets(ownedC) || ownedC.meets(b.owned) {
					t.Fatalf("the members have %v, %v and %v", owned, ownedC, b.owned)
				}
			}
			if owned.count() != 1 || ownedC.count() != 1 || b.owned.count() != 1 {
				t.Fatalf("the members have %v, %v and %v", owned, ownedC, b.owned)
			}
			again()

			wantCode(t, "the last consumer member leaves", b.leave(leaveEpoch), 0)
			if crash {
				n.restart()
			} else {
				wantCode(t, "heartbeat of a classic member", a.heartbeat(), kerr.RebalanceInProgress.Code)
			}
			if code := n.describe("g").ErrorCode; code != kerr.GroupIDNotFound.Code {
				t.Fatalf("it is still a consumer group: %d", code)
			}
			rejoin(t, []*client{a, c})
			if got := n.state("g"); got != "Stable" {
				t.Fatalf("state %s", got)
			}
			if o, _ := n.fetch("g", 0, false); o != 8 {
				t.Fatalf("offset %d", o)
			}
		})
	}
}

// Who waits in the classic group's rebalance when it is upgraded is told to come again.
func TestUpgradeDuringRebalance(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		cs := []*client{n.client("g"), n.client("g")}
		joined := cs[0].joinAsync()
		wantCode(t, "join", (<-joined).ErrorCode, 0)
		late := cs[1].joinAsync() // waits for the first one
		b := n.reader("g", "b", "orders")
		wantCode(t, "consumer", b.beat().ErrorCode, 0)
		synctest.Wait()
		wantCode(t, "who waited", (<-late).ErrorCode, kerr.RebalanceInProgress.Code)
		wantCode(t, "comes again", cs[1].join().ErrorCode, 0)
	})
}

// A classic member may join where others subscribe by a regular expression, also when the metadata is newer than the last look at
// what that matches. It has panicked there, with the shard locked.
func TestClassicMemberBesideARegex(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		re := "ord.*"
		b := n.reader("g", "b")
		b.regex, b.topics = &re, []string{}
		settle(t, b)
		n.restart() // nothing has been looked at
		a := n.client("g")
		a.own(nil)
		wantCode(t, "join", a.join().ErrorCode, 0)
		wantCode(t, "sync", a.sync(nil).ErrorCode, 0)
		n.setTopics(map[string]int{"orders": 3, "ordeals": 2})
		<-time.After(2 * regexPause) // of the bubble: then expressions are looked at again
		c := n.client("g")
		c.own(nil)
		wantCode(t, "join", c.join().ErrorCode, 0)
		wantCode(t, "heartbeat", b.beat().ErrorCode, 0)
		for range 20 {
			wantCode(t, "heartbeat", b.beat().ErrorCode, 0)
			a.follow(t, parts{})
			c.follow(t, parts{})
		}
		owned := map[string]bool{}
		for id := range b.owned {
			owned[n.im.TopicIDs[id].Name] = true
		}
		if !owned["ordeals"] {
			t.Errorf("the reader has %v: a topic that came later is not looked at", owned)
		}
	})
}

func TestMigrationPolicy(t *testing.T) {
	testNode(t, Options{Consumer: ConsumerOptions{Migration: MigrateNever}}, func(t *testing.T, n *node) {
		stableGroup(t, n, 1)
		wantCode(t, "upgrade", n.reader("g", "b", "orders").beat().ErrorCode, kerr.GroupIDNotFound.Code)
	})
}

// A classic member of a consumer group that is silent, or that does not join again, is put out.
func TestClassicMemberTimesOut(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		b := n.reader("g", "b", "orders")
		settle(t, b)
		a := n.client("g")
		a.own(nil)
		wantCode(t, "join", a.join().ErrorCode, 0)
		for range 12 { // its session is 10 s
			<-time.After(tick)
			b.beat()
		}
		wantCode(t, "heartbeat of the silent one", a.heartbeat(), kerr.UnknownMemberID.Code)
		settle(t, b)
		if b.owned.count() != 3 {
			t.Fatalf("the other has %v", b.owned)
		}
		ids := []string{}
		for _, m := range n.describe("g").Members {
			ids = append(ids, m.MemberID)
		}
		if !slices.Equal(ids, []string{"b"}) {
			t.Fatalf("members %v", ids)
		}
	})
}
