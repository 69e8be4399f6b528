package metadata

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// world is a cluster of a few nodes with one partition, as a log of commands makes it, and what a leader and followers would do with it.
type world struct {
	t     *testing.T
	image *Image
	said  []string
	// copied are the nodes that have all that was acknowledged.
	copied map[NodeID]bool
}

const worldNodes = 5

func newWorld(t *testing.T, replicas ...NodeID) *world {
	w := &world{t: t, image: NewImage(), copied: map[NodeID]bool{}}
	for n := range NodeID(worldNodes) {
		w.apply(&RegisterNode{ID: n + 1})
	}
	w.apply(&CreateTopics{Topics: []TopicSpec{{Name: "t", ID: testID("t"), Assignment: [][]NodeID{{1}, replicas, {2}}}}})
	for _, n := range replicas {
		w.copied[n] = true
	}
	return w
}

func (w *world) part() *Partition { return w.image.Topics["t"].Partitions[1] }

// apply applies a command after its encoding, to the image after its own, as a node does that was killed before every command; and
// holds the new image against what is promised of every one.
func (w *world) apply(c Command) Result {
	w.t.Helper()
	w.said = append(w.said, fmt.Sprintf("%T%+v", c, c))
	c, err := Decode(Encode(c))
	if err != nil {
		w.fail("%v", err)
	}
	var was *Partition
	if w.image.Topics["t"] != nil {
		was = w.part()
	}
	before := EncodeImage(w.image)
	next, r := Apply(w.image, w.image.Index+1, c)
	if !bytes.Equal(before, EncodeImage(w.image)) {
		w.fail("Apply changed the image it was given")
	}
	again, err := DecodeImage(EncodeImage(next))
	if err != nil || show(again) != show(next) {
		w.fail("the image does not survive: %v\n%s", err, show(next))
	}
	if w.image = again; w.image.Topics["t"] != nil && was != nil {
		w.hold(was, w.part())
	}
	return r
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf(format+"\nafter %q", append(args, w.said[max(0, len(w.said)-12):])...)
}

func distinct(list []NodeID) bool {
	return len(slices.Compact(slices.Sorted(slices.Values(list)))) == len(list)
}

// hold checks one step of a partition.
func (w *world) hold(was, p *Partition) {
	w.t.Helper()
	promise := func(ok bool, what string) {
		w.t.Helper()
		if !ok {
			w.fail("%s:\n%+v\n%+v", what, was, p)
		}
	}
	promise(len(p.Target()) > 0 && len(p.Origin()) > 0 && distinct(p.Replicas), "replicas")
	promise(holds(p.Replicas, p.Adding) && holds(p.Replicas, p.Removing) && distinct(p.Adding) && distinct(p.Removing), "adding and removing are of the replicas")
	promise(len(p.ISR) > 0 && holds(p.Replicas, p.ISR) && distinct(p.ISR), "ISR")
	promise(p.Leader == -1 || slices.Contains(p.ISR, p.Leader) && w.image.Usable(p, p.Leader), "the ISR alone gives leaders")
	promise(p.Leader != -1 || !slices.ContainsFunc(p.ISR, func(n NodeID) bool { return w.image.Usable(p, n) }), "who is in sync and alive leads")
	promise(holds(p.Replicas, p.Offline), "offline are replicas")
	promise(!p.Reassigning() || !holds(p.ISR, p.Target()), "what is in sync holds at once")
	promise(p.PartitionEpoch >= was.PartitionEpoch && p.LeaderEpoch >= was.LeaderEpoch, "epochs rise")
	same := slices.Equal(p.Replicas, was.Replicas) && slices.Equal(p.ISR, was.ISR) && p.Leader == was.Leader && p.Reassigning() == was.Reassigning()
	promise(same || p.PartitionEpoch > was.PartitionEpoch, "each change has an epoch")
	promise(p.Leader == was.Leader && holds(p.Replicas, was.Replicas) || p.LeaderEpoch > was.LeaderEpoch, "who goes is refused by the epoch")
	for _, n := range less(was.Replicas, p.Replicas) {
		// All who stay have the records, or it was never there for good.
		promise(holds(p.ISR, p.Replicas) || slices.Contains(was.Adding, n), "nobody goes before all who stay are in sync")
	}
	// What was acknowledged, all of the ISR before had; the model's leader adds who has copied.
	for _, n := range p.ISR {
		promise(w.copied[n], "a node in the ISR that has not got the records")
	}
	for _, n := range less(was.Replicas, p.Replicas) {
		delete(w.copied, n) // deleted from its disk
	}
}

