package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/forebayhub/forebay/core/auth"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/server"
	"github.com/forebayhub/forebay/core/wire"
	"github.com/forebayhub/forebay/internal/jaas"
	"github.com/forebayhub/forebay/internal/kafkaclient"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/reload"
)

// prop is a property of a listener: its own, or that of all.
func (l *listener) prop(key string) string {
	if v, ok := l.set["listener.name."+strings.ToLower(l.name)+"."+key]; ok {
		return v
	}
	if v, ok := l.set[key]; ok {
		return v
	}
	return controller.Default(key)
}

func (l *listener) bad(key, what, hint string) error {
	return &problem.Error{Code: "listener-security", Class: problem.Input, Where: "listener " + l.name + ": " + key, What: what, Hint: hint}
}

// server is what the listener asks of its clients. lookup finds SCRAM credentials.
func (l *listener) server(lookup func(mechanism, user string) (auth.Credential, bool)) (server.Listener, error) {
	s := server.Listener{Listener: l.l, Name: l.name}
	var err error
	if l.protocol.encrypted() {
		if s.TLS, err = l.serverTLS(); err != nil {
			return s, err
		}
		if s.Principal, err = principalRules(l.prop("ssl.principal.mapping.rules")); err != nil {
			return s, l.bad("ssl.principal.mapping.rules", err.Error(), "as in RULE:^CN=(.*?),.*$/$1/L,DEFAULT")
		}
		if l.secrets != nil {
			s.IsNode, s.Watch = l.secrets.IsNode, l.secrets.Watch
		}
	}
	if l.protocol.authenticated() {
		if s.SASL, err = l.sasl(lookup); err != nil {
			return s, err
		}
		s.MaxReauth = map[string]time.Duration{}
		for _, m := range s.SASL.Mechanisms {
			s.MaxReauth[m] = span(l.mechanismProp(m, "connections.max.reauth.ms"), time.Millisecond)
		}
	}
	return s, nil
}

// mechanismProp is a listener's property with a mechanism's name before it, or without one.
func (l *listener) mechanismProp(mechanism, key string) string {
	if v, ok := l.set["listener.name."+strings.ToLower(l.name)+"."+strings.ToLower(mechanism)+"."+key]; ok {
		return v
	}
	return l.prop(key)
}

// span is a property that is a time, which was checked when it was set.
func span(text string, unit time.Duration) time.Duration {
	n, _ := strconv.ParseInt(text, 10, 64)
	return time.Duration(min(n, int64(1<<62)/int64(unit))) * unit
}

// sasl makes the mechanisms that are enabled.
func (l *listener) sasl(lookup func(mechanism, user string) (auth.Credential, bool)) (*auth.SASL, error) {
	s := &auth.SASL{}
	var passwords map[string]string
	var tokens auth.Tokens
	for _, m := range strings.Split(l.prop("sasl.enabled.mechanisms"), ",") {
		if m = strings.TrimSpace(m); m == "" {
			continue
		}
		s.Mechanisms = append(s.Mechanisms, m)
		switch m {
		case auth.Plain:
			login, err := l.login(m)
			if err != nil {
				return nil, err
			}
			passwords = login.Passwords()
		case auth.OAuthBearer:
			var err error
			if tokens, err = l.tokens(); err != nil {
				return nil, err
			}
		}
	}
	if len(s.Mechanisms) == 0 {
		return nil, l.bad("sasl.enabled.mechanisms", "no mechanism is enabled", "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or several of them")
	}
	s.Begin = func(mechanism string) auth.Exchange {
		switch mechanism {
		case auth.Plain:
			return auth.NewPlain(passwords)
		case auth.OAuthBearer:
			return auth.NewOAuthBearer(tokens.Check)
		}
		return auth.NewScram(mechanism, func(user string) (auth.Credential, bool) { return lookup(mechanism, user) })
	}
	return s, nil
}

// login reads a mechanism's sasl.jaas.config.
func (l *listener) login(mechanism string) (jaas.Login, error) {
	key := strings.ToLower(mechanism) + ".sasl.jaas.config"
	full := "listener.name." + strings.ToLower(l.name) + "." + key
	text := l.prop(key)
	if text == "" {
		return jaas.Login{}, l.bad(key, "is not set", "--set '"+full+`=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="…";'`)
	}
	login, err := jaas.Parse(text)
	if err != nil {
		return jaas.Login{}, l.bad(key, err.Error(), "")
	}
	want := "ScramLoginModule"
	switch mechanism {
	case auth.Plain:
		want = "PlainLoginModule"
	case auth.OAuthBearer:
		want = "OAuthBearerLoginModule"
	}
	if !strings.HasSuffix(login.Module, want) {
		return jaas.Login{}, l.bad(key, "the module is not "+want, "")
	}
	return login, nil
}

