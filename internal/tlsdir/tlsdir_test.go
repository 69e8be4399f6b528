package tlsdir

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/problem"
)

var quiet = slog.New(slog.DiscardHandler)

func plan(dir string, nodes ...string) Plan {
	p := Plan{Dir: dir, Days: 10}
	for _, n := range nodes {
		p.Nodes = append(p.Nodes, Node{n, []string{"localhost", "127.0.0.1"}})
	}
	return p
}

func initialize(t *testing.T, p Plan) Made {
	t.Helper()
	made, err := Init(p)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func open(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// meet shakes hands between two sides, and gives what each of them says about it.
func meet(t *testing.T, server, client *tls.Config) (atServer, atClient error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		s := tls.Server(a, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		done <- err
	}()
	c := tls.Client(b, client)
	_, atClient = c.Read(make([]byte, 1)) // with TLS 1.3 a client hears only here that it was refused
	if atClient != nil {
		_ = b.Close() // the other side may still be writing
	}
	return <-done, atClient
}

// Two nodes meet, also one that was added later; a client of the same authority, a stranger and somebody with nothing do not.
func TestNodesMeet(t *testing.T) {
	dir := t.TempDir()
	made := initialize(t, plan(dir, "n1", "n2"))
	if !made.Authority || len(made.Folders) != 2 || made.Folders[1] != filepath.Join(dir, "n2") {
		t.Errorf("%+v", made)
	}
	later := plan(dir, "n3")
	later.Clients = []string{"alice"}
	if made := initialize(t, later); made.Authority || len(made.Folders) != 2 {
		t.Errorf("%+v", made)
	}
	one, three := open(t, filepath.Join(dir, "n1")), open(t, filepath.Join(dir, "n3"))
	if a, b := meet(t, one.Server(), three.Client()); a != nil || b != nil {
		t.Errorf("nodes do not meet: %v, %v", a, b)
	}
	if string(one.GossipKeys()[0]) != string(three.GossipKeys()[0]) {
		t.Error("a node that was added later has another key of gossip")
	}
	if left := time.Until(one.Expires()); left < 9*24*time.Hour || left > 11*24*time.Hour {
		t.Errorf("the certificate lasts %v", left)
	}

	other := t.TempDir()
	initialize(t, plan(other, "n1"))
	stranger := open(t, filepath.Join(other, "n1"))
	alice := one.Client()
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "alice", "client.pem"), filepath.Join(dir, "alice", "client.pem"))
	if err != nil {
		t.Fatal(err)
	}
	alice.Certificates = []tls.Certificate{cert}
	nobody, trusting, old := one.Client(), stranger.Client(), three.Client()
	nobody.Certificates = nil
	trusting.RootCAs = one.Client().RootCAs
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for who, c := range map[string]*tls.Config{"a client": alice, "nobody": nobody, "a stranger": trusting, "TLS 1.2": old} {
		if a, b := meet(t, one.Server(), c); a == nil || b == nil {
			t.Errorf("%s came in: %v, %v", who, a, b)
		}
	}
	if _, err := meet(t, stranger.Server(), one.Client()); err == nil {
		t.Error("a node went to a stranger")
	}
	if one.IsNode([]*x509.Certificate{cert.Leaf}) || one.IsNode(nil) {
		t.Error("a client is taken for a node")
	}
	if a, b := meet(t, one.Web(), alice.Clone()); a != nil || b != nil {
		t.Errorf("a client does not reach the web: %v, %v", a, b)
	}
	if a, b := meet(t, one.Web(), nobody.Clone()); a != nil || b != nil {
		t.Errorf("one without a certificate does not reach the web: %v, %v", a, b)
	}
	if a, _ := meet(t, one.Web(), trusting.Clone()); a == nil {
		t.Error("a stranger's certificate is taken on the web")
	}
}

