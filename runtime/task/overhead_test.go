package task

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/internal/figures"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/transform"
)

// BenchmarkOverhead is what the runtime itself costs: batches of a source that makes nothing go through a transform and the
// converter's two halves into a sink that keeps nothing, in one goroutine, with no log between. An op is a batch. allocs/stage
// are of each of the four stages (read, transform, encode, decode and write), for a batch. CPU seconds are the whole process's.
func BenchmarkOverhead(b *testing.B) {
	text := &schema.Schema{Kind: schema.String}
	row := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{
		{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}}, {Name: "name", Schema: text}, {Name: "note", Schema: &schema.Schema{Kind: schema.String, Optional: true}}}}
	value := schema.Value{Kind: schema.Struct, List: []schema.Value{schema.Int64Of(12345), schema.StringOf("Ada Lovelace"), schema.StringOf("met at the engine")}}
	line, large := bytes.Repeat([]byte("x"), 100), bytes.Repeat([]byte("x"), 64<<10)
	for _, c := range []struct {
		name, transform string
		record          connectors.Record
		size            int // bytes, of a record
		decode          bool
	}{
		{"100 B lines", "route match=(.*) to=x.$1", connectors.Record{RawValue: line}, len(line), false},
		{"rows of three columns", "route match=(.*) to=x.$1", connectors.Record{Value: connectors.Datum{Schema: row, Value: value}}, 70, false},
		{"rows of three columns, masked and read", "mask fields=note", connectors.Record{Value: connectors.Datum{Schema: row, Value: value}}, 70, true},
		{"64 KiB records", "route match=(.*) to=x.$1", connectors.Record{RawValue: large}, len(large), false},
	} {
		b.Run(strings.ReplaceAll(c.name, " ", "_"), func(b *testing.B) {
			n, findings := steps(b, transform.Source, c.transform)
			chain, err := SourceChain(n)
			if err != nil || len(findings) > 0 {
				b.Fatal(err, findings)
			}
			entries := map[string]converter.Entry{}
			p := nullPipeline{chain: chain, encoder: converter.NewEncoder(converter.Format{}), batch: connectors.NewBatch(batchBytes), decode: c.decode,
				decoder: converter.NewDecoder(func(id string) (converter.Entry, error) { return entries[id], nil }), entries: entries}
			c.record.Topic, c.record.Partition = "t", -1
			p.move(b, &c.record, c.size) // what grows once has grown
			var m0, m1 runtime.MemStats
			runtime.ReadMemStats(&m0)
			records, watch := 0, figures.Begin(os.Getpid())
			for b.Loop() {
				records += p.move(b, &c.record, c.size)
			}
			wall, cpu := watch.End()
			runtime.ReadMemStats(&m1)
			b.ReportMetric(float64(records)/wall, "records/s")
			b.ReportMetric(float64(records)/cpu, "records/CPU-s")
			b.ReportMetric(float64(records*c.size)/1e6/cpu, "MB/CPU-s")
			b.ReportMetric(float64(m1.Mallocs-m0.Mallocs)/float64(b.N)/4, "allocs/stage")
		})
	}
}

// nullPipeline is the way of a batch without its ends and without the log.
type nullPipeline struct {
	chain   *transform.Chain
	encoder *converter.Encoder
	decoder *converter.Decoder
	entries map[string]converter.Entry
	batch   *connectors.Batch
	arena   arena
	decode  bool
	out     []connectors.Record
	headers []connectors.Header
}

// move moves one batch and says how many records it had.
func (p *nullPipeline) move(b *testing.B, like *connectors.Record, size int) int {
	p.batch.Reset()
	p.arena.reset(batchBytes)
	p.out, p.headers = p.out[:0], p.headers[:0]
	for !p.batch.Full() {
		p.batch.Add(*like, size)
	}
	for i := range p.batch.Records {
		r := &p.batch.Records[i]
		if keep, err := p.chain.Apply(p.batch, r); err != nil || !keep {
			b.Fatal(keep, err)
		}
		tail := p.arena.tail()
		grown, e, err := p.encoder.Encode(tail, r)
		if err != nil {
			b.Fatal(err)
		}
		p.arena.keep(tail, grown)
		if e.New != nil {
			p.entries[e.New.ID()] = *e.New
		}
		if r.Value.Schema == nil {
			e.Value = p.arena.copy(e.Value)
		}
		p.headers = append(p.headers, connectors.Header{Key: converter.SchemaHeader, Value: e.SchemaID})
		at := len(p.headers) - 1
		p.out = append(p.out, connectors.Record{Topic: r.Topic, RawKey: e.Key, RawValue: e.Value})
		if e.SchemaID != nil {
			p.out[at].Headers = p.headers[at : at+1 : at+1]
		}
	}
	if err := p.decoder.Prepare(p.out, func(error) bool { return false }); err != nil {
		b.Fatal(err)
	}
	for i := range p.out {
		if !p.decode {
			continue
		}
		if err := p.decoder.Decode(&p.out[i]); err != nil {
			b.Fatal(err)
		}
	}
	return len(p.out)
}

// What a source's writer does with each record, on its way to the log or to a filter, takes nothing from the heap.
func TestAppendTakesNothingFromTheHeap(t *testing.T) {
	n, findings := steps(t, transform.Source, "filter when.topic=t")
	chain, err := SourceChain(n)
	if err != nil || len(findings) > 0 {
		t.Fatal(err, findings)
	}
	stats := &Stats{}
	task := &sourceTask{encoder: converter.NewEncoder(converter.Format{}), topics: map[string]*sourceTopic{"t": {partitions: 3, stats: stats.topic("t")}}, largest: 1 << 20}
	b, line := connectors.NewBatch(batchBytes), bytes.Repeat([]byte("x"), 100)
	now := time.Now()
	move := func() {
		b.Reset()
		task.arena.reset(batchBytes)
		for i := range 100 {
			b.Add(connectors.Record{Topic: "t", Partition: -1, RawKey: line[:8], RawValue: line}, len(line))
			task.chain = nil
			if out, keep, err := task.prepare(t.Context(), b, &b.Records[i], now); err != nil || !keep || len(out.value) != len(line) {
				t.Fatal(err, keep)
			}
			task.chain = chain
			if err := task.appendOrFail(t.Context(), b, i, now); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := testing.AllocsPerRun(100, move); got > 1 {
		t.Errorf("%v allocations for 100 records", got)
	}
}
