package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const kafkaVersion = "4.4.0"

// kafkaInstance is one combined broker and controller (KRaft) on its own folder.
type kafkaInstance struct {
	java, classPath, dir string
	jvm                  []string
	port, controller     int
	server               process
}

// KafkaServer is an Apache Kafka broker of a test's own.
type KafkaServer struct {
	Bootstrap string // host:port

	tb    testing.TB
	k     *kafkaInstance
	peers int // how many brokers its cluster has
}

func (e *Env) newKafka(ctx context.Context, dir string, ports []int, settings []string) (*kafkaInstance, error) {
	java, err := e.java(ctx, 17, 99)
	if err != nil {
		return nil, err
	}
	jars, err := e.mavenJars(ctx, "kafka-broker")
	if err != nil {
		return nil, err
	}
	if len(ports) != 2 || !portFree(ports[0]) || !portFree(ports[1]) {
		if ports, err = FreePorts(2); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	k := &kafkaInstance{
		java: java, classPath: dir + ":" + filepath.Join(jars, "*"), dir: dir, port: ports[0], controller: ports[1],
		jvm: []string{"-Xmx512m", "-XX:+UseSerialGC"}, // a test's broker is to start fast and be small
	}
	if err := os.WriteFile(filepath.Join(dir, "log4j2.properties"), recipe("log4j2.properties"), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(k.properties(), []byte(k.config(settings)), 0o644); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "meta.properties")); err == nil {
		return k, nil
	}
	return k, run(ctx, dir, nil, java, "-Xmx256m", "-cp", k.classPath, "kafka.tools.StorageTool",
		"format", "-t", "Zm9yZWJheS10ZXN0ZW52MQ", "-c", k.properties())
}

func (k *kafkaInstance) properties() string { return filepath.Join(k.dir, "server.properties") }

func (k *kafkaInstance) config(settings []string) string {
	return fmt.Sprintf(`process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:%[1]d,CONTROLLER://127.0.0.1:%[2]d
advertised.listeners=PLAINTEXT://127.0.0.1:%[1]d,CONTROLLER://127.0.0.1:%[2]d
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:%[2]d
log.dirs=%[3]s
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=16777216
log.segment.delete.delay.ms=1000
%[4]s
`, k.port, k.controller, filepath.Join(k.dir, "data"), strings.NewReplacer("{port}", strconv.Itoa(k.port), "{controller}", strconv.Itoa(k.controller)).Replace(strings.Join(settings, "\n")))
}

func (k *kafkaInstance) bootstrap() string { return fmt.Sprintf("127.0.0.1:%d", k.port) }

func (k *kafkaInstance) start(ctx context.Context) error {
	if err := k.launch(); err != nil {
		return err
	}
	return k.await(ctx, 1)
}

// launch starts the process; await waits until it tells of so many registered brokers.
func (k *kafkaInstance) launch() (err error) {
	k.server, err = command{name: "kafka", dir: k.dir, log: filepath.Join(k.dir, "kafka.log"),
		argv: slices.Concat([]string{k.java}, k.jvm, []string{"-Djava.net.preferIPv4Stack=true", "-cp", k.classPath, "kafka.Kafka", k.properties()})}.start()
	return err
}

func (k *kafkaInstance) await(ctx context.Context, brokers int) error {
	return k.server.awaitUp(ctx, 100*time.Millisecond, func() bool { return kafkaAnswers(ctx, k.bootstrap(), brokers) })
}

// kafkaAnswers says whether so many brokers are registered, which is when topics can be made.
func kafkaAnswers(ctx context.Context, bootstrap string, want int) bool {
	if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", bootstrap); err != nil {
		return false
	} else {
		_ = c.Close() // it answered
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.RequestRetries(0))
	if err != nil {
		return false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	brokers, err := kadm.NewClient(client).ListBrokers(ctx)
	return err == nil && len(brokers) >= want
}

func (e *Env) upKafka(ctx context.Context) (serviceState, error) {
	return e.up("kafka", func(old serviceState) (serviceState, error) {
		k, err := e.newKafka(ctx, e.path("kafka"), old.Ports, nil)
		if err != nil {
			return serviceState{}, err
		}
		e.logf("starting Apache Kafka")
		err = k.start(ctx)
		return serviceState{
			Version:   kafkaVersion,
			Addresses: map[string]string{"bootstrap": k.bootstrap()},
			Processes: []process{k.server},
			Ports:     []int{k.port, k.controller},
		}, err
	})
}

