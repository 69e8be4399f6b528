package postgres

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// Large records are due for a commit before much memory is taken.
func TestMemoryOfLargeRecords(t *testing.T) {
	url, _ := pg(t)
	for _, mode := range []string{"upsert", "append"} {
		l := start(t, newSink(t, url, map[string]string{"mode": mode, "offsets": "o_" + mode, "table": mode, "flush.size": "1MiB", "flush.interval": "1h"}))
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

// A flush.size that is larger than what all partitions may hold by default is meant.
func TestLargeFlushSize(t *testing.T) {
	url, _ := pg(t)
	l := start(t, newSink(t, url, map[string]string{"flush.size": "80MiB", "flush.interval": "1h"}))
	l.write(upsert(1, "a", "x"))
	for size, want := range map[int]int{79 << 20: 0, 80 << 20: 1} {
		l.task.parts[l.tp].buf.arena = make([]byte, size)
		if due := l.task.Tick(time.Now()); len(due) != want {
			t.Errorf("%v are due with %d bytes", due, size)
		}
	}
}
