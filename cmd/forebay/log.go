package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/vfs"
)

func logCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "log", Short: "Look into log files"}
	dump := &cobra.Command{Use: "dump PATH", Short: "Print a segment, an index or a snapshot, with CRC verdicts", Args: cobra.ExactArgs(1)}
	records := dump.Flags().Bool("records", false, "every record of a segment, not only its batches")
	dump.RunE = func(_ *cobra.Command, args []string) error {
		out := bufio.NewWriter(s.out)
		err := commitlog.Dump(out, vfs.Disk{}, args[0], *records)
		if ferr := out.Flush(); err == nil {
			err = ferr
		}
		if errors.Is(err, fs.ErrNotExist) {
			return badInput(args[0], "there is no such file", "the files of a partition are in its folder in the data directory, or in one of log.dirs; docs/formats/data-directory.md")
		}
		return err
	}
	c.AddCommand(dump, logRepair(s))
	return c
}

func logRepair(s streams) *cobra.Command {
	c := &cobra.Command{Use: "repair PATH", Short: "Take broken bytes out of a partition's folder; without a flag only tell what is broken", Args: cobra.ExactArgs(1),
		Long: "Takes broken bytes out of the log in PATH, the folder of a partition, keeps them in quarantine and says what is lost. The node must be stopped.\n" +
			"Where another replica has the records, move PATH away instead: the node copies them again."}
	at := c.Flags().Int64("truncate-at", -1, "end the log at the batch that has this offset")
	skip := c.Flags().Bool("skip", false, "take out what is broken and nothing else; its offsets stay used")
	c.MarkFlagsMutuallyExclusive("truncate-at", "skip")
	c.RunE = func(cmd *cobra.Command, args []string) (err error) {
		dir := path.Clean(filepath.ToSlash(args[0]))
		r := commitlog.Repair{FS: vfs.Disk{}, Dir: dir, TruncateAt: *at}
		if cmd.Flags().Changed("truncate-at") && *at < 0 {
			return &problem.Error{Code: "bad-offset", Class: problem.Input, Where: "--truncate-at", What: fmt.Sprintf("%d is not an offset", *at), Hint: "give the first offset that is to go"}
		}
		kept := dir
		root, lock, err := lockAround(dir)
		if err != nil {
			return err
		}
		if lock != nil {
			defer lock.Close()
			kept = path.Join(root, "quarantine", path.Base(dir))
		}
		for n := 1; ; n++ {
			r.Quarantine = fmt.Sprintf("%s.repair-%d", kept, n)
			if _, err := os.Stat(r.Quarantine); errors.Is(err, fs.ErrNotExist) {
				break
			} else if err != nil {
				return err
			}
		}
		losses, err := r.Run(!*skip && *at < 0)
		for _, l := range losses {
			fmt.Fprintln(s.out, l)
		}
		if err != nil {
			return &problem.Error{Code: "repair-failed", Class: problem.Runtime, Where: dir, What: err.Error(), Err: err}
		}
		switch {
		case len(losses) == 0:
			fmt.Fprintln(s.out, "nothing is broken, nothing was changed")
		case !*skip && *at < 0:
			fmt.Fprintln(s.out, "nothing was changed; take this out with --skip, or everything from an offset on with --truncate-at OFFSET")
		}
		return nil
	}
	return c
}

// lockAround locks what a partition's folder lies in and a running node has locked: its data directory, which has a meta.json, or one
// of log.dirs, which has a meta.properties. A nil lock: the folder lies in neither.
func lockAround(folder string) (root string, lock io.Closer, err error) {
	for _, r := range []struct{ root, mark, lock, kind string }{
		{path.Dir(path.Dir(folder)), "meta.json", "lock", "data"},
		{path.Dir(folder), "meta.properties", ".lock", "log"},
	} {
		if _, err := os.Stat(path.Join(r.root, r.mark)); err != nil {
			continue
		}
		lock, err := vfs.Disk{}.Lock(path.Join(r.root, r.lock))
		if err != nil {
			return "", nil, &problem.Error{Code: r.kind + "-directory-in-use", Class: problem.Environment, Where: r.root,
				What: "cannot lock the " + r.kind + " directory: " + err.Error(), Hint: "stop the node first", Err: err}
		}
		return r.root, lock, nil
	}
	return "", nil, nil
}
