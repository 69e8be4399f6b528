package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forebayhub/forebay/runtime/declared"
)

// handedOn marks a request that another worker has handed on: it is not handed on again.
const handedOn = "Forebay-Handed-On"

// notHere marks the answer of a worker that does not run the connector: another 404 is about something of it.
const notHere = "Forebay-Not-Here"

// places are where the declared connectors run, and the other workers that may run them. Who is asked by another worker answers for itself only.
func (h *handler) places(r *http.Request) (all []declared.Place, workers []string, err error) {
	if h.o.Places == nil || r.Header.Get(handedOn) != "" {
		return nil, nil, nil
	}
	return h.o.Places(r.Context())
}

// others are the declared connectors that do not run in this process, and the workers that may run them.
func (h *handler) others(r *http.Request) (out []declared.Place, workers []string, err error) {
	places, workers, err := h.places(r)
	for _, p := range places {
		if !p.Here {
			out = append(out, p)
		}
	}
	return out, workers, err
}

// elsewhere answers for a connector that does not run here: whoever runs it is asked, first the one who should.
func (h *handler) elsewhere(w http.ResponseWriter, r *http.Request, name string) {
	others, workers, err := h.others(r)
	if err != nil {
		fail(w, err)
		return
	}
	i := slices.IndexFunc(others, func(p declared.Place) bool { return p.Name == name })
	if i < 0 {
		w.Header().Set(notHere, "1")
		fail(w, unknown(name))
		return
	}
	if at := slices.Index(workers, others[i].HTTP); at > 0 {
		workers[0], workers[at] = workers[at], workers[0]
	}
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		fail(w, fmt.Errorf("%w: %w", errBody, err))
		return
	}
	for _, addr := range workers {
		if h.handOver(w, r, addr, content) {
			return
		}
	}
	h.atNobody(w, r, others[i])
}

// handOver answers with what a worker answers. False: it is not there, or does not run the connector. One that hangs is as one that is not there, unless it may have done
// something: that must not be done twice.
func (h *handler) handOver(w http.ResponseWriter, r *http.Request, addr string, content []byte) bool {
	limit := actTimeout
	looks := r.Method == http.MethodGet && !strings.HasSuffix(r.URL.Path, "/offsets") // a worker reads those in the log or in the target
	if looks {
		limit = askTimeout
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	resp, err := h.hand(ctx, r.Method, addr, r.URL.RequestURI(), content)
	if err != nil && ctx.Err() != nil && !looks {
		Problem(w, http.StatusGatewayTimeout, fmt.Sprintf("the worker at %s has not answered within %s: it may have done what was asked, or do it yet; look before you ask again", addr, limit))
		return true
	}
	if err != nil {
		return false // it may have died a moment ago
	}
	defer resp.Body.Close()
	if resp.Header.Get(notHere) != "" {
		return false // it is not there, or not yet
	}
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, io.LimitReader(resp.Body, maxBody)) // the client may have gone
	return true
}

// atNobody answers for a connector that nobody runs at this moment: its worker has died, or takes it on just now.
func (h *handler) atNobody(w http.ResponseWriter, r *http.Request, p declared.Place) {
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/connectors/"+p.Name+"/status":
		reply(w, http.StatusOK, h.unassignedStatus(p))
	case r.Method == http.MethodGet && r.URL.Path == "/connectors/"+p.Name+"/tasks":
		reply(w, http.StatusOK, []any{})
	case r.Method == http.MethodGet && r.URL.Path == "/connectors/"+p.Name+"/config" && h.o.Declared != nil:
		reply(w, http.StatusOK, h.o.Declared.Types().Flat(p.Connector))
	case r.Method == http.MethodGet && r.URL.Path == "/connectors/"+p.Name && h.o.Declared != nil:
		reply(w, http.StatusOK, map[string]any{"name": p.Name, "config": h.o.Declared.Types().Flat(p.Connector), "tasks": []any{}, "type": p.Kind})
	default:
		fail(w, nobody(p.Name))
	}
}

// unassignedStatus is Connect's state for it.
func (h *handler) unassignedStatus(p declared.Place) map[string]any {
	return map[string]any{"name": p.Name, "type": p.Kind, "tasks": []any{}, "connector": map[string]any{"state": unassigned, "worker_id": "", "version": h.o.Version}}
}

// askTimeout bounds what one worker may take to answer for its connectors: it may have just died.
const askTimeout = 3 * time.Second

// actTimeout bounds what one may take to do something, as Kafka Connect bounds its requests: a flush waits for the target.
const actTimeout = 90 * time.Second

// askOthers gathers what the other workers say of their connectors, by their addresses and by name.
func (h *handler) askOthers(r *http.Request, workers, expand []string) map[string]map[string]map[string]any {
	out := map[string]map[string]map[string]any{}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, addr := range workers {
		wg.Go(func() {
			said, err := asked[map[string]map[string]any](ctx, h, addr, "/connectors?"+url.Values{"expand": expand}.Encode())
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[addr] = said
		})
	}
	wg.Wait()
	return out
}

// asked is another worker's answer to a GET.
func asked[T any](ctx context.Context, h *handler, addr, uri string) (said T, err error) {
	resp, err := h.hand(ctx, http.MethodGet, addr, uri, nil)
	if err != nil {
		return said, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return said, fmt.Errorf("ask the worker at %s: %s", addr, resp.Status)
	}
	return said, json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&said)
}

// hand hands a request on, as this worker's: who asked has been let in here, and what he came in by is not for who may have joined the group.
func (h *handler) hand(ctx context.Context, method, addr, uri string, content []byte) (*http.Response, error) {
	req, err := toWorker(ctx, method, addr, uri, content)
	if err != nil {
		return nil, err
	}
	req.Header.Set(handedOn, "1")
	resp, err := h.o.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the worker at %s: %w", addr, err)
	}
	return resp, nil
}
