package broker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/google/uuid"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/vfs"
)

// The names in a data directory; docs/formats/data-directory.md describes them.
const (
	lockName  = "lock"
	metaName  = "meta.json"
	cleanName = "clean-shutdown"
	// metaFormat is the version of the directory's layout, and newFormat that of one that was made by a start which was not registered: whoever does
	// not know of joining would take it for the node's old one.
	metaFormat = 1
	newFormat  = 2
	// maxSmall bounds the files that writeSmall writes, in bytes.
	maxSmall = 64 << 10
)

// dirMeta is meta.json: whose directory this is.
type dirMeta struct {
	Format    int             `json:"format"`
	NodeID    metadata.NodeID `json:"node_id"`
	ClusterID string          `json:"cluster_id"`
	// Restored names the restoration that the node's metadata is of, as metadata.Image does.
	Restored string `json:"restored,omitempty"`
	// Durability is relaxed from before the first record of a run that is, until a power-safe one has all on its disk and is registered. "": as the start says.
	Durability string `json:"durability,omitempty"`
	// Failed says that a write or a sync in log/ has failed, until a start has recovered all logs as ones that may have lost their tails, and the cluster knows.
	Failed bool `json:"failed,omitempty"`
	// Joining is there from before a start of one of several is told anything until it is registered.
	Joining *joining `json:"joining,omitempty"`
}

// joining is what a directory had when the first start began of those that have not been registered. What they were told of the metadata since says nothing of its logs.
type joining struct {
	Remembered uint64 `json:"remembered"`      // the last index of the metadata
	Fresh      bool   `json:"fresh,omitempty"` // nothing: that start has made the directory
	// Told says of a fresh one that raft was told, there or in a later start, all that had been agreed on: the node remembers what it may have voted for.
	Told bool `json:"told,omitempty"`
}

// older says that it was put back from a copy that does not know of the node's last registration: a node does nothing under one that its own disk does not have.
func (j joining) older(before *metadata.Node) bool {
	return !j.Fresh && j.Remembered < uint64(before.Epoch)
}

func (m dirMeta) identity() string { return metadata.Identity(m.ClusterID, m.Restored) }

// dataDir is a locked data directory.
type dataDir struct {
	fs    vfs.FS
	root  string
	lock  io.Closer
	mu    sync.Mutex // over changes of meta
	meta  dirMeta
	broke bool // setFailed was told so in this run
	clean bool // the last end was in good order
	fresh bool // made by this start: it holds nothing
	// shared: the directory is of a node that takes its cluster id from others; "" until it has one.
	shared bool
}

func (d *dataDir) path(name string) string { return path.Join(d.root, name) }

// openDataDir locks root, creates or checks meta.json and takes the clean mark off.
func openDataDir(fsys vfs.FS, root string, node metadata.NodeID, shared bool, logger *slog.Logger) (*dataDir, error) {
	if err := vfs.MkdirAllSync(fsys, root, 0o755); err != nil {
		return nil, &problem.Error{Code: "data-directory", Class: problem.Environment, Where: root, What: "cannot make the data directory: " + err.Error(), Hint: "give another with --data", Err: err}
	}
	d := &dataDir{fs: fsys, root: root, shared: shared}
	lock, err := fsys.Lock(d.path(lockName))
	if err != nil {
		return nil, &problem.Error{Code: "data-directory-in-use", Class: problem.Environment, Where: root, What: "cannot lock the data directory: " + err.Error(), Hint: "is another forebay running on it? Stop it, or give another directory with --data", Err: err}
	}
	d.lock = lock
	if err := d.load(node); err != nil {
		_ = d.unlock() // the first error tells more
		return nil, err
	}
	if !d.clean {
		logger.Debug("the last end was not clean: recovering", "dir", root)
	}
	return d, nil
}

func (d *dataDir) load(node metadata.NodeID) error {
	b, err := vfs.ReadFile(d.fs, d.path(metaName), maxSmall)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := d.create(node); err != nil {
			return err
		}
	case err != nil:
		return &problem.Error{Code: "data-directory", Class: problem.Environment, Where: d.path(metaName), Err: err}
	default:
		if err := d.check(b, node); err != nil {
			return err
		}
	}
	return d.takeMark()
}

// create makes an empty directory ours.
func (d *dataDir) create(node metadata.NodeID) error {
	entries, err := d.fs.ReadDir(d.root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == lockName, name == "lost+found", strings.HasPrefix(name, metaName):
		default:
			return &problem.Error{
				Code: "foreign-data-directory", Class: problem.Environment, Where: d.root,
				What: fmt.Sprintf("it has no %s but it is not empty (%s)", metaName, name),
				Hint: "give an empty directory, or one that forebay made, with --data",
			}
		}
	}
	d.fresh = true
	d.meta = dirMeta{NodeID: node}
	if d.shared {
		d.meta.Joining = &joining{Fresh: true}
	} else {
		d.meta.ClusterID = newClusterID()
	}
	return d.writeMeta()
}

// join writes down, durably, what the directory has of the metadata: it is about to be told more. What a start before this one had, and was not registered with, stays.
func (d *dataDir) join(remembered uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := joining{Remembered: remembered}
	if was := d.meta.Joining; was != nil && was.Remembered <= remembered {
		return nil
	} else if was != nil {
		j.Fresh = was.Fresh
	}
	d.meta.Joining = &j
	return d.writeMeta()
}

