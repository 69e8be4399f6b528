package txn

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/statelog"
	"github.com/forebayhub/forebay/core/wire"
)

// phase is the state of a transactional id, by Kafka's numbers.
type phase int8

const (
	empty          phase = 0
	ongoing        phase = 1
	prepareCommit  phase = 2
	prepareAbort   phase = 3
	completeCommit phase = 4
	completeAbort  phase = 5
)

var phaseNames = map[phase]string{
	empty: "Empty", ongoing: "Ongoing", prepareCommit: "PrepareCommit", prepareAbort: "PrepareAbort",
	completeCommit: "CompleteCommit", completeAbort: "CompleteAbort", 6: "Dead", 7: "PrepareEpochFence",
}

func (p phase) String() string  { return phaseNames[p] }
func (p phase) preparing() bool { return p == prepareCommit || p == prepareAbort }
func (p phase) complete() bool  { return p == completeCommit || p == completeAbort }

// TopicPartition names a partition in a transaction.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// meta is one state of a transactional id, as it is written to __transaction_state. It is a value: parts is never changed
// once it is in a meta.
type meta struct {
	producer  int64
	previous  int64 // producer id before the last change of it; -1
	next      int64 // producer id from the end of this transaction on; -1: the same
	epoch     int16 // -1: never given to anybody
	lastEpoch int16 // the epoch that a retry of the last change would carry; -1: a retry is fenced
	timeout   int32 // ms
	phase     phase
	parts     map[TopicPartition]struct{}
	start     int64 // ms; -1
	updated   int64 // ms
	version   int16 // transaction.version of the client: 2 bumps the epoch with every transaction (KIP-890)
}

// exhausted says that a producer id's epochs are used up: the last one is kept so that its producer can always be fenced.
func exhausted(epoch int16) bool { return epoch >= math.MaxInt16-1 }

// after is the producer id and epoch that the client goes on with once the transaction is over.
func (m *meta) after() (int64, int16) {
	if m.phase.preparing() && m.next >= 0 {
		return m.next, 0
	}
	return m.producer, m.epoch
}

const (
	keyVersion   = 0
	valueVersion = 1 // flexible; the lowest with KIP-890's fields
)

var errRecord = errors.New("not a transaction coordinator's record")

// record is the log's form of m.
func (m *meta) record(id string) statelog.Record {
	v := kmsg.NewTxnMetadataValue()
	v.Version, v.ProducerID, v.ProducerEpoch, v.TimeoutMillis, v.State = valueVersion, m.producer, m.epoch, m.timeout, kmsg.TransactionState(m.phase)
	v.PreviousProducerID, v.NextProducerID, v.ClientTransactionVersion = m.previous, m.next, m.version
	v.LastUpdateTimestamp, v.StartTimestamp = m.updated, m.start
	if m.phase != empty {
		v.Topics = []kmsg.TxnMetadataValueTopic{}
	}
	for _, tp := range m.sorted() {
		if n := len(v.Topics); n == 0 || v.Topics[n-1].Topic != tp.Topic {
			t := kmsg.NewTxnMetadataValueTopic()
			t.Topic = tp.Topic
			v.Topics = append(v.Topics, t)
		}
		t := &v.Topics[len(v.Topics)-1]
		t.Partitions = append(t.Partitions, tp.Partition)
	}
	r := tombstone(id)
	r.Value = appendLastEpoch(v, m.lastEpoch)
	return r
}

// lastEpochTag is a tagged field of ours: Kafka does not write the last epoch, so there a retry of EndTxn or
// InitProducerId that spans a change of the coordinator is fenced. Kafka ignores tags that it does not know.
const lastEpochTag = 1000

func appendLastEpoch(v kmsg.TxnMetadataValue, epoch int16) []byte {
	if epoch >= 0 {
		v.UnknownTags.Set(lastEpochTag, binary.BigEndian.AppendUint16(nil, uint16(epoch)))
	}
	return v.AppendTo(nil)
}

func tombstone(id string) statelog.Record {
	k := kmsg.TxnMetadataKey{Version: keyVersion, TransactionalID: id}
	return statelog.Record{Key: k.AppendTo(nil)}
}

// sorted gives the partitions in a stable order.
func (m *meta) sorted() []TopicPartition {
	return slices.SortedFunc(maps.Keys(m.parts), func(a, b TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// valueShape: version, producer's id, its epoch, timeout, state; topics with their partitions; updated, started.
var valueShape = &wire.Shape{Tags: true, Fields: []wire.Field{
	{Size: 2 + 8 + 2 + 4 + 1},
	{Kind: wire.Structs, Elem: &wire.Shape{Tags: true, Fields: []wire.Field{{Kind: wire.Bytes}, {Kind: wire.Fixeds, Size: 4}}}},
	{Size: 8 + 8},
}}

// decode reads a record; a nil meta is a tombstone. A key of a later version gives ok false.
func decode(r statelog.Record) (id string, m *meta, ok bool, err error) {
	if len(r.Key) < 2 {
		return "", nil, false, fmt.Errorf("%w: key of %d bytes", errRecord, len(r.Key))
	}
	if binary.BigEndian.Uint16(r.Key) > keyVersion {
		return "", nil, false, nil
	}
	var k kmsg.TxnMetadataKey
	if err := k.ReadFrom(r.Key); err != nil {
		return "", nil, false, fmt.Errorf("%w: key: %w", errRecord, err)
	}
	if r.Value == nil {
		return k.TransactionalID, nil, true, nil
	}
	if len(r.Value) < 2 || binary.BigEndian.Uint16(r.Value) > valueVersion {
		return "", nil, false, fmt.Errorf("%w: value of an unknown version", errRecord)
	}
	if binary.BigEndian.Uint16(r.Value) == valueVersion {
		if err := valueShape.Check(r.Value); err != nil {
			return "", nil, false, fmt.Errorf("%w: value: %w", errRecord, err)
		}
	}
	v := kmsg.NewTxnMetadataValue()
	if err := v.ReadFrom(r.Value); err != nil {
		return "", nil, false, fmt.Errorf("%w: value: %w", errRecord, err)
	}
	m = &meta{
		producer: v.ProducerID, previous: v.PreviousProducerID, next: v.NextProducerID, epoch: v.ProducerEpoch, lastEpoch: -1,
		timeout: v.TimeoutMillis, phase: phase(v.State), parts: map[TopicPartition]struct{}{},
		start: v.StartTimestamp, updated: v.LastUpdateTimestamp, version: v.ClientTransactionVersion,
	}
	v.UnknownTags.Each(func(tag uint32, b []byte) {
		if tag == lastEpochTag && len(b) == 2 {
			m.lastEpoch = int16(binary.BigEndian.Uint16(b))
		}
	})
	for _, t := range v.Topics {
		for _, n := range t.Partitions {
			m.parts[TopicPartition{t.Topic, n}] = struct{}{}
		}
	}
	if m.phase < empty || m.phase > completeAbort { // Dead and PrepareEpochFence are never written
		return "", nil, false, fmt.Errorf("%w: %s is in state %d", errRecord, k.TransactionalID, m.phase)
	}
	return k.TransactionalID, m, true, nil
}
