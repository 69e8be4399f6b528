package hublog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/connectors"
)

// EndsOf is Offsets that says for each partition by itself why nobody tells its ends.
func (l *Log) EndsOf(ctx context.Context, tps ...connectors.TopicPartition) (ends map[connectors.TopicPartition]Offsets, failed map[connectors.TopicPartition]error) {
	start, failed := l.list(ctx, -2, 0, tps)
	lso, bad := l.list(ctx, -1, 1, slices.Collect(maps.Keys(start)))
	maps.Copy(failed, bad)
	end, bad := l.list(ctx, -1, 0, slices.Collect(maps.Keys(lso)))
	maps.Copy(failed, bad)
	ends = make(map[connectors.TopicPartition]Offsets, len(end))
	for tp, at := range end {
		ends[tp] = Offsets{Start: start[tp], LSO: lso[tp], End: at}
	}
	return ends, failed
}

// Stable looks up the last stable offset of each partition, or says why nobody tells; one that does not exist is left out.
func (l *Log) Stable(ctx context.Context, tps ...connectors.TopicPartition) (lso map[connectors.TopicPartition]int64, failed map[connectors.TopicPartition]error) {
	return l.list(ctx, -1, 1, tps)
}

// OffsetsAt looks up the first record of a time or later in each partition, or its end; one that does not exist is left out.
func (l *Log) OffsetsAt(ctx context.Context, at time.Time, tps ...connectors.TopicPartition) (map[connectors.TopicPartition]int64, error) {
	out, failed := l.list(ctx, at.UnixMilli(), 0, tps)
	maps.DeleteFunc(out, func(_ connectors.TopicPartition, at int64) bool { return at < 0 }) // none is as late
	end, bad := l.list(ctx, -1, 0, slices.DeleteFunc(slices.Clone(tps), func(tp connectors.TopicPartition) bool {
		_, is := out[tp]
		return is || failed[tp] != nil
	}))
	maps.Copy(failed, bad)
	maps.Copy(out, end)
	return out, first(tps, failed)
}

// list is ListOffsets of a time in milliseconds, -1 for the end and -2 for the start, with an isolation of 1 for what is committed. It asks for these partitions and no
// others: one without a leader is nothing to its neighbours.
func (l *Log) list(ctx context.Context, at int64, isolation int8, tps []connectors.TopicPartition) (out map[connectors.TopicPartition]int64, failed map[connectors.TopicPartition]error) {
	out, failed = make(map[connectors.TopicPartition]int64, len(tps)), map[connectors.TopicPartition]error{}
	if len(tps) == 0 {
		return out, failed
	}
	topics := map[string][]kmsg.ListOffsetsRequestTopicPartition{}
	for _, tp := range tps {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = tp.Partition, at
		topics[tp.Topic] = append(topics[tp.Topic], p)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel, req.TimeoutMillis = isolation, int32(retryTimeout/time.Millisecond)
	for name, partitions := range topics {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic, t.Partitions = name, partitions
		req.Topics = append(req.Topics, t)
	}
	for _, shard := range l.cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			for _, t := range shard.Req.(*kmsg.ListOffsetsRequest).Topics {
				for _, p := range t.Partitions {
					failed[connectors.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = shard.Err
				}
			}
			continue
		}
		for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				tp := connectors.TopicPartition{Topic: t.Topic, Partition: p.Partition}
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					failed[tp] = err
				} else {
					out[tp] = p.Offset
				}
			}
		}
	}
	maps.DeleteFunc(failed, func(_ connectors.TopicPartition, err error) bool { return errors.Is(err, kerr.UnknownTopicOrPartition) })
	return out, failed
}

// first is an error of those that list gave; nil if there is none.
func first(tps []connectors.TopicPartition, failed map[connectors.TopicPartition]error) error {
	for _, tp := range tps {
		if err := failed[tp]; err != nil {
			return fmt.Errorf("list offsets of %s-%d: %w", tp.Topic, tp.Partition, err)
		}
	}
	return nil
}

// Peek asks a partition's leader once for what is committed at an offset and behind it, and says how many bytes of it came: 0 means that there is nothing. A Poller asks
// again by itself for as long as an error may pass, and does not say which it was.
func (l *Log) Peek(ctx context.Context, tp connectors.TopicPartition, offset int64) (bytes int, err error) {
	topics, err := l.Topics(ctx, tp.Topic)
	if err != nil {
		return 0, err
	}
	topic := topics[tp.Topic]
	if tp.Partition >= topic.Partitions {
		return 0, fmt.Errorf("fetch %s-%d: %w", tp.Topic, tp.Partition, kerr.UnknownTopicOrPartition)
	}
	leader := topic.Leaders[tp.Partition]
	if leader < 0 {
		return 0, fmt.Errorf("fetch %s-%d: %w", tp.Topic, tp.Partition, kerr.LeaderNotAvailable)
	}
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = tp.Partition, offset, 1 // one batch (KIP-74)
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.Partitions = tp.Topic, append(t.Partitions, p)
	if !topic.Derived {
		t.TopicID = topic.ID // what is asked for from version 13 on
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel, req.Topics = 0, 1, 1, 1, append(req.Topics, t)
	answer, err := l.cl.Broker(int(leader)).Request(ctx, req)
	if err == nil {
		resp := answer.(*kmsg.FetchResponse)
		err = kerr.ErrorForCode(resp.ErrorCode)
		if len(resp.Topics) == 1 && len(resp.Topics[0].Partitions) == 1 {
			p := resp.Topics[0].Partitions[0]
			bytes, err = len(p.RecordBatches), cmp.Or(err, kerr.ErrorForCode(p.ErrorCode))
		} else if err == nil {
			err = errors.New("the node says nothing of it") // it throttles this client (KIP-219)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("fetch %s-%d at offset %d: %w", tp.Topic, tp.Partition, offset, err)
	}
	return bytes, nil
}
