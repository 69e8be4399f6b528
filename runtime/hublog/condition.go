package hublog

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrMoved says that the offset that AppendAt was to append at is taken, or is not reached yet.
var ErrMoved = errors.New("the partition's next offset is another one")

// AppendCondition is the topic config without which the log ignores the offset that AppendAt expects. It is Forebay's own: docs/conditional-append.md.
const AppendCondition = "forebay.append.condition"

// KeyValue is a record to append. A nil Value is a tombstone.
type KeyValue struct{ Key, Value []byte }

// AppendAt appends records, one batch, if the first gets exactly the offset at, and waits until they are committed (acks=all). It returns ErrMoved when it is refused. A lost
// answer is asked for once more, so after ErrMoved the records may be there all the same: the caller reads on and sees. After any other error too. The topic
// must have AppendCondition.
func (l *Log) AppendAt(ctx context.Context, topic string, partition int32, at int64, records []KeyValue) error {
	cl, err := l.o.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.DisableIdempotentWrite(),
		kgo.MaxProduceRequestsInflightPerBroker(1), kgo.ManualFlushing(), kgo.RecordDeliveryTimeout(retryTimeout), kgo.ProducerBatchMaxBytes(1_000_000))
	if err != nil {
		return err
	}
	defer cl.Close()
	var first error
	for i, r := range records {
		cl.Produce(ctx, &kgo.Record{Topic: topic, Partition: partition, Key: r.Key, Value: r.Value, Headers: []kgo.RecordHeader{
			{Key: "forebay.expected.offset", Value: strconv.AppendInt(nil, at+int64(i), 10)}}}, func(_ *kgo.Record, err error) {
			if first == nil {
				first = err
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return fmt.Errorf("append to %s at %d: %w", topic, at, err)
	}
	if errors.Is(first, kerr.PolicyViolation) {
		return ErrMoved
	}
	if first != nil {
		return fmt.Errorf("append to %s at %d: %w", topic, at, first)
	}
	return nil
}

// TopicConfigs are a topic's configs as they are in force.
func (l *Log) TopicConfigs(ctx context.Context, topic string) (map[string]string, error) {
	res, err := l.adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("describe configs of topic %s: %w", topic, err)
	}
	out := map[string]string{}
	for _, rc := range res {
		if rc.Err != nil {
			return nil, fmt.Errorf("describe configs of topic %s: %w", topic, rc.Err)
		}
		for _, c := range rc.Configs {
			out[c.Key] = c.MaybeValue()
		}
	}
	return out, nil
}

// SetTopicConfig sets one config of a topic (KIP-339).
func (l *Log) SetTopicConfig(ctx context.Context, topic, name, value string) error {
	res, err := l.adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: name, Value: &value}}, topic)
	if err != nil {
		return fmt.Errorf("set %s of topic %s: %w", name, topic, err)
	}
	for _, r := range res {
		if r.Err != nil {
			return fmt.Errorf("set %s of topic %s: %w", name, topic, r.Err)
		}
	}
	return nil
}

// Ends are the log start offset and the high watermark of one partition.
func (l *Log) Ends(ctx context.Context, topic string, partition int32) (start, end int64, err error) {
	for i, list := range []func(context.Context, ...string) (kadm.ListedOffsets, error){l.adm.ListStartOffsets, l.adm.ListEndOffsets} {
		listed, err := list(ctx, topic)
		if err != nil {
			return 0, 0, fmt.Errorf("list offsets of %s: %w", topic, err)
		}
		o, ok := listed.Lookup(topic, partition)
		if !ok {
			return 0, 0, fmt.Errorf("list offsets of %s-%d: %w", topic, partition, kerr.UnknownTopicOrPartition)
		}
		if o.Err != nil {
			return 0, 0, fmt.Errorf("list offsets of %s-%d: %w", topic, partition, o.Err)
		}
		if i == 0 {
			start = o.Offset
		} else {
			end = o.Offset
		}
	}
	return start, end, nil
}
