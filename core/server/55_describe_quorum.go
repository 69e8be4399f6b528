package server

import (
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/consensus"
)

// DescribeQuorum (key 55), versions 0–2 (KIP-595). v1 times (KIP-836), v2 endpoints (KIP-853). The metadata is no
// topic here; its raft group is shown as the one partition of Kafka's.

// metadataTopic is what Kafka calls the log of the metadata.
const metadataTopic = "__cluster_metadata"

func (s *Server) describeQuorum(r *request) kmsg.Response {
	req := r.body.(*kmsg.DescribeQuorumRequest)
	resp := kmsg.NewPtrDescribeQuorumResponse()
	one := len(req.Topics) == 1 && req.Topics[0].Topic == metadataTopic && len(req.Topics[0].Partitions) == 1 && req.Topics[0].Partitions[0].Partition == 0
	for _, t := range req.Topics {
		out := kmsg.NewDescribeQuorumResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			part := kmsg.NewDescribeQuorumResponseTopicPartition()
			part.Partition, part.ErrorCode = p.Partition, kerr.UnknownTopicOrPartition.Code
			if one {
				s.describeGroup(r, resp, &part)
			} else if req.Version >= 2 {
				part.ErrorMessage = messageOf(kerr.UnknownTopicOrPartition)
			}
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (s *Server) describeGroup(r *request, resp *kmsg.DescribeQuorumResponse, part *kmsg.DescribeQuorumResponseTopicPartition) {
	ctx, cancel := adminContext(r.ctx, 0)
	defer cancel()
	d, err := s.d.DescribeQuorum(ctx)
	if err != nil {
		part.ErrorCode, part.ErrorMessage = kerr.NotLeaderForPartition.Code, kmsg.StringPtr("The metadata quorum has no leader now.")
		return
	}
	part.ErrorCode = 0
	part.LeaderID, part.LeaderEpoch, part.HighWatermark = int32(d.Leader), int32(d.Term), int64(d.Committed)+1
	for _, v := range d.Voters {
		part.CurrentVoters = append(part.CurrentVoters, replicaState(v))
		if host, port, err := net.SplitHostPort(v.Address); err == nil {
			n := kmsg.NewDescribeQuorumResponseNode()
			n.NodeID = int32(v.ID)
			l := kmsg.NewDescribeQuorumResponseNodeListener()
			number, _ := strconv.ParseUint(port, 10, 16) // a name of a port is shown as 0
			l.Name, l.Host, l.Port = "PEER", host, uint16(number)
			n.Listeners = append(n.Listeners, l)
			resp.Nodes = append(resp.Nodes, n)
		}
	}
	for _, o := range d.Others {
		part.Observers = append(part.Observers, replicaState(o))
	}
}

func replicaState(p consensus.Progress) kmsg.DescribeQuorumResponseTopicPartitionReplicaState {
	r := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
	r.ReplicaID, r.LogEndOffset = int32(p.ID), -1
	if p.LastIndex >= 0 {
		r.LogEndOffset = p.LastIndex + 1
	}
	r.LastFetchTimestamp, r.LastCaughtUpTimestamp = p.HeardMs, p.CaughtUp
	return r
}
