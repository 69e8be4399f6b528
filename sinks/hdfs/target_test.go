package hdfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/sinks/internal/files"
)

func target(t *testing.T, url string) *Target {
	t.Helper()
	o, err := ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	if o.User == "" {
		o.User = "root"
	}
	o.CallTimeout = 15 * time.Second
	tg := NewTarget(o)
	t.Cleanup(func() {
		if err := tg.Close(); err != nil {
			t.Error(err)
		}
	})
	return tg
}

func put(t *testing.T, tg *Target, name string, content []byte) {
	t.Helper()
	w, err := tg.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.Abort() // after Close: nothing happens
}

func read(t *testing.T, tg *Target, name string) []byte {
	t.Helper()
	r, err := tg.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func bytesOf(n int, seed byte) []byte {
	b := make([]byte, n)
	x := uint32(seed) + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func TestFilesAndFolders(t *testing.T) {
	tg, ctx := target(t, testenv.HDFS(t).URL), t.Context()
	content := bytesOf(3<<20+17, 1)
	put(t, tg, "a/b/c.bin", content)
	if got := read(t, tg, "a/b/c.bin"); !bytes.Equal(got, content) {
		t.Fatalf("read %d bytes, want the %d written", len(got), len(content))
	}
	e, err := tg.Stat(ctx, "a/b/c.bin")
	if err != nil || e.Size != int64(len(content)) || e.Dir {
		t.Fatal(e, err)
	}
	put(t, tg, "a/empty", nil)
	list, err := tg.ReadDir(ctx, "a")
	if err != nil || len(list) != 2 || list[0].Name != "b" || !list[0].Dir || list[1] != (files.Entry{Name: "empty"}) {
		t.Fatal(list, err)
	}
	for _, f := range []func() error{
		func() error { _, err := tg.Stat(ctx, "none"); return err },
		func() error { _, err := tg.ReadDir(ctx, "none"); return err },
		func() error { _, err := tg.Open(ctx, "none/x"); return err },
		func() error { return tg.RenameFile(ctx, "none", "x") },
	} {
		if err := f(); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal("a missing name gives", err)
		}
	}
	for range 2 {
		if err := tg.Remove(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := tg.Remove(ctx, "."); err == nil {
		t.Fatal("the sink's own folder can be removed")
	}
}

func TestReadAtAnyPlace(t *testing.T) {
	tg := target(t, testenv.HDFS(t).URL)
	content := bytesOf(1<<20, 3)
	put(t, tg, "f", content)
	r, err := tg.Open(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, at := range []int64{1<<20 - 8, 0, 500_000, 500_100, 10} {
		p := make([]byte, 64)
		n, err := r.ReadAt(p, at)
		want := content[at:min(at+64, 1<<20)]
		if !bytes.Equal(p[:n], want) || (err != nil) != (n < 64) {
			t.Fatalf("at %d: %d bytes, %v", at, n, err)
		}
	}
	if _, err := r.ReadAt(make([]byte, 1), 1<<20); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// Trap: until Close has returned nil nothing is stored, whatever Write said.
func TestNothingIsStoredBeforeClose(t *testing.T) {
	h := testenv.HDFS(t)
	tg := target(t, h.URL)
	w, err := tg.Create(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytesOf(2<<20, 1)); err != nil {
		t.Fatal(err)
	}
	if e, err := tg.Stat(t.Context(), "f"); err != nil || e.Size != 0 {
		t.Fatalf("an open file of 2 MiB shows %d bytes, %v", e.Size, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err := tg.Stat(t.Context(), "f"); err != nil || e.Size != 2<<20 {
		t.Fatal(e, err)
	}
}

// Trap: Create on a name that another writer holds open says "exists"; it must not pass for a finished file.
func TestCreateOnATakenName(t *testing.T) {
	h := testenv.HDFS(t)
	a, b := target(t, h.URL), target(t, h.URL)
	w, err := a.Create(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(t.Context(), "f"); !errors.Is(err, files.ErrExists) {
		t.Fatal("a name that is held open gives", err)
	}
	// A dead writer's file can be removed at once: no lease recovery.
	if err := b.Remove(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	put(t, b, "f", []byte("whole"))
	w.Abort()
	put(t, b, "g", nil)
	if _, err := b.Create(t.Context(), "g"); !errors.Is(err, files.ErrExists) {
		t.Fatal("a finished name gives", err)
	}
}

// Trap: a rename of files replaces what is there, so it cannot be the commit.
func TestRenameFileReplaces(t *testing.T) {
	tg := target(t, testenv.HDFS(t).URL)
	put(t, tg, "a", []byte("new"))
	put(t, tg, "b", []byte("old"))
	if err := tg.RenameFile(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, tg, "b"); string(got) != "new" {
		t.Fatalf("%q", got)
	}
	if err := tg.RenameFile(t.Context(), "b", "dt=1/hour=2/c"); err != nil {
		t.Fatal("into a folder that is not there:", err)
	}
	if got := read(t, tg, "dt=1/hour=2/c"); string(got) != "new" {
		t.Fatalf("%q", got)
	}
}

func TestRenameDirIsACompareAndSet(t *testing.T) {
	tg, ctx := target(t, testenv.HDFS(t).URL), t.Context()
	for _, d := range []string{"tmp/1", "tmp/2", "tmp/3"} {
		put(t, tg, d+"/manifest", []byte(d))
	}
	if err := tg.RenameDir(ctx, "tmp/1", "c/topic-0/0"); err != nil {
		t.Fatal(err)
	}
	if err := tg.RenameDir(ctx, "tmp/2", "c/topic-0/0"); !errors.Is(err, files.ErrExists) {
		t.Fatal("the second rename onto one name gives", err)
	}
	if got := read(t, tg, "c/topic-0/0/manifest"); string(got) != "tmp/1" {
		t.Fatalf("the first content is gone: %q", got)
	}
	// An empty folder counts as free.
	if err := tg.MkdirAll(ctx, "c/topic-0/5"); err != nil {
		t.Fatal(err)
	}
	if err := tg.RenameDir(ctx, "tmp/3", "c/topic-0/5"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, tg, "c/topic-0/5/manifest"); string(got) != "tmp/3" {
		t.Fatalf("%q", got)
	}
}

// Two writers that resume at one offset: in each of 100 races exactly one wins.
func TestRenameDirRace(t *testing.T) {
	h := testenv.HDFS(t)
	clients := []*Target{target(t, h.URL), target(t, h.URL)}
	for i := range 100 {
		for k, tg := range clients {
			put(t, tg, fmt.Sprintf("tmp/%d-%d/manifest", i, k), []byte{byte('0' + k)})
		}
		var wins atomic.Int32
		var winner atomic.Int32
		var wg sync.WaitGroup
		for k, tg := range clients {
			wg.Go(func() {
				err := tg.RenameDir(context.Background(), fmt.Sprintf("tmp/%d-%d", i, k), fmt.Sprintf("c/%d", i))
				switch {
				case err == nil:
					wins.Add(1)
					winner.Store(int32(k))
				case !errors.Is(err, files.ErrExists):
					t.Error("the loser got", err)
				}
			})
		}
		wg.Wait()
		if wins.Load() != 1 {
			t.Fatalf("race %d has %d winners", i, wins.Load())
		}
		if got := read(t, clients[0], fmt.Sprintf("c/%d/manifest", i)); got[0] != byte('0'+winner.Load()) {
			t.Fatalf("race %d: writer %d was told it won, and %q stands there", i, winner.Load(), got)
		}
	}
}

func TestUnreachableNamenodeNamesItsAddress(t *testing.T) {
	tg := NewTarget(Options{Namenodes: []string{"127.0.0.1:1"}, User: "root", RetryFor: time.Millisecond})
	_, err := tg.Stat(t.Context(), "x")
	var p *problem.Error
	if !errors.As(err, &p) || p.Code != "hdfs-unreachable" || p.Where != "hdfs://127.0.0.1:1" || p.Hint == "" {
		t.Fatal(err)
	}
	t.Log(err)
}

func TestPermissionDeniedNamesPathAndUser(t *testing.T) {
	h := testenv.HDFS(t)
	o, err := ParseURL("hdfs://nobody@" + h.NameNode + h.Root)
	if err != nil {
		t.Fatal(err)
	}
	tg := NewTarget(o)
	defer tg.Close()
	_, err = tg.Create(t.Context(), "x/y")
	var p *problem.Error
	if !errors.As(err, &p) || p.Code != "hdfs-permission" || !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
	t.Log(err)
}

// A dead first namenode is passed over; the second serves.
func TestSecondNamenodeServes(t *testing.T) {
	h := testenv.HDFS(t)
	tg := target(t, "hdfs://root@127.0.0.1:1,"+h.NameNode+h.Root)
	put(t, tg, "f", []byte("x"))
}
