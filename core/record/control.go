package record

import (
	"encoding/binary"
	"fmt"
)

// ControlType is what a control batch says (KIP-98; the other types are KRaft's).
type ControlType int16

// The transaction markers.
const (
	Abort  ControlType = 0
	Commit ControlType = 1
)

// Marker is the end of a producer's transaction in one partition.
type Marker struct {
	Type             ControlType
	CoordinatorEpoch int32
}

// EndTxn encodes a control batch with one marker (EndTxnMarker: key version 0 and type,
// value version 0 and coordinator epoch). It allocates.
func EndTxn(producerID int64, producerEpoch int16, m Marker, ts int64) Batch {
	var key [4]byte
	binary.BigEndian.PutUint16(key[2:], uint16(m.Type))
	var value [6]byte
	binary.BigEndian.PutUint32(value[2:], uint32(m.CoordinatorEpoch))
	w := NewBuilder()
	w.Attributes = Transactional | Control
	w.ProducerID, w.ProducerEpoch = producerID, producerEpoch
	w.Append(ts, key[:], value[:])
	b, err := w.Bytes()
	if err != nil { // only a codec can fail
		panic(fmt.Sprintf("uncompressed control batch: %v", err))
	}
	return b
}

// ParseMarker reads the marker of a control batch; ok is false when it is of
// another type, which readers step over.
func ParseMarker(h *Header, b Batch) (m Marker, ok bool, err error) {
	if !h.Attributes.Control() || h.Count == 0 {
		return m, false, nil
	}
	var r Reader
	if err := r.Reset(*h, b, 1<<20); err != nil {
		return m, false, err
	}
	if !r.Next() {
		return m, false, r.Err()
	}
	rec := r.Record()
	if len(rec.Key) < 4 {
		return m, false, fmt.Errorf("%w: control record key of %d bytes", ErrCorrupt, len(rec.Key))
	}
	m.Type = ControlType(binary.BigEndian.Uint16(rec.Key[2:]))
	if m.Type != Abort && m.Type != Commit {
		return m, false, nil
	}
	if len(rec.Value) < 6 {
		return m, false, fmt.Errorf("%w: end marker of %d bytes", ErrCorrupt, len(rec.Value))
	}
	m.CoordinatorEpoch = int32(binary.BigEndian.Uint32(rec.Value[2:]))
	return m, true, nil
}
