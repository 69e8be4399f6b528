//go:build long

package interop

import (
	"sync"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// long is the form of make interop: more clients on three nodes, more kills, Flink, Spark.
const long = true

// TestStreamsThreeNodes is TestStreams on three nodes.
func TestStreamsThreeNodes(t *testing.T) {
	nodes := node.NewCluster(t, 3)
	node.StartAll(t, nodes)
	tools := testenv.KafkaTools(t).JavaProgram(t, "java")
	countWords(t, bootstrap(nodes), javaProgram(tools, "Words"), []kill{wipe, keep, wipe})
}

// TestMembersAgain is TestMembers with aiokafka, which once did not settle, over and over.
func TestMembersAgain(t *testing.T) {
	p := programs(t)["aiokafka"]
	onOneAndThree(t, func(t *testing.T, _ int, bootstrap string) {
		rebalances(t, bootstrap, "again", p, 30)
	})
}

// TestEverythingRestarts has aiokafka do all that it can on three nodes, of which one after the other ends and starts again. Other clients give the
// error of a call that a restart has met to the application, always or at times.
func TestEverythingRestarts(t *testing.T) {
	p := programs(t)["aiokafka"]
	nodes := node.NewCluster(t, 3)
	node.StartAll(t, nodes)
	over := make(chan struct{})
	var restarting sync.WaitGroup
	restarting.Go(func() { restart(t, nodes, over) })
	defer restarting.Wait()
	defer close(over)
	p.everything(t, bootstrap(nodes))
}

// restart ends and starts a node, and the next, until over.
func restart(t *testing.T, nodes []*node.Node, over <-chan struct{}) {
	tick := time.NewTicker(3 * time.Second) // for the cluster to be whole again
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-over:
			t.Logf("%d restarts", n)
			return
		case <-tick.C:
		}
		at := nodes[n%len(nodes)]
		if err := at.Stop(); err != nil {
			t.Errorf("node %d ended with %v", n%len(nodes)+1, err)
		}
		if err := at.TryStart(); err != nil {
			t.Errorf("node %d: %v", n%len(nodes)+1, err)
			return
		}
	}
}
