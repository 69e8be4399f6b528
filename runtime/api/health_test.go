package api

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/forebayhub/forebay/runtime/worker"
)

// TestReadyNamesWhatFailed: a connector that has failed does not keep the process from serving, and is named.
func TestReadyNamesWhatFailed(t *testing.T) {
	w := httptest.NewRecorder()
	New(Options{Worker: told{status: []worker.Status{{Name: "a", State: worker.Running}, {Name: "e", State: worker.Running, Error: "t-0 cannot be read"}, {Name: "b", State: worker.Failed, Error: "no such\n  table"}, {Name: "c", State: worker.Restarting, Ailing: time.Now().Add(-time.Second)}, {Name: "d", State: worker.Restarting, Error: "no route", Ailing: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}}}).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if want := "ok\nwarning: connector e: t-0 cannot be read\nwarning: connector b FAILED: no such table\nwarning: connector d has been RESTARTING since 2026-01-02T03:04:05Z: no route\n"; w.Code != http.StatusOK || w.Body.String() != want {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}
