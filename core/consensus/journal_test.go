package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/forebayhub/forebay/internal/vfs"
)

func newStore(t testing.TB, fsys vfs.FS) *store {
	t.Helper()
	s, err := openStore(fsys, "/r", func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func entries(from, to int, size int) (list []*raft.Log) {
	for i := from; i <= to; i++ {
		list = append(list, &raft.Log{Index: uint64(i), Term: 3, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(i)}, size)})
	}
	return list
}

func span(t testing.TB, s *store) (lo, hi uint64) {
	t.Helper()
	lo, _ = s.FirstIndex()
	hi, _ = s.LastIndex()
	for i := lo; i <= hi && hi > 0; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil || l.Index != i || len(l.Data) > 0 && l.Data[0] != byte(i) {
			t.Fatalf("entry %d: %v %v", i, l.Index, err)
		}
	}
	return lo, hi
}

func TestStoreKeepsWhatRaftGivesIt(t *testing.T) {
	disk := vfs.NewMemory()
	if err := disk.MkdirAll("/r", 0o755); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, disk)
	steps := []struct {
		do     func() error
		lo, hi uint64
	}{
		{func() error { return s.StoreLogs(entries(1, 10, 5)) }, 1, 10},
		{func() error { return s.DeleteRange(8, 10) }, 1, 7},
		{func() error { return s.StoreLogs(entries(8, 9, 0)) }, 1, 9},
		{func() error { return s.DeleteRange(1, 4) }, 5, 9},
		{func() error { return s.DeleteRange(5, 9) }, 0, 0},
		{func() error { return s.StoreLogs(entries(100, 101, 5)) }, 100, 101},
		{func() error { return s.SetUint64([]byte("term"), 7) }, 100, 101},
	}
	for n, st := range steps {
		if err := st.do(); err != nil {
			t.Fatal(n, err)
		}
		for range 2 { // as it is, and reopened
			if lo, hi := span(t, s); lo != st.lo || hi != st.hi {
				t.Fatalf("step %d: %d to %d, want %d to %d", n, lo, hi, st.lo, st.hi)
			}
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			s = newStore(t, disk)
		}
	}
	if v, err := s.GetUint64([]byte("term")); v != 7 || err != nil {
		t.Error(v, err)
	}
	if v, err := s.Get([]byte("none")); len(v) != 0 || err != nil {
		t.Error(v, err)
	}
	if err := s.StoreLogs(entries(200, 200, 1)); err == nil {
		t.Error("a gap was stored")
	}
	var l raft.Log
	if err := s.GetLog(1, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Error(err)
	}
}

// behind95 goes on with a store that has entries 96 to 100, and gives the one of the next start, which has them.
func behind95(t *testing.T, s *store, disk vfs.FS) *store {
	t.Helper()
	if err := s.StoreLogs(entries(101, 102, 10)); err != nil {
		t.Fatal(err)
	}
	_ = s.close()
	s = newStore(t, disk)
	if lo, hi := span(t, s); lo != 96 || hi != 102 {
		t.Errorf("%d to %d", lo, hi)
	}
	return s
}

