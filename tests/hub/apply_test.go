package hub

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/tests/node"
)

// state is what `connectors list --json` says of one connector.
type state struct {
	Name      string
	Connector struct {
		State, Trace string
		WorkerID     string `json:"worker_id"`
	}
	Since time.Time
}

func states(t *testing.T, n *node.Node) map[string]state {
	t.Helper()
	out, code := node.Run(t, nil, "connectors", "list", "--json", "--http", n.HTTP)
	var body struct{ Data []state }
	if err := json.Unmarshal([]byte(out), &body); err != nil || code != 0 {
		t.Fatalf("connectors list ended with %d: %v\n%s", code, err, out)
	}
	all := map[string]state{}
	for _, s := range body.Data {
		all[s.Name] = s
	}
	return all
}

// until asks until the answer is yes.
func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		<-tick.C
	}
}

// TestApply changes a running node's connectors again and again.
func TestApply(t *testing.T) {
	dir := t.TempDir()
	logs := filepath.Join(dir, "app.log")
	lines := 0
	more := func() {
		t.Helper()
		f, err := os.OpenFile(logs, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for range 1000 {
			if _, err := fmt.Fprintf(f, "line %d\n", lines); err != nil {
				t.Fatal(err)
			}
			lines++
		}
	}
	more()
	job := func(paths, more string) string {
		return node.WriteFile(t, dir, "job.yaml", "sources:\n  app: {type: tail, paths: ["+paths+"]}\n"+more)
	}
	sink := "sinks:\n  files: {type: file, url: " + dir + "/out, topics: [app], format: text, rotate: {interval: 1s}}\n"
	n := node.New(t, "--data", filepath.Join(dir, "data"))
	n.Start()
	apply := func(want int, say string, args ...string) {
		t.Helper()
		out, code := node.Run(t, nil, append(append([]string{"apply"}, args...), "--http", n.HTTP)...)
		if code != want || !strings.Contains(out, say) {
			t.Fatalf("apply ended with %d, and is to end with %d and to say %q:\n%s", code, want, say, out)
		}
	}
	audit := func(config string) {
		t.Helper()
		out, code := node.Run(t, nil, "audit", config, "files", "--wait", "30s", "--bootstrap", n.Kafka, "--http", n.HTTP)
		if code != 0 || !strings.Contains(out, fmt.Sprint(lines)) {
			t.Fatalf("audit ended with %d, and %d lines were written:\n%s", code, lines, out)
		}
	}

	apply(2, "unknown field 'path'", node.WriteFile(t, dir, "bad.yaml", "sources:\n  app: {type: tail, path: [x]}\n"))
	file := job("\"${APP_LOGS}\"", sink)
	apply(0, "2 to create", file, "--dry-run")
	if got := states(t, n); len(got) != 0 {
		t.Fatalf("a dry run has made %v", got)
	}

	// The node lacks the variable: that connector fails, and says so; the other runs.
	apply(0, "environment variable APP_LOGS is not set here", file)
	until(t, "app has failed and files runs", func() bool {
		s := states(t, n)
		return s["app"].Connector.State == "FAILED" && strings.Contains(s["app"].Connector.Trace, "APP_LOGS is not set") && s["files"].Connector.State == "RUNNING"
	})
	before := states(t, n)["files"].Since

	file = job(dir+"/*.log", sink)
	apply(0, "paths: [${APP_LOGS}] -> ["+dir+"/*.log]", file)
	until(t, "app runs", func() bool { return states(t, n)["app"].Connector.State == "RUNNING" })
	audit(file)
	if after := states(t, n)["files"].Since; !after.Equal(before) {
		t.Errorf("files was restarted at %v, though it did not change", after)
	}

	// What is declared is there again after a kill.
	more()
	n.Kill()
	n.Start()
	until(t, "both run again", func() bool {
		s := states(t, n)
		return s["app"].Connector.State == "RUNNING" && s["files"].Connector.State == "RUNNING"
	})
	more()
	audit(file)

	// A sink that no file declares goes, and comes back where it was.
	apply(0, "- remove sink files (file)", job(dir+"/*.log", ""))
	until(t, "files is gone", func() bool { return len(states(t, n)) == 1 })
	more()
	file = job(dir+"/*.log", sink)
	apply(0, "+ create sink files (file)", file)
	until(t, "files runs", func() bool { return states(t, n)["files"].Connector.State == "RUNNING" })
	audit(file)
	apply(0, "2 unchanged", file)
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
}
