// Package server speaks the Kafka protocol: listener, connection loop, one file
// per API key. Produce and Fetch read and write their bytes by hand; all other
// bodies are franz-go's kmsg.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/group"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/quota"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/core/txn"
	"github.com/forebayhub/forebay/core/wire"
	"github.com/forebayhub/forebay/internal/loglevel"
	"github.com/forebayhub/forebay/internal/vfs"
)

// Deps are the rooms that a Server calls, and the broker properties that concern it.
type Deps struct {
	NodeID     metadata.NodeID
	Replicas   *replica.Set
	Controller *controller.Controller
	Groups     *group.Coordinator
	Txns       *txn.Coordinator
	Logger     *slog.Logger // nil: silent
	// Loggers are the node's, for whoever changes their levels. Nil: Logger's alone.
	Loggers *loglevel.Loggers
	// Advertised gives the address that clients of a listener are told for a node. Nil: what the node registered.
	Advertised      func(n *metadata.Node, listener string) (host string, port int32)
	MaxRequestBytes int32 // socket.request.max.bytes; 0: 100 MiB

	// MaxInFlightBytes bounds the bytes of all requests of more than 16 KiB that are being read or
	// handled; connections wait their turn beyond it. Like queued.max.request.bytes. 0: 256 MiB, or a
	// quarter of GOMEMLIMIT where that is less.
	MaxInFlightBytes int64
	// MaxConnections bounds the connections, but for those in memory. For one more, one that has not logged in yet is closed, or else itself. Like max.connections.
	// 0: 16,384.
	MaxConnections int
	// MaxFetchBytes bounds a Fetch response, whatever the client asks for. Like fetch.max.bytes. 0: 55 MiB.
	MaxFetchBytes int32
	// FetchSessions bounds the cache of fetch sessions. Like
	// max.incremental.fetch.session.cache.slots. 0: 1000; negative: none.
	FetchSessions int
	// IdleTimeout closes a connection that sent nothing for so long. Like connections.max.idle.ms. 0: 10 minutes.
	IdleTimeout time.Duration
	// DrainTimeout is how long the end of Serve waits for requests under way. 0: 5 s.
	DrainTimeout time.Duration
	// NoAutoCreate turns off auto.create.topics.enable.
	NoAutoCreate bool
	// Leased says that nobody else leads what this node leads, as far as a lease can tell (controller.Active.Leased). Nil: nobody ever does.
	Leased func() bool
	// FS tells how full log directories are. Nil: the disk.
	FS vfs.FS
	// FailureDelay is how long a client whose authentication failed waits for the answer: whoever tries passwords has
	// fewer tries. Like connection.failed.authentication.delay.ms. 0: none.
	FailureDelay time.Duration
	// QuotaWindow and MutationWindow are what rates are taken over: quota.window.* and controller.quota.window.*.
	QuotaWindow, MutationWindow quota.Window
	// Policy turns ACLs on. Like authorizer.class.name. Nil: everybody may do everything.
	Policy *auth.Policy
	// DescribeQuorum tells how the metadata quorum is.
	DescribeQuorum func(context.Context) (consensus.Description, error)
	// TxnGuard says whether a transactional batch may be appended. Nil: Txns when it can tell, else everything may.
	TxnGuard TxnGuard
}

func (d Deps) withDefaults() Deps {
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.Loggers == nil {
		d.Loggers = loglevel.New(d.Logger)
	}
	if d.Advertised == nil {
		d.Advertised = (*metadata.Node).Reached
	}
	d.MaxRequestBytes = orElse(d.MaxRequestBytes, 100<<20)
	d.MaxInFlightBytes = orElse(d.MaxInFlightBytes, inFlightBytes())
	d.MaxConnections = orElse(d.MaxConnections, 16<<10)
	d.MaxFetchBytes = orElse(d.MaxFetchBytes, 55<<20)
	d.FetchSessions = orElse(d.FetchSessions, 1000)
	d.IdleTimeout = orElse(d.IdleTimeout, 10*time.Minute)
	d.DrainTimeout = orElse(d.DrainTimeout, 5*time.Second)
	if d.DescribeQuorum == nil {
		d.DescribeQuorum = func(context.Context) (consensus.Description, error) {
			return consensus.Description{}, consensus.ErrNotLeader
		}
	}
	if d.FS == nil {
		d.FS = vfs.Disk{}
	}
	if d.TxnGuard == nil {
		d.TxnGuard = guardOf(d.Txns)
	}
	return d
}

// inFlightBytes is 256 MiB, or a quarter of GOMEMLIMIT where that is less.
func inFlightBytes() int64 {
	return min(256<<20, max(debug.SetMemoryLimit(-1)/4, 8<<20)) // -1 only asks
}

