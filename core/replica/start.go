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
	var known []*metadata.Partition
	for _, e := range entries {
		p, err := s.sort(e, image)
		if err != nil {
			return err
		}
		if p != nil {
			known = append(known, p)
		}
	}
	s.Update(image)
	if s.o.Clean {
		return nil
	}
	return parallel(s.o.Parallel, known, func(p *metadata.Partition) error {
		_, err := s.Partition(p.Topic, p.Number)
		if err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrElsewhere) {
			return nil // offline: reported, and the rest serves on
		}
		return err
	})
}

// sort decides on one entry of data/log: the partition that it is, or nil.
func (s *Set) sort(e fs.DirEntry, image *metadata.Image) (*metadata.Partition, error) {
	name := e.Name()
	if strings.HasSuffix(name, graveSuffix) && e.IsDir() {
		s.addGrave(path.Join(s.o.Dir, name), time.Minute)
		return nil, nil
	}
	topic, number, ok := parseFolder(name)
	if !ok || !e.IsDir() {
		return nil, s.setAside(name, "it is not the folder of a partition")
	}
	p := image.Partition(topic, number)
	id, err := readOwner(s, path.Join(s.o.Dir, name))
	switch {
	case err == nil && p != nil && id == p.TopicID && slices.Contains(p.Replicas, s.o.NodeID):
		return p, nil
	case err == nil && slices.Contains(image.Deleted, id):
		// The deletion was agreed; a crash came before the folder was renamed.
		return nil, s.bury(name, id, time.Minute)
	case err == nil && p != nil && id == p.TopicID:
		// All who stay have the records: it was moved elsewhere while this node was down.
		return nil, s.bury(name, id, time.Minute)
	case err == nil && p != nil:
		return nil, s.setAside(name, "it belongs to topic id "+id.String()+", which is not "+topic+" now")
	case errors.Is(err, fs.ErrNotExist):
		inside, derr := s.o.FS.ReadDir(path.Join(s.o.Dir, name))
		if derr != nil {
			return nil, derr
		}
		if !slices.ContainsFunc(inside, func(e fs.DirEntry) bool { return e.Name() != ownerFile+".new" }) {
			// A crash came while the folder was made; it never had a record.
			return nil, s.o.FS.RemoveAll(path.Join(s.o.Dir, name))
		}
		return nil, s.setAside(name, "it has no "+ownerFile)
	case errors.Is(err, errOwner):
		return nil, s.setAside(name, err.Error())
	case err != nil:
		// It could not be read now. If the Image knows the partition, its first use tries again and says why not.
		s.o.Logger.Error("cannot tell whose folder this is", "folder", name, "err", err)
		if p == nil || !slices.Contains(p.Replicas, s.o.NodeID) {
			return nil, nil
		}
		return p, nil
	}
	return nil, s.setAside(name, "its topic "+topic+" (id "+id.String()+") is not in the metadata")
}
