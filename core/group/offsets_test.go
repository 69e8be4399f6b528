package group

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/statelog"
)

func contextWithCancel() (context.Context, context.CancelFunc) {
	return context.WithCancel(context.Background())
}

// says is a transaction coordinator's answer.
func says(code int16) func() int16 { return func() int16 { return code } }

func simple(n *node) *client {
	c := n.client("s")
	c.gen = -1
	return c
}

func txnCommit(n *node, producer int64, partition int32, offset int64) int16 {
	r := kmsg.NewPtrTxnOffsetCommitRequest()
	r.Version, r.Group, r.ProducerID, r.ProducerEpoch, r.Generation = 4, "s", producer, 0, -1
	t := kmsg.NewTxnOffsetCommitRequestTopic()
	t.Topic = "orders"
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, offset
	t.Partitions = append(t.Partitions, p)
	r.Topics = append(r.Topics, t)
	return n.c.TxnOffsetCommit(ctx, r, says(0)).Topics[0].Partitions[0].ErrorCode
}

func TestSimpleCommit(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		c := simple(n)
		wantCode(t, "commit", c.commit(1, 5), 0)
		wantCode(t, "unknown partition", c.commit(9, 5), kerr.UnknownTopicOrPartition.Code)
		c.gen, c.id = 3, "m"
		wantCode(t, "as a member", c.commit(1, 6), kerr.UnknownMemberID.Code)
		other := n.client("nobody")
		other.gen, other.id = 3, "m"
		wantCode(t, "of a group that is not there", other.commit(1, 6), kerr.GroupIDNotFound.Code)
		if o, _ := n.fetch("s", 2, false); o != -1 {
			t.Fatalf("fetched %d where nothing was committed", o)
		}
	})
}

func TestTransactionalOffsets(t *testing.T) {
	for _, restart := range []bool{false, true} {
		testNode(t, Options{}, func(t *testing.T, n *node) {
			simple(n).commit(0, 1)
			wantCode(t, "txn commit", txnCommit(n, 100, 0, 2), 0)
			wantCode(t, "txn commit", txnCommit(n, 200, 1, 9), 0)
			if restart {
				n.restart()
			}
			if o, code := n.fetch("s", 0, false); o != 1 || code != 0 {
				t.Fatalf("an open transaction shows: %d, code %d", o, code)
			}
			_, code := n.fetch("s", 0, true)
			wantCode(t, "fetch of stable offsets", code, kerr.UnstableOffsetCommit.Code)
			mark := func(producer int64, commit bool) {
				t.Helper()
				if err := n.c.AppendMarker(ctx, 0, statelog.Producer{ID: producer, Epoch: 0}, 1, commit); err != nil {
					t.Fatal(err)
				}
			}
			mark(100, true)
			mark(200, false)
			if restart {
				n.restart()
			}
			if o, code := n.fetch("s", 0, true); o != 2 || code != 0 {
				t.Fatalf("after commit: %d, code %d", o, code)
			}
			if o, code := n.fetch("s", 1, true); o != -1 || code != 0 {
				t.Fatalf("after abort: %d, code %d", o, code)
			}
		})
	}
}

// Of a plain commit and a transactional one the later record counts, not the later marker.
func TestLaterRecordCounts(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		txnCommit(n, 100, 0, 5)
		simple(n).commit(0, 8)
		if err := n.c.AppendMarker(ctx, 0, statelog.Producer{ID: 100}, 1, true); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if o, _ := n.fetch("s", 0, true); o != 8 {
				t.Fatalf("fetched %d", o)
			}
			n.restart()
		}
	})
}

func TestDeleteGroup(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		cs := stableGroup(t, n, 1)
		cs[0].commit(0, 1)
		del := func(id string) int16 {
			r := kmsg.NewPtrDeleteGroupsRequest()
			r.Groups = []string{id}
			return n.c.DeleteGroups(ctx, r).Groups[0].ErrorCode
		}
		wantCode(t, "delete with members", del("g"), kerr.NonEmptyGroup.Code)
		cs[0].leave()
		wantCode(t, "delete", del("g"), 0)
		wantCode(t, "delete again", del("g"), kerr.GroupIDNotFound.Code)
		for range 2 {
			if o, _ := n.fetch("g", 0, false); o != -1 {
				t.Fatalf("offset %d of a deleted group", o)
			}
			if s := n.state("g"); s != "Dead" {
				t.Fatalf("state %s", s)
			}
			n.restart()
		}
	})
}

