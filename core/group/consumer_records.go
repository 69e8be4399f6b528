package group

import (
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/statelog"
)

// The records of a consumer group (KIP-848), by the version of their key, as Kafka's schemas
// group-coordinator/…/ConsumerGroup*.json define them. All values have version 0, which is flexible.
const (
	keyEpoch        = 3  // ConsumerGroupMetadata: the group epoch
	keyTopics       = 4  // ConsumerGroupPartitionMetadata: of Kafka before 4.1; not written, only removed
	keyMember       = 5  // ConsumerGroupMemberMetadata: who a member is and what it subscribes to
	keyTargetEpoch  = 6  // ConsumerGroupTargetAssignmentMetadata: the epoch of the target assignment
	keyTarget       = 7  // ConsumerGroupTargetAssignmentMember
	keyCurrent      = 8  // ConsumerGroupCurrentMemberAssignment: how far a member has come towards its target
	keyRegex        = 16 // ConsumerGroupRegularExpression: the topics that a subscription matches (KIP-848, 4.0)
	keyClassic      = keyGroup
	maxConsumerKind = keyRegex
)

// change is one record of a consumer group, and what it does to the group: a state is changed by nothing else, so
// that a new coordinator that replays the records has the same state. A nil value is a tombstone.
type change struct {
	kind  int16
	group string
	name  string // the member's id or the regular expression, where the key has one
	value value
}

type value interface{ appendTo(b []byte) []byte }

type (
	groupEpoch struct {
		epoch int32
		hash  int64 // of the subscribed topics; tag 0
	}
	memberValue struct {
		instance, rack *string
		client         Client
		topics         []string
		regex          *string
		rebalance      int32 // ms
		assignor       *string
		classic        *classicMember // nil: it speaks the consumer protocol
	}
	targetEpoch  int32
	targetValue  parts
	currentValue struct {
		epoch, previous    int32
		state              int8
		assigned, revoking parts
	}
	regexValue struct {
		topics  []string
		version int64 // of the metadata
		time    int64 // ms
	}
)

// classicMember is what a member that speaks the classic protocol has besides.
type classicMember struct {
	session   int32 // ms
	protocols []classicProtocol
}

type classicProtocol struct {
	name     string
	metadata []byte
}

func hasName(kind int16) bool {
	return kind == keyMember || kind == keyTarget || kind == keyCurrent || kind == keyRegex
}

// record is the change as it stands in the log.
func (c change) record() statelog.Record {
	key := kbin.AppendInt16(nil, c.kind)
	key = kbin.AppendString(key, c.group)
	if hasName(c.kind) {
		key = kbin.AppendString(key, c.name)
	}
	r := statelog.Record{Key: key}
	if v, ok := c.value.(classicValue); ok {
		r.Value = v.appendTo(nil) // of a version of its own
	} else if c.value != nil {
		r.Value = c.value.appendTo(kbin.AppendInt16(nil, 0))
	}
	return r
}

const noTags = 0

func (v groupEpoch) appendTo(b []byte) []byte {
	b = kbin.AppendInt32(b, v.epoch)
	if v.hash == 0 {
		return append(b, noTags)
	}
	b = append(b, 1, 0, 8) // one tag: number 0, 8 bytes
	return kbin.AppendInt64(b, v.hash)
}

func (v *memberValue) appendTo(b []byte) []byte {
	b = kbin.AppendCompactNullableString(b, v.instance)
	b = kbin.AppendCompactNullableString(b, v.rack)
	b = kbin.AppendCompactString(b, v.client.ID)
	b = kbin.AppendCompactString(b, v.client.Host)
	b = appendStrings(b, v.topics)
	b = kbin.AppendCompactNullableString(b, v.regex)
	b = kbin.AppendInt32(b, v.rebalance)
	b = kbin.AppendCompactNullableString(b, v.assignor)
	if v.classic == nil {
		return append(b, noTags)
	}
	c := append([]byte(nil), 1) // a nullable struct: 1, then its fields
	c = kbin.AppendInt32(c, v.classic.session)
	c = kbin.AppendCompactArrayLen(c, len(v.classic.protocols))
	for _, p := range v.classic.protocols {
		c = kbin.AppendCompactString(c, p.name)
		c = kbin.AppendCompactBytes(c, p.metadata)
		c = append(c, noTags)
	}
	c = append(c, noTags)
	b = append(b, 1, 0)
	b = kbin.AppendUvarint(b, uint32(len(c)))
	return append(b, c...)
}

func (v targetEpoch) appendTo(b []byte) []byte { return append(kbin.AppendInt32(b, int32(v)), noTags) }

func (v targetValue) appendTo(b []byte) []byte {
	return append(appendParts(b, parts(v), false), noTags)
}

func (v currentValue) appendTo(b []byte) []byte {
	b = kbin.AppendInt32(b, v.epoch)
	b = kbin.AppendInt32(b, v.previous)
	b = kbin.AppendInt8(b, v.state)
	b = appendParts(b, v.assigned, true)
	b = appendParts(b, v.revoking, true)
	return append(b, noTags)
}

