package process

import (
	"os/exec"
	"syscall"
)

// own makes a process end with us, even when we are killed, and leaves the terminal's signals to us. The signal comes with the end of the
// thread that started it, so that thread has to live as long.
func own(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// kill ends a process with all that it has started.
func kill(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // it may be gone