// TestReassignModel does random things, each of which a cluster may come to at any moment, and checks every state in between. Its nodes are
// killed before every command.
func TestReassignModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			some := func() []NodeID {
				list := []NodeID{1, 2, 3, 4, 5}
				r.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
				return list[:1+r.IntN(4)]
			}
			w := newWorld(t, some()...)
			for range 60 {
				w.anything(r, some)
			}
			w.quiet()
		})
	}
}

func (w *world) anything(r *rand.Rand, some func() []NodeID) {
	node, p := NodeID(1+r.IntN(worldNodes)), w.part()
	wish := Reassignment{Topic: p.TopicID, Number: 1}
	switch r.IntN(12) {
	case 0, 1:
		wish.Replicas = some()
		once := w.apply(&ReassignPartitions{Changes: []Reassignment{wish}})
		state := show(&Image{Topics: w.image.Topics, TopicIDs: w.image.TopicIDs})
		twice := w.apply(&ReassignPartitions{Changes: []Reassignment{wish}}) // the leader died over it
		if once.Errs[0] != nil || twice.Errs[0] != nil || show(&Image{Topics: w.image.Topics, TopicIDs: w.image.TopicIDs}) != state {
			w.fail("a wish is not the same when it comes twice: %v, %v", once.Errs, twice.Errs)
		}
		if got := w.part().Target(); !slices.Equal(got, wish.Replicas) {
			w.fail("the target is %v", got)
		}
		if origin := w.part().Origin(); w.part().Reassigning() && !sameNodes(origin, p.Origin()) {
			w.fail("the origin was %v, it is %v", p.Origin(), origin)
		}
	case 2:
		wish.Cancel = true
		err := w.apply(&ReassignPartitions{Changes: []Reassignment{wish}}).Errs[0]
		if (err == nil) != (p.Reassigning() && len(less(p.ISR, p.Adding)) > 0) || err == nil && !sameNodes(w.part().Replicas, p.Origin()) {
			w.fail("cancelled: %v, %+v", err, w.part())
		}
	case 3:
		w.apply(&FenceNode{ID: node, Epoch: w.image.Nodes[node].Epoch})
	case 4:
		w.apply(&RegisterNode{ID: node})
	case 5, 6:
		change := &SetOffline{Node: node, NodeEpoch: w.image.Nodes[node].Epoch, Offline: []PartitionID{p.ID()}}
		if slices.Contains(p.Offline, node) {
			change.Offline, change.Online = nil, change.Offline
		}
		w.apply(change)
	case 7:
		first := p.Replicas[0]
		if slices.Contains(p.ISR, first) && w.image.Usable(p, first) {
			w.apply(&ChangePartition{Topic: p.TopicID, Number: 1, Expected: p.PartitionEpoch, Leader: first, ISR: p.ISR})
		}
	default:
		w.altersISR(r, node)
	}
}

func sameNodes(a, b []NodeID) bool { return holds(a, b) && holds(b, a) }

// altersISR is the leader's wish: a node joins that has copied everything, or leaves.
func (w *world) altersISR(r *rand.Rand, node NodeID) {
	p := w.part()
	if p.Leader == -1 || !slices.Contains(p.Replicas, node) || node == p.Leader {
		return
	}
	isr := less(p.ISR, []NodeID{node})
	if len(isr) == len(p.ISR) {
		isr = append(slices.Clone(isr), node)
		if w.image.Usable(p, node) {
			w.copied[node] = true
		}
	} else if r.IntN(3) > 0 {
		return
	} else {
		delete(w.copied, node) // the leader acknowledges without it from now on
	}
	w.alter(p, isr)
}

