package tail

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
)

func TestLinesAsTheyAreWritten(t *testing.T) {
	dir := t.TempDir()
	h := newHub(t, "paths", in(dir, "*.log"))
	write(t, in(dir, "a.log"), "one\ntwo\r\n\nhal")
	write(t, in(dir, "empty.log"), "")
	h.start()
	h.expect("one", "two\r", "")
	write(t, in(dir, "a.log"), "f\n")
	h.expect("one", "two\r", "", "half")
	if r := h.records[3]; r.path != in(dir, "a.log") || r.offset != "10" {
		t.Fatalf("headers %+v", r)
	}
	write(t, in(dir, "empty.log"), "x\n")
	h.expect("one", "two\r", "", "half", "x")
	write(t, in(dir, "b.log"), "new\n")
	h.expect("one", "two\r", "", "half", "x", "new")
	h.kill()
	write(t, in(dir, "b.log"), "newer\n")
	h.start()
	h.expect("one", "two\r", "", "half", "x", "new", "newer")
}

func TestRenameWhileRunning(t *testing.T) {
	for _, glob := range []string{"app.log", "app.log*"} {
		t.Run(glob, func(t *testing.T) {
			dir := t.TempDir()
			log := in(dir, "app.log")
			h := newHub(t, "paths", in(dir, glob))
			write(t, log, "1\n2\n")
			h.start()
			h.expect("1", "2")
			write(t, log, "3\n")
			must(t, os.Rename(log, log+".1"))
			write(t, log, "A\n")
			write(t, log+".1", "4\nlast without newline")
			if glob == "app.log" { // the renamed file ends some day; its last line ends with it
				h.until("the last line", func() bool { return len(h.records) == 6 })
				if len(h.positions) != 1 {
					t.Fatalf("positions %v", h.positions)
				}
			} else {
				h.until("five", func() bool { return len(h.records) == 5 })
				write(t, log+".1", "\n")
				h.until("six", func() bool { return len(h.records) == 6 })
			}
			count := map[string]int{}
			for _, r := range h.records {
				count[r.value]++
				if r.path != log {
					t.Fatalf("path %q", r.path)
				}
			}
			for _, v := range []string{"1", "2", "3", "4", "A", "last without newline"} {
				if count[v] != 1 {
					t.Fatalf("%q: %d times in %v", v, count[v], h.values())
				}
			}
		})
	}
}

func TestRotationWhileStopped(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", log)
	write(t, log, "1\n2\n")
	h.start()
	h.expect("1", "2")
	h.kill()
	write(t, log, "3\n")
	must(t, os.Rename(log, log+".1"))
	write(t, log, "4\n")
	must(t, os.Chtimes(log, time.Time{}, time.Now().Add(time.Second)))
	must(t, os.Rename(log+".1", log+".2")) // and once more
	must(t, os.Rename(log, log+".1"))
	write(t, log, "5\n")
	h.start()
	h.until("all", func() bool { return len(h.records) >= 5 })
	h.until("the old files to end", func() bool { return len(h.positions) == 1 })
	if got := sorted(h.values()); got != "1 2 3 4 5" {
		t.Fatalf("got %s", got)
	}
}

// Beside a log may lie others whose names begin as its own does and that nobody asked for.
func TestRotationBesideAnotherLog(t *testing.T) {
	for _, name := range []string{"app.log", "syslog"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			log := in(dir, name)
			h := newHub(t, "paths", log)
			write(t, log, "1\n")
			h.start()
			h.expect("1")
			h.kill()
			for _, other := range []string{".audit", "-errors", ".audit.1"} {
				write(t, log+other, "secret\n")
			}
			write(t, log, "2\n")
			must(t, os.Rename(log, log+".2"))
			write(t, log+".1", "3\n") // made and rotated while nobody looked; there is no new log yet
			h.start()
			h.expect("1", "2", "3")
			write(t, log, "4\n")
			h.expect("1", "2", "3", "4")
		})
	}
}

