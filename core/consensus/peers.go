package consensus

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/forebayhub/forebay/core/metadata"
)

// One listener serves raft and the peers' calls. Where there are certificates, TLS comes first, and who does not get
// through it has had nothing but its handshake. A connection begins with
//
//	kind(1) 'R' or 'P'   length(1)   cluster id of the caller, "" when it has none yet
//
// and is closed when both sides belong to a cluster and not to the same one. Then raft's own protocol follows
// ('R'), or calls one after the other ('P'): length(4) and a JSON request, length(4) and a JSON response.
const (
	kindRaft = 'R'
	kindCall = 'P'
	// maxCall bounds a request or a response.
	maxCall = 64 << 20
	// maxPeerConns bounds the connections that are served; one more is closed at once.
	maxPeerConns = 1024
	// maxStrangers bounds the connections that have not said yet who they are. The oldest gives way to one more: a node shakes
	// hands in milliseconds, and whoever holds his hand out for longer is none.
	maxStrangers = 128
	helloTimeout = 5 * time.Second
	idleConns    = 4 // kept for each peer
	// refusalsEvery is how often refusals are told.
	refusalsEvery = 10 * time.Second
)

// Handler answers one kind of call. An error reaches the caller with its text, and as what it is
// when it is one of the sentinels of consensus and metadata.
type Handler func(ctx context.Context, request []byte) (response []byte, err error)

// Peers is how this node talks with the others. All methods may be called concurrently.
type Peers struct {
	o        PeersOptions
	raft     *raft.NetworkTransport
	incoming chan net.Conn // for raft
	ctx      context.Context
	stop     context.CancelFunc
	wg       sync.WaitGroup

	mu       sync.Mutex
	handlers map[string]Handler
	conns    map[net.Conn]struct{} // being served
	unknown  []net.Conn            // those of them that have not said who they are, the oldest first
	idle     map[string][]net.Conn // by address
	closed   bool
	told     time.Time // when a refusal was
	turned   int       // those since then
}

// PeersOptions make Peers.
type PeersOptions struct {
	Listener net.Listener
	// ClusterID is this node's cluster, "" as long as it has none.
	ClusterID func() string
	// Lookup gives the newest address of a node: ids are stable, addresses are not.
	Lookup func(metadata.NodeID) (addr string, ok bool)
	// Advertise is the address that others reach this node at. "": the listener's.
	Advertise string
	TLS       *PeersTLS    // nil: whoever reaches the port is believed
	Logger    *slog.Logger // nil: silent
}

// PeersTLS is how nodes prove to each other that they are some.
type PeersTLS struct {
	Server *tls.Config
	Client func() *tls.Config // asked for each connection: certificates are replaced
	// Hold, if set, is given every connection that has shaken hands, and may close it when its other side is not to be believed any more.
	Hold func(*tls.Conn) net.Conn
}

// held is a connection in the care of Hold, where there is one.
func (p *Peers) held(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok && p.o.TLS.Hold != nil {
		return p.o.TLS.Hold(t)
	}
	return c
}

// NewPeers begins to serve; raft's part waits for Open, calls for Handle.
func NewPeers(o PeersOptions) *Peers {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Advertise == "" {
		o.Advertise = o.Listener.Addr().String()
	}
	p := &Peers{o: o, incoming: make(chan net.Conn), handlers: map[string]Handler{}, conns: map[net.Conn]struct{}{}, idle: map[string][]net.Conn{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.raft = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider: addresses{p}, Stream: (*stream)(p), MaxPool: 3, Timeout: 5 * time.Second, Logger: &bridge{l: o.Logger},
		// No pipelining. In raft 1.8.0 who reads a pipeline's answers leaves at the first that is a refusal or of a newer term; when the sender has one more on
		// its way then, it waits for good to hand it over: the follower is told nothing more, and the process cannot end.
		MaxRPCsInFlight: 1,
	})
	p.wg.Go(p.accept)
	return p
}

// Addr is where others reach this node.
func (p *Peers) Addr() string { return p.o.Advertise }

// Handle sets who answers calls of a method. It is called before the first of them can come.
func (p *Peers) Handle(method string, h Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handlers[method] = h
}

