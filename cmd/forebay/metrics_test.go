package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/broker"
	"github.com/forebayhub/forebay/internal/metrics"
	"github.com/forebayhub/forebay/runtime/worker"
)

// TestMetricsDocument: docs/metrics.md is what the code says.
func TestMetricsDocument(t *testing.T) {
	const name = "../../docs/metrics.md"
	want := metricsDocument()
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want {
		t.Errorf("%s is not what the code says (%v): go test ./cmd/forebay -run TestMetricsDocument -update", name, err)
	}
	valid, names := regexp.MustCompile(`^[a-z][a-z0-9_]*$`), map[string]bool{}
	for _, f := range families() {
		if !valid.MatchString(f.Name) || names[f.Name] || f.Help == "" || (f.Kind == "counter") != strings.HasSuffix(f.Name, "_total") {
			t.Errorf("%s %s: a name that is not fit, or twice there", f.Kind, f.Name)
		}
		names[f.Name] = true
	}
}

func metricsDocument() string {
	var b strings.Builder
	b.WriteString(`# Metrics

Made from the code by ` + "`go test ./cmd/forebay -run TestMetricsDocument -update`" + `.

` + "`GET /metrics`" + ` on --http gives them in Prometheus' text format. They are of one node; sum them up where a sum makes sense. Counters begin at 0 when
the process starts. What is by API, topic or group is there once there was one. [operations.md](operations.md) says which ones to watch.
`)
	section := func(title string, list []*metrics.Family) {
		b.WriteString("\n## " + title + "\n\n| Name | Kind | Labels | What it tells |\n|---|---|---|---|\n")
		for _, f := range list {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, f.Kind, strings.Join(f.Labels, ", "), f.Help)
		}
	}
	section("The log", broker.Families())
	section("Connectors", worker.Families)
	section("The process", metrics.ProcessFamilies)
	b.WriteString("\nBuckets of histograms, in seconds:")
	for _, bound := range metrics.Bounds {
		b.WriteString(" " + strconv.FormatFloat(bound.Seconds(), 'g', -1, 64))
	}
	b.WriteString(".\n")
	return b.String()
}

