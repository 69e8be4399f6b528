package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/core/txn"
	"github.com/forebayhub/forebay/core/wire"
)

// Produce (key 0), versions 3–13. v5 log start offset, v7 zstd (KIP-110), v8
// record errors (KIP-467), v9 flexible, v10 current leader (KIP-951), v12 adds
// partitions to the transaction by itself (KIP-890), v13 topic ids (KIP-516).
//
// The record sets stay where the frame was read; commitlog patches them there
// and writes them. The frame is free again once all are appended.

// produced is a Produce request on its way from append to reply.
type produced struct {
	h        wire.Header
	listener string
	acks     int16
	began    time.Time
	deadline time.Time
	throttle time.Duration // told to the client
	topics   []producedTopic
	parts    []producedPart
	barrier  chan struct{} // set: no request, but a question whether all before it are answered

	mu     sync.Mutex
	left   int // acks that are still to come, and one while they are being asked for
	ready  chan struct{}
	lapsed bool // the time was up: late acks no longer count
}

type producedTopic struct {
	name     string
	id       metadata.TopicID
	from, to int // its parts
}

type producedPart struct {
	number     int32
	records    []byte // of the frame; nil once appended
	p          *partition.Partition
	err        error
	acked      bool
	appended   commitlog.Appended
	cancel     func()
	leader     metadata.NodeID // with a NOT_LEADER error (KIP-951); -1: unknown
	epoch      int32
	producerID int64 // of a transactional batch; -1: none
	prodEpoch  int16
	sequence   int32
	guard      commitlog.Guard
}

var producedPool = sync.Pool{New: func() any { return &produced{ready: make(chan struct{}, 1)} }}

// free gives the struct to the next request; only when no ack can still arrive.
func (p *produced) free() {
	if p.lapsed {
		return
	}
	clear(p.topics)
	clear(p.parts)
	p.topics, p.parts = p.topics[:0], p.parts[:0]
	if max(cap(p.topics), cap(p.parts)) > keptParts {
		p.topics, p.parts = nil, nil
	}
	select {
	case <-p.ready:
	default:
	}
	producedPool.Put(p)
}

// produce appends, and replies or lets the ackWriter do it once the acks are in.
func (c *conn) produce(h wire.Header, body []byte, f *wire.Frame) error {
	size := len(f.B)
	p := producedPool.Get().(*produced)
	p.h, p.listener, p.throttle, p.began = h, c.listener(), 0, c.began
	img := c.s.d.Controller.Image()
	tid, timeout, err := p.parse(h.Version, body, img)
	if err != nil {
		return fmt.Errorf("%w: Produce version %d from client %q: %w", wire.ErrFrame, h.Version, h.ClientID, err)
	}
	p.deadline = p.began.Add(timeout)
	who := c.asker()
	c.s.check(p, tid, &who)
	c.s.guardTxn(c.ctx, p, tid)
	waits := c.s.appendAll(p)
	f.Release() // nothing of the request refers to it any more, and the reply may take its time
	if img.Quotas != nil {
		c.throttleProduce(img.Quotas, p, size, p.began)
	}
	if p.acks == 0 {
		err := p.firstError()
		c.s.answeredProduce(p, 0)
		p.free()
		if err != nil {
			// There is no reply to say it in; a client notices a closed connection.
			return fmt.Errorf("produce with acks=0 from client %q failed: %w", h.ClientID, err)
		}
		return nil
	}
	if waits || (c.acks != nil && c.acks.busy()) {
		if c.acks == nil {
			c.acks = newAckWriter(c)
		}
		return c.acks.push(p)
	}
	buf := wire.Get(512)
	defer buf.Free()
	buf.B = c.s.appendProduceResponse(buf.B[:0], p)
	c.s.answeredProduce(p, len(buf.B))
	p.free()
	return c.write(buf.B)
}

// maxNamed bounds the topics and the partitions of a Produce request, and the partitions of a Fetch: as many as a request may create. In six bytes of the frame is
// one that takes twenty-five times as many.
const maxNamed = controller.MaxPartitions

var errNamed = fmt.Errorf("more than %d topics or partitions", maxNamed)

