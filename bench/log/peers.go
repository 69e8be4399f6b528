package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sys/unix"

	"github.com/forebayhub/forebay/internal/testenv"
)

// broker is one side of the comparison. Without an address it takes no part.
type broker struct {
	name string
	addr string
	pids []int
	data string // its folder, or that of all its nodes

	replicas int16 // of the topics that are measured
}

// configs are those of a topic. Of three replicas two must have a record before it is acknowledged.
func (b broker) configs(more map[string]*string) map[string]*string {
	if b.replicas < 3 {
		return more
	}
	two, all := "2", map[string]*string{}
	maps.Copy(all, more)
	all["min.insync.replicas"] = &two
	return all
}

// house is what a run works with.
type house struct {
	dir                                string
	r                                  *results
	relaxed, safe, kafka, nats, rabbit broker
	three, kafkaThree                  broker // nodes of one cluster, three replicas
	client                             string // the program that loads queues
	stops                              []func()
}

// turns lets each side that is there begin in every other round.
func turns(round int, list ...broker) []broker {
	list = slices.DeleteFunc(slices.Clone(list), func(b broker) bool { return b.addr == "" })
	if len(list) == 0 {
		return nil
	}
	k := round % len(list)
	return append(slices.Clone(list[k:]), list[:k]...)
}

func (h *house) end() {
	for _, stop := range slices.Backward(h.stops) {
		stop()
	}
}

// start starts what the parts need: Forebay twice and each peer that is asked for, the clusters of three.
func (h *house) start(ctx context.Context, parts, peers []string) error {
	env, err := testenv.Default(func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	if err != nil {
		return err
	}
	if slices.Contains(parts, "replicated") {
		if err := h.startClusters(ctx, env, slices.Contains(peers, "kafka")); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(parts, func(p string) bool { return p == "throughput" || p == "latency" || p == "durable" }) {
		return nil
	}
	starts := map[string]func(context.Context, *testenv.Env) error{"kafka": h.startKafka, "nats": h.startNATS, "rabbitmq": h.startRabbitMQ, "": func(context.Context, *testenv.Env) error { return nil }}
	for _, name := range peers {
		start := starts[name]
		if start == nil {
			return fmt.Errorf("no peer %q; there are kafka, nats, rabbitmq", name)
		}
		if err := start(ctx, env); err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
	}
	var stop func()
	if h.relaxed, stop, err = startForebay(filepath.Join(h.dir, "relaxed"), "relaxed"); err != nil {
		return err
	}
	h.stops = append(h.stops, stop)
	if h.safe, stop, err = startForebay(filepath.Join(h.dir, "power-safe"), "power-safe"); err != nil {
		return err
	}
	h.stops = append(h.stops, stop)
	return nil
}

// startClusters starts three nodes of Forebay and, if it is asked for, three of Kafka.
func (h *house) startClusters(ctx context.Context, env *testenv.Env, kafka bool) error {
	free, err := testenv.FreePorts(6)
	if err != nil {
		return err
	}
	dir := filepath.Join(h.dir, "three")
	h.three = broker{name: "Forebay, 3 nodes", data: dir, replicas: 3}
	gossip := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", free[i]) }
	var waits []func() (string, error)
	for i := range 3 {
		b, wait, stop, err := launchForebay("server", "--id", strconv.Itoa(i+1), "--data", filepath.Join(dir, strconv.Itoa(i+1)), "--durability", "relaxed",
			"--peer", fmt.Sprintf("127.0.0.1:%d", free[3+i]), "--gossip", gossip(i), "--join", gossip(0)+","+gossip(1)+","+gossip(2), "--expect", "3")
		if err != nil {
			return err
		}
		h.stops, waits, h.three.pids = append(h.stops, stop), append(waits, wait), append(h.three.pids, b.pids...)
	}
	for _, wait := range waits {
		if h.three.addr, err = wait(); err != nil {
			return err
		}
	}
	if !kafka {
		return nil
	}
	dir = filepath.Join(h.dir, "kafka-three")
	addr, pids, stop, err := env.KafkaPeers(ctx, dir, 3, deleteSoon)
	if err != nil {
		return err
	}
	h.kafkaThree, h.stops = broker{"Kafka, 3 nodes", addr, pids, dir, 3}, append(h.stops, stop)
	return nil
}

// deleteSoon lets the files of a deleted topic go at once instead of a minute later, in the middle of somebody's measurement.
const deleteSoon = "log.segment.delete.delay.ms=0"

// deleteTopic deletes a topic and waits until its files are gone: that gigabytes leave the page cache is nothing the next measurement is to pay.
func (b broker) deleteTopic(ctx context.Context, admin *kadm.Client, topic string) error {
	if _, err := admin.DeleteTopic(ctx, topic); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		left := 0
		err := filepath.WalkDir(b.data, func(_ string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), topic+"-") {
				left++
			}
			return nil // what goes while it is looked at is gone
		})
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has %d folders of the deleted topic %s: %w", b.name, left, topic, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func startForebay(dir, durability string) (broker, func(), error) {
	b, wait, stop, err := launchForebay("up", "--data", dir, "--durability", durability)
	if err != nil {
		return broker{}, nil, err
	}
	b.name, b.data, b.replicas = "Forebay", dir, 1
	if durability != "relaxed" {
		b.name += " " + durability
	}
	if b.addr, err = wait(); err != nil {
		stop()
		return broker{}, nil, err
	}
	return b, stop, nil
}

