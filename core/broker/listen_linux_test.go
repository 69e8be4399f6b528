package broker

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// Connections of a loopback listener are not paced, whatever the system's default is.
func TestLoopbackIsUnpaced(t *testing.T) {
	l, err := address{bind: "127.0.0.1:0"}.listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var name string
	if cerr := raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	if name != "reno" {
		t.Errorf("congestion control of an accepted connection is %q", name)
	}
}
