package group

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/statelog"
	"github.com/forebayhub/forebay/core/wire"
)

// Key versions of __consumer_offsets: 0 and 1 are offsets, 2 is a classic group, those of consumer groups are in
// consumer_records.go. Others (share and streams groups) are not ours and are left as they are.
const (
	keyOffset = 1
	keyGroup  = 2
)

// Value versions that are written. Offsets take 4, the flexible one, for the topic id: an offset of a topic that was
// deleted and created again is then known as stale.
const (
	valueOffset = 4
	valueGroup  = 3
)

var errRecord = errors.New("not a coordinator record")

// offsetRecord is a committed offset; a nil value is its tombstone.
func offsetRecord(group, topic string, partition int32, o *offset) statelog.Record {
	k := kmsg.OffsetCommitKey{Version: keyOffset, Group: group, Topic: topic, Partition: partition}
	r := statelog.Record{Key: k.AppendTo(nil)}
	if o != nil {
		v := kmsg.NewOffsetCommitValue()
		v.Version, v.Offset, v.LeaderEpoch = valueOffset, o.offset, o.leaderEpoch
		v.Metadata, v.CommitTimestamp, v.TopicID = o.metadata, o.time, o.topicID
		r.Value = v.AppendTo(nil)
	}
	return r
}

// groupTombstone removes a group.
func groupTombstone(group string) statelog.Record {
	k := kmsg.GroupMetadataKey{Version: keyGroup, Group: group}
	return statelog.Record{Key: k.AppendTo(nil)}
}

// groupRecord is a group's generation: members and, when assignments is not nil, what they are assigned.
func groupRecord(g *group, now int64) statelog.Record {
	r := groupTombstone(g.id)
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Generation, v.CurrentStateTimestamp = valueGroup, g.protocolType, g.generation, now
	if len(g.members) > 0 {
		protocol, leader := g.protocol, g.leader
		v.Protocol, v.Leader = &protocol, &leader
	}
	for _, m := range g.sorted() {
		vm := kmsg.NewGroupMetadataValueMember()
		vm.MemberID, vm.InstanceID, vm.ClientID, vm.ClientHost = m.id, m.instance, m.client.ID, m.client.Host
		vm.RebalanceTimeoutMillis = int32(m.rebalanceTimeout.Milliseconds())
		vm.SessionTimeoutMillis = int32(m.sessionTimeout.Milliseconds())
		vm.Subscription, vm.Assignment = m.metadata(g.protocol), m.assignment
		if g.nextAssignment != nil {
			vm.Assignment = g.nextAssignment[m.id]
		}
		v.Members = append(v.Members, vm)
	}
	r.Value = v.AppendTo(nil)
	return r
}

// decoded is a record of __consumer_offsets: one of offset key, group key and change is set, and the
// key's value unless it is a tombstone.
type decoded struct {
	offsetKey *kmsg.OffsetCommitKey
	offset    *kmsg.OffsetCommitValue
	groupKey  *kmsg.GroupMetadataKey
	group     *kmsg.GroupMetadataValue
	change    *change // of a consumer group
}

// The flexible version of both values is 4.
var (
	// offsetShape: version, offset, leader epoch; metadata; time of the commit.
	offsetShape = &wire.Shape{Tags: true, Fields: []wire.Field{{Size: 2 + 8 + 4}, {Kind: wire.Bytes}, {Size: 8}}}
	// groupShape: version; protocol type; generation; protocol, leader; time; members.
	groupShape = &wire.Shape{Tags: true, Fields: []wire.Field{
		{Size: 2}, {Kind: wire.Bytes}, {Size: 4}, {Kind: wire.Bytes}, {Kind: wire.Bytes}, {Size: 8}, {Kind: wire.Structs, Elem: memberShape},
	}}
	// memberShape: id, instance, client's id, host; timeouts of a rebalance and a session; subscription, assignment.
	memberShape = &wire.Shape{Tags: true, Fields: []wire.Field{
		{Kind: wire.Bytes}, {Kind: wire.Bytes}, {Kind: wire.Bytes}, {Kind: wire.Bytes}, {Size: 4 + 4}, {Kind: wire.Bytes}, {Kind: wire.Bytes},
	}}
)

// read decodes a value, whose version is known.
func read(b []byte, flexible *wire.Shape, v interface{ ReadFrom([]byte) error }) error {
	if binary.BigEndian.Uint16(b) == 4 {
		if err := flexible.Check(b); err != nil {
			return err
		}
	}
	return v.ReadFrom(b)
}

// decode reads a record; a kind that is not ours gives a zero decoded.
func decode(r statelog.Record) (decoded, error) {
	var d decoded
	if len(r.Key) < 2 {
		return d, fmt.Errorf("%w: key of %d bytes", errRecord, len(r.Key))
	}
	switch version := int16(binary.BigEndian.Uint16(r.Key)); version {
	case 0, keyOffset:
		d.offsetKey = new(kmsg.OffsetCommitKey)
		if err := d.offsetKey.ReadFrom(r.Key); err != nil {
			return decoded{}, fmt.Errorf("%w: offset key: %w", errRecord, err)
		}
		if r.Value == nil {
			return d, nil
		}
		if len(r.Value) < 2 || binary.BigEndian.Uint16(r.Value) > valueOffset {
			return decoded{}, fmt.Errorf("%w: offset value of an unknown version", errRecord)
		}
		v := kmsg.NewOffsetCommitValue()
		d.offset = &v
		if err := read(r.Value, offsetShape, &v); err != nil {
			return decoded{}, fmt.Errorf("%w: offset value: %w", errRecord, err)
		}
	case keyGroup:
		d.groupKey = new(kmsg.GroupMetadataKey)
		if err := d.groupKey.ReadFrom(r.Key); err != nil {
			return decoded{}, fmt.Errorf("%w: group key: %w", errRecord, err)
		}
		if r.Value == nil {
			return d, nil
		}
		if len(r.Value) < 2 || binary.BigEndian.Uint16(r.Value) > 4 {
			return decoded{}, fmt.Errorf("%w: group value of an unknown version", errRecord)
		}
		v := kmsg.NewGroupMetadataValue()
		d.group = &v
		if err := read(r.Value, groupShape, &v); err != nil {
			return decoded{}, fmt.Errorf("%w: group value: %w", errRecord, err)
		}
	case keyEpoch, keyTopics, keyMember, keyTargetEpoch, keyTarget, keyCurrent, keyRegex:
		c, err := decodeChange(r)
		if err != nil {
			return decoded{}, err
		}
		d.change = &c
	}
	return d, nil
}