func sorted(v []string) string {
	out := append([]string(nil), v...)
	for i := range out {
		for j := i; j > 0 && out[j] < out[j-1]; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return strings.Join(out, " ")
}

func TestCopyTruncate(t *testing.T) {
	for _, glob := range []string{"app.log", "app.log*"} {
		for _, stopped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s stopped=%v", glob, stopped), func(t *testing.T) {
				dir := t.TempDir()
				log := in(dir, "app.log")
				h := newHub(t, "paths", in(dir, glob))
				write(t, log, "1\n2\n")
				h.start()
				h.expect("1", "2")
				if stopped {
					h.kill()
				}
				write(t, log, "3\n4\n") // not read: only the copy has them soon
				copyFile(t, log, log+".1")
				must(t, os.Truncate(log, 0))
				write(t, log, "5\n")
				if stopped {
					h.start()
				}
				h.until("five", func() bool { return len(h.records) >= 5 })
				for range 50 {
					h.read(5*time.Millisecond, false)
				}
				if got := sorted(h.values()); got != "1 2 3 4 5" {
					t.Fatalf("got %s", got)
				}
				h.kill()
				write(t, log, "6\n")
				h.start()
				h.until("six", func() bool { return len(h.records) >= 6 })
				for range 10 {
					h.read(5*time.Millisecond, false)
				}
				if got := sorted(h.values()); got != "1 2 3 4 5 6" {
					t.Fatalf("got %s", got)
				}
			})
		}
	}
}

// The new content may be longer than the old one was before anybody looks.
func TestTruncatedAndGrownBeyond(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", in(dir, "app.log*"))
	write(t, log, "1\n2\n")
	h.start()
	h.expect("1", "2")
	h.kill()
	copyFile(t, log, log+".1")
	must(t, os.Truncate(log, 0))
	write(t, log, "a longer line than before\nand one more\n")
	h.start()
	h.expect("1", "2", "a longer line than before", "and one more")
}

// Lines of one length that end alike: only the file's beginning tells that it is another content.
func TestTruncatedAndGrownAlike(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", log)
	line := func(n int) string { return fmt.Sprintf("%04d%s", n, strings.Repeat("x", 100)) }
	write(t, log, line(1)+"\n")
	h.start()
	h.expect(line(1))
	write(t, log, line(2)+"\n")
	copyFile(t, log, log+".1")
	must(t, os.Truncate(log, 0))
	write(t, log, line(3)+"\n"+line(4)+"\n")
	h.expect(line(1), line(2), line(3), line(4))
}

// The copy may be given the inode of a file that was deleted and whose position is still there.
func TestCopyWithTheInodeOfADeletedFile(t *testing.T) {
	for range 8 { // positions are taken on in any order
		dir := t.TempDir()
		log := in(dir, "app.log")
		h := newHub(t, "paths", in(dir, "app.log*"))
		write(t, log, "1\n2\n")
		h.start()
		h.expect("1", "2")
		h.kill()
		write(t, log, "3\n")
		copyFile(t, log, log+".1")
		must(t, os.Truncate(log, 0))
		write(t, log, "4\n")
		info, err := os.Stat(log + ".1")
		must(t, err)
		id, _ := idOf(info)
		old := &file{id: id, origin: log, path: log, head: newSum, ident: newIdent(id)}
		old.advance([]byte("x\n"))
		h.positions[old.key()] = old.position()
		h.start()
		h.expect("1", "2", "3", "4")
		h.audit()
		h.kill()
	}
}

// While a rotation copies, two files have the same lines.
func TestCopyBeforeTruncateIsHeld(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", in(dir, "app.log*"))
	write(t, log, "1\n2\n")
	h.start()
	h.expect("1", "2")
	copyFile(t, log, log+".1")
	h.expect("1", "2")
	h.kill()
	h.start()
	h.expect("1", "2")
	write(t, log, "3\n")
	h.expect("1", "2", "3")
	must(t, os.Truncate(log, 0))
	h.expect("1", "2", "3")
	write(t, log, "4\n")
	h.expect("1", "2", "3", "4")
	write(t, log+".1", "5\n") // the copy lives on by itself
	h.expect("1", "2", "3", "4", "5")
}

