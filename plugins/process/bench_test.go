package process

import (
	"context"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/plugins/process/serve"
)

// serveBench serves a source that has as many records as anybody reads, and a sink that takes them.
func serveBench() {
	serve.Main(serve.Source(connectors.SourceType{New: func(spec.Values, connectors.Env) (connectors.Source, error) { return spring{}, nil }}, connectors.Capabilities{}),
		serve.Sink(connectors.SinkType{New: func(spec.Values, connectors.Env) (connectors.Sink, error) { return drainSink{}, nil }}, connectors.Capabilities{}))
}

type spring struct{ connectors.Source }

func (spring) Task(connectors.Split) connectors.SourceTask { return &springTask{} }

type springTask struct{ connectors.SourceTask }

func (*springTask) Open(context.Context, map[connectors.PositionKey]connectors.Position) error {
	return nil
}

var value = make([]byte, 1000)

func (*springTask) Read(_ context.Context, b *connectors.Batch) error {
	for !b.Full() {
		b.Add(connectors.Record{Topic: "t", RawValue: value}, len(value))
	}
	b.Mark("k", connectors.Position("p"), true)
	return nil
}

func (*springTask) Committed(context.Context, map[connectors.PositionKey]connectors.Position) error {
	return nil
}
func (*springTask) Close() error { return nil }

type drainSink struct{ connectors.Sink }

func (drainSink) Task(connectors.SinkEnv) connectors.SinkTask { return drainTask{} }

type drainTask struct{ connectors.SinkTask }

func (drainTask) Open(context.Context) error { return nil }
func (drainTask) Write(context.Context, []connectors.Record) ([]connectors.Reject, error) {
	return nil, nil
}
func (drainTask) Tick(time.Time) []connectors.TopicPartition { return nil }
func (drainTask) Close() error                               { return nil }

// BenchmarkSource and BenchmarkSink move records of 1,000 bytes between two processes.
func BenchmarkSource(b *testing.B) {
	source, _, _ := describe(b, self(b, "bench"))
	s, err := source.New(valuesOf(b, source.Spec, nil), envOf(b, "x"))
	if err != nil {
		b.Fatal(err)
	}
	task := s.Task(connectors.Split{})
	if err := task.Open(b.Context(), nil); err != nil {
		b.Fatal(err)
	}
	batch := connectors.NewBatch(1 << 20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		batch.Reset()
		if err := task.Read(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := task.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkSink(b *testing.B) {
	_, sink, _ := describe(b, self(b, "bench"))
	s, err := sink.New(valuesOf(b, sink.Spec, map[string]string{"topics": "t"}), envOf(b, "x"))
	if err != nil {
		b.Fatal(err)
	}
	task := s.Task(connectors.SinkEnv{Env: envOf(b, "x")})
	if err := task.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	records := make([]connectors.Record, 1000)
	for i := range records {
		records[i] = connectors.Record{Topic: "t", RawValue: value, Offset: int64(i)}
	}
	b.SetBytes(int64(len(records) * len(value)))
	for b.Loop() {
		if _, err := task.Write(b.Context(), records); err != nil {
			b.Fatal(err)
		}
		task.Tick(time.Now())
	}
	if err := task.Close(); err != nil {
		b.Fatal(err)
	}
}
