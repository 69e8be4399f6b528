package differential

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// producer is a transactional producer as a server knows it.
type producer struct {
	s     *side
	tid   string
	pid   int64
	epoch int16
	seq   map[string]int32
}

// producer begins a transactional id, with a note.
func (s *side) producer(label, tid string) *producer {
	s.coordinate(1, tid)
	p := &producer{s: s, tid: tid, seq: map[string]int32{}}
	p.init(label, 4, nil)
	return p
}

func (p *producer) init(label string, v int16, more M) *kmsg.InitProducerIDResponse {
	r, ok := p.s.do(label, kmsg.InitProducerID, v, with(M{"TransactionalID": p.tid, "TransactionTimeoutMillis": 30000, "ProducerID": -1, "ProducerEpoch": -1}, more)).(*kmsg.InitProducerIDResponse)
	if ok && r.ErrorCode == 0 {
		p.pid, p.epoch, p.seq = r.ProducerID, r.ProducerEpoch, map[string]int32{}
	}
	return r
}

func (p *producer) add(label string, v int16, topic string, partitions ...int32) {
	topics := L{M{"Topic": topic, "Partitions": partitions}}
	p.s.do(label, kmsg.AddPartitionsToTxn, v, M{"TransactionalID": p.tid, "ProducerID": p.pid, "ProducerEpoch": p.epoch, "Topics": topics,
		"Transactions": L{M{"TransactionalID": p.tid, "ProducerID": p.pid, "ProducerEpoch": p.epoch, "Topics": topics}}})
}

func (p *producer) send(label string, v int16, topic string, partition int32, n int) {
	key := fmt.Sprint(topic, partition)
	b := batch{n: n, pid: p.pid, epoch: p.epoch, seq: p.seq[key], attrs: 0x10, key: true}
	r, ok := p.s.do(label, kmsg.Produce, v, p.s.put(topic, partition, -1, p.tid, b.bytes())).(*kmsg.ProduceResponse)
	if ok && r.Topics[0].Partitions[0].ErrorCode == 0 {
		p.seq[key] += int32(n)
	}
}

// end ends a transaction; after it the markers are waited for.
func (p *producer) end(label string, v int16, commit bool) {
	r, ok := p.s.do(label, kmsg.EndTxn, v, M{"TransactionalID": p.tid, "ProducerID": p.pid, "ProducerEpoch": p.epoch, "Commit": commit}).(*kmsg.EndTxnResponse)
	if ok && r.ErrorCode == 0 && v >= 5 && r.ProducerID >= 0 {
		if r.ProducerID != p.pid || r.ProducerEpoch != p.epoch {
			p.seq = map[string]int32{}
		}
		p.pid, p.epoch = r.ProducerID, r.ProducerEpoch
	}
	p.settled()
}

// settled waits until no marker is due.
func (p *producer) settled() {
	p.s.await(kmsg.DescribeTransactions, 0, M{"TransactionalIDs": []string{p.tid}}, func(r kmsg.Response) bool {
		st := r.(*kmsg.DescribeTransactionsResponse).TransactionStates[0].State
		return st != "PrepareCommit" && st != "PrepareAbort"
	})
}

func (p *producer) describe(label string) {
	p.s.do(label, kmsg.DescribeTransactions, 0, M{"TransactionalIDs": []string{p.tid, p.s.n("nobody")}})
}

