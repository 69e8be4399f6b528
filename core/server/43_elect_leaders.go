package server

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ElectLeaders (key 43), versions 0–2 (KIP-183, KIP-460).

// electPreferred is the type of election that gives partitions back to their first replica; the other is unclean.
const electPreferred = 0

func (s *Server) electLeaders(r *request) kmsg.Response {
	req := r.body.(*kmsg.ElectLeadersRequest)
	resp := kmsg.NewPtrElectLeadersResponse()
	img := s.d.Controller.Image()
	ctx, cancel := adminContext(r.ctx, req.TimeoutMillis)
	defer cancel()
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
			err := s.d.Controller.Elect(ctx, w.Topic, number, req.ElectionType != electPreferred)
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