// A file that only begins like another one is no copy.
func TestSameHeaderIsNoCopy(t *testing.T) {
	dir := t.TempDir()
	h := newHub(t, "paths", in(dir, "app.log*"))
	write(t, in(dir, "app.log"), "a,b,c\n1\n")
	h.start()
	h.expect("a,b,c", "1")
	write(t, in(dir, "app.log.x"), "a,b,c\n")
	h.read(20*time.Millisecond, false)
	write(t, in(dir, "app.log.x"), "2\n")
	h.expect("a,b,c", "1", "a,b,c", "2")
}

func TestDeleteAndCreate(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", log)
	write(t, log, "1\n2\n")
	h.start()
	h.expect("1", "2")
	write(t, log, "3\nend")
	must(t, os.Remove(log))
	write(t, log, "4\n")
	h.until("all", func() bool { return len(h.records) >= 5 })
	if got := sorted(h.values()); got != "1 2 3 4 end" {
		t.Fatalf("got %s", got)
	}
	// Again, and the inode may be the same one.
	h.kill()
	must(t, os.Remove(log))
	write(t, log, "5 is longer than all that was there before\n")
	h.start()
	h.until("five", func() bool { return len(h.records) >= 6 })
	if got := h.values()[5]; !strings.HasPrefix(got, "5 is") {
		t.Fatalf("got %q", got)
	}
}

// A task that is started again within the process still has the descriptors of deleted files.
func TestDeletedFileSurvivesTaskRestart(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", log, "rotate_wait", "1ms")
	write(t, log, "1\n")
	h.start()
	h.expect("1")
	write(t, log, "2\n3\n")
	must(t, os.Remove(log))
	for range 20 { // it is read, and finished, but the log does not take it
		h.read(5*time.Millisecond, true)
	}
	must(t, h.task.Close())
	h.reopen()
	h.expect("1", "2", "3")
	if h.until("the file to be forgotten", func() bool { return len(h.positions) == 0 }); len(h.src.kept) != 0 {
		t.Fatalf("%d descriptors are kept", len(h.src.kept))
	}
}

// A file that had given all it had at the end of a task may be written to, rotated and deleted before the next one begins: the log was away.
func TestFileThatIsDeletedBetweenTasks(t *testing.T) {
	for _, glob := range []string{"app.log", "app.log*"} {
		t.Run(glob, func(t *testing.T) {
			dir := t.TempDir()
			log := in(dir, "app.log")
			h := newHub(t, "paths", in(dir, glob))
			write(t, log, "1\n")
			write(t, in(dir, "app.log.2"), "") // open, or not
			h.start()
			h.expect("1")
			must(t, h.task.Close())
			write(t, log, "2\n3\n")
			must(t, os.Rename(log, log+".1"))
			write(t, log+".1", "4\n")
			must(t, os.Remove(log+".1"))
			write(t, log, "5\n")
			h.reopen()
			h.expect("1", "2", "3", "4", "5")
			h.until("the deleted file to be forgotten", func() bool { return h.positions[fileKey(h.fileOf(log))] != nil && len(h.task.order) <= 2 })
			must(t, h.task.Close())
			must(t, os.Rename(log, log+".1"))
			write(t, log+".1", "6\n") // it has a name: its descriptor and the list agree
			h.reopen()
			h.expect("1", "2", "3", "4", "5", "6")
			must(t, h.task.Close())
			h.task = nil
			must(t, h.src.Close())
			if len(h.src.kept) > 0 {
				t.Fatal("a source that was closed holds files")
			}
		})
	}
}

// What can be opened again does not take the place of what cannot, whichever came first.
func TestDeletedFilesAreKeptFirst(t *testing.T) {
	for _, gone := range []string{"first", "second", "both"} {
		t.Run(gone, func(t *testing.T) {
			dir := t.TempDir()
			h := newHub(t, "paths", in(dir, "*.log"), "max_open", "1", "rotate_wait", "1h")
			var writers []*os.File
			for _, name := range []string{"a.log", "b.log"} {
				write(t, in(dir, name), "1\n")
				w, err := os.OpenFile(in(dir, name), os.O_APPEND|os.O_WRONLY, 0)
				must(t, err)
				defer func() { must(t, w.Close()) }()
				writers = append(writers, w)
			}
			h.start()
			h.expect("1", "1")
			f, other := h.task.order[0], h.task.order[1]
			if gone == "second" {
				f, other = other, f
			}
			must(t, h.task.open(f))
			must(t, os.Remove(f.path))
			h.scanned()
			must(t, h.task.open(other))
			if h.task.opened != 2 {
				t.Fatalf("%d are open", h.task.opened)
			}
			if gone == "both" {
				must(t, os.Remove(other.path)) // since the last scan
			}
			must(t, h.task.Close())
			for _, w := range writers {
				_, err := w.WriteString("2\n")
				must(t, err)
			}
			h.reopen()
			h.expect("1", "1", "2", "2")
		})
	}
}

