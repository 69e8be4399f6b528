package hublog

import (
	"errors"
	"reflect"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// decodedBytes is what a reader's client may decode before somebody polls: batches and the client's records of them. A fetch is
// bounded as it lies in the log, and there a few kilobytes can be many megabytes of zeros. It is what one batch of our own
// log may become at most. Whatever a log took can be read: the batch that goes beyond this is the last.
const decodedBytes = 256 << 20

var recordBytes = int64(reflect.TypeFor[kgo.Record]().Size())

// errLater is a batch that was not decoded because enough is. The client gives what lies before it in its partition, or this
// error where it would be the first, and fetches it again after the poll.
var errLater = errors.New("enough is decoded until the next poll")

// decoded counts for one client what it has decoded since the last poll that brought something. The client decodes the fetches of two
// nodes at a time, so at most twice decodedBytes and two batches are in memory.
type decoded struct {
	kgo.Decompressor
	most  int64
	bytes atomic.Int64
}

func newDecoded(most int64) *decoded {
	return &decoded{Decompressor: kgo.DefaultDecompressor(), most: most}
}

// options let the client count.
func (d *decoded) options() []kgo.Opt {
	return []kgo.Opt{kgo.WithDecompressor(d), kgo.WithHooks(d)}
}

// Decompress is called for compressed batches.
func (d *decoded) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if d.bytes.Load() >= d.most {
		return nil, errLater
	}
	out, err := d.Decompressor.Decompress(src, codec)
	d.bytes.Add(int64(cap(out)))
	return out, err
}

// OnFetchBatchRead is called when a batch's records have been made.
func (d *decoded) OnFetchBatchRead(_ kgo.BrokerMetadata, _ string, _ int32, m kgo.FetchBatchMetrics) {
	d.bytes.Add(int64(m.NumRecords) * recordBytes)
}

// polled begins anew once a poll has brought something. A poll that brought nothing says nothing of what is being decoded.
func (d *decoded) polled(f kgo.Fetches) {
	if f.NumRecords() > 0 {
		d.bytes.Store(0)
		return
	}
	f.EachError(func(_ string, _ int32, err error) {
		if errors.Is(err, errLater) {
			d.bytes.Store(0)
		}
	})
}
