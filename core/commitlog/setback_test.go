package commitlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/internal/vfs"
)

func setBack(o Options, start int64) SetBack {
	return SetBack{FS: o.FS, Dir: o.Dir, Quarantine: "/data/quarantine/t-0", Start: start}
}

// A damaged log is set back to where the damaged segment begins; what was cut off is kept as it was, and what is left is whole.
func TestSetBack(t *testing.T) {
	harms := map[string]func([]byte) []byte{
		"flipped byte":  func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"first batch":   func(b []byte) []byte { b[70] ^= 1; return b },
		"length field":  func(b []byte) []byte { b[8] = 0x7f; return b },
		"base offset":   func(b []byte) []byte { b[7] ^= 0x40; return b },
		"hole of zeros": func(b []byte) []byte { clear(b[100:300]); return b },
		"cut short":     func(b []byte) []byte { return b[:len(b)/3+5] },
		"gone":          func([]byte) []byte { return nil },
	}
	for name, harm := range harms {
		for _, at := range []int{0, 1, 3} {
			t.Run(fmt.Sprint(name, " in segment ", at), func(t *testing.T) {
				k := -1
				kept := map[string][]byte{}
				o, bases := broken(t, func(name string, b []byte) []byte {
					k++
					if k == at {
						b = harm(b)
					}
					if k >= at && b != nil {
						kept[name[strings.LastIndexByte(name, '/')+1:]] = b
					}
					return b
				})
				if len(bases) != 4 {
					t.Fatal("segments:", bases)
				}
				cut, err := setBack(o, 0).Run(t.Context())
				unseen := name == "gone" && at == 0 // nothing tells that there was more: what is left begins later, and is whole
				if err != nil || (cut.Cause == nil) != unseen {
					t.Fatal(cut, err)
				}
				if unseen {
					surviving(t, o, func(offset int64) bool { return offset < bases[1] }, 80)
					return
				}
				end := bases[at]
				surviving(t, o, func(int64) bool { return false }, end)
				for name, want := range kept {
					if got, err := vfs.ReadFile(o.FS, "/data/quarantine/t-0/"+name, 1<<20); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s in quarantine: %d bytes of %d, %v", name, len(got), len(want), err)
					}
				}
				if len(kept) != len(cut.Moved) {
					t.Errorf("moved %v, want %d files", cut.Moved, len(kept))
				}
			})
		}
	}
}

