package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/configs"
)

func workerCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "worker [FILE…]",
		Short: "Run connectors only, against any Kafka-compatible cluster",
		Long: "Runs the connectors that the files declare or, without files, its share of those that `forebay apply` has declared for the\n" +
			"group. Workers of one group share the work; a worker with files is alone in its group.\n\n" +
			"With --tls-dir, a folder of `forebay tls init --node`, it belongs to a cluster whose nodes have theirs of the same authority: it comes to their\n" +
			"Kafka listeners as a node does, unless --command-config or the file's `core` says how, and its REST API is as theirs.",
		Example: "  forebay worker job.yaml --bootstrap kafka-1:9092,kafka-2:9092\n  forebay worker --bootstrap kafka-1:9092 --group lake\n" +
			"  forebay worker --bootstrap hub1.example.org:9092 --tls-dir /etc/forebay/w1",
	}
	addBootstrap(c)
	plugins := addPlugins(c.Flags())
	group := c.Flags().String("group", defaultGroup, "the workers' group: part of every transactional id")
	http := c.Flags().String("http", "127.0.0.1:8080", "`HOST:PORT` for the REST API; port 0 picks one")
	tlsDir := c.Flags().String("tls-dir", "", "the `FOLDER` that `forebay tls init` made for this worker, as for a node")
	token := c.Flags().String("http-token", "", "`FILE` with the token that the REST API asks for")
	insecure := c.Flags().Bool("insecure", false, "allow a listener that is not on loopback, although anybody who reaches it may do anything")
	c.RunE = func(c *cobra.Command, files []string) error {
		p := process{}
		var err error
		if p.registry, err = registryOf(toleratingOptions(s), *plugins); err != nil {
			return err
		}
		if len(files) > 0 {
			strict := startingOptions(s)
			strict.Registry = p.registry
			if p.config, err = loadConfig(s, files, strict); err != nil {
				return err
			}
			p.registry = p.config.Registry
			if err := coreFlags(c, p.config, "tls", "sasl"); err != nil {
				return err
			}
			if p.security, err = configs.Security(p.config.Core); err != nil {
				return err
			}
		}
		if c.Flags().Changed("command-config") {
			if p.security, err = security(c); err != nil {
				return err
			}
		}
		if p.token, err = httpToken(*token); err != nil {
			return err
		}
		if p.bootstrap, err = c.Flags().GetStringSlice("bootstrap"); err != nil {
			return err
		}
		if p.http, p.group, p.tlsDir = *http, *group, *tlsDir; strings.TrimSpace(p.group) == "" {
			return badInput("--group", "is empty", "")
		}
		if err := loopbackOnly("--http", p.http, *insecure || p.token != "" || p.tlsDir != ""); err != nil {
			return err
		}
		ctx, stop := untilSignal(c.Context(), s)
		defer stop()
		return p.serve(ctx, s)
	}
	return c
}
