package tlsdir

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// crlFile lists the certificates that the authority has taken back (RFC 5280, in PEM). Without it there are none. Who is in it is no node, no client, and nobody to
// come to; the list counts however old it is.
const crlFile = "ca.crl"

// CRLPath is where a folder has the list of revoked certificates.
func CRLPath(dir string) string { return filepath.Join(dir, crlFile) }

// ClientPath is where a client's folder has its key and certificate chain.
func ClientPath(dir string) string { return filepath.Join(dir, clientFile) }

// ErrRevoked is the answer to who shows a certificate that was taken back.
var ErrRevoked = errors.New("the certificate is revoked")

// revoked are certificates by issuer and serial number.
type revoked map[string]struct{}

func revokedKey(issuer []byte, serial *big.Int) string {
	return string(issuer) + "\x00" + serial.String()
}

func (r revoked) refuse(chain []*x509.Certificate) error {
	for _, cert := range chain {
		if _, is := r[revokedKey(cert.RawIssuer, cert.SerialNumber)]; is {
			return fmt.Errorf("%w: %s, serial number %x", ErrRevoked, cert.Subject, cert.SerialNumber)
		}
	}
	return nil
}

// loadRevoked reads the lists of a file; each must be signed by one of the authorities.
func loadRevoked(path string, authorities []*x509.Certificate) (revoked, error) {
	r := revoked{}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	lists, err := readLists(path, authorities)
	for _, l := range lists {
		for _, e := range l.RevokedCertificateEntries {
			r[revokedKey(l.RawIssuer, e.SerialNumber)] = struct{}{}
		}
	}
	return r, err
}

func readLists(path string, authorities []*x509.Certificate) (lists []*x509.RevocationList, err error) {
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		l, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, bad(path, err.Error(), "a list of revoked certificates in PEM; `forebay tls revoke` makes one")
		}
		signed := false
		for _, ca := range authorities {
			signed = signed || l.CheckSignatureFrom(ca) == nil
		}
		if !signed {
			return nil, bad(path, "no authority of "+caFile+" has signed it", "`forebay tls revoke` makes one")
		}
		lists = append(lists, l)
	}
	if len(lists) == 0 {
		return nil, bad(path, "there is no list of revoked certificates in it", "`forebay tls revoke` makes one; without the file none is revoked")
	}
	return lists, nil
}

func parseCertificates(text []byte) (list []*x509.Certificate) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			list = append(list, cert)
		}
	}
	return list
}

// Revoke adds the certificates that lie in files to the list of the authority in dir, and writes the list into dir and into the folders in it that have an
// authority. Given back are those that have it now.
func Revoke(dir string, files []string) (folders []string, err error) {
	if _, err := os.Stat(filepath.Join(dir, caKeyFile)); err != nil {
		return nil, bad(filepath.Join(dir, caKeyFile), "there is no authority's key here", "revoke where `forebay tls init` was run")
	}
	a, _, err := openAuthority(dir)
	if err != nil {
		return nil, err
	}
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: a.cert.NotAfter}
	at := CRLPath(dir)
	var others []byte // of authorities that are about to go
	if _, err := os.Stat(at); err == nil {
		lists, err := readLists(at, parseCertificates(a.pem))
		if err != nil {
			return nil, err
		}
		for _, l := range lists {
			if l.CheckSignatureFrom(a.cert) == nil {
				list.Number = new(big.Int).Add(l.Number, big.NewInt(1))
				list.RevokedCertificateEntries = l.RevokedCertificateEntries
			} else {
				others = append(others, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: l.Raw})...)
			}
		}
	}
	for _, path := range files {
		text, err := read(path)
		if err != nil {
			return nil, err
		}
		certs := parseCertificates(text)
		if len(certs) == 0 {
			return nil, bad(path, "there is no certificate in it", "give the PEM file of the certificate")
		}
		if err := certs[0].CheckSignatureFrom(a.cert); err != nil {
			return nil, bad(path, "this authority has not made it: "+err.Error(), "")
		}
		if (revoked{}).with(list).refuse(certs[:1]) == nil {
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: certs[0].SerialNumber, RevocationTime: time.Now()})
		}
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		return nil, err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), others...)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	folders = []string{dir}
	for _, e := range entries {
		if _, err := os.Stat(CAPath(filepath.Join(dir, e.Name()))); e.IsDir() && err == nil {
			folders = append(folders, filepath.Join(dir, e.Name()))
		}
	}
	for _, f := range folders {
		temp := filepath.Join(f, "."+crlFile+".new")
		if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err := writeNew(temp, text, 0o644); err != nil {
			return nil, err
		}
		if err := os.Rename(temp, CRLPath(f)); err != nil {
			return nil, err
		}
	}
	return folders, nil
}

func (r revoked) with(l *x509.RevocationList) revoked {
	for _, e := range l.RevokedCertificateEntries {
		r[revokedKey(l.RawIssuer, e.SerialNumber)] = struct{}{}
	}
	return r
}

// live is a connection to or from whoever has shown a chain of certificates.
type live struct {
	conn  net.Conn
	chain []*x509.Certificate
}

// Refuse is ErrRevoked when one of a chain's certificates was taken back. The chain has been verified.
func (d *Dir) Refuse(chain []*x509.Certificate) error { return d.certs.Get().revoked.refuse(chain) }

// Watch has a connection closed when a certificate that its other side has shown is taken back, until forget is called.
func (d *Dir) Watch(c net.Conn, chain []*x509.Certificate) (forget func()) {
	l := &live{c, chain}
	d.mu.Lock()
	d.live[l] = struct{}{}
	d.mu.Unlock()
	if d.Refuse(chain) != nil { // it was while they shook hands
		_ = c.Close() // whoever is on it hears so
	}
	return func() {
		d.mu.Lock()
		delete(d.live, l)
		d.mu.Unlock()
	}
}

// Hold is Watch for a connection that has shaken hands, until it is closed.
func (d *Dir) Hold(t *tls.Conn) net.Conn {
	return &held{t, d.Watch(t.NetConn(), t.ConnectionState().PeerCertificates)}
}

type held struct {
	*tls.Conn
	forget func()
}

func (h *held) Close() error {
	h.forget()
	return h.Conn.Close()
}

// CloseRevoked closes the connections of those whose certificates were taken back since the last call, and says how many.
func (d *Dir) CloseRevoked() (n int) {
	now := d.certs.Get()
	var closing []net.Conn
	d.mu.Lock()
	if d.swept != now {
		for l := range d.live {
			if now.revoked.refuse(l.chain) != nil {
				closing = append(closing, l.conn)
				delete(d.live, l)
			}
		}
		d.swept = now
	}
	d.mu.Unlock()
	for _, c := range closing {
		_ = c.Close() // whoever is on it hears so
	}
	return len(closing)
}
