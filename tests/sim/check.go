package sim

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
)

// checker knows what was promised.
type checker struct {
	w       *World
	batches int
	seen    map[place]int64            // what a reader was given
	where   map[int64]place            // what a producer of acks=all was told
	heardAt map[metadata.NodeID]heard  // by the controller of this term
	cuts    map[metadata.NodeID]bool   // power cuts since all ISRs were whole
	deleted map[part]int64             // the highest offset that was asked to be deleted before
	origin  map[part][]metadata.NodeID // replicas from before the reassignment that is under way
	txnChecker
}

type place struct {
	part   part
	offset int64
}

type heard struct {
	by     int // the controller's process
	term   uint64
	at     time.Duration
	jumped time.Duration // since then, by its clock, and too little to look like a hold-up
}

func newChecker(w *World) *checker {
	return &checker{
		w: w, seen: map[place]int64{}, where: map[int64]place{}, heardAt: map[metadata.NodeID]heard{}, cuts: map[metadata.NodeID]bool{},
		deleted: map[part]int64{}, origin: map[part][]metadata.NodeID{}, txnChecker: newTxnChecker(w),
	}
}

func (c *checker) acked(p *producer, a commitlog.Appended) {
	c.batches++
	c.w.moment(0.03, 5*time.Millisecond)
	c.w.note("producer %d: %v are at %d in %v", p.id, p.batch, a.Base, p.part)
	if p.acks != -1 {
		return
	}
	for i, v := range p.batch {
		c.where[v] = place{p.part, a.Base + int64(i)}
	}
}

func (c *checker) read(r *reader, x entry) {
	at := place{r.part, x.offset}
	was, ok := c.seen[at]
	if ok && was != x.value {
		c.w.fail("offset %d of %v was read as %x and now, by reader %d, as %x", x.offset, r.part, was, r.id, x.value)
	}
	if !ok {
		c.w.note("reader %d: %x at %d in %v", r.id, x.value, x.offset, r.part)
	}
	c.seen[at] = x.value
}

// metadata looks at a change of the agreed state.
func (c *checker) metadata(before, now *metadata.Image, cmd metadata.Command) {
	for _, k := range c.w.parts {
		p, was := now.Partition(k.topic, k.number), before.Partition(k.topic, k.number)
		if p == nil {
			continue
		}
		switch {
		case p.Leader >= 0 && !slices.Contains(p.ISR, p.Leader):
			c.w.fail("leader %d of %v is not in its ISR %v", p.Leader, k, p.ISR)
		case !c.reassigned(k, was, p, cmd):
			c.w.fail("%v was moved from %v to %v, and before that from %v", k, was.Replicas, p.Replicas, c.origin[k])
		case p.Leader >= 0 && len(p.ISR) == 0:
			c.w.fail("%v has a leader and an empty ISR", k)
		case len(p.Target()) == 0 || !slices.Equal(p.Replicas, unique(p.Replicas, p.ISR, p.ELR, p.Adding, p.Removing)):
			c.w.fail("%v has replicas %v, in sync %v, eligible %v, adding %v, removing %v", k, p.Replicas, p.ISR, p.ELR, p.Adding, p.Removing)
		case was == nil || was == p:
			continue
		case p.PartitionEpoch <= was.PartitionEpoch:
			c.w.fail("partition epoch of %v: %d after %d, in a change", k, p.PartitionEpoch, was.PartitionEpoch)
		case p.LeaderEpoch < was.LeaderEpoch, p.Leader != was.Leader && p.LeaderEpoch == was.LeaderEpoch:
			c.w.fail("leader %d of %v in epoch %d after leader %d in epoch %d", p.Leader, k, p.LeaderEpoch, was.Leader, was.LeaderEpoch)
		case p.Leader != was.Leader && p.Leader >= 0 && len(was.ISR)+len(was.ELR) > 0 &&
			!slices.Contains(slices.Concat(was.ISR, was.ELR, joining(cmd, was)), p.Leader):
			c.w.fail("leader %d of %v comes from outside of the ISR %v and the eligible replicas %v", p.Leader, k, was.ISR, was.ELR)
		}
		c.w.moment(0.5, 30*time.Millisecond)
	}
}

// reassigned looks at the end of a reassignment: the replicas are those that were wished for last, or, where that was taken back, those from before the first wish.
func (c *checker) reassigned(k part, was, p *metadata.Partition, cmd metadata.Command) bool {
	if was == nil || was.Reassigning() == p.Reassigning() {
		return true
	}
	if p.Reassigning() {
		c.origin[k] = was.Replicas
		return true
	}
	want := was.Target()
	if r, ok := cmd.(*metadata.ReassignPartitions); ok {
		for _, w := range r.Changes {
			if w.Topic == p.TopicID && w.Number == p.Number {
				if want = w.Replicas; w.Cancel {
					want = c.origin[k]
				}
			}
		}
	}
	return slices.Equal(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(p.Replicas)))
}

