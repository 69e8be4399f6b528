package task

import (
	"bytes"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// halves holds back the first half of a change of a row's key (a delete, and its tombstone) that ends what was read of its partition, until what follows is there. A sink
// takes columns that the second half leaves out from the row that the first one removes, so no commit may come between them (connectors.SinkTask.Write).
//
// A second half may never come: another run of a snapshot has the row. Then the first is given to the sink when the log was read for halfWait
// and had no more of the partition. Time in which nobody read does not count: in a commit of another partition, or of a machine that sleeps, the second half comes no nearer.
//
// Its memory is one record and one tombstone for each partition.
type halves struct {
	of     map[connectors.TopicPartition]*half
	polled time.Time // when the last poll came back
}

type half struct {
	records []connectors.Record // with memory of their own
	next    int64               // the offset to read behind them
	quiet   time.Duration       // how long the log was read, and had no more
}

// halfWait is longer than a producer without transactions takes from one half to the other: for others the end of the partition tells that there is none.
const halfWait = 3 * time.Second

// join puts halves that were held before what follows them, takes those away that nothing follows, and adds those that have waited long enough. behind says
// of which partitions the log is known to hold more than was polled.
func (h *halves) join(runs []hublog.Run, now time.Time, behind func(connectors.TopicPartition) bool) []hublog.Run {
	read := min(now.Sub(h.polled), pollWait)
	h.polled = now
	for i := range runs {
		run := &runs[i]
		if was := h.of[run.TopicPartition]; was != nil {
			run.Records = append(was.records, run.Records...)
			delete(h.of, run.TopicPartition)
		}
		if n := wholeMoves(run.Records); n < len(run.Records) {
			h.of[run.TopicPartition] = &half{records: copies(run.Records[n:]), next: run.Next, quiet: -read}
			run.Next = run.Records[n].Offset
			run.Records = run.Records[:n]
		}
	}
	for tp, one := range h.of {
		if one.quiet += read; behind(tp) {
			one.quiet = 0
		}
		if one.quiet >= halfWait {
			runs = append(runs, hublog.Run{TopicPartition: tp, Records: one.records, Next: one.next})
			delete(h.of, tp)
		}
	}
	return runs
}

// before is where a half of a partition begins that is held; next if there is none.
func (h *halves) before(tp connectors.TopicPartition, next int64) int64 {
	if one := h.of[tp]; one != nil {
		return one.records[0].Offset
	}
	return next
}

// wholeMoves is how many of a partition's records come before a first half at their end.
func wholeMoves(records []connectors.Record) int {
	n := len(records)
	if n > 1 && records[n-1].RawValue == nil && bytes.Equal(records[n-1].RawKey, records[n-2].RawKey) {
		n-- // the tombstone of what may be one
	}
	if n > 0 && hasHeader(&records[n-1], headerNewKey) {
		return n - 1
	}
	return len(records)
}

// copies has nothing of the poller's memory.
func copies(records []connectors.Record) []connectors.Record {
	out := make([]connectors.Record, len(records))
	for i, r := range records {
		r.RawKey, r.RawValue = bytes.Clone(r.RawKey), bytes.Clone(r.RawValue)
		headers := make([]connectors.Header, len(r.Headers))
		for j, h := range r.Headers {
			headers[j] = connectors.Header{Key: h.Key, Value: bytes.Clone(h.Value)}
		}
		r.Headers = headers
		out[i] = r
	}
	return out
}
