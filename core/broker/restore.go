package broker

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/problem"
)

// A quorum that is lost is founded anew from backups: every node that is left runs the same restoration over the same files and comes to the same result, in
// which one of them is the only voter. Who joins later has nothing from before, or the name of this restoration (metadata.Image.Identity); so neither a node that was
// passed over nor an old majority that comes back takes part in it.

// RestoreOptions say what to restore, and where.
type RestoreOptions struct {
	Stopped
	Backups    []*Backup
	NodeID     metadata.NodeID // of an empty directory
	AcceptLoss bool            // go on although acknowledged records may be missing
	DryRun     bool            // only say what would be done
}

// Restored is what a restoration came to.
type Restored struct {
	ClusterID  string                       `json:"cluster_id"`
	Name       string                       `json:"restoration"`
	Node       metadata.NodeID              `json:"node"`    // whose directory it is
	Founder    metadata.NodeID              `json:"founder"` // the first voter
	From       metadata.NodeID              `json:"from"`    // who gave the newest metadata
	Taken      time.Time                    `json:"taken"`   // when
	Partitions []metadata.RestoredPartition `json:"partitions"`
	Unknown    []metadata.LogEnd            `json:"unknown,omitempty"` // logs of no partition of the metadata: set aside at the start
	Aside      string                       `json:"aside,omitempty"`   // where the old metadata lies now
	Done       bool                         `json:"done"`              // the directory can be started
}

// Risks are the partitions of which acknowledged records may be missing.
func (r *Restored) Risks() (list []metadata.RestoredPartition) {
	for _, p := range r.Partitions {
		if p.Risk != "" {
			list = append(list, p)
		}
	}
	return list
}

func cannotRestore(where, hint, format string, args ...any) error {
	return &problem.Error{Code: "restore-refused", Class: problem.Input, Where: where, What: fmt.Sprintf(format, args...), Hint: hint}
}

// Restore makes a stopped node's data directory ready to be started in the new quorum. Also with an error there is a result, as far as it got.
func Restore(o RestoreOptions) (*Restored, error) {
	o.Stopped = o.Stopped.withDefaults()
	newest, surveys, err := chosen(o.Backups)
	if err != nil {
		return nil, err
	}
	d, err := o.open()
	if err != nil {
		return nil, err
	}
	defer func() {
		if d != nil {
			_ = d.unlock() // what was written is synced
		}
	}()
	r := &Restored{ClusterID: newest.ClusterID, Node: o.NodeID, From: newest.Node, Taken: newest.Taken}
	if d != nil {
		r.Node = d.meta.NodeID
	}
	if r.Founder = r.Node; len(surveys) > 0 {
		r.Founder = surveys[0].Node
	}
	r.Name = restorationName(o.Backups, r.Founder)
	var index, term uint64
	for _, k := range o.Backups {
		index, term = max(index, k.Index), max(term, k.Term)
	}
	plan, err := metadata.Restore(newest.Image, index+1, r.Name, r.Founder, surveys)
	if err != nil {
		return nil, cannotRestore("", "", "%v", err)
	}
	r.Partitions, r.Unknown = plan.Partitions, plan.Unknown
	if r.Done, err = o.ready(d, r, surveys); err != nil || r.Done {
		return r, err
	}
	if risks := r.Risks(); len(risks) > 0 && !o.AcceptLoss {
		return r, cannotRestore("", "find the missing nodes' data, or go on with --accept-loss", "acknowledged records of %d of %d partitions may be missing", len(risks), len(r.Partitions))
	}
	if o.DryRun {
		return r, nil
	}
	if d == nil {
		if d, err = openDataDir(o.FS, o.DataDir, r.Node, true, o.Logger); err != nil {
			return r, err
		}
	}
	// From here on the old metadata is not started from any more, and the rest can be done again.
	d.meta.Joining = nil // what the directory has was surveyed
	if err := d.setCluster(r.ClusterID, r.Name); err != nil {
		return r, err
	}
	if err := r.setAside(d); err != nil {
		return r, err
	}
	if r.Node == r.Founder {
		if err := consensus.Refound(o.FS, d.path("raft"), r.Node, plan.Image, term+1); err != nil {
			return r, fmt.Errorf("%s: %w", d.path("raft"), err)
		}
	}
	r.Done = true
	return r, nil
}