func TestOffsetDelete(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		cs := stableGroup(t, n, 1)
		cs[0].commit(0, 1)
		del := func() int16 {
			r := kmsg.NewPtrOffsetDeleteRequest()
			r.Group = "g"
			tp := kmsg.NewOffsetDeleteRequestTopic()
			tp.Topic = "orders"
			tp.Partitions = []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}
			r.Topics = append(r.Topics, tp)
			resp := n.c.OffsetDelete(ctx, r)
			wantCode(t, "offset delete", resp.ErrorCode, 0)
			return resp.Topics[0].Partitions[0].ErrorCode
		}
		wantCode(t, "while it is read", del(), kerr.GroupSubscribedToTopic.Code)
		cs[0].leave()
		wantCode(t, "delete", del(), 0)
		if o, _ := n.fetch("g", 0, false); o != -1 {
			t.Fatalf("offset %d", o)
		}
	})
}

func TestOffsetsExpire(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		cs := stableGroup(t, n, 1)
		cs[0].commit(0, 1)
		simple(n).commit(1, 2)
		for range 8 * 24 * 3600 / 9 { // eight days of heartbeats
			<-time.After(9 * time.Second)
			cs[0].heartbeat()
		}
		if o, _ := n.fetch("g", 0, false); o != 1 {
			t.Fatalf("offset %d of a group with members", o)
		}
		if o, _ := n.fetch("s", 1, false); o != -1 {
			t.Fatalf("offset %d of nobody", o)
		}
		cs[0].leave()
		<-time.After(6 * 24 * time.Hour)
		if o, _ := n.fetch("g", 0, false); o != 1 {
			t.Fatalf("offset %d six days after the last member", o)
		}
		<-time.After(25 * time.Hour)
		if o, _ := n.fetch("g", 0, false); o != -1 {
			t.Fatalf("offset %d after its retention", o)
		}
		r := kmsg.NewPtrListGroupsRequest()
		if gs := n.c.ListGroups(r).Groups; len(gs) != 0 {
			t.Fatalf("groups are left: %+v", gs)
		}
	})
}

// However many offsets of a group are over, they go, and do not keep those of other groups here. A group of so many can be deleted, too.
func TestManyOffsetsGo(t *testing.T) {
	const many = 2_000 // with the group's long name, their tombstones are more than a batch may have
	commit := func(t *testing.T, c *client) {
		t.Helper()
		for from := range int32(5) {
			items := make([]commitItem, many/5)
			for k := range items {
				items[k] = commitItem{topic: "wide", partition: from*many/5 + int32(k), offset: 1, epoch: -1}
			}
			c.n.c.commit(ctx, commitWish{group: c.group, generation: -1, retention: -1}, items)
			wantCode(t, "commit", items[0].code, 0)
		}
	}
	for _, asked := range []bool{false, true} {
		testNode(t, Options{}, func(t *testing.T, n *node) {
			wide := topic("wide", many)
			n.im.Topics[wide.Name], n.im.TopicIDs[wide.ID] = wide, wide
			large := n.client(strings.Repeat("long", 250))
			commit(t, large)
			for k := range 9 {
				c := n.client(fmt.Sprint("small-", k))
				c.gen = -1
				wantCode(t, "commit", c.commit(0, 1), 0)
			}
			if asked {
				r := kmsg.NewPtrDeleteGroupsRequest()
				r.Groups = []string{large.group}
				wantCode(t, "delete", n.c.DeleteGroups(ctx, r).Groups[0].ErrorCode, 0)
			} else {
				<-time.After(7*24*time.Hour + time.Hour)
			}
			for range 2 {
				groups := n.c.ListGroups(kmsg.NewPtrListGroupsRequest()).Groups
				if asked && len(groups) != 9 || !asked && len(groups) != 0 {
					t.Fatalf("deleted by hand %v: %d groups are left", asked, len(groups))
				}
				n.restart()
				synctest.Wait()
			}
		})
	}
}

