package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// request is one decoded request on its way to a handler.
type request struct {
	// ctx ends with the connection, or when the server has drained long enough.
	ctx context.Context
	asker
	clientID   string
	clientHost string       // "/127.0.0.1", as Kafka shows it
	listener   string       // by which it came; "": in memory
	body       kmsg.Request // with its version set
}

// handler answers a request. It may block: the connection reads on only to
// notice that the client is gone, which ends r.ctx. Nil sends nothing and
// closes the connection. The response's version is set by the caller.
// A panic in it is logged and closes the connection.
type handler func(s *Server, r *request) kmsg.Response
