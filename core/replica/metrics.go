package replica

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/internal/metrics"
)

var (
	hostedN       = metrics.Gauge("forebay_partitions_hosted", "Partitions that have a replica on this node.")
	led           = metrics.Gauge("forebay_partitions_led", "Partitions that this node leads.")
	underRepl     = metrics.Gauge("forebay_partitions_under_replicated", "Partitions that this node leads and that have a replica which is not in sync. 0 in a healthy cluster.")
	underMin      = metrics.Gauge("forebay_partitions_under_min_isr", "Partitions that this node leads with fewer in-sync replicas than min.insync.replicas: acks=all is refused. 0 in a healthy cluster.")
	atMin         = metrics.Gauge("forebay_partitions_at_min_isr", "Partitions that this node leads with just min.insync.replicas in sync, and fewer than all replicas.")
	leaderless    = metrics.Gauge("forebay_partitions_offline", "Partitions of the whole cluster that nobody leads. 0 in a healthy cluster; every node tells the same.")
	failedN       = metrics.Gauge("forebay_replicas_failed", "Replicas on this node whose log cannot be used: /readyz says why.")
	damagedN      = metrics.Gauge("forebay_replicas_damaged", "Replicas on this node whose log was found damaged and is not repaired yet.")
	repairsN      = metrics.Counter("forebay_replica_repairs_total", "Damaged replicas on this node that were set back, to be copied anew from their leaders.")
	scrubBytes    = metrics.Counter("forebay_scrub_bytes_total", "Bytes of logs that the scrub has read and compared with their CRCs.")
	scrubDamaged  = metrics.Counter("forebay_scrub_damaged_segments_total", "Segments that the scrub has found damaged: the node's log names them.")
	scrubFailed   = metrics.Counter("forebay_scrub_unreadable_segments_total", "Segments that the scrub could not read to their end: the disk refuses.")
	scrubEnded    = metrics.Gauge("forebay_scrub_pass_end_time_seconds", "When the scrub last came to the end of a pass over all logs, in Unix time; 0: it has not since the start.")
	isrShrinks    = metrics.Counter("forebay_isr_shrinks_total", "In-sync replicas that left a partition which this node leads.")
	isrExpands    = metrics.Counter("forebay_isr_expands_total", "In-sync replicas that joined a partition which this node leads.")
	reassigning   = metrics.Gauge("forebay_partitions_reassigning", "Partitions that this node leads and that are being moved.")
	logBytes      = metrics.Gauge("forebay_log_bytes", "Bytes of the logs that are open, by topic; of the topics beyond the first thousand by name together, as topic \"\".", "topic")
	logPartitions = metrics.Gauge("forebay_logs_open", "Logs that have been used since this node started.")
	dirOffline    = metrics.Gauge("forebay_log_directory_offline", "1 if the log directory cannot be used, else 0.", "directory")
	dirFree       = metrics.Gauge("forebay_log_directory_free_bytes", "Free bytes of a log directory's file system. Produce is refused when 5 %, at most 128 MiB, are left.", "directory")
	dirSize       = metrics.Gauge("forebay_log_directory_total_bytes", "Size of a log directory's file system.", "directory")
	syncSeconds   = metrics.Histogram("forebay_fsync_seconds", "Syncs of logs to disk, by log directory.", "directory")
)

// Families are the metrics of a Set.
var Families = []*metrics.Family{hostedN, led, underRepl, underMin, atMin, leaderless, failedN, damagedN, repairsN, scrubBytes, scrubDamaged, scrubFailed, scrubEnded, isrShrinks, isrExpands, reassigning,
	logBytes, logPartitions, dirOffline, dirFree, dirSize, syncSeconds}

// isrMoves counts members of the ISR of what this node leads.
type isrMoves struct{ shrinks, expands atomic.Int64 }

func (m *isrMoves) count(before, after []metadata.NodeID) {
	for _, n := range before {
		if !slices.Contains(after, n) {
			m.shrinks.Add(1)
		}
	}
	for _, n := range after {
		if !slices.Contains(before, n) {
			m.expands.Add(1)
		}
	}
}

// mostTopics bounds what is told by topic.
const mostTopics = 1000

// Metrics writes how the partitions of this node are.
func (s *Set) Metrics(w *metrics.Writer) {
	var hosted, leads, lacks, under, at, moving, none int64
	s.mu.RLock()
	image := s.mu.image
	for _, h := range s.mu.topics {
		for _, p := range h.topic.Partitions {
			if slices.Contains(p.Replicas, s.o.NodeID) {
				hosted++
			}
			if p.Leader != s.o.NodeID {
				continue
			}
			leads++
			short := len(p.ISR) < len(p.Replicas)
			if short {
				lacks++
			}
			if p.Reassigning() {
				moving++
			}
			switch least := min(h.settings.MinInSync, len(p.Replicas)); {
			case len(p.ISR) < least:
				under++
			case short && len(p.ISR) == least:
				at++
			}
		}
	}
	s.mu.RUnlock()
	if image != nil {
		for _, t := range image.Topics {
			for _, p := range t.Partitions {
				if p.Leader < 0 {
					none++
				}
			}
		}
	}
	w.Count(hostedN, hosted)
	w.Count(led, leads)
	w.Count(underRepl, lacks)
	w.Count(underMin, under)
	w.Count(atMin, at)
	w.Count(leaderless, none)
	w.Count(failedN, int64(len(s.Offline())))
	w.Count(damagedN, int64(s.repairs.count()))
	w.Count(repairsN, s.repairs.done.Load())
	w.Count(scrubBytes, s.scrubs.bytes.Load())
	w.Count(scrubDamaged, s.scrubs.damaged.Load())
	w.Count(scrubFailed, s.scrubs.failed.Load())
	w.Count(scrubEnded, s.scrubs.ended.Load())
	w.Count(isrShrinks, s.moves.shrinks.Load())
	w.Count(isrExpands, s.moves.expands.Load())
	w.Count(reassigning, moving)
	s.logMetrics(w)
	s.dirMetrics(w)
}

func (s *Set) logMetrics(w *metrics.Writer) {
	sizes := map[string]int64{}
	open := int64(0)
	s.Hosted(func(p *partition.Partition) {
		open++
		sizes[p.Topic] += p.Log().Size()
	})
	w.Count(logPartitions, open)
	var rest int64
	for i, topic := range slices.Sorted(maps.Keys(sizes)) {
		if i < mostTopics {
			w.Count(logBytes, sizes[topic], topic)
		} else {
			rest += sizes[topic]
		}
	}
	if len(sizes) > mostTopics {
		w.Count(logBytes, rest, "")
	}
}

func (s *Set) dirMetrics(w *metrics.Writer) {
	for _, d := range s.o.Dirs {
		if d.Failed() != nil {
			w.Count(dirOffline, 1, d.Name)
			continue
		}
		w.Count(dirOffline, 0, d.Name)
		if free, total, err := s.o.FS.Usage(d.Path); err == nil {
			w.Count(dirFree, int64(free), d.Name)
			w.Count(dirSize, int64(total), d.Name)
		}
		if d.Syncer != nil {
			w.Latency(syncSeconds, d.Syncer.Syncs(), d.Name)
		}
	}
}

// Opened is a partition that is here and open, or nil: nothing is opened for it.
func (s *Set) Opened(topic string, number int32) *partition.Partition {
	sl, err := s.slot(topic, number)
	if err != nil {
		return nil
	}
	return sl.p.Load()
}
