package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
	"github.com/forebayhub/forebay/core/wire"
)

// conn is one connection. One goroutine reads, handles and answers, so a reply
// cannot overtake another; a second one, the ackWriter, exists only once a
// Produce had to wait for its acks. While it has replies to send, only further
// Produce requests are read; any other request waits for it, as a real broker
// mutes the channel.
type conn struct {
	s       *Server
	nc      net.Conn
	raw     syscall.RawConn // for sendfile; nil unless TCP
	in      *wire.Reader
	peer    string
	host    string
	address string        // the client's, as quotas name it; "" in memory
	mute    time.Duration // a throttled client's: not read for so long, once its replies are sent
	logger  *slog.Logger

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc

	began      time.Time // the request that is being dispatched
	readUntil  time.Time // the read deadline that is set
	writeUntil time.Time
	watch      watcher
	fetching   fetching
	acks       *ackWriter // nil until a Produce had to wait

	draining  atomic.Bool
	drainOnce sync.Once
	drained   chan struct{}
	closeOnce sync.Once

	door      *Listener // nil: in memory
	principal auth.Principal
	login     login
}

// What a client is given to take a reply off us, and to send the rest of a
// frame that it has begun.
const (
	writeTimeout = 2 * time.Minute
	frameTimeout = 30 * time.Second
	frameRate    = 256 << 10 // bytes per second that a slow client has to reach on top
)

