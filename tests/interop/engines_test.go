//go:build long

package interop

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/testenv"
)

// opened are the packages of Java's that Flink and Spark look into.
var opened = []string{
	"--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.lang.invoke=ALL-UNNAMED", "--add-opens=java.base/java.lang.reflect=ALL-UNNAMED",
	"--add-opens=java.base/java.io=ALL-UNNAMED", "--add-opens=java.base/java.net=ALL-UNNAMED", "--add-opens=java.base/java.nio=ALL-UNNAMED",
	"--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED", "--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED",
	"--add-opens=java.base/java.text=ALL-UNNAMED", "--add-opens=java.base/java.time=ALL-UNNAMED", "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
	"--add-opens=java.base/sun.nio.ch=ALL-UNNAMED", "--add-opens=java.base/sun.nio.cs=ALL-UNNAMED", "--add-opens=java.base/sun.security.action=ALL-UNNAMED",
	"--add-opens=java.base/sun.util.calendar=ALL-UNNAMED",
}

// TestFlink counts words with Apache Flink, its KafkaSink EXACTLY_ONCE, which is killed twice at work and goes on from its newest checkpoint.
// POOLING looks for its open transactions by ListTransactions, INCREMENTING aborts what may be open by names.
func TestFlink(t *testing.T) {
	tools := testenv.Flink(t).JavaProgram(t, "flink")
	argv := append([]string{tools.Java, "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}, opened...)
	argv = append(argv, "-cp", tools.ClassPath, "FlinkWords")
	for _, naming := range []string{"INCREMENTING", "POOLING"} {
		t.Run(naming, func(t *testing.T) {
			onOneAndThree(t, func(t *testing.T, _ int, bootstrap string) {
				countWords(t, bootstrap, program{argv: argv, last: []string{naming}}, []kill{resume, resume})
			})
		})
	}
}

// TestSpark copies a topic with Spark Structured Streaming into a topic and into files, and is killed twice at work. Its files have every line
// once; its sink for Kafka is at least once by design, so a line may be twice in the topic: then with the same key, by which its readers
// leave it out.
func TestSpark(t *testing.T) {
	tools := testenv.Spark(t).JavaProgram(t, "spark")
	argv := append([]string{tools.Java, "-Xmx1g", "-XX:+UseSerialGC"}, opened...)
	p := program{argv: append(argv, "-cp", tools.ClassPath, "SparkCopy")}
	onOneAndThree(t, func(t *testing.T, _ int, bootstrap string) { copyBySpark(t, bootstrap, p) })
}

func copyBySpark(t *testing.T, bootstrap string, p program) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.ConsumeTopics("counts"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopics(ctx, 4, -1, nil, "lines", "counts"); err != nil {
		t.Fatal(err)
	}
	job := &counter{t: t, program: p, bootstrap: bootstrap, state: t.TempDir()}
	defer job.kill()
	written := 0
	write := func() {
		t.Helper()
		var lines []*kgo.Record
		for range 5000 {
			lines = append(lines, &kgo.Record{Topic: "lines", Value: []byte(numbered(written))})
			written++
		}
		if err := client.ProduceSync(ctx, lines...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	byKey, records := map[string]string{}, 0
	await := func(n int) {
		t.Helper()
		for len(byKey) < n {
			fetches := client.PollFetches(ctx)
			if ctx.Err() != nil {
				t.Fatalf("%d of %d lines were copied in time", len(byKey), n)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				records++
				if before, ok := byKey[string(r.Key)]; ok && before != string(r.Value) {
					t.Errorf("key %s has %q and %q", r.Key, before, r.Value)
				}
				byKey[string(r.Key)] = string(r.Value)
			})
		}
	}
	write()
	job.start()
	await(1000)
	for range 2 {
		write()
		await(len(byKey) + 1000)
		job.kill()
		if job.start() == 0 {
			t.Error("it did not go on from its checkpoint")
		}
	}
	await(written)
	lines := map[string]int{}
	for _, line := range byKey {
		lines[line]++
	}
	once(t, "the topic by its keys", lines, written)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	files := map[string]int{}
	for len(files) < written {
		select {
		case <-tick.C:
			files = sparkFiles(t, filepath.Join(job.state, "files"))
		case <-ctx.Done():
			t.Fatalf("%d of %d lines are in files in time", len(files), written)
		}
	}
	once(t, "the files", files, written)
	t.Logf("%d lines, each once in the files; %d records in the topic", written, records)
}

func once(t *testing.T, where string, lines map[string]int, n int) {
	t.Helper()
	for i := range n {
		if c := lines[numbered(i)]; c != 1 {
			t.Fatalf("%s: %q is there %d times", where, numbered(i), c)
		}
	}
	if len(lines) != n {
		t.Errorf("%s: %d lines of %d", where, len(lines), n)
	}
}

// sparkFiles counts the lines of the files that Spark's log of its sink names: other files are of batches that were cut short.
func sparkFiles(t *testing.T, dir string) map[string]int {
	t.Helper()
	batches, err := filepath.Glob(filepath.Join(dir, "_spark_metadata", "[0-9]*"))
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	for _, b := range batches {
		text, err := os.ReadFile(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range strings.Split(string(text), "\n")[1:] { // after the version
			var added struct{ Path string }
			if err := json.Unmarshal([]byte(entry), &added); err == nil {
				paths[strings.TrimPrefix(added.Path, "file://")] = true
			}
		}
	}
	lines := map[string]int{}
	for path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			lines[strings.TrimSuffix(line, "\n")]++
		}
	}
	return lines
}
