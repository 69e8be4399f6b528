package runtime_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/runtime/api"
)

// Kafka Connect's ways to declare connectors, and ours.
func TestDeclareOverREST(t *testing.T) {
	s := openStore(t, openLog(t), unique("g"))
	h := api.New(api.Options{Declared: s})
	do := func(method, path, body string, want int) string {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		if w.Code != want {
			t.Errorf("%s %s %s: %d %s", method, path, body, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "s3cret") {
			t.Errorf("%s %s shows a secret: %s", method, path, w.Body)
		}
		return w.Body.String()
	}
	pipe := `"connector.class":"pipe","url":"db://s3cret"`
	do(http.MethodPut, "/connectors/a/config", `{`+pipe+`,"paths":"1, 2"}`, http.StatusCreated)
	do(http.MethodPut, "/connectors/a/config", `{`+pipe+`,"paths":"1,3"}`, http.StatusOK)
	do(http.MethodPost, "/connectors", `{"name":"a","config":{`+pipe+`}}`, http.StatusConflict)
	do(http.MethodPost, "/connectors", `{"name":"b","config":{`+pipe+`}}`, http.StatusCreated)
	// What a GET has shown can be put back: the stars stand for what was there.
	do(http.MethodPut, "/connectors/b/config", `{"connector.class":"pipe","url":"******","paths":"x"}`, http.StatusOK)
	for body, path := range map[string]string{
		`{"connector.class":"pump"}`: "/connectors/c/config", `{}`: "/connectors/c/config", `{"name":"d",` + pipe + `}`: "/connectors/c/config",
		`{` + pipe + `,"path":"1"}`: "/connectors/c/config", `[]`: "/connectors/c/config", `{} {}`: "/connectors/c/config",
	} {
		do(http.MethodPut, path, body, http.StatusBadRequest)
	}
	do(http.MethodDelete, "/connectors/c", "", http.StatusNotFound)

	set, err := s.Load(t.Context())
	if err != nil || len(set.Connectors) != 2 || set.Version != 4 || set.Connectors[1].Fields["url"].Text != "db://s3cret" {
		t.Fatalf("%+v %v", set, err)
	}
	var plan struct {
		Version int64
		Changes []struct{ Name, Action string }
	}
	only := `"connectors":[{"name":"a","kind":"source","type":"pipe","fields":{"url":"db://s3cret","paths":["1","3"]}}]`
	if err := json.Unmarshal([]byte(do(http.MethodPost, "/apply", `{"dry_run":true,`+only+`}`, http.StatusOK)), &plan); err != nil {
		t.Fatal(err)
	}
	if plan.Version != 4 || len(plan.Changes) != 2 || plan.Changes[0].Action != "unchanged" || plan.Changes[1].Action != "remove" {
		t.Errorf("%+v", plan)
	}
	do(http.MethodPost, "/apply", `{"version":3,`+only+`}`, http.StatusConflict)
	do(http.MethodPost, "/apply", `{"version":4,`+only+`}`, http.StatusOK)
	do(http.MethodPost, "/apply", `{"version":4,`+only+`}`, http.StatusConflict)
	do(http.MethodDelete, "/connectors/a", "", http.StatusNoContent)
	do(http.MethodDelete, "/connectors/a", "", http.StatusNotFound)

	h = api.New(api.Options{})
	do(http.MethodPost, "/apply", `{`+only+`}`, http.StatusConflict) // they come from files
}