func newConn(ctx context.Context, s *Server, nc net.Conn, l *Listener) *conn {
	c := &conn{s: s, nc: nc, drained: make(chan struct{}), logger: s.d.Logger, door: l, principal: auth.Node}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.peer, c.host = "?", "/127.0.0.1"
	if a := nc.RemoteAddr(); a != nil {
		c.peer = a.String()
		if t, ok := a.(*net.TCPAddr); ok {
			c.host, c.address = "/"+t.IP.String(), addressOf(t.IP)
		}
	}
	budget, limits := s.budget, c.limits()
	if l != nil {
		c.principal = auth.Anonymous
		if l.TLS != nil {
			c.nc = tls.Server(nc, l.TLS)
		}
		if l.SASL != nil {
			budget, limits = s.strangers, wire.Limits{MaxBytes: min(limits.MaxBytes, maxUnknownFrame), Check: s.checkStranger}
			c.login.pending = true
		}
		if l.SASL != nil || l.TLS != nil {
			c.login.until = time.Now().Add(loginTimeout)
		}
	}
	if t, ok := c.nc.(*net.TCPConn); ok {
		if raw, err := t.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.in = wire.NewReader(c.nc, budget, limits)
	c.in.Arriving = func(missing int) {
		wait := frameTimeout + time.Duration(missing/frameRate)*time.Second
		c.setReadDeadline(time.Now().Add(wait))
	}
	c.in.Cut = func() { _ = c.nc.SetReadDeadline(time.Now()) } // fails only on a closed connection
	c.watch.c = c
	return c
}

// Decoding costs memory beyond the frame: an array of one-byte elements becomes
// structs of some dozens of bytes. So frames other than Produce are bounded far
// below MaxRequestBytes, and larger ones than cheapFrame take a multiple from the budget. Those that are not take nothing, so that they never
// wait: each connection has a buffer of that size anyway, and heartbeats and followers are not held up by who fills the budget.
const (
	maxDecodedFrame = 8 << 20
	cheapFrame      = 16 << 10
	decodedFactor   = 24

	// patientFrame is the size up to which a request gives its bytes back to the budget once it is decoded. A larger one does so when its
	// reply is encoded; but a JoinGroup or a SyncGroup, which wait for the whole group, before they wait: were the members' requests to
	// fill the budget, the last could not join.
	patientFrame = 1 << 20

	// strangersBytes is the budget of all frames above cheapFrame of clients that have not logged in: what they announce, and never send, takes
	// nothing from those that have. A login's frames are smaller, and wait for nobody.
	strangersBytes = 16 << 20
)

// limits are those of a client that need not log in, or has.
func (c *conn) limits() wire.Limits {
	return wire.Limits{MaxBytes: c.s.d.MaxRequestBytes, Check: c.checkFrame}
}

// checkFrame has what will take much of the budget wait for the replies before it first, not with the budget taken: a client may want to wait
// for acks for hours.
func (c *conn) checkFrame(key, version int16, size int) (most int, cost int64, err error) {
	most, cost, err = c.s.checkFrame(key, version, size)
	if err == nil && cost > 0 && key != int16(kmsg.Produce) && c.acks != nil {
		err = c.acks.wait()
		c.in.Arriving(size)
	}
	return most, cost, err
}

// checkStranger is for the few requests that come before a login, whose decoded form is no larger than they are.
func (s *Server) checkStranger(key, version int16, size int) (int, int64, error) {
	most, cost, err := s.checkFrame(key, version, size)
	return most, min(cost, int64(size)), err
}

func (s *Server) checkFrame(key, version int16, size int) (most int, cost int64, err error) {
	switch {
	case key < 0 || int(key) >= len(s.apis) || s.apis[key] == nil:
		return 0, 0, fmt.Errorf("API key %d version %d is not served", key, version)
	case size <= cheapFrame:
		return size, 0, nil
	case key == int16(kmsg.Produce):
		return size, int64(size), nil
	}
	return maxDecodedFrame, int64(size) * decodedFactor, nil
}

// serve answers requests until the connection ends.
func (c *conn) serve() {
	forget, err := c.encrypt()
	defer forget()
	if err != nil {
		c.end(err)
		return
	}
	for {
		c.armIdle()
		err := c.next()
		if err == nil && c.mute > 0 {
			err = c.sitOut()
		}
		if err != nil {
			c.end(err)
			return
		}
	}
}

// next takes one request in.
func (c *conn) next() error {
	if c.login.raw {
		return c.guarded(c.s.apis[kmsg.SASLAuthenticate], wire.Header{}, c.rawToken)
	}
	f, err := c.in.Next(c.ctx)
	if err != nil {
		return err
	}
	return c.dispatch(&f)
}

// mostSaid bounds what the log has of why a connection ended, in bytes: there are names in it that a stranger may have made 32 KiB long.
const mostSaid = 512

// errQuiet ends a connection with nothing to say about it.
var errQuiet = errors.New("connection ended")

// end waits for the replies that are still due and says why it is over, when
// that is somebody's business.
func (c *conn) end(err error) {
	lost := !c.draining.Load() && !errors.Is(err, os.ErrDeadlineExceeded)
	if lost {
		c.cancel() // nobody is there to read what is waited for
	}
	if c.acks != nil {
		c.acks.finish()
	}
	err = c.login.over(err)
	if errors.Is(err, errLogin) {
		c.s.stats.logins.Add(1)
	}
	switch {
	case c.draining.Load(), errors.Is(err, io.EOF), errors.Is(err, errQuiet),
		errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrClosedPipe):
		c.logger.Debug("connection lost", "peer", c.peer, "error", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.logger.Debug("closing idle connection", "peer", c.peer)
	default:
		text := err.Error()
		if len(text) > mostSaid {
			text = text[:mostSaid] + "…"
		}
		c.logger.Warn("closing connection", "peer", c.peer, "error", text)
	}
}

// close ends the connection. It may be called more than once.
func (c *conn) close() {
	c.closeOnce.Do(func() {
		c.cancel()
		_ = c.nc.Close() // nothing is lost by an error of it: what was sent is sent
	})
}

// drain lets the request under way finish, then ends the connection.
func (c *conn) drain() {
	c.drainOnce.Do(func() {
		c.draining.Store(true)
		close(c.drained)
		_ = c.nc.SetReadDeadline(time.Now()) // fails only on a closed connection
		time.AfterFunc(c.s.d.DrainTimeout/10, c.cancel)
		time.AfterFunc(c.s.d.DrainTimeout, c.close)
	})
}

// armIdle moves the read deadline on, not for every request: setting it is not free.
func (c *conn) armIdle() {
	now := time.Now()
	if idle := c.s.d.IdleTimeout; c.readUntil.Sub(now) < idle-idle/8 || c.readUntil.Sub(now) > idle {
		c.setReadDeadline(now.Add(idle))
	}
}

func (c *conn) setReadDeadline(t time.Time) {
	if !c.login.until.IsZero() && t.After(c.login.until) {
		t = c.login.until // until it is known who that is
	}
	c.readUntil = t
	_ = c.nc.SetReadDeadline(t) // an error shows at the read
	if c.draining.Load() {      // drain's own deadline may have come just before
		_ = c.nc.SetReadDeadline(time.Now())
	}
}

// dispatch handles one request and sends its reply, or leaves that to the ackWriter. It owns f.
func (c *conn) dispatch(f *wire.Frame) error {
	defer f.Release()
	h, err := wire.ParsePrefix(f.B)
	if err != nil {
		return err
	}
	var a *api
	if h.Key >= 0 && int(h.Key) < len(c.s.apis) {
		a = c.s.apis[h.Key]
	}
	if a != nil {
		a.stats.in.Add(int64(len(f.B)))
		c.began = time.Now()
	}
	switch {
	case a == nil:
		return fmt.Errorf("%w: API key %d version %d is not served", wire.ErrFrame, h.Key, h.Version)
	case !a.serves(h.Version) && a.key == kmsg.ApiVersions:
		f.Release()
		return c.reply(h, a, c.s.unsupportedApiVersions())
	case !a.serves(h.Version):
		return fmt.Errorf("%w: %s version %d is not served (%d to %d are)",
			wire.ErrFrame, a.key.Name(), h.Version, max(a.min, a.refuseBelow), a.max)
	}
	h, body, err := wire.ParseHeader(f.B, h.Version >= a.flexibleFrom)
	if err != nil {
		return fmt.Errorf("%s version %d: %w", a.key.Name(), h.Version, err)
	}
	if c.login.stands(a.key) {
		return c.guarded(a, h, func() error { return c.authenticate(h, a, body) })
	}
	if c.login.expired() {
		return errQuiet
	}
	if a.key == kmsg.Produce {
		return c.guarded(a, h, func() error { return c.produce(h, body, f) })
	}
	if c.acks != nil {
		if err := c.acks.wait(); err != nil {
			return err
		}
		c.began = time.Now() // Kafka would not have read it before
	}
	if a.key == kmsg.Fetch {
		return c.guarded(a, h, func() error { return c.fetch(h, body, f) })
	}
	defer f.Detach() // not into the pool: what was decoded refers to it
	return c.guarded(a, h, func() error { return c.handle(h, a, body, f) })
}

// guarded runs one request. A panic in it costs the connection, not the node.
func (c *conn) guarded(a *api, h wire.Header, do func() error) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		c.logger.Error("panic while handling a request; closing its connection", "api", a.key.Name(), "key", h.Key,
			"version", h.Version, "client", h.ClientID, "peer", c.peer, "panic", p, "stack", string(debug.Stack()))
		err = errQuiet
	}()
	return do()
}

