package mongodb

import (
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/internal/testenv"
)

// BenchmarkRows writes rows of five columns, each of a key of its own.
func BenchmarkRows(b *testing.B) {
	for _, mode := range []string{"upsert", "append"} {
		b.Run(mode, func(b *testing.B) {
			m := testenv.Mongo(b)
			s := newSink(b, m, map[string]string{"mode": mode})
			l := &life{t: b, tp: assigned(0).TopicPartition}
			l.task = s.Task(connectors.SinkEnv{Env: s.env, TaskID: "bench", Epoch: epochs.Add(1)}).(*task)
			defer func() { _ = l.task.Close() }()
			if err := l.task.Open(b.Context()); err != nil {
				b.Fatal(err)
			}
			if _, err := l.task.Recover(b.Context(), []connectors.Assignment{assigned(0)}); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for i := range b.N {
				l.write(upsert(int64(i), "a name of some length", "a note that is a little longer than the name", schema.Int64Of(1_700_000_000_123_000)))
				if len(l.task.Tick(time.Now())) > 0 {
					l.flush()
				}
			}
			l.flush()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
