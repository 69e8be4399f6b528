package replica

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/wire"
)

// fetchVersion is the version of Fetch among nodes: topic ids, epochs of nodes, divergence in the answer.
const fetchVersion = 17

// responseSlack is what a Fetch response may be larger than asked for: one batch of any size that a topic allows.
const responseSlack = 256 << 20

// quietRounds is after how many answers without anything new a Fetch waits longer.
const quietRounds = 4

// fetcher copies the partitions that one other node leads and this one follows. One goroutine owns it but for take.
//
// A round: wait until all partitions are durable up to their ends, ask for what comes after, append it. The offsets of a question are the
// acknowledgement (invariant 1) of all that lies before them, whoever it came from: the leader before, or clients while this node led.
type fetcher struct {
	f    *followers
	node metadata.NodeID

	mu      sync.Mutex
	wanted  map[*slot]*fetched
	changed bool
	breakIt context.CancelFunc // ends the Fetch under way
	poked   chan struct{}      // room for one: wanted has changed

	parts   []*fetched // a copy of wanted, by this goroutine
	session fetchSession
	quiet   int // answers in a row that had nothing new
	warned  time.Time
}

// fetched is one partition in a leader epoch.
type fetched struct {
	slot   *slot
	topic  metadata.TopicID
	number int32
	epoch  int32

	p     *partition.Partition
	until time.Time // paused
	// Where the next Fetch goes on; it is durable up to here.
	offset    int64
	lastEpoch int32
	// caughtUp says that it has had all that could be read on the leader.
	caughtUp bool
}

func newFetcher(f *followers, node metadata.NodeID) *fetcher {
	return &fetcher{f: f, node: node, wanted: map[*slot]*fetched{}, poked: make(chan struct{}, 1)}
}

// take adds a partition, changes its epoch, or lets go of it. A Fetch that waits for records is given up: the new
// partition's producers wait for this node.
func (x *fetcher) take(sl *slot, part *fetched) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if part == nil {
		delete(x.wanted, sl)
	} else {
		x.wanted[sl] = part
	}
	x.changed = true
	if x.breakIt != nil && part != nil {
		x.breakIt()
	}
	poke(x.poked)
}

// refresh takes over what take has left.
func (x *fetcher) refresh() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.changed {
		return
	}
	x.changed, x.quiet = false, 0
	x.parts = x.parts[:0]
	for _, part := range x.wanted {
		x.parts = append(x.parts, part)
	}
	slices.SortFunc(x.parts, func(a, b *fetched) int {
		return cmp.Or(bytes.Compare(a.topic[:], b.topic[:]), cmp.Compare(a.number, b.number))
	})
}

func (x *fetcher) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		x.refresh()
		if len(x.parts) == 0 {
			x.sleep(ctx, time.Hour)
			continue
		}
		rounds, err := x.serve(ctx)
		if rounds > 0 {
			pause = firstPause
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if now := x.f.set.o.Now(); now.Sub(x.warned) > 10*time.Second {
			x.warned = now
			x.f.set.o.Logger.Warn("cannot fetch from the leader of partitions; trying on", "node", x.node, "partitions", len(x.parts), "error", err)
		}
		x.sleep(ctx, jitter(pause))
		pause = min(2*pause, lastPause)
	}
}

// sleep waits; a change of the partitions ends it.
func (x *fetcher) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-x.poked:
	case <-ctx.Done():
	}
}

// errChanged ends a connection whose Fetch was given up for a new partition.
var errChanged = errors.New("the partitions to fetch have changed")

// serve fetches over one connection until something is wrong with it, or there is nothing to fetch any more (nil).
func (x *fetcher) serve(ctx context.Context) (rounds int, err error) {
	dialing, cancel := context.WithTimeout(ctx, 2*time.Second)
	nc, err := x.f.f.Dial(dialing, x.node)
	cancel()
	if err != nil {
		return 0, err
	}
	client := wire.NewClient(nc, fmt.Sprintf("forebay-replica-%d", x.f.set.o.NodeID), int(x.f.f.MaxBytes)+responseSlack)
	defer func() { _ = client.Close() }() // it has said all it has to
	x.session.reset()
	for ctx.Err() == nil {
		x.refresh()
		if len(x.parts) == 0 {
			return rounds, nil
		}
		err := x.round(ctx, client)
		if errors.Is(err, errChanged) {
			return rounds + 1, nil
		}
		if err != nil {
			return rounds, err
		}
		rounds++
	}
	return rounds, nil
}

// round asks once and does what the answer says.
func (x *fetcher) round(ctx context.Context, client *wire.Client) error {
	asked, wait := x.due()
	if err := x.settle(ctx, asked); err != nil {
		return err
	}
	if len(asked) == 0 {
		x.sleep(ctx, wait)
		return nil
	}
	resp, err := x.ask(ctx, client, x.request(asked, wait), wait+10*time.Second)
	if err != nil {
		return err
	}
	return x.absorb(ctx, asked, resp.(*kmsg.FetchResponse))
}

