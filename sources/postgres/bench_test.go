package postgres

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
)

// benchRows is how many rows one iteration of the benchmarks reads.
const benchRows = 300_000

func benchTable(b *testing.B) (*source, func(string)) {
	url := testURL(b)
	c := dial(b, url)
	sql(b, c, "CREATE TABLE acc (aid int PRIMARY KEY, bid int, abalance int, filler char(22), mtime timestamp)")
	src := configure(b, url, []string{"public.acc"}, nil)
	return src, func(s string) { sql(b, c, s) }
}

func drain(b *testing.B, task connectors.SourceTask, rows int) {
	batch := connectors.NewBatch(1 << 20)
	ctx := context.Background()
	for n := 0; n < rows; {
		batch.Reset()
		if err := task.Read(ctx, batch); err != nil && !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		n += len(batch.Records)
		pos := map[connectors.PositionKey]connectors.Position{}
		for _, m := range batch.Marks {
			pos[m.Key] = m.Position
		}
		if err := task.Committed(ctx, pos); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSnapshot and BenchmarkDrain measure the source alone: decoding into
// batches that nobody encodes, with the server on the same machine.
func BenchmarkSnapshot(b *testing.B) {
	src, run := benchTable(b)
	run("INSERT INTO acc SELECT g, g % 10, g * 7, 'fill', now() FROM generate_series(1, 300000) g")
	b.ReportAllocs()
	for b.Loop() {
		src.cfg.slot = defaultName(time.Now().Format("150405.000000"))
		task := src.Task(connectors.Split{})
		if err := task.Open(context.Background(), nil); err != nil {
			b.Fatal(err)
		}
		drain(b, task, benchRows)
		if err := task.Close(); err != nil {
			b.Fatal(err)
		}
		run("SELECT pg_drop_replication_slot('" + src.cfg.slot + "')")
	}
	b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkDrain(b *testing.B) {
	src, run := benchTable(b)
	b.ReportAllocs()
	task := src.Task(connectors.Split{})
	if err := task.Open(context.Background(), nil); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = task.Close() }()
	for b.Loop() {
		b.StopTimer()
		run("TRUNCATE acc")
		run("DO $$ BEGIN FOR i IN 0..29999 LOOP INSERT INTO acc SELECT i*10+g, g%10, g*7, 'fill', now() FROM generate_series(1,10) g; COMMIT; END LOOP; END $$")
		b.StartTimer()
		drain(b, task, benchRows)
	}
	b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
}
