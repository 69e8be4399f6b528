package runtime_test

import (
	"context"
	"testing"
	"time"
)

// BenchmarkSourceToSink moves typed row changes through the whole runtime and
// the log; b.N is the number of rows.
func BenchmarkSourceToSink(b *testing.B) {
	w := newBench(b)
	src := &numbers{topic: unique("bench"), n: int64(b.N), typed: true, full: true}
	dst := newMemory(src.topic)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	errs := make(chan error, 2)
	b.ResetTimer()
	go func() { errs <- w.source(ctx, src, 10*time.Second) }()
	eventually(b, 5*time.Minute, "everything is in the log", func() bool { return src.acknowledged() == src.n })
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s-in")
	start := time.Now()
	go func() { errs <- w.sink(ctx, dst, 10*time.Second) }()
	eventually(b, 5*time.Minute, "everything is in the target", func() bool { return int64(dst.count()) > src.n-100 })
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "rows/s-out")
	b.StopTimer()
	cancel()
	for range 2 {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
}
