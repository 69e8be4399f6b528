// Package api is the REST control plane: Kafka Connect's paths, codes and JSON, so that
// its tools work, and ours beside them. Errors are problem+json (RFC 9457) and
// carry Connect's error_code and message as well. Every node answers for all connectors of its group.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/loglevel"
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
	// Peers are the addresses of the group's other workers, for what all shall do. Nil: there are none.
	Peers func(context.Context) ([]string, error)
	// Declared is where connectors are declared. nil: they come from the files of this process, and cannot be changed.
	Declared *declared.Store
	// Heard returns when this process acts by a version of what is declared, or when ctx ends. Nil: nobody waits for that.
	Heard func(ctx context.Context, version int64)
	// Ready says why the process cannot serve yet. nil, or a nil error: it can.
	Ready func() error
	// Warnings say what does not keep it from serving, and somebody should look at all the same. nil: there are none.
	Warnings func() []string
	Version  string
	Commit   string // that Version was built from; "": unknown
	// Name is how this worker calls itself in its group, for GET /worker. Nil: it is in none.
	Name func() string
	// Client asks the group's other workers; it knows how they are spoken to. Nil: plainly.
	Client *http.Client
	// Loggers are those of this process. Nil: it has none that could be changed.
	Loggers *loglevel.Loggers
}

// Workers is a worker.Worker, or several that act as one.
type Workers interface {
	Status() []worker.Status
	Config(name string) (map[string]string, error)
	Want(name string, s worker.State) error
	Restart(name string) error
	Flush(ctx context.Context, name string) (map[connectors.TopicPartition]int64, error)
	Positions(ctx context.Context, name string) ([]worker.PositionOf, error)
	SetPositions(ctx context.Context, name string, positions []worker.PositionOf) error
	Offsets(ctx context.Context, name string) ([]worker.OffsetOf, error)
	Topics(name string) ([]string, error)
	ForgetTopics(name string) error
	ClusterID(ctx context.Context) (string, error)
	Registry() connectors.Registry
	Host() string
}

// New makes the handler. It may be mounted at the root beside others.
func New(o Options) http.Handler {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	h := &handler{o: o}
	return h.mux()
}

type handler struct {
	o       Options
	served  atomic.Bool            // Ready has been nil once
	cluster atomic.Pointer[string] // the log's id, once it has said it
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client may have gone
}

// fail writes err as problem+json.
func fail(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, worker.ErrUnknown), errors.Is(err, declared.ErrUnknown), errors.Is(err, errNone):
		code = http.StatusNotFound
	case errors.Is(err, worker.ErrNotRunning), errors.Is(err, declared.ErrChanged), errors.Is(err, hublog.ErrFenced),
		errors.Is(err, errFiles), errors.Is(err, errExists):
		code = http.StatusConflict
	case errors.Is(err, errSource), errors.Is(err, errBody), errors.Is(err, declared.ErrInvalid),
		errors.Is(err, worker.ErrNotStopped), errors.Is(err, worker.ErrTarget):
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

var (
	errSource = errors.New("only a sink can flush")
	errNone   = errors.New("there is none")
)

// askLog bounds the wait for the log's id.
const askLog = 2 * time.Second

// root is GET /: what this is. Health checks ask for it, so a log that is away at the first question costs its id only.
func (h *handler) root(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if wantsPage(r) {
		h.page(w, r)
		return
	}
	id := h.cluster.Load()
	if id == nil && h.o.Worker != nil {
		ctx, cancel := context.WithTimeout(r.Context(), askLog)
		defer cancel()
		if said, err := h.o.Worker.ClusterID(ctx); err == nil {
			id = &said
			h.cluster.Store(id)
		}
	}
	if id == nil {
		id = new(string)
	}
	reply(w, http.StatusOK, map[string]string{"version": h.o.Version, "commit": h.o.Commit, "kafka_cluster_id": *id})
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
	out, err := h.expanded(r, expand)
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, out)
}

// expanded is what all connectors are and do, by name, status and info as expand says.
func (h *handler) expanded(r *http.Request, expand []string) (map[string]map[string]any, error) {
	out := map[string]map[string]any{}
	for _, s := range h.all() {
		out[s.Name] = chosen(expand, func() any { return h.statusOf(s) }, func() any { return h.infoOf(s) })
	}
	places, workers, err := h.places(r)
	if err != nil {
		return nil, err
	}
	ask := expand
	if !slices.Contains(ask, "status") { // of parts it is the status that says their tasks
		ask = append(slices.Clone(ask), "status")
	}
	said := h.askOthers(r, workers, ask)
	for _, p := range places {
		if len(p.Parts) > 0 {
			joined := h.join(p, func(addr string) map[string]any {
				status, _ := said[addr][p.Name]["status"].(map[string]any)
				return status
			})
			out[p.Name] = chosen(expand, func() any { return joined }, func() any { return h.infoOfJoined(p, joined) })
			continue
		}
		if p.Here {
			continue
		}
		out[p.Name] = chosen(expand, func() any { return h.unassignedStatus(p) }, func() any { return h.infoOfJoined(p, nil) })
		for _, answer := range said {
			if m, ok := answer[p.Name]; ok {
				out[p.Name] = chosen(expand, func() any { return m["status"] }, func() any { return m["info"] })
			}
		}
	}
	return out, nil
}

// chosen is of a connector what expand names.
func chosen(expand []string, status, info func() any) map[string]any {
	m := map[string]any{}
	for _, e := range expand {
		switch e {
		case "status":
			m["status"] = status()
		case "info":
			m["info"] = info()
		}
	}
	return m
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

// unassigned is Connect's state of what no worker runs, or does not run yet. Its clients know no other word for that.
const unassigned = "UNASSIGNED"

// stateOf is the state of a connector or a task as Connect has it.
func (h *handler) stateOf(s worker.State, trace string) map[string]any {
	m := map[string]any{"state": s, "worker_id": h.o.Worker.Host(), "version": h.o.Version}
	if s == worker.Starting {
		m["state"] = unassigned
	}
	if trace != "" {
		m["trace"] = trace
	}
	return m
}

func (h *handler) taskOf(t worker.TaskStatus) map[string]any {
	m := h.stateOf(t.State, t.Error)
	m["id"], m["split"] = t.ID, t.Split
	return m
}

func (h *handler) statusOf(s worker.Status) map[string]any {
	tasks := []map[string]any{}
	for _, t := range s.Tasks {
		tasks = append(tasks, h.taskOf(t))
	}
	// Beyond Connect's: what the console and the live table show.
	out := map[string]any{"name": s.Name, "connector": h.stateOf(s.State, s.Error), "tasks": tasks, "type": kindOf(s), "class": s.Type,
		"records": s.Records, "bytes": s.Bytes, "records_per_second": s.Rate, "lag": s.Lag, "since": s.Since}
	if s.Timely() {
		out["lag_seconds"] = s.Behind.Seconds()
	}
	return out
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
