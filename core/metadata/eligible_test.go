package metadata

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSettled is a table of what becomes of one partition. The cases are those of Kafka's PartitionChangeBuilderTest, as far as they are about
// eligible leader replicas.
func TestSettled(t *testing.T) {
	type state struct {
		isr, elr, last []NodeID
		leader         NodeID
	}
	ids := func(n ...NodeID) []NodeID { return n }
	for _, c := range []struct {
		name   string
		min    int
		fenced []NodeID
		was    state
		isr    []NodeID // what it becomes
		lost   NodeID
		want   state
	}{
		{"enough are left", 2, ids(4), state{ids(1, 2, 3, 4), nil, nil, 1}, ids(1, 2, 3), -1, state{ids(1, 2, 3), nil, nil, 1}},
		{"two leave at once below the minimum", 3, ids(3, 4), state{ids(1, 2, 3, 4), nil, nil, 1}, ids(1, 2), -1, state{ids(1, 2), ids(3, 4), nil, 1}},
		{"one more leaves", 3, ids(2, 3, 4), state{ids(1, 2), ids(3, 4), nil, 1}, ids(1), -1, state{ids(1), ids(2, 3, 4), nil, 1}},
		{"one comes back, and there are too few still", 3, ids(3, 4), state{ids(1), ids(2, 3, 4), nil, 1}, ids(1, 2), -1, state{ids(1, 2), ids(3, 4), nil, 1}},
		{"enough are back", 3, ids(4), state{ids(1, 2), ids(3, 4), nil, 1}, ids(1, 2, 3), -1, state{ids(1, 2, 3), nil, nil, 1}},
		{"the leader goes, and an eligible one is alive", 3, ids(1, 2, 4), state{ids(1), ids(2, 3, 4), nil, 1}, nil, -1, state{ids(3), ids(1, 2, 4), nil, 3}},
		{"nobody of the ISR is left, nobody eligible is alive", 3, ids(1, 2, 3), state{ids(1), ids(2, 3), nil, 1}, nil, -1, state{nil, ids(1, 2, 3), ids(1), -1}},
		{"an ISR of the minimum goes at once", 2, ids(1, 2), state{ids(1, 2), nil, nil, 1}, nil, -1, state{nil, ids(1, 2), ids(1), -1}},
		{"an eligible one may have lost its tail", 3, ids(3, 4), state{ids(1), ids(2, 3, 4), nil, 1}, ids(1), 3, state{ids(1), ids(2, 4), nil, 1}},
		{"so may a member of the ISR", 3, ids(3, 4), state{ids(1, 2), ids(3, 4), nil, 1}, ids(2), 1, state{ids(2), ids(3, 4), nil, 2}},
		{"the last leader waits while somebody is eligible", 2, ids(2), state{nil, ids(2), ids(1), -1}, nil, -1, state{nil, ids(2), ids(1), -1}},
		{"the last leader leads when nobody is", 2, nil, state{nil, nil, ids(3), -1}, nil, -1, state{ids(3), nil, nil, 3}},
		{"but not before it is back", 2, ids(3), state{nil, nil, ids(3), -1}, nil, -1, state{nil, nil, ids(3), -1}},
		{"who leads from the ISR leads on", 3, nil, state{ids(2, 3), ids(1), nil, 3}, ids(2, 3), -1, state{ids(2, 3), ids(1), nil, 3}},
		{"with a minimum of 1 the watermark rises under the elected one", 1, nil, state{nil, ids(1, 2), ids(1), -1}, nil, -1, state{ids(1), nil, nil, 1}},
		{"who is eligible does not lead while somebody is in sync", 3, ids(2), state{ids(2), ids(1, 3), nil, 2}, ids(2), -1, state{ids(2), ids(1, 3), nil, -1}},
	} {
		image := NewImage()
		image.Features[FeatureELR] = 1
		for n := range NodeID(4) {
			image.Nodes[n+1] = &Node{ID: n + 1, MinISR: int32(c.min), Fenced: slices.Contains(c.fenced, n+1)}
		}
		p := &Partition{Replicas: ids(1, 2, 3, 4), ISR: c.was.isr, ELR: c.was.elr, LastKnownELR: c.was.last, Leader: c.was.leader}
		q := *p
		q.ISR = c.isr
		image.settledWithout(p, &q, c.lost)
		got := state{q.ISR, q.ELR, q.LastKnownELR, q.Leader}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if changed := q.Leader != p.Leader; q.PartitionEpoch != 1 || (q.LeaderEpoch == 1) != changed {
			t.Errorf("%s: epochs %d/%d", c.name, q.LeaderEpoch, q.PartitionEpoch)
		}
	}
}