func initProducerScenario(s *side) {
	s.coordinate(1, s.n("x"))
	s.each(kmsg.InitProducerID, func(v int16) {
		ask := func(label string, m M) *kmsg.InitProducerIDResponse {
			r, _ := s.do(label, kmsg.InitProducerID, v, with(M{"TransactionTimeoutMillis": 30000, "ProducerID": -1, "ProducerEpoch": -1}, m)).(*kmsg.InitProducerIDResponse)
			return r
		}
		ask("no transactions", nil)
		ask("no transactions, timeout 0", M{"TransactionTimeoutMillis": 0})
		ask("empty id", M{"TransactionalID": ""})
		tid := s.n(fmt.Sprintf("init%d", v))
		s.coordinate(1, tid)
		ask("timeout 0", M{"TransactionalID": tid, "TransactionTimeoutMillis": 0})
		ask("timeout -1", M{"TransactionalID": tid, "TransactionTimeoutMillis": -1})
		ask("timeout too long", M{"TransactionalID": tid, "TransactionTimeoutMillis": 900_001})
		r := ask("first", M{"TransactionalID": tid})
		ask("second", M{"TransactionalID": tid})
		s.do("known", kmsg.DescribeTransactions, 0, M{"TransactionalIDs": []string{tid}})
		if v >= 3 {
			ask("with its id, old epoch", M{"TransactionalID": tid, "ProducerID": r.ProducerID, "ProducerEpoch": r.ProducerEpoch})
			r2 := ask("third", M{"TransactionalID": tid})
			r3 := ask("with its id", M{"TransactionalID": tid, "ProducerID": r2.ProducerID, "ProducerEpoch": r2.ProducerEpoch})
			ask("with its id, retried", M{"TransactionalID": tid, "ProducerID": r2.ProducerID, "ProducerEpoch": r2.ProducerEpoch})
			_ = r3
			ask("another id", M{"TransactionalID": tid, "ProducerID": 123456789, "ProducerEpoch": 0})
			ask("id without an epoch", M{"TransactionalID": tid, "ProducerID": 5})
			ask("epoch without an id", M{"TransactionalID": tid, "ProducerEpoch": 5})
			ask("no transactions, with an id", M{"ProducerID": r.ProducerID, "ProducerEpoch": 3})
			ask("no transactions, id without an epoch", M{"ProducerID": 5})
			ask("an id of a new transactional id", M{"TransactionalID": tid + "n", "ProducerID": 99, "ProducerEpoch": 4})
		}
	})
}

// txnV1Scenario is the protocol before KIP-890: partitions are added by the client, and the epoch stays.
func txnV1Scenario(s *side) {
	t := s.topic("tv1", 3)
	pv := int16(11)
	s.each(kmsg.EndTxn, func(v int16) {
		if v >= 5 {
			return
		}
		av := min(v, 3)
		p := s.producer("init", s.n(fmt.Sprintf("tv1.%d", v)))
		p.describe("empty")
		p.send("without adding", pv, t, 0, 1)
		p.send("without adding, old", 9, t, 0, 1)
		p.add("add", av, t, 0, 1)
		p.add("add again", av, t, 0)
		p.add("add unknown", av, s.n("nope"), 0)
		p.add("add unknown partition", av, t, 99)
		p.describe("ongoing")
		p.send("send", pv, t, 0, 2)
		p.send("send on", pv, t, 0, 1)
		p.send("send elsewhere", pv, t, 1, 1)
		p.send("send where not added", pv, t, 2, 1)
		s.do("uncommitted", kmsg.ListOffsets, 7, M{"ReplicaID": -1, "IsolationLevel": 1, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}}}}})
		for _, id := range []int32{-2, 1, 7} {
			s.do(fmt.Sprintf("what replica %d sees", id), kmsg.ListOffsets, 7, M{"ReplicaID": id, "IsolationLevel": 1, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}}}}})
		}
		s.do("who writes", kmsg.DescribeProducers, 0, M{"Topics": L{M{"Topic": t, "Partitions": []int32{0, 1, 2}}}})
		p.end("commit", v, true)
		p.end("commit again", v, true)
		p.end("abort after it", v, false)
		p.describe("committed")
		p.add("add after it", av, t, 0)
		p.send("and send", pv, t, 0, 1)
		p.end("abort", v, false)
		p.end("abort again", v, false)
		p.end("commit after it", v, true)
		p.describe("aborted")
		old := *p
		p.add("add before the fence", av, t, 1)
		p.send("send before the fence", pv, t, 1, 1)
		for r := p.init("fence", 4, nil); r.ErrorCode == 51; r = p.init("fence", 4, nil) {
			s.steps = s.steps[:len(s.steps)-1] // markers are being written
		}
		old.add("fenced", av, t, 1)
		old.send("fenced", pv, t, 1, 1)
		old.end("fenced", v, true)
		s.do("wrong producer id", kmsg.EndTxn, v, M{"TransactionalID": p.tid, "ProducerID": 987654321, "ProducerEpoch": 0, "Commit": true})
		s.do("unknown transactional id", kmsg.EndTxn, v, M{"TransactionalID": s.n("nobody"), "ProducerID": 5, "ProducerEpoch": 0, "Commit": true})
		s.do("no transactional id", kmsg.EndTxn, v, M{"TransactionalID": "", "ProducerID": 5, "ProducerEpoch": 0, "Commit": true})
		p.end("nothing to commit", v, true)
	})
	for _, level := range []int8{0, 1} {
		for _, v := range []int16{4, 11, 12, 17} {
			for part := range int32(3) {
				s.do(fmt.Sprintf("read %d at level %d", part, level), kmsg.Fetch, v, with(s.get(t, part, 0), M{"IsolationLevel": level}))
				s.do(fmt.Sprintf("read %d from 3 at level %d", part, level), kmsg.Fetch, v, with(s.get(t, part, 3), M{"IsolationLevel": level}))
			}
		}
	}
	s.each(kmsg.ListTransactions, func(v int16) {
		s.do("all", kmsg.ListTransactions, v, M{"DurationFilterMillis": -1})
		s.do("of a state", kmsg.ListTransactions, v, M{"StateFilters": []string{"Ongoing"}, "DurationFilterMillis": -1})
		s.do("of an unknown state", kmsg.ListTransactions, v, M{"StateFilters": []string{"Nonsense", "Empty"}, "DurationFilterMillis": -1})
		s.do("of an id", kmsg.ListTransactions, v, M{"ProducerIDFilters": []int64{987654321}, "DurationFilterMillis": -1})
		s.do("long ones", kmsg.ListTransactions, v, M{"DurationFilterMillis": 1_000_000})
		if v >= 2 {
			s.do("by pattern", kmsg.ListTransactions, v, M{"DurationFilterMillis": -1, "TransactionalIDPattern": ".*tv1.1"})
			s.do("by a bad pattern", kmsg.ListTransactions, v, M{"DurationFilterMillis": -1, "TransactionalIDPattern": "("})
			s.do("by no pattern", kmsg.ListTransactions, v, M{"DurationFilterMillis": -1, "TransactionalIDPattern": ""})
		}
	})
	s.do("no names", kmsg.DescribeTransactions, 0, M{"TransactionalIDs": []string{}})
	s.do("an empty name", kmsg.DescribeTransactions, 0, M{"TransactionalIDs": []string{""}})
}

