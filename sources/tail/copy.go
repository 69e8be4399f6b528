package tail

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Copytruncate: a rotation copies app.log to app.log.1 and then truncates
// app.log. So there is a time when two files have the same lines, and a time
// when lines that were not read yet are in the copy alone. The copy is known by
// its name and its content; while the original has the content the copy is held,
// and when the original loses it the copy is read on from the same offset.

// isCopyName says whether copy is what a rotation calls a copy of original:
// app.log.1, app.log-20261122, app-20261122.log.
func isCopyName(original, copy string) bool {
	if filepath.Dir(original) != filepath.Dir(copy) {
		return false
	}
	o, c := filepath.Base(original), filepath.Base(copy)
	if len(c) <= len(o) {
		return false
	}
	if strings.HasPrefix(c, o) {
		return strings.ContainsRune(".-_~", rune(c[len(o)]))
	}
	ext := filepath.Ext(o)
	stem := strings.TrimSuffix(o, ext)
	if ext == "" || stem == "" || !strings.HasPrefix(c, stem) || !strings.HasSuffix(c, ext) {
		return false
	}
	middle := c[len(stem) : len(c)-len(ext)]
	return len(middle) > 1 && strings.ContainsRune(".-_", rune(middle[0])) && strings.IndexFunc(middle[1:], func(r rune) bool {
		return (r < '0' || r > '9') && !strings.ContainsRune(".-_T", r)
	}) < 0
}

// mayBeCopied says whether path is what a copy of f would be called; f may have been renamed since.
func (f *file) mayBeCopied(path string) bool {
	return isCopyName(f.origin, path) || isCopyName(f.path, path)
}

