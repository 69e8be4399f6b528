package commitlog

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/forebayhub/forebay/core/record"
)

// TestConcurrent appends, reads, compacts and deletes at once; the race detector and the CRCs watch.
func TestConcurrent(t *testing.T) {
	o, ck := memoryLog(t, Config{SegmentBytes: 20_000, IndexBytes: 500, RetentionBytes: 200_000, Compact: true, Delete: true})
	l := mustOpen(t, o)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			at, sum := int64(0), 0
			for {
				s, err := l.Read(at, l.DurableOffset(), 5000, true)
				if errors.Is(err, ErrOffsetOutOfRange) {
					at = l.StartOffset()
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if s.Len == 0 {
					s.Release()
					select {
					case <-done:
						return
					default:
						continue
					}
				}
				b := make([]byte, s.Len)
				_, err = s.File.ReadAt(b, s.Pos)
				s.Release()
				for err == nil && len(b) > 0 {
					var h record.Header
					var one record.Batch
					if h, one, b, err = record.Next(b); err == nil {
						err = one.Check()
						at = h.LastOffset() + 1
						sum += int(h.Count)
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			hw := l.DurableOffset()
			if err := maintain(l, hw); err != nil {
				t.Error(err)
				return
			}
			l.LastStable(hw)
			_, _, _, _ = l.OffsetForTime(ck.seen.Load() - 50)
			l.Aborted(0, hw)
		}
	})
	for i := range 2000 {
		ck.tick(1)
		mustAppend(t, l, batch(t, ck.ms, []string{fmt.Sprint(i, "-", strings.Repeat("\x00", i%200)), "x"}, producerOf(int64(i%5+1), 0, int32(2*(i/5)))))
	}
	close(done)
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l = mustOpen(t, o); l.EndOffset() != 4000 {
		t.Fatal(l.EndOffset())
	}
}

// TestReadWhileCut: a follower's log is cut and goes on with records of later leaders while it is read, right after a start, when nothing has been compared with
// its CRC yet. Nobody takes that for damage.
func TestReadWhileCut(t *testing.T) {
	o, ck := memoryLog(t, Config{SegmentBytes: 20_000, IndexBytes: 500})
	o.Damaged = func(err error) { t.Error("told as damaged:", err) }
	l := mustOpen(t, o)
	for epoch := range int32(60) {
		for range 50 {
			if _, err := l.Append(batch(t, ck.ms, []string{strings.Repeat("x", int(epoch)), "y"}), epoch, FromClient); err != nil {
				t.Fatal(err)
			}
		}
		waitDurable(t, l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, o)
		done := make(chan struct{})
		var wg sync.WaitGroup
		for n := range 2 {
			wg.Go(func() {
				for at := int64(0); ; {
					select {
					case <-done:
						return
					default:
					}
					s, err := l.Read(at, l.EndOffset(), 500+5000*n, true)
					if errors.Is(err, ErrOffsetOutOfRange) || err == nil && s.Len == 0 {
						at = max(0, l.EndOffset()-60)
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					b := make([]byte, s.Len)
					if _, err := s.File.ReadAt(b, s.Pos); err == nil { // else it was cut since
						if h, err := record.Parse(b); err == nil && h.LastOffset() >= at {
							at = h.LastOffset() + 1
						}
					}
					s.Release()
				}
			})
		}
		for n := range int64(10) {
			if err := l.TruncateTo(l.EndOffset() - 12 + n); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Append(batch(t, ck.ms, []string{"after the cut"}), epoch+1, FromClient); err != nil {
				t.Fatal(err)
			}
		}
		close(done)
		wg.Wait()
		if t.Failed() {
			return
		}
	}
}