// txnV2Scenario is KIP-890: Produce v12 adds partitions by itself and every end raises the epoch.
func txnV2Scenario(s *side) {
	t := s.topic("tv2", 3)
	if v, ok := s.last(kmsg.EndTxn); !ok || v < 5 {
		return
	}
	s.each(kmsg.Produce, func(pv int16) {
		if pv < 12 {
			return
		}
		p := s.producer("init", s.n(fmt.Sprintf("tv2.%d", pv)))
		p.end("nothing to commit", 5, true)
		p.end("nothing to abort", 5, false)
		p.send("send", pv, t, 0, 2)
		p.describe("ongoing")
		p.send("send on", pv, t, 0, 1)
		p.send("send elsewhere", pv, t, 1, 1)
		before := *p
		p.end("commit", 5, true)
		p.end("commit of nothing after it", 5, true)
		again := before
		again.end("commit, retried", 5, true)
		again = before
		again.end("abort instead", 5, false)
		p.describe("committed")
		before.send("a late one", pv, t, 0, 1)
		p.send("next", pv, t, 0, 1)
		before = *p
		p.end("abort", 5, false)
		again = before
		again.end("abort, retried", 5, false)
		again = before
		again.end("commit instead", 5, true)
		p.describe("aborted")
		before.send("a late one after the abort", pv, t, 0, 1)
		p.send("one more", pv, t, 0, 1)
		fenced := *p
		for r := p.init("fence", 5, nil); r.ErrorCode == 51; r = p.init("fence", 5, nil) {
			s.steps = s.steps[:len(s.steps)-1]
		}
		fenced.send("fenced", pv, t, 0, 1)
		fenced.end("fenced", 5, true)
		p.describe("after the fence")
		odd := *p
		odd.pid = 987654321
		odd.send("an unknown producer id", pv, t, 0, 1)
		odd = *p
		odd.epoch += 5
		odd.send("an epoch of the future", pv, t, 0, 1)
		odd.end("an epoch of the future", 5, true)
		odd = *p
		odd.tid = s.n("nobody")
		odd.send("another transactional id", pv, t, 0, 1)
		s.do("no transactional id", kmsg.Produce, pv, s.put(t, 0, -1, nil, batch{n: 1, pid: p.pid, epoch: p.epoch, attrs: 0x10}.bytes()))
		s.do("not transactional", kmsg.Produce, pv, s.put(t, 0, -1, p.tid, batch{n: 1, pid: p.pid, epoch: p.epoch}.bytes()))
		s.do("who writes", kmsg.DescribeProducers, 0, M{"Topics": L{M{"Topic": t, "Partitions": []int32{0, 1, 2}}}})
	})
	for _, level := range []int8{0, 1} {
		for part := range int32(2) {
			s.do(fmt.Sprintf("read %d at level %d", part, level), kmsg.Fetch, 17, with(s.get(t, part, 0), M{"IsolationLevel": level}))
		}
	}
}

