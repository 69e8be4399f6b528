package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestNoAnswerInTime: a node that takes a request and says nothing is not one that is not there.
func TestNoAnswerInTime(t *testing.T) {
	ended := make(chan struct{})
	node := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-ended }))
	defer node.Close()
	defer close(ended)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	code := run(ctx, []string{"connectors", "restart", "shop", "--http", node.Listener.Addr().String()}, strings.NewReader(""), &out, &out)
	if text := out.String(); code != 3 || !strings.Contains(text, "may have been done") || strings.Contains(text, "no node answers") || strings.Contains(text, "forebay up") {
		t.Errorf("exit code %d, %s", code, text)
	}
}

// TestTokenIsNotPrinted: who gives the token where a file is wanted does not find it in his terminal's or cron's output.
func TestTokenIsNotPrinted(t *testing.T) {
	for _, token := range []string{"abcdefghijklmnop0123", "abcdef/" + strings.Repeat("x", 300), "abcdef\x00x"} {
		if got, code := command(t, "", "connectors", "list", "--http", "127.0.0.1:1", "--http-token", token); code != 2 || strings.Contains(got, "abcdef") || !strings.Contains(got, "a file with the token") {
			t.Errorf("exit code %d, %s", code, got)
		}
	}
	if got, _ := command(t, "", "metadata", "backup", "--help"); strings.Contains(got, "http-token TOKEN") {
		t.Error(got)
	}
}

// TestValidateOfStars: a console that validates what a GET has shown, secrets as stars, is told that it is right.
func TestValidateOfStars(t *testing.T) {
	_, web := startUp(t)
	do := func(method, path, body string, want int) string {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+web+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, text, err)
		}
		return string(text)
	}
	do("POST", "/connectors", `{"name":"shop","initial_state":"STOPPED","config":{"connector.class":"postgres","url":"postgres://u:secret@127.0.0.1:1/x","tables":"public.orders"}}`, 201)
	shown := do("GET", "/connectors/shop/config", "", 200)
	if !strings.Contains(shown, "***") {
		t.Fatal(shown)
	}
	if got := do("PUT", "/connector-plugins/postgres/config/validate", shown, 200); !strings.Contains(got, `"error_count":0`) || strings.Contains(got, "secret@") {
		t.Error(got)
	}
	if got := do("PUT", "/connector-plugins/postgres/config/validate", strings.ReplaceAll(shown, `"shop"`, `"other"`), 200); strings.Contains(got, `"error_count":0`) {
		t.Error(got)
	}
}
