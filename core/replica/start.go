package replica

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
)

// Start takes the first Image and looks through the log directories: folders of
// known partitions are recovered (unless the last end was clean), half-deleted ones deleted, unknown ones set aside.
// A log that cannot be recovered is offline, and no error of Start; nor is a directory, when there are others.
func (s *Set) Start(image *metadata.Image) error {
	s.readWatermarks()
	found := make([][]*entry, len(s.o.Dirs))
	errs := make([]error, len(s.o.Dirs))
	at := make([]int, len(s.o.Dirs))
	for i := range at {
		at[i] = i
	}
	_ = parallel(len(at), at, func(i int) error {
		if s.o.Dirs[i].Failed() == nil {
			found[i], errs[i] = s.look(s.o.Dirs[i], image)
		}
		return nil // settled below, where there are other directories
	})
	for i, d := range s.o.Dirs {
		if errs[i] != nil && !s.unreadable(d, errs[i]) {
			return errs[i]
		}
	}
	known, err := s.settle(found, image)
	if err != nil {
		return err
	}
	s.Update(image)
	return parallel(s.o.Parallel, known, func(e *entry) error {
		sl, err := s.slot(e.partition.Topic, e.partition.Number)
		if err == nil {
			_, err = s.open(sl, e.err == nil)
		}
		if err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrElsewhere) {
			e.in.missed.Store(true)
			return nil // offline: reported, and the rest serves on
		}
		return err
	})
}

// look decides on every entry of a directory; it gives the partitions that are to be served from it.
func (s *Set) look(d *Dir, image *metadata.Image) (known []*entry, err error) {
	if err := s.o.FS.MkdirAll(d.Path, 0o755); err != nil {
		return nil, err
	}
	entries, err := s.o.FS.ReadDir(d.Path)
	if err != nil {
		return nil, err
	}
	folders := make([]*entry, len(entries))
	for i, e := range entries {
		folders[i] = &entry{in: d, name: e.Name(), dir: e.IsDir()}
	}
	_ = parallel(s.o.Parallel, folders, func(e *entry) error { e.read(s); return nil }) // sort decides about errors
	for _, e := range folders {
		if err := s.sort(e, image); err != nil {
			return nil, err
		}
		if e.partition != nil {
			known = append(known, e)
		}
	}
	return known, nil
}

// settle gives every partition one directory, begins the placement with that, and tells which are to be recovered.
func (s *Set) settle(found [][]*entry, image *metadata.Image) (recover []*entry, err error) {
	by := map[metadata.PartitionID]*entry{}
	sure := len(s.o.Replaced) == 0
	for i, d := range s.o.Dirs {
		sure = sure && d.Failed() == nil
		for _, e := range found[i] {
			key := e.partition.ID()
			if other := by[key]; other != nil {
				if e, err = s.choose(other, e); err != nil {
					return nil, err
				}
			}
			by[key] = e
		}
	}
	at := make(map[metadata.PartitionID]string, len(by))
	for _, entries := range found { // in the order of folders, every time
		for _, e := range entries {
			if by[e.partition.ID()] != e {
				continue
			}
			at[e.partition.ID()] = e.in.ID
			e.in.partitions.Add(1)
			if !e.in.Clean {
				recover = append(recover, e)
			}
		}
	}
	if s.o.Placement == nil {
		return recover, nil
	}
	for _, t := range image.Topics {
		for _, p := range t.Partitions {
			key := p.ID()
			id := s.o.Placement.Home(key)
			d := s.dirOf(id)
			// What lies where nobody can look stays there; what is not where it should be never had a record.
			if at[key] == "" && id != "" && (d == nil || d.Failed() != nil) && slices.Contains(p.Replicas, s.o.NodeID) {
				at[key] = id
				if d != nil {
					d.partitions.Add(1)
				}
			}
		}
	}
	return recover, s.o.Placement.Begin(at, sure)
}

// choose decides between two directories that have the same partition; the other folder is set aside.
func (s *Set) choose(a, b *entry) (keep *entry, err error) {
	aEnd, err := s.logEnd(path.Join(a.in.Path, a.name))
	if err != nil {
		return nil, err
	}
	bEnd, err := s.logEnd(path.Join(b.in.Path, b.name))
	if err != nil {
		return nil, err
	}
	keep, other, why := a, b, "its log reaches further"
	if bEnd.compare(aEnd) > 0 {
		keep, other = b, a
	}
	switch home := s.o.Placement.Home(a.partition.ID()); home {
	case a.in.ID:
		keep, other, why = a, b, "it was there at the last end"
	case b.in.ID:
		keep, other, why = b, a, "it was there at the last end"
	}
	return keep, s.setAside(other.in, other.name, fmt.Sprintf("the partition lies in %s too, and is served from there: %s", keep.in.Path, why))
}