// eligibleWorld is a partition, and how much of what was acknowledged each replica has.
type eligibleWorld struct {
	t     *testing.T
	image *Image
	acked int
	has   map[NodeID]int
}

const eligibleNodes = 5

func (w *eligibleWorld) part() *Partition { return w.image.Partition("t", 0) }

// min is what a leader goes by: like controller.Settings, and partition's underMinLocked.
func (w *eligibleWorld) min(p *Partition) int {
	n, ok := configured(w.image.TopicConfigs["t"])
	if !ok {
		n, ok = configured(w.image.BrokerConfigs[fmt.Sprint(p.Leader)])
	}
	if !ok {
		n, ok = configured(w.image.BrokerConfigs[""])
	}
	if !ok {
		n = int(w.image.Nodes[p.Leader].MinISR)
	}
	return min(n, len(p.Origin()), len(p.Target()))
}

// apply makes a change after which lost, if it is a node, has nothing that was acknowledged. Then who leads must have it all, unless nobody else may have.
func (w *eligibleWorld) apply(c Command, lost NodeID) {
	w.t.Helper()
	before := w.part()
	next, r := Apply(w.image, w.image.Index+1, c)
	again, err := DecodeImage(EncodeImage(next))
	if err != nil || !bytes.Equal(EncodeImage(again), EncodeImage(next)) {
		w.t.Fatal("snapshot:", err)
	}
	w.image = again
	if lost >= 0 {
		w.has[lost] = 0
	}
	p := w.part()
	for n := range w.has {
		if !slices.Contains(p.Replicas, n) {
			delete(w.has, n)
		}
	}
	if p.Leader >= 0 && !slices.Contains(p.ISR, p.Leader) || !holds(p.Replicas, p.ISR) || !holds(p.Replicas, p.ELR) || len(among(p.ISR, p.ELR)) > 0 {
		w.t.Fatalf("%T %+v, %v: %+v", c, c, r, p)
	}
	if p.PartitionEpoch < before.PartitionEpoch || p.LeaderEpoch < before.LeaderEpoch || p.Leader != before.Leader && p.LeaderEpoch == before.LeaderEpoch {
		w.t.Fatalf("epochs after %+v: %+v, then %+v", c, before, p)
	}
	for _, n := range p.ELR {
		if w.has[n] < w.acked {
			w.t.Fatalf("%+v: %d is eligible and has %d of %d: %+v, before %+v", c, n, w.has[n], w.acked, p, before)
		}
	}
	if p.Leader >= 0 && w.has[p.Leader] < w.acked {
		others := less(slices.Concat(before.ISR, before.ELR), []NodeID{lost})
		if len(others) > 0 || lost != p.Leader && !slices.Contains(before.LastKnownELR, p.Leader) {
			w.t.Fatalf("%+v: %d leads and has %d of %d: %+v, before %+v", c, p.Leader, w.has[p.Leader], w.acked, p, before)
		}
		w.acked = w.has[p.Leader] // there was nobody else
	}
}

// acknowledge is what a leader does that has enough in sync.
func (w *eligibleWorld) acknowledge() {
	p := w.part()
	if p.Leader < 0 || len(p.ISR) < w.min(p) {
		return
	}
	w.acked++
	for _, n := range p.ISR {
		w.has[n] = w.acked
	}
}

