package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/worker"
)

// A connector that is bound to its host has a part on each host of its group. Whoever asks sees one connector with a task for each, as Kafka Connect's
// tasks lie on several workers: a task says where by its worker_id, and their numbers go by that.

// whole answers with joined for a connector of which other workers have parts, and with one for any other.
func (h *handler) whole(joined func(http.ResponseWriter, *http.Request, declared.Place), one http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		places, _, err := h.places(r)
		if err != nil {
			fail(w, err)
			return
		}
		for _, p := range places {
			if p.Name == r.PathValue("name") && len(p.Parts) > 0 {
				joined(w, r, p)
				return
			}
		}
		one(w, r)
	}
}

// onEach calls fn for every other worker that has a part, at the same time, and returns what failed.
func onEach(r *http.Request, p declared.Place, fn func(ctx context.Context, addr string) error) error {
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	failed := make([]error, len(p.Parts))
	var all sync.WaitGroup
	for i, addr := range p.Parts {
		all.Go(func() { failed[i] = fn(ctx, addr) })
	}
	all.Wait()
	return errors.Join(failed...)
}

// statusOfAll is the status of a connector with all its parts.
func (h *handler) statusOfAll(r *http.Request, p declared.Place) map[string]any {
	var mu sync.Mutex
	said := map[string]map[string]any{}
	_ = onEach(r, p, func(ctx context.Context, addr string) error { // who does not answer is seen as that
		status, err := asked[map[string]any](ctx, h, addr, "/connectors/"+url.PathEscape(p.Name)+"/status")
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			said[addr] = status
		}
		return nil
	})
	return h.join(p, func(addr string) map[string]any { return said[addr] })
}

// ranks are the states of a connector; of its parts' states the last here is the whole's.
var ranks = []string{string(worker.Stopped), string(worker.Paused), string(worker.Running), unassigned, string(worker.Restarting), string(worker.Failed)}

// join makes one status of this worker's and of what the others say of their parts; nil: one does not answer.
func (h *handler) join(p declared.Place, said func(addr string) map[string]any) map[string]any {
	parts := map[string]map[string]any{}
	for _, addr := range p.Parts {
		parts[addr] = said(addr)
	}
	for _, s := range h.all() {
		if s.Name == p.Name {
			text, _ := json.Marshal(h.statusOf(s)) // text and numbers: never fails
			var own map[string]any
			_ = json.Unmarshal(text, &own) // it was made of one
			parts[h.o.Worker.Host()] = own
		}
	}
	out := h.unassignedStatus(p)
	tasks := []any{}
	worst := -2
	for _, addr := range slices.Sorted(maps.Keys(parts)) {
		s := parts[addr]
		if s == nil {
			s = map[string]any{"connector": map[string]any{"state": unassigned, "worker_id": addr, "version": ""}}
		}
		state, _ := s["connector"].(map[string]any)
		own, _ := s["tasks"].([]any)
		if len(own) == 0 && state["state"] != string(worker.Stopped) { // not yet, or no more: its host is to be seen all the same
			own = []any{maps.Clone(state)}
		}
		for _, t := range own {
			if task, ok := t.(map[string]any); ok && task != nil {
				task["id"] = len(tasks)
				tasks = append(tasks, task)
			}
		}
		for _, sum := range []string{"records", "bytes", "records_per_second"} {
			if n, ok := s[sum].(float64); ok {
				have, _ := out[sum].(float64)
				out[sum] = have + n
			}
		}
		if n, ok := s["lag_seconds"].(float64); ok {
			have, _ := out["lag_seconds"].(float64)
			out["lag_seconds"] = max(have, n)
		}
		name, _ := state["state"].(string)
		if rank := slices.Index(ranks, name); rank > worst {
			worst, out["connector"] = rank, state
			for _, as := range []string{"class", "lag", "since"} {
				if v, ok := s[as]; ok {
					out[as] = v
				}
			}
		}
	}
	out["tasks"] = tasks
	return out
}

// tasksOf are the tasks of a joined status.
func tasksOf(status map[string]any) (out []map[string]any) {
	tasks, _ := status["tasks"].([]any)
	for _, t := range tasks {
		out = append(out, t.(map[string]any)) // as join made them
	}
	return out
}

