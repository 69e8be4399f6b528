package server

import (
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ElectLeaders (key 43), versions 0–2 (KIP-183, KIP-460).

// Types of election: preferred gives partitions back to their first replica.
const (
	electPreferred = 0
	electUnclean   = 1
)

func (s *Server) electLeaders(r *request) kmsg.Response {
	req := r.body.(*kmsg.ElectLeadersRequest)
	resp := kmsg.NewPtrElectLeadersResponse()
	img := s.d.Controller.Image()
	ctx, cancel := adminContext(r.ctx, req.TimeoutMillis)
	defer cancel()
	wants := req.Topics
	all := wants == nil
	var unknown error
	if t := req.ElectionType; t != electPreferred && t != electUnclean && (all || len(wants) > 0) {
		unknown = refuse(kerr.InvalidRequest, fmt.Sprintf("election type %d is not known", t))
		resp.ErrorCode = codeOf(unknown)
	}
	if all && unknown == nil {
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
			err := unknown
			if err == nil {
				err = s.d.Controller.Elect(ctx, w.Topic, number, req.ElectionType == electUnclean)
			}
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