// clientAuth says whether clients have to show a certificate. Where they log in they do not, unless it is asked of this listener by
// its name (KIP-684).
func (l *listener) clientAuth() string {
	if l.protocol == saslSSL {
		return orDefault(l.set["listener.name."+strings.ToLower(l.name)+".ssl.client.auth"], "none")
	}
	return l.prop("ssl.client.auth")
}

// stores are the files that the listener's certificates are in.
func (l *listener) stores() (paths []string) {
	for _, key := range []string{"ssl.keystore.location", "ssl.truststore.location"} {
		if path := l.prop(key); path != "" {
			paths = append(paths, path)
		}
	}
	return paths
}

// kept makes a configuration that is made again when the files of certificates change.
func (l *listener) kept(load func() (*tls.Config, error)) (func() *tls.Config, error) {
	v, err := reload.New(l.stores(), load, func(err error) {
		l.logger.Warn("a changed certificate is not taken over; what was there before goes on to count", "listener", l.name, "err", err)
	})
	return v.Get, err
}

// serverTLS is the listener's side of TLS.
func (l *listener) serverTLS() (*tls.Config, error) {
	current, err := l.kept(l.loadServerTLS)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return current(), nil }}, nil
}

func (l *listener) loadServerTLS() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if l.secrets != nil {
		c.VerifyConnection = func(s tls.ConnectionState) error { return l.secrets.Refuse(s.PeerCertificates) }
	}
	cert, err := l.certificate()
	if err != nil {
		return nil, err
	}
	if cert == nil {
		return nil, l.bad("ssl.keystore.location", "there is no certificate", "give a PEM file with the private key and its certificate chain")
	}
	c.Certificates = []tls.Certificate{*cert}
	switch l.clientAuth() {
	case "required":
		c.ClientAuth = tls.RequireAndVerifyClientCert
	case "requested":
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if c.ClientAuth != tls.NoClientCert {
		if c.ClientCAs, err = l.trusted(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ownSecrets says whether the listener's certificates are those of --tls-dir.
func (l *listener) ownSecrets() bool {
	return l.secrets != nil && l.secrets.Owns(l.prop("ssl.keystore.location"), l.prop("ssl.truststore.location"))
}

// clientTLS is how this node reaches other nodes' listeners of this name. With --tls-dir a node is known by its certificate, wherever it is.
func (l *listener) clientTLS() (func() *tls.Config, error) {
	if l.ownSecrets() {
		return l.secrets.Client, nil
	}
	return l.kept(l.loadClientTLS)
}

func (l *listener) loadClientTLS() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	cert, err := l.certificate()
	if err != nil {
		return nil, err
	}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	if c.RootCAs, err = l.trusted(); err != nil {
		return nil, err
	}
	if l.prop("ssl.endpoint.identification.algorithm") == "" {
		kafkaclient.AnyName(c)
	}
	return c, nil
}

// certificate is the listener's own; nil: it has none.
func (l *listener) certificate() (*tls.Certificate, error) {
	chain, key := []byte(l.prop("ssl.keystore.certificate.chain")), []byte(l.prop("ssl.keystore.key"))
	from := "ssl.keystore.key"
	if path := l.prop("ssl.keystore.location"); path != "" {
		from = "ssl.keystore.location"
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, l.bad(from, err.Error(), "")
		}
		chain, key = text, text
	}
	if len(chain) == 0 && len(key) == 0 {
		return nil, nil
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, l.bad(from, err.Error(), "a private key without a password and its certificate chain, in PEM")
	}
	return &cert, nil
}

// trusted are the authorities that are believed; nil: those of the system.
func (l *listener) trusted() (*x509.CertPool, error) {
	text := []byte(l.prop("ssl.truststore.certificates"))
	from := "ssl.truststore.certificates"
	if path := l.prop("ssl.truststore.location"); path != "" {
		from = "ssl.truststore.location"
		var err error
		if text, err = os.ReadFile(path); err != nil {
			return nil, l.bad(from, err.Error(), "")
		}
	}
	if len(text) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, l.bad(from, "there is no certificate in it", "certificates in PEM")
	}
	return pool, nil
}

