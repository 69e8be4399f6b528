package server

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
)

var groupRefused = kerr.GroupAuthorizationFailed.Code

func findCoordinatorRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.FindCoordinatorRequest)
	err, may := kerr.GroupAuthorizationFailed, func(key *string) bool { return r.may(auth.Describe, auth.Group, *key) }
	if req.CoordinatorType == txnKey {
		err, may = kerr.TransactionalIDAuthorizationFailed, func(key *string) bool { return r.may(auth.Describe, auth.TransactionalID, *key) }
	}
	if req.Version < 4 {
		if may(&req.CoordinatorKey) {
			return nil, nil
		}
		resp := kmsg.NewPtrFindCoordinatorResponse()
		resp.NodeID, resp.Port, resp.ErrorCode, resp.ErrorMessage = -1, -1, err.Code, message(err)
		return resp, nil
	}
	yes, no := part(req.CoordinatorKeys, may)
	req.CoordinatorKeys = yes
	return nil, func(resp kmsg.Response) {
		for _, key := range no {
			c := kmsg.NewFindCoordinatorResponseCoordinator()
			c.Key, c.NodeID, c.Port, c.ErrorCode, c.ErrorMessage = key, -1, -1, err.Code, message(err)
			resp.(*kmsg.FindCoordinatorResponse).Coordinators = append(resp.(*kmsg.FindCoordinatorResponse).Coordinators, c)
		}
	}
}

func joinGroupRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.JoinGroupRequest)
	if r.may(auth.Read, auth.Group, req.Group) {
		return nil, nil
	}
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.ErrorCode, resp.Generation, resp.MemberID = groupRefused, -1, req.MemberID
	if req.Version < 7 { // the protocol is nullable since then
		resp.Protocol = new(string)
	}
	return resp, nil
}

func syncGroupRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	if r.may(auth.Read, auth.Group, r.body.(*kmsg.SyncGroupRequest).Group) {
		return nil, nil
	}
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ErrorCode, resp.MemberAssignment = groupRefused, []byte{}
	return resp, nil
}

func heartbeatRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	if r.may(auth.Read, auth.Group, r.body.(*kmsg.HeartbeatRequest).Group) {
		return nil, nil
	}
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.ErrorCode = groupRefused
	return resp, nil
}

func leaveGroupRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	if r.may(auth.Read, auth.Group, r.body.(*kmsg.LeaveGroupRequest).Group) {
		return nil, nil
	}
	resp := kmsg.NewPtrLeaveGroupResponse()
	resp.ErrorCode = groupRefused
	return resp, nil
}

// topicOf is a topic that is named by its name or, since KIP-516, by its id. "": nobody has the id, and the handler says so.
func (s *Server) topicOf(name string, id [16]byte) string {
	if id != [16]byte{} {
		if t := s.d.Controller.Image().TopicIDs[id]; t != nil {
			return t.Name
		}
		return ""
	}
	return name
}

func offsetCommitRights(s *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.OffsetCommitRequest)
	refused := func(t *kmsg.OffsetCommitRequestTopic, code int16) kmsg.OffsetCommitResponseTopic {
		out := kmsg.NewOffsetCommitResponseTopic()
		out.Topic, out.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			op := kmsg.NewOffsetCommitResponseTopicPartition()
			op.Partition, op.ErrorCode = p.Partition, code
			out.Partitions = append(out.Partitions, op)
		}
		return out
	}
	if !r.may(auth.Read, auth.Group, req.Group) {
		resp := kmsg.NewPtrOffsetCommitResponse()
		for i := range req.Topics {
			resp.Topics = append(resp.Topics, refused(&req.Topics[i], groupRefused))
		}
		return resp, nil
	}
	yes, no := part(req.Topics, func(t *kmsg.OffsetCommitRequestTopic) bool {
		name := s.topicOf(t.Topic, t.TopicID)
		return name == "" || r.may(auth.Read, auth.Topic, name)
	})
	req.Topics = yes
	return nil, func(resp kmsg.Response) {
		for i := range no {
			resp.(*kmsg.OffsetCommitResponse).Topics = append(resp.(*kmsg.OffsetCommitResponse).Topics, refused(&no[i], topicRefused))
		}
	}
}

