package group

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/forebayhub/forebay/core/metadata"
)

// The assignors of the server (KIP-848), by the names that a client asks for; the first is the default. Racks are not
// looked at, as in Kafka since 4.0.
var assignorNames = []string{"uniform", "range"}

var assignors = map[string]func(members []subscriber, sizes map[metadata.TopicID]int32) map[string]parts{
	"uniform": assignUniform, "range": assignRange,
}

// subscriber is what an assignor knows of a member.
type subscriber struct {
	id       string
	instance string             // "" for a dynamic member
	topics   []metadata.TopicID // ordered, each of them in sizes
	current  parts              // its target so far
}

func compareTopics(a, b metadata.TopicID) int { return bytes.Compare(a[:], b[:]) }

// assignRange gives every member of a topic consecutive partitions, the first members one more when it does not come
// out even. Members stand in the order of their instance ids, then of their ids, so that topics with the same number
// of partitions are assigned alike: what joins them finds both sides at one member.
func assignRange(members []subscriber, sizes map[metadata.TopicID]int32) map[string]parts {
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b subscriber) int {
		return cmp.Or(-cmp.Compare(min(len(a.instance), 1), min(len(b.instance), 1)), cmp.Compare(a.instance, b.instance), cmp.Compare(a.id, b.id))
	})
	readers := map[metadata.TopicID]int32{}
	for _, m := range members {
		for _, t := range m.topics {
			readers[t]++
		}
	}
	type place struct{ next, extra int32 }
	places := map[metadata.TopicID]place{}
	out := make(map[string]parts, len(members))
	for _, m := range members {
		p := parts{}
		for _, t := range m.topics {
			at, ok := places[t]
			if !ok {
				at.extra = sizes[t] % readers[t]
			}
			quota := sizes[t] / readers[t]
			if at.extra > 0 {
				at.extra--
				quota++
			}
			for range quota {
				p.add(t, at.next, 0)
				at.next++
			}
			places[t] = at
		}
		out[m.id] = p
	}
	return out
}

// assignUniform spreads all partitions evenly and moves as few as it can: with one subscription for all, the members'
// counts differ by one at most; with different ones, no single move would make them more even.
func assignUniform(members []subscriber, sizes map[metadata.TopicID]int32) map[string]parts {
	u := &uniform{owner: map[topicIDPartition]int{}, load: make([]int, len(members))}
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b subscriber) int { return cmp.Compare(a.id, b.id) })
	readers := map[metadata.TopicID][]int{}
	total, alike := 0, true
	for i, m := range members {
		alike = alike && slices.Equal(m.topics, members[0].topics)
		for _, t := range m.topics {
			readers[t] = append(readers[t], i)
			for n := range m.current[t] {
				if _, taken := u.owner[topicIDPartition{t, n}]; !taken && n < sizes[t] {
					u.owner[topicIDPartition{t, n}] = i
					u.load[i]++
				}
			}
		}
	}
	topics := make([]metadata.TopicID, 0, len(readers))
	for t := range readers {
		topics = append(topics, t)
		total += int(sizes[t])
	}
	slices.SortFunc(topics, compareTopics)
	if alike {
		u.level(topics, sizes, total)
	} else {
		u.spread(topics, sizes, readers)
	}
	out := make(map[string]parts, len(members))
	for _, m := range members {
		out[m.id] = parts{}
	}
	for k, i := range u.owner {
		out[members[i].id].add(k.topic, k.partition, 0)
	}
	return out
}

type topicIDPartition struct {
	topic     metadata.TopicID
	partition int32
}

// uniform is an assignment in the making; members are known by their index.
type uniform struct {
	owner map[topicIDPartition]int
	load  []int
}

// level gives each of the members that may all read everything its quota. Those who have the most keep the one more.
func (u *uniform) level(topics []metadata.TopicID, sizes map[metadata.TopicID]int32, total int) {
	n := len(u.load)
	if n == 0 {
		return
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return u.load[b] - u.load[a] })
	quota := make([]int, n)
	for rank, i := range order {
		quota[i] = total / n
		if rank < total%n {
			quota[i]++
		}
	}
	var free []topicIDPartition
	clear(u.load)
	for _, t := range topics {
		for p := range sizes[t] {
			k := topicIDPartition{t, p}
			i, taken := u.owner[k]
			switch {
			case !taken:
				free = append(free, k)
			case u.load[i] == quota[i]:
				delete(u.owner, k)
				free = append(free, k)
			default:
				u.load[i]++
			}
		}
	}
	for i := range quota {
		for u.load[i] < quota[i] {
			u.owner[free[0]] = i
			u.load[i]++
			free = free[1:]
		}
	}
}

// spread gives each free partition to the reader with the fewest, then moves single partitions from readers with more
// to readers with fewer while that evens them out. Every move makes the sum of the squares of the loads smaller, so it ends.
func (u *uniform) spread(topics []metadata.TopicID, sizes map[metadata.TopicID]int32, readers map[metadata.TopicID][]int) {
	least := func(t metadata.TopicID) int {
		return slices.MinFunc(readers[t], func(a, b int) int { return u.load[a] - u.load[b] })
	}
	// Topics with the fewest readers first: their partitions have the least choice.
	topics = slices.Clone(topics)
	slices.SortStableFunc(topics, func(a, b metadata.TopicID) int { return len(readers[a]) - len(readers[b]) })
	for _, t := range topics {
		for p := range sizes[t] {
			k := topicIDPartition{t, p}
			if _, taken := u.owner[k]; !taken {
				i := least(t)
				u.owner[k] = i
				u.load[i]++
			}
		}
	}
	for moved := true; moved; {
		moved = false
		for _, t := range topics {
			for p := range sizes[t] {
				k := topicIDPartition{t, p}
				from, to := u.owner[k], least(t)
				if u.load[from] > u.load[to]+1 {
					u.owner[k] = to
					u.load[from]--
					u.load[to]++
					moved = true
				}
			}
		}
	}
}
