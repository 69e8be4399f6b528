package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/core/broker"
	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/internal/kafkaclient"
	"github.com/forebayhub/forebay/internal/problem"
)

const defaultKafka = "127.0.0.1:9092"

// upOptions are the flags of `up`.
type upOptions struct {
	data, kafka, http, durability string
	tlsDir, httpToken             string
	plugins                       *string
	set                           []string
	insecure                      bool
}

func upCommand(s streams) *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up [FILE|DIR…]",
		Short: "Run a node and a worker in one process: everything that the files declare",
		Long: "Runs one node and what the files declare. Without files the connectors are those that `forebay apply` declares, and they\n" +
			"are there again after a restart. Under `core` a file may give the flags, by their names; the command line wins.",
	}
	c.RunE = func(c *cobra.Command, files []string) error { return up(c, s, &o, files) }
	o.flags(c.Flags())
	return c
}

// flags are those that `up` and `server` share.
func (o *upOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.data, "data", "./forebay-data", "the data directory")
	f.StringVar(&o.kafka, "kafka", "", "`HOST:PORT` for Kafka clients; port 0 picks one (default "+defaultKafka+")")
	f.StringVar(&o.http, "http", "127.0.0.1:8080", "`HOST:PORT` for the REST API; port 0 picks one")
	f.StringVar(&o.durability, "durability", "power-safe", "power-safe: an acknowledged record survives a power cut; relaxed: the end of the process")
	f.StringArrayVar(&o.set, "set", nil, "a Kafka broker property, `key=value`; repeatable")
	f.StringVar(&o.httpToken, "http-token", "", "`FILE` with the token that the REST API asks for")
	f.StringVar(&o.tlsDir, "tls-dir", "", "the `FOLDER` that `forebay tls init` made for this node: every port speaks TLS, and knows nodes and clients by their certificates")
	o.plugins = addPlugins(f)
	f.BoolVar(&o.insecure, "insecure", false, "allow listeners that are not on loopback, although anybody who reaches them may do anything")
}

func up(c *cobra.Command, s streams, o *upOptions, files []string) error {
	var config *configs.Config
	registry, err := registryOf(toleratingOptions(s), *o.plugins)
	if err != nil {
		return err
	}
	if len(files) > 0 {
		strict := startingOptions(s)
		strict.Registry = registry
		if config, err = loadConfig(s, files, strict); err != nil {
			return err
		}
		registry = config.Registry
		if err := coreFlags(c, config, "bootstrap", "tls", "sasl"); err != nil {
			return err
		}
	}
	node, err := o.broker(nil)
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(c.Context(), s)
	defer stop()
	r := process{http: o.http, tlsDir: o.tlsDir, group: defaultGroup, config: config, registry: registry}
	if r.token, err = httpToken(o.httpToken); err != nil {
		return err
	}
	if config != nil {
		r.bootstrap = config.Core.Strings("bootstrap")
		if r.security, err = configs.Security(config.Core); err != nil {
			return err
		}
	}
	if len(r.bootstrap) == 0 {
		if r.security != (kafkaclient.Security{}) {
			return badInput("core.tls, core.sasl", "there is no core.bootstrap that they would be for", "this node itself is secured by --tls-dir and --set")
		}
		r.node = &node
	}
	return r.serve(ctx, s)
}

// loadConfig is configs.Load with the warnings printed.
func loadConfig(s streams, files []string, o configs.Options) (*configs.Config, error) {
	config, err := configs.Load(files, o)
	if err != nil {
		return nil, err
	}
	for _, w := range config.Warnings {
		fmt.Fprintln(s.err, w)
	}
	return config, nil
}

// coreFlags gives flags that are not on the command line the values that stand under `core`. Keys in known
// are dealt with elsewhere; any other that is no flag of the command is an error.
func coreFlags(c *cobra.Command, config *configs.Config, known ...string) error {
	for _, f := range configs.CoreSpec.Fields {
		if !configs.Given(config.Core, f) || slices.Contains(known, f.Name) {
			continue
		}
		flag := c.Flags().Lookup(f.Name)
		if flag == nil {
			return badInput("core."+f.Name, "`"+c.CommandPath()+"` has no use for it", "")
		}
		if flag.Changed && f.Name != "set" { // properties add up, and broker finds those that contradict
			continue
		}
		var texts []string
		switch f.Type {
		case spec.Strings:
			texts = config.Core.Strings(f.Name)
		case spec.Int:
			texts = []string{strconv.FormatInt(config.Core.Int(f.Name), 10)}
		case spec.Bool:
			texts = []string{strconv.FormatBool(config.Core.Bool(f.Name))}
		default:
			texts = []string{config.Core.String(f.Name)}
		}
		for _, text := range texts {
			if err := flag.Value.Set(text); err != nil {
				return badInput("core."+f.Name, err.Error(), "")
			}
		}
	}
	return nil
}

