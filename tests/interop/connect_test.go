package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// TestConnect has two workers of Kafka Connect with exactly.once.source.support=enabled copy a growing file into a topic, and that into
// another file. The worker that runs the source's task is killed at work and comes back. The topic, as read_committed sees it, has every
// line once and in order. So has the file, unless its own task was killed: FileStreamSink then writes again what it had not committed.
func TestConnect(t *testing.T) {
	t.Parallel()
	t.Run("one node", func(t *testing.T) {
		n := node.New(t, "--data", t.TempDir())
		n.Start()
		copyByConnect(t, n.Kafka, 1)
	})
	if !long {
		return
	}
	onOneAndThree(t, func(t *testing.T, _ int, bootstrap string) { copyByConnect(t, bootstrap, 4) })
}

func copyByConnect(t *testing.T, bootstrap string, kills int) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.ConsumeTopics("lines"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopics(ctx, 1, -1, nil, "lines"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	lines := &copied{}
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel()
	working.Go(func() { lines.read(ctx, client) })
	enough, wrote := make(chan struct{}), make(chan int, 1)
	working.Go(func() { wrote <- growFile(ctx, t, in, enough) })

	tools := testenv.KafkaTools(t).JavaProgram(t, "connect")
	workers := []*connectWorker{newConnectWorker(t, tools, bootstrap), newConnectWorker(t, tools, bootstrap)}
	for _, w := range workers {
		w.start()
	}
	for _, w := range workers {
		w.await(ctx, "answers", func() bool { return w.call(ctx, http.MethodGet, "/connectors", nil, nil) == nil })
	}
	put := func(name string, config map[string]string) {
		t.Helper()
		workers[0].await(ctx, name+" is taken", func() bool { // 409 while the workers share out their work
			return workers[0].call(ctx, http.MethodPut, "/connectors/"+name+"/config", config, nil) == nil
		})
	}
	put("source", map[string]string{"connector.class": "FileStreamSource", "tasks.max": "1", "file": in, "topic": "lines", "exactly.once.support": "required"})
	put("sink", map[string]string{"connector.class": "FileStreamSink", "tasks.max": "1", "file": out, "topics": "lines"})
	lines.await(ctx, t, 1000)

	sinkKilled := false
	for k := range kills {
		source, sink := running(ctx, workers, "source"), running(ctx, workers, "sink")
		victim := source
		if k%2 == 1 {
			victim = sink
		}
		sinkKilled = sinkKilled || victim == sink
		victim.kill()
		lines.await(ctx, t, lines.count()+1000)
		victim.start()
		victim.await(ctx, "answers again", func() bool { return victim.call(ctx, http.MethodGet, "/connectors", nil, nil) == nil })
		lines.await(ctx, t, lines.count()+500)
	}
	close(enough)
	all := <-wrote
	lines.await(ctx, t, all)
	for _, w := range lines.wrongs() {
		t.Error(w)
	}
	sunk := func() []string {
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
	workers[0].await(ctx, "the sink has written the last line", func() bool { return slices.Contains(sunk(), numbered(all-1)) })
	text, next := sunk(), 0
	for _, line := range text {
		if line == numbered(next) {
			next++
		}
	}
	if next != all || (len(text) != all && !sinkKilled) {
		t.Errorf("the sink's file has %d lines, of %d that were written the first %d in order", len(text), all, next)
	}
	t.Logf("%d lines, each once in the topic; %d in the sink's file", all, len(text))
}

func numbered(i int) string { return fmt.Sprintf("line %d", i) }

// growFile appends lines until enough, and gives how many.
func growFile(ctx context.Context, t *testing.T, path string, enough <-chan struct{}) (n int) {
	f, err := os.Create(path)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer f.Close()
	tick := time.NewTicker(20 * time.Millisecond) // a pace, so that there is work at any time
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return n
		case <-enough:
			return n
		case <-tick.C:
		}
		var text bytes.Buffer
		for range 5 {
			fmt.Fprintln(&text, numbered(n))
			n++
		}
		if _, err := f.Write(text.Bytes()); err != nil {
			t.Error(err)
			return n
		}
	}
}

// copied is what a reader of the topic has seen: lines 0, 1, 2 … or what was wrong.
type copied struct {
	mu    sync.Mutex
	next  int
	wrong []string
}

func (c *copied) read(ctx context.Context, client *kgo.Client) {
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		c.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			if line := string(r.Value); line != numbered(c.next) && len(c.wrong) < 10 {
				c.wrong = append(c.wrong, fmt.Sprintf("offset %d has %q, not %q", r.Offset, line, numbered(c.next)))
			}
			c.next++
		})
		c.mu.Unlock()
	}
}

func (c *copied) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

func (c *copied) wrongs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.wrong)
}

func (c *copied) await(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for c.count() < n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d of %d lines came in time; wrong: %v", c.count(), n, c.wrongs())
		}
	}
}

// connectWorker is one process of Kafka Connect.
type connectWorker struct {
	*javaProcess
	address string // of its REST API, and its name among the workers
}

func newConnectWorker(t *testing.T, tools testenv.Tools, bootstrap string) *connectWorker {
	address := testenv.FreeAddr(t)
	return &connectWorker{address: address, javaProcess: newJavaProcess(t, tools, "connect-distributed", fmt.Sprintf(`bootstrap.servers=%s
group.id=connect
listeners=http://%s
exactly.once.source.support=enabled
config.storage.topic=connect-configs
config.storage.replication.factor=-1
offset.storage.topic=connect-offsets
offset.storage.partitions=5
offset.storage.replication.factor=-1
status.storage.topic=connect-status
status.storage.partitions=2
status.storage.replication.factor=-1
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
consumer.isolation.level=read_committed
offset.flush.interval.ms=1000
session.timeout.ms=6000
heartbeat.interval.ms=1000
scheduled.rebalance.max.delay.ms=1000
plugin.discovery=service_load
`, bootstrap, address))}
}

// call is a request to the worker's REST API.
func (w *connectWorker) call(ctx context.Context, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+w.address+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// running is the worker that runs a connector's task.
func running(ctx context.Context, workers []*connectWorker, connector string) (by *connectWorker) {
	workers[0].t.Helper()
	workers[0].await(ctx, "the task of "+connector+" runs", func() bool {
		var status struct {
			Tasks []struct {
				State  string `json:"state"`
				Worker string `json:"worker_id"`
			} `json:"tasks"`
		}
		if err := workers[0].call(ctx, http.MethodGet, "/connectors/"+connector+"/status", nil, &status); err != nil || len(status.Tasks) != 1 || status.Tasks[0].State != "RUNNING" {
			return false
		}
		for _, w := range workers {
			if w.address == status.Tasks[0].Worker {
				by = w
			}
		}
		return by != nil
	})
	return by
}

func (w *connectWorker) await(ctx context.Context, what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(2 * time.Minute); !ok(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("worker %s: not in time: %s", w.address, what)
		case <-deadline:
			w.t.Fatalf("worker %s: not within 2 minutes: %s", w.address, what)
		}
	}
}
