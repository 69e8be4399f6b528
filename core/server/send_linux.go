package server

import (
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// sendfile sends a region of f with an offset of its own: the offset of the
// descriptor is shared by all fetches of the segment (which is why
// net.TCPConn.ReadFrom will not do).
func (c *conn) sendfile(f *os.File, pos int64, n int) error {
	defer runtime.KeepAlive(f)
	in := int(f.Fd())
	var failed error
	err := c.raw.Write(func(fd uintptr) bool {
		for n > 0 {
			sent, err := unix.Sendfile(int(fd), in, &pos, n)
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				return false
			case err != nil:
				failed = os.NewSyscallError("sendfile", err)
				return true
			case sent == 0:
				failed = fmt.Errorf("%s ends at %d, %d bytes short: %w", f.Name(), pos, n, io.ErrUnexpectedEOF)
				return true
			default:
				n -= sent
			}
		}
		return true
	})
	if failed != nil {
		return failed
	}
	return err
}

// writeMore sends bytes that a file region follows, in the same packet when they fit.
func (c *conn) writeMore(b []byte) error {
	if c.raw == nil {
		return c.write(b)
	}
	c.armWrite()
	var failed error
	err := c.raw.Write(func(fd uintptr) bool {
		for len(b) > 0 {
			n, err := unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
			switch err {
			case nil:
				b = b[n:]
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				failed = os.NewSyscallError("sendmsg", err)
				return true
			}
		}
		return true
	})
	if failed != nil {
		return failed
	}
	return err
}
