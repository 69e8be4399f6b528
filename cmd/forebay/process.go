package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/core/broker"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/plugins/builtin"
	"github.com/forebayhub/forebay/runtime/api"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

// process is what `up`, `server` and `worker` run: a node of the log, a worker, or both, and the REST API.
type process struct {
	http      string
	node      *broker.Options // nil: the log is at bootstrap
	bootstrap []string
	group     string          // of workers
	config    *configs.Config // nil: the connectors are those that the group declares
	idle      bool            // runs no connectors, though it takes declarations
}

// serve runs it until ctx ends, and closes from the outside in: first the connectors, which still need the log, then the log.
func (p process) serve(ctx context.Context, s streams) error {
	log := logger(s)
	web, err := net.Listen("tcp", p.http)
	if err != nil {
		return &problem.Error{Code: "port-in-use", Class: problem.Environment, Where: "--http " + p.http, What: rootCause(err), Hint: "give another --http HOST:PORT; port 0 picks one", Err: err}
	}
	defer web.Close()

	where := hublog.Options{ClientID: "forebay", Logger: log, Bootstrap: p.bootstrap}
	kafka := strings.Join(p.bootstrap, ",")
	nodeCtx, stopNode := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNode()
	var running errgroup.Group
	nodeFailed := make(chan struct{})
	ready := func() error { return nil }
	if p.node != nil {
		node := *p.node
		node.Logger = log
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

	w, store, err := p.runtime(where, log)
	if err != nil {
		stopNode()
		return errors.Join(err, running.Wait())
	}
	rest := &http.Server{Handler: api.New(api.Options{Worker: w, Declared: store, Ready: ready, Version: version}), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
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
	followDone := p.follow(workerCtx, store, w, log)
	if p.idle {
		<-workerCtx.Done() // the REST API still answers, with no connectors
	} else {
		err = w.Run(workerCtx)
	}
	stopWorker()
	<-showDone
	<-followDone
	closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = errors.Join(err, rest.Shutdown(closeCtx))
	if store != nil {
		store.Close()
	}
	stopNode()
	return errors.Join(err, running.Wait())
}

// runtime makes the worker and, where connectors are declared, the store. They do no I/O yet.
func (p process) runtime(where hublog.Options, log *slog.Logger) (*worker.Worker, *declared.Store, error) {
	o := worker.Options{Log: where, Group: p.group, Registry: builtin.Registry(), Logger: log}
	if p.config != nil {
		o.Connectors = workerConfigs(p.config)
	}
	w, err := worker.New(o)
	if err != nil || p.config != nil {
		return w, nil, err
	}
	store, err := declared.Open(declared.Options{Log: where, Group: p.group, Host: w.Host(), Types: declarable(), Logger: log})
	return w, store, err
}

// follow hands every set that is declared to the worker. The channel is closed when it has ended.
func (p process) follow(ctx context.Context, store *declared.Store, w *worker.Worker, log *slog.Logger) <-chan struct{} {
	done := make(chan struct{})
	if store == nil || p.idle {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		store.Watch(ctx, func(set declared.Set) {
			log.Info("connectors are declared", "version", set.Version, "connectors", len(set.Connectors), "by", set.Host)
			d, ok := any(w).(interface {
				Declare(configs []worker.Config) error
			})
			if !ok {
				return
			}
			if err := d.Declare(declaredConfigs(set)); err != nil {
				log.Error("some declared connectors cannot run", "error", err)
			}
		})
	}()
	return done
}

// workerConfigs hands the connectors of the files to the runtime.
func workerConfigs(config *configs.Config) (out []worker.Config) {
	for _, c := range config.Connectors {
		out = append(out, worker.Config{Name: c.Name, Type: c.Type, Sink: c.Sink, Values: c.Values, Node: c.Node})
	}
	return out
}

// declaredConfigs resolves a set at this place. What cannot be resolved here is a failed connector, with the reason.
func declaredConfigs(set declared.Set) (out []worker.Config) {
	types := declarable()
	for _, c := range set.Connectors {
		r, err := types.Resolve(c, nil)
		out = append(out, worker.Config{Name: c.Name, Type: c.Type, Sink: c.Kind == declared.Sink, Values: r.Values, Node: r.Written})
		_ = err
	}
	return out
}
