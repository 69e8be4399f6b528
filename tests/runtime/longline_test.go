package runtime_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/plugins/builtin"
	"github.com/forebayhub/forebay/runtime/worker"
)

// A line that is longer than its topic takes is cut as one is that is longer than max_line: it used to end the source for good. The topic is as an
// administrator makes it, with Kafka's default of max.message.bytes, and its source may use what headers and transforms leave. The audit cuts alike.
func TestLinesLongerThanTheTopicTakes(t *testing.T) {
	dir := t.TempDir()
	long := append(bytes.Repeat([]byte("0123456789abcdef"), 3<<16), '\n') // 3 MiB
	if err := os.WriteFile(filepath.Join(dir, "a.log"), append([]byte("before\n"), append(long, "behind\n"...)...), 0o644); err != nil {
		t.Fatal(err)
	}
	log := openLog(t)
	b := benchOn(t, log)
	name := unique("long")
	if _, err := b.log.EnsureTopic(t.Context(), connectors.TopicSpec{Name: name, Configs: map[string]string{"max.message.bytes": "1048588"}}); err != nil {
		t.Fatal(err)
	}
	o := worker.Options{Log: log, Group: unique("g"), Host: "h", DrainTimeout: 10 * time.Second, Registry: builtin.Registry()}
	c := builtinSource(t, "tail", name, map[string]string{"paths": filepath.Join(dir, "*.log"), "max_line": "2MiB", "transforms.0.type": "header", "transforms.0.name": "env", "transforms.0.value": "prod"})
	o.Connectors = []worker.Config{c}
	w, stop := start(t, o)
	eventually(t, 30*time.Second, "all is in the log, or never will be", func() bool { s := w.Status()[0]; return s.Records == 6 || s.State == worker.Failed })
	why := w.Status()[0].Error
	stop()
	var got []byte
	lines := b.committed(name, 1)
	for i, r := range lines {
		if got = append(got, r.RawValue...); i == 0 || i >= len(lines)-2 {
			got = append(got, '\n')
		}
	}
	want, err := os.ReadFile(filepath.Join(dir, "a.log"))
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 6 || !bytes.Equal(got, want) {
		t.Fatalf("%d records with %d bytes instead of %d: %s", len(lines), len(got), len(want), why)
	}
	if res := audited(t, o, c); counts(res) != name+" agreed=6 missing=0 doubled=0 different=0\n" {
		t.Error(counts(res), res.Sources[0].List, res.Incomplete)
	}
}
