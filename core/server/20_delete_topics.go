package server

import (
	"cmp"
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// DeleteTopics (key 20), versions 1–6. v6 takes topic ids (KIP-516).

func (s *Server) deleteTopics(r *request) kmsg.Response {
	req := r.body.(*kmsg.DeleteTopicsRequest)
	resp := kmsg.NewPtrDeleteTopicsResponse()
	wants := req.Topics
	for i := range req.TopicNames {
		w := kmsg.NewDeleteTopicsRequestTopic()
		w.Topic = &req.TopicNames[i]
		wants = append(wants, w)
	}
	ctx, cancel := adminContext(r.ctx, req.TimeoutMillis)
	defer cancel()
	img, behind := s.topicsOf(ctx, wants)
	limit := s.mutations(r, req.Version >= 5)
	defer func() { resp.ThrottleMillis = limit.millis() }()
	var (
		names []string
		ids   []metadata.TopicID
		named []int // where each name is in resp.Topics
		byID  []int // and each id
	)
	times := map[string]int{} // of a name; which of two was meant is not guessed, neither is deleted
	for _, w := range wants {
		if t := img.TopicIDs[w.TopicID]; w.Topic == nil && t != nil {
			times[t.Name]++
		} else if w.Topic != nil {
			times[*w.Topic]++
		}
	}
	for _, w := range wants {
		out := kmsg.NewDeleteTopicsResponseTopic()
		out.Topic, out.TopicID = w.Topic, w.TopicID
		var err error
		switch {
		case w.Topic != nil && w.TopicID != [16]byte{}:
			err = refuse(kerr.InvalidRequest, "a topic is named by its name or by its id, not both")
		case w.Topic == nil:
			if t := img.TopicIDs[w.TopicID]; t != nil {
				out.Topic = &t.Name
			} else {
				err = cmp.Or[error](behind, kerr.UnknownTopicID)
			}
		default:
			if t := img.Topics[*w.Topic]; t != nil {
				out.TopicID = t.ID
			} else {
				err = cmp.Or[error](behind, kerr.UnknownTopicOrPartition)
			}
		}
		if err == nil && times[*out.Topic] > 1 {
			err = refuse(kerr.InvalidRequest, "the request names this topic more than once")
		}
		if err == nil && !limit.take(len(img.Topics[*out.Topic].Partitions)) {
			err = refuse(kerr.ThrottlingQuotaExceeded, "The throttling quota has been exceeded.")
		}
		out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		resp.Topics = append(resp.Topics, out)
		switch {
		case err != nil:
		case w.Topic != nil:
			names, named = append(names, *out.Topic), append(named, len(resp.Topics)-1)
		default:
			ids, byID = append(ids, w.TopicID), append(byID, len(resp.Topics)-1)
		}
	}
	tell := func(at []int, errs []error) {
		for k, err := range errs {
			out := &resp.Topics[at[k]]
			s.unexpected("delete topic failed", err, "topic", *out.Topic)
			out.ErrorCode, out.ErrorMessage = codeOf(err), messageOf(err)
		}
	}
	if len(names) > 0 {
		tell(named, s.d.Controller.DeleteTopics(ctx, names))
	}
	if len(ids) > 0 {
		tell(byID, s.d.Controller.DeleteTopicIDs(ctx, ids))
	}
	return resp
}

// topicsOf is an Image that has all topics that are named, or all that was agreed on before: this node may be behind, and to say that a topic is not there must be
// right. behind says why that could not be learned.
func (s *Server) topicsOf(ctx context.Context, wants []kmsg.DeleteTopicsRequestTopic) (img *metadata.Image, behind error) {
	img = s.d.Controller.Image()
	for _, w := range wants {
		if w.Topic == nil && img.TopicIDs[w.TopicID] == nil || w.Topic != nil && img.Topics[*w.Topic] == nil {
			behind = s.d.Controller.Current(ctx)
			return s.d.Controller.Image(), behind
		}
	}
	return img, nil
}