// txnOffsetsScenario commits offsets in transactions, both ways.
func txnOffsetsScenario(s *side) {
	t := s.topic("toff", 2)
	s.each(kmsg.TxnOffsetCommit, func(v int16) {
		g := s.n(fmt.Sprintf("tg%d", v))
		s.coordinate(0, g)
		p := s.producer("init", s.n(fmt.Sprintf("toff%d", v)))
		commit := func(label string, more M) {
			s.do(label, kmsg.TxnOffsetCommit, v, with(M{"TransactionalID": p.tid, "Group": g, "ProducerID": p.pid, "ProducerEpoch": p.epoch, "Generation": -1,
				"Topics": L{M{"Topic": t, "TopicID": s.ids[t], "Partitions": L{M{"Partition": 0, "Offset": 9, "LeaderEpoch": -1, "Metadata": "m"}, M{"Partition": 77, "Offset": 9, "LeaderEpoch": -1}}}}}, more))
		}
		offsets := func(label string) {
			for _, stable := range []bool{false, true} {
				s.do(fmt.Sprintf("%s, stable %v", label, stable), kmsg.OffsetFetch, 7, M{"Group": g, "RequireStable": stable, "Topics": L{M{"Topic": t, "Partitions": []int32{0}}}})
			}
		}
		ev := int16(5)
		if v < 5 {
			ev = 4
			commit("without adding", nil)
			for av := range int16(5) {
				if av > 3 {
					break
				}
				s.do("add", kmsg.AddOffsetsToTxn, av, M{"TransactionalID": p.tid, "ProducerID": p.pid, "ProducerEpoch": p.epoch, "Group": g})
			}
			s.do("add, wrong epoch", kmsg.AddOffsetsToTxn, 3, M{"TransactionalID": p.tid, "ProducerID": p.pid, "ProducerEpoch": p.epoch + 1, "Group": g})
			s.do("add, wrong id", kmsg.AddOffsetsToTxn, 3, M{"TransactionalID": p.tid, "ProducerID": p.pid + 1000, "ProducerEpoch": p.epoch, "Group": g})
			s.do("add, unknown transactional id", kmsg.AddOffsetsToTxn, 3, M{"TransactionalID": s.n("nobody"), "ProducerID": p.pid, "ProducerEpoch": p.epoch, "Group": g})
			s.do("add, no group", kmsg.AddOffsetsToTxn, 3, M{"TransactionalID": p.tid, "ProducerID": p.pid, "ProducerEpoch": p.epoch, "Group": ""})
		}
		commit("commit", nil)
		offsets("pending")
		commit("wrong epoch", M{"ProducerEpoch": p.epoch + 3})
		commit("no group", M{"Group": ""})
		if v >= 3 {
			commit("a member that is unknown", M{"MemberID": "nobody", "Generation": 3})
		}
		p.end("end", ev, true)
		offsets("committed")
		commit("after the end", M{"ProducerEpoch": p.epoch})
		p.end("abort", ev, false)
		offsets("after the abort")
	})
}

