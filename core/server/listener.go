package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"time"

	"github.com/forebayhub/forebay/core/auth"
)

// Listener is where connections come in, and what is asked of them.
type Listener struct {
	net.Listener
	// Name is what nodes call the listener: its clients are told the addresses of the others' listeners of this name.
	Name string
	TLS  *tls.Config // nil: connections are not encrypted
	SASL *auth.SASL  // nil: nobody has to say who he is
	// MaxReauth is how long a client that came by a mechanism may go on before it has to authenticate again (KIP-368). Like connections.max.reauth.ms. 0: for ever.
	MaxReauth map[string]time.Duration
	// Principal names who has a certificate, by its distinguished name. Nil: User:<name>. Like ssl.principal.mapping.rules.
	Principal func(name string) string
	// IsNode says of the chain that a client has shown whether it is a node's: that is auth.Node, who may do anything, whatever its name. Nil: nobody is.
	IsNode func(chain []*x509.Certificate) bool
	// Watch is told of each connection by which somebody has shown a certificate, and closes it when that is revoked; forget is called when it has ended. Nil: none is.
	Watch func(c net.Conn, chain []*x509.Certificate) (forget func())
}

// loginTimeout bounds the time from a connection to its principal: TLS's handshake and SASL's.
const loginTimeout = 30 * time.Second

// maxUnknownFrame is the largest frame of who has not authenticated. Like sasl.server.max.receive.size.
const maxUnknownFrame = 512 << 10

// listener is the name of the one that a connection came by; "": none, it is in memory.
func (c *conn) listener() string {
	if c.door == nil {
		return ""
	}
	return c.door.Name
}

// encrypt shakes hands where the listener asks for TLS, and takes the client's certificate for its name. forget is called when the connection has ended.
func (c *conn) encrypt() (forget func(), err error) {
	forget = func() {}
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return forget, nil
	}
	ctx, cancel := context.WithDeadline(c.ctx, c.login.until)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return forget, fmt.Errorf("TLS handshake: %w", err)
	}
	certs := t.ConnectionState().PeerCertificates
	if len(certs) > 0 && c.door.Watch != nil {
		forget = c.door.Watch(t.NetConn(), certs)
	}
	if len(certs) > 0 && !c.login.pending {
		c.principal = c.door.Who(certs)
	}
	if !c.login.pending {
		c.login.until = time.Time{}
		c.s.known(c)
	}
	return forget, nil
}

// Who is whoever has shown a chain of certificates, which has been verified.
func (l *Listener) Who(chain []*x509.Certificate) auth.Principal {
	if l.IsNode != nil && l.IsNode(chain) {
		return auth.Node
	}
	return auth.User(l.name(chain[0]))
}

// name is a certificate's subject as RFC 2253 writes it, which is what Java calls it.
func (l *Listener) name(cert *x509.Certificate) string {
	name := cert.Subject.String()
	var rdns pkix.RDNSequence // in the certificate's own order; pkix.Name has one of its own
	if rest, err := asn1.Unmarshal(cert.RawSubject, &rdns); err == nil && len(rest) == 0 {
		name = rdns.String()
	}
	if l.Principal != nil {
		name = l.Principal(name)
	}
	return name
}
