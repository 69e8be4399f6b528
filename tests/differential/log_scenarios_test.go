package differential

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What goes through a log: Produce, Fetch, ListOffsets, OffsetForLeaderEpoch, DeleteRecords.

const unknownPartition = 99

var nobody = [16]byte{0xde, 0xad, 1}

// put is a Produce request for one partition.
func (s *side) put(topic string, partition int32, acks int16, txn any, records []byte) M {
	return M{"Acks": acks, "TimeoutMillis": 5000, "TransactionID": txn, "Topics": L{M{"Topic": topic, "TopicID": s.ids[topic],
		"Partitions": L{M{"Partition": partition, "Records": records}}}}}
}

// fill appends batches, unnoted, and fails if one is refused.
func (s *side) fill(topic string, partition int32, batches ...batch) {
	for _, b := range batches {
		r := s.ask(kmsg.Produce, 11, s.put(topic, partition, -1, nil, b.bytes())).(*kmsg.ProduceResponse)
		if code := r.Topics[0].Partitions[0].ErrorCode; code != 0 {
			panic(fmt.Sprintf("fill %s: error %d", topic, code))
		}
	}
}

func produceScenario(s *side) {
	s.each(kmsg.Produce, func(v int16) {
		t, bad, next := s.topic(fmt.Sprintf("produce%d", v), 2), s.topic(fmt.Sprintf("bad%d", v), 21), int32(0)
		send := func(label string, m M) { s.do(label, kmsg.Produce, v, m) }
		one := func(label string, records []byte) { send(label, s.put(t, 0, -1, nil, records)) }
		one("one record", plain(1).bytes())
		one("three records", plain(3).bytes())
		for codec := range int8(5) {
			b := plain(4)
			b.codec = codec
			one(fmt.Sprintf("codec %d", codec), b.bytes())
		}
		for codec := int8(5); codec < 8; codec++ {
			b := plain(1)
			b.codec = codec
			one(fmt.Sprintf("codec %d that is none", codec), b.bytes())
		}
		for codec := int8(1); codec < 5; codec++ {
			b := plain(2)
			b.alter = func(rb *kmsg.RecordBatch) { rb.Attributes |= int16(codec) }
			send(fmt.Sprintf("plain bytes that say codec %d", codec), s.put(bad, 21-int32(codec), -1, nil, b.bytes()))
		}
		spoilt := func(label string, n int, alter func(*kmsg.RecordBatch), spoil func([]byte) []byte) {
			b := plain(n)
			b.alter, b.spoil = alter, spoil
			// Each into a partition of its own, so that one that is taken does not move the offsets of the others.
			send(label, s.put(bad, next, -1, nil, b.bytes()))
			next++
		}
		spoilt("bad CRC", 1, nil, func(b []byte) []byte { b[17] ^= 1; return b })
		spoilt("count too high", 1, func(rb *kmsg.RecordBatch) { rb.NumRecords = 2 }, nil)
		spoilt("count too low", 3, func(rb *kmsg.RecordBatch) { rb.NumRecords = 2 }, nil)
		spoilt("count and last offset delta too low", 3, func(rb *kmsg.RecordBatch) { rb.NumRecords, rb.LastOffsetDelta = 2, 1 }, nil)
		spoilt("count and last offset delta too high", 3, func(rb *kmsg.RecordBatch) { rb.NumRecords, rb.LastOffsetDelta = 4, 3 }, nil)
		spoilt("last offset delta too high", 2, func(rb *kmsg.RecordBatch) { rb.LastOffsetDelta = 5 }, nil)
		spoilt("negative count", 1, func(rb *kmsg.RecordBatch) { rb.NumRecords = -1 }, nil)
		spoilt("no records", 0, nil, nil)
		spoilt("control batch", 1, func(rb *kmsg.RecordBatch) { rb.Attributes |= 0x20 }, nil)
		spoilt("transactional without a producer id", 1, func(rb *kmsg.RecordBatch) { rb.Attributes |= 0x10 }, nil)
		spoilt("log append time", 1, func(rb *kmsg.RecordBatch) { rb.Attributes |= 8 }, nil)
		spoilt("magic 3", 1, func(rb *kmsg.RecordBatch) { rb.Magic = 3 }, nil)
		spoilt("base offset 7", 1, func(rb *kmsg.RecordBatch) { rb.FirstOffset = 7 }, nil)
		spoilt("cut short", 2, nil, func(b []byte) []byte { return b[:len(b)-3] })
		spoilt("trailing bytes", 2, nil, func(b []byte) []byte { return append(b, 1, 2, 3) })
		spoilt("a header only", 2, nil, func(b []byte) []byte { return b[:30] })
		spoilt("length zero", 2, nil, func(b []byte) []byte { binary.BigEndian.PutUint32(b[8:], 0); return b })
		one("two batches", append(plain(1).bytes(), plain(1).bytes()...))
		one("magic 0", legacy(0, 2))
		one("magic 1", legacy(1, 2))
		one("nothing", []byte{})
		// Kafka does not answer a null record set at all.
		late, early := plain(1), plain(1)
		late.ts, early.ts = 4_000_000_000_000, -1
		one("in the far future", late.bytes())
		one("without a timestamp", early.bytes())
		big := plain(1)
		big.size = 1_100_000
		one("too large", big.bytes())
		send("unknown topic", s.put(s.n("nope"), 0, -1, nil, plain(1).bytes()))
		zstd := plain(1)
		zstd.codec = 4
		send("zstd to an unknown topic", s.put(s.n("nope"), 0, -1, nil, zstd.bytes()))
		send("unknown partition", s.put(t, unknownPartition, -1, nil, plain(1).bytes()))
		send("negative partition", s.put(t, -1, -1, nil, plain(1).bytes()))
		send("acks 1", s.put(t, 0, 1, nil, plain(1).bytes()))
		send("acks 2", s.put(t, 0, 2, nil, plain(1).bytes()))
		send("acks -2", s.put(t, 0, -2, nil, plain(1).bytes()))
		send("no topics", M{"Acks": -1, "TimeoutMillis": 1000})
		send("a transactional id that is not needed", s.put(t, 0, -1, s.n("unneeded"), plain(1).bytes()))
		m := s.put(t, 0, -1, nil, plain(1).bytes())
		parts := m["Topics"].(L)[0].(M)
		parts["Partitions"] = L{M{"Partition": 0, "Records": plain(1).bytes()}, M{"Partition": 1, "Records": plain(2).bytes()}, M{"Partition": 9, "Records": plain(2).bytes()}}
		send("three partitions, one unknown", m)
		// acks=0 has no answer: the one that follows tells that it was taken.
		c := s.dial()
		c.send(build(kmsg.Produce, v, s.put(t, 1, 0, nil, plain(1).bytes())))
		c.do("after acks 0", kmsg.Produce, v, s.put(t, 1, 1, nil, plain(1).bytes()))
		c.send(build(kmsg.Produce, v, s.put(s.n("nope"), 1, 0, nil, plain(1).bytes())))
		_, event := c.receive(build(kmsg.Produce, v, nil), patience/5)
		s.noted("acks 0 to an unknown topic", nil, event)
		s.do("the end of it", kmsg.ListOffsets, 7, M{"Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}, M{"Partition": 1, "Timestamp": -1}}}}})
		if v >= 13 {
			m := s.put(t, 0, -1, nil, plain(1).bytes())
			m["Topics"].(L)[0].(M)["TopicID"] = nobody
			send("unknown topic id", m)
			m["Topics"].(L)[0].(M)["TopicID"] = [16]byte{}
			send("no topic id", m)
		}
	})
	s.each(kmsg.Produce, func(v int16) {
		if v < 3 {
			return
		}
		compacted := s.topic(fmt.Sprintf("compacted%d", v), 1, "cleanup.policy=compact")
		s.do("no key, compacted", kmsg.Produce, v, s.put(compacted, 0, -1, nil, plain(2).bytes()))
		keyed := plain(2)
		keyed.key = true
		s.do("a key, compacted", kmsg.Produce, v, s.put(compacted, 0, -1, nil, keyed.bytes()))
		stamped := s.topic(fmt.Sprintf("stamped%d", v), 1, "message.timestamp.type=LogAppendTime")
		s.do("log append time", kmsg.Produce, v, s.put(stamped, 0, -1, nil, plain(2).bytes()))
		small := s.topic(fmt.Sprintf("small%d", v), 1, "max.message.bytes=100")
		fits, not := plain(1), plain(1)
		not.size = 100
		s.do("within max.message.bytes", kmsg.Produce, v, s.put(small, 0, -1, nil, fits.bytes()))
		s.do("beyond max.message.bytes", kmsg.Produce, v, s.put(small, 0, -1, nil, not.bytes()))
		tight := s.topic(fmt.Sprintf("tight%d", v), 5, "max.decompressed.message.bytes=100")
		for codec := range int8(5) {
			for _, size := range []int{80, 87, 88, 89, 90, 91, 92, 93, 94, 95, 500} {
				b := plain(2)
				b.codec, b.size = codec, size
				s.do(fmt.Sprintf("codec %d, records of %d", codec, size), kmsg.Produce, v, s.put(tight, int32(codec), -1, nil, b.bytes()))
			}
		}
		internal := s.put("__consumer_offsets", 0, -1, nil, plain(1).bytes())
		if v < 13 {
			s.do("to an internal topic", kmsg.Produce, v, internal)
		}
	})
}

// idempotentScenario is KIP-98's and KIP-360's sequence rules.
func idempotentScenario(s *side) {
	s.each(kmsg.Produce, func(v int16) {
		if v < 3 {
			return
		}
		t := s.topic(fmt.Sprintf("idem%d", v), 2)
		pid := s.ask(kmsg.InitProducerID, 4, M{"ProducerID": -1, "ProducerEpoch": -1}).(*kmsg.InitProducerIDResponse).ProducerID
		send := func(label string, partition int32, epoch int16, seq int32, n int) {
			b := batch{n: n, pid: pid, epoch: epoch, seq: seq}
			s.do(label, kmsg.Produce, v, s.put(t, partition, -1, nil, b.bytes()))
		}
		send("first", 0, 0, 0, 1)
		send("first again", 0, 0, 0, 1)
		for i := range 6 {
			send(fmt.Sprintf("next %d", i), 0, 0, int32(1+2*i), 2)
		}
		send("last again", 0, 0, 11, 2)
		send("third last again", 0, 0, 7, 2)
		send("an old one again", 0, 0, 0, 1)
		send("the last with another count", 0, 0, 11, 1)
		send("a gap", 0, 0, 20, 1)
		send("a gap of a lot", 0, 0, 1_000_000, 1)
		send("after the gap as it should be", 0, 0, 13, 1)
		send("next epoch, not from 0", 0, 1, 14, 1)
		send("next epoch", 0, 1, 0, 1)
		send("old epoch", 0, 0, 14, 1)
		send("two epochs on", 0, 3, 0, 1)
		send("a new partition, not from 0", 1, 3, 5, 1)
		send("a new partition, from 0", 1, 3, 0, 1)
		send("a new partition, next", 1, 3, 1, 1)
		wrap := batch{n: 1, pid: pid + 1_000_000, epoch: 0, seq: 0}
		s.do("a producer id that nobody gave", kmsg.Produce, v, s.put(t, 0, -1, nil, wrap.bytes()))
		neg := batch{n: 1, pid: pid, epoch: 3, seq: -1}
		s.do("no sequence", kmsg.Produce, v, s.put(t, 0, -1, nil, neg.bytes()))
		neg = batch{n: 1, pid: pid, epoch: -1, seq: 1}
		s.do("no epoch", kmsg.Produce, v, s.put(t, 0, -1, nil, neg.bytes()))
		two := append(batch{n: 1, pid: pid, epoch: 3, seq: 1}.bytes(), batch{n: 1, pid: pid, epoch: 3, seq: 2}.bytes()...)
		s.do("two batches of a producer", kmsg.Produce, v, s.put(t, 0, -1, nil, two))
		s.do("what it left", kmsg.DescribeProducers, 0, M{"Topics": L{M{"Topic": t, "Partitions": []int32{1, 7}}}})
		s.do("all of it", kmsg.Fetch, 11, s.get(t, 0, 0))
	})
	s.do("of an unknown topic", kmsg.DescribeProducers, 0, M{"Topics": L{M{"Topic": s.n("nope"), "Partitions": []int32{0}}}})
	// Sequences wrap at the end of int32.
	t := s.topic("wrap", 1)
	pid := s.ask(kmsg.InitProducerID, 4, M{"ProducerID": -1, "ProducerEpoch": -1}).(*kmsg.InitProducerIDResponse).ProducerID
	for i, seq := range []int32{2147483640, 2147483645, 2, 2} {
		b := batch{n: 5, pid: pid, seq: seq}
		if i == 0 {
			b.n = 5
		}
		s.do(fmt.Sprintf("wrap %d", i), kmsg.Produce, 11, s.put(t, 0, -1, nil, b.bytes()))
	}
}

// get is a Fetch request of one partition.
func (s *side) get(topic string, partition int32, offset int64) M {
	return M{"ReplicaID": -1, "MaxWaitMillis": 50, "MinBytes": 1, "MaxBytes": 1 << 20, "SessionEpoch": -1, "Topics": L{M{"Topic": topic, "TopicID": s.ids[topic],
		"Partitions": L{M{"Partition": partition, "FetchOffset": offset, "CurrentLeaderEpoch": -1, "LastFetchedEpoch": -1, "LogStartOffset": -1, "PartitionMaxBytes": 1 << 20}}}}}
}

// with changes a request in a copy, partition for what is inside of its only partition.
func with(m M, changes M) M {
	out := M{}
	for k, v := range m {
		out[k] = v
	}
	for k, v := range changes {
		out[k] = v
	}
	return out
}

func withPartition(m M, changes M) M {
	topic := m["Topics"].(L)[0].(M)
	return with(m, M{"Topics": L{with(topic, M{"Partitions": L{with(topic["Partitions"].(L)[0].(M), changes)}})}})
}

func fetchScenario(s *side) {
	t := s.topic("fetch", 2)
	for i := range 8 {
		b := plain(1 + i%3)
		b.size = 300
		b.codec = int8(i % 5)
		s.fill(t, 0, b)
	}
	s.fill(t, 1, plain(2))
	gone := s.topic("fetchgone", 1)
	s.fill(gone, 0, plain(5), plain(5))
	s.do("make it start at 7", kmsg.DeleteRecords, 2, M{"Topics": L{M{"Topic": gone, "Partitions": L{M{"Partition": 0, "Offset": 7}}}}, "TimeoutMillis": 5000})
	s.each(kmsg.Fetch, func(v int16) {
		c := s.dial()
		ask := func(label string, m M) *kmsg.FetchResponse {
			r, _ := c.do(label, kmsg.Fetch, v, m).(*kmsg.FetchResponse)
			return r
		}
		at := func(offset int64) M { return s.get(t, 0, offset) }
		ask("all", at(0))
		ask("from the middle of a batch", at(4))
		ask("at the end", at(15))
		ask("beyond the end", at(16))
		ask("far beyond the end", at(1_000_000))
		ask("at -1", at(-1))
		ask("at -5", at(-5))
		ask("max bytes 1", with(at(0), M{"MaxBytes": 1}))
		ask("max bytes 0", with(at(0), M{"MaxBytes": 0}))
		ask("max bytes 700", with(at(0), M{"MaxBytes": 700}))
		ask("max bytes of a partition 1", withPartition(at(0), M{"PartitionMaxBytes": 1}))
		ask("max bytes of a partition 0", withPartition(at(0), M{"PartitionMaxBytes": 0}))
		ask("max bytes of a partition 700", withPartition(at(0), M{"PartitionMaxBytes": 700}))
		ask("min bytes 0 at the end", with(at(15), M{"MinBytes": 0}))
		ask("min bytes large", with(at(0), M{"MinBytes": 1 << 20}))
		ask("committed", with(at(0), M{"IsolationLevel": 1}))
		for _, level := range []int{2, -1, 127} {
			ask(fmt.Sprintf("isolation level %d", level), with(at(0), M{"IsolationLevel": level}))
			ask(fmt.Sprintf("isolation level %d, unknown topic", level), with(s.get(s.n("nope"), 0, 0), M{"IsolationLevel": level}))
			ask(fmt.Sprintf("isolation level %d, no topics", level), with(at(0), M{"IsolationLevel": level, "Topics": L{}}))
			mixed := with(at(0), M{"IsolationLevel": level})
			mixed["Topics"] = append(slices.Clone(mixed["Topics"].(L)), s.get(gone, 7, 0)["Topics"].(L)...)
			ask(fmt.Sprintf("isolation level %d, a partition and an unknown one", level), mixed)
		}
		ask("unknown topic", s.get(s.n("nope"), 0, 0))
		ask("unknown partition", s.get(t, unknownPartition, 0))
		ask("below the log's start", s.get(gone, 0, 3))
		ask("at the log's start", s.get(gone, 0, 7))
		ask("no topics", with(at(0), M{"Topics": L{}}))
		ask("leader epoch right", withPartition(at(0), M{"CurrentLeaderEpoch": 0}))
		ask("leader epoch of the future", withPartition(at(0), M{"CurrentLeaderEpoch": 100}))
		ask("last fetched epoch right", withPartition(at(4), M{"LastFetchedEpoch": 0}))
		ask("last fetched epoch of the future", withPartition(at(4), M{"LastFetchedEpoch": 100}))
		ask("last fetched epoch, offset beyond", withPartition(at(100), M{"LastFetchedEpoch": 0}))
		as := func(id int32, epoch int64) M {
			if v < 15 {
				return M{"ReplicaID": id}
			}
			return M{"ReplicaState": M{"ID": id, "Epoch": epoch}}
		}
		for _, id := range []int32{77, 1, -2, -3, 1 << 30} { // 1 is the node itself
			ask(fmt.Sprintf("replica %d", id), with(at(0), as(id, 5)))
			ask(fmt.Sprintf("replica %d, no epoch", id), with(at(0), as(id, -1)))
			ask(fmt.Sprintf("replica %d, leader epoch", id), with(withPartition(at(0), M{"CurrentLeaderEpoch": 0}), as(id, 5)))
			ask(fmt.Sprintf("replica %d, leader epoch of the future", id), with(withPartition(at(0), M{"CurrentLeaderEpoch": 9}), as(id, 5)))
			ask(fmt.Sprintf("replica %d, last fetched epoch", id), with(withPartition(at(0), M{"LastFetchedEpoch": 0}), as(id, 5)))
			ask(fmt.Sprintf("replica %d, unknown topic", id), with(s.get(s.n("nope"), 0, 0), as(id, 5)))
			ask(fmt.Sprintf("replica %d, isolation level 2", id), with(with(at(0), as(id, 5)), M{"IsolationLevel": 2}))
		}
		two := with(at(0), M{"MaxBytes": 1500})
		part := two["Topics"].(L)[0].(M)["Partitions"].(L)[0].(M)
		two["Topics"].(L)[0].(M)["Partitions"] = L{part, with(part, M{"Partition": 1}), with(part, M{"Partition": 42})}
		ask("two partitions and an unknown one", two)
		ask("two partitions, max bytes 1", with(two, M{"MaxBytes": 1}))
		twice := s.get(t, 0, 0)
		p := twice["Topics"].(L)[0].(M)["Partitions"].(L)[0].(M)
		twice["Topics"].(L)[0].(M)["Partitions"] = L{p, p}
		ask("a partition twice", twice)
		twice["Topics"].(L)[0].(M)["Partitions"] = L{p, with(p, M{"Partition": 1}), with(p, M{"FetchOffset": 12})}
		ask("a partition twice, elsewhere", twice)
		first := twice["Topics"].(L)[0].(M)
		twice["Topics"] = L{with(first, M{"Partitions": L{p}}), s.get(gone, 0, 7)["Topics"].(L)[0], with(first, M{"Partitions": L{with(p, M{"FetchOffset": 13})}})}
		ask("a topic twice", twice)
		twice["Topics"] = L{with(first, M{"Partitions": L{p}}), s.get(gone, 0, 7)["Topics"].(L)[0], with(first, M{"Partitions": L{with(p, M{"Partition": 1})}})}
		ask("a topic twice, other partitions", twice)
		ask("no partitions", with(at(0), M{"Topics": L{with(first, M{"Partitions": L{}})}}))
		ask("max wait -1", with(at(15), M{"MaxWaitMillis": -1}))
		ask("min bytes -1", with(at(15), M{"MinBytes": -1}))
		ask("max bytes -1", with(at(0), M{"MaxBytes": -1}))
		ask("max bytes of a partition -1", withPartition(at(0), M{"PartitionMaxBytes": -1}))
		ask("leader epoch -2", withPartition(at(0), M{"CurrentLeaderEpoch": -2}))
		ask("last fetched epoch -2", withPartition(at(0), M{"LastFetchedEpoch": -2}))
		ask("a log start", withPartition(at(0), M{"LogStartOffset": 3}))
		ask("partition -1", s.get(t, -1, 0))
		ask("a rack", with(at(0), M{"Rack": "r"}))
		if v >= 13 {
			m := at(0)
			m["Topics"].(L)[0].(M)["TopicID"] = nobody
			ask("unknown topic id", m)
			m["Topics"].(L)[0].(M)["TopicID"] = [16]byte{}
			ask("no topic id", m)
		}
		if v < 7 {
			return
		}
		// KIP-227.
		r := ask("session: new", with(at(12), M{"SessionEpoch": 0}))
		if r == nil || r.SessionID == 0 {
			panic("no session")
		}
		in := func(epoch int32, m M) M { return with(m, M{"SessionID": r.SessionID, "SessionEpoch": epoch}) }
		none := with(at(0), M{"Topics": L{}})
		ask("session: nothing new asked", in(1, none))
		ask("session: again", in(2, none))
		ask("session: moved on", in(3, at(15)))
		ask("session: nothing there", in(4, none))
		ask("session: another partition", in(5, s.get(t, 1, 0)))
		ask("session: it is remembered", in(6, none))
		ask("session: an unknown topic", in(7, s.get(s.n("nope"), 0, 0)))
		ask("session: it is remembered too", in(8, none))
		ask("session: forget a partition", in(9, with(none, M{"ForgottenTopics": L{M{"Topic": t, "TopicID": s.ids[t], "Partitions": []int32{1}}}})))
		ask("session: what is left", in(10, none))
		ask("session: forget what is not there", in(11, with(none, M{"ForgottenTopics": L{M{"Topic": t, "TopicID": s.ids[t], "Partitions": []int32{55}}}})))
		ask("session: wrong epoch", in(99, none))
		ask("session: still there", in(12, none))
		ask("session: epoch of the past", in(3, none))
		ask("session: unknown id", with(in(1, none), M{"SessionID": 123456789}))
		ask("session: an isolation level that is none", in(13, with(none, M{"IsolationLevel": 2})))
		ask("session: it is over", in(14, none))
		ask("session: a partition twice", in(15, twice))
		ask("session: closed", in(-1, at(15)))
		ask("session: after its close", in(16, none))
		ask("session: id 0 with an epoch", with(none, M{"SessionID": 0, "SessionEpoch": 5}))
		r = ask("session: new, with nothing", with(none, M{"SessionEpoch": 0}))
		ask("session: more than nothing", in(1, at(12)))
		ask("session: on from nothing", in(2, none))
		ask("session: closed by a new one", in(0, at(14)))
		r = ask("session: a partition twice, new", with(twice, M{"SessionEpoch": 0}))
		ask("session: a partition twice, on", in(1, none))
		ask("session: epoch -2", in(-2, none))
		ask("session: epoch -5", with(none, M{"SessionEpoch": -5}))
		ask("session: isolation level 2, new", with(at(0), M{"SessionEpoch": 0, "IsolationLevel": 2}))
	})
}

func listOffsetsScenario(s *side) {
	t := s.topic("offsets", 1)
	for i := range 5 {
		b := plain(3)
		b.ts = epoch0 + int64(i)*1000
		s.fill(t, 0, b)
	}
	back := plain(2) // earlier than what is before it
	back.ts = epoch0 + 500
	s.fill(t, 0, back)
	empty := s.topic("offsetsempty", 1)
	gone := s.topic("offsetsgone", 1)
	s.fill(gone, 0, plain(5))
	s.do("cut", kmsg.DeleteRecords, 2, M{"Topics": L{M{"Topic": gone, "Partitions": L{M{"Partition": 0, "Offset": 3}}}}, "TimeoutMillis": 5000})
	latestGone := s.topic("latestgone", 1)
	late := plain(1)
	late.ts = epoch0 + 9000
	s.fill(latestGone, 0, late, plain(3))
	s.do("cut the latest", kmsg.DeleteRecords, 2, M{"Topics": L{M{"Topic": latestGone, "Partitions": L{M{"Partition": 0, "Offset": 2}}}}, "TimeoutMillis": 5000})
	s.each(kmsg.ListOffsets, func(v int16) {
		ask := func(label, topic string, partition int32, ts int64, m M) {
			p := with(M{"Partition": partition, "Timestamp": ts, "CurrentLeaderEpoch": -1}, m)
			s.do(label, kmsg.ListOffsets, v, M{"ReplicaID": -1, "TimeoutMillis": 5000, "Topics": L{M{"Topic": topic, "Partitions": L{p}}}})
		}
		for ts := int64(-1); ts >= -8; ts-- {
			ask(fmt.Sprintf("special %d", ts), t, 0, ts, nil)
			ask(fmt.Sprintf("special %d, empty", ts), empty, 0, ts, nil)
			ask(fmt.Sprintf("special %d, cut", ts), gone, 0, ts, nil)
		}
		for _, ts := range []int64{0, epoch0 - 1, epoch0, epoch0 + 2, epoch0 + 3, epoch0 + 500, epoch0 + 501, epoch0 + 1001, epoch0 + 4002, epoch0 + 4003, 4_000_000_000_000} {
			ask(fmt.Sprintf("time %d", ts-epoch0), t, 0, ts, nil)
		}
		ask("the latest is deleted", latestGone, 0, -3, nil)
		ask("time, empty", empty, 0, epoch0, nil)
		ask("time, cut", gone, 0, epoch0, nil)
		ask("unknown topic", s.n("nope"), 0, -1, nil)
		ask("unknown partition", t, 5, -1, nil)
		ask("leader epoch", t, 0, -1, M{"CurrentLeaderEpoch": 0})
		ask("leader epoch of the future", t, 0, -1, M{"CurrentLeaderEpoch": 50})
		s.do("committed", kmsg.ListOffsets, v, M{"ReplicaID": -1, "IsolationLevel": 1, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}}}}})
		for _, level := range []int{7, 2, -1} {
			s.do(fmt.Sprintf("isolation level %d", level), kmsg.ListOffsets, v, M{"ReplicaID": -1, "IsolationLevel": level, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}}}}})
			s.do(fmt.Sprintf("isolation level %d, unknown and twice", level), kmsg.ListOffsets, v, M{"ReplicaID": -1, "IsolationLevel": level, "Topics": L{
				M{"Topic": s.n("nope"), "Partitions": L{M{"Partition": 0, "Timestamp": -1}, M{"Partition": 0, "Timestamp": -1}}}, M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}}}}})
			s.do(fmt.Sprintf("isolation level %d, nothing", level), kmsg.ListOffsets, v, M{"ReplicaID": -1, "IsolationLevel": level})
		}
		s.do("a topic twice", kmsg.ListOffsets, v, M{"ReplicaID": -1, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}}},
			M{"Topic": empty, "Partitions": L{M{"Partition": 0, "Timestamp": -1}, M{"Partition": 3, "Timestamp": -1}}}, M{"Topic": t, "Partitions": L{M{"Partition": 1, "Timestamp": -1}}}}})
		s.do("a partition twice, elsewhere", kmsg.ListOffsets, v, M{"ReplicaID": -1, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}}},
			M{"Topic": empty, "Partitions": L{M{"Partition": 0, "Timestamp": -1}, M{"Partition": 3, "Timestamp": -1}, M{"Partition": 3, "Timestamp": -2}}}, M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}}}}})
		s.do("no partitions", kmsg.ListOffsets, v, M{"ReplicaID": -1, "Topics": L{M{"Topic": t}}})
		for _, id := range []int32{1, -2, -3, -5} {
			s.do(fmt.Sprintf("replica %d", id), kmsg.ListOffsets, v, M{"ReplicaID": id, "IsolationLevel": 1, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}}}}})
		}
		ask("leader epoch -2", t, 0, -1, M{"CurrentLeaderEpoch": -2})
		ask("leader epoch of the future, unknown time", t, 0, -77, M{"CurrentLeaderEpoch": 50})
		ask("unknown topic, unknown time", s.n("nope"), 0, -77, nil)
		ask("partition -1", t, -1, -1, nil)
		s.do("a partition twice", kmsg.ListOffsets, v, M{"ReplicaID": -1, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}, M{"Partition": 0, "Timestamp": -2}}}}})
		s.do("nothing", kmsg.ListOffsets, v, M{"ReplicaID": -1})
		s.do("a follower's", kmsg.ListOffsets, v, M{"ReplicaID": 7, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -1}}}}})
	})
	s.each(kmsg.OffsetForLeaderEpoch, func(v int16) {
		ask := func(label, topic string, partition, current, epoch int32) {
			s.do(label, kmsg.OffsetForLeaderEpoch, v, M{"ReplicaID": -1, "Topics": L{M{"Topic": topic, "Partitions": L{M{"Partition": partition, "CurrentLeaderEpoch": current, "LeaderEpoch": epoch}}}}})
		}
		ask("epoch 0", t, 0, -1, 0)
		ask("epoch 0 of an empty log", empty, 0, -1, 0)
		ask("epoch of the future", t, 0, -1, 9)
		ask("epoch -1", t, 0, -1, -1)
		ask("current right", t, 0, 0, 0)
		ask("current of the future", t, 0, 9, 0)
		ask("unknown topic", s.n("nope"), 0, -1, 0)
		ask("unknown partition", t, 5, -1, 0)
	})
}

