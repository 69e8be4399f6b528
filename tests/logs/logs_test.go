// Package logs is gate 2: log lines over every kind of rotation, through
// SIGKILLs of the real binary, arrive in files exactly once and in order.
package logs

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	lines = flag.Int("lines", 300_000, "lines, over all logs")
	kills = flag.Int("kills", 10, "SIGKILLs of Forebay")
	hows  = flag.String("rotations", "rename,copytruncate,recreate", "how each of the three logs rotates: rename, recreate, copytruncate")
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of rotations and kills")
)

func TestEmbedded(t *testing.T)    { run(t, "") }
func TestApacheKafka(t *testing.T) { run(t, testenv.Kafka(t)) }

func run(t *testing.T, bootstrap string) {
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, uint64(len(bootstrap))))
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.Mkdir(in, 0o755); err != nil {
		t.Fatal(err)
	}
	source := fmt.Sprintf("lines%d", time.Now().UnixNano()) // its own topic on a shared broker
	config := fmt.Sprintf("sources:\n  %s:\n    type: tail\n    paths: [%s/*.log*]\nsinks:\n  files:\n    type: file\n    url: %s\n    topics: [%s]\n    format: text\n    rotate: {size: 4MiB, interval: 1s}\n",
		source, in, out, source)
	if bootstrap != "" {
		config = fmt.Sprintf("core:\n  bootstrap: [%s]\n", bootstrap) + config
	}
	n := node.New(t, node.WriteFile(t, dir, "c.yaml", config), "--data", filepath.Join(dir, "data"))
	n.Start()

	w := &writer{t: t, dir: in, random: random, next: map[string]int{}}
	names := []string{"access", "app", "audit"}
	rotations := strings.Split(*hows, ",")
	per := *lines / len(names)
	for step, killed := 0, 0; w.total < per*len(names); step++ {
		for i, name := range names {
			w.write(name, min(1+random.IntN(per/20), per-w.next[name]))
			if random.IntN(3) == 0 {
				w.rotate(name, rotations[i])
			}
		}
		if w.total > (killed+1)*per*len(names)/(*kills+1) && killed < *kills {
			killed++
			n.Kill()
			if random.IntN(2) == 0 { // rotations that nobody watches
				w.write(names[0], min(200, per-w.next[names[0]]))
				w.rotate(names[0], "rename")
				w.write(names[0], min(200, per-w.next[names[0]]))
			}
			n.Start()
		}
		if step%4 == 3 { // old files may go once their lines are in the log
			await(t, n.Kafka, source, w.total)
			w.purge()
		}
	}
	await(t, n.Kafka, source, w.total)
	if err := n.Stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	check(t, filepath.Join(out, source), w.next)
}

type writer struct {
	t      *testing.T
	dir    string
	random *rand.Rand
	next   map[string]int
	total  int
	turns  int
}

func (w *writer) path(name string) string { return filepath.Join(w.dir, name+".log") }

func (w *writer) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// write appends n numbered lines of many lengths.
func (w *writer) write(name string, n int) {
	f, err := os.OpenFile(w.path(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	w.must(err)
	b := bufio.NewWriter(f)
	for range n {
		fmt.Fprintf(b, "%s %d %s\n", name, w.next[name], strings.Repeat("z", w.random.IntN(300)))
		w.next[name]++
		w.total++
	}
	w.must(b.Flush())
	w.must(f.Close())
}

func (w *writer) rotate(name, how string) {
	w.turns++
	path := w.path(name)
	if _, err := os.Stat(path); err != nil {
		return
	}
	rotated := fmt.Sprintf("%s.%d", path, w.turns)
	switch how {
	case "copytruncate":
		from, err := os.Open(path)
		w.must(err)
		to, err := os.Create(rotated)
		w.must(err)
		_, err = io.Copy(to, from)
		w.must(err)
		w.must(to.Close())
		w.must(from.Close())
		w.must(os.Truncate(path, 0))
	case "recreate": // renamed, and the new file is there at once
		w.must(os.Rename(path, rotated))
		w.must(os.WriteFile(path, nil, 0o644))
	default:
		w.must(os.Rename(path, rotated))
	}
}

// purge deletes rotated files.
func (w *writer) purge() {
	old, err := filepath.Glob(filepath.Join(w.dir, "*.log.*"))
	w.must(err)
	for _, f := range old {
		w.must(os.Remove(f))
	}
}

// await waits until a consumer can read want records.
func await(t *testing.T, addr, topic string, want int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.UnknownTopicRetries(-1))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if _, err := kadm.NewClient(client).BrokerMetadata(ctx); err != nil {
		t.Fatal(err)
	}
	got := 0
	for got < want {
		fetches := client.PollFetches(ctx)
		got += fetches.NumRecords()
		if ctx.Err() != nil {
			t.Fatalf("after 90 s the log holds %d of %d lines", got, want)
		}
	}
}

// check reads the sink's files in offset order.
func check(t *testing.T, dir string, want map[string]int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files) // offsets are zero-padded
	last, wrong, total := map[string]int{}, 0, 0
	for name := range want {
		last[name] = -1
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			fields := append(strings.Fields(line), "", "")
			number, err := strconv.Atoi(fields[1])
			if err != nil || !strings.HasSuffix(line, "\n") {
				if wrong++; wrong <= 10 {
					t.Errorf("%s: torn line %q", f, line)
				}
				continue
			}
			total++
			if number != last[fields[0]]+1 {
				if wrong++; wrong <= 10 {
					t.Errorf("%s goes from %d to %d in %s", fields[0], last[fields[0]], number, filepath.Base(f))
				}
			}
			last[fields[0]] = number
		}
	}
	for name, n := range want {
		if last[name] != n-1 {
			t.Errorf("%s ends at %d, not at %d", name, last[name], n-1)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "_forebay", "tmp", "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temp files left: %v %v", left, err)
	}
	t.Logf("%d lines in %d files, %d wrong", total, len(files), wrong)
}