func TestJournalIsCompacted(t *testing.T) {
	disk := vfs.NewMemory()
	if err := disk.MkdirAll("/r", 0o755); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, disk)
	if err := s.SetUint64([]byte("term"), 9); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 100; n += 10 {
		if err := s.StoreLogs(entries(n, n+9, 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteRange(1, 95); err != nil {
		t.Fatal(err)
	}
	info, err := disk.Stat("/r/journal")
	if err != nil || info.Size() > 1<<20 {
		t.Fatalf("%d bytes after the compaction, %v", info.Size(), err)
	}
	s = behind95(t, s, disk)
	if v, _ := s.GetUint64([]byte("term")); v != 9 {
		t.Error("the term is lost")
	}
}

// Whatever the last frame's bytes became, what was synced before it is there.
func TestTornTailIsCut(t *testing.T) {
	whole := vfs.NewMemory()
	if err := whole.MkdirAll("/r", 0o755); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, whole)
	if err := s.StoreLogs(entries(1, 3, 50)); err != nil {
		t.Fatal(err)
	}
	kept := s.j.end
	if err := s.StoreLogs(entries(4, 6, 50)); err != nil {
		t.Fatal(err)
	}
	full := make([]byte, s.j.end) // without the room behind it
	if _, err := s.j.file.ReadAt(full, 0); err != nil {
		t.Fatal(err)
	}
	for cut := kept; cut < int64(len(full)); cut += 7 {
		for _, zeros := range []int{0, 30} { // a file may have grown before its bytes came
			b := append(bytes.Clone(full[:cut]), make([]byte, zeros)...)
			disk := vfs.NewMemory()
			_ = disk.MkdirAll("/r", 0o755)
			write(t, disk, "/r/journal", b)
			s := newStore(t, disk)
			if lo, hi := span(t, s); lo != 1 || hi != 3 {
				t.Fatalf("cut at %d: %d to %d", cut, lo, hi)
			}
			if err := s.StoreLogs(entries(4, 4, 10)); err != nil {
				t.Fatal(err)
			}
			_ = s.close()
			if _, hi := span(t, newStore(t, disk)); hi != 4 {
				t.Fatalf("cut at %d: what came after is lost", cut)
			}
		}
	}
}

func write(t testing.TB, fsys vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}

// syncFails makes every later sync fail.
var syncFails = vfs.Rule{Op: vfs.OpSync, Err: errors.New("the disk is gone")}

func FuzzJournal(f *testing.F) {
	disk := vfs.NewMemory()
	_ = disk.MkdirAll("/r", 0o755)
	s := newStore(f, disk)
	_ = s.StoreLogs(entries(1, 3, 5))
	_ = s.Set([]byte("k"), []byte("v"))
	_ = s.DeleteRange(1, 1)
	b := make([]byte, s.j.end)
	if _, err := s.j.file.ReadAt(b, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(b[journalHeader:], []byte{opEntry, 1, 1, 0, 0, 0, 0})
	f.Add([]byte{}, []byte{opDelete, 1, 200})
	f.Fuzz(func(t *testing.T, raw, payload []byte) {
		disk := vfs.NewMemory()
		_ = disk.MkdirAll("/r", 0o755)
		b := append([]byte(journalMagic), journalVersion)
		write(t, disk, "/r/journal", append(appendFrame(b, 1, payload), raw...))
		s, err := openStore(disk, "/r", func(error) {})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		_ = s.Set([]byte("a"), []byte("b"))
		if s2, err := openStore(disk, "/r", func(error) {}); err != nil {
			t.Fatal("opened once, not twice:", err)
		} else if fmt.Sprint(len(s2.entries)) != fmt.Sprint(len(s.entries)) {
			t.Fatal("other entries at the second look")
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	f.Add([]byte("FBRAFTS\x01\x00\x00\x00\x02{}data0000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := decodeSnapshot(b); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatal(err)
		}
	})
}

func TestJournalHasRoomOnAFullDisk(t *testing.T) {
	disk := vfs.NewMemory()
	if err := disk.MkdirAll("/r", 0o755); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, disk)
	disk.SetCapacity(1)
	for n := range uint64(100) {
		if err := s.SetUint64([]byte("term"), n+1); err != nil {
			t.Fatal(n, err)
		}
	}
	_ = s.close()
	s = newStore(t, disk)
	if v, _ := s.GetUint64([]byte("term")); v != 100 {
		t.Error(v)
	}
	if err := s.SetUint64([]byte("term"), 101); err != nil {
		t.Error(err)
	}
}

// Commands do not take the room in which a node on a full disk votes: at the next election it would end, and at each start that meets one.
func TestCommandsLeaveRoomForVotes(t *testing.T) {
	disk := vfs.NewMemory()
	s, ended := endingStore(t, disk)
	disk.SetCapacity(disk.Used())
	next, err := 1, error(nil)
	for ; err == nil && next < 10_000; next++ {
		err = s.StoreLogs(entries(next, next, 100))
	}
	if !errors.Is(err, syscall.ENOSPC) || next < 100 {
		t.Fatalf("%d commands, %v", next, err)
	}
	next--
	if err := s.StoreLogs(entries(next, next+9, 20<<10)); !errors.Is(err, syscall.ENOSPC) {
		t.Error("a large one:", err)
	}
	for n := range uint64(100) {
		if err := s.SetUint64([]byte("term"), n+1); err != nil {
			t.Fatal(n, err)
		}
	}
	if err := s.StoreLog(&raft.Log{Index: uint64(next), Term: 1, Type: raft.LogNoop}); err != nil {
		t.Error("what a new leader begins with:", err)
	}
	if err := s.DeleteRange(1, 50); err != nil || *ended > 0 {
		t.Errorf("%v, ended %d times", err, *ended)
	}
	disk.SetCapacity(1 << 30)
	if err := s.StoreLogs(entries(next+1, next+10, 200<<10)); err != nil {
		t.Error("with room again:", err)
	}
}

// Whenever the disk fills, there is room for some commands: that a node is registered, or fenced, or that ISRs change.
func TestThereIsRoomForCommandsOnAFullDisk(t *testing.T) {
	for before := 0; before < 1200; before += 40 { // more than the journal grows by
		disk := vfs.NewMemory()
		s, _ := endingStore(t, disk)
		for n := 1; n <= before; n++ {
			if err := s.StoreLogs(entries(n, n, 100)); err != nil {
				t.Fatal(err)
			}
		}
		disk.SetCapacity(disk.Used())
		for n := before + 1; n <= before+100; n++ {
			if err := s.StoreLogs(entries(n, n, 100)); err != nil {
				t.Fatalf("the disk is full behind %d commands, and there was room for %d: %v", before, n-before-1, err)
			}
		}
	}
}

// A journal is written anew to be shorter, which it need not be: where that finds no room or no descriptor, the old one goes on.
func TestCompactionOfTheJournalThatFails(t *testing.T) {
	for name, rule := range map[string]vfs.Rule{
		"no descriptor":            {Op: vfs.OpOpen, Path: "journal.new", Err: syscall.EMFILE},
		"no room":                  {Op: vfs.OpWrite, Path: "journal.new", Err: syscall.ENOSPC},
		"not synced":               {Op: vfs.OpSync, Path: "journal.new", Err: syscall.EIO},
		"no descriptor at the end": {Op: vfs.OpSyncDir, Count: 1, Err: syscall.EMFILE},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewFault(vfs.NewMemory())
			if err := disk.MkdirAll("/r", 0o755); err != nil {
				t.Fatal(err)
			}
			s := newStore(t, disk)
			for n := 1; n <= 100; n += 10 {
				if err := s.StoreLogs(entries(n, n+9, 100<<10)); err != nil {
					t.Fatal(err)
				}
			}
			_ = s.close()
			s = newStore(t, disk) // or the file is still known by the name under which it was made
			heal := disk.Inject(rule)
			if err := s.DeleteRange(1, 95); err != nil {
				t.Error(err)
			}
			heal()
			behind95(t, s, disk)
		})
	}
}

// A node whose journal has failed ends: as a follower it would answer heartbeats, and have the metadata of that moment for ever. Want of room passes.
func TestAJournalThatHasFailedEndsTheNode(t *testing.T) {
	for name, c := range map[string]struct {
		rule vfs.Rule
		ends int
	}{
		"not synced":  {vfs.Rule{Op: vfs.OpSync, Err: syscall.EIO}, 1},
		"not written": {vfs.Rule{Op: vfs.OpWrite, Err: syscall.EIO}, 1},
		"read-only":   {vfs.Rule{Op: vfs.OpWrite, Err: syscall.EROFS}, 1},
		"no room":     {vfs.Rule{Op: vfs.OpWrite, Err: syscall.ENOSPC}, 0},
		"no quota":    {vfs.Rule{Op: vfs.OpWrite, Err: syscall.EDQUOT}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewFault(vfs.NewMemory())
			s, ended := endingStore(t, disk)
			if err := s.StoreLogs(entries(1, 3, 10)); err != nil {
				t.Fatal(err)
			}
			heal := disk.Inject(c.rule)
			if err := s.StoreLogs(entries(4, 4, 10)); err == nil || *ended != c.ends {
				t.Errorf("%v, ended %d times", err, *ended)
			}
			heal()
			if err := s.StoreLogs(entries(4, 4, 10)); (err == nil) != (c.ends == 0) || *ended != c.ends {
				t.Errorf("afterwards: %v, ended %d times", err, *ended)
			}
		})
	}
}

