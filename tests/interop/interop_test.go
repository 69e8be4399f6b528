// Package interop has other people's clients talk to a node, or three: kcat, confluent-kafka, kafka-python, aiokafka, franz-go, sarama, kafka-go,
// kafkajs, Kafka's Java clients, tools, Streams and Connect; with the build tag long also Flink and Spark. Each test has nodes of its own, so they run side by side.
package interop

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// onOneAndThree tries a client on a lone node and on a cluster of three, where each partition has three replicas and
// a client must find leaders and coordinators. bootstrap names every node.
func onOneAndThree(t *testing.T, try func(t *testing.T, nodes int, bootstrap string)) {
	t.Helper()
	t.Run("one node", func(t *testing.T) {
		n := node.New(t, "--data", t.TempDir())
		n.Start()
		try(t, 1, n.Kafka)
	})
	t.Run("three nodes", func(t *testing.T) {
		nodes := node.NewCluster(t, 3)
		node.StartAll(t, nodes)
		try(t, 3, bootstrap(nodes))
	})
}

// bootstrap names every node.
func bootstrap(nodes []*node.Node) string {
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Kafka)
	}
	return strings.Join(addrs, ",")
}

func python(script string) func(t *testing.T, nodes int, bootstrap string) {
	return func(t *testing.T, _ int, bootstrap string) {
		program{argv: []string{testenv.Python(t), script}}.everything(t, bootstrap)
	}
}

// Three members that speak the consumer protocol (KIP-848) share a topic, one of them is killed, and the topic grows:
// every record is read, and by who owns its partition.
func TestConfluentConsumerProtocol(t *testing.T) {
	t.Parallel()
	n := node.New(t, "--data", t.TempDir(), "--set", "group.consumer.session.timeout.ms=6000", "--set", "group.consumer.heartbeat.interval.ms=500")
	n.Start()
	python("consumer_protocol.py")(t, 1, n.Kafka)
}

func TestJavaConsumerProtocol(t *testing.T) {
	t.Parallel()
	n := node.New(t, "--data", t.TempDir(), "--set", "group.consumer.heartbeat.interval.ms=500")
	n.Start()
	tools := testenv.KafkaTools(t)
	run := func(stdin, tool string, args ...string) string {
		t.Helper()
		return tools.Run(t, stdin, tool, append([]string{"--bootstrap-server", n.Kafka}, args...)...)
	}
	run("", "kafka-topics", "--create", "--topic", "java", "--partitions", "3")
	var in strings.Builder
	for i := range 500 {
		fmt.Fprintf(&in, "k%d\tline %d\n", i, i)
	}
	run(in.String(), "kafka-console-producer", "--topic", "java", "--reader-property", "parse.key=true")
	consume := func(topics ...string) *exec.Cmd {
		return tools.Command(t.Context(), "kafka-console-consumer", append(topics, "--bootstrap-server", n.Kafka, "--group", "g",
			"--from-beginning", "--command-property", "group.protocol=consumer", "--timeout-ms", "60000")...)
	}
	members := []*exec.Cmd{consume("--topic", "java"), consume("--include", "ja.*")}
	lines := make(chan string, 1000)
	for _, m := range members {
		out, err := m.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			for s := bufio.NewScanner(out); s.Scan(); {
				lines <- s.Text()
			}
		}()
	}
	seen := map[string]bool{}
	for deadline := time.After(time.Minute); len(seen) < 500; {
		select {
		case l := <-lines:
			seen[l] = true
		case <-deadline:
			t.Fatalf("%d of 500 records were read", len(seen))
		}
	}
	described := run("", "kafka-consumer-groups", "--describe", "--group", "g", "--members", "--verbose")
	if strings.Count(described, "console-consumer") != 2 || strings.Count(described, "java:") < 2 {
		t.Errorf("members:\n%s", described)
	}
	if got := run("", "kafka-consumer-groups", "--list", "--type", "consumer", "--state", "stable"); !strings.Contains(got, "g ") {
		t.Errorf("list: %s", got)
	}
	for _, m := range members { // a member that ends leaves the group
		if err := m.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = m.Wait() // 143 is no surprise
	}
	if got := run("", "kafka-consumer-groups", "--describe", "--group", "g", "--state"); !strings.Contains(got, "Empty") {
		t.Errorf("state:\n%s", got)
	}
	run("", "kafka-consumer-groups", "--delete", "--group", "g")
}

