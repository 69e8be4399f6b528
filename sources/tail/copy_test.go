package tail

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each test is one moment of copytruncate at which lines were doubled, torn or left behind (docs/postmortems/0001-copytruncate.md).

// lines are numbered lines of a generation, long enough that a few of them tell one file from another.
func lines(gen, from, to int) (text string, values []string) {
	for i := from; i < to; i++ {
		v := fmt.Sprintf("%d %d %s", gen, i, strings.Repeat("x", 150))
		values = append(values, v)
		text += v + "\n"
	}
	return text, values
}

// blind lets the task read without looking at the folder.
func (h *hub) blind() {
	h.task.nextScan = time.Now().Add(time.Hour)
	h.read(time.Millisecond, false)
}

// scanned lets it look first.
func (h *hub) scanned() {
	h.task.nextScan = time.Time{}
	h.read(time.Millisecond, false)
}

// sizes lets the task know how long a file is now, as a read would, without looking at the folder.
func (h *hub) sizes(path string) {
	h.t.Helper()
	st, err := os.Stat(path)
	must(h.t, err)
	id, _ := idOf(st)
	h.task.files[id].sized(st.Size(), time.Now())
}

// The copy is held, and the process is killed; the original is truncated before the next start.
func TestHeldCopyOverAKill(t *testing.T) {
	for _, shifted := range []bool{false, true} {
		t.Run(fmt.Sprintf("shifted %v", shifted), func(t *testing.T) {
			for range 12 { // positions are taken on in any order
				dir := t.TempDir()
				log := in(dir, "app.log")
				h := newHub(t, "paths", in(dir, "app.log*"))
				old, want := lines(1, 0, 20)
				write(t, log, old)
				h.start()
				h.expect(want...)
				copyFile(t, log, log+".1")
				h.until("the copy to be held", func() bool { return len(h.positions) == 2 })
				h.kill()
				if shifted {
					must(t, os.Rename(log+".1", log+".2"))
				}
				must(t, os.Truncate(log, 0))
				next, more := lines(2, 0, 30)
				write(t, log, next)
				h.start()
				h.expect(append(want, more...)...)
				h.kill()
			}
		})
	}
}

// The copy was seen half made; its last half came before the original was truncated.
func TestCopyInTheMaking(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", in(dir, "app.log*"))
	first, want := lines(1, 0, 20)
	write(t, log, first)
	h.start()
	h.expect(want...)
	write(t, log+".1", first[:len(first)/2])
	h.until("the copy to be held", func() bool { return len(h.positions) == 2 })
	rest, left := lines(1, 20, 22)
	write(t, log, rest)
	h.sizes(log)
	write(t, log+".1", first[len(first)/2:]+rest)
	must(t, os.Truncate(log, 0))
	next, more := lines(2, 0, 30)
	write(t, log, next)
	h.blind()
	h.expect(append(append(want, left...), more...)...)
}

// The copy was there, but empty, when the folder was listed; it is not new when it has lines.
func TestCopySeenEmpty(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", in(dir, "app.log*"))
	first, want := lines(1, 0, 20)
	write(t, log, first)
	h.start()
	h.expect(want...)
	write(t, log+".1", "")
	h.scanned()
	write(t, log+".1", first)
	must(t, os.Truncate(log, 0))
	next, more := lines(2, 0, 30)
	write(t, log, next)
	h.expect(append(want, more...)...)
}

// Two rotations came before anybody looked: the second copy has what the original has now, not what was read of it.
func TestTwoCopiesAtOnce(t *testing.T) {
	for name, empty := range map[string]bool{"new": false, "seen empty": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			log := in(dir, "app.log")
			h := newHub(t, "paths", in(dir, "app.log*"))
			first, want := lines(1, 0, 20)
			write(t, log, first)
			h.start()
			h.expect(want...)
			rest, left := lines(1, 20, 25)
			write(t, log, rest)
			if empty {
				write(t, log+".1", "")
				write(t, log+".2", "")
				h.task.nextScan = time.Now().Add(time.Hour)
				must(t, h.task.scan(time.Now()))
			}
			base := time.Now().Add(-time.Minute)
			copyFile(t, log, log+".2")
			must(t, os.Chtimes(log+".2", base, base))
			must(t, os.Truncate(log, 0))
			second, middle := lines(2, 0, 40)
			write(t, log, second)
			copyFile(t, log, log+".1")
			h.scanned()
			must(t, os.Truncate(log, 0))
			third, last := lines(3, 0, 60)
			write(t, log, third)
			h.expect(append(append(append(want, left...), middle...), last...)...)
		})
	}
}

// Nothing was read of the original when it was copied, and nothing when it was truncated.
func TestCopyOfWhatNobodyRead(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", in(dir, "app.log*"), "poll", "1h")
	h.start()
	first, want := lines(1, 0, 20)
	write(t, log, first)
	copyFile(t, log, log+".1")
	h.scanned() // one of them is read, and not the other
	must(t, os.Truncate(log, 0))
	next, more := lines(2, 0, 30)
	write(t, log, next)
	h.task.nextScan = time.Time{}
	h.until("all lines", func() bool { h.task.soon(); return len(h.records) >= len(want)+len(more) })
	h.task.soon()
	h.expect(append(want, more...)...)
}