// approach is how this node comes to others over the listener for nodes: nil where they ask for nothing.
type approach struct {
	tls  func() *tls.Config // asked for each connection: certificates are replaced
	sasl sasl.Mechanism
	hold func(*tls.Conn) net.Conn // nil: nothing is revoked
}

func (l *listener) approach() (a approach, err error) {
	if l.protocol.encrypted() {
		if a.tls, err = l.clientTLS(); err != nil {
			return a, err
		}
		if l.secrets != nil {
			a.hold = l.secrets.Hold
		}
	}
	if !l.protocol.authenticated() {
		return a, nil
	}
	mechanism := l.prop("sasl.mechanism.inter.broker.protocol")
	if mechanism == "" {
		return a, l.bad("sasl.mechanism.inter.broker.protocol", "is not set, so this node cannot authenticate to others", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
	}
	login, err := l.login(mechanism)
	if err != nil {
		return a, err
	}
	user, password := login.Options["username"], login.Options["password"]
	if user == "" || password == "" {
		return a, l.bad(strings.ToLower(mechanism)+".sasl.jaas.config", "has no username or no password, so this node cannot authenticate to others", "")
	}
	if a.sasl, err = (kafkaclient.SASL{Mechanism: mechanism, User: user, Password: password}).Client(); err != nil {
		return a, l.bad("sasl.mechanism.inter.broker.protocol", err.Error(), "")
	}
	return a, nil
}

// meet makes a fresh connection one that may be used.
func (a approach) meet(ctx context.Context, nc net.Conn, host string) (net.Conn, error) {
	nc, err := a.greet(ctx, nc, host)
	if t, ok := nc.(*tls.Conn); err == nil && ok && a.hold != nil {
		return a.hold(t), nil
	}
	return nc, err
}

func (a approach) greet(ctx context.Context, nc net.Conn, host string) (net.Conn, error) {
	if a.tls != nil {
		c := a.tls()
		if c.ServerName == "" { // --tls-dir has its own
			c = c.Clone()
			c.ServerName = host
		}
		t := tls.Client(nc, c)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		nc = t
	}
	if a.sasl == nil {
		return nc, nil
	}
	client := wire.NewClient(nc, "forebay-node", 1<<20)
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Version, hello.Mechanism = 1, a.sasl.Name()
	resp, err := client.Do(ctx, hello)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.(*kmsg.SASLHandshakeResponse).ErrorCode); err != nil {
		return nil, err
	}
	session, said, err := a.sasl.Authenticate(ctx, host)
	for done := false; err == nil; {
		req := kmsg.NewPtrSASLAuthenticateRequest()
		req.Version, req.SASLAuthBytes = 2, said
		if said == nil {
			req.SASLAuthBytes = []byte{}
		}
		var resp kmsg.Response
		if resp, err = client.Do(ctx, req); err != nil {
			return nil, err
		}
		told := resp.(*kmsg.SASLAuthenticateResponse)
		if err = kerr.ErrorForCode(told.ErrorCode); err != nil {
			break
		}
		if done, said, err = session.Challenge(told.SASLAuthBytes); done && err == nil {
			return nc, nil // nothing more has come: the client has one answer for each question
		}
	}
	return nil, fmt.Errorf("authenticate as a node: %w", err)
}

// Allows says whether who has shown a chain of certificates may do everything: a node, a super user, or anybody where there are no ACLs. The chain has been
// verified.
func (b *Broker) Allows(chain []*x509.Certificate) bool {
	p, err := policy(b.control)
	if err != nil || len(chain) == 0 {
		return false
	}
	if p == nil {
		return true
	}
	who := b.doors[0].Who(chain)
	return who == auth.Node || slices.Contains(p.Supers, who)
}

// policy is what ACLs are judged with; nil: everybody may do everything.
func policy(c *controller.Controller) (*auth.Policy, error) {
	if c.Value("authorizer.class.name") == "" {
		return nil, nil
	}
	supers, ok := auth.ParsePrincipals(c.Value("super.users"))
	if !ok {
		return nil, &problem.Error{Code: "bad-property", Class: problem.Input, Where: "--set super.users", What: "is no list of principals", Hint: "as in User:admin;User:node"}
	}
	return &auth.Policy{Supers: supers, OpenWithout: strings.EqualFold(strings.TrimSpace(c.Value("allow.everyone.if.no.acl.found")), "true")}, nil
}
