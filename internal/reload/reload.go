// Package reload keeps a value that was made from files, and makes it anew when they change: certificates and keys are
// replaced while a node runs, and nobody has to tell it so.
package reload

import (
	"io/fs"
	"os"
	"sync"
	"time"
)

// Every is how often the files are looked at, at most: by whoever asks for the value, in his own time.
const Every = time.Second

// settled is the age from which a file's time says that it has not changed since it was read. A younger one may be
// written again within a tick of the file system's clock; it is read again.
const settled = 2 * time.Second

// Value is made from files. Its methods may be called concurrently.
type Value[T any] struct {
	paths  []string
	load   func() (T, error)
	failed func(error)

	mu     sync.Mutex
	value  T
	stamps []stamp
	looked time.Time
	broken string // what was told last, so that it is told once
}

// stamp is what tells one content of a file from the next.
type stamp struct {
	info  fs.FileInfo // nil: there is none
	young bool
}

// New makes the value for the first time. Once it is made, files that are no good leave the old value in place, and failed is told.
func New[T any](paths []string, load func() (T, error), failed func(error)) (*Value[T], error) {
	v := &Value[T]{paths: paths, load: load, failed: failed}
	v.looked = time.Now()
	v.stamps = v.look(v.looked)
	var err error
	v.value, err = load()
	return v, err
}

// Get is the value as the files have it, or had it Every ago.
func (v *Value[T]) Get() T {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	if now.Sub(v.looked) < Every {
		return v.value
	}
	v.looked = now
	stamps := v.look(now) // before they are read: what changes meanwhile is seen the next time
	if same(v.stamps, stamps) {
		return v.value
	}
	v.stamps = stamps
	fresh, err := v.load()
	if err != nil {
		if v.broken != err.Error() {
			v.broken = err.Error()
			v.failed(err)
		}
		return v.value
	}
	v.value, v.broken = fresh, ""
	return v.value
}

func (v *Value[T]) look(now time.Time) []stamp {
	stamps := make([]stamp, len(v.paths))
	for i, p := range v.paths {
		if info, err := os.Stat(p); err == nil {
			stamps[i] = stamp{info, now.Sub(info.ModTime()) < settled}
		}
	}
	return stamps
}

func same(before, now []stamp) bool {
	for i, b := range before {
		n := now[i]
		if (b.info == nil) != (n.info == nil) || b.young {
			return false
		}
		if b.info != nil && (!os.SameFile(b.info, n.info) || b.info.Size() != n.info.Size() || !b.info.ModTime().Equal(n.info.ModTime())) {
			return false
		}
	}
	return true
}