// logEnd is how far a log that is not open reaches: its newest segment, and the bytes of it.
type logEnd struct{ base, size int64 }

func (e logEnd) compare(o logEnd) int {
	return cmp.Or(cmp.Compare(e.base, o.base), cmp.Compare(e.size, o.size))
}

func (s *Set) logEnd(dir string) (end logEnd, err error) {
	entries, err := s.o.FS.ReadDir(dir)
	if err != nil {
		return end, err
	}
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), ".log")
		base, err := strconv.ParseInt(digits, 10, 64)
		if !ok || err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return end, err
		}
		if this := (logEnd{base, info.Size()}); this.compare(end) > 0 {
			end = this
		}
	}
	return end, nil
}

// Reserved are the names in a log directory of log.dirs that are no partitions'.
var Reserved = []string{"meta.properties", "meta.properties.new", "new-disk", "clean-shutdown", "clean-shutdown.new", ".lock", "quarantine", "lost+found"}

// entry is one of a log directory.
type entry struct {
	in   *Dir
	name string
	dir  bool

	// What its name and its owner file say; ok is false when it is not a partition's folder.
	topic  string
	number int32
	ok     bool
	id     metadata.TopicID
	err    error

	partition *metadata.Partition // whose log it is; nil: nobody's
}

// read looks into the folder.
func (e *entry) read(s *Set) {
	if e.topic, e.number, e.ok = parseFolder(e.name); e.ok && e.dir {
		e.id, e.err = readOwner(s, path.Join(e.in.Path, e.name))
	}
}

// sort decides on one entry of a log directory: the partition that it is, or what becomes of it.
func (s *Set) sort(e *entry, image *metadata.Image) error {
	d, name, id, err := e.in, e.name, e.id, e.err
	if s.o.Placement != nil && slices.Contains(Reserved, name) {
		return nil
	}
	if strings.HasSuffix(name, graveSuffix) && e.dir {
		s.addGrave(path.Join(d.Path, name), time.Minute)
		return nil
	}
	if !e.ok || !e.dir {
		return s.setAside(d, name, "it is not the folder of a partition")
	}
	p := image.Partition(e.topic, e.number)
	switch {
	case err == nil && p != nil && id == p.TopicID && slices.Contains(p.Replicas, s.o.NodeID):
		e.partition = p
		return nil
	case err == nil && slices.Contains(image.Deleted, id):
		// The deletion was agreed; a crash came before the folder was renamed.
		return s.bury(d, name, id, time.Minute)
	case err == nil && p != nil && id == p.TopicID:
		// All who stay have the records: it was moved elsewhere while this node was down.
		return s.bury(d, name, id, time.Minute)
	case err == nil && s.counts(p) && image.TopicIDs[id] == nil:
		e.partition, e.err = p, errOwner // its opening says why not
		return nil
	case err == nil && p != nil:
		return s.setAside(d, name, "it belongs to topic id "+id.String()+", which is not "+e.topic+" now")
	case errors.Is(err, fs.ErrNotExist):
		inside, derr := s.o.FS.ReadDir(path.Join(d.Path, name))
		if derr != nil {
			return derr
		}
		if !slices.ContainsFunc(inside, func(e fs.DirEntry) bool { return e.Name() != ownerFile+".new" }) {
			// A crash came while the folder was made; it never had a record.
			return s.o.FS.RemoveAll(path.Join(d.Path, name))
		}
		if s.counts(p) {
			e.partition = p
			return nil
		}
		return s.setAside(d, name, "it has no "+ownerFile)
	case errors.Is(err, errOwner) && s.counts(p):
		e.partition = p
		return nil
	case errors.Is(err, errOwner):
		return s.setAside(d, name, err.Error())
	case err != nil:
		// It could not be read now. If the Image knows the partition, its first use tries again and says why not.
		s.o.Logger.Error("cannot tell whose folder this is", "folder", path.Join(d.Path, name), "err", err)
		if p != nil && slices.Contains(p.Replicas, s.o.NodeID) {
			e.partition = p
		}
		return nil
	}
	return s.setAside(d, name, "its topic "+e.topic+" (id "+id.String()+") is not in the metadata")
}