// TestEligibleModel does random things and checks after each that nobody leads, or is eligible, who has missed what was acknowledged.
func TestEligibleModel(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			w := &eligibleWorld{t: t, image: NewImage(), has: map[NodeID]int{}}
			w.image.Features[FeatureELR] = 1
			for n := range NodeID(eligibleNodes) {
				w.image, _ = Apply(w.image, w.image.Index+1, &RegisterNode{ID: n + 1, MinISR: 2})
			}
			w.image, _ = Apply(w.image, w.image.Index+1, &CreateTopics{Topics: []TopicSpec{{Name: "t", ID: testID("t"), Assignment: [][]NodeID{{1, 2, 3}}}}})
			for range 200 {
				w.acknowledge()
				w.anything(r)
			}
		})
	}
}

func (w *eligibleWorld) anything(r *rand.Rand) {
	node, p := NodeID(1+r.IntN(eligibleNodes)), w.part()
	registered := w.image.Nodes[node]
	switch r.IntN(12) {
	case 0, 1, 2:
		w.apply(&FenceNode{ID: node, Epoch: registered.Epoch}, -1)
	case 3, 4, 5:
		w.apply(&RegisterNode{ID: node, MinISR: int32(1 + r.IntN(3))}, -1)
	case 6:
		w.apply(&RegisterNode{ID: node, MinISR: 2, TailLost: true, Empty: r.IntN(2) == 0}, node)
	case 7:
		change := &SetOffline{Node: node, NodeEpoch: registered.Epoch, Offline: []PartitionID{p.ID()}}
		if slices.Contains(p.Offline, node) {
			change.Offline, change.Online = nil, change.Offline
		}
		w.apply(change, node)
	case 8:
		c := &AlterConfigs{Name: "t", Broker: r.IntN(2) == 0}
		if c.Broker {
			c.Name = []string{"", fmt.Sprint(node)}[r.IntN(2)]
		}
		if r.IntN(2) == 0 {
			c.Delete = []string{minISRConfig}
		} else {
			c.Set = map[string]string{minISRConfig: fmt.Sprint(1 + r.IntN(3))}
		}
		w.apply(c, -1)
	case 9:
		wish := Reassignment{Topic: p.TopicID, Cancel: p.Reassigning() && r.IntN(2) == 0}
		for n := range NodeID(eligibleNodes) {
			if r.IntN(2) == 0 && !wish.Cancel {
				wish.Replicas = append(wish.Replicas, n+1)
			}
		}
		w.apply(&ReassignPartitions{Changes: []Reassignment{wish}}, -1)
	default:
		w.altersISR(node)
	}
}

func (w *eligibleWorld) altersISR(node NodeID) {
	p := w.part()
	if p.Leader == -1 || !slices.Contains(p.Replicas, node) || node == p.Leader {
		return
	}
	isr := less(p.ISR, []NodeID{node})
	if len(isr) == len(p.ISR) {
		isr = append(slices.Clone(isr), node)
		if w.image.Usable(p, node) {
			w.has[node] = w.acked // it has copied the leader's log
		}
	}
	c := ISRChange{Topic: p.TopicID, Leader: p.Leader, NodeEpoch: w.image.Nodes[p.Leader].Epoch, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
	for _, n := range isr {
		c.ISR = append(c.ISR, ISRMember{ID: n, Epoch: w.image.Nodes[n].Epoch})
	}
	w.apply(&AlterPartition{Changes: []ISRChange{c}}, -1)
}

// Who is eligible must be of the replicas, too.
func TestDecodeRefusesForeignEligible(t *testing.T) {
	refusesPartitions(t,
		func(p *Partition) { p.ELR = []NodeID{4} },
		func(p *Partition) { p.LastKnownELR = []NodeID{4} })
}
