package hublog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/connectors"
)

// Poller reads committed records of partitions that it is given by hand. It
// holds at most two fetches of 8 MiB (compressed; one larger batch passes alone) that nobody has polled yet, and of them no more
// decoded than decodedBytes says; a reader that does not poll stops the fetching (invariant 9).
type Poller struct {
	cl      *kgo.Client
	decoded *decoded
	next    map[connectors.TopicPartition]int64
	end     map[connectors.TopicPartition]int64
	records []connectors.Record
	headers []connectors.Header
	runs    []Run
}

// Run is what one poll brought for one partition. Its memory is reused by the next Poll.
type Run struct {
	connectors.TopicPartition
	Records []connectors.Record // in offset order
	Next    int64               // the offset to read next: past transaction markers too
}

// OutOfRange says that the log no longer holds an offset that the reader needs.
type OutOfRange struct {
	connectors.TopicPartition
	Offset int64
}

func (e *OutOfRange) Error() string {
	return fmt.Sprintf("the log no longer holds offset %d of %s-%d", e.Offset, e.Topic, e.Partition)
}

const (
	fetchBytes          = 8 << 20
	fetchPartitionBytes = 2 << 20
	pollRecords         = 16_384
)

// NewPoller makes a poller without partitions.
func (l *Log) NewPoller() (*Poller, error) { return l.NewWatcher(500 * time.Millisecond) }

// NewWatcher is NewPoller for what changes rarely: the log is asked anew every wait, and answers at once when there is something.
func (l *Log) NewWatcher(wait time.Duration) (*Poller, error) {
	d := newDecoded(decodedBytes)
	cl, err := l.o.client(append(d.options(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),                    // so that Next passes the markers
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // never a silent skip
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.MaxConcurrentFetches(2),
		kgo.FetchMaxWait(wait),
	)...)
	if err != nil {
		return nil, fmt.Errorf("open poller: %w", err)
	}
	return &Poller{cl: cl, decoded: d, next: map[connectors.TopicPartition]int64{}, end: map[connectors.TopicPartition]int64{}}, nil
}

// Add takes on partitions, each from its offset.
func (p *Poller) Add(from map[connectors.TopicPartition]int64) {
	if len(from) == 0 {
		return
	}
	m := map[string]map[int32]kgo.Offset{}
	for tp, at := range from {
		p.next[tp] = at
		if m[tp.Topic] == nil {
			m[tp.Topic] = map[int32]kgo.Offset{}
		}
		m[tp.Topic][tp.Partition] = kgo.NewOffset().At(at)
	}
	p.cl.AddConsumePartitions(m)
}

// Pause keeps a partition from being asked for until Resume. Where one of several has an error that may pass, the client asks for them all again at once, and
// for as long as that lasts.
func (p *Poller) Pause(tp connectors.TopicPartition) {
	p.cl.PauseFetchPartitions(map[string][]int32{tp.Topic: {tp.Partition}})
}

// Resume ends a Pause.
func (p *Poller) Resume(tp connectors.TopicPartition) {
	p.cl.ResumeFetchPartitions(map[string][]int32{tp.Topic: {tp.Partition}})
}

// Next is the offset that the poller reads next of a partition.
func (p *Poller) Next(tp connectors.TopicPartition) int64 { return p.next[tp] }

// End is the last stable offset of a partition as the last fetch saw it.
func (p *Poller) End(tp connectors.TopicPartition) int64 { return max(p.end[tp], p.next[tp]) }

// Poll returns what is there, after at most wait. Nothing is no error. An
// OutOfRange error names what is lost. The runs live until the next Poll.
func (p *Poller) Poll(ctx context.Context, wait time.Duration) ([]Run, error) {
	clear(p.records)
	clear(p.headers)
	p.records, p.headers, p.runs = p.records[:0], p.headers[:0], p.runs[:0]
	pctx, cancel := context.WithTimeout(ctx, wait)
	fetches := p.cl.PollRecords(pctx, pollRecords)
	cancel()
	p.decoded.polled(fetches)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if fetches.IsClientClosed() {
		return nil, errors.New("the poller is closed")
	}
	var failed error
	fetches.EachError(func(topic string, partition int32, err error) {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, errLater) || kerr.IsRetriable(err) {
			return // the client tries again by itself
		}
		tp := connectors.TopicPartition{Topic: topic, Partition: partition}
		if errors.Is(err, kerr.OffsetOutOfRange) {
			failed = &OutOfRange{TopicPartition: tp, Offset: p.next[tp]}
			return
		}
		if failed == nil {
			failed = fmt.Errorf("fetch %s-%d: %w", topic, partition, err)
		}
	})
	if failed != nil {
		return nil, failed
	}
	total := fetches.NumRecords()
	if cap(p.records) < total {
		p.records = make([]connectors.Record, 0, total)
	}
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		tp := connectors.TopicPartition{Topic: f.Topic, Partition: f.Partition}
		p.end[tp] = max(p.end[tp], f.LastStableOffset)
		if len(f.Records) == 0 {
			return
		}
		first := len(p.records)
		for _, r := range f.Records {
			if !r.Attrs.IsControl() {
				p.take(r)
			}
		}
		next := f.Records[len(f.Records)-1].Offset + 1
		p.next[tp] = next
		p.runs = append(p.runs, Run{TopicPartition: tp, Records: p.records[first:len(p.records):len(p.records)], Next: next})
	})
	return p.runs, nil
}

func (p *Poller) take(r *kgo.Record) {
	out := connectors.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp,
		RawKey: r.Key, RawValue: r.Value}
	if n := len(r.Headers); n > 0 {
		if len(p.headers)+n > cap(p.headers) {
			p.headers = make([]connectors.Header, 0, max(1024, 2*cap(p.headers), n)) // the old one lives on through its records
		}
		first := len(p.headers)
		for _, h := range r.Headers {
			p.headers = append(p.headers, connectors.Header(h))
		}
		out.Headers = p.headers[first:len(p.headers):len(p.headers)]
	}
	p.records = append(p.records, out)
}

// Close ends the poller.
func (p *Poller) Close() { p.cl.Close() }
