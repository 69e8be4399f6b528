package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/vfs"
)

// Backup is a file of `forebay metadata backup`, docs/formats/metadata-backup.md:
//
//	"FBBACKUP" version(1) length(4) head as JSON(length) image… sha256(32)
//
// Big-endian; the sum covers everything before it.
type Backup struct {
	BackupHead
	Image *metadata.Image // nil: a stopped node that knew nothing
	Sum   [sha256.Size]byte
}

// BackupHead says where a backup is from.
type BackupHead struct {
	ClusterID string          `json:"cluster_id"`
	Restored  string          `json:"restored,omitempty"`
	Node      metadata.NodeID `json:"node"` // who gave it
	Taken     time.Time       `json:"taken"`
	Term      uint64          `json:"term"`
	Index     uint64          `json:"index"`
	// Survey is what the node's disks have; nil: it was running.
	Survey *metadata.Survey `json:"survey,omitempty"`
}

const (
	backupMagic   = "FBBACKUP"
	backupVersion = 1
	// MaxBackup bounds what is read of a backup, in bytes: as an Image's snapshot.
	MaxBackup = 1 << 30
)

// ErrBackup is the answer for a file that is no whole backup.
var ErrBackup = errors.New("not a backup")

// Secrets says whether there is something in it that not everybody may know.
func (k *Backup) Secrets() bool {
	if k.Image == nil {
		return false
	}
	for _, configs := range k.Image.BrokerConfigs {
		for name := range configs {
			if controller.Secret(name) {
				return true
			}
		}
	}
	return len(k.Image.Scram) > 0
}

// Encode gives the bytes of the file, and sets Sum.
func (k *Backup) Encode() ([]byte, error) {
	head, err := json.Marshal(k.BackupHead)
	if err != nil {
		return nil, err
	}
	body := binary.BigEndian.AppendUint32(nil, uint32(len(head)))
	body = append(body, head...)
	if k.Image != nil {
		body = append(body, metadata.EncodeImage(k.Image)...)
	}
	b := sealed(body)
	k.Sum = [sha256.Size]byte(b[len(b)-sha256.Size:])
	return b, nil
}

