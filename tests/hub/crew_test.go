package hub

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/forebayhub/forebay/tests/node"
)

// TestCrew: three nodes share the connectors; each answers for all; when one dies, or hangs and comes back, its
// share goes on elsewhere and nothing is lost or doubled.
func TestCrew(t *testing.T) {
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
		for range 2000 {
			if _, err := fmt.Fprintf(f, "line %d\n", lines); err != nil {
				t.Fatal(err)
			}
			lines++
		}
	}
	config := "sources:\n  app: {type: tail, paths: [" + dir + "/*.log]}\nsinks:\n"
	names := []string{"app"}
	for i := range 6 { // rotation comes too late for the test: only a flush commits
		name := fmt.Sprintf("files%d", i)
		names = append(names, name)
		config += fmt.Sprintf("  %s: {type: file, url: %s/%s, topics: [app], format: text, rotate: {interval: 10m}}\n", name, dir, name)
	}
	file := node.WriteFile(t, dir, "job.yaml", config)

	nodes := node.NewCluster(t, 3)
	node.StartAll(t, nodes)
	if out, code := node.Run(t, nil, "apply", file, "--http", nodes[1].HTTP); code != 0 {
		t.Fatalf("apply ended with %d:\n%s", code, out)
	}
	more()

	// where waits until every living node says that all run, and says who runs each.
	where := func(living ...*node.Node) map[string]string {
		t.Helper()
		var got map[string]string
		until(t, "everything runs, and each node says so", func() bool {
			got = map[string]string{}
			for _, n := range living {
				all := states(t, n)
				for _, name := range names {
					s := all[name]
					if s.Connector.State != "RUNNING" || got[name] != "" && got[name] != s.Connector.WorkerID {
						return false
					}
					got[name] = s.Connector.WorkerID
				}
			}
			return true
		})
		return got
	}
	audit := func(asked *node.Node, sinks ...string) {
		t.Helper()
		for _, sink := range sinks {
			out, code := node.Run(t, nil, "audit", file, sink, "--wait", "30s", "--bootstrap", asked.Kafka, "--http", asked.HTTP)
			if code != 0 {
				t.Fatalf("audit of %s ended with %d:\n%s", sink, code, out)
			}
		}
	}
	var share map[string]string
	until(t, "the work is shared out", func() bool {
		share = where(nodes...)
		busy := map[string]bool{}
		for _, w := range share {
			busy[w] = true
		}
		return len(busy) == 3
	})
	t.Log("at first:", share)
	audit(nodes[0], names[1:]...) // most of them run elsewhere

	// Pause one through a node that does not run it.
	for _, n := range nodes {
		if n.HTTP != share["files0"] {
			if out, code := node.Run(t, nil, "connectors", "pause", "files0", "--http", n.HTTP); code != 0 {
				t.Fatalf("pause ended with %d:\n%s", code, out)
			}
			until(t, "files0 is paused", func() bool { return states(t, n)["files0"].Connector.State == "PAUSED" })
			if out, code := node.Run(t, nil, "connectors", "resume", "files0", "--http", n.HTTP); code != 0 {
				t.Fatalf("resume ended with %d:\n%s", code, out)
			}
			break
		}
	}

	// The node that runs the source dies, and does not come back for a while.
	byAddr := map[string]*node.Node{}
	for _, n := range nodes {
		byAddr[n.HTTP] = n
	}
	dead := byAddr[share["app"]]
	var living []*node.Node
	for _, n := range nodes {
		if n != dead {
			living = append(living, n)
		}
	}
	dead.Kill()
	more()
	began := time.Now()
	until(t, "the source has moved", func() bool {
		s := states(t, living[0])["app"]
		return s.Connector.State == "RUNNING" && s.Connector.WorkerID != dead.HTTP
	})
	t.Log("the source runs elsewhere after", time.Since(began).Round(time.Millisecond))
	share = where(living...)
	t.Log("on two nodes:", share)
	audit(living[1], names[1:]...)
	dead.Start()

	// A node hangs for longer than its session, and then knows nothing of it.
	hung := byAddr[share["app"]]
	living = nil
	for _, n := range nodes {
		if n != hung {
			living = append(living, n)
		}
	}
	if err := hung.Pause(); err != nil {
		t.Fatal(err)
	}
	more()
	began = time.Now()
	until(t, "the source has moved again", func() bool {
		s := states(t, living[0])["app"]
		return s.Connector.State == "RUNNING" && s.Connector.WorkerID != hung.HTTP
	})
	t.Log("the source runs elsewhere after", time.Since(began).Round(time.Millisecond))
	more()
	if err := hung.Resume(); err != nil {
		t.Fatal(err)
	}
	more()
	t.Log("at last:", where(nodes...))
	audit(hung, names[1:]...)
	for i, n := range nodes {
		if err := n.Stop(); err != nil {
			t.Errorf("SIGTERM to node %d: %v", i+1, err)
		}
	}
}