// An inode that belonged to a file of which the position is still there is the copy's now.
func TestHeldCopyWithAnotherLife(t *testing.T) {
	for range 8 { // positions are taken on in any order
		dir := t.TempDir()
		log := in(dir, "app.log")
		h := newHub(t, "paths", in(dir, "app.log*"))
		first, want := lines(1, 0, 20)
		write(t, log, first)
		h.start()
		h.expect(want...)
		h.kill()
		copyFile(t, log, log+".2")
		info, err := os.Stat(log + ".2")
		must(t, err)
		id, _ := idOf(info)
		old := &file{id: id, origin: log, path: log + ".1", head: newSum, ident: newIdent(id)}
		old.advance([]byte("x\n"))
		h.positions[old.key()] = old.position()
		h.start()
		h.expect(want...)
		rest, more := lines(1, 20, 30)
		write(t, log, rest)
		h.expect(append(want, more...)...)
		h.kill()
	}
}

// A program writes on between the copy and the truncation, and those lines were read: the copy ends before the offset.
func TestCopyThatEndsBeforeTheOffset(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", in(dir, "app.log*"))
	first, want := lines(1, 0, 20)
	write(t, log, first)
	h.start()
	h.expect(want...)
	rest, more := lines(1, 20, 22)
	h.task.nextScan = time.Now().Add(time.Hour)
	write(t, log, rest)
	h.sizes(log)
	copyFileOf(t, log, log+".1", len(first))
	h.blind()
	must(t, os.Truncate(log, 0))
	next, last := lines(2, 0, 3)
	write(t, log, next)
	h.expect(append(append(want, more...), last...)...)
}

func copyFileOf(t *testing.T, from, to string, n int) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b[:n], 0o644))
}

// Whoever replaces a log by itself and more (rsync, sed -i, an editor) makes a new file; what was read of the old one is not read again.
func TestReplacedByItselfAndMore(t *testing.T) {
	for _, glob := range []string{"a.log", "a.log*"} {
		for how, replace := range map[string]func(log, next string){
			"rename": func(log, next string) { must(t, os.Rename(next, log)) },
			"backup": func(log, next string) {
				must(t, os.Rename(log, log+"~"))
				must(t, os.Rename(next, log))
			},
		} {
			t.Run(glob+" "+how, func(t *testing.T) {
				dir := t.TempDir()
				log, next := in(dir, "a.log"), in(dir, "next")
				h := newHub(t, "paths", in(dir, glob), "rotate_wait", "1h")
				generation(t, log, 0, 200, time.Time{})
				h.start()
				h.until("200 lines", func() bool { return len(h.records) == 200 })
				old, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
				must(t, err)
				defer func() { must(t, old.Close()) }()
				copyFile(t, log, next)
				write(t, next, "more\n")
				replace(log, next)
				h.until("the new line", func() bool { return len(h.records) >= 201 })
				write(t, log, "and more\n")
				h.until("another", func() bool { return len(h.records) >= 202 })
				if glob == "a.log" {
					h.audit()
				}
				_, err = old.WriteString("to the old file\n") // the program did not notice
				must(t, err)
				h.until("a line of the old one", func() bool { return len(h.records) >= 203 })
				h.looks(5)
				var got []string
				seen := map[string]bool{}
				for _, r := range h.records {
					if seen[r.file+r.offset] {
						t.Fatalf("two lines are at %s of %s", r.offset, r.file)
					}
					seen[r.file+r.offset] = true
				}
				for _, r := range h.records[200:] {
					got = append(got, r.value)
				}
				if want := []string{"more", "and more", "to the old file"}; !slices.Equal(got, want) {
					t.Fatalf("got %q", got)
				}
			})
		}
	}
}

// The old file may have ended in the middle of a line.
func TestReplacedByItselfInALine(t *testing.T) {
	dir := t.TempDir()
	log, next := in(dir, "a.log"), in(dir, "next")
	h := newHub(t, "paths", log, "rotate_wait", "1h")
	generation(t, log, 0, 200, time.Time{})
	write(t, log, "hal")
	h.start()
	h.until("200 lines", func() bool { return len(h.records) == 200 })
	old, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	defer func() { must(t, old.Close()) }()
	copyFile(t, log, next)
	write(t, next, "f\n")
	must(t, os.Rename(next, log))
	h.until("the line", func() bool { return len(h.records) >= 201 })
	h.looks(5)
	if got := h.records[200:]; len(got) != 1 || got[0].value != "half" {
		t.Fatalf("got %v", got)
	}
	_, err = old.WriteString("to the old file\n") // the program did not notice
	must(t, err)
	h.until("a line of the old one", func() bool { return len(h.records) >= 202 })
	h.looks(5)
	if got := h.records[201:]; len(got) != 1 || got[0].value != "to the old file" || got[0].file == h.records[200].file {
		t.Fatalf("got %v", got)
	}
	for _, f := range h.task.order {
		f.active = f.active.Add(-2 * time.Hour) // rotate_wait is over
	}
	h.until("the old file to be forgotten", func() bool { return len(h.positions) == 1 })
}

