package hublog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrFenced says that another appender with the same transactional id has
// started since, or that the log gave the transaction up: this one can append
// nothing more (invariant 7).
var ErrFenced = errors.New("fenced by a newer appender with the same transactional id")

// ErrGivenUp is ErrFenced of a transaction that was open for TransactionTimeout: silence may be all that was wrong (a machine that slept).
// Without one that is open there is nothing that the log could give up.
var ErrGivenUp = fmt.Errorf("the log gave the transaction up: %w", ErrFenced)

// TransactionTimeout is how long the log keeps an open transaction of a silent appender.
const TransactionTimeout = 60 * time.Second

// Appender appends records in transactions under one transactional id. After
// any error it is of no more use: Close it and make another, which fences it.
type Appender struct {
	cl   *kgo.Client
	id   string
	slab recordSlab

	bytes int
	count int
	began time.Time // wall clock of Begin, while a transaction is open

	mu struct {
		sync.Mutex
		err  error // the first record that could not be appended
		last int64 // the highest offset of the transaction's records that were given to AppendTracked; -1: none
	}
	promise func(*kgo.Record, error)
}

// NewAppender makes an appender and fences every earlier one of the same id:
// what they had not committed is aborted before this returns (KIP-98, InitProducerId).
// maxBatch bounds a record batch, like max.request.size; it must not be above
// the topics' max.message.bytes. 0: a little under Kafka's default of 1 MiB.
func (l *Log) NewAppender(ctx context.Context, transactionalID string, maxBatch int32) (*Appender, error) {
	if maxBatch <= 0 {
		maxBatch = 1_000_000
	}
	cl, err := l.o.client(
		kgo.TransactionalID(transactionalID),
		kgo.TransactionTimeout(TransactionTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchMaxBytes(maxBatch),
		// Commit flushes; until then only full batches leave.
		kgo.ProducerLinger(5*time.Millisecond),
		kgo.MaxBufferedRecords(1<<20), // bytes bound it, see below
		kgo.MaxBufferedBytes(32<<20),  // invariant 9: Append waits when it is full
		kgo.RecordDeliveryTimeout(retryTimeout),
		kgo.UnknownTopicRetries(10),
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
	)
	if err != nil {
		return nil, fmt.Errorf("open appender %s: %w", transactionalID, err)
	}
	a := &Appender{cl: cl, id: transactionalID}
	a.mu.last = -1
	a.promise = func(_ *kgo.Record, err error) {
		if err != nil {
			a.fail(a.fenced(err))
		}
	}
	if _, _, err := cl.ProducerID(ctx); err != nil {
		cl.Close()
		return nil, fmt.Errorf("fence %s: %w", transactionalID, a.fenced(err))
	}
	return a, nil
}

func (a *Appender) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.err == nil {
		a.mu.err = err
	}
}

// Begin starts a transaction; it sends nothing.
func (a *Appender) Begin() error {
	if err := a.cl.BeginTransaction(); err != nil {
		return fmt.Errorf("begin transaction %s: %w", a.id, a.fenced(err))
	}
	a.began = time.Now().Round(0) // without the monotonic clock, which stands still while a machine sleeps
	return nil
}

// Append adds a record to the transaction. It keeps every slice until Commit or
// Abort has returned, and waits while 32 MiB are on their way. headers may be nil.
// Errors come out of Commit.
func (a *Appender) Append(topic string, partition int32, key, value []byte, headers []kgo.RecordHeader, at time.Time) {
	a.append(topic, partition, key, value, headers, at, a.promise)
}

// AppendTracked is Append for a record whose offset Commit is to return.
func (a *Appender) AppendTracked(topic string, partition int32, key, value []byte) {
	a.append(topic, partition, key, value, nil, time.Time{}, func(r *kgo.Record, err error) {
		a.promise(r, err)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.mu.last = max(a.mu.last, r.Offset)
	})
}

func (a *Appender) append(topic string, partition int32, key, value []byte, headers []kgo.RecordHeader, at time.Time, done func(*kgo.Record, error)) {
	r := a.slab.next()
	r.Topic, r.Partition, r.Key, r.Value, r.Headers, r.Timestamp = topic, partition, key, value, headers, at
	a.bytes += len(key) + len(value)
	a.count++
	a.cl.Produce(context.Background(), r, done)
}

// Bytes and Count are what the open transaction holds.
func (a *Appender) Bytes() int { return a.bytes }
func (a *Appender) Count() int { return a.count }

