package differential

import (
	"fmt"
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func scenarios() []scenario {
	return []scenario{
		{"api versions", apiVersionsScenario}, {"frames", frameScenario}, {"empty bodies", emptyScenario}, {"coordinators", coordinatorScenario},
		{"metadata", metadataScenario}, {"create topics", createTopicsScenario}, {"configs", configsScenario}, {"features", featuresScenario}, {"security", securityScenario},
		{"produce", produceScenario}, {"idempotent", idempotentScenario}, {"fetch", fetchScenario}, {"list offsets", listOffsetsScenario},
		{"delete records", deleteRecordsScenario}, {"offsets", offsetsScenario}, {"classic groups", classicGroupScenario},
		{"static members", staticGroupScenario}, {"consumer groups", consumerGroupScenario}, {"init producer", initProducerScenario},
		{"transactions 1", txnV1Scenario}, {"transactions 2", txnV2Scenario}, {"transactional offsets", txnOffsetsScenario},
		{"markers", markersScenario}, {"timeout", timeoutScenario},
	}
}

// sequence is a random walk over requests that are mostly right: both sides walk the same, since every choice comes
// from the seed and none from an answer.
func sequence(seed uint64) func(*side) {
	return func(s *side) {
		r := rand.New(rand.NewPCG(seed, 7))
		topics := []string{s.topic("a", 1), s.topic("b", 2), s.topic("c", 1, "cleanup.policy=compact"), s.n("nope")}
		group := s.n("g")
		s.coordinate(0, group)
		version := func(key kmsg.Key, least int16) int16 {
			last, ok := s.last(key)
			if !ok {
				panic("not served: " + key.Name())
			}
			return least + int16(r.IntN(int(last-least)+1))
		}
		producers := []*producer{s.producer("init", s.n("p0")), s.producer("init", s.n("p1"))}
		ids := make([]int64, 2)
		for i := range ids {
			ids[i] = s.ask(kmsg.InitProducerID, 4, M{"ProducerID": -1, "ProducerEpoch": -1}).(*kmsg.InitProducerIDResponse).ProducerID
		}
		seqs := map[string]int32{}
		pick := func() (string, int32) {
			t := topics[r.IntN(12)%len(topics)]
			if r.IntN(12) == 0 {
				t = topics[3]
			}
			return t, int32(r.IntN(5) / 3)
		}
		for i := range 60 {
			t, part := pick()
			label := fmt.Sprintf("%d", i)
			switch r.IntN(14) {
			case 0, 1:
				b := plain(1 + r.IntN(4))
				b.codec, b.key, b.size, b.ts = int8(r.IntN(5)), r.IntN(3) > 0, r.IntN(200), epoch0+int64(r.IntN(10000))
				s.do(label, kmsg.Produce, version(kmsg.Produce, 3), s.put(t, part, int16(-r.IntN(2)*2+1), nil, b.bytes()))
			case 2, 3:
				who, n := r.IntN(2), 1+r.IntN(3)
				key := fmt.Sprint(t, part, who)
				b := batch{n: n, pid: ids[who], seq: max(0, seqs[key]+int32(r.IntN(8)/7)-int32(r.IntN(8)/7)), key: true}
				s.do(label, kmsg.Produce, version(kmsg.Produce, 3), s.put(t, part, -1, nil, b.bytes()))
				seqs[key] = b.seq + int32(n)
			case 4, 5:
				m := s.get(t, part, int64(r.IntN(30)-1))
				m = with(m, M{"MaxBytes": 1 + r.IntN(2000), "IsolationLevel": r.IntN(2), "MaxWaitMillis": 5})
				s.do(label, kmsg.Fetch, version(kmsg.Fetch, 4), withPartition(m, M{"PartitionMaxBytes": 1 + r.IntN(2000)}))
			case 6:
				ts := []int64{-1, -2, -3, epoch0 + int64(r.IntN(12000))}[r.IntN(4)]
				v, level := version(kmsg.ListOffsets, 7), r.IntN(2)
				switch {
				case ts == -3:
					label += " of the latest time"
				case ts == -1 && level == 1:
					label += " the stable end"
				}
				s.do(label, kmsg.ListOffsets, v, M{"ReplicaID": -1, "IsolationLevel": level, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": part, "Timestamp": ts, "CurrentLeaderEpoch": -1}}}}})
			case 7:
				s.do(label, kmsg.OffsetCommit, version(kmsg.OffsetCommit, 2), s.commit(group, t, part, int64(r.IntN(20)), nil))
			case 8:
				s.do(label, kmsg.OffsetFetch, int16(1+r.IntN(7)), M{"Group": group, "Topics": L{M{"Topic": t, "Partitions": []int32{part, 1 - part}}}})
			case 9:
				s.do(label, kmsg.DeleteRecords, version(kmsg.DeleteRecords, 0), M{"TimeoutMillis": 5000, "Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": part, "Offset": int64(r.IntN(12) - 1)}}}}})
			case 10:
				p := producers[r.IntN(2)]
				p.add(label, int16(r.IntN(4)), t, part)
				p.send(label+", sent", int16(9+r.IntN(3)), t, part, 1+r.IntN(2)) // keyed, or a compacted topic would refuse it: a partition without records gets one marker less here
			case 11:
				p := producers[r.IntN(2)]
				p.send(label, int16(9+r.IntN(3)), t, part, 1+r.IntN(2))
			case 12:
				p := producers[r.IntN(2)]
				p.end(label, int16(r.IntN(5)), r.IntN(2) == 0)
			case 13:
				s.do(label, kmsg.DescribeProducers, 0, M{"Topics": L{M{"Topic": t, "Partitions": []int32{part}}}})
			}
		}
	}
}
