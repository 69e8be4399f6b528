package tail

import (
	"errors"
	"os"
	"time"
)

// A glimpse is how a file began that was listed and of which nothing was read. Without
// it a copytruncate between the list and the first read would not show: the
// younger lines would be read before anybody knew of the copy that has the older ones.
type glimpse struct {
	sum     sum
	len     int       // of the beginning, 1 to headMax; 0: none was taken
	size    int64     // of the file then
	written time.Time // last, then
	listing uint64    // the last list of the files that was begun before
}

// same says whether data, a file's beginning, is of a file that went on from g.
func (g glimpse) same(data []byte, size int64) bool {
	return g.len > 0 && size >= g.size && len(data) >= g.len && newSum.add(data[:g.len]) == g.sum
}

// errNotYet says that a file has to wait for the next scan.
var errNotYet = errors.New("not read yet")

// glimpseAll looks at the files that have lines now and will be read from their beginning.
// It says whether there was one; then the files have to be listed once more.
func (t *task) glimpseAll() (more bool) {
	for _, f := range t.order {
		if f.offset > 0 || f.size == 0 || f.copyOf != "" || f.glimpse.len > 0 {
			continue
		}
		fd := f.fd
		if fd == nil {
			var err error
			if fd, err = openFile(f.path); err != nil {
				continue // read says it
			}
		}
		if isFile(fd, f.id) {
			head := make([]byte, headMax)
			n, _ := fd.ReadAt(head, 0) // what cannot be read now is tried again by read
			t.glimpse(f, fd, head[:n])
			more = more || n > 0
		}
		if fd != f.fd {
			_ = fd.Close() // it was only read
		}
	}
	return more
}

func (t *task) glimpse(f *file, fd *os.File, data []byte) {
	n := min(len(data), headMax)
	f.glimpse = glimpse{sum: newSum.add(data[:n]), len: n, size: int64(n), listing: t.listing}
	if st, err := fd.Stat(); err == nil {
		f.glimpse.written = st.ModTime()
	}
}

// mayBegin says whether data, the first that was read of f, may be taken: it was
// there already when the list was begun that the last scan went by. Then a copy of what the
// file had before was in that list, and blocked has looked at it. Nor may f be the copy of what is or was read elsewhere. A file that is
// written anew all the time is read after rotate_wait.
func (t *task) mayBegin(f *file, data []byte, now time.Time) (bool, error) {
	if len(data) == 0 {
		return true, nil
	}
	g := f.glimpse
	same := g.same(data, f.size)
	settled := same && g.listing < t.scanned
	for _, d := range t.order {
		if d.copyOf == f.key() && !d.begins(data) { // a copy of what f had before anything was read of it
			t.release(d)
			settled = false
		}
	}
	if settled {
		var err error
		settled, err = t.hold(f)
		if err != nil || f.offset > 0 || f.copyOf != "" {
			return false, err
		}
		if settled && !t.blocked(f, now) {
			return true, nil
		}
	}
	if f.putOff.IsZero() {
		f.putOff = now
	} else if now.Sub(f.putOff) >= t.cfg.rotateWait {
		return true, nil
	}
	if !same {
		f.need, f.seen = 0, f.size
		t.glimpse(f, f.fd, data)
		if g.len > 0 {
			t.rotatedSince(f, g.written) // what was there is in a copy now, if anywhere
		}
	}
	t.soon()
	return false, nil
}

// begins says whether the file begins with data, as far as both go.
func (f *file) begins(data []byte) bool {
	fd, size, done, ok := f.view()
	if !ok {
		return false
	}
	defer done()
	head := make([]byte, min(size, int64(len(data)), 16<<10))
	return readFull(fd, head, 0) == nil && string(head) == string(data[:len(head)])
}
