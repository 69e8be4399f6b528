package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the release build.
var version = "0.1.0-dev"

func versionCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs}
	c.RunE = func(c *cobra.Command, _ []string) error {
		revision := "unknown"
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, b := range info.Settings {
				if b.Key == "vcs.revision" {
					revision = b.Value
				}
			}
		}
		if wantsJSON(c) {
			return writeJSON(s.out, map[string]string{"version": version, "revision": revision, "go": runtime.Version()})
		}
		_, err := fmt.Fprintf(s.out, "forebay %s (%s, %s)\n", version, revision, runtime.Version())
		return err
	}
	addJSON(c)
	return c
}
