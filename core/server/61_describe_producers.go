package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/wire"
)

// DescribeProducers (key 61), version 0 (KIP-664).

func (s *Server) describeProducers(r *request) kmsg.Response {
	req := r.body.(*kmsg.DescribeProducersRequest)
	resp := kmsg.NewPtrDescribeProducersResponse()
	seen := wire.Seen[topicPartition]{}
	for _, t := range req.Topics {
		out := kmsg.NewDescribeProducersResponseTopic()
		out.Topic = t.Topic
		for _, number := range t.Partitions {
			if !seen.First(topicPartition{t.Topic, number}) {
				continue
			}
			part := kmsg.NewDescribeProducersResponseTopicPartition()
			part.Partition = number
			p, err := s.d.Replicas.Partition(t.Topic, number) // a follower, too, tells what it has: `kafka-transactions --broker-id` asks each node
			if err == nil {
				for _, pr := range p.Log().Producers() {
					a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					a.ProducerID, a.ProducerEpoch = pr.ID, int32(pr.Epoch)
					a.LastSequence, a.LastTimestamp = pr.LastSequence, pr.LastTime
					a.CoordinatorEpoch, a.CurrentTxnStartOffset = pr.CoordinatorEpoch, pr.TxnStart
					part.ActiveProducers = append(part.ActiveProducers, a)
				}
			}
			s.unexpected("describe producers failed", err, "topic", t.Topic, "partition", number)
			part.ErrorCode, part.ErrorMessage = codeOf(err), messageOf(err)
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}
