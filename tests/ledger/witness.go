package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// spot is one partition.
type spot struct {
	topic     string
	partition int32
}

// witness remembers what was once readable, whether acknowledged or not: an offset never gets another content, and
// what was read does not go away but by retention and compaction (invariant 2).
type witness struct {
	mu    sync.Mutex
	seen  map[spot]map[int64]uint64 // offset -> hash of the record
	ends  map[spot]int64            // beyond the last offset that was seen
	start map[spot]int64            // the highest log start offset
	wrong error
}

// watched are the topics; from those that are kept nothing may vanish.
var watched = map[string]struct{ kept bool }{"numbers": {true}, "txn": {true}, "moved": {true}, "table": {}, "short": {}}

func newWitness() *witness {
	return &witness{seen: map[spot]map[int64]uint64{}, ends: map[spot]int64{}, start: map[spot]int64{}}
}

func digest(r *kgo.Record) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %v %v %d %d %d %v ", r.Timestamp.UnixMilli(), r.Attrs.IsControl(), r.Attrs.IsTransactional(), r.ProducerID, r.ProducerEpoch, len(r.Key), r.Value == nil)
	_, _ = h.Write(r.Key) // a hash takes everything
	_, _ = h.Write(r.Value)
	return h.Sum64()
}

func (w *witness) see(r *kgo.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := spot{r.Topic, r.Partition}
	if w.seen[at] == nil {
		w.seen[at] = map[int64]uint64{}
	}
	now := digest(r)
	if before, ok := w.seen[at][r.Offset]; ok && before != now && w.wrong == nil {
		w.wrong = fmt.Errorf("%s-%d@%d has two contents, the second is %q", r.Topic, r.Partition, r.Offset, r.Value)
	}
	w.seen[at][r.Offset] = now
	w.ends[at] = max(w.ends[at], r.Offset+1)
}

// follow reads the ends of all partitions as they grow, without waiting for transactions.
func (w *witness) follow(ctx context.Context, c *kgo.Client) {
	for ctx.Err() == nil {
		c.PollFetches(ctx).EachRecord(w.see)
	}
}

// followCommitted is follow for a client that reads committed transactions only.
func (w *witness) followCommitted(ctx context.Context, c *kgo.Client) {
	for ctx.Err() == nil {
		c.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			w.see(r)
			if bytes.HasPrefix(r.Value, []byte(abortedPrefix)) {
				w.mu.Lock()
				w.wrong = fmt.Errorf("read_committed saw %q at %s-%d@%d: it was aborted", r.Value, r.Topic, r.Partition, r.Offset)
				w.mu.Unlock()
			}
		})
	}
}

// reread reads again what was seen, the last so many offsets of each partition, and reports what is other than it was.
func (w *witness) reread(connect Connect, last int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := connect(kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer c.Close()
	w.mu.Lock()
	before := maps.Clone(w.ends) // follow goes on
	w.mu.Unlock()
	starts, err := told(ctx, kadm.NewClient(c).ListStartOffsets, topics...)
	if err != nil {
		return err
	}
	ends, err := told(ctx, kadm.NewClient(c).ListEndOffsets, topics...)
	if err != nil {
		return err
	}
	from, until := map[string]map[int32]kgo.Offset{}, map[spot]int64{}
	begin, missing := map[spot]int64{}, map[spot]map[int64]bool{}
	w.mu.Lock()
	for at, end := range before {
		low, _ := starts.Lookup(at.topic, at.partition)
		high, _ := ends.Lookup(at.topic, at.partition)
		switch {
		case low.Err != nil || high.Err != nil:
			err = fmt.Errorf("%v: %w", at, errors.Join(low.Err, high.Err))
		case low.Offset < w.start[at]:
			err = fmt.Errorf("the log start of %v went from %d back to %d", at, w.start[at], low.Offset)
		case high.Offset < end:
			err = fmt.Errorf("%v was read to %d and ends at %d", at, end, high.Offset)
		}
		w.start[at] = low.Offset
		begin[at] = max(low.Offset, end-last)
		if begin[at] >= end {
			continue // retention took all of it
		}
		until[at] = end
		missing[at] = map[int64]bool{}
		for offset := range w.seen[at] {
			if offset < low.Offset {
				delete(w.seen[at], offset) // retention may have it
			} else if offset >= begin[at] && watched[at.topic].kept {
				missing[at][offset] = true
			}
		}
		if from[at.topic] == nil {
			from[at.topic] = map[int32]kgo.Offset{}
		}
		from[at.topic][at.partition] = kgo.NewOffset().At(begin[at])
	}
	w.mu.Unlock()
	if err != nil || len(until) == 0 {
		return err
	}
	c.AddConsumePartitions(from)
	for len(until) > 0 {
		f := c.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("what was read once cannot be read again within two minutes: %v are left", until)
		}
		f.EachRecord(func(r *kgo.Record) {
			w.see(r)
			at := spot{r.Topic, r.Partition}
			delete(missing[at], r.Offset)
			if r.Offset >= until[at]-1 {
				delete(until, at)
			}
		})
		// Compaction and retention may have taken the record that the loop waits for.
		if now, err := kadm.NewClient(c).ListStartOffsets(ctx, "short"); err == nil {
			now.Each(func(o kadm.ListedOffset) {
				if at := (spot{o.Topic, o.Partition}); o.Offset >= until[at] {
					delete(until, at)
				}
			})
		}
	}
	for at, offsets := range missing {
		for offset := range offsets {
			return fmt.Errorf("%v@%d was read once and is gone", at, offset)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrong
}

// count of offsets whose content is known.
func (w *witness) count() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, offsets := range w.seen {
		n += len(offsets)
	}
	return n
}
