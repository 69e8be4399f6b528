package task

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// refresh takes on the partitions that match the sink's globs and are new.
func (t *sinkTask) refresh(ctx context.Context) error {
	topics, err := t.o.Log.Topics(ctx)
	if err != nil {
		return err
	}
	t.refreshed = time.Now()
	for name, id := range t.ids {
		now, ok := topics[name]
		if !ok {
			return fmt.Errorf("topic %s has been deleted", name) // the restart goes on without it
		}
		if now.ID != id {
			return connectors.Fatal(fmt.Errorf("topic %s has been deleted and created again: offsets from %d on name other records now", name, t.least(name)),
				"what was written of the old topic is safe; give the sink another name or url to write the new one from its start")
		}
	}
	var fresh []connectors.TopicPartition
	for name, topic := range topics {
		if !matches(t.o.Sink.Topics(), name) {
			continue
		}
		for p := range topic.Partitions {
			tp := connectors.TopicPartition{Topic: name, Partition: p}
			if t.parts[tp] == nil {
				fresh = append(fresh, tp)
			}
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	sort.Slice(fresh, func(i, j int) bool {
		return fresh[i].Topic < fresh[j].Topic || fresh[i].Topic == fresh[j].Topic && fresh[i].Partition < fresh[j].Partition
	})
	return t.assign(ctx, fresh, topics)
}

// least is the lowest offset that the target still needs of a topic.
func (t *sinkTask) least(topic string) int64 {
	least := int64(-1)
	for tp, p := range t.parts {
		if tp.Topic == topic && (least < 0 || p.committed < least) {
			least = p.committed
		}
	}
	return max(least, 0)
}

// assign asks the target where to resume (invariant 6) and starts reading there.
func (t *sinkTask) assign(ctx context.Context, fresh []connectors.TopicPartition, topics map[string]hublog.Topic) error {
	ends, err := t.o.Log.Offsets(ctx, fresh...)
	if err != nil {
		return err
	}
	begin, err := t.begin(ctx, fresh)
	if err != nil {
		return err
	}
	var as []connectors.Assignment
	for _, tp := range fresh {
		if at, ok := ends[tp]; ok {
			as = append(as, connectors.Assignment{TopicPartition: tp, TopicID: topics[tp.Topic].ID, StartOffset: at.Start, Begin: begin[tp], EndOffset: at.LSO})
		}
	}
	if len(as) == 0 {
		return nil
	}
	resume, err := t.sink.Recover(ctx, as)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	from, start := make(map[connectors.TopicPartition]int64, len(as)), make(map[connectors.TopicPartition]int64, len(as))
	for _, a := range as {
		at, ok := resume[a.TopicPartition]
		if !ok {
			return connectors.Fatal(fmt.Errorf("the sink does not say where to resume %s-%d", a.Topic, a.Partition), "a mistake in the connector")
		}
		if at < a.StartOffset {
			return lostRecords(a.TopicPartition, at, a.StartOffset)
		}
		if end := ends[a.TopicPartition].End; at > end {
			return connectors.Fatal(fmt.Errorf("the target has %s-%d up to offset %d, but the log ends at %d", a.Topic, a.Partition, at, end),
				"the log was restored from an older copy, or it is another log: compare before you go on")
		}
		from[a.TopicPartition] = at
		if at > a.First() { // by what a task before this one has written
			t.o.Stats.topic(a.Topic).active.Store(true)
		}
		t.ids[a.Topic] = a.TopicID
		t.parts[a.TopicPartition] = &part{tp: a.TopicPartition, written: at, committed: at, durable: at, reported: -1}
		start[a.TopicPartition] = a.StartOffset
	}
	if err := t.redecide(from, start); err != nil {
		return err
	}
	t.poller.Add(from)
	t.o.Logger.Debug("took on partitions", "count", len(from))
	return nil
}

// begin is where targets begin that hold nothing.
func (t *sinkTask) begin(ctx context.Context, tps []connectors.TopicPartition) (map[connectors.TopicPartition]int64, error) {
	if t.o.Start.IsZero() {
		return nil, nil
	}
	return t.o.Log.OffsetsAt(ctx, t.o.Start, tps...)
}

func lostRecords(tp connectors.TopicPartition, need, start int64) error {
	return connectors.Fatal(fmt.Errorf("records of %s-%d are lost: the target needs offset %d, but the log starts at %d: %d offsets are gone", tp.Topic, tp.Partition, need, start, start-need),
		"retention deleted them before they were written; lengthen retention.ms, and give the sink another name or url to go on from here")
}

// gap turns an offset that the log no longer holds into an error that names
// what is lost: never a silent skip.
func (t *sinkTask) gap(err error) error {
	var out *hublog.OutOfRange
	if !errors.As(err, &out) {
		return err
	}
	ctx, cancel := context.WithTimeout(t.hard, 10*time.Second)
	defer cancel()
	ends, lerr := t.o.Log.Offsets(ctx, out.TopicPartition)
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	if at := ends[out.TopicPartition]; out.Offset < at.Start {
		return lostRecords(out.TopicPartition, out.Offset, at.Start)
	}
	return err // beyond the end for now: try again
}

// matches says whether one of the globs matches name; `*` matches any
// characters, dots too, and `?` one.
func matches(globs []string, name string) bool {
	for _, g := range globs {
		if glob(g, name) {
			return true
		}
	}
	return false
}

// glob backtracks to the last star only, so it is linear in practice.
func glob(pattern, name string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// Matches says whether one of a sink's topic globs matches a topic.
func Matches(globs []string, topic string) bool { return matches(globs, topic) }
