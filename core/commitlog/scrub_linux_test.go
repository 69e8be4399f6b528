package commitlog

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/forebayhub/forebay/internal/vfs"
)

// resident is how many pages of a file are in the page cache.
func resident(t *testing.T, name string) (n int) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	pages := make([]byte, (len(m)+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&pages[0]))); e != 0 {
		t.Fatal(e)
	}
	for _, p := range pages {
		n += int(p & 1)
	}
	return n
}

// TestScrubLeavesThePageCache: what nobody uses is not in the page cache after it; what somebody uses stays there. On a file system that is all in memory there is
// nothing to let go of, and nothing more than before.
func TestScrubLeavesThePageCache(t *testing.T) {
	ck := &clock{ms: 1_700_000_000_000}
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, Config: Config{SegmentBytes: 1 << 20}, Syncer: NewSyncer(1, nil), Now: ck.now})
	value := string(make([]byte, 100<<10))
	for range 35 {
		mustAppend(t, l, batch(t, ck.ms, []string{value}))
	}
	waitDurable(t, l)
	used, unused := l.segs[0], l.segs[1]
	f, err := vfs.Disk{}.OpenFile(unused.path(), os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	vfs.DropCache(f, 0, 0)
	least := resident(t, unused.path())
	ck.tick(2 * idleFiles.Milliseconds())
	s, err := l.Read(used.base, l.EndOffset(), 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	s.Release()
	hot := resident(t, used.path())
	if hot == 0 {
		t.Fatal("what was written and read is not in the page cache")
	}
	if sum := mustScrub(t, l, atOnce); sum.Bytes != l.Size() {
		t.Fatalf("%+v of %d bytes", sum, l.Size())
	}
	if n := resident(t, unused.path()); n > least {
		t.Errorf("%d pages of what nobody uses are in the page cache, %d were", n, least)
	}
	if n := resident(t, used.path()); n < hot {
		t.Errorf("%d pages of what is in use are in the page cache, %d were", n, hot)
	}
	t.Logf("pages: in use %d, not in use %d", hot, least)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
