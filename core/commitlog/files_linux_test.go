package commitlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/forebayhub/forebay/internal/vfs"
)

// openUnder counts this process's descriptors of files under dir.
func openUnder(t *testing.T, dir string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if name, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && strings.HasPrefix(name, dir) {
			n++
		}
	}
	return n
}

// Descriptors follow the bound and not the number of logs, whoever writes, reads, rolls and truncates; and what is closed is opened again.
func TestFilesAreBounded(t *testing.T) {
	const logs, limit, workers, steps = 60, 5, 4, 400
	dir := t.TempDir()
	for _, durability := range []Durability{Relaxed, PowerSafe} {
		t.Run(fmt.Sprint(durability), func(t *testing.T) {
			files, syncer := NewFiles(limit), NewSyncer(4, nil)
			all := make([]*Log, logs)
			options := func(i int) Options {
				return Options{
					Dir: filepath.Join(dir, fmt.Sprint(durability, "-", i)), Files: files, Syncer: syncer, Durability: durability,
					Config: Config{SegmentBytes: 2000, IndexBytes: 100},
				}
			}
			for i := range all {
				all[i] = mustOpen(t, options(i))
			}
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			want := make([][]string, logs)
			var group sync.WaitGroup
			for w := range workers {
				group.Go(func() {
					random := rand.New(rand.NewPCG(seed, uint64(w)))
					for s := range steps {
						i := random.IntN(logs/workers)*workers + w // each worker has logs of its own
						switch l := all[i]; random.IntN(8) {
						case 0:
							to := random.IntN(len(want[i]) + 1)
							if err := l.TruncateTo(int64(to)); err != nil {
								t.Error(err)
							}
							want[i] = want[i][:to]
						case 1:
							if from := random.IntN(len(want[i]) + 1); from < len(want[i]) {
								one, err := l.Read(int64(from), l.EndOffset(), 1, true)
								if err != nil {
									t.Error(err)
								}
								one.Release()
							}
						default:
							value := fmt.Sprintf("%d-%d-%0*d", i, s, random.IntN(300), s)
							if _, err := l.Append(batch(t, 1, []string{value}), 1, FromClient); err != nil {
								t.Error(err)
							}
							want[i] = append(want[i], value)
						}
					}
				})
			}
			group.Wait()
			syncer.Close()
			if n := files.Open(); n > limit {
				t.Errorf("%d segments are open, the bound is %d", n, limit)
			}
			if n := openUnder(t, dir); n > 3*limit {
				t.Errorf("%d files are open, the bound is %d segments", n, limit)
			}
			check := func() {
				t.Helper()
				for i, l := range all {
					got := readAll(t, l)
					if len(got) != len(want[i]) {
						t.Fatalf("log %d has %d records, want %d", i, len(got), len(want[i]))
					}
					for at, v := range want[i] {
						if got[int64(at)] != v {
							t.Fatalf("log %d has %q at %d, want %q", i, got[int64(at)], at, v)
						}
					}
				}
			}
			check()
			for i, l := range all {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				all[i] = mustOpen(t, options(i))
			}
			if n := openUnder(t, dir); n > limit {
				t.Errorf("%d files are open after all logs were opened again, the bound is %d segments", n, limit)
			}
			check()
			if n := openUnder(t, dir); n > 3*limit {
				t.Errorf("%d files are open after reading, the bound is %d segments", n, limit)
			}
			for _, l := range all {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if n, open := files.Open(), openUnder(t, dir); n != 0 || open != 0 {
				t.Errorf("%d segments, %d files are open after all logs were closed", n, open)
			}
		})
	}
}

// Want of descriptors passes: the append that meets it is refused, the log lives on, and another segment's files are closed first.
func TestNoDescriptors(t *testing.T) {
	disk := vfs.NewFault(vfs.NewMemory())
	files := NewFiles(2)
	open := func(name string) *Log {
		return mustOpen(t, Options{FS: disk, Dir: "/data/" + name, Files: files, Durability: Relaxed})
	}
	a, b, c := open("a"), open("b"), open("c")
	for _, l := range []*Log{a, b, c} { // a's file is closed for c's
		mustAppend(t, l, batch(t, 1, []string{"1"}))
	}
	heal := disk.Inject(vfs.Rule{Op: vfs.OpOpen, Path: "*.log", Err: &os.PathError{Op: "open", Err: syscall.EMFILE}})
	if _, err := a.Append(batch(t, 1, []string{"2"}), 1, FromClient); !errors.Is(err, ErrNoFiles) {
		t.Fatalf("append without a descriptor: %v", err)
	}
	if n := files.Open(); n > 1 {
		t.Errorf("%d segments are still open", n)
	}
	heal()
	heal = disk.Inject(vfs.Rule{Op: vfs.OpOpen, Path: "*.log", Count: 1, Err: &os.PathError{Op: "open", Err: syscall.ENFILE}})
	mustAppend(t, a, batch(t, 1, []string{"2"})) // the second try
	heal()
	if got := readAll(t, a); len(got) != 2 || got[1] != "2" {
		t.Errorf("the log has %v", got)
	}
}

// A log that is written has one descriptor, however much its indexes have grown; rolled segments that nobody reads have one as well.
func TestIndexesAreNotKeptOpen(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: filepath.Join(dir, "t-0"), Syncer: NewSyncer(1, nil), Config: Config{SegmentBytes: 200_000, IndexBytes: 1}})
	for ts := range int64(3400) {
		mustAppend(t, l, batch(t, 1_700_000_000_000+ts, []string{"value"}))
	}
	waitDurable(t, l)
	segments, err := filepath.Glob(filepath.Join(dir, "t-0", "*"+logSuffix))
	if err != nil || len(segments) < 2 {
		t.Fatal(segments, err)
	}
	if st, err := os.Stat(strings.TrimSuffix(segments[len(segments)-1], logSuffix) + indexSuffix); err != nil || st.Size() == 0 {
		t.Fatal("the index was not written yet", err)
	}
	if n := openUnder(t, dir); n > len(segments) {
		t.Errorf("%d descriptors for %d segments", n, len(segments))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