func (v regexValue) appendTo(b []byte) []byte {
	b = appendStrings(b, v.topics)
	b = kbin.AppendInt64(b, v.version)
	b = kbin.AppendInt64(b, v.time)
	return append(b, noTags)
}

func appendStrings(b []byte, list []string) []byte {
	b = kbin.AppendCompactArrayLen(b, len(list))
	for _, s := range list {
		b = kbin.AppendCompactString(b, s)
	}
	return b
}

func appendParts(b []byte, p parts, epochs bool) []byte {
	b = kbin.AppendCompactArrayLen(b, len(p))
	for _, t := range p.topics() {
		numbers := p.numbers(t)
		b = kbin.AppendUuid(b, t)
		b = kbin.AppendCompactArrayLen(b, len(numbers))
		for _, n := range numbers {
			b = kbin.AppendInt32(b, n)
		}
		if !epochs {
			b = append(b, noTags)
			continue
		}
		e := kbin.AppendCompactArrayLen(nil, len(numbers))
		for _, n := range numbers {
			e = kbin.AppendInt32(e, p[t][n])
		}
		b = append(b, 1, 0)
		b = kbin.AppendUvarint(b, uint32(len(e)))
		b = append(b, e...)
	}
	return b
}

// decodeChange reads a record whose key has one of the versions above.
func decodeChange(r statelog.Record) (change, error) {
	k := kbin.Reader{Src: r.Key}
	c := change{kind: k.Int16(), group: k.String()}
	if hasName(c.kind) {
		c.name = k.String()
	}
	if err := k.Complete(); err != nil {
		return change{}, fmt.Errorf("%w: key of version %d: %w", errRecord, c.kind, err)
	}
	if r.Value == nil || c.kind == keyTopics {
		return c, nil
	}
	if len(r.Value) < 2 || binary.BigEndian.Uint16(r.Value) != 0 {
		return change{}, fmt.Errorf("%w: value of an unknown version for a key of version %d", errRecord, c.kind)
	}
	v := kbin.Reader{Src: r.Value[2:]}
	switch c.kind {
	case keyEpoch:
		e := groupEpoch{epoch: v.Int32()}
		readTags(&v, func(tag kbin.Reader) { e.hash = tag.Int64() })
		c.value = e
	case keyMember:
		c.value = readMember(&v)
	case keyTargetEpoch:
		e := targetEpoch(v.Int32())
		readTags(&v, nil)
		c.value = e
	case keyTarget:
		p := readParts(&v)
		readTags(&v, nil)
		c.value = targetValue(p)
	case keyCurrent:
		m := currentValue{epoch: v.Int32(), previous: v.Int32(), state: v.Int8()}
		m.assigned, m.revoking = readParts(&v), readParts(&v)
		readTags(&v, nil)
		c.value = m
	case keyRegex:
		x := regexValue{topics: readStrings(&v), version: v.Int64(), time: v.Int64()}
		readTags(&v, nil)
		c.value = x
	}
	if err := v.Complete(); err != nil {
		return change{}, fmt.Errorf("%w: value for a key of version %d: %w", errRecord, c.kind, err)
	}
	return c, nil
}

func readMember(v *kbin.Reader) *memberValue {
	m := &memberValue{instance: v.CompactNullableString(), rack: v.CompactNullableString()}
	m.client = Client{ID: v.CompactString(), Host: v.CompactString()}
	m.topics = readStrings(v)
	m.regex = v.CompactNullableString()
	m.rebalance = v.Int32()
	m.assignor = v.CompactNullableString()
	readTags(v, func(t kbin.Reader) {
		if t.Int8() != 1 {
			return
		}
		m.classic = &classicMember{session: t.Int32()}
		for range t.CompactArrayLen() {
			p := classicProtocol{name: t.CompactString(), metadata: append([]byte(nil), t.CompactBytes()...)}
			readTags(&t, nil)
			if !t.Ok() {
				return
			}
			m.classic.protocols = append(m.classic.protocols, p)
		}
	})
	return m
}

// readTags steps over tagged fields, and gives zero the value of the one whose number is 0.
func readTags(v *kbin.Reader, zero func(kbin.Reader)) {
	for range v.Uvarint() {
		number, size := v.Uvarint(), v.Uvarint()
		b := v.Span(int(size))
		if !v.Ok() {
			return
		}
		if number == 0 && zero != nil {
			zero(kbin.Reader{Src: b})
		}
	}
}

func readStrings(v *kbin.Reader) []string {
	var list []string
	for range v.CompactArrayLen() {
		s := v.CompactString()
		if !v.Ok() {
			return nil
		}
		list = append(list, s)
	}
	return list
}

func readParts(v *kbin.Reader) parts {
	p := parts{}
	for range v.CompactArrayLen() {
		topic := metadata.TopicID(v.Uuid())
		var numbers []int32
		for range v.CompactArrayLen() {
			n := v.Int32()
			if !v.Ok() {
				return p
			}
			numbers = append(numbers, n)
			p.add(topic, n, 0)
		}
		readTags(v, func(t kbin.Reader) {
			if int(t.CompactArrayLen()) != len(numbers) {
				return
			}
			for _, n := range numbers {
				p.add(topic, n, t.Int32())
			}
		})
		if !v.Ok() {
			return p
		}
	}
	return p
}
