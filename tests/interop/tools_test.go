package interop

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// TestConsoleTools runs those of Kafka's tools that TestJavaTools does not, each against one node.
func TestConsoleTools(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	n := node.New(t, "--data", data)
	n.Start()
	tools := testenv.KafkaTools(t)
	has := func(what, text string, wants ...string) {
		t.Helper()
		for _, w := range wants {
			if !regexp.MustCompile(w).MatchString(text) {
				t.Errorf("%s: no %q in\n%s", what, w, text[:min(3000, len(text))])
			}
		}
	}
	run := func(tool string, args ...string) string {
		t.Helper()
		return tools.Run(t, "", tool, append([]string{"--bootstrap-server", n.Kafka}, args...)...)
	}
	dir := t.TempDir()
	run("kafka-topics", "--create", "--topic", "tools", "--partitions", "1")
	run("kafka-configs", "--alter", "--entity-type", "topics", "--entity-name", "tools", "--add-config", "retention.ms=3600000,cleanup.policy=[compact,delete]")
	has("kafka-configs", run("kafka-configs", "--describe", "--entity-type", "topics", "--entity-name", "tools"), `retention\.ms=3600000`, `cleanup\.policy=compact,delete`)
	run("kafka-configs", "--alter", "--entity-type", "topics", "--entity-name", "tools", "--delete-config", "retention.ms,cleanup.policy")
	run("kafka-configs", "--alter", "--entity-type", "groups", "--entity-name", "verifiable", "--add-config", "consumer.session.timeout.ms=50000")
	has("kafka-configs", run("kafka-configs", "--describe", "--entity-type", "groups"), `group verifiable`, `consumer\.session\.timeout\.ms=50000`)

	has("kafka-verifiable-producer", run("kafka-verifiable-producer", "--topic", "tools", "--max-messages", "1000"), `"acked":1000`)
	has("kafka-verifiable-consumer", run("kafka-verifiable-consumer", "--topic", "tools", "--group-id", "verifiable", "--max-messages", "1000"), `"name":"offsets_committed".*"offset":1000`, `"name":"shutdown_complete"`)
	has("kafka-producer-perf-test", run("kafka-producer-perf-test", "--topic", "tools", "--num-records", "50000", "--record-size", "200", "--throughput", "-1"), "50000 records sent")
	has("kafka-consumer-perf-test", run("kafka-consumer-perf-test", "--topic", "tools", "--num-records", "50000", "--timeout", "60000"), `, 5[01]\d{3}, `)
	has("kafka-e2e-latency", run("kafka-e2e-latency", "--topic", "tools", "--num-records", "200", "--producer-acks", "all", "--record-size", "100"), `Avg latency: \d`, "Percentiles")

	offsets := node.WriteFile(t, dir, "delete.json", `{"partitions": [{"topic": "tools", "partition": 0, "offset": 700}], "version": 1}`)
	has("kafka-delete-records", run("kafka-delete-records", "--offset-json-file", offsets), "low_watermark: 700")
	has("kafka-get-offsets", run("kafka-get-offsets", "--topic", "tools", "--time", "earliest"), "tools:0:700")
	has("kafka-groups", run("kafka-groups", "--list"), `verifiable\s+Classic\s+consumer`)
	has("kafka-consumer-groups", run("kafka-consumer-groups", "--delete-offsets", "--group", "verifiable", "--topic", "tools"), "Successful")
	has("kafka-cluster", tools.Run(t, "", "kafka-cluster", "cluster-id", "--bootstrap-server", n.Kafka), "Cluster ID: ")
	has("kafka-cluster", tools.Run(t, "", "kafka-cluster", "list-endpoints", "--bootstrap-server", n.Kafka), strings.Split(n.Kafka, ":")[1])
	has("kafka-features", run("kafka-features", "describe"), `metadata\.version`, `transaction\.version`)
	has("kafka-leader-election", run("kafka-leader-election", "--election-type", "preferred", "--topic", "tools", "--partition", "0"), "already elected|not needed")

	has("kafka-streams-application-reset", run("kafka-streams-application-reset", "--application-id", "app", "--input-topics", "tools", "--force"), "Reset-offsets for input topics")
	has("kafka-consumer-groups", run("kafka-consumer-groups", "--describe", "--group", "app", "--offsets"), `tools\s+0\s+700`)

	// Our segments are Kafka's: its dump tool reads them, and finds every CRC right.
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	segment := ""
	if err := filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
		if strings.HasSuffix(path, ".log") && strings.Contains(path, "tools-0") {
			segment = path
		}
		return err
	}); err != nil || segment == "" {
		t.Fatalf("no segment of the topic below the data directory: %v", err)
	}
	dump := tools.Run(t, "", "kafka-dump-log", "--files", segment, "--print-data-log")
	has("kafka-dump-log", dump, "Log starting offset: 0", `offset: 999 .*payload: 999`)
	if strings.Contains(dump, "isvalid: false") || strings.Count(dump, "isvalid: true") == 0 {
		t.Errorf("kafka-dump-log finds batches invalid: %s", dump[:min(2000, len(dump))])
	}
	if records := strings.Count(dump, "| offset: "); records != 51200 {
		t.Errorf("kafka-dump-log sees %d records of %d", records, 51200)
	}
}
