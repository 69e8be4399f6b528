package txn

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/core/statelog"
)

// Pauses between two tries to write a marker.
const (
	firstRetry = 20 * time.Millisecond
	lastRetry  = time.Second
)

// pause waits; false when the Coordinator stops.
func (c *Coordinator) pause(d time.Duration) bool { return statelog.Pause(c.ctx, c.turns, d) }

// mark writes a transaction's marker to all its partitions, and tries until each has it or is gone. False: this node
// stops, or is no longer the one to do it; whoever leads the partition of __transaction_state then starts again, and a
// marker that is there already changes nothing.
func (c *Coordinator) mark(p statelog.Producer, coordinatorEpoch int32, commit bool, parts []TopicPartition, gone func() bool) bool {
	began, warned := c.keeper.Now(), false
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		left := parts[:0:0]
		errs := c.markAll(c.ctx, p, coordinatorEpoch, commit, parts)
		var last error
		for i, err := range errs {
			if err == nil || errors.Is(err, replica.ErrUnknown) || errors.Is(err, commitlog.ErrProducerFenced) {
				// There; or the partition was deleted; or a later epoch has been there: nothing is left to decide.
				continue
			}
			if errors.Is(err, commitlog.ErrCoordinatorFenced) {
				if st, ok := c.host.producer(parts[i], p.ID); ok && st.TxnStart < 0 {
					continue // an administrator has decided it
				}
			}
			left, last = append(left, parts[i]), err
		}
		if len(left) == 0 {
			return true
		}
		if parts = left; !c.pause(delay) || gone() {
			return false
		}
		if d := c.keeper.Now().Sub(began); d > 10*time.Second && !warned {
			warned = true
			c.log.Warn("markers of a transaction cannot be written; its readers wait", "producer_id", p.ID, "topic", left[0].Topic,
				"partition", left[0].Partition, "partitions", len(left), "error", last)
		}
	}
}

// markAll writes markers to all partitions at the same time, and waits for all.
func (c *Coordinator) markAll(ctx context.Context, p statelog.Producer, coordinatorEpoch int32, commit bool, parts []TopicPartition) []error {
	errs := make([]error, len(parts))
	outcomes := make([]chan error, len(parts))
	remote := map[metadata.NodeID][]int{}
	image := c.host.image()
	for i, tp := range parts {
		outcomes[i] = make(chan error, 1)
		at := image.Partition(tp.Topic, tp.Partition)
		switch {
		case at == nil:
			outcomes[i] <- replica.ErrUnknown
		case at.Leader != c.node && c.host.peers() != nil && at.Leader >= 0:
			remote[at.Leader] = append(remote[at.Leader], i)
		default:
			if tp.Topic == controller.OffsetsTopic || !c.markedOnce(tp, p, outcomes[i]) {
				c.markOne(ctx, tp, p, coordinatorEpoch, commit, outcomes[i])
			}
		}
	}
	for _, node := range slices.Sorted(maps.Keys(remote)) {
		indexes := remote[node]
		if !c.spawn(func() { c.markRemote(ctx, node, p, coordinatorEpoch, commit, parts, indexes, outcomes) }) {
			for _, i := range indexes {
				outcomes[i] <- context.Canceled
			}
		}
	}
	for i, ch := range outcomes {
		errs[i] = c.outcome(ctx, ch)
	}
	return errs
}

// outcome waits for what became of a marker, or for the end of ctx.
func (c *Coordinator) outcome(ctx context.Context, ch <-chan error) error {
	err, late := statelog.Await(ctx, c.turns, ch, nil)
	if late != nil {
		return late
	}
	return err
}

// markedOnce says that a partition that is led here has the marker, written before a restart perhaps: outcome tells when it is acknowledged.
func (c *Coordinator) markedOnce(tp TopicPartition, p statelog.Producer, outcome chan error) bool {
	epoch, ok := c.host.decided(tp, p)
	if !ok {
		return false
	}
	st, err := c.host.data(tp)
	if err != nil {
		outcome <- err
		return true
	}
	_, end := st.Bounds()
	st.WhenAcked(end-1, epoch, func(err error) { outcome <- err })
	return true
}

