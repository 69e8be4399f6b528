package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/runtime/api"
	"github.com/forebayhub/forebay/runtime/declared"
)

// TestSeal: a worker's requests come in at the worker that they are for; who else is asked learns no token, and can do nothing with what he gets.
func TestSeal(t *testing.T) {
	const token = "0123456789abcdef"
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	var heard []*http.Request
	var bodies []string
	worker := &guard{token: token}
	worker.next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		bodies = append(bodies, string(text))
		_, _ = io.WriteString(w, `{"name":"w1"}`) // a recorder takes it
	})
	right := httptest.NewServer(worker)
	defer right.Close()
	worker.seal = &seal{token: token, at: right.Listener.Addr().String(), now: clock}
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		heard = append(heard, r)
		http.Redirect(w, r, right.URL+r.RequestURI, http.StatusTemporaryRedirect)
	}))
	defer stranger.Close()

	own := &seal{token: token, at: "127.0.0.1:1", now: clock, next: http.DefaultTransport}
	ask := api.Ask(own.client())
	if name, err := ask(t.Context(), right.Listener.Addr().String()); err != nil || name != "w1" {
		t.Error(name, err)
	}
	// What a user asks for is handed on: as this worker's request, without his password.
	hand := func(at string) int {
		h := api.New(api.Options{Client: own.client(), Places: func(context.Context) ([]declared.Place, []string, error) {
			return []declared.Place{{Connector: declared.Connector{Name: "shop", Kind: declared.Source}, HTTP: at}}, []string{at}, nil
		}})
		r := httptest.NewRequest(http.MethodPatch, "/connectors/shop/offsets?x=%20y", strings.NewReader(`{"offsets":[]}`))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	if code := hand(right.Listener.Addr().String()); code != http.StatusOK || len(bodies) != 2 || bodies[1] != `{"offsets":[]}` {
		t.Error(code, bodies)
	}

	// A stranger who is in the group.
	addr := stranger.Listener.Addr().String()
	if name, err := ask(t.Context(), addr); err == nil {
		t.Error(name)
	}
	if code := hand(addr); code != http.StatusTemporaryRedirect {
		t.Error(code)
	}
	for _, path := range []string{"/connectors/shop/restart?x=", "@" + addr, "?", "#"} {
		if name, err := ask(t.Context(), right.Listener.Addr().String()+path); err == nil {
			t.Error(path, name)
		}
	}
	if len(heard) != 2 || len(bodies) != 2 {
		t.Fatal(len(heard), bodies)
	}
	for _, r := range heard {
		for name, values := range r.Header {
			if text := strings.Join(values, " "); name == "Authorization" || strings.Contains(text, token) {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
	passed := worker.next
	count := 0
	worker.next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { count++; passed.ServeHTTP(w, r) })
	try := func(r *http.Request, want int) {
		t.Helper()
		w := httptest.NewRecorder()
		worker.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s %s: %d, want %d", r.Method, r.RequestURI, w.Code, want)
		}
	}
	replay := httptest.NewRequest(http.MethodGet, "/worker", http.NoBody)
	replay.Header.Set(sealHeader, heard[0].Header.Get(sealHeader))
	replay.Host = addr
	try(replay, http.StatusUnauthorized)

	// Nothing of a request can be changed, and it is not good for ever.
	recorded := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { heard = append(heard, r) }))
	defer recorded.Close()
	worker.seal.at = recorded.Listener.Addr().String()
	hand(worker.seal.at)
	said := heard[2].Header.Get(sealHeader)
	again := func(method, uri, body, seal string, want int) {
		t.Helper()
		r := httptest.NewRequest(method, uri, strings.NewReader(body))
		r.Header.Set(sealHeader, seal)
		try(r, want)
	}
	const uri, body = "/connectors/shop/offsets?x=%20y", `{"offsets":[]}`
	again(http.MethodPatch, uri, body, said, http.StatusOK)
	again(http.MethodDelete, uri, body, said, http.StatusUnauthorized)
	again(http.MethodPatch, "/connectors/shop/offsets?x=y", body, said, http.StatusUnauthorized)
	again(http.MethodPatch, uri, body+" ", said, http.StatusUnauthorized)
	again(http.MethodPatch, uri, "", said, http.StatusUnauthorized)
	f := strings.Fields(said)
	for _, bad := range []string{"", " ", "  ", "1 2 3", f[0], "1" + said, f[0] + " " + f[1] + " ", f[0] + " " + f[2] + " " + f[1], said + " x"} {
		again(http.MethodPatch, uri, body, bad, http.StatusUnauthorized)
	}
	now = now.Add(sealedFor)
	again(http.MethodPatch, uri, body, said, http.StatusOK)
	now = now.Add(time.Second)
	again(http.MethodPatch, uri, body, said, http.StatusUnauthorized)
	now = now.Add(-2*sealedFor - 2*time.Second)
	again(http.MethodPatch, uri, body, said, http.StatusUnauthorized)
	now = now.Add(sealedFor)
	worker.seal.token = "0123456789abcdeF"
	again(http.MethodPatch, uri, body, said, http.StatusUnauthorized)
	if count != 2 {
		t.Error(count)
	}
}
