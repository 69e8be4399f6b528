package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The library puts no deadline on a namenode, and one per file on datanodes, so
// that a peer that is silent holds a call for ever. The connections below give every single read and write a
// deadline of their own, and never leave a broken connection in use.

// namenodeConn is a connection for RPCs, which go one after the other: a write, then reads.
type namenodeConn struct {
	net.Conn
	d *dialer
}

// namenodeError marks a failure on the way to or from a namenode. The library
// passes it on unchanged, which is how a Close that may be tried again is told
// from one that lost data.
type namenodeError struct{ err error }

func (e *namenodeError) Error() string { return "namenode connection: " + e.err.Error() }
func (e *namenodeError) Unwrap() error { return e.err }

func (c *namenodeConn) Read(p []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(c.d.patience)); err != nil {
		return 0, &namenodeError{err}
	}
	n, err := c.Conn.Read(p)
	c.d.note(c.RemoteAddr().String(), err)
	if err != nil {
		// The library would go on using this connection and take a late answer
		// for the next call's ("unexpected sequence number"). A closed one fails
		// at the next write, and then the library dials again.
		_ = c.Conn.Close() // already broken
		err = &namenodeError{err}
	}
	return n, err
}

func (c *namenodeConn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.d.patience)); err != nil {
		return 0, &namenodeError{err}
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		err = &namenodeError{err}
	}
	return n, err
}

// datanodeConn is a connection that carries one block.
//
// The library's writer stops its two goroutines only when its last phase gets
// through without a write error. So a write error is reported once, as long as
// somebody can use it, and later writes are dropped: the acknowledgements, which never come then, tell the truth.
// No byte counts before the acknowledgement of the block's last packet.
type datanodeConn struct {
	net.Conn
	patience time.Duration
	limit    atomic.Int64 // Unix ns; 0: none. Set by SetDeadline: from then on the file is being closed
	dead     atomic.Bool
}

func (c *datanodeConn) deadline() time.Time {
	t := time.Now().Add(c.patience)
	if limit := c.limit.Load(); limit != 0 && limit < t.UnixNano() {
		return time.Unix(0, limit)
	}
	return t
}

func (c *datanodeConn) Read(p []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(c.deadline()); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if err != nil {
		_ = c.Conn.Close() // broken; the library forgets to close some
	}
	return n, err
}

func (c *datanodeConn) Write(p []byte) (int, error) {
	if c.dead.Load() {
		return len(p), nil
	}
	err := c.Conn.SetWriteDeadline(c.deadline())
	n := 0
	if err == nil {
		n, err = c.Conn.Write(p)
	}
	if err != nil {
		c.dead.Store(true)
		_ = c.Conn.Close() // so that the wait for acknowledgements ends
		if c.limit.Load() != 0 {
			return len(p), nil
		}
	}
	return n, err
}

// SetDeadline is called by the library with the file's deadline: zero while it is written, a time once it is being closed.
func (c *datanodeConn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		c.limit.Store(0)
		return nil
	}
	c.limit.Store(t.UnixNano())
	if err := c.Conn.SetDeadline(t); err != nil && !c.dead.Load() {
		return err
	}
	return nil
}

// dialer makes the connections of one client and knows those that are open.
type dialer struct {
	connect  time.Duration // to reach a peer
	patience time.Duration // for one answer
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)

	mu     sync.Mutex
	lastNN error // why the last namenode could not be reached
}

func newDialer(connect, patience time.Duration) *dialer {
	d := &net.Dialer{Timeout: connect, KeepAlive: 30 * time.Second}
	return &dialer{connect: connect, patience: patience, dial: d.DialContext}
}

func (d *dialer) namenode(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.dial(ctx, network, addr)
	if err != nil {
		d.note(addr, err)
		return nil, err
	}
	return &namenodeConn{Conn: c, d: d}, nil
}

// note remembers why a namenode did not answer; the library keeps only the last
// error, which is that the connection was closed.
func (d *dialer) note(addr string, err error) {
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("%s closed the connection", addr)
	case errors.As(err, &timeout) && timeout.Timeout() && addr != "":
		err = fmt.Errorf("%s does not answer: %w", addr, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastNN = err
}

func (d *dialer) datanode(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &datanodeConn{Conn: c, patience: d.patience}, nil
}

// namenodeTrouble is the last reason why a namenode could not be reached, nil when it could.
func (d *dialer) namenodeTrouble() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lastNN
}
