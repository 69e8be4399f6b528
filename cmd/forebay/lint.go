package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/plugins/builtin"
	"github.com/forebayhub/forebay/runtime/worker"
)

// configOptions say which connectors and fields a config may use.
func configOptions() configs.Options {
	return configs.Options{Registry: builtin.Registry(), SourceCommon: worker.SourceFields, SinkCommon: worker.SinkFields, Plugin: describePlugin}
}

func lintCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "lint FILE…", Short: "Check config files; nothing is started", Args: cobra.MinimumNArgs(1)}
	c.RunE = func(c *cobra.Command, files []string) error {
		problems, err := configs.Lint(files, configOptions())
		if err != nil {
			return err
		}
		if err := problems.Err(); err != nil {
			return err
		}
		if wantsJSON(c) {
			return writeJSON(s.out, problems)
		}
		for _, p := range problems {
			fmt.Fprintln(s.out, p)
		}
		return nil
	}
	addJSON(c)
	return c
}