// due are the partitions to ask for now, and how long the answer may take, or the next look if there are none.
func (x *fetcher) due() (asked map[fetchKey]*fetched, wait time.Duration) {
	now := x.f.set.o.Now()
	wait = x.patience()
	asked = map[fetchKey]*fetched{}
	over := x.f.set.fetching.over(now)
	for _, part := range x.parts {
		if d := part.until.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		if d := x.pausedFor(part, over); d > 0 {
			wait = min(wait, d)
			continue
		}
		if err := x.open(part); err != nil {
			part.until = now.Add(broken)
			continue
		}
		asked[fetchKey{part.topic, part.number}] = part
	}
	return asked, wait
}

// patience is how long a Fetch waits. A Fetch that nothing ends costs both nodes a look at each of its partitions, so where nothing has come for a while it is
// longer: four times as long, and a replica still says eight times within Lag that it is there. Records, deletions, another leader or more partitions end it at once; a
// watermark comes with the answer after the one that brought the records, long before that.
func (x *fetcher) patience() time.Duration {
	wait := x.f.f.Wait
	if x.quiet < quietRounds {
		return wait
	}
	return max(wait, min(4*wait, x.f.f.Lag/8))
}

// request asks for partitions from where they are settled.
func (x *fetcher) request(asked map[fetchKey]*fetched, wait time.Duration) *kmsg.FetchRequest {
	req := x.session.request(asked)
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(wait.Milliseconds()), 1, x.f.f.MaxBytes
	req.ReplicaState.ID, req.ReplicaState.Epoch = int32(x.f.set.o.NodeID), x.f.f.NodeEpoch()
	for i := range req.Topics {
		for k := range req.Topics[i].Partitions {
			req.Topics[i].Partitions[k].PartitionMaxBytes = x.f.f.PartBytes
		}
	}
	return req
}

// absorb does what an answer says.
func (x *fetcher) absorb(ctx context.Context, asked map[fetchKey]*fetched, r *kmsg.FetchResponse) error {
	if !x.session.answered(r) {
		if r.ErrorCode == 0 || r.ErrorCode == kerr.FetchSessionIDNotFound.Code || r.ErrorCode == kerr.InvalidFetchSessionEpoch.Code ||
			r.ErrorCode == kerr.FetchSessionTopicIDError.Code {
			return nil // the next one makes a new session
		}
		return kerr.ErrorForCode(r.ErrorCode)
	}
	if x.quiet++; len(r.Topics) > 0 {
		x.quiet = 0
	}
	for i := range r.Topics {
		for k := range r.Topics[i].Partitions {
			rp := &r.Topics[i].Partitions[k]
			if part := asked[fetchKey{r.Topics[i].TopicID, rp.Partition}]; part != nil {
				x.take1(ctx, part, rp)
			}
		}
	}
	return nil
}

// ask sends a Fetch that take can end.
func (x *fetcher) ask(ctx context.Context, client *wire.Client, req kmsg.Request, limit time.Duration) (kmsg.Response, error) {
	asking, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	x.mu.Lock()
	if x.changed {
		x.mu.Unlock()
		return nil, errChanged
	}
	x.breakIt = cancel
	x.mu.Unlock()
	resp, err := client.Do(asking, req)
	x.mu.Lock()
	x.breakIt = nil
	changed := x.changed
	x.mu.Unlock()
	if err != nil && changed && ctx.Err() == nil {
		return nil, errChanged
	}
	return resp, err
}

var errDamaged = errors.New("the log is damaged")

// open gives part its partition, opening the log if need be.
func (x *fetcher) open(part *fetched) error {
	if part.slot.damaged.Load() {
		return errDamaged // nothing more is told of what it has, before it is set back
	}
	if part.p != nil && part.slot.p.Load() == part.p {
		return nil
	}
	p, err := x.f.set.open(part.slot, false)
	if err != nil {
		return err // the Set has reported it
	}
	part.p = p
	return nil
}

