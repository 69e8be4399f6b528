package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// TestDamageIsNamed is invariant 10: a flipped byte in what was synced is never cut away and never served.
func TestDamageIsNamed(t *testing.T) {
	for _, clean := range []bool{true, false} {
		o, ck := memoryLog(t, Config{SegmentBytes: 1 << 20})
		l := mustOpen(t, o)
		for range 20 {
			mustAppend(t, l, batch(t, ck.ms, []string{"some value", "another"}))
		}
		waitDurable(t, l)
		if clean {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		name := "/data/t-0/00000000000000000000.log"
		b, err := vfs.ReadFile(o.FS, name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		at := len(b)/20*7 + 80
		b[at] ^= 0x40
		put(t, o.FS, name, b)

		var report bytes.Buffer
		if err := Dump(&report, o.FS, "/data/t-0", true); !errors.Is(err, ErrCorrupt) || strings.Count(report.String(), ": DAMAGED") != 1 {
			t.Fatal(err, report.String())
		}
		l, err = Open(o)
		if clean { // nothing is scanned: it is found before it is served
			if err != nil {
				t.Fatal(err)
			}
			if s, err := l.Read(0, 40, len(b)/20*3, true); err != nil || s.Len == 0 {
				t.Fatal(err)
			}
			_, err = l.Read(10, 40, 1<<20, true)
		}
		var c *CorruptError
		if !errors.As(err, &c) || !errors.Is(err, ErrCorrupt) || c.File != name || c.Pos != int64(len(b)/20*7) {
			t.Fatalf("clean %v: %v", clean, err)
		}
	}
}

// TestDamagedPlaceIsNamed: no CRC covers a batch's base offset and leader epoch. A flipped bit of them is found before the batch is served, however the
// log is read; so it is when the batch is the first or the last one of the log or of a segment.
func TestDamagedPlaceIsNamed(t *testing.T) {
	o, ck := memoryLog(t, Config{SegmentBytes: 1000, IndexBytes: 300})
	l := mustOpen(t, o)
	for n := range int32(30) {
		if _, err := l.Append(batch(t, ck.ms, []string{"some value", "another"}), 3+n/10, FromClient); err != nil {
			t.Fatal(err)
		}
	}
	waitDurable(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	type spot struct {
		name string
		pos  int
		base int64
	}
	var spots []spot
	var bases []int64
	files := map[string][]byte{}
	want := map[int64]int32{}
	for _, s := range l.segs {
		b, err := vfs.ReadFile(o.FS, s.path(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		files[s.path()] = b
		bases = append(bases, s.base)
		for at := 0; at < len(b); {
			h, err := record.Parse(b[at:])
			if err != nil {
				t.Fatal(err)
			}
			spots, want[h.BaseOffset] = append(spots, spot{s.path(), at, h.BaseOffset}), h.LeaderEpoch
			at += h.Size()
		}
	}
	if len(l.segs) < 3 || len(spots) != 30 {
		t.Fatal(len(l.segs), "segments", len(spots), "batches")
	}
	for _, p := range spots {
		for bit := range 12 * 8 {
			at := bit / 8
			if at >= 8 {
				at += 4 // the length lies between them
			}
			b := bytes.Clone(files[p.name])
			b[p.pos+at] ^= 1 << (bit % 8)
			put(t, o.FS, p.name, b)
			losses, err := Repair{FS: o.FS, Dir: o.Dir, Quarantine: "/data/q", TruncateAt: -1}.Run(true)
			if err != nil || len(losses) != 1 || losses[0].First != p.base || losses[0].Last != p.base+1 {
				t.Fatalf("bit %d of batch %d: log repair finds %v, %v", bit, p.base, losses, err)
			}
			if _, _, cause, err := (SetBack{FS: o.FS, Dir: o.Dir}).look(t.Context(), bases, 0); err != nil || cause == nil {
				t.Fatalf("bit %d of batch %d: a repair finds %v, %v", bit, p.base, cause, err)
			}
			for _, most := range []int{1, 400, 1 << 20} {
				l := mustOpen(t, o)
				var err error
				for offset := int64(0); offset < 60 && err == nil; {
					var s Slice
					if s, err = l.Read(offset, 60, most, true); err != nil {
						break
					}
					if s.Len == 0 {
						t.Fatalf("bit %d of batch %d, at most %d: nothing at %d", bit, p.base, most, offset)
					}
					got := make([]byte, s.Len)
					if _, err := s.File.ReadAt(got, s.Pos); err != nil {
						t.Fatal(err)
					}
					s.Release()
					for len(got) > 0 {
						h, _, rest, nerr := record.Next(got)
						if epoch, ok := want[h.BaseOffset]; nerr != nil || !ok || h.BaseOffset != offset || h.LeaderEpoch != epoch {
							t.Fatalf("bit %d of batch %d, at most %d: offset %d of epoch %d was served at %d, %v", bit, p.base, most, h.BaseOffset, h.LeaderEpoch, offset, nerr)
						}
						offset, got = h.LastOffset()+1, rest
					}
				}
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("bit %d of batch %d, at most %d: %v", bit, p.base, most, err)
				}
				l.Abandon(ErrClosed)
			}
		}
		put(t, o.FS, p.name, files[p.name])
	}
}

// TestDamagedPlaceIsRepaired: where there is no other replica, forebay log repair takes out the batch whose place is damaged, and the log goes on.
func TestDamagedPlaceIsRepaired(t *testing.T) {
	for _, at := range []int{0, 7, 12, 15} {
		o, ck := memoryLog(t, Config{SegmentBytes: 1200})
		l := mustOpen(t, o)
		for i := range 40 {
			if _, err := l.Append(batch(t, ck.ms, []string{fmt.Sprint("value ", 2*i), fmt.Sprint("value ", 2*i+1)}), 3+int32(i/20), FromClient); err != nil {
				t.Fatal(err)
			}
		}
		waitDurable(t, l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		s := l.segs[1]
		b, err := vfs.ReadFile(o.FS, s.path(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		h, err := record.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		b[h.Size()+at] ^= 4
		put(t, o.FS, s.path(), b)
		losses, err := Repair{FS: o.FS, Dir: o.Dir, Quarantine: "/data/q", TruncateAt: -1}.Run(false)
		if err != nil || len(losses) != 1 {
			t.Fatalf("byte %d: %v, %v", at, losses, err)
		}
		surviving(t, o, func(offset int64) bool { return offset == s.base+2 || offset == s.base+3 }, 80)
	}
}

// TestIndexIsRebuilt: an index that is cut, torn or of another log is made again.
func TestIndexIsRebuilt(t *testing.T) {
	for _, suffix := range []string{indexSuffix, timeSuffix} {
		for _, how := range []string{"empty", "flipped", "gone", "zeros"} {
			o, ck := memoryLog(t, Config{SegmentBytes: 2000, IndexBytes: 100})
			l := mustOpen(t, o)
			for range 60 {
				mustAppend(t, l, batch(t, ck.ms, []string{"some value"}))
				ck.tick(10)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			name := segmentName("/data/t-0", l.segs[1].base, suffix)
			b, err := vfs.ReadFile(o.FS, name, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			switch how {
			case "empty":
				b = nil
			case "flipped":
				b[len(b)-3] ^= 1
			case "zeros":
				clear(b)
			}
			if put(t, o.FS, name, b); how == "gone" {
				if err := o.FS.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			l = mustOpen(t, o)
			if got := readAll(t, l); len(got) != 60 {
				t.Fatalf("%s %s: %d records", suffix, how, len(got))
			}
			for i := range int64(60) {
				if off, _, _, err := l.OffsetForTime(1_700_000_000_000 + 10*i); err != nil || off != i {
					t.Fatalf("%s %s: time of %d is at %d, %v", suffix, how, i, off, err)
				}
			}
		}
	}
}

// TestSliceOutlivesDelete: retention may take a segment while its bytes are being sent.
func TestSliceOutlivesDelete(t *testing.T) {
	o, ck := memoryLog(t, Config{SegmentBytes: 300})
	l := mustOpen(t, o)
	for range 20 {
		mustAppend(t, l, batch(t, ck.ms, []string{"some value"}))
	}
	waitDurable(t, l)
	s, err := l.Read(0, 20, 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.DeleteBefore(15); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(0, 20, 1<<20, true); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Fatal(err)
	}
	if _, err := s.File.ReadAt(make([]byte, s.Len), s.Pos); err != nil {
		t.Fatal(err)
	}
	s.Release()
	o.Syncer.Close() // it has the other end of it
	if _, err := s.File.ReadAt(make([]byte, 1), 0); err == nil {
		t.Fatal("the file of a deleted segment is still open")
	}
	l = mustOpen(t, o)
	if l.StartOffset() != 15 || l.EndOffset() != 20 {
		t.Fatal(l.StartOffset(), l.EndOffset())
	}
}

// TestRetention: by size and by age, below the high watermark only; the end offset stays when everything goes.
func TestRetention(t *testing.T) {
	o, ck := memoryLog(t, Config{SegmentBytes: 300, RetentionBytes: 700})
	l := mustOpen(t, o)
	for range 20 {
		mustAppend(t, l, batch(t, ck.ms, []string{"some value"}))
	}
	waitDurable(t, l)
	if err := maintain(l, 6); err != nil {
		t.Fatal(err)
	}
	if s := l.StartOffset(); s == 0 || s > 6 {
		t.Fatal(s)
	}
	if err := maintain(l, 20); err != nil {
		t.Fatal(err)
	}
	if n := l.Size(); n < 600 || n > 1100 {
		t.Fatal(n)
	}
	ck.tick(8 * 24 * 3600 * 1000)
	if err := maintain(l, 20); err != nil {
		t.Fatal(err)
	}
	if l.StartOffset() != 20 || l.EndOffset() != 20 || l.Size() != 0 {
		t.Fatal(l.StartOffset(), l.EndOffset(), l.Size())
	}
	for range 2 {
		l = mustOpen(t, o)
		if l.StartOffset() != 20 || l.EndOffset() != 20 {
			t.Fatal(l.StartOffset(), l.EndOffset())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l = mustOpen(t, o)
	if a := mustAppend(t, l, batch(t, ck.ms, []string{"next"})); a.Base != 20 {
		t.Fatal(a)
	}
}
