package tail

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// One file that cannot be read is not the others' trouble.

// asNobody runs fn with the rights of a user that owns nothing; who is not root has them already.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	if os.Getuid() == 0 {
		runtime.LockOSThread() // the rights are a thread's
		defer runtime.UnlockOSThread()
		must(t, syscall.Setfsuid(65534))
		defer func() { must(t, syscall.Setfsuid(0)) }()
	}
	fn()
}

// shared is a folder that nobody may look into.
func shared(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

// warnings has h's log go to a buffer.
func (h *hub) warnings() *bytes.Buffer {
	var b bytes.Buffer
	h.log = slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return &b
}

func TestWhatCannotBeReadIsLeftOut(t *testing.T) {
	dir := shared(t)
	write(t, in(dir, "a.log"), "1\n")
	write(t, in(dir, "b.log"), "secret\n")
	must(t, os.Chmod(in(dir, "b.log"), 0))
	must(t, os.Mkdir(in(dir, "private"), 0o700))
	must(t, syscall.Mkfifo(in(dir, "pipe"), 0o644))
	h := newHub(t, "paths", in(dir, "*"))
	warned := h.warnings()
	asNobody(t, func() {
		h.start()
		f := h.src.Validate(context.Background())
		if len(f) != 1 || !f[0].Warning || !strings.Contains(f[0].Message, "1 cannot be read and 1 can") || !strings.Contains(f[0].Message, "b.log") {
			t.Fatalf("findings %+v", f)
		}
		h.expect("1")
		h.looks(3)
	})
	if n := strings.Count(warned.String(), "cannot be read"); n != 1 {
		t.Fatalf("warned %d times: %s", n, warned)
	}
	must(t, os.Chmod(in(dir, "b.log"), 0o644))
	h.expect("1", "secret")
}

func TestNothingCanBeRead(t *testing.T) {
	dir := shared(t)
	write(t, in(dir, "b.log"), "secret\n")
	must(t, os.Chmod(in(dir, "b.log"), 0))
	h := newHub(t, "paths", in(dir, "*.log"))
	asNobody(t, func() {
		h.start()
		if f := h.src.Validate(context.Background()); len(f) != 1 || f[0].Warning {
			t.Fatalf("findings %+v", f)
		}
	})
	h.kill()
	h.cfg["exclude"] = "b.log"
	asNobody(t, func() {
		h.start()
		if f := h.src.Validate(context.Background()); len(f) != 1 || !f[0].Warning {
			t.Fatalf("findings with exclude: %+v", f)
		}
	})
}

// A path of which nothing can be read is a warning beside one of which something can.
func TestOnePathCannotBeRead(t *testing.T) {
	dir := shared(t)
	write(t, in(dir, "a.log"), "1\n")
	must(t, os.Mkdir(in(dir, "private"), 0o700))
	write(t, in(dir, "private/b.log"), "secret\n")
	h := newHub(t, "paths", in(dir, "a.log"))
	asNobody(t, func() {
		h.start()
		for _, paths := range [][]string{{in(dir, "private/*"), in(dir, "a.log")}, {in(dir, "a.log"), in(dir, "private/*")}} {
			h.src.cfg.paths = paths
			if f := h.src.Validate(context.Background()); len(f) != 1 || !f[0].Warning || !strings.Contains(f[0].Message, "private") {
				t.Fatalf("findings %+v", f)
			}
		}
	})
}

// A pipe may take a file's name; nobody waits for its writer.
func TestPipeUnderAFilesName(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "a.log")
	h := newHub(t, "paths", in(dir, "*.log"), "max_open", "1")
	write(t, log, "1\n")
	h.start()
	h.expect("1")
	h.task.shut(h.task.order[0])
	must(t, os.Rename(log, log+".1"))
	must(t, syscall.Mkfifo(log, 0o644))
	must(t, syscall.Mkfifo(log+".2", 0o644))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.task.order[0].matches(log)
		_, _, _ = openAs(log, h.task.order[0].id)
		_, _ = h.task.copyAt(h.task.order[0], log+".2")
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for the pipe's writer")
	}
	write(t, log+".1", "2\n")
	h.expect("1", "2")
}

// An error of one file, such as EIO, is not the others': their lines of the same batch go on, and it is tried again.
func TestOneFileThatFails(t *testing.T) {
	dir := t.TempDir()
	h := newHub(t, "paths", in(dir, "*.log"), "rotate_wait", "1h")
	warned := h.warnings()
	for _, name := range []string{"a.log", "b.log", "c.log"} {
		write(t, in(dir, name), "1\n")
	}
	h.start()
	h.expect("1", "1", "1")
	id := h.fileOf(in(dir, "b.log"))
	bad := h.task.files[id]
	h.task.shut(bad)
	fd, err := os.Open(dir) // to read it is EISDIR
	must(t, err)
	bad.fd = fd
	h.task.opened++
	for _, name := range []string{"a.log", "b.log", "c.log"} {
		write(t, in(dir, name), "2\n")
	}
	h.until("the others' lines", func() bool { return len(h.records) == 5 })
	h.looks(3)
	if n := strings.Count(warned.String(), "cannot be read"); n != 1 || len(h.records) != 5 {
		t.Fatalf("%d records, warned %d times: %s", len(h.records), n, warned)
	}
	bad.again = time.Now()
	h.expect("1", "1", "1", "2", "2", "2")
}

// When the system has no descriptor to give, the task does with fewer.
func TestNoDescriptors(t *testing.T) {
	dir := t.TempDir()
	h := newHub(t, "paths", in(dir, "*.log"))
	warned := h.warnings()
	for i := range 8 {
		write(t, in(dir, string(rune('a'+i))+".log"), "1\n")
	}
	h.start()
	h.until("eight lines", func() bool { return len(h.records) == 8 })
	last := h.task.order[7]
	h.task.shut(last)
	write(t, last.path, "2\n")
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	free, err := os.Open(dir)
	must(t, err)
	low := limit
	low.Cur = uint64(free.Fd()) // the lowest that is free
	must(t, free.Close())
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	err = h.task.open(last)
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	must(t, err)
	if h.task.opened >= 8 || warned.Len() > 0 {
		t.Fatalf("%d are open: %s", h.task.opened, warned)
	}
}
