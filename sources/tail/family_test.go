package tail

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
)

func TestFamily(t *testing.T) {
	known := map[string]bool{"/l/app.log": true, "/l/syslog": true}
	for path, want := range map[string]string{
		"/l/app.log":                            "/l/app.log",
		"/l/app.log.1":                          "/l/app.log",
		"/l/app.log.12.old":                     "/l/app.log",
		"/l/app.log~":                           "/l/app.log",
		"/l/app.log-20261122":                   "/l/app.log",
		"/l/app.log-20261122.2":                 "/l/app.log",
		"/l/app.log.2026-11-22T10:00:00Z":       "/l/app.log",
		"/l/app-20261122.log":                   "/l/app.log",
		"/l/app-2026-11-22T10-00-00.123.log":    "/l/app.log",
		"/l/app.1.log":                          "/l/app.log",
		"/l/syslog.1":                           "/l/syslog",
		"/l/messages-20261122":                  "/l/messages",
		"/l/server-1.log":                       "/l/server-1.log",
		"/l/server-1.log.3":                     "/l/server-1.log",
		"/l/node-1":                             "/l/node-1",
		"/l/2026-11-22.log":                     "/l/2026-11-22.log",
		"/l/app.log.audit":                      "/l/app.log.audit",
		"/l/20261122/app.log":                   "/l/20261122/app.log",
		"/l/app.log.99999999999999999999999999": "/l/app.log",
	} {
		if got := family(path, func(p string) bool { return known[p] }); got != want {
			t.Errorf("%s: %s, not %s", path, got, want)
		}
	}
}

// generation writes one generation of a log: more than a turn, so that files would alternate.
func generation(t *testing.T, path string, gen, lines int, at time.Time) {
	t.Helper()
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, "%d %d %s\n", gen, i, strings.Repeat("x", 100))
	}
	must(t, os.WriteFile(path, []byte(b.String()), 0o644))
	if !at.IsZero() {
		must(t, os.Chtimes(path, at, at))
	}
}

// inOrder fails unless generations and lines rise without a gap.
func (h *hub) inOrder(gens, lines int) {
	h.t.Helper()
	h.until("all lines", func() bool { return len(h.records) >= gens*lines })
	for i, r := range h.records {
		if want := fmt.Sprintf("%d %d ", i/lines, i%lines); !strings.HasPrefix(r.value, want) {
			h.t.Fatalf("record %d is %.20q of %s, not %q", i, r.value, r.path, want)
		}
	}
	if len(h.records) != gens*lines {
		h.t.Fatalf("%d records of %d", len(h.records), gens*lines)
	}
}

func TestRotatedFilesOldestFirst(t *testing.T) {
	const gens, lines = 6, 4000
	for name, file := range map[string]func(gen int) string{
		"logrotate":  func(g int) string { return "a.log." + strconv.Itoa(gens-1-g) },
		"rising":     func(g int) string { return "a.log." + strconv.Itoa(g+7) },
		"dated":      func(g int) string { return "a.log-2026112" + strconv.Itoa(g) },
		"dated stem": func(g int) string { return "a-2026112" + strconv.Itoa(g) + ".log" },
	} {
		for _, times := range []string{"apart", "equal"} {
			if name == "rising" && times == "equal" {
				continue // nothing tells that the numbers rise
			}
			t.Run(name+" "+times, func(t *testing.T) {
				dir := t.TempDir()
				now := time.Now().Add(-time.Hour)
				for g := range gens {
					path := in(dir, file(g))
					if g == gens-1 {
						path = in(dir, "a.log")
					}
					at := now
					if times == "apart" {
						at = now.Add(time.Duration(g) * time.Second)
					}
					generation(t, path, g, lines, at)
				}
				h := newHub(t, "paths", in(dir, "a*"), "partitions", "5")
				h.start()
				h.inOrder(gens, lines)
				for _, r := range h.records {
					if r.part != h.records[0].part {
						t.Fatal("one log in two partitions")
					}
				}
			})
		}
	}
}

