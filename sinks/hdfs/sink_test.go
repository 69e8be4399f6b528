package hdfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/testenv"
)

// The log of these tests is a function of the offset; every third offset is no record, as after aborted transactions.
const logEnd = 60_000

var (
	shopKey = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}}}}
	shopRow = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{
		{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}},
		{Name: "name", Schema: &schema.Schema{Kind: schema.String, Optional: true}},
		{Name: "at", Schema: &schema.Schema{Kind: schema.Int64, Name: "io.debezium.time.MicroTimestamp", Optional: true}}}}
	tp = connectors.TopicPartition{Topic: "shop.public.orders"}
)

func logRecord(o int64) (connectors.Record, bool) {
	if o%3 == 2 {
		return connectors.Record{}, false
	}
	key := schema.Int64Of(o * 7)
	return connectors.Record{Topic: tp.Topic, Offset: o, Timestamp: time.Unix(1_700_000_000+o/20, 0), RawKey: []byte("{}"), RawValue: []byte("{}"),
		Headers: []connectors.Header{{Key: "forebay.schema", Value: []byte("1")}},
		Key:     connectors.Datum{Schema: shopKey, Value: schema.StructOf(key)},
		Change: &connectors.Change{Op: connectors.OpCreate, Row: shopRow, At: time.UnixMilli(o),
			After: schema.StructOf(key, schema.StringOf("order "+strconv.FormatInt(o, 10)), schema.Int64Of(o*1000))}}, true
}

func assignment() connectors.Assignment {
	return connectors.Assignment{TopicPartition: tp, TopicID: [16]byte{1, 2, 3}, EndOffset: logEnd}
}

func newTestSink(url string, more map[string]string) (connectors.Sink, error) {
	config := map[string]string{"url": url, "topics": tp.Topic, "format": "parquet", "partition": "dt=%Y-%m-%d/hour=%H", "rotate.records": "3000"}
	for k, v := range more {
		config[k] = v
	}
	typ := Type()
	values, findings := typ.Spec.Parse(spec.FlatNode(config))
	for _, f := range findings {
		return nil, fmt.Errorf("%s: %s", f.Path, f.Message)
	}
	return typ.New(values, connectors.Env{Name: "lake", Group: "test", Logger: slog.New(slog.DiscardHandler)})
}

// run is one start of a task, which writes the log to its end; said is told of each commit.
func run(ctx context.Context, s connectors.Sink, id string, epoch, end int64, said func(next int64)) error {
	task := s.Task(connectors.SinkEnv{TaskID: id, Epoch: epoch, Env: connectors.Env{Name: "lake", Group: "test", Logger: slog.New(slog.DiscardHandler)}})
	err := func() error {
		if err := task.Open(ctx); err != nil {
			return err
		}
		at, err := task.Recover(ctx, []connectors.Assignment{assignment()})
		if err != nil {
			return err
		}
		commit := func(cause connectors.Cause) error {
			tokens, err := task.Prepare(ctx, []connectors.TopicPartition{tp}, cause)
			for _, t := range tokens {
				if err == nil {
					if err = task.Commit(ctx, t); err == nil {
						said(t.Next)
					}
				}
			}
			return err
		}
		for o := at[tp]; o < end; {
			var batch []connectors.Record
			for ; o < end && len(batch) < 500; o++ {
				if r, ok := logRecord(o); ok {
					batch = append(batch, r)
				}
			}
			rejects, err := task.Write(ctx, batch)
			if err != nil || len(rejects) > 0 {
				return errors.Join(err, fmt.Errorf("%d rejects", len(rejects)))
			}
			if len(task.Tick(time.Now())) > 0 {
				if err := commit(connectors.CauseDue); err != nil {
					return err
				}
			}
		}
		return commit(connectors.CauseShutdown)
	}()
	return errors.Join(err, task.Close())
}

