package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// stuck watches over the partitions of which nothing comes. The poller's client asks again by itself for as long as an error may pass, which a damaged log's does not, and says
// nothing of it; so the leaders are asked beside the reading how far their partitions can be read. A partition that cannot be is no reason to stop: the others go on.
type stuck struct {
	topics map[string]hublog.Topic // of the latest refresh
	of     map[connectors.TopicPartition]*reading
	looked time.Time
	told   string // the partitions that somebody was told of

	// What is done beside the loop, one thing at a time: each may take as long as a node that does not answer is asked again.
	busy context.CancelFunc // nil: nothing is
	done chan func()        // what is left to do in the loop; has room for one
}

// reading is how the task gets on with one partition, taken on or not.
type reading struct {
	end   int64     // the last stable offset, as it was asked last; 0: it was not
	void  int64     // up to here nothing lies behind next: compaction can remove the last record
	next  int64     // the offset to read next, at the latest look; -1: it is not taken on
	still int       // looks since then for which its leader gave no answer, or has more
	away  bool      // it is not taken on because its leader did not answer
	why   error     // it cannot be read, and is not asked for but by looks; nil: it can, or it is too early to say
	since time.Time // the first of those looks
}

const (
	lookEvery = 10 * time.Second
	lookLimit = 15 * time.Second // beyond what the client tries one request for, so that its error is the reason and not this
	patience  = 3                // looks; a change of leaders takes less
	mostPeeks = 10               // that bring a batch, of one look
)

func newStuck() stuck {
	return stuck{of: map[connectors.TopicPartition]*reading{}, told: noPartitions, done: make(chan func(), 1)}
}

func (s *stuck) reading(tp connectors.TopicPartition) *reading {
	if s.of[tp] == nil {
		s.of[tp] = &reading{next: -1}
	}
	return s.of[tp]
}

// led says that a partition can be asked for.
func (s *stuck) led(tp connectors.TopicPartition) bool {
	leaders := s.topics[tp.Topic].Leaders
	return int(tp.Partition) < len(leaders) && leaders[tp.Partition] >= 0
}

// passes says that an error is about where a partition is now, not about the question.
func passes(err error) bool {
	var k *kerr.Error
	return !errors.As(err, &k) || k.Retriable
}

// beside runs do beside the loop, and in the loop, later, what it returns.
func (s *stuck) beside(ctx context.Context, limit time.Duration, do func(ctx context.Context) func()) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	s.busy = cancel
	go func() {
		defer cancel()
		s.done <- do(ctx)
	}()
}

// came does what is left of what was done beside the loop.
func (s *stuck) came() {
	select {
	case rest := <-s.done:
		s.busy = nil
		rest()
	default:
	}
}

// settle ends what is done beside the loop.
func (s *stuck) settle() {
	if s.busy != nil {
		s.busy()
		<-s.done
		s.busy = nil
	}
}

// next is the offset to read next of a partition; -1: it is not taken on.
func (t *sinkTask) next(tp connectors.TopicPartition) int64 {
	if t.parts[tp] == nil {
		return -1
	}
	return t.poller.Next(tp)
}

// end is how far the log goes with a partition, for those who read what is committed.
func (t *sinkTask) end(tp connectors.TopicPartition) int64 {
	if r := t.stuck.reading(tp); r.end > r.void {
		return max(r.end, t.poller.End(tp))
	}
	return t.poller.End(tp)
}

// answer is what a look found of one partition.
type answer struct {
	tp    connectors.TopicPartition
	next  int64
	still int
	lso   int64
	empty bool  // there is nothing up to lso
	good  bool  // it can be read
	err   error // it was not told, or cannot be read
}

