package tail

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A file that is not to be seen is not a file that is gone: its position stays
// (docs/postmortems/20261130-folder-that-was-not-there.md).

// looks are scans that are h's test's to time, each with a read.
func (h *hub) looks(n int) {
	h.t.Helper()
	for range n {
		h.scanned()
	}
}

// kept fails unless this many positions are there.
func (h *hub) kept(n int) {
	h.t.Helper()
	if len(h.positions) != n {
		h.t.Fatalf("%d positions, not %d: %v", len(h.positions), n, h.positions)
	}
}

// hide takes a folder away in one of the ways in which folders go, and gives back what brings it back.
func hide(t *testing.T, how, dir string) (back func()) {
	t.Helper()
	away := dir + ".away"
	must(t, os.Rename(dir, away))
	switch how {
	case "unreadable": // any error but "not there", as root too: a link to itself
		must(t, os.Symlink(dir, dir))
	case "empty":
		must(t, os.Mkdir(dir, 0o755))
	}
	return func() {
		if how != "absent" {
			must(t, os.Remove(dir))
		}
		must(t, os.Rename(away, dir))
	}
}

func TestFolderNotThereAtTheStart(t *testing.T) {
	for _, how := range []string{"absent", "unreadable", "empty"} {
		t.Run(how, func(t *testing.T) {
			dir := in(t.TempDir(), "logs")
			must(t, os.Mkdir(dir, 0o755))
			wait := "1ms"
			if how == "empty" { // it may be a folder whose files were deleted
				wait = "1h"
			}
			h := newHub(t, "paths", in(dir, "*.log"), "rotate_wait", wait)
			write(t, in(dir, "a.log"), "1\n2\n")
			write(t, in(dir, "b.log"), "3\n")
			h.start()
			h.until("three", func() bool { return len(h.records) == 3 })
			h.kill()
			back := hide(t, how, dir)
			h.start()
			h.looks(5)
			h.kill() // and once more
			h.start()
			h.looks(5)
			h.kept(2)
			back()
			write(t, in(dir, "a.log"), "4\n")
			h.until("the new line", func() bool { return len(h.records) == 4 })
			h.looks(5)
			if got := sorted(h.values()); got != "1 2 3 4" || h.records[3].offset != "4" {
				t.Fatalf("got %s, the last at %s", got, h.records[3].offset)
			}
		})
	}
}

func TestFolderNotThereWhileRunning(t *testing.T) {
	for _, how := range []string{"absent", "unreadable"} {
		for _, open := range []string{"1", "10"} {
			t.Run(how+" "+open, func(t *testing.T) {
				dir := in(t.TempDir(), "logs")
				must(t, os.Mkdir(dir, 0o755))
				h := newHub(t, "paths", in(dir, "*.log"), "rotate_wait", "1ms", "max_open", open)
				write(t, in(dir, "a.log"), "1\n2\n")
				write(t, in(dir, "b.log"), "3\n")
				h.start()
				h.until("three", func() bool { return len(h.records) == 3 })
				back := hide(t, how, dir)
				for range 5 {
					h.looks(1)
					h.read(2*time.Millisecond, false) // longer than rotate_wait
				}
				h.kept(2)
				back()
				write(t, in(dir, "a.log"), "4\n")
				h.until("the new line", func() bool { return len(h.records) == 4 })
				h.looks(5)
				if got := sorted(h.values()); got != "1 2 3 4" {
					t.Fatalf("got %s", got)
				}
				h.kept(2)
			})
		}
	}
}

// Where a folder above cannot be listed no glob finds the file, and under its name it is there.
func TestThereButNotListed(t *testing.T) {
	log := in(t.TempDir(), "a.log")
	h := newHub(t, "paths", log, "rotate_wait", "1ms")
	write(t, log, "1\n")
	h.start()
	h.expect("1")
	f, later := h.task.order[0], time.Now().Add(time.Hour)
	must(t, h.task.missing(f, time.Now())) // as a scan does that did not list it
	must(t, h.task.missing(f, later))
	if h.task.ahead(f, later) == moreNever {
		t.Fatal("a file under a name that matches is given up")
	}
}

// Devices are numbered anew by a start of the machine, and a mount may come later than Forebay.
func TestDeviceWithAnotherNumber(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("mounted late %v", late), func(t *testing.T) {
			dir := in(t.TempDir(), "logs")
			must(t, os.Mkdir(dir, 0o755))
			log := in(dir, "a.log")
			h := newHub(t, "paths", in(dir, "*.log"), "rotate_wait", "1ms")
			write(t, log, "1\n2\n")
			h.start()
			h.expect("1", "2")
			h.kill()
			for key, at := range h.positions {
				p, err := parsePosition(at)
				must(t, err)
				f := fileOf(p)
				f.id.dev += 1000
				delete(h.positions, key)
				h.positions[f.key()] = f.position()
			}
			back := func() {}
			if late {
				back = hide(t, "empty", dir)
			}
			h.start()
			for range 5 {
				h.looks(1)
				h.read(2*time.Millisecond, false) // longer than rotate_wait
			}
			h.kept(1)
			back()
			write(t, log, "3\n")
			h.expect("1", "2", "3")
			h.kept(1)
		})
	}
}

