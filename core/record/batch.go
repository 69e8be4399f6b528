package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Batch is the bytes of one whole batch. The slice belongs to whoever made it.
type Batch []byte

// Next takes the first batch off b: for h, batch, rest, err := Next(b); len(b) > 0.
// A batch that b holds only the beginning of is ErrShort. The CRC is not looked at.
func Next(b []byte) (h Header, batch Batch, rest []byte, err error) {
	h, err = Parse(b)
	if err != nil {
		return h, nil, b, err
	}
	n := h.Size()
	if n > len(b) {
		return h, nil, b, ErrShort
	}
	return h, Batch(b[:n:n]), b[n:], nil
}

// Checksum is the CRC-32C that the batch should carry.
func (b Batch) Checksum() uint32 { return crc32.Checksum(b[offAttributes:], castagnoli) }

// Check compares the CRC of a batch that Next gave.
func (b Batch) Check() error {
	want := binary.BigEndian.Uint32(b[offCRC:])
	if got := b.Checksum(); got != want {
		return fmt.Errorf("%w: CRC is %08x, should be %08x", ErrCorrupt, got, want)
	}
	return nil
}

// Patch writes the base offset and the leader epoch. They lie before the bytes that the CRC covers.
func (b Batch) Patch(baseOffset int64, leaderEpoch int32) {
	binary.BigEndian.PutUint64(b[offBaseOffset:], uint64(baseOffset))
	binary.BigEndian.PutUint32(b[offLeaderEpoch:], uint32(leaderEpoch))
}

// PatchAppendTime makes ts (ms) the time of every record, as message.timestamp.type=LogAppendTime
// asks, and writes the new CRC.
func (b Batch) PatchAppendTime(ts int64) {
	a := Attributes(binary.BigEndian.Uint16(b[offAttributes:])) | LogAppendTime
	binary.BigEndian.PutUint16(b[offAttributes:], uint16(a))
	binary.BigEndian.PutUint64(b[offMaxTimestamp:], uint64(ts))
	b.Seal()
}

// PatchMaxTimestamp makes most (ms) the header's highest timestamp, which a client may have got wrong, and writes the new CRC.
func (b Batch) PatchMaxTimestamp(most int64) {
	binary.BigEndian.PutUint64(b[offMaxTimestamp:], uint64(most))
	b.Seal()
}

// Seal writes the CRC.
func (b Batch) Seal() { binary.BigEndian.PutUint32(b[offCRC:], b.Checksum()) }
