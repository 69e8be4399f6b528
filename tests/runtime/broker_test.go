package runtime_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/broker"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

// The log goes away under running tasks and comes back: nothing lost, nothing doubled.
func TestTheLogRestartsUnderRunningTasks(t *testing.T) {
	dir := t.TempDir()
	var addr string
	open := func() (stop func()) {
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
	stop := open()
	src := &numbers{topic: unique("n"), n: 20_000}
	dst := newMemory(src.topic)
	log := hublog.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}}
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
