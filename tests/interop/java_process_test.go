package interop

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// javaProcess is one of Kafka's programs that runs until it is killed, by a file of properties. A failed test shows the end of its log.
type javaProcess struct {
	t        *testing.T
	tools    testenv.Tools
	tool     string
	settings string // path of its properties
	log      *os.File
	cmd      *exec.Cmd
}

func newJavaProcess(t *testing.T, tools testenv.Tools, tool, properties string) *javaProcess {
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	p := &javaProcess{t: t, tools: tools, tool: tool, settings: node.WriteFile(t, dir, "properties", properties), log: log}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name()) // else there is nothing to show
			t.Logf("%s:\n%s", tool, text[max(0, len(text)-5000):])
		}
		_ = log.Close() // only read from here on
	})
	return p
}

func (p *javaProcess) start() {
	p.t.Helper()
	p.cmd = p.tools.Command(context.Background(), p.tool, p.settings) // kill ends it
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *javaProcess) kill() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()         // it says that it was killed
	p.cmd = nil
}
