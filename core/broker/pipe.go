package broker

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipeBytes is the room of each direction of a Pipe; who writes into a full one waits (invariant 9).
const pipeBytes = 256 << 10

// Pipe is two ends of an in-memory connection, like a socket pair: buffered, with
// deadlines, and with a half that can be read to its end after the other side has closed. addr is what both call their peer's.
func Pipe(addr net.Addr) (a, b net.Conn) {
	x, y := newRing(), newRing()
	return &pipeEnd{in: x, out: y, addr: addr}, &pipeEnd{in: y, out: x, addr: addr}
}

type pipeEnd struct {
	in, out *ring
	addr    net.Addr
}

func (p *pipeEnd) Read(b []byte) (int, error)  { return p.in.read(b) }
func (p *pipeEnd) Write(b []byte) (int, error) { return p.out.write(b) }

func (p *pipeEnd) Close() error {
	p.in.close(true)
	p.out.close(false)
	return nil
}

// CloseWrite ends this direction; the peer reads what is in it, then EOF.
func (p *pipeEnd) CloseWrite() error    { p.out.close(false); return nil }
func (p *pipeEnd) LocalAddr() net.Addr  { return p.addr }
func (p *pipeEnd) RemoteAddr() net.Addr { return p.addr }
func (p *pipeEnd) SetDeadline(t time.Time) error {
	p.in.setDeadline(&p.in.readBy, t)
	p.out.setDeadline(&p.out.writeBy, t)
	return nil
}
func (p *pipeEnd) SetReadDeadline(t time.Time) error { p.in.setDeadline(&p.in.readBy, t); return nil }
func (p *pipeEnd) SetWriteDeadline(t time.Time) error {
	p.out.setDeadline(&p.out.writeBy, t)
	return nil
}

// ring is one direction.
type ring struct {
	mu      sync.Mutex
	changed sync.Cond
	buf     []byte // grows to pipeBytes as it is needed
	from, n int    // n bytes from buf[from], around the end
	ended   bool   // the writer has closed
	deaf    bool   // the reader has closed
	readBy  deadline
	writeBy deadline
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) past() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newRing() *ring {
	r := &ring{}
	r.changed.L = &r.mu
	return r
}

func (r *ring) setDeadline(d *deadline, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.changed.Broadcast()
		})
	}
	r.changed.Broadcast()
}

func (r *ring) read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.deaf:
			return 0, net.ErrClosed
		case r.readBy.past():
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case r.n > 0:
			n := r.takeLocked(b)
			r.changed.Broadcast()
			return n, nil
		case r.ended:
			return 0, io.EOF
		}
		r.changed.Wait()
	}
}

func (r *ring) takeLocked(b []byte) int {
	total := 0
	for r.n > 0 && len(b) > 0 {
		c := copy(b, r.buf[r.from:min(r.from+r.n, len(r.buf))])
		b, total = b[c:], total+c
		r.from, r.n = (r.from+c)%len(r.buf), r.n-c
	}
	if r.n == 0 {
		r.from = 0
	}
	return total
}

func (r *ring) write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	total := 0
	for {
		switch {
		case r.ended:
			return total, net.ErrClosed
		case r.deaf:
			return total, io.ErrClosedPipe
		case r.writeBy.past():
			return total, os.ErrDeadlineExceeded
		case len(b) == 0:
			return total, nil
		case r.n < pipeBytes:
			n := r.putLocked(b)
			b, total = b[n:], total+n
			r.changed.Broadcast()
			continue
		}
		r.changed.Wait()
	}
}

func (r *ring) putLocked(b []byte) int {
	if want := min(r.n+len(b), pipeBytes); want > len(r.buf) {
		size := max(len(r.buf), 4<<10)
		for size < want {
			size *= 2
		}
		grown := make([]byte, size)
		n := r.n
		r.takeLocked(grown[:n])
		r.buf, r.from, r.n = grown, 0, n
	}
	total := 0
	for len(b) > 0 && r.n < len(r.buf) {
		at := (r.from + r.n) % len(r.buf)
		end := len(r.buf)
		if at < r.from {
			end = r.from
		}
		c := copy(r.buf[at:end], b)
		b, total, r.n = b[c:], total+c, r.n+c
	}
	return total
}

func (r *ring) close(reader bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if reader {
		r.deaf = true
		r.buf, r.n = nil, 0
	} else {
		r.ended = true
	}
	for _, d := range []*deadline{&r.readBy, &r.writeBy} {
		if d.timer != nil && (r.deaf || r.ended && r.n == 0) {
			d.timer.Stop()
		}
	}
	r.changed.Broadcast()
}