// Rotations go on while the reader is killed again and again in the middle of a file.
func TestOrderOverKillsAndRotations(t *testing.T) {
	const lines = 3000
	for _, how := range []string{"rename", "copytruncate"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			log := in(dir, "a.log")
			h := newHub(t, "paths", in(dir, "a.log*"))
			h.batch = connectors.NewBatch(100_000)
			gens, begin := 0, time.Now().Add(-time.Hour)
			for range 5 {
				for range 3 {
					at := begin.Add(time.Duration(gens) * time.Second) // a tick of the file system's clock is long enough for two files
					if gens > 0 {
						rotated := log + "." + strconv.Itoa(gens)
						if how == "rename" {
							must(t, os.Rename(log, rotated))
						} else {
							copyFile(t, log, rotated)
							must(t, os.Chtimes(rotated, at, at))
							must(t, os.Truncate(log, 0))
						}
					}
					generation(t, log, gens, lines, at)
					gens++
				}
				h.start()
				want := len(h.records) + 2000
				h.until("some lines", func() bool { return len(h.records) >= want })
				h.kill()
			}
			h.start()
			h.inOrder(gens, lines)
		})
	}
}

// A rotation between a list of the files and the first read of one: what is read is not what was listed.
func TestTruncatedBeforeTheFirstRead(t *testing.T) {
	const lines = 3000
	for _, glob := range []string{"a.log*", "a.log"} {
		t.Run(glob, func(t *testing.T) {
			dir := t.TempDir()
			log := in(dir, "a.log")
			h := newHub(t, "paths", in(dir, glob), "poll", "1h")
			write(t, log, "")
			h.start()
			generation(t, log, 0, lines, time.Time{})
			must(t, h.task.scan(time.Now()))
			h.task.glimpseAll()
			h.task.nextScan = time.Now().Add(time.Hour)
			copyFile(t, log, log+".1")
			must(t, os.Truncate(log, 0))
			generation(t, log, 1, lines, time.Time{})
			h.inOrder(2, lines)
		})
	}
}

// A file that somebody writes anew all the time is read all the same.
func TestRewrittenBeforeTheFirstRead(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "a.log")
	h := newHub(t, "paths", log, "poll", "1h", "rotate_wait", "30ms")
	write(t, log, "first\n")
	h.start()
	must(t, h.task.scan(time.Now()))
	deadline := time.Now().Add(20 * time.Second)
	for i := 0; h.batch.Empty(); i++ {
		if time.Now().After(deadline) {
			t.Fatal("not read")
		}
		must(t, os.WriteFile(log, fmt.Appendf(nil, "%d\n", i), 0o644))
		must(t, h.task.collect(t.Context(), time.Now(), h.batch))
	}
}

// A rotated file that ends in the middle of a line holds the next one up, but not for ever.
func TestUnfinishedLineBeforeTheNextFile(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "a.log")
	h := newHub(t, "paths", in(dir, "a.log*"), "rotate_wait", "300ms")
	write(t, log, "1\n2")
	h.start()
	h.expect("1")
	must(t, os.Rename(log, log+".1"))
	write(t, log, "4\n")
	h.expect("1") // for now
	write(t, log+".1", " whole\n3\n")
	h.expect("1", "2 whole", "3", "4")
	must(t, os.Rename(log, log+".2"))
	write(t, log+".2", "5\nhal")
	write(t, log, "6\n")
	h.expect("1", "2 whole", "3", "4", "5", "6")
	write(t, log+".2", "f\n")
	h.expect("1", "2 whole", "3", "4", "5", "6", "half")
}