// KafkaPeers starts count brokers for a benchmark, all of them voters of one cluster, in folders of their own below dir and in JVMs as Kafka's own start script sets
// them up. With three or more, Kafka's own topics have three replicas. stop ends them.
func (e *Env) KafkaPeers(ctx context.Context, dir string, count int, settings ...string) (bootstrap string, pids []int, stop func(), err error) {
	list, err := e.kafkaPeers(ctx, dir, count, settings)
	if err != nil {
		return "", nil, nil, err
	}
	stop = func() {
		for _, k := range list {
			_ = k.server.stop(syscall.SIGKILL, 10*time.Second) // its data is thrown away
		}
	}
	for _, k := range list {
		k.jvm = []string{"-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"}
	}
	for _, k := range list {
		if err := k.launch(); err != nil {
			stop()
			return "", nil, nil, err
		}
		pids = append(pids, k.server.PID)
	}
	for _, k := range list {
		if err := k.await(ctx, count); err != nil {
			stop()
			return "", nil, nil, err
		}
	}
	return list[0].bootstrap(), pids, stop, nil
}

// kafkaPeers are count brokers, all of them voters of one cluster, that do not run yet.
func (e *Env) kafkaPeers(ctx context.Context, dir string, count int, settings []string) (list []*kafkaInstance, err error) {
	ports, err := FreePorts(2 * count)
	if err != nil {
		return nil, err
	}
	var voters []string
	for i := range count {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[2*i+1]))
	}
	for i := range count {
		own := []string{fmt.Sprintf("node.id=%d", i+1), "controller.quorum.voters=" + strings.Join(voters, ",")} // of a name that is there twice the last counts
		if count >= 3 {
			for _, name := range []string{"offsets.topic", "transaction.state.log", "share.coordinator.state.topic"} {
				own = append(own, name+".replication.factor=3")
			}
			own = append(own, "transaction.state.log.min.isr=2", "share.coordinator.state.topic.min.isr=2")
		}
		k, err := e.newKafka(ctx, filepath.Join(dir, strconv.Itoa(i+1)), ports[2*i:2*i+2], append(own, settings...))
		if err != nil {
			return nil, err
		}
		list = append(list, k)
	}
	return list, nil
}

// Kafka is the address of the shared Apache Kafka broker. Topics are not made by themselves; names are shared with other tests.
func Kafka(tb testing.TB) (bootstrap string) {
	tb.Helper()
	e, ctx := forTest(tb)
	s, err := e.upKafka(ctx)
	must(tb, "Apache Kafka", err)
	return s.Addresses["bootstrap"]
}

// NewKafka starts a broker of the test's own. settings are lines of server.properties and win over the defaults; {port} and {controller} in them
// are its ports.
func NewKafka(tb testing.TB, settings ...string) *KafkaServer {
	tb.Helper()
	e, ctx := forTest(tb)
	dir := e.private(tb, e.Dir, "kafka")
	k, err := e.newKafka(ctx, dir, nil, settings)
	must(tb, "Apache Kafka", err)
	s := &KafkaServer{Bootstrap: k.bootstrap(), tb: tb, k: k, peers: 1}
	tb.Cleanup(func() { _ = k.server.stop(syscall.SIGKILL, 10*time.Second) }) // the folder goes next
	s.Start()
	return s
}

// NewKafkaCluster starts count brokers of the test's own, each of them a voter of their cluster. Kafka's own topics have three replicas.
func NewKafkaCluster(tb testing.TB, count int, settings ...string) []*KafkaServer {
	tb.Helper()
	e, ctx := forTest(tb)
	list, err := e.kafkaPeers(ctx, e.private(tb, e.Dir, "kafka"), count, settings)
	must(tb, "Apache Kafka", err)
	var servers []*KafkaServer
	for _, k := range list {
		servers = append(servers, &KafkaServer{Bootstrap: k.bootstrap(), tb: tb, k: k, peers: count})
		tb.Cleanup(func() { _ = k.server.stop(syscall.SIGKILL, 10*time.Second) }) // the folder goes next
	}
	for _, s := range servers { // at once: none answers before most of its voters are there
		must(tb, "start Kafka", s.launch())
	}
	for _, s := range servers {
		must(tb, "start Kafka", s.k.await(ctx, count))
	}
	return servers
}

// Stop ends the broker with SIGTERM.
func (s *KafkaServer) Stop() error { return s.k.server.stop(syscall.SIGTERM, 60*time.Second) }

// Kill ends the broker with SIGKILL.
func (s *KafkaServer) Kill() {
	s.tb.Helper()
	must(s.tb, "kill Kafka", s.k.server.stop(syscall.SIGKILL, 10*time.Second))
}

// Start starts the broker again, on the same port, with its data.
func (s *KafkaServer) Start() {
	s.tb.Helper()
	must(s.tb, "start Kafka", s.TryStart())
}

// TryStart is Start with an error for what went wrong.
func (s *KafkaServer) TryStart() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := s.launch(); err != nil {
		return err
	}
	return s.k.await(ctx, s.peers)
}

