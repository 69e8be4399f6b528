package sim

import (
	"encoding/binary"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/core/statelog"
)

// startPolicies says what logs keep: the last record of each key, so many bytes, or both. Segments are small, so that there is always something to clean.
func (w *World) startPolicies() {
	if w.o.Kind != Cleaned {
		return
	}
	w.segment = 1 << 10
	w.keep = commitlog.Config{MinDirtyRatio: 1e-9, RetentionBytes: 6 << 10}
	policy := w.rng.IntN(3)
	w.keep.Compact, w.keep.Delete = policy != 0, policy != 1
	w.keys = []int64{1, 5, 40}[w.rng.IntN(3)]
}

// key is what a record is kept by.
func (w *World) key(value int64) []byte {
	if w.keys == 0 {
		return nil
	}
	return binary.BigEndian.AppendUint64(nil, uint64(value&(1<<32-1)%w.keys))
}

// clean has a node's logs looked after: retention in one step, compaction in as many as it reads or writes batches, with everything else between them.
func (n *node) clean() {
	if n.w.o.Kind != Cleaned {
		return
	}
	every := []time.Duration{50, 200, 1000}[n.w.rng.IntN(3)] * time.Millisecond
	n.every(every, func() { n.set.Maintain(n.running) })
	n.turns.Go(func() {
		for statelog.Pause(n.running, &n.turns, every) {
			n.set.Clean(n.running, 1, commitlog.Cleaning{Memory: 1 << 10, Pace: func(int) error {
				if n.w.chance(0.1) {
					n.w.moment(0.1, time.Millisecond)
					statelog.Pause(n.running, &n.turns, n.w.between(0, 20*time.Millisecond))
				}
				return n.running.Err()
			}})
		}
	})
}

// endOf is where the batches in raw end, and the epoch of the last one; 0 where there are none.
func endOf(raw []byte) (end int64, epoch int32) {
	for len(raw) > 0 {
		h, _, rest, err := record.Next(raw)
		if err != nil {
			break // who reads the records says so
		}
		end, epoch, raw = h.LastOffset()+1, h.LeaderEpoch, rest
	}
	return end, epoch
}

// cleaned says that a record which was acknowledged may be missing in a log: retention has taken it, or compaction has, and a later one of its key is there.
func (c *checker) cleaned(log []entry, value, offset, start int64) bool {
	if offset < start {
		return true
	}
	if !c.w.keep.Compact {
		return false
	}
	for i := len(log) - 1; i >= 0 && log[i].offset > offset; i-- {
		if log[i].value&(1<<32-1)%c.w.keys == value&(1<<32-1)%c.w.keys {
			return true
		}
	}
	return false
}
