// Package api is the REST control plane: Kafka Connect's paths and JSON, so that
// its tools work, and ours beside them. Errors are problem+json (RFC 9457) and
// carry Connect's error_code and message as well.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

// Options make a Handler.
type Options struct {
	Worker Workers // of the connectors that run in this process
	// Places, if set, says which of the declared connectors run here, and where the group's other workers can be
	// asked about the rest: requests for those are handed on.
	Places func(context.Context) (all []declared.Place, others []string, err error)
	// Declared is where connectors are declared. nil: they come from the files of this process, and cannot be changed.
	Declared *declared.Store
	// Ready says why the process cannot serve yet. nil, or a nil error: it can.
	Ready func() error
	// Warnings say what does not keep it from serving, and somebody should look at all the same. nil: there are none.
	Warnings func() []string
	Version  string
	// Name is how this worker calls itself in its group, for GET /worker. Nil: it is in none.
	Name func() string
	// Client asks the group's other workers; it knows how they are spoken to. Nil: plainly.
	Client *http.Client
}

// Workers is a worker.Worker, or several that act as one.
type Workers interface {
	Status() []worker.Status
	Config(name string) (map[string]string, error)
	Pause(name string) error
	Resume(name string) error
	Stop(name string) error
	Restart(name string) error
	Flush(ctx context.Context, name string) (map[connectors.TopicPartition]int64, error)
	Positions(ctx context.Context, name string) ([]worker.PositionOf, error)
	Offsets(ctx context.Context, name string) ([]worker.OffsetOf, error)
	Registry() connectors.Registry
	Host() string
}

// New makes the handler. It may be mounted at the root beside others.
func New(o Options) http.Handler {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	h := &handler{o: o}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", h.ready)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"version": o.Version, "commit": "", "kafka_cluster_id": ""})
	})
	mux.HandleFunc("GET /worker", h.worker)
	mux.HandleFunc("GET /connectors", h.list)
	mux.HandleFunc("POST /connectors", h.post)
	mux.HandleFunc("POST /apply", h.apply)
	mux.HandleFunc("PUT /connectors/{name}/config", h.put)
	mux.HandleFunc("DELETE /connectors/{name}", h.remove)
	mux.HandleFunc("GET /connectors/{name}", h.named(h.info))
	mux.HandleFunc("GET /connectors/{name}/config", h.named(h.config))
	mux.HandleFunc("GET /connectors/{name}/status", h.named(h.status))
	mux.HandleFunc("GET /connectors/{name}/tasks", h.named(h.tasks))
	mux.HandleFunc("GET /connectors/{name}/topics", h.named(h.topics))
	mux.HandleFunc("GET /connectors/{name}/offsets", h.named(h.offsets))
	mux.HandleFunc("PUT /connectors/{name}/pause", h.named(h.change(http.StatusAccepted, Workers.Pause)))
	mux.HandleFunc("PUT /connectors/{name}/resume", h.named(h.change(http.StatusAccepted, Workers.Resume)))
	mux.HandleFunc("PUT /connectors/{name}/stop", h.named(h.change(http.StatusNoContent, Workers.Stop)))
	mux.HandleFunc("POST /connectors/{name}/restart", h.named(h.change(http.StatusNoContent, Workers.Restart)))
	mux.HandleFunc("POST /connectors/{name}/flush", h.named(h.flush))
	mux.HandleFunc("GET /connector-plugins", h.plugins)
	return mux
}

type handler struct{ o Options }

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client may have gone
}

// fail writes err as problem+json.
func fail(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, worker.ErrUnknown), errors.Is(err, declared.ErrUnknown):
		code = http.StatusNotFound
	case errors.Is(err, worker.ErrNotRunning), errors.Is(err, declared.ErrChanged), errors.Is(err, hublog.ErrFenced),
		errors.Is(err, errFiles), errors.Is(err, errExists):
		code = http.StatusConflict
	case errors.Is(err, errSource), errors.Is(err, errBody), errors.Is(err, declared.ErrInvalid):
		code = http.StatusBadRequest
	}
	Problem(w, code, err.Error())
}

