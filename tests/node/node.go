// Package node runs the forebay binary as a user would, for tests that kill it.
package node

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/testenv"
)

// Node is one `forebay up` or `forebay server` process, started again after each Kill with the same arguments.
type Node struct {
	Kafka, HTTP string        // addresses of the last start
	ReadyAfter  time.Duration // from exec to the ready line, of the last start
	Data        string        // the data directory, of a node of NewCluster
	Gossip      string        // where others find it, of a node of NewCluster

	tb     testing.TB
	binary string
	args   []string
	env    []string
	log    *os.File
	within func(func() error) error // runs what starts the process
	cmd    *exec.Cmd
	began  time.Time   // of the last start
	ready  chan string // its ready line
	exited chan error
}

// Place is where a node of NewAt lives.
type Place struct {
	Data string                   // its data directory
	Log  string                   // the file that takes its stderr
	Do   func(func() error) error // runs what starts the process: in a network namespace, say
}

// New prepares `forebay up ARGS` on fixed free ports, so that clients find it again after a kill.
func New(tb testing.TB, args ...string) *Node {
	tb.Helper()
	return prepare(tb, append([]string{"up", "--kafka", testenv.FreeAddr(tb), "--http", testenv.FreeAddr(tb)}, args...))
}

// NewCluster prepares count `forebay server ARGS` that find each other, each with its own data directory and ports.
func NewCluster(tb testing.TB, count int, args ...string) []*Node {
	tb.Helper()
	var gossip []string
	for range count {
		gossip = append(gossip, testenv.FreeAddr(tb))
	}
	var nodes []*Node
	for i := range count {
		nodes = append(nodes, server(tb, i+1, gossip[i], strings.Join(gossip, ","), count, args))
	}
	return nodes
}

// Join prepares one more node for the cluster that the first one of nodes is in.
func Join(tb testing.TB, nodes []*Node, args ...string) *Node {
	tb.Helper()
	return server(tb, len(nodes)+1, testenv.FreeAddr(tb), nodes[0].Gossip, len(nodes), args)
}

func server(tb testing.TB, id int, gossip, join string, expect int, args []string) *Node {
	tb.Helper()
	data := tb.TempDir()
	n := prepare(tb, append([]string{
		"server", "--id", strconv.Itoa(id), "--data", data, "--kafka", testenv.FreeAddr(tb), "--http", testenv.FreeAddr(tb), "--peer", testenv.FreeAddr(tb),
		"--gossip", gossip, "--join", join, "--expect", strconv.Itoa(expect),
	}, args...))
	n.Data, n.Gossip = data, gossip
	return n
}

// NewAt prepares `forebay ARGS` at a place.
func NewAt(tb testing.TB, at Place, args ...string) *Node {
	tb.Helper()
	log, err := os.Create(at.Log)
	if err != nil {
		tb.Fatal(err)
	}
	n := prepareWith(tb, log, args)
	n.Data, n.within = at.Data, at.Do
	return n
}

func prepare(tb testing.TB, args []string) *Node {
	tb.Helper()
	log, err := os.CreateTemp(tb.TempDir(), "forebay-*.log")
	if err != nil {
		tb.Fatal(err)
	}
	return prepareWith(tb, log, args)
}

func prepareWith(tb testing.TB, log *os.File, args []string) *Node {
	tb.Helper()
	n := &Node{tb: tb, binary: testenv.Binary(tb), log: log, args: args, within: func(fn func() error) error { return fn() }}
	tb.Cleanup(func() {
		n.Kill()
		if tb.Failed() {
			tb.Logf("last lines of the node's log:\n%s", n.LogTail(60))
		}
		_ = log.Close() // only read from here on
	})
	return n
}

// Setenv adds VAR=value to the process's environment.
func (n *Node) Setenv(pairs ...string) { n.env = append(n.env, pairs...) }

// Flag is the value of one of the arguments, before the process has said where it listens.
func (n *Node) Flag(name string) string {
	if i := slices.Index(n.args, name); i >= 0 && i+1 < len(n.args) {
		return n.args[i+1]
	}
	return ""
}

// Start runs the process and waits for its ready line.
func (n *Node) Start() {
	n.tb.Helper()
	if err := n.TryStart(); err != nil {
		n.tb.Fatalf("%v\n%s", err, n.LogTail(40))
	}
}

// StartAll starts the nodes of a cluster at once, since none is ready before the others are there.
func StartAll(tb testing.TB, nodes []*Node) {
	tb.Helper()
	var starting sync.WaitGroup
	errs := make([]error, len(nodes))
	for i, n := range nodes {
		starting.Go(func() { errs[i] = n.TryStart() })
	}
	starting.Wait()
	for i, err := range errs {
		if err != nil {
			tb.Fatalf("node %d: %v\n%s", i+1, err, nodes[i].LogTail(40))
		}
	}
}

