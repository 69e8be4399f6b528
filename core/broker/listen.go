package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/forebayhub/forebay/internal/problem"
)

// defaultAddr is where a node listens unless it is told otherwise.
const defaultAddr = "127.0.0.1:9092"

// address is where the node listens and what it tells clients.
type address struct {
	bind       string
	advertised string // host:port; "": that of the listener
}

// resolveAddress joins --kafka with listeners and advertised.listeners.
func resolveAddress(flag string, set map[string]string) (address, error) {
	a := address{bind: flag}
	if v, ok := set["listeners"]; ok {
		hp, err := oneListener("listeners", v)
		if err != nil {
			return a, err
		}
		switch {
		case a.bind == "":
			a.bind = hp
		case a.bind != hp:
			return a, contradiction("listeners", v, "--kafka "+a.bind)
		}
	}
	if a.bind == "" {
		a.bind = defaultAddr
	}
	if _, _, err := splitHostPort(a.bind); err != nil {
		return a, &problem.Error{Code: "address", Class: problem.Input, Where: "--kafka", What: err.Error(), Hint: "as in 127.0.0.1:9092"}
	}
	if v, ok := set["advertised.listeners"]; ok {
		hp, err := oneListener("advertised.listeners", v)
		if err != nil {
			return a, err
		}
		if host, port, err := splitHostPort(hp); err != nil || host == "" || port == 0 {
			return a, &problem.Error{Code: "address", Class: problem.Input, Where: "--set advertised.listeners", What: fmt.Sprintf("%q is no address that a client could use", v), Hint: "as in PLAINTEXT://hub.example.org:9092"}
		}
		a.advertised = hp
	}
	return a, nil
}

// oneListener gives host:port of PLAINTEXT://host:port.
func oneListener(key, v string) (string, error) {
	bad := func(what, hint string) error {
		return &problem.Error{Code: "address", Class: problem.Input, Where: "--set " + key, What: what, Hint: hint}
	}
	if strings.Contains(v, ",") {
		return "", bad("one listener only", "as in PLAINTEXT://127.0.0.1:9092")
	}
	name, hp, ok := strings.Cut(v, "://")
	if !ok {
		return "", bad(fmt.Sprintf("%q is no listener", v), "as in PLAINTEXT://127.0.0.1:9092")
	}
	if !strings.EqualFold(name, "PLAINTEXT") {
		return "", bad(fmt.Sprintf("no listener %s", name), "only PLAINTEXT is there")
	}
	return hp, nil
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