// offsetFetchRights leave out the topics that may not be described when all are asked for, and say so of those that are named.
func offsetFetchRights(s *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.OffsetFetchRequest)
	if req.Version < 8 {
		return offsetFetchOneRights(r, req)
	}
	groups, refusedGroups := part(req.Groups, func(g *kmsg.OffsetFetchRequestGroup) bool { return r.may(auth.Describe, auth.Group, g.Group) })
	req.Groups = groups
	refused := make([][]kmsg.OffsetFetchRequestGroupTopic, len(groups))
	all := make([]bool, len(groups))
	for i := range groups {
		g := &groups[i]
		all[i] = g.Topics == nil
		g.Topics, refused[i] = part(g.Topics, func(t *kmsg.OffsetFetchRequestGroupTopic) bool {
			name := s.topicOf(t.Topic, t.TopicID)
			return name == "" || r.may(auth.Describe, auth.Topic, name)
		})
	}
	return nil, func(resp kmsg.Response) {
		o := resp.(*kmsg.OffsetFetchResponse)
		for i := range o.Groups {
			g := &o.Groups[i]
			if all[i] {
				g.Topics = slices.DeleteFunc(g.Topics, func(t kmsg.OffsetFetchResponseGroupTopic) bool {
					name := s.topicOf(t.Topic, t.TopicID)
					return name != "" && !r.may(auth.Describe, auth.Topic, name)
				})
			}
			for _, t := range refused[i] {
				out := kmsg.NewOffsetFetchResponseGroupTopic()
				out.Topic, out.TopicID = t.Topic, t.TopicID
				for _, n := range t.Partitions {
					p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
					p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = n, -1, -1, new(string), topicRefused
					out.Partitions = append(out.Partitions, p)
				}
				g.Topics = append(g.Topics, out)
			}
		}
		for _, g := range refusedGroups {
			out := kmsg.NewOffsetFetchResponseGroup()
			out.Group, out.ErrorCode = g.Group, groupRefused
			o.Groups = append(o.Groups, out)
		}
	}
}

// offsetFetchOneRights is for the versions that ask for one group.
func offsetFetchOneRights(r *request, req *kmsg.OffsetFetchRequest) (kmsg.Response, func(kmsg.Response)) {
	refused := func(topics []kmsg.OffsetFetchRequestTopic, code int16) (list []kmsg.OffsetFetchResponseTopic) {
		for _, t := range topics {
			out := kmsg.NewOffsetFetchResponseTopic()
			out.Topic = t.Topic
			for _, n := range t.Partitions {
				p := kmsg.NewOffsetFetchResponseTopicPartition()
				p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = n, -1, -1, new(string), code
				out.Partitions = append(out.Partitions, p)
			}
			list = append(list, out)
		}
		return list
	}
	if !r.may(auth.Describe, auth.Group, req.Group) {
		resp := kmsg.NewPtrOffsetFetchResponse()
		resp.ErrorCode = groupRefused
		if req.Version < 2 {
			resp.Topics = refused(req.Topics, groupRefused)
		}
		return resp, nil
	}
	all := req.Topics == nil
	yes, no := part(req.Topics, func(t *kmsg.OffsetFetchRequestTopic) bool { return r.may(auth.Describe, auth.Topic, t.Topic) })
	req.Topics = yes
	return nil, func(resp kmsg.Response) {
		o := resp.(*kmsg.OffsetFetchResponse)
		o.Topics = slices.DeleteFunc(o.Topics, func(t kmsg.OffsetFetchResponseTopic) bool {
			return all && !r.may(auth.Describe, auth.Topic, t.Topic)
		})
		o.Topics = append(o.Topics, refused(no, topicRefused)...)
	}
}

func offsetDeleteRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.OffsetDeleteRequest)
	if !r.may(auth.Delete, auth.Group, req.Group) {
		resp := kmsg.NewPtrOffsetDeleteResponse()
		resp.ErrorCode = groupRefused
		return resp, nil
	}
	yes, no := part(req.Topics, func(t *kmsg.OffsetDeleteRequestTopic) bool { return r.may(auth.Read, auth.Topic, t.Topic) })
	req.Topics = yes
	return nil, func(resp kmsg.Response) {
		for _, t := range no {
			out := kmsg.NewOffsetDeleteResponseTopic()
			out.Topic = t.Topic
			for _, p := range t.Partitions {
				op := kmsg.NewOffsetDeleteResponseTopicPartition()
				op.Partition, op.ErrorCode = p.Partition, topicRefused
				out.Partitions = append(out.Partitions, op)
			}
			resp.(*kmsg.OffsetDeleteResponse).Topics = append(resp.(*kmsg.OffsetDeleteResponse).Topics, out)
		}
	}
}

func describeGroupsRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.DescribeGroupsRequest)
	yes, no := part(req.Groups, func(id *string) bool { return r.may(auth.Describe, auth.Group, *id) })
	req.Groups = yes
	return nil, func(resp kmsg.Response) {
		d := resp.(*kmsg.DescribeGroupsResponse)
		for i := range d.Groups {
			if g := &d.Groups[i]; g.AuthorizedOperations != opsUnknown {
				g.AuthorizedOperations = r.rules.Operations(r.principal, r.host, auth.Group, g.Group)
			}
		}
		for _, id := range no {
			out := kmsg.NewDescribeGroupsResponseGroup()
			out.Group, out.ErrorCode, out.AuthorizedOperations = id, groupRefused, opsUnknown
			if req.Version >= 6 {
				out.ErrorMessage = message(kerr.GroupAuthorizationFailed)
			}
			d.Groups = append(d.Groups, out)
		}
	}
}

// listGroupsRights leave out what may not be described, unless the cluster may.
func listGroupsRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	if r.mayCluster(auth.Describe) {
		return nil, nil
	}
	return nil, func(resp kmsg.Response) {
		l := resp.(*kmsg.ListGroupsResponse)
		l.Groups = slices.DeleteFunc(l.Groups, func(g kmsg.ListGroupsResponseGroup) bool { return !r.may(auth.Describe, auth.Group, g.Group) })
	}
}

func deleteGroupsRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.DeleteGroupsRequest)
	yes, no := part(req.Groups, func(id *string) bool { return r.may(auth.Delete, auth.Group, *id) })
	req.Groups = yes
	return nil, func(resp kmsg.Response) {
		for _, id := range no {
			out := kmsg.NewDeleteGroupsResponseGroup()
			out.Group, out.ErrorCode = id, groupRefused
			resp.(*kmsg.DeleteGroupsResponse).Groups = append(resp.(*kmsg.DeleteGroupsResponse).Groups, out)
		}
	}
}

// consumerGroupHeartbeatRights: READ on the group, DESCRIBE on the topics that are subscribed to by name (KIP-848).
func consumerGroupHeartbeatRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.ConsumerGroupHeartbeatRequest)
	var err *kerr.Error
	switch {
	case !r.may(auth.Read, auth.Group, req.Group):
		err = kerr.GroupAuthorizationFailed
	case slices.ContainsFunc(req.SubscribedTopicNames, func(name string) bool { return !r.may(auth.Describe, auth.Topic, name) }):
		err = kerr.TopicAuthorizationFailed
	default:
		return nil, nil
	}
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.ErrorCode, resp.ErrorMessage = err.Code, message(err)
	return resp, nil
}

// consumerGroupDescribeRights: DESCRIBE on the group, and on every topic that its members have; else the members are not shown.
func consumerGroupDescribeRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.ConsumerGroupDescribeRequest)
	yes, no := part(req.Groups, func(id *string) bool { return r.may(auth.Describe, auth.Group, *id) })
	req.Groups = yes
	return nil, func(resp kmsg.Response) {
		d := resp.(*kmsg.ConsumerGroupDescribeResponse)
		hidden := func(p kmsg.AssignmentTopicPartition) bool { return !r.may(auth.Describe, auth.Topic, p.Topic) }
		for i := range d.Groups {
			g := &d.Groups[i]
			if slices.ContainsFunc(g.Members, func(m kmsg.ConsumerGroupDescribeResponseGroupMember) bool {
				return slices.ContainsFunc(m.Assignment.TopicPartitions, hidden) || slices.ContainsFunc(m.TargetAssignment.TopicPartitions, hidden)
			}) {
				out := kmsg.NewConsumerGroupDescribeResponseGroup()
				text := "The group has described topic(s) that the client is not authorized to describe."
				out.Group, out.ErrorCode, out.ErrorMessage = g.Group, topicRefused, &text
				*g = out
				continue
			}
			if g.AuthorizedOperations != opsUnknown {
				g.AuthorizedOperations = r.rules.Operations(r.principal, r.host, auth.Group, g.Group)
			}
		}
		for _, id := range no {
			out := kmsg.NewConsumerGroupDescribeResponseGroup()
			out.Group, out.ErrorCode, out.ErrorMessage = id, groupRefused, message(kerr.GroupAuthorizationFailed)
			d.Groups = append(d.Groups, out)
		}
	}
}