// markOne writes a marker to a partition that is led here; outcome gets the result once it is durable.
func (c *Coordinator) markOne(ctx context.Context, tp TopicPartition, p statelog.Producer, coordinatorEpoch int32, commit bool, outcome chan error) {
	if tp.Topic == controller.OffsetsTopic {
		if !c.spawn(func() { outcome <- c.host.groups().AppendMarker(ctx, tp.Partition, p, coordinatorEpoch, commit) }) {
			outcome <- context.Canceled
		}
		return
	}
	st, err := c.host.data(tp)
	if err != nil {
		outcome <- err
		return
	}
	last, epoch, err := st.AppendMarker(statelog.EncodeMarker(c.keeper.Now().UnixMilli(), p, coordinatorEpoch, commit), anyEpoch, p)
	if err != nil {
		outcome <- err
		return
	}
	st.WhenAcked(last, epoch, func(err error) { outcome <- err })
}

// markRemote asks another node.
func (c *Coordinator) markRemote(ctx context.Context, node metadata.NodeID, p statelog.Producer, coordinatorEpoch int32, commit bool,
	parts []TopicPartition, indexes []int, outcomes []chan error) {
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Version = 2
	m := kmsg.NewWriteTxnMarkersRequestMarker()
	m.ProducerID, m.ProducerEpoch, m.Committed, m.CoordinatorEpoch = p.ID, p.Epoch, commit, coordinatorEpoch
	if p.Bumped {
		m.TransactionVersion = 2
	}
	for _, i := range indexes {
		t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
		t.Topic, t.Partitions = parts[i].Topic, []int32{parts[i].Partition}
		m.Topics = append(m.Topics, t)
	}
	req.Markers = append(req.Markers, m)
	resp, err := c.host.peers().WriteTxnMarkers(ctx, node, req)
	codes := map[TopicPartition]int16{}
	if err == nil {
		for _, rm := range resp.Markers {
			for _, t := range rm.Topics {
				for _, rp := range t.Partitions {
					codes[TopicPartition{t.Topic, rp.Partition}] = rp.ErrorCode
				}
			}
		}
	}
	for _, i := range indexes {
		code, ok := codes[parts[i]]
		switch {
		case err != nil:
			outcomes[i] <- err
		case !ok:
			outcomes[i] <- errors.New("no answer for the partition")
		case code == kerr.UnknownTopicOrPartition.Code:
			outcomes[i] <- replica.ErrUnknown
		case code == kerr.InvalidProducerEpoch.Code:
			outcomes[i] <- commitlog.ErrProducerFenced
		default:
			outcomes[i] <- kerr.ErrorForCode(code)
		}
	}
}

// WriteTxnMarkers writes markers for another node's coordinator, or for an administrator who ends a hanging transaction.
func (c *Coordinator) WriteTxnMarkers(ctx context.Context, req *kmsg.WriteTxnMarkersRequest) *kmsg.WriteTxnMarkersResponse {
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	resp.Version = req.Version
	for _, m := range req.Markers {
		rm := kmsg.NewWriteTxnMarkersResponseMarker()
		rm.ProducerID = m.ProducerID
		var outcomes []chan error
		image := c.host.image()
		for _, t := range m.Topics {
			rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			rt.Topic = t.Topic
			for _, n := range t.Partitions {
				rp := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				rp.Partition = n
				rt.Partitions = append(rt.Partitions, rp)
				outcome := make(chan error, 1)
				outcomes = append(outcomes, outcome)
				if image.Partition(t.Topic, n) == nil {
					outcome <- replica.ErrUnknown
					continue
				}
				c.markOne(ctx, TopicPartition{t.Topic, n}, statelog.Producer{ID: m.ProducerID, Epoch: m.ProducerEpoch, Bumped: m.TransactionVersion >= 2}, m.CoordinatorEpoch, m.Committed, outcome)
			}
			rm.Topics = append(rm.Topics, rt)
		}
		for i := range rm.Topics {
			for j := range rm.Topics[i].Partitions {
				err := c.outcome(ctx, outcomes[0])
				outcomes = outcomes[1:]
				rm.Topics[i].Partitions[j].ErrorCode = markerCode(err)
			}
		}
		resp.Markers = append(resp.Markers, rm)
	}
	return resp
}

// markerCode maps an error to what a coordinator on another node understands.
func markerCode(err error) int16 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, replica.ErrUnknown):
		return kerr.UnknownTopicOrPartition.Code
	case errors.Is(err, replica.ErrElsewhere), errors.Is(err, partition.ErrNotLeader), errors.Is(err, statelog.ErrNotCoordinator):
		return kerr.NotLeaderForPartition.Code
	case errors.Is(err, commitlog.ErrCoordinatorFenced):
		return kerr.TransactionCoordinatorFenced.Code
	case errors.Is(err, partition.ErrNotEnough):
		return kerr.NotEnoughReplicas.Code
	}
	return statelog.Code(err)
}
