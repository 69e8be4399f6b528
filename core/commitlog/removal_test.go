package commitlog

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/vfs"
)

// slowRemovals is a disk that takes for ever to give back the room of a segment, until released: with its name, or when the last one closes it after that.
type slowRemovals struct {
	vfs.FS
	release chan struct{}

	mu    sync.Mutex
	files map[string]*slowFile
	waits int
	open  int
}

type slowFile struct {
	open int
	gone bool
}

type slowHandle struct {
	vfs.File
	disk *slowRemovals
	file *slowFile
}

func newSlowRemovals() *slowRemovals {
	return &slowRemovals{FS: vfs.NewMemory(), release: make(chan struct{}), files: map[string]*slowFile{}}
}

// change changes what is known of files, and waits if one of them is gone by that.
func (d *slowRemovals) change(fn func() *slowFile) {
	d.mu.Lock()
	f := fn()
	slow := f != nil && f.gone && f.open == 0
	if slow {
		d.waits++
	}
	d.mu.Unlock()
	if slow {
		<-d.release
	}
}

func (d *slowRemovals) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	file, err := d.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, logSuffix) {
		return file, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil {
		f = &slowFile{}
		d.files[name] = f
	}
	f.open++
	d.open++
	return &slowHandle{file, d, f}, nil
}

func (h *slowHandle) Close() error {
	err := h.File.Close()
	h.disk.change(func() *slowFile {
		h.file.open--
		h.disk.open--
		return h.file
	})
	return err
}

func (d *slowRemovals) unlinked(name string) {
	d.change(func() *slowFile {
		f := d.files[name]
		if f != nil {
			f.gone = true
			delete(d.files, name)
		}
		return f
	})
}

func (d *slowRemovals) Remove(name string) error {
	err := d.FS.Remove(name)
	if err == nil {
		d.unlinked(name)
	}
	return err
}

func (d *slowRemovals) Rename(from, to string) error {
	err := d.FS.Rename(from, to)
	if err == nil {
		d.unlinked(to)
	}
	return err
}

// TestRemovalHoldsNobodyUp: what the file system does to give back the room of segments is waited for by nobody: not by who removes them, not by appends, not by a log that takes their place.
func TestRemovalHoldsNobodyUp(t *testing.T) {
	for name, remove := range map[string]func(*Log) error{
		"DeleteBefore": func(l *Log) error { return l.DeleteBefore(l.EndOffset()) },
		"TruncateTo":   func(l *Log) error { return l.TruncateTo(2) },
		"StartAt":      func(l *Log) error { return l.StartAt(0) },
		"Clean":        func(l *Log) error { return l.Clean(l.EndOffset(), Cleaning{}) },
		"all": func(l *Log) error {
			for range 2 { // the second time there are files of these names that are not closed
				if err := l.Clean(l.EndOffset(), Cleaning{}); err != nil {
					return err
				}
				if err := l.DeleteBefore(l.EndOffset() - 1); err != nil {
					return err
				}
				if err := l.StartAt(0); err != nil {
					return err
				}
				for i := range 20 {
					if _, err := l.Append(keyed(t, 1000, "k", fmt.Sprint("old", i)), 1, FromClient); err != nil {
						return err
					}
				}
				l.syncer.forget(l)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk := newSlowRemovals()
			o, _ := memoryLog(t, Config{SegmentBytes: 200, Compact: true, Delete: true, MinDirtyRatio: 1e-9})
			o.FS = disk
			l := mustOpen(t, o)
			for i := range 20 {
				mustAppend(t, l, keyed(t, 1000, "k", fmt.Sprint(i)))
			}
			waitDurable(t, l)
			before := l.segs
			done := make(chan error, 1)
			go func() {
				err := remove(l)
				if err == nil {
					_, err = l.Append(keyed(t, 1000, "k", "new"), 1, FromClient)
				}
				l.syncer.forget(l)
				done <- err
			}()
			select {
			case err := <-done:
				mustDo(t, err)
			case <-time.After(20 * time.Second):
				t.Fatal("it waits for the room of what it has removed")
			}
			if !slices.ContainsFunc(before, func(s *segment) bool { return !slices.Contains(l.segs, s) }) {
				t.Fatal("nothing was removed")
			}
			want := fmt.Sprint(readAll(t, l))
			close(disk.release)
			mustDo(t, l.Close())
			o.Syncer.Close()
			if disk.open != 0 {
				t.Errorf("%d files are still open", disk.open)
			}
			if n := l.files.removed.Load(); n != 0 {
				t.Errorf("%d files are still to be closed", n)
			}
			l = mustOpen(t, o)
			if got := fmt.Sprint(readAll(t, l)); got != want {
				t.Errorf("after a restart %s, want %s", got, want)
			}
		})
	}
}

// Beyond the bound of Files a removed segment is not kept open.
func TestRemovalIsBounded(t *testing.T) {
	disk := newSlowRemovals()
	o, _ := memoryLog(t, Config{SegmentBytes: 200})
	o.FS, o.Files = disk, NewFiles(3)
	l := mustOpen(t, o)
	for i := range 20 {
		mustAppend(t, l, keyed(t, 1000, "k", fmt.Sprint(i)))
	}
	waitDurable(t, l)
	done := make(chan error, 1)
	go func() { done <- l.DeleteBefore(l.EndOffset()) }()
	for met := false; !met; {
		select {
		case err := <-done:
			t.Fatalf("nothing was waited for (%v)", err)
		default:
		}
		disk.mu.Lock()
		met = disk.waits == 2 // the one that is closed, and the fourth
		disk.mu.Unlock()
	}
	if n := l.files.removed.Load(); n != 3 {
		t.Errorf("%d removed files are open", n)
	}
	close(disk.release)
	mustDo(t, <-done)
	mustDo(t, l.Close())
}