// TryStart is Start with an error for what the process said instead of being ready.
func (n *Node) TryStart() error {
	if err := n.Launch(); err != nil {
		return err
	}
	return n.Ready(60 * time.Second)
}

// Launch runs the process and waits for nothing.
func (n *Node) Launch() error {
	cmd := exec.Command(n.binary, n.args...)
	cmd.Env = append(os.Environ(), n.env...)
	cmd.Stderr = n.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := n.within(cmd.Start); err != nil {
		return err
	}
	n.cmd, n.exited = cmd, make(chan error, 1)
	ready, exited := make(chan string, 1), n.exited
	n.ready = ready
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "ready ") {
				ready <- lines.Text()
				break
			}
		}
		_, _ = io.Copy(io.Discard, out) // until the process ends
		exited <- cmd.Wait()
	}()
	n.began = began
	return nil
}

// Ready waits for the ready line of a process that was launched, once; one that does not say it is killed.
func (n *Node) Ready(timeout time.Duration) error {
	select {
	case line := <-n.ready:
		n.ReadyAfter = time.Since(n.began)
		for _, f := range strings.Fields(line)[1:] {
			k, v, _ := strings.Cut(f, "=")
			switch k {
			case "kafka":
				n.Kafka = v
			case "http":
				n.HTTP = v
			}
		}
		return nil
	case err := <-n.exited:
		n.exited <- err
		n.cmd = nil
		return fmt.Errorf("forebay ended before it was ready: %w", err)
	case <-time.After(timeout):
		n.Kill()
		return fmt.Errorf("forebay was not ready within %v", timeout)
	}
}

// PID of the running process.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Pause is SIGSTOP: the process does nothing, and does not know it.
func (n *Node) Pause() error { return n.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume is SIGCONT.
func (n *Node) Resume() error { return n.cmd.Process.Signal(syscall.SIGCONT) }

// Kill is SIGKILL, and waits for the end. Without a process it does nothing.
func (n *Node) Kill() { _ = n.end(syscall.SIGKILL) } // it says that it was killed

// Stop is SIGTERM; it returns what the process ended with.
func (n *Node) Stop() error { return n.end(syscall.SIGTERM) }

// Quit is SIGQUIT: Go's runtime writes the stack of every goroutine into the log and ends.
func (n *Node) Quit() { _ = n.end(syscall.SIGQUIT) } // it says so

func (n *Node) end(sig syscall.Signal) error {
	if n.cmd == nil {
		return nil
	}
	_ = n.cmd.Process.Signal(sig) // it may have ended by itself
	select {
	case err := <-n.exited:
		n.cmd = nil
		return err
	case <-time.After(60 * time.Second):
		// The test fails anyway. The stacks say what the process waits for.
		_ = n.cmd.Process.Signal(syscall.SIGQUIT)
		if !n.EndsWithin(10 * time.Second) {
			_ = n.cmd.Process.Kill()
			<-n.exited //nolint:errcheck // how it ended does not matter any more
			n.cmd = nil
		}
		return fmt.Errorf("forebay did not end within 60 s of %v", sig)
	}
}

// Said says whether a process that was launched has written its ready line, which Ready takes.
func (n *Node) Said() bool { return len(n.ready) > 0 }

// Ended says whether a process that was launched has ended without being told to.
func (n *Node) Ended() bool { return n.cmd != nil && len(n.exited) > 0 }

// Exited delivers when the process has ended without being told to.
func (n *Node) Exited() <-chan error { return n.exited }

// EndsWithin waits until the process has ended by itself, and says whether it has; it can be started again then.
func (n *Node) EndsWithin(d time.Duration) bool {
	select {
	case <-n.exited: //nolint:errcheck // how it ended is in its log
		n.cmd = nil
		return true
	case <-time.After(d):
		return false
	}
}

// LogTail is the last lines of stderr of all starts.
func (n *Node) LogTail(lines int) string {
	text, err := os.ReadFile(n.log.Name())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Run runs another command of the binary and returns its output and exit code.
func Run(tb testing.TB, env []string, args ...string) (out string, code int) {
	tb.Helper()
	cmd := exec.Command(testenv.Binary(tb), args...)
	cmd.Env = append(os.Environ(), env...)
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		tb.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// WriteFile writes a file below dir and returns its path.
func WriteFile(tb testing.TB, dir, name, text string) string {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
	return path
}
