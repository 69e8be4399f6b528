package runtime_test

import (
	"context"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

// client is one of the log beside the runtime's own.
func client(t *testing.T, o hublog.Options, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	if o.Dial == nil {
		opts = append(opts, kgo.SeedBrokers(o.Bootstrap...))
	} else {
		opts = append(opts, kgo.SeedBrokers("embedded:9092"), kgo.Dialer(dialer(o)))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func admin(t *testing.T, o hublog.Options) *kadm.Client {
	t.Helper()
	return kadm.NewClient(client(t, o))
}

// Retention that passes a sink's resume point is named, never skipped.
func TestRetentionGapIsNamed(t *testing.T) {
	log := openLog(t)
	src := &numbers{topic: unique("n"), n: 1000}
	dst := newMemory(src.topic)
	o := options(log, src, dst)
	w, _ := start(t, o)
	sink := o.Connectors[1].Name
	eventually(t, 30*time.Second, "written", func() bool { return w.Status()[1].Records == 1000 })
	if err := w.Want(sink, worker.Paused); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "paused", func() bool { return state(w, 1) == worker.Paused && dst.count() == 1000 })
	src.more(1000)
	eventually(t, 30*time.Second, "appended", func() bool { return src.acknowledged() == 2000 })
	adm := admin(t, log)
	var offsets kadm.Offsets
	tp := connectors.TopicPartition{Topic: src.topic}
	dst.mu.Lock()
	next := dst.next[tp]
	dst.mu.Unlock()
	offsets.Add(kadm.Offset{Topic: src.topic, At: next + 100})
	if res, err := adm.DeleteRecords(t.Context(), offsets); err != nil || res.Error() != nil {
		t.Fatal(err, res.Error())
	}
	if err := w.Want(sink, worker.Running); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "failed", func() bool { return state(w, 1) == worker.Failed })
	if e := w.Status()[1].Error; !strings.Contains(e, "100 offsets are gone") || !strings.Contains(e, src.topic+"-0") {
		t.Errorf("error %q", e)
	}
}

// A topic that is deleted and created again while its sink runs is named.
func TestTopicCreatedAgainIsNamed(t *testing.T) {
	log := openLog(t)
	src := &numbers{topic: unique("n"), n: 1000}
	dst := newMemory(src.topic)
	_, stop := start(t, options(log, src, nil))
	eventually(t, 30*time.Second, "appended", func() bool { return src.acknowledged() == 1000 })
	stop()
	o := options(log, nil, dst)
	w, _ := start(t, o)
	eventually(t, 30*time.Second, "written", func() bool {
		_, err := w.Flush(t.Context(), o.Connectors[0].Name)
		return err == nil && dst.count() == 1000
	})
	adm := admin(t, log)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := adm.DeleteTopic(ctx, src.topic); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "created again", func() bool {
		_, err := adm.CreateTopic(ctx, 1, 1, nil, src.topic)
		return err == nil
	})
	eventually(t, 60*time.Second, "failed", func() bool { return state(w, 0) == worker.Failed })
	if e := w.Status()[0].Error; !strings.Contains(e, "created again") {
		t.Errorf("error %q", e)
	}
}

// What a sink has read of a topic that is deleted is nowhere else any more: it is committed before the task goes on without the topic.
func TestTopicThatIsDeletedIsCommitted(t *testing.T) {
	log := openLog(t)
	src := &numbers{topic: unique("n"), n: 50} // fewer than the sink commits by itself
	dst := newMemory(src.topic)
	_, stop := start(t, options(log, src, nil))
	eventually(t, 30*time.Second, "appended", func() bool { return src.acknowledged() == 50 })
	stop()
	w, err := worker.New(options(log, nil, dst))
	if err != nil {
		t.Fatal(err)
	}
	running, end := context.WithCancel(t.Context())
	defer end()
	dst.step = func(at string, _ connectors.TopicPartition) error {
		if at == "committed" {
			end() // just then it is told to stop, too: there is nothing left to do
		}
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- w.Run(running) }()
	eventually(t, 30*time.Second, "read", func() bool { return dst.given(49) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := admin(t, log).DeleteTopic(ctx, src.topic); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error("worker:", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("nothing was committed")
	}
	if n := dst.count(); n != 50 {
		t.Errorf("%d of 50 are committed", n)
	}
}

// That the log cannot be reached, when a sink asks for its lease, passes: it is not another worker.
func TestSinkOutlivesALogThatIsAway(t *testing.T) {
	b := newBench(t)
	o := openLog(t)
	o.Dial = func(context.Context) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
	away, err := hublog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	b.log = away
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err = b.sink(ctx, newMemory("nothing"), 0)
	if err == nil || connectors.IsFatal(err) {
		t.Fatalf("the sink ends with %v", err)
	}
}
