package process

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/conformance"
	"github.com/forebayhub/forebay/internal/testenv"
)

// pythonExample is the plugin in Python.
func pythonExample(t testing.TB) Options {
	script, err := filepath.Abs(filepath.Join("..", "examples", "python", "sqlite_plugin.py"))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := sumOf(script)
	if err != nil {
		t.Fatal(err)
	}
	return Options{Name: "sqlite", Command: []string{testenv.Python(t), "-B", script}, SHA256: []string{sum}}
}

// sqlite answers SQL with lines; Go has no SQLite here, and Python does.
type sqlite struct {
	in  io.Writer
	out *bufio.Reader
}

const shell = `
import json, sqlite3, sys
for line in sys.stdin:
    path, query = json.loads(line)
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    rows = db.execute(query).fetchall()
    db.close()
    print(len(rows))
    for row in rows: print(row[0])
    sys.stdout.flush()
`

func openSQLite(t testing.TB) *sqlite {
	t.Helper()
	cmd := exec.Command(testenv.Python(t), "-c", shell)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &sqlite{in: in, out: bufio.NewReader(out)}
}

func (s *sqlite) ask(t testing.TB, path, query string) []string {
	t.Helper()
	fmt.Fprintf(s.in, "[%q, %q]\n", path, query)
	line, err := s.out.ReadString('\n')
	n, nerr := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || nerr != nil {
		t.Fatalf("%s: %q, %v", query, line, err)
	}
	out := make([]string, n)
	for i := range out {
		if line, err = s.out.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		out[i] = strings.TrimSuffix(line, "\n")
	}
	return out
}

// TestPython is the kit on the plugin in Python: one process asks for its types, and one has all lives of a connector, since it takes a moment to start one.
func TestPython(t *testing.T) {
	source, sink, p := describe(t, pythonExample(t))
	p.keeps = true
	db := openSQLite(t)
	t.Run("Source", func(t *testing.T) { pythonSource(t, source, db) })
	t.Run("Sink", func(t *testing.T) { pythonSink(t, sink, db) })
	t.Run("Replay", func(t *testing.T) { pythonReplay(t, sink, db) })
}

// TestPythonOfAHost: of a source that is bound to its host each host has splits of its own, by the names that the plugin gives.
func TestPythonOfAHost(t *testing.T) {
	t.Parallel()
	o := pythonExample(t)
	dir := filepath.Dir(o.Command[2])
	o.SHA256, o.Command[2] = nil, filepath.Join(t.TempDir(), "files.py")
	script := fmt.Sprintf(`
import sys
sys.path.insert(0, %q)
from forebay_plugin import Fatal, Source, serve
class Files(Source):
    doc, host_bound = "files", True
    def plan(self, most): return ["big", "small"]
    def open(self, split, positions): raise Fatal(f"{split} of {self.host}")
serve(Files)
`, dir)
	if err := os.WriteFile(o.Command[2], []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	source, _, p := describe(t, o)
	p.keeps = true
	for _, host := range []string{"a", "b"} {
		env := envOf(t, "x")
		env.Host = host
		s, err := source.New(valuesOf(t, source.Spec, nil), env)
		if err != nil {
			t.Fatal(err)
		}
		splits, err := s.Plan(t.Context(), 2)
		if want := []connectors.Split{{ID: "big@" + host, Host: host}, {ID: "small@" + host, Host: host}}; err != nil || !slices.Equal(splits, want) {
			t.Fatalf("%v, %v; want %v", splits, err, want)
		}
		task := s.Task(splits[1])
		if err := task.Open(t.Context(), nil); err == nil || err.Error() != "small of "+host {
			t.Error(err)
		}
		_ = task.Close()
	}
}

func pythonSource(t *testing.T, source *connectors.SourceType, db *sqlite) {
	path := filepath.Join(t.TempDir(), "shop.db")
	db.ask(t, path, "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
	values := valuesOf(t, source.Spec, map[string]string{"path": path, "table": "orders", "poll": "20ms"})
	n := 0
	conformance.Source(t, conformance.SourceKit{
		New: func(testing.TB) connectors.Source {
			s, err := source.New(values, envOf(t, "shop"))
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Grow: func(t testing.TB, rows int) (ids []string) {
			insert := "INSERT INTO orders VALUES "
			for i := range rows {
				if i > 0 {
					insert += ","
				}
				n++
				insert += fmt.Sprintf("(%d, 'item %d')", n, n)
				ids = append(ids, fmt.Sprintf(`shop %d {"id": %d, "item": "item %d"}`, n, n, n))
			}
			db.ask(t, path, insert)
			return ids
		},
		Identity: func(r *connectors.Record) string { return fmt.Sprintf("%s %s %s", r.Topic, r.RawKey, r.RawValue) },
	})
}

func pythonSink(t *testing.T, sink *connectors.SinkType, db *sqlite) {
	conformance.Sink(t, conformance.SinkKit{New: func(t testing.TB) (connectors.Sink, func() []string) {
		path := filepath.Join(t.TempDir(), "lake.db")
		s, err := sink.New(valuesOf(t, sink.Spec, map[string]string{"path": path, "topics": "conformance"}), envOf(t, "lake"))
		if err != nil {
			t.Fatal(err)
		}
		return s, func() []string { return db.ask(t, path, "SELECT CAST(value AS TEXT) FROM records") }
	}})
}

// pythonReplay: a dead letter that is played again is written once, with the coordinates that it has in the log.
func pythonReplay(t *testing.T, sink *connectors.SinkType, db *sqlite) {
	path := filepath.Join(t.TempDir(), "lake.db")
	s, err := sink.New(valuesOf(t, sink.Spec, map[string]string{"path": path, "topics": "t"}), envOf(t, "lake"))
	if err != nil {
		t.Fatal(err)
	}
	task := s.Task(connectors.SinkEnv{Env: envOf(t, "lake"), Alive: func() error { return nil }})
	if err := task.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	tp := connectors.TopicPartition{Topic: "t", Partition: connectors.ReplayPartition + 3}
	next, err := task.Recover(t.Context(), []connectors.Assignment{{TopicPartition: tp, EndOffset: 1 << 40}})
	if err != nil || next[tp] != 0 {
		t.Fatal(next, err)
	}
	if _, err := task.Write(t.Context(), []connectors.Record{{Topic: "t", Partition: tp.Partition, RawValue: []byte("v"), From: &connectors.Place{Partition: 3, Offset: 42}}}); err != nil {
		t.Fatal(err)
	}
	tokens, err := task.Prepare(t.Context(), []connectors.TopicPartition{tp}, connectors.CauseFlush)
	if err != nil || len(tokens) != 1 || tokens[0].Next != 1 {
		t.Fatal(tokens, err)
	}
	if err := task.Commit(t.Context(), tokens[0]); err != nil {
		t.Fatal(err)
	}
	if err := task.Close(); err != nil {
		t.Error(err)
	}
	got := db.ask(t, path, "SELECT partition || ' ' || offset || ' ' || CAST(value AS TEXT) FROM records")
	if len(got) != 1 || got[0] != "3 42 v" {
		t.Errorf("%q", got)
	}
}