// That a file was forgotten may be in the log though the task did not hear of it.
func TestForgottenUnheard(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", log, "rotate_wait", "1ms")
	write(t, log, "1\n")
	h.start()
	h.expect("1")
	must(t, os.Remove(log))
	for len(h.src.kept) == 0 {
		h.read(5*time.Millisecond, true)
	}
	clear(h.positions)
	must(t, h.task.Close())
	h.reopen()
	write(t, log, "2\n")
	h.expect("1", "2")
}

// Nor is a file forgotten in the transaction that has its first position: then nobody could tell whether it was read.
func TestForgottenAfterItsFirstPosition(t *testing.T) {
	log := in(t.TempDir(), "app.log")
	h := newHub(t, "paths", log, "rotate_wait", "1ms")
	write(t, log, "1\n")
	h.start()
	h.until("the first line", func() bool { return h.read(20*time.Millisecond, true) })
	must(t, os.Remove(log))
	for range 10 {
		h.read(5*time.Millisecond, true)
	}
	if len(h.task.order) != 1 {
		t.Fatal("the file was forgotten before the log knew it")
	}
}

func TestCompressedIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", in(dir, "app.log*"))
	write(t, log, "1\n")
	h.start()
	h.expect("1")
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte("1\n"))
	must(t, err)
	must(t, w.Close())
	must(t, os.WriteFile(log+".1.gz", nil, 0o644))
	h.read(10*time.Millisecond, false)
	must(t, os.WriteFile(log+".1.gz", b.Bytes(), 0o644))
	write(t, log, "2\n")
	h.expect("1", "2")
}

func TestCompressedIsKnown(t *testing.T) {
	for name, begin := range map[string]string{
		"gzip": "\x1f\x8b\x08\x00", "zstd": "\x28\xb5\x2f\xfd\x04", "xz": "\xfd7zXZ\x00\x00\x04", "bzip2": "BZh91AY&SY\x03", "lz4": "\x04\x22\x4d\x18\x64\x40\xa7", "lz4 -l": "\x02\x21\x4c\x18\x05",
		"zip": "PK\x03\x04\x14\x00", "zip of nothing": "PK\x05\x06\x00", "compress": "\x1f\x9d\x90a", "lzma": "\x5d\x00\x00\x80\x00\xff\xff\xff", "lzip": "LZIP\x01\x0c",
		"snappy": "\xff\x06\x00\x00sNaPpY\x01", "lzop": "\x89LZO\x00\r\n\x1a\n\x10", "7z": "7z\xbc\xaf\x27\x1c\x00",
	} {
		if !compressed([]byte(begin)) {
			t.Errorf("%s is read as lines", name)
		}
	}
	for _, begin := range []string{"", "P", "PK was here", "LZIP is a format", "]x", "BZh9 is no magic", "2026-11-30 [1]\n", "\xef\xbb\xbfline"} {
		if compressed([]byte(begin)) {
			t.Errorf("%q is taken for compressed", begin)
		}
	}
}

// What is easily written by mistake.
func TestPathsAsPeopleWriteThem(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	must(t, os.Mkdir("logs", 0o755))
	for _, name := range []string{"logs/a.log", "logs/debug.log", "logs/trace.log"} {
		write(t, name, name+"\n")
	}
	h := newHub(t, "paths", "logs")
	h.start()
	if f := h.src.Validate(context.Background()); len(f) != 1 || !f[0].Warning || !strings.Contains(f[0].Message, "is a folder") || !strings.Contains(f[0].Hint, in(dir, "logs/*")) {
		t.Fatalf("findings %+v", f)
	}
	h.kill()
	h.cfg["paths"] = "logs/*.log"
	h.excluded = []string{"logs/debug.log", "**/trace.log"}
	h.start()
	h.expect("logs/a.log")
}

