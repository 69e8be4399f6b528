package server

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// ElectLeaders (key 43), versions 0–2 (KIP-183, KIP-460). Leaders are the controller's to choose; a request
// is answered with what there is to elect, which is nothing where the leader is the preferred one already.

func (s *Server) electLeaders(r *request) kmsg.Response {
	req := r.body.(*kmsg.ElectLeadersRequest)
	resp := kmsg.NewPtrElectLeadersResponse()
	img := s.d.Controller.Image()
	wants := req.Topics
	all := wants == nil
	if all {
		for _, name := range slices.Sorted(maps.Keys(img.Topics)) {
			w := kmsg.NewElectLeadersRequestTopic()
			w.Topic = name
			for _, p := range img.Topics[name].Partitions {
				w.Partitions = append(w.Partitions, p.Number)
			}
			wants = append(wants, w)
		}
	}
	for _, w := range wants {
		out := kmsg.NewElectLeadersResponseTopic()
		out.Topic = w.Topic
		for _, number := range w.Partitions {
			err := electionOf(img.Partition(w.Topic, number), req.ElectionType)
			if all && codeOf(err) == kerr.ElectionNotNeeded.Code {
				continue // as Kafka: who asks for all hears of those that change or cannot
			}
			part := kmsg.NewElectLeadersResponseTopicPartition()
			part.Partition, part.ErrorCode, part.ErrorMessage = number, codeOf(err), messageOf(err)
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func electionOf(p *metadata.Partition, kind int8) error {
	const preferred = 0
	switch {
	case p == nil:
		return refuse(kerr.UnknownTopicOrPartition, "No such topic as this.")
	case kind == preferred && p.Leader != p.Replicas[0]:
		return refuse(kerr.PreferredLeaderNotAvailable, "The preferred leader was not available.")
	case kind != preferred && p.Leader < 0:
		return refuse(kerr.EligibleLeadersNotAvailable, "No replica was available to be elected.")
	}
	return refuse(kerr.ElectionNotNeeded, "Leader election not needed for topic partition.")
}
