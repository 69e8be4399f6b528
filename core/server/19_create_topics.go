package server

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
)

// CreateTopics (key 19), versions 2–7. v5 answers with what was made (KIP-525), v7 with the topic id.

func (s *Server) createTopics(r *request) kmsg.Response {
	req := r.body.(*kmsg.CreateTopicsRequest)
	resp := kmsg.NewPtrCreateTopicsResponse()
	limit := s.mutations(r, req.Version >= 6)
	defer func() { resp.ThrottleMillis = limit.millis() }()
	times := map[string]int{}
	for _, t := range req.Topics {
		times[t.Topic]++
	}
	var (
		news  []controller.NewTopic
		which []int // of each in resp.Topics
	)
	for i := range req.Topics {
		t := &req.Topics[i]
		if times[t.Topic] == 0 {
			continue // a double one, answered already
		}
		n, err := newTopic(t)
		n.Permit = limit.take
		if times[t.Topic] > 1 {
			err = refuse(kerr.InvalidRequest, "the request names this topic more than once")
		}
		times[t.Topic] = 0
		out := kmsg.NewCreateTopicsResponseTopic()
		out.Topic, out.ErrorCode, out.ErrorMessage = t.Topic, codeOf(err), messageOf(err)
		out.NumPartitions, out.ReplicationFactor = -1, -1
		out.Configs = []kmsg.CreateTopicsResponseTopicConfig{} // the Java client fails on null
		resp.Topics = append(resp.Topics, out)
		if err == nil {
			news, which = append(news, n), append(which, len(resp.Topics)-1)
		}
	}
	if len(news) == 0 {
		return resp
	}
	ctx, cancel := adminContext(r.ctx, req.TimeoutMillis)
	defer cancel()
	created, errs := s.d.Controller.CreateTopics(ctx, news, req.ValidateOnly)
	for k, i := range which {
		out := &resp.Topics[i]
		if errs[k] != nil {
			s.unexpected("create topic failed", errs[k], "topic", out.Topic)
			out.ErrorCode, out.ErrorMessage = codeOf(errs[k]), messageOf(errs[k])
			continue
		}
		s.createdTopic(out, created[k], news[k].Configs, req.ValidateOnly)
	}
	return resp
}

func newTopic(t *kmsg.CreateTopicsRequestTopic) (controller.NewTopic, error) {
	n := controller.NewTopic{Name: t.Topic, Partitions: t.NumPartitions, Replication: t.ReplicationFactor}
	if len(t.ReplicaAssignment) > 0 {
		if t.NumPartitions != -1 || t.ReplicationFactor != -1 {
			return n, refuse(kerr.InvalidRequest, "a replica assignment stands instead of partitions and replication factor: both must be -1 beside it")
		}
		n.Assignment = map[int32][]metadata.NodeID{}
		for _, a := range t.ReplicaAssignment {
			if _, twice := n.Assignment[a.Partition]; twice {
				return n, refuse(kerr.InvalidReplicaAssignment, "the replica assignment names a partition more than once")
			}
			var nodes []metadata.NodeID
			for _, id := range a.Replicas {
				nodes = append(nodes, metadata.NodeID(id))
			}
			n.Assignment[a.Partition] = nodes
		}
	}
	for _, c := range t.Configs {
		if n.Configs == nil {
			n.Configs = map[string]string{}
		}
		if _, twice := n.Configs[c.Name]; twice {
			return n, refuse(kerr.InvalidRequest, "the request sets config "+c.Name+" more than once")
		}
		if c.Value == nil {
			return n, refuse(kerr.InvalidConfig, "config "+c.Name+" has no value")
		}
		n.Configs[c.Name] = *c.Value
	}
	return n, nil
}

// createdTopic fills in what was made, or would have been.
func (s *Server) createdTopic(out *kmsg.CreateTopicsResponseTopic, t *metadata.Topic, configs map[string]string, validated bool) {
	if t == nil {
		return
	}
	out.NumPartitions = int32(len(t.Partitions))
	if len(t.Partitions) > 0 {
		out.ReplicationFactor = int16(len(t.Partitions[0].Replicas))
	}
	out.TopicID = t.ID
	var entries []controller.ConfigEntry
	var err error
	if validated {
		entries, err = s.d.Controller.PlannedConfigs(t.Name, configs)
	} else {
		entries, err = s.d.Controller.TopicConfigs(t.Name)
	}
	if err != nil {
		out.ConfigErrorCode = codeOf(err)
		return
	}
	for _, e := range entries {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.ReadOnly, c.Source, c.IsSensitive = e.Name, e.ReadOnly, e.Source, e.Sensitive
		c.Value = configValue(e.Value, e.Null, e.Sensitive)
		out.Configs = append(out.Configs, c)
	}
}

// adminContext gives a change of metadata the time that its client waits, but
// enough to be tried at all: 0 asks Kafka to go on in the background, which nobody would hear of.
func adminContext(ctx context.Context, millis int32) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, max(time.Duration(millis)*time.Millisecond, time.Second))
}
