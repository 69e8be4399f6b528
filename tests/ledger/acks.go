package ledger

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// acks are what producers were told: per producer the numbers that were acknowledged.
type acks struct {
	mu      sync.Mutex
	acked   map[string]map[int64]place // producer -> number -> where
	aborted map[string]map[int64]bool  // producer -> numbers whose abort was acknowledged
	max     map[string]int64           // producer -> highest number tried
}

type place struct {
	partition int32
	offset    int64
}

func (l *acks) ack(producer string, n int64, p place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked[producer] == nil {
		l.acked[producer] = map[int64]place{}
	}
	l.acked[producer][n] = p
}

// gone notes that a transaction was aborted, and that the producer was told so.
func (l *acks) gone(producer string, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.aborted[producer] == nil {
		l.aborted[producer] = map[int64]bool{}
	}
	l.aborted[producer][n] = true
}

func (l *acks) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.acked {
		n += len(m)
	}
	return n
}

func (l *acks) countAborted() (n int) {
	for _, m := range l.aborted {
		n += len(m)
	}
	return n
}

// verify reads all that is committed twice, and holds it against the ledger.
func (l *acks) verify(t testing.TB, connect Connect, admin *kadm.Client) {
	t.Helper()
	committed, again := readAll(t, connect, admin), readAll(t, connect, admin)
	if len(again) != len(committed) {
		t.Errorf("%d records were read, and then %d", len(committed), len(again))
	}
	found := map[string]map[int64]place{}
	last := map[string]map[int32]int64{} // producer -> partition -> last number
	for i, r := range committed {
		if i >= len(again) || r.Offset != again[i].Offset || string(r.Value) != string(again[i].Value) {
			t.Fatalf("%s-%d@%d changed between two reads", r.Topic, r.Partition, r.Offset)
		}
		name := string(r.Key)
		number, err := strconv.ParseInt(string(r.Value), 10, 64)
		if err != nil {
			t.Fatalf("read_committed saw %q at %s-%d@%d: it was aborted", r.Value, r.Topic, r.Partition, r.Offset)
		}
		if l.aborted[name][number] {
			t.Fatalf("read_committed saw %s's record %d at %s-%d@%d: it was aborted", name, number, r.Topic, r.Partition, r.Offset)
		}
		if found[name] == nil {
			found[name], last[name] = map[int64]place{}, map[int32]int64{0: -1, 1: -1, 2: -1}
		}
		if at, twice := found[name][number]; twice {
			t.Fatalf("%s's record %d is there twice: %v and %d@%d", name, number, at, r.Partition, r.Offset)
		}
		found[name][number] = place{r.Partition, r.Offset}
		if number <= last[name][r.Partition] {
			t.Fatalf("%s's record %d comes after %d in %s-%d", name, number, last[name][r.Partition], r.Topic, r.Partition)
		}
		last[name][r.Partition] = number
	}
	whole := map[string]map[int64]int{} // transactional producer -> transaction -> records of it
	for name, numbers := range found {
		for number := range numbers {
			if whole[name] == nil {
				whole[name] = map[int64]int{}
			}
			whole[name][number/5]++
		}
	}
	for name, txns := range whole {
		for txn, records := range txns {
			if name[0] == 't' && records != 5 {
				t.Errorf("%s's transaction %d is torn: %d of its 5 records are there", name, txn, records)
			}
		}
	}
	lost := 0
	for name, numbers := range l.acked {
		for number, at := range numbers {
			got, ok := found[name][number]
			switch {
			case !ok:
				if lost++; lost <= 5 {
					t.Errorf("%s's record %d was acknowledged at %v and is lost", name, number, at)
				}
			case at.offset >= 0 && got != at:
				t.Errorf("%s's record %d was acknowledged at %v and lies at %v", name, number, at, got)
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d acknowledged records are lost", lost)
	}
	t.Logf("soak: %d records read back, %d aborted ones are not among them", len(committed), l.countAborted())
}

// readAll reads what is committed, partition by partition.
func readAll(t testing.TB, connect Connect, admin *kadm.Client) (all []*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	// The last records may belong to transactions that were left open.
	if err := decided(ctx, admin, "numbers", "txn"); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"numbers", "txn"} {
		records, err := readTopic(ctx, connect, topic)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortStableFunc(records, func(a, b *kgo.Record) int { return cmp.Compare(a.Partition, b.Partition) })
		all = append(all, records...)
	}
	return all
}