// Problem refuses a request with problem+json, which has Kafka Connect's fields beside its own.
func Problem(w http.ResponseWriter, code int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client may have gone
		"type": "about:blank", "title": http.StatusText(code), "status": code, "detail": detail, "error_code": code, "message": detail,
	})
}

var errSource = errors.New("only a sink can flush")

func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	if h.o.Ready != nil {
		if err := h.o.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	text := "ok\n"
	if h.o.Warnings != nil {
		for _, warning := range h.o.Warnings() {
			text += "warning: " + warning + "\n"
		}
	}
	_, _ = w.Write([]byte(text)) // the client may have gone
}

func (h *handler) all() []worker.Status {
	if h.o.Worker == nil {
		return nil
	}
	return h.o.Worker.Status()
}

// named finds the connector of the path.
func (h *handler) named(fn func(http.ResponseWriter, *http.Request, worker.Status)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		for _, s := range h.all() {
			if s.Name == name {
				fn(w, r, s)
				return
			}
		}
		h.elsewhere(w, r, name)
	}
}

type nobody string

func (n nobody) Error() string {
	return "no worker runs connector " + string(n) + " at this moment: ask again"
}
func (n nobody) Is(e error) bool { return e == worker.ErrNotRunning }

type unknown string

func (u unknown) Error() string   { return "connector " + string(u) + " is not known" }
func (u unknown) Is(e error) bool { return e == worker.ErrUnknown }

func (h *handler) list(w http.ResponseWriter, r *http.Request) {
	expand := r.URL.Query()["expand"]
	if len(expand) == 0 {
		names := []string{}
		for _, s := range h.all() {
			names = append(names, s.Name)
		}
		others, _, err := h.others(r)
		if err != nil {
			fail(w, err)
			return
		}
		for _, p := range others {
			names = append(names, p.Name)
		}
		reply(w, http.StatusOK, names)
		return
	}
	out := map[string]map[string]any{}
	others, workers, err := h.others(r)
	if err != nil {
		fail(w, err)
		return
	}
	for name, m := range h.askOthers(r, others, workers, expand) {
		out[name] = m
	}
	for _, s := range h.all() {
		m := map[string]any{}
		for _, e := range expand {
			switch e {
			case "status":
				m["status"] = h.statusOf(s)
			case "info":
				m["info"] = h.infoOf(s)
			}
		}
		out[s.Name] = m
	}
	reply(w, http.StatusOK, out)
}

func kindOf(s worker.Status) string {
	if s.Sink {
		return "sink"
	}
	return "source"
}

func (h *handler) infoOf(s worker.Status) map[string]any {
	config, err := h.o.Worker.Config(s.Name)
	if err != nil {
		config = map[string]string{}
	}
	tasks := []map[string]any{}
	for _, t := range s.Tasks {
		tasks = append(tasks, map[string]any{"connector": s.Name, "task": t.ID})
	}
	return map[string]any{"name": s.Name, "config": config, "tasks": tasks, "type": kindOf(s)}
}

func (h *handler) statusOf(s worker.Status) map[string]any {
	id := h.o.Worker.Host()
	tasks := []map[string]any{}
	for _, t := range s.Tasks {
		m := map[string]any{"id": t.ID, "state": t.State, "worker_id": id}
		if t.Error != "" {
			m["trace"] = t.Error
		}
		tasks = append(tasks, m)
	}
	c := map[string]any{"state": s.State, "worker_id": id}
	if s.Error != "" {
		c["trace"] = s.Error
	}
	// Beyond Connect's: what the console and the live table show.
	return map[string]any{"name": s.Name, "connector": c, "tasks": tasks, "type": kindOf(s),
		"records": s.Records, "bytes": s.Bytes, "records_per_second": s.Rate, "lag": s.Lag, "since": s.Since}
}

func (h *handler) info(w http.ResponseWriter, _ *http.Request, s worker.Status) {
	reply(w, http.StatusOK, h.infoOf(s))
}