// copied looks, when new files have appeared, whether the files that they may be
// copies of still have what was read of them.
func (t *task) copied(fresh []found) error {
	for _, m := range fresh {
		for _, o := range append([]*file(nil), t.order...) {
			if o.offset > 0 && o.copyOf == "" && o.mayBeCopied(m.path) {
				if err := t.replaced(o); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// heldBy is the largest copy that waits for o to lose its content.
func (t *task) heldBy(o *file) *file {
	var c *file
	for _, f := range t.order {
		if f.copyOf == o.key() && (c == nil || f.size > c.size) {
			c = f
		}
	}
	return c
}

// certain is the size from which two files of equal beginning and end are taken
// for copies although nothing of either was read: two short logs may begin alike.
const certain = 1024

// hold keeps a new file from being read while another one has all its content,
// and lets it go when that turns out to be no copy.
func (t *task) hold(f *file) error {
	if f.copyOf != "" {
		if f.size == f.tried {
			return nil // looked at; again when it has grown
		}
		for _, o := range t.order {
			if o.key() != f.copyOf {
				continue
			}
			if err := t.replaced(o); err != nil || f.copyOf == "" {
				return err
			}
			if sameContent(o, f) {
				f.tried = f.size
				return nil
			}
		}
		f.copyOf, f.tried, f.moved = "", 0, true
		return nil
	}
	if f.offset != 0 || f.size == 0 || f.gen != 0 || !f.matched || f.size == f.tried {
		return nil
	}
	for _, o := range t.order { // what was renamed itself is not copied any more: short logs may begin alike
		if o != f && o.copyOf == "" && (o.offset > 0 || f.size >= certain) && isCopyName(o.path, f.path) && sameContent(o, f) {
			f.copyOf, f.origin, f.part, f.moved, f.tried = o.key(), o.origin, o.part, true, f.size
			t.kin = nil
			return nil
		}
	}
	return nil
}

// sameContent compares the beginning of the original with the copy's, and the copy's end with that part of the original.
func sameContent(o, c *file) bool {
	if o.size < c.size {
		return false
	}
	of, err := os.Open(o.path)
	if err != nil {
		return false
	}
	defer func() { _ = of.Close() }() // it was only read
	cf, err := os.Open(c.path)
	if err != nil {
		return false
	}
	defer func() { _ = cf.Close() }() // it was only read
	if !isFile(of, o.id) || !isFile(cf, c.id) {
		return false
	}
	const window = 16 << 10
	a, b := make([]byte, min(window, c.size)), make([]byte, min(window, c.size))
	for _, at := range []int64{0, c.size - int64(len(a))} {
		if readFull(of, a, at) != nil || readFull(cf, b, at) != nil || !bytes.Equal(a, b) {
			return false
		}
	}
	return true
}

func isFile(fd *os.File, id fileID) bool {
	st, err := fd.Stat()
	if err != nil {
		return false
	}
	got, ok := idOf(st)
	return ok && got == id
}

// replaced looks whether a file has lost the content that was read: it was
// truncated, or deleted and created under the same inode. What was not read of
// it is then read from the copy, when there is one, and the file itself from its beginning.
func (t *task) replaced(f *file) error {
	f.replacing = true
	defer func() { f.replacing = false }()
	fd := f.fd
	if fd == nil {
		var err error
		switch fd, err = os.Open(f.path); {
		case errors.Is(err, fs.ErrNotExist):
			t.soon()
			return nil
		case err != nil:
			return err
		}
		defer func() { _ = fd.Close() }() // it was only read
	}
	st, err := fd.Stat()
	if err != nil {
		return err
	}
	if id, ok := idOf(st); !ok || id != f.id {
		t.soon()
		return nil
	}
	switch err := f.verify(fd, st.Size()); {
	case err == nil:
		return nil // a false alarm: a cached size
	case !errors.Is(err, errChanged):
		return err
	}
	if !f.deleted {
		t.shut(f)
	}
	was := *f
	c := t.findCopy(f)
	if c != nil {
		t.takeOver(&was, c)
	}
	if f.ident != was.ident { // f is itself the copy of a file that lost its content: it goes on with that
		f.gen++
		return nil
	}
	if c == nil && f.seen > f.offset {
		t.log.Warn("a file was truncated before all of it was read, and no copy of it was found",
			"path", f.path, "offset", f.offset, "size", f.seen)
	}
	if f.path == f.origin || f.mayBeCopied(f.path) {
		f.reset(f.origin, f.path)
	} else { // the inode has another life
		f.reset(f.path, f.path)
		f.part = partitionOf(t.family(f.path), t.cfg.partitions)
	}
	t.kin = nil
	f.sized(st.Size(), time.Now())
	if c != nil {
		if since, ok := c.modified(); ok {
			t.rotatedSince(f, since)
		}
	}
	return nil
}

// findCopy looks in f's folder for the copy that a rotation made of it.
func (t *task) findCopy(f *file) *file {
	if c := t.heldBy(f); c != nil {
		return c
	}
	if f.offset == 0 {
		return nil
	}
	dir := filepath.Dir(f.path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() || !f.mayBeCopied(path) && path != f.path {
			continue
		}
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Size() < f.offset {
			continue
		}
		id, ok := idOf(info)
		if !ok || id == f.id {
			continue
		}
		c := t.files[id]
		if c != nil && c.offset > 0 && !c.replacing && !c.matches(path, info.Size()) {
			// What is known of this inode is of a deleted file; the copy was given its number.
			c.path = path
			if err := t.replaced(c); err != nil {
				t.log.Warn("a file cannot be read", "path", path, "error", err)
			}
			c = t.files[id]
		}
		if c != nil && c.offset > 0 && !c.replacing {
			continue // it has a life of its own
		}
		if !f.matches(path, info.Size()) {
			continue
		}
		if c == nil {
			c = &file{id: id, path: path, head: newSum, ident: newIdent(id)}
			t.add(c)
		}
		c.sized(info.Size(), time.Now())
		return c
	}
	return nil
}

// matches says whether the file at path has the content that was read of f.
func (f *file) matches(path string, size int64) bool {
	fd, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = fd.Close() }() // it was only read
	g := *f
	return g.verify(fd, size) == nil
}

// takeOver lets c, a copy of f, continue where f was.
func (t *task) takeOver(f, c *file) {
	for _, d := range t.order { // more copies of the same: nothing in them is new
		if d != c && d.copyOf == f.key() {
			d.copyOf, d.tried, d.moved = "", 0, true
			d.end()
		}
	}
	c.origin, c.part, c.copyOf, c.moved = f.origin, f.part, "", true
	t.kin = nil
	c.tried, c.need, c.flushed, c.active = 0, 0, 0, time.Now()
	if c.size >= f.offset {
		c.offset, c.skip, c.ident, c.from = f.offset, f.skip, f.ident, f.from // the lines' identity goes on with the lines
		c.head, c.headLen, c.tail, c.tailLen, c.tailSum = f.head, f.headLen, f.tail, f.tailLen, f.tailSum
		if f.tailSum != "" {
			if fd, err := os.Open(c.path); err == nil {
				_ = c.verify(fd, c.size) // only to learn the tail; open verifies again
				_ = fd.Close()
			}
		}
		return
	}
	// The copy was made before the last lines that were read: all of it is known.
	c.end()
}

// end puts f behind its last byte: all of it was read elsewhere.
func (f *file) end() {
	fd, err := os.Open(f.path)
	if err != nil {
		return
	}
	defer func() { _ = fd.Close() }() // it was only read
	head, tail := make([]byte, min(f.size, headMax)), make([]byte, min(f.size, tailMax))
	if readFull(fd, head, 0) != nil || readFull(fd, tail, f.size-int64(len(tail))) != nil {
		return
	}
	f.offset, f.skip, f.from = f.size, skipNone, f.size
	f.head, f.headLen = newSum.add(head), len(head)
	f.tailLen, f.tailSum = copy(f.tail[:], tail), ""
}

func links(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink) //nolint:unconvert // narrower on other systems
	}
	return 1
}