func (w *world) alter(p *Partition, isr []NodeID) Result {
	c := ISRChange{Topic: p.TopicID, Number: 1, Leader: p.Leader, NodeEpoch: w.image.Nodes[p.Leader].Epoch, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
	for _, n := range isr {
		c.ISR = append(c.ISR, ISRMember{ID: n, Epoch: w.image.Nodes[n].Epoch})
	}
	return w.apply(&AlterPartition{Changes: []ISRChange{c}})
}

// quiet lets all nodes come back and copy: whatever was wished for last then holds.
func (w *world) quiet() {
	target := w.part().Target()
	for n := range NodeID(worldNodes) {
		w.apply(&RegisterNode{ID: n + 1})
	}
	for range worldNodes {
		p := w.part()
		if at := slices.IndexFunc(p.Replicas, func(n NodeID) bool { return !slices.Contains(p.ISR, n) }); at >= 0 {
			w.copied[p.Replicas[at]] = true
			if err := w.alter(p, append(slices.Clone(p.ISR), p.Replicas[at])).Errs[0]; err != nil {
				w.fail("%v", err)
			}
		}
	}
	if p := w.part(); p.Reassigning() || !slices.Equal(p.Replicas, target) || !sameNodes(p.ISR, target) || p.Leader == -1 {
		w.fail("everybody is back and in sync, and %v is not there: %+v", target, p)
	}
}

// A topic's other partitions, and other changes of one command, are what they were.
func TestReassignTouchesNothingElse(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.apply(&CreateTopics{Topics: []TopicSpec{{Name: "u", ID: testID("u"), Assignment: [][]NodeID{{3}}}}})
	before := w.image
	r := w.apply(&ReassignPartitions{Changes: []Reassignment{
		{Topic: testID("t"), Number: 1, Replicas: []NodeID{3}},
		{Topic: testID("x"), Number: 0, Replicas: []NodeID{3}},
		{Topic: testID("t"), Number: 1, Replicas: []NodeID{4}},
		{Topic: testID("t"), Number: 2, Replicas: []NodeID{9}},
	}})
	if r.Errs[0] != nil || r.Errs[1] == nil || r.Errs[2] != nil || r.Errs[3] == nil {
		t.Error(r.Errs)
	}
	if p := w.part(); !slices.Equal(p.Target(), []NodeID{4}) || !sameNodes(p.Origin(), []NodeID{1, 2}) {
		t.Errorf("%+v", p)
	}
	for n, p := range w.image.Topics["t"].Partitions {
		if n != 1 && fmt.Sprintf("%+v", p) != fmt.Sprintf("%+v", before.Topics["t"].Partitions[n]) {
			t.Errorf("%+v", p)
		}
	}
	if w.image.Topics["t"] != w.image.TopicIDs[testID("t")] || w.image.Topics["u"] == nil {
		t.Error("the topic by its id is not the one by its name")
	}
}

// What is under reassignment must be of the replicas: an image that says otherwise is corrupt.
func TestDecodeRefusesForeignReassignments(t *testing.T) {
	refusesPartitions(t,
		func(p *Partition) { p.Adding = []NodeID{4} },
		func(p *Partition) { p.Removing = []NodeID{4} })
}

// refusesPartitions wants images refused whose partition on the nodes 1 and 2 was changed so.
func refusesPartitions(t *testing.T, changes ...func(*Partition)) {
	t.Helper()
	w := newWorld(t, 1, 2)
	for _, change := range changes {
		p := *w.part()
		change(&p)
		image := *w.image
		image.setPartition(&p)
		if _, err := DecodeImage(EncodeImage(&image)); err == nil {
			t.Errorf("%+v was read", p)
		}
	}
}
