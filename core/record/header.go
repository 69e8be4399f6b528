// Package record is Kafka's RecordBatch, format version 2 (KIP-98, "magic 2"): the
// one form in which records travel, lie on disk and are served again. It is the hot path: nothing here allocates
// per batch or per record, except where a doc comment says so.
//
//	 0 int64  base offset            \ patched by the broker: before
//	 8 int32  batch length (from 12)  | the bytes that the CRC covers
//	12 int32  partition leader epoch /
//	16 int8   magic = 2
//	17 uint32 CRC-32C of all that follows
//	21 int16  attributes: bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
//	23 int32  last offset delta
//	27 int64  base timestamp (ms), or the delete horizon when bit 6 is set (KIP-534)
//	35 int64  max timestamp (ms)
//	43 int64  producer id      51 int16 producer epoch      53 int32 base sequence
//	57 int32  record count     61 records, compressed as a whole
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Sizes and places in a batch.
const (
	HeaderSize = 61
	// Overhead is the part before the bytes that the batch length counts.
	Overhead = 12
	// MinLength is the length field of a batch without records.
	MinLength = HeaderSize - Overhead
	// Magic is the only format version that is stored.
	Magic = 2

	offBaseOffset    = 0
	offLength        = 8
	offLeaderEpoch   = 12
	offMagic         = 16
	offCRC           = 17
	offAttributes    = 21
	offLastDelta     = 23
	offBaseTimestamp = 27
	offMaxTimestamp  = 35
	offProducerID    = 43
	offProducerEpoch = 51
	offBaseSequence  = 53
	offCount         = 57
)

// What a field holds when it says nothing.
const (
	NoProducerID    int64 = -1
	NoProducerEpoch int16 = -1
	NoSequence      int32 = -1
	NoTimestamp     int64 = -1
)

// Errors that Parse, Check and the readers wrap; test with errors.Is.
var (
	ErrShort    = errors.New("batch is cut short")
	ErrMagic    = errors.New("unsupported message format")
	ErrCorrupt  = errors.New("corrupt record batch")
	ErrTooLarge = errors.New("decompressed batch is too large")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Attributes are a batch's flags.
type Attributes int16

// Bits of Attributes.
const (
	codecMask        Attributes = 0x07
	LogAppendTime    Attributes = 0x08
	Transactional    Attributes = 0x10
	Control          Attributes = 0x20
	HasDeleteHorizon Attributes = 0x40
	unusedAttributes Attributes = ^Attributes(0x7f)
	maxCodec                    = Zstd
)

// Codec is how the records are compressed.
func (a Attributes) Codec() Codec { return Codec(a & codecMask) }

// Transactional, Control, LogAppendTime and DeleteHorizon tell the flags.
func (a Attributes) Transactional() bool { return a&Transactional != 0 }
func (a Attributes) Control() bool       { return a&Control != 0 }
func (a Attributes) LogAppendTime() bool { return a&LogAppendTime != 0 }
func (a Attributes) DeleteHorizon() bool { return a&HasDeleteHorizon != 0 }

// Header is a batch's first 61 bytes.
type Header struct {
	BaseOffset      int64
	Length          int32 // of what follows the length field
	LeaderEpoch     int32
	Magic           int8
	CRC             uint32
	Attributes      Attributes
	LastOffsetDelta int32
	BaseTimestamp   int64
	MaxTimestamp    int64
	ProducerID      int64
	ProducerEpoch   int16
	BaseSequence    int32
	Count           int32
}

// Size is the bytes of the whole batch.
func (h *Header) Size() int { return Overhead + int(h.Length) }

// LastOffset is the last record's offset; it stays when compaction takes that record.
func (h *Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// LastSequence is the last record's sequence; sequences wrap from 2^31-1 to 0.
func (h *Header) LastSequence() int32 {
	if h.BaseSequence == NoSequence {
		return NoSequence
	}
	return AddSequence(h.BaseSequence, h.LastOffsetDelta)
}

// HasProducer tells whether the batch is an idempotent producer's or a marker.
func (h *Header) HasProducer() bool { return h.ProducerID >= 0 }

// AddSequence adds to a sequence, with the wrap at 2^31-1 to 0 (DefaultRecordBatch.incrementSequence).
func AddSequence(seq, n int32) int32 {
	if sum := int64(seq) + int64(n); sum > 1<<31-1 {
		return int32(sum - 1<<31)
	}
	return seq + n
}

// Parse reads the header at the start of b, which may be shorter than the batch,
// and refuses what cannot be a batch: ErrShort, ErrMagic, ErrCorrupt. It does not look at the CRC.
func Parse(b []byte) (h Header, err error) {
	if len(b) < HeaderSize {
		// An old message set is shorter; say what it is.
		if len(b) > offMagic && b[offMagic] < Magic {
			return h, fmt.Errorf("%w: magic %d", ErrMagic, b[offMagic])
		}
		return h, ErrShort
	}
	be := binary.BigEndian
	_ = b[HeaderSize-1]
	h = Header{
		BaseOffset:      int64(be.Uint64(b[offBaseOffset:])),
		Length:          int32(be.Uint32(b[offLength:])),
		LeaderEpoch:     int32(be.Uint32(b[offLeaderEpoch:])),
		Magic:           int8(b[offMagic]),
		CRC:             be.Uint32(b[offCRC:]),
		Attributes:      Attributes(be.Uint16(b[offAttributes:])),
		LastOffsetDelta: int32(be.Uint32(b[offLastDelta:])),
		BaseTimestamp:   int64(be.Uint64(b[offBaseTimestamp:])),
		MaxTimestamp:    int64(be.Uint64(b[offMaxTimestamp:])),
		ProducerID:      int64(be.Uint64(b[offProducerID:])),
		ProducerEpoch:   int16(be.Uint16(b[offProducerEpoch:])),
		BaseSequence:    int32(be.Uint32(b[offBaseSequence:])),
		Count:           int32(be.Uint32(b[offCount:])),
	}
	switch {
	case h.Magic != Magic && (h.Magic == 0 || h.Magic == 1):
		return h, fmt.Errorf("%w: magic %d", ErrMagic, h.Magic)
	case h.Magic != Magic:
		return h, fmt.Errorf("%w: magic %d", ErrCorrupt, h.Magic)
	case h.Length < MinLength:
		return h, fmt.Errorf("%w: batch length %d", ErrCorrupt, h.Length)
	case h.BaseOffset < 0 || h.LastOffsetDelta < 0 || h.BaseOffset+int64(h.LastOffsetDelta) < 0:
		return h, fmt.Errorf("%w: base offset %d, last offset delta %d", ErrCorrupt, h.BaseOffset, h.LastOffsetDelta)
	case h.Count < 0 || int64(h.Count) > int64(h.LastOffsetDelta)+1:
		return h, fmt.Errorf("%w: %d records, last offset delta %d", ErrCorrupt, h.Count, h.LastOffsetDelta)
	case h.Attributes.Codec() > maxCodec:
		return h, fmt.Errorf("%w: codec %d", ErrCorrupt, h.Attributes.Codec())
	}
	return h, nil
}
