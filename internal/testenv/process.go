package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a daemon that some process of ours started. PID and Started together name it:
// a pid alone may have been given to somebody else since.
type process struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Started string `json:"started"` // start time in clock ticks since boot (Linux), else ""
	Log     string `json:"log"`
}

type command struct {
	name string // for messages and the log file
	argv []string
	env  []string // added to ours
	dir  string
	log  string // file that stdout and stderr are appended to
	cred *syscall.Credential
}

// exits holds a channel for each child of this process, closed once it was reaped.
var exits sync.Map // pid int → chan struct{}

// start runs a daemon in a session of its own, so that neither ^C nor the end of this process reaches it.
func (c command) start() (process, error) {
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return process{}, err
	}
	defer out.Close()
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.dir, out, out
	cmd.Env = append(os.Environ(), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.cred}
	if err := cmd.Start(); err != nil {
		return process{}, fmt.Errorf("start %s: %w", c.name, err)
	}
	p := process{Name: c.name, PID: cmd.Process.Pid, Started: startTime(cmd.Process.Pid), Log: c.log}
	done := make(chan struct{})
	exits.Store(p.PID, done)
	go func() { // reaps the child; ends with it, or with this process
		_ = cmd.Wait() // how a daemon ended is for its log
		close(done)
	}()
	return p, nil
}

// startTime is the 22nd field of /proc/PID/stat, or "" where there is no such thing.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	if i := bytes.LastIndexByte(stat, ')'); i >= 0 {
		if f := bytes.Fields(stat[i+1:]); len(f) > 19 {
			if f[0][0] == 'Z' {
				return "zombie"
			}
			return string(f[19])
		}
	}
	return ""
}

// alive says whether the very process that was started still runs.
func (p process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	if err := syscall.Kill(p.PID, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return false
	}
	return startTime(p.PID) == p.Started
}

// stop signals the process and waits until it is gone; after patience it is killed.
func (p process) stop(sig syscall.Signal, patience time.Duration) error {
	if !p.alive() {
		return nil
	}
	if err := syscall.Kill(p.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop %s (pid %d): %w", p.Name, p.PID, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if poll(ctx, 20*time.Millisecond, func() bool { return !p.alive() }) == nil {
		return nil
	}
	_ = syscall.Kill(p.PID, syscall.SIGKILL) // gone already is as good
	ctx, cancel = context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := poll(ctx, 20*time.Millisecond, func() bool { return !p.alive() }); err != nil {
		return fmt.Errorf("%s (pid %d) does not die", p.Name, p.PID)
	}
	return nil
}

// awaitUp polls ready until it is true, and gives up when the process dies.
func (p process) awaitUp(ctx context.Context, every time.Duration, ready func() bool) error {
	dead := false
	err := poll(ctx, every, func() bool {
		dead = !p.alive()
		return dead || ready()
	})
	if dead {
		return fmt.Errorf("%s ended at once; the end of %s:\n%s", p.Name, p.Log, tail(p.Log, 2000))
	}
	if err != nil {
		return fmt.Errorf("%s did not come up in time (%w); the end of %s:\n%s", p.Name, err, p.Log, tail(p.Log, 2000))
	}
	return nil
}

// poll calls done until it says true.
func poll(ctx context.Context, every time.Duration, done func() bool) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}

// tail is the end of a file, at most n bytes of it, from a line's start.
func tail(name string, n int) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	if len(b) > n {
		b = b[len(b)-n:]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			b = b[i+1:]
		}
	}
	return strings.TrimRight(string(b), "\n")
}
