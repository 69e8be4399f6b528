package exactly

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/record"
)

// conn is one connection of a process to the log. Its requests are carried out one after the other, each after a delay of its own, and what
// was on its way when its process died, or gave the connection up, may be carried out all the same.
type conn struct {
	net.Conn
	l      *Log
	p      *process
	number int
	life   int // of the log
	gone   chan struct{}
	once   sync.Once
}

func (c *conn) close() {
	c.once.Do(func() {
		close(c.gone)
		c.Conn.Close()
	})
}

// dial is hublog.Options.Dial of a process.
func (l *Log) dial(ctx context.Context, p *process) (net.Conn, error) {
	timer := time.NewTimer(l.w.delay("dial", p.name, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
	}
	if err := p.pass(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	p.dialled++
	c := &conn{Conn: far, l: l, p: p, number: p.dialled, life: l.life, gone: make(chan struct{})}
	l.conns[c] = struct{}{}
	frames := make(chan []byte, 64)
	go c.read(frames)
	go c.serve(frames)
	return near, nil
}

func (c *conn) read(frames chan<- []byte) {
	defer close(frames)
	defer c.close()
	for {
		var size [4]byte
		if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c.Conn, frame); err != nil {
			return
		}
		frames <- frame
	}
}

func (c *conn) serve(frames <-chan []byte) {
	n := 0
	for frame := range frames {
		n++
		c.one(n, frame)
	}
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
}

// one carries out a request, or not, and answers it, or not.
func (c *conn) one(n int, frame []byte) {
	w := c.l.w
	time.Sleep(w.delay(c.p.name, c.number, n))
	key, version := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))
	counts := false
	switch kmsg.Key(key) {
	case kmsg.Produce, kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.EndTxn:
		counts = true
	}
	after := false
	if counts {
		var err error
		if after, err = c.p.enter(context.Background(), kmsg.NameForKey(key)); err != nil && !w.chance(50, "late", c.p.name, c.number, n) {
			c.close()
			return
		}
	} else if c.p.pass(context.Background()) != nil {
		c.close()
		return
	}
	c.l.mu.Lock()
	over := c.l.life != c.life
	c.l.mu.Unlock()
	if over || w.loses("request", c.p.name, c.number, n) {
		c.close()
		return
	}
	reply := c.handle(key, version, frame)
	if after {
		c.p.die("after a " + kmsg.NameForKey(key))
	}
	if c.p.pass(context.Background()) != nil || reply == nil || w.loses("reply", c.p.name, c.number, n) {
		c.close()
		return
	}
	if _, err := c.Conn.Write(reply); err != nil {
		c.close()
	}
}

// versions are the highest that the model speaks: those in which topics have names.
var versions = map[kmsg.Key]int16{
	kmsg.Produce: 11, kmsg.Fetch: 12, kmsg.ListOffsets: 7, kmsg.Metadata: 12, kmsg.OffsetCommit: 8, kmsg.FindCoordinator: 3, kmsg.JoinGroup: 9,
	kmsg.Heartbeat: 4, kmsg.LeaveGroup: 5, kmsg.SyncGroup: 5, kmsg.DescribeGroups: 5, kmsg.ApiVersions: 3, kmsg.CreateTopics: 7,
	kmsg.InitProducerID: 4, kmsg.AddPartitionsToTxn: 3, kmsg.EndTxn: 4, kmsg.DescribeConfigs: 4,
}

func (l *Log) version(k kmsg.Key) int16 {
	if l.w.knobs.bump && (k == kmsg.Produce || k == kmsg.EndTxn) {
		return versions[k] + 1
	}
	return versions[k]
}

func (c *conn) handle(key, version int16, frame []byte) []byte {
	req := kmsg.RequestForKey(key)
	if req == nil {
		return nil
	}
	b := kbin.Reader{Src: frame[4:]}
	correlation, client := b.Int32(), b.NullableString()
	req.SetVersion(min(version, req.MaxVersion()))
	if req.IsFlexible() {
		kmsg.SkipTags(&b)
	}
	if err := req.ReadFrom(b.Src); err != nil {
		c.l.w.violated("a %s that cannot be read: %v", kmsg.NameForKey(key), err)
		return nil
	}
	name := ""
	if client != nil {
		name = *client
	}
	resp := c.answer(name, req)
	if resp == nil {
		return nil
	}
	resp.SetVersion(req.GetVersion())
	out := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(correlation))
	if resp.IsFlexible() && key != int16(kmsg.ApiVersions) {
		out = append(out, 0)
	}
	out = resp.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

