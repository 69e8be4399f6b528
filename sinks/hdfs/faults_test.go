package hdfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/sinks/internal/files"
)

// One private HDFS of three datanodes serves all tests that kill something; it is whole again after each.
func TestFaults(t *testing.T) {
	h := testenv.NewHDFS(t, 3)
	t.Run("a datanode dies while a file is written", func(t *testing.T) { datanodeDies(t, h) })
	t.Run("the namenode restarts while a file is written", func(t *testing.T) { namenodeRestarts(t, h) })
	t.Run("the namenode is down at Close", func(t *testing.T) { namenodeDownAtClose(t, h) })
	t.Run("operations wait for a namenode that comes back", func(t *testing.T) { namenodeComesBack(t, h) })
	t.Run("blocks that are counted in late", func(t *testing.T) { manyBlocks(t, h) })
	t.Run("a sink that is killed again and again", func(t *testing.T) { killedAgainAndAgain(t, h) })
	t.Run("a namenode that accepts and is silent", func(t *testing.T) { silentNamenode(t, h) })
}

func rewrite(t *testing.T, tg *Target, name string, content []byte) {
	t.Helper()
	var last error
	within(t, 60*time.Second, "the file to be stored", func() bool {
		w, err := tg.Create(t.Context(), name)
		if errors.Is(err, files.ErrExists) {
			if err = tg.Remove(t.Context(), name); err == nil {
				return false
			}
		}
		if err == nil {
			if _, err = w.Write(content); err == nil {
				err = w.Close()
			}
			if err != nil {
				w.Abort()
			}
		}
		last = err
		return err == nil
	}, func() any { return last })
}

// within polls until done.
func within(t *testing.T, d time.Duration, what string, done func() bool, why func() any) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(d)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s for %s: %v", d, what, why())
		}
	}
}

// Trap: no pipeline recovery. Whichever datanode dies, the file is lost and its
// writer is told so, at Close at the latest; it must never be told nil. Written again it is whole.
func datanodeDies(t *testing.T, h *testenv.HDFSCluster) {
	content := bytesOf(4<<20, 7)
	for i := 1; i <= 3; i++ {
		tg, name := target(t, h.URL), fmt.Sprintf("half-%d", i)
		w := startedOn(t, h, i, tg, name, content[:2<<20])
		h.KillDataNode(i)
		var werr error
		for at := 2 << 20; at < len(content) && werr == nil; at += 64 << 10 {
			_, werr = w.Write(content[at : at+64<<10])
		}
		if cerr := w.Close(); cerr == nil {
			t.Fatalf("datanode %d of the pipeline died and Close said nil (Write said %v)", i, werr)
		} else if !strings.Contains(cerr.Error(), "written again") {
			t.Errorf("datanode %d: Close says %v", i, cerr)
		}
		w.Abort()
		if _, err := tg.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after Abort the file is still there: %v", err)
		}
		h.StartDataNode(i)
		rewrite(t, tg, name, content)
		if got := read(t, tg, name); !bytes.Equal(got, content) {
			t.Fatalf("%d bytes, want %d", len(got), len(content))
		}
	}
}

// startedOn begins a file until datanode i is in its pipeline: one that has just come back is passed over for a while.
func startedOn(t *testing.T, h *testenv.HDFSCluster, i int, tg *Target, name string, content []byte) files.Writer {
	t.Helper()
	var w files.Writer
	var last error
	within(t, 60*time.Second, fmt.Sprintf("a file on datanode %d", i), func() bool {
		before := h.ReceivedBlocks(i)
		if w, last = tg.Create(t.Context(), name); last != nil {
			return false
		}
		if _, last = w.Write(content); last == nil && hasNew(before, h.ReceivedBlocks(i)) {
			return true
		}
		w.Abort()
		return false
	}, func() any { return last })
	return w
}

func hasNew(before, now []string) bool {
	return slices.ContainsFunc(now, func(b string) bool { return !slices.Contains(before, b) })
}

func namenodeRestarts(t *testing.T, h *testenv.HDFSCluster) {
	tg := target(t, h.URL)
	content := bytesOf(3<<20, 9)
	w, err := tg.Create(t.Context(), "through")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content[:1<<20]); err != nil {
		t.Fatal(err)
	}
	h.KillNameNode()
	h.StartNameNode()
	if _, err := w.Write(content[1<<20:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		// Allowed: the file may be declared lost. Never allowed: nil for less than the whole.
		t.Log("lost, to be written again:", err)
		w.Abort()
		rewrite(t, tg, "through", content)
	}
	if got := read(t, tg, "through"); !bytes.Equal(got, content) {
		t.Fatalf("%d bytes, want %d", len(got), len(content))
	}
}

// Close is tried again while no namenode answers; what it says in the end is true.
func namenodeDownAtClose(t *testing.T, h *testenv.HDFSCluster) {
	tg := target(t, h.URL)
	content := bytesOf(1<<20, 5)
	w, err := tg.Create(t.Context(), "late")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	h.KillNameNode()
	closed := make(chan error, 1)
	go func() { closed <- w.Close() }()
	h.StartNameNode()
	err = <-closed
	t.Log("Close:", err)
	if err != nil {
		w.Abort()
		rewrite(t, tg, "late", content)
	}
	if got := read(t, tg, "late"); !bytes.Equal(got, content) {
		t.Fatalf("%d bytes, want %d", len(got), len(content))
	}
}

func namenodeComesBack(t *testing.T, h *testenv.HDFSCluster) {
	tg := target(t, h.URL)
	put(t, tg, "tmp/x/manifest", []byte("m"))
	h.KillNameNode()
	done := make(chan error, 1)
	go func() { done <- tg.RenameDir(t.Context(), "tmp/x", "c/0") }()
	h.StartNameNode()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := read(t, tg, "c/0/manifest"); string(got) != "m" {
		t.Fatalf("%q", got)
	}
}

// Trap: Close may say that blocks are still replicating and has to be called again.
// Many small blocks with three replicas make that likely; the wrapper must hide it.
func manyBlocks(t *testing.T, h *testenv.HDFSCluster) {
	o, err := ParseURL(h.URL)
	if err != nil {
		t.Fatal(err)
	}
	o.BlockSize, o.User = 1<<20, "root"
	tg := NewTarget(o)
	defer tg.Close()
	content := bytesOf(5<<20+1, 11)
	for range 3 {
		rewrite(t, tg, "blocks", content)
		if got := read(t, tg, "blocks"); !bytes.Equal(got, content) {
			t.Fatalf("%d bytes, want %d", len(got), len(content))
		}
		if err := tg.Remove(t.Context(), "blocks"); err != nil {
			t.Fatal(err)
		}
	}
}

// Trap: the library waits for ever for a namenode that takes a call and does not answer.
func silentNamenode(t *testing.T, h *testenv.HDFSCluster) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := Options{Namenodes: []string{l.Addr().String()}, User: "root", CallTimeout: 200 * time.Millisecond, RetryFor: 500 * time.Millisecond}
	tg := NewTarget(o)
	defer tg.Close()
	began := time.Now()
	_, err = tg.Stat(t.Context(), "x")
	var p *problem.Error
	if !errors.As(err, &p) || p.Code != "hdfs-unreachable" {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s to give up", took)
	}
	t.Log(err)
}
