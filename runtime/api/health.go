package api

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/forebayhub/forebay/runtime/worker"
)

func live(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("ok\n")) // the client may have gone
}

// patience is how long a connector may begin anew before somebody should look at it.
const patience = time.Minute

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
	for _, s := range h.all() {
		why := strings.Join(strings.Fields(s.Error), " ")
		switch {
		case s.State == worker.Failed:
			text += fmt.Sprintf("warning: connector %s FAILED: %s\n", s.Name, why)
		case s.State == worker.Restarting && !s.Ailing.IsZero() && time.Since(s.Ailing) > patience:
			text += fmt.Sprintf("warning: connector %s has been RESTARTING since %s: %s\n", s.Name, s.Ailing.UTC().Format(time.RFC3339), why)
		case s.State == worker.Running && why != "":
			text += fmt.Sprintf("warning: connector %s: %s\n", s.Name, why)
		}
	}
	_, _ = w.Write([]byte(text)) // the client may have gone
}

// health is KIP-1017's: 200 when requests can be served, 503 while that has not been so yet, 500 when it is so no more.
func (h *handler) health(w http.ResponseWriter, _ *http.Request) {
	var err error
	if h.o.Ready != nil {
		err = h.o.Ready()
	}
	switch {
	case err == nil:
		h.served.Store(true)
		reply(w, http.StatusOK, map[string]string{"status": "healthy", "message": "the worker is ready to handle requests"})
	case h.served.Load():
		reply(w, http.StatusInternalServerError, map[string]string{"status": "unhealthy", "message": err.Error()})
	default:
		reply(w, http.StatusServiceUnavailable, map[string]string{"status": "starting", "message": err.Error()})
	}
}
