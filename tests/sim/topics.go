package sim

import (
	"fmt"
	"hash/fnv"

	"github.com/google/uuid"

	"github.com/forebayhub/forebay/core/group"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/txn"
)

// part is a partition.
type part struct {
	topic  string
	number int32
}

func (k part) String() string {
	if k.topic == topicName {
		return fmt.Sprint(k.number)
	}
	return fmt.Sprintf("%s-%d", k.topic, k.number)
}

// topicName is what producers write to and readers read.
const topicName = "t"

func data(number int32) part { return part{topicName, number} }

var topicIDs = map[string]metadata.TopicID{
	topicName:   uuid.UUID{1, 2, 3, 4, 5, 6, 0x47, 8, 0x89},
	txn.Topic:   uuid.UUID{1, 2, 3, 4, 5, 6, 0x47, 8, 0x8a},
	group.Topic: uuid.UUID{1, 2, 3, 4, 5, 6, 0x47, 8, 0x8b},
}

// topics says which partitions there are.
func (w *World) topics() {
	add := func(topic string, partitions int32) {
		for n := range partitions {
			w.parts = append(w.parts, part{topic, n})
		}
	}
	add(topicName, w.partitions)
	if w.txns {
		add(txn.Topic, 1+int32(w.rng.IntN(2)))
		add(group.Topic, 1+int32(w.rng.IntN(2)))
	}
}

// count is how many partitions a topic has.
func (w *World) count(topic string) (n int32) {
	for _, k := range w.parts {
		if k.topic == topic {
			n++
		}
	}
	return n
}

// sum stands for the content of a record that clients do not see.
func sum(key, value []byte) int64 {
	h := fnv.New64a()
	h.Write(key)
	h.Write([]byte{0})
	h.Write(value)
	return int64(h.Sum64() >> 1)
}