// Close ends everything and waits for it. Raft closes its own part before.
func (p *Peers) Close() error {
	p.mu.Lock()
	p.closed = true
	err := p.o.Listener.Close()
	for c := range p.conns {
		_ = c.Close() // who is on it hears so
	}
	for _, list := range p.idle {
		for _, c := range list {
			_ = c.Close() // nobody is on it
		}
	}
	p.idle = nil
	p.mu.Unlock()
	p.stop()
	_ = p.raft.Close() // its listener is closed already
	p.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (p *Peers) accept() {
	for {
		c, err := p.o.Listener.Accept()
		if err != nil {
			if p.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-p.ctx.Done():
				return
			case <-time.After(20 * time.Millisecond): // out of descriptors, for one
			}
			continue
		}
		p.mu.Lock()
		if p.closed || len(p.conns)-len(p.unknown) >= maxPeerConns {
			p.mu.Unlock()
			_ = c.Close() // the caller tries again
			continue
		}
		if len(p.unknown) >= maxStrangers {
			_ = p.unknown[0].Close() // whoever waits for its handshake hears so
			p.unknown = p.unknown[1:]
		}
		p.conns[c] = struct{}{}
		p.unknown = append(p.unknown, c)
		p.mu.Unlock()
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *Peers) serve(raw net.Conn) {
	known := func() {
		p.mu.Lock()
		p.unknown = slices.DeleteFunc(p.unknown, func(c net.Conn) bool { return c == raw })
		p.mu.Unlock()
	}
	forget := func() {
		known()
		p.mu.Lock()
		delete(p.conns, raw)
		p.mu.Unlock()
	}
	c, kind, err := p.greeted(raw)
	if err != nil {
		forget()
		_ = raw.Close() // the error tells more
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
			p.refused(raw.RemoteAddr(), err)
		}
		return
	}
	c = p.held(c)
	known()
	if kind == kindRaft {
		forget() // raft's from here on
		select {
		case p.incoming <- c:
		case <-p.ctx.Done():
			_ = c.Close() // nobody takes it
		}
		return
	}
	defer func() { forget(); _ = c.Close() }() // every call on it has been answered
	r := bufio.NewReader(c)
	for {
		b, err := readCall(r)
		if err != nil {
			return
		}
		if err := writeCall(c, p.answer(b)); err != nil {
			return
		}
	}
}

// refused tells of a stranger, and of the next ones for a while only how many there were: the log is no place that they could fill.
func (p *Peers) refused(from net.Addr, err error) {
	p.mu.Lock()
	p.turned++
	n, due := p.turned, time.Since(p.told) > refusalsEvery
	if due {
		p.turned, p.told = 0, time.Now()
	}
	p.mu.Unlock()
	if due {
		p.o.Logger.Warn("a peer's connection was refused", "from", from, "err", err, "refused", n)
	}
}

// greeted shakes hands where there is TLS, and reads the first bytes of a connection.
func (p *Peers) greeted(c net.Conn) (net.Conn, byte, error) {
	if err := c.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, 0, err
	}
	if p.o.TLS != nil {
		t := tls.Server(c, p.o.TLS.Server)
		if err := t.HandshakeContext(p.ctx); err != nil {
			return nil, 0, fmt.Errorf("TLS handshake: %w", err)
		}
		c = t
	}
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, 0, err
	}
	id := make([]byte, head[1])
	if _, err := io.ReadFull(c, id); err != nil {
		return nil, 0, err
	}
	if ours := p.o.ClusterID(); ours != "" && len(id) > 0 && string(id) != ours {
		return nil, 0, fmt.Errorf("%w: it is of %q, this node of %q", ErrOtherCluster, id, ours)
	}
	if head[0] != kindRaft && head[0] != kindCall {
		return nil, 0, fmt.Errorf("unknown kind of connection %q", head[0])
	}
	return c, head[0], c.SetDeadline(time.Time{})
}

func (p *Peers) dial(ctx context.Context, addr string, kind byte) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if p.o.TLS != nil {
		t := tls.Client(c, p.o.TLS.Client())
		if err := t.HandshakeContext(ctx); err != nil {
			_ = c.Close() // the first error tells more
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		c = t
	}
	id := p.o.ClusterID()
	if len(id) > 255 {
		id = ""
	}
	if _, err := c.Write(append([]byte{kind, byte(len(id))}, id...)); err != nil {
		_ = c.Close() // the first error tells more
		return nil, err
	}
	return p.held(c), nil
}

type callRequest struct {
	Method string          `json:"m"`
	Within int64           `json:"w"` // milliseconds that the caller waits
	Body   json.RawMessage `json:"b,omitempty"`
}

type callResponse struct {
	Error *wireError      `json:"e,omitempty"`
	Body  json.RawMessage `json:"b,omitempty"`
}

