package commitlog

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

func bigBatch(t testing.TB, size int) []byte {
	w := record.NewBuilder()
	value := make([]byte, 1000)
	for w.Size() < size-1100 {
		w.Append(1, nil, value)
	}
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			l := mustOpen(b, Options{Dir: filepath.Join(b.TempDir(), "t-0"), Durability: Relaxed, Syncer: NewSyncer(1, nil),
				Config: Config{SegmentBytes: 256 << 20, MaxBatchBytes: 2 << 20}})
			one := bigBatch(b, max(size, 1200))
			b.SetBytes(int64(len(one)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Append(one, 1, FromClient); err != nil {
					b.Fatal(err)
				}
				if l.Size() > 1<<30 { // keep it in the page cache
					b.StopTimer()
					if err := l.StartAt(l.EndOffset()); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			}
			b.StopTimer()
			if err := l.Destroy(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkInspect is what an append costs before it is written: the CRC, and the walk over the records.
func BenchmarkInspect(b *testing.B) {
	for _, size := range []int{100, 1000} {
		for codec := record.None; codec <= record.Zstd; codec++ {
			b.Run(fmt.Sprintf("%s/%dB", codec, size), func(b *testing.B) {
				w := record.NewBuilder()
				w.Attributes = record.Attributes(codec)
				value := make([]byte, size)
				for i := range value {
					value[i] = "0123456789abcdef"[i*i%97%16]
				}
				for i := 0; w.Size() < 16<<10; i++ {
					w.Append(int64(i), nil, value)
				}
				n := w.Size()
				one, err := w.Bytes()
				if err != nil {
					b.Fatal(err)
				}
				cfg := Config{}.withDefaults()
				var few [4]record.Header
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := inspect(few[:0], one, &cfg, FromClient, record.NoTimestamp, time.UnixMilli(1)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	l := mustOpen(b, Options{Dir: filepath.Join(b.TempDir(), "t-0"), Durability: Relaxed, Syncer: NewSyncer(1, nil), Config: Config{MaxBatchBytes: 2 << 20}})
	one := bigBatch(b, 16<<10)
	for range 8192 {
		if _, err := l.Append(one, 1, FromClient); err != nil {
			b.Fatal(err)
		}
	}
	for _, most := range []int{64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(most>>10, "KiB"), func(b *testing.B) {
			at, end, n := int64(0), l.EndOffset(), int64(0)
			b.ReportAllocs()
			for b.Loop() {
				s, err := l.Read(at, end, most, true)
				if err != nil {
					b.Fatal(err)
				}
				n += int64(s.Len)
				s.Release()
				if at += int64(s.Len/len(one)) * 15; at >= end-100 {
					at = 0
				}
			}
			b.SetBytes(n / int64(b.N))
		})
	}
	if err := l.Destroy(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSync is ADR 0001's measurement: one round makes n dirty files durable, each with 4 KiB more, by a pool of
// parallel fdatasyncs, or by one write and one fdatasync of a shared write-ahead log of the same bytes.
func BenchmarkSync(b *testing.B) {
	for _, n := range []int{1, 16, 256, 1000} {
		for _, parallel := range []int{1, 4, 16, 64} {
			b.Run(fmt.Sprintf("pool/files=%d/parallel=%d", n, parallel), func(b *testing.B) { syncPool(b, n, parallel) })
		}
		b.Run(fmt.Sprintf("wal/files=%d", n), func(b *testing.B) { syncShared(b, n) })
	}
}

func syncPool(b *testing.B, n, parallel int) {
	dir := b.TempDir()
	s := NewSyncer(parallel, nil)
	one := bigBatch(b, 4<<10)
	logs := make([]*Log, n)
	var round sync.WaitGroup
	for i := range logs {
		logs[i] = mustOpen(b, Options{Dir: filepath.Join(dir, fmt.Sprint("t-", i)), Syncer: s, Advanced: round.Done})
		round.Add(1)
		mustAppend(b, logs[i], one)
	}
	round.Wait()
	b.ResetTimer()
	for range b.N {
		round.Add(n)
		for _, l := range logs {
			mustAppend(b, l, one)
		}
		round.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "µs/round")
	b.StopTimer()
	for _, l := range logs {
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func syncShared(b *testing.B, n int) {
	dir := b.TempDir()
	f, err := vfs.Disk{}.OpenFile(filepath.Join(dir, "wal"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		b.Fatal(err)
	}
	one := bigBatch(b, 4<<10)
	data := make([]vfs.File, n)
	for i := range data {
		if data[i], err = (vfs.Disk{}).OpenFile(filepath.Join(dir, fmt.Sprint(i)), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	var pos int64
	b.ResetTimer()
	for i := range b.N {
		for k := range data { // every record is written twice: that is a shared log's price
			if _, err := f.WriteAt(one, pos); err != nil {
				b.Fatal(err)
			}
			pos += int64(len(one))
			if _, err := data[k].WriteAt(one, int64(i*len(one))); err != nil {
				b.Fatal(err)
			}
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "µs/round")
}
