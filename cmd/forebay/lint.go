package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/plugins/builtin"
	"github.com/forebayhub/forebay/runtime/worker"
)

// configOptions say which connectors and fields a config may use. Nothing is started by what is only read: plugins are not asked for their fields.
func configOptions() configs.Options {
	return configs.Options{Registry: builtin.Registry(), SourceCommon: worker.SourceFields, SinkCommon: worker.SinkFields}
}

func lintCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "lint FILE…", Short: "Check config files; nothing is started", Args: cobra.MinimumNArgs(1),
		Long: "Checks config files. Of plugins it checks that their programs are there and have their checksums; with --online they are started, and asked\n" +
			"about their connectors' fields. `forebay doctor FILE` looks at what connectors reach."}
	online := c.Flags().Bool("online", false, "start the plugins that the files name, to check their connectors' fields, too")
	c.RunE = func(c *cobra.Command, files []string) error {
		o := configOptions()
		o.Plugin = func(name string, v spec.Values) (*connectors.SourceType, *connectors.SinkType, error) {
			return nil, nil, pluginOf(s, name, v).Look()
		}
		if *online {
			o = startingOptions(s)
		}
		problems, err := configs.Lint(files, o)
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
