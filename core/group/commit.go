package group

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/statelog"
)

// commitWish is an OffsetCommit or TxnOffsetCommit, in one shape.
type commitWish struct {
	group, member string
	instance      *string
	generation    int32
	retention     int64              // ms; -1: the coordinator's
	producer      *statelog.Producer // set: part of its transaction
	guard         commitlog.Guard    // of that transaction
	version       int16              // of an OffsetCommit
	missing       int16              // code for a generation of a group that is not there
	newer         bool               // a TxnOffsetCommit whose client knows the codes of KIP-848
}

// commitItem is one partition of it.
type commitItem struct {
	topic     string
	topicID   [16]byte
	partition int32
	offset    int64
	epoch     int32
	metadata  *string
	code      int16 // out
}

// OffsetCommit answers once the offsets are durable.
func (c *Coordinator) OffsetCommit(ctx context.Context, req *kmsg.OffsetCommitRequest) *kmsg.OffsetCommitResponse {
	resp := kmsg.NewPtrOffsetCommitResponse()
	resp.Version = req.Version
	w := commitWish{group: req.Group, member: req.MemberID, instance: req.InstanceID, generation: req.Generation, retention: -1,
		version: req.Version, missing: kerr.IllegalGeneration.Code}
	if req.Version >= 9 {
		w.missing = kerr.GroupIDNotFound.Code
	}
	if req.Version >= 2 && req.Version <= 4 {
		w.retention = req.RetentionTimeMillis
	}
	var items []commitItem
	for _, t := range req.Topics {
		topic, id, code := c.resolve(t.Topic, t.TopicID, req.Version >= 10)
		for _, p := range t.Partitions {
			it := commitItem{topic: topic, topicID: id, partition: p.Partition, offset: p.Offset, epoch: p.LeaderEpoch, metadata: p.Metadata, code: code}
			if code == 0 {
				it.code = c.known(topic, p.Partition)
			}
			items = append(items, it)
		}
	}
	c.commit(ctx, w, items)
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = items[0].partition, items[0].code
			rt.Partitions = append(rt.Partitions, rp)
			items = items[1:]
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// TxnOffsetCommit writes offsets that count once the producer's transaction is committed. admit asks the transaction coordinator whether
// __consumer_offsets is in the transaction, and gives the code that refuses the commit.
func (c *Coordinator) TxnOffsetCommit(ctx context.Context, req *kmsg.TxnOffsetCommitRequest, admit func() int16) *kmsg.TxnOffsetCommitResponse {
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	resp.Version = req.Version
	w := commitWish{group: req.Group, member: req.MemberID, instance: req.InstanceID, generation: req.Generation, retention: -1,
		producer: &statelog.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, missing: kerr.IllegalGeneration.Code}
	if req.Version < 3 {
		w.generation = -1
	}
	if w.newer = req.Version >= 6; w.newer {
		w.missing = kerr.GroupIDNotFound.Code
	}
	guard, refused := c.admitted(ctx, req.Group, *w.producer, admit)
	w.guard = guard
	var items []commitItem
	for _, t := range req.Topics {
		topic, id, code := c.resolve(t.Topic, t.TopicID, req.Version >= 6)
		for _, p := range t.Partitions {
			it := commitItem{topic: topic, topicID: id, partition: p.Partition, offset: p.Offset, epoch: p.LeaderEpoch, metadata: p.Metadata, code: code}
			if code == 0 {
				it.code = c.known(topic, p.Partition)
			}
			if refused != 0 && it.code == 0 {
				it.code = refused
			}
			items = append(items, it)
		}
	}
	if refused == 0 {
		c.commit(ctx, w, items)
	}
	for _, t := range req.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for range t.Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = items[0].partition, items[0].code
			switch {
			case req.Version < 2 && rp.ErrorCode == kerr.CoordinatorLoadInProgress.Code:
				rp.ErrorCode = kerr.CoordinatorNotAvailable.Code // clients of those versions end at the other (KAFKA-7296)
			case req.Version == 4 && rp.ErrorCode == kerr.InvalidTxnState.Code:
				rp.ErrorCode = kerr.TransactionAbortable.Code // which clients know from v4 on (KIP-890)
			}
			rt.Partitions = append(rt.Partitions, rp)
			items = items[1:]
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// guardRounds bounds how often the transaction coordinator is asked about one commit.
const guardRounds = 3

// admitted asks admit, and ties the commit to the answer (KIP-890 part 1): a marker that comes in between would leave offsets that no marker ends.
// The question may have been parked until the producer's last transaction had its markers, and those void the guard, too: then it is asked once more.
func (c *Coordinator) admitted(ctx context.Context, group string, p statelog.Producer, admit func() int16) (guard commitlog.Guard, refused int16) {
	for round := 1; ; round++ {
		s, code := c.lock(ctx, group)
		if code != 0 {
			return guard, code
		}
		g, ask := s.shard.Verify(p)
		s.unlock()
		if round > 1 && (!ask || g == guard || round > guardRounds) {
			return guard, 0
		}
		guard = g
		if code := admit(); code != 0 {
			if !kerr.IsRetriable(kerr.ErrorForCode(code)) {
				c.unverified(ctx, group, p, guard)
			}
			return guard, code
		}
	}
}

func (c *Coordinator) unverified(ctx context.Context, group string, p statelog.Producer, g commitlog.Guard) {
	if s, code := c.lock(ctx, group); code == 0 {
		s.shard.Unverified(p, g)
		s.unlock()
	}
}

// resolve finds the name and id of a topic that a request names by one of them.
func (c *Coordinator) resolve(name string, id [16]byte, byID bool) (string, [16]byte, int16) {
	im := c.host.image()
	if byID {
		t := im.TopicIDs[id]
		if t == nil {
			return "", id, kerr.UnknownTopicID.Code
		}
		return t.Name, id, 0
	}
	if t := im.Topics[name]; t != nil {
		return name, t.ID, 0
	}
	return name, id, kerr.UnknownTopicOrPartition.Code
}

func (c *Coordinator) known(topic string, partition int32) int16 {
	if c.host.image().Partition(topic, partition) == nil {
		return kerr.UnknownTopicOrPartition.Code
	}
	return 0
}

// commit fills in the items' codes.
func (c *Coordinator) commit(ctx context.Context, w commitWish, items []commitItem) {
	refuse := func(code int16) {
		for i := range items {
			if items[i].code == 0 {
				items[i].code = code
			}
		}
	}
	s, code := c.lock(ctx, w.group)
	if code != 0 {
		refuse(code)
		return
	}
	if code := s.mayCommit(w, items); code != 0 {
		s.unlock()
		refuse(code)
		return
	}
	done, err := s.writeOffsets(w, items)
	s.unlock()
	switch {
	case errors.Is(err, commitlog.ErrTooLarge):
		refuse(kerr.InvalidCommitOffsetSize.Code)
		return
	case err != nil:
		refuse(codeOf(err))
		return
	case done == nil:
		return // nothing to write
	}
	refuse(codeOf(c.outcome(ctx, done)))
}

// mayCommit checks that the group's state allows the commit, and keeps the member's session.
func (s *state) mayCommit(w commitWish, items []commitItem) int16 {
	g := s.groups[w.group]
	if g == nil {
		if w.generation >= 0 {
			return w.missing
		}
		return 0 // offsets without a group: made by the commit
	}
	if g.phase == dead {
		return kerr.CoordinatorNotAvailable.Code
	}
	if g.consumer != nil {
		return g.consumer.mayCommit(w, items)
	}
	if w.generation < 0 && g.phase == empty {
		return 0
	}
	if w.generation >= 0 || w.member != "" || w.instance != nil {
		if code := g.validate(w.member, w.instance); code != 0 {
			return code
		}
		if w.generation != g.generation {
			return kerr.IllegalGeneration.Code
		}
	} else if w.producer == nil {
		return kerr.UnknownMemberID.Code // only members commit while there are members
	}
	if w.producer != nil {
		return 0 // KIP-447; older clients do not even say who they are
	}
	if g.phase == completing {
		return kerr.RebalanceInProgress.Code
	}
	if m := g.members[w.member]; m != nil && (g.phase == stable || g.phase == preparing) {
		g.beat(m)
	}
	return 0
}

// writeOffsets appends what can be committed; done gets the outcome. Nil: there was nothing to append.
func (s *state) writeOffsets(w commitWish, items []commitItem) (done chan error, err error) {
	now := s.c.keeper.Now().UnixMilli()
	var records []statelog.Record
	var keys []groupPartition
	var offsets []*offset
	for i := range items {
		it := &items[i]
		if it.code != 0 {
			continue
		}
		o := &offset{offset: it.offset, leaderEpoch: it.epoch, time: now, expires: -1, topicID: it.topicID}
		if it.metadata != nil {
			o.metadata = *it.metadata
		}
		if len(o.metadata) > s.c.o.MaxMetadata {
			it.code = kerr.OffsetMetadataTooLarge.Code
			continue
		}
		if w.retention >= 0 {
			o.expires = now + w.retention
		}
		records = append(records, offsetRecord(w.group, it.topic, it.partition, o))
		keys = append(keys, groupPartition{w.group, topicPartition{it.topic, it.partition}})
		offsets = append(offsets, o)
	}
	if len(records) == 0 {
		return nil, nil
	}
	producer := statelog.NoProducer
	if w.producer != nil {
		producer = *w.producer
	}
	done = make(chan error, 1)
	for _, k := range keys {
		s.writing[k]++
	}
	err = s.shard.AppendGuarded(producer, w.guard, records, func(last int64, err error) {
		s.written(keys)
		if err == nil {
			for i, o := range offsets {
				o.at = last - int64(len(offsets)-1-i)
				if w.producer != nil {
					s.prepare(producer.ID, keys[i], o)
				} else {
					s.commit(keys[i], o)
				}
			}
		}
		done <- err
	})
	if err != nil {
		s.written(keys)
	}
	return done, err
}

// AppendMarker writes a transaction's marker into a partition of __consumer_offsets, and returns once it is durable and the
// transaction's offsets count, or are forgotten. Errors are statelog's, partition's and commitlog's.
func (c *Coordinator) AppendMarker(ctx context.Context, number int32, p statelog.Producer, coordinatorEpoch int32, commit bool) error {
	s, err := c.keeper.LockNumber(ctx, number)
	if err != nil {
		return err
	}
	st := s.State.(*state)
	done := make(chan error, 1)
	err = s.AppendMarker(p, coordinatorEpoch, commit, func(_ int64, err error) {
		if err == nil {
			st.decide(p.ID, commit)
		}
		done <- err
	})
	s.Mu.Unlock()
	if err != nil {
		return err
	}
	return c.outcome(ctx, done)
}

// outcome waits for what became of an append, or for the end of ctx.
func (c *Coordinator) outcome(ctx context.Context, done <-chan error) error {
	err, late := statelog.Await(ctx, c.turns, done, nil)
	if late != nil {
		return late
	}
	return err
}
