package tail

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// logger is a program that writes a log, and the logrotate that rotates it. Each
// file that it begins has a number of its own, so that order within a file shows.
type logger struct {
	t    *testing.T
	path string
	id   int
	gen  int // of the file
	line int // within the file
	all  int
	did  map[string]int // lines by file
}

func (l *logger) write(n int, pad string) {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(l.t, err)
	w := bufio.NewWriter(f)
	for range n {
		fmt.Fprintf(w, "%d %d %d %s\n", l.id, l.gen, l.line, pad[:l.all%len(pad)])
		l.line++
		l.did[fmt.Sprintf("%d %d", l.id, l.gen)]++
		l.all++
	}
	must(l.t, w.Flush())
	must(l.t, f.Close())
}

// shift renames app.log.1 to app.log.2 and so on, as logrotate does.
func (l *logger) shift() {
	for i := 30; i >= 1; i-- {
		from, to := l.path+"."+strconv.Itoa(i), l.path+"."+strconv.Itoa(i+1)
		if _, err := os.Stat(from); err == nil {
			must(l.t, os.Rename(from, to))
		}
	}
	l.gen, l.line = l.gen+1, 0
}

func (l *logger) rename() {
	if _, err := os.Stat(l.path); err != nil {
		return
	}
	l.shift()
	must(l.t, os.Rename(l.path, l.path+".1"))
}

func (l *logger) copyTruncate() {
	if _, err := os.Stat(l.path); err != nil {
		return
	}
	l.shift()
	copyFile(l.t, l.path, l.path+".1")
	must(l.t, os.Truncate(l.path, 0))
}

func inode(path string) uint64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	id, _ := idOf(info)
	return id.ino
}

// Gate 2's source half: every line once and in the order in which it was written, over every kind of
// rotation and ten kills, while the files are read and while nobody looks.
func TestEveryRotationTenKills(t *testing.T) {
	for _, glob := range []string{"*.log", "*.log*"} {
		t.Run(strings.ReplaceAll(glob, "*", "x"), func(t *testing.T) { soak(t, glob, *soakLines) })
	}
}

// soakLines keeps a run short; the long one is -soak.lines 150000.
var soakLines = flag.Int("soak.lines", 40_000, "lines of each soak")

func soak(t *testing.T, glob string, lines int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	h := newHub(t, "paths", filepath.Join(dir, glob), "rotate_wait", "2s")
	pad := strings.Repeat("x", 120)
	var loggers []*logger
	for i := range 4 {
		loggers = append(loggers, &logger{t: t, id: i, did: map[string]int{}, path: filepath.Join(dir, fmt.Sprintf("app%d.log", i))})
	}
	written, kills, steps := 0, 0, 0
	h.start()
	caughtUp := func() bool { return len(h.records) >= written }
	var story []string
	tell := func(format string, args ...any) { story = append(story, fmt.Sprintf(format, args...)) }
	missing := func() {
		deadline := time.Now().Add(8 * time.Second)
		for !caughtUp() && time.Now().Before(deadline) {
			h.read(20*time.Millisecond, false)
		}
		if caughtUp() {
			return
		}
		have := map[string]int{}
		for _, r := range h.records {
			p := strings.SplitN(r.value, " ", 4)
			have[p[0]+" "+p[1]]++
		}
		for _, l := range loggers {
			for k, n := range l.did {
				if have[k] != n {
					story = append(story, fmt.Sprintf("app and gen %s: %d of %d", k, have[k], n))
				}
			}
		}
		for _, f := range h.task.order {
			story = append(story, fmt.Sprintf("%s (%s, from %s, %d): at %d of %d, tried %d, matched %v, deleted %v, open %v, copy of %q",
				f.path, f.ident, f.origin, f.gen, f.offset, f.size, f.tried, f.matched, f.deleted, f.fd != nil, f.copyOf))
		}
		t.Fatalf("%d of %d lines:\n%s", len(h.records), written, strings.Join(story, "\n"))
	}
	// A file that no glob matches can only be found by somebody who knew it, or its predecessor, under its name.
	known := func(l *logger) {
		info, err := os.Stat(l.path)
		if err != nil || glob == "*.log*" {
			return
		}
		id, _ := idOf(info)
		h.until("a position of "+l.path, func() bool {
			p, err := parsePosition(h.positions[fileKey(id)])
			if err != nil || p.Offset == 0 || p.Path != l.path {
				return false
			}
			fd, err := os.Open(l.path)
			must(t, err)
			defer func() { must(t, fd.Close()) }()
			return fileOf(p).verify(fd, info.Size()) == nil
		})
	}
	for ; written < lines || kills < 10; steps++ {
		l := loggers[rnd.IntN(len(loggers))]
		if t.Failed() {
			return
		}
		n := 1 + rnd.IntN(2000)
		l.write(n, pad)
		written += n
		what := rnd.IntN(12)
		if what <= 3 || what == 5 {
			known(l)
		}
		tell("%d: app%d has gen %d with %d lines (inode %d), then %d", steps, l.id, l.gen, l.line, inode(l.path), what)
		switch what {
		case 0, 1:
			l.rename()
		case 2, 3:
			l.copyTruncate()
		case 4: // deleted: only a reader that has it open can have the rest
			missing()
			l.write(5, pad)
			written += 5
			h.until("the open file", func() bool { return h.task.opened > 0 && caughtUp() })
			must(t, os.Remove(l.path))
			l.gen, l.line = l.gen+1, 0
		case 5: // a rotation while nobody looks, and then another
			h.kill()
			kills++
			l.write(100, pad)
			l.rename()
			l.write(100, pad)
			written += 200
			if rnd.IntN(2) == 0 {
				l.copyTruncate()
				l.write(10, pad)
				written += 10
			}
			h.start()
		case 6: // read, but killed before it is in the log
			h.read(10*time.Millisecond, true)
			h.kill()
			kills++
			h.start()
		}
		for range rnd.IntN(4) {
			h.read(time.Millisecond, false)
		}
	}
	missing()
	for range 20 {
		h.read(5*time.Millisecond, false)
	}
	t.Logf("%d lines, %d steps, %d kills, %d positions", written, steps, kills, len(h.positions))
	seen := make(map[string]bool, written)
	type place struct{ gen, line int }
	next := map[string]place{}
	for _, r := range h.records {
		p := strings.SplitN(r.value, " ", 4)
		if len(p) != 4 {
			t.Fatalf("torn line %q", r.value)
		}
		key := p[0] + " " + p[1] + " " + p[2]
		if seen[key] {
			t.Log(strings.Join(story, "\n"))
			for _, o := range h.records {
				if strings.HasPrefix(o.value, key+" ") {
					t.Logf("%s at %s", o.path, o.offset)
				}
			}
			t.Fatalf("line %s is there twice", key)
		}
		seen[key] = true
		gen, err1 := strconv.Atoi(p[1])
		line, err2 := strconv.Atoi(p[2])
		must(t, errors.Join(err1, err2))
		at := next[p[0]] // of this log, over all its files
		if gen < at.gen || gen > at.gen && line != 0 || gen == at.gen && line != at.line {
			t.Log(strings.Join(story, "\n"))
			t.Fatalf("line %s comes when %d %d was next", key, at.gen, at.line)
		}
		next[p[0]] = place{gen, line + 1}
	}
	h.audit()
	if len(seen) != written {
		t.Fatalf("%d lines of %d", len(seen), written)
	}
}
