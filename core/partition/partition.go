// Package partition is one replica's leader or follower state over a commitlog:
// high watermark, last stable offset, who waits for them.
//
// STUB: the signatures are the contract; the cluster room replaces the bodies.
package partition

import (
	"errors"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
)

// Partition is a replica on this node. All methods may be called concurrently.
type Partition struct {
	Topic   string
	TopicID metadata.TopicID
	Number  int32
}

// Errors by which a request is refused.
var (
	ErrNotLeader    = errors.New("not the leader of this partition") // NOT_LEADER_OR_FOLLOWER
	ErrFencedEpoch  = errors.New("leader epoch is older")            // FENCED_LEADER_EPOCH
	ErrUnknownEpoch = errors.New("leader epoch is newer")            // UNKNOWN_LEADER_EPOCH
	ErrNotEnough    = errors.New("not enough in-sync replicas")      // NOT_ENOUGH_REPLICAS
)

// AnyEpoch is an expected leader epoch that matches all.
const AnyEpoch int32 = -1

// Log gives the log for what needs no leadership: sizes, epochs, producers.
func (p *Partition) Log() *commitlog.Log { panic("stub") }

// Leader says whether this node leads, and the leader epoch.
func (p *Partition) Leader() (leading bool, epoch int32) { panic("stub") }

// Append appends batches as the leader. allISR refuses when the ISR is smaller than min.insync.replicas.
func (p *Partition) Append(b []byte, epoch int32, origin commitlog.Origin, allISR bool) (commitlog.Appended, error) {
	panic("stub")
}

// WhenAcked calls done(nil) once the high watermark is above offset: the record
// there is durable on every in-sync replica. It calls done with an error when this node stops leading first. It may
// call done at once, from this goroutine, or later from another; done must not block. cancel forgets it.
func (p *Partition) WhenAcked(offset int64, done func(error)) (cancel func()) { panic("stub") }

// HighWatermark and LastStable bound what read_uncommitted and read_committed see.
func (p *Partition) HighWatermark() int64 { panic("stub") }
func (p *Partition) LastStable() int64    { panic("stub") }

// ReadRequest asks for records.
type ReadRequest struct {
	Offset    int64
	Epoch     int32 // current leader epoch as the client knows it; AnyEpoch
	LastEpoch int32 // KIP-595 last fetched epoch; -1: no check
	MaxBytes  int
	MinOne    bool            // at least one batch even when larger than MaxBytes
	Committed bool            // read_committed
	Replica   metadata.NodeID // -1: a consumer
}

// ReadResult is a Slice with the bounds that go into a Fetch response.
type ReadResult struct {
	Slice         commitlog.Slice
	HighWatermark int64
	LastStable    int64
	LogStart      int64
	Aborted       []commitlog.AbortedTxn // set when Committed
	Diverging     *Diverging             // set instead of a Slice: cut back to here
}

// Diverging tells a reader where its log and ours part.
type Diverging struct {
	Epoch     int32
	EndOffset int64
}

// Read reads as the leader. Release the Slice.
func (p *Partition) Read(r ReadRequest) (ReadResult, error) { panic("stub") }

// Waiter is woken when a partition that it watches may have something new. C has room for one.
type Waiter struct{ C chan struct{} }

// NewWaiter makes a Waiter.
func NewWaiter() *Waiter { return &Waiter{C: make(chan struct{}, 1)} }

// Watch wakes w when the high watermark or the last stable offset rises, or leadership changes.
func (p *Partition) Watch(w *Waiter)   { panic("stub") }
func (p *Partition) Unwatch(w *Waiter) { panic("stub") }

// ListOffset finds an offset by time or by Kafka's special timestamps (-1 latest,
// -2 earliest, -3 max timestamp, -4 earliest local, -5 latest tiered); committed bounds it by the last stable offset.
func (p *Partition) ListOffset(ts int64, epoch int32, committed bool) (offset, timestamp int64, leaderEpoch int32, err error) {
	panic("stub")
}

// DeleteBefore is DeleteRecords: -1 means the high watermark. It returns the new start.
func (p *Partition) DeleteBefore(offset int64) (int64, error) { panic("stub") }
