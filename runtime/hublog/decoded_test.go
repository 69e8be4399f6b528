package hublog

import (
	"bytes"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestBatchesThatGrow: what is a few kilobytes in the log and much in memory is decoded a part at a time, one poll after the other, and all of it.
func TestBatchesThatGrow(t *testing.T) {
	const (
		size    = 64 << 10
		batches = 5
		most    = 2 * size
	)
	packer, err := kgo.DefaultCompressor(kgo.ZstdCompression())
	if err != nil {
		t.Fatal(err)
	}
	batch := func(at int64, records int) []byte {
		var plain []byte
		for i := range records {
			r := kmsg.Record{OffsetDelta: int32(i), Value: make([]byte, size/records)}
			r.Length = int32(len(r.AppendTo(nil)) - 1) // of a length of one byte
			plain = r.AppendTo(plain)
		}
		packed, codec := packer.Compress(new(bytes.Buffer), plain)
		b := kmsg.RecordBatch{FirstOffset: at, Magic: 2, Attributes: int16(codec), LastOffsetDelta: int32(records) - 1, NumRecords: int32(records),
			ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, Records: packed}
		b.Length = int32(len(b.AppendTo(nil)) - 12)
		return b.AppendTo(nil)
	}
	// Two partitions: of large records, and of many that take more as a client's records than as bytes.
	records := [2]int{1, 4096}
	d := newDecoded(most)
	var next [2]int64
	for polls := 0; next[0] < batches || next[1] < int64(batches*records[1]); polls++ {
		if polls > 2*batches {
			t.Fatalf("no end: %d", next)
		}
		var all kgo.FetchTopic
		for p, n := range records {
			rp := kmsg.FetchResponseTopicPartition{Partition: int32(p)}
			for at := next[p]; at < int64(batches*n); at += int64(n) {
				rp.RecordBatches = append(rp.RecordBatches, batch(at, n)...)
			}
			opts := kgo.ProcessFetchPartitionOpts{Offset: next[p], Partition: int32(p), DisableCRCValidation: true}
			fp, to := kgo.ProcessFetchPartition(opts, &rp, d, func(m kgo.FetchBatchMetrics) { d.OnFetchBatchRead(kgo.BrokerMetadata{}, "", 0, m) })
			if fp.Err != nil && !errors.Is(fp.Err, errLater) || int64(len(fp.Records)) != to-next[p] {
				t.Fatalf("%v, %d records up to %d", fp.Err, len(fp.Records), to)
			}
			next[p] = to
			all.Partitions = append(all.Partitions, fp)
		}
		if one := int64(2*size) + int64(records[1])*recordBytes; d.bytes.Load() > most+one {
			t.Fatalf("%d bytes at once, %d are the most", d.bytes.Load(), most+one)
		}
		d.polled(kgo.Fetches{{Topics: []kgo.FetchTopic{all}}})
	}
	// What brought nothing says nothing of what is being decoded.
	d.bytes.Store(most)
	if d.polled(kgo.NewErrFetch(errors.New("a deadline"))); d.bytes.Load() != most {
		t.Error("forgotten")
	}
	if d.polled(kgo.NewErrFetch(errLater)); d.bytes.Load() != 0 {
		t.Error("never decoded again")
	}
}