func (c *conn) answer(client string, req kmsg.Request) kmsg.Response {
	l := c.l
	switch r := req.(type) {
	case *kmsg.ApiVersionsRequest:
		return l.apiVersions()
	case *kmsg.MetadataRequest:
		return l.metadata(r)
	case *kmsg.CreateTopicsRequest:
		return l.createTopics(r)
	case *kmsg.DescribeConfigsRequest:
		return describeConfigs(r)
	case *kmsg.FindCoordinatorRequest:
		resp := kmsg.NewPtrFindCoordinatorResponse()
		l.mu.Lock()
		if l.mute[r.CoordinatorKey] {
			resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		}
		l.mu.Unlock()
		resp.NodeID, resp.Host, resp.Port = 1, "log", 9092
		return resp
	case *kmsg.InitProducerIDRequest:
		resp := kmsg.NewPtrInitProducerIDResponse()
		resp.ErrorCode = l.parked(r.TransactionalID, func() (err *kerr.Error) {
			resp.ProducerID, resp.ProducerEpoch, err = l.initialize(r.TransactionalID, time.Duration(r.TransactionTimeoutMillis)*time.Millisecond, r.ProducerID, r.ProducerEpoch)
			return err
		})
		return resp
	case *kmsg.AddPartitionsToTxnRequest:
		return l.addPartitions(r)
	case *kmsg.EndTxnRequest:
		resp := kmsg.NewPtrEndTxnResponse()
		resp.ErrorCode = l.parked(&r.TransactionalID, func() (err *kerr.Error) {
			resp.ProducerID = r.ProducerID
			resp.ProducerEpoch, err = l.finish(r.TransactionalID, r.ProducerID, r.ProducerEpoch, r.Commit, r.Version >= 5)
			return err
		})
		return resp
	case *kmsg.ProduceRequest:
		return l.produce(r)
	case *kmsg.FetchRequest:
		return l.fetch(c, r)
	case *kmsg.ListOffsetsRequest:
		return l.listOffsets(r)
	case *kmsg.OffsetCommitRequest:
		return l.commitOffsets(r)
	case *kmsg.JoinGroupRequest:
		return l.join(c, client, r)
	case *kmsg.SyncGroupRequest:
		return l.sync(c, r)
	case *kmsg.HeartbeatRequest:
		resp := kmsg.NewPtrHeartbeatResponse()
		resp.ErrorCode = code(l.beat(r))
		return resp
	case *kmsg.LeaveGroupRequest:
		return l.leave(r)
	case *kmsg.DescribeGroupsRequest:
		return l.describe(r.Groups)
	}
	l.w.violated("the model does not know %s", kmsg.NameForKey(req.Key()))
	return nil
}

func code(err *kerr.Error) int16 {
	if err == nil {
		return 0
	}
	return err.Code
}

// parked asks again when the markers of the transaction before are written, as Forebay's coordinator does, unless this seed's log
// sends the client away to ask again by itself, as Kafka's does.
func (l *Log) parked(name *string, ask func() *kerr.Error) int16 {
	for {
		err := ask()
		if err != kerr.ConcurrentTransactions || name == nil || l.w.knobs.bounces {
			return code(err)
		}
		l.settled(*name)
	}
}

func (l *Log) apiVersions() *kmsg.ApiVersionsResponse {
	resp := kmsg.NewPtrApiVersionsResponse()
	for k := range versions {
		v := kmsg.NewApiVersionsResponseApiKey()
		v.ApiKey, v.MaxVersion = int16(k), l.version(k)
		resp.ApiKeys = append(resp.ApiKeys, v)
	}
	if l.w.knobs.bump {
		s := kmsg.NewApiVersionsResponseSupportedFeature()
		s.Name, s.MaxVersion = "transaction.version", 2
		f := kmsg.NewApiVersionsResponseFinalizedFeature()
		f.Name, f.MaxVersionLevel, f.MinVersionLevel = "transaction.version", 2, 2
		resp.SupportedFeatures = append(resp.SupportedFeatures, s)
		resp.FinalizedFeatures, resp.FinalizedFeaturesEpoch = append(resp.FinalizedFeatures, f), 1
	}
	return resp
}

