package main

import (
	"bytes"
	"context"
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
