package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/worker"
)

// state changes what a connector shall be doing. It is declared, so it lasts, and holds on whichever worker has the connector; of connectors
// that come from files only this process knows.
func (h *handler) state(code int, s declared.State, local worker.State) http.HandlerFunc {
	if h.o.Declared == nil {
		return h.named(func(w http.ResponseWriter, _ *http.Request, c worker.Status) {
			answer(w, code, h.o.Worker.Want(c.Name, local))
		})
	}
	return func(w http.ResponseWriter, r *http.Request) {
		answer(w, code, h.edit(r.Context(), declared.SetState(r.PathValue("name"), s)))
	}
}

// answer is code without a body, or err.
func answer(w http.ResponseWriter, code int, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(code)
}

// yes says whether a query has a parameter that is true, in any case of letters, as Java reads it.
func yes(r *http.Request, name string) bool {
	return strings.EqualFold(r.URL.Query().Get(name), "true")
}

// restart is KIP-745's. A connector and its tasks are one here: they fail, and start anew, together.
func (h *handler) restart(w http.ResponseWriter, r *http.Request, s worker.Status) {
	onlyFailed := yes(r, "onlyFailed")
	if !onlyFailed || s.State == worker.Failed {
		if err := h.o.Worker.Restart(s.Name); err != nil {
			fail(w, err)
			return
		}
	}
	if !onlyFailed && !yes(r, "includeTasks") {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	for _, now := range h.all() {
		if now.Name == s.Name {
			s = now
		}
	}
	reply(w, http.StatusAccepted, h.statusOf(s))
}

// task finds the task of the path.
func (h *handler) task(fn func(http.ResponseWriter, worker.Status, worker.TaskStatus)) http.HandlerFunc {
	return h.named(func(w http.ResponseWriter, r *http.Request, s worker.Status) {
		id, err := strconv.Atoi(r.PathValue("task"))
		for _, t := range s.Tasks {
			if err == nil && t.ID == id {
				fn(w, s, t)
				return
			}
		}
		fail(w, fmt.Errorf("%w: task %s of connector %s", errNone, r.PathValue("task"), s.Name))
	})
}

func (h *handler) taskStatus(w http.ResponseWriter, _ worker.Status, t worker.TaskStatus) {
	reply(w, http.StatusOK, h.taskOf(t))
}

func (h *handler) taskRestart(w http.ResponseWriter, s worker.Status, _ worker.TaskStatus) {
	answer(w, http.StatusNoContent, h.o.Worker.Restart(s.Name))
}
