package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/core/broker"
	"github.com/forebayhub/forebay/internal/kafkaclient"
	"github.com/forebayhub/forebay/internal/loglevel"
	"github.com/forebayhub/forebay/internal/pause"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/tlsdir"
	"github.com/forebayhub/forebay/internal/tracing"
	"github.com/forebayhub/forebay/runtime/api"
	"github.com/forebayhub/forebay/runtime/crew"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/registry"
	"github.com/forebayhub/forebay/runtime/worker"
)

// process is what `up`, `server` and `worker` run: a node of the log, a worker, or both, and the REST API.
type process struct {
	http      string
	node      *broker.Options // nil: the log is at bootstrap
	bootstrap []string
	security  kafkaclient.Security // at bootstrap
	tlsDir    string               // "": the REST API speaks plainly
	token     string               // that the REST API asks for; "": none
	group     string               // of workers
	config    *configs.Config      // nil: the connectors are those that the group declares
	registry  connectors.Registry
	tracer    trace.Tracer // nil: nobody collects traces
	idle      bool         // runs no connectors, though it takes declarations
}

// nodeDialTimeout is how long a worker waits for a node of its cluster: the next one may answer.
const nodeDialTimeout = 3 * time.Second

// serve runs it until ctx ends, and closes from the outside in: first the connectors, which still need the log, then the log.
func (p process) serve(ctx context.Context, s streams) error {
	loggers := loglevel.New(logger(s), slices.Concat(broker.Rooms, []string{"worker", "registry"})...)
	log := loggers.Logger(loglevel.Root)
	traces, err := tracing.FromEnvironment(ctx, version, log)
	if err != nil {
		return badInput("environment", err.Error(), "")
	}
	p.tracer = traces.Tracer
	web, err := net.Listen("tcp", p.http)
	if err != nil {
		return &problem.Error{Code: "port-in-use", Class: problem.Environment, Where: "--http " + p.http, What: rootCause(err), Hint: "give another --http HOST:PORT; port 0 picks one", Err: err}
	}
	defer web.Close()
	front := newFront()
	front.open = p.token == "" && p.tlsDir == ""
	guard := &guard{token: p.token, next: &pages{open: front.open && broker.Loopback(web.Addr().String()), next: front}}
	hand, at := http.DefaultClient, reachable(web.Addr().String())
	var secrets *tlsdir.Dir
	if p.tlsDir != "" {
		if secrets, err = tlsdir.Open(p.tlsDir, log); err != nil {
			return err
		}
		guard.allowed = front.allowed(secrets)
		web, hand = tls.NewListener(web, secrets.Web()), secrets.HTTP()
	} else if p.token != "" {
		guard.seal = &seal{token: p.token, at: at, now: time.Now, next: http.DefaultTransport}
		hand = guard.seal.client()
	}
	idle := &unused{}
	rest := &http.Server{Handler: guard, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ConnState: idle.state, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	defer rest.Close()
	var running errgroup.Group
	running.Go(func() error {
		if err := rest.Serve(web); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})

	where := hublog.Options{ClientID: "forebay", Logger: log, Bootstrap: p.bootstrap, Security: p.security}
	if secrets != nil && p.node == nil && p.security == (kafkaclient.Security{}) {
		// As nodes come to each other: by the certificate that the folder has at that moment.
		where.DialAddr = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&tls.Dialer{NetDialer: &net.Dialer{Timeout: nodeDialTimeout}, Config: secrets.Client()}).DialContext(ctx, "tcp", addr)
		}
	}
	kafka := strings.Join(p.bootstrap, ",")
	nodeCtx, stopNode := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNode()
	nodeFailed := make(chan struct{})
	var away atomic.Pointer[error] // why the log has not answered yet
	ready, warnings := func() error {
		if err := away.Load(); err != nil {
			return *err
		}
		return nil
	}, func() []string { return nil }
	if p.node == nil {
		away.Store(noKafka(kafka, errors.New("it has not been asked yet")))
	}
	if p.node != nil {
		node := *p.node
		node.Logger, node.Loggers = log, loggers
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
			_ = rest.Close() // the node's error tells more
			return running.Wait()
		}
		front.node.Store(b)
		kafka = b.KafkaAddr()
		if node.Cluster == nil {
			where.Dial = b.Dial
		} else {
			where.Bootstrap = []string{kafka} // what other nodes lead is reached over the network anyway
			if b.Secured() {
				where.DialAddr = b.DialAddr
			}
		}
		ready = func() error {
			if h := b.Health(); !h.Ready {
				return errors.New(h.Reason)
			}
			return nil
		}
		warnings = func() []string { return b.Health().Warnings }
	}

	var schemas *registry.Handler
	if p.node != nil { // elsewhere appends go by no expected offset
		schemas = registry.New(registry.Options{Log: where, Logger: loggers.Logger("registry")})
	}
	rt, err := p.runtime(where, schemas, at, api.Ask(hand), loggers.Logger("worker"))
	if err != nil {
		stopNode()
		_ = rest.Close() // the first error tells more
		return errors.Join(err, running.Wait())
	}
	handler := api.New(api.Options{Worker: rt.workers, Places: rt.places, Peers: rt.peers, Declared: rt.store, Heard: rt.heard, Ready: ready, Warnings: warnings,
		Version: version, Commit: revision(), Name: rt.name, Client: hand, Loggers: loggers})
	front.wing.Store(rt)
	if schemas != nil {
		mux := http.NewServeMux()
		mux.Handle("/", handler)
		for _, path := range registry.Paths {
			mux.Handle(path, schemas)
		}
		handler = mux
	}
	front.rest.Store(&handler)
	if p.node == nil {
		if err := p.reach(ctx, where, kafka, &away, log); err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		fmt.Fprintf(s.out, "ready kafka=%s http=%s\n", kafka, web.Addr())
	}
	defer time.AfterFunc(time.Second, releaseStartPages).Stop()

	workerCtx, stopWorker := context.WithCancel(ctx)
	defer stopWorker()
	go func() { // without the node the connectors have nothing to do
		select {
		case <-nodeFailed:
			stopWorker()
		case <-workerCtx.Done():
		}
	}()
	showDone := showTable(workerCtx, s, rt.workers)
	err = rt.run(workerCtx)
	stopWorker()
	<-showDone
	closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = errors.Join(err, idle.shutdown(closeCtx, rest, log))
	if err := traces.Close(closeCtx); err != nil {
		log.Warn("the last spans are not sent", "error", err)
	}
	if rt.store != nil {
		rt.store.Close()
	}
	if schemas != nil {
		schemas.Close()
	}
	stopNode()
	return errors.Join(err, running.Wait())
}