// An offset that is committed anew while its time is over is not taken away behind the commit's back: the commit is acknowledged, and its
// offset would be gone.
func TestExpiryDoesNotOvertakeACommit(t *testing.T) {
	for _, transaction := range []bool{false, true} {
		testNode(t, Options{}, func(t *testing.T, n *node) {
			simple(n).commit(1, 2)
			<-time.After(7*24*time.Hour - 15*time.Minute) // the next look but one finds it
			n.log.Hold()
			answered := make(chan int16, 1)
			go func() {
				if transaction {
					answered <- txnCommit(n, 5, 1, 3)
				} else {
					answered <- simple(n).commit(1, 3)
				}
			}()
			<-time.After(time.Hour)
			n.log.Release()
			wantCode(t, "commit", <-answered, 0)
			if transaction {
				if err := n.c.AppendMarker(ctx, 0, statelog.Producer{ID: 5}, 1, true); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if o, _ := n.fetch("s", 1, false); o != 3 {
					t.Errorf("transaction %v: the offset is %d, and 3 was committed", transaction, o)
				}
				n.restart()
			}
		})
	}
}

// A topic that is deleted and created again has none of the old offsets.
func TestOffsetsOfAnEarlierTopic(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		simple(n).commit(0, 77)
		im := *n.image()
		im.Topics, im.TopicIDs = maps.Clone(im.Topics), maps.Clone(im.TopicIDs)
		delete(im.TopicIDs, im.Topics["orders"].ID)
		orders := topic("orders", 3)
		im.Topics["orders"], im.TopicIDs[orders.ID] = orders, orders
		n.mu.Lock()
		n.im = &im
		n.mu.Unlock()
		if o, _ := n.fetch("s", 0, false); o != -1 {
			t.Fatalf("offset %d of the topic that is gone", o)
		}
		wantCode(t, "commit", simple(n).commit(0, 3), 0)
		if o, _ := n.fetch("s", 0, false); o != 3 {
			t.Fatalf("offset %d", o)
		}
		none := im // and now there is no topic of that name
		none.Topics, none.TopicIDs = maps.Clone(im.Topics), maps.Clone(im.TopicIDs)
		delete(none.Topics, "orders")
		delete(none.TopicIDs, orders.ID)
		n.mu.Lock()
		n.im = &none
		n.mu.Unlock()
		if o, _ := n.fetch("s", 0, false); o != -1 {
			t.Errorf("offset %d of a topic that is deleted", o)
		}
		r := kmsg.NewPtrOffsetFetchRequest()
		r.Version, r.Groups = 9, []kmsg.OffsetFetchRequestGroup{{Group: "s"}}
		if ts := n.c.OffsetFetch(ctx, r).Groups[0].Topics; len(ts) > 0 {
			t.Errorf("the group has offsets of a topic that is deleted: %+v", ts)
		}
	})
}

func TestFetchByTopicID(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		simple(n).commit(0, 3)
		for id, want := range map[metadata.TopicID]int16{n.image().Topics["orders"].ID: 0, uuid.New(): kerr.UnknownTopicID.Code} {
			r := kmsg.NewPtrOffsetFetchRequest()
			r.Version = 10
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group = "s"
			tp := kmsg.NewOffsetFetchRequestGroupTopic()
			tp.TopicID, tp.Partitions = id, []int32{0}
			g.Topics = append(g.Topics, tp)
			r.Groups = append(r.Groups, g)
			p := n.c.OffsetFetch(ctx, r).Groups[0].Topics[0].Partitions[0]
			wantCode(t, "fetch", p.ErrorCode, want)
			if want == 0 && p.Offset != 3 {
				t.Fatalf("offset %d", p.Offset)
			}
		}
		r := kmsg.NewPtrOffsetFetchRequest() // all
		r.Version = 10
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = "s"
		r.Groups = append(r.Groups, g)
		ts := n.c.OffsetFetch(ctx, r).Groups[0].Topics
		if len(ts) != 1 || ts[0].TopicID != n.image().Topics["orders"].ID || ts[0].Partitions[0].Offset != 3 {
			t.Fatalf("all: %+v", ts)
		}
	})
}

