package interop

import (
	"bufio"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

var long = flag.Bool("long", false, "what is too long for CI: Kafka Streams is killed four times, not once")

// TestStreams counts words with Kafka Streams, exactly_once_v2. It is killed at work; its store is restored after its folder was
// taken away. Every word's counts, as read_committed sees them, are 1, 2, 3 … and none is missing or there twice.
func TestStreams(t *testing.T) {
	n := node.New(t, "--data", t.TempDir())
	n.Start()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.ConsumeTopics("counts"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopics(ctx, 4, -1, nil, "lines", "counts"); err != nil {
		t.Fatal(err)
	}
	words := &streams{t: t, tools: testenv.KafkaTools(t).JavaProgram(t, "java"), bootstrap: n.Kafka, state: filepath.Join(t.TempDir(), "state")}
	defer words.kill()

	seen := &counted{last: map[string]int64{}}
	var working sync.WaitGroup
	working.Go(func() { seen.read(ctx, client) })
	defer working.Wait()
	defer cancel()
	enough, sent := make(chan struct{}), make(chan map[string]int64, 1)
	working.Go(func() { sent <- writeLines(ctx, t, client, enough) })

	words.start()
	seen.await(ctx, t, 2000)
	kills := 1
	if *long {
		kills = 4
	}
	for k := range kills {
		words.kill()
		wiped := k%2 == 0
		if wiped {
			if err := os.RemoveAll(words.state); err != nil {
				t.Fatal(err)
			}
		}
		restored := words.start()
		t.Logf("kill %d: %d records restored", k+1, restored)
		if wiped && restored == 0 {
			t.Error("nothing was restored after the state's folder was taken away")
		}
		seen.await(ctx, t, seen.sum()+2000)
	}
	close(enough)
	want, all := <-sent, int64(0)
	for _, c := range want {
		all += c
	}
	seen.await(ctx, t, all)
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for word, c := range want {
		if seen.last[word] != c {
			t.Errorf("%s was sent %d times and counted %d times", word, c, seen.last[word])
		}
	}
	for _, w := range seen.wrong {
		t.Error(w)
	}
	t.Logf("%d words, each counted once", all)
}

// writeLines sends lines of five words until enough, and gives how often it sent each.
func writeLines(ctx context.Context, t *testing.T, client *kgo.Client, enough <-chan struct{}) map[string]int64 {
	sent := map[string]int64{}
	tick := time.NewTicker(50 * time.Millisecond) // a pace, so that there is work at any time
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return sent
		case <-enough:
			return sent
		case <-tick.C:
		}
		var lines []*kgo.Record
		for range 20 {
			var line []string
			for range 5 {
				w := fmt.Sprintf("word%d", rand.IntN(30))
				sent[w]++
				line = append(line, w)
			}
			lines = append(lines, &kgo.Record{Topic: "lines", Value: []byte(strings.Join(line, " "))})
		}
		if err := client.ProduceSync(ctx, lines...).FirstErr(); err != nil && ctx.Err() == nil {
			t.Errorf("a line was not written: %v", err)
			return sent
		}
	}
}

// counted is what a reader of the counts has seen.
type counted struct {
	mu    sync.Mutex
	last  map[string]int64
	wrong []string
}

func (c *counted) read(ctx context.Context, client *kgo.Client) {
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		c.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			word, n := string(r.Key), int64(binary.BigEndian.Uint64(r.Value))
			if n != c.last[word]+1 && len(c.wrong) < 10 {
				c.wrong = append(c.wrong, fmt.Sprintf("%s: %d comes after %d (partition %d, offset %d)", word, n, c.last[word], r.Partition, r.Offset))
			}
			c.last[word] = n
		})
		c.mu.Unlock()
	}
}

func (c *counted) sum() (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.last {
		n += l
	}
	return n
}

func (c *counted) await(ctx context.Context, t *testing.T, n int64) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for c.sum() < n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d of %d words were counted in time", c.sum(), n)
		}
	}
}

// streams is the word count's process.
type streams struct {
	t                *testing.T
	tools            testenv.Tools
	bootstrap, state string

	cmd *exec.Cmd
}

// start runs it, and waits until it does its work; it gives how many records it had to restore.
func (s *streams) start() (restored int64) {
	s.t.Helper()
	p := program{argv: []string{s.tools.Java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", s.tools.ClassPath, "Words"}}
	cmd, log := p.command(s.t.Context(), s.bootstrap, "lines", "counts", s.state)
	if _, err := cmd.StdinPipe(); err != nil { // which stays open as long as we live
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = cmd
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "running %d", &restored); err == nil {
			return restored
		}
	}
	_ = cmd.Wait() // how it ended stands in its log
	s.t.Fatalf("Kafka Streams ended before it ran:\n%s", log.String())
	return 0
}

func (s *streams) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()         // it says that it was killed
}
