package statelog

import (
	"fmt"

	"github.com/forebayhub/forebay/core/record"
)

// Record is one record of a coordinator's topic. A nil Value is a tombstone.
type Record struct {
	Key, Value []byte
	Offset     int64 // set by DecodeBatch
}

// Batch is one decoded RecordBatch of a coordinator's topic.
type Batch struct {
	Base, Last    int64
	ProducerID    int64 // -1: none
	ProducerEpoch int16
	Transactional bool
	Control       bool
	Marker        bool // of a control batch: it ends a transaction
	Commit        bool // of a Marker: which way
	Records       []Record
}

// Producer says on whose behalf a batch is written.
type Producer struct {
	ID    int64
	Epoch int16
	// Bumped says of a marker that the end of the transaction has raised the epoch: its records have an older one (KIP-890).
	Bumped bool
}

// NoProducer is the Producer of what coordinators write for themselves.
var NoProducer = Producer{ID: record.NoProducerID, Epoch: record.NoProducerEpoch}

// batchLimit bounds what one batch may become when it is decompressed, and what coordinators, who write without compression, put into one. It is far
// below what a follower takes in one answer: a batch that no follower can take would keep its partition to one copy.
const batchLimit = 64 << 20

// EncodeBatch makes one uncompressed batch. A producer other than NoProducer makes it transactional.
func EncodeBatch(now int64, p Producer, records ...Record) ([]byte, error) {
	w := record.NewBuilder()
	w.LeaderEpoch = -1
	if p.ID >= 0 {
		w.Attributes = record.Transactional
	}
	w.ProducerID, w.ProducerEpoch = p.ID, p.Epoch
	for _, r := range records {
		w.Append(now, r.Key, r.Value)
	}
	return w.Bytes()
}

// EncodeMarker makes the control batch that ends a transaction (KIP-98). The coordinator's epoch in it fences older
// coordinators.
func EncodeMarker(now int64, p Producer, coordinatorEpoch int32, commit bool) []byte {
	m := record.Marker{Type: record.Abort, CoordinatorEpoch: coordinatorEpoch}
	if commit {
		m.Type = record.Commit
	}
	return record.EndTxn(p.ID, p.Epoch, m, now)
}

// DecodeBatch decodes the first batch of b and says how many bytes it took. Keys and values may point into b.
func DecodeBatch(b []byte) (Batch, int, error) {
	h, one, _, err := record.Next(b)
	if err != nil {
		return Batch{}, 0, err
	}
	if err := one.Check(); err != nil {
		return Batch{}, 0, err // invariant 10
	}
	out := Batch{
		Base: h.BaseOffset, Last: h.LastOffset(), ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch,
		Transactional: h.Attributes.Transactional(), Control: h.Attributes.Control(),
	}
	if out.Control {
		m, ok, err := record.ParseMarker(&h, one)
		if err != nil {
			return Batch{}, 0, fmt.Errorf("control batch at %d: %w", h.BaseOffset, err)
		}
		out.Marker, out.Commit = ok, m.Type == record.Commit
		return out, len(one), nil
	}
	var r record.Reader
	if err := r.Reset(h, one, batchLimit); err != nil {
		return Batch{}, 0, err
	}
	for r.Next() {
		rec := r.Record()
		out.Records = append(out.Records, Record{Key: rec.Key, Value: rec.Value, Offset: rec.Offset})
	}
	return out, len(one), r.Err()
}
