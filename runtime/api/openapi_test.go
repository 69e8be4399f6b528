package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

type document struct {
	Paths map[string]map[string]struct {
		Parameters []struct{ Name, In string }
		Responses  map[string]struct {
			Content map[string]struct{ Schema map[string]any }
		}
	}
	Components struct{ Schemas map[string]map[string]any }
}

func described(t *testing.T) (document, *handler) {
	t.Helper()
	h := &handler{o: Options{Version: "test"}}
	w := httptest.NewRecorder()
	h.mux().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	var d document
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, err)
	}
	return d, h
}

// The document has what the mux serves, and nothing else: each path is asked with each method.
func TestDocumentHasTheRoutes(t *testing.T) {
	d, h := described(t)
	if len(h.routes()) == 0 || len(d.Paths) == 0 {
		t.Fatal("nothing is described")
	}
	for path, operations := range d.Paths {
		served := map[string]bool{}
		for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			w := httptest.NewRecorder()
			h.mux().ServeHTTP(w, httptest.NewRequest(m, inPath.ReplaceAllString(path, "x"), strings.NewReader("]")))
			if w.Code != http.StatusMethodNotAllowed && !strings.Contains(w.Body.String(), ": not found") {
				served[m] = true
			}
		}
		if len(served) != len(operations) {
			t.Errorf("%s is served with %v, and described with %d methods", path, served, len(operations))
		}
		for m, op := range operations {
			if !served[strings.ToUpper(m)] {
				t.Errorf("%s %s is described and not served", m, path)
			}
			for _, p := range inPath.FindAllStringSubmatch(path, -1) {
				if !strings.Contains(fmt.Sprint(op.Parameters), "{"+p[1]+" path}") {
					t.Errorf("%s %s does not describe %s", m, path, p[1])
				}
			}
		}
	}
	mustResolve(t, d, d.Components.Schemas)
	for _, r := range h.routes() {
		if d.Paths[r.path][strings.ToLower(r.method)].Responses == nil {
			t.Errorf("%s %s is not described", r.method, r.path)
		}
		if r.in != "" && d.Components.Schemas[r.in] == nil {
			t.Errorf("%s %s takes a %s, which is not described", r.method, r.path, r.in)
		}
		for _, name := range r.out {
			if name != "" && name != plainText && d.Components.Schemas[name] == nil {
				t.Errorf("%s %s answers with a %s, which is not described", r.method, r.path, name)
			}
		}
	}
}

// mustResolve finds references to nothing.
func mustResolve(t *testing.T, d document, v any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "#/components/schemas/")[1:] {
		if name, _, _ := strings.Cut(part, `"`); d.Components.Schemas[name] == nil {
			t.Errorf("%s is referred to, and not described", name)
		}
	}
}

// What Kafka Connect has answered with is described: its codes, and all fields of its bodies with their types.
func TestDocumentHasConnectsAnswers(t *testing.T) {
	d, h := described(t)
	recorded, err := os.ReadFile("../../tests/interop/testdata/connect-rest.json")
	if err != nil {
		t.Fatal(err)
	}
	var answers []struct {
		Ask   string
		Code  int
		Shape any
	}
	if err := json.Unmarshal(recorded, &answers); err != nil || len(answers) == 0 {
		t.Fatal(err)
	}
	for _, a := range answers {
		f := strings.Fields(a.Ask) // 12 GET /connectors
		if a.Code >= 300 {
			continue
		}
		path := h.patternOf(f[1], f[2])
		answer, ok := d.Paths[path][strings.ToLower(f[1])].Responses[fmt.Sprint(a.Code)]
		if !ok {
			t.Errorf("%s: %d of %s is not described", a.Ask, a.Code, path)
			continue
		}
		if content, ok := answer.Content["application/json"]; ok {
			if what := d.lacks(content.Schema, a.Shape); what != "" {
				t.Errorf("%s: %s", a.Ask, what)
			}
		}
	}
}

// patternOf is the route's path that answers a request.
func (h *handler) patternOf(method, uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	if uri != "/" {
		uri = strings.TrimSuffix(uri, "/")
	}
	for _, r := range h.routes() {
		mux := http.NewServeMux()
		mux.HandleFunc(r.pattern(), r.do)
		if _, p := mux.Handler(httptest.NewRequest(method, uri, nil)); p != "" {
			return r.path
		}
	}
	return ""
}

// lacks says what of a recorded shape a schema does not describe.
func (d document) lacks(s map[string]any, shape any) string {
	if to, ok := s["$ref"].(string); ok {
		return d.lacks(d.Components.Schemas[to[strings.LastIndexByte(to, '/')+1:]], shape)
	}
	for _, some := range []string{"oneOf", "anyOf"} {
		if all, ok := s[some].([]any); ok {
			what := ""
			for _, one := range all {
				if what = d.lacks(one.(map[string]any), shape); what == "" {
					return ""
				}
			}
			return what
		}
	}
	typ := s["type"]
	switch v := shape.(type) {
	case map[string]any:
		fields, _ := s["properties"].(map[string]any)
		rest, open := s["additionalProperties"].(map[string]any)
		for name, f := range v {
			field, ok := fields[name].(map[string]any)
			if !ok && open {
				field, ok = rest, true
			}
			if !ok {
				return fmt.Sprintf("field %s is not described by %v", name, s)
			}
			if what := d.lacks(field, f); what != "" {
				return name + ": " + what
			}
		}
		if typ != "object" {
			return fmt.Sprintf("an object is described as %v", typ)
		}
	case []any:
		if typ != "array" {
			return fmt.Sprintf("an array is described as %v", typ)
		}
		if len(v) > 0 {
			return d.lacks(s["items"].(map[string]any), v[0])
		}
	case string:
		if v != "own" && v != "null" && v != typ && !(v == "number" && typ == "integer") {
			return fmt.Sprintf("a %s is described as %v", v, typ)
		}
	}
	return ""
}
