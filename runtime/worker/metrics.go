package worker

import "github.com/forebayhub/forebay/internal/metrics"

var (
	pipelines       = metrics.Gauge("forebay_connector", "Always 1; the labels say what each connector of this process is and does.", "connector", "kind", "type", "state")
	pipelineRecords = metrics.Counter("forebay_connector_records_total", "Records that a source has appended, or a sink has written, since this process started.", "connector")
	pipelineBytes   = metrics.Counter("forebay_connector_bytes_total", "Bytes of their keys and values.", "connector")
	pipelineLag     = metrics.Gauge("forebay_connector_lag_records", "Sinks: records of the log that are not committed to the target. Missing while it is not known.", "connector")
	pipelineBehind  = metrics.Gauge("forebay_connector_lag_seconds", "How far it is behind. Sinks: the age of the oldest record that is read and not committed to the target. Sources: the age, by the source's clock, that the last record had when the log had it; 0 when none has come for 10 s. Of one that does not run, at least how long it has not. Missing while it is not known.", "connector")
	pipelineCommits = metrics.Histogram("forebay_connector_commit_seconds", "How long its commits took. Sources: of a transaction of the log. Sinks: to make what was written visible in the target. forebay_connector_records_total over the count is the records of a commit.", "connector")
	pipelineLatency = metrics.Histogram("forebay_connector_latency_seconds", "From a record's commit at its source, if the record says when that was (else: from its time in the log), to its commit to the log by a source, to the target by a sink: of the oldest record of each commit. Topics beyond a connector's first hundred come together, with an empty topic.", "connector", "topic")
	pipelineRetries = metrics.Counter("forebay_connector_restarts_total", "How often a connector began anew after an error that may pass.", "connector")
	deadRecords     = metrics.Gauge("forebay_dlq_records", "Records in a connector's dead letters, those that wait behind one of their key included. Missing for one that keeps none.", "connector")
	pipelineTasks   = metrics.Gauge("forebay_connector_tasks", "Tasks of a connector on this node.", "connector")
)

// Families are the metrics of connectors.
var Families = []*metrics.Family{pipelines, pipelineRecords, pipelineBytes, pipelineLag, pipelineBehind, pipelineCommits, pipelineLatency, pipelineRetries, deadRecords, pipelineTasks}

// Metrics writes what connectors have done.
func Metrics(w *metrics.Writer, all []Status) {
	for _, s := range all {
		kind := "source"
		if s.Sink {
			kind = "sink"
		}
		w.Value(pipelines, 1, s.Name, kind, s.Type, string(s.State))
		w.Count(pipelineRecords, s.Records, s.Name)
		w.Count(pipelineBytes, s.Bytes, s.Name)
		if s.Sink && s.Lag >= 0 {
			w.Count(pipelineLag, s.Lag, s.Name)
		}
		if s.Timely() {
			w.Value(pipelineBehind, s.Behind.Seconds(), s.Name)
		}
		if s.stats != nil {
			w.Latency(pipelineCommits, &s.stats.Commits, s.Name)
			s.stats.Latency(func(topic string, l *metrics.Latency) { w.Latency(pipelineLatency, l, s.Name, topic) })
		}
		if s.Dead >= 0 {
			w.Count(deadRecords, s.Dead, s.Name)
		}
		w.Count(pipelineRetries, s.Restarts, s.Name)
		w.Count(pipelineTasks, int64(len(s.Tasks)), s.Name)
	}
}
