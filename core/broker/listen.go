package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/tlsdir"
)

// defaultAddr is where a node listens unless it is told otherwise.
const defaultAddr = "127.0.0.1:9092"

// address is where the node listens and what it tells clients.
type address struct {
	bind       string
	advertised string // host:port; "": that of the listener
}

// listener is one of the node's for Kafka clients.
type listener struct {
	address
	name     string // EXTERNAL
	protocol protocol
	set      map[string]string // all broker properties
	l        net.Listener      // once it is bound
	secrets  *tlsdir.Dir       // nil: there are none
	logger   *slog.Logger
	jwks     *jwks // the keys of tokens, where they are fetched; nil: they are not
}

// protocol is what a listener asks for, by Kafka's names.
type protocol string

const (
	plaintext     protocol = "PLAINTEXT"
	ssl           protocol = "SSL"
	saslPlaintext protocol = "SASL_PLAINTEXT"
	saslSSL       protocol = "SASL_SSL"
)

func (p protocol) encrypted() bool     { return p == ssl || p == saslSSL }
func (p protocol) authenticated() bool { return p == saslPlaintext || p == saslSSL }

// resolveListeners joins --kafka with listeners, advertised.listeners and listener.security.protocol.map. The first is the one
// by which nodes reach each other. An address alone is called by its protocol: otherwise, unless the map names PLAINTEXT.
func resolveListeners(flag string, set map[string]string, otherwise protocol) ([]*listener, error) {
	protocols, err := protocolsOf(set)
	if err != nil {
		return nil, err
	}
	text, given := set["listeners"]
	if !given {
		if protocols[string(plaintext)] != plaintext {
			otherwise = plaintext
		}
		text = string(otherwise) + "://" + orDefault(flag, defaultAddr)
	}
	where := "--set listeners"
	if !given {
		where = "--kafka"
	}
	named, err := parseListeners(where, text)
	if err != nil {
		return nil, err
	}
	var list []*listener
	flagged := flag == ""
	for _, n := range named {
		p, known := protocols[n.name]
		if !known {
			return nil, badListener(where, fmt.Sprintf("no listener %s in listener.security.protocol.map", n.name), "name it there, as in "+n.name+":SASL_SSL")
		}
		flagged = flagged || n.addr == flag
		list = append(list, &listener{address: address{bind: n.addr}, name: n.name, protocol: p, set: set})
	}
	if !flagged {
		return nil, contradiction("listeners", text, "--kafka "+flag)
	}
	if v, ok := set["advertised.listeners"]; ok {
		if err := advertiseAll(list, v); err != nil {
			return nil, err
		}
	}
	return interFirst(list, set)
}

// interFirst puts the listener for the other nodes first.
func interFirst(list []*listener, set map[string]string) ([]*listener, error) {
	name, ok := set["inter.broker.listener.name"]
	if !ok {
		return list, nil
	}
	for i, l := range list {
		if l.name == strings.ToUpper(name) {
			list[0], list[i] = list[i], list[0]
			return list, nil
		}
	}
	return nil, badListener("--set inter.broker.listener.name", fmt.Sprintf("no listener is called %s", name), "name one of listeners")
}

func orDefault(v, otherwise string) string {
	if v == "" {
		return otherwise
	}
	return v
}

func badListener(where, what, hint string) error {
	return &problem.Error{Code: "address", Class: problem.Input, Where: where, What: what, Hint: hint}
}

// protocolsOf reads listener.security.protocol.map.
func protocolsOf(set map[string]string) (map[string]protocol, error) {
	m := map[string]protocol{}
	for _, p := range []protocol{plaintext, ssl, saslPlaintext, saslSSL} {
		m[string(p)] = p
	}
	v, ok := set["listener.security.protocol.map"]
	if !ok {
		return m, nil
	}
	for _, pair := range strings.Split(v, ",") {
		name, p, ok := strings.Cut(strings.TrimSpace(pair), ":")
		switch protocol(strings.ToUpper(p)) {
		case plaintext, ssl, saslPlaintext, saslSSL:
		default:
			ok = false
		}
		if !ok || name == "" {
			return nil, badListener("--set listener.security.protocol.map", fmt.Sprintf("%q is no listener with its protocol", pair), "as in EXTERNAL:SASL_SSL; the protocols are PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL")
		}
		m[strings.ToUpper(name)] = protocol(strings.ToUpper(p))
	}
	return m, nil
}

type namedAddr struct{ name, addr string }

// parseListeners reads NAME://host:port,….
func parseListeners(where, v string) (list []namedAddr, err error) {
	names, addrs := map[string]bool{}, map[string]bool{}
	for _, one := range strings.Split(v, ",") {
		name, addr, ok := strings.Cut(strings.TrimSpace(one), "://")
		if !ok || name == "" {
			return nil, badListener(where, fmt.Sprintf("%q is no listener", one), "as in PLAINTEXT://127.0.0.1:9092")
		}
		_, port, err := splitHostPort(addr)
		if err != nil {
			return nil, badListener(where, err.Error(), "as in 127.0.0.1:9092")
		}
		name = strings.ToUpper(name)
		if names[name] || addrs[addr] && port != 0 {
			return nil, badListener(where, fmt.Sprintf("the name %s or its address is there twice", name), "give each listener its own")
		}
		names[name], addrs[addr] = true, true
		list = append(list, namedAddr{name, addr})
	}
	return list, nil
}

