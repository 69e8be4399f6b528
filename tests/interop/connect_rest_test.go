package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

var recordConnect = flag.Bool("record-connect", false, "ask a Kafka Connect anew, and keep the shapes of its answers")

// connectShapes are the answers of Kafka Connect 4.4 to restDialogue. To renew them:
//
//	go test ./tests/interop -run TestConnectREST -args -record-connect
const connectShapes = "testdata/connect-rest.json"

// answer is what a server said, without what differs from one run to the next.
type answer struct {
	Ask   string `json:"ask"`
	Code  int    `json:"code"`
	Shape any    `json:"shape,omitempty"` // of a JSON body: fields, and the types of their values
}

// TestConnectREST asks a node what a Kafka Connect was asked: the codes are the same, and each field of Connect's answers is there with its type.
func TestConnectREST(t *testing.T) {
	t.Parallel()
	n := node.New(t, "--data", t.TempDir())
	n.Start()
	file := node.WriteFile(t, t.TempDir(), "lines", strings.Repeat("a line\n", 10))
	if *recordConnect {
		got := askConnect(t, n.Kafka, file)
		text, err := json.MarshalIndent(got, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(connectShapes, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(connectShapes)
	if err != nil {
		t.Fatal(err)
	}
	var want []answer
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	d := &restDialogue{t: t, address: n.HTTP, class: "tail", config: map[string]string{"connector.class": "tail", "paths": file, "topic": "lines"},
		sink: map[string]string{"connector.class": "file", "url": filepath.Join(t.TempDir(), "out"), "topics": "lines", "format": "text"}}
	got := d.run()
	if len(got) != len(want) {
		t.Fatalf("%d answers; Kafka Connect gave %d: record them anew", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Ask != w.Ask {
			t.Fatalf("asked %q, and Kafka Connect %q: record its answers anew", g.Ask, w.Ask)
		}
		_, question, _ := strings.Cut(w.Ask, " ")
		if w.Code == http.StatusInternalServerError && g.Code >= 400 && g.Code < 500 {
			w.Code = g.Code // Connect takes some mistakes of clients for its own
		}
		if code, ours := otherCodes[question]; ours && w.Code >= 400 {
			w.Code = code
		}
		if g.Code != w.Code {
			t.Errorf("%s: %d, want %d", w.Ask, g.Code, w.Code)
			continue
		}
		if missing := lacks(w.Shape, g.Shape, ""); missing != "" {
			t.Errorf("%s: %s", w.Ask, missing)
		}
	}
	// What was declared is what is found: Strimzi's operator and Terraform's providers compare the two as maps.
	declared := maps.Clone(d.sink)
	maps.Copy(declared, map[string]string{"name": "same", "topics": "lines, others", "tasks.max": "1", "errors.log.enable": "true"})
	text, err = json.Marshal(map[string]any{"name": "same", "config": declared, "initial_state": "STOPPED"})
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range [][2]string{{"POST", "/connectors"}, {"GET", "/connectors/same"}} {
		var found struct{ Config map[string]string }
		if code, said := d.do(what[0], what[1], string(text)); json.Unmarshal([]byte(said), &found) != nil || !maps.Equal(found.Config, declared) {
			t.Errorf("%s gives %d %s, declared %s", what, code, said, text)
		}
	}
}

// otherCodes are where a node answers otherwise on purpose.
var otherCodes = map[string]int{}

// lacks says what of a shape is not in another. null is any type: an optional field that had no value.
func lacks(want, got any, at string) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %v, no object", at, got)
		}
		for _, k := range slices.Sorted(maps.Keys(w)) {
			if _, there := g[k]; !there {
				return fmt.Sprintf("%s.%s is missing", at, k)
			}
			if m := lacks(w[k], g[k], at+"."+k); m != "" {
				return m
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok {
			return fmt.Sprintf("%s is %v, no array", at, got)
		}
		if len(w) > 0 && len(g) == 0 {
			return at + " is empty"
		}
		if len(w) > 0 {
			return lacks(w[0], g[0], at+"[]")
		}
	default:
		if want != got && want != "null" && got != "null" {
			return fmt.Sprintf("%s is %v, not %v", at, got, want)
		}
	}
	return ""
}

// shapeOf keeps an answer's fields and types. An array has what its items have in common. Maps whose keys are the
// user's are not looked at.
func shapeOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, f := range v {
			if k == "config" || k == "partition" || k == "offset" { // a connector's own
				out[k] = "own"
				continue
			}
			out[k] = shapeOf(f)
		}
		return out
	case []any:
		if len(v) == 0 {
			return []any{}
		}
		all := shapeOf(v[0])
		for _, item := range v[1:] {
			all = common(all, shapeOf(item))
		}
		return []any{all}
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	}
	return "null"
}

// common is what two shapes have in common; where their types differ, null.
func common(a, b any) any {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			out := map[string]any{}
			for k := range x {
				if _, there := y[k]; there {
					out[k] = common(x[k], y[k])
				}
			}
			return out
		}
	case []any:
		if y, ok := b.([]any); ok && len(x) > 0 && len(y) > 0 {
			return []any{common(x[0], y[0])}
		} else if ok {
			return []any{}
		}
	default:
		if a == b {
			return a
		}
	}
	return "null"
}

