package replica

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

func placementKey(n int) metadata.PartitionID {
	return metadata.PartitionID{Topic: uuid.NewSHA1(uuid.NameSpaceURL, []byte("t")), Number: int32(n)}
}

func openPlacement(t testing.TB, fsys vfs.FS) *Placement {
	t.Helper()
	p, err := OpenPlacement(fsys, "/data/log-placement", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestPlacement(t *testing.T) {
	disk := vfs.NewCrash()
	if err := errors.Join(disk.MkdirAll("/data", 0o755), disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	p := openPlacement(t, disk)
	if err := p.Put(placementKey(0), "a"); err == nil {
		t.Error("a line was written before Begin")
	}
	if err := p.Begin(map[metadata.PartitionID]string{placementKey(0): "a"}, true); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			if err := p.Put(placementKey(n), "b"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	after := openPlacement(t, disk.Crashed(nil))
	if !maps.Equal(after.at, p.at) || len(after.at) != 50 || after.Home(placementKey(0)) != "b" || after.Damaged() {
		t.Errorf("after a power cut: %d lines", len(after.at))
	}
	p.Drop(placementKey(7))
	if again := openPlacement(t, disk); again.Home(placementKey(7)) != "" || len(again.In("b")) != 49 {
		t.Errorf("%d lines, one of 7: %q", len(again.at), again.Home(placementKey(7)))
	}
}

// A line that is torn at the end is one that nobody waited for; a bad one in the middle makes the file one that may lack lines.
func TestPlacementDamage(t *testing.T) {
	line := func(n int) string { return placementLine(placementKey(n), "a") }
	bad := strings.Replace(line(1), " a ", " c ", 1)
	for name, c := range map[string]struct {
		text    string
		lines   int
		damaged bool
	}{
		"whole":  {placementHead + line(0) + line(1), 2, false},
		"torn":   {placementHead + line(0) + line(1)[:20], 1, false},
		"zeros":  {placementHead + line(0) + strings.Repeat("\x00", 90), 1, false},
		"middle": {placementHead + line(0) + bad + line(2), 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := vfs.NewMemory()
			if err := errors.Join(m.MkdirAll("/data", 0o755), vfs.WriteFile(m, "/data/log-placement", []byte(c.text), true)); err != nil {
				t.Fatal(err)
			}
			for _, sure := range []bool{false, true} {
				p := openPlacement(t, m)
				if len(p.at) != c.lines || p.Damaged() != c.damaged {
					t.Fatalf("%d lines, damaged %v", len(p.at), p.Damaged())
				}
				if err := errors.Join(p.Begin(p.at, sure), p.Put(placementKey(9), "z")); err != nil {
					t.Fatal(err)
				}
				again := openPlacement(t, m)
				if again.Home(placementKey(9)) != "z" || again.Damaged() != (c.damaged && !sure) {
					t.Errorf("sure %v: %v, damaged %v", sure, again.at, again.Damaged())
				}
				if c.lines++; sure {
					break
				}
			}
		})
	}
	if _, _, _, err := decodePlacement([]byte("something else")); !errors.Is(err, ErrPlacement) {
		t.Error(err)
	}
}

func TestPlacementThatCannotBeWritten(t *testing.T) {
	f := vfs.NewFault(vfs.NewMemory())
	if err := f.MkdirAll("/data", 0o755); err != nil {
		t.Fatal(err)
	}
	var failed error
	p, err := OpenPlacement(f, "/data/log-placement", false, func(err error) { failed = err })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Begin(nil, true); err != nil {
		t.Fatal(err)
	}
	remove := f.Inject(vfs.Rule{Op: vfs.OpWrite, Err: syscall.ENOSPC, Keep: 30})
	if err := p.Put(placementKey(0), "a"); !errors.Is(err, syscall.ENOSPC) || p.Home(placementKey(0)) != "" {
		t.Errorf("full: %v", err)
	}
	remove()
	if err := p.Put(placementKey(1), "a"); err != nil || openPlacement(t, f).Home(placementKey(1)) != "a" {
		t.Errorf("room again: %v", err)
	}
	remove = f.Inject(vfs.Rule{Op: vfs.OpSync, Err: syscall.EIO})
	if err := p.Put(placementKey(2), "a"); !errors.Is(err, syscall.EIO) || failed == nil || p.Home(placementKey(2)) != "" {
		t.Errorf("a failed sync: %v, told: %v", err, failed)
	}
	remove()
	if err := p.Put(placementKey(3), "a"); !errors.Is(err, syscall.EIO) {
		t.Errorf("a failed sync is final: %v", err)
	}
}

func FuzzPlacement(f *testing.F) {
	f.Add([]byte(placementHead + placementLine(placementKey(0), "a") + placementLine(placementKey(0), nowhere) + "x\n" + placementLine(placementKey(1), "b")))
	f.Add([]byte(placementHead))
	f.Fuzz(func(t *testing.T, b []byte) {
		at, _, _, err := decodePlacement(b)
		if err != nil {
			return
		}
		var lines []string
		for key, dir := range at {
			lines = append(lines, placementLine(key, dir))
		}
		slices.Sort(lines)
		again, whole, damaged, err := decodePlacement([]byte(placementHead + strings.Join(lines, "")))
		if err != nil || !whole || damaged || !maps.Equal(at, again) {
			t.Fatalf("%v does not survive: %v", at, err)
		}
		for _, l := range lines {
			if !bytes.Contains(b, []byte(strings.TrimSuffix(l, "\n"))) {
				t.Fatalf("%q was not there", l)
			}
		}
	})
}

// A start with 10,000 partitions in two directories.
func BenchmarkStart(b *testing.B) {
	for _, dirs := range []int{1, 2} {
		b.Run(fmt.Sprint(dirs), func(b *testing.B) {
			root := b.TempDir()
			if err := os.Mkdir(root+"/data", 0o755); err != nil {
				b.Fatal(err)
			}
			list := func() (l []*Dir) {
				for n := range dirs {
					d := dir(fmt.Sprint(n), nil)
					d.Path, d.Clean = fmt.Sprint(root, "/", n), true
					l = append(l, d)
				}
				return l
			}
			s := newShelfAt(b, root, list()...)
			s.create("x", 10_000)
			s.fill("x")
			s.restart(list()...) // what was open is closed
			for b.Loop() {
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				s.reopen(list()...)
			}
		})
	}
}