// parse reads a request. Names are the Image's own strings, so that they outlive the frame.
func (p *produced) parse(version int16, body []byte, img *metadata.Image) (tid *string, timeout time.Duration, err error) {
	r := kbin.Reader{Src: body}
	flexible := version >= 9
	if flexible {
		tid = r.CompactNullableString()
	} else {
		tid = r.NullableString()
	}
	p.acks = r.Int16()
	timeout = time.Duration(r.Int32()) * time.Millisecond
	for n := arrayLen(&r, flexible); n > 0 && r.Ok(); n-- {
		var t producedTopic
		if len(p.topics) == maxNamed {
			return tid, timeout, errNamed
		}
		if version >= 13 {
			t.id = r.Uuid()
			if known := img.TopicIDs[t.id]; known != nil {
				t.name = known.Name
			}
		} else {
			t.name = topicName(&r, flexible, img)
		}
		t.from = len(p.parts)
		for m := arrayLen(&r, flexible); m > 0 && r.Ok(); m-- {
			part := producedPart{number: r.Int32(), leader: -1, producerID: -1}
			if len(p.parts) == maxNamed {
				return tid, timeout, errNamed
			}
			if flexible {
				part.records = r.CompactNullableBytes()
				wire.SkipTags(&r)
			} else {
				part.records = r.NullableBytes()
			}
			p.parts = append(p.parts, part)
		}
		if flexible {
			wire.SkipTags(&r)
		}
		t.to = len(p.parts)
		p.topics = append(p.topics, t)
	}
	if flexible {
		wire.SkipTags(&r)
	}
	return tid, timeout, r.Complete()
}

// arrayLen reads an array's length. No array of Produce or Fetch may be null. Each element takes at least
// one byte, so it is bounded by what is there.
func arrayLen(r *kbin.Reader, flexible bool) int32 {
	var n int32
	if flexible {
		n = r.CompactArrayLen()
	} else {
		n = r.ArrayLen()
	}
	if n < 0 {
		r.Span(-1) // r is not Ok any more
	}
	return n
}

// topicName reads a name and gives the Image's copy of it when there is one.
func topicName(r *kbin.Reader, flexible bool, img *metadata.Image) string {
	var name string
	if flexible {
		name = r.UnsafeCompactString()
	} else {
		name = r.UnsafeString()
	}
	if t := img.Topics[name]; t != nil {
		return t.Name
	}
	return strings.Clone(name)
}

// adminClientID is the client that may write to internal topics (Kafka's AdminUtils).
const adminClientID = "__admin_client"

// check finds what is wrong with a request before anything is appended.
func (s *Server) check(p *produced, tid *string, who *asker) {
	for _, t := range p.topics {
		for i := t.from; i < t.to; i++ {
			part := &p.parts[i]
			part.appended.LogStart = -1
			part.err = s.checkPart(p, part, t, tid, who)
		}
	}
}

func (s *Server) checkPart(p *produced, part *producedPart, t producedTopic, tid *string, who *asker) error {
	if p.acks < -1 || p.acks > 1 {
		return kerr.InvalidRequiredAcks
	}
	if t.name == "" && p.h.Version >= 13 {
		return kerr.UnknownTopicID
	}
	if !who.may(auth.Write, auth.Topic, t.name) {
		return refuse(kerr.TopicAuthorizationFailed, "Topic authorization failed.")
	}
	if controller.Internal(t.name) && p.h.ClientID != adminClientID {
		return refuse(kerr.InvalidTopicException, "an internal topic is not for clients to write to")
	}
	found, lookup := s.d.Replicas.Partition(t.name, part.number)
	if errors.Is(lookup, replica.ErrUnknown) {
		return lookup
	}
	// Kafka's ProduceRequest.validateRecords: one batch of the current format. The CRC and what lies
	// inside are commitlog's to check.
	if len(part.records) == 0 {
		return refuse(kerr.InvalidRecord, "a produce request must have at least one record batch for each partition")
	}
	batch, err := record.Parse(part.records)
	if lookup == nil && (err != nil || batch.BaseOffset != 0) && batch.Magic == record.Magic && batch.Size() == len(part.records) {
		part.appended.LogStart = found.Log().StartOffset() // in Kafka it is the log that refuses such a batch
	}
	switch {
	case err != nil:
		return refuse(kerr.InvalidRecord, err.Error())
	case batch.Size() != len(part.records):
		return refuse(kerr.InvalidRecord, "a produce request must have exactly one whole record batch for each partition")
	case batch.BaseOffset != 0:
		return refuse(kerr.InvalidRecord, "the base offset of a batch that is not in a log yet is 0")
	case batch.Attributes.Codec() == record.Zstd && p.h.Version < 7:
		return refuse(kerr.UnsupportedCompressionType, "zstd needs Produce version 7")
	}
	if batch.Attributes.Transactional() {
		if tid == nil || *tid == "" {
			return refuse(kerr.TransactionalIDAuthorizationFailed, "a transactional batch needs a transactional id")
		}
		if !who.may(auth.Write, auth.TransactionalID, *tid) {
			return refuse(kerr.TransactionalIDAuthorizationFailed, "Transactional Id authorization failed.")
		}
		part.producerID, part.prodEpoch, part.sequence = batch.ProducerID, batch.ProducerEpoch, batch.BaseSequence
	}
	part.p = found
	return lookup
}

