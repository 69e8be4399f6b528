package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/internal/vfs"
)

// broken makes a log of 40 batches of two records in several segments, breaks what harm says, and gives the disk.
func broken(t *testing.T, harm func(name string, b []byte) []byte) (Options, []int64) {
	t.Helper()
	o, ck := memoryLog(t, Config{SegmentBytes: 1200})
	l := mustOpen(t, o)
	for i := range 40 {
		mustAppend(t, l, batch(t, ck.ms, []string{fmt.Sprint("value ", 2*i), fmt.Sprint("value ", 2*i+1)}))
	}
	waitDurable(t, l)
	var bases []int64
	for _, s := range l.segs {
		bases = append(bases, s.base)
	}
	for _, base := range bases {
		name := segmentName(o.Dir, base, logSuffix)
		b, err := vfs.ReadFile(o.FS, name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if c := harm(name, bytes.Clone(b)); c == nil {
			err = o.FS.Remove(name)
		} else if !bytes.Equal(b, c) {
			put(t, o.FS, name, c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return o, bases
}

// surviving opens the log and compares it: every record that is not lost is there, at its offset, and the log goes on at end.
func surviving(t *testing.T, o Options, lost func(offset int64) bool, end int64) {
	t.Helper()
	l := mustOpen(t, o)
	if l.EndOffset() != end {
		t.Fatalf("ends at %d, want %d", l.EndOffset(), end)
	}
	got := readAll(t, l)
	for i := range int64(80) {
		want := ""
		if i < end && !lost(i) {
			want = fmt.Sprint("value ", i)
		}
		if got[i] != want {
			t.Fatalf("offset %d is %q, want %q", i, got[i], want)
		}
	}
	if a := mustAppend(t, l, batch(t, 1000, []string{"next"})); a.Base != end {
		t.Fatal(a)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRepair(t *testing.T) {
	third := func(bases []int64) string { return segmentName("/data/t-0", bases[2], logSuffix) }
	for name, c := range map[string]struct {
		harm func(b []byte) []byte // the third segment, of five
		lost func(bases []int64) (from, to int64)
	}{
		"flipped byte":  {func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, nil},
		"first batch":   {func(b []byte) []byte { b[70] ^= 1; return b }, nil},
		"last batch":    {func(b []byte) []byte { b[len(b)-3] ^= 1; return b }, nil},
		"length field":  {func(b []byte) []byte { b[8] = 0x7f; return b }, nil},
		"hole of zeros": {func(b []byte) []byte { clear(b[200:700]); return b }, nil},
		"all zeros":     {func(b []byte) []byte { clear(b); return b }, nil},
		"cut":           {func(b []byte) []byte { return b[:len(b)/2] }, nil},
		"empty":         {func(b []byte) []byte { return b[:0] }, nil},
		"gone":          {func([]byte) []byte { return nil }, nil},
		"noise in between": {func(b []byte) []byte {
			return append(append(bytes.Clone(b[:97]), "noise that is no batch"...), b[97:]...)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var bases []int64
			harm := func(name string, b []byte) []byte {
				if len(bases) > 0 && name == third(bases) {
					return c.harm(b)
				}
				return b
			}
			_, bases = broken(t, harm)
			o, _ := broken(t, harm)
			r := Repair{FS: o.FS, Dir: o.Dir, Quarantine: "/q/t-0.1", TruncateAt: -1}
			told, err := r.Run(true)
			if err != nil || len(told) != 1 || told[0].Records != -1 {
				t.Fatal(told, err)
			}
			// Wherever it is interrupted, doing it again ends the same way.
			for n := 0; ; n++ {
				o, _ := broken(t, harm)
				disk := vfs.NewFault(o.FS)
				disk.Inject(vfs.Rule{After: n, Err: errors.New("pulled")})
				r.FS = disk
				done := false
				if _, err := r.Run(false); err == nil {
					done = true
				}
				r.FS = o.FS
				if entries, err := guardedNow(o); err == nil && entries && !done {
					if _, err := Open(o); !errors.Is(err, ErrCorrupt) {
						t.Fatalf("interrupted after %d steps it opens: %v", n, err)
					}
				}
				if _, err := r.Run(false); err != nil {
					t.Fatal(n, err)
				}
				loss := told[0]
				surviving(t, o, func(i int64) bool { return i >= loss.First && i <= loss.Last }, 80)
				if done {
					break
				}
			}
			o, _ = broken(t, harm)
			r.FS = o.FS
			did, err := r.Run(false)
			if err != nil || len(did) != 1 {
				t.Fatal(did, err)
			}
			if did[0].To > did[0].From {
				kept, err := vfs.ReadFile(o.FS, did[0].Kept, 1<<20)
				if err != nil || int64(len(kept)) != did[0].To-did[0].From {
					t.Fatal(did, len(kept), err)
				}
			}
			if n := did[0].Last - did[0].First + 1; n > bases[3]-bases[2] || n < 0 || n%2 != 0 {
				t.Fatalf("%d records are lost: %v", n, did)
			}
			if again, err := r.Run(false); err != nil || len(again) != 0 {
				t.Fatal(again, err)
			}
		})
	}
}

// guardedNow tells whether a guard or a manifest lies in the folder.
func guardedNow(o Options) (bool, error) {
	files, _, err := list(o.FS, o.Dir)
	return len(files.swaps) > 0, err
}

// TestRepairOfTheLastBatch: nothing lies behind it, but its offsets were readable: they do not get other records.
func TestRepairOfTheLastBatch(t *testing.T) {
	for name, at := range map[string]int{"body": -3, "header": -60} {
		var bases []int64
		harm := func(name string, b []byte) []byte {
			if len(bases) > 0 && name == segmentName("/data/t-0", bases[len(bases)-1], logSuffix) {
				b[len(b)+at] ^= 0x40
			}
			return b
		}
		_, bases = broken(t, harm)
		o, _ := broken(t, harm)
		did, err := Repair{FS: o.FS, Dir: o.Dir, Quarantine: "/q/1", TruncateAt: -1}.Run(false)
		if err != nil || len(did) != 1 || did[0].Last != 79 {
			t.Fatal(name, did, err)
		}
		surviving(t, o, func(i int64) bool { return i >= did[0].First }, 80)
	}
}

// TestRepairKeepsSyncedOffsets: of a last segment that is all zeros only the recovery point tells how far it went.
func TestRepairKeepsSyncedOffsets(t *testing.T) {
	o, bases := broken(t, func(_ string, b []byte) []byte { return b })
	if err := mustOpen(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	name := segmentName(o.Dir, bases[len(bases)-1], logSuffix)
	b, err := vfs.ReadFile(o.FS, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	put(t, o.FS, name, make([]byte, len(b)))
	did, err := Repair{FS: o.FS, Dir: o.Dir, Quarantine: "/q/1", TruncateAt: -1}.Run(false)
	if err != nil || len(did) != 1 || did[0].First != bases[len(bases)-1] || did[0].Last != 79 {
		t.Fatal(did, err)
	}
	surviving(t, o, func(i int64) bool { return i >= did[0].First }, 80)
}

// TestRepairTruncates: everything from an offset on goes, is counted and kept; what is broken before it is named.
func TestRepairTruncates(t *testing.T) {
	harm := func(name string, b []byte) []byte {
		if strings.HasSuffix(name, "0000.log") {
			b[3*len(b)/4] ^= 1
		}
		return b
	}
	o, bases := broken(t, harm)
	told, err := Repair{FS: o.FS, Dir: o.Dir, TruncateAt: -1}.Run(true)
	if err != nil || len(told) != 1 {
		t.Fatal(told, err)
	}
	if _, err := (Repair{FS: o.FS, Dir: o.Dir, Quarantine: "/q/1", TruncateAt: bases[1] + 4}).Run(false); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("truncate at %d", told[0].First)) {
		t.Fatal(err)
	}
	if _, err := (Repair{FS: o.FS, Dir: o.Dir, Quarantine: "/q/1", TruncateAt: 81}).Run(false); err == nil {
		t.Fatal("an offset beyond the end was taken")
	}
	did, err := Repair{FS: o.FS, Dir: o.Dir, Quarantine: "/q/1", TruncateAt: told[0].First}.Run(false)
	if err != nil || len(did) != len(bases) || did[len(did)-1].Last != 79 {
		t.Fatal(did, err)
	}
	surviving(t, o, func(int64) bool { return false }, told[0].First)
	// In the middle of a batch: the batch goes.
	o, bases = broken(t, func(_ string, b []byte) []byte { return b })
	did, err = Repair{FS: o.FS, Dir: o.Dir, Quarantine: "/q/1", TruncateAt: bases[1] + 3}.Run(false)
	if err != nil || did[0].First != bases[1]+2 || did[0].Records != int(bases[2]-bases[1])-2 {
		t.Fatal(did, err)
	}
	surviving(t, o, func(int64) bool { return false }, bases[1]+2)
}
