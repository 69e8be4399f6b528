package runtime_test

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/task"
)

// lines is a log that a test reads while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) with(word string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, word) {
			out = append(out, line)
		}
	}
	return out
}

// A target that holds nothing of a topic begins behind what the log no longer has, and the sink says so.
func TestSinkSaysThatTheBeginningIsGone(t *testing.T) {
	o := openLog(t)
	b := benchOn(t, o)
	var said lines
	b.logger = slog.New(slog.NewTextHandler(&said, nil))
	topic := unique("late")
	adm := admin(t, o)
	target := newMemory(topic + "*")
	run := func(until func(*task.Stats) bool) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		done, stats := make(chan error, 1), &task.Stats{}
		go func() { done <- b.sinkWith(ctx, target, 10*time.Second, stats) }()
		eventually(t, 30*time.Second, "it is so far", func() bool { return until(stats) })
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	remove := func(topic string, at ...int64) {
		t.Helper()
		var offsets kadm.Offsets
		for p, n := range at {
			offsets.Add(kadm.Offset{Topic: topic, Partition: int32(p), At: n})
		}
		if res, err := adm.DeleteRecords(t.Context(), offsets); err != nil || res.Error() != nil {
			t.Fatal(err, res.Error())
		}
	}
	ready := func(s *task.Stats) bool { return s.Ready.Load() }
	records := func(n int64) func(*task.Stats) bool {
		return func(s *task.Stats) bool { return s.Records.Load() == n }
	}

	if _, err := adm.CreateTopics(t.Context(), 3, 1, nil, topic, topic+"-whole"); err != nil {
		t.Fatal(err)
	}
	produce(t, o, topic, topic+"-whole")
	remove(topic, 40, 20, 0)
	run(records(540))
	if text := said.with("level=WARN"); len(text) != 1 || !strings.Contains(text[0], "topic="+topic+" offsets=60 partitions=2") {
		t.Errorf("%q", text)
	}

	// What a target holds is not missed, also when the log ends where the target does.
	run(ready)
	remove(topic, 100, 100, 100)
	run(ready)
	if text := said.with("level=WARN"); len(text) != 1 {
		t.Errorf("%q", text)
	}

	// Another target under the same name begins behind what is gone.
	produce(t, o, topic)
	remove(topic, 150, 150, 150)
	target = newMemory(topic)
	run(records(150))
	if text := said.with("level=WARN"); len(text) != 2 || !strings.Contains(text[1], "topic="+topic+" offsets=450 partitions=3") {
		t.Errorf("%q", text)
	}
}

// A sink that has said that there is no topic says when there is one.
func TestSinkSaysWhatItFindsAtLast(t *testing.T) {
	o := openLog(t)
	b := benchOn(t, o)
	var said lines
	b.logger = slog.New(slog.NewTextHandler(&said, nil))
	topic := unique("late")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.sink(ctx, newMemory(topic), 10*time.Second) }()
	eventually(t, 30*time.Second, "it says that there is none", func() bool { return len(said.with("no topic matches")) == 1 })
	if _, err := admin(t, o).CreateTopics(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "it says that there is one", func() bool { return len(said.with("level=INFO")) == 1 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// produce appends a hundred numbers to each of the three partitions of topics.
func produce(t *testing.T, o hublog.Options, topics ...string) {
	t.Helper()
	cl := client(t, o, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	var rs []*kgo.Record
	for _, topic := range topics {
		for n := range 300 {
			rs = append(rs, &kgo.Record{Topic: topic, Partition: int32(n / 100), Value: []byte(strconv.Itoa(n))})
		}
	}
	if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}
