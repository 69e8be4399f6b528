// Package server speaks the Kafka protocol: listener, connection loop, one file
// per API key. Produce and Fetch read and write their bytes by hand; all other
// bodies are franz-go's kmsg.
package server

import (
	"context"
	"log/slog"
	"net"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/group"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/core/txn"
)

// Deps are the rooms that a Server calls.
type Deps struct {
	NodeID     metadata.NodeID
	Replicas   *replica.Set
	Controller *controller.Controller
	Groups     *group.Coordinator
	Txns       *txn.Coordinator
	Logger     *slog.Logger
	// Advertised gives the address that clients are told for a node.
	Advertised      func(*metadata.Node) (host string, port int32)
	MaxRequestBytes int32 // socket.request.max.bytes; 0: 100 MiB
}

// Server serves connections.
type Server struct{ d Deps }

// New makes a Server.
func New(d Deps) *Server { return &Server{d: d} }

// Serve accepts until ctx ends, then drains and returns once every connection has.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { panic("stub") }

// ServeConn serves one connection until it ends: in-memory ones too.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) { panic("stub") }