// maxReachPause bounds the pauses between a worker's tries to reach the log at its start.
const maxReachPause = 30 * time.Second

// reach returns when a broker has answered, or when ctx ends. Until then away says why it does not serve. A machine starts its services in any
// order, so it goes on trying.
func (p process) reach(ctx context.Context, where hublog.Options, kafka string, away *atomic.Pointer[error], log *slog.Logger) error {
	l, err := hublog.Open(where)
	if err != nil {
		return err
	}
	defer l.Close()
	for wait := time.Second; ; wait = min(2*wait, maxReachPause) {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := l.Ping(try)
		cancel()
		if err == nil || ctx.Err() != nil {
			away.Store(nil)
			return nil
		}
		why := noKafka(kafka, err)
		away.Store(why)
		log.Warn((*why).Error(), "again in", wait)
		if err := pause.For(ctx, wait); err != nil {
			return nil // it ends, as everything does
		}
	}
}

func noKafka(kafka string, err error) *error {
	err = fmt.Errorf("no Kafka at %s: %s; is --bootstrap right?", kafka, rootCause(err))
	return &err
}

// connectorWing is the connectors' side of a process.
type connectorWing struct {
	workers api.Workers
	name    func() string // in its group; nil: it is in none
	run     func(context.Context) error
	store   *declared.Store // nil: connectors come from files
	places  func(context.Context) ([]declared.Place, []string, error)
	peers   func(context.Context) ([]string, error)
	heard   func(ctx context.Context, version int64)
}

// runtime makes a worker of what the files declare or, without files, a crew that follows what the group declares. It does no I/O yet.
func (p process) runtime(where hublog.Options, schemas *registry.Handler, http string, ask func(context.Context, string) (string, error), log *slog.Logger) (*connectorWing, error) {
	o := worker.Options{Log: where, Group: p.group, Registry: p.registry, Logger: log, Tracer: p.tracer}
	if schemas != nil {
		o.SchemaRegistry = schemas
	}
	if p.config != nil {
		o.Connectors = workerConfigs(p.config)
		w, err := worker.New(o)
		if err != nil {
			return nil, err
		}
		return &connectorWing{workers: w, run: w.Run}, nil
	}
	c, err := crew.New(crew.Options{Worker: o, Types: declarable(p.registry), HTTP: http, Idle: p.idle, Ask: ask, Alone: p.node != nil && p.node.Cluster == nil})
	if err != nil {
		return nil, err
	}
	store, err := declared.Open(declared.Options{Log: where, Group: p.group, Host: http, Types: declarable(p.registry), Logger: log})
	if err != nil {
		return nil, err
	}
	run := func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		followed := make(chan struct{})
		go func() {
			defer close(followed)
			store.Watch(ctx, func(set declared.Set) {
				log.Info("connectors are declared", "version", set.Version, "connectors", len(set.Connectors), "by", set.Host)
				c.Declare(set)
			})
		}()
		err := c.Run(ctx)
		cancel()
		<-followed
		return err
	}
	return &connectorWing{workers: c, name: c.Answer, run: run, store: store, places: c.Places, peers: c.Peers, heard: c.Heard}, nil
}

// reachable is an address that others can dial: one that listens everywhere is known by the machine's name.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return addr
	}
	name, err := os.Hostname()
	if err != nil {
		return addr
	}
	return net.JoinHostPort(name, port)
}

// workerConfigs hands the connectors of the files to the runtime.
func workerConfigs(config *configs.Config) (out []worker.Config) {
	for _, c := range config.Connectors {
		out = append(out, worker.Config{Name: c.Name, Type: c.Type, Sink: c.Sink, Values: c.Values, Node: c.Node})
	}
	return out
}