func (o upOptions) durable() (commitlog.Durability, error) {
	switch o.durability {
	case "power-safe":
		return commitlog.PowerSafe, nil
	case "relaxed":
		return commitlog.Relaxed, nil
	}
	return 0, badInput("--durability "+o.durability, "no such durability", "power-safe or relaxed")
}

// broker translates the flags.
func (o upOptions) broker(cluster *broker.Cluster) (broker.Options, error) {
	b := broker.Options{DataDir: o.data, KafkaAddr: o.kafka, Set: map[string]string{}, TLSDir: o.tlsDir, Cluster: cluster}
	var err error
	if b.Durability, err = o.durable(); err != nil {
		return b, err
	}
	for _, kv := range o.set {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			return b, badInput("--set "+kv, "not key=value", "for example --set log.retention.hours=24")
		}
		if before, twice := b.Set[name]; twice && before != value {
			if controller.Secret(name) {
				return b, badInput("--set "+name, "contradicts an earlier one; what it is set to is a secret", "")
			}
			return b, badInput("--set "+kv, "contradicts an earlier --set "+name+"="+before, "")
		}
		b.Set[name] = value
	}
	if err := loopbackOnly("--http", o.http, o.insecure || o.tlsDir != "" || o.httpToken != ""); err != nil {
		return b, err
	}
	if _, ok := b.Set["listeners"]; !ok && b.KafkaAddr == "" {
		b.KafkaAddr = defaultKafka
	}
	if b.KafkaAddr != "" {
		if _, _, err := net.SplitHostPort(b.KafkaAddr); err != nil {
			return b, badInput("--kafka "+b.KafkaAddr, "not an address", "write host:port, as in 127.0.0.1:9092")
		}
	}
	exposed, err := broker.Exposed(b)
	if err != nil {
		return b, err
	}
	if exposed != "" && !o.insecure {
		return b, badInput("--kafka "+exposed, "is not on loopback, and nothing secures it",
			"let clients authenticate with SASL or certificates, or give --insecure if everybody who reaches it may do anything")
	}
	return b, nil
}

// loopbackOnly refuses a listener that others can reach, as long as nothing secures it.
func loopbackOnly(flag, addr string, insecure bool) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return badInput(flag+" "+addr, "not an address", "write host:port, as in 127.0.0.1:9092")
	}
	if insecure || broker.Loopback(addr) {
		return nil
	}
	hint := "secure it with --tls-dir, or give --insecure if everybody who reaches it may do anything"
	if flag == "--http" {
		hint = "secure it with --tls-dir or --http-token, or give --insecure if everybody who reaches it may do anything"
	}
	return badInput(flag+" "+addr, "is not on loopback, and nothing secures it", hint)
}

// untilSignal ends the context at the first SIGTERM or ^C, and the process at the second.
func untilSignal(ctx context.Context, s streams) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			cancel()
		case <-done:
			return
		}
		if again(signals, done) {
			fmt.Fprintln(s.err, "forebay: second signal: quitting without a clean end")
			os.Exit(int(problem.Runtime))
		}
	}()
	return ctx, func() { signal.Stop(signals); close(done); cancel() }
}

// oneSignal is how long signals count as the first one. timeout(1), terminals and wrappers of containers send one
// to the process and again to its group.
const oneSignal = 300 * time.Millisecond

// again waits for a second signal; false: done came first.
func again(signals <-chan os.Signal, done <-chan struct{}) bool {
	first := time.Now()
	for {
		select {
		case <-signals:
			if time.Since(first) >= oneSignal {
				return true
			}
		case <-done:
			return false
		}
	}
}

// logger writes text for people on a terminal and JSON for machines.
func logger(s streams) *slog.Logger {
	level := &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String()) // JSON has nanoseconds otherwise
		}
		return a
	}}
	if os.Getenv("FOREBAY_DEBUG") != "" {
		level.Level = slog.LevelDebug
	}
	if f, ok := s.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(s.err, level))
	}
	return slog.New(slog.NewJSONHandler(s.err, level))
}
