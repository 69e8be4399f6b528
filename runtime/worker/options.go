// Package worker runs the connectors of one process: it makes their topics,
// places their tasks, restarts what failed, with growing patience, and answers
// for their state.
package worker

import (
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/transform"
)

// Options make a Worker.
type Options struct {
	Log        hublog.Options
	Group      string // of workers: part of every transactional id; "": default
	Host       string // "": the machine's name
	Registry   connectors.Registry
	Connectors []Config
	Logger     *slog.Logger // nil: silent
	Tracer     trace.Tracer // of transactions of sources and sinks; nil: none
	// DrainTimeout is how long the tasks may take to commit what they have
	// once Run's context has ended. 0: 20 s.
	DrainTimeout time.Duration
	// SchemaRegistry is this node's own, for connectors that name no other; nil: it has none.
	SchemaRegistry http.Handler
}

// Config is one connector as the user configured it.
type Config struct {
	Name   string
	Type   string
	Sink   bool
	Wanted State       // Paused or Stopped; "": Running
	Values spec.Values // the type's fields and SourceFields or SinkFields
	Node   spec.Node   // as written, for the flat REST form
}

// SourceFields are the fields that the runtime takes from every source.
var SourceFields = spec.Spec{Fields: []spec.Field{
	{Name: "envelope", Type: spec.Enum, Enum: []string{"debezium", "plain"}, Default: "debezium",
		Doc: "How a row change is written: as Debezium's envelope (before, after, source, op), or as the row alone, where a delete is a tombstone."},
	{Name: "schemas", Type: spec.Bool, Default: "false",
		Doc: "Write each JSON key and value as {schema, payload}, as Kafka Connect's JsonConverter does; it makes records several times larger."},
	{Name: "partitions", Type: spec.Int, Default: "1", Check: positive,
		Doc: "Partitions of the topics that this source creates. With more than one, a truncate or a schema change has no order across partitions."},
	delivery,
	converterOf("key", "keys are written", converter.SourceForms),
	converterOf("value", "values are written", converter.SourceForms),
	schemaRegistry,
	transform.Field(transform.Source),
	onError("What becomes of a record that a transform or the converter refuses, or that is larger than its topic takes: the source fails, or the record becomes a dead letter, which keeps it (`forebay dlq`), and later records of its key wait behind it."),
	lettersOf("source"),
}}

// SinkFields are the fields that the runtime takes from every sink.
var SinkFields = spec.Spec{Fields: []spec.Field{
	delivery,
	converterOf("key", "keys are read that have no schema header", converter.SinkForms),
	converterOf("value", "values are read that have no schema header", converter.SinkForms),
	schemaRegistry,
	transform.Field(transform.Sink),
	{Name: "start", Type: spec.String, Default: "beginning", Check: start,
		Doc: "What a target gets first of a partition of which it holds nothing: `beginning`, or a time as in 2026-11-30T08:00:00Z: the first record of that time or later. " +
			"A target that holds something goes on behind it. With another name and url beside the first sink this writes a stretch of the log again."},
	onError("What becomes of a record that a transform, the converter or the target cannot handle: the sink fails, or the record becomes a dead letter (`forebay dlq`) and later records of its key wait behind it."),
	lettersOf("sink"),
}}

func start(v any) error {
	if text, ok := v.(string); ok {
		if _, err := startOf(text); err != nil {
			return errStart
		}
	}
	return nil
}

var delivery = spec.Field{Name: "delivery", Type: spec.Enum, Enum: []string{"exactly_once", "at_least_once"}, Default: "exactly_once",
	Doc: "What is promised about each record. A connector that cannot keep exactly_once runs only when at_least_once is asked for."}

func onError(doc string) spec.Field {
	return spec.Field{Name: "on_error", Type: spec.Enum, Enum: []string{"fail", "dlq"}, Default: "fail", Doc: doc}
}

func lettersOf(kind string) spec.Field {
	return spec.Field{Name: "dlq", Type: spec.Group, Doc: "With on_error: dlq.", Fields: []spec.Field{
		{Name: "limit", Type: spec.Int, Default: "1000", Check: letters,
			Doc: "The " + kind + " fails all the same when it would have more dead letters than this: a whole topic of bad records is a wrong config."},
	}}
}

func letters(v any) error {
	if n, ok := v.(int64); ok && (n < 1 || n > 100_000) {
		return errLetters
	}
	return nil
}

func positive(v any) error {
	if n, ok := v.(int64); ok && (n < 1 || n > 10_000) {
		return errPartitions
	}
	return nil
}