func (h *handler) infoOfJoined(p declared.Place, status map[string]any) map[string]any {
	config, err := h.o.Worker.Config(p.Name)
	if err != nil {
		config = map[string]string{}
	}
	tasks := []map[string]any{}
	for _, t := range tasksOf(status) {
		tasks = append(tasks, map[string]any{"connector": p.Name, "task": t["id"]})
	}
	return map[string]any{"name": p.Name, "config": config, "tasks": tasks, "type": p.Kind}
}

func (h *handler) joinedStatus(w http.ResponseWriter, r *http.Request, p declared.Place) {
	reply(w, http.StatusOK, h.statusOfAll(r, p))
}

func (h *handler) joinedInfo(w http.ResponseWriter, r *http.Request, p declared.Place) {
	reply(w, http.StatusOK, h.infoOfJoined(p, h.statusOfAll(r, p)))
}

func (h *handler) joinedTasks(w http.ResponseWriter, r *http.Request, p declared.Place) {
	out := []map[string]any{}
	for _, t := range tasksOf(h.statusOfAll(r, p)) {
		split, _ := t["split"].(string)
		out = append(out, map[string]any{"id": map[string]any{"connector": p.Name, "task": t["id"]}, "config": map[string]string{"split": split}})
	}
	reply(w, http.StatusOK, out)
}

// joinedTask finds the task of the path.
func (h *handler) joinedTask(w http.ResponseWriter, r *http.Request, p declared.Place) map[string]any {
	id, err := strconv.Atoi(r.PathValue("task"))
	for _, t := range tasksOf(h.statusOfAll(r, p)) {
		if err == nil && t["id"] == id {
			return t
		}
	}
	fail(w, fmt.Errorf("%w: task %s of connector %s", errNone, r.PathValue("task"), p.Name))
	return nil
}

func (h *handler) joinedTaskStatus(w http.ResponseWriter, r *http.Request, p declared.Place) {
	if t := h.joinedTask(w, r, p); t != nil {
		reply(w, http.StatusOK, t)
	}
}

func (h *handler) joinedTaskRestart(w http.ResponseWriter, r *http.Request, p declared.Place) {
	t := h.joinedTask(w, r, p)
	if t == nil {
		return
	}
	at, _ := t["worker_id"].(string)
	if at == h.o.Worker.Host() {
		answer(w, http.StatusNoContent, h.o.Worker.Restart(p.Name))
		return
	}
	p.Parts = []string{at}
	answer(w, http.StatusNoContent, h.restartParts(r, p, "/connectors/"+url.PathEscape(p.Name)+"/restart"))
}

// partly says that some workers have not done what was asked.
type partly struct{ error }

func (partly) Is(e error) bool { return e == worker.ErrNotRunning }

// restartParts hands a restart on to the other workers that have a part.
func (h *handler) restartParts(r *http.Request, p declared.Place, uri string) error {
	err := onEach(r, p, func(ctx context.Context, addr string) error {
		resp, err := h.hand(ctx, http.MethodPost, addr, uri, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= http.StatusBadRequest && resp.Header.Get(notHere) == "" { // else it has none to restart any more
			return fmt.Errorf("the worker at %s: %s", addr, resp.Status)
		}
		return nil
	})
	if err != nil {
		return partly{fmt.Errorf("not every part of connector %s was restarted: %w", p.Name, err)}
	}
	return nil
}

// restartAll is restart, of every part.
func (h *handler) restartAll(w http.ResponseWriter, r *http.Request, p declared.Place) {
	err := h.restartParts(r, p, r.URL.RequestURI())
	for _, s := range h.all() {
		if s.Name == p.Name && (!yes(r, "onlyFailed") || s.State == worker.Failed) {
			err = errors.Join(err, h.o.Worker.Restart(p.Name))
		}
	}
	switch {
	case err != nil:
		fail(w, err)
	case yes(r, "onlyFailed") || yes(r, "includeTasks"):
		reply(w, http.StatusAccepted, h.statusOfAll(r, p))
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
