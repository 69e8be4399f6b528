package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/core/broker"
	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/plugins/builtin"
	"github.com/forebayhub/forebay/runtime/api"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

const defaultKafka = "127.0.0.1:9092"

// upOptions are the flags of `up`.
type upOptions struct {
	data, kafka, http, durability string
	set                           []string
	insecure                      bool
}

func upCommand(s streams) *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up [FILE|DIR…]",
		Short: "Run a node and a worker in one process: everything that the files declare",
		RunE:  func(c *cobra.Command, files []string) error { return up(c.Context(), s, o, files) },
	}
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
	f.BoolVar(&o.insecure, "insecure", false, "allow listeners that are not on loopback, although anybody who reaches them may do anything")
}

func up(ctx context.Context, s streams, o upOptions, files []string) error {
	var config *configs.Config
	if len(files) > 0 {
		var err error
		if config, err = configs.Load(files, configOptions()); err != nil {
			return err
		}
		for _, w := range config.Warnings {
			fmt.Fprintln(s.err, w)
		}
	}
	node, err := o.broker()
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx, s)
	defer stop()
	return serve(ctx, s, o, node, config)
}

// broker translates the flags.
func (o upOptions) broker() (broker.Options, error) {
	b := broker.Options{DataDir: o.data, KafkaAddr: o.kafka, Set: map[string]string{}}
	switch o.durability {
	case "power-safe":
		b.Durability = commitlog.PowerSafe
	case "relaxed":
		b.Durability = commitlog.Relaxed
	default:
		return b, badInput("--durability "+o.durability, "no such durability", "power-safe or relaxed")
	}
	for _, kv := range o.set {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			return b, badInput("--set "+kv, "not key=value", "for example --set log.retention.hours=24")
		}
		if before, twice := b.Set[name]; twice && before != value {
			return b, badInput("--set "+kv, "contradicts an earlier --set "+name+"="+before, "")
		}
		b.Set[name] = value
	}
	if err := loopbackOnly("--http", o.http, o.insecure); err != nil {
		return b, err
	}
	if listeners, ok := b.Set["listeners"]; ok && b.KafkaAddr == "" { // broker knows their notation, and finds contradictions
		_, addr, _ := strings.Cut(listeners, "://")
		return b, loopbackOnly("--set listeners="+listeners, addr, o.insecure)
	}
	if b.KafkaAddr == "" {
		b.KafkaAddr = defaultKafka
	}
	return b, loopbackOnly("--kafka", b.KafkaAddr, o.insecure)
}

// loopbackOnly refuses a listener that others can reach, as long as nothing secures it.
func loopbackOnly(flag, addr string, insecure bool) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return badInput(flag+" "+addr, "not an address", "write host:port, as in 127.0.0.1:9092")
	}
	if insecure || broker.Loopback(addr) {
		return nil
	}
	return badInput(flag+" "+addr, "is not on loopback, and nothing secures it", "give --insecure if everybody who reaches it may do anything")
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
		select {
		case <-signals:
			fmt.Fprintln(s.err, "forebay: second signal: quitting without a clean end")
			os.Exit(int(problem.Runtime))
		case <-done:
		}
	}()
	return ctx, func() { signal.Stop(signals); close(done); cancel() }
}

// logger writes text for people on a terminal and JSON for machines.
func logger(s streams) *slog.Logger {
	level := &slog.HandlerOptions{Level: slog.LevelInfo}
	if os.Getenv("FOREBAY_DEBUG") != "" {
		level.Level = slog.LevelDebug
	}
	if f, ok := s.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(s.err, level))
	}
	return slog.New(slog.NewJSONHandler(s.err, level))
}

// serve runs node, worker and REST API until ctx ends, and closes them from the
// outside in: first the connectors, which still need the log, then the log.
func serve(ctx context.Context, s streams, o upOptions, node broker.Options, config *configs.Config) error {
	log := logger(s)
	node.Logger = log
	web, err := net.Listen("tcp", o.http)
	if err != nil {
		return &problem.Error{Code: "port-in-use", Class: problem.Environment, Where: "--http " + o.http, What: rootCause(err), Hint: "give another --http HOST:PORT; port 0 picks one", Err: err}
	}
	defer web.Close()

	where := hublog.Options{ClientID: "forebay", Logger: log}
	kafka := ""
	nodeCtx, stopNode := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNode()
	var running errgroup.Group
	nodeFailed := make(chan struct{})
	ready := func() error { return nil }
	if config != nil && len(config.Core.Strings("bootstrap")) > 0 {
		where.Bootstrap = config.Core.Strings("bootstrap")
		kafka = strings.Join(where.Bootstrap, ",")
	} else {
		b, err := broker.Open(ctx, node)
		if err != nil {
			return err
		}
		running.Go(func() error {
			defer close(nodeFailed)
			return b.Run(nodeCtx)
		})
		select {
		case <-b.Ready():
		case <-nodeFailed:
			return running.Wait()
		}
		kafka = b.KafkaAddr()
		if node.Cluster == nil {
			where.Dial = b.Dial
		} else {
			where.Bootstrap = []string{kafka} // what other nodes lead is reached over the network anyway
		}
		ready = func() error {
			if h := b.Health(); !h.Ready {
				return errors.New(h.Reason)
			}
			return nil
		}
	}

	w, err := newWorker(where, config, log)
	if err != nil {
		stopNode()
		return errors.Join(err, running.Wait())
	}
	rest := &http.Server{Handler: api.New(api.Options{Worker: w, Ready: ready, Version: version}), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	running.Go(func() error {
		if err := rest.Serve(web); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	fmt.Fprintf(s.out, "ready kafka=%s http=%s\n", kafka, web.Addr())

	workerCtx, stopWorker := context.WithCancel(ctx)
	defer stopWorker()
	go func() { // without the node the connectors have nothing to do
		select {
		case <-nodeFailed:
			stopWorker()
		case <-workerCtx.Done():
		}
	}()
	showDone := showTable(workerCtx, s, w)
	if node.Cluster != nil && !strings.Contains(node.Cluster.Roles, "worker") {
		<-workerCtx.Done() // the REST API still answers, with no connectors
	} else {
		err = w.Run(workerCtx)
	}
	<-showDone
	closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = errors.Join(err, rest.Shutdown(closeCtx))
	stopNode()
	return errors.Join(err, running.Wait())
}

func newWorker(where hublog.Options, config *configs.Config, log *slog.Logger) (*worker.Worker, error) {
	o := worker.Options{Log: where, Group: defaultGroup, Registry: builtin.Registry(), Logger: log}
	if config != nil {
		o.Connectors = workerConfigs(config)
	}
	return worker.New(o)
}

// workerConfigs hands the connectors of the files to the runtime.
func workerConfigs(config *configs.Config) (out []worker.Config) {
	for _, c := range config.Connectors {
		out = append(out, worker.Config{Name: c.Name, Type: c.Type, Sink: c.Sink, Values: c.Values, Node: c.Node})
	}
	return out
}
