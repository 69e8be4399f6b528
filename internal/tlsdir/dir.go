// Package tlsdir is a node's folder of secrets, which `forebay tls init` makes and `--tls-dir` names:
//
//	ca.pem        the certificates that every other node's must come from
//	node.pem      this node's private key (PKCS #8, no password) and certificate chain
//	gossip.keys   the keys of gossip, one a line in base64: the first encrypts, all decrypt
//	ca.crl        certificates that are revoked; may be missing
//
// The files are loaded again when they change.
//
// A node is who has a certificate of that authority for NodeName. Which node it is nobody asks: nodes believe each other.
package tlsdir

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/reload"
)

// NodeName is the name that a certificate must be valid for to be a node's. Certificates of clients, which come from the same
// authority, are not. Nodes ask for it in place of the host that they dial: ids are stable, addresses are not.
const NodeName = "node.forebay.internal"

// The files of a node's folder.
const (
	caFile   = "ca.pem"
	nodeFile = "node.pem"
	keysFile = "gossip.keys"
)

// maxFile bounds what is read of a file.
const maxFile = 1 << 20

// Dir is a node's folder. Its methods may be called concurrently.
type Dir struct {
	path  string
	certs *reload.Value[*certs]
	keys  *reload.Value[[][]byte]

	mu    sync.Mutex
	live  map[*live]struct{}
	swept *certs // that live was last looked through with
}

// certs are what the files have.
type certs struct {
	own        *tls.Certificate
	authority  *x509.CertPool
	revoked    revoked
	peers, web *tls.Config
}

// Open reads the folder for the first time. Later files that are no good are told to the logger, and change nothing.
func Open(path string, logger *slog.Logger) (*Dir, error) {
	d := &Dir{path: path, live: map[*live]struct{}{}}
	warn := func(err error) {
		logger.Warn("a changed file of --tls-dir is not taken over; what was there before goes on to count", "err", err)
	}
	var err error
	if d.certs, err = reload.New([]string{CAPath(d.path), NodePath(d.path), CRLPath(d.path)}, d.load, warn); err != nil {
		return nil, err
	}
	d.keys, err = reload.New([]string{KeysPath(d.path)}, func() ([][]byte, error) { return LoadKeys(KeysPath(d.path)) }, warn)
	return d, err
}

// CAPath is where a folder has the authority's certificates.
func CAPath(dir string) string { return filepath.Join(dir, caFile) }

// NodePath is where a folder has the node's key and certificate chain.
func NodePath(dir string) string { return filepath.Join(dir, nodeFile) }

// KeysPath is where a folder has gossip's keys.
func KeysPath(dir string) string { return filepath.Join(dir, keysFile) }

// Owns says whether the paths of a certificate and of an authority are this folder's.
func (d *Dir) Owns(node, ca string) bool { return node == NodePath(d.path) && ca == CAPath(d.path) }

// GossipKeys are the keys of gossip; the first encrypts.
func (d *Dir) GossipKeys() [][]byte { return d.keys.Get() }

// Expires is when this node's certificate ends.
func (d *Dir) Expires() time.Time { return d.certs.Get().own.Leaf.NotAfter }

func (d *Dir) load() (*certs, error) {
	text, err := read(NodePath(d.path))
	if err != nil {
		return nil, err
	}
	own, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, bad(NodePath(d.path), err.Error(), "a private key without a password and its certificate chain, in PEM; `forebay tls init` makes one")
	}
	if text, err = read(CAPath(d.path)); err != nil {
		return nil, err
	}
	c := &certs{own: &own, authority: x509.NewCertPool()}
	if !c.authority.AppendCertsFromPEM(text) {
		return nil, bad(CAPath(d.path), "there is no certificate in it", "certificates in PEM")
	}
	if c.revoked, err = loadRevoked(CRLPath(d.path), parseCertificates(text)); err != nil {
		return nil, err
	}
	// Whoever would be refused by all others hears it here, and not as a failed handshake.
	chain := []*x509.Certificate{own.Leaf}
	for _, der := range own.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, bad(NodePath(d.path), err.Error(), "")
		}
		chain = append(chain, cert)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := c.node(chain, use); err != nil {
			return nil, bad(NodePath(d.path), err.Error(), "other nodes would refuse it: it has to come from "+caFile+", for the name "+NodeName+", servers and clients")
		}
	}
	c.peers = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ClientCAs: c.authority, ClientAuth: tls.RequireAndVerifyClientCert,
		SessionTicketsDisabled: true, // each connection is looked at anew
		VerifyConnection:       func(s tls.ConnectionState) error { return c.node(s.PeerCertificates, x509.ExtKeyUsageClientAuth) },
	}
	c.web = &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{own}, ClientCAs: c.authority, ClientAuth: tls.VerifyClientCertIfGiven,
		NextProtos: []string{"http/1.1"}, VerifyConnection: c.whole,
	}
	return c, nil
}

// node says whether a chain of certificates is a node's.
func (c *certs) node(chain []*x509.Certificate, use x509.ExtKeyUsage) error {
	if len(chain) == 0 {
		return errors.New("there is no certificate")
	}
	o := x509.VerifyOptions{Roots: c.authority, Intermediates: x509.NewCertPool(), DNSName: NodeName, KeyUsages: []x509.ExtKeyUsage{use}}
	for _, cert := range chain[1:] {
		o.Intermediates.AddCert(cert)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return err
	}
	return c.revoked.refuse(chain)
}

// whole refuses a connection whose other side shows a revoked certificate; the rest of it TLS itself looks at.
func (c *certs) whole(s tls.ConnectionState) error { return c.revoked.refuse(s.PeerCertificates) }

// IsNode says whether a client's chain of certificates is a node's.
func (d *Dir) IsNode(chain []*x509.Certificate) bool {
	return d.certs.Get().node(chain, x509.ExtKeyUsageClientAuth) == nil
}

// Server is the side of TLS that nodes come to: only they get through, with TLS 1.3.
func (d *Dir) Server() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return d.certs.Get().peers, nil }}
}

// Client is the side of TLS by which this node comes to others, as the files have it now.
func (d *Dir) Client() *tls.Config {
	c := d.certs.Get()
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*c.own}, RootCAs: c.authority, ServerName: NodeName, VerifyConnection: c.whole}
}

// Web is the side of TLS that people and tools come to: one who shows a certificate has one of the authority's.
func (d *Dir) Web() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return d.certs.Get().web, nil }}
}

// HTTP is how this node asks others' Web: by http:// addresses, as one without secrets would, and never but over TLS.
func (d *Dir) HTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return (&tls.Dialer{Config: d.Client()}).DialContext(ctx, network, addr)
		},
		MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
	}}
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFile {
		return nil, bad(path, fmt.Sprintf("%d bytes are too many", info.Size()), "")
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		return nil, &problem.Error{Code: "tls-dir", Class: problem.Input, Where: path, What: pe.Err.Error(), Hint: "`forebay tls init` makes such a folder for each node", Err: err}
	}
	return text, err
}

func bad(path, what, hint string) error {
	return &problem.Error{Code: "tls-dir", Class: problem.Input, Where: path, What: what, Hint: hint}
}
