//go:build long

package interop

import (
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// restartEvery is how often a node ends and starts again; RESTART_EVERY sets another pace.
const restartEvery = 10 * time.Second

// TestEverythingRestarts has each client do all that it can, three times, on three nodes with three replicas, of which two are to be in sync. One node after the other
// ends, by SIGTERM and by SIGKILL in turn, and starts again. RESTARTS tells the programs: what a client then gives back to the application with an error that
// says to try again, they try again. With KAFKA in the environment the nodes are Kafka's: to see whether something is a client's way or ours.
func TestEverythingRestarts(t *testing.T) {
	all := programs(t)
	bootstrap := restarting(t)
	sideBySide(t, all, func(t *testing.T, _ string, p program) {
		p.env = append(slices.Clone(p.env), "RESTARTS=1")
		for range 3 {
			began := time.Now()
			p.everything(t, bootstrap)
			t.Logf("done after %v", time.Since(began).Round(100*time.Millisecond))
		}
	})
}

// ending is a node that can be ended and started again.
type ending interface {
	Stop() error
	Kill()
	TryStart() error
}

// restarting starts three nodes, of which one after the other ends and starts again until the test is over.
func restarting(t *testing.T) string {
	t.Helper()
	var nodes []ending
	var addrs []string
	if os.Getenv("KAFKA") != "" {
		for _, k := range testenv.NewKafkaCluster(t, 3, "default.replication.factor=3", "min.insync.replicas=2") {
			nodes, addrs = append(nodes, k), append(addrs, k.Bootstrap)
		}
	} else {
		own := node.NewCluster(t, 3, append(shortSessions, "--set", "min.insync.replicas=2")...)
		node.StartAll(t, own)
		for _, n := range own {
			nodes, addrs = append(nodes, n), append(addrs, n.Kafka)
			t.Cleanup(func() { noErrors(t, n) })
		}
	}
	every := restartEvery
	if s := os.Getenv("RESTART_EVERY"); s != "" {
		var err error
		if every, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	over := make(chan struct{})
	var working sync.WaitGroup
	working.Go(func() { restart(t, nodes, every, over) })
	t.Cleanup(func() {
		close(over)
		working.Wait()
	})
	return strings.Join(addrs, ",")
}

// restart ends and starts a node, and the next, until over.
func restart(t *testing.T, nodes []ending, every time.Duration, over <-chan struct{}) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	began := time.Now()
	for n := 0; ; n++ {
		select {
		case <-over:
			t.Logf("%d restarts in %v", n, time.Since(began).Round(time.Second))
			return
		case <-tick.C:
		}
		at, sig, down := nodes[n%len(nodes)], syscall.SIGTERM, time.Now()
		if n%2 == 1 {
			sig = syscall.SIGKILL
			at.Kill()
		} else if err := at.Stop(); err != nil {
			t.Errorf("node %d ended with %v", n%len(nodes)+1, err)
		}
		if err := at.TryStart(); err != nil {
			t.Errorf("node %d: %v", n%len(nodes)+1, err)
			return
		}
		t.Logf("%v: node %d was ended by %v, and serves again after %v", down.Sub(began).Round(time.Second), n%len(nodes)+1, sig, time.Since(down).Round(10*time.Millisecond))
	}
}

// noErrors has found nothing unexpected in a node's log: a program takes no answer for a passing one that was no such thing.
func noErrors(t *testing.T, n *node.Node) {
	for line := range strings.Lines(n.LogTail(1 << 20)) {
		if strings.Contains(line, `"level":"ERROR"`) {
			t.Errorf("node's log: %s", line)
		}
	}
}
