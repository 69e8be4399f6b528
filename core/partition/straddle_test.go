package partition

import (
	"errors"
	"syscall"
	"testing"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// three is a batch of three records at an offset.
func three(t *testing.T, at int64, epoch int32) []byte {
	t.Helper()
	b := record.Batch(batchOf(t, 3))
	b.Patch(at, epoch)
	return b
}

// A leader whose records were deleted up to the middle of a batch gives the whole batch to a replica that begins anew: it is taken, and the log begins where the leader's does
// (KAFKA-6975).
func TestReplicaBeginsInTheMiddleOfABatch(t *testing.T) {
	disk := vfs.NewFault(vfs.NewMemory())
	x := newPair(t, disk)
	x.put()
	x.next(2, 2)
	if err := x.Restart(2, 5); err != nil {
		t.Fatal(err)
	}
	if err := x.AppendFetched(three(t, 2, 2), 2); !errors.Is(err, commitlog.ErrOffsetOutOfRange) {
		t.Errorf("a batch that ends where the log begins: %v", err)
	}
	remove := disk.Inject(vfs.Rule{Op: vfs.OpWrite, Path: ".log", Err: syscall.ENOSPC})
	if err := x.AppendFetched(three(t, 4, 2), 2); err == nil || x.HighWatermark() > x.Log().EndOffset() {
		t.Errorf("on a full disk: %v, watermark %d, end %d", err, x.HighWatermark(), x.Log().EndOffset())
	}
	remove()
	if err := x.Restart(2, 5); err != nil { // the leader has nothing below
		t.Fatal(err)
	}
	if err := x.AppendFetched(three(t, 4, 2), 2); err != nil {
		t.Fatal(err)
	}
	if start, end, hw := x.Log().StartOffset(), x.Log().EndOffset(), x.HighWatermark(); start != 5 || end != 7 || hw != 5 {
		t.Errorf("the log is from %d to %d, its watermark %d", start, end, hw)
	}
	if err := x.AppendFetched(three(t, 7, 2), 2); err != nil {
		t.Error(err)
	}
	if err := x.AppendFetched(three(t, 9, 2), 2); !errors.Is(err, commitlog.ErrOffsetOutOfRange) {
		t.Errorf("a batch over the end of a log that has records: %v", err)
	}
	if err := x.Learn(2, 10, 5); err != nil || x.HighWatermark() != 10 {
		t.Errorf("%v, watermark %d", err, x.HighWatermark())
	}
	x.next(1, 1)
	got, err := x.Read(ReadRequest{Offset: 5, Epoch: AnyEpoch, LastEpoch: -1, MaxBytes: 1 << 20, Replica: -1})
	if err != nil || got.LogStart != 5 {
		t.Fatal(err, got.LogStart)
	}
	defer got.Slice.Release()
	raw := make([]byte, got.Slice.Len)
	if _, err := got.Slice.File.ReadAt(raw, got.Slice.Pos); err != nil {
		t.Fatal(err)
	}
	if h, _, _, err := record.Next(raw); err != nil || h.BaseOffset != 4 {
		t.Errorf("a reader at 5 is given a batch at %d, %v", h.BaseOffset, err)
	}
}
