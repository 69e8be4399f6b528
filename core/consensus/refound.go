package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"github.com/hashicorp/raft"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

// What is known of the metadata when its quorum is lost lies in the folders of nodes that are stopped.

// Recorded is the metadata that a stopped node's raft folder has: everything that the node was ever told, agreed on or not. Raft elects who has
// the newest (Term, Index), so nothing that was agreed on is missing in the newest of a majority.
type Recorded struct {
	Image *metadata.Image // nil: the folder is empty, or not there
	Term  uint64          // of the last entry
	Index uint64
}

// Read reads the raft folder of a stopped node. As a start does, it cuts off what a crash has left half-written.
func Read(fsys vfs.FS, dir string) (r Recorded, err error) {
	if _, err := fsys.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	snaps := &snapshots{fs: fsys, dir: dir}
	metas, err := snaps.List()
	if err != nil {
		return r, err
	}
	st, err := openStore(fsys, dir, func(error) {})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	image := metadata.NewImage()
	if len(metas) > 0 {
		_, data, err := snaps.read(metas[0].ID)
		if err != nil {
			return r, err
		}
		if image, err = metadata.DecodeImage(data); err != nil {
			return r, fmt.Errorf("metadata snapshot: %w", err)
		}
		if r.Term, r.Index = metas[0].Term, metas[0].Index; st.parted(metas[0]) {
			st.entries = nil // as a start does
		}
	}
	for _, l := range st.entries {
		if l.Index <= r.Index {
			continue
		}
		if l.Index != r.Index+1 {
			return r, fmt.Errorf("%w: entry %d after %d", ErrCorrupt, l.Index, r.Index)
		}
		if r.Term, r.Index = l.Term, l.Index; l.Type != raft.LogCommand {
			continue
		}
		c, err := metadata.Decode(l.Data)
		if err != nil {
			return r, fmt.Errorf("metadata command at index %d: %w", l.Index, err)
		}
		image, _ = metadata.ApplyAt(image, l.Index, appended(l), c)
	}
	if r.Index > 0 {
		r.Image = image
	}
	return r, nil
}

// Refound makes a raft folder whose node is the only voter, and begins with image, in a term that nobody has heard of. dir must not be there.
func Refound(fsys vfs.FS, dir string, node metadata.NodeID, image *metadata.Image, term uint64) error {
	made := dir + ".new"
	if err := fsys.RemoveAll(made); err != nil {
		return err
	}
	if err := fsys.MkdirAll(made, 0o755); err != nil {
		return err
	}
	st, err := openStore(fsys, made, func(error) {})
	if err == nil {
		err = errors.Join(st.SetUint64([]byte("CurrentTerm"), term), st.close()) // raft's own name for it
	}
	if err != nil {
		return err
	}
	// raft asks for addresses by id (addresses in peers.go); this one is never dialled.
	c := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(strconv.Itoa(int(node))), Address: raft.ServerAddress(fmt.Sprintf("node-%d", node))}}}
	sink, err := (&snapshots{fs: fsys, dir: made}).Create(raft.SnapshotVersionMax, image.Index, term, c, 1, nil)
	if err == nil {
		err = frozen{image}.Persist(sink)
	}
	if err == nil {
		err = fsys.Rename(made, dir)
	}
	if err == nil {
		err = fsys.SyncDir(path.Dir(dir))
	}
	return err
}

// Heard is the raft term that this node is in, whoever leads.
func (q *Quorum) Heard() uint64 { return q.raft.CurrentTerm() }