// sealed is a body in its file.
func sealed(body []byte) []byte {
	b := append(append([]byte(backupMagic), backupVersion), body...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// DecodeBackup reads what Encode wrote. Errors: ErrBackup, metadata.ErrVersion, metadata.ErrCorrupt.
func DecodeBackup(b []byte) (*Backup, error) {
	start := len(backupMagic) + 1
	if len(b) < start+4+sha256.Size || string(b[:len(backupMagic)]) != backupMagic {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrBackup)
	}
	if v := b[len(backupMagic)]; v != backupVersion {
		return nil, fmt.Errorf("%w: backup version %d, this program knows %d", metadata.ErrVersion, v, backupVersion)
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	k := &Backup{Sum: sha256.Sum256(body)}
	if !bytes.Equal(k.Sum[:], sum) {
		return nil, fmt.Errorf("%w: its checksum differs: it is damaged, or not whole", ErrBackup)
	}
	n, rest := binary.BigEndian.Uint32(body[start:]), body[start+4:]
	if uint64(n) > uint64(len(rest)) {
		return nil, fmt.Errorf("%w: the length of its head", ErrBackup)
	}
	if err := json.Unmarshal(rest[:n], &k.BackupHead); err != nil {
		return nil, fmt.Errorf("%w: its head: %w", ErrBackup, err)
	}
	if rest = rest[n:]; len(rest) == 0 {
		return k, nil
	}
	var err error
	if k.Image, err = metadata.DecodeImage(rest); err != nil {
		return nil, err
	}
	if k.Image.ClusterID != k.ClusterID || k.Image.Restored != k.Restored {
		return nil, fmt.Errorf("%w: its head names cluster %s, its metadata %s", ErrBackup, metadata.Identity(k.ClusterID, k.Restored), k.Image.Identity())
	}
	return k, nil
}

// Backup is the metadata as everybody has agreed on it, of a running cluster: with everything that was agreed on before the call.
func (b *Broker) Backup(ctx context.Context) (*Backup, error) {
	if b.o.Cluster != nil {
		if err := b.quorum.Current(ctx); err != nil {
			return nil, &problem.Error{Code: "no-quorum", Class: problem.Runtime, What: "the metadata quorum does not answer: " + err.Error(), Err: err,
				Hint: "when it is lost, stop the node and give its --data"}
		}
	}
	term, image := b.quorum.Heard(), b.quorum.Image()
	return &Backup{
		BackupHead: BackupHead{ClusterID: image.ClusterID, Restored: image.Restored, Node: b.o.NodeID, Taken: time.Now().UTC(), Term: term, Index: image.Index},
		Image:      image,
	}, nil
}

// Stopped is how a command reaches the data directory of a node that does not run.
type Stopped struct {
	FS         vfs.FS // nil: the disk
	DataDir    string
	Durability commitlog.Durability // that the node ran with, of a version that did not write it down
	BootID     string               // "": this machine's
	Logger     *slog.Logger         // nil: silent
}

func (s Stopped) withDefaults() Stopped {
	if s.FS == nil {
		s.FS = vfs.Disk{}
	}
	if s.BootID == "" {
		s.BootID = bootID()
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	return s
}

// open locks the directory, and changes nothing; nil: there is no node's directory.
func (s Stopped) open() (*dataDir, error) {
	d := &dataDir{fs: s.FS, root: s.DataDir, shared: true}
	b, err := vfs.ReadFile(s.FS, d.path(metaName), maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &problem.Error{Code: "data-directory", Class: problem.Environment, Where: d.path(metaName), Err: err}
	}
	if d.lock, err = s.FS.Lock(d.path(lockName)); err != nil {
		return nil, &problem.Error{Code: "data-directory-in-use", Class: problem.Environment, Where: s.DataDir, What: "cannot lock the data directory: " + err.Error(),
			Hint: "stop the node first; of a running one take the backup with --http", Err: err}
	}
	if json.Unmarshal(b, &d.meta) == nil {
		err = d.check(b, d.meta.NodeID)
	} else {
		err = d.check(b, 0)
	}
	if err != nil {
		_ = d.unlock() // the first error tells more
		return nil, err
	}
	_, err = s.FS.Stat(d.path(cleanName))
	d.clean = err == nil
	return d, nil
}

// BackupStopped is what a stopped node knows of the metadata, and what its disks have.
func BackupStopped(s Stopped) (*Backup, error) {
	s = s.withDefaults()
	d, err := s.open()
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, &problem.Error{Code: "foreign-data-directory", Class: problem.Input, Where: s.DataDir, What: "it is no node's data directory: it has no " + metaName, Hint: "give the --data of a node"}
	}
	defer func() { _ = d.unlock() }() // it was only read
	return s.backup(d)
}

func (s Stopped) backup(d *dataDir) (*Backup, error) {
	known, err := consensus.Read(s.FS, d.path("raft"))
	if err != nil {
		return nil, metadataProblem(d.path("raft"), err)
	}
	k := &Backup{
		BackupHead: BackupHead{ClusterID: d.meta.ClusterID, Restored: d.meta.Restored, Node: d.meta.NodeID, Taken: time.Now().UTC(), Term: known.Term, Index: known.Index},
		Image:      known.Image,
	}
	if k.Image != nil && k.Image.ClusterID == "" {
		k.Image = nil // it was told of the quorum, and of nothing else
	}
	if k.Image != nil && k.Image.Identity() != d.meta.identity() {
		return nil, &problem.Error{Code: "foreign-data-directory", Class: problem.Environment, Where: d.root,
			What: fmt.Sprintf("its %s names cluster %s, its metadata cluster %s", metaName, d.meta.identity(), k.Image.Identity()), Hint: "a restoration did not end: run it again"}
	}
	k.Survey, err = s.survey(d, k.Image)
	return k, err
}

// survey looks through all log directories that the node knows. One that is not there may have had anything: then its tails count as lost.
func (s Stopped) survey(d *dataDir, image *metadata.Image) (*metadata.Survey, error) {
	found := &metadata.Survey{Node: d.meta.NodeID, Logs: []metadata.LogEnd{}}
	l := &logDirs{fs: s.FS, data: d, node: d.meta.NodeID, logger: s.Logger}
	if err := l.load(); err != nil {
		return nil, err
	}
	dirs, ran := oneDir(d).dirs, d.ran(s.Durability)
	if l.known != nil {
		dirs = nil
		for _, k := range l.known {
			r := &replica.Dir{ID: k.ID, Name: k.Path, Path: k.Path, Clean: d.clean}
			if k.Path != d.path("log") { // each other one has its own mark
				_, err := s.FS.Stat(path.Join(k.Path, cleanName))
				r.Clean = err == nil
			}
			if b, err := vfs.ReadFile(s.FS, path.Join(k.Path, propertiesName), maxSmall); err == nil {
				if p, perr := parseProperties(string(b)); perr == nil && p.directory == k.ID && !k.Failed {
					dirs = append(dirs, r)
					continue
				}
			}
			if !k.Replaced {
				s.Logger.Warn("a log directory is not there, or has failed: what this node has counts as not whole", "dir", k.Path)
				found.TailLost = true
			}
		}
	}
	if n, j := nodeOf(image, found.Node), d.meta.Joining; n != nil && j != nil && (j.Fresh || j.older(n)) {
		found.TailLost = true
	}
	for _, r := range dirs {
		// As register and registerAlone have it: only a killed process keeps its page cache (invariant 4).
		if n := nodeOf(image, found.Node); n != nil && (r.Suspect || !r.Clean && ran == commitlog.Relaxed && n.BootID != s.BootID) {
			found.TailLost = true
		}
		logs, err := replica.Survey(r, replica.Options{FS: s.FS, Durability: ran, BootID: s.BootID, Logger: s.Logger})
		if err != nil {
			return nil, fmt.Errorf("look through %s: %w", r.Path, err)
		}
		found.Logs = append(found.Logs, logs...)
	}
	return found, nil
}

func nodeOf(image *metadata.Image, id metadata.NodeID) *metadata.Node {
	if image == nil {
		return nil
	}
	return image.Nodes[id]
}
