package hublog

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Put appends one record outside of any transaction and waits for acks=all.
func (l *Log) Put(ctx context.Context, topic string, partition int32, key, value []byte) error {
	cl, err := l.o.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0), kgo.RecordDeliveryTimeout(retryTimeout), kgo.ProducerBatchMaxBytes(1_000_000))
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Key: key, Value: value}).FirstErr(); err != nil {
		return fmt.Errorf("append to %s: %w", topic, err)
	}
	return nil
}