// endingStore counts how often the node is told to end.
func endingStore(t *testing.T, disk vfs.FS) (*store, *int) {
	t.Helper()
	if err := disk.MkdirAll("/r", 0o755); err != nil {
		t.Fatal(err)
	}
	ended := 0
	s, err := openStore(disk, "/r", func(error) { ended++ })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s, &ended
}

// After a snapshot from the leader raft goes on behind it whether the entries before could be removed or not. Where there was no room for that they go with
// the first that comes; a gap for which there is no such reason ends the node.
func TestEntriesBehindASnapshot(t *testing.T) {
	disk := vfs.NewFault(vfs.NewMemory())
	s, ended := endingStore(t, disk)
	if err := s.StoreLogs(entries(1, 3, 10)); err != nil {
		t.Fatal(err)
	}
	heal := disk.Inject(vfs.Rule{Op: vfs.OpWrite, Err: syscall.ENOSPC})
	if err := s.DeleteRange(1, 3); err == nil {
		t.Fatal("there was room")
	}
	if err := s.StoreLogs(entries(8, 9, 10)); err == nil || *ended > 0 {
		t.Fatalf("%v, ended %d times", err, *ended)
	}
	heal()
	if err := s.StoreLogs(entries(8, 9, 10)); err != nil || *ended > 0 {
		t.Fatalf("%v, ended %d times", err, *ended)
	}
	for _, s := range []*store{s, newStore(t, disk)} {
		if lo, hi := span(t, s); lo != 8 || hi != 9 {
			t.Errorf("%d to %d", lo, hi)
		}
	}
	if err := s.StoreLogs(entries(12, 12, 10)); err == nil || *ended != 1 {
		t.Errorf("a gap: %v, ended %d times", err, *ended)
	}
}

