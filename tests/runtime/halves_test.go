package runtime_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/task"
)

// moving is a topic with the numbers up to n, in one transaction. Those of moves are the first half of a change of a key, and what follows them the second.
func (b *bench) moving(n int, moves map[int]bool) (topic string) {
	b.t.Helper()
	topic = unique("moves")
	if _, err := b.log.EnsureTopic(b.t.Context(), connectors.TopicSpec{Name: topic}); err != nil {
		b.t.Fatal(err)
	}
	a, err := b.log.NewAppender(b.t.Context(), topic, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer a.Close()
	if err := a.Begin(); err != nil {
		b.t.Fatal(err)
	}
	for i := range n {
		var hs []kgo.RecordHeader
		switch {
		case moves[i]:
			hs = []kgo.RecordHeader{{Key: "__debezium.newkey", Value: []byte("x")}}
		case moves[i-1]:
			hs = []kgo.RecordHeader{{Key: "__debezium.oldkey", Value: []byte("x")}}
		}
		a.Append(topic, 0, []byte("k"+strconv.Itoa(i)), []byte(strconv.Itoa(i)), hs, time.Now())
	}
	if _, err := a.Commit(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return topic
}

// sinkUntil runs the sink until something is so.
func (b *bench) sinkUntil(dst *memory, what string, so func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- b.sink(ctx, dst, 10*time.Second) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}()
	eventually(b.t, 30*time.Second, what, so)
}

// A sink takes columns that the second half of a change of a key leaves out from the row that the first half removes. So it has both
// before it may commit, wherever a portion or a poll of the log ends.
func TestNoCommitBetweenTheHalvesOfAMove(t *testing.T) {
	for letters, n := range map[int]int{0: 16_500, 10: 1_100} {
		b := newBench(t)
		b.letters = letters
		moves := map[int]bool{999: true, 16_383: true} // the last record of a portion, and of a poll
		dst := newMemory(b.moving(n, moves))
		dst.step = func(step string, tp connectors.TopicPartition) error {
			if at := int(dst.next[tp]); step == "committed" && moves[at-1] {
				t.Errorf("letters %d: a commit ends at %d, between the halves of a move", letters, at)
			}
			return nil
		}
		b.sinkUntil(dst, "the last is read", func() bool { return dst.given(int64(n) - 1) })
		exactly(t, dst.all(), int64(n))
	}
}

// Nobody is told that a first half is in the target when the second has not been read: the log may end with it, for what we know.
func TestFlushDoesNotPassHalfAMove(t *testing.T) {
	b := newBench(t)
	topic := b.moving(2, map[int]bool{1: true})
	dst := newMemory(topic)
	ask, answer := make(chan task.Flush, 1), make(chan task.FlushResult, 1)
	b.flush = ask
	dst.step = func(step string, _ connectors.TopicPartition) error {
		if step == "write" && !dst.given(0) {
			ask <- task.Flush{Done: answer} // answered when what has been read is written
		}
		return nil
	}
	b.sinkUntil(dst, "the flush is answered", func() bool { return len(answer) > 0 })
	if r := <-answer; r.Err != nil || r.Committed[connectors.TopicPartition{Topic: topic}] != 1 {
		t.Errorf("the flush says %v, %v; the half lies at 1", r.Committed, r.Err)
	}
	exactly(t, dst.all(), 1)
}
