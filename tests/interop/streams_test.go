package interop

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
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

// TestStreams counts words with Kafka Streams, exactly_once_v2. It is killed at work, twice; its store is restored after its folder was
// taken away.
func TestStreams(t *testing.T) {
	t.Parallel()
	kills := []kill{wipe, keep}
	if long {
		kills = []kill{wipe, keep, wipe, keep, wipe, keep}
	}
	n := node.New(t, "--data", t.TempDir())
	n.Start()
	tools := testenv.KafkaTools(t).JavaProgram(t, "java")
	countWords(t, n.Kafka, javaProgram(tools, "Words"), kills)
}

type kill int

const (
	keep   kill = iota // what the program has on disk
	resume             // keep, and it must be used
	wipe
)

// countWords has a program count the words of a topic into another, PROGRAM BOOTSTRAP FROM TO FOLDER, while it is killed. Every word's counts,
// as read_committed sees them, are 1, 2, 3 … and none is missing or there twice. The program prints "running" once it does
// its work, and how much it has restored.
func countWords(t *testing.T, bootstrap string, p program, kills []kill) {
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.ConsumeTopics("counts"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopics(ctx, 4, -1, nil, "lines", "counts"); err != nil {
		t.Fatal(err)
	}
	words := &counter{t: t, program: p, bootstrap: bootstrap, state: filepath.Join(t.TempDir(), "state")}
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
	for i, k := range kills {
		words.kill()
		if k == wipe {
			if err := os.RemoveAll(words.state); err != nil {
				t.Fatal(err)
			}
		}
		restored := words.start()
		t.Logf("kill %d: %d restored", i+1, restored)
		if k != keep && restored == 0 {
			t.Error("nothing was restored")
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

// counter is the word count's process.
type counter struct {
	t                *testing.T
	program          program
	bootstrap, state string

	cmd *exec.Cmd
	log *strings.Builder
}

// start runs it, and waits until it does its work; it gives how much it had to restore.
func (s *counter) start() (restored int64) {
	s.t.Helper()
	cmd, log := s.program.command(s.t.Context(), s.bootstrap, "lines", "counts", s.state)
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
	s.cmd, s.log = cmd, log
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "running %d", &restored); err == nil {
			go func() { _, _ = io.Copy(io.Discard, out) }() // until it ends
			return restored
		}
	}
	_ = cmd.Wait() // how it ended stands in its log
	s.t.Fatalf("it ended before it ran:\n%s", log.String())
	return 0
}

func (s *counter) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()         // it says that it was killed
	if s.t.Failed() {
		s.t.Logf("stderr: %s", s.log)
	}
	s.cmd = nil
}