func TestLosingLeadership(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		cs := stableGroup(t, n, 1)
		other := n.client("g")
		joined := other.joinAsync()
		n.image().Topics[Topic].Partitions[0].Leader = 2
		n.lead(0, false, 2)
		synctest.Wait()
		wantCode(t, "join", (<-joined).ErrorCode, kerr.NotCoordinator.Code)
		wantCode(t, "heartbeat", cs[0].heartbeat(), kerr.NotCoordinator.Code)
		n.image().Topics[Topic].Partitions[0].Leader = 1
		n.lead(0, true, 3)
		wantCode(t, "heartbeat", cs[0].heartbeat(), 0)
	})
}

// fakeLease is a lease that a test gives, for so many looks at it.
type fakeLease struct {
	mu    sync.Mutex
	looks int
	given chan struct{} // closed by the next set
}

func (l *fakeLease) set(looks int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks = looks
	if l.given != nil {
		close(l.given)
		l.given = nil
	}
}

func (l *fakeLease) Leased() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks--
	return l.looks >= 0
}

func (l *fakeLease) AwaitLease(ctx context.Context) {
	given := make(chan struct{})
	l.mu.Lock()
	l.given = given
	l.mu.Unlock()
	select {
	case <-given:
	case <-ctx.Done():
	}
}

// TestOffsetFetchUnderLease: who does not know whether others have taken the coordinator's place, and committed since, answers no offset (promise 1): it waits a
// moment for its lease, then sends the client elsewhere.
func TestOffsetFetchUnderLease(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		n.stop()
		l := &fakeLease{}
		n.lease = l
		n.start(Options{})
		l.set(1000)
		wantCode(t, "commit", simple(n).commit(1, 5), 0)
		if o, code := n.fetch("s", 1, false); o != 5 || code != 0 {
			t.Fatalf("under a lease: offset %d, code %d", o, code)
		}

		l.set(0)
		began := time.Now()
		if o, code := n.fetch("s", 1, false); o != -1 || code != kerr.NotCoordinator.Code {
			t.Fatalf("without a lease: offset %d, code %d", o, code)
		}
		if d := time.Since(began); d != leaseWait {
			t.Fatalf("it waited %v", d)
		}

		time.AfterFunc(leaseWait/2, func() { l.set(1000) })
		began = time.Now()
		if o, code := n.fetch("s", 1, false); o != 5 || code != 0 || time.Since(began) != leaseWait/2 {
			t.Fatalf("a lease that came: offset %d, code %d after %v", o, code, time.Since(began))
		}

		l.set(1) // it held when the request came, and not any more when the offset had been read
		if o, code := n.fetch("s", 1, false); o != -1 || code != kerr.NotCoordinator.Code {
			t.Fatalf("a lease that ran out meanwhile: offset %d, code %d", o, code)
		}
	})
}

func TestPartitionFor(t *testing.T) {
	// Values of Java: Utils.abs("…".hashCode()) % 50.
	for id, want := range map[string]int32{"": 0, "a": 47, "group": 98629247 % 50, "polygenelubricants": 0, "console-consumer-1": 24, "my-group": 12, "my-txn-1": 49, "connect-cluster": 13} {
		if got := statelog.PartitionFor(id, 50); got != want {
			t.Errorf("%q: partition %d, want %d", id, got, want)
		}
	}
}