// What is kept for a file that is not there has an end.
func TestAbsentForLong(t *testing.T) {
	for how, wait := range map[string]time.Duration{"empty": time.Second, "absent": folderWait, "unreadable": hiddenWait} {
		t.Run(how, func(t *testing.T) {
			dir := in(t.TempDir(), "2026-11-30")
			must(t, os.Mkdir(dir, 0o755))
			h := newHub(t, "paths", in(dir, "*.log"), "rotate_wait", "1s")
			write(t, in(dir, "a.log"), "1\n")
			h.start()
			h.expect("1")
			h.kill()
			hide(t, how, dir)
			h.start()
			h.looks(3)
			h.kept(1)
			f := h.task.order[0]
			must(t, h.task.missing(f, f.away.Add(wait-1)))
			h.task.mark(h.batch)
			if !h.batch.Empty() {
				t.Fatal("forgotten too early")
			}
			must(t, h.task.missing(f, f.away.Add(wait)))
			h.looks(1)
			h.kept(0)
		})
	}
}

// A file that has no descriptor is given rotate_wait, too, when it is moved away.
func TestMovedAwayAndBack(t *testing.T) {
	dir := t.TempDir()
	other := t.TempDir()
	h := newHub(t, "paths", in(dir, "*.log"), "max_open", "1", "rotate_wait", "1h")
	write(t, in(dir, "a.log"), "1\n2\n")
	write(t, in(dir, "b.log"), "3\n")
	h.start()
	h.until("three", func() bool { return len(h.records) == 3 })
	for _, name := range []string{"a.log", "b.log"} { // one of them is closed
		must(t, os.Rename(in(dir, name), in(other, name)))
		h.looks(2)
		must(t, os.Rename(in(other, name), in(dir, name)))
		h.looks(2)
	}
	write(t, in(dir, "a.log"), "4\n")
	h.until("the new line", func() bool { return len(h.records) == 4 })
	h.looks(5)
	if got := sorted(h.values()); got != "1 2 3 4" {
		t.Fatalf("got %s", got)
	}
}

// An inode that comes back may be another file's: of the same length, but not of the same content.
func TestBackWithAnotherLife(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "a.log")
	h := newHub(t, "paths", in(dir, "*.log"), "max_open", "1", "rotate_wait", "1h")
	write(t, log, "1\n")
	h.start()
	h.expect("1")
	h.task.shut(h.task.order[0])
	must(t, os.Rename(log, log+"~"))
	must(t, os.Rename(log+"~", in(filepath.Dir(dir), "elsewhere")))
	h.looks(2)
	must(t, os.WriteFile(in(filepath.Dir(dir), "elsewhere"), []byte("2\n"), 0o644))
	must(t, os.Rename(in(filepath.Dir(dir), "elsewhere"), log))
	h.expect("1", "2")
}

// The log is deleted while nobody looks: its position waits, and what is written now does not.
func TestNewFileDoesNotWaitForOneThatIsGone(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", log, "rotate_wait", "1h")
	write(t, log, "1\n2\n")
	h.start()
	h.expect("1", "2")
	h.kill()
	must(t, os.Rename(log, in(t.TempDir(), "app.log")))
	write(t, log, "3\n")
	h.start()
	h.expect("1", "2", "3")
}

// What an audit cannot see it does not pass over.
func TestAuditOfAFolderThatCannotBeRead(t *testing.T) {
	dir := in(t.TempDir(), "logs")
	must(t, os.Mkdir(dir, 0o755))
	h := newHub(t, "paths", in(dir, "*.log"))
	write(t, in(dir, "a.log"), "1\n")
	h.start()
	h.expect("1")
	hide(t, "unreadable", dir)
	if _, err := h.src.AuditPoint(context.Background()); err == nil {
		t.Fatal("an audit point of a folder that cannot be read")
	}
}

// A log that begins as the one before did is another log, however short both are.
func TestNewFileBeginsAlike(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", log, "rotate_wait", "1h", "max_open", "1")
	write(t, log, "begin\n")
	h.start()
	h.expect("begin")
	h.task.shut(h.task.order[0])
	must(t, os.Rename(log, in(t.TempDir(), "app.log")))
	h.looks(2)
	write(t, log, "begin\n")
	h.looks(1)
	write(t, log, "2\n")
	h.expect("begin", "begin", "2")
}