// guardTxn asks the transaction coordinator about partitions on which the
// producer's transaction is not known to be open (KIP-890 part 1: no batch
// may open a transaction that its coordinator would never end).
func (s *Server) guardTxn(ctx context.Context, p *produced, tid *string) {
	if tid == nil || s.d.TxnGuard == nil {
		return
	}
	var (
		ask   []txn.TopicPartition
		which []int
		first = -1
	)
	for _, t := range p.topics {
		for i := t.from; i < t.to; i++ {
			part := &p.parts[i]
			if part.err != nil || part.producerID < 0 {
				continue
			}
			if leading, _ := part.p.Leader(); !leading {
				part.err = partition.ErrNotLeader
				continue
			}
			var unknown bool
			if part.guard, unknown = part.p.Log().Verify(part.producerID, part.prodEpoch, part.sequence); !unknown {
				continue
			}
			if first < 0 {
				first = i
			}
			if part.producerID != p.parts[first].producerID || part.prodEpoch != p.parts[first].prodEpoch {
				part.err = refuse(kerr.InvalidRequest, "the batches of one request have different producers")
				continue
			}
			ask = append(ask, txn.TopicPartition{Topic: t.name, Partition: part.number})
			which = append(which, i)
		}
	}
	add := p.h.Version >= 12
	for round := 1; len(ask) > 0; round++ {
		codes := s.d.TxnGuard.VerifyOrAdd(ctx, *tid, p.parts[first].producerID, p.parts[first].prodEpoch, ask, add)
		var again []txn.TopicPartition
		var those []int
		for k, i := range which[:min(len(which), len(codes))] {
			part := &p.parts[i]
			if part.err = guardError(codes[k], p.h.Version); part.err != nil {
				if !kerr.IsRetriable(part.err) {
					part.p.Log().Unverified(part.producerID, part.guard)
				}
				continue
			}
			// The coordinator may have parked the question until the producer's last transaction had its markers, and those
			// void the guard: then it is asked once more.
			if !add || round == guardRounds {
				continue
			}
			if g, unknown := part.p.Log().Verify(part.producerID, part.prodEpoch, part.sequence); unknown && g != part.guard {
				part.guard = g
				again, those = append(again, ask[k]), append(those, i)
			}
		}
		ask, which = again, those
	}
}

// guardRounds bounds how often the coordinator is asked about one request.
const guardRounds = 3

// guardError is the guard's answer as a client of that version knows it: TRANSACTION_ABORTABLE came with Produce v11.
func guardError(code, version int16) error {
	if code == kerr.TransactionAbortable.Code && version < 11 {
		return refuse(kerr.InvalidTxnState, "the partition was not added to the transaction")
	}
	return kerr.ErrorForCode(code)
}

