package server

import (
	"fmt"
	"io"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/wire"
	"github.com/forebayhub/forebay/internal/vfs"
)

// cut is a place in a response where a region of a file goes.
type cut struct {
	at    int
	slice *commitlog.Slice
}

// send writes b with the file regions between its parts. The length that b
// begins with has promised them all: an error in the middle ends the connection.
func (c *conn) send(b []byte, cuts []cut) error {
	from := 0
	for _, k := range cuts {
		if err := c.writeMore(b[from:k.at]); err != nil {
			return err
		}
		from = k.at
		c.armWrite()
		if err := c.sendSlice(k.slice); err != nil {
			return err
		}
	}
	if from == len(b) {
		return nil
	}
	return c.write(b[from:])
}

// sendSlice goes from the page cache to the socket where both have descriptors, and through a buffer where not.
func (c *conn) sendSlice(s *commitlog.Slice) error {
	if c.raw != nil {
		if f := vfs.OSFile(s.File); f != nil {
			return c.sendfile(f, s.Pos, s.Len)
		}
	}
	return c.copySlice(s)
}

// copyChunk is the buffer of a connection that cannot sendfile.
const copyChunk = 256 << 10

func (c *conn) copySlice(s *commitlog.Slice) error {
	buf := wire.Get(min(copyChunk, s.Len))
	defer buf.Free()
	for done := 0; done < s.Len; {
		b := buf.B[:min(len(buf.B), s.Len-done)]
		n, err := s.File.ReadAt(b, s.Pos+int64(done))
		if n < len(b) {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read %s at %d for a fetch: %w", s.File.Name(), s.Pos+int64(done), err)
		}
		if err := c.write(b); err != nil {
			return err
		}
		done += n
	}
	return nil
}
