package client

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/kafkaclient"
	"github.com/forebayhub/forebay/runtime/converter"
)

// served is a registry that answers with what fn says.
func served(t *testing.T, fn func(r *http.Request, body string) (status int, answer string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		status, answer := fn(r, string(body))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer) // the test sees what the client made of it
	}
}

var anInt = converter.SchemaText{Type: "AVRO", Text: `"int"`}

// What a registry is asked, once, over a network and within the process.
func TestRegister(t *testing.T) {
	asked := 0
	h := served(t, func(r *http.Request, body string) (int, string) {
		asked++
		if r.Method != "POST" || r.URL.EscapedPath() != "/subjects/a%2Fb-value/versions" || body != `{"schema":"\"int\""}` ||
			r.Header.Get("Content-Type") != "application/vnd.schemaregistry.v1+json" {
			t.Errorf("%s %s %v %s", r.Method, r.URL.EscapedPath(), r.Header, body)
		}
		return 200, `{"id":7,"version":1}`
	})
	at := httptest.NewServer(h)
	defer at.Close()
	for _, o := range []Options{{URLs: []string{"http://127.0.0.1:1", at.URL + "/"}}, {Own: h}} {
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		asked = 0
		for range 3 {
			if id, err := c.Register(t.Context(), "a/b-value", anInt); id != 7 || err != nil || asked != 1 {
				t.Fatalf("%d %v, asked %d times", id, err, asked)
			}
		}
	}
	if _, err := New(Options{}); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

// A schema comes with what it references, each text behind those that it needs.
func TestSchema(t *testing.T) {
	c, err := New(Options{Own: served(t, func(r *http.Request, _ string) (int, string) {
		switch r.URL.Path {
		case "/schemas/ids/3":
			return 200, `{"schema":"s","references":[{"name":"A","subject":"a","version":1},{"name":"B","subject":"b","version":2}]}`
		case "/subjects/p/versions/latest":
			return 200, `{"schema":"P","schemaType":"PROTOBUF","references":[{"name":"b.proto","subject":"b","version":2}]}`
		case "/subjects/a/versions/1":
			return 200, `{"schema":"A","references":[{"name":"B","subject":"b","version":2}]}`
		case "/subjects/b/versions/2":
			return 200, `{"schema":"B"}`
		}
		if strings.HasPrefix(r.URL.Path, "/subjects/") {
			return 404, `{"error_code":40401,"message":"Subject 'none' not found."}`
		}
		return 404, `{"error_code":40403,"message":"Schema 4 not found"}`
	})})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Schema(t.Context(), 3)
	if want := (converter.SchemaText{Type: "AVRO", Text: "s", References: []converter.Reference{{Name: "B", Text: "B"}, {Name: "A", Text: "A"}}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	got, err = c.Latest(t.Context(), "p")
	if want := (converter.SchemaText{Type: "PROTOBUF", Text: "P", References: []converter.Reference{{Name: "b.proto", Text: "B"}}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	if got, err = c.Latest(t.Context(), "none"); err != nil || got.Type != "" {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := c.Schema(t.Context(), 4); !errors.Is(err, ErrUnknown) || connectors.IsFatal(err) {
		t.Error(err)
	}
}

// TestReferences: references are resolved as the registry did when it took the schema. A name means what it meant first, and what is referenced may be soft-deleted.
func TestReferences(t *testing.T) {
	c, err := New(Options{Own: served(t, func(r *http.Request, _ string) (int, string) {
		switch r.URL.String() {
		case "http://registry/schemas/ids/3":
			return 200, `{"schema":"s","references":[{"name":"Customer","subject":"c","version":1},{"name":"Address","subject":"a","version":2}]}`
		case "http://registry/subjects/c/versions/1?deleted=true":
			return 200, `{"schema":"C","references":[{"name":"Address","subject":"a","version":1}]}`
		case "http://registry/subjects/a/versions/1?deleted=true":
			return 200, `{"schema":"A"}`
		}
		return 404, `{"error_code":40402,"message":"Version not found."}`
	})})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Schema(t.Context(), 3)
	if want := (converter.SchemaText{Type: "AVRO", Text: "s", References: []converter.Reference{{Name: "Address", Text: "A"}, {Name: "Customer", Text: "C"}}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
}

// That a registry does not have something is what it says itself, and no other node of it says otherwise: a proxy, or a path that is wrong, has status 404 too.
func TestNotThere(t *testing.T) {
	const have = `{"schema":"\"int\""}`
	const noSchema, noSubject, noVersion = `{"error_code":40403,"message":"Schema 4 not found"}`, `{"error_code":40401,"message":"Subject 'a' not found."}`, `{"error_code":40402,"message":"Version 1 not found."}`
	for _, c := range []struct {
		answers        []string // one of each node; "": it is away
		schema, latest string   // found, none, retried
	}{
		{[]string{noSchema}, "none", "retried"},
		{[]string{noSubject}, "retried", "none"},
		{[]string{noVersion}, "retried", "none"},
		{[]string{`<html>404`}, "retried", "retried"},
		{[]string{``}, "retried", "retried"},
		{[]string{`{"error_code":404,"message":"HTTP 404 Not Found"}`}, "retried", "retried"},
		{[]string{noSchema, have}, "found", "found"},
		{[]string{noSubject, have}, "found", "found"},
		{[]string{`no such host`, noSchema}, "none", "retried"},
		{[]string{`no such host`, have}, "found", "found"},
		{[]string{noSchema, ``}, "none", "retried"},
	} {
		var o Options
		for _, answer := range c.answers {
			at := httptest.NewServer(served(t, func(*http.Request, string) (int, string) {
				if answer == have {
					return 200, answer
				}
				return 404, answer
			}))
			if o.URLs = append(o.URLs, at.URL); answer == "" {
				at.Close()
			} else {
				defer at.Close()
			}
		}
		cl, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		word := func(s converter.SchemaText, err error) string {
			switch {
			case connectors.IsFatal(err):
				return "fatal"
			case errors.Is(err, ErrUnknown) || err == nil && s.Text == "":
				return "none"
			case err != nil:
				return "retried"
			}
			return "found"
		}
		schema, latest := word(cl.Schema(t.Context(), 4)), word(cl.Latest(t.Context(), "a"))
		if schema != c.schema || latest != c.latest {
			t.Errorf("%q: a schema %s, the latest %s; not %s, %s", c.answers, schema, latest, c.schema, c.latest)
		}
	}
}

// Which errors end a connector, and what they say; the others are tried again.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		fatal  bool
		want   string
	}{
		{409, `{"error_code":409,"message":"incompatible: [{errorType:'X'}, {oldSchemaVersion: 1}, {oldSchema: '…'}]"}`, true, "subject t-value does not take the schema: incompatible: [{errorType:'X'}] (error 409)"},
		{422, `{"error_code":42201,"message":"Invalid schema"}`, true, "Invalid schema (error 42201)"},
		{401, `no`, true, "status 401: Unauthorized"},
		{403, ``, true, "status 403: Forbidden"},
		{500, `{"error_code":50001,"message":"store"}`, false, "ask the schema registry: store (error 50001)"},
		{503, `<html>`, false, "status 503: Service Unavailable"},
		{429, ``, false, "status 429"},
		{200, `<html>`, false, "not the answer of a schema registry"},
	} {
		at := httptest.NewServer(served(t, func(*http.Request, string) (int, string) { return c.status, c.body }))
		cl, err := New(Options{URLs: []string{at.URL}, Username: "u", Password: "hush"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = cl.Register(t.Context(), "t-value", anInt)
		at.Close()
		if err == nil || connectors.IsFatal(err) != c.fatal || !strings.Contains(err.Error(), c.want) || strings.Contains(fmt.Sprintf("%v %+v", err, err), "hush") {
			t.Errorf("%d: fatal %v: %v", c.status, connectors.IsFatal(err), err)
		}
		var f *connectors.FatalError
		if errors.As(err, &f) && f.Hint == "" {
			t.Errorf("%d: no hint", c.status)
		}
	}
	c, err := New(Options{URLs: []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Register(t.Context(), "t-value", anInt); err == nil || connectors.IsFatal(err) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Register(ctx, "t-value", anInt); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// The three ways to come in.
func TestLogin(t *testing.T) {
	var seen string
	at := httptest.NewTLSServer(served(t, func(r *http.Request, _ string) (int, string) {
		seen = r.Header.Get("Authorization")
		return 200, `{"id":1}`
	}))
	defer at.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: at.Certificate().Raw})
	tls := kafkaclient.Security{TLS: &kafkaclient.TLS{CA: ca}}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Security: tls}, ""},
		{Options{Security: tls, Username: "u", Password: "p"}, "Basic dTpw"},
		{Options{Security: tls, Token: "abc"}, "Bearer abc"},
	} {
		c.o.URLs = []string{at.URL}
		cl, err := New(c.o)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := cl.Register(t.Context(), "s", anInt); err != nil || id != 1 || seen != c.want {
			t.Errorf("%d %v: %q, want %q", id, err, seen, c.want)
		}
		cl.Close()
	}
	cl, err := New(Options{URLs: []string{at.URL}})
	if err != nil {
		t.Fatal(err)
	}
	var unknown x509.UnknownAuthorityError
	if _, err := cl.Register(t.Context(), "s", anInt); !errors.As(err, &unknown) {
		t.Errorf("a certificate that nobody trusts: %v", err)
	}
}

// A login goes nowhere but to the address that it was given for.
func TestRedirectElsewhere(t *testing.T) {
	elsewhere := httptest.NewServer(served(t, func(r *http.Request, _ string) (int, string) {
		t.Errorf("%s %s was asked with %v", r.Method, r.URL, r.Header)
		return 200, `{"id":7}`
	}))
	defer elsewhere.Close()
	at := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer at.Close()
	c, err := New(Options{URLs: []string{at.URL}, Username: "u", Password: "hush"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Register(t.Context(), "a-value", anInt); err == nil || !strings.Contains(err.Error(), "it redirects to http://") {
		t.Errorf("redirected: %v", err)
	}
}
