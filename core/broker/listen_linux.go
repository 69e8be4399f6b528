package broker

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// unpaced takes a loopback listener's connections off the system's congestion control, which they inherit from it.
// Between processes of one machine there is nothing to congest, but BBR, the default of many servers, paces
// whatever it sends with a timer of high resolution per burst: two thirds of what a Fetch cost. It has to be the
// listener, since a connection that BBR has begun stays paced. Reno is in every kernel and allowed to everybody.
func unpaced(_, _ string, raw syscall.RawConn) error {
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno") // without it, only slower
	})
	return nil
}
