package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/figures"
)

// What the pump sends: as librdkafka and the Java producer do with a small linger under load.
const (
	pumpInFlight = 5
	pumpBatch    = 64 << 10
	pumpVersion  = 9
)

// pump is an efficient producer: one idempotent connection, acks=all, a batch of 64 KiB for each partition in a request, five
// requests in flight. It encodes every record and computes every CRC, as a client must, and does no more: a general client
// needs several times the broker's CPU for 100-byte records, and on two cores it is the client that is measured then.
type pump struct {
	conn       net.Conn
	topic      string
	producerID int64
	epoch      int16
	sequences  []int32
	builder    *record.Builder
	frame      []byte
	requests   int32
}

func pumpInto(ctx context.Context, b broker, client *kgo.Client, s step, topic string, values [][]byte, d time.Duration) (measure, error) {
	init := kmsg.NewPtrInitProducerIDRequest()
	init.ProducerID, init.ProducerEpoch = -1, -1
	id, err := init.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(id.ErrorCode)
	}
	if err != nil {
		return measure{}, fmt.Errorf("producer id: %w", err)
	}
	conn, err := net.Dial("tcp", b.addr)
	if err != nil {
		return measure{}, err
	}
	defer conn.Close()
	p := &pump{conn: conn, topic: topic, producerID: id.ProducerID, epoch: id.ProducerEpoch, sequences: make([]int32, s.partitions), builder: record.NewBuilder()}
	room := make(chan struct{}, pumpInFlight)
	sent := make(chan int32, pumpInFlight)
	answered := make(chan error, 1)
	go func() { answered <- p.answers(sent, room) }()
	w := figures.Begin(b.pids...)
	began := time.Now()
	var records int64
	for err == nil && time.Since(began) < d {
		select {
		case room <- struct{}{}:
		case err = <-answered:
			return measure{}, fmt.Errorf("after %d requests: %w", p.requests, err)
		}
		var n int
		if n, err = p.send(values, s.size); err == nil {
			records += int64(n)
			sent <- p.requests
		}
	}
	close(sent)
	err = errors.Join(err, <-answered)
	wall, cpu := w.End()
	bytes := float64(records) * float64(s.size)
	return measure{bytes / 1e6 / wall, cpu / (bytes / 1e9)}, err
}

// send writes one request and says how many records are in it.
func (p *pump) send(values [][]byte, size int) (records int, err error) {
	p.requests++
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = pumpVersion, -1, 30_000
	// The frame is written here rather than by kmsg, which would have every batch copied once more.
	f := append(p.frame[:0], 0, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(req.Key()))
	f = binary.BigEndian.AppendUint16(f, pumpVersion)
	f = binary.BigEndian.AppendUint32(f, uint32(p.requests))
	f = append(f, 0, 4, 'p', 'u', 'm', 'p', 0) // client id, no tags
	f = append(f, 0)                           // no transactional id
	f = binary.BigEndian.AppendUint16(f, uint16(0xffff))
	f = binary.BigEndian.AppendUint32(f, uint32(req.TimeoutMillis))
	f = append(f, 2) // one topic
	f = binary.AppendUvarint(f, uint64(len(p.topic)+1))
	f = append(f, p.topic...)
	f = binary.AppendUvarint(f, uint64(len(p.sequences)+1))
	now := time.Now().UnixMilli()
	for i := range p.sequences {
		p.builder.Reset()
		p.builder.ProducerID, p.builder.ProducerEpoch, p.builder.BaseSequence = p.producerID, p.epoch, p.sequences[i]
		p.builder.LeaderEpoch = -1
		for p.builder.Size()+size+20 < pumpBatch {
			p.builder.Append(now, nil, values[(records+p.builder.Count())%len(values)])
		}
		n := p.builder.Count()
		batch, err := p.builder.Bytes()
		if err != nil {
			return 0, err
		}
		records += n
		p.sequences[i] += int32(n)
		f = binary.BigEndian.AppendUint32(f, uint32(i))
		f = binary.AppendUvarint(f, uint64(len(batch)+1))
		f = append(append(f, batch...), 0)
	}
	f = append(f, 0, 0)
	binary.BigEndian.PutUint32(f, uint32(len(f)-4))
	p.frame = f
	_, err = p.conn.Write(f)
	return records, err
}

// answers reads an answer for each request sent and fails on the first that is not a success.
func (p *pump) answers(sent <-chan int32, room <-chan struct{}) error {
	in := bufio.NewReader(p.conn)
	var b []byte
	for want := range sent {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(head[:])
		if n < 5 || n > 1<<20 {
			return fmt.Errorf("an answer of %d bytes", n)
		}
		b = append(b[:0], make([]byte, n)...)
		if _, err := io.ReadFull(in, b); err != nil {
			return err
		}
		if got := int32(binary.BigEndian.Uint32(b)); got != want {
			return fmt.Errorf("the answer to request %d, not to %d", got, want)
		}
		resp := kmsg.NewPtrProduceResponse()
		resp.SetVersion(pumpVersion)
		if err := resp.ReadFrom(b[5:]); err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, part := range t.Partitions {
				if err := kerr.ErrorForCode(part.ErrorCode); err != nil {
					return fmt.Errorf("partition %d: %w", part.Partition, err)
				}
			}
		}
		<-room
	}
	return nil
}
