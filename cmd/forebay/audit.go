package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/runtime/audit"
	"github.com/forebayhub/forebay/runtime/registry"
)

func auditCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "audit FILE… NAME",
		Short: "Prove a pipeline: compare source, log and sink at one point",
		Long: "Compares what the sources hold, what the log holds and what the sink holds at one point of the sources, and lists what is\n" +
			"missing, doubled or different. NAME is a sink, with the sources that feed it, or a source. Exit code 0 only when nothing is; 1 when\n" +
			"something is, 2 when not all could be compared, 3 when nobody answers. Log files are compared on the host that has them: of others this says so, and ends with 2.",
		Args: cobra.MinimumNArgs(2),
	}
	wait := c.Flags().Duration("wait", 2*time.Minute, "how long the pipeline may take to reach the point")
	group := c.Flags().String("group", defaultGroup, "the `GROUP` of the connectors' workers")
	limit := c.Flags().Int("list", 10, "how many differences of each comparison are listed")
	addJSON(c)
	addBootstrap(c)
	addHTTP(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		config, err := configs.Load(args[:len(args)-1], startingOptions(s))
		if err != nil {
			return err
		}
		client, where, err := dialLog(c, config) // says at once when nobody answers
		if err != nil {
			return err
		}
		client.Close()
		where.ClientID = "forebay-audit"
		own := registry.New(registry.Options{Log: where}) // the cluster's, read from its topic; it opens nothing unless it is asked
		defer own.Close()
		o := audit.Options{
			Log: where, SchemaRegistry: own, Group: *group, Registry: config.Registry,
			Connectors: workerConfigs(config), Name: args[len(args)-1], Wait: *wait, List: *limit,
			Flush: func(_ context.Context, sink string) error {
				return call(c, http.MethodPost, "/connectors/"+url.PathEscape(sink)+"/flush", nil)
			},
		}
		if !wantsJSON(c) {
			o.Progress = func(what string) { fmt.Fprintln(s.err, "audit: "+what) }
		}
		result, err := audit.Run(c.Context(), o)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			if err := writeJSON(s.out, result); err != nil {
				return err
			}
		} else if err := result.Print(s.out); err != nil {
			return err
		}
		if !result.Clean() {
			return &problem.Error{Code: "audit-failed", Class: problem.Runtime, Where: o.Name, What: "source, log and sink do not agree"}
		}
		if len(result.Incomplete) > 0 {
			return &problem.Error{Code: "audit-incomplete", Class: problem.Input, Where: o.Name, What: strings.Join(result.Incomplete, "; "),
				Hint: "what was compared agrees"}
		}
		return nil
	}
	return c
}
