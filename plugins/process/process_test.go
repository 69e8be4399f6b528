package process

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/conformance"
	"github.com/forebayhub/forebay/connectors/spec"
)

// goExample builds the plugin that is a module of its own.
var goExample = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "forebay-plugin")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "forebay-files")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Dir = filepath.Join("..", "examples", "go")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the example: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	if asPlugin() {
		return
	}
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // of the plugins: each would take a second to end
	code := m.Run()
	if path, err := goExample(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// describe starts a plugin and gives its types; it ends with the test.
func describe(t testing.TB, o Options) (*connectors.SourceType, *connectors.SinkType, *Plugin) {
	t.Helper()
	if o.Name == "" {
		o.Name = "example"
	}
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	p := New(o)
	t.Cleanup(p.Close)
	source, sink, err := p.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return source, sink, p
}

func example(t testing.TB) Options {
	t.Helper()
	path, err := goExample()
	if err != nil {
		t.Fatal(err)
	}
	return Options{Command: []string{path}}
}

// valuesOf reads fields as YAML would give them.
func valuesOf(t testing.TB, s spec.Spec, fields map[string]string) spec.Values {
	t.Helper()
	v, findings := s.Parse(spec.FlatNode(fields))
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	return v
}

func envOf(t testing.TB, name string) connectors.Env {
	return connectors.Env{Name: name, Group: "g", Host: "h", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func TestGoSource(t *testing.T) {
	source, _, _ := describe(t, example(t))
	folder := t.TempDir()
	values := valuesOf(t, source.Spec, map[string]string{"folder": folder, "topic": "rows", "poll": "1ms"})
	n := 0
	conformance.Source(t, conformance.SourceKit{
		New: func(testing.TB) connectors.Source {
			s, err := source.New(values, envOf(t, "rows"))
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Grow: func(t testing.TB, rows int) (ids []string) {
			name := filepath.Join(folder, fmt.Sprintf("%d.csv", n%3))
			f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if at, err := f.Stat(); err == nil && at.Size() == 0 {
				fmt.Fprintln(f, "id,text")
			}
			for range rows {
				text := fmt.Sprintf("row \"%d\",\nsecond line", n)
				fmt.Fprintf(f, "%d,\"row \"\"%d\"\",\nsecond line\"\n", n, n)
				ids = append(ids, strconv.Itoa(n)+" "+text)
				n++
			}
			return ids
		},
		Identity: func(r *connectors.Record) string {
			if r.Topic != "rows" || r.Partition != -1 || len(r.Value.Value.List) != 2 {
				t.Fatalf("a record %+v", r)
			}
			return r.Value.Value.List[0].Text() + " " + r.Value.Value.List[1].Text()
		},
	})
}

func TestGoSink(t *testing.T) {
	_, sink, _ := describe(t, example(t))
	conformance.Sink(t, conformance.SinkKit{New: func(t testing.TB) (connectors.Sink, func() []string) {
		folder := t.TempDir()
		s, err := sink.New(valuesOf(t, sink.Spec, map[string]string{"folder": folder, "topics": "conformance"}), envOf(t, "lines"))
		if err != nil {
			t.Fatal(err)
		}
		return s, func() []string { return values(t, folder) }
	}})
}

// values are what the example's sink shows.
func values(t testing.TB, folder string) (out []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*", "*", "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for d := json.NewDecoder(f); d.More(); {
			var line struct{ Value string }
			if err := d.Decode(&line); err != nil {
				t.Fatal(err)
			}
			out = append(out, line.Value)
		}
		_ = f.Close()
	}
	return out
}
