package tail

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A family is one log: the file that a program writes now and those that rotation
// made of its predecessors. Its files are read one after the other, oldest first,
// so that the log's lines arrive in the order in which they were written.

// What rotations append to a name: .1 .2, -20261122, -2026-11-22T10:00:00Z, .old, ~.
// In front of an extension, or where there is none, only dates count by themselves: app-20261122.log
// is of the family of app.log, but server-1.log and server-2.log are two logs.
var (
	rotatedEnd    = regexp.MustCompile(`^(.+?)(?:[._-](\d[\dT.:_-]*Z?)|[._-](?:old|bak|prev|orig)|~)$`)
	rotatedMiddle = regexp.MustCompile(`^(.+?)[._-](\d[\dT.:_-]*Z?)(\.[A-Za-z][A-Za-z0-9]*)$`)
)

const dateDigits = 6 // of 261122

// family is the path that the log which path belongs to is written under. known
// says whether a path is there; it decides over app.1.log.
func family(path string, known func(string) bool) string {
	dir, base := filepath.Split(path)
	for {
		m := rotatedEnd.FindStringSubmatch(base)
		if m != nil && (m[2] == "" || digits(m[2]) >= dateDigits || strings.Contains(m[1], ".") || known(dir+m[1])) {
			base = m[1]
			continue
		}
		m = rotatedMiddle.FindStringSubmatch(base)
		if m == nil || digits(m[2]) < dateDigits && !known(dir+m[1]+m[3]) {
			return dir + base
		}
		base = m[1] + m[3]
	}
}

func digits(s string) (n int) {
	for _, c := range s {
		if c >= '0' && c <= '9' {
			n++
		}
	}
	return n
}

func (t *task) family(path string) string {
	return family(path, func(p string) bool { return t.names[p] })
}

// relatives are the files of f's family, f among them.
func (t *task) relatives(f *file) (name string, all []*file) {
	if t.kin == nil {
		t.kin = make(map[string][]*file, len(t.order))
		for _, g := range t.order {
			name := t.family(g.origin)
			t.kin[name] = append(t.kin[name], g)
		}
	}
	name = t.family(f.origin)
	return name, t.kin[name]
}

// blocked says whether f, of which nothing was read, has to wait for an older
// file of its log. A program goes on to the next file when it has written its
// last line to the one before; so when f has lines and an older file, looked at
// after that, was read to its end, f may begin. An end without a newline may be one in
// the middle of a line, or of a write: it holds f up for rotate_wait at most.
// What comes to the older file later is read when it comes.
func (t *task) blocked(f *file, now time.Time) bool {
	if f.offset > 0 || f.size == 0 {
		return false
	}
	name, all := t.relatives(f)
	if len(all) == 1 {
		return false
	}
	var ages map[*file]time.Time // when each was written last
	upward := 0
	for _, o := range all {
		if o == f || o.copyOf != "" || o.offset == 0 && current(o, name) {
			continue
		}
		if o.offset == 0 && !current(f, name) {
			if ages == nil {
				ages, upward = agesOf(name, all)
			}
			if order(o, f, ages, upward) >= 0 {
				continue
			}
		}
		if t.unfinished(o, f, now) {
			return true
		}
	}
	return false
}

// current says whether f is the one that is written now.
func current(f *file, family string) bool {
	return f.matched && !f.deleted && f.path == family
}

// unfinished says whether f must wait for o, which is older.
func (t *task) unfinished(o, f *file, now time.Time) bool {
	wrote, ok := t.restat(o, now)
	switch {
	case !ok && o.unseen > 1:
		return false // it is away, and may stay away
	case !ok:
		t.soon()
		return true // the scan finds it, or misses it
	case o.size < o.offset:
		t.soon()
		return true // it lost its content, and what of it is in a copy comes first
	case o.size == o.offset:
		return false
	case o.size != o.tried:
		return true
	}
	if f.since.IsZero() {
		f.since = now
	}
	wait := t.cfg.rotateWait
	if o.gone() {
		wait *= 2 // at rotate_wait its last bytes become a record
	}
	return now.Sub(f.since) < wait && now.Sub(o.active) < wait && now.Sub(wrote) < wait
}

// restat looks at the size of one file now. false: it is not under its name.
func (t *task) restat(o *file, now time.Time) (wrote time.Time, ok bool) {
	var st fs.FileInfo
	var err error
	if o.fd != nil {
		st, err = o.fd.Stat()
	} else {
		st, err = os.Stat(o.path)
		if err == nil {
			if id, same := idOf(st); !same || id != o.id {
				err = fs.ErrNotExist
			}
		}
		if err != nil && t.locate(o) == inPlace {
			st, err = os.Stat(o.path)
		}
	}
	if err != nil {
		return wrote, false
	}
	if st.Size() != o.size {
		t.soon()
	}
	o.sized(st.Size(), now)
	return st.ModTime(), true
}

// agesOf tells when each file was written last, and whether the numbers in their
// names rise (1) or fall (-1, as logrotate's) from older to younger.
func agesOf(family string, all []*file) (map[*file]time.Time, int) {
	ages := make(map[*file]time.Time, len(all))
	var low, high *file
	for _, f := range all {
		at, ok := f.modified()
		if !ok {
			continue
		}
		ages[f] = at
		if f.deleted || f.path == family || numbers(f.path) == nil {
			continue // it has no rotated name, or not any more
		}
		if low == nil || compareNumbers(f, low) < 0 {
			low = f
		}
		if high == nil || compareNumbers(f, high) > 0 {
			high = f
		}
	}
	switch {
	case low == high || ages[low].After(ages[high]):
		return ages, -1
	case ages[low].Before(ages[high]):
		return ages, 1
	case digits(filepath.Base(high.path)) >= dateDigits:
		return ages, 1
	}
	return ages, -1
}

// order compares two rotated files: the older is less.
func order(a, b *file, ages map[*file]time.Time, upward int) int {
	if c := ages[a].Compare(ages[b]); c != 0 {
		return c
	}
	if c := compareNumbers(a, b); c != 0 {
		return c * upward
	}
	return strings.Compare(a.path, b.path)
}

func compareNumbers(a, b *file) int { return slices.Compare(numbers(a.path), numbers(b.path)) }

// numbers are the numbers in a file's name.
func numbers(path string) (out []uint64) {
	for _, s := range strings.FieldsFunc(filepath.Base(path), func(r rune) bool { return r < '0' || r > '9' }) {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			n = 1<<64 - 1
		}
		out = append(out, n)
	}
	return out
}