// startUp runs `forebay up` in this process and gives its addresses; it ends with the test.
func startUp(t *testing.T, args ...string) (kafka, web string) {
	t.Helper()
	return startRun(t, append([]string{"up", "--data", t.TempDir(), "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...)...)
}

// startRun runs a command until the test ends, and waits for its ready line.
func startRun(t *testing.T, args ...string) (kafka, web string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	done := make(chan int, 1)
	var errs strings.Builder
	go func() {
		done <- run(ctx, args, nil, in, &errs)
		_ = in.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("forebay %s ended with %d: %s", args[0], code, errs.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, serr := fmt.Sscanf(line, "ready kafka=%s http=%s", &kafka, &web); err != nil || serr != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return kafka, web
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// page is a scrape: samples by what stands before the value.
type page map[string]float64

var sampleLine = regexp.MustCompile(`^([a-z_]+)(\{([a-z]+="([^"\\]|\\.)*",?)*\})? (\S+)$`)

// scrape reads /metrics as Prometheus does, and fails for what Prometheus would refuse.
func scrape(t *testing.T, web string) (page, []string) {
	t.Helper()
	code, text := get(t, "http://"+web+"/metrics")
	if code != 200 {
		t.Fatal(code, text)
	}
	p, family, seen := page{}, "", []string(nil)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "# HELP "); ok {
			family, _, _ = strings.Cut(name, " ")
			if slices.Contains(seen, family) {
				t.Errorf("family %s comes twice", family)
			}
			seen = append(seen, family)
			continue
		}
		if strings.HasPrefix(line, "# TYPE "+family+" ") {
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil || !strings.HasPrefix(m[1], family) {
			t.Fatalf("no sample of %s: %q", family, line)
		}
		v, err := strconv.ParseFloat(m[5], 64)
		if _, twice := p[m[1]+m[2]]; err != nil || twice {
			t.Errorf("%q: %v, or twice there", line, err)
		}
		p[m[1]+m[2]] = v
	}
	return p, seen
}

// TestMetrics: a node that has done a little of everything tells it.
func TestMetrics(t *testing.T) {
	kafka, web := startUp(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if code, text := get(t, "http://"+web+"/livez"); code != 200 || text != "ok\n" {
		t.Error(code, text)
	}
	if code, text := get(t, "http://"+web+"/readyz"); code != 200 || text != "ok\n" {
		t.Error(code, text)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.DefaultProduceTopic("t"), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"),
		kgo.TransactionalID("x"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.FetchIsolationLevel(kgo.ReadUncommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const records = 10
	produce := func() {
		t.Helper()
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for range records {
			if err := client.ProduceSync(ctx, kgo.StringRecord("a record")).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	produce()
	if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	admin := kadm.NewClient(client)
	one := kadm.Offsets{}
	one.AddOffset("t", 0, 4, -1)
	if err := admin.CommitAllOffsets(ctx, "idle", one); err != nil {
		t.Fatal(err)
	}
	produce() // and is left open
	for got := 0; got < records; {
		f := client.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		got += f.NumRecords()
	}
	// Codes: one of a topic that is not there, one of Produce.
	missing := kmsg.NewPtrDeleteTopicsRequest()
	missing.TopicNames = []string{"nobody"}
	missing.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: kmsg.StringPtr("nobody")}}
	if _, err := missing.RequestWith(ctx, client); err != nil {
		t.Fatal(err)
	}
	bad := kmsg.NewPtrProduceRequest()
	bad.Acks, bad.TimeoutMillis = -1, 1000
	bad.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", TopicID: [16]byte{1}, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 0, Records: []byte("nothing")}}}}
	brokerOne := client.Broker(1)
	if _, err := brokerOne.RetriableRequest(ctx, bad); err != nil {
		t.Fatal(err)
	}

	done := map[string]float64{
		`forebay_request_seconds_count{api="Produce"}`: 2 * records, `forebay_request_seconds_bucket{api="Produce",le="+Inf"}`: 2 * records,
		`forebay_request_bytes_total{api="Produce"}`: 2 * records * 60, `forebay_response_bytes_total{api="Fetch"}`: records * 8,
		`forebay_request_errors_total{api="DeleteTopics",error="UNKNOWN_TOPIC_OR_PARTITION"}`: 1,
		`forebay_request_errors_total{api="Produce",error="UNKNOWN_TOPIC_ID"}`:                1,
		`forebay_connections`: 1, `forebay_connections_accepted_total`: 1,
		`forebay_partitions_led`: 101, `forebay_log_bytes{topic="t"}`: 2 * records * 60, `forebay_transaction_oldest_seconds`: 0.000001,
		`forebay_raft_commit_index`: 3, `forebay_raft_fsync_seconds_count`: 3, `forebay_raft_term`: 1, `forebay_group_members`: 1,
		`process_resident_memory_bytes`: 1 << 20, `process_cpu_seconds_total`: 0.001, `go_goroutines`: 5, `process_open_fds`: 5,
	}
	// What a reply took is counted when it has been sent, and the client may have it before that.
	p, seen := scrape(t, web)
	untold := func() string {
		for key, least := range done {
			if p[key] < least {
				return fmt.Sprintf("%s is %v, at least %v was done", key, p[key], least)
			}
		}
		return ""
	}
	for deadline := time.Now().Add(10 * time.Second); untold() != ""; p, seen = scrape(t, web) {
		if time.Now().After(deadline) {
			t.Error(untold())
			break
		}
	}
	for key, want := range map[string]float64{
		`forebay_group_lag_records{group="idle",topic="t"}`: 2*records + 1 - 4, // and a commit marker
		`forebay_transactions_open`:                         1, `forebay_transactional_ids`: 1, `forebay_groups{state="Stable"}`: 1, `forebay_groups{state="Empty"}`: 1,
		`forebay_partitions_under_replicated`: 0, `forebay_partitions_offline`: 0, `forebay_raft_leads`: 1, `forebay_raft_leader`: 1, `forebay_raft_voters`: 1,
		`forebay_nodes{state="alive"}`: 1, `forebay_nodes{state="fenced"}`: 0, `forebay_node_ready`: 1,
	} {
		if got, ok := p[key]; got != want || !ok {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	syncs := 0.0
	for key, v := range p {
		if strings.HasPrefix(key, "forebay_fsync_seconds_count{") {
			syncs += v
		}
	}
	if syncs < 2*records {
		t.Errorf("%v syncs of the logs for %d acknowledged produces", syncs, 2*records)
	}
	var known []string
	for _, f := range families() {
		known = append(known, f.Name)
		if !slices.Contains(seen, f.Name) && !slices.Contains(worker.Families, f) {
			t.Errorf("%s is documented and was not told", f.Name)
		}
	}
	for _, name := range seen {
		if !slices.Contains(known, name) {
			t.Errorf("%s is told and not documented", name)
		}
	}
}

// threeLines is a config in which source app reads a log of three lines, and sink lake writes them to files.
func threeLines(t *testing.T) (job string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/a.log", []byte("one\ntwo\nthree\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	job = dir + "/job.yaml"
	text := "sources: {app: {type: tail, paths: [" + dir + "/*.log]}}\nsinks: {lake: {type: file, url: " + dir + "/lake, topics: [app], format: text, rotate: {interval: 100ms}}}\n"
	if err := os.WriteFile(job, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return job
}

// TestMetricsOfAConnector: a process without a node of its own, too, tells what its connectors do.
func TestMetricsOfAConnector(t *testing.T) {
	_, web := startUp(t, threeLines(t))
	for deadline := time.Now().Add(30 * time.Second); ; {
		p, _ := scrape(t, web)
		lag, told := p[`forebay_connector_lag_records{connector="lake"}`]
		// The lag may be of before the lines came; what was written is counted before it is committed.
		if p[`forebay_connector_records_total{connector="lake"}`] == 3 && told && lag == 0 && p[`forebay_connector_latency_seconds_count{connector="lake",topic="app"}`] > 0 {
			if p[`forebay_connector_records_total{connector="app"}`] != 3 || p[`forebay_connector{connector="app",kind="source",type="tail",state="RUNNING"}`] != 1 ||
				p[`forebay_connector_bytes_total{connector="app"}`] < 11 || p[`forebay_connector_tasks{connector="lake"}`] != 1 {
				t.Errorf("%v", p)
			}
			for _, name := range []string{"app", "lake"} {
				if lag, told := p[`forebay_connector_lag_seconds{connector="`+name+`"}`]; !told || lag < 0 || lag > 30 {
					t.Errorf("the lag in seconds of %s is told: %v, %v", name, told, lag)
				}
				if p[`forebay_connector_commit_seconds_count{connector="`+name+`"}`] < 1 || p[`forebay_connector_latency_seconds_count{connector="`+name+`",topic="app"}`] < 1 {
					t.Errorf("no commit of %s is timed", name)
				}
			}
			if _, told := p[`forebay_connector_lag_records{connector="app"}`]; told {
				t.Error("a source has no lag in the log")
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v", p)
		}
	}
}