func (h *handler) config(w http.ResponseWriter, _ *http.Request, s worker.Status) {
	reply(w, http.StatusOK, h.infoOf(s)["config"])
}

func (h *handler) status(w http.ResponseWriter, _ *http.Request, s worker.Status) {
	reply(w, http.StatusOK, h.statusOf(s))
}

func (h *handler) tasks(w http.ResponseWriter, _ *http.Request, s worker.Status) {
	out := []map[string]any{}
	for _, t := range s.Tasks {
		out = append(out, map[string]any{"id": map[string]any{"connector": s.Name, "task": t.ID}, "config": map[string]string{"split": t.Split}})
	}
	reply(w, http.StatusOK, out)
}

func (h *handler) topics(w http.ResponseWriter, r *http.Request, s worker.Status) {
	topics := []string{}
	seen := map[string]bool{}
	if s.Sink {
		offsets, err := h.o.Worker.Offsets(r.Context(), s.Name)
		if err != nil {
			fail(w, err)
			return
		}
		for _, o := range offsets {
			if !seen[o.Topic] {
				seen[o.Topic] = true
				topics = append(topics, o.Topic)
			}
		}
	}
	reply(w, http.StatusOK, map[string]any{s.Name: map[string]any{"topics": topics}})
}

// offsets answers as KIP-875 says.
func (h *handler) offsets(w http.ResponseWriter, r *http.Request, s worker.Status) {
	out := []map[string]any{}
	if s.Sink {
		offsets, err := h.o.Worker.Offsets(r.Context(), s.Name)
		if err != nil {
			fail(w, err)
			return
		}
		for _, o := range offsets {
			out = append(out, map[string]any{"partition": map[string]any{"kafka_topic": o.Topic, "kafka_partition": o.Partition},
				"offset": map[string]any{"kafka_offset": o.Offset}})
		}
	} else {
		positions, err := h.o.Worker.Positions(r.Context(), s.Name)
		if err != nil {
			fail(w, err)
			return
		}
		for _, p := range positions {
			var at any = string(p.Position)
			if json.Valid(p.Position) {
				at = json.RawMessage(p.Position)
			}
			out = append(out, map[string]any{"partition": map[string]any{"split": p.Split, "key": p.Key}, "offset": at})
		}
	}
	reply(w, http.StatusOK, map[string]any{"offsets": out})
}

func (h *handler) change(code int, fn func(Workers, string) error) func(http.ResponseWriter, *http.Request, worker.Status) {
	return func(w http.ResponseWriter, _ *http.Request, s worker.Status) {
		if err := fn(h.o.Worker, s.Name); err != nil {
			fail(w, err)
			return
		}
		w.WriteHeader(code)
	}
}

// flush commits what a sink holds; the answer has the shape of offsets.
func (h *handler) flush(w http.ResponseWriter, r *http.Request, s worker.Status) {
	if !s.Sink {
		fail(w, errSource)
		return
	}
	committed, err := h.o.Worker.Flush(r.Context(), s.Name)
	if err != nil {
		fail(w, err)
		return
	}
	out := []map[string]any{}
	for tp, at := range committed {
		out = append(out, map[string]any{"partition": map[string]any{"kafka_topic": tp.Topic, "kafka_partition": tp.Partition},
			"offset": map[string]any{"kafka_offset": at}})
	}
	reply(w, http.StatusOK, map[string]any{"offsets": out})
}

func (h *handler) plugins(w http.ResponseWriter, _ *http.Request) {
	out := []map[string]any{}
	if h.o.Worker != nil {
		add := func(name, kind string, s spec.Spec) {
			out = append(out, map[string]any{"class": name, "type": kind, "version": h.o.Version, "fields": s.Docs()})
		}
		for _, t := range h.o.Worker.Registry().Sources {
			add(t.Name, "source", t.Spec)
		}
		for _, t := range h.o.Worker.Registry().Sinks {
			add(t.Name, "sink", t.Spec)
		}
	}
	reply(w, http.StatusOK, out)
}