func orElse[T comparable](v, zero T) T {
	var none T
	if v == none {
		return zero
	}
	return v
}

// Server serves connections.
type Server struct {
	d      Deps
	apis   [kmsg.MaxKey + 1]*api // by key; nil: not served
	budget *wire.Budget
	// strangers is the budget of clients that have not logged in.
	strangers *wire.Budget
	sessions  *fetchSessions
	quotas    *quota.Book
	compiled  atomic.Pointer[compiled]
	stats     serverStats
	// rackAware says that consumers are sent to replicas in their racks.
	rackAware bool

	mu       sync.Mutex
	conns    map[*conn]struct{}
	unknown  map[*conn]struct{} // of conns, those that have not said who they are
	outside  int                // conns that came by a listener
	draining bool
	drained  chan struct{} // closed when draining begins: waiting fetches answer
	wg       sync.WaitGroup
}

// New makes a Server.
func New(d Deps) *Server {
	d = d.withDefaults()
	s := &Server{
		d:         d,
		budget:    wire.NewBudget(d.MaxInFlightBytes),
		strangers: wire.NewBudget(min(strangersBytes, d.MaxInFlightBytes)),
		sessions:  newFetchSessions(d.FetchSessions),
		quotas:    quota.New(d.QuotaWindow, d.MutationWindow),
		conns:     map[*conn]struct{}{},
		unknown:   map[*conn]struct{}{},
		drained:   make(chan struct{}),

		rackAware: d.Controller != nil && d.Controller.Value("replica.selector.class") == controller.RackAwareSelector,
	}
	for i := range table {
		a := table[i]
		a.learn()
		s.apis[a.key] = &a
	}
	return s
}

// Serve accepts until ctx ends, then drains and returns once every connection
// has. It may be called for several listeners at a time, with one ctx. An error is one of the listener's.
func (s *Server) Serve(ctx context.Context, l Listener) error {
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close() // the listener's own error comes out of Accept
		s.drain()
	})
	defer stop()
	var backoff time.Duration
	for {
		c, err := l.Accept()
		if err == nil {
			backoff = 0
			if !s.begin() {
				_ = c.Close() // refused; nothing was promised on it
				continue
			}
			go func() {
				defer s.wg.Done()
				s.serveConn(context.WithoutCancel(ctx), c, &l)
			}()
			continue
		}
		if ctx.Err() != nil {
			s.drain() // nothing is added to wg once draining is set
			s.wg.Wait()
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		// Out of file descriptors, or the peer was gone at once: it passes.
		if backoff = min(max(2*backoff, 5*time.Millisecond), time.Second); backoff > 100*time.Millisecond {
			s.d.Logger.Warn("cannot accept connections", "listener", l.Addr().String(), "error", err)
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
		}
	}
}

// begin counts one more connection, unless there are to be no more.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.wg.Add(1)
	return true
}

// ServeConn serves one connection in memory until it ends, or ctx does. Who is at its other end is this process itself: it is
// auth.Node, and may do anything.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) {
	if !s.begin() {
		_ = nc.Close() // refused; nothing was promised on it
		return
	}
	defer s.wg.Done()
	s.serveConn(ctx, nc, nil)
}

// serveConn serves a connection that came in by a listener; nil: it is one in memory.
func (s *Server) serveConn(ctx context.Context, nc net.Conn, l *Listener) {
	c := newConn(ctx, s, nc, l)
	defer c.close()
	s.mu.Lock()
	var gives *conn
	full := l != nil && s.outside >= s.d.MaxConnections
	if full {
		for gives = range s.unknown {
			delete(s.unknown, gives)
			break
		}
	}
	if s.draining || full && gives == nil {
		draining := s.draining
		s.mu.Unlock()
		if !draining {
			s.d.Logger.Warn("too many connections; closing a new one", "peer", c.peer, "max.connections", s.d.MaxConnections)
		}
		return
	}
	s.conns[c] = struct{}{}
	if l != nil {
		s.outside++
	}
	if !c.login.until.IsZero() {
		s.unknown[c] = struct{}{}
	}
	s.mu.Unlock()
	if gives != nil {
		gives.close()
	}
	s.stats.connected.Add(1)
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		delete(s.unknown, c)
		if l != nil {
			s.outside--
		}
		s.mu.Unlock()
	}()
	// ctx ending is this connection's own drain: ServeConn's caller may stop it alone.
	stop := context.AfterFunc(ctx, c.drain)
	defer stop()
	if c.admits() {
		c.serve()
	}
}

// known says that a connection's client is no stranger any more.
func (s *Server) known(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unknown, c)
}

// drain lets every connection finish the request that it is at. Those that take
// longer than DrainTimeout are cut off.
func (s *Server) drain() {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return
	}
	s.draining = true
	close(s.drained)
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.drain()
	}
}
