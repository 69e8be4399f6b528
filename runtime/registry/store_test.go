package registry

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/forebayhub/forebay/runtime/hublog"
)

// TestClose: a handler that was closed goes to the log no more, whatever requests still come.
func TestClose(t *testing.T) {
	var dialed atomic.Int64
	h := New(Options{Log: hublog.Options{Dial: func(context.Context) (net.Conn, error) {
		dialed.Add(1)
		return nil, net.ErrClosed
	}}})
	h.Close()
	for range 100 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/subjects", nil))
		if w.Code != http.StatusInternalServerError {
			t.Fatalf("answered with %d: %s", w.Code, w.Body)
		}
	}
	if n := dialed.Load(); n > 0 || h.store.log != nil {
		t.Errorf("the log was dialed %d times; its connection is %v", n, h.store.log)
	}
}
