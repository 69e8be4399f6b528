package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the release build.
var version = "0.1.0-dev"

// revision is the commit that this was built from; "" where the build did not say so.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, b := range info.Settings {
			if b.Key == "vcs.revision" {
				return b.Value
			}
		}
	}
	return ""
}

func versionCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs}
	c.RunE = func(c *cobra.Command, _ []string) error {
		revision := cmp.Or(revision(), "unknown")
		if wantsJSON(c) {
			return writeJSON(s.out, map[string]string{"version": version, "revision": revision, "go": runtime.Version()})
		}
		_, err := fmt.Fprintf(s.out, "forebay %s (%s, %s)\n", version, revision, runtime.Version())
		return err
	}
	addJSON(c)
	return c
}
