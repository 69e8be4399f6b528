package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/internal/metrics"
	"github.com/forebayhub/forebay/runtime/worker"
)

// late has a hundred changes that its database committed a while ago.
type late struct {
	numbers
	by time.Duration
}

func (s *late) Task(connectors.Split) connectors.SourceTask { return &lateTask{s: s} }

type lateTask struct {
	s    *late
	done bool
}

func (t *lateTask) Open(_ context.Context, at map[connectors.PositionKey]connectors.Position) error {
	t.done = at["numbers"] != nil
	return nil
}

func (t *lateTask) Read(ctx context.Context, b *connectors.Batch) error {
	if t.done {
		<-ctx.Done()
		return ctx.Err()
	}
	t.done = true
	row := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}}}}
	block := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "ts_ms", Schema: &schema.Schema{Kind: schema.Int64}}}}
	at := schema.Int64Of(time.Now().Add(-t.s.by).UnixMilli())
	for n := range int64(100) {
		b.Add(connectors.Record{Topic: t.s.topic, Change: &connectors.Change{Op: connectors.OpCreate, Row: row, After: schema.StructOf(schema.Int64Of(n)),
			Source: connectors.Datum{Schema: block, Value: schema.StructOf(at)}, At: time.Now()}}, 100)
	}
	b.Mark("numbers", positionOf(100), true)
	return nil
}
func (t *lateTask) Committed(context.Context, map[connectors.PositionKey]connectors.Position) error {
	return nil
}
func (t *lateTask) Close() error { return nil }

// The lag in seconds counts from where a change was made: from its commit in the database to the log, and on to the target.
func TestLatencyCountsFromTheSource(t *testing.T) {
	src := &late{numbers: numbers{topic: unique("late")}, by: 30 * time.Second}
	o := options(openLog(t), src, newMemory(src.topic))
	w, _ := start(t, o)
	sink := o.Connectors[1].Name
	page := func() string {
		var m metrics.Writer
		worker.Metrics(&m, w.Status())
		return m.String()
	}
	bucket := func(connector, le string, n int) string {
		return fmt.Sprintf("forebay_connector_latency_seconds_bucket{connector=%q,topic=%q,le=%q} %d\n", connector, src.topic, le, n)
	}
	eventually(t, 30*time.Second, "both have committed", func() bool {
		text := page()
		return strings.Contains(text, bucket("src", "60", 1)) && strings.Contains(text, bucket(sink, "60", 1))
	})
	text := page()
	for _, connector := range []string{"src", sink} {
		if !strings.Contains(text, bucket(connector, "10", 0)) {
			t.Errorf("%s: 30 s count as less than 10 s", connector)
		}
		if strings.Contains(text, fmt.Sprintf("forebay_connector_commit_seconds_count{connector=%q} 0", connector)) {
			t.Errorf("%s: no commit is counted", connector)
		}
	}
	for _, s := range w.Status() {
		if s.Name == "src" && (!s.Timely() || s.Behind < 25*time.Second || s.Behind > 60*time.Second) {
			t.Errorf("the source is %v behind", s.Behind)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// A transaction of a source and one of a sink are a trace each, with a span for each step; where a step fails, its span says so.
func TestTransactionsAreTraces(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	src := &late{numbers: numbers{topic: unique("traced")}}
	dst, failed := newMemory(src.topic), false
	dst.step = func(what string, _ connectors.TopicPartition) error {
		if what == "commit" && !failed {
			failed = true
			return errors.New("the target is away")
		}
		return nil
	}
	o := options(openLog(t), src, dst)
	o.Tracer = provider.Tracer("test")
	_, stop := start(t, o)
	eventually(t, 30*time.Second, "100 numbers", func() bool { return dst.count() == 100 })
	stop()
	var told []string
	for _, s := range spans.GetSpans() {
		if !s.Parent.IsValid() {
			for _, a := range s.Attributes {
				if a.Key == "messaging.batch.message_count" && a.Value.AsInt64() == 100 {
					told = append(told, fmt.Sprintf("%s of 100, %s:", s.Name, s.Status.Code))
				}
			}
			var end time.Time
			for _, step := range spans.GetSpans() { // in the order in which they ended
				if step.Parent.SpanID() != s.SpanContext.SpanID() {
					continue
				}
				if step.StartTime.Before(s.StartTime) || step.EndTime.After(s.EndTime) || !end.IsZero() && !step.StartTime.Equal(end) {
					t.Errorf("%s from %v to %v, within %s from %v to %v, after a step that ended at %v", step.Name, step.StartTime, step.EndTime, s.Name, s.StartTime, s.EndTime, end)
				}
				if end = step.EndTime; step.Status.Code == codes.Error {
					told = append(told, step.Name+" failed: "+step.Status.Description)
				} else {
					told = append(told, step.Name)
				}
			}
		}
	}
	all := strings.Join(told, ", ")
	for _, want := range []string{
		"source transaction of 100, Unset:, source transaction append, source transaction commit, source transaction acknowledge",
		"sink transaction of 100, Error:, sink transaction write, sink transaction prepare, sink transaction commit failed: ",
		"the target is away",
		"sink transaction of 100, Unset:, sink transaction write, sink transaction prepare, sink transaction commit",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("not told: %s\namong %s", want, all)
		}
	}
}