// restDialogue is one connector's life over REST, and the mistakes that clients make.
type restDialogue struct {
	t            *testing.T
	address      string
	class        string // of a source that reads lines
	config, sink map[string]string
	said         []answer
}

func (d *restDialogue) run() []answer {
	config := func(more ...string) string { return d.flat(d.config, more...) }
	create := func(name, state string) string {
		return fmt.Sprintf(`{"name":%q,"config":%s,"initial_state":%q}`, name, config(), state)
	}
	d.ask("GET /", "")
	d.ask("GET /connectors", "")
	d.ask("GET /health", "")

	d.ask("POST /connectors", create("files", "STOPPED"))
	d.await("files", "STOPPED", 0)
	d.ask("GET /connectors/files/status", "")
	d.ask("GET /connectors/files/offsets", "")
	d.ask("GET /connectors/files/tasks", "")
	d.ask("GET /connectors", "")
	d.ask("GET /connectors?expand=status", "")
	d.ask("GET /connectors?expand=info&expand=status", "")
	d.ask("POST /connectors", create("files", "RUNNING"))
	d.ask("POST /connectors", create("other", "RESTING"))
	d.ask("POST /connectors", `{"name":"other","config":`+config("connector.class", "nobodys")+`}`)
	d.ask("POST /connectors", `{"name":"other","config":{}}`)
	d.ask("POST /connectors", `{"name":"other"}`)
	d.ask("POST /connectors", `{"name":"other","config":`+config("name", "another")+`}`)
	d.ask("POST /connectors", `{"name":`)
	d.ask("POST /connectors", `[]`)
	d.ask("POST /connectors", `{"name":"other","colour":"blue","config":`+config()+`}`)

	d.ask("PUT /connectors/files/resume", "")
	d.await("files", "RUNNING", 1)
	for _, what := range []string{"", "/config", "/status", "/tasks", "/tasks/0/status", "/tasks/7/status"} {
		d.ask("GET /connectors/files"+what, "")
	}
	d.awaitOffsets("files", true)
	held := d.ask("GET /connectors/files/offsets", "")
	d.ask("GET /connectors/files/topics", "")
	d.ask("PUT /connectors/files/topics/reset", "")
	d.ask("PATCH /connectors/files/offsets", held)
	d.ask("DELETE /connectors/files/offsets", "")
	d.ask("POST /connectors/files/restart", "")
	d.await("files", "RUNNING", 1)
	d.ask("POST /connectors/files/restart?includeTasks=true&onlyFailed=true", "")
	d.await("files", "RUNNING", 1)
	d.ask("POST /connectors/files/tasks/0/restart", "")
	d.await("files", "RUNNING", 1)
	d.ask("POST /connectors/files/tasks/7/restart", "")
	d.ask("PUT /connectors/files/pause", "")
	d.await("files", "PAUSED", 1)
	d.ask("DELETE /connectors/files/offsets", "")
	d.ask("PUT /connectors/files/stop", "")
	d.await("files", "STOPPED", 0)
	d.ask("GET /connectors/files/status", "")
	d.ask("PATCH /connectors/files/offsets", held)
	d.ask("PATCH /connectors/files/offsets", `{}`)
	d.ask("PATCH /connectors/files/offsets", `{"offsets":[]}`)
	d.ask("PATCH /connectors/files/offsets", `{"offsets":[{"offset":{"n":1}}]}`)
	d.ask("PATCH /connectors/files/offsets", `[]`)
	d.ask("DELETE /connectors/files/offsets", "")
	d.ask("GET /connectors/files/offsets", "")

	d.ask("PUT /connectors/files/config", config())
	d.ask("PATCH /connectors/files/config", `{"topic":"lines","nothing":null}`)
	d.ask("PATCH /connectors/files/config", `{"connector.class":null}`)
	d.ask("PATCH /connectors/nobody/config", `{"topic":"lines"}`)
	d.ask("PUT /connectors/files/config", config("name", "another"))
	d.ask("GET /connectors/files/status", "") // it is stopped all the same
	d.ask("PUT /connectors/more/config", config())
	d.await("more", "RUNNING", 1)
	d.ask("PUT /connectors/sunk/config", d.flat(d.sink))
	d.await("sunk", "RUNNING", 1)
	d.awaitOffsets("sunk", true)
	d.ask("GET /connectors/sunk/offsets", "")
	d.ask("GET /connectors/sunk/topics", "")
	d.ask("GET /connectors/sunk/status", "")

	d.ask("GET /connectors/nobody", "")
	for _, what := range []string{"config", "status", "tasks", "tasks/0/status", "offsets"} {
		d.ask("GET /connectors/nobody/"+what, "")
	}
	for _, what := range []string{"pause", "resume", "stop"} {
		d.ask("PUT /connectors/nobody/"+what, "")
	}
	d.ask("POST /connectors/nobody/restart", "")
	d.ask("POST /connectors/nobody/restart?includeTasks=true", "")
	d.ask("DELETE /connectors/nobody/offsets", "")
	d.ask("PATCH /connectors/nobody/offsets", `{"offsets":[{"partition":{"n":1},"offset":{"n":1}}]}`)

	d.ask("GET /connector-plugins", "")
	d.ask("GET /connector-plugins?connectorsOnly=false", "")
	d.ask("GET /connector-plugins/CLASS/config", "")
	d.ask("GET /connector-plugins/nobodys/config", "")
	d.ask("PUT /connector-plugins/CLASS/config/validate", config("name", "new"))
	d.ask("PUT /connector-plugins/CLASS/config/validate", fmt.Sprintf(`{"name":"new","connector.class":%q}`, d.class))
	d.ask("PUT /connector-plugins/CLASS/config/validate", `{"connector.class":"nobodys"}`)
	d.ask("PUT /connector-plugins/nobodys/config/validate", `{"connector.class":"nobodys"}`)
	d.ask("PUT /connector-plugins/CLASS/config/validate", `{}`)

	d.ask("GET /admin/loggers/root", "")
	d.ask("PUT /admin/loggers/root", `{"level":"ERROR"}`)
	d.ask("PUT /admin/loggers/root?scope=worker", `{"level":"info"}`)
	d.ask("PUT /admin/loggers/root?scope=cluster", `{"level":"INFO"}`)
	d.ask("PUT /admin/loggers/root?scope=world", `{"level":"INFO"}`)
	d.ask("PUT /admin/loggers/root", `{"level":"LOUD"}`)
	d.ask("PUT /admin/loggers/root", `{}`)
	d.ask("GET /admin/loggers/root", "")
	d.ask("GET /admin/loggers/nobodys", "")

	for _, name := range []string{"files", "more", "sunk", "files"} {
		d.ask("DELETE /connectors/"+name, "")
	}
	d.ask("GET /nothing", "")
	d.ask("PUT /connectors", `{}`)
	d.ask("GET /connectors/", "")
	return d.said
}

