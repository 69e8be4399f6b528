package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/group"
	"github.com/forebayhub/forebay/core/txn"
)

// Types of coordinators in FindCoordinator.
const (
	groupKey = 0
	txnKey   = 1
)

// findCoordinator says who leads the partition that a group or transactional id belongs to; the coordinators' topics are created
// when they are first asked for.
func (s *Server) findCoordinator(r *request) kmsg.Response {
	req := r.body.(*kmsg.FindCoordinatorRequest)
	resp := kmsg.NewPtrFindCoordinatorResponse()
	if req.Version < 4 {
		c := s.coordinator(r.ctx, r.listener, req.CoordinatorType, req.CoordinatorKey)
		resp.NodeID, resp.Host, resp.Port, resp.ErrorCode, resp.ErrorMessage = c.NodeID, c.Host, c.Port, c.ErrorCode, c.ErrorMessage
		return resp
	}
	for _, key := range req.CoordinatorKeys {
		resp.Coordinators = append(resp.Coordinators, s.coordinator(r.ctx, r.listener, req.CoordinatorType, key))
	}
	return resp
}

func (s *Server) coordinator(ctx context.Context, listener string, kind int8, key string) kmsg.FindCoordinatorResponseCoordinator {
	c := kmsg.NewFindCoordinatorResponseCoordinator()
	c.Key, c.NodeID, c.Port = key, -1, -1
	refuse := func(code int16, message string) kmsg.FindCoordinatorResponseCoordinator {
		c.ErrorCode, c.ErrorMessage = code, &message
		return c
	}
	topic, ensure, partition := group.Topic, s.d.Groups.EnsureTopic, s.d.Groups.PartitionFor
	switch kind {
	case groupKey:
	case txnKey:
		topic, ensure, partition = txn.Topic, s.d.Txns.EnsureTopic, s.d.Txns.PartitionFor
		if key == "" {
			return refuse(kerr.InvalidRequest.Code, "The transactional id is empty.")
		}
	default:
		return refuse(kerr.InvalidRequest.Code, "Coordinators of this type are not served.")
	}
	if err := ensure(ctx); err != nil {
		s.d.Logger.Warn("coordinator topic could not be created", "topic", topic, "error", err)
		return refuse(kerr.CoordinatorNotAvailable.Code, "The coordinator's topic could not be created.")
	}
	image := s.d.Controller.Image()
	p := image.Partition(topic, partition(key))
	if p == nil || image.Nodes[p.Leader] == nil || image.Nodes[p.Leader].Fenced {
		return refuse(kerr.CoordinatorNotAvailable.Code, "The coordinator's partition has no leader.")
	}
	c.NodeID = int32(p.Leader)
	c.Host, c.Port = s.d.Advertised(image.Nodes[p.Leader], listener)
	return c
}
