package commitlog

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// scrubbed is a log of several segments that all were read, and are not in use any more.
func scrubbed(t *testing.T, c Config) (*Log, *clock, *[]error) {
	t.Helper()
	c.SegmentBytes = 500
	o, ck := memoryLog(t, c)
	told := new([]error)
	o.Damaged = func(err error) { *told = append(*told, err) }
	l := mustOpen(t, o)
	for n := range int32(30) {
		if _, err := l.Append(batch(t, ck.ms, []string{"some value", "another"}), 3+n/10, FromClient); err != nil {
			t.Fatal(err)
		}
	}
	waitDurable(t, l)
	readAll(t, l)
	ck.tick(2 * idleFiles.Milliseconds())
	if len(l.segs) < 4 {
		t.Fatal(len(l.segs), "segments")
	}
	return l, ck, told
}

func atOnce(int, time.Duration) error { return nil }

func mustScrub(t *testing.T, l *Log, pace Pace) Scrubbed {
	t.Helper()
	sum, err := l.Scrub(pace)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestScrubFindsWhatNobodyReads: bytes that were vouched for are compared again. What is damaged is named, by the batch, and is served no more; what lies before it is.
func TestScrubFindsWhatNobodyReads(t *testing.T) {
	l, ck, told := scrubbed(t, Config{})
	if sum := mustScrub(t, l, atOnce); sum != (Scrubbed{Bytes: l.Size()}) || len(*told) > 0 {
		t.Fatalf("a sound log of %d bytes: %+v, told %v", l.Size(), sum, *told)
	}
	for n, s := range l.segs {
		b, err := vfs.ReadFile(l.fs, s.path(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		first, err := record.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		pos := first.Size() // of the second batch
		second, err := record.Parse(b[pos:])
		if err != nil {
			t.Fatal(err)
		}
		// A record, the base offset, the length, the leader epoch.
		bad := bytes.Clone(b)
		bad[pos+[]int{70, 7, 9, 15}[n%4]] ^= 0x20
		put(t, l.fs, s.path(), bad)
		if _, err := l.Read(second.BaseOffset, l.EndOffset(), 1, true); err != nil && n%4 == 0 {
			t.Fatalf("segment %d: it was known before the scrub: %v", n, err)
		}
	}
	for _, s := range l.segs {
		s.told.Store(false) // a scrub goes by what it finds itself
	}
	*told = nil
	ck.tick(2 * idleFiles.Milliseconds())
	sum := mustScrub(t, l, atOnce)
	if sum.Damaged != len(l.segs) || sum.Failed != 0 || len(*told) < len(l.segs) {
		t.Fatalf("%d segments are damaged: %+v, told %v", len(l.segs), sum, *told)
	}
	for n, s := range l.segs {
		var c *CorruptError
		for _, err := range *told {
			if errors.As(err, &c) && c.File == s.path() {
				break
			}
		}
		if c == nil || c.File != s.path() || c.Pos == 0 {
			t.Errorf("segment %d: %v", n, c)
		}
		if slice, err := l.Read(s.base, l.EndOffset(), 1, true); err != nil || slice.Len == 0 {
			t.Errorf("segment %d: its first batch is sound: %v", n, err)
		}
		if _, err := l.Read(s.base+2, l.EndOffset(), 1, true); !errors.Is(err, ErrCorrupt) {
			t.Errorf("segment %d: its second batch was served: %v", n, err)
		}
	}
	if again := mustScrub(t, l, atOnce); again != (Scrubbed{}) {
		t.Errorf("what is known was looked for again: %+v", again)
	}
}

// TestScrubBesideChanges: a segment that is cut, replaced, removed or closed between its turn and its opening is not damaged.
func TestScrubBesideChanges(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *Log){
		"cut":     func(t *testing.T, l *Log) { mustTruncate(t, l, l.segs[1].base+1) },
		"begun":   func(t *testing.T, l *Log) { mustDo(t, l.StartAt(l.EndOffset()+100)) },
		"removed": func(t *testing.T, l *Log) { mustDo(t, l.DeleteBefore(l.segs[2].base)) },
		"compacted": func(t *testing.T, l *Log) {
			before := l.Size()
			mustDo(t, l.Clean(l.EndOffset(), Cleaning{}))
			if l.Size() >= before {
				t.Fatal("nothing was compacted")
			}
		},
		"closed": func(t *testing.T, l *Log) { mustDo(t, l.Close()) },
	} {
		for turn := range 6 { // openings and reads
			l, _, told := scrubbed(t, Config{Compact: true, MinDirtyRatio: 0.01})
			calls := 0
			sum := mustScrub(t, l, func(int, time.Duration) error {
				if calls == turn {
					change(t, l)
				}
				calls++
				return nil
			})
			if sum.Damaged+sum.Failed > 0 || len(*told) > 0 || calls <= turn {
				t.Errorf("%s at call %d of %d: %+v, told %v", name, turn, calls, sum, *told)
			}
		}
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustTruncate(t *testing.T, l *Log, to int64) {
	t.Helper()
	mustDo(t, l.TruncateTo(to))
}

// TestScrubLeavesWhatIsInUse: the active segment has its turn once nobody uses it; the files that are open are those that were.
func TestScrubLeavesWhatIsInUse(t *testing.T) {
	l, ck, _ := scrubbed(t, Config{})
	active := l.segs[len(l.segs)-1]
	if _, err := l.Read(active.base, l.EndOffset(), 1, true); err != nil {
		t.Fatal(err)
	}
	open := l.files.Open()
	if sum := mustScrub(t, l, atOnce); sum.Bytes != l.Size()-active.size {
		t.Errorf("%d bytes were read of %d, of which %d are in use", sum.Bytes, l.Size(), active.size)
	}
	ck.tick(2 * idleFiles.Milliseconds())
	if sum := mustScrub(t, l, atOnce); sum.Bytes != l.Size() || l.files.Open() != open {
		t.Errorf("%d bytes were read of %d; %d files are open, %d were", sum.Bytes, l.Size(), l.files.Open(), open)
	}
}

// TestScrubIsPaced: every byte and every opening is told, and who tells it to end ends it.
func TestScrubIsPaced(t *testing.T) {
	l, _, told := scrubbed(t, Config{})
	var bytes, calls int64
	if sum := mustScrub(t, l, func(n int, _ time.Duration) error { bytes += int64(n); calls++; return nil }); bytes != sum.Bytes+int64(len(l.segs))*scrubOpening {
		t.Errorf("told of %d bytes, read %+v", bytes, sum)
	}
	for last := range calls {
		n := int64(0)
		_, err := l.Scrub(func(int, time.Duration) error {
			if n++; n > last {
				return errPaced
			}
			return nil
		})
		if !errors.Is(err, errPaced) || n != last+1 || len(*told) > 0 {
			t.Fatalf("ended at call %d: %v after %d, told %v", last, err, n, *told)
		}
	}
}

// TestScrubMeetsADiskThatRefuses: what cannot be read is counted apart; it is no damage.
func TestScrubMeetsADiskThatRefuses(t *testing.T) {
	o, ck := memoryLog(t, Config{SegmentBytes: 300})
	f := vfs.NewFault(o.FS)
	o.FS = f
	l := mustOpen(t, o)
	for range 12 {
		mustAppend(t, l, batch(t, ck.ms, []string{"some value", "another"}))
	}
	waitDurable(t, l)
	ck.tick(2 * idleFiles.Milliseconds())
	f.Inject(vfs.Rule{Op: vfs.OpRead, Path: l.segs[1].path(), Err: errors.New("input/output error")})
	if sum := mustScrub(t, l, atOnce); sum.Failed != 1 || sum.Damaged != 0 || sum.Bytes != l.Size()-l.segs[1].size {
		t.Errorf("%+v of %d bytes", sum, l.Size())
	}
}
