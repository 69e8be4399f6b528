package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/forebayhub/forebay/internal/loglevel"
)

// loggerInfo is KIP-495's level of a logger, with KIP-976's time.
type loggerInfo struct {
	Level    string `json:"level"`
	Modified *int64 `json:"last_modified"` // milliseconds; null: as it was at the start
}

func infoOf(l *loglevel.Loggers, name, level string) loggerInfo {
	i := loggerInfo{Level: level}
	if since := l.Since(name); !since.IsZero() {
		at := since.UnixMilli()
		i.Modified = &at
	}
	return i
}

// levelled hands on to fn unless there are no loggers.
func (h *handler) levelled(fn func(http.ResponseWriter, *http.Request, *loglevel.Loggers)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if h.o.Loggers == nil {
			fail(w, fmt.Errorf("%w: logger of this process whose level could be changed", errNone))
			return
		}
		fn(w, r, h.o.Loggers)
	}
}

func (h *handler) loggers(w http.ResponseWriter, _ *http.Request, l *loglevel.Loggers) {
	out := map[string]loggerInfo{}
	for name, level := range l.Levels() {
		out[name] = infoOf(l, name, level)
	}
	reply(w, http.StatusOK, out)
}

func noLogger(l *loglevel.Loggers, name string) error {
	return fmt.Errorf("%w: logger %s; there are %s", errNone, name, strings.Join(slices.Sorted(maps.Keys(l.Levels())), ", "))
}

func (h *handler) logger(w http.ResponseWriter, r *http.Request, l *loglevel.Loggers) {
	name := r.PathValue("logger")
	if !l.Has(name) {
		fail(w, noLogger(l, name))
		return
	}
	reply(w, http.StatusOK, infoOf(l, name, l.Levels()[name]))
}

// setLogger answers with the names of the loggers whose level is another now; with scope=cluster, where all workers do the same, with nothing.
func (h *handler) setLogger(w http.ResponseWriter, r *http.Request, l *loglevel.Loggers) {
	var b struct {
		Level string `json:"level"`
	}
	if err := body(w, r, &b); err != nil {
		fail(w, err)
		return
	}
	name, level := r.PathValue("logger"), strings.ToUpper(b.Level)
	switch {
	case b.Level == "":
		fail(w, fmt.Errorf("%w: level is missing: one of %s", errBody, strings.Join(loglevel.Names, ", ")))
		return
	case !l.Has(name):
		fail(w, noLogger(l, name))
		return
	case !slices.Contains(loglevel.Names, level): // 404, as in Connect
		fail(w, fmt.Errorf("%w: level '%s'; there are %s", errNone, b.Level, strings.Join(loglevel.Names, ", ")))
		return
	}
	changed := []string{}
	before := l.Levels()
	if before[name] != level {
		l.Set(name, level)
	}
	for logger, now := range l.Levels() {
		if now != before[logger] {
			changed = append(changed, logger)
		}
	}
	slices.Sort(changed)
	if !strings.EqualFold(r.URL.Query().Get("scope"), "cluster") {
		reply(w, http.StatusOK, changed)
		return
	}
	answer(w, http.StatusNoContent, h.tellPeers(r, fmt.Appendf(nil, `{"level":%q}`, level)))
}

// tellPeers hands a request on to all other workers of the group.
func (h *handler) tellPeers(r *http.Request, content []byte) error {
	if h.o.Peers == nil || r.Header.Get(handedOn) != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	peers, err := h.o.Peers(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(peers))
	var wg sync.WaitGroup
	for i, addr := range peers {
		wg.Go(func() {
			resp, err := h.hand(ctx, r.Method, addr, r.URL.RequestURI(), content)
			if err != nil {
				errs[i] = err
				return
			}
			defer resp.Body.Close()
			if resp.StatusCode >= 300 {
				text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // the status stands
				errs[i] = fmt.Errorf("the worker at %s: %s %s", addr, resp.Status, text)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
