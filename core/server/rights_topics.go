package server

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
)

var topicRefused = kerr.TopicAuthorizationFailed.Code

// metadataRights leave out what may not be described when all topics are asked for, and say so of those that are named. A topic that is
// named and missing needs CREATE to be made.
func metadataRights(s *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.MetadataRequest)
	img := s.d.Controller.Image()
	all := req.Topics == nil || req.Version == 0 && len(req.Topics) == 0
	creates := (req.Version < 4 || req.AllowAutoTopicCreation) && !s.d.NoAutoCreate
	name := func(t *kmsg.MetadataRequestTopic) (string, bool) {
		if t.TopicID != [16]byte{} {
			if known := img.TopicIDs[t.TopicID]; known != nil {
				return known.Name, true
			}
			return "", false // unknown: the handler says so
		}
		if t.Topic == nil {
			return "", false
		}
		return *t.Topic, true
	}
	yes, no := part(req.Topics, func(t *kmsg.MetadataRequestTopic) bool {
		n, known := name(t)
		if !known {
			return true
		}
		makes := creates && t.TopicID == [16]byte{} && img.Topics[n] == nil
		return r.may(auth.Describe, auth.Topic, n) && (!makes || r.mayCluster(auth.Create) || r.may(auth.Create, auth.Topic, n))
	})
	req.Topics = yes
	return nil, func(resp kmsg.Response) {
		m := resp.(*kmsg.MetadataResponse)
		if m.AuthorizedOperations != opsUnknown {
			m.AuthorizedOperations = r.clusterOperations()
		}
		if !all && len(yes) == 0 {
			m.Topics = nil // version 0 takes none for all
		}
		m.Topics = slices.DeleteFunc(m.Topics, func(t kmsg.MetadataResponseTopic) bool {
			return all && t.Topic != nil && !r.may(auth.Describe, auth.Topic, *t.Topic)
		})
		for i := range m.Topics {
			if t := &m.Topics[i]; t.AuthorizedOperations != opsUnknown && t.Topic != nil {
				t.AuthorizedOperations = r.rules.Operations(r.principal, r.host, auth.Topic, *t.Topic)
			}
		}
		for _, t := range no {
			out := kmsg.NewMetadataResponseTopic()
			out.ErrorCode, out.AuthorizedOperations = topicRefused, opsUnknown
			out.Partitions = []kmsg.MetadataResponseTopicPartition{}
			if out.TopicID = t.TopicID; t.TopicID == [16]byte{} { // an id is no secret, the name of one is
				out.Topic = t.Topic
			} else if req.Version < 12 {
				out.Topic = new(string)
			}
			m.Topics = append(m.Topics, out)
		}
	}
}

func describeTopicPartitionsRights(s *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.DescribeTopicPartitionsRequest)
	if badCursor(req) {
		return nil, nil // it is refused as a whole
	}
	all := len(req.Topics) == 0
	if all {
		for _, name := range slices.Sorted(maps.Keys(s.d.Controller.Image().Topics)) {
			t := kmsg.NewDescribeTopicPartitionsRequestTopic()
			t.Topic = name
			req.Topics = append(req.Topics, t)
		}
	}
	yes, no := part(req.Topics, func(t *kmsg.DescribeTopicPartitionsRequestTopic) bool {
		return r.may(auth.Describe, auth.Topic, t.Topic)
	})
	req.Topics = yes
	if badCursor(req) { // its topic may not be described, or is gone: the page begins after it
		req.Topics = slices.DeleteFunc(req.Topics, func(t kmsg.DescribeTopicPartitionsRequestTopic) bool { return t.Topic < req.Cursor.Topic })
		req.Cursor = nil
	}
	amend := func(resp kmsg.Response) {
		d := resp.(*kmsg.DescribeTopicPartitionsResponse)
		for i := range d.Topics {
			if t := &d.Topics[i]; t.AuthorizedOperations != opsUnknown && t.Topic != nil {
				t.AuthorizedOperations = r.rules.Operations(r.principal, r.host, auth.Topic, *t.Topic)
			}
		}
		for i := range no {
			if all {
				break
			}
			out := kmsg.NewDescribeTopicPartitionsResponseTopic()
			out.Topic, out.ErrorCode, out.AuthorizedOperations = &no[i].Topic, topicRefused, opsUnknown
			d.Topics = append(d.Topics, out)
		}
	}
	if len(req.Topics) == 0 { // the handler takes none for all
		resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
		amend(resp)
		return resp, nil
	}
	return nil, amend
}

func listOffsetsRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.ListOffsetsRequest)
	yes, no := part(req.Topics, func(t *kmsg.ListOffsetsRequestTopic) bool {
		return r.may(auth.Describe, auth.Topic, t.Topic) || req.ReplicaID >= 0 && r.mayCluster(auth.ClusterAction)
	})
	req.Topics = yes
	return nil, func(resp kmsg.Response) {
		for _, t := range no {
			out := kmsg.NewListOffsetsResponseTopic()
			out.Topic = t.Topic
			for _, p := range t.Partitions {
				op := kmsg.NewListOffsetsResponseTopicPartition()
				op.Partition, op.ErrorCode, op.Offset, op.Timestamp, op.LeaderEpoch = p.Partition, topicRefused, -1, -1, -1
				out.Partitions = append(out.Partitions, op)
			}
			resp.(*kmsg.ListOffsetsResponse).Topics = append(resp.(*kmsg.ListOffsetsResponse).Topics, out)
		}
	}
}

func offsetForLeaderEpochRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.OffsetForLeaderEpochRequest)
	if r.mayCluster(auth.ClusterAction) { // nodes asked first (KIP-101), consumers since KIP-320
		return nil, nil
	}
	yes, no := part(req.Topics, func(t *kmsg.OffsetForLeaderEpochRequestTopic) bool { return r.may(auth.Describe, auth.Topic, t.Topic) })
	req.Topics = yes
	return nil, func(resp kmsg.Response) {
		for _, t := range no {
			out := kmsg.NewOffsetForLeaderEpochResponseTopic()
			out.Topic = t.Topic
			for _, p := range t.Partitions {
				op := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				op.Partition, op.ErrorCode, op.LeaderEpoch, op.EndOffset = p.Partition, topicRefused, -1, -1
				out.Partitions = append(out.Partitions, op)
			}
			resp.(*kmsg.OffsetForLeaderEpochResponse).Topics = append(resp.(*kmsg.OffsetForLeaderEpochResponse).Topics, out)
		}
	}
}

// createTopicsRights: CREATE on the cluster or on the topic; what was made is described only to who may describe its configs.
func createTopicsRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.CreateTopicsRequest)
	yes, no := part(req.Topics, func(t *kmsg.CreateTopicsRequestTopic) bool {
		return r.mayCluster(auth.Create) || r.may(auth.Create, auth.Topic, t.Topic)
	})
	req.Topics = yes
	return nil, func(resp kmsg.Response) {
		c := resp.(*kmsg.CreateTopicsResponse)
		for i := range c.Topics {
			if t := &c.Topics[i]; t.ErrorCode == 0 && !r.may(auth.DescribeConfigs, auth.Topic, t.Topic) {
				t.ConfigErrorCode, t.NumPartitions, t.ReplicationFactor = topicRefused, -1, -1
				t.Configs = []kmsg.CreateTopicsResponseTopicConfig{}
			}
		}
		for _, t := range no {
			out := kmsg.NewCreateTopicsResponseTopic()
			out.Topic, out.ErrorCode, out.ErrorMessage = t.Topic, topicRefused, message(kerr.TopicAuthorizationFailed)
			out.NumPartitions, out.ReplicationFactor = -1, -1
			out.Configs = []kmsg.CreateTopicsResponseTopicConfig{}
			c.Topics = append(c.Topics, out)
		}
	}
}