// chosen is the backup with the newest metadata, and what was surveyed, by node.
func chosen(list []*Backup) (newest *Backup, surveys []metadata.Survey, err error) {
	for _, k := range list {
		if first := list[0]; k.ClusterID != first.ClusterID {
			return nil, nil, cannotRestore("", "give the files of one cluster", "the backups are of different clusters, %s and %s", first.ClusterID, k.ClusterID)
		} else if k.Restored != first.Restored {
			return nil, nil, cannotRestore("", "leave out what is older than the last restoration", "the backups are from before and after a restoration of cluster %s", k.ClusterID)
		}
		if k.Image != nil && (newest == nil || k.Term > newest.Term || k.Term == newest.Term && k.Index > newest.Index) {
			newest = k
		}
	}
	for _, k := range list {
		if k.Survey == nil || newest == nil {
			continue
		}
		s := *k.Survey
		// A node does nothing under a registration that its own disk does not have: this one was put back from an older copy (register).
		if n := newest.Image.Nodes[s.Node]; n != nil && uint64(n.Epoch) > k.Index {
			s.TailLost = true
		}
		surveys = append(surveys, s)
	}
	if newest == nil {
		return nil, nil, cannotRestore("", "give a backup of a running cluster, or of a node that has its metadata", "none of the backups has metadata")
	}
	slices.SortFunc(surveys, func(a, b metadata.Survey) int { return int(a.Node) - int(b.Node) })
	return newest, surveys, nil
}

// restorationName is the same for all who restore from the same files.
func restorationName(list []*Backup, founder metadata.NodeID) string {
	var sums []string
	for _, k := range list {
		sums = append(sums, string(k.Sum[:]))
	}
	slices.Sort(sums)
	sum := sha256.Sum256([]byte(fmt.Sprintf("%s %d", strings.Join(slices.Compact(sums), ""), founder)))
	return hex.EncodeToString(sum[:6])
}

// ready says that the directory was restored already, or why it must not be: what the plan goes by has to be true of it.
func (o *RestoreOptions) ready(d *dataDir, r *Restored, surveys []metadata.Survey) (bool, error) {
	mine := slices.IndexFunc(surveys, func(s metadata.Survey) bool { return s.Node == r.Node })
	switch {
	case d == nil && len(surveys) > 0:
		return false, cannotRestore(o.DataDir, "restore on the nodes whose data is left; start this one with its empty directory when they run", "there is no node's data directory here, so nothing to restore")
	case d == nil:
		return false, nil
	case d.meta.ClusterID != "" && d.meta.ClusterID != r.ClusterID:
		return false, cannotRestore(d.root, "", "it belongs to cluster %s, the backups are of %s", d.meta.ClusterID, r.ClusterID)
	case d.meta.Restored == r.Name:
		known, err := consensus.Read(o.FS, d.path("raft"))
		if err != nil {
			return false, metadataProblem(d.path("raft"), err)
		}
		if known.Image != nil && known.Image.Restored == r.Name || known.Image == nil && r.Node != r.Founder {
			return true, nil
		}
		return false, nil // the rest is to be done
	case mine < 0:
		return false, cannotRestore(d.root, "take `forebay metadata backup FILE --data` here and restore everywhere with it too; or move the directory away and start the node with an empty one",
			"none of the backups tells what node %d has: the others would not know of it", r.Node)
	}
	now, err := o.survey(d, nil)
	if err != nil {
		return false, err
	}
	if was := surveys[mine].Logs; !reflect.DeepEqual(now.Logs, was) {
		return false, cannotRestore(d.root, "take its backup anew and restore everywhere with it", "node %d has other records than when its backup was taken: it was started since, or this is another copy", r.Node)
	}
	return false, nil
}

// setAside moves the metadata from before away: nothing is deleted.
func (r *Restored) setAside(d *dataDir) error {
	if _, err := d.fs.Stat(d.path("raft")); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for n := 1; ; n++ {
		r.Aside = d.path(fmt.Sprintf("raft-before-%s-%d", r.Name, n))
		if _, err := d.fs.Stat(r.Aside); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
	}
	err := d.fs.Rename(d.path("raft"), r.Aside)
	if err == nil {
		err = d.fs.SyncDir(d.root)
	}
	return err
}
