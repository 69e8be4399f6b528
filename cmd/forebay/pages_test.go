package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPages: of what browsers send, that which a page of another site can make them send is refused; tools that are no browsers, and pages behind
// a proxy, go on as with Kafka Connect.
func TestPages(t *testing.T) {
	const form, text, plain = "application/x-www-form-urlencoded", "text/plain;charset=UTF-8", "application/json"
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, host, kind, origin, site string
		open                             bool // on loopback, without a token
		want                             int
	}{
		// No browser: curl -d (which says that it is a form), kafka-connect-py, a health check.
		{"POST", "127.0.0.1:8080", form, "", "", true, 200},
		{"POST", "127.0.0.1:8080", "", "", "", true, 200},
		{"PUT", "forebay.internal:8080", plain, "", "", true, 200},
		// A page elsewhere, in a browser of today and in one at a plain address, which gets no Sec-Fetch-Site.
		{"POST", "127.0.0.1:8080", text, "http://evil.example", "cross-site", true, 403},
		{"POST", "127.0.0.1:8080", text, "null", "cross-site", true, 403},
		{"POST", "127.0.0.1:8080", "", "http://evil.example", "cross-site", true, 403},
		{"POST", "localhost:8080", form, "http://localhost:3000", "same-site", true, 403},
		{"POST", "10.0.0.7:8080", text, "http://10.0.0.8", "", false, 403},
		{"POST", "10.0.0.7:8080", text, "null", "", false, 403},
		{"POST", "10.0.0.7:8080", "multipart/form-data; boundary=x", "http://10.0.0.8", "", false, 403},
		{"POST", "10.0.0.7:8080", "TEXT/plain; application/json", "http://10.0.0.8", "", false, 403},
		{"POST", "10.0.0.7:8080", "application/json; charset", "http://10.0.0.8", "", false, 403},
		{"GET", "127.0.0.1:8080", "", "", "cross-site", true, 200},
		// A console behind a proxy that keeps the browser's headers and not the Host: what a browser asks leave for never comes without it.
		{"POST", "10.0.0.7:8080", plain, "http://console.internal", "", false, 200},
		{"PUT", "10.0.0.7:8080", plain, "http://console.internal", "", false, 200},
		{"DELETE", "10.0.0.7:8080", "", "http://console.internal", "", false, 200},
		{"POST", "console.internal", "", "https://console.internal", "same-origin", false, 200},
		{"POST", "localhost:8080", text, "http://localhost:8080", "same-origin", true, 200},
		// A name of somebody else's that leads to this machine.
		{"POST", "evil.example:8080", plain, "http://evil.example:8080", "", true, 403},
		{"PUT", "evil.example:8080", plain, "http://evil.example:8080", "same-origin", true, 403},
		{"PUT", "evil.example", plain, "http://evil.example", "", true, 403},
		{"PUT", "evil.example:8080", plain, "http://evil.example:8080", "", false, 200}, // without the password
		{"PUT", "[::1]:8080", plain, "http://[::1]:8080", "", true, 200},
		{"PUT", "[::1]", plain, "http://[::1]", "", true, 200},
		{"PUT", "LOCALHOST:8080", plain, "http://localhost:8080", "same-origin", true, 200},
		{"PUT", "forebay.localhost:8080", plain, "http://forebay.localhost:8080", "same-origin", true, 200},
		{"PUT", host + ":8080", plain, "http://" + host + ":8080", "same-origin", true, 200},
	} {
		done := 0
		pages := &pages{next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { done++ }), open: c.open}
		r := httptest.NewRequest(c.method, "/apply", strings.NewReader(`{"connectors":[]}`))
		r.Host = c.host
		for name, value := range map[string]string{"Content-Type": c.kind, "Origin": c.origin, "Sec-Fetch-Site": c.site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w := httptest.NewRecorder()
		pages.ServeHTTP(w, r)
		if w.Code != c.want || (done == 1) != (c.want == 200) {
			t.Errorf("%+v: %d (done %d times) %s", c, w.Code, done, w.Body)
		}
		if w.Code == 403 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%+v: %v", c, w.Header())
		}
	}
}

// TestPagesAtNode: neither a node without a token nor one whose password the browser remembers does what a page elsewhere asks for.
func TestPagesAtNode(t *testing.T) {
	const token = "0123456789abcdef"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	_, open := startUp(t)
	_, closed := startUp(t, "--http-token", file)
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+token))
	for _, c := range []struct{ web, host, authorization string }{{open, "", ""}, {closed, "", basic}, {open, "evil.example", ""}} {
		post := func(origin, kind string) (int, string) {
			t.Helper()
			logs := t.TempDir()
			req, err := http.NewRequest(http.MethodPost, "http://"+c.web+"/connectors", strings.NewReader(fmt.Sprintf(`{"name":"a","config":{"connector.class":"tail","paths":%q,"topic":"a"}}`, logs+"/*.log")))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			for name, value := range map[string]string{"Content-Type": kind, "Origin": origin, "Authorization": c.authorization} {
				if value != "" {
					req.Header.Set(name, value)
				}
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answer, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, string(answer)
		}
		kind := "text/plain"
		if c.host != "" {
			kind = "application/json"
		}
		if code, answer := post("http://evil.example", kind); code != http.StatusForbidden {
			t.Errorf("%+v: %d %s", c, code, answer)
		}
		if c.host != "" {
			continue
		}
		if code, answer := post("", "application/x-www-form-urlencoded"); code != http.StatusCreated { // as curl -d has it: so nothing was there before
			t.Errorf("%+v: %d %s", c, code, answer)
		}
	}
}