// appendAll appends every record set that is sound, in order, and says whether acks have to be waited for.
func (s *Server) appendAll(p *produced) (waits bool) {
	p.left = 1
	for i := range p.parts {
		part := &p.parts[i]
		if part.err == nil {
			part.appended, part.err = part.p.AppendGuarded(part.records, partition.AnyEpoch, commitlog.FromClient, part.guard, p.acks == -1)
			if errors.Is(part.err, commitlog.ErrOutOfOrderSequence) && s.d.Leased != nil && !s.d.Leased() {
				// Another may lead by now, and have taken what this node misses. To the producer that answer would mean lost records.
				part.err = partition.ErrNotLeader
			}
			if part.err != nil {
				part.appended.LogStart = -1
				if tellsStart(part.err) {
					part.appended.LogStart = part.p.Log().StartOffset()
				}
			}
		}
		part.records = nil
		if part.err != nil {
			s.unexpected("append failed", part.err, "client", p.h.ClientID)
			continue
		}
		if p.acks != -1 {
			part.acked = true
		}
	}
	if p.acks == -1 {
		for i := range p.parts {
			if part := &p.parts[i]; part.err == nil {
				p.mu.Lock()
				p.left++
				p.mu.Unlock()
				part.cancel = part.p.WhenAcked(part.appended.Last, part.appended.Epoch, func(err error) { p.ack(part, err) })
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left--
	return p.left > 0
}

// tellsStart says whether the log's start goes with an error of an append: with all but those that Kafka's
// ReplicaManager.appendToLocalLog expects.
func tellsStart(err error) bool {
	switch codeOf(err) {
	case kerr.UnknownTopicOrPartition.Code, kerr.NotLeaderForPartition.Code, kerr.MessageTooLarge.Code, kerr.RecordListTooLarge.Code,
		kerr.CorruptMessage.Code, kerr.KafkaStorageError.Code:
		return false
	}
	return true
}

// ack is called once per partition, from any goroutine.
func (p *produced) ack(part *producedPart, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lapsed {
		return
	}
	part.acked, part.err = err == nil, err
	if p.left--; p.left == 0 {
		p.ready <- struct{}{} // has room: left reaches 0 once
	}
}

// lapse answers what is not acked by now with err.
func (p *produced) lapse(err error) {
	p.mu.Lock()
	if p.left == 0 {
		p.mu.Unlock()
		return
	}
	p.lapsed = true
	var cancels []func()
	for i := range p.parts {
		part := &p.parts[i]
		if part.err == nil && !part.acked {
			part.err = err
			cancels = append(cancels, part.cancel)
		}
	}
	p.mu.Unlock()
	for _, cancel := range cancels { // outside the lock: it may wait for an ack on its way to it
		if cancel != nil {
			cancel()
		}
	}
}

func (p *produced) firstError() error {
	for i := range p.parts {
		if err := p.parts[i].err; err != nil {
			return err
		}
	}
	return nil
}

// answeredProduce counts a request whose reply, of so many bytes, is about to go out.
func (s *Server) answeredProduce(p *produced, bytes int) {
	stats := s.apis[kmsg.Produce].stats
	for i := range p.parts {
		if err := p.parts[i].err; err != nil {
			stats.failed(codeOf(err))
		}
	}
	stats.answered(p.began, bytes)
}

// appendProduceResponse writes a whole frame.
func (s *Server) appendProduceResponse(dst []byte, p *produced) []byte {
	v := p.h.Version
	flexible := v >= 9
	dst = wire.AppendResponseHeader(dst, p.h.CorrelationID, flexible)
	dst = appendArrayLen(dst, flexible, len(p.topics))
	var img *metadata.Image
	var endpoints []metadata.NodeID
	for _, t := range p.topics {
		if v >= 13 {
			dst = kbin.AppendUuid(dst, t.id)
		} else {
			dst = appendString(dst, flexible, t.name)
		}
		dst = appendArrayLen(dst, flexible, t.to-t.from)
		for i := t.from; i < t.to; i++ {
			part := &p.parts[i]
			code := codeOf(part.err)
			if code == kerr.NotLeaderForPartition.Code || code == kerr.FencedLeaderEpoch.Code {
				if img == nil {
					img = s.d.Controller.Image()
				}
				if agreed := img.Partition(t.name, part.number); agreed != nil {
					part.leader, part.epoch = agreed.Leader, int32(agreed.LeaderEpoch)
				}
				if part.leader >= 0 {
					endpoints = append(endpoints, part.leader)
				}
			}
			dst = appendProducedPart(dst, v, part, code)
		}
		if flexible {
			dst = append(dst, 0)
		}
	}
	dst = kbin.AppendInt32(dst, int32(p.throttle.Milliseconds()))
	if flexible {
		dst = s.appendEndpoints(dst, v >= 10, p.listener, img, endpoints)
	}
	wire.Seal(dst, 0)
	return dst
}

func appendProducedPart(dst []byte, v int16, part *producedPart, code int16) []byte {
	flexible := v >= 9
	a := part.appended
	if code != 0 {
		a.Base, a.AppendTime = -1, -1
	}
	dst = kbin.AppendInt32(dst, part.number)
	dst = kbin.AppendInt16(dst, code)
	dst = kbin.AppendInt64(dst, a.Base)
	dst = kbin.AppendInt64(dst, a.AppendTime)
	if v >= 5 {
		dst = kbin.AppendInt64(dst, a.LogStart)
	}
	if v >= 8 {
		dst = appendRecordErrors(dst, flexible, part.err)
		dst = appendNullableString(dst, flexible, messageOf(part.err))
	}
	if flexible {
		dst = appendLeaderTag(dst, v >= 10 && part.leader >= 0, 0, part.leader, part.epoch)
	}
	return dst
}

// appendRecordErrors tells which records were at fault; the batch is refused as a whole (KIP-467).
func appendRecordErrors(dst []byte, flexible bool, err error) []byte {
	var bad *commitlog.RecordErrors
	if !errors.As(err, &bad) {
		return appendArrayLen(dst, flexible, 0)
	}
	dst = appendArrayLen(dst, flexible, len(bad.Records))
	for i := range bad.Records {
		r := &bad.Records[i]
		dst = kbin.AppendInt32(dst, r.Index)
		dst = appendNullableString(dst, flexible, &r.Message)
		if flexible {
			dst = append(dst, 0)
		}
	}
	return dst
}