// markersScenario is what an operator's tool does to a hanging transaction.
func markersScenario(s *side) {
	s.each(kmsg.WriteTxnMarkers, func(v int16) {
		t := s.topic(fmt.Sprintf("markers%d", v), 1)
		p := s.producer("init", s.n(fmt.Sprintf("mark%d", v)))
		p.add("add", 3, t, 0)
		p.send("send", 11, t, 0, 1)
		ask := func(label string, pid int64, epoch int16, coordinator int32, topic string, partition int32) {
			s.do(label, kmsg.WriteTxnMarkers, v, M{"Markers": L{M{"ProducerID": pid, "ProducerEpoch": epoch, "CoordinatorEpoch": coordinator,
				"Topics": L{M{"Topic": topic, "Partitions": []int32{partition}}}}}})
		}
		ask("unknown topic", p.pid, p.epoch, 0, s.n("nope"), 0)
		ask("unknown partition", p.pid, p.epoch, 0, t, 4)
		ask("old epoch", p.pid, p.epoch-1, 0, t, 0)
		if v >= 2 { // of a transaction that the epoch was raised for: this one is the next
			s.do("late, old epoch", kmsg.WriteTxnMarkers, v, M{"Markers": L{M{"ProducerID": p.pid, "ProducerEpoch": p.epoch, "TransactionVersion": 2,
				"Topics": L{M{"Topic": t, "Partitions": []int32{0}}}}}})
		}
		ask("abort", p.pid, p.epoch, 0, t, 0)
		s.do("level 1", kmsg.Fetch, 12, with(s.get(t, 0, 0), M{"IsolationLevel": 1}))
		s.do("none", kmsg.WriteTxnMarkers, v, M{})
		under := s.topic(fmt.Sprintf("under%d", v), 1)
		p.add("add, to be cut", 3, under, 0)
		p.send("send, to be cut", 11, under, 0, 1)
		s.fill(under, 0, plain(4), plain(2))
		for _, offset := range []int64{1, 3, 5} {
			s.do(fmt.Sprintf("cut to %d", offset), kmsg.DeleteRecords, 2, M{"TimeoutMillis": 5000, "Topics": L{M{"Topic": under, "Partitions": L{M{"Partition": 0, "Offset": offset}}}}})
			s.do(fmt.Sprintf("level 1, cut to %d", offset), kmsg.Fetch, 12, with(s.get(under, 0, offset), M{"IsolationLevel": 1}))
			s.do(fmt.Sprintf("the stable end, cut to %d", offset), kmsg.ListOffsets, 7, M{"ReplicaID": -1, "IsolationLevel": 1, "Topics": L{M{"Topic": under, "Partitions": L{M{"Partition": 0, "Timestamp": -1}}}}})
		}
		p.end("end", 4, false)
		s.do("level 1, after the cut", kmsg.Fetch, 12, with(s.get(under, 0, 5), M{"IsolationLevel": 1}))
		s.do("after the end", kmsg.ListOffsets, 7, M{"ReplicaID": -1, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}}}}})
	})
}

// timeoutScenario lets a transaction run out.
func timeoutScenario(s *side) {
	t := s.topic("timeout", 1)
	tid := s.n("timeout")
	s.coordinate(1, tid)
	p := &producer{s: s, tid: tid, seq: map[string]int32{}}
	p.init("init, 200 ms", 4, M{"TransactionTimeoutMillis": 200})
	p.add("add", 3, t, 0)
	p.send("send", 11, t, 0, 1)
	s.eventually("it runs out", kmsg.DescribeTransactions, 0, M{"TransactionalIDs": []string{tid}}, func(r kmsg.Response) bool {
		return r.(*kmsg.DescribeTransactionsResponse).TransactionStates[0].State == "CompleteAbort"
	})
	p.send("too late", 11, t, 0, 1)
	p.add("too late", 3, t, 0)
	p.end("too late", 4, true)
	p.end("too late, abort", 4, false)
	s.do("read", kmsg.Fetch, 12, with(s.get(t, 0, 0), M{"IsolationLevel": 1}))
	s.do("go on with its id", kmsg.InitProducerID, 4, M{"TransactionalID": tid, "TransactionTimeoutMillis": 30000, "ProducerID": p.pid, "ProducerEpoch": p.epoch})
}