func deleteRecordsScenario(s *side) {
	s.each(kmsg.DeleteRecords, func(v int16) {
		t := s.topic(fmt.Sprintf("cut%d", v), 2)
		s.fill(t, 0, plain(5), plain(5))
		ask := func(label, topic string, partition int32, offset int64) {
			s.do(label, kmsg.DeleteRecords, v, M{"TimeoutMillis": 5000, "Topics": L{M{"Topic": topic, "Partitions": L{M{"Partition": partition, "Offset": offset}}}}})
		}
		ask("to 0", t, 0, 0)
		ask("to 3", t, 0, 3)
		ask("back to 1", t, 0, 1)
		ask("to 5", t, 0, 5)
		ask("beyond the end", t, 0, 11)
		ask("to -1", t, 0, -1)
		ask("to -2", t, 0, -2)
		ask("an empty log", t, 1, 0)
		ask("unknown topic", s.n("nope"), 0, 0)
		ask("unknown partition", t, 9, 0)
		s.do("what starts where", kmsg.ListOffsets, 7, M{"Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Timestamp": -2}}}}})
		compacted := s.topic(fmt.Sprintf("cutcompacted%d", v), 1, "cleanup.policy=compact")
		ask("compacted", compacted, 0, 0)
		ask("internal", "__consumer_offsets", 0, 0)
		s.do("nothing", kmsg.DeleteRecords, v, M{"TimeoutMillis": 1000})
	})
}
