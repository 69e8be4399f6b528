package tail

import (
	"os"
	"strings"
	"testing"
)

// writeAt is what a program writes that does not append: at its own offset.
func writeAt(t *testing.T, path, text string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	must(t, err)
	_, err = f.WriteAt([]byte(text), at)
	must(t, err)
	must(t, f.Close())
}

// A program that does not append goes on behind a hole after each truncation. A copy may have it written out, as NULs.
func TestHole(t *testing.T) {
	for name, c := range map[string]struct {
		sparse bool
		size   int
		fields []string
	}{
		"sparse":   {true, 1 << 20, nil},
		"NULs":     {false, 1 << 20, nil},
		"a page":   {false, holeMin, nil},
		"max_line": {true, 1 << 20, []string{"max_line", "100", "on_long", "truncate"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			log := in(dir, "app.log")
			h := newHub(t, append([]string{"paths", in(dir, "app.log*")}, c.fields...)...)
			write(t, log, "1\n2\n")
			h.start()
			h.expect("1", "2")
			want := []string{"1", "2"}
			for i, line := range []string{"3", "4"} {
				_ = os.Rename(log+".1", log+".2") // there is none the first time
				copyFile(t, log, log+".1")
				must(t, os.Truncate(log, 0))
				if !c.sparse {
					writeAt(t, log, strings.Repeat("\x00", c.size*(i+1)), 0)
					h.read(0, true)
				}
				writeAt(t, log, line+"\n", int64(c.size*(i+1)))
				if i == 1 {
					h.kill()
					h.start()
				}
				want = append(want, line)
				h.expect(want...)
			}
			h.audit()
		})
	}
}

// NULs behind a file's last line may be room for the next ones; of a file that is gone they are nothing.
func TestRoomForLines(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "app.log")
	h := newHub(t, "paths", log)
	writeAt(t, log, "1\n"+strings.Repeat("\x00", 64<<10), 0)
	h.start()
	h.expect("1")
	h.kill()
	writeAt(t, log, "2\n", 2)
	h.start()
	h.expect("1", "2")
	writeAt(t, log, "3\n", 4)
	must(t, os.Truncate(log, 128<<10))
	h.expect("1", "2", "3")
	must(t, os.Remove(log))
	h.until("the file to be forgotten", func() bool { return len(h.positions) == 0 })
	h.expect("1", "2", "3")
}
