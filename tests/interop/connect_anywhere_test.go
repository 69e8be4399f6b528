package interop

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// A client for Kafka Connect's REST API that somebody else wrote manages a connector.
func TestConnectClient(t *testing.T) {
	t.Parallel()
	n := node.New(t, "--data", t.TempDir())
	n.Start()
	file := node.WriteFile(t, t.TempDir(), "lines", strings.Repeat("a line\n", 10))
	program{argv: []string{testenv.Python(t), "connect_client.py"}, last: []string{file}}.everything(t, n.HTTP)
}

// TestConnectRESTAnywhere asks, of three nodes, those that do not run the connector. What it shall be doing outlives the node that it is on, and a stopped source goes on
// where it is told to (KIP-875).
func TestConnectRESTAnywhere(t *testing.T) {
	t.Parallel()
	nodes := node.NewCluster(t, 3)
	node.StartAll(t, nodes)
	file := node.WriteFile(t, t.TempDir(), "lines", strings.Repeat("a line\n", 10))
	at := &restDialogue{t: t, address: nodes[0].HTTP}
	ask := func(code int, method, path, body string) string {
		t.Helper()
		got, text := at.do(method, path, body)
		if got != code {
			t.Fatalf("%s %s: %d %s, want %d", method, path, got, text, code)
		}
		return text
	}
	type status struct {
		Connector struct {
			Worker string `json:"worker_id"`
		}
		Records int
	}
	// elsewhere has a node asked that does not run the connector.
	elsewhere := func() {
		var s status
		at.until("it is on a worker", "/connectors/lines/status", func(text []byte) bool {
			return json.Unmarshal(text, &s) == nil && s.Connector.Worker != ""
		})
		i := slices.IndexFunc(nodes, func(n *node.Node) bool { return n.HTTP != s.Connector.Worker && !n.Ended() })
		at.address = nodes[i].HTTP
	}
	records := func(n int) {
		t.Helper()
		at.until(fmt.Sprintf("%d records", n), "/connectors/lines/status", func(text []byte) bool {
			var s status
			return json.Unmarshal(text, &s) == nil && s.Records == n
		})
	}
	ask(http.StatusCreated, "POST", "/connectors", fmt.Sprintf(`{"name":"lines","config":{"connector.class":"tail","paths":%q,"topic":"lines"},"initial_state":"STOPPED"}`, file))
	elsewhere()
	at.await("lines", "STOPPED", 0)
	ask(http.StatusAccepted, "PUT", "/connectors/lines/resume", "")
	at.await("lines", "RUNNING", 1)
	records(10)
	at.awaitOffsets("lines", true)
	ask(http.StatusNoContent, "POST", "/connectors/lines/tasks/0/restart", "")
	ask(http.StatusNotFound, "POST", "/connectors/lines/tasks/1/restart", "")
	ask(http.StatusNoContent, "PUT", "/connectors/lines/stop", "")
	at.await("lines", "STOPPED", 0)
	held := ask(http.StatusOK, "GET", "/connectors/lines/offsets", "")
	ask(http.StatusOK, "DELETE", "/connectors/lines/offsets", "")
	ask(http.StatusAccepted, "PUT", "/connectors/lines/resume", "")
	records(20) // it has begun anew
	ask(http.StatusNoContent, "PUT", "/connectors/lines/stop", "")
	at.await("lines", "STOPPED", 0)
	ask(http.StatusOK, "DELETE", "/connectors/lines/offsets", "")
	ask(http.StatusOK, "PATCH", "/connectors/lines/offsets", held)
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("one more\n"); err != nil {
		t.Fatal(err)
	}
	ask(http.StatusAccepted, "PUT", "/connectors/lines/resume", "")
	records(21) // it has gone on behind the ten
	for _, c := range []struct{ body, want string }{
		{`{"offsets":[{"partition":{"split":"s"},"offset":null}]}`, "a split and a key"},
		{`{"offsets":[{"partition":{"split":"s","key":"k"},"offset":7}]}`, "an object"},
		{`{"offsets":[{"partition":{"split":"s","key":"k"},"offset":null},{"partition":{"split":"s","key":"k"},"offset":null}]}`, "an earlier one"},
	} {
		ask(http.StatusNoContent, "PUT", "/connectors/lines/stop", "")
		at.await("lines", "STOPPED", 0)
		if text := ask(http.StatusBadRequest, "PATCH", "/connectors/lines/offsets", c.body); !strings.Contains(text, c.want) {
			t.Errorf("%s: %s", c.body, text)
		}
	}
	// A sink's offsets are its target's.
	ask(http.StatusCreated, "PUT", "/connectors/sunk/config", fmt.Sprintf(`{"connector.class":"file","url":%q,"topics":"lines","format":"text"}`, filepath.Join(t.TempDir(), "out")))
	at.await("sunk", "RUNNING", 1)
	if text := ask(http.StatusBadRequest, "DELETE", "/connectors/sunk/offsets", ""); !strings.Contains(text, "lies in the target") {
		t.Error(text)
	}

	ask(http.StatusNoContent, "PUT", "/admin/loggers/worker?scope=cluster", `{"level":"ERROR"}`)
	for _, n := range nodes {
		d := &restDialogue{t: t, address: n.HTTP}
		if _, text := d.do("GET", "/admin/loggers/worker", ""); !strings.Contains(text, `"ERROR"`) {
			t.Errorf("%s has the level %s", n.HTTP, text)
		}
	}

	// Its node dies: it is stopped where it is next, and can be started there.
	elsewhere()
	var s status
	if err := json.Unmarshal([]byte(ask(http.StatusOK, "GET", "/connectors/lines/status", "")), &s); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(nodes, func(n *node.Node) bool { return n.HTTP == s.Connector.Worker })
	nodes[i].Kill()
	at.until("another worker has it", "/connectors/lines/status", func(text []byte) bool {
		var now status
		return json.Unmarshal(text, &now) == nil && now.Connector.Worker != "" && now.Connector.Worker != s.Connector.Worker
	})
	at.await("lines", "STOPPED", 0)
	ask(http.StatusAccepted, "PUT", "/connectors/lines/resume", "")
	at.await("lines", "RUNNING", 1)
	ask(http.StatusNoContent, "DELETE", "/connectors/lines", "")
}
