package hublog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Entry is one record as a Scan sees it, markers included.
type Entry struct {
	Offset        int64
	Key, Value    []byte
	ProducerID    int64
	Transactional bool
	Control       bool // a transaction marker; Commit says which
	Commit        bool
}

// Scan reads a partition from an offset up to, not including, another one,
// whatever transactions are open or aborted: read_uncommitted, with the markers,
// so that the caller resolves them. There must be a record or marker at to-1.
// It returns the offset after the last entry.
func (l *Log) Scan(ctx context.Context, topic string, partition int32, from, to int64, fn func(Entry) error) (int64, error) {
	if from >= to {
		return from, nil
	}
	d := newDecoded(decodedBytes)
	cl, err := l.o.client(append(d.options(),
		kgo.FetchIsolationLevel(kgo.ReadUncommitted()),
		kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(from)}}),
	)...)
	if err != nil {
		return from, fmt.Errorf("scan %s-%d: %w", topic, partition, err)
	}
	defer cl.Close()
	next, heard := from, time.Now()
	for next < to {
		pctx, cancel := context.WithTimeout(ctx, time.Second)
		fetches := cl.PollFetches(pctx)
		cancel()
		d.polled(fetches)
		if err := ctx.Err(); err != nil {
			return next, err
		}
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) && !errors.Is(e.Err, errLater) && !kerr.IsRetriable(e.Err) {
				return next, fmt.Errorf("scan %s-%d at %d: %w", topic, partition, next, e.Err)
			}
		}
		for iter := fetches.RecordIter(); !iter.Done() && next < to; {
			r := iter.Next()
			if r.Offset >= to {
				next = to
				break
			}
			heard, next = time.Now(), r.Offset+1
			e := Entry{Offset: r.Offset, Key: r.Key, Value: r.Value, ProducerID: r.ProducerID,
				Transactional: r.Attrs.IsTransactional(), Control: r.Attrs.IsControl()}
			// A marker's key is a version and a type, int16 each; type 1 is COMMIT (KIP-98).
			e.Commit = e.Control && len(r.Key) >= 4 && r.Key[2] == 0 && r.Key[3] == 1
			if err := fn(e); err != nil {
				return next, err
			}
		}
		if time.Since(heard) > 30*time.Second {
			return next, fmt.Errorf("scan %s-%d: nothing came after offset %d, though the log goes up to %d", topic, partition, next, to)
		}
	}
	return next, nil
}
