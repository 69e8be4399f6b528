package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	wireBuffer = 256 << 10
	// maxMessage is the longest message that PostgreSQL can send: a row is below
	// 1 GiB, and its text in a change message below twice that.
	maxMessage = 1<<31 - 1
)

// wire reads a connection's messages without copying them. pgconn's own loop
// starts a goroutine per message to watch a context; at 200,000 rows a second
// that is most of the work. A timeout leaves the state whole: read on later.
//
// next belongs to one goroutine; send may be called from several.
type wire struct {
	conn net.Conn
	buf  []byte
	r, w int
	most int // bytes of a message that are taken
	drop int // bytes that are left of a message that is passed over

	send sync.Mutex
}

// hijack takes a connection over from pgconn, which must be idle. most bounds a message, and so the buffer.
func hijack(ctx context.Context, c *pgconn.PgConn, most int) (*wire, error) {
	if err := c.SyncConn(ctx); err != nil {
		return nil, err
	}
	h, err := c.Hijack()
	if err != nil {
		return nil, err
	}
	if err := h.Conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return &wire{conn: h.Conn, buf: make([]byte, wireBuffer), most: most}, nil
}

// oversize is a message that is longer than what is taken.
type oversize struct {
	bytes int
	head  [walHeader + 5]byte // of its body: of a change, up to the table
}

func (e *oversize) Error() string {
	return fmt.Sprintf("the server sent a message of %d bytes", e.bytes)
}

// pass goes over the message that peek found too large, as it comes.
func (f *wire) pass(e *oversize) { f.drop = 5 + e.bytes }

// peek returns the next message without taking it; body is valid until the next peek or next. One
// that is longer than most is an oversize, and still there.
func (f *wire) peek() (typ byte, body []byte, err error) {
	for {
		k := min(f.drop, f.w-f.r)
		f.r, f.drop = f.r+k, f.drop-k
		if f.drop == 0 && f.w-f.r >= 5 {
			n := int(binary.BigEndian.Uint32(f.buf[f.r+1:])) + 1
			if n < 5 || n > maxMessage {
				return 0, nil, fmt.Errorf("the server sent a message of %d bytes", n-1)
			}
			e := oversize{bytes: n - 5}
			switch have := f.w - f.r; {
			case n <= f.most && have >= n:
				return f.buf[f.r], f.buf[f.r+5 : f.r+n : f.r+n], nil
			case n > f.most && have >= min(n, 5+len(e.head)):
				copy(e.head[:], f.buf[f.r+5:f.w])
				return 0, nil, &e
			}
			f.room(n)
		} else {
			f.room(5)
		}
		n, err := f.conn.Read(f.buf[f.w:])
		f.w += n
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // io.EOF means that a split has ended
			}
			return 0, nil, err
		}
	}
}

// room makes place to read on in a message of n bytes. The buffer grows with what
// has arrived, never with what a length field claims.
func (f *wire) room(n int) {
	if f.r > 0 && (f.w == len(f.buf) || f.r == f.w) {
		f.w = copy(f.buf, f.buf[f.r:f.w])
		f.r = 0
	}
	if f.w < len(f.buf) {
		if len(f.buf) > 4*wireBuffer && n <= wireBuffer && f.w-f.r <= wireBuffer {
			small := make([]byte, wireBuffer*2)
			f.w = copy(small, f.buf[f.r:f.w])
			f.r, f.buf = 0, small
		}
		return
	}
	big := make([]byte, min(2*len(f.buf), n))
	f.w = copy(big, f.buf[f.r:f.w])
	f.r, f.buf = 0, big
}

// next takes a message.
func (f *wire) next() (typ byte, body []byte, err error) {
	typ, body, err = f.peek()
	if err == nil {
		f.r += 5 + len(body)
	}
	return typ, body, err
}

// ready says whether a whole message lies in the buffer.
func (f *wire) ready() bool {
	return f.drop == 0 && f.w-f.r >= 5 && f.w-f.r > int(binary.BigEndian.Uint32(f.buf[f.r+1:]))
}

// write sends one message.
func (f *wire) write(m pgproto3.FrontendMessage) error {
	b, err := m.Encode(nil)
	if err != nil {
		return err
	}
	return f.writeRaw(b)
}

func (f *wire) writeRaw(b []byte) error {
	f.send.Lock()
	defer f.send.Unlock()
	if err := f.conn.SetWriteDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	_, err := f.conn.Write(b)
	return err
}

// until makes reads fail once ctx is done; stop ends that.
func (f *wire) until(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = f.conn.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection, where reads fail too
	})
	return func() {
		if !cancel() {
			<-done
		}
		_ = f.conn.SetReadDeadline(time.Time{})
	}
}

// wait sets how long reads may block; zero means for ever. A ctx that is done stays the stronger one.
func (f *wire) wait(ctx context.Context, d time.Duration) {
	at := time.Time{}
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = f.conn.SetReadDeadline(at)
	if ctx.Err() != nil {
		_ = f.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

func (f *wire) close() error {
	b, err := (&pgproto3.Terminate{}).Encode(nil)
	if err == nil {
		f.send.Lock()
		_ = f.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = f.conn.Write(b) // a courtesy; the close below counts
		f.send.Unlock()
	}
	return f.conn.Close()
}

// exec runs one statement that returns no rows that matter.
func (f *wire) exec(ctx context.Context, sql string) error {
	if err := f.write(&pgproto3.Query{String: sql}); err != nil {
		return err
	}
	stop := f.until(ctx)
	defer stop()
	var failed error
	for {
		typ, body, err := f.next()
		if err != nil {
			return ctxErr(ctx, err)
		}
		switch typ {
		case 'E':
			failed = serverError(body)
		case 'Z':
			return failed
		}
	}
}

// serverError reads an ErrorResponse.
func serverError(body []byte) error {
	var e pgproto3.ErrorResponse
	if err := e.Decode(body); err != nil {
		return fmt.Errorf("the server sent an error that cannot be read: %w", err)
	}
	return pgconn.ErrorResponseToPgError(&e)
}

// ctxErr prefers the context's error to the timeout that it caused.
func ctxErr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
