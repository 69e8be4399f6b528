package broker

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/forebayhub/forebay/core/membership"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/internal/tlsdir"
)

// secrets makes an authority for nodes n1, n2, n3 and a client alice, and gives its folder.
func secrets(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	p := tlsdir.Plan{Dir: dir, Clients: []string{"alice"}, Days: 1}
	for i := range 3 {
		p.Nodes = append(p.Nodes, tlsdir.Node{Name: fmt.Sprint("n", i+1), Hosts: []string{"127.0.0.1"}})
	}
	if _, err := tlsdir.Init(p); err != nil {
		t.Fatal(err)
	}
	return dir
}

// threeSecured are three nodes of an authority, with ACLs on and no right given to nodes.
func threeSecured(t *testing.T, dir string) []Options {
	t.Helper()
	options := three(t)
	for i := range options {
		options[i].TLSDir = filepath.Join(dir, fmt.Sprint("n", i+1))
		options[i].Set = map[string]string{
			"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:CN=alice",
		}
	}
	return options
}

func asAlice(t *testing.T, dir string, nodes []*node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c := clientTLS(t, filepath.Join(dir, "alice", "ca.pem"), filepath.Join(dir, "alice", "client.pem"))
	cl, err := kgo.NewClient(append(opts, seeds(nodes), kgo.DialTLSConfig(c))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// Everything between nodes is behind certificates and keys, nodes need no right of their own, and who has no certificate does not get in
// anywhere.
func TestClusterOfCertificates(t *testing.T) {
	dir := secrets(t)
	options := threeSecured(t, dir)
	nodes := startAll(t, options)
	ctx := within(t, time.Minute)
	cl := asAlice(t, dir, nodes, kgo.TransactionalID("tx"))
	replicate(ctx, t, nodes, cl, 5)

	// A node with the key of gossip and a certificate of its own making, and one with nothing.
	other := secrets(t)
	key, err := os.ReadFile(tlsdir.KeysPath(options[0].TLSDir))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tlsdir.KeysPath(filepath.Join(other, "n3")), key, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, folder := range map[string]string{"another authority's": filepath.Join(other, "n3"), "nobody's": ""} {
		o := Options{
			NodeID: 4, DataDir: t.TempDir(), KafkaAddr: "127.0.0.1:0", TLSDir: folder,
			Cluster: &Cluster{Peer: "127.0.0.1:0", Gossip: "127.0.0.1:0", Join: []string{options[0].Cluster.Gossip}, Expect: 3},
		}
		short, cancel := context.WithTimeout(ctx, 3*time.Second)
		b, err := Open(short, o)
		cancel()
		if err == nil {
			t.Errorf("%s node came in", what)
			_ = b.Close() // it should not be there
		} else if p := (*problem.Error)(nil); !errors.As(err, &p) || p.Code != "no-cluster" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := len(nodes[0].quorum.Image().Nodes); n != 3 {
		t.Errorf("%d nodes", n)
	}
	for _, n := range nodes {
		voters, others, err := n.quorum.Members()
		if err != nil || len(voters) != 3 || len(others) != 0 {
			t.Errorf("the metadata quorum: %v %v %v", voters, others, err)
		}
	}
	// A client that may nothing is not taken for a node although it has a certificate of the authority.
	if _, err := tlsdir.Init(tlsdir.Plan{Dir: dir, Clients: []string{"bob"}, Days: 1}); err != nil {
		t.Fatal(err)
	}
	bob, err := kgo.NewClient(seeds(nodes), kgo.DialTLSConfig(clientTLS(t, filepath.Join(dir, "bob", "ca.pem"), filepath.Join(dir, "bob", "client.pem"))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bob.Close)
	if err := bob.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("v")}).FirstErr(); err == nil || !strings.Contains(err.Error(), "AUTHORIZATION") {
		t.Errorf("bob: %v", err)
	}
}

// Certificates, the authority and the key of gossip are all replaced while records flow; nobody is fenced and nothing fails.
func TestRotation(t *testing.T) {
	dir := secrets(t)
	options := threeSecured(t, dir)
	nodes := startAll(t, options)
	ctx := within(t, time.Minute)
	cl := asAlice(t, dir, nodes, kgo.ProducerLinger(0))
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 3, 3, map[string]*string{"min.insync.replicas": kadm.StringPtr("2")}, "orders"); err != nil {
		t.Fatal(err)
	}
	epochs := func() (list []int64) {
		for id := metadata.NodeID(1); id <= 3; id++ {
			list = append(list, nodes[0].quorum.Image().Nodes[id].Epoch)
		}
		return list
	}
	before := epochs()
	flowing, stop := context.WithCancel(ctx)
	var sent atomic.Int64
	ended := make(chan error, 1)
	go func() {
		for {
			if err := cl.ProduceSync(flowing, &kgo.Record{Topic: "orders", Value: []byte("v")}).FirstErr(); err != nil {
				if flowing.Err() != nil {
					err = nil
				}
				ended <- err
				return
			}
			sent.Add(1)
		}
	}()
	each := func(change func(folder string)) {
		for _, o := range options {
			change(o.TLSDir)
		}
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	// The key of gossip, step by step as docs/security.md has it.
	old := strings.TrimSpace(read(tlsdir.KeysPath(dir)))
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	fresh := base64.StdEncoding.EncodeToString(raw)
	primary := func(key string, count int) func() bool {
		return func() bool {
			return !slices.ContainsFunc(nodes, func(n *node) bool {
				keys := n.members.Keys()
				return len(keys) != count || base64.StdEncoding.EncodeToString(keys[0]) != key
			})
		}
	}
	for _, step := range []struct {
		text, first string
		keys        int
	}{{old + "\n" + fresh, old, 2}, {fresh + "\n" + old, fresh, 2}, {fresh, fresh, 1}} {
		each(func(folder string) { write(tlsdir.KeysPath(folder), step.text) })
		eventually(t, "the keys of gossip", primary(step.first, step.keys))
	}
	// An authority that takes the place of the first: both are believed, then everybody has a certificate of the new one, then it alone is
	// believed. Connections end meanwhile: each node is asked anew.
	other := secrets(t)
	both := read(filepath.Join(dir, "ca.pem")) + read(filepath.Join(other, "ca.pem"))
	reach := func(what string) {
		t.Helper()
		eventually(t, what, func() bool {
			for _, from := range nodes {
				for _, to := range nodes {
					if from == to {
						continue
					}
					step, cancel := context.WithTimeout(ctx, 2*time.Second)
					c, err := from.dialNode(step, to.o.NodeID)
					cancel()
					if err != nil {
						return false
					}
					_ = c.Close() // nothing was said on it
				}
			}
			return true
		})
	}
	each(func(folder string) { write(tlsdir.CAPath(folder), both) })
	reach("both authorities")
	for i, o := range options {
		n := nodes[i]
		serial := n.secrets.Client().Certificates[0].Leaf.SerialNumber
		write(tlsdir.NodePath(o.TLSDir), read(tlsdir.NodePath(filepath.Join(other, fmt.Sprint("n", i+1)))))
		eventually(t, "the new certificate", func() bool { return n.secrets.Client().Certificates[0].Leaf.SerialNumber.Cmp(serial) != 0 })
		reach("the new certificate")
	}
	each(func(folder string) { write(tlsdir.CAPath(folder), read(filepath.Join(other, "ca.pem"))) })
	again := asAlice(t, other, nodes)
	eventually(t, "a client of the new authority", func() bool { return again.Ping(ctx) == nil })
	reach("the new authority")
	flowed := sent.Load()
	eventually(t, "more records", func() bool { return sent.Load() > flowed+10 })
	stop()
	if err := <-ended; err != nil {
		t.Errorf("after %d records: %v", sent.Load(), err)
	}
	if after := epochs(); !slices.Equal(before, after) {
		t.Errorf("nodes registered anew: %v, %v", before, after)
	}
	if n := len(nodes[0].members.Members()); n != 3 {
		t.Errorf("gossip hears %d nodes", n)
	}
}

// Keys that were replaced after gossip had begun and before anybody looked again are taken over.
func TestKeysReplacedAtTheStart(t *testing.T) {
	old, fresh := make([]byte, 32), make([]byte, 32)
	fresh[0] = 1
	l, err := membership.Open(membership.Options{Self: membership.Member{ID: 1, Peer: "127.0.0.1:1"}, Bind: "127.0.0.1:0", Keys: [][]byte{old}})
	if err != nil {
		t.Fatal(err)
	}
	b := &Broker{o: Options{Logger: slog.New(slog.DiscardHandler)}, members: l}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.keepKeys(ctx, [][]byte{old}, func() [][]byte { return [][]byte{fresh} })
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the fresh key", func() bool { keys := l.Keys(); return len(keys) == 1 && keys[0][0] == 1 })
}

// A listener's own certificate, of Kafka's properties, is loaded again when its file changes.
func TestKeystoreReplaced(t *testing.T) {
	ca, next := testenv.NewAuthority(t), testenv.NewAuthority(t)
	name := func(a *testenv.Authority) string { return a.Keystore(pkix.Name{CommonName: "node"}) }
	store := filepath.Join(t.TempDir(), "node.pem")
	put := func(from string) {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(store, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(name(ca))
	log := &lines{}
	n := start(t, Options{DataDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(log, nil)), Set: map[string]string{
		"listener.security.protocol.map": "PLAINTEXT:SSL", "ssl.keystore.location": store,
	}})
	ctx := within(t, 30*time.Second)
	ping := func(a *testenv.Authority) error {
		cl, err := kgo.NewClient(kgo.SeedBrokers(n.KafkaAddr()), kgo.DialTLSConfig(clientTLS(t, a.Path, "")), kgo.RequestRetries(0))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		return cl.Ping(ctx)
	}
	if err := ping(ca); err != nil {
		t.Fatal(err)
	}
	if err := ping(next); err == nil {
		t.Fatal("another authority is believed")
	}
	put(name(next))
	eventually(t, "the new certificate", func() bool { return ping(next) == nil })
	if err := os.WriteFile(store, []byte("half of a"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a word about the broken file", func() bool {
		if err := ping(next); err != nil {
			t.Fatalf("a broken file took the certificate away: %v", err)
		}
		return strings.Contains(log.String(), "is not taken over")
	})
}

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func eventually(t *testing.T, what string, ok func() bool) {
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

// ssl.client.auth of all listeners is not one that lets clients log in (KIP-684); --tls-dir sets it.
func TestSecretsAndListeners(t *testing.T) {
	dir := secrets(t)
	folder := filepath.Join(dir, "n1")
	cluster := &Cluster{}
	for _, c := range []struct {
		what    string
		o       Options
		exposed string
		wrong   string
	}{
		{what: "an address alone", o: Options{KafkaAddr: "0.0.0.0:9092", TLSDir: folder}},
		{what: "nobody is asked", o: Options{KafkaAddr: "0.0.0.0:9092", TLSDir: folder, Set: map[string]string{"ssl.client.auth": "none"}}, exposed: "0.0.0.0:9092"},
		{what: "no folder", o: Options{KafkaAddr: "0.0.0.0:9092"}, exposed: "0.0.0.0:9092"},
		{what: "in the clear, for clients", o: Options{TLSDir: folder, Cluster: cluster, Set: map[string]string{
			"listeners": "NODES://0.0.0.0:9094,CLIENTS://0.0.0.0:9092", "listener.security.protocol.map": "NODES:SSL,CLIENTS:PLAINTEXT",
		}}, exposed: "0.0.0.0:9092"},
		{what: "in the clear, for nodes", o: Options{TLSDir: folder, Cluster: cluster, Set: map[string]string{
			"listeners": "NODES://127.0.0.1:9094,CLIENTS://127.0.0.1:9092", "listener.security.protocol.map": "NODES:PLAINTEXT,CLIENTS:SSL",
		}}, wrong: "in the clear"},
		{what: "logging in", o: Options{KafkaAddr: "0.0.0.0:9092", TLSDir: folder, Cluster: cluster, Set: map[string]string{
			"listener.security.protocol.map": "PLAINTEXT:SASL_SSL",
		}}},
	} {
		exposed, err := Exposed(c.o)
		if exposed != c.exposed || (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %q, %v", c.what, exposed, err)
		}
	}
	// Alice logs in and has no certificate to show.
	n := start(t, Options{DataDir: t.TempDir(), TLSDir: folder, Set: map[string]string{
		"listener.security.protocol.map": "PLAINTEXT:SASL_SSL", "sasl.enabled.mechanisms": "PLAIN", "listener.name.plaintext.plain.sasl.jaas.config": plainUsers,
	}})
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.KafkaAddr()), kgo.SASL(plain.Auth{User: "alice", Pass: "alice-secret"}.AsMechanism()), kgo.DialTLSConfig(clientTLS(t, filepath.Join(dir, "ca.pem"), "")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cl.Ping(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
}

// A node and a client whose certificates are revoked while they are connected are cut off, and do not come in again; the others go on.
func TestRevokedCertificates(t *testing.T) {
	dir := secrets(t)
	if _, err := tlsdir.Init(tlsdir.Plan{Dir: dir, Clients: []string{"bob"}, Days: 1}); err != nil {
		t.Fatal(err)
	}
	nodes := startAll(t, threeSecured(t, dir))
	ctx := within(t, time.Minute)
	cl := asAlice(t, dir, nodes, kgo.MetadataMinAge(50*time.Millisecond))
	two := "2"
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 3, 3, map[string]*string{"min.insync.replicas": &two}, "orders"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all in sync", func() bool {
		for _, p := range nodes[0].quorum.Image().Topics["orders"].Partitions {
			if len(p.ISR) != 3 {
				return false
			}
		}
		return true
	})
	bobs := clientTLS(t, filepath.Join(dir, "bob", "ca.pem"), filepath.Join(dir, "bob", "client.pem"))
	bob, err := tls.Dial("tcp", nodes[0].KafkaAddr(), bobs)
	if err != nil {
		t.Fatal(err)
	}
	defer bob.Close()
	gone := make(chan error, 1)
	go func() { _, err := bob.Read(make([]byte, 1)); gone <- err }()
	fenced := func(n metadata.NodeID) bool { return nodes[0].quorum.Image().Nodes[n].Fenced }
	if fenced(3) {
		t.Fatal("node 3 is fenced before anything")
	}

	if _, err := tlsdir.Revoke(dir, []string{tlsdir.NodePath(filepath.Join(dir, "n3")), tlsdir.ClientPath(filepath.Join(dir, "bob"))}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(tlsdir.CRLPath(filepath.Join(dir, "n3"))); err != nil { // whoever has stolen it has no such list
		t.Fatal(err)
	}
	eventually(t, "node 3 is cut off", func() bool { return fenced(3) })
	select {
	case err := <-gone:
		if errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
			t.Errorf("bob: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("bob's connection goes on")
	}
	if again, err := tls.Dial("tcp", nodes[0].KafkaAddr(), bobs); err == nil {
		if _, err := again.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("bob again: %v", err)
		}
		_ = again.Close() // it is refused already
	}
	for range 50 {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if !fenced(3) || fenced(1) || fenced(2) {
		t.Errorf("fenced: %v %v %v", fenced(1), fenced(2), fenced(3))
	}
	// Nor do the others go to it: what it led before, and still may think to lead, nobody copies.
	for _, p := range nodes[1].quorum.Image().Topics["orders"].Partitions {
		if slices.Contains(p.ISR, 3) || p.Leader == 3 {
			t.Errorf("%+v", p)
		}
	}
}
