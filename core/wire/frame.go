package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Frame is one request's bytes behind the length. Release or Detach it.
type Frame struct {
	B []byte

	buf    *Buf
	budget *Budget
	taken  int64
}

// Release returns the bytes to the pool and to the budget. Of a Frame that has been released or detached it does nothing.
func (f *Frame) Release() {
	if f.buf != nil {
		f.buf.Free()
	}
	f.Detach()
}

// Detach returns the bytes to the budget but leaves the memory to whoever still
// refers to it: a decoded request shares the frame's memory.
// A second time it does nothing.
func (f *Frame) Detach() {
	if f.taken > 0 {
		f.budget.Give(f.taken)
	}
	*f = Frame{}
}

// Limits say what a Reader takes in.
type Limits struct {
	// MaxBytes is the largest frame. Like socket.request.max.bytes.
	MaxBytes int32
	// Check looks at the prefix of a frame (key, version) before anything is
	// allocated for it, and returns how many bytes such a frame may have and how
	// many bytes of budget its decoded form needs. An error refuses it.
	Check func(key, version int16, size int) (max int, cost int64, err error)
}

// ErrFrame is a frame that is refused: too large, too small or not Kafka. The
// connection cannot go on, since the next frame's beginning is unknown.
var ErrFrame = errors.New("not a Kafka request")

// Reader cuts a stream into frames.
type Reader struct {
	br     *bufio.Reader
	budget *Budget
	limits Limits

	arrival arrival
	// Arriving, when set, is called before a wait for the rest of a frame of
	// which the beginning has come: for a deadline that a stalled client cannot outlast.
	Arriving func(missing int)
	// Cut, when set, ends a read that is under way, with an error, from any goroutine: for frames that come too slowly while others wait. The
	// connection cannot go on.
	Cut func()
}

// readBuffer is large enough for any request but a Produce: most frames arrive
// in one system call. What is larger is read straight into its own buffer.
const readBuffer = 16 << 10

// NewReader reads frames from r.
func NewReader(r io.Reader, b *Budget, l Limits) *Reader {
	return &Reader{br: bufio.NewReaderSize(r, readBuffer), budget: b, limits: l}
}

// Await blocks until the next frame has begun, without taking anything.
func (r *Reader) Await() error {
	_, err := r.br.Peek(1)
	return err
}

// AwaitMore blocks until more has arrived than is buffered: it fails when the
// other side has gone. It returns nil when the buffer is full, and then says nothing about the connection.
func (r *Reader) AwaitMore() (full bool, err error) {
	n := r.br.Buffered() + 1
	if n > r.br.Size() {
		return true, nil
	}
	_, err = r.br.Peek(n)
	return false, err
}

// Admit changes budget and limits, from the next frame on.
func (r *Reader) Admit(b *Budget, l Limits) { r.budget, r.limits = b, l }

// Token reads a frame that has no header: a SASL token after SaslHandshake version 0 (KIP-43), of most bytes at most. What fits in the buffer that
// is there anyway is not taken from the budget.
func (r *Reader) Token(ctx context.Context, most int32) (Frame, error) {
	head, err := r.br.Peek(LengthSize)
	if err != nil {
		if errors.Is(err, io.EOF) && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	size := int32(binary.BigEndian.Uint32(head))
	if size < 0 || size > most {
		return Frame{}, fmt.Errorf("%w: a SASL token of %d bytes, the limit is %d", ErrFrame, size, most)
	}
	cost := int64(size)
	if size <= readBuffer {
		cost = 0
	}
	return r.take(ctx, int(size), cost)
}

// Next reads a frame. io.EOF is a clean end between two frames; ErrFrame is wrapped with what was wrong.
func (r *Reader) Next(ctx context.Context) (Frame, error) {
	head, err := r.br.Peek(LengthSize)
	if err != nil {
		if errors.Is(err, io.EOF) && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	size := int32(binary.BigEndian.Uint32(head))
	if size < headerPrefix {
		return Frame{}, fmt.Errorf("%w: frame of %d bytes (it begins %q)", ErrFrame, size, head)
	}
	if size > r.limits.MaxBytes {
		return Frame{}, fmt.Errorf("%w: frame of %d bytes, the limit is %d (it begins %q)", ErrFrame, size, r.limits.MaxBytes, head)
	}
	missing := LengthSize + int(size) - r.br.Buffered()
	if missing > 0 && r.Arriving != nil {
		r.Arriving(missing)
	}
	head, err = r.br.Peek(LengthSize + headerPrefix)
	if err != nil {
		return Frame{}, unexpected(err)
	}
	key := int16(binary.BigEndian.Uint16(head[4:]))
	version := int16(binary.BigEndian.Uint16(head[6:]))
	cost := int64(size)
	if r.limits.Check != nil {
		var most int
		most, cost, err = r.limits.Check(key, version, int(size))
		if err != nil {
			return Frame{}, fmt.Errorf("%w: %w", ErrFrame, err)
		}
		if int(size) > most {
			return Frame{}, fmt.Errorf("%w: frame of %d bytes for API key %d, the limit is %d", ErrFrame, size, key, most)
		}
	}
	return r.take(ctx, int(size), cost)
}

// take reads a frame of size bytes, once cost bytes of the budget are free.
func (r *Reader) take(ctx context.Context, size int, cost int64) (Frame, error) {
	// What is only announced takes nothing: so much of the frame must have come as fits in the buffer that is there anyway.
	if _, err := r.br.Peek(min(LengthSize+size, r.br.Size())); err != nil {
		return Frame{}, unexpected(err)
	}
	// Invariant 9: the bytes are taken from the budget before they are allocated.
	taken, err := r.budget.Take(ctx, cost)
	if err != nil {
		return Frame{}, err
	}
	f := Frame{buf: Get(size), budget: r.budget, taken: taken}
	f.B = f.buf.B
	if _, err := r.br.Discard(LengthSize); err != nil {
		f.Release()
		return Frame{}, unexpected(err)
	}
	if err := r.fill(f.B); err != nil {
		f.Release()
		return Frame{}, err
	}
	return f, nil
}

// piece is after how many bytes a frame's progress is noted.
const piece = 256 << 10

// fill reads a frame.
func (r *Reader) fill(b []byte) error {
	if r.Cut == nil || len(b) <= r.br.Buffered() {
		_, err := io.ReadFull(r.br, b)
		return unexpected(err)
	}
	r.budget.arrives(&r.arrival, len(b), r.Cut)
	at, n, err := 0, 0, error(nil)
	for at < len(b) && err == nil {
		n, err = io.ReadFull(r.br, b[at:min(at+piece, len(b))])
		at += n
		r.arrival.got.Store(int64(at))
	}
	if gone := r.budget.arrived(&r.arrival); gone && err != nil {
		return fmt.Errorf("%w in time: %d of a frame's %d bytes came in %v, and others waited for the memory (queued.max.request.bytes)", ErrFrame, at, len(b), time.Since(r.arrival.since).Round(time.Millisecond))
	}
	return unexpected(err)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
