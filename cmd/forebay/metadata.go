package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/forebayhub/forebay/core/broker"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/vfs"
	"github.com/forebayhub/forebay/runtime/api"
)

func metadataCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "metadata", Short: "Back up the cluster's metadata, and found a lost quorum anew from it"}
	c.AddCommand(metadataBackup(s), metadataDescribe(s), metadataRestore(s))
	return c
}

// stoppedFlags are those by which a command reaches the directory of a node that does not run.
func stoppedFlags(f *pflag.FlagSet) func(s streams) (broker.Stopped, error) {
	data := f.String("data", "", "the data directory of a stopped `node`")
	durability := f.String("durability", "power-safe", "what the node ran with, if its version did not write it down: after relaxed and an unclean end its tails may be lost")
	return func(s streams) (broker.Stopped, error) {
		o := upOptions{durability: *durability}
		d, err := o.durable()
		return broker.Stopped{DataDir: filepath.ToSlash(*data), Durability: d, Logger: logger(s)}, err
	}
}

func metadataBackup(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the metadata to a file",
		Long: "Writes what the cluster has agreed on to FILE: topics and their ids, partitions, configs, users, ACLs, quotas. Of a running cluster any node gives it, at\n" +
			"--http. With --data it is what a stopped node knows of it, and what its disks have, for a restoration.\n\n" +
			"FILE has the keys of SCRAM users: only its owner may read it. Keep it so.",
		Example: "  forebay metadata backup /backup/metadata-$(date +%F) --http HOST:8080 --http-token FILE\n  forebay metadata backup node2.metadata --data /var/lib/forebay",
		Args:    cobra.ExactArgs(1),
	}
	stopped := stoppedFlags(c.Flags())
	addHTTP(c)
	addJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var content []byte
		if c.Flags().Changed("data") {
			if c.Flags().Changed("http") {
				return badInput("--data", "contradicts --http", "--http is for a running cluster, --data for a stopped node")
			}
			at, err := stopped(s)
			if err != nil {
				return err
			}
			k, err := broker.BackupStopped(at)
			if err != nil {
				return err
			}
			if content, err = k.Encode(); err != nil {
				return err
			}
		} else {
			var err error
			if content, err = ask(c, http.MethodGet, "/metadata/backup", nil, broker.MaxBackup); err != nil {
				return err
			}
		}
		// Looked at before it takes the place of an older one.
		k, err := broker.DecodeBackup(content)
		if err != nil {
			return &problem.Error{Code: "bad-backup", Class: problem.Runtime, What: "what came is " + err.Error(), Err: err}
		}
		if err := writeSecret(args[0], content); err != nil {
			return &problem.Error{Code: "cannot-write", Class: problem.Environment, Where: args[0], What: rootCause(err), Err: err}
		}
		return describeBackup(c, s, args[0], k)
	}
	return c
}

// writeSecret writes a file whole or not at all, for its owner alone.
func writeSecret(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // the first error tells more
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return vfs.Disk{}.SyncDir(filepath.Dir(path))
}

func readBackup(path string) (*broker.Backup, error) {
	content, err := vfs.ReadFile(vfs.Disk{}, path, broker.MaxBackup)
	if err != nil {
		return nil, badInput(path, rootCause(err), "give a file of `forebay metadata backup`")
	}
	k, err := broker.DecodeBackup(content)
	switch {
	case errors.Is(err, metadata.ErrVersion):
		return nil, &problem.Error{Code: "newer-data", Class: problem.Environment, Where: path, What: err.Error(), Hint: "take the version of forebay that wrote it, or a newer one", Err: err}
	case err != nil:
		return nil, badInput(path, err.Error(), "give a file of `forebay metadata backup`")
	}
	return k, nil
}

func metadataDescribe(s streams) *cobra.Command {
	c := &cobra.Command{Use: "describe FILE", Short: "Check a backup, and show what is in it", Args: cobra.ExactArgs(1)}
	addJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		k, err := readBackup(args[0])
		if err != nil {
			return err
		}
		return describeBackup(c, s, args[0], k)
	}
	return c
}

// backupShown is a backup without its secrets.
type backupShown struct {
	File string `json:"file"`
	broker.BackupHead
	Nodes      int      `json:"nodes"`
	Topics     []string `json:"topics"`
	Partitions int      `json:"partitions"`
	Users      int      `json:"scram_users"`
	ACLs       int      `json:"acls"`
}

func describeBackup(c *cobra.Command, s streams, file string, k *broker.Backup) error {
	shown := backupShown{File: file, BackupHead: k.BackupHead, Topics: []string{}}
	if i := k.Image; i != nil {
		shown.Nodes, shown.Users, shown.ACLs = len(i.Nodes), len(i.Scram), len(i.ACLs)
		for _, name := range slices.Sorted(maps.Keys(i.Topics)) {
			shown.Topics = append(shown.Topics, name)
			shown.Partitions += len(i.Topics[name].Partitions)
		}
	}
	if wantsJSON(c) {
		return writeJSON(s.out, shown)
	}
	fmt.Fprintf(s.out, "%s: cluster %s, from node %d at %s, term %d, index %d\n", file, k.ClusterID, k.Node, k.Taken.Format(time.RFC3339), k.Term, k.Index)
	fmt.Fprintf(s.out, "%d nodes, %d topics with %d partitions, %d SCRAM users, %d ACLs\n", shown.Nodes, len(shown.Topics), shown.Partitions, shown.Users, shown.ACLs)
	if v := k.Survey; v != nil {
		note := ""
		if v.TailLost {
			note = "; the ends of its logs may be lost"
		}
		fmt.Fprintf(s.out, "node %d was stopped and has logs of %d partitions%s\n", v.Node, len(v.Logs), note)
	}
	return nil
}