func (l *Log) metadata(r *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	l.mu.Lock()
	defer l.mu.Unlock()
	resp := kmsg.NewPtrMetadataResponse()
	b := kmsg.NewMetadataResponseBroker()
	b.NodeID, b.Host, b.Port = 1, "log", 9092
	resp.Brokers, resp.ControllerID, resp.ClusterID = append(resp.Brokers, b), 1, kmsg.StringPtr("model")
	var names []string
	if r.Topics == nil {
		for name := range l.topics {
			names = append(names, name)
		}
	}
	for _, t := range r.Topics {
		if t.Topic != nil {
			names = append(names, *t.Topic)
		}
	}
	for _, name := range names {
		out := kmsg.NewMetadataResponseTopic()
		out.Topic = &name
		t := l.topics[name]
		if t == nil {
			out.ErrorCode = kerr.UnknownTopicOrPartition.Code
			resp.Topics = append(resp.Topics, out)
			continue
		}
		out.TopicID = t.id
		for i := range t.parts {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR = int32(i), 1, 0, []int32{1}, []int32{1}
			if l.headless[place{name, int32(i)}] {
				p.Leader, p.ErrorCode = -1, kerr.LeaderNotAvailable.Code
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (l *Log) createTopics(r *kmsg.CreateTopicsRequest) *kmsg.CreateTopicsResponse {
	resp := kmsg.NewPtrCreateTopicsResponse()
	for _, t := range r.Topics {
		out := kmsg.NewCreateTopicsResponseTopic()
		out.Topic = t.Topic
		if !l.create(t.Topic, t.NumPartitions) {
			out.ErrorCode = kerr.TopicAlreadyExists.Code
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func describeConfigs(r *kmsg.DescribeConfigsRequest) *kmsg.DescribeConfigsResponse {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	for _, t := range r.Resources {
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = t.ResourceType, t.ResourceName
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.Value = "max.message.bytes", kmsg.StringPtr("16777216")
		out.Configs = append(out.Configs, c)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

func (l *Log) addPartitions(r *kmsg.AddPartitionsToTxnRequest) *kmsg.AddPartitionsToTxnResponse {
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	for _, t := range r.Topics {
		out := kmsg.NewAddPartitionsToTxnResponseTopic()
		out.Topic = t.Topic
		for _, n := range t.Partitions {
			p := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			p.Partition = n
			p.ErrorCode = l.parked(&r.TransactionalID, func() *kerr.Error {
				return l.enlist(r.TransactionalID, r.ProducerID, r.ProducerEpoch, place{t.Topic, n})
			})
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (l *Log) produce(r *kmsg.ProduceRequest) *kmsg.ProduceResponse {
	resp := kmsg.NewPtrProduceResponse()
	for _, t := range r.Topics {
		out := kmsg.NewProduceResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			o := kmsg.NewProduceResponseTopicPartition()
			o.Partition = p.Partition
			o.ErrorCode = l.parked(r.TransactionID, func() (err *kerr.Error) {
				o.BaseOffset, err = l.append(r.TransactionID, place{t.Topic, p.Partition}, p.Records, r.Version >= 12)
				return err
			})
			out.Partitions = append(out.Partitions, o)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

// fetch waits for something new, as long as it is asked to.
func (l *Log) fetch(c *conn, r *kmsg.FetchRequest) *kmsg.FetchResponse {
	late := time.NewTimer(time.Duration(r.MaxWaitMillis) * time.Millisecond)
	defer late.Stop()
	for {
		l.mu.Lock()
		resp, some := l.fetchLocked(r)
		changed := l.changed
		l.mu.Unlock()
		if some {
			return resp
		}
		select {
		case <-changed:
		case <-c.gone:
			return resp // to nobody
		case <-late.C:
			return resp
		}
	}
}

func (l *Log) fetchLocked(r *kmsg.FetchRequest) (resp *kmsg.FetchResponse, some bool) {
	resp = kmsg.NewPtrFetchResponse()
	for _, t := range r.Topics {
		out := kmsg.NewFetchResponseTopic()
		out.Topic = t.Topic
		for _, f := range t.Partitions {
			o := kmsg.NewFetchResponseTopicPartition()
			o.Partition = f.Partition
			p := l.partLocked(place{t.Topic, f.Partition})
			switch {
			case p == nil:
				o.ErrorCode, some = kerr.UnknownTopicOrPartition.Code, true
			case l.headless[place{t.Topic, f.Partition}]:
				o.ErrorCode, some = kerr.NotLeaderForPartition.Code, true
			case f.FetchOffset > p.end || f.FetchOffset < 0:
				o.ErrorCode, some = kerr.OffsetOutOfRange.Code, true
			default:
				most := p.end
				if bad, is := l.damaged[place{t.Topic, f.Partition}]; is {
					most = bad
				}
				if f.FetchOffset >= most && most < p.end {
					l.refused++
					o.ErrorCode, some = kerr.CorruptMessage.Code, true
					break
				}
				some = p.read(&o, f.FetchOffset, most, r.IsolationLevel == 1, int(f.PartitionMaxBytes)) || some
			}
			out.Partitions = append(out.Partitions, o)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, some
}

func (p *partition) read(o *kmsg.FetchResponseTopicPartition, from, end int64, committed bool, most int) (some bool) {
	o.HighWatermark, o.LastStableOffset, o.LogStartOffset = p.end, p.lso(), 0
	if committed {
		end = min(end, o.LastStableOffset)
	}
	o.RecordBatches = []byte{}
	last := from
	for _, b := range p.batches {
		h, err := record.Parse(b)
		if err != nil {
			panic(err) // append has read it
		}
		if h.LastOffset() < from {
			continue
		}
		if h.BaseOffset >= end || some && len(o.RecordBatches)+len(b) > most {
			break
		}
		o.RecordBatches = append(o.RecordBatches, b...)
		last, some = h.LastOffset(), true
	}
	if committed {
		for _, a := range p.aborted {
			if a.last >= from && a.first <= last {
				t := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
				t.ProducerID, t.FirstOffset = a.id, a.first
				o.AbortedTransactions = append(o.AbortedTransactions, t)
			}
		}
	}
	return some
}

func (l *Log) listOffsets(r *kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
	l.mu.Lock()
	defer l.mu.Unlock()
	resp := kmsg.NewPtrListOffsetsResponse()
	for _, t := range r.Topics {
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = t.Topic
		for _, f := range t.Partitions {
			o := kmsg.NewListOffsetsResponseTopicPartition()
			o.Partition = f.Partition
			p := l.partLocked(place{t.Topic, f.Partition})
			switch {
			case p == nil:
				o.ErrorCode = kerr.UnknownTopicOrPartition.Code
			case l.headless[place{t.Topic, f.Partition}]:
				o.ErrorCode = kerr.NotLeaderForPartition.Code
			case f.Timestamp == -2:
				o.Offset = 0
			case r.IsolationLevel == 1:
				o.Offset = p.lso()
			default:
				o.Offset = p.end
			}
			out.Partitions = append(out.Partitions, o)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (l *Log) commitOffsets(r *kmsg.OffsetCommitRequest) *kmsg.OffsetCommitResponse {
	l.mu.Lock()
	defer l.mu.Unlock()
	resp := kmsg.NewPtrOffsetCommitResponse()
	if l.lags[r.Group] == nil {
		l.lags[r.Group] = map[place]int64{}
	}
	for _, t := range r.Topics {
		out := kmsg.NewOffsetCommitResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			l.lags[r.Group][place{t.Topic, p.Partition}] = p.Offset
			o := kmsg.NewOffsetCommitResponseTopicPartition()
			o.Partition = p.Partition
			out.Partitions = append(out.Partitions, o)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}
