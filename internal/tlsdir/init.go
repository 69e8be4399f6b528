package tlsdir

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// The files beside the folders of nodes and clients.
const (
	caKeyFile  = "ca.key"
	clientFile = "client.pem"
	propsFile  = "client.properties"
)

const (
	caDays = 3650
	// backdate is how far a certificate reaches into the past: clocks differ.
	backdate = time.Hour
)

// Plan is what Init is to make.
type Plan struct {
	Dir     string // of the authority; it gets a folder for each node and client
	Nodes   []Node
	Clients []string
	Days    int  // how long a node's or client's certificate lasts
	Renew   bool // makes certificates anew where there are some
}

// Node is a node to make a certificate for.
type Node struct {
	Name  string   // of its folder, and in its certificate; the cluster gives it no meaning
	Hosts []string // names and addresses that clients reach it by
}

var folderName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// check finds what is wrong with a plan before anything is written.
func (p Plan) check() error {
	if p.Days < 1 || p.Days > caDays {
		return bad("--days", fmt.Sprintf("%d days", p.Days), fmt.Sprintf("1 to %d", caDays))
	}
	seen := map[string]bool{}
	one := func(name, file string) error {
		if !folderName.MatchString(name) {
			return bad(name, "cannot be a folder's name", "letters, digits, dot, _ and -, at most 63")
		}
		if seen[name] || name == caFile || name == caKeyFile || name == keysFile {
			return bad(name, "the name is taken", "give each node and client its own")
		}
		seen[name] = true
		_, err := os.Lstat(filepath.Join(p.Dir, name, file))
		switch {
		case err == nil && !p.Renew:
			return bad(filepath.Join(p.Dir, name), "is there already, and nothing is overwritten", "--renew makes its certificate anew")
		case errors.Is(err, fs.ErrNotExist) && p.Renew:
			return bad(filepath.Join(p.Dir, name), "there is no certificate to make anew", "leave --renew out")
		}
		return nil
	}
	for _, n := range p.Nodes {
		if err := one(n.Name, nodeFile); err != nil {
			return err
		}
		if len(n.Hosts) == 0 {
			return bad(n.Name, "has no host", "give the names and addresses that clients reach it by: --host HOST,…")
		}
		for _, h := range n.Hosts {
			if net.ParseIP(h) == nil && !hostName.MatchString(h) {
				return bad(n.Name, fmt.Sprintf("%q is neither a host's name nor an address", h), "without a port")
			}
		}
	}
	for _, c := range p.Clients {
		if err := one(c, clientFile); err != nil {
			return err
		}
	}
	return nil
}

var hostName = regexp.MustCompile(`^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$`)

// Made is what Init has written.
type Made struct {
	Authority bool     // the authority is new
	Folders   []string // of nodes and clients, in the plan's order
}

// Init makes an authority where there is none, and what the plan names. Private keys can be read by their owner alone. Nothing that is there is
// overwritten, unless Renew says so, and then a certificate is replaced in one step.
func Init(p Plan) (Made, error) {
	var made Made
	if err := p.check(); err != nil {
		return made, err
	}
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return made, err
	}
	ca, fresh, err := openAuthority(p.Dir)
	if err != nil {
		return made, err
	}
	made.Authority = fresh
	for _, n := range p.Nodes {
		folder, err := ca.node(p, n)
		if err != nil {
			return made, err
		}
		made.Folders = append(made.Folders, folder)
	}
	for _, c := range p.Clients {
		folder, err := ca.client(p, c)
		if err != nil {
			return made, err
		}
		made.Folders = append(made.Folders, folder)
	}
	return made, nil
}

// authority signs.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte // ca.pem, whatever else an operator has put into it
	keys []byte // gossip.keys
	crl  []byte // ca.crl; nil: there is none
}

