package mongodb

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/internal/testenv"
)

// A row whose large column is not sent may change as often as it likes between two commits.
func TestARowThatChangesWithoutEnd(t *testing.T) {
	m := testenv.Mongo(t)
	l := start(t, newSink(t, m, nil))
	l.write(upsert(1, "first", "large", schema.Int64Of(1_700_000_000_000_001)))
	l.flush()
	for i := range 2000 { // MongoDB takes 1,000 stages in a pipeline
		l.write(upsert(1, fmt.Sprint(i), "?", schema.Int64Of(1_700_000_000_000_000)))
	}
	if n := l.task.parts[l.tp].buf.size(); n > 1<<10 {
		t.Errorf("one row takes %d bytes", n)
	}
	l.flush()
	holds(t, m, "orders", `{"_id":1,"id":1,"name":"1999","note":"large","at":{"$date":"2023-11-14T22:13:20Z"}}`)
}

// Large records are due for a commit before much memory is taken.
func TestMemoryOfLargeRecords(t *testing.T) {
	m := testenv.Mongo(t)
	for _, mode := range []string{"upsert", "append"} {
		l := start(t, newSink(t, m, map[string]string{"mode": mode, "offsets": "o_" + mode, "collection": mode, "flush.size": "1MiB", "flush.interval": "1h"}))
		large := strings.Repeat("x", 1<<19)
		before, most := live(), uint64(0)
		for i := range 16 {
			l.write(upsert(int64(i), "a", large))
			if len(l.task.Tick(time.Now())) > 0 {
				most = max(most, live())
				l.flush()
			}
		}
		if most == 0 || most > before+5<<20 {
			t.Errorf("%s: 8 MiB of records take %d bytes", mode, int64(most)-int64(before))
		}
	}
}

// live is the memory that is in use; the second collection empties pools.
func live() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
