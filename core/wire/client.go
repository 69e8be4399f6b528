package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Client asks another node over one connection, one request at a time. It is not for concurrent use.
// After an error the connection's state is unknown: Close it.
type Client struct {
	nc     net.Conn
	br     *bufio.Reader
	format *kmsg.RequestFormatter
	last   int32 // correlation id
	most   int   // bytes of a response
	out    []byte
	in     *Buf
	shapes map[[2]int16]*Shape // of responses, by key and version
}

// NewClient makes a Client of a fresh connection. A response of more than most bytes is refused before anything is
// allocated for it (invariant 9).
func NewClient(nc net.Conn, id string, most int) *Client {
	return &Client{nc: nc, br: bufio.NewReaderSize(nc, readBuffer), format: kmsg.NewRequestFormatter(kmsg.FormatterClientID(id)), most: most, shapes: map[[2]int16]*Shape{}}
}

// Do sends req, in the version that it has, and reads the response, which shares the Client's memory until the next Do or Close.
// The end of ctx breaks the connection.
func (c *Client) Do(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)) }) // what Do returns tells
	resp, err := c.do(req)
	if !stop() { // a response that came at the same time is of no use: the next request would fail
		return nil, ctx.Err()
	}
	return resp, err
}

func (c *Client) do(req kmsg.Request) (kmsg.Response, error) {
	c.last++
	c.out = c.format.AppendRequest(c.out[:0], req, c.last)
	if _, err := c.nc.Write(c.out); err != nil {
		return nil, err
	}
	var head [2 * LengthSize]byte
	if _, err := io.ReadFull(c.br, head[:]); err != nil {
		return nil, err
	}
	size, id := int(int32(binary.BigEndian.Uint32(head[:])))-LengthSize, int32(binary.BigEndian.Uint32(head[LengthSize:]))
	if size < 0 || size > c.most || id != c.last {
		return nil, fmt.Errorf("%w: response %d of %d bytes to request %d, the limit is %d", ErrFrame, id, size, c.last, c.most)
	}
	if c.in != nil {
		c.in.Free()
	}
	c.in = Get(size)
	b := c.in.B
	if _, err := io.ReadFull(c.br, b); err != nil {
		return nil, unexpected(err)
	}
	if req.IsFlexible() && req.Key() != 18 {
		if len(b) == 0 || b[0] != 0 {
			return nil, fmt.Errorf("%w: a response header with tags", ErrFrame)
		}
		b = b[1:]
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	err := c.check(resp, b)
	if err == nil {
		err = resp.ReadFrom(b)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: response to key %d version %d: %w", ErrFrame, req.Key(), req.GetVersion(), err)
	}
	return resp, nil
}

// check is what a Shape is for: who answers may be anybody who stands where a node was.
func (c *Client) check(resp kmsg.Response, b []byte) error {
	id := [2]int16{resp.Key(), resp.GetVersion()}
	if c.shapes[id] == nil {
		c.shapes[id] = Learn(func() Message { return resp.RequestKind().ResponseKind() }, id[1])
	}
	return c.shapes[id].Check(b)
}

// Close ends the connection.
func (c *Client) Close() error {
	if c.in != nil {
		c.in.Free()
		c.in = nil
	}
	return c.nc.Close()
}