func (d *restDialogue) flat(config map[string]string, more ...string) string {
	all := maps.Clone(config)
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	text, err := json.Marshal(all)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

// ask asks, keeps the answer's shape, and gives its body. Answers that others must wait for, 409 while workers share out their work, are asked for again.
func (d *restDialogue) ask(what, body string) string {
	d.t.Helper()
	method, path, _ := strings.Cut(what, " ")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; {
		code, text := d.do(method, strings.ReplaceAll(path, "CLASS", d.class), body)
		if code == http.StatusConflict && strings.Contains(text, "rebalance") && time.Now().Before(deadline) {
			<-tick.C
			continue
		}
		a := answer{Ask: strings.TrimSpace(fmt.Sprintf("%d %s", len(d.said)+1, what)), Code: code}
		var v any
		if json.Unmarshal([]byte(text), &v) == nil {
			a.Shape = shapeOf(v)
		}
		if what == "GET /connectors/files/config" {
			a.Shape = "own"
		}
		d.said = append(d.said, a)
		return text
	}
}

func (d *restDialogue) do(method, path, body string) (int, string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 90*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+d.address+path, bytes.NewReader([]byte(body)))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if testing.Verbose() {
		d.t.Logf("%s %s %s\n\t%d %s", method, path, body, resp.StatusCode, bytes.TrimSpace(text[:min(len(text), 600)]))
	}
	return resp.StatusCode, string(text)
}

