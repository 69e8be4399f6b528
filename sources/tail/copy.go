package tail

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	if len(copy) <= len(original) || filepath.Dir(original) != filepath.Dir(copy) { // cheap first: every pair is asked for
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
	return isCopyName(f.origin, path) || isCopyName(f.path, path) || isCopyName(f.target, path)
}

// isCopied says whether path is what a copy that is made of f now is called: of a file that was renamed none is.
func (f *file) isCopied(path string) bool {
	return isCopyName(f.path, path) || (f.path == f.origin || f.path == f.target) && isCopyName(f.target, path)
}

// sibling is an entry of a folder.
type sibling struct {
	path string
	fs.DirEntry
}

// siblings lists folders. An error of one of them is an error.
func siblings(dirs []string) (out []sibling, err error) {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !e.IsDir() {
				out = append(out, sibling{filepath.Join(dir, e.Name()), e})
			}
		}
	}
	return out, nil
}

// copied looks, when new files have appeared, whether the files that they may be
// copies of still have what was read of them.
func (t *task) copied(fresh []found) error {
	for _, m := range fresh {
		for _, o := range slices.Clone(t.order) {
			switch {
			case o.offset == 0 || o.copyOf != "" || t.files[o.id] != o:
			case o.sight == hidden: // its device may be back with another number; inodes keep theirs
				if m.id.ino == o.id.ino && (o.fd == nil || o.size <= m.size) && (m.path == o.path || o.mayBeCopied(m.path)) {
					t.continued(o)
				}
			case o.mayBeCopied(m.path):
				if err := t.replaced(o); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// certain is the size from which two files of equal beginning and end are taken
// for copies although nothing of either was read: two short logs may begin alike.
const certain = 1024

// hold keeps f, of which nothing was read, from being read while another file has
// all its content. It is asked with f's first bytes in hand, so what it says is not outdated by
// a rotation meanwhile. An original that lost its content is told of that first: then f
// may be what goes on for it. Callers look at f again afterwards. false: ask again after a scan.
func (t *task) hold(f *file) (bool, error) {
	for _, o := range slices.Clone(t.order) {
		if o == f || o.copyOf != "" || o.unreachable() || o.offset == 0 && f.size < certain || !o.mayBeCopied(f.path) {
			continue
		}
		if o.offset > 0 {
			state, err := t.content(o)
			if err == nil && state == contentLost {
				err = t.replaced(o)
			}
			if err != nil || f.offset > 0 || f.copyOf != "" {
				return true, err
			}
			if state != contentKept {
				return false, nil
			}
		}
		if !f.matched || !o.isCopied(f.path) { // short logs may begin alike
			continue
		}
		switch sameContent(o, f) {
		case same:
			f.copyOf, f.origin, f.part, f.moved, f.tried = o.key(), o.origin, o.part, true, f.size
			t.kin = nil
			return true, nil
		case unclear:
			return false, nil
		}
	}
	return true, nil
}

// inherit looks whether f, of which nothing was read, is what another file was under its name, with more behind it: rsync, sed -i and editors write
// a new file and rename it onto the log's name. Then f is read from where that one was. It is asked before f waits for an older one's unfinished line.
func (t *task) inherit(f *file) error {
	if f.offset > 0 || f.size == 0 {
		return nil
	}
	_, all := t.relatives(f)
	for _, o := range slices.Clone(all) {
		if o != f && o.origin == f.path && o.headLen >= certain && o.copyOf == "" && !o.unreachable() && f.offset == 0 {
			if err := t.goesOn(o, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// goesOn has f go on for o if it has all that o has, byte for byte. Of a log that was rotated there is none: what is written after it may well be the same.
func (t *task) goesOn(o, f *file) error {
	if _, deleted := o.unlinked(); !deleted && !isBackup(f.path, o.path) {
		return nil
	}
	state, err := t.content(o)
	rest := max(o.size-o.offset, 0)
	if err != nil || state != contentKept || rest > int64(t.cfg.splitter.window()) || f.size < o.size {
		return err
	}
	g := *o
	if g.verify(f.fd, f.size) != nil { // most others end here
		return nil //nolint:nilerr // it is another log, or read says it
	}
	fd, _, done, ok := o.view()
	if !ok {
		return nil
	}
	defer done()
	last := make([]byte, rest)
	if !equal(fd, f.fd, o.size) || readFull(fd, last, o.offset) != nil {
		return nil
	}
	if t.takeOver(o); f.offset == 0 {
		return nil
	}
	if rest > 0 { // it is read from f
		o.advance(last)
		o.skip, o.tried, o.need, o.flushed = skipNone, 0, 0, 0
	}
	o.ident, o.from, o.moved = newIdent(o.id), o.offset, true // what a program writes to o that still has it open is o's own
	return nil
}

// isBackup says whether path is what whoever replaces the file calls what it was: vim and rsync name~, sed -i and patch what they are told to.
func isBackup(of, path string) bool {
	return path == of+"~" || path == of+".bak" || path == of+".orig"
}

// equal says whether two files have the same first bytes.
func equal(a, b io.ReaderAt, size int64) bool {
	x, y := make([]byte, min(size, chunkSize)), make([]byte, min(size, chunkSize))
	for at := int64(0); at < size; at += int64(len(x)) {
		x, y = x[:min(size-at, int64(len(x)))], y[:min(size-at, int64(len(y)))]
		if readFull(a, x, at) != nil || readFull(b, y, at) != nil || !bytes.Equal(x, y) {
			return false
		}
	}
	return true
}

// stillHeld lets a held copy go when it turns out to be none: it has grown, or nothing of
// its original was read, so that nobody else would notice that the content is another one.
func (t *task) stillHeld(f *file) error {
	var o *file
	for _, g := range t.order {
		if g.key() == f.copyOf {
			o = g
		}
	}
	if o != nil && (o.unreachable() || o.offset > 0 && f.size == f.tried) {
		return nil
	}
	if o != nil {
		if err := t.replaced(o); err != nil || f.copyOf == "" {
			return err
		}
		switch sameContent(o, f) {
		case same:
			f.tried = f.size
			return nil
		case unclear:
			t.soon()
			return nil
		}
	}
	t.release(f)
	return nil
}

// release makes a held copy a file of its own.
func (t *task) release(f *file) {
	f.copyOf, f.tried, f.moved = "", 0, true
}

type likeness uint8

const (
	same likeness = iota
	another
	unclear // one of them is not where it was, or changes this moment
)

// sameContent compares the beginning of the original with the copy's, and the copy's end with that part of the original.
// The original is held against what was read of it afterwards: what was compared was that content.
func sameContent(o, c *file) likeness {
	cf, csize, done, ok := c.view()
	if !ok {
		return unclear
	}
	defer done()
	of, osize, ok := openAs(o.path, o.id)
	if !ok {
		return unclear
	}
	defer func() { _ = of.Close() }() // it was only read
	if csize == 0 {
		return unclear
	}
	if osize < csize {
		if o.offset > 0 && osize < o.offset {
			return unclear
		}
		return another
	}
	const window = 16 << 10
	a, b := make([]byte, min(window, csize)), make([]byte, min(window, csize))
	for _, at := range []int64{0, csize - int64(len(a))} {
		if readFull(of, a, at) != nil || readFull(cf, b, at) != nil {
			return unclear
		}
		if !bytes.Equal(a, b) {
			return another
		}
	}
	g := *o
	if g.verify(of, osize) != nil {
		return unclear
	}
	return same
}

// openAs opens the file at path if it is the one of that identity.
func openAs(path string, id fileID) (*os.File, int64, bool) {
	fd, err := openFile(path)
	if err != nil {
		return nil, 0, false
	}
	st, err := fd.Stat()
	if err == nil {
		if got, ok := idOf(st); ok && got == id && st.Mode().IsRegular() {
			return fd, st.Size(), true
		}
	}
	_ = fd.Close() // it was only read
	return nil, 0, false
}

// view lets one look at f, until done: under its name, or by its descriptor when it has none any more.
func (f *file) view() (fd *os.File, size int64, done func(), ok bool) {
	if fd, size, ok = openAs(f.path, f.id); ok {
		return fd, size, func() { _ = fd.Close() }, true // it was only read
	}
	size, ok = f.unlinked()
	return f.fd, size, func() {}, ok
}

// unlinked says whether f is open and has no name any more, and how long it is.
func (f *file) unlinked() (size int64, ok bool) {
	if f.fd == nil {
		return 0, false
	}
	st, err := f.fd.Stat()
	if err != nil {
		return 0, false
	}
	return st.Size(), links(st) == 0
}

func isFile(fd *os.File, id fileID) bool {
	st, err := fd.Stat()
	if err != nil {
		return false
	}
	got, ok := idOf(st)
	return ok && got == id
}

// content says whether a file still has what was read of it.
func (t *task) content(f *file) (contentState, error) {
	fd := f.fd
	if fd == nil {
		var ok bool
		if fd, _, ok = openAs(f.path, f.id); !ok && t.locate(f) == inPlace {
			fd, _, ok = openAs(f.path, f.id)
		}
		if !ok {
			t.soon()
			return contentElsewhere, nil
		}
		defer func() { _ = fd.Close() }() // it was only read
	}
	st, err := fd.Stat()
	if err != nil {
		return contentElsewhere, t.trouble(f, err)
	}
	f.sized(st.Size(), time.Now())
	switch err := f.verify(fd, st.Size()); {
	case errors.Is(err, errChanged):
		return contentLost, nil
	case err != nil:
		return contentElsewhere, t.trouble(f, err)
	}
	return contentKept, nil
}

type contentState uint8

const (
	contentKept contentState = iota
	contentLost
	contentElsewhere // the file is not where it was, the next scan finds or drops it; or it cannot be read
)

// replaced looks whether a file has lost the content that was read: it was
// truncated, or deleted and created under the same inode. What was not read of
// it is then read from the copy, when there is one, and the file itself from its beginning.
func (t *task) replaced(f *file) error {
	f.replacing = true
	defer func() { f.replacing = false }()
	largest := f.seen
	state, err := t.content(f)
	if err != nil || state != contentLost {
		return err // kept: a false alarm, a cached size
	}
	if !f.deleted {
		t.shut(f)
	}
	was := *f
	c := t.takeOver(&was)
	if f.ident != was.ident { // f is itself the copy of a file that lost its content: it goes on with that
		f.gen++
		return nil
	}
	if c == nil && largest > f.offset {
		t.log.Warn("a file was truncated before all of it was read, and no copy of it was found",
			"path", f.path, "offset", f.offset, "size", largest)
	}
	size := f.size
	if f.path == f.origin || f.mayBeCopied(f.path) {
		f.reset(f.origin, f.path)
	} else { // the inode has another life
		f.reset(f.path, f.path)
		f.part = partitionOf(t.family(f.path), t.cfg.partitions)
	}
	t.kin = nil
	f.sized(size, time.Now())
	if c != nil {
		if since, ok := c.modified(); ok {
			t.rotatedSince(f, since)
		}
	}
	return nil
}

// takeOver lets a copy of f continue where f was: f lost its content, or is gone. All other copies of it are
// known to their end. It returns the copy that goes on, nil when there is none.
func (t *task) takeOver(f *file) *file {
	copies, all := t.copiesOf(f)
	var best *twin
	for i := range copies {
		if c := &copies[i]; best == nil || c.whole && !best.whole || c.whole == best.whole && c.size > best.size {
			best = c
		}
	}
	for _, d := range slices.Clone(t.order) {
		if all && d.copyOf == f.key() && !slices.ContainsFunc(copies, func(c twin) bool { return c.id == d.id }) {
			t.release(d) // a copy of what f had before, or of what it has now
		}
	}
	var next *file
	for i := range copies {
		m := &copies[i]
		if !m.whole && m != best && (t.files[m.id] == nil || t.files[m.id].copyOf != f.key()) {
			continue // it only begins alike
		}
		c := t.files[m.id]
		if c == nil {
			c = &file{id: m.id, ident: newIdent(m.id), head: newSum}
			t.add(c)
		}
		now := time.Now()
		c.path, c.origin, c.target, c.part, c.copyOf, c.moved, c.active = m.path, f.origin, f.target, f.part, "", true, now
		c.tried, c.hole, c.need, c.flushed = 0, 0, 0, 0
		c.sized(m.size, now)
		t.kin = nil
		if m != best || !m.whole {
			// Nothing in it is new: it was made before the last lines that were read, or another one goes on.
			c.end()
		} else {
			c.offset, c.skip, c.ident, c.from = f.offset, f.skip, f.ident, f.from // the lines' identity goes on with the lines
			c.head, c.headLen, c.tail, c.tailLen, c.tailSum = f.head, f.headLen, m.tail, f.tailLen, ""
		}
		if m == best {
			next = c
		}
	}
	return next
}

// twin is a file in the folder that has f's content.
type twin struct {
	path  string
	id    fileID
	size  int64
	whole bool // all that was read of f; else it ends before that
	tail  [tailMax]byte
}

// copiesOf looks in f's folder, and among the deleted files that are open, for the copies that a rotation made of what was read of f.
// A copy that ends before f's offset can be told by its beginning only, so that has to be long, or the file held already, and its name that of a copy.
// false: the folder cannot be read, so there may be others.
func (t *task) copiesOf(f *file) ([]twin, bool) {
	if f.offset == 0 {
		return nil, true // nothing was read, so a copy is a file like any other
	}
	dirs := f.folders(f.path)
	var out []twin
	for range 10 {
		entries, err := siblings(dirs)
		if err != nil {
			return nil, false
		}
		out = out[:0]
		for _, e := range entries {
			if !f.mayBeCopied(e.path) && e.path != f.path && e.path != f.target && e.path != f.origin {
				continue
			}
			m, ok := t.copyAt(f, e.path)
			if ok && !slices.ContainsFunc(out, func(c twin) bool { return c.id == m.id }) { // a link and what it leads to are one
				out = append(out, m)
			}
		}
		again, err := siblings(dirs)
		if err == nil && slices.EqualFunc(entries, again, func(a, b sibling) bool { return a.path == b.path && inodeOf(a) == inodeOf(b) }) {
			break
		}
	}
	for _, d := range slices.Clone(t.order) {
		if d.origin != f.origin && !f.mayBeCopied(d.path) || slices.ContainsFunc(out, func(c twin) bool { return c.id == d.id }) {
			continue
		}
		if _, ok := d.unlinked(); !ok {
			continue
		}
		if m, ok := t.twinOf(f, d.path, d.fd); ok {
			out = append(out, m)
		}
	}
	return out, true
}

// copyAt says whether the file at path is a copy of f that has no life of its own.
func (t *task) copyAt(f *file, path string) (twin, bool) {
	fd, err := openFile(path)
	if err != nil {
		return twin{}, false
	}
	defer func() { _ = fd.Close() }() // it was only read
	return t.twinOf(f, path, fd)
}

// twinOf is copyAt of a file that is open.
func (t *task) twinOf(f *file, path string, fd *os.File) (twin, bool) {
	st, err := fd.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return twin{}, false
	}
	id, ok := idOf(st)
	if !ok || id == f.id {
		return twin{}, false
	}
	c := t.files[id]
	if c != nil && c.offset > 0 && !c.replacing {
		g := *c
		if g.verify(fd, st.Size()) == nil {
			return twin{}, false // it has a life of its own
		}
		// What is known of this inode is of a deleted file; the copy was given its number.
		c.path = path
		if err := t.replaced(c); err != nil {
			t.log.Warn("a file cannot be read", "path", path, "error", err)
		}
		if c = t.files[id]; c != nil && c.offset > 0 {
			return twin{}, false
		}
	}
	m := twin{path: path, id: id, size: st.Size()}
	g := *f
	if m.size >= f.offset {
		m.whole = g.verify(fd, m.size) == nil
		m.tail = g.tail
		return m, m.whole
	}
	if path == f.path || path == f.target || path == f.origin || !f.mayBeCopied(path) {
		return m, false // the next log under that name, which begins alike
	}
	held := c != nil && c.copyOf == f.key()
	if m.size < int64(f.headLen) {
		return m, held && m.size > 0
	}
	head := make([]byte, f.headLen)
	return m, (held || f.headLen >= certain && f.head != noData) && readFull(fd, head, 0) == nil && newSum.add(head) == f.head
}

// end puts f behind its last byte: all of it was read elsewhere.
func (f *file) end() {
	fd, size, done, ok := f.view()
	if !ok {
		return // gone
	}
	defer done()
	head, tail := make([]byte, min(size, headMax)), make([]byte, min(size, tailMax))
	if readFull(fd, head, 0) != nil || readFull(fd, tail, size-int64(len(tail))) != nil {
		return
	}
	f.offset, f.skip, f.from, f.size = size, skipNone, size, size
	f.head, f.headLen = newSum.add(head), len(head)
	f.tailLen, f.tailSum = copy(f.tail[:], tail), ""
}

func inodeOf(e fs.DirEntry) uint64 {
	info, err := e.Info()
	if err != nil {
		return 0
	}
	id, _ := idOf(info)
	return id.ino
}

func links(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink) //nolint:unconvert // narrower on other systems
	}
	return 1
}

// matches says whether the file at path has what was read of f.
func (f *file) matches(path string) bool {
	fd, err := openFile(path)
	if err != nil {
		return false
	}
	defer func() { _ = fd.Close() }() // it was only read
	st, err := fd.Stat()
	g := *f
	return err == nil && g.verify(fd, st.Size()) == nil
}