// Damage below what the other copy begins with goes alone; nothing is cut off the end for it.
func TestSetBackBelowTheStart(t *testing.T) {
	k := -1
	o, bases := broken(t, func(_ string, b []byte) []byte {
		if k++; k == 1 {
			b[len(b)/2] ^= 1
		}
		return b
	})
	if cut, err := setBack(o, bases[2]).Run(t.Context()); err != nil || len(cut.Moved) != 2 {
		t.Fatal(cut, err)
	}
	l := mustOpen(t, o)
	if l.StartOffset() != bases[2] || l.EndOffset() != 80 || len(readAll(t, l)) != int(80-bases[2]) {
		t.Fatalf("%d to %d", l.StartOffset(), l.EndOffset())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// A sound log stays as it is, byte by byte; so does what ctx ends.
func TestSetBackOfASoundLog(t *testing.T) {
	o, _ := broken(t, func(_ string, b []byte) []byte { return b })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := setBack(o, 0).Run(ended); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if cut, err := setBack(o, 0).Run(t.Context()); err != nil || cut.Cause != nil || len(cut.Moved) > 0 {
		t.Fatal(cut, err)
	}
	surviving(t, o, func(int64) bool { return false }, 80)
}

// When what tells of the segments cannot be read, all of them go; and all go when that is asked for.
func TestSetBackOfEverything(t *testing.T) {
	for _, name := range []string{boundsName, "00000000000000000016.swap", ""} {
		o, _ := broken(t, func(_ string, b []byte) []byte { return b })
		b := setBack(o, 0)
		if b.All = name == ""; !b.All {
			put(t, o.FS, o.Dir+"/"+name, []byte("not what it should be"))
			if _, err := Open(o); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		cut, err := b.Run(t.Context())
		if err != nil || (name != "") != slices.Contains(cut.Moved, name) || name != "" && cut.Cause == nil {
			t.Fatal(cut, err)
		}
		l := mustOpen(t, o)
		if l.EndOffset() != 0 || l.StartOffset() != 0 {
			t.Errorf("%q: %d to %d", name, l.StartOffset(), l.EndOffset())
		}
		if err := l.StartAt(50); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever step the power is cut at: the log does not open until it is set back again, or is what it should become; nothing that it should keep is lost,
// and what was cut off is somewhere.
func TestSetBackIsCutAtEveryStep(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	source := rand.New(rand.NewPCG(seed, 1))
	disk := vfs.NewCrash()
	f := vfs.NewFault(disk)
	ck := &clock{ms: 1_700_000_000_000}
	o := Options{FS: f, Dir: "/data/t-0", Config: Config{SegmentBytes: 1200}, Syncer: NewSyncer(4, nil), Now: ck.now, BootID: "a"}
	l := mustOpen(t, o)
	for i := range 40 {
		mustAppend(t, l, batch(t, ck.ms, []string{fmt.Sprint("value ", 2*i), fmt.Sprint("value ", 2*i+1)}))
	}
	var bases []int64
	for _, s := range l.segs {
		bases = append(bases, s.base)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	name := segmentName(o.Dir, bases[3], logSuffix)
	b, err := vfs.ReadFile(disk, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := vfs.WriteFile(disk, name, b, true); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/", "/data", o.Dir} {
		if err := disk.SyncDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	var cuts []*vfs.Memory
	f.Hook(func(op vfs.Op, name string) { cuts = append(cuts, disk.Crashed(nil), disk.Crashed(source)) })
	if _, err := setBack(o, 0).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Hook(nil)
	cuts = append(cuts, disk.Crashed(nil), disk.Crashed(source))
	if len(cuts) < 40 {
		t.Fatalf("only %d cuts", len(cuts))
	}
	bases = bases[:4]
	for i, c := range cuts {
		after := o
		after.FS, after.BootID, after.Syncer = c, "b", NewSyncer(4, nil)
		again := setBack(after, 0)
		again.Quarantine += ".2"
		l, err := Open(after)
		switch {
		case errors.Is(err, ErrCorrupt):
		case err != nil:
			t.Fatalf("cut %d: %v", i, err)
		default: // nothing was done yet, the damage is found when it is read; or everything was
			if end := l.EndOffset(); end != 80 && end != bases[3] {
				t.Fatalf("cut %d: the log opens and ends at %d", i, end)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := again.Run(t.Context()); err != nil {
			t.Fatalf("cut %d: %v", i, err)
		}
		for k, base := range bases[3:] {
			found := 0
			for _, dir := range []string{"/data/quarantine/t-0", "/data/quarantine/t-0.2"} {
				if b, err := vfs.ReadFile(c, segmentName(dir, base, logSuffix), 1<<20); err == nil && len(b) > 0 {
					found++
				}
			}
			if found < 1 && i%2 == 0 { // torn renames are durable on one side, or on the other
				t.Fatalf("cut %d: segment %d is not in quarantine", i, k+3)
			}
		}
		surviving(t, after, func(int64) bool { return false }, bases[3])
	}
}

// Damage of an open log is told, by whatever meets it; what a client sends is none.
func TestDamageIsTold(t *testing.T) {
	var told []error
	o, bases := broken(t, func(_ string, b []byte) []byte { return b })
	o.Damaged = func(err error) { told = append(told, err) }
	l := mustOpen(t, o)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, o) // it has read nothing yet but headers
	b := batch(t, 1000, []string{"x"})
	b[len(b)-1] ^= 1
	if _, err := l.Append(b, 1, FromClient); !errors.Is(err, ErrCorrupt) || len(told) > 0 {
		t.Fatal(err, told)
	}
	flip := func(base int64, at int) {
		name := segmentName(o.Dir, base, logSuffix)
		b, err := vfs.ReadFile(o.FS, name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2+at] ^= 1
		put(t, o.FS, name, b)
	}
	flip(bases[1], 0)
	read := func(from int64) error {
		for end := l.EndOffset(); from < end; {
			s, err := l.Read(from, end, 1, true)
			if err != nil {
				return err
			}
			if s.Len == 0 {
				t.Fatal("nothing at", from)
			}
			from = sliceLast(t, s) + 1
			s.Release()
		}
		return nil
	}
	// The byte that is flipped is one of a base offset, which no CRC covers.
	if err := read(0); !errors.Is(err, ErrCorrupt) || len(told) != 1 || !strings.Contains(told[0].Error(), segmentName(o.Dir, bases[1], logSuffix)) {
		t.Fatal(err, told)
	}
	// What was read and found good is not read again, unless somebody has his doubts.
	if err := read(bases[2]); err != nil {
		t.Fatal(err)
	}
	flip(bases[3], 70)
	if err := read(bases[2]); err != nil {
		t.Fatal(err)
	}
	if err := l.Doubt(bases[3]); err != nil {
		t.Fatal(err)
	}
	if err := read(bases[2]); !errors.Is(err, ErrCorrupt) || len(told) != 2 {
		t.Fatal(err, told)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