func (p *Peers) answer(b []byte) []byte {
	var req callRequest
	var resp callResponse
	err := json.Unmarshal(b, &req)
	if err == nil {
		p.mu.Lock()
		h := p.handlers[req.Method]
		p.mu.Unlock()
		if h == nil {
			err = fmt.Errorf("%w: this node does not answer %q yet", ErrNotLeader, req.Method)
		} else {
			ctx, cancel := context.WithTimeout(p.ctx, max(time.Duration(req.Within)*time.Millisecond, time.Millisecond))
			resp.Body, err = h(ctx, req.Body)
			cancel()
		}
	}
	resp.Error = encodeError(err)
	out, err := json.Marshal(resp)
	if err != nil {
		out, _ = json.Marshal(callResponse{Error: encodeError(err)}) // two strings
	}
	return out
}

// callTimeout bounds a call whose context has no end.
const callTimeout = 10 * time.Second

// Call asks the peer at addr. ErrUnreached says that the request was never sent in full: nothing has come of it.
func (p *Peers) Call(ctx context.Context, addr, method string, request, response any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	end, _ := ctx.Deadline()
	b, err := json.Marshal(callRequest{Method: method, Within: time.Until(end).Milliseconds(), Body: body})
	if err != nil {
		return err
	}
	out, err := p.exchange(ctx, addr, b)
	if err != nil {
		return fmt.Errorf("call %s at %s: %w", method, addr, err)
	}
	var resp callResponse
	if err := json.Unmarshal(out, &resp); err != nil {
		return fmt.Errorf("call %s at %s: %w", method, addr, err)
	}
	if resp.Error != nil {
		return resp.Error.decode()
	}
	if response == nil || resp.Body == nil {
		return nil
	}
	return json.Unmarshal(resp.Body, response)
}

// exchange sends a request on a kept connection, or a new one when that was closed meanwhile.
func (p *Peers) exchange(ctx context.Context, addr string, b []byte) ([]byte, error) {
	for {
		c, kept := p.take(addr)
		if c == nil {
			var err error
			if c, err = p.dial(ctx, addr, kindCall); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnreached, err)
			}
		}
		out, err := roundTrip(ctx, c, b)
		if err == nil {
			p.keep(addr, c)
			return out, nil
		}
		_ = c.Close() // the first error tells more
		if kept && errors.Is(err, io.EOF) && ctx.Err() == nil {
			continue // closed before it could have been read: the peer has restarted
		}
		return nil, err
	}
}

func roundTrip(ctx context.Context, c net.Conn, b []byte) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // wakes the reader
	defer stop()
	if err := writeCall(c, b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreached, err)
	}
	out, err := readCall(c)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil && !stop() {
		err = ctx.Err()
	}
	return out, err
}

func (p *Peers) take(addr string) (net.Conn, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[addr]
	if len(list) == 0 {
		return nil, false
	}
	c := list[len(list)-1]
	p.idle[addr] = list[:len(list)-1]
	return c, true
}

func (p *Peers) keep(addr string, c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle[addr]) >= idleConns {
		_ = c.Close() // nobody is on it
		return
	}
	p.idle[addr] = append(p.idle[addr], c)
}

func readCall(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxCall {
		return nil, fmt.Errorf("a call of %d bytes: at most %d", n, maxCall)
	}
	// Grows with what arrives: a length alone gets no memory.
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(b) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

func writeCall(w io.Writer, b []byte) error {
	if len(b) > maxCall {
		return fmt.Errorf("a call of %d bytes: at most %d", len(b), maxCall)
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...))
	return err
}

// stream is raft's side of the listener.
type stream Peers

func (s *stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.incoming:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (s *stream) Close() error { return nil } // Peers closes the listener

func (s *stream) Addr() net.Addr { return named(s.o.Advertise) }

func (s *stream) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	return (*Peers)(s).dial(ctx, string(addr), kindRaft)
}

// named is an address as it is told to others.
type named string

func (n named) Network() string { return "tcp" }
func (n named) String() string  { return string(n) }

// addresses resolves raft's server ids by what gossip says now.
type addresses struct{ p *Peers }

func (a addresses) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	n, err := nodeOf(id)
	if err != nil {
		return "", err
	}
	if addr, ok := a.p.o.Lookup(n); ok {
		return raft.ServerAddress(addr), nil
	}
	return "", fmt.Errorf("node %d was not heard of since this one started", n)
}