// deleteTopicsRights: DELETE on the topic. Who names one by its id and may not describe it does not learn its name.
func deleteTopicsRights(s *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.DeleteTopicsRequest)
	img := s.d.Controller.Image()
	var refused []kmsg.DeleteTopicsResponseTopic
	refuse := func(name *string, id [16]byte) {
		out := kmsg.NewDeleteTopicsResponseTopic()
		out.Topic, out.TopicID, out.ErrorCode, out.ErrorMessage = name, id, topicRefused, message(kerr.TopicAuthorizationFailed)
		refused = append(refused, out)
	}
	req.TopicNames, _ = part(req.TopicNames, func(name *string) bool {
		may := r.may(auth.Delete, auth.Topic, *name)
		if !may {
			refuse(name, [16]byte{})
		}
		return may
	})
	req.Topics, _ = part(req.Topics, func(t *kmsg.DeleteTopicsRequestTopic) bool {
		name := t.Topic
		if known := img.TopicIDs[t.TopicID]; name == nil && known != nil {
			name = &known.Name
		}
		if name == nil || r.may(auth.Delete, auth.Topic, *name) {
			return true
		}
		if t.Topic == nil && !r.may(auth.Describe, auth.Topic, *name) {
			name = nil
		}
		refuse(name, t.TopicID)
		return false
	})
	return nil, func(resp kmsg.Response) {
		resp.(*kmsg.DeleteTopicsResponse).Topics = append(resp.(*kmsg.DeleteTopicsResponse).Topics, refused...)
	}
}

func deleteRecordsRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.DeleteRecordsRequest)
	yes, no := part(req.Topics, func(t *kmsg.DeleteRecordsRequestTopic) bool { return r.may(auth.Delete, auth.Topic, t.Topic) })
	req.Topics = yes
	return nil, func(resp kmsg.Response) {
		for _, t := range no {
			out := kmsg.NewDeleteRecordsResponseTopic()
			out.Topic = t.Topic
			for _, p := range t.Partitions {
				op := kmsg.NewDeleteRecordsResponseTopicPartition()
				op.Partition, op.ErrorCode, op.LowWatermark = p.Partition, topicRefused, -1
				out.Partitions = append(out.Partitions, op)
			}
			resp.(*kmsg.DeleteRecordsResponse).Topics = append(resp.(*kmsg.DeleteRecordsResponse).Topics, out)
		}
	}
}

func createPartitionsRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.CreatePartitionsRequest)
	yes, no := part(req.Topics, func(t *kmsg.CreatePartitionsRequestTopic) bool { return r.may(auth.Alter, auth.Topic, t.Topic) })
	req.Topics = yes
	return nil, func(resp kmsg.Response) {
		for _, t := range no {
			out := kmsg.NewCreatePartitionsResponseTopic()
			out.Topic, out.ErrorCode, out.ErrorMessage = t.Topic, topicRefused, message(kerr.TopicAuthorizationFailed)
			resp.(*kmsg.CreatePartitionsResponse).Topics = append(resp.(*kmsg.CreatePartitionsResponse).Topics, out)
		}
	}
}

func describeProducersRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.DescribeProducersRequest)
	yes, no := part(req.Topics, func(t *kmsg.DescribeProducersRequestTopic) bool { return r.may(auth.Read, auth.Topic, t.Topic) })
	req.Topics = yes
	return nil, func(resp kmsg.Response) {
		for _, t := range no {
			out := kmsg.NewDescribeProducersResponseTopic()
			out.Topic = t.Topic
			for _, n := range t.Partitions {
				op := kmsg.NewDescribeProducersResponseTopicPartition()
				op.Partition, op.ErrorCode, op.ErrorMessage = n, topicRefused, message(kerr.TopicAuthorizationFailed)
				out.Partitions = append(out.Partitions, op)
			}
			resp.(*kmsg.DescribeProducersResponse).Topics = append(resp.(*kmsg.DescribeProducersResponse).Topics, out)
		}
	}
}