func TestKcat(t *testing.T) {
	t.Parallel()
	onOneAndThree(t, kcat)
}

func kcat(t *testing.T, _ int, bootstrap string) {
	bin := testenv.Kcat(t)
	kcat := func(stdin string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, bin, append([]string{"-b", bootstrap, "-q"}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		var errOut strings.Builder
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("kcat %v: %v\n%s%s", args, err, out, errOut.String())
		}
		return string(out)
	}
	want := ""
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		var in strings.Builder
		for i := range 200 {
			fmt.Fprintf(&in, "key%d:%s value %d\n", i, codec, i)
		}
		kcat(in.String(), "-P", "-t", "kcat", "-p", "0", "-K", ":", "-z", codec, "-H", "codec="+codec)
		want += in.String()
	}
	if got := kcat("", "-C", "-t", "kcat", "-e", "-K", ":"); got != want {
		t.Errorf("read back %d bytes of %d", len(got), len(want))
	}
	if got := kcat("", "-C", "-t", "kcat", "-e", "-o", "-1", "-f", "%t %p %o %k %h\n"); got != "kcat 0 999 key199 codec=zstd\n" {
		t.Errorf("the last record is %q", got)
	}
	if got := kcat("", "-L", "-t", "kcat"); !strings.Contains(got, `topic "kcat" with 1 partitions`) {
		t.Errorf("metadata: %s", got)
	}
	if got := kcat("", "-Q", "-t", "kcat:0:-1"); !strings.Contains(got, "offset 1000") {
		t.Errorf("query: %s", got)
	}
	if got := kcat("", "-Q", "-t", "kcat:0:0"); !strings.Contains(got, "offset 0") {
		t.Errorf("the first offset of a time: %s", got)
	}
	if got := kcat("", "-C", "-t", "kcat", "-e", "-o", "s@0", "-c", "1", "-f", "%o\n"); got != "0\n" {
		t.Errorf("from a time on came %q", got)
	}
	fails := func(want string, args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), bin, append([]string{"-b", bootstrap}, args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("kcat %v: %v, no %q in %s", args, err, want, out)
		}
	}
	fails("Offset out of range", "-C", "-t", "kcat", "-p", "0", "-o", "5000", "-e", "-X", "topic.auto.offset.reset=error")

	kcat("a:\n:b\n", "-P", "-t", "nulls", "-p", "0", "-K", ":", "-Z")
	if got := kcat("", "-C", "-t", "nulls", "-e", "-f", "%K %S\n"); got != "1 -1\n-1 1\n" {
		t.Errorf("null keys and values have the lengths %q", got)
	}
	noise := func(name string, n int) string {
		b := make([]byte, n)
		_, _ = rand.Read(b) // documented to never fail
		return node.WriteFile(t, t.TempDir(), name, string(b))
	}
	if out, code := node.Run(t, nil, "topics", "create", "big", "--partitions", "1", "--config", "max.message.bytes=9000000", "--bootstrap", bootstrap); code != 0 {
		t.Fatal(out)
	}
	kcat("", "-P", "-t", "big", "-p", "0", "-X", "message.max.bytes=10000000", noise("near", 1_000_000))
	kcat("", "-P", "-t", "big", "-p", "0", "-X", "message.max.bytes=10000000", noise("big", 8<<20))
	fails("Message size too large", "-P", "-t", "kcat", "-p", "0", "-X", "message.max.bytes=10000000", noise("over", 1_100_000))
	if got := kcat("", "-C", "-t", "big", "-e", "-f", "%S\n"); got != "1000000\n8388608\n" {
		t.Errorf("big records came back with the lengths %q", got)
	}
	if got := kcat("", "-G", "kcat-group", "-o", "beginning", "-e", "-X", "auto.offset.reset=earliest", "kcat"); strings.Count(got, "\n") != 1000 {
		t.Errorf("the group read %d lines", strings.Count(got, "\n"))
	}
}

