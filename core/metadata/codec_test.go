package metadata

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestDecodeRefusesWhatIsNewer(t *testing.T) {
	b := Encode(&SetClusterID{ID: "x"})
	newer := append([]byte{CommandVersion + 1}, b[1:]...)
	if _, err := Decode(newer); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("newer command: %v", err)
	}
	unknown := []byte{CommandVersion, 200}
	if _, err := Decode(unknown); !errors.Is(err, ErrVersion) {
		t.Errorf("unknown kind: %v", err)
	}
	image := EncodeImage(NewImage())
	image[len(imageMagic)] = ImageVersion + 1
	if _, err := DecodeImage(image); !errors.Is(err, ErrVersion) {
		t.Errorf("newer image: %v", err)
	}
}

func TestDecodeRefusesWhatIsShortOrLong(t *testing.T) {
	b := Encode(&CreateTopics{Topics: []TopicSpec{{Name: "t", ID: testID("t"), Assignment: [][]NodeID{{1, 2}}, Configs: map[string]string{"a": "b"}}}})
	for n := range b {
		if _, err := Decode(b[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken", n, len(b))
		}
	}
	if _, err := Decode(append(b, 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte too many: %v", err)
	}
}

func TestTopicNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "A-b_c.9": true, strings.Repeat("x", 249): true,
		"": false, ".": false, "..": false, "a b": false, "a/b": false, "ä": false, strings.Repeat("x", 250): false, "a\x00": false,
	} {
		if err := ValidateTopicName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		} else if err != nil && !errors.Is(err, ErrInvalidTopic) {
			t.Errorf("%q: %v is no ErrInvalidTopic", name, err)
		}
	}
}