// launchForebay starts a node. wait gives its address when it is ready.
func launchForebay(args ...string) (b broker, wait func() (string, error), stop func(), err error) {
	cmd := exec.Command(*program, append(args, "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set", deleteSoon)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return broker{}, nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return broker{}, nil, nil, err
	}
	wait = func() (addr string, err error) {
		var http string
		line, err := bufio.NewReader(out).ReadString('\n')
		if err == nil {
			_, err = fmt.Sscanf(line, "ready kafka=%s http=%s", &addr, &http)
		}
		if err != nil {
			return "", fmt.Errorf("forebay was not ready: %w", err)
		}
		go io.Copy(io.Discard, out) //nolint:errcheck // until it ends
		return addr, nil
	}
	return broker{pids: []int{cmd.Process.Pid}}, wait, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // its data is thrown away
	}, nil
}

func (h *house) startKafka(ctx context.Context, env *testenv.Env) error {
	dir := filepath.Join(h.dir, "kafka")
	addr, pids, stop, err := env.KafkaPeers(ctx, dir, 1, deleteSoon)
	if err != nil {
		return err
	}
	h.kafka, h.stops = broker{"Kafka", addr, pids, dir, 1}, append(h.stops, stop)
	return nil
}

// queuesDir is where the peers that do not speak Kafka's protocol are built from, in the repository's folder.
const queuesDir = "bench/queues"

// build builds a package of bench/queues.
func (h *house) build(ctx context.Context, name, pkg string) (path string, err error) {
	path = filepath.Join(h.dir, name)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, pkg)
	cmd.Dir = queuesDir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s in %s: %w\n%s", pkg, queuesDir, err, out)
	}
	return path, nil
}

// server starts a program of a group of its own that listens at addr after a while, and ends the whole group at the end.
func (h *house) server(name, addr string, cmd *exec.Cmd) error {
	out, err := os.Create(filepath.Join(h.dir, name+".log"))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	h.stops = append(h.stops, func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its data is thrown away
		<-ended                                             //nolint:errcheck // it was killed
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(time.Minute); ; {
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			_ = c.Close() // it answered
			return nil
		}
		select {
		case err := <-ended:
			ended <- err
			text, _ := os.ReadFile(out.Name()) // without it there is less to say
			return fmt.Errorf("it ended: %w\n%s", err, text)
		case <-tick.C:
		}
		if time.Now().After(limit) {
			return errors.New("it did not listen within a minute")
		}
	}
}

