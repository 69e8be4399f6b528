package task

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// stretch is one step of a transaction; it begins where the one before it ends.
type stretch struct {
	name string
	end  time.Time
}

// tell makes a trace of a transaction: a span for the whole, with a child for each stretch, of which an error belongs to the last. It is
// made when all is over, so that a transaction costs nothing where nobody collects traces.
func tell(tracer trace.Tracer, name string, kind trace.SpanKind, began time.Time, stretches []stretch, err error, attributes ...attribute.KeyValue) {
	if tracer == nil || len(stretches) == 0 {
		return
	}
	ctx, whole := tracer.Start(context.Background(), name, trace.WithNewRoot(), trace.WithTimestamp(began), trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
	if !whole.IsRecording() { // not sampled
		return
	}
	for i, s := range stretches {
		_, span := tracer.Start(ctx, name+" "+s.name, trace.WithTimestamp(began))
		if err != nil && i == len(stretches)-1 {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End(trace.WithTimestamp(s.end))
		began = s.end
	}
	if err != nil {
		whole.SetStatus(codes.Error, err.Error())
	}
	whole.End(trace.WithTimestamp(began))
}
