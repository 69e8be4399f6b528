package vfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func write(t *testing.T, f FS, name, content string, sync bool) {
	t.Helper()
	file, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteAt([]byte(content), 0)
	if err == nil && sync {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, f FS, name string) string {
	t.Helper()
	b, err := ReadFile(f, name, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSame runs the same steps on the disk and in memory.
func TestSame(t *testing.T) {
	for name, f := range map[string]FS{"disk": Disk{}, "memory": NewMemory(), "fault": NewFault(NewCrash())} {
		t.Run(name, func(t *testing.T) {
			dir := "/d"
			if name == "disk" {
				dir = t.TempDir()
			}
			sub := filepath.Join(dir, "a/b")
			if err := MkdirAllSync(f, sub, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, f, sub+"/x", "hello", true)
			if err := f.Rename(sub+"/x", sub+"/y"); err != nil {
				t.Fatal(err)
			}
			if err := WriteFile(f, sub+"/y", []byte("other"), true); err != nil {
				t.Fatal(err)
			}
			if got := content(t, f, sub+"/y"); got != "other" {
				t.Fatal(got)
			}
			list, err := f.ReadDir(sub)
			if err != nil || len(list) != 1 || list[0].Name() != "y" {
				t.Fatal(list, err)
			}
			if err := f.Remove(sub); err == nil {
				t.Fatal("a full folder was removed")
			}
			_, err = f.OpenFile(sub+"/y", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
			if !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
			if _, err := f.Stat(sub + "/none"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			lock, err := f.Lock(dir + "/lock")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Lock(dir + "/lock"); !errors.Is(err, ErrLocked) {
				t.Fatal(err)
			}
			if err := lock.Close(); err != nil {
				t.Fatal(err)
			}
			if free, total, err := f.Usage(dir + "/not/there"); err != nil || free == 0 || total < free {
				t.Fatal(free, total, err)
			}
			if err := f.RemoveAll(dir + "/a"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestCrashed(t *testing.T) {
	m := NewCrash()
	if err := m.MkdirAll("/d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	write(t, m, "/d/synced", "old", true)
	if err := m.SyncDir("/d"); err != nil {
		t.Fatal(err)
	}
	write(t, m, "/d/synced", "new and longer", false)
	write(t, m, "/d/unnamed", "content is synced, the name is not", true)
	if err := m.Rename("/d/synced", "/d/renamed"); err != nil {
		t.Fatal(err)
	}
	c := m.Crashed(nil)
	for name, want := range map[string]string{"/d/synced": "old", "/d/unnamed": "(none)", "/d/renamed": "(none)"} {
		if got := content(t, c, name); got != want {
			t.Fatalf("%s: %q, want %q", name, got, want)
		}
	}
	if got := content(t, m, "/d/renamed"); got != "new and longer" {
		t.Fatal(got)
	}
	seen := map[string]bool{}
	for seed := range uint64(200) {
		c := m.Crashed(rand.New(rand.NewPCG(seed, 0)))
		before, after := content(t, c, "/d/synced"), content(t, c, "/d/renamed")
		if (before == "(none)") == (after == "(none)") {
			t.Fatalf("a rename was torn: %q and %q", before, after)
		}
		seen[before+after] = true
	}
	if !seen["old(none)"] || !seen["new and longer(none)"] || !seen["(none)old"] || !seen["(none)new and longer"] {
		t.Fatal(seen)
	}
}

func TestCapacity(t *testing.T) {
	m := NewMemory()
	m.SetCapacity(10)
	f, err := m.OpenFile("/x", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.WriteAt(make([]byte, 12), 0); n != 10 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(n, err)
	}
	if err := f.Truncate(4); err != nil {
		t.Fatal(err)
	}
	if n, err := f.WriteAt(make([]byte, 6), 4); n != 6 || err != nil {
		t.Fatal(n, err)
	}
}

func TestFault(t *testing.T) {
	f := NewFault(NewMemory())
	remove := f.Inject(Rule{Op: OpWrite, Path: "*.log", After: 1, Count: 1, Err: syscall.EIO, Keep: 2})
	file, err := f.OpenFile("/a.log", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{4, 2, 4} {
		if n, err := file.WriteAt([]byte("abcd"), 0); n != want || (err != nil) != (i == 1) {
			t.Fatal(i, n, err)
		}
	}
	remove()
}
