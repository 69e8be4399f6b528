package group

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/forebayhub/forebay/core/metadata"
)

func topicID(n byte) metadata.TopicID { return uuid.UUID{15: n} }

// Over random groups: every partition that somebody reads has one owner, who reads it; with one subscription for all
// the members' counts differ by one at most, with several no single move would even them out; and a second run with
// nothing changed moves nothing.
func TestUniformAssignor(t *testing.T) {
	for seed := range int64(300) {
		rnd := rand.New(rand.NewSource(seed))
		sizes := map[metadata.TopicID]int32{}
		for i := range 1 + rnd.Intn(4) {
			sizes[topicID(byte(i))] = int32(1 + rnd.Intn(9))
		}
		alike := rnd.Intn(2) == 0
		var members []subscriber
		for i := range 1 + rnd.Intn(6) {
			m := subscriber{id: fmt.Sprint(i)}
			for n := range len(sizes) {
				if alike || rnd.Intn(2) == 0 {
					m.topics = append(m.topics, topicID(byte(n)))
				}
			}
			members = append(members, m)
		}
		got := assignUniform(members, sizes)
		checkAssignment(t, seed, members, sizes, got)
		load := func(i int) int { return got[members[i].id].count() }
		for a := range members {
			for b := range members {
				if load(a) <= load(b)+1 {
					continue
				}
				for tp := range got[members[a].id] {
					if slices.Contains(members[b].topics, tp) {
						t.Fatalf("seed %d: %v, and one of %s could go to %s", seed, got, members[a].id, members[b].id)
					}
				}
			}
		}
		for i := range members {
			members[i].current = got[members[i].id]
		}
		again := assignUniform(members, sizes)
		for id := range got {
			if !again[id].same(got[id]) {
				t.Fatalf("seed %d: %v became %v though nothing has changed", seed, got, again)
			}
		}
		if !alike || len(members) < 2 {
			continue
		}
		// One leaves: the others keep all that they have.
		rest := assignUniform(members[1:], sizes)
		checkAssignment(t, seed, members[1:], sizes, rest)
		for _, m := range members[1:] {
			if !m.current.within(rest[m.id]) {
				t.Fatalf("seed %d: %s had %v and got %v though another one left", seed, m.id, m.current, rest[m.id])
			}
		}
	}
}

func checkAssignment(t *testing.T, seed int64, members []subscriber, sizes map[metadata.TopicID]int32, got map[string]parts) {
	t.Helper()
	owners := map[topicIDPartition]int{}
	want := map[topicIDPartition]bool{}
	for _, m := range members {
		for tp, numbers := range got[m.id] {
			for n := range numbers {
				owners[topicIDPartition{tp, n}]++
				if !slices.Contains(m.topics, tp) || n >= sizes[tp] {
					t.Fatalf("seed %d: %s got %v-%d", seed, m.id, tp, n)
				}
			}
		}
		for _, tp := range m.topics {
			for n := range sizes[tp] {
				want[topicIDPartition{tp, n}] = true
			}
		}
	}
	if len(owners) != len(want) {
		t.Fatalf("seed %d: %d of %d partitions have an owner", seed, len(owners), len(want))
	}
	for k, n := range owners {
		if n != 1 {
			t.Fatalf("seed %d: %v has %d owners", seed, k, n)
		}
	}
}

func TestRangeAssignor(t *testing.T) {
	a, b := topicID(1), topicID(2)
	got := assignRange([]subscriber{
		{id: "m1", topics: []metadata.TopicID{a, b}},
		{id: "m3", instance: "pod", topics: []metadata.TopicID{a, b}},
		{id: "m2", topics: []metadata.TopicID{a}},
	}, map[metadata.TopicID]int32{a: 7, b: 3})
	for id, want := range map[string]map[metadata.TopicID][]int32{
		"m3": {a: {0, 1, 2}, b: {0, 1}}, "m1": {a: {3, 4}, b: {2}}, "m2": {a: {5, 6}, b: nil},
	} {
		for tp, numbers := range want {
			if !slices.Equal(got[id].numbers(tp), numbers) {
				t.Errorf("%s got %v of %v, want %v", id, got[id].numbers(tp), tp, numbers)
			}
		}
	}
}
