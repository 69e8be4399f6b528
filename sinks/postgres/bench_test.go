package postgres

import (
	"fmt"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// BenchmarkRows writes small rows of five columns, decoded already, in commits of
// flush.size. The server is the tests' own, with fsync off.
func BenchmarkRows(b *testing.B) {
	for _, mode := range []string{"append", "upsert"} {
		for _, size := range []string{"256KiB", "1MiB", "4MiB", "16MiB"} {
			b.Run(mode+"/"+size, func(b *testing.B) { benchRows(b, mode, size, false) })
		}
	}
	b.Run("upsert/again/4MiB", func(b *testing.B) { benchRows(b, "upsert", "4MiB", true) })
}

func benchRows(b *testing.B, mode, size string, again bool) {
	url, c := pg(b)
	row := structOf("bench", "id", int64Type, "customer", int64Type, "status", optText,
		"total", &schema.Schema{Kind: schema.Bytes, Name: nameDecimal, Optional: true, Params: map[string]string{"scale": "2", "connect.decimal.precision": "10"}},
		"placed", &schema.Schema{Kind: schema.Int64, Name: nameMicroTimestamp, Optional: true})
	l := start(b, newSink(b, url, map[string]string{"mode": mode, "flush.size": size}))
	limit := l.task.s.cfg.size
	batch := make([]connectors.Record, 1000)
	id := int64(0)
	fill := func() {
		for i := range batch {
			id++
			batch[i] = change(connectors.OpRead, row, id, int(id%1000), "new", schema.BytesOf([]byte{byte(id >> 8), byte(id)}), schema.Int64Of(1767323045000000+id))
		}
	}
	write := func(n int) {
		for range n / len(batch) {
			fill()
			l.write(batch...)
			if l.task.parts[l.tp].buf.size() >= limit {
				l.flush()
			}
		}
		l.flush()
	}
	const rowsPerOp = 100_000
	if again {
		write(rowsPerOp)
	}
	b.ResetTimer()
	for range b.N {
		if again {
			id = 0
		}
		write(rowsPerOp)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)*rowsPerOp/b.Elapsed().Seconds(), "rows/s")
	want := fmt.Sprint(b.N * rowsPerOp)
	if again {
		want = fmt.Sprint(rowsPerOp)
	}
	if got := rows(b, c, "SELECT count(*) FROM orders")[0]; got != want {
		b.Fatalf("%s rows of %s", got, want)
	}
}
