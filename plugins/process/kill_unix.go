//go:build unix && !linux

package process

import (
	"os/exec"
	"syscall"
)

// own leaves the terminal's signals to us. A plugin learns of our end by the end of its standard input.
func own(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// kill ends a process with all that it has started.
func kill(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // it may be gone
