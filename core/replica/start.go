package replica

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
)

// Start takes the first Image and looks through the data directory: folders of
// known partitions are recovered (unless the last end was clean), half-deleted ones deleted, unknown ones set aside.
// A log that cannot be recovered is offline, and no error of Start.
func (s *Set) Start(image *metadata.Image) error {
	if err := s.o.FS.MkdirAll(s.o.Dir, 0o755); err != nil {
		return err
	}
	s.readWatermarks()
	entries, err := s.o.FS.ReadDir(s.o.Dir)
	if err != nil {
		return err
	}
	folders := make([]*entry, len(entries))
	for i, e := range entries {
		folders[i] = &entry{name: e.Name(), dir: e.IsDir()}
	}
	_ = parallel(s.o.Parallel, folders, func(e *entry) error { e.read(s); return nil }) // sort decides about errors
	var known []*entry
	for _, e := range folders {
		if err := s.sort(e, image); err != nil {
			return err
		}
		if e.partition != nil {
			known = append(known, e)
		}
	}
	s.Update(image)
	if s.o.Clean {
		return nil
	}
	return parallel(s.o.Parallel, known, func(e *entry) error {
		sl, err := s.slot(e.partition.Topic, e.partition.Number)
		if err == nil {
			_, err = s.open(sl, e.err == nil)
		}
		if err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrElsewhere) {
			return nil // offline: reported, and the rest serves on
		}
		return err
	})
}

// entry is one of data/log.
type entry struct {
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
		e.id, e.err = readOwner(s, path.Join(s.o.Dir, e.name))
	}
}

// sort decides on one entry of data/log: the partition that it is, or what becomes of it.
func (s *Set) sort(e *entry, image *metadata.Image) error {
	name, id, err := e.name, e.id, e.err
	if strings.HasSuffix(name, graveSuffix) && e.dir {
		s.addGrave(path.Join(s.o.Dir, name), time.Minute)
		return nil
	}
	if !e.ok || !e.dir {
		return s.setAside(name, "it is not the folder of a partition")
	}
	p := image.Partition(e.topic, e.number)
	switch {
	case err == nil && p != nil && id == p.TopicID && slices.Contains(p.Replicas, s.o.NodeID):
		e.partition = p
		return nil
	case err == nil && slices.Contains(image.Deleted, id):
		// The deletion was agreed; a crash came before the folder was renamed.
		return s.bury(name, id, time.Minute)
	case err == nil && p != nil && id == p.TopicID:
		// All who stay have the records: it was moved elsewhere while this node was down.
		return s.bury(name, id, time.Minute)
	case err == nil && p != nil:
		return s.setAside(name, "it belongs to topic id "+id.String()+", which is not "+e.topic+" now")
	case errors.Is(err, fs.ErrNotExist):
		inside, derr := s.o.FS.ReadDir(path.Join(s.o.Dir, name))
		if derr != nil {
			return derr
		}
		if !slices.ContainsFunc(inside, func(e fs.DirEntry) bool { return e.Name() != ownerFile+".new" }) {
			// A crash came while the folder was made; it never had a record.
			return s.o.FS.RemoveAll(path.Join(s.o.Dir, name))
		}
		return s.setAside(name, "it has no "+ownerFile)
	case errors.Is(err, errOwner):
		return s.setAside(name, err.Error())
	case err != nil:
		// It could not be read now. If the Image knows the partition, its first use tries again and says why not.
		s.o.Logger.Error("cannot tell whose folder this is", "folder", name, "err", err)
		if p != nil && slices.Contains(p.Replicas, s.o.NodeID) {
			e.partition = p
		}
		return nil
	}
	return s.setAside(name, "its topic "+e.topic+" (id "+id.String()+") is not in the metadata")
}
