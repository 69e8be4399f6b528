package runtime_test

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/plugins/builtin"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

// fileSink is the file sink's type.
func fileSink(t *testing.T) connectors.SinkType {
	t.Helper()
	for _, s := range builtin.Registry().Sinks {
		if s.Name == "file" {
			return s
		}
	}
	t.Fatal("no file sink")
	return connectors.SinkType{}
}

func parsed(t *testing.T, s spec.Spec, flat map[string]string) spec.Values {
	t.Helper()
	v, findings := s.Parse(spec.FlatNode(flat))
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	return v
}

// Transforms at both ends, through ends of the worker that nobody prepared: what arrives is what they say, once each.
func TestTransformsFromSourceToFile(t *testing.T) {
	const n = 30_000
	log, dir := openLog(t), t.TempDir()
	src := &numbers{topic: unique("numbers"), n: n, typed: true}
	sink := fileSink(t)
	flat := "flat." + src.topic
	o := worker.Options{Log: log, Group: unique("g"), Host: "h", DrainTimeout: time.Millisecond}
	o.Registry.Sources = []connectors.SourceType{{Name: "numbers", New: func(spec.Values, connectors.Env) (connectors.Source, error) { return src, nil }}}
	o.Registry.Sinks = []connectors.SinkType{sink}
	o.Connectors = []worker.Config{
		{Name: "src", Type: "numbers", Values: parsed(t, worker.SourceFields, map[string]string{
			"transforms.0.type": "unwrap",
			"transforms.1.type": "filter", "transforms.1.when.field": "id", "transforms.1.when.matches": ".*7",
			"transforms.2.type": "insert", "transforms.2.field": "region", "transforms.2.value": "eu",
			"transforms.3.type": "route", "transforms.3.match": "(.*)", "transforms.3.to": "flat.$1",
		})},
		{Name: "dst" + o.Group, Type: "file", Sink: true, Values: parsed(t, sink.Spec.Join(worker.SinkFields), map[string]string{
			"url": dir, "topics": flat, "format": "json", "rotate.records": "1000", "rotate.interval": "200ms",
			"transforms.0.type": "filter", "transforms.0.when.field": "id", "transforms.0.when.matches": ".*3",
			"transforms.1.type": "rename", "transforms.1.fields": "id:n",
			"transforms.2.type": "insert", "transforms.2.field": "_o", "transforms.2.from": "offset",
		})},
	}
	for _, at := range []int64{n / 5, n / 2} {
		_, stop := start(t, o)
		eventually(t, time.Minute, "more is appended", func() bool { return src.acknowledged() >= at })
		stop()
	}
	o.DrainTimeout = 10 * time.Second
	w, stop := start(t, o)
	eventually(t, time.Minute, "everything is read", func() bool { return src.acknowledged() == n })
	l, err := hublog.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tp := connectors.TopicPartition{Topic: flat}
	ends, err := l.Offsets(t.Context(), tp)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "everything is written", func() bool {
		at, err := w.Flush(t.Context(), o.Connectors[1].Name)
		return err == nil && at[tp] >= ends[tp].End // the last marker may come after its answer
	})
	stop()
	if src.doubted != nil {
		t.Error(src.doubted)
	}
	seen := map[int64]int{}
	for _, row := range jsonRows(t, dir) {
		if row.Region != "eu" || row.Name != "n" || row.O == nil || row.ID != nil || row.N == nil {
			t.Fatalf("row %+v", row)
		}
		seen[*row.N]++
	}
	for i := range int64(n) {
		want := 1
		if i%10 == 7 || i%10 == 3 {
			want = 0
		}
		if seen[i] != want {
			t.Fatalf("%d is there %d times, not %d", i, seen[i], want)
		}
	}
	topics, err := l.Topics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if topics[src.topic].Partitions != 0 || topics[flat].Partitions != 1 {
		t.Errorf("the topic that everything is routed away from was made: %v", topics)
	}
}

type jsonRow struct {
	N, ID        *int64
	O            *int64 `json:"_o"`
	Name, Region string
}

// jsonRows are the lines of all visible files.
func jsonRows(t *testing.T, dir string) (rows []jsonRow) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(path, "_forebay") {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			var r jsonRow
			if err := json.Unmarshal(s.Bytes(), &r); err != nil {
				return err
			}
			rows = append(rows, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// A record that a transform cannot handle stops the connector, names where it lies, and loses nothing.
func TestTransformThatCannotHandleARecord(t *testing.T) {
	log := openLog(t)
	for name, c := range map[string]struct {
		sink bool
		want []string
	}{
		"source": {false, []string{"source 'src': transform 1 (extract) cannot handle the record of topic ", `before position {"next":`, "of n", "field 'zz'", "missing: skip"}},
		"sink":   {true, []string{"sink 'dst", "transform 1 (extract) cannot handle the record of ", "-0 at offset 0", "field 'zz'"}},
	} {
		t.Run(name, func(t *testing.T) {
			src := &numbers{topic: unique("n"), n: 10, typed: true}
			dst := newMemory(src.topic)
			o := options(log, src, dst)
			bad := map[string]string{"transforms.0.type": "extract", "transforms.0.of": "key", "transforms.0.field": "zz"}
			at := 0
			if c.sink {
				at = 1
				o.Connectors[1].Values = parsed(t, worker.SinkFields, bad)
			} else {
				o.Connectors[0].Values = parsed(t, worker.SourceFields, bad)
			}
			w, stop := start(t, o)
			eventually(t, 30*time.Second, "failed", func() bool { return state(w, at) == worker.Failed })
			for _, want := range c.want {
				if !strings.Contains(w.Status()[at].Error, want) {
					t.Errorf("no %q in %q", want, w.Status()[at].Error)
				}
			}
			stop()
			if dst.count() != 0 {
				t.Errorf("%d records were written", dst.count())
			}
		})
	}
}

// A sink that drops everything still moves on: its target is told how far the log was read.
func TestSinkThatDropsEverythingMovesOn(t *testing.T) {
	log, dir := openLog(t), t.TempDir()
	src := &numbers{topic: unique("n"), n: 500, typed: true}
	sink := fileSink(t)
	o := options(log, src, nil)
	o.Registry.Sinks = []connectors.SinkType{sink}
	o.Connectors = append(o.Connectors, worker.Config{Name: "dst" + o.Group, Type: "file", Sink: true, Values: parsed(t, sink.Spec.Join(worker.SinkFields), map[string]string{
		"url": dir, "topics": src.topic, "format": "json", "transforms.0.type": "filter", "transforms.0.when.topic": ".*"})})
	w, stop := start(t, o)
	eventually(t, 30*time.Second, "read", func() bool {
		at, err := w.Flush(t.Context(), o.Connectors[1].Name)
		return err == nil && at[connectors.TopicPartition{Topic: src.topic}] >= 500
	})
	stop()
	if rows := jsonRows(t, dir); len(rows) != 0 {
		t.Fatal(rows)
	}
	// A new start resumes behind what was dropped, although the log no longer holds it.
	deleteRecords(t, log, src.topic, 400)
	w, _ = start(t, o)
	eventually(t, 30*time.Second, "running again", func() bool { return state(w, 1) == worker.Running })
	if s := w.Status()[1]; s.Error != "" {
		t.Error(s.Error)
	}
}

// deleteRecords lets the log of a topic's one partition begin at an offset.
func deleteRecords(t *testing.T, log hublog.Options, topic string, at int64) {
	t.Helper()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, At: at})
	if res, err := admin(t, log).DeleteRecords(t.Context(), offsets); err != nil || res.Error() != nil {
		t.Fatal(err, res.Error())
	}
}
