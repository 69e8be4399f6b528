package differential

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// epoch0 is the time of the records that scenarios write, in milliseconds: too long ago to be taken for now, and not long
// enough for retention.
var epoch0 = time.Now().Add(-24 * time.Hour).Truncate(time.Second).UnixMilli()

// batch is a RecordBatch of format 2 to be written, with what may be wrong about it.
type batch struct {
	n           int // records
	size        int // bytes of each value; 0: a short one
	pid         int64
	epoch       int16
	seq         int32
	attrs       int16 // beside the codec
	codec       int8
	ts          int64 // 0: epoch0
	key         bool
	leaderEpoch int32
	alter       func(*kmsg.RecordBatch) // before the CRC
	spoil       func([]byte) []byte     // after it
}

// plain is a batch of n records without a producer id.
func plain(n int) batch { return batch{n: n, pid: -1, epoch: -1, seq: -1} }

var codecs = []func() kgo.CompressionCodec{nil, kgo.GzipCompression, kgo.SnappyCompression, kgo.Lz4Compression, kgo.ZstdCompression}

func (b batch) bytes() []byte {
	ts := b.ts
	if ts == 0 {
		ts = epoch0
	}
	var records []byte
	for i := range b.n {
		value := fmt.Appendf(nil, "value %d", i)
		if b.size > 0 {
			value = make([]byte, b.size)
		}
		var key []byte
		if b.key {
			key = fmt.Appendf(nil, "key %d", i)
		}
		records = append(records, encodeRecord(i, key, value)...)
	}
	if int(b.codec) < len(codecs) && b.codec > 0 {
		z, err := kgo.DefaultCompressor(codecs[b.codec]())
		if err != nil {
			panic(err)
		}
		records, _ = z.Compress(new(bytes.Buffer), records)
	}
	rb := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: b.attrs | int16(b.codec), LastOffsetDelta: int32(b.n - 1),
		FirstTimestamp: ts, MaxTimestamp: ts + int64(max(0, b.n-1)), ProducerID: b.pid, ProducerEpoch: b.epoch, FirstSequence: b.seq,
		NumRecords: int32(b.n), Records: records,
	}
	if b.leaderEpoch != 0 {
		rb.PartitionLeaderEpoch = b.leaderEpoch
	}
	rb.Length = int32(49 + len(records))
	if b.alter != nil {
		b.alter(&rb)
	}
	raw := rb.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	if b.spoil != nil {
		raw = b.spoil(raw)
	}
	return raw
}

func encodeRecord(i int, key, value []byte) []byte {
	body := binary.AppendVarint([]byte{0}, int64(i)) // attributes, timestamp delta
	body = binary.AppendVarint(body, int64(i))       // offset delta
	for _, field := range [][]byte{key, value} {
		if field == nil {
			body = binary.AppendVarint(body, -1)
			continue
		}
		body = append(binary.AppendVarint(body, int64(len(field))), field...)
	}
	body = binary.AppendVarint(body, 0) // headers
	return append(binary.AppendVarint(nil, int64(len(body))), body...)
}

// legacy is a message set of magic 0 or 1.
func legacy(magic int8, n int) []byte {
	var out []byte
	for i := range n {
		body := []byte{byte(magic), 0}
		if magic == 1 {
			body = binary.BigEndian.AppendUint64(body, uint64(epoch0))
		}
		body = binary.BigEndian.AppendUint32(body, 0xffffffff) // no key
		body = append(binary.BigEndian.AppendUint32(body, 5), "value"...)
		out = binary.BigEndian.AppendUint64(out, uint64(i))
		out = binary.BigEndian.AppendUint32(out, uint32(len(body)+4))
		out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(body))
		out = append(out, body...)
	}
	return out
}
