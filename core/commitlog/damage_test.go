package commitlog

import (
	"bytes"
	"errors"
	"strings"
	"testing"

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
