package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReadingStartsNothing: a file may name any program. Only who asks for it by --online has it started.
func TestReadingStartsNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("plugin", "#!/bin/sh\necho > started\n", 0o755)
	write("data", "", 0o644)
	const sources = `
sources:
  orders: {type: csv, folder: x, transforms: [{type: drop, fields: [secret]}]}
tests:
  - {name: fine, connector: orders, input: '{"topic": "t", "value": {"a": 1, "secret": 2}}', output: '{"topic": "t", "value": {"a": 1}}'}
`
	job := func(plugin string) {
		t.Helper()
		write("job.yaml", fmt.Sprintf("plugins:\n  csv: {%s}\n%s", plugin, sources), 0o644)
	}
	try := func(code int, want string, args ...string) {
		t.Helper()
		var out, errw bytes.Buffer
		got := run(context.Background(), args, nil, &out, &errw)
		if text := out.String() + errw.String(); got != code || !strings.Contains(text, want) {
			t.Errorf("%s: exit code %d; want %d and %q\n%s", args, got, code, want, text)
		}
	}
	job("command: [./plugin]")
	try(0, "", "lint", "job.yaml")
	try(0, "1 passed", "test", "job.yaml")
	try(3, "", "apply", "--http", "127.0.0.1:1", "--dry-run", "job.yaml")
	job("command: [./nowhere]")
	try(2, "job.yaml:2:3: plugin csv cannot be started: exec: \"./nowhere\"", "lint", "job.yaml")
	try(0, "1 passed", "test", "job.yaml") // transforms can be tested where the plugin is not
	job("command: [./data]")
	try(2, "permission denied", "lint", "job.yaml")
	job("command: [.]")
	try(2, "job.yaml:2:3: plugin csv cannot be started", "lint", "job.yaml")
	job("command: [./plugin], sha256: [" + strings.Repeat("0", 64) + "]")
	try(2, "no file of its command has the checksum", "lint", "job.yaml")
	if _, err := os.Stat("started"); err == nil {
		t.Error("the program was started")
	}
	job("command: [./plugin]")
	try(2, "plugin csv does not say how it is reached", "lint", "--online", "job.yaml")
	if _, err := os.Stat("started"); err != nil {
		t.Error("lint --online asks nobody: ", err)
	}
}

// TestPluginThatFails is left out: it does not keep a node from serving its log. A node that runs no connectors does not even start it.
func TestPluginThatFails(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"plugin":  "#!/bin/sh\necho > started\nexit 3\n",
		"job":     "plugins: {csv: {command: [./plugin]}}\nsources: {orders: {type: csv, folder: x}}\n",
		"worker":  "plugins: {csv: {command: [./plugin]}}\ncore: {roles: 'log,worker', data: w}\n",
		"logonly": "plugins: {csv: {command: [./plugin]}}\ncore: {roles: log, data: l}\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	serve := func(want string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		out, in := io.Pipe()
		var errw bytes.Buffer
		ended := make(chan int, 1)
		go func() {
			code := run(ctx, args, nil, in, &errw)
			_ = in.Close()
			ended <- code
		}()
		line, _ := bufio.NewReader(out).ReadString('\n')
		cancel()
		if code := <-ended; code != 0 || !strings.HasPrefix(line, "ready ") || !strings.Contains(errw.String(), want) {
			t.Errorf("%s: %q, code %d, want %q\n%s", args, line, code, want, errw.String())
		}
	}
	node := []string{"--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0"}
	serve("", append([]string{"server", "--config", "logonly", "--plugins", "job"}, node...)...)
	if _, err := os.Stat("started"); err == nil {
		t.Error("a node without connectors has started a plugin")
	}
	serve("a plugin is left out", append([]string{"server", "--config", "worker"}, node...)...)
	serve("a plugin is left out", "up", "--plugins", "job", "--data", "u", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0")
}

// TestPluginsFromEndToEnd: a folder of CSV files into lines of JSON, through two plugins that are killed meanwhile. Each row comes once.
func TestPluginsFromEndToEnd(t *testing.T) {
	dir := t.TempDir()
	program, rows, lines := filepath.Join(dir, "forebay-files"), filepath.Join(dir, "rows"), filepath.Join(dir, "lines")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "..", "plugins", "examples", "go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Mkdir(rows, 0o755); err != nil {
		t.Fatal(err)
	}
	job := filepath.Join(dir, "job.yaml")
	text := fmt.Sprintf("plugins: {files: {command: [%s]}}\nsources:\n  orders: {type: files, folder: %s, poll: 5ms}\nsinks:\n  out: {type: files, folder: %s, topics: [orders], interval: 10ms}\n", program, rows, lines)
	if err := os.WriteFile(job, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	kafka, web := startUp(t, job)
	n := 0
	add := func(more int) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(rows, "orders.csv"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if n == 0 {
			fmt.Fprintln(f, "id")
		}
		for range more {
			fmt.Fprintln(f, n)
			n++
		}
	}
	written := func() (out []int) {
		names, err := filepath.Glob(filepath.Join(lines, "*", "*", "*.ndjson"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for d := json.NewDecoder(bytes.NewReader(text)); d.More(); {
				var line struct{ Value struct{ ID string } }
				if err := d.Decode(&line); err != nil {
					t.Fatal(err)
				}
				id, _ := strconv.Atoi(line.Value.ID)
				out = append(out, id)
			}
		}
		return out
	}
	complete := func() {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for late := time.After(time.Minute); ; {
			if len(written()) >= n {
				break
			}
			select {
			case <-tick.C:
			case <-late:
				_, status := get(t, "http://"+web+"/connectors?expand=status")
				t.Fatalf("%d of %d rows arrive: %s", len(written()), n, status)
			}
		}
		got := written()
		slices.Sort(got)
		for i, id := range got {
			if i != id {
				t.Fatalf("row %d is %d: one is missing, or doubled", i, id)
			}
		}
	}
	add(1000)
	complete()
	for range 2 {
		add(1000)
		killed := killPlugins(t, program)
		add(1000)
		if killed < 2 {
			t.Errorf("%d plugins ran", killed)
		}
		complete()
	}
	got, code := command(t, "", "audit", job, "out", "--bootstrap", kafka, "--http", web)
	for _, want := range []string{"orders cannot be compared with its source: a source of type files has no way", "out cannot be compared with the log: a sink of type files has no way"} {
		if code != 2 || !strings.Contains(got, want) {
			t.Errorf("audit: exit code %d, want 2 and %q\n%s", code, want, got)
		}
	}
}

// killPlugins kills this process's plugins, and says how many there were.
func killPlugins(t *testing.T, program string) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, exe := range all {
		if to, err := os.Readlink(exe); err == nil && to == program {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(exe)))
			if syscall.Kill(pid, syscall.SIGKILL) == nil { // else it has just ended
				n++
			}
		}
	}
	return n
}
