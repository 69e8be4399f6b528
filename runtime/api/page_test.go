package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/worker"
)

// told is a worker that says what a test wants.
type told struct {
	Workers
	status []worker.Status
}

func (w told) Status() []worker.Status                   { return w.status }
func (w told) Host() string                              { return "here:8080" }
func (w told) ClusterID(context.Context) (string, error) { return "id", nil }
func (w told) Registry() connectors.Registry             { return connectors.Registry{} }

func askRoot(t *testing.T, accept string, status ...worker.Status) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Accept", accept)
	New(Options{Worker: told{status: status}, Version: "v<1>"}).ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.Header().Get("Vary") != "Accept" {
		t.Fatal(w.Code, w.Header())
	}
	return w
}

// Browsers get the page; whoever wants JSON, or says nothing, gets Connect's answer.
func TestRootIsConnectsUnlessABrowserAsks(t *testing.T) {
	for accept, page := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "application/json, text/html": false,
		"text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2": false, // Java's HttpURLConnection
		"text/html": true,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8": true,
	} {
		w := askRoot(t, accept)
		var said struct {
			ID string `json:"kafka_cluster_id"`
		}
		isJSON := json.Unmarshal(w.Body.Bytes(), &said) == nil && said.ID == "id"
		if isPage := strings.HasPrefix(w.Body.String(), "<!doctype html>"); isPage != page || isJSON == page {
			t.Errorf("Accept: %s: %s", accept, w.Body)
		}
	}
}

// What a user, or a server's error, can put into the page is text there.
func TestPageEscapes(t *testing.T) {
	evil := `"><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;`
	w := askRoot(t, "text/html", worker.Status{Name: evil, Type: evil, Sink: true, State: worker.State(evil), Error: evil, Lag: 7, Behind: 90 * time.Second, Rate: 12.4},
		worker.Status{Name: "shop", State: worker.Failed, Error: strings.Repeat("é", 10_000), Lag: -1})
	text := w.Body.String()
	for _, bad := range []string{"<script", "<img", "onerror='", "v<1>"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	for _, want := range []string{"&lt;script&gt;", `<td class="n">12</td><td class="n">7</td><td class="n">90</td>`, `<td class="bad">FAILED</td>`, `<meta http-equiv="refresh" content="5">`, "2 connectors"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not have %s", want)
		}
	}
	if n := strings.Count(text, "é"); n != pageError {
		t.Errorf("an error has %d runes", n)
	}
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Error(csp)
	}
	for _, outside := range []string{"http://", "https://", "url(", "@import", `src="`} {
		if strings.Contains(text, outside) {
			t.Errorf("the page has %s", outside)
		}
	}
}
