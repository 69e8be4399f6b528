package replica

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// fetchKey is a partition in a Fetch.
type fetchKey struct {
	topic  metadata.TopicID
	number int32
}

// fetchSession is the follower's side of a fetch session (KIP-227): a leader is told only what has changed, and tells no more.
type fetchSession struct {
	id, epoch int32
	sent      map[fetchKey]sentPosition
}

type sentPosition struct {
	leaderEpoch, lastEpoch int32
	offset, start          int64
}

func (s *fetchSession) reset() { *s = fetchSession{} }

// doubt has a partition sent again: what came of it was not taken over.
func (s *fetchSession) doubt(k fetchKey) {
	if _, ok := s.sent[k]; ok { // else there is no session, and all is sent anyway
		s.sent[k] = sentPosition{offset: -1}
	}
}

// request makes a Fetch for what is asked.
func (s *fetchSession) request(asked map[fetchKey]*fetched) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version = fetchVersion
	req.ReplicaID = -1
	req.SessionID, req.SessionEpoch = s.id, s.epoch
	if s.sent == nil {
		s.sent = map[fetchKey]sentPosition{}
	}
	type change struct {
		key fetchKey
		at  sentPosition
	}
	var changes []change
	for k, part := range asked {
		at := sentPosition{leaderEpoch: part.epoch, lastEpoch: part.lastEpoch, offset: part.offset}
		at.start = part.p.Log().StartOffset() // what readers may be sent here for (KIP-392)
		if was, ok := s.sent[k]; !ok || was != at || s.epoch == 0 {
			s.sent[k] = at
			changes = append(changes, change{k, at})
		}
	}
	slices.SortFunc(changes, func(a, b change) int {
		return cmp.Or(bytes.Compare(a.key.topic[:], b.key.topic[:]), cmp.Compare(a.key.number, b.key.number))
	})
	for _, c := range changes {
		k, at := c.key, c.at
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.CurrentLeaderEpoch, rp.FetchOffset, rp.LastFetchedEpoch = k.number, at.leaderEpoch, at.offset, at.lastEpoch
		rp.LogStartOffset = at.start
		if n := len(req.Topics); n > 0 && req.Topics[n-1].TopicID == k.topic {
			req.Topics[n-1].Partitions = append(req.Topics[n-1].Partitions, rp)
			continue
		}
		t := kmsg.NewFetchRequestTopic()
		t.TopicID = k.topic
		t.Partitions = append(t.Partitions, rp)
		req.Topics = append(req.Topics, t)
	}
	for k := range s.sent {
		if asked[k] != nil {
			continue
		}
		delete(s.sent, k)
		if s.epoch == 0 {
			continue
		}
		at := slices.IndexFunc(req.ForgottenTopics, func(t kmsg.FetchRequestForgottenTopic) bool { return t.TopicID == k.topic })
		if at < 0 {
			t := kmsg.NewFetchRequestForgottenTopic()
			t.TopicID = k.topic
			req.ForgottenTopics = append(req.ForgottenTopics, t)
			at = len(req.ForgottenTopics) - 1
		}
		req.ForgottenTopics[at].Partitions = append(req.ForgottenTopics[at].Partitions, k.number)
	}
	return req
}

// answered takes the session over from a response; false: there was nothing else in it, and the next Fetch starts anew.
func (s *fetchSession) answered(r *kmsg.FetchResponse) bool {
	if r.ErrorCode != 0 {
		s.reset()
		return false
	}
	if r.SessionID == 0 {
		s.reset() // the leader's cache is full: every Fetch names all
		return true
	}
	if s.epoch++; s.epoch < 1 {
		s.epoch = 1
	}
	s.id = r.SessionID
	return true
}