func (h *house) startNATS(ctx context.Context, _ *testenv.Env) error {
	path, err := h.build(ctx, "nats-server", "github.com/nats-io/nats-server/v2")
	if err != nil {
		return err
	}
	free, err := testenv.FreePorts(1)
	if err != nil {
		return err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", free[0])
	dir := filepath.Join(h.dir, "nats")
	conf := dir + ".conf"
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listen: %q\njetstream { store_dir: %q }\n", addr, dir), 0o644); err != nil {
		return err
	}
	cmd := exec.Command(path, "-c", conf)
	h.nats = broker{name: "NATS JetStream", addr: "nats://" + addr}
	return h.server("nats", addr, cmd)
}

func (h *house) startRabbitMQ(ctx context.Context, env *testenv.Env) error {
	if _, err := env.Tool(ctx, "rabbitmq-server", "rabbitmq-server"); err != nil {
		return err
	}
	// The script on the PATH becomes the user rabbitmq; the one behind it runs as who calls it.
	list, err := filepath.Glob("/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server")
	if err != nil || len(list) == 0 {
		return errors.New("no rabbitmq-server below /usr/lib/rabbitmq/lib")
	}
	dir := filepath.Join(h.dir, "rabbitmq")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	free, err := testenv.FreePorts(3)
	if err != nil {
		return err
	}
	clients, nodes, mapper := strconv.Itoa(free[0]), strconv.Itoa(free[1]), strconv.Itoa(free[2])
	addr := "127.0.0.1:" + clients
	cmd := exec.Command(list[len(list)-1])
	cmd.Env = append(os.Environ(), "HOME="+dir, "RABBITMQ_NODENAME=bench"+clients+"@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT="+clients,
		"RABBITMQ_DIST_PORT="+nodes, "ERL_EPMD_PORT="+mapper, "ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_RELAXED_COMMAND_CHECK=1",
		"RABBITMQ_MNESIA_BASE="+dir+"/db", "RABBITMQ_LOG_BASE="+dir+"/log", "RABBITMQ_ENABLED_PLUGINS_FILE="+dir+"/plugins", "RABBITMQ_PID_FILE="+dir+"/pid",
		"RABBITMQ_CONFIG_FILE="+dir+"/none", "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}")
	h.stops = append(h.stops, func() { // the port mapper is a daemon of its own
		kill := exec.Command("epmd", "-port", mapper, "-kill")
		_ = kill.Run() // it may not have come to it
	})
	h.rabbit = broker{name: "RabbitMQ quorum queue", addr: "amqp://guest:guest@" + addr + "/"}
	return h.server("rabbitmq", addr, cmd)
}

// queue puts the latency load on a peer that does not speak Kafka's protocol, if it takes part.
func (h *house) queue(ctx context.Context, b broker, kind string, rate int) error {
	if b.addr == "" {
		return nil
	}
	if h.client == "" {
		var err error
		if h.client, err = h.build(ctx, "queues", "."); err != nil {
			return err
		}
	}
	unix.Sync()
	cmd := exec.CommandContext(ctx, h.client, "-kind", kind, "-url", b.addr, "-rate", strconv.Itoa(rate), "-d", seconds.String(), "-warm-up", warmUp.String())
	var text strings.Builder
	cmd.Stderr = &text
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s at %d/s: %w\n%s", b.name, rate, err, text.String())
	}
	var ms struct{ P50, P99 float64 }
	if err := json.Unmarshal(out, &ms); err != nil {
		return fmt.Errorf("%s at %d/s: %w", b.name, rate, err)
	}
	name := fmt.Sprintf("%s, end to end %d/s", b.name, rate)
	h.r.put(name+" | p50 ms", ms.P50)
	h.r.put(name+" | p99 ms", ms.P99)
	return nil
}
