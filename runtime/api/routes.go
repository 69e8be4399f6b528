package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/worker"
)

// route is one thing that can be asked.
type route struct {
	method, path string
	do           http.HandlerFunc
}

// routes are all of them: first Kafka Connect's, then ours.
func (h *handler) routes() []route {
	const get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
	return []route{
		{get, "/", h.root},
		{get, "/health", h.health},
		{get, "/connectors", h.list},
		{post, "/connectors", h.post},
		{get, "/connectors/{name}", h.named(h.info)},
		{del, "/connectors/{name}", h.remove},
		{get, "/connectors/{name}/config", h.named(h.config)},
		{put, "/connectors/{name}/config", h.put},
		{patch, "/connectors/{name}/config", h.patch},
		{get, "/connectors/{name}/status", h.named(h.status)},
		{post, "/connectors/{name}/restart", h.named(h.restart)},
		{put, "/connectors/{name}/pause", h.state(http.StatusAccepted, declared.Paused, worker.Paused)},
		{put, "/connectors/{name}/resume", h.state(http.StatusAccepted, declared.Running, worker.Running)},
		{put, "/connectors/{name}/stop", h.state(http.StatusNoContent, declared.Stopped, worker.Stopped)},
		{get, "/connectors/{name}/tasks", h.named(h.tasks)},
		{get, "/connectors/{name}/tasks/{task}/status", h.task(h.taskStatus)},
		{post, "/connectors/{name}/tasks/{task}/restart", h.task(h.taskRestart)},
		{get, "/connectors/{name}/topics", h.named(h.topics)},
		{put, "/connectors/{name}/topics/reset", h.named(h.topicsReset)},
		{get, "/connectors/{name}/offsets", h.named(h.offsets)},
		{patch, "/connectors/{name}/offsets", h.named(h.alterOffsets)},
		{del, "/connectors/{name}/offsets", h.named(h.resetOffsets)},
		{get, "/connector-plugins", h.plugins},
		{get, "/connector-plugins/{plugin}/config", h.pluginConfig},
		{put, "/connector-plugins/{plugin}/config/validate", h.validate},
		{get, "/admin/loggers", h.levelled(h.loggers)},
		{get, "/admin/loggers/{logger}", h.levelled(h.logger)},
		{put, "/admin/loggers/{logger}", h.levelled(h.setLogger)},

		{get, "/livez", live},
		{get, "/readyz", h.ready},
		{get, "/worker", h.worker},
		{post, "/apply", h.apply},
		{post, "/connectors/{name}/flush", h.named(h.flush)},
	}
}

// mux serves the routes, with a / at the end or without, and refuses what there is not as everything else is refused.
func (h *handler) mux() http.Handler {
	mux := http.NewServeMux()
	for _, r := range h.routes() {
		path := r.path
		if path == "/" {
			path = "/{$}"
		}
		mux.HandleFunc(r.method+" "+path, r.do)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if short := strings.TrimRight(r.URL.Path, "/"); short != "" && short != r.URL.Path {
			u := *r.URL
			u.Path, u.RawPath = short, strings.TrimRight(u.RawPath, "/")
			r = r.WithContext(r.Context()) // a copy
			r.URL = &u
		}
		found, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r) // which reads the path's values
			return
		}
		none := refusal{ResponseWriter: w}
		found.ServeHTTP(&none, r)
		Problem(w, none.code, fmt.Sprintf("%s %s: %s", r.Method, r.URL.Path, strings.ToLower(http.StatusText(none.code))))
	})
}

// refusal takes the mux's own answer, of which the code and the Allow header are kept.
type refusal struct {
	http.ResponseWriter
	code int
}

func (r *refusal) WriteHeader(code int)           { r.code = code }
func (r *refusal) Write(text []byte) (int, error) { return len(text), nil }