// forgot says that raft has nothing, or only a part of what it was told anew.
func (d *dataDir) forgot() bool { j := d.meta.Joining; return j != nil && j.Fresh && !j.Told }

// told says, durably, that raft has all that was agreed on.
func (d *dataDir) told() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.meta.Joining
	if j == nil || !j.Fresh || j.Told {
		return nil
	}
	d.meta.Joining = &joining{Fresh: true, Told: true}
	return d.writeMeta()
}

// joined says, durably, that the cluster knows what the directory has.
func (d *dataDir) joined() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.meta.Joining == nil {
		return nil
	}
	d.meta.Joining = nil
	return d.writeMeta()
}

// setCluster says, durably, which cluster the directory belongs to.
func (d *dataDir) setCluster(id, restored string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.meta.ClusterID, d.meta.Restored = id, restored
	return d.writeMeta()
}

// setFailed writes down, durably, that log/ has failed, or (false) that a start has seen to it; not if it has failed again.
func (d *dataDir) setFailed(v bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broke = d.broke || v
	if d.meta.Failed == d.broke {
		return nil
	}
	d.meta.Failed = d.broke
	return d.writeMeta()
}

// ran is the durability of the runs before; this: of this one.
func (d *dataDir) ran(this commitlog.Durability) commitlog.Durability {
	switch {
	case d.fresh, d.meta.Durability == "":
		return this
	case d.meta.Durability == commitlog.PowerSafe.String():
		return commitlog.PowerSafe
	}
	return commitlog.Relaxed
}

// setDurability writes down, durably, what ran gives from now on.
func (d *dataDir) setDurability(v commitlog.Durability) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.meta.Durability == v.String() {
		return nil
	}
	d.meta.Durability = v.String()
	return d.writeMeta()
}

func (d *dataDir) writeMeta() error {
	d.meta.Format = metaFormat
	if d.meta.Joining != nil && d.meta.Joining.Fresh {
		d.meta.Format = newFormat
	}
	b, err := json.MarshalIndent(d.meta, "", "  ")
	if err != nil {
		return err
	}
	if err := writeSmall(d.fs, d.root, metaName, append(b, '\n')); err != nil {
		return &problem.Error{Code: "data-directory", Class: problem.Environment, Where: d.root, What: "cannot write to the data directory: " + err.Error(), Hint: "check rights and free space, or give another with --data", Err: err}
	}
	return nil
}

func (d *dataDir) check(b []byte, node metadata.NodeID) error {
	wrong := func(code, hint, format string, args ...any) error {
		return &problem.Error{Code: code, Class: problem.Environment, Where: d.path(metaName), What: fmt.Sprintf(format, args...), Hint: hint}
	}
	if err := json.Unmarshal(b, &d.meta); err != nil || d.meta.Format == 0 || d.meta.ClusterID == "" && !d.shared {
		return wrong("foreign-data-directory", "give an empty directory, or one that forebay made, with --data", "it is not forebay's: %.100q", b)
	}
	if d.meta.Format > newFormat {
		return wrong("newer-data", "start the newer version of forebay that wrote it", "format %d, this version knows up to %d", d.meta.Format, newFormat)
	}
	if d.meta.NodeID != node {
		return wrong("foreign-data-directory", fmt.Sprintf("start with --id %d, or give node %d its own directory with --data", d.meta.NodeID, node),
			"it belongs to node %d, this is node %d", d.meta.NodeID, node)
	}
	return nil
}

// newClusterID makes 22 characters as Kafka's: a random UUID in URL-safe base64 that looks like no flag.
func newClusterID() string {
	for {
		id := uuid.New()
		if s := base64.RawURLEncoding.EncodeToString(id[:]); s[0] != '-' {
			return s
		}
	}
}

// takeMark reads the clean mark and takes it off, durably, before anything in the
// directory changes: a mark that is left valid would hide the next crash.
func (d *dataDir) takeMark() error {
	_, err := d.fs.Stat(d.path(cleanName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		if err = d.fs.Remove(d.path(cleanName)); err == nil {
			err = d.fs.SyncDir(d.root)
		}
	}
	d.clean = err == nil
	return err
}

func (d *dataDir) markClean() error {
	return writeSmall(d.fs, d.root, cleanName, []byte("version: 0\n"))
}

func (d *dataDir) unlock() error {
	if d.lock == nil {
		return nil
	}
	err := d.lock.Close()
	d.lock = nil
	return err
}

// writeSmall writes dir/name whole and durably, or not at all.
func writeSmall(fsys vfs.FS, dir, name string, b []byte) error {
	full := path.Join(dir, name)
	f, err := fsys.OpenFile(full+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(full+".new", full)
	}
	if err != nil {
		_ = fsys.Remove(full + ".new") // the first error tells more
		return err
	}
	return fsys.SyncDir(dir)
}

// noRoom says that the disk, or a quota on it, is full.
func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// bootID names this run of the machine; "" where the kernel does not tell, which counts as another one each time.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown-" + uuid.NewString()
	}
	return strings.TrimSpace(string(b))
}