// Flush waits until the log has what was appended so far; nobody can read it yet.
func (a *Appender) Flush(ctx context.Context) error {
	if err := a.cl.Flush(ctx); err != nil {
		return fmt.Errorf("flush transaction %s: %w", a.id, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.err != nil {
		return fmt.Errorf("append in %s: %w", a.id, a.mu.err)
	}
	return nil
}

// Commit makes the transaction's records durable and visible, all or none, and
// returns the highest offset of those of them that are tracked, which are of one topic; -1: none is. After an error
// the outcome is unknown; the next appender of this id finds it settled.
func (a *Appender) Commit(ctx context.Context) (tracked int64, err error) {
	// A commit with a missing record would tear the transaction: invariant 5.
	if err := a.Flush(ctx); err != nil {
		return 0, err
	}
	a.mu.Lock()
	tracked, a.mu.last = a.mu.last, -1 // the next transaction's may be of another topic
	a.mu.Unlock()
	if err := a.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return 0, fmt.Errorf("commit transaction %s: %w", a.id, a.fenced(err))
	}
	a.began = time.Time{}
	a.slab.reset()
	a.bytes, a.count = 0, 0
	return tracked, nil
}

// Close gives the appender up. An open transaction is aborted when the next
// appender of this id fences it, or by its timeout; Close tries for a moment to
// do so at once, since readers wait behind it.
func (a *Appender) Close() {
	if a.count > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := a.cl.AbortBufferedRecords(ctx); err == nil {
			_ = a.cl.EndTransaction(ctx, kgo.TryAbort) // the next appender aborts it else
		}
	}
	a.cl.Close()
}

// Drop ends the appender as a crash would: nothing is aborted. For tests.
func (a *Appender) Drop() { a.cl.Close() }

// fenced tells client errors that mean: this appender holds its transactional id no more.
func (a *Appender) fenced(err error) error {
	if !errors.Is(err, kerr.ProducerFenced) && !errors.Is(err, kerr.InvalidProducerEpoch) {
		return err
	}
	if !a.began.IsZero() && time.Now().Round(0).Sub(a.began) >= TransactionTimeout {
		return fmt.Errorf("%w (%w)", ErrGivenUp, err)
	}
	return fmt.Errorf("%w (%w)", ErrFenced, err)
}

// recordSlab keeps the client's record objects for the next transaction.
type recordSlab struct {
	chunks [][]kgo.Record
	used   int
}

const slabChunk = 512

func (s *recordSlab) next() *kgo.Record {
	i := s.used / slabChunk
	if i == len(s.chunks) {
		s.chunks = append(s.chunks, make([]kgo.Record, slabChunk))
	}
	r := &s.chunks[i][s.used%slabChunk]
	s.used++
	return r
}

// reset forgets the records; only after the client has let go of all of them.
func (s *recordSlab) reset() {
	for i := range s.chunks {
		if i*slabChunk >= s.used {
			break
		}
		clear(s.chunks[i])
	}
	const keep = 128 // chunks: 64k records
	if len(s.chunks) > keep {
		s.chunks = s.chunks[:keep:keep]
	}
	s.used = 0
}

// Partition is where a key goes among n partitions: murmur2, as Kafka's default
// partitioner does it, so that other producers agree.
func Partition(key []byte, n int32) int32 {
	if n <= 1 {
		return 0
	}
	return int32(murmur2(key)&0x7fffffff) % n
}

func murmur2(b []byte) uint32 {
	const seed, m, r = uint32(0x9747b28c), uint32(0x5bd1e995), 24
	h := seed ^ uint32(len(b))
	for len(b) >= 4 {
		k := uint32(b[3])<<24 | uint32(b[2])<<16 | uint32(b[1])<<8 | uint32(b[0])
		b = b[4:]
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(b[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// MaxMessageBytes is the least max.message.bytes of the topics, for NewAppender.
func (l *Log) MaxMessageBytes(ctx context.Context, topics ...string) (int32, error) {
	least := int32(MaxRecordBytes)
	if len(topics) == 0 {
		return least, nil
	}
	res, err := l.adm.DescribeTopicConfigs(ctx, topics...)
	if err != nil {
		return 0, fmt.Errorf("describe topic configs: %w", err)
	}
	for _, rc := range res {
		if rc.Err != nil {
			return 0, fmt.Errorf("describe configs of topic %s: %w", rc.Name, rc.Err)
		}
		for _, c := range rc.Configs {
			var n int32
			if c.Key == "max.message.bytes" && c.Value != nil {
				if _, err := fmt.Sscan(*c.Value, &n); err == nil && n > 0 {
					least = min(least, n)
				}
			}
		}
	}
	return least, nil
}
