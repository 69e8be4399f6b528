package runtime_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/plugins/builtin"
	"github.com/forebayhub/forebay/runtime/worker"
)

// A topic that somebody made before its source may have fewer partitions than the source asks for. The source used to begin anew for ever, with
// "invalid record partitioning choice"; now its files share those that there are, each in order, and the log says so.
func TestFewerPartitionsThanAskedFor(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%c.log", 'a'+i)), fmt.Appendf(nil, "%d first\n%d second\n", i, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	log := openLog(t)
	b := benchOn(t, log)
	name := unique("few")
	if _, err := b.log.EnsureTopic(t.Context(), connectors.TopicSpec{Name: name, Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	o := worker.Options{Log: log, Group: unique("g"), Host: "h", DrainTimeout: 10 * time.Second, Registry: builtin.Registry(), Logger: slog.New(slog.NewTextHandler(&said, nil)),
		Connectors: []worker.Config{builtinSource(t, "tail", name, map[string]string{"paths": filepath.Join(dir, "*.log"), "partitions": "4"})}}
	w, stop := start(t, o)
	eventually(t, 30*time.Second, "all lines are in the log", func() bool { return w.Status()[0].Records == 20 })
	stop()
	if !bytes.Contains(said.Bytes(), []byte("has fewer partitions than the source asks for")) || bytes.Contains(said.Bytes(), []byte("will be restarted")) {
		t.Errorf("%s", &said)
	}
	in := map[string][]int32{}
	first := map[byte]bool{}
	for _, r := range b.committed(name, 2) {
		line := string(r.RawValue)
		if second := line[2:] == "second"; second != first[line[0]] {
			t.Errorf("%q is out of order", line)
		}
		first[line[0]] = true
		in[line[:1]] = append(in[line[:1]], r.Partition)
	}
	if len(in) != 10 {
		t.Errorf("lines of %d files", len(in))
	}
	for file, ps := range in {
		if len(ps) != 2 || len(slices.Compact(ps)) != 1 {
			t.Errorf("the lines of %s are in %v", file, ps)
		}
	}
}
