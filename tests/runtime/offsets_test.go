package runtime_test

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// What is asked of single partitions, with the protocol's versions as this log has them.
func TestOffsetsOfPartitions(t *testing.T) {
	ctx := t.Context()
	l, err := hublog.Open(openLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	name := unique("n")
	if _, err := l.EnsureTopic(ctx, connectors.TopicSpec{Name: name, Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	a, err := l.NewAppender(ctx, unique("id"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	at := time.Now().Truncate(time.Millisecond)
	for n := range 2 {
		if err := a.Begin(); err != nil {
			t.Fatal(err)
		}
		a.Append(name, 0, nil, []byte("x"), nil, at.Add(time.Duration(n)*time.Hour))
		if _, err := a.Commit(ctx); err != nil {
			t.Fatal(err)
		}
	}
	first, second, third := connectors.TopicPartition{Topic: name}, connectors.TopicPartition{Topic: name, Partition: 1}, connectors.TopicPartition{Topic: name, Partition: 2}
	eventually(t, 10*time.Second, "both markers", func() bool {
		lso, failed := l.Stable(ctx, first, second, third)
		return len(failed) == 0 && len(lso) == 2 && lso[first] == 4 && lso[second] == 0
	})
	if ends, failed := l.EndsOf(ctx, first, third); len(failed) > 0 || len(ends) != 1 || ends[first] != (hublog.Offsets{LSO: 4, End: 4}) {
		t.Errorf("%v %v", ends, failed)
	}
	for after, want := range map[time.Duration]int64{-time.Minute: 0, time.Minute: 2, 2 * time.Hour: 4} {
		if got, err := l.OffsetsAt(ctx, at.Add(after), first, second, third); err != nil || len(got) != 2 || got[first] != want || got[second] != 0 {
			t.Errorf("%v after the first: %v %v", after, got, err)
		}
	}
	for offset, some := range map[int64]bool{0: true, 2: true, 4: false} {
		if n, err := l.Peek(ctx, first, offset); err != nil || (n > 0) != some {
			t.Errorf("%d bytes at %d, %v", n, offset, err)
		}
	}
	if _, err := l.Peek(ctx, first, 5); !errors.Is(err, kerr.OffsetOutOfRange) {
		t.Error("beyond the end:", err)
	}
	if _, err := l.Peek(ctx, third, 0); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Error("of no partition:", err)
	}
}
