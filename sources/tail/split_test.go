package tail

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
)

// all splits data that is there at once.
func all(s *splitter, data []byte) (out []string, state skip) {
	for len(data) > 0 {
		v, n, after := s.next(data, state, moreNever)
		if n == 0 && state == skipNone && hollow(data) {
			data = data[zeros(data):]
			continue
		}
		if n == 0 {
			panic("nothing consumed of data that is all there is")
		}
		if v != nil {
			out = append(out, string(v))
		}
		data, state = data[n:], after
	}
	return out, state
}

// FuzzSplit: records do not depend on how the bytes were cut into reads, and split loses nothing.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("1 a\n b\n\n2 c\r\nlong long long line\n3"), []byte{1, 2, 3, 40}, uint8(7), uint8(0), true)
	f.Add([]byte("aaaaaaaaaaaaaaaaaaaa\nb\n"), []byte{5}, uint8(4), uint8(1), false)
	f.Add([]byte("1aaaaaaaaa\nbb\nccccccccccccc\n2\n"), []byte{1}, uint8(5), uint8(2), true)
	hole := make([]byte, holeMin)
	f.Add(slices.Concat(hole, []byte("1a\n"), hole[1:], []byte("\n2\n3"), hole, hole), []byte{255}, uint8(30), uint8(0), false)
	f.Add(slices.Concat(hole, []byte("1a\n b\n"), hole, []byte("2\n"), hole[1:]), []byte{200, 0}, uint8(5), uint8(0), true)
	f.Fuzz(func(t *testing.T, data, cuts []byte, limit, long uint8, multi bool) {
		s := &splitter{max: int(limit)%40 + 1, long: onLong(long % 3)}
		if multi {
			s.start = regexp.MustCompile(`^\d`)
		}
		want, _ := all(s, data)
		var got []string
		at, shown, state := 0, 0, skipNone
		for i := 0; at < len(data); i++ {
			if i > 2*len(data)+2*holeMin {
				t.Fatalf("stuck at %d of %d, state %d", at, len(data), state)
			}
			step := 1
			if len(cuts) > 0 {
				step += int(cuts[i%len(cuts)])
			}
			shown = min(len(data), max(shown, at)+step)
			m := moreComes
			if shown == len(data) {
				m = moreNever
			}
			for {
				v, n, after := s.next(data[at:shown], state, m)
				if n == 0 && state == skipNone && hollow(data[at:shown]) {
					if n := zeros(data[at:shown]); n < shown-at || m == moreNever {
						at += n
						continue
					}
					break
				}
				if n == 0 {
					if shown-at > s.window() {
						t.Fatalf("no progress with %d bytes, the window is %d", shown-at, s.window())
					}
					break
				}
				if len(v) > s.max {
					t.Fatalf("%d bytes, the limit is %d", len(v), s.max)
				}
				if v != nil {
					got = append(got, string(v))
				}
				at, state = at+n, after
			}
		}
		if strings.Join(got, "|") != strings.Join(want, "|") || len(got) != len(want) {
			t.Fatalf("got %q want %q", got, want)
		}
		if s.long == longSplit {
			r := strings.NewReplacer("\n", "")
			if bytes.Contains(data, hole) {
				r = strings.NewReplacer("\n", "", "\x00", "")
			}
			if a, b := r.Replace(string(data)), r.Replace(strings.Join(got, "")); a != b {
				t.Fatalf("lost: %q of %q", b, a)
			}
		}
	})
}

func FuzzPosition(f *testing.F) {
	f.Add([]byte(`{"v":1,"path":"/a","dev":1,"inode":2,"gen":0,"offset":5,"fp_len":5,"fp":"00","tail_len":5,"tail":"00"}`))
	f.Add([]byte(`{"v":1,"offset":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePosition(data)
		if err != nil {
			return
		}
		g := fileOf(p)
		if _, err := parsePosition(g.position()); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		_ = g.verify(bytes.NewReader(data), int64(len(data)))
	})
}

func TestCompare(t *testing.T) {
	s := &Source{}
	at := func(gen, offset int64) connectors.Position {
		return (&file{gen: gen, offset: offset, head: newSum}).position()
	}
	for _, c := range []struct {
		a, b connectors.Position
		want int
	}{{nil, nil, 0}, {nil, at(0, 0), -1}, {at(0, 5), at(0, 5), 0}, {at(0, 5), at(0, 6), -1}, {at(1, 0), at(0, 6), 1}, {at(3, 7), at(-1, 6), 1}, {at(3, 5), at(-1, 6), -1}} {
		if got := s.Compare("k", c.a, c.b); got != c.want {
			t.Errorf("%s %s: %d", c.a, c.b, got)
		}
		if got := s.Compare("k", c.b, c.a); got != -c.want {
			t.Errorf("%s %s: %d", c.b, c.a, got)
		}
	}
}

func TestIsCopyName(t *testing.T) {
	for _, c := range []struct {
		o, c string
		want bool
	}{
		{"/l/app.log", "/l/app.log.1", true}, {"/l/app.log", "/l/app.log-20261122", true}, {"/l/app.log", "/l/app-20261122.log", true},
		{"/l/app.log", "/l/app.1.log", true}, {"/l/app.log", "/l/app-a.log", false}, {"/l/app.log", "/m/app.log.1", false},
		{"/l/app.log", "/l/app.log", false}, {"/l/app.log.1", "/l/app.log", false}, {"/l/app.log.1", "/l/app.log.12", false}, {"/l/a", "/l/ab", false},
	} {
		if got := isCopyName(c.o, c.c); got != c.want {
			t.Errorf("%s %s: %v", c.o, c.c, got)
		}
	}
}

// BenchmarkRead reads 200-byte lines from the page cache into batches.
func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	line := strings.Repeat("x", 199) + "\n"
	const size = 64 << 20
	if err := os.WriteFile(in(dir, "a.log"), []byte(strings.Repeat(line, size/len(line))), 0o644); err != nil {
		b.Fatal(err)
	}
	s := &Source{cfg: config{paths: []string{in(dir, "*.log")}, topic: "logs", partitions: 1, splitter: splitter{max: 1 << 20}, poll: 1e9, maxOpen: 10, rotateWait: 1e9},
		env: connectors.Env{Name: "logs", Host: "h"}, log: slog.New(slog.DiscardHandler), kept: map[fileID]*file{}}
	batch := connectors.NewBatch(1 << 20)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		t := newTask(s)
		if err := t.Open(context.Background(), nil); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < size/len(line); {
			batch.Reset()
			if err := t.Read(context.Background(), batch); err != nil {
				b.Fatal(err)
			}
			n += len(batch.Records)
		}
		if err := t.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// A position may be inside an event that was cut, and multiline be taken out of the config then.
func TestCutEventWithoutMultiline(t *testing.T) {
	s := splitter{max: 8}
	if value, n, sk := s.next([]byte("x\ny\n"), skipEvent, moreComes); string(value) != "x" || n != 2 || sk != skipNone {
		t.Fatalf("%q, %d bytes, then %d", value, n, sk)
	}
}
