package tail

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// bind finds the files of the positions that the task was opened with: under
// their name, under another name in the same folder, or as a copy of their content.
func (t *task) bind() error {
	now := time.Now()
	matches, err := t.look()
	if err != nil {
		return err
	}
	byID := make(map[fileID]found, len(matches))
	t.here = make(map[fileID]bool, len(matches))
	for _, m := range matches {
		byID[m.id], t.here[m.id] = m, true
	}
	var there, old []*file
	for _, f := range slices.Clone(t.order) { // all of them, before one is said to be the copy of another
		if f.deleted { // and held open
			there = append(there, f)
			continue
		}
		if f.target == "" { // a position of before targets were in it
			f.named(f.path)
		}
		if m, ok := byID[f.id]; ok {
			f.named(m.path)
			f.matched = true
			f.sized(m.size, now)
			t.rename(f)
		} else if t.locate(f) == inPlace {
			f.matched = t.cfg.match(f.path)
		} else {
			continue
		}
		f.active = now
		there = append(there, f)
	}
	for _, f := range slices.Clone(t.order) {
		if slices.Contains(there, f) {
			continue
		}
		if s := t.locate(f); s != inPlace {
			t.absent(f, s, now)
			continue
		}
		f.matched, f.active = t.cfg.match(f.path), now // since this moment
		there = append(there, f)
	}
	for _, f := range there {
		if t.files[f.id] != f {
			continue
		}
		renamed := !f.deleted && (!f.matched || f.path != f.origin)
		switch err := t.reopen(f); {
		case errors.Is(err, errChanged):
			if err := t.replaced(f); err != nil {
				return err
			}
			continue
		case errors.Is(err, fs.ErrNotExist):
			continue // since this moment; the scan says it
		}
		if renamed {
			old = append(old, f)
		}
	}
	for _, f := range old { // once all positions have found their files, or not
		if since, ok := f.modified(); ok && t.files[f.id] == f {
			t.rotatedSince(f, since)
		}
	}
	return nil
}

// rotatedSince takes on the files that were written under f's name and rotated
// away while nobody watched, to names that no glob matches: names of the same family (app.log.audit is another log), not
// known, and not older than f. (A younger one that had been read to its end and forgotten would
// mean that f had been quiet even longer, and forgotten too.)
func (t *task) rotatedSince(f *file, since time.Time) {
	entries, err := siblings(f.folders(f.origin))
	if err != nil {
		return
	}
	rotated := func(from, path string) bool {
		known := func(p string) bool { return p == from || t.names[p] } // it is a log, though it may not be there now
		return isCopyName(from, path) && family(path, known) == family(from, known)
	}
	for _, e := range entries {
		path := e.path
		if !rotated(f.origin, path) && !rotated(f.target, path) || t.cfg.excluded(path) {
			continue
		}
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.ModTime().Before(since) {
			continue
		}
		id, ok := idOf(info)
		if !ok || t.here[id] || t.files[id] != nil {
			continue
		}
		t.appear(found{path: path, id: id, size: info.Size()}, time.Now())
		if g := t.files[id]; g != nil {
			g.origin, g.target, g.part, g.matched = f.origin, f.target, f.part, false
			t.kin = nil
		}
	}
}

// rename gives a file of which nothing was read the name under which it is seen:
// a position without content is no proof that it is the file of that position.
func (t *task) rename(f *file) {
	if f.offset == 0 && f.copyOf == "" && f.path != f.origin && !f.mayBeCopied(f.path) {
		f.reset(f.path, f.path)
		f.part = partitionOf(t.family(f.path), t.cfg.partitions)
		t.kin = nil
	}
}

func (t *task) list() ([]found, error) {
	t.listing++
	matches, blind, err := t.cfg.glob()
	for name, err := range blind {
		t.tell(name, err)
	}
	return matches, err
}

// look lists the files. When there are new ones it lists them again until nothing
// changes: the list is not made in one moment, and a rotation meanwhile could show the new
// file and hide the one that was renamed.
func (t *task) look() ([]found, error) {
	t.folders, t.told, t.dark = map[string]*folder{}, t.dark, map[string]bool{}
	matches, err := t.list()
	for range 10 {
		fresh := false
		for _, m := range matches {
			size, ignored := t.ignored[m.id]
			fresh = fresh || t.files[m.id] == nil && !(ignored && size == m.size)
		}
		if err != nil || !fresh {
			break
		}
		last := matches
		if matches, err = t.list(); slices.EqualFunc(last, matches, func(a, b found) bool { return a.id == b.id && a.path == b.path }) {
			break
		}
	}
	clear(t.names)
	for _, m := range matches {
		t.names[m.path] = true
	}
	return matches, err
}