func advertiseAll(list []*listener, v string) error {
	const where = "--set advertised.listeners"
	named, err := parseListeners(where, v)
	if err != nil {
		return err
	}
	for _, n := range named {
		if host, port, err := splitHostPort(n.addr); err != nil || host == "" || port == 0 {
			return badListener(where, fmt.Sprintf("%q is no address that a client could use", n.addr), "as in PLAINTEXT://hub.example.org:9092")
		}
		found := false
		for _, l := range list {
			if l.name == n.name {
				l.advertised, found = n.addr, true
			}
		}
		if !found {
			return badListener(where, fmt.Sprintf("no listener %s", n.name), "advertise only what is in listeners")
		}
	}
	return nil
}

func splitHostPort(hp string) (host string, port int32, err error) {
	host, p, err := net.SplitHostPort(hp)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", hp)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q has no port between 0 and 65535", hp)
	}
	return host, int32(n), nil
}

func (a address) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	if Loopback(a.bind) {
		lc.Control = unpaced
	}
	l, err := lc.Listen(ctx, "tcp", a.bind)
	if err == nil {
		return l, nil
	}
	p := &problem.Error{Code: "listen", Class: problem.Environment, Where: a.bind, What: "cannot listen: " + err.Error(), Err: err}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		p.Code, p.What = "port-in-use", "the port is in use"
		p.Hint = "stop what listens there, or take another with --kafka; port 0 picks a free one"
	case errors.Is(err, syscall.EACCES):
		p.Hint = "ports under 1024 need rights; take another with --kafka"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		p.Hint = "the address is not one of this machine's"
	}
	return nil, p
}

// listen binds every listener.
func (b *Broker) listen(ctx context.Context) (err error) {
	for _, l := range b.listeners { // what is wrong with its security is told now, before anything is recovered
		if _, err := l.server(nil); err != nil {
			return err
		}
	}
	for _, l := range b.listeners {
		if l.l, err = l.address.listen(ctx); err != nil {
			return err
		}
	}
	return nil
}

// advertise is what clients are told: an unspecified address would send them to themselves.
func (a address) advertise(real net.Addr) (string, int32) {
	hp := a.advertised
	if hp == "" {
		hp = real.String()
	}
	host, port, err := splitHostPort(hp)
	if err != nil {
		return "127.0.0.1", 0
	}
	if ip := net.ParseIP(host); a.advertised == "" && (host == "" || ip != nil && ip.IsUnspecified()) {
		host = outwardAddress()
	}
	return host, port
}

// reached is where the node registers: the address for other nodes, and those of all its listeners when there are several.
func (b *Broker) reached() (host string, port int32, all []metadata.Endpoint) {
	host, port = b.listeners[0].advertise(b.listeners[0].l.Addr())
	if len(b.listeners) == 1 {
		return host, port, nil
	}
	for _, l := range b.listeners {
		h, p := l.advertise(l.l.Addr())
		all = append(all, metadata.Endpoint{Listener: l.name, Host: h, Port: p})
	}
	return host, port, all
}

// outwardAddress is the address by which this machine reaches others, as far as its routes tell; no packet is sent.
func outwardAddress() string {
	c, err := net.Dial("udp", "192.0.2.1:9") // TEST-NET-1, RFC 5737
	if err != nil {
		return "127.0.0.1"
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return "127.0.0.1"
	}
	return host
}

// Loopback says whether an address of the form host:port can be reached from
// this machine only. Names are resolved only when they are localhost.
func Loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// listeners are the node's, as its options say.
func (o Options) listeners() ([]*listener, error) {
	if o.TLSDir == "" {
		return resolveListeners(o.KafkaAddr, o.Set, plaintext)
	}
	list, err := resolveListeners(o.KafkaAddr, o.Set, ssl)
	if err == nil && o.Cluster != nil && !list[0].protocol.encrypted() {
		return nil, badListener("listener "+list[0].name, "is the one between nodes, and --tls-dir has nothing between nodes go in the clear",
			"name another with inter.broker.listener.name, or have it SSL or SASL_SSL by listener.security.protocol.map")
	}
	return list, err
}

// withSecrets are the properties with what --tls-dir means to listeners: it is their certificate and authority unless they have others, and
// clients have to show a certificate unless something else is said.
func (o Options) withSecrets() map[string]string {
	if o.TLSDir == "" {
		return o.Set
	}
	set := maps.Clone(o.Set)
	if set == nil {
		set = map[string]string{}
	}
	given := func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(k string) bool { _, ok := set[k]; return ok })
	}
	if !given("ssl.keystore.location", "ssl.keystore.key", "ssl.keystore.certificate.chain") {
		set["ssl.keystore.location"] = tlsdir.NodePath(o.TLSDir)
	}
	if !given("ssl.truststore.location", "ssl.truststore.certificates") {
		set["ssl.truststore.location"] = tlsdir.CAPath(o.TLSDir)
	}
	if !given("ssl.client.auth") {
		set["ssl.client.auth"] = "required"
	}
	return set
}

// Exposed finds a listener that others can reach and that does not ask them who they are; "": there is none. The error is that of
// properties which contradict each other.
func Exposed(o Options) (addr string, err error) {
	o.Set = o.withSecrets()
	list, err := o.listeners()
	if err != nil {
		return "", err
	}
	for _, l := range list {
		asks := l.protocol.authenticated() || l.protocol.encrypted() && l.clientAuth() == "required"
		if !Loopback(l.bind) && !asks {
			return l.bind, nil
		}
	}
	return "", nil
}