// What a start finds in the journal is durable from then on, for raft counts it: the process before may have been killed before the sync of its last
// frame, or of the folder.
func TestWhatAStartFindsIsDurable(t *testing.T) {
	disk := vfs.NewCrash()
	faults := vfs.NewFault(disk)
	s, _ := endingStore(t, faults)
	if err := disk.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLogs(entries(1, 3, 10)); err != nil {
		t.Fatal(err)
	}
	faults.Inject(vfs.Rule{Op: vfs.OpSync, Err: syscall.EIO})
	if err := s.StoreLogs(entries(4, 4, 10)); err == nil {
		t.Fatal("a sync that fails is no error")
	}
	if _, hi := span(t, newStore(t, disk)); hi != 4 {
		t.Fatalf("the next process has up to %d", hi)
	}
	if _, hi := span(t, newStore(t, disk.Crashed(nil))); hi != 4 {
		t.Errorf("after a power cut there is up to %d: an entry that was counted is gone", hi)
	}

	// A compaction that was renamed into place, and no more.
	disk = vfs.NewCrash()
	s, _ = endingStore(t, disk)
	if err := disk.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLogs(entries(1, 100, 10)); err != nil {
		t.Fatal(err)
	}
	renamed := vfs.NewFault(disk)
	renamed.Inject(vfs.Rule{Op: vfs.OpSyncDir, Err: syscall.EIO})
	if _, placed, err := createJournal(renamed, "/r", nil); !placed || err == nil {
		t.Fatal(placed, err)
	}
	if err := newStore(t, disk).StoreLogs(entries(1, 2, 10)); err != nil {
		t.Fatal(err)
	}
	if _, hi := span(t, newStore(t, disk.Crashed(nil))); hi != 2 {
		t.Errorf("after a power cut there is up to %d, not 2", hi)
	}
}
