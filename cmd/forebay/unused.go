package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// unused are the HTTP connections on which nothing has been asked yet: browsers and Go's own client open some ahead of need. http.Server.Shutdown
// waits five seconds for each.
type unused struct {
	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// state is http.Server.ConnState.
func (u *unused) state(c net.Conn, s http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case s != http.StateNew:
		delete(u.conns, c)
	case u.closed:
		_ = c.Close() // nobody has asked anything
	default:
		if u.conns == nil {
			u.conns = map[net.Conn]bool{}
		}
		u.conns[c] = true
	}
}

// shutdown ends a server: unused connections at once, the others when what was asked on them is answered, or when ctx ends.
func (u *unused) shutdown(ctx context.Context, s *http.Server, log *slog.Logger) error {
	u.mu.Lock()
	u.closed = true
	for c := range u.conns {
		_ = c.Close()
	}
	u.mu.Unlock()
	err := s.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn("an HTTP request was not over in time; its connection is closed")
		err = s.Close()
	}
	return err
}
