package commitlog

import (
	"io"
	"os"
	"testing"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

func put(t testing.TB, f vfs.FS, name string, b []byte) {
	t.Helper()
	file, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err == nil {
		_, err = file.WriteAt(b, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// files gives the files of a small log, for the fuzzers to begin with.
func files(t testing.TB) map[string][]byte {
	o, ck := memoryLog(t, Config{SegmentBytes: 400, IndexBytes: 1})
	l := mustOpen(t, o)
	for i := range int32(6) {
		mustAppend(t, l, batch(t, ck.ms, []string{"a", "b"}, producerOf(1, 0, 2*i), inTxn))
	}
	if _, err := l.Append(record.EndTxn(1, 0, record.Marker{}, 1), 1, FromCoordinator); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	entries, err := o.FS.ReadDir(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := vfs.ReadFile(o.FS, o.Dir+"/"+e.Name(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = b
	}
	return all
}

// FuzzOpen: whatever one file of a log's folder holds, Open and reads give an error or a log that works, and never a panic.
func FuzzOpen(f *testing.F) {
	all := files(f)
	for name, b := range all {
		f.Add(name, b)
	}
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if _, known := all[name]; !known {
			return
		}
		disk := vfs.NewMemory()
		if err := disk.MkdirAll("/data/t-0", 0o755); err != nil {
			t.Fatal(err)
		}
		for other, content := range all {
			put(t, disk, "/data/t-0/"+other, content)
		}
		put(t, disk, "/data/t-0/"+name, b)
		l, err := Open(Options{FS: disk, Dir: "/data/t-0", Syncer: NewSyncer(1, nil)})
		if err != nil {
			return
		}
		_, _, _, _ = l.OffsetForTime(5)
		for from := l.StartOffset(); from < min(l.EndOffset(), l.StartOffset()+50); from++ {
			if s, err := l.Read(from, l.EndOffset(), 1000, true); err == nil {
				s.Release()
			}
		}
		_, _ = l.Append(batch(t, 1, []string{"x"}), 9, FromClient)
		_ = l.TruncateTo(l.EndOffset() / 2)
		_ = l.Close()
	})
}

// FuzzDump: Dump of anything ends, and does not panic.
func FuzzDump(f *testing.F) {
	for name, b := range files(f) {
		f.Add(name, b)
	}
	f.Add("00000000000000000000.swap", manifest{bases: []int64{0, 5}}.encode())
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		disk := vfs.NewMemory()
		if file, err := disk.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644); err == nil {
			if _, err := file.WriteAt(b, 0); err != nil {
				t.Fatal(err)
			}
			_ = Dump(io.Discard, disk, name, true)
		}
	})
}

// FuzzSwap opens a log beside any manifest of a swap that was under way.
func FuzzSwap(f *testing.F) {
	all := files(f)
	f.Add(manifest{bases: []int64{0}}.encode())
	f.Add(manifest{bases: []int64{0, 4}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		disk := vfs.NewMemory()
		if err := disk.MkdirAll("/data/t-0", 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range all {
			put(t, disk, "/data/t-0/"+name, content)
		}
		put(t, disk, segmentName("/data/t-0", 0, swapSuffix), b)
		put(t, disk, segmentName("/data/t-0", 0, cleanedSuffix), all[segmentName("", 0, logSuffix)[1:]])
		l, err := Open(Options{FS: disk, Dir: "/data/t-0", Syncer: NewSyncer(1, nil)})
		if err != nil {
			return
		}
		for from := l.StartOffset(); from < l.EndOffset(); from++ {
			if s, err := l.Read(from, l.EndOffset(), 1000, true); err == nil {
				s.Release()
			}
		}
		_ = l.Close() // whatever was there, it did not take the node with it
	})
}

// FuzzFollow appends what a leader might send, and opens the log again: it has what was appended.
func FuzzFollow(f *testing.F) {
	for _, b := range files(f) {
		f.Add(b)
	}
	f.Add(batch(f, 0, []string{"a"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, _ := memoryLog(t, Config{SegmentBytes: 1 << 20})
		l := mustOpen(t, o)
		_, err := l.Append(b, 9, FromLeader)
		if end := l.EndOffset(); err != nil && end != 0 {
			t.Errorf("refused, and the log ends at %d: %v", end, err)
		}
		end := l.EndOffset()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, o)
		defer func() { _ = l.Close() }()
		if l.EndOffset() != end {
			t.Errorf("ends at %d, after a restart at %d", end, l.EndOffset())
		}
		for from := l.StartOffset(); from < min(end, l.StartOffset()+50); from++ {
			if s, err := l.Read(from, end, 1000, true); err == nil {
				s.Release()
			}
		}
	})
}
