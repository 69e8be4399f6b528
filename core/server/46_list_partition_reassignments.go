package server

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// ListPartitionReassignments (key 46), version 0 (KIP-455): what is under way, of all partitions or of those that are asked for.

func (s *Server) listPartitionReassignments(r *request) kmsg.Response {
	req := r.body.(*kmsg.ListPartitionReassignmentsRequest)
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
	img := s.d.Controller.Image()
	list := func(t *metadata.Topic, numbers []int32) {
		out := kmsg.NewListPartitionReassignmentsResponseTopic()
		out.Topic = t.Name
		for _, n := range numbers {
			if p := img.Partition(t.Name, n); p != nil && p.Reassigning() {
				part := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
				part.Partition, part.Replicas = n, nodeIDs(p.Replicas)
				part.AddingReplicas, part.RemovingReplicas = nodeIDs(p.Adding), nodeIDs(p.Removing)
				out.Partitions = append(out.Partitions, part)
			}
		}
		if len(out.Partitions) > 0 {
			resp.Topics = append(resp.Topics, out)
		}
	}
	if req.Topics == nil {
		for _, name := range slices.Sorted(maps.Keys(img.Topics)) {
			t := img.Topics[name]
			numbers := make([]int32, len(t.Partitions))
			for n := range numbers {
				numbers[n] = int32(n)
			}
			list(t, numbers)
		}
		return resp
	}
	for _, want := range req.Topics {
		if t := img.Topics[want.Topic]; t != nil {
			list(t, want.Partitions)
		}
	}
	return resp
}