// openAuthority reads an authority, or makes one.
func openAuthority(dir string) (*authority, bool, error) {
	certPath, keyPath, keysPath := filepath.Join(dir, caFile), filepath.Join(dir, caKeyFile), filepath.Join(dir, keysFile)
	_, certErr := os.Lstat(certPath)
	_, keyErr := os.Lstat(keyPath)
	fresh := errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist)
	if fresh {
		if err := makeAuthority(certPath, keyPath); err != nil {
			return nil, false, err
		}
	}
	if _, err := os.Lstat(keysPath); errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		if err := writeNew(keysPath, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
			return nil, false, err
		}
	}
	a := &authority{}
	var err error
	if a.pem, err = read(certPath); err != nil {
		return nil, false, err
	}
	if _, err := os.Lstat(CRLPath(dir)); err == nil {
		if a.crl, err = read(CRLPath(dir)); err != nil {
			return nil, false, err
		}
	}
	keyText, err := read(keyPath)
	if err != nil {
		return nil, false, err
	}
	if _, err := LoadKeys(keysPath); err != nil {
		return nil, false, err
	}
	if a.keys, err = read(keysPath); err != nil {
		return nil, false, err
	}
	block, _ := pem.Decode(keyText)
	if block == nil {
		return nil, false, bad(keyPath, "there is no private key in it", "")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, false, bad(keyPath, err.Error(), "")
	}
	a.key, _ = key.(*ecdsa.PrivateKey)
	for rest := a.pem; a.key != nil; {
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		// The one that belongs to the key: beside it may stand older and newer ones, while an authority is replaced.
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && a.key.PublicKey.Equal(cert.PublicKey) {
			a.cert = cert
			return a, fresh, nil
		}
	}
	return nil, false, bad(keyPath, "is not the key of a certificate in "+caFile, "")
}

func makeAuthority(certPath, keyPath string) error {
	cert := &x509.Certificate{
		Subject: pkix.Name{CommonName: "forebay authority"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a := authority{}
	key, text, err := a.sign(cert, caDays)
	if err != nil {
		return err
	}
	if err := writeNew(keyPath, key, 0o600); err != nil {
		return err
	}
	return writeNew(certPath, text, 0o644)
}

// node makes a node's folder, and returns it.
func (a *authority) node(p Plan, n Node) (string, error) {
	cert := &x509.Certificate{
		Subject: pkix.Name{CommonName: n.Name}, KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{NodeName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range n.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else {
			cert.DNSNames = append(cert.DNSNames, h)
		}
	}
	key, text, err := a.sign(cert, p.Days)
	if err != nil {
		return "", err
	}
	return p.folder(n.Name, a.known(file{keysFile, a.keys, 0o600}), file{nodeFile, append(key, text...), 0o600})
}

// client makes a client's folder, with the properties that Kafka's tools and ours take.
func (a *authority) client(p Plan, name string) (string, error) {
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	key, text, err := a.sign(cert, p.Days)
	if err != nil {
		return "", err
	}
	at, err := filepath.Abs(filepath.Join(p.Dir, name))
	if err != nil {
		return "", err
	}
	props := "# The paths are those of this machine: change them where the folder is copied to.\n" +
		"security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.location=" + filepath.Join(at, clientFile) +
		"\nssl.truststore.type=PEM\nssl.truststore.location=" + filepath.Join(at, caFile) + "\n"
	return p.folder(name, a.known(file{propsFile, []byte(props), 0o600}), file{clientFile, append(key, text...), 0o600})
}

// known is what every folder has of the authority, and more.
func (a *authority) known(more file) []file {
	list := []file{{caFile, a.pem, 0o644}, more}
	if a.crl != nil {
		list = append(list, file{crlFile, a.crl, 0o644})
	}
	return list
}

type file struct {
	name string
	text []byte
	mode fs.FileMode
}

// folder writes a folder of files. The certificate is the last one: a folder that has it is whole.
func (p Plan) folder(name string, others []file, certificate file) (string, error) {
	dir := filepath.Join(p.Dir, name)
	if p.Renew {
		temp := filepath.Join(dir, "."+certificate.name+".new")
		if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err := writeNew(temp, certificate.text, certificate.mode); err != nil {
			return "", err
		}
		return dir, os.Rename(temp, filepath.Join(dir, certificate.name))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	for _, f := range append(others, certificate) {
		if err := writeNew(filepath.Join(dir, f.name), f.text, f.mode); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// sign makes a key and its certificate, both in PEM; an authority without a certificate signs its own.
func (a *authority) sign(cert *x509.Certificate, days int) (key, text []byte, err error) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if cert.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, nil, err
	}
	now := time.Now()
	cert.NotBefore, cert.NotAfter = now.Add(-backdate), now.AddDate(0, 0, days)
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = cert, own
	} else if cert.NotAfter.After(parent.NotAfter) {
		cert.NotAfter = parent.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &own.PublicKey, by)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// writeNew writes a file that must not be there.
func writeNew(path string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return bad(path, "is there already, and nothing is overwritten", "")
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
