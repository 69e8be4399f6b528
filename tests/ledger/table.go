package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/pause"
)

// update is one attempt to write a key; its number grows with each.
type update struct {
	key     string
	deletes bool
	acked   bool
}

// table is what a producer did to a compacted topic.
type table struct {
	mu      sync.Mutex
	updates []update // by number
}

// write updates and deletes keys at random. Each update has its number as its value, or no value.
func (d *table) write(ctx context.Context, c *kgo.Client, random *rand.Rand) {
	for ctx.Err() == nil {
		for range 20 {
			u := update{key: fmt.Sprintf("key-%d", random.IntN(200)), deletes: random.IntN(8) == 0}
			d.mu.Lock()
			number := len(d.updates)
			d.updates = append(d.updates, u)
			d.mu.Unlock()
			r := &kgo.Record{Topic: "table", Key: []byte(u.key), Headers: []kgo.RecordHeader{{Key: "n", Value: strconv.AppendInt(nil, int64(number), 10)}}}
			if !u.deletes {
				r.Value = strconv.AppendInt(nil, int64(number), 10)
			}
			c.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err == nil {
					d.mu.Lock()
					d.updates[number].acked = true
					d.mu.Unlock()
				}
			})
		}
		_ = pause.For(ctx, 5*time.Millisecond)
	}
	flush, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = c.Flush(flush) // what was not acknowledged may be there or not
}

// fill keeps a topic rolling and its retention busy.
func fill(ctx context.Context, c *kgo.Client, size int) {
	value := make([]byte, size)
	for ctx.Err() == nil {
		c.Produce(ctx, &kgo.Record{Topic: "short", Value: value}, nil)
		_ = pause.For(ctx, 10*time.Millisecond)
	}
}

// verify rebuilds the table from the log: of each key the last acknowledged update is there, or one that was tried after it.
func (d *table) verify(t testing.TB, connect Connect) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := connect(kgo.ConsumeTopics("table"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	admin := kadm.NewClient(c)
	ends, err := told(ctx, admin.ListEndOffsets, "table")
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup("table", 0)
	last, records := map[string]int{}, 0 // the number of each key's last record, tombstones too
	for next := int64(0); next < end.Offset; {
		f := c.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("the table could not be read beyond %d of %d", next, end.Offset)
		}
		f.EachRecord(func(r *kgo.Record) {
			records++
			next = r.Offset + 1
			number, err := strconv.Atoi(string(r.Headers[0].Value))
			if err != nil {
				t.Fatalf("table@%d: %v", r.Offset, err)
			}
			u := d.updates[number]
			if u.key != string(r.Key) || u.deletes != (r.Value == nil) {
				t.Fatalf("table@%d is %q=%q, and update %d was %+v", r.Offset, r.Key, r.Value, number, u)
			}
			if before, ok := last[u.key]; ok && before >= number {
				t.Fatalf("table@%d: update %d of %s comes after %d", r.Offset, number, u.key, before)
			}
			last[u.key] = number
		})
	}
	acked, deleted := map[string]int{}, map[string]int{}
	for number, u := range d.updates {
		if u.acked {
			acked[u.key] = number
		}
		if u.deletes {
			deleted[u.key] = number
		}
	}
	for key, number := range acked {
		got, there := last[key]
		if there && got < number || !there && deleted[key] < number {
			t.Errorf("%s: update %d (%+v) was acknowledged, and the log has %d (%v)", key, number, d.updates[number], got, there)
		}
	}
	if records >= int(end.Offset) {
		t.Errorf("%d records below offset %d: nothing was compacted", records, end.Offset)
	}
	t.Logf("soak: compacted topic: %d updates, %d keys acknowledged, %d records left", len(d.updates), len(acked), records)
}
