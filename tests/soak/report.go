package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

const passed = "passed"

// row is one line of a report, and what a later soak knows about the run.
type row struct{ run, verdict, figures, seed, took, commit, date, machine string }

const columns = "| run | verdict | figures | seed | took | commit | date | machine |"

func (r row) String() string {
	cells := []string{r.run, r.verdict, r.figures, r.seed, r.took, r.commit, r.date, r.machine}
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(c, "|", "/")
	}
	return "| " + strings.Join(cells, " | ") + " |"
}

func path(part string) string { return filepath.Join("docs", "soak", part+".md") }

// read is what a part's report says; no report has no rows.
func read(part string) ([]row, error) {
	text, err := os.ReadFile(path(part))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, table, _ := strings.Cut(string(text), columns)
	var rows []row
	for line := range strings.Lines(table) {
		c := strings.Split(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "| "), " |"), " | ")
		if len(c) == 8 && !strings.HasPrefix(line, "|--") {
			rows = append(rows, row{c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]})
		}
	}
	return rows, nil
}

// write puts the row in its place: a run has one row, of the last time. Runs that have none are named.
func write(part string, p part, r row, all []run) error {
	rows, err := read(part)
	if err != nil {
		return err
	}
	if at := slices.IndexFunc(rows, func(old row) bool { return old.run == r.run }); at >= 0 {
		rows[at] = r
	} else {
		rows = append(rows, r)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Soak: %s\n\n%s\n\nWritten by `go run ./tests/soak -parts %s`; a row is a run, and only a run writes one.\n\n%s\n%s\n", part, p.about, part, columns, strings.Repeat("|---", 8)+"|")
	for _, r := range rows {
		fmt.Fprintln(&b, r)
	}
	var never []string
	if p.adds {
		all = nil
		fmt.Fprintf(&b, "\n%s\n", sum(rows))
	}
	for _, a := range all {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.run == a.name }) {
			never = append(never, a.name)
		}
	}
	if len(never) > 0 {
		fmt.Fprintf(&b, "\nNot run yet: %s.\n", strings.Join(never, ", "))
	}
	if err := os.MkdirAll(filepath.Dir(path(part)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path(part), b.Bytes(), 0o644)
}

// sum is the time of all runs together.
func sum(rows []row) string {
	var all time.Duration
	good := 0
	for _, r := range rows {
		took, _ := time.ParseDuration(r.took) // as perform wrote it
		all += took
		if r.verdict == passed {
			good++
		}
	}
	return fmt.Sprintf("Together: %.1f hours; %d of %d runs passed.", all.Hours(), good, len(rows))
}

// stands says whether the run has passed and what it watches is as it was then.
func stands(part string, r run) (bool, error) {
	rows, err := read(part)
	if err != nil {
		return false, err
	}
	at := slices.IndexFunc(rows, func(old row) bool { return old.run == r.name && old.verdict == passed })
	if at < 0 {
		return false, nil
	}
	return exec.Command("git", append([]string{"diff", "--quiet", rows[at].commit, "--"}, r.watches...)...).Run() == nil, nil
}

// cleanCommit is what is checked out. A report names a commit, so nothing but reports may differ from it.
func cleanCommit() (string, error) {
	dirty, err := exec.Command("git", "status", "--porcelain", "--", ".", ":!docs/soak").Output()
	if err != nil {
		return "", fmt.Errorf("git status: %w", err)
	}
	if len(dirty) > 0 {
		return "", fmt.Errorf("commit first, a report names a commit:\n%s", dirty)
	}
	return head()
}

func head() (string, error) {
	hash, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	return strings.TrimSpace(string(hash)), err
}

func machine() string {
	field := func(file, key string) string {
		text, _ := os.ReadFile(file) // elsewhere than on Linux: nothing to say
		for line := range strings.Lines(string(text)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
				return strings.TrimSpace(v)
			}
		}
		return "unknown"
	}
	var kib int
	_, _ = fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kib) // elsewhere: 0
	return fmt.Sprintf("%d cores %s, %d GiB, %s", runtime.NumCPU(), field("/proc/cpuinfo", "model name"), (kib+1<<19)>>20, runtime.GOOS)
}