// take1 does what the answer says of one partition.
func (x *fetcher) take1(ctx context.Context, part *fetched, rp *kmsg.FetchResponseTopicPartition) {
	err := kerr.ErrorForCode(rp.ErrorCode)
	switch {
	case errors.Is(err, kerr.OffsetOutOfRange):
		err = x.outOfRange(ctx, part)
	case err != nil:
	case rp.DivergingEpoch.EndOffset >= 0 && rp.DivergingEpoch.Epoch >= 0:
		from, _ := part.p.Position()
		d := partition.Diverging{Epoch: rp.DivergingEpoch.Epoch, EndOffset: rp.DivergingEpoch.EndOffset}
		err = part.p.CutBack(part.epoch, d, rp.LogStartOffset)
		x.told(part, err)
		to, _ := part.p.Position()
		x.f.set.o.Logger.Info("cut back to the leader's history", "partition", folder(part.slot.agreed()), "leader", x.node, "epoch", part.epoch, "from", from, "to", to)
		var below *partition.Truncated
		if errors.As(err, &below) {
			err = nil
		}
	default:
		if len(rp.RecordBatches) > 0 {
			err = x.append(part, rp)
			if part.slot.throttled.Load() {
				x.f.set.fetching.record(len(rp.RecordBatches), x.spares(part), x.f.set.o.Now())
			}
		}
		if err == nil {
			err = part.p.Learn(part.epoch, rp.HighWatermark, rp.LogStartOffset)
		}
		if err == nil {
			end, _ := part.p.Position()
			part.caughtUp = end >= rp.HighWatermark
		}
	}
	if err == nil {
		return
	}
	x.session.doubt(fetchKey{part.topic, part.number})
	part.until = x.f.set.o.Now().Add(refused)
	switch {
	case errors.Is(err, kerr.NotLeaderForPartition), errors.Is(err, kerr.UnknownLeaderEpoch), errors.Is(err, kerr.FencedLeaderEpoch),
		errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, partition.ErrFencedEpoch), errors.Is(err, partition.ErrUnknownEpoch):
		// One of the two has not seen the newest Image yet.
	default:
		part.until = x.f.set.o.Now().Add(broken)
		x.told(part, err)
	}
}

// append appends what was fetched. Where the leader's log begins within the first batch, and all of this one lies below that, this one is dropped first: all of it
// is deleted at the leader, and the batch reaches into it.
func (x *fetcher) append(part *fetched, rp *kmsg.FetchResponseTopicPartition) error {
	err := part.p.AppendFetched(rp.RecordBatches, part.epoch)
	if end, _ := part.p.Position(); !errors.Is(err, commitlog.ErrOffsetOutOfRange) || end != rp.LogStartOffset || part.p.Log().StartOffset() == end {
		return err
	}
	if err := part.p.Restart(part.epoch, rp.LogStartOffset); err != nil {
		return err
	}
	return part.p.AppendFetched(rp.RecordBatches, part.epoch)
}

func (x *fetcher) told(part *fetched, err error) {
	if err != nil {
		x.f.set.o.Logger.Error("following failed", "partition", folder(part.slot.agreed()), "leader", x.node, "epoch", part.epoch, "error", err)
	}
}

// outOfRange finds out where the leader's log begins, and starts there when that is beyond this log's end.
func (x *fetcher) outOfRange(ctx context.Context, part *fetched) error {
	// The answer would overwrite the Fetch response that is being worked through: another connection.
	start, err := x.f.earliest(ctx, x.node, part.slot.agreed().Topic, part.number, part.epoch)
	if err != nil {
		return err
	}
	end, _ := part.p.Position()
	if log := part.p.Log(); end >= start && log.StartOffset() != end {
		return fmt.Errorf("offset %d is out of range on the leader, whose log starts at %d", end, start)
	}
	x.f.set.o.Logger.Warn("the leader has nothing as old as this replica's end: starting over", "partition", folder(part.slot.agreed()), "leader", x.node, "end", end, "start", start)
	err = part.p.Restart(part.epoch, start)
	var below *partition.Truncated
	if errors.As(err, &below) {
		x.told(part, err)
		err = nil
	}
	return err
}

// earliest asks a leader, in an epoch, where its log begins.
func (f *followers) earliest(ctx context.Context, leader metadata.NodeID, topic string, number, epoch int32) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 8, int32(f.set.o.NodeID)
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	tp := kmsg.NewListOffsetsRequestTopicPartition()
	tp.Partition, tp.CurrentLeaderEpoch, tp.Timestamp = number, epoch, partition.EarliestLocal
	t.Partitions = append(t.Partitions, tp)
	req.Topics = append(req.Topics, t)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := f.call(ctx, leader, req)
	if err != nil {
		return -1, err
	}
	r := resp.(*kmsg.ListOffsetsResponse)
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return -1, fmt.Errorf("%w: ListOffsets answered for %d topics", wire.ErrFrame, len(r.Topics))
	}
	rp := r.Topics[0].Partitions[0]
	return rp.Offset, kerr.ErrorForCode(rp.ErrorCode)
}

// settle waits until what is to be asked for is durable up to where it ends now, and leaves out what cannot be.
func (x *fetcher) settle(ctx context.Context, asked map[fetchKey]*fetched) error {
	for _, part := range x.parts {
		key := fetchKey{part.topic, part.number}
		if asked[key] != part {
			continue
		}
		part.offset, part.lastEpoch = part.p.Position()
		if err := part.p.AwaitDurable(ctx, part.offset); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			part.until = x.f.set.o.Now().Add(broken)
			delete(asked, key)
		}
	}
	return nil
}

// agreed is the partition's state as the Set knows it.
func (sl *slot) agreed() *metadata.Partition {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return sl.state
}
