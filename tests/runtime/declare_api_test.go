package runtime_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/runtime/api"
	"github.com/forebayhub/forebay/runtime/declared"
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
	// What Connect's tools send always is taken and given back, and a list as it was written: Strimzi and Terraform compare what they declare with what they find. It
	// changes nothing of what runs.
	before, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	always := `{"name":"b","connector.class":"pipe","url":"******","paths":" x,y","tasks.max":1,"config.action.reload":"restart","errors.retry.timeout":"0"}`
	asDeclared := map[string]string{"name": "b", "connector.class": "pipe", "url": "******", "paths": " x,y", "tasks.max": "1", "config.action.reload": "restart", "errors.retry.timeout": "0"}
	finds := func(text string) {
		t.Helper()
		var got struct{ Config map[string]string }
		if err := json.Unmarshal([]byte(text), &got); err != nil || !maps.Equal(got.Config, asDeclared) {
			t.Errorf("found %s %v, declared %v", text, err, asDeclared)
		}
		set, err := s.Load(t.Context())
		if err != nil || !maps.Equal(s.Types().Flat(set.Connectors[1]), asDeclared) {
			t.Errorf("a GET finds %v %v, declared %v", s.Types().Flat(set.Connectors[1]), err, asDeclared)
		}
	}
	do(http.MethodPut, "/connectors/b/config", `{"connector.class":"pipe","url":"******","paths":"x,y"}`, http.StatusOK)
	finds(do(http.MethodPut, "/connectors/b/config", always, http.StatusOK))
	asDeclared["tasks.max"] = "2"
	finds(do(http.MethodPatch, "/connectors/b/config", `{"tasks.max":"2","errors.retry.timeout":"0"}`, http.StatusOK))
	asDeclared["paths"] = "x, y"
	finds(do(http.MethodPatch, "/connectors/b/config", `{"paths":"x, y"}`, http.StatusOK))
	set, err := s.Load(t.Context())
	if err != nil || set.Version != before.Version+4 {
		t.Errorf("%d versions, want 4; %v", set.Version-before.Version, err)
	}
	list := set.Connectors[1]
	list.Written = nil
	if !list.Same(set.Connectors[1]) || len(list.Fields) != 2 || len(list.Fields["paths"].List) != 2 {
		t.Errorf("what runs is %+v", list)
	}
	delete(asDeclared, "tasks.max")
	asDeclared["paths"] = "x"
	finds(do(http.MethodPatch, "/connectors/b/config", `{"paths":"x","tasks.max":null}`, http.StatusOK))
	var checked struct {
		Errors int `json:"error_count"`
	}
	if err := json.Unmarshal([]byte(do(http.MethodPut, "/connector-plugins/pipe/config/validate", always, http.StatusOK)), &checked); err != nil || checked.Errors != 0 {
		t.Errorf("%+v %v", checked, err)
	}

	set, err = s.Load(t.Context())
	if err != nil || len(set.Connectors) != 2 || set.Version != 9 || set.Connectors[1].Fields["url"].Text != "db://s3cret" {
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
	if plan.Version != 9 || len(plan.Changes) != 2 || plan.Changes[0].Action != "unchanged" || plan.Changes[1].Action != "remove" {
		t.Errorf("%+v", plan)
	}
	do(http.MethodPost, "/apply", `{"version":8,`+only+`}`, http.StatusConflict)
	do(http.MethodPost, "/apply", `{"version":9,`+only+`}`, http.StatusOK)
	do(http.MethodPost, "/apply", `{"version":9,`+only+`}`, http.StatusConflict)

	// KIP-980 and KIP-875: a state is a part of what is declared, and stays when the rest of it changes.
	state := func(want declared.State) {
		t.Helper()
		set, err := s.Load(t.Context())
		if err != nil || len(set.Connectors) == 0 || set.Connectors[0].State != want {
			t.Errorf("%+v %v, want the state '%s'", set, err, want)
		}
	}
	do(http.MethodPut, "/connectors/a/stop", "", http.StatusNoContent)
	do(http.MethodPut, "/connectors/a/config", `{`+pipe+`,"paths":"1,4"}`, http.StatusOK)
	state(declared.Stopped)
	if text := do(http.MethodPost, "/apply", `{`+only+`}`, http.StatusOK); strings.Contains(text, "STOPPED") {
		t.Errorf("a plan that changes no state has one: %s", text)
	}
	state(declared.Stopped)
	do(http.MethodPut, "/connectors/a/pause", "", http.StatusAccepted)
	state(declared.Paused)
	do(http.MethodPut, "/connectors/a/resume", "", http.StatusAccepted)
	state(declared.Running)
	do(http.MethodPost, "/connectors", `{"name":"p","config":{`+pipe+`},"initial_state":"paused"}`, http.StatusCreated)
	if set, err := s.Load(t.Context()); err != nil || set.Connectors[1].State != declared.Paused {
		t.Errorf("%+v %v", set, err)
	}
	do(http.MethodPost, "/connectors", `{"name":"q","config":{`+pipe+`},"initial_state":"resting"}`, http.StatusBadRequest)

	// KIP-477: what a PATCH does not name stays, the secret too.
	do(http.MethodPatch, "/connectors/a/config", `{"partitions":3,"paths":null}`, http.StatusOK)
	do(http.MethodPatch, "/connectors/a/config", `{"url":"******"}`, http.StatusOK)
	set, err = s.Load(t.Context())
	if err != nil || len(set.Connectors[0].Fields) != 2 || set.Connectors[0].Fields["url"].Text != "db://s3cret" || set.Connectors[0].Fields["partitions"].Text != "3" {
		t.Errorf("%+v %v", set, err)
	}
	do(http.MethodPatch, "/connectors/a/config", `{"partitions":"many"}`, http.StatusBadRequest)
	do(http.MethodPatch, "/connectors/a/config", `[1]`, http.StatusBadRequest)

	var infos struct {
		Errors  int `json:"error_count"`
		Configs []struct {
			Value struct {
				Name   string
				Value  *string
				Errors []string
			}
		}
	}
	text := do(http.MethodPut, "/connector-plugins/pipe/config/validate", `{"name":"1","partitions":"0","pats":"x",`+pipe+`}`, http.StatusOK)
	if err := json.Unmarshal([]byte(text), &infos); err != nil || infos.Errors != 3 {
		t.Errorf("%v: %s", err, text)
	}
	wrong := map[string]string{}
	for _, c := range infos.Configs {
		if c.Value.Name == "url" && *c.Value.Value != "******" {
			t.Errorf("url is %s", *c.Value.Value)
		}
		for _, e := range c.Value.Errors {
			wrong[c.Value.Name] += e
		}
	}
	if len(wrong) != 3 || !strings.Contains(wrong["pats"], "did you mean 'paths'") || wrong["name"] == "" || wrong["partitions"] == "" {
		t.Error(wrong)
	}

	do(http.MethodDelete, "/connectors/p", "", http.StatusNoContent)
	do(http.MethodDelete, "/connectors/a", "", http.StatusNoContent)
	do(http.MethodDelete, "/connectors/a", "", http.StatusNotFound)

	h = api.New(api.Options{})
	do(http.MethodPost, "/apply", `{`+only+`}`, http.StatusConflict) // they come from files
}