// unique are the members of all lists, each once, in the order of their first.
func unique(lists ...[]metadata.NodeID) (all []metadata.NodeID) {
	for _, n := range slices.Concat(lists...) {
		if !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all
}

// joining is the ISR that the leader of p wishes for in a command: who comes into it may lead at once, where that ends a reassignment.
func joining(cmd metadata.Command, p *metadata.Partition) []metadata.NodeID {
	if a, ok := cmd.(*metadata.AlterPartition); ok {
		for _, c := range a.Changes {
			if c.Topic == p.TopicID && c.Number == p.Number {
				return c.Nodes()
			}
		}
	}
	return nil
}

// heard notes that a controller has renewed a lease.
func (c *checker) heard(by *node, id metadata.NodeID) {
	c.heardAt[id] = heard{by: by.gen, term: by.term, at: c.w.now}
}

// controller notes that a node has become the active controller: it cannot know who is silent.
func (c *checker) controller(n *node) {
	for _, x := range c.w.nodes {
		c.heardAt[x.id] = heard{by: n.gen, term: n.term, at: c.w.now}
	}
}

// jumped notes what a clock has made leases shorter by: a controller gives back only what looks as if it had been held up.
func (c *checker) jumped(n *node, by time.Duration) {
	for id, h := range c.heardAt {
		if h.by == n.gen && h.term == n.term && by > 0 && by <= controller.HoldUp {
			h.jumped += by
			c.heardAt[id] = h
		}
	}
}

// fencing looks at a lease that is said to have run out.
func (c *checker) fencing(by *node, f *metadata.FenceNode) {
	h := c.heardAt[f.ID]
	if h.by == by.gen && h.term == by.term && c.w.now-h.at+h.jumped < controller.SessionTimeout-controller.StepEvery {
		c.w.fail("controller %d fences node %d, heard %v ago", by.id, f.ID, c.w.now-h.at)
	}
}

// told looks at a promise as it is made: a leader acknowledges to acks=all what ends at last.
func (c *checker) told(n *node, k part, last int64) {
	if c.w.mode != commitlog.PowerSafe {
		return
	}
	p := c.w.raft.image().Partition(k.topic, k.number)
	q, err := n.find(k)
	if err != nil {
		return
	}
	if leading, epoch := q.Leader(); p.Leader != n.id || !leading || epoch != int32(p.LeaderEpoch) {
		return // deposed, and does not know: its ISR is not the one that was agreed on
	}
	for _, id := range p.ISR {
		x := c.w.node(id)
		if q, err := x.find(k); err == nil && !x.dying && q.Log().DurableOffset() <= last {
			c.w.fail("node %d acknowledges offset %d of %v, which node %d of the ISR %v has up to %d on its disk", n.id, last, k, id, p.ISR, q.Log().DurableOffset())
		}
	}
	if c.w.chance(0.01) {
		c.disk(c.w.nodes[c.w.rng.IntN(len(c.w.nodes))], noCut)
	}
}

// step looks at a node after each of its steps: a log that was cut is cut on the disk, too.
func (c *checker) step(n *node) {
	for i, k := range c.w.parts {
		q, err := n.set.Partition(k.topic, k.number)
		if err != nil {
			n.ends[i] = 0 // it is moved elsewhere
			continue
		}
		end, watermark := q.Log().EndOffset(), q.HighWatermark()
		if watermark > end {
			c.w.fail("node %d: the watermark of %v is %d, and its log ends at %d", n.id, k, watermark, end)
		}
		c.highest[i] = max(c.highest[i], watermark)
		if end < n.ends[i] {
			c.disk(n, k)
		}
		n.ends[i] = end
	}
}

// noCut is no log.
var noCut = part{}

// disk looks at what a power cut would leave of a node's logs now: all that they call durable; and of the one that was just cut nothing behind that. A process
// that is killed in the midst of a cut may leave more, until its next sync: nobody has counted on that cut yet.
func (c *checker) disk(n *node, cut part) {
	if c.w.mode != commitlog.PowerSafe || !n.serving || n.dying {
		return
	}
	disk := n.disk.Crashed(nil)
	for _, k := range c.w.parts {
		q, err := n.set.Partition(k.topic, k.number)
		if err != nil {
			continue
		}
		l, err := commitlog.Open(commitlog.Options{
			FS: disk, Dir: fmt.Sprintf("%s/log/%s-%d", root, k.topic, k.number), Config: c.w.settings().Log,
			Syncer: commitlog.NewSteppedSyncer(nil), Now: n.clock, BootID: "next",
		})
		if err != nil {
			c.w.fail("node %d could not open %v after a power cut: %v", n.id, k, err)
			return
		}
		if durable, end := q.Log().DurableOffset(), q.Log().EndOffset(); l.EndOffset() < durable || k == cut && l.EndOffset() > end {
			c.w.fail("node %d has %v durable up to %d, of %d; a power cut would leave %d", n.id, k, durable, end, l.EndOffset())
		}
	}
}

// powerCut notes that a machine has lost what was not synced.
func (c *checker) powerCut(n *node) { c.cuts[n.id] = true }

// cutsInRelaxed lets machines lose what was not synced in Relaxed, too.
const cutsInRelaxed = true

// mayCut says whether a power cut is within what is promised: in Relaxed one machine at a time.
func (c *checker) mayCut() bool {
	if c.w.mode == commitlog.PowerSafe || !cutsInRelaxed {
		return c.w.mode == commitlog.PowerSafe
	}
	whole := len(c.cuts) == 0
	if !whole {
		image := c.w.raft.image()
		whole = true
		for _, k := range c.w.parts {
			p := image.Partition(k.topic, k.number)
			whole = whole && p != nil && len(p.ISR) == len(p.Replicas)
		}
		for _, x := range c.w.nodes {
			whole = whole && x.serving && !x.armed
		}
	}
	if whole {
		clear(c.cuts)
	}
	return whole
}

// end looks at what is there when all is whole again.
func (c *checker) end() {
	for _, k := range c.w.parts {
		var first []byte
		hosts := c.w.hosts(k)
		for _, x := range hosts {
			raw := c.log(x, k)
			if first == nil {
				first = raw
			}
			if kind := c.w.o.Kind; kind == Deletions || kind == Cleaned {
				c.history(k, entriesOf(c.w, raw), x) // each begins where it begins
				continue
			}
			if !bytes.Equal(raw, first) {
				c.w.fail("partition %v: nodes %d and %d have %d and %d bytes, or other ones", k, hosts[0].id, x.id, len(first), len(raw))
				return
			}
		}
		list := entriesOf(c.w, first)
		c.history(k, list, hosts[0])
		c.transactions(k, list)
	}
	c.outcomes()
	c.linearizable()
	c.w.note("end: %d batches acknowledged, %d offsets read", c.batches, len(c.seen))
}

// history compares a log with what was told of it.
func (c *checker) history(k part, log []entry, n *node) {
	at := make(map[int64]int64, len(log))
	last := map[int64]int64{}
	start := n.logStart(k)
	for len(log) > 0 && log[0].offset < start {
		log = log[1:] // of the batch in which the log begins
	}
	for i, x := range log {
		if int64(i)+start != x.offset && !c.w.keep.Compact {
			c.w.fail("partition %v: offset %d after %d", k, x.offset, start+int64(i)-1)
			return
		}
		if k.topic != topicName || x.marker {
			continue
		}
		at[x.value] = x.offset
		id := x.value >> 32
		if p, ok := c.w.clients[id].(*producer); ok && p.acks != -1 {
			continue
		}
		if before, ok := last[id]; ok && x.value <= before {
			c.w.fail("partition %v: record %x at %d comes after %x", k, x.value, x.offset, before)
			return
		}
		last[id] = x.value
	}
	for _, v := range sorted(c.where) {
		p := c.where[v]
		if p.part != k || p.offset < start {
			continue
		}
		if got, ok := at[v]; (!ok || got != p.offset) && !(!ok && c.cleaned(log, v, p.offset, start)) {
			c.w.fail("partition %v: record %x was acknowledged at %d; it is there %v, at %d", k, v, p.offset, ok, got)
			return
		}
	}
	for _, x := range log {
		if v, ok := c.seen[place{k, x.offset}]; ok && v != x.value {
			c.w.fail("partition %v: offset %d was read as %x, and is %x", k, x.offset, v, x.value)
			return
		}
	}
	end := start + int64(len(log))
	if q, err := n.find(k); err == nil && c.w.keep.Compact {
		end = q.Log().EndOffset()
	}
	for p := range c.seen {
		if p.part == k && p.offset >= end {
			c.w.fail("partition %v: an offset was read that is not there: the log ends at %d", k, len(log))
			return
		}
	}
}

func sorted(m map[int64]place) []int64 {
	list := make([]int64, 0, len(m))
	for v := range m {
		list = append(list, v)
	}
	slices.Sort(list)
	return list
}

// log is all that a node's replica has.
func (c *checker) log(n *node, k part) (all []byte) {
	p, err := n.set.Partition(k.topic, k.number)
	if err != nil {
		c.w.fail("partition %v of node %d: %v", k, n.id, err)
		return nil
	}
	for at := p.Log().StartOffset(); at < p.Log().EndOffset(); {
		s, err := p.Log().Read(at, p.Log().EndOffset(), 1<<20, true)
		if err != nil {
			c.w.fail("partition %v of node %d at %d: %v", k, n.id, at, err)
			return nil
		}
		raw, err := bytesOf(s)
		if err != nil || len(raw) == 0 {
			c.w.fail("partition %v of node %d at %d: nothing there, %v", k, n.id, at, err)
			return nil
		}
		all = append(all, raw...)
		at, _ = endOf(raw)
	}
	return all
}
