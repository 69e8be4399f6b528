package runtime_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/broker"
	"github.com/forebayhub/forebay/plugins/builtin"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

// The log goes away under running tasks and comes back: nothing lost, nothing doubled.
func TestTheLogRestartsUnderRunningTasks(t *testing.T) {
	log, open := restarting(t)
	stop := open()
	src := &numbers{topic: unique("n"), n: 20_000}
	dst := newMemory(src.topic)
	w, halt := start(t, options(log, src, dst))
	for _, at := range []int64{2_000, 6_000, 12_000} {
		eventually(t, time.Minute, "more is appended", func() bool { return src.acknowledged() >= at })
		stop()
		stop = open()
	}
	eventually(t, 2*time.Minute, "everything is with the sink, and both run", func() bool {
		return src.acknowledged() == 20_000 && (dst.given(19_999) || dst.count() == 20_000) && state(w, 0) == worker.Running && state(w, 1) == worker.Running
	})
	halt()
	exactly(t, dst.all(), 20_000)
	stop()
}

// restarting is a log that open starts, and starts again when it was stopped: with the same data, under the same address.
func restarting(t *testing.T) (log hublog.Options, open func() (stop func())) {
	t.Helper()
	dir := t.TempDir()
	var addr string
	open = func() (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		listen := addr
		if listen == "" {
			listen = "127.0.0.1:0"
		}
		b, err := broker.Open(ctx, broker.Options{DataDir: dir, KafkaAddr: listen})
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		if addr == "" {
			addr = b.KafkaAddr()
		}
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		<-b.Ready()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error("broker:", err)
			}
		}
	}
	return hublog.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}}, open
}

// While the log is away lines are written, and their file is rotated and deleted, as logrotate does with a file that it
// compresses at once: what the source holds open outlives its task.
func TestLinesOfADeletedFileWhileTheLogIsAway(t *testing.T) {
	log, open := restarting(t)
	stop := open()
	dir := t.TempDir()
	path := filepath.Join(dir, "app.log")
	write := func(from, to int) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		for n := from; n < to; n++ {
			fmt.Fprintln(f, n)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	source := builtinSource(t, "tail", unique("lines"), map[string]string{"paths": path})
	dst := newMemory(source.Name)
	o := options(log, nil, dst)
	o.DrainTimeout = 100 * time.Millisecond
	o.Registry.Sources, o.Connectors = builtin.Registry().Sources, append(o.Connectors, source)
	w, _ := start(t, o)
	write(0, 10)
	eventually(t, 30*time.Second, "the first lines", func() bool { return w.Status()[0].Records == 10 })
	stop()
	write(10, 20)
	want := func(s worker.State) {
		t.Helper()
		if err := w.Want(source.Name, s); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, string(s), func() bool { return state(w, 1) == s })
	}
	want(worker.Paused) // its task has ended
	write(20, 30)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path + ".1"); err != nil {
		t.Fatal(err)
	}
	write(30, 40)
	stop = open()
	defer stop()
	want(worker.Running)
	eventually(t, 30*time.Second, "all lines", func() bool { return w.Status()[0].Records >= 40 })
	eventually(t, 30*time.Second, "flushed", func() bool {
		_, err := w.Flush(t.Context(), w.Status()[0].Name)
		return err == nil
	})
	exactly(t, dst.all(), 40)
}
