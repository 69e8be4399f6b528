package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forebayhub/forebay/runtime/declared"
)

// hanging are workers of whom some take a connection and say nothing, like a process that was stopped, and the others do not run what they are asked for.
type hanging struct {
	stopped string
	asked   []string
}

func (h *hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	h.asked = append(h.asked, r.URL.Host)
	if r.URL.Host == h.stopped {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{notHere: {"1"}}, Body: http.NoBody, Request: r}, nil
}

// TestWorkerHangs: whoever is asked for a connector of a worker that hangs answers in time. What only looks is asked of the others; what may have been done is not.
func TestWorkerHangs(t *testing.T) {
	for _, c := range []struct {
		method, path string
		code         int
		want         string
		within       time.Duration
		asked        []string
	}{
		{http.MethodGet, "/connectors/shop/status", http.StatusOK, `"UNASSIGNED"`, askTimeout, []string{"b", "c"}},
		{http.MethodGet, "/connectors/shop/topics", http.StatusConflict, "no worker runs connector shop", askTimeout, []string{"b", "c"}},
		{http.MethodGet, "/connectors/shop/offsets", http.StatusGatewayTimeout, "the worker at b has not answered", actTimeout, []string{"b"}},
		{http.MethodPost, "/connectors/shop/restart", http.StatusGatewayTimeout, "the worker at b has not answered", actTimeout, []string{"b"}},
		{http.MethodDelete, "/connectors/shop/offsets", http.StatusGatewayTimeout, "look before", actTimeout, []string{"b"}},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				group := &hanging{stopped: "b"}
				h := New(Options{Client: &http.Client{Transport: group}, Places: func(context.Context) ([]declared.Place, []string, error) {
					return []declared.Place{{Connector: declared.Connector{Name: "shop", Kind: declared.Source}, HTTP: "b"}}, []string{"c", "b"}, nil
				}})
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // a client that waits
				defer cancel()
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, http.NoBody).WithContext(ctx))
				if took := time.Since(began); w.Code != c.code || !strings.Contains(w.Body.String(), c.want) || took != c.within || !slices.Equal(group.asked, c.asked) {
					t.Errorf("%d %s after %s, asked %v", w.Code, w.Body, took, group.asked)
				}
			})
		})
	}
}
