package postgres

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A server whose machine is gone is noticed, one that waits for a lock within a COPY is not given up.
func TestVanishedServer(t *testing.T) {
	url, _ := pg(t)
	l := start(t, newSink(t, url, nil))
	raw, err := l.task.conn.Conn().(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		if lock := int(l.task.s.cfg.lockWait.Milliseconds()); err != nil || v <= lock || v > lock+60000 {
			t.Errorf("TCP_USER_TIMEOUT is %d, a lock is waited for %d ms (%v)", v, lock, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