// handle decodes a kmsg body, asks the handler and replies.
func (c *conn) handle(h wire.Header, a *api, body []byte, f *wire.Frame) error {
	req := a.key.Request()
	if err := a.decode(h.Version, body, req); err != nil {
		return fmt.Errorf("%w: %s version %d from client %q: %w", wire.ErrFrame, a.key.Name(), h.Version, h.ClientID, err)
	}
	if len(f.B) <= patientFrame || a.key == kmsg.JoinGroup || a.key == kmsg.SyncGroup {
		f.Detach()
	}
	quotas := c.s.d.Controller.Image().Quotas
	r := &request{ctx: c.ctx, asker: c.asker(), clientID: h.ClientID, clientHost: c.host, listener: c.listener(), body: req}
	c.watch.start()
	resp := c.s.authorized(a, r)
	c.watch.stop()
	if resp == nil {
		return errQuiet
	}
	if quotas != nil {
		c.throttleOther(quotas, h, resp, c.began)
	}
	resp.SetVersion(h.Version)
	buf := encode(h, a, resp)
	f.Detach() // before the client, which may take its time, has read the reply
	return c.hand(a, buf)
}

// reply encodes and sends.
func (c *conn) reply(h wire.Header, a *api, resp kmsg.Response) error {
	return c.hand(a, encode(h, a, resp))
}

// encode makes a reply's frame, and counts its errors.
func encode(h wire.Header, a *api, resp kmsg.Response) *wire.Buf {
	buf := wire.Get(512)
	buf.B = resp.AppendTo(wire.AppendResponseHeader(buf.B[:0], h.CorrelationID, h.Version >= a.flexibleReplyFrom))
	wire.Seal(buf.B, 0)
	a.stats.countErrors(resp)
	return buf
}

// hand sends a whole reply and frees it.
func (c *conn) hand(a *api, buf *wire.Buf) error {
	defer buf.Free()
	err := c.write(buf.B)
	a.stats.answered(c.began, len(buf.B))
	return err
}

// write sends all of b. The calling goroutine is the only writer at this time.
func (c *conn) write(b []byte) error {
	c.armWrite()
	_, err := c.nc.Write(b)
	return err
}

func (c *conn) armWrite() {
	now := time.Now()
	if c.writeUntil.Sub(now) < writeTimeout/2 {
		c.writeUntil = now.Add(writeTimeout)
		_ = c.nc.SetWriteDeadline(c.writeUntil) // an error shows at the write
	}
}
