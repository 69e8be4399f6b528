package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/core/broker"
	"github.com/forebayhub/forebay/core/membership"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/tlsdir"
)

const (
	defaultPeer   = "127.0.0.1:9093"
	defaultGossip = "127.0.0.1:7946"
)

// serverOptions are the flags of `server`: those of `up` and more.
type serverOptions struct {
	upOptions
	id                        int32
	peer, gossip, rack, roles string
	gossipKey, config         string
	join                      []string
	expect                    int
}

func serverCommand(s streams) *cobra.Command {
	var o serverOptions
	c := &cobra.Command{
		Use:   "server",
		Short: "Run one node of a cluster",
		Args:  cobra.NoArgs,
		Long: "Runs one node of a cluster: the log, and its share of the connectors that `forebay apply` declares.\n" +
			"--config FILE gives the flags under `core`, by their names; the command line wins.",
		Example: `  forebay server --id 1 --data n1 --expect 3
  forebay server --id 2 --data n2 --expect 3 --join 127.0.0.1:7946 --kafka 127.0.0.1:9192 --http 127.0.0.1:8180 --peer 127.0.0.1:0 --gossip 127.0.0.1:0
  forebay server --id 1 --data n1 --expect 3 --tls-dir secrets/n1 --kafka 10.0.0.1:9092 --peer 10.0.0.1:9093 --gossip 10.0.0.1:7946`,
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return runServer(c, s, &o) }
	f := c.Flags()
	f.StringVar(&o.config, "config", "", "a YAML `FILE` with the flags under core, for example core: {id: 1, expect: 3}")
	o.upOptions.flags(f)
	f.Int32Var(&o.id, "id", 1, "this node's id in the cluster, for good")
	f.StringVar(&o.peer, "peer", defaultPeer, "`HOST:PORT` for the other nodes; port 0 picks one")
	f.StringVar(&o.gossip, "gossip", defaultGossip, "`HOST:PORT` where nodes find each other; port 0 picks one")
	f.StringSliceVar(&o.join, "join", nil, "gossip addresses of other nodes, `HOST:PORT` and commas between them; all addresses of a name are tried, and file:PATH has one on a line")
	f.IntVar(&o.expect, "expect", 1, "how many nodes wait for each other before they found a cluster")
	f.StringVar(&o.rack, "rack", "", "the rack that this node stands in: replicas are spread over racks")
	f.StringVar(&o.roles, "roles", "log,worker", "what this node does: log, worker or both")
	f.StringVar(&o.gossipKey, "gossip-key", "", "`FILE` with keys that encrypt gossip, one a line: 16, 24 or 32 bytes in base64; the first encrypts, all decrypt")
	return c
}

func runServer(c *cobra.Command, s streams, o *serverOptions) error {
	if o.config != "" {
		config, err := loadConfig(s, []string{o.config}, configOptions())
		if err != nil {
			return err
		}
		if len(config.Connectors) > 0 {
			first := config.Connectors[0]
			return badInput(fmt.Sprintf("%s:%d", first.File, first.Line), "a node's own file declares no connectors", "give those to the cluster with `forebay apply FILE`")
		}
		if err := coreFlags(c, config); err != nil {
			return err
		}
	}
	id, cluster, err := o.cluster()
	if err != nil {
		return err
	}
	plugins := toleratingOptions(s)
	idle := !strings.Contains(o.roles, "worker")
	if idle { // it runs no connectors
		plugins.Plugin = nil
	}
	registry, err := registryOf(plugins, *o.plugins, o.config)
	if err != nil {
		return err
	}
	node, err := o.broker(cluster)
	if err != nil {
		return err
	}
	node.NodeID = id
	ctx, stop := untilSignal(c.Context(), s)
	defer stop()
	token, err := httpToken(o.httpToken)
	if err != nil {
		return err
	}
	return process{http: o.http, tlsDir: o.tlsDir, token: token, node: &node, group: defaultGroup, registry: registry, idle: idle}.serve(ctx, s)
}

// cluster translates the flags that `up` does not have.
func (o *serverOptions) cluster() (metadata.NodeID, *broker.Cluster, error) {
	c := &broker.Cluster{Peer: o.peer, Gossip: o.gossip, Join: o.join, Expect: o.expect, Rack: o.rack, Roles: o.roles, HTTP: o.http, Version: version, GossipKey: o.gossipKey}
	if o.id < 0 {
		return 0, nil, badInput("--id", "a node's id is 0 or more", "")
	}
	if o.expect < 1 {
		return 0, nil, badInput("--expect", "at least one node is needed", "")
	}
	if o.expect > 1 && len(o.join) == 0 && strings.HasSuffix(o.gossip, ":0") {
		return 0, nil, badInput("--gossip "+o.gossip, "the other nodes cannot know the port", "give a fixed port, or --join")
	}
	for _, role := range strings.Split(o.roles, ",") {
		if role != "log" && role != "worker" {
			return 0, nil, badInput("--roles "+o.roles, "no such role", "log, worker or log,worker")
		}
	}
	if !strings.Contains(o.roles, "log") {
		return 0, nil, badInput("--roles "+o.roles, "a node without a log is a worker", "start it with `forebay worker --bootstrap HOST:PORT`")
	}
	for _, seed := range o.join {
		if err := membership.CheckSeed(seed); err != nil {
			return 0, nil, badInput("--join "+seed, err.Error(), "write HOST:PORT, or file:PATH with one on a line")
		}
	}
	for flag, addr := range map[string]string{"--peer": o.peer, "--gossip": o.gossip} {
		if err := loopbackOnly(flag, addr, o.insecure || o.tlsDir != ""); err != nil {
			return 0, nil, err
		}
	}
	if o.gossipKey != "" {
		if o.tlsDir != "" {
			return 0, nil, badInput("--gossip-key "+o.gossipKey, "contradicts --tls-dir", "the keys of gossip are in "+tlsdir.KeysPath(o.tlsDir))
		}
		if _, err := tlsdir.LoadKeys(o.gossipKey); err != nil {
			return 0, nil, err
		}
	}
	return metadata.NodeID(o.id), c, nil
}
