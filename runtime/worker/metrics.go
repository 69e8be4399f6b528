package worker

import "github.com/forebayhub/forebay/internal/metrics"

var (
	pipelines       = metrics.Gauge("forebay_connector", "Always 1; the labels say what each connector of this process is and does.", "connector", "kind", "type", "state")
	pipelineRecords = metrics.Counter("forebay_connector_records_total", "Records that a source has appended, or a sink has written, since this process started.", "connector")
	pipelineBytes   = metrics.Counter("forebay_connector_bytes_total", "Bytes of their keys and values.", "connector")
	pipelineLag     = metrics.Gauge("forebay_connector_lag_records", "Sinks: records of the log that are not committed to the target. Missing while it is not known.", "connector")
	pipelineRetries = metrics.Counter("forebay_connector_restarts_total", "How often a connector began anew after an error that may pass.", "connector")
	deadRecords     = metrics.Gauge("forebay_dlq_records", "Records in a connector's dead letters, those that wait behind one of their key included. Missing for one that keeps none.", "connector")
	pipelineTasks   = metrics.Gauge("forebay_connector_tasks", "Tasks of a connector on this node.", "connector")
)

// Families are the metrics of connectors.
var Families = []*metrics.Family{pipelines, pipelineRecords, pipelineBytes, pipelineLag, pipelineRetries, deadRecords, pipelineTasks}

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
		if s.Dead >= 0 {
			w.Count(deadRecords, s.Dead, s.Name)
		}
		w.Count(pipelineRetries, s.Restarts, s.Name)
		w.Count(pipelineTasks, int64(len(s.Tasks)), s.Name)
	}
}
