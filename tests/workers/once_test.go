package workers

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/runtime/position"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the first run's faults; the next run has the next one")
	runs   = flag.Int("runs", 5, "runs, each with a seed of its own")
	faults = flag.Int("faults", 2, "faults of a run: so many of the kinds, in the order that the seed gives")
	apache = flag.Bool("kafka", false, "the log is an Apache Kafka of the test's own, and not a node")
)

// TestExactlyOnce: rows of a PostgreSQL and lines of a log file go through three workers of one log into another database and into files, while
// workers are killed, lost, paused past their lease and changed in number, while the declaration changes, the log restarts, and a stranger's transaction hangs. After each run
// of faults everything is there once and in order: in the log, in the table, in the files.
func TestExactlyOnce(t *testing.T) {
	pg := testenv.NewPostgres(t)
	pg.Exec("CREATE TABLE t (id bigint PRIMARY KEY, note text)")
	pg.Exec("CREATE DATABASE warehouse")
	// The server keeps the slot for a reader that hangs, and what is behind the slot has nothing to do meanwhile: by default for a minute, which is as long as the test waits.
	pg.Exec("ALTER DATABASE " + pg.Database + " SET wal_sender_timeout = '10s'")
	target := strings.TrimSuffix(pg.URL, pg.Database) + "warehouse"
	dir := t.TempDir()
	w := &world{t: t, dir: dir, truth: newTruth(t, dir, pg.URL, target),
		env: []string{"PG_URL=" + pg.URL, "WAREHOUSE_URL=" + target, "LINES=" + filepath.Join(dir, "lines.log")}}
	if *apache {
		k := testenv.NewKafka(t)
		w.log, w.bootstrap = k, k.Bootstrap
	} else {
		n := node.NewCluster(t, 1, "--roles", "log")[0]
		n.Start()
		w.log, w.bootstrap = n, n.Kafka
	}
	w.truth.from(w.bootstrap)
	for i := range 4 {
		n := node.NewAt(t, node.Place{Log: filepath.Join(dir, fmt.Sprintf("worker%d.log", i+1)), Do: func(fn func() error) error { return fn() }},
			"worker", "--bootstrap", w.bootstrap, "--http", testenv.FreeAddr(t))
		n.Setenv(w.env...)
		if w.workers = append(w.workers, n); i < 3 {
			n.Start()
		}
	}
	w.declare()
	end := w.truth.write()
	defer end()
	w.watcher = look(t, []string{"lines", "shop", "files", "lake", "warehouse"}, w.workers)
	defer w.watcher.stop()
	w.watcher.settled(3)

	lines, rows, befell := 0, 0, 0
	for i := range *runs {
		began, s := time.Now(), *seed+uint64(i)
		r := rand.New(rand.NewPCG(s, 1))
		var said []string
		for _, k := range r.Perm(len(kinds))[:min(*faults, len(kinds))] {
			w.truth.pass(time.Duration(r.IntN(500)) * time.Millisecond)
			said = append(said, fmt.Sprintf("%s %s", kinds[k].name, kinds[k].do(w, r)))
		}
		lines, rows = w.truth.check()
		befell += len(said)
		t.Logf("run with -seed=%d -runs=1: %s: %d lines and %d rows, each once; %v", s, strings.Join(said, ", "), lines, rows, time.Since(began).Round(100*time.Millisecond))
	}
	end()
	out, code := node.Run(t, w.env, "audit", w.file, "lake", "--wait", "30s", "--bootstrap", w.bootstrap, "--http", w.workers[0].Flag("--http"))
	if t.Logf("forebay audit lake:\n%s", out); code != 0 {
		t.Errorf("the audit of the rows in files ended with %d", code)
	}
	for i, n := range w.workers[:3] {
		if err := n.Stop(); err != nil {
			t.Errorf("SIGTERM to worker %d: %v", i+1, err)
		}
	}
	if err := w.log.Stop(); err != nil {
		t.Errorf("SIGTERM to the log: %v", err)
	}
	t.Logf("soak: %d runs, %d faults: %d lines and %d rows, each once and in order in the log, in files and in a table", *runs, befell, lines, rows)
}

// world is what the faults happen to.
type world struct {
	t   *testing.T
	dir string
	env []string
	log interface {
		Start()
		Kill()
		Stop() error
	}
	bootstrap string       // of the log
	workers   []*node.Node // three, and one that comes and goes
	file      string       // what is declared
	changes   int
	truth     *truth
	watcher   *watcher
}

