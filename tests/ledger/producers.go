package ledger

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/pause"
)

// abortedPrefix is what the values of records begin with that are to be aborted.
const abortedPrefix = "aborted-"

func numbered(topic, producer string, n int64) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: int32(n % partitions), Key: []byte(producer), Value: strconv.AppendInt(nil, n, 10)}
}

// produce is an idempotent producer with many records in flight. It never gives up, so it is told of no failure but one that means that the log
// lost what was acknowledged. A node that is killed may close a connection before its first answer: that SASL is missing is not what it means here.
func (l *acks) produce(ctx context.Context, connect Connect, name string, burst int64) error {
	c, err := connect(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(500),
		kgo.StopProducerOnDataLossDetected(), kgo.AlwaysRetryEOF())
	if err != nil {
		return err
	}
	defer c.Close()
	var failed error
	for n := int64(0); ctx.Err() == nil; n++ {
		l.mu.Lock()
		l.max[name] = n
		l.mu.Unlock()
		c.Produce(ctx, numbered("numbers", name, n), func(r *kgo.Record, err error) {
			if err == nil {
				l.ack(name, n, place{r.Partition, r.Offset})
			} else if ctx.Err() == nil && failed == nil { // promises are called one after the other
				failed = fmt.Errorf("idempotent producer %s: record %d of %s-%d failed: %w", name, n, r.Topic, r.Partition, err)
			}
		})
		if n%burst == burst-1 {
			_ = pause.For(ctx, 60*time.Millisecond)
		}
	}
	flush, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = c.Flush(flush) // what was not acknowledged is not in the ledger
	c.Close()          // no promise is called after it
	return failed
}

// transact commits two of three transactions; records of the third must never be seen.
func (l *acks) transact(ctx context.Context, connect Connect, name string) {
	var n int64
	for ctx.Err() == nil { // a fenced or failed producer starts again, as an application would
		err := l.transactWith(ctx, connect, name, &n)
		if err != nil && ctx.Err() == nil {
			_ = pause.For(ctx, 20*time.Millisecond)
		}
	}
}

func (l *acks) transactWith(ctx context.Context, connect Connect, name string, n *int64) error {
	c, err := connect(kgo.TransactionalID(name), kgo.TransactionTimeout(10*time.Second), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		if err := c.BeginTransaction(); err != nil {
			return err
		}
		_ = pause.For(ctx, 5*time.Millisecond) // where there is no disk to wait for
		commit := kgo.TryCommit
		first := *n
		abort := first%3 == 2
		var records []*kgo.Record
		for range 5 {
			r := numbered("txn", name, *n)
			if abort {
				r.Value = append([]byte(abortedPrefix), r.Value...)
			}
			*n++
			records = append(records, r)
		}
		if abort {
			commit = kgo.TryAbort
		}
		step, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		produced := c.ProduceSync(step, records...)
		if produced.FirstErr() != nil {
			commit = kgo.TryAbort
		}
		err := c.EndTransaction(step, commit)
		cancel()
		if err != nil {
			return err // undecided: neither in the ledger nor forbidden
		}
		if commit == kgo.TryAbort {
			for i := range records {
				l.gone(name, first+int64(i))
			}
		}
		if commit == kgo.TryCommit {
			for _, r := range records { // produced is in the order of the acks
				number, _ := strconv.ParseInt(string(r.Value), 10, 64) // as numbered wrote it
				l.ack(name, number, place{r.Partition, r.Offset})
			}
		}
		l.mu.Lock()
		l.max[name] = *n
		l.mu.Unlock()
	}
	return nil
}
