package group

import (
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/google/uuid"

	"github.com/forebayhub/forebay/core/statelog"
)

func strPtr(s string) *string { return &s }

func sampleChanges() []change {
	id := uuid.MustParse("01020304-0506-0708-090a-0b0c0d0e0f10")
	return []change{
		{keyEpoch, "g", "", groupEpoch{3, 0}},
		{keyEpoch, "g", "", groupEpoch{3, 77}},
		{keyMember, "g", "m", &memberValue{rack: strPtr("r"), client: Client{"c", "/h"}, topics: []string{"a", "b"}, rebalance: 9, assignor: strPtr("range")}},
		{keyMember, "g", "m", &memberValue{
			instance: strPtr("i"), client: Client{"c", "/h"}, topics: []string{"a"}, regex: strPtr("a.*"), rebalance: 9,
			classic: &classicMember{session: 5, protocols: []classicProtocol{{"range", []byte{1, 2}}}},
		}},
		{keyTargetEpoch, "g", "", targetEpoch(4)},
		{keyTarget, "g", "m", targetValue(parts{id: {0: 0, 5: 0}})},
		{keyCurrent, "g", "m", currentValue{epoch: 4, previous: 3, state: memberUnrevoked, assigned: parts{id: {1: 2, 2: 4}}, revoking: parts{id: {3: 1}}}},
		{keyRegex, "g", "a.*", regexValue{topics: []string{"a"}, version: 5, time: 6}},
		{keyMember, "g", "m", nil},
		{keyTopics, "g", "", nil},
	}
}

func TestConsumerRecordsComeBack(t *testing.T) {
	for _, c := range sampleChanges() {
		got, err := decodeChange(c.record())
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%+v came back as %+v, %v", c, got, err)
		}
	}
}

// The bytes are Kafka's: written down from its schemas, field by field.
func TestConsumerRecordsAreKafkas(t *testing.T) {
	for i, want := range map[int][2]string{
		0: {"0003000167", "00000000000300"},
		1: {"0003000167", "0000000000030100080000" + "00000000004d"},
		4: {"0006000167", "00000000000400"},
		5: {"0007000167" + "00016d", "0000" + "02" + "0102030405060708090a0b0c0d0e0f10" + "03" + "00000000" + "00000005" + "00" + "00"},
		6: {"0008000167" + "00016d", "0000" + "00000004" + "00000003" + "02" +
			"02" + "0102030405060708090a0b0c0d0e0f10" + "03" + "00000001" + "00000002" + "01" + "00" + "09" + "03" + "00000002" + "00000004" +
			"02" + "0102030405060708090a0b0c0d0e0f10" + "02" + "00000003" + "01" + "00" + "05" + "02" + "00000001" + "00"},
		7: {"0010000167" + "0003612e2a", "0000" + "02" + "0261" + "0000000000000005" + "0000000000000006" + "00"},
		3: {"0005000167" + "00016d", "0000" + "0269" + "00" + "0263" + "032f68" + "02" + "0261" + "04612e2a" + "00000009" + "00" +
			"01" + "00" + "11" + "01" + "00000005" + "02" + "0672616e6765" + "03" + "0102" + "00" + "00"},
	} {
		r := sampleChanges()[i].record()
		if k, v := hex.EncodeToString(r.Key), hex.EncodeToString(r.Value); k != want[0] || v != want[1] {
			t.Errorf("%d: key %s value %s, want %s and %s", i, k, v, want[0], want[1])
		}
	}
}

// Whatever lies in the log, reading it neither panics nor makes up more than the bytes say, and what was read is
// written again as the same.
func FuzzConsumerRecord(f *testing.F) {
	for _, c := range sampleChanges() {
		r := c.record()
		f.Add(r.Key, r.Value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		d, err := decode(statelog.Record{Key: key, Value: value})
		if err != nil || d.change == nil {
			return
		}
		again, err := decodeChange(d.change.record())
		if err != nil || !reflect.DeepEqual(again, *d.change) {
			t.Fatalf("%+v came back as %+v, %v", *d.change, again, err)
		}
	})
}
