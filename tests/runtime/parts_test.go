package runtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/api"
	"github.com/forebayhub/forebay/runtime/crew"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/worker"
)

// part is one host's part of a source; it fails as long as it is told to.
type part struct {
	hosted
	broken *atomic.Bool
	made   *atomic.Int32
}

func (s part) Validate(context.Context) []spec.Finding {
	s.made.Add(1)
	if s.broken.Load() {
		return []spec.Finding{{Path: "paths", Message: "the files of " + s.host + " cannot be read"}}
	}
	return nil
}

// A source that is bound to its host is one connector with a task for each host, as Kafka Connect has tasks on several workers, whoever is asked. Of the part that
// answered last everybody used to take the state for the whole's, and a restart reached one part.
func TestPartsOnSeveralHosts(t *testing.T) {
	log, group := openLog(t), unique("g")
	type host struct {
		http   string
		broken atomic.Bool
		made   atomic.Int32
		stop   func()
	}
	begin := func(name string, idle bool) *host {
		web, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		x := &host{http: web.Addr().String()}
		x.broken.Store(name == "b")
		src := &numbers{topic: unique("n"), n: 100}
		o := worker.Options{Log: log, Group: group, Host: name, DrainTimeout: 10 * time.Second}
		o.Registry.Sources = []connectors.SourceType{{Name: "hosted", HostBound: true,
			New: func(_ spec.Values, env connectors.Env) (connectors.Source, error) {
				return part{hosted{src, env.Host}, &x.broken, &x.made}, nil
			}}}
		c, _ := startMember(t, crew.Options{Worker: o, HTTP: x.http, Idle: idle}, declared.Set{Version: 1, Connectors: []declared.Connector{
			{Name: "logs", Kind: declared.Source, Type: "hosted", Fields: map[string]declared.Value{}}}})
		rest := &http.Server{Handler: api.New(api.Options{Worker: c, Name: c.Answer, Places: c.Places}), ReadHeaderTimeout: time.Second}
		go func() { _ = rest.Serve(web) }() // until it is closed
		t.Cleanup(func() { _ = rest.Close() })
		x.stop = func() { _ = rest.Close() }
		return x
	}
	a, b, idle := begin("a", false), begin("b", false), begin("idle", true)

	type status struct {
		Connector struct {
			State, Trace string
			Worker       string `json:"worker_id"`
		}
		Tasks []struct {
			ID           int
			State, Trace string
			Worker       string `json:"worker_id"`
		}
		Records int
	}
	ask := func(x *host, method, path string, into any) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+x.http+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if into != nil {
			if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
				t.Fatal(err)
			}
		}
		return resp.StatusCode
	}
	// told is what each says, by the list and by the status: the same.
	told := func(want func(s status) bool) func() bool {
		return func() bool {
			for _, x := range []*host{a, idle, b} {
				var one status
				var list map[string]struct{ Status status }
				ask(x, http.MethodGet, "/connectors/logs/status", &one)
				ask(x, http.MethodGet, "/connectors?expand=status", &list)
				if !want(one) || !want(list["logs"].Status) {
					return false
				}
			}
			return true
		}
	}
	at := func(s status, x *host) string {
		for i, task := range s.Tasks {
			if task.Worker == x.http && task.ID == i {
				return task.State
			}
		}
		return ""
	}
	eventually(t, 30*time.Second, "one part runs, one begins anew, and everybody says so", told(func(s status) bool {
		return s.Connector.State == "RESTARTING" && s.Connector.Worker == b.http && s.Connector.Trace == "the files of b cannot be read" &&
			len(s.Tasks) == 2 && at(s, a) == "RUNNING" && at(s, b) == "RESTARTING" && s.Records == 100
	}))
	var info struct{ Tasks []struct{ Task int } }
	ask(idle, http.MethodGet, "/connectors/logs", &info)
	if fmt.Sprint(info.Tasks) != "[{0} {1}]" {
		t.Errorf("%+v", info)
	}
	b.broken.Store(false)
	for _, x := range []*host{a, idle, b} {
		wasA, wasB := a.made.Load(), b.made.Load()
		if code := ask(x, http.MethodPost, "/connectors/logs/restart", nil); code != http.StatusNoContent {
			t.Errorf("restart: %d", code)
		}
		eventually(t, 20*time.Second, "both parts began anew", func() bool { return a.made.Load() > wasA && b.made.Load() > wasB })
	}
	eventually(t, 20*time.Second, "both run", told(func(s status) bool {
		return s.Connector.State == "RUNNING" && s.Connector.Trace == "" && at(s, a) == "RUNNING" && at(s, b) == "RUNNING"
	}))
	was := a.made.Load()
	for id := range 2 { // a task's restart is its host's
		var task struct {
			Worker string `json:"worker_id"`
		}
		path := fmt.Sprintf("/connectors/logs/tasks/%d", id)
		if code := ask(idle, http.MethodGet, path+"/status", &task); code != http.StatusOK {
			t.Errorf("%d", code)
		}
		if task.Worker == b.http {
			wasB := b.made.Load()
			if code := ask(a, http.MethodPost, path+"/restart", nil); code != http.StatusNoContent {
				t.Errorf("restart of a task: %d", code)
			}
			eventually(t, 20*time.Second, "b began anew", func() bool { return b.made.Load() > wasB })
		}
	}
	if a.made.Load() != was {
		t.Error("the restart of one host's task has reached the other's")
	}
	if code := ask(a, http.MethodGet, "/connectors/logs/tasks/2/status", nil); code != http.StatusNotFound {
		t.Errorf("%d", code)
	}
	b.stop() // its REST API only: who does not answer is to be seen as well
	var s status
	ask(a, http.MethodGet, "/connectors/logs/status", &s)
	if at(s, a) != "RUNNING" || at(s, b) != "UNASSIGNED" || s.Connector.State != "UNASSIGNED" {
		t.Errorf("%+v", s)
	}
	if code := ask(a, http.MethodPost, "/connectors/logs/restart", nil); code != http.StatusConflict {
		t.Errorf("a restart that did not reach every part: %d", code)
	}
}
