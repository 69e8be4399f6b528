//go:build !linux

package server

import (
	"fmt"
	"io"
	"os"
)

func (c *conn) sendfile(f *os.File, pos int64, n int) error {
	sent, err := io.Copy(c.nc, io.NewSectionReader(f, pos, int64(n)))
	if err == nil && sent < int64(n) {
		err = fmt.Errorf("%s ends %d bytes short: %w", f.Name(), int64(n)-sent, io.ErrUnexpectedEOF)
	}
	return err
}

func (c *conn) writeMore(b []byte) error { return c.write(b) }