// Only names that rotation gave say in which direction numbers run.
func TestDirectionOfNumbers(t *testing.T) {
	dir := t.TempDir()
	at := time.Now().Add(-time.Hour)
	var all []*file
	for _, f := range []file{{path: "a3.log", deleted: true}, {path: "a3.log.1"}, {path: "a3.log.2"}, {path: "a3.log"}} {
		f.path = in(dir, f.path)
		write(t, f.path, "x\n")
		must(t, os.Chtimes(f.path, at, at))
		if f.deleted { // older than all, and its name is another file's now
			fd, err := os.Open(f.path)
			must(t, err)
			defer func() { must(t, fd.Close()) }()
			f.fd = fd
			must(t, os.Chtimes(f.path, at, at.Add(-time.Hour)))
			must(t, os.Remove(f.path))
		}
		all = append(all, &f)
	}
	ages, upward := agesOf(in(dir, "a3.log"), all)
	if order(all[2], all[1], ages, upward) >= 0 {
		t.Fatal("a3.log.2 is not older than a3.log.1")
	}
}

func TestFamiliesTakeTurns(t *testing.T) {
	dir := t.TempDir()
	generation(t, in(dir, "a.log.1"), 0, 20_000, time.Time{})
	generation(t, in(dir, "a.log"), 1, 20_000, time.Time{})
	generation(t, in(dir, "b.log"), 2, 100, time.Time{})
	h := newHub(t, "paths", in(dir, "*.log*"))
	h.start()
	h.until("all lines", func() bool { return len(h.records) == 40_100 })
	if i := slices.IndexFunc(h.records, func(r record) bool { return r.value[0] == '2' }); i > 10_000 {
		t.Fatalf("b.log had to wait for %d lines", i)
	}
}

// Host, file and offset are of one line only, and an audit finds the same for what is on disk.
func TestIdentityOfLines(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "a.log")
	h := newHub(t, "paths", in(dir, "a.log*"))
	write(t, log, "1\n")
	h.start()
	h.expect("1")
	h.kill()
	write(t, log, "2\n")
	h.start()
	h.expect("1", "2")
	must(t, os.Rename(log, log+".1"))
	write(t, log+".1", "3\n")
	h.expect("1", "2", "3")
	write(t, log, "1\n") // the same text under the same path
	h.expect("1", "2", "3", "1")
	write(t, log, "2\n")
	copyFile(t, log, log+".2")
	must(t, os.Truncate(log, 0))
	write(t, log, "a line\n")
	h.expect("1", "2", "3", "1", "2", "a line")
	var files []string
	for _, r := range h.records {
		files = append(files, r.file)
	}
	if a, b, c := files[0], files[3], files[5]; a == b || b == c || a == c || a == "" ||
		files[1] != a || files[2] != a || files[4] != b {
		t.Fatalf("files %q", files)
	}
	h.audit()
	copyFile(t, log, log+".9") // held for ever: nobody truncates
	h.read(20*time.Millisecond, false)
	h.audit()
	must(t, os.Truncate(log, 0)) // and its lines are gone, or the copy's
	h.audit()
}

// audit holds what the source holds against the records.
func (h *hub) audit() {
	h.t.Helper()
	type place struct{ file, offset string }
	have := map[place]string{}
	for _, r := range h.records {
		p := place{r.file, r.offset}
		if _, again := have[p]; again {
			h.t.Fatalf("%v is there twice", p)
		}
		have[p] = r.value
	}
	p, err := h.src.AuditPoint(context.Background())
	must(h.t, err)
	defer func() { must(h.t, p.Close()) }()
	h.until("the point", func() bool {
		for k, want := range p.Positions() {
			if at, ok := h.positions[k]; !ok || h.src.Compare(k, at, want) < 0 {
				return false
			}
		}
		return true
	})
	must(h.t, p.(connectors.ReachedPoint).Reached(h.positions))
	seen := map[place]bool{}
	must(h.t, p.Rows(context.Background(), "logs", func(r connectors.Record) error {
		at := place{string(r.Headers[3].Value), string(r.Headers[2].Value)}
		if v, ok := have[at]; !ok || v != string(r.RawValue) {
			h.t.Fatalf("the source has %.40q at %v of %s, the log %.40q (%v)", r.RawValue, at, r.Headers[1].Value, v, ok)
		}
		if seen[at] {
			h.t.Fatalf("the source gives %v twice", at)
		}
		seen[at] = true
		return nil
	}))
	h.t.Logf("audit: %d records, %d of them on disk", len(h.records), len(seen))
}
