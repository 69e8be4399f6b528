package main

import (
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/forebayhub/forebay/core/broker"
	"github.com/forebayhub/forebay/internal/metrics"
	"github.com/forebayhub/forebay/runtime/worker"
)

// families are all metrics of a process; docs/metrics.md lists them.
func families() []*metrics.Family {
	return slices.Concat(broker.Families(), worker.Families, metrics.ProcessFamilies)
}

// front answers --http from the first moment on: who watches a node that recovers its logs for minutes must not take it for dead.
type front struct {
	rest atomic.Pointer[http.Handler] // the REST API, once there is one
	node atomic.Pointer[broker.Broker]
	wing atomic.Pointer[connectorWing]
	mux  http.ServeMux
	// open: everybody who reaches --http comes in.
	open bool
}

func newFront() *front {
	f := &front{}
	f.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { tell(w, "ok\n") })
	f.mux.HandleFunc("GET /metrics", f.metrics)
	f.mux.HandleFunc("GET /metadata/backup", f.backup)
	f.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if rest := f.rest.Load(); rest != nil {
			(*rest).ServeHTTP(w, r)
			return
		}
		http.Error(w, "starting", http.StatusServiceUnavailable)
	})
	return f
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.mux.ServeHTTP(w, r) }

func (f *front) metrics(w http.ResponseWriter, _ *http.Request) {
	var page metrics.Writer
	if b := f.node.Load(); b != nil {
		b.Metrics(&page)
	}
	if wing := f.wing.Load(); wing != nil {
		worker.Metrics(&page, wing.workers.Status())
	}
	metrics.Process(&page, version)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	tell(w, page.String())
}

func tell(w http.ResponseWriter, text string) { _, _ = w.Write([]byte(text)) } // the client may have gone
