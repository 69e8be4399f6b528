package tail

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// sight is what is known of a file that no list shows. A position is forgotten only of a file that is known to be gone.
type sight uint8

const (
	inPlace    sight = iota // it is under a name in its folder, or was never missed
	missed                  // its folder is there, on its device, and does not have it
	folderless              // its folder is not there either, but the one above is, on its device
	hidden                  // cannot be told: an error, or another device where its own was, or is to be, mounted
)

// How long a file is missed before its position is forgotten. All count from when a task
// has seen it so; a file that was only missed has rotate_wait.
const (
	folderWait = time.Hour           // folders are swapped and restored by hand; those of a day, or of a pod, are deleted
	hiddenWait = 30 * 24 * time.Hour // so that what is never mounted again does not stay for ever
)

// folder is what a folder has, as it was listed once in a scan.
type folder struct {
	paths map[fileID][]string
	dev   uint64
	err   error
}

// folder gives a folder as this scan sees it.
func (t *task) folder(dir string) *folder {
	if d := t.folders[dir]; d != nil {
		return d
	}
	d := &folder{paths: map[fileID][]string{}}
	t.folders[dir] = d
	var info fs.FileInfo
	if info, d.err = os.Stat(dir); d.err != nil {
		return d
	}
	id, _ := idOf(info)
	d.dev = id.dev
	var entries []fs.DirEntry
	if entries, d.err = os.ReadDir(dir); d.err != nil {
		return d
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		switch {
		case err == nil:
			if id, ok := idOf(info); ok {
				d.paths[id] = append(d.paths[id], path)
			}
		case !errors.Is(err, fs.ErrNotExist) && e.Type()&fs.ModeSymlink == 0: // where a link leads to is another folder's matter
			d.err = err
		}
	}
	return d
}

// without says what is known of a file of that device that the folder does not have.
func (d *folder) without(dir string, dev uint64) sight {
	at, err := d.dev, d.err
	none := missed
	for errors.Is(err, fs.ErrNotExist) {
		none = folderless
		dir = filepath.Dir(dir)
		var info fs.FileInfo
		if info, err = os.Stat(dir); err == nil {
			id, _ := idOf(info)
			at = id.dev
		}
	}
	if err != nil || at != dev {
		return hidden
	}
	return none
}

// locate looks for a file under its name and then under all others in its
// folder, or in that which its name led to. Under a name that no rotation gives, the inode alone is no proof: it may have another life.
func (t *task) locate(f *file) sight {
	is := func(path string) (bool, error) {
		info, err := os.Stat(path)
		if err != nil {
			return false, err
		}
		id, ok := idOf(info)
		if ok = ok && id == f.id; ok {
			f.path = path
			f.sized(info.Size(), time.Now())
		}
		return ok, nil
	}
	for _, path := range []string{f.path, f.target} {
		if path == "" {
			continue
		}
		ok, err := is(path)
		if ok {
			return inPlace
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.tell(filepath.Dir(path), err)
			return hidden
		}
	}
	var dir string
	var d *folder
	for _, dir = range f.folders(f.path) {
		d = t.folder(dir)
		for _, path := range d.paths[f.id] {
			if f.mayBeCopied(path) || f.matches(path) {
				if ok, _ := is(path); ok {
					return inPlace
				}
			}
		}
	}
	// The last one is where the file itself was.
	s := d.without(dir, f.id.dev)
	switch {
	case s == hidden && d.err == nil:
		t.tell(dir, errors.New("it is on another device than the files that were read there: not mounted?"))
	case s != missed:
		t.tell(dir, d.err)
	}
	return s
}

// tell says in the log that something cannot be looked at: once, until it could be.
func (t *task) tell(name string, err error) {
	if !t.told[name] && !t.dark[name] {
		t.log.Warn("files cannot be found; what was read of them is remembered, and they are looked for again", "path", name, "error", err)
	}
	t.dark[name] = true
}

// missing handles a file that no glob finds any more.
func (t *task) missing(f *file, now time.Time) error {
	if f.fd != nil {
		st, err := f.fd.Stat()
		if err != nil {
			return nil //nolint:nilerr // read says it
		}
		f.sized(st.Size(), now)
		switch {
		case links(st) == 0 && !f.deleted:
			f.deleted, f.matched, f.active, f.sight = true, false, now, inPlace
			return nil
		case f.deleted || !f.matched && f.sight == inPlace:
			return nil // the descriptor serves, whatever its name is
		}
	}
	s := t.locate(f)
	if s == missed && f.fd != nil { // moved to another folder
		f.matched, f.active, f.sight = false, now, inPlace
		return nil
	}
	if s != inPlace {
		t.absent(f, s, now)
		return nil
	}
	if was := f.matched; was != t.cfg.match(f.path) {
		f.matched, f.active = !was, now
	}
	if f.sight != inPlace {
		return t.back(f, now)
	}
	return nil
}

// absent handles a file that is not under any name in its folder: it waits, unless a copy goes on for it.
func (t *task) absent(f *file, s sight, now time.Time) {
	first := f.sight == inPlace
	if s != f.sight {
		f.sight, f.away, f.unseen = s, now, 0
	}
	f.unseen++
	if first && f.fd == nil && t.continued(f) {
		return
	}
	wait := t.cfg.rotateWait
	switch s {
	case folderless:
		wait = max(wait, folderWait)
	case hidden:
		wait = max(wait, hiddenWait)
	}
	switch {
	case now.Sub(f.away) < wait:
	case f.fd != nil: // read to its end, and then forgotten
		f.matched, f.active, f.sight = false, now, inPlace
	default:
		t.lost(f)
	}
}

// unreachable says whether nothing can be known of the file now.
func (f *file) unreachable() bool { return f.fd == nil && f.sight != inPlace }

// back handles a file that was absent: it may be another one that was given the inode.
func (t *task) back(f *file, now time.Time) error {
	f.sight, f.unseen, f.active = inPlace, 0, now
	if f.copyOf != "" {
		return nil
	}
	return t.replaced(f)
}

// continued lets a copy go on for a file that is gone, and says whether there was one.
func (t *task) continued(f *file) bool {
	if f.copyOf != "" || t.takeOver(f) == nil {
		return false
	}
	t.forget = append(t.forget, f.key())
	t.drop(f)
	return true
}

// lost handles a position whose file has no name any more.
func (t *task) lost(f *file) {
	if t.continued(f) {
		return
	}
	if f.copyOf == "" {
		t.log.Warn("a file was deleted or moved away while it was not watched; lines behind the offset, if there were any, are lost",
			"path", f.path, "offset", f.offset)
	}
	t.forget = append(t.forget, f.key())
	t.drop(f)
}
