// Package faults is what goes wrong in the field: each fault must give a clear
// error, lose nothing, and leave the process alive where it should live.
package faults

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/figures"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// eventually asks again until ok says yes.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(within)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// trace is what the REST API says of a connector: its state and its error.
func trace(t *testing.T, n *node.Node, name string) (state, text string) {
	t.Helper()
	resp, err := http.Get("http://" + n.HTTP + "/connectors/" + name + "/status")
	if err != nil {
		return "", err.Error()
	}
	defer resp.Body.Close()
	var body struct {
		Connector struct{ State, Trace string }
		Tasks     []struct{ State, Trace string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return "", err.Error()
	}
	state, text = body.Connector.State, body.Connector.Trace
	for _, task := range body.Tasks {
		text += " " + task.Trace
	}
	return state, text
}

func alive(t *testing.T, n *node.Node) {
	t.Helper()
	resp, err := http.Get("http://" + n.HTTP + "/livez")
	if err != nil {
		t.Fatalf("the node is gone: %v", err)
	}
	resp.Body.Close()
	produce(t, n.Kafka, "alive", 1)
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.RetryTimeout(10 * time.Second)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func produce(t *testing.T, addr, topic string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := client(t, addr)
	defer c.Close()
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%06d %s", i, strings.Repeat("x", 1000))})
	}
	if err := c.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func TestWrongPassword(t *testing.T) {
	pg := testenv.Postgres(t)
	pg.Exec("CREATE TABLE items (id int PRIMARY KEY)")
	config := node.WriteFile(t, t.TempDir(), "c.yaml", "sources:\n  shop:\n    type: postgres\n    url: ${PG_URL}\n    tables: [public.items]\n")
	wrong := "PG_URL=" + strings.Replace(pg.URL, ":"+pg.Password+"@", ":not-the-password@", 1)
	n := node.New(t, config, "--data", t.TempDir())
	n.Setenv(wrong)
	n.Start()
	eventually(t, 20*time.Second, "an error about the password", func() bool {
		_, text := trace(t, n, "shop")
		return strings.Contains(text, "password")
	})
	if _, text := trace(t, n, "shop"); strings.Contains(text, "not-the-password") {
		t.Errorf("the password stands in the error: %s", text)
	}
	alive(t, n)
	out, code := node.Run(t, []string{wrong}, "doctor", config, "--kafka", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if code != 3 || !strings.Contains(out, "password") {
		t.Errorf("doctor: exit code %d\n%s", code, out)
	}
	if strings.Contains(n.LogTail(1000), "not-the-password") {
		t.Error("the password stands in the log")
	}
}

func TestUnreachableNamenode(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() // nobody listens there now
	dir := t.TempDir()
	node.WriteFile(t, dir, "a.log", strings.Repeat("a line\n", 1000))
	config := node.WriteFile(t, dir, "c.yaml", fmt.Sprintf(
		"sources:\n  lines:\n    type: tail\n    paths: [%s/*.log]\nsinks:\n  lake:\n    type: hdfs\n    url: hdfs://%s/lake\n    topics: [lines]\n    format: text\n", dir, addr))
	n := node.New(t, config, "--data", filepath.Join(dir, "data"))
	n.Start()
	eventually(t, 30*time.Second, "an error that names "+addr, func() bool {
		_, text := trace(t, n, "lake")
		return strings.Contains(text, addr)
	})
	eventually(t, 20*time.Second, "all lines in the log although the sink is stuck", func() bool { return end(t, n.Kafka, "lines") >= 1000 })
	alive(t, n)
	if err := n.Stop(); err != nil {
		t.Errorf("SIGTERM with a stuck sink: %v", err)
	}
}

func end(t *testing.T, addr, topic string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c := client(t, addr)
	defer c.Close()
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	if err != nil {
		return -1
	}
	var sum int64
	ends.Each(func(o kadm.ListedOffset) { sum += max(o.Offset, 0) })
	return sum
}

// TestFullDisk is invariant 11 on a small tmpfs.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t)
	n := node.New(t, "--data", dir, "--set", "log.segment.delete.delay.ms=100", "--set", "log.retention.check.interval.ms=200", "--set", "log.cleaner.backoff.ms=200")
	n.Start()
	produce(t, n.Kafka, "keep", 100)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := client(t, n.Kafka, kgo.RecordRetries(3), kgo.RetryTimeout(2*time.Second), kgo.DefaultProduceTopic("fill"), kgo.ProducerBatchMaxBytes(256<<10), kgo.ProducerBatchCompression(kgo.NoCompression()))
	var acked int64
	var refused error
	value := []byte(strings.Repeat("y", 64<<10))
	for refused == nil {
		if refused = c.ProduceSync(ctx, &kgo.Record{Value: value}).FirstErr(); refused == nil {
			acked++
		}
		if acked > 2000 {
			t.Fatal("128 MB went into 48")
		}
	}
	t.Logf("after %d records of 64 KiB: %v", acked, refused)
	if got := count(t, n.Kafka, "fill"); got != acked {
		t.Errorf("%d records were acknowledged and %d can be read", acked, got)
	}
	if got := count(t, n.Kafka, "keep"); got != 100 {
		t.Errorf("of 100 records of another topic %d can be read", got)
	}
	if _, err := kadm.NewClient(c).DeleteTopics(ctx, "fill"); err != nil {
		t.Errorf("a topic cannot be deleted on a full disk: %v", err)
	}
	again := client(t, n.Kafka, kgo.DefaultProduceTopic("keep"), kgo.RecordRetries(1), kgo.RetryTimeout(time.Second), kgo.ProducerBatchCompression(kgo.NoCompression()))
	eventually(t, 60*time.Second, "writing comes back by itself once there is room", func() bool {
		try, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		return again.ProduceSync(try, &kgo.Record{Value: value}).FirstErr() == nil
	})
	n.Kill()
	n.Start()
	if got := count(t, n.Kafka, "keep"); got < 101 {
		t.Errorf("%d records after a kill", got)
	}
}

// count reads a topic to its end.
func count(t *testing.T, addr, topic string) (n int64) {
	t.Helper()
	want := end(t, addr, topic)
	c := client(t, addr, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close() // it is called thousands of times
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for n < want && ctx.Err() == nil {
		n += int64(c.PollFetches(ctx).NumRecords())
	}
	return n
}

// TestCorruptSegment is invariant 10: a flipped bit is found, named, and never served.
func TestCorruptSegment(t *testing.T) {
	data := t.TempDir()
	n := node.New(t, "--data", data)
	n.Start()
	produce(t, n.Kafka, "hurt", 500)
	produce(t, n.Kafka, "well", 500)
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(data, "log", "hurt-0", "*.log"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %v: %v", segments, err)
	}
	bytes, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(bytes)
	flipped[len(flipped)/2] ^= 0x10
	if err := os.WriteFile(segments[0], flipped, 0o644); err != nil {
		t.Fatal(err)
	}
	out, _ := node.Run(t, nil, "log", "dump", segments[0])
	if !strings.Contains(strings.ToLower(out), "crc") && !strings.Contains(strings.ToLower(out), "corrupt") {
		t.Errorf("log dump does not tell: %s", out)
	}
	n.Start()
	c := client(t, n.Kafka, kgo.ConsumeTopics("hurt"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepRetryableFetchErrors())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for got := 0; ; {
		fetches := c.PollFetches(ctx)
		fetches.EachRecord(func(r *kgo.Record) {
			if want := fmt.Sprintf("%06d ", got); !strings.HasPrefix(string(r.Value), want) || strings.Trim(string(r.Value[7:]), "x") != "" {
				t.Fatalf("offset %d was served damaged", r.Offset)
			}
			got++
		})
		if err := fetches.Err(); err != nil {
			t.Logf("after %d sound records: %v", got, err)
			break
		}
		if got == 500 {
			t.Fatal("all records were served, the damaged one too")
		}
	}
	eventually(t, 10*time.Second, "a log line that names the file", func() bool { return strings.Contains(n.LogTail(200), filepath.Base(segments[0])) })
	if got := count(t, n.Kafka, "well"); got != 500 {
		t.Errorf("of another topic %d of 500 can be read", got)
	}
	alive(t, n)
	if now, err := os.ReadFile(segments[0]); err != nil || len(now) != len(bytes) {
		t.Errorf("the damaged segment was changed: %d bytes of %d, %v", len(now), len(bytes), err)
	}
	// The way out, where there is no other replica: not under a node's feet; then what is broken goes, and nothing else.
	folder := filepath.Dir(segments[0])
	if out, code := node.Run(t, nil, "log", "repair", folder, "--skip"); code != 3 || !strings.Contains(out, "stop the node") {
		t.Fatalf("repair beside a running node: code %d, %s", code, out)
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if out, code := node.Run(t, nil, "log", "repair", folder, "--skip"); code != 0 || strings.Count(out, "kept in") != 1 {
		t.Fatalf("repair: code %d, %s", code, out)
	}
	n.Start()
	if got := end(t, n.Kafka, "hurt"); got != 500 {
		t.Errorf("after the repair the log ends at %d: the offsets of what is lost stay used", got)
	}
	produce(t, n.Kafka, "hurt", 10)
	left := 0
	c = client(t, n.Kafka, kgo.ConsumeTopics("hurt"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	reading, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	for last := int64(-1); last < 509 && reading.Err() == nil; {
		c.PollFetches(reading).EachRecord(func(r *kgo.Record) {
			if !strings.HasPrefix(string(r.Value), fmt.Sprintf("%06d ", r.Offset%500)) {
				t.Fatalf("offset %d is %.10q after the repair", r.Offset, r.Value)
			}
			left, last = left+1, r.Offset
		})
	}
	if left < 10 || left >= 510 {
		t.Errorf("%d of 510 records are left", left)
	}
}

// TestGarbage throws what is not Kafka at the Kafka port.
func TestGarbage(t *testing.T) {
	n := node.New(t, "--data", t.TempDir())
	n.Start()
	before, _ := figures.RSS(n.PID())
	random := rand.New(rand.NewPCG(1, 2))
	frame := func(length uint32, body []byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, length), body...)
	}
	noise := make([]byte, 4096)
	for i := range 300 {
		for j := range noise {
			noise[j] = byte(random.Uint32())
		}
		var in []byte
		switch i % 6 {
		case 0:
			in = noise
		case 1:
			in = frame(0xFFFFFFFF, noise)
		case 2:
			in = frame(2_000_000_000, noise)
		case 3:
			in = frame(uint32(len(noise)), noise)
		case 4: // a sound header of a real API, then noise
			in = frame(2048, append([]byte{0, byte(random.IntN(80)), 0, byte(random.IntN(14)), 0, 0, 0, 1, 0xFF, 0xFF}, noise[:2038]...))
		case 5:
			in = []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		conn, err := net.Dial("tcp", n.Kafka)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
		_, _ = conn.Write(in)                  // the node may have closed it already
		_, _ = conn.Read(make([]byte, 64<<10)) // an answer, the end, or the deadline
		conn.Close()
	}
	alive(t, n)
	if now, peak := figures.RSS(n.PID()); peak > before+100 {
		t.Errorf("resident memory went from %.0f to %.0f MiB, %.0f at its peak", before, now, peak)
	}
}
