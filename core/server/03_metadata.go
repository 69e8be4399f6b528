package server

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/wire"
)

// Metadata (key 3), versions 0–13. v4 asks whether to create topics, v5 offline
// replicas, v7 leader epochs, v8 authorized operations (KIP-430), v10 topic ids
// (KIP-516), v13 an error for the whole (KIP-1102).

// Bits of what a client may do to a resource (KIP-430): everything, as long as nothing is authorized.
const (
	opsUnknown = -1 << 31
	opsTopic   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	opsCluster = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
)

// autoCreateTimeout bounds how long Metadata waits for the topics that it creates.
const autoCreateTimeout = 10 * time.Second

func (s *Server) metadata(r *request) kmsg.Response {
	req := r.body.(*kmsg.MetadataRequest)
	img := s.d.Controller.Image()
	if req.Version < 4 || req.AllowAutoTopicCreation {
		img = s.autoCreate(r, req, img)
	}
	resp := kmsg.NewPtrMetadataResponse()
	resp.ClusterID = &img.ClusterID
	resp.ControllerID = int32(s.controllerID(img))
	resp.AuthorizedOperations = opsUnknown
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = opsCluster
	}
	for _, n := range s.liveNodes(img) {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Rack = int32(n.ID), rackOf(n)
		b.Host, b.Port = s.d.Advertised(n, r.listener)
		resp.Brokers = append(resp.Brokers, b)
	}
	if req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
		for _, name := range slices.Sorted(maps.Keys(img.Topics)) {
			resp.Topics = append(resp.Topics, s.metadataTopic(req, img, img.Topics[name]))
		}
		return resp
	}
	names, ids := wire.Seen[string]{}, wire.Seen[metadata.TopicID]{} // sets in Kafka too
	for _, want := range req.Topics {
		if byName(want) && names.First(*want.Topic) || !byName(want) && ids.First(want.TopicID) {
			resp.Topics = append(resp.Topics, s.wantedTopic(req, img, want))
		}
	}
	return resp
}

// byName says whether a topic is asked for by its name. An id goes before a name: the Java client sends "" beside one.
func byName(t kmsg.MetadataRequestTopic) bool { return t.Topic != nil && t.TopicID == [16]byte{} }

func (s *Server) wantedTopic(req *kmsg.MetadataRequest, img *metadata.Image, want kmsg.MetadataRequestTopic) kmsg.MetadataResponseTopic {
	var t *metadata.Topic
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.AuthorizedOperations = want.Topic, want.TopicID, opsUnknown
	switch {
	case byName(want):
		if t = img.Topics[*want.Topic]; t == nil {
			out.ErrorCode = kerr.UnknownTopicOrPartition.Code
			if metadata.ValidateTopicName(*want.Topic) != nil {
				out.ErrorCode = kerr.InvalidTopicException.Code
			}
		}
	default:
		if t = img.TopicIDs[want.TopicID]; t == nil {
			out.ErrorCode, out.Topic = kerr.UnknownTopicID.Code, nil
			if req.Version < 12 {
				none := "" // the name is nullable only since version 12
				out.Topic = &none
			}
		}
	}
	if t != nil {
		return s.metadataTopic(req, img, t)
	}
	return out
}

func (s *Server) metadataTopic(req *kmsg.MetadataRequest, img *metadata.Image, t *metadata.Topic) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.IsInternal = &t.Name, t.ID, t.Internal
	out.AuthorizedOperations = opsUnknown
	if req.IncludeTopicAuthorizedOperations {
		out.AuthorizedOperations = opsTopic
	}
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.Partitions))
	for i, p := range t.Partitions {
		part := &out.Partitions[i]
		part.Default()
		part.Partition, part.LeaderEpoch = p.Number, int32(p.LeaderEpoch)
		part.Leader, part.ErrorCode = leaderOf(img, p)
		part.Replicas, part.ISR = nodeIDs(p.Replicas), nodeIDs(p.ISR)
		part.OfflineReplicas = offline(img, p)
	}
	return out
}

// leaderOf is the leader that a client can reach, or -1 with LEADER_NOT_AVAILABLE.
func leaderOf(img *metadata.Image, p *metadata.Partition) (leader int32, code int16) {
	if n := img.Nodes[p.Leader]; n == nil || n.Fenced {
		return -1, kerr.LeaderNotAvailable.Code
	}
	return int32(p.Leader), 0
}

func offline(img *metadata.Image, p *metadata.Partition) []int32 {
	out := []int32{}
	for _, id := range p.Replicas {
		if !img.Usable(p, id) {
			out = append(out, int32(id))
		}
	}
	return out
}

func nodeIDs(ids []metadata.NodeID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}

func (s *Server) liveNodes(img *metadata.Image) []*metadata.Node {
	var out []*metadata.Node
	for _, id := range slices.Sorted(maps.Keys(img.Nodes)) {
		if n := img.Nodes[id]; !n.Fenced {
			out = append(out, n)
		}
	}
	return out
}

// controllerID is where admin requests are to be sent. Every node takes them, so
// it is this one, as a KRaft broker names any live broker.
func (s *Server) controllerID(img *metadata.Image) metadata.NodeID {
	if n := img.Nodes[s.d.NodeID]; n != nil && !n.Fenced {
		return s.d.NodeID
	}
	if live := s.liveNodes(img); len(live) > 0 {
		return live[0].ID
	}
	return -1
}

// autoCreate creates the topics that are missing, when that is allowed, and
// returns the image with them. What cannot be created, or not under the client's controller_mutation_rate, stays unknown.
func (s *Server) autoCreate(r *request, req *kmsg.MetadataRequest, img *metadata.Image) *metadata.Image {
	if s.d.NoAutoCreate {
		return img
	}
	var missing []controller.NewTopic
	seen, limit := wire.Seen[string]{}, s.mutations(r, true)
	for _, t := range req.Topics {
		if len(missing) == maxAutoCreate {
			break
		}
		if !byName(t) || img.Topics[*t.Topic] != nil || controller.Internal(*t.Topic) || metadata.ValidateTopicName(*t.Topic) != nil {
			continue
		}
		if seen.First(*t.Topic) {
			missing = append(missing, controller.NewTopic{Name: *t.Topic, Partitions: -1, Replication: -1, Permit: limit.take})
		}
	}
	if len(missing) == 0 {
		return img
	}
	ctx, cancel := context.WithTimeout(r.ctx, autoCreateTimeout)
	defer cancel()
	_, errs := s.d.Controller.CreateTopics(ctx, missing, false)
	for i, err := range errs {
		if code := codeOf(err); err != nil && code != kerr.TopicAlreadyExists.Code && code != kerr.ThrottlingQuotaExceeded.Code {
			s.d.Logger.Warn("cannot create a topic that a client asked for", "topic", missing[i].Name, "error", err)
		}
	}
	return s.d.Controller.Image()
}

// maxAutoCreate bounds the topics that one Metadata request can create.
const maxAutoCreate = 1000