func TestStartAtEnd(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", in(dir, "*.log"), "start", "end")
	write(t, log, "old\nhal")
	h.start()
	h.until("the start mark", func() bool { return len(h.positions) == 2 })
	h.kill()
	write(t, log, "f\n")
	write(t, in(dir, "later.log"), "from its beginning\n")
	h.start()
	h.expect("half", "from its beginning")
}

func TestLongLines(t *testing.T) {
	dir := t.TempDir()
	for how, want := range map[string][]string{
		"split":    {"aaaa", "bbbbbbbb", "bbbbbb", "cccccccc", "d"},
		"truncate": {"aaaa", "bbbbbbbb", "cccccccc", "d"},
		"drop":     {"aaaa", "cccccccc", "d"},
	} {
		t.Run(how, func(t *testing.T) {
			log := in(dir, how+".log")
			h := newHub(t, "paths", log, "max_line", "8", "on_long", how)
			write(t, log, "aaaa\nbbbbbbbbbb")
			h.start()
			h.read(20*time.Millisecond, false)
			h.kill()
			h.start()
			write(t, log, "bbbb\ncccccccc\nd\n")
			h.expect(want...)
		})
	}
}

func TestMultiline(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", log, "multiline.start", `^\d`, "multiline.timeout", "100ms")
	write(t, log, "1 one\n  more\n\n2 two\n")
	h.start()
	h.until("the first", func() bool { return len(h.records) > 0 })
	h.kill() // the second may go on: it is read again
	write(t, log, " and more\n")
	h.start()
	h.expect("1 one\n  more\n", "2 two\n and more")
}

func TestManyFilesFewDescriptors(t *testing.T) {
	dir := t.TempDir()
	h := newHub(t, "paths", in(dir, "*.log"), "max_open", "3", "partitions", "4")
	for round := range 3 {
		for i := range 40 {
			write(t, in(dir, fmt.Sprintf("%d.log", i)), fmt.Sprintf("%d\n", round))
		}
		if round == 0 {
			h.start()
		}
		h.until("a round", func() bool { return len(h.records) == 40*(round+1) })
		if h.task.opened > 3 {
			t.Fatalf("%d files are open", h.task.opened)
		}
	}
	next, parts := map[string]int{}, map[string]int32{}
	used := map[int32]bool{}
	for _, r := range h.records {
		if r.value != fmt.Sprint(next[r.path]) {
			t.Fatalf("%s: %s after %d", r.path, r.value, next[r.path])
		}
		if next[r.path]++; next[r.path] > 1 && parts[r.path] != r.part {
			t.Fatalf("%s moved to another partition", r.path)
		}
		parts[r.path], used[r.part] = r.part, true
	}
	if len(used) != 4 {
		t.Fatalf("partitions used: %v", used)
	}
}

func TestAuditPoint(t *testing.T) {
	dir := t.TempDir()
	h := newHub(t, "paths", in(dir, "*.log"))
	write(t, in(dir, "a.log"), "1\n2\nhal")
	write(t, in(dir, "b.log"), "3\n")
	h.start()
	p, err := h.src.AuditPoint(context.Background())
	must(t, err)
	write(t, in(dir, "a.log"), "f\n")
	h.until("all", func() bool { return len(h.records) == 4 })
	for k, want := range p.Positions() {
		if h.src.Compare(k, h.positions[k], want) < 0 {
			t.Fatalf("%s: %s is before %s", k, h.positions[k], want)
		}
	}
	must(t, p.(connectors.ReachedPoint).Reached(h.positions))
	var got []string
	must(t, p.Rows(context.Background(), "logs", func(r connectors.Record) error {
		got = append(got, string(r.RawValue)+"@"+string(r.Headers[2].Value))
		return nil
	}))
	must(t, p.Close())
	if strings.Join(got, " ") != "1@0 2@2 3@0" {
		t.Fatalf("rows %q", got)
	}
}