// TestMain lets this program be its own child: a sink that can be killed for real.
func TestMain(m *testing.M) {
	if url := os.Getenv("FOREBAY_TEST_SINK"); url != "" {
		if err := child(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child runs tasks until the log is written, with a new one after each error, as the runtime does.
func child(url string) error {
	s, err := newTestSink(url, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	epoch := time.Now().UnixMicro()
	var pause backoff
	for {
		err := run(ctx, s, fmt.Sprintf("task-%d-%d", os.Getpid(), epoch), epoch, logEnd, func(next int64) { fmt.Println("committed", next) })
		if err == nil {
			fmt.Println("done")
			return nil
		}
		fmt.Println("again after:", strings.ReplaceAll(err.Error(), "\n", "; "))
		if connectors.IsFatal(err) || pause.wait(ctx) != nil {
			return err
		}
		epoch++
	}
}

// killedAgainAndAgain kills the sink with SIGKILL after its nth commit, one datanode once, and restarts the namenode once.
func killedAgainAndAgain(t *testing.T, h *testenv.HDFSCluster) {
	url := h.URL + "/lake"
	for round, commits := range []int{2, 1, 3, 1, 2, 1 << 30} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), "FOREBAY_TEST_SINK="+url, "HADOOP_USER_NAME=root")
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		finished, lines := false, bufio.NewScanner(out)
		for seen := 0; seen < commits && lines.Scan(); {
			line := lines.Text()
			if strings.HasPrefix(line, "committed") {
				seen++
			} else {
				t.Logf("round %d: %s", round, line)
			}
			finished = finished || line == "done"
			if round == 3 && seen == 1 {
				h.KillDataNode(2)
			}
			if round == 5 && seen == 1 && strings.HasPrefix(line, "committed") {
				h.KillNameNode()
				h.StartNameNode()
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		cancel()
		if round == 3 {
			h.StartDataNode(2)
		}
		if last := commits == 1<<30; last != finished {
			t.Fatalf("round %d: finished is %v", round, finished)
		}
	}
	checkLake(t, h, url)
}

// checkLake reads everything back: by the sink's own audit, and by pyarrow over WebHDFS.
func checkLake(t *testing.T, h *testenv.HDFSCluster, url string) {
	t.Helper()
	s, err := newTestSink(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	o, want := int64(0), int64(0)
	agreed, err := s.(connectors.SinkAuditor).Audit(t.Context(), connectors.SinkEnv{TaskID: "audit"}, assignment(), logEnd,
		func() (*connectors.Record, error) {
			for ; o < logEnd; o++ {
				if r, ok := logRecord(o); ok {
					o++
					want++
					return &r, nil
				}
			}
			return nil, io.EOF
		}, func(d connectors.Difference) { t.Errorf("audit: %s: %s", d.Where, d.What) })
	if err != nil || agreed != logEnd/3*2 {
		t.Errorf("audit: %d records agree, want %d; %v", agreed, logEnd/3*2, err)
	}
	root := strings.TrimPrefix(url, "hdfs://"+h.NameNode)
	cmd := exec.CommandContext(t.Context(), testenv.Python(t), "-c", readLake, h.WebHDFS, root, strconv.Itoa(logEnd))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("pyarrow: %v\n%s", err, out)
	}
	tg := target(t, url)
	if left, err := tg.ReadDir(t.Context(), "_forebay/tmp"); err != nil || len(left) != 0 {
		t.Errorf("temp files remain: %v %v", left, err)
	}
}

const readLake = `
import sys, fsspec, pyarrow.parquet as pq
host, port = sys.argv[1].split(":")
root, end = sys.argv[2], int(sys.argv[3])
fs = fsspec.filesystem("webhdfs", host=host, port=int(port), user="root")
files = [f for f in fs.find(root) if "/_" not in f]
rows = []
for f in files:
    rows += pq.read_table(f, filesystem=fs, partitioning=None).to_pylist()
rows.sort(key=lambda r: r["_offset"])
want = [o for o in range(end) if o % 3 != 2]
assert [r["_offset"] for r in rows] == want, f"{len(rows)} rows, want {len(want)}"
for r in rows:
    o = r["_offset"]
    assert (r["id"], r["name"], r["_op"]) == (o * 7, f"order {o}", "c"), r
`

// Two tasks that resume at one offset: one commits, the other is fenced and stops.
func TestTheLoserIsFenced(t *testing.T) {
	h := testenv.HDFS(t)
	s, err := newTestSink(h.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	slow := s.Task(connectors.SinkEnv{TaskID: "slow", Epoch: 1})
	if err := slow.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Recover(ctx, []connectors.Assignment{assignment()}); err != nil {
		t.Fatal(err)
	}
	r, _ := logRecord(0)
	if _, err := slow.Write(ctx, []connectors.Record{r}); err != nil {
		t.Fatal(err)
	}
	tokens, err := slow.Prepare(ctx, []connectors.TopicPartition{tp}, connectors.CauseFlush)
	if err != nil || len(tokens) != 1 {
		t.Fatal(tokens, err)
	}
	if err := run(ctx, s, "fast", 2, 5000, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if err := slow.Commit(ctx, tokens[0]); !connectors.IsFatal(err) {
		t.Fatalf("the fenced task got %v", err)
	}
	if err := slow.Close(); err != nil {
		t.Error(err)
	}
	if err := run(ctx, s, "third", 3, logEnd, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	checkLake(t, h, h.URL)
}

// The JSON and text formats, and rotation by size, through the same path.
func TestOtherFormats(t *testing.T) {
	h := testenv.HDFS(t)
	for _, format := range []string{"json", "text"} {
		s, err := newTestSink(h.URL+"/"+format, map[string]string{"format": format, "rotate.records": "0", "rotate.size": "16KiB", "compression": "gzip"})
		if err != nil {
			t.Fatal(err)
		}
		commits := 0
		if err := run(t.Context(), s, "a", 1, 9000, func(int64) { commits++ }); err != nil {
			t.Fatal(err)
		}
		tg := target(t, h.URL+"/"+format)
		days, err := tg.ReadDir(t.Context(), tp.Topic)
		if err != nil || len(days) == 0 || !strings.HasPrefix(days[0].Name, "dt=2023-11-14") {
			t.Fatal(days, err)
		}
	}
}

func TestValidate(t *testing.T) {
	h := testenv.HDFS(t)
	if err := h.Client().CreateEmptyFile(path.Join(h.Root, "file")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ url, want string }{
		{h.URL + "/not/yet/there", ""},
		{"hdfs://127.0.0.1:1/x", "no namenode answers"},
		{"hdfs://nobody@" + h.NameNode + h.Root, "does not let user nobody write"},
		{h.URL + "/file", "is a file"},
	} {
		s, err := newTestSink(c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		findings := s.Validate(t.Context())
		if c.want == "" && len(findings) > 0 || c.want != "" && (len(findings) != 1 || !strings.Contains(findings[0].Message, c.want)) {
			t.Errorf("%s: %+v", c.url, findings)
		}
	}
	left, err := h.Client().ReadDir(h.Root)
	if err != nil || len(left) != 1 {
		t.Errorf("the probe left something: %v %v", left, err)
	}
}

func TestParseURL(t *testing.T) {
	for text, want := range map[string]string{
		"hdfs://nn/lake":                "[nn:8020] /lake ",
		"hdfs://nn:9000":                "[nn:9000] / ",
		"hdfs://etl@nn1,nn2:9000/a/b/":  "[nn1:8020 nn2:9000] /a/b etl",
		"hdfs://[::1]:8020/x":           "[[::1]:8020] /x ",
		"hdfs://10.0.0.1:8020/a/../b//": "[10.0.0.1:8020] /b ",
	} {
		o, err := ParseURL(text)
		if got := fmt.Sprint(o.Namenodes, o.Root, o.User); err != nil || strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "nn:8020/x", "http://nn/x", "hdfs://", "hdfs:///x", "hdfs://nn:x/y", "hdfs://a:b@nn/x", "hdfs://nn,,nn2/x", "hdfs://@nn/x", "hdfs://nn:70000/x", "hdfs://nn/a?b"} {
		if o, err := ParseURL(text); err == nil {
			t.Errorf("%q passes as %+v", text, o)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("hdfs://etl@nn1,nn2:9000/a/b/")
	f.Add("hdfs://[::1]:8020/x")
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseURL(s)
		if err == nil && (len(o.Namenodes) == 0 || !strings.HasPrefix(o.Root, "/")) {
			t.Errorf("%q gives %+v", s, o)
		}
	})
}
