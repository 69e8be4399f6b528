// Package workers tries what a group of workers promises, on real processes: who need not stop goes on, who must move is
// at work again within 5 s, and whatever happens each record arrives once.
package workers

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forebayhub/forebay/tests/node"
)

const (
	tasks = 60
	// soon is how long what moves may be away. What stays is away for as long as its node takes to end and to be ready.
	soon = 5 * time.Second
	// lineEvery is the time between two lines of each log file: what reads and what writes shows by them that it is at work.
	lineEvery = 100 * time.Millisecond
	// fewAnew is how many tasks may begin anew, where they are, when a node of the log goes.
	fewAnew = 3
)

// TestSixty: thirty log files into thirty topics, thirty sinks that each read three of them, on three nodes. A fourth joins, one is killed for
// good, and the rest are restarted in turn.
func TestSixty(t *testing.T) {
	dir := t.TempDir()
	config := "sources:\n"
	var names []string
	for i := range tasks / 2 {
		names = append(names, fmt.Sprintf("in%02d", i), fmt.Sprintf("out%02d", i))
		config += fmt.Sprintf("  in%02d: {type: tail, paths: [%s/in%02d.log]}\n", i, dir, i)
	}
	config += "sinks:\n"
	for i := range tasks / 2 {
		config += fmt.Sprintf("  out%02d: {type: file, url: %s/out%02d, topics: [in%02d, in%02d, in%02d], format: text, rotate: {interval: 2s}}\n",
			i, dir, i, i, (i+10)%(tasks/2), (i+20)%(tasks/2))
	}
	nodes := node.NewCluster(t, 3)
	node.StartAll(t, nodes)
	fourth := node.Join(t, nodes)
	if out, code := node.Run(t, nil, "apply", node.WriteFile(t, dir, "job.yaml", config), "--http", nodes[0].HTTP); code != 0 {
		t.Fatalf("apply ended with %d:\n%s", code, out)
	}
	var writing sync.WaitGroup
	enough := make(chan struct{})
	writing.Go(func() { write(t, dir, enough) })
	defer writing.Wait()
	defer close(enough)

	w := look(t, names, append(slices.Clone(nodes), fourth))
	defer w.stop()
	w.settled(3)
	t.Log("60 tasks on three nodes: ", w.shares())

	t.Log("a fourth node joins: ", w.during(4, tasks/4, fourth.Start))
	t.Log("a node is killed: ", w.during(3, tasks/4, nodes[1].Kill))
	for _, n := range []*node.Node{nodes[0], nodes[2], fourth} {
		before := w.shares()
		t.Log("a node is restarted: ", w.during(3, tasks/3, func() {
			if err := n.Stop(); err != nil {
				t.Errorf("SIGTERM: %v", err)
			}
			n.Start()
		}))
		if after := w.shares(); !maps.Equal(before, after) {
			t.Errorf("a restart changes the shares from %v to %v", before, after)
		}
	}
}

// write appends a line to every log file each lineEvery.
func write(t *testing.T, dir string, enough <-chan struct{}) {
	var files []*os.File
	for i := range tasks / 2 {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("in%02d.log", i)))
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		files = append(files, f)
	}
	tick := time.NewTicker(lineEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		for _, f := range files {
			if _, err := fmt.Fprintf(f, "%s %d\n", filepath.Base(f.Name()), n); err != nil {
				t.Error(err)
				return
			}
		}
		select {
		case <-enough:
			return
		case <-tick.C:
		}
	}
}

// complaints are what the nodes have said of connectors that failed and began anew.
func (w *watcher) complaints() (out []string) {
	for _, n := range w.nodes {
		for line := range strings.Lines(n.LogTail(100_000)) {
			if strings.Contains(line, `"connector will be restarted"`) || strings.Contains(line, `"connector failed"`) {
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	slices.Sort(out) // each begins with its time
	return out
}

func (w *watcher) shares() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int{}
	for _, s := range w.seen {
		out[s.worker]++
	}
	return out
}

// during does something and waits until count workers share everything evenly. It says how long what stopped was away, and complains of more than may
// stop, or of one that was away for longer than it may.
func (w *watcher) during(count, may int, do func()) string {
	w.t.Helper()
	w.mu.Lock()
	before := maps.Clone(w.seen)
	w.mu.Unlock()
	complaints := len(w.complaints())
	began := time.Now()
	do()
	w.settled(count)
	took := time.Since(began)
	// A node of the log has gone with its worker: a task elsewhere whose transaction ended just then begins anew in its place.
	anew := w.complaints()[complaints:]
	w.mu.Lock()
	defer w.mu.Unlock()
	var away []time.Duration
	var late, back []string
	elsewhere := 0
	for name, was := range before {
		is := w.seen[name]
		if is.run == was.run {
			continue
		}
		gap := is.first.Sub(was.last)
		if w.last[was.run].After(was.last) {
			gap = is.first.Sub(w.last[was.run])
		}
		away = append(away, gap)
		if is.worker == was.worker {
			back = append(back, name)
			continue
		}
		if elsewhere++; gap > soon {
			late = append(late, fmt.Sprintf("%s %v", name, gap.Round(time.Millisecond)))
		}
	}
	if len(away) == 0 || len(away) > may+len(anew) || elsewhere > may || len(anew) > fewAnew {
		w.t.Errorf("%d tasks have stopped, from one to %d may; stopped and not moved: %v\n%s", len(away), may, back, strings.Join(anew, "\n"))
	}
	if len(late) > 0 {
		w.t.Errorf("away for longer than %v: %s", soon, strings.Join(late, ", "))
	}
	slices.Sort(away)
	said := fmt.Sprintf("%d of %d stopped, %d moved, %d began anew after an error", len(away), len(before), elsewhere, len(anew))
	if len(away) > 0 {
		said += fmt.Sprintf("; away for %v (median), %v (worst)", away[len(away)/2].Round(10*time.Millisecond), away[len(away)-1].Round(10*time.Millisecond))
	}
	return fmt.Sprintf("%s; all was well after %v", said, took.Round(10*time.Millisecond))
}