// await waits until a connector and so many tasks are in a state.
func (d *restDialogue) await(name, state string, tasks int) {
	d.t.Helper()
	d.until(fmt.Sprintf("%s is %s with %d tasks", name, state, tasks), "/connectors/"+name+"/status", func(text []byte) bool {
		var s struct {
			Connector struct{ State string }
			Tasks     []struct{ State string }
		}
		ok := json.Unmarshal(text, &s) == nil && s.Connector.State == state && len(s.Tasks) == tasks
		for _, task := range s.Tasks {
			ok = ok && task.State == state
		}
		return ok
	})
}

func (d *restDialogue) awaitOffsets(name string, any bool) {
	d.t.Helper()
	d.until(name+" has offsets", "/connectors/"+name+"/offsets", func(text []byte) bool {
		var o struct{ Offsets []json.RawMessage }
		return json.Unmarshal(text, &o) == nil && (len(o.Offsets) > 0) == any
	})
}

func (d *restDialogue) until(what, path string, ok func([]byte) bool) {
	d.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for deadline := time.After(time.Minute); ; {
		resp, err := http.Get("http://" + d.address + path)
		if err == nil {
			text, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close() // it is read
			if err == nil && ok(text) {
				return
			}
			last = string(text)
		}
		select {
		case <-tick.C:
		case <-deadline:
			d.t.Fatalf("not within a minute: %s; it is %s", what, last)
		}
	}
}

// askConnect has a worker of Kafka Connect answer.
func askConnect(t *testing.T, bootstrap, file string) []answer {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopics(ctx, 1, -1, nil, "lines"); err != nil {
		t.Fatal(err)
	}
	w := newConnectWorker(t, testenv.KafkaTools(t).JavaProgram(t, "connect"), bootstrap)
	w.start()
	w.await(ctx, "answers", func() bool { return w.call(ctx, http.MethodGet, "/connectors", nil, nil) == nil })
	d := &restDialogue{t: t, address: w.address, class: "FileStreamSource", config: map[string]string{"connector.class": "FileStreamSource", "tasks.max": "1", "file": file, "topic": "lines"},
		sink: map[string]string{"connector.class": "FileStreamSink", "tasks.max": "1", "file": filepath.Join(t.TempDir(), "out"), "topics": "lines"}}
	return d.run()
}