func TestJavaTools(t *testing.T) {
	t.Parallel()
	onOneAndThree(t, javaTools)
}

func javaTools(t *testing.T, nodes int, bootstrap string) {
	tools := testenv.KafkaTools(t)
	run := func(stdin, tool string, args ...string) string {
		t.Helper()
		return tools.Run(t, stdin, tool, append([]string{"--bootstrap-server", bootstrap}, args...)...)
	}
	has := func(text string, wants ...string) {
		t.Helper()
		for _, w := range wants {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in\n%s", w, text)
			}
		}
	}
	run("", "kafka-topics", "--create", "--topic", "java", "--partitions", "3", "--config", "retention.ms=3600000", "--config", "max.message.bytes=2000000")
	has(run("", "kafka-topics", "--list"), "java")
	has(run("", "kafka-topics", "--describe", "--topic", "java"), "PartitionCount: 3", "retention.ms=3600000", "max.message.bytes=2000000", fmt.Sprintf("ReplicationFactor: %d", nodes))
	run("", "kafka-topics", "--alter", "--topic", "java", "--partitions", "4")
	has(run("", "kafka-broker-api-versions"), "Produce(0)", "usable: 13")

	var in strings.Builder
	for i := range 500 {
		fmt.Fprintf(&in, "k%d\tline %d\n", i, i)
	}
	run(in.String(), "kafka-console-producer", "--topic", "java", "--reader-property", "parse.key=true", "--compression-codec", "zstd")
	got := run("", "kafka-console-consumer", "--topic", "java", "--from-beginning", "--max-messages", "500", "--group", "java-group", "--timeout-ms", "30000")
	if strings.Count(got, "line ") != 500 {
		t.Errorf("the console consumer printed %d lines", strings.Count(got, "line "))
	}
	has(run("", "kafka-consumer-groups", "--list"), "java-group")
	has(run("", "kafka-consumer-groups", "--describe", "--group", "java-group"), "java-group", "java")
	has(run("", "kafka-consumer-groups", "--describe", "--group", "java-group", "--state"), "Empty")
	run("", "kafka-consumer-groups", "--group", "java-group", "--topic", "java", "--reset-offsets", "--to-earliest", "--execute")
	has(run("", "kafka-get-offsets", "--topic", "java"), "java:0:", "java:3:")

	// The Java producer in transactions (TV2), half a second each.
	run("", "kafka-topics", "--create", "--topic", "txn", "--partitions", "2")
	has(tools.Run(t, "", "kafka-producer-perf-test", "--topic", "txn", "--num-records", "20000", "--record-size", "100", "--throughput", "-1",
		"--bootstrap-server", bootstrap, "--transactional-id", "perf", "--transaction-duration-ms", "200"), "20000 records sent")
	got = run("", "kafka-console-consumer", "--topic", "txn", "--from-beginning", "--isolation-level", "read_committed", "--max-messages", "20000", "--timeout-ms", "30000")
	if strings.Count(got, "\n") != 20000 {
		t.Errorf("%d committed records", strings.Count(got, "\n"))
	}
	has(run("", "kafka-transactions", "list"), "perf")
	has(run("", "kafka-log-dirs", "--describe", "--topic-list", "java"), `"partition":"java-0"`, `"broker":`+strconv.Itoa(nodes))
	run("", "kafka-consumer-groups", "--delete", "--group", "java-group")
	run("", "kafka-topics", "--delete", "--topic", "java")
}
