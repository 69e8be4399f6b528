package record

import (
	"encoding/binary"
	"fmt"
)

// Builder encodes a batch. NewBuilder's is uncompressed and of no producer; set the fields
// before Bytes. A Builder is for one goroutine.
type Builder struct {
	BaseOffset    int64
	LeaderEpoch   int32
	Attributes    Attributes // codec and flags
	ProducerID    int64
	ProducerEpoch int16
	BaseSequence  int32

	base    int64 // first record's timestamp
	max     int64
	last    int32
	count   int32
	records []byte
	out     []byte
}

// Reset empties the Builder, keeps its buffers, and makes it one of no producer.
func (w *Builder) Reset() {
	*w = Builder{
		ProducerID: NoProducerID, ProducerEpoch: NoProducerEpoch, BaseSequence: NoSequence,
		base: NoTimestamp, max: NoTimestamp, last: -1,
		records: w.records[:0], out: w.out[:0],
	}
}

// NewBuilder makes a Builder that is Reset.
func NewBuilder() *Builder {
	w := new(Builder)
	w.Reset()
	return w
}

// Count is the records so far; Size the bytes that they take uncompressed.
func (w *Builder) Count() int { return int(w.count) }
func (w *Builder) Size() int  { return HeaderSize + len(w.records) }

// Append adds a record with the next offset; ts is in ms. It copies what it is given.
// A nil key or value is null.
func (w *Builder) Append(ts int64, key, value []byte, headers ...RecordHeader) {
	if w.count == 0 {
		w.base = ts
	}
	n := 0
	for _, h := range headers {
		n += bytesLen(h.Key) + bytesLen(h.Value)
	}
	w.begin(ts, ts-w.base, w.last+1, key, value, len(headers), n)
	for _, h := range headers {
		w.records = appendBytes(w.records, h.Key)
		w.records = appendBytes(w.records, h.Value)
	}
}

// Copy adds a record of another batch with its offset delta, timestamp and headers. base is
// the timestamp that deltas count from (the first Copy or Append sets it otherwise).
func (w *Builder) Copy(r *Record, base int64) {
	if w.count == 0 {
		w.base = base
	}
	w.begin(r.Timestamp, r.Timestamp-w.base, r.OffsetDelta, r.Key, r.Value, int(r.HeaderCount), len(r.Headers))
	w.records = append(w.records, r.Headers...)
}

func (w *Builder) begin(ts, tsDelta int64, delta int32, key, value []byte, headers, headerBytes int) {
	size := 1 + VarintLen(tsDelta) + VarintLen(int64(delta)) + bytesLen(key) + bytesLen(value) + VarintLen(int64(headers)) + headerBytes
	b := AppendVarint(w.records, int64(size))
	b = append(b, 0)
	b = AppendVarint(b, tsDelta)
	b = AppendVarint(b, int64(delta))
	b = appendBytes(b, key)
	b = appendBytes(b, value)
	w.records = AppendVarint(b, int64(headers))
	w.max = max(w.max, ts)
	w.last = delta
	w.count++
}

// Span makes the batch reach to a last offset delta beyond its last record, as compaction needs.
func (w *Builder) Span(lastOffsetDelta int32) { w.last = max(w.last, lastOffsetDelta) }

// Times overrides the timestamps in the header: the base (or delete horizon) and the maximum.
func (w *Builder) Times(base, most int64) { w.base, w.max = base, most }

// Bytes finishes the batch. It is good until the next Reset.
func (w *Builder) Bytes() (Batch, error) {
	w.out = append(w.out[:0], make([]byte, HeaderSize)...)
	var err error
	codec := w.Attributes.Codec()
	if w.count == 0 {
		codec = None
		w.Attributes &^= codecMask
	}
	if w.out, err = compress(Compression{Codec: codec}, w.out, w.records); err != nil {
		return nil, fmt.Errorf("compress batch: %w", err)
	}
	b, be := w.out, binary.BigEndian
	be.PutUint64(b[offBaseOffset:], uint64(w.BaseOffset))
	be.PutUint32(b[offLength:], uint32(len(b)-Overhead))
	be.PutUint32(b[offLeaderEpoch:], uint32(w.LeaderEpoch))
	b[offMagic] = Magic
	be.PutUint16(b[offAttributes:], uint16(w.Attributes))
	be.PutUint32(b[offLastDelta:], uint32(max(w.last, 0)))
	be.PutUint64(b[offBaseTimestamp:], uint64(w.base))
	be.PutUint64(b[offMaxTimestamp:], uint64(w.max))
	be.PutUint64(b[offProducerID:], uint64(w.ProducerID))
	be.PutUint16(b[offProducerEpoch:], uint16(w.ProducerEpoch))
	be.PutUint32(b[offBaseSequence:], uint32(w.BaseSequence))
	be.PutUint32(b[offCount:], uint32(w.count))
	Batch(b).Seal()
	return b, nil
}

func bytesLen(v []byte) int {
	if v == nil {
		return 1
	}
	return VarintLen(int64(len(v))) + len(v)
}

func appendBytes(b, v []byte) []byte {
	if v == nil {
		return append(b, 1) // -1
	}
	return append(AppendVarint(b, int64(len(v))), v...)
}
