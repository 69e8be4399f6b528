package registry

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forebayhub/forebay/runtime/hublog"
)

// TestSlowBody: a body that does not come keeps nobody longer than a request may take.
func TestSlowBody(t *testing.T) {
	h := New(Options{})
	defer h.Close()
	h.timeout = 50 * time.Millisecond
	server := httptest.NewServer(h)
	defer server.Close()
	body, never := io.Pipe()
	defer never.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/subjects/s", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("answered with %s", resp.Status)
	}
}

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