// declare changes how three of the connectors are configured, and nothing of what they do.
func (w *world) declare() {
	w.t.Helper()
	w.changes++
	config := fmt.Sprintf(`sources:
  lines: {type: tail, paths: ["${LINES}"]}
  shop: {type: postgres, url: "${PG_URL}", tables: [public.t], heartbeat: %dms}
sinks:
  files: {type: file, url: %s/files, topics: [lines], format: text, rotate: {interval: %dms}}
  lake: {type: file, url: %s/lake, topics: ["shop.public.*"], format: json, rotate: {interval: 1s}}
  warehouse: {type: postgres, url: "${WAREHOUSE_URL}", topics: ["shop.public.*"], mode: append}
`, 1000+w.changes%2, w.dir, 700+w.changes%2, w.dir)
	w.file = node.WriteFile(w.t, w.dir, "job.yaml", config)
	if out, code := node.Run(w.t, nil, "apply", w.file, "--http", w.workers[0].Flag("--http")); code != 0 {
		w.t.Fatalf("apply ended with %d:\n%s", code, out)
	}
}

// kinds of faults. Each ends with all at work.
var kinds = []struct {
	name string
	do   func(w *world, r *rand.Rand) string
}{
	{"kill", func(w *world, r *rand.Rand) string { // and back before anybody has taken over
		i := r.IntN(3)
		w.workers[i].Kill()
		w.workers[i].Start()
		w.watcher.settled(3)
		return fmt.Sprint(i + 1)
	}},
	{"loss", func(w *world, r *rand.Rand) string {
		i := r.IntN(3)
		w.workers[i].Kill()
		w.watcher.settled(2)
		w.workers[i].Start()
		w.watcher.settled(3)
		return fmt.Sprint(i + 1)
	}},
	{"pause past the lease", func(w *world, r *rand.Rand) string {
		i := r.IntN(3)
		if err := w.workers[i].Pause(); err != nil {
			w.t.Fatal(err)
		}
		// Its heirs are at work. Only the slot of a database knows nothing of leases: the server keeps it for a reader that hangs.
		w.watcher.settled(2, "shop")
		w.truth.pass(time.Duration(r.IntN(1000)) * time.Millisecond)
		if err := w.workers[i].Resume(); err != nil {
			w.t.Fatal(err)
		}
		w.watcher.settled(3)
		return fmt.Sprint(i + 1)
	}},
	{"rebalance", func(w *world, r *rand.Rand) string {
		w.workers[3].Start()
		w.watcher.settled(4)
		if r.IntN(2) == 0 {
			w.workers[3].Kill()
			w.watcher.settled(3)
			return "and kill"
		}
		if err := w.workers[3].Stop(); err != nil {
			w.t.Errorf("SIGTERM to a worker: %v", err)
		}
		w.watcher.settled(3)
		return "and stop"
	}},
	{"reload", func(w *world, _ *rand.Rand) string {
		before := w.watcher.runs("shop", "files")
		w.declare()
		late := time.Now().Add(time.Minute)
		for slices.ContainsFunc(w.watcher.runs("shop", "files"), func(r run) bool { return slices.Contains(before, r) }) {
			if time.Now().After(late) {
				w.t.Fatal("not within a minute: what is declared runs")
			}
			w.truth.pass(lookEvery)
		}
		w.watcher.settled(3)
		return fmt.Sprint(w.changes)
	}},
	{"restart of the log", func(w *world, r *rand.Rand) string {
		said := "after a kill"
		if r.IntN(2) == 0 {
			w.log.Kill()
		} else if said = "in good order"; w.log.Stop() != nil {
			w.t.Error("the log does not end in good order")
		}
		w.truth.pass(time.Duration(r.IntN(2000)) * time.Millisecond)
		w.log.Start()
		w.watcher.settled(3)
		return said
	}},
	{"hung neighbour", func(w *world, r *rand.Rand) string {
		topic, i := []string{position.Topic, "lines"}[r.IntN(2)], r.IntN(3)
		end := w.hang(topic)
		w.truth.pass(time.Duration(r.IntN(1000)) * time.Millisecond)
		w.workers[i].Kill() // what begins anew must find where it stood, though nobody can read that far
		w.workers[i].Start()
		if topic == position.Topic {
			w.watcher.settled(3)
		}
		end(r.IntN(2) == 0)
		w.watcher.settled(3)
		return fmt.Sprintf("in %s, kill %d", topic, i+1)
	}},
}

// hang begins a stranger's transaction. end aborts it, or leaves it to its timeout.
func (w *world) hang(topic string) (end func(abort bool)) {
	w.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.bootstrap), kgo.TransactionalID("stranger"), kgo.TransactionTimeout(10*time.Second), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err == nil {
		err = cl.BeginTransaction()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	key := position.Scope{Group: "strangers", Source: "s"}.Key("k")
	if err := cl.ProduceSync(w.t.Context(), &kgo.Record{Topic: topic, Key: key, Value: []byte("{}")}).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	return func(abort bool) {
		defer cl.Close()
		if !abort {
			return
		}
		if err := cl.EndTransaction(w.t.Context(), kgo.TryAbort); err != nil {
			w.t.Errorf("abort the stranger's transaction: %v", err) // it was open for less than its timeout
		}
	}
}
