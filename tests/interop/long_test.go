//go:build long

package interop

import (
	"testing"

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