func TestDeletedIsBounded(t *testing.T) {
	image, _ := Apply(NewImage(), 1, &RegisterNode{ID: 1})
	var specs []TopicSpec
	var ids []TopicID
	for n := range MaxDeleted + 3 {
		name := "t" + strings.Repeat("x", n%200) + string(rune('a'+n/200))
		specs = append(specs, TopicSpec{Name: name, ID: testID(name), Assignment: [][]NodeID{{1}}})
		ids = append(ids, testID(name))
	}
	image, r := Apply(image, 2, &CreateTopics{Topics: specs})
	for n, err := range r.Errs {
		if err != nil {
			t.Fatal(n, err)
		}
	}
	image, _ = Apply(image, 3, &DeleteTopics{IDs: ids})
	if len(image.Deleted) != MaxDeleted || image.Deleted[MaxDeleted-1] != ids[len(ids)-1] {
		t.Errorf("%d deleted ids are remembered", len(image.Deleted))
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range []Command{
		&RegisterNode{ID: 1, Host: "h", Port: 9092, Rack: "r", BootID: "b", TailLost: true},
		&CreateTopics{Topics: []TopicSpec{{Name: "t", ID: testID("t"), Assignment: [][]NodeID{{1, 2}, {2, 1}}, Configs: map[string]string{"a": "b"}}}},
		&DeleteTopics{IDs: []TopicID{testID("t")}},
		&CreatePartitions{Topic: testID("t"), From: 3, Assignment: [][]NodeID{{1}}},
		&ChangePartition{Topic: testID("t"), Leader: -1, ISR: []NodeID{1}, NewEpoch: true},
		&AlterConfigs{Broker: true, Name: "1", Set: map[string]string{"a": "b"}, Delete: []string{"c"}},
		&AlterConfigs{Name: "t", Set: map[string]string{"a": "b"}, From: map[string]*string{"a": new(string), "b": nil}},
		&AlterGroupConfigs{Group: "g", Set: map[string]string{"a": "b"}, Delete: []string{"c"}},
		&ReassignPartitions{Changes: []Reassignment{{Topic: testID("t"), Number: 1, Replicas: []NodeID{2, 1}, KeepFactor: true}, {Topic: testID("t"), Cancel: true}}},
		&AllocateProducerIDs{Node: 1, Count: 1000},
		&SetFeatures{Levels: map[string]int16{"f": 2}},
		&SetClusterID{ID: "c"},
		&AlterQuotas{Changes: []QuotaChange{{Entity: QuotaEntity{User: QuotaName{true, "u"}}, Key: "producer_byte_rate", Value: 1024}}},
		&RegisterNode{ID: 1, Offline: partitionIDs("t:0")},
		&RegisterNode{ID: 1, MinISR: 2, Empty: true},
		&SetOffline{Node: 1, NodeEpoch: 1, Offline: partitionIDs("t:0,t:1"), Online: partitionIDs("u:2")},
		&RegisterNode{ID: 2, Endpoints: []Endpoint{{"EXTERNAL", "h", 9094}}, Level: 1},
		&UnregisterNode{ID: 1},
		&ReadmitNode{ID: 1},
		&AlterACLs{Add: acls("User:a/t"), Remove: acls("User:b/u")},
		&AlterScram{Set: map[ScramUser]ScramCredential{{"a", 1}: {Salt: []byte("s"), Iterations: 4096}}, Remove: []ScramUser{{"b", 2}}},
	} {
		f.Add(Encode(c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(Encode(c))
		if err != nil || !bytes.Equal(Encode(again), Encode(c)) {
			t.Fatalf("%#v does not survive: %v", c, err)
		}
		image, _ := Apply(NewImage(), 1, &RegisterNode{ID: 1})
		next, _ := Apply(image, 2, c)
		if _, err := DecodeImage(EncodeImage(next)); err != nil {
			t.Fatalf("%#v gives an image that cannot be read: %v", c, err)
		}
	})
}

func FuzzDecodeImage(f *testing.F) {
	image, _ := Apply(NewImage(), 1, &RegisterNode{ID: 1, Host: "h", Port: 1})
	image, _ = Apply(image, 2, &CreateTopics{Topics: []TopicSpec{{Name: "t", ID: testID("t"), Assignment: [][]NodeID{{1}}}}})
	f.Add(EncodeImage(image))
	image, _ = Apply(image, 3, &AlterACLs{Add: acls("User:a/t")})
	image, _ = Apply(image, 4, &AlterScram{Set: map[ScramUser]ScramCredential{{"a", 1}: {Salt: []byte("s"), Iterations: 4096}}})
	image, _ = Apply(image, 5, &AlterGroupConfigs{Group: "g", Set: map[string]string{"a": "b"}})
	image, _ = Apply(image, 6, &SetOffline{Node: 1, NodeEpoch: 1, Offline: partitionIDs("t:0")})
	f.Add(EncodeImage(image))
	image, _ = Apply(image, 7, &RegisterNode{ID: 2})
	image, _ = Apply(image, 8, &ReassignPartitions{Changes: []Reassignment{{Topic: testID("t"), Replicas: []NodeID{2}}}})
	f.Add(EncodeImage(image))
	image, _ = Apply(image, 9, &SetFeatures{Levels: map[string]int16{FeatureELR: 1}})
	image, _ = Apply(image, 10, &FenceNode{ID: 1, Epoch: 1})
	f.Add(EncodeImage(image))
	image, _ = Apply(image, 11, &RegisterNode{ID: 3})
	image, _ = Apply(image, 12, &FenceNode{ID: 3, Epoch: 11})
	image, _ = Apply(image, 13, &UnregisterNode{ID: 3})
	f.Add(EncodeImage(image))
	r, err := Restore(image, 14, "id", 1, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(EncodeImage(r.Image))
	f.Add(EncodeImage(NewImage()))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := DecodeImage(b)
		if err != nil {
			return
		}
		if _, err := DecodeImage(EncodeImage(i)); err != nil {
			t.Fatal(err)
		}
	})
}

// What a version before ACLs has written is still read: its images, and its registrations.
func TestDecodeReadsWhatIsOlder(t *testing.T) {
	image, _ := Apply(NewImage(), 1, &RegisterNode{ID: 1, Host: "h", Port: 1})
	b := EncodeImage(image)
	// At the end stand: no quotas; ACL index, ACLs, credentials, one node's endpoints; configs of groups; offline replicas; reassignments;
	// one node's min.insync.replicas, eligible leaders, level; removed nodes; the restoration; one node's times.
	for version, more := range map[byte]int{1: 19, 2: 18, 3: 13, 4: 12, 5: 11, 6: 10, 7: 7, 8: 5, 9: 4, 10: 3} {
		older := append([]byte(imageMagic), version)
		again, err := DecodeImage(append(older, b[len(imageMagic)+1:len(b)-more]...))
		if err != nil || show(again) != show(image) {
			t.Errorf("version %d: %v", version, err)
		}
	}
	c := Encode(&RegisterNode{ID: 1, Host: "h", Port: 1})
	for _, less := range []int{1, 3, 4, 5} {
		if _, err := Decode(c[:len(c)-less]); err != nil {
			t.Error(less, err)
		}
	}
}
