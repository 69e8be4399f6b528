// Package crash is the main job with the power of a hostile operator: a real
// PostgreSQL that never stops changing, log files that rotate, a real HDFS, and
// a Forebay that is killed again and again. What lands is read by pyarrow.
package crash

import (
	"context"
	"encoding/json"
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

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	rows     = flag.Int("rows", 20_000, "row changes")
	lines    = flag.Int("lines", 20_000, "log lines")
	kills    = flag.Int("kills", 6, "SIGKILLs of Forebay")
	external = flag.Int("kafka-kills", 5, "SIGKILLs of Forebay when the log is an Apache Kafka")
	servers  = flag.Bool("servers", false, "kill a datanode and PostgreSQL once, too")
	seed     = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of changes and kill times")
)

// TestEmbedded streams through the embedded log.
func TestEmbedded(t *testing.T) {
	job{rows: *rows, lines: *lines, kills: *kills, servers: *servers}.run(t)
}

// TestApacheKafka streams through an Apache Kafka 4.4 that stands in for the embedded log.
func TestApacheKafka(t *testing.T) {
	job{rows: *rows / 2, lines: *lines / 2, kills: *external, bootstrap: testenv.Kafka(t)}.run(t)
}

type job struct {
	rows, lines, kills int
	servers            bool
	bootstrap          string
}

func (j job) run(t *testing.T) {
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, uint64(len(j.bootstrap))))
	dir := t.TempDir()
	pg := testenv.NewPostgres(t) // its own: a slot's name belongs to a whole server
	hdfs := testenv.HDFS
	if j.servers {
		hdfs = func(tb testing.TB) *testenv.HDFSCluster { return testenv.NewHDFS(tb, 2) }
	}
	lake := hdfs(t)
	db := newShop(t, pg, rand.New(rand.NewPCG(*seed, 7))) // its own: it changes rows while we kill
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o755); err != nil {
		t.Fatal(err)
	}

	config := node.WriteFile(t, dir, "job.yaml", j.config(t))
	n := node.New(t, config, "--data", filepath.Join(dir, "data"))
	env := []string{"PG_URL=" + pg.URL, "HDFS_URL=" + lake.URL, "LOGS=" + logs + "/*.log*"}
	n.Setenv(env...)
	n.Start()

	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); db.change(j.rows) }()
	var counts map[string]int
	go func() { defer wg.Done(); counts = writeLogs(t, logs, j.lines) }()
	written := make(chan struct{})
	go func() { wg.Wait(); close(written) }()

	for k := range j.kills {
		wait(written, time.Duration(500+random.IntN(2500))*time.Millisecond)
		t.Logf("kill %d of %d", k+1, j.kills)
		n.Kill()
		switch {
		case j.servers && k == j.kills/3:
			lake.KillDataNode(1)
		case j.servers && k == j.kills/3+1:
			lake.StartDataNode(1)
		case j.servers && k == j.kills/2:
			pg.Kill()
			pg.Start()
		}
		n.Start()
	}
	<-written
	if db.err != nil {
		t.Fatal(db.err)
	}
	for _, sink := range []string{"lake", "logs"} {
		out, code := node.Run(t, env, "audit", config, sink, "--bootstrap", n.Kafka, "--http", n.HTTP)
		t.Logf("forebay audit %s:\n%s", sink, out)
		if code != 0 {
			t.Errorf("audit of %s ended with %d", sink, code)
		}
	}
	if err := n.Stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}

	truth, err := json.Marshal(map[string]any{"tables": db.tables(), "lines": counts})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(testenv.Python(t), "verify.py", lake.WebHDFS, lake.User, lake.Root, node.WriteFile(t, dir, "truth.json", string(truth))).CombinedOutput()
	t.Logf("verify.py:\n%s", out)
	if err != nil {
		t.Errorf("the files in HDFS do not replay to the truth: %v", err)
	}
}

func (j job) config(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testenv.RepoRoot(t), "configs", "databases-and-logs-to-hdfs.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := strings.ReplaceAll(string(text), "${ROTATE:-1m}", "1s")
	if config == string(text) {
		t.Fatal("the example config has no ${ROTATE:-1m} to shorten")
	}
	if j.bootstrap != "" {
		config = fmt.Sprintf("core:\n  bootstrap: [%s]\n", j.bootstrap) + config
		// Other tests may use the same broker: their topics must not be ours.
		unique := fmt.Sprintf("k%d_", time.Now().UnixNano())
		config = strings.NewReplacer("weblogs", unique+"weblogs", "  shop:", "  "+unique+"shop:", "shop.public", unique+"shop.public").Replace(config)
	}
	return config
}

// wait lets d pass, or less when the work is done.
func wait(done <-chan struct{}, d time.Duration) {
	select {
	case <-done:
	case <-time.After(d):
	}
}

// writeLogs appends numbered lines to two files and rotates each by renaming, as logrotate does,
// keeping every rotated file. Each write is a few lines, sometimes cut in the middle.
func writeLogs(t *testing.T, dir string, total int) map[string]int {
	counts := map[string]int{"a": total / 2, "b": total - total/2}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	next := map[string]int{}
	pad := strings.Repeat("x", 120)
	for rotation := 0; next["a"] < counts["a"] || next["b"] < counts["b"]; rotation++ {
		for _, name := range []string{"a", "b"} {
			path := filepath.Join(dir, name+".log")
			if rotation > 0 {
				if err := os.Rename(path, fmt.Sprintf("%s.%d", path, rotation)); err != nil && !os.IsNotExist(err) {
					t.Error(err)
					return counts
				}
			}
			f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
			if err != nil {
				t.Error(err)
				return counts
			}
			for i := 0; i < max(500, total/20) && next[name] < counts[name]; i++ {
				line := fmt.Sprintf("%s %d %s\n", name, next[name], pad)
				cut := len(line)
				if i%7 == 0 {
					cut = len(line) / 2
				}
				_, err1 := f.WriteString(line[:cut])
				_, err2 := f.WriteString(line[cut:])
				if err1 != nil || err2 != nil {
					t.Error(err1, err2)
					return counts
				}
				next[name]++
				if i%200 == 0 {
					wait(ctx.Done(), 30*time.Millisecond)
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	return counts
}