// Two logs may be alike in the beginning, and before the offset, and only one of them be read: by a rotated name, or by a byte, the second is told from the first and more.
func TestLogThatBeginsAsTheOneBefore(t *testing.T) {
	for how, replace := range map[string]func(log, next string){
		"rotated":         func(log, next string) { must(t, os.Rename(log, log+".1")); must(t, os.Rename(next, log)) },
		"rotated by date": func(log, next string) { must(t, os.Rename(log, log+"-20261130")); must(t, os.Rename(next, log)) },
		"another":         func(log, next string) { must(t, os.Rename(next, log)) },
	} {
		for _, glob := range []string{"report.log", "report.log*"} {
			t.Run(how+" "+glob, func(t *testing.T) {
				dir := t.TempDir()
				log, next := in(dir, "report.log"), in(dir, "next")
				h := newHub(t, "paths", in(dir, glob), "rotate_wait", "1h")
				banner, want := lines(1, 0, 10)
				end, last := lines(2, 0, 1)
				want = append(append(want, "day 1"), last...)
				write(t, log, banner+"day 1\n"+end)
				h.start()
				h.expect(want...)
				second := append(slices.Clone(want), "more")
				if how == "another" {
					second[10] = "day 2"
				}
				write(t, next, strings.Join(second, "\n")+"\n")
				replace(log, next)
				h.expect(append(want, second...)...)
			})
		}
	}
}

// What a copy has that a task holds open is known by its descriptor, also when it is deleted (compressed) before anybody looks again.
func TestCopyThatIsDeleted(t *testing.T) {
	for _, c := range []struct {
		glob, how string
	}{
		{"app.log", "went on, not committed"}, {"app.log*", "went on, not committed"}, {"app.log*", "held"}, {"app.log*", "held, one task"},
		{"app.log*", "held, not committed"}, {"app.log*", "held, not truncated"},
	} {
		t.Run(c.glob+" "+c.how, func(t *testing.T) {
			dir := t.TempDir()
			log := in(dir, "app.log")
			h := newHub(t, "paths", in(dir, c.glob), "rotate_wait", "1h")
			first, want := lines(1, 0, 20)
			write(t, log, first)
			h.start()
			h.expect(want...)
			rest, left := lines(1, 20, 25)
			write(t, log, rest)
			copyFile(t, log, log+".1")
			id := h.fileOf(log + ".1")
			truncate := func() {
				must(t, os.Truncate(log, 0))
				next, more := lines(2, 0, 30)
				write(t, log, next)
				left = append(left, more...)
			}
			is := func(lose bool, ok func(*file) bool) {
				for deadline := time.Now().Add(20 * time.Second); ; h.read(5*time.Millisecond, lose) {
					if f := h.task.files[id]; f != nil && f.fd != nil && ok(f) {
						return
					}
					if time.Now().After(deadline) {
						t.Fatal("the copy is not held, or does not go on")
					}
				}
			}
			held := func(f *file) bool { return f.copyOf != "" }
			switch c.how {
			case "went on, not committed":
				truncate()
				is(true, func(f *file) bool { return f.offset > 0 })
				must(t, h.task.Close())
			case "held":
				is(false, held)
				h.until("its position", func() bool { return len(h.positions) == 2 })
				must(t, h.task.Close())
				truncate()
			case "held, one task":
				is(false, held)
				truncate()
			case "held, not committed":
				is(true, held)
				truncate()
				must(t, h.task.Close())
			case "held, not truncated":
				is(true, held)
				must(t, h.task.Close())
			}
			must(t, os.Remove(log+".1"))
			if c.how != "held, one task" {
				h.reopen()
			}
			h.expect(append(want, left...)...)
			h.audit()
		})
	}
}

// The log is gone, and the next one under its name begins with the same banner and is shorter yet: what it has is new.
func TestShorterLogThatBeginsAlike(t *testing.T) {
	for _, rotated := range []bool{false, true} {
		t.Run(fmt.Sprintf("rotated %v", rotated), func(t *testing.T) {
			dir := t.TempDir()
			log := in(dir, "app.log")
			h := newHub(t, "paths", in(dir, "app.log*"))
			banner, head := lines(1, 0, 10)
			rest, want := lines(2, 0, 20)
			want = append(slices.Clone(head), want...)
			write(t, log, banner+rest)
			h.start()
			h.expect(want...)
			last := log
			if rotated {
				last = log + ".1"
				must(t, os.Rename(log, last))
				write(t, last, "the last\n")
				want = append(want, "the last")
				h.expect(want...)
			}
			h.kill()
			must(t, os.Rename(last, in(t.TempDir(), "app.log"))) // it is compressed; its inode is not given to the next
			write(t, log, banner)
			h.start()
			want = append(want, head...)
			h.expect(want...)
			write(t, log, "new\n")
			h.expect(append(want, "new")...)
		})
	}
}
