package process

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"time"
)

const (
	// startTimeout is how long a plugin may take to say how it is reached.
	startTimeout = 30 * time.Second
	// endTimeout is how long it may take to end once its standard input has.
	endTimeout = 5 * time.Second
	// closeTimeout is how long a task may take to end: less than a worker waits for it when it drains (5 s).
	closeTimeout = 3 * time.Second
	// pipeTimeout is how long a process that it has left behind may hold its pipes.
	pipeTimeout = time.Second
)

// runner is a plugin's process: go-plugin's runner.Runner.
//
// go-plugin's own one gives the plugin our standard input, waits for ever for whoever holds its pipes, and believes whatever the first line says.
type runner struct {
	cmd    *exec.Cmd
	logs   *logLines
	greet  *greeting
	stdout *io.PipeReader
	stdin  io.WriteCloser // open as long as the plugin shall run
	began  chan struct{}
	done   chan struct{} // closed with the end, and when it could not begin
	err    error         // of the end, once done is closed
}

func newRunner(cmd *exec.Cmd, logs *logLines) *runner {
	out, in := io.Pipe()
	r := &runner{cmd: cmd, logs: logs, stdout: out, began: make(chan struct{}), done: make(chan struct{})}
	r.greet = &greeting{to: in, rest: logs}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = r.greet, logs, pipeTimeout
	own(cmd)
	return r
}

// Start runs the process. Its thread is kept: see own.
func (r *runner) Start(context.Context) error {
	stdin, err := r.cmd.StdinPipe()
	if err != nil {
		return err
	}
	r.stdin = stdin
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		defer close(r.done)
		defer r.greet.to.Close()
		if r.err = r.cmd.Start(); r.err != nil {
			return
		}
		close(r.began)
		r.err = r.cmd.Wait()
		kill(r.cmd) // what it has left behind
	}()
	select {
	case <-r.began:
		return nil
	case <-r.done:
	}
	select {
	case <-r.began: // and has ended already
		return nil
	default:
		return r.err
	}
}

func (r *runner) Wait(context.Context) error {
	<-r.done
	return r.err
}

func (r *runner) Kill(context.Context) error {
	select {
	case <-r.done: // its number may be another one's by now
	default:
		if r.runs() {
			kill(r.cmd)
		}
	}
	return nil
}

// runs says that there is, or was, a process.
func (r *runner) runs() bool {
	select {
	case <-r.began:
		return true
	default:
		return false
	}
}

// end lets the process end by itself, and then makes it.
func (r *runner) end() {
	if !r.runs() {
		return
	}
	_ = r.stdin.Close() // it may be gone
	if !r.ended(endTimeout) {
		r.cut()
	}
}

// cut ends the process at once. A process that the system cannot end is waited for.
func (r *runner) cut() {
	if r.runs() {
		_ = r.Kill(context.Background())
		<-r.done
	}
}

// ended waits for the end of the process, for so long.
func (r *runner) ended(within time.Duration) bool {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-r.done:
		return true
	case <-late.C:
		return false
	}
}

// epitaph says how the process has ended.
func (r *runner) epitaph() string {
	how := "it ended with code 0"
	if r.err != nil {
		how = r.err.Error()
	}
	if words := r.logs.words(); words != "" {
		how += "; its last words: " + words
	}
	return how
}

func (r *runner) ID() string {
	if !r.runs() {
		return ""
	}
	return strconv.Itoa(r.cmd.Process.Pid)
}

func (r *runner) Name() string                    { return r.cmd.Path }
func (r *runner) Stdout() io.ReadCloser           { return r.stdout }
func (r *runner) Stderr() io.ReadCloser           { return io.NopCloser(eof{}) } // logs has it
func (r *runner) Diagnose(context.Context) string { return "" }

// PluginToHost and HostToPlugin: both see the same files.
func (r *runner) PluginToHost(network, addr string) (string, string, error) {
	if network != "unix" {
		return "", "", fmt.Errorf("a plugin on %s", network)
	}
	return network, addr, nil
}
func (r *runner) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

// eof is an empty stream.
type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
