package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListPartitionReassignments (key 46), version 0 (KIP-455). None is ever under way; kafka-topics and consoles ask.

func (s *Server) listPartitionReassignments(*request) kmsg.Response {
	return kmsg.NewPtrListPartitionReassignmentsResponse()
}
