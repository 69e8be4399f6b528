package wire_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/wire"
)

// endsAfterRead ends a context once it has read a whole response.
type endsAfterRead struct {
	net.Conn
	left int
	end  context.CancelFunc
}

func (c *endsAfterRead) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.left -= n; c.left <= 0 {
		c.end()
	}
	return n, err
}

// TestContextEndsWithTheResponse is Do's promise that the end of its context breaks the connection, and that Do says so itself, not the next one.
func TestContextEndsWithTheResponse(t *testing.T) {
	here, there := net.Pipe()
	resp := kmsg.NewPtrApiVersionsResponse()
	body := resp.AppendTo(make([]byte, 8))
	binary.BigEndian.PutUint32(body, uint32(len(body)-4))
	binary.BigEndian.PutUint32(body[4:], 1)
	done := make(chan error, 1)
	go func() {
		var size [4]byte
		_, err := io.ReadFull(there, size[:])
		if err == nil {
			_, err = io.CopyN(io.Discard, there, int64(binary.BigEndian.Uint32(size[:])))
		}
		if err == nil {
			_, err = there.Write(body)
		}
		done <- err
	}()
	ctx, cancel := context.WithCancel(t.Context())
	c := wire.NewClient(&endsAfterRead{here, len(body), cancel}, "test", 1000)
	if got, err := c.Do(ctx, kmsg.NewPtrApiVersionsRequest()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v, want %v", got, err, context.Canceled)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := errors.Join(c.Close(), there.Close()); err != nil {
		t.Error(err)
	}
}