// TestDecodeBelievesNoCount: kmsg would count to four billion, for eight seconds.
func TestDecodeBelievesNoCount(t *testing.T) {
	many := []byte{255, 255, 255, 255, 15}
	o := offsetRecord("g", "t", 1, &offset{offset: 3, metadata: "m"})
	empty := append([]byte{0, 4, 1, 0, 0, 0, 1, 0, 0}, make([]byte, 8)...) // a group's value up to its members
	for _, r := range []statelog.Record{
		{Key: o.Key, Value: append(o.Value[:2+8+4+2+8:2+8+4+2+8], many...)},
		{Key: []byte{0, 2, 0, 1, 'g'}, Value: append(append(empty[:len(empty):len(empty)], 1), many...)},
		{Key: []byte{0, 2, 0, 1, 'g'}, Value: append(append(append(empty[:len(empty):len(empty)], 2), make([]byte, 4+8+2)...), many...)},
	} {
		began := time.Now()
		_, err := decode(r)
		if took := time.Since(began); err == nil || took > 2*time.Second {
			t.Errorf("%x: %v after %v", r.Value, err, took)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(offsetRecord("g", "t", 1, &offset{offset: 3, metadata: "m"}).Key, offsetRecord("g", "t", 1, &offset{offset: 3, metadata: "m"}).Value)
	f.Add([]byte{0, 2, 0, 1, 'g'}, []byte{0, 3})
	f.Add([]byte{0, 9}, []byte(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		_, _ = decode(statelog.Record{Key: key, Value: value})
	})
}

// FuzzSubscription lets a member of a consumer group subscribe with any bytes.
func FuzzSubscription(f *testing.F) {
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version, meta.Topics = 3, []string{"orders", "events"}
	f.Add(meta.AppendTo(nil))
	f.Add([]byte{0, 0, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(_ *testing.T, b []byte) {
		g := &group{protocolType: "consumer", protocol: "range", phase: stable, members: map[string]*member{
			"m": {protocols: []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: b}}},
		}}
		g.subscribe()
		_ = g.subscribes("orders")
	})
}

// A producer of a transaction may say the group alone, as clients before KIP-447 do, also when the group has members of KIP-848.
func TestTxnOffsetCommitOfNoMember(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		r := n.reader("s", "m", "orders")
		settle(t, r)
		wantCode(t, "of the group alone", txnCommit(n, 100, 0, 5), 0)
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Group, req.Generation = 9, "s", -1
		req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "orders", Partitions: make([]kmsg.OffsetCommitRequestTopicPartition, 1)}}
		wantCode(t, "without a transaction", n.c.OffsetCommit(ctx, req).Topics[0].Partitions[0].ErrorCode, kerr.UnknownMemberID.Code)
	})
}

// From version 6 on clients of transactions know what KIP-848 says of groups and members that are gone; older ones know one code for all.
func TestTxnOffsetCommitSaysWhatItsVersionKnows(t *testing.T) {
	testNode(t, Options{}, func(t *testing.T, n *node) {
		for version, want := range map[int16]int16{5: kerr.IllegalGeneration.Code, 6: kerr.GroupIDNotFound.Code} {
			r := kmsg.NewPtrTxnOffsetCommitRequest()
			r.Version, r.Group, r.MemberID, r.Generation, r.ProducerID = version, "nobody", "m", 3, 1
			orders := kmsg.TxnOffsetCommitRequestTopic{Topic: "orders", Partitions: make([]kmsg.TxnOffsetCommitRequestTopicPartition, 1)}
			if version >= 6 {
				orders.Topic, orders.TopicID = "", n.image().Topics["orders"].ID
			}
			r.Topics = append(r.Topics, orders)
			wantCode(t, fmt.Sprint("version ", version), n.c.TxnOffsetCommit(ctx, r, says(0)).Topics[0].Partitions[0].ErrorCode, want)
			r.Version = 1
			want := kerr.CoordinatorNotAvailable.Code // such a client ends at COORDINATOR_LOAD_IN_PROGRESS (KAFKA-7296)
			r.Topics[0] = kmsg.TxnOffsetCommitRequestTopic{Topic: "orders", Partitions: make([]kmsg.TxnOffsetCommitRequestTopicPartition, 1)}
			wantCode(t, "version 1", n.c.TxnOffsetCommit(ctx, r, says(kerr.CoordinatorLoadInProgress.Code)).Topics[0].Partitions[0].ErrorCode, want)
		}
	})
}
