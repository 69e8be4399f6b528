package interop

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// Quotas by kafka-configs, the metadata quorum by kafka-metadata-quorum, and preferred leaders by kafka-leader-election, on
// three nodes of which one has been away.
func TestJavaAdminTools(t *testing.T) {
	t.Parallel()
	tools := testenv.KafkaTools(t)
	nodes := node.NewCluster(t, 3)
	node.StartAll(t, nodes)
	run := func(tool string, args ...string) string {
		t.Helper()
		return tools.Run(t, "", tool, append([]string{"--bootstrap-server", bootstrap(nodes)}, args...)...)
	}
	has := func(text string, wants ...string) {
		t.Helper()
		for _, w := range wants {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in\n%s", w, text)
			}
		}
	}
	run("kafka-configs", "--alter", "--entity-type", "clients", "--entity-name", "app", "--add-config", "producer_byte_rate=1048576,consumer_byte_rate=2097152")
	run("kafka-configs", "--alter", "--entity-type", "users", "--entity-default", "--entity-type", "clients", "--entity-default", "--add-config", "request_percentage=150.5")
	run("kafka-configs", "--alter", "--entity-type", "ips", "--entity-name", "127.0.0.9", "--add-config", "connection_creation_rate=100")
	has(run("kafka-configs", "--describe", "--entity-type", "clients"), "client-id 'app'", "producer_byte_rate=1048576", "consumer_byte_rate=2097152")
	has(run("kafka-configs", "--describe", "--entity-type", "users", "--entity-default", "--entity-type", "clients", "--entity-default"), "request_percentage=150.5")
	run("kafka-configs", "--alter", "--entity-type", "clients", "--entity-name", "app", "--delete-config", "producer_byte_rate")
	if got := run("kafka-configs", "--describe", "--entity-type", "clients", "--entity-name", "app"); strings.Contains(got, "producer_byte_rate") {
		t.Errorf("still there: %s", got)
	}

	status := run("kafka-metadata-quorum", "describe", "--status")
	has(status, "LeaderId:", "HighWatermark:", `"id":`, "PEER://")
	if m := regexp.MustCompile(`MaxFollowerLag:\s+(\d+)`).FindStringSubmatch(status); m == nil {
		t.Errorf("no lag in\n%s", status)
	}
	replication := run("kafka-metadata-quorum", "describe", "--replication")
	if strings.Count(replication, "Leader") != 1 || strings.Count(replication, "Follower") != 2 {
		t.Errorf("not one leader and two followers:\n%s", replication)
	}

	// Node 1 goes and comes back: others lead what it led, until it is asked for.
	run("kafka-topics", "--create", "--topic", "led", "--replica-assignment", "1:2:3")
	nodes[0].Kill()
	nodes[0].Start()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !regexp.MustCompile(`Leader: 1\b`).MatchString(run("kafka-topics", "--describe", "--topic", "led")) {
		if time.Now().After(deadline) {
			t.Fatal("node 1 does not lead again")
		}
		// It is refused as long as node 1 is out of sync.
		_, _ = tools.Command(t.Context(), "kafka-leader-election", "--bootstrap-server", bootstrap(nodes), "--election-type", "preferred", "--topic", "led", "--partition", "0").CombinedOutput()
		<-tick.C
	}
	has(run("kafka-leader-election", "--election-type", "preferred", "--topic", "led", "--partition", "0"), "Valid replica already elected")
}
