package api

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/forebayhub/forebay/runtime/worker"
)

// TestReadyNamesWhatFailed: a connector that has failed does not keep the process from serving, and is named.
func TestReadyNamesWhatFailed(t *testing.T) {
	w := httptest.NewRecorder()
	New(Options{Worker: told{status: []worker.Status{{Name: "a", State: worker.Running}, {Name: "b", State: worker.Failed, Error: "no such\n  table"}, {Name: "c", State: worker.Restarting}}}}).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if want := "ok\nwarning: connector b FAILED: no such table\n"; w.Code != http.StatusOK || w.Body.String() != want {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}
