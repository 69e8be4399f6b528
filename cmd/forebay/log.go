package main

import (
	"bufio"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/core/commitlog"
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
		return err
	}
	c.AddCommand(dump)
	return c
}
