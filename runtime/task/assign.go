package task

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// errDeleted ends a task that has committed all that it had read.
var errDeleted = errors.New("has been deleted")

// refresh takes on the partitions that match the sink's globs and are new.
func (t *sinkTask) refresh(ctx context.Context) error {
	topics, err := t.o.Log.Topics(ctx)
	if err != nil {
		return err
	}
	t.refreshed = time.Now()
	for name, id := range t.ids {
		now, ok := topics[name]
		if ok && now.ID == id {
			continue
		}
		// The log has them no more: what was read of it is safe in the target only.
		if err := t.commit(t.all(), connectors.CauseFlush); err != nil {
			return fmt.Errorf("topic %s has been deleted; commit what was read of it: %w", name, err)
		}
		if !ok {
			return fmt.Errorf("topic %s %w", name, errDeleted) // the restart goes on without it
		}
		return connectors.Fatal(fmt.Errorf("topic %s has been deleted and created again: offsets from %d on name other records now", name, t.least(name)),
			"what was written of the old topic is safe; give the sink another name or url to write the new one from its start")
	}
	t.stuck.topics = topics
	maps.DeleteFunc(t.stuck.of, func(tp connectors.TopicPartition, _ *reading) bool {
		return t.parts[tp] == nil && tp.Partition >= topics[tp.Topic].Partitions
	})
	var fresh []connectors.TopicPartition
	matching := 0
	for name, topic := range topics {
		if !matches(t.o.Sink.Topics(), name) {
			continue
		}
		matching += int(topic.Partitions)
		for p := range topic.Partitions {
			tp := connectors.TopicPartition{Topic: name, Partition: p}
			// One whose leader does not answer waits beside the loop: whoever is taken on must not wait for it.
			if r := t.stuck.reading(tp); t.parts[tp] == nil && !r.away && t.stuck.led(tp) {
				fresh = append(fresh, tp)
			}
		}
	}
	t.tell(matching)
	if len(fresh) == 0 {
		return nil
	}
	slices.SortFunc(fresh, compare)
	return t.assign(ctx, fresh, topics)
}

// tell says that no topic matches, and when one does at last. Only the second look counts: a source that is declared with the sink makes its topics when it starts.
func (t *sinkTask) tell(partitions int) {
	switch {
	case partitions == 0:
		if t.looks++; t.looks == 2 {
			t.o.Logger.Warn("no topic matches the sink's topics: it has nothing to write until there is one", "topics", strings.Join(t.o.Sink.Topics(), ", "))
		}
	case t.looks >= 2:
		t.o.Logger.Info("a topic matches the sink's topics now", "partitions", partitions)
		fallthrough
	default:
		t.looks = 0
	}
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
	ends, failed := t.o.Log.EndsOf(ctx, fresh...)
	if err := ctx.Err(); err != nil {
		return err
	}
	for tp, err := range failed {
		if !passes(err) {
			return fmt.Errorf("list offsets of %s-%d: %w", tp.Topic, tp.Partition, err)
		}
		t.stuck.reading(tp).away = true
	}
	fresh = slices.DeleteFunc(fresh, func(tp connectors.TopicPartition) bool {
		_, is := ends[tp]
		return !is
	})
	if len(fresh) == 0 {
		return nil
	}
	begin, err := t.begin(ctx, fresh)
	if err != nil {
		return err
	}
	as := make([]connectors.Assignment, 0, len(fresh))
	for _, tp := range fresh {
		as = append(as, connectors.Assignment{TopicPartition: tp, TopicID: topics[tp.Topic].ID, StartOffset: ends[tp].Start, Begin: begin[tp], EndOffset: ends[tp].LSO})
	}
	resume, err := t.sink.Recover(ctx, as)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	t.warnOfGone(ctx, as, resume)
	if !t.derived && topics[as[0].Topic].Derived {
		t.derived = true
		t.o.Logger.Warn("the log gives topics no ids (Metadata has them from version 10 on): a topic that is deleted and created again under its name cannot be told from the old one, so give it another name")
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
		t.parts[a.TopicPartition] = &part{tp: a.TopicPartition, written: at, committed: at, durable: at, half: -1, reported: -1}
		t.stuck.reading(a.TopicPartition).end = a.EndOffset
		start[a.TopicPartition] = a.StartOffset
	}
	if err := t.redecide(from, start); err != nil {
		return err
	}
	t.poller.Add(from)
	t.o.Logger.Debug("took on partitions", "count", len(from))
	return nil
}

// warnOfGone says of which topics a target that holds nothing gets no beginning, because the log has it no more. The sink's answer is the log's start then; so it is when
// the target holds just what is gone. The lag group tells the two apart: it stands where the target does, if this is the target that it was committed for.
func (t *sinkTask) warnOfGone(ctx context.Context, as []connectors.Assignment, resume map[connectors.TopicPartition]int64) {
	if !t.o.Start.IsZero() {
		return // somebody has chosen
	}
	at := slices.DeleteFunc(slices.Clone(as), func(a connectors.Assignment) bool {
		return a.StartOffset == 0 || resume[a.TopicPartition] != a.StartOffset
	})
	if len(at) == 0 {
		return
	}
	known, err := t.o.Log.GroupOffsets(ctx, LagGroup(t.o.Env.Name))
	if err != nil { // no right to read groups, maybe: rather say too much
		t.o.Logger.Debug("read the lag group", "error", err)
	}
	offsets, partitions := map[string]int64{}, map[string]int{}
	for _, a := range at {
		if known[a.TopicPartition] != a.StartOffset {
			offsets[a.Topic] += a.StartOffset
			partitions[a.Topic]++
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(offsets)) {
		t.o.Logger.Warn("the target begins behind offsets of the topic that the log no longer has: retention or DeleteRecords removed them, and with them every record that they still held",
			"topic", topic, "offsets", offsets[topic], "partitions", partitions[topic])
	}
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