// launch starts the process, and writes it down before anything else: whatever becomes of the test, the next sweep ends it.
func (s *KafkaServer) launch() error {
	if err := s.k.launch(); err != nil {
		return err
	}
	return recordPrivate(s.k.dir, s.k.server)
}

// Tools runs Apache Kafka's own command-line tools, by the Java class behind each script; or other Java programs.
type Tools struct {
	Java      string
	ClassPath string
}

// KafkaTools installs Apache Kafka's command-line tools 4.4.0, its Java clients, Streams and Connect.
func KafkaTools(tb testing.TB) Tools {
	tb.Helper()
	return javaTools(tb, "kafka-tools")
}

// Flink installs Apache Flink 2.2.1, to compile a job against and to run it in a cluster of one process.
func Flink(tb testing.TB) Tools {
	tb.Helper()
	return javaTools(tb, "flink")
}

// Spark installs Apache Spark 4.2.0, to compile a job against and to run it in local mode.
func Spark(tb testing.TB) Tools {
	tb.Helper()
	return javaTools(tb, "spark")
}

// MirrorMaker installs MirrorMaker 2 4.3.1.
func MirrorMaker(tb testing.TB) Tools {
	tb.Helper()
	return javaTools(tb, "mirror")
}

func javaTools(tb testing.TB, recipeName string) Tools {
	tb.Helper()
	e, ctx := forTest(tb)
	java, err := e.java(ctx, 17, 99)
	must(tb, "Java", err)
	jars, err := e.mavenJars(ctx, recipeName)
	must(tb, recipeName, err)
	must(tb, recipeName, writeFile(filepath.Join(jars, "log4j2.properties"), recipe("log4j2.properties")))
	return Tools{Java: java, ClassPath: jars + ":" + filepath.Join(jars, "*")}
}

// toolClasses are the classes behind the scripts of Kafka's bin folder.
var toolClasses = map[string]string{
	"connect-mirror-maker":      "org.apache.kafka.connect.mirror.MirrorMaker",
	"kafka-topics":              "org.apache.kafka.tools.TopicCommand",
	"kafka-console-producer":    "org.apache.kafka.tools.ConsoleProducer",
	"kafka-console-consumer":    "org.apache.kafka.tools.consumer.ConsoleConsumer",
	"kafka-consumer-groups":     "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
	"kafka-get-offsets":         "org.apache.kafka.tools.GetOffsetShell",
	"kafka-delete-records":      "org.apache.kafka.tools.DeleteRecordsCommand",
	"kafka-transactions":        "org.apache.kafka.tools.TransactionsCommand",
	"kafka-producer-perf-test":  "org.apache.kafka.tools.ProducerPerformance",
	"kafka-consumer-perf-test":  "org.apache.kafka.tools.ConsumerPerformance",
	"kafka-broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
	"kafka-cluster":             "org.apache.kafka.tools.ClusterTool",
	"kafka-log-dirs":            "org.apache.kafka.tools.LogDirsCommand",
	"kafka-configs":             "org.apache.kafka.tools.ConfigCommand",
	"kafka-metadata-quorum":     "org.apache.kafka.tools.MetadataQuorumCommand",
	"kafka-leader-election":     "org.apache.kafka.tools.LeaderElectionCommand",
	"kafka-reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
	"kafka-groups":              "org.apache.kafka.tools.GroupsCommand",
	"kafka-features":            "org.apache.kafka.tools.FeatureCommand",
	"kafka-e2e-latency":         "org.apache.kafka.tools.EndToEndLatency",
	"kafka-dump-log":            "org.apache.kafka.tools.DumpLogSegments",
	"kafka-verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
	"kafka-verifiable-consumer": "org.apache.kafka.tools.VerifiableConsumer",
	"connect-distributed":       "org.apache.kafka.connect.cli.ConnectDistributed",

	"kafka-streams-application-reset": "org.apache.kafka.tools.StreamsResetter",
}

// Command prepares a tool by its script's name (kafka-topics) or its class.
func (t Tools) Command(ctx context.Context, tool string, args ...string) *exec.Cmd {
	if class, ok := toolClasses[tool]; ok {
		tool = class
	}
	return exec.CommandContext(ctx, t.Java, append([]string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-cp", t.ClassPath, tool}, args...)...)
}

// Run runs a tool with stdin as its input and returns what it printed to stdout; a failure fails the test.
func (t Tools) Run(tb testing.TB, stdin, tool string, args ...string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := t.Command(ctx, tool, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s %v: %v\n%s%s", tool, args, err, out, errOut.String())
	}
	return string(out)
}

// Kcat is the path of kcat.
func Kcat(tb testing.TB) string {
	tb.Helper()
	e, ctx := forTest(tb)
	path, err := e.Tool(ctx, "kcat", "kcat")
	must(tb, "kcat", err)
	return path
}