// look asks for the partitions of which nothing has come since the look before. It leaves out what moves: a busy sink costs nothing.
func (t *sinkTask) look() {
	t.stuck.looked = time.Now()
	var asked []*answer
	var tps []connectors.TopicPartition
	for tp, r := range t.stuck.of { // in any order, so that all have their turn
		next := t.next(tp)
		if next >= 0 && next != r.next {
			t.reads(tp, r, next)
			continue
		}
		a := &answer{tp: tp, next: next, still: r.still}
		asked = append(asked, a)
		if !t.stuck.led(tp) {
			a.err = kerr.LeaderNotAvailable
			continue
		}
		tps = append(tps, tp)
	}
	t.stuck.beside(t.hard, lookLimit, func(ctx context.Context) func() {
		lso, failed := t.o.Log.Stable(ctx, tps...)
		good := 0
		for _, a := range asked {
			if a.err == nil {
				a.lso, a.err = lso[a.tp], failed[a.tp]
			}
			if a.err != nil || a.next < 0 || a.next >= a.lso || a.still < patience-1 || good >= mostPeeks {
				continue
			}
			n, err := t.o.Log.Peek(ctx, a.tp, a.next)
			if ctx.Err() != nil {
				continue // it says nothing
			}
			if a.good = err == nil || errors.Is(err, kerr.OffsetOutOfRange); !a.good { // of which the poller tells
				a.err = err
				continue
			}
			a.empty = err == nil && n == 0
			good++
		}
		return func() { t.learn(asked) }
	})
}

// learn takes in what a look found.
func (t *sinkTask) learn(asked []*answer) {
	for _, a := range asked {
		r := t.stuck.of[a.tp]
		if r == nil || t.next(a.tp) != a.next {
			continue // deleted, taken on or read meanwhile
		}
		if a.err == nil {
			r.end = a.lso
			if a.empty {
				r.void = a.lso
			}
		}
		if a.err == nil && (a.good || a.next < 0 || max(a.next, r.void) >= a.lso) {
			t.reads(a.tp, r, a.next)
			continue
		}
		if r.next = a.next; r.still == 0 {
			r.since = time.Now()
		}
		if r.still++; r.still >= patience && a.err != nil {
			r.why = unreadable(a)
			if a.next >= 0 {
				t.poller.Pause(a.tp)
			}
		}
	}
}

// reads begins anew with a partition that can be read, or may be.
func (t *sinkTask) reads(tp connectors.TopicPartition, r *reading, next int64) {
	if r.why != nil {
		t.poller.Resume(tp)
	}
	*r = reading{end: r.end, void: r.void, next: next}
}

func unreadable(a *answer) error {
	where, err := fmt.Sprintf("%s-%d", a.tp.Topic, a.tp.Partition), a.err
	if a.next >= 0 {
		where += fmt.Sprintf(" at offset %d", a.next)
	}
	if k := (*kerr.Error)(nil); errors.As(err, &k) {
		err = k
	}
	if errors.Is(err, kerr.CorruptMessage) || errors.Is(err, kerr.KafkaStorageError) {
		return fmt.Errorf("%s cannot be read: %w (the log of the node that leads it names the file)", where, err)
	}
	return fmt.Errorf("%s cannot be read: %w", where, err)
}

const noPartitions = "[]"

// tellStuck says what cannot be read, and when that is over.
func (t *sinkTask) tellStuck() {
	var which []connectors.TopicPartition
	now := &Stuck{Since: time.Now()}
	for tp, r := range t.stuck.of {
		if r.why != nil && t.next(tp) == r.next {
			which = append(which, tp)
			if r.since.Before(now.Since) {
				now.Since = r.since
			}
		}
	}
	slices.SortFunc(which, compare)
	if len(which) == 0 {
		now = nil
	} else if now.Text = t.stuck.of[which[0]].why.Error(); len(which) > 1 {
		now.Text += fmt.Sprintf(", nor can %d more partitions", len(which)-1)
	}
	t.o.Stats.stuck.Store(now)
	if told := fmt.Sprint(which); told != t.stuck.told {
		if t.stuck.told = told; now == nil {
			t.o.Logger.Info("all partitions can be read")
		} else {
			t.o.Logger.Warn("partitions cannot be read, the others go on", "error", now.Text)
		}
	}
}

// compare orders partitions.
func compare(a, b connectors.TopicPartition) int {
	return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