// Nothing is overwritten, and keys are their owner's alone.
func TestInitKeeps(t *testing.T) {
	dir := t.TempDir()
	p := plan(dir, "n1")
	p.Clients = []string{"alice"}
	initialize(t, p)
	before := contents(t, dir)
	for path := range before {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); filepath.Base(path) != "ca.pem" && mode != 0o600 {
			t.Errorf("%s has the mode %o", path, mode)
		}
	}
	for what, p := range map[string]Plan{
		"a node again":         plan(dir, "n1"),
		"one new, one old":     plan(dir, "n2", "n1"),
		"a client again":       {Dir: dir, Clients: []string{"alice"}, Days: 1},
		"twice":                plan(dir, "n3", "n3"),
		"out of the folder":    plan(dir, "../n3"),
		"a file's name":        plan(dir, "ca.key"),
		"no host":              {Dir: dir, Nodes: []Node{{Name: "n3"}}, Days: 1},
		"a port":               {Dir: dir, Nodes: []Node{{"n3", []string{"localhost:9092"}}}, Days: 1},
		"no days":              {Dir: dir, Clients: []string{"bob"}},
		"renewing what is not": {Dir: dir, Clients: []string{"bob"}, Days: 1, Renew: true},
	} {
		_, err := Init(p)
		var u *problem.Error
		if !errors.As(err, &u) || u.Class != problem.Input {
			t.Errorf("%s: %v", what, err)
		}
	}
	after := contents(t, dir)
	if len(after) != len(before) {
		t.Errorf("files before %d, after %d", len(before), len(after))
	}
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s was overwritten", path)
		}
	}

	d := open(t, filepath.Join(dir, "n1"))
	p = plan(dir, "n1")
	p.Renew, p.Days = true, 20
	initialize(t, p)
	for path, text := range contents(t, dir) {
		if changed := text != before[path]; changed != (path == NodePath(d.path)) {
			t.Errorf("--renew: %s changed: %v", path, changed)
		}
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var text []byte
			text, err = os.ReadFile(path)
			m[path] = string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A folder that other nodes would refuse is refused at the start, with words.
func TestOpenRefuses(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	p := plan(dir, "n1")
	p.Clients = []string{"alice"}
	initialize(t, p)
	initialize(t, plan(other, "n1"))
	copied := func(from, to string) func(string) error {
		return func(at string) error {
			text, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(at, to), text, 0o600)
		}
	}
	for want, change := range map[string]func(at string) error{
		"no such file":                          func(at string) error { return os.Remove(filepath.Join(at, nodeFile)) },
		"unknown authority":                     copied(filepath.Join(other, "ca.pem"), caFile),
		"wanted to match node.forebay.internal": copied(filepath.Join(dir, "alice", "client.pem"), nodeFile),
		"no certificate in it":                  func(at string) error { return os.WriteFile(filepath.Join(at, caFile), []byte("x"), 0o600) },
		"failed to find any PEM data":           func(at string) error { return os.WriteFile(filepath.Join(at, nodeFile), nil, 0o600) },
		"line 2 is not 16": func(at string) error {
			return os.WriteFile(filepath.Join(at, keysFile), []byte("# a\nc2VjcmV0\n"), 0o600)
		},
		"bytes are too many": func(at string) error { return os.Truncate(filepath.Join(at, caFile), maxFile+1) },
	} {
		at := filepath.Join(t.TempDir(), "n1")
		if err := os.CopyFS(at, os.DirFS(filepath.Join(dir, "n1"))); err != nil {
			t.Fatal(err)
		}
		if err := change(at); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(at, quiet); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A certificate and keys that are replaced are used without a restart.
func TestReplaced(t *testing.T) {
	dir := t.TempDir()
	initialize(t, plan(dir, "n1", "n2"))
	d := open(t, filepath.Join(dir, "n1"))
	two := open(t, filepath.Join(dir, "n2"))
	server, before := two.Server(), d.Client().Certificates[0].Leaf.SerialNumber
	p := plan(dir, "n1")
	p.Renew = true
	initialize(t, p)
	until(t, "the new certificate", func() bool { return d.Client().Certificates[0].Leaf.SerialNumber.Cmp(before) != 0 })
	if a, b := meet(t, server, d.Client()); a != nil || b != nil {
		t.Errorf("after --renew: %v, %v", a, b)
	}
	// Another authority beside the first: from then on who has come from either comes in.
	other := t.TempDir()
	initialize(t, plan(other, "n9"))
	nine := open(t, filepath.Join(other, "n9")).Client()
	nine.RootCAs = d.Client().RootCAs
	if a, _ := meet(t, server, nine); a == nil {
		t.Fatal("a stranger came in")
	}
	text, err := os.ReadFile(filepath.Join(other, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(CAPath(two.path), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "the other authority", func() bool { a, _ := meet(t, server, nine); return a == nil })
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(20 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("not within 20 s: " + what)
		}
	}
}

// FuzzParseKeys: any text gives keys that can be used, or an error that shows none of it.
func FuzzParseKeys(f *testing.F) {
	f.Add("# old\n\nAAECAwQFBgcICQoLDA0ODw==\n")
	f.Add("AAECAwQFBgcICQoLDA0ODw==\nAAECAwQFBgcICQoLDA0ODw==")
	f.Add("\x00\xff=\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParseKeys(text)
		if err != nil {
			if len(keys) != 0 || !strings.HasPrefix(err.Error(), "line ") && !strings.HasPrefix(err.Error(), "there ") {
				t.Errorf("%d keys with %v", len(keys), err)
			}
			return
		}
		if len(keys) == 0 || len(keys) > maxKeys {
			t.Errorf("%d keys", len(keys))
		}
		for _, k := range keys {
			if n := len(k); n != 16 && n != 24 && n != 32 {
				t.Errorf("a key of %d bytes", n)
			}
		}
	})
}

// A certificate that is taken back is no node's any more, in either direction, and its connections end; others go on. A list that the authority has not signed changes nothing,
// and folders that are made later have the list.
func TestRevoked(t *testing.T) {
	dir := t.TempDir()
	p := plan(dir, "n1", "n2", "n3")
	initialize(t, p)
	one, two, three := open(t, filepath.Join(dir, "n1")), open(t, filepath.Join(dir, "n2")), open(t, filepath.Join(dir, "n3"))
	well := func(a, b *Dir) bool {
		atServer, atClient := meet(t, a.Server(), b.Client())
		return atServer == nil && atClient == nil
	}
	if !well(one, three) || !well(three, one) {
		t.Fatal("nodes do not meet")
	}
	chain := func(d *Dir) []*x509.Certificate { return []*x509.Certificate{d.certs.Get().own.Leaf} }
	here, there := net.Pipe()
	defer here.Close()
	stays, other := net.Pipe()
	defer stays.Close()
	defer one.Watch(there, chain(three))()
	defer one.Watch(other, chain(two))()
	if n := one.CloseRevoked(); n != 0 {
		t.Errorf("%d connections were closed", n)
	}

	foreign := t.TempDir()
	initialize(t, plan(foreign, "n1"))
	if _, err := Revoke(foreign, []string{NodePath(filepath.Join(foreign, "n1"))}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(CRLPath(foreign))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(CRLPath(filepath.Join(dir, "n2")), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "n2"), quiet); err == nil || !strings.Contains(err.Error(), "no authority") {
		t.Errorf("a list that another authority has signed: %v", err)
	}
	if _, err := Revoke(dir, []string{NodePath(filepath.Join(foreign, "n1"))}); err == nil {
		t.Error("another authority's certificate was revoked")
	}

	for range 2 { // twice is once
		if _, err := Revoke(dir, []string{NodePath(filepath.Join(dir, "n3"))}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the list counts", func() bool {
		return errors.Is(one.Refuse(chain(three)), ErrRevoked) && errors.Is(two.Refuse(chain(three)), ErrRevoked)
	})
	if one.IsNode(chain(three)) || !one.IsNode(chain(two)) {
		t.Error("who is a node is not as the list says")
	}
	// The revoked node has no such list: only the others can know.
	if err := os.Remove(CRLPath(filepath.Join(dir, "n3"))); err != nil {
		t.Fatal(err)
	}
	if well(one, three) || well(three, one) {
		t.Error("a revoked node is met")
	}
	if !well(one, two) || !well(two, one) {
		t.Error("nodes that are not revoked do not meet any more")
	}
	if n := one.CloseRevoked(); n != 1 {
		t.Errorf("%d connections were closed, of one", n)
	}
	if _, err := here.Read(make([]byte, 1)); err == nil {
		t.Error("the revoked node's connection goes on")
	}
	go func() { _, _ = other.Write([]byte{1}) }() // its error is the reader's
	if _, err := stays.Read(make([]byte, 1)); err != nil {
		t.Errorf("the other's connection has ended: %v", err)
	}
	late, far := net.Pipe()
	defer late.Close()
	defer one.Watch(far, chain(three))()
	if _, err := late.Read(make([]byte, 1)); err == nil {
		t.Error("a connection that shook hands before the list came, and was told of after it, goes on")
	}

	initialize(t, plan(dir, "n4"))
	four := open(t, filepath.Join(dir, "n4"))
	if !errors.Is(four.Refuse(chain(three)), ErrRevoked) {
		t.Error("a folder that was made later does not have the list")
	}
	// Renewed, the node is one again.
	p = plan(dir, "n3")
	p.Renew = true
	initialize(t, p)
	if !well(one, open(t, filepath.Join(dir, "n3"))) {
		t.Error("a node with a new certificate is not met")
	}
}