// scan brings the list of files up to what the folders hold. Polling is the
// truth: events only make it come sooner.
func (t *task) scan(now time.Time) error {
	matches, err := t.look()
	if err != nil {
		return err
	}
	for _, p := range t.cfg.paths {
		if dir := filepath.Dir(p); !strings.ContainsAny(dir, "*?[{") {
			t.hints.watch(dir)
		}
	}
	list := t.listing
	t.here = make(map[fileID]bool, len(matches))
	here := t.here
	var fresh []found
	for _, m := range matches { // known files first: who is a copy depends on their names
		here[m.id] = true
		t.hints.watch(filepath.Dir(m.path))
		f := t.files[m.id]
		if f == nil {
			fresh = append(fresh, m)
			continue
		}
		if f.path != m.path {
			f.named(m.path)
		}
		f.matched, f.deleted = true, false
		t.rename(f)
		f.sized(m.size, now)
	}
	var renamed []*file
	for _, f := range append([]*file(nil), t.order...) {
		switch {
		case !here[f.id]:
			was := f.matched
			if err := t.missing(f, now); err != nil {
				return err
			}
			if was && !f.matched && !f.deleted && t.files[f.id] == f && f.copyOf == "" {
				renamed = append(renamed, f)
			}
		case f.sight != inPlace:
			if err := t.back(f, now); err != nil {
				return err
			}
		case f.size < f.offset && f.copyOf == "":
			if err := t.replaced(f); err != nil {
				return err
			}
		}
	}
	if err := t.copied(fresh); err != nil {
		return err
	}
	for _, m := range fresh {
		if f := t.files[m.id]; f != nil { // a copy that has just been taken over
			f.named(m.path)
			f.matched = true
			continue
		}
		t.appear(m, now)
	}
	for _, f := range renamed {
		if since, ok := f.modified(); ok {
			t.rotatedSince(f, since)
		}
	}
	for _, f := range append([]*file(nil), t.order...) {
		if f.copyOf != "" {
			if err := t.stillHeld(f); err != nil {
				return err
			}
		}
	}
	for id := range t.ignored {
		if !here[id] {
			delete(t.ignored, id)
		}
	}
	for id := range t.barred {
		if !here[id] {
			delete(t.barred, id)
		}
	}
	t.first, t.scanned = false, list
	return nil
}

// appear takes on a file that was not there before.
func (t *task) appear(m found, now time.Time) {
	if size, ok := t.ignored[m.id]; ok && size == m.size {
		return
	}
	delete(t.ignored, m.id)
	f := &file{id: m.id, origin: m.path, path: m.path, part: partitionOf(t.family(m.path), t.cfg.partitions), ident: newIdent(m.id), head: newSum, matched: true}
	f.named(m.path)
	f.sized(m.size, now)
	f.active = now
	if m.size > 0 {
		fd, err := openFile(m.path)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) && !t.barred[m.id] {
				t.barred[m.id] = true
				t.log.Warn("a file cannot be read; it is tried again until it can", "path", m.path, "error", err)
			}
			return
		}
		delete(t.barred, m.id)
		defer func() { _ = fd.Close() }() // it was only read
		begin := make([]byte, 16)
		n, _ := fd.ReadAt(begin, 0) // what cannot be read now is looked at again before it is split
		if compressed(begin[:n]) {
			t.ignore(m.id, m.path, m.size)
			return
		}
		if t.first && t.cfg.fromEnd {
			t.skipTo(f, fd)
		}
	}
	t.add(f)
}

// skipTo puts a file that was there at the first start behind its last complete line.
func (t *task) skipTo(f *file, fd *os.File) {
	end := f.size
	buf := make([]byte, min(end, int64(t.cfg.splitter.max)))
	if readFull(fd, buf, end-int64(len(buf))) == nil {
		if i := bytes.LastIndexByte(buf, '\n'); i >= 0 {
			end -= int64(len(buf) - i - 1)
		}
	}
	head := make([]byte, min(end, headMax))
	if readFull(fd, head, 0) != nil {
		return // it was truncated this moment: from its beginning
	}
	f.advance(head)
	tail := make([]byte, min(end, tailMax))
	if readFull(fd, tail, end-int64(len(tail))) != nil {
		f.reset(f.path, f.path)
		return
	}
	f.offset, f.from, f.tailLen = end, end, copy(f.tail[:], tail)
}

// ignore leaves a file alone until its size changes.
func (t *task) ignore(id fileID, path string, size int64) {
	t.ignored[id] = size
	t.log.Info("a compressed file is not read", "path", path)
}

// magics are how compressed files begin: gzip, zstd, xz, lz4 (also of before frames), zip (also an empty one), compress, lzma, lzip, snappy, lzop, 7z.
var magics = []string{"\x1f\x8b\x08", "\x28\xb5\x2f\xfd", "\xfd7zXZ\x00", "\x04\x22\x4d\x18", "\x02\x21\x4c\x18", "PK\x03\x04", "PK\x05\x06", "\x1f\x9d",
	"\x5d\x00\x00", "LZIP\x01", "\xff\x06\x00\x00sNaPpY", "\x89LZO\x00\r\n", "7z\xbc\xaf\x27\x1c"}

// compressed says whether data begins as a compressed file does.
func compressed(data []byte) bool {
	if slices.ContainsFunc(magics, func(magic string) bool { return bytes.HasPrefix(data, []byte(magic)) }) {
		return true
	}
	return len(data) >= 10 && string(data[:3]) == "BZh" && string(data[4:10]) == "1AY&SY"
}
