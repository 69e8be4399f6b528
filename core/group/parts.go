package group

import (
	"bytes"
	"maps"
	"slices"

	"github.com/forebayhub/forebay/core/metadata"
)

// parts is a set of partitions by topic id; the value is the epoch at which a member was assigned the partition
// (KIP-1251), and 0 where that has no meaning. It is never changed once it is in a group.
type parts map[metadata.TopicID]map[int32]int32

func (p parts) add(topic metadata.TopicID, partition, epoch int32) {
	m := p[topic]
	if m == nil {
		m = map[int32]int32{}
		p[topic] = m
	}
	m[partition] = epoch
}

func (p parts) has(topic metadata.TopicID, partition int32) bool {
	_, ok := p[topic][partition]
	return ok
}

func (p parts) count() (n int) {
	for _, m := range p {
		n += len(m)
	}
	return n
}

func (p parts) clone() parts {
	q := make(parts, len(p))
	for t, m := range p {
		q[t] = maps.Clone(m)
	}
	return q
}

// same compares the partitions, not their epochs.
func (p parts) same(q parts) bool { return p.count() == q.count() && p.within(q) }

// within says whether all of p is in q.
func (p parts) within(q parts) bool {
	for t, m := range p {
		for n := range m {
			if !q.has(t, n) {
				return false
			}
		}
	}
	return true
}

// meets says whether p and q have a partition in common.
func (p parts) meets(q parts) bool {
	for t, m := range p {
		for n := range m {
			if q.has(t, n) {
				return true
			}
		}
	}
	return false
}

// topics are the ids in order, so that records and answers are the same for the same set.
func (p parts) topics() []metadata.TopicID {
	return slices.SortedFunc(maps.Keys(p), func(a, b metadata.TopicID) int { return bytes.Compare(a[:], b[:]) })
}

func (p parts) numbers(topic metadata.TopicID) []int32 { return slices.Sorted(maps.Keys(p[topic])) }
