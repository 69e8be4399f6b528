package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/worker"
)

// route is one thing that can be asked; the document of GET /openapi.json is made of the same.
type route struct {
	method, path string
	do           http.HandlerFunc
	summary      string
	in           string         // the body's schema; "": none
	out          map[int]string // the answers' schemas, by their codes; "": no body
	query        []string
}

// pattern is how a mux knows it.
func (r route) pattern() string {
	if r.path == "/" {
		return r.method + " /{$}"
	}
	return r.method + " " + r.path
}

// plainText is an answer that is no JSON.
const plainText = "text"

// routes are all of them: first Kafka Connect's, then ours.
func (h *handler) routes() []route {
	const get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
	const ok, created, accepted, none = http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent
	one := func(code int, schema string) map[int]string { return map[int]string{code: schema} }
	return []route{
		{get, "/", h.root, "What this is; for browsers, which accept text/html, a page of what the connectors do", "", one(ok, "Server"), nil},
		{get, "/health", h.health, "Whether requests can be served (KIP-1017)", "", map[int]string{ok: "Health", http.StatusInternalServerError: "Health", http.StatusServiceUnavailable: "Health"}, nil},
		{get, "/connectors", h.list, "Names of all connectors, or with expand what they are and do", "", one(ok, "Connectors"), []string{"expand"}},
		{post, "/connectors", h.post, "Create a connector", "NewConnector", one(created, "Connector"), nil},
		{get, "/connectors/{name}", h.whole(h.joinedInfo, h.named(h.info)), "A connector's config and tasks", "", one(ok, "Connector"), nil},
		{del, "/connectors/{name}", h.remove, "Remove a connector", "", one(none, ""), nil},
		{get, "/connectors/{name}/config", h.named(h.config), "A connector's config, secrets as stars", "", one(ok, "Config"), nil},
		{put, "/connectors/{name}/config", h.put, "Create or change a connector", "Config", map[int]string{ok: "Connector", created: "Connector"}, nil},
		{patch, "/connectors/{name}/config", h.patch, "Change some fields; null takes one back (KIP-477)", "ConfigPatch", one(ok, "Connector"), nil},
		{get, "/connectors/{name}/status", h.whole(h.joinedStatus, h.named(h.status)), "What a connector and its tasks do", "", one(ok, "Status"), nil},
		{post, "/connectors/{name}/restart", h.whole(h.restartAll, h.named(h.restart)), "Start a connector and its tasks anew", "", map[int]string{none: "", accepted: "Status"}, []string{"includeTasks", "onlyFailed"}},
		{put, "/connectors/{name}/pause", h.state(accepted, declared.Paused, worker.Paused), "Pause, until resume", "", one(accepted, ""), nil},
		{put, "/connectors/{name}/resume", h.state(accepted, declared.Running, worker.Running), "Go on after pause or stop", "", one(accepted, ""), nil},
		{put, "/connectors/{name}/stop", h.state(none, declared.Stopped, worker.Stopped), "End the tasks, until resume", "", one(none, ""), nil},
		{get, "/connectors/{name}/tasks", h.whole(h.joinedTasks, h.named(h.tasks)), "A connector's tasks", "", one(ok, "Tasks"), nil},
		{get, "/connectors/{name}/tasks/{task}/status", h.whole(h.joinedTaskStatus, h.task(h.taskStatus)), "What a task does", "", one(ok, "TaskStatus"), nil},
		{post, "/connectors/{name}/tasks/{task}/restart", h.whole(h.joinedTaskRestart, h.task(h.taskRestart)), "Start a task anew, with its connector", "", one(none, ""), nil},
		{get, "/connectors/{name}/topics", h.named(h.topics), "Topics with records since the task started or the reset (KIP-558)", "", one(ok, "Topics"), nil},
		{put, "/connectors/{name}/topics/reset", h.named(h.topicsReset), "Forget the topics so far", "", one(accepted, ""), nil},
		{get, "/connectors/{name}/offsets", h.named(h.offsets), "Where a connector stands (KIP-875)", "", one(ok, "Offsets"), nil},
		{patch, "/connectors/{name}/offsets", h.named(h.alterOffsets), "Put positions of a stopped source", "Offsets", one(ok, "Message"), nil},
		{del, "/connectors/{name}/offsets", h.named(h.resetOffsets), "Forget all positions of a stopped source", "", one(ok, "Message"), nil},
		{get, "/connector-plugins", h.plugins, "Types of connectors, and with connectorsOnly=false of transforms", "", one(ok, "Plugins"), []string{"connectorsOnly"}},
		{get, "/connector-plugins/{plugin}/config", h.pluginConfig, "The fields of a type", "", one(ok, "Definitions"), []string{"type"}},
		{put, "/connector-plugins/{plugin}/config/validate", h.validate, "Check a config", "Config", one(ok, "ConfigInfos"), nil},
		{get, "/admin/loggers", h.levelled(h.loggers), "Loggers of this process and their levels", "", one(ok, "Loggers"), nil},
		{get, "/admin/loggers/{logger}", h.levelled(h.logger), "The level of a logger", "", one(ok, "Logger"), nil},
		{put, "/admin/loggers/{logger}", h.levelled(h.setLogger), "Set the level of a logger, here or with scope=cluster on all workers", "Level", map[int]string{ok: "Names", none: ""}, []string{"scope"}},

		{get, "/livez", live, "Whether the process lives", "", one(ok, plainText), nil},
		{get, "/readyz", h.ready, "Whether it can serve, with warnings", "", map[int]string{ok: plainText, http.StatusServiceUnavailable: plainText}, nil},
		{get, "/worker", h.worker, "The worker's name in its group", "", one(ok, "Worker"), nil},
		{post, "/apply", h.apply, "Make the group's connectors exactly these", "Apply", one(ok, "Plan"), nil},
		{post, "/connectors/{name}/flush", h.named(h.flush), "Have a sink commit what it holds", "", one(ok, "Offsets"), nil},
		{get, "/openapi.json", h.openAPI, "This document", "", one(ok, "OpenAPI"), nil},
	}
}

// mux serves the routes, with a / at the end or without, and refuses what there is not as everything else is refused.
func (h *handler) mux() http.Handler {
	mux := http.NewServeMux()
	for _, r := range h.routes() {
		mux.HandleFunc(r.pattern(), r.do)
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