func metadataRestore(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "restore FILE…",
		Short: "Found a lost quorum anew from backups, on the data that is left",
		Long: "For when most of the voters are lost for good, and nothing else brings the quorum back. All nodes are stopped. On every node whose data is left a backup is taken with\n" +
			"--data; then every one of them is restored with all of these files and the newest backup of the cluster: the same files everywhere. The node with the least id\n" +
			"founds the quorum. The cluster id and the topics' ids stay, so the nodes take up their partitions again. Of each partition the replica leads whose\n" +
			"records reach furthest; the others follow it.\n\n" +
			"Acknowledged records that only lost nodes had are gone. Unless they cannot be, that is refused until --accept-loss is given: they cannot be when all replicas are\n" +
			"there, or fewer are missing than min.insync.replicas. What nobody has begins empty.\n\n" +
			"With a backup of a running cluster alone, and an empty --data, a new cluster begins with the topics, users and rights of the old one, and no records.\n" +
			"The metadata from before is set aside in the data directory, never deleted.",
		Example: "  forebay metadata restore node2.metadata node3.metadata backup --data /var/lib/forebay --dry-run\n" +
			"  forebay metadata restore backup --data EMPTY --id 1 --accept-loss",
		Args: cobra.MinimumNArgs(1),
	}
	stopped := stoppedFlags(c.Flags())
	id := c.Flags().Int32("id", 1, "the node's id, where --data is empty")
	accept := c.Flags().Bool("accept-loss", false, "go on although acknowledged records may be missing")
	dry := c.Flags().Bool("dry-run", false, "say what would be done, and do nothing")
	addJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if !c.Flags().Changed("data") {
			return badInput("--data", "is not given", "give the data directory of the stopped node")
		}
		o := broker.RestoreOptions{NodeID: metadata.NodeID(*id), AcceptLoss: *accept, DryRun: *dry}
		var err error
		if o.Stopped, err = stopped(s); err != nil {
			return err
		}
		for _, path := range args {
			k, err := readBackup(path)
			if err != nil {
				return err
			}
			o.Backups = append(o.Backups, k)
		}
		r, err := broker.Restore(o)
		if r != nil && !wantsJSON(c) {
			showRestored(s, r)
		}
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return writeJSON(s.out, r)
		}
		switch {
		case !r.Done:
			fmt.Fprintln(s.out, "nothing was changed")
		case r.Node == r.Founder:
			fmt.Fprintf(s.out, "node %d founds the quorum: start it, and the others when they are restored\n", r.Node)
		default:
			fmt.Fprintf(s.out, "node %d joins node %d: start it\n", r.Node, r.Founder)
		}
		return nil
	}
	return c
}

func showRestored(s streams, r *broker.Restored) {
	fmt.Fprintf(s.out, "restoration %s of cluster %s, with the metadata that node %d had at %s\n", r.Name, r.ClusterID, r.From, r.Taken.Format(time.RFC3339))
	for _, p := range r.Risks() {
		fmt.Fprintf(s.out, "%s-%d: node %d leads, with records up to offset %d; %s%s\n", p.Topic, p.Number, p.Leader, p.End, p.Risk, missing(p.Missing))
	}
	for _, l := range r.Unknown {
		fmt.Fprintf(s.out, "%s-%d (topic id %s): the metadata does not know it; a node that has it sets it aside in its quarantine\n", l.Topic, l.Number, l.ID)
	}
	fmt.Fprintf(s.out, "%d partitions, %d of them may miss acknowledged records\n", len(r.Partitions), len(r.Risks()))
	if r.Aside != "" {
		fmt.Fprintf(s.out, "the metadata from before is in %s\n", r.Aside)
	}
}

func missing(nodes []metadata.NodeID) string {
	if len(nodes) == 0 {
		return ""
	}
	var ids []string
	for _, n := range nodes {
		ids = append(ids, strconv.Itoa(int(n)))
	}
	return " (missing: " + strings.Join(ids, ", ") + ")"
}

// backupTimeout bounds the wait for the quorum's word.
const backupTimeout = 10 * time.Second

// backup gives the metadata, with its secrets: a place where everybody comes in gives none.
func (f *front) backup(w http.ResponseWriter, r *http.Request) {
	b := f.node.Load()
	if b == nil {
		api.Problem(w, http.StatusServiceUnavailable, "there is no node of the log here, or it is starting")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), backupTimeout)
	defer cancel()
	k, err := b.Backup(ctx)
	if err != nil {
		api.Problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	if f.open && k.Secrets() {
		api.Problem(w, http.StatusForbidden, "the metadata has secrets, as the keys of SCRAM users, and --http lets everybody in: start the node with --http-token or --tls-dir, or stop it and give its --data")
		return
	}
	content, err := k.Encode()
	if err != nil {
		api.Problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	tell(w, string(content))
}
