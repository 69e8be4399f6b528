package commitlog

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// clock is a time that tests move.
type clock struct {
	ms   int64 // for the test's goroutine
	seen atomic.Int64
}

func (c *clock) now() time.Time {
	if ms := c.seen.Load(); ms > 0 {
		return time.UnixMilli(ms)
	}
	return time.UnixMilli(1_700_000_000_000)
}

// tick moves the time that the log sees.
func (c *clock) tick(ms int64) {
	c.ms += ms
	c.seen.Store(c.ms)
}

type batchOption func(*record.Builder)

func producerOf(id int64, epoch int16, seq int32) batchOption {
	return func(w *record.Builder) { w.ProducerID, w.ProducerEpoch, w.BaseSequence = id, epoch, seq }
}

func inTxn(w *record.Builder) { w.Attributes |= record.Transactional }

// batch encodes one batch of the values, keyed "k<i>", at time ts.
func batch(t testing.TB, ts int64, values []string, opts ...batchOption) []byte {
	t.Helper()
	w := record.NewBuilder()
	for _, o := range opts {
		o(w)
	}
	for i, v := range values {
		w.Append(ts+int64(i), fmt.Appendf(nil, "k%d", i), []byte(v))
	}
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte(nil), b...)
}

func mustOpen(t testing.TB, o Options) *Log {
	t.Helper()
	if o.Logger == nil && testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

func mustAppend(t testing.TB, l *Log, b []byte) Appended {
	t.Helper()
	a, err := l.Append(b, 1, FromClient)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// waitDurable waits until everything is durable.
func waitDurable(t testing.TB, l *Log) {
	t.Helper()
	l.syncer.forget(l)
	if d, e := l.DurableOffset(), l.EndOffset(); d != e {
		t.Fatalf("durable %d, end %d after the sync", d, e)
	}
}

// eachBatch calls fn for every whole batch from the log's start up to limit, its CRC compared and none that was read before.
func eachBatch(t testing.TB, l *Log, limit int64, fn func(h *record.Header, b record.Batch)) {
	t.Helper()
	for from := l.StartOffset(); from < limit; {
		s, err := l.Read(from, limit, 1<<20, true)
		if err != nil {
			t.Fatal(err)
		}
		if s.Len == 0 {
			return
		}
		b := make([]byte, s.Len)
		if _, err := s.File.ReadAt(b, s.Pos); err != nil {
			t.Fatal(err)
		}
		s.Release()
		for len(b) > 0 {
			h, one, rest, err := record.Next(b)
			if err == nil {
				err = one.Check()
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.LastOffset() < from {
				t.Fatalf("batch %d to %d after offset %d", h.BaseOffset, h.LastOffset(), from)
			}
			from, b = h.LastOffset()+1, rest
			fn(&h, one)
		}
	}
}

// readAll reads the values of [start, end) by offset.
func readAll(t testing.TB, l *Log) map[int64]string {
	t.Helper()
	got := map[int64]string{}
	eachBatch(t, l, l.EndOffset(), func(_ *record.Header, b record.Batch) {
		for r, err := range record.All(b, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Offset >= l.StartOffset() {
				got[r.Offset] = string(r.Value)
			}
		}
	})
	return got
}

func memoryLog(t testing.TB, c Config) (Options, *clock) {
	t.Helper()
	ck := &clock{ms: 1_700_000_000_000}
	return Options{FS: vfs.NewMemory(), Dir: "/data/t-0", Config: c, Syncer: NewSyncer(4, nil), Now: ck.now}, ck
}

// maintain does what the owner does from time to time.
func maintain(l *Log, hw int64, o ...Cleaning) error {
	if err := l.Maintain(hw); err != nil {
		return err
	}
	return l.Clean(hw, append(o, Cleaning{})[0])
}

// sliceLast is the last offset of a Slice of one batch.
func sliceLast(t testing.TB, s Slice) int64 {
	t.Helper()
	b := make([]byte, s.Len)
	if _, err := s.File.ReadAt(b, s.Pos); err != nil {
		t.Fatal(err)
	}
	h, err := record.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return h.LastOffset()
}
