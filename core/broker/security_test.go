package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/forebayhub/forebay/internal/testenv"
)

const plainUsers = `org.apache.kafka.common.security.plain.PlainLoginModule required username="node" password="node-secret" user_node="node-secret" user_alice="alice-secret";`

// clientTLS trusts an authority, and shows a keystore unless it is "".
func clientTLS(t *testing.T, ca, keystore string) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	c.RootCAs.AppendCertsFromPEM(text)
	if keystore != "" {
		cert, err := tls.LoadX509KeyPair(keystore, keystore)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c
}

// Each listener asks for what it is told to, and tells its clients its own address.
func TestListeners(t *testing.T) {
	ca := testenv.NewAuthority(t)
	n := start(t, Options{DataDir: t.TempDir(), KafkaAddr: "", Set: map[string]string{
		"listeners":                                       "INSIDE://127.0.0.1:0,OUTSIDE://localhost:0,CERTS://127.0.0.1:0",
		"listener.security.protocol.map":                  "INSIDE:PLAINTEXT,OUTSIDE:SASL_SSL,CERTS:SSL",
		"ssl.keystore.location":                           ca.Keystore(pkix.Name{CommonName: "node"}),
		"ssl.truststore.location":                         ca.Path,
		"sasl.enabled.mechanisms":                         "PLAIN",
		"listener.name.outside.plain.sasl.jaas.config":    plainUsers,
		"listener.name.certs.ssl.client.auth":             "required",
		"listener.name.certs.ssl.principal.mapping.rules": "RULE:^CN=([^,]+),.*$/$1/U,DEFAULT",
		"listener.name.outside.connections.max.reauth.ms": "3600000",
		"connection.failed.authentication.delay.ms":       "1",
		"inter.broker.listener.name":                      "inside",
		"offsets.topic.num.partitions":                    "1",
	}})
	ctx := within(t, 30*time.Second)
	addr := map[string]string{}
	for _, l := range n.listeners {
		addr[l.name] = l.l.Addr().String()
	}
	alice := kgo.SASL(plain.Auth{User: "alice", Pass: "alice-secret"}.AsMechanism())
	keystore := ca.Keystore(pkix.Name{CommonName: "client", Organization: []string{"shop"}})
	for name, opts := range map[string][]kgo.Opt{
		"INSIDE":  nil,
		"OUTSIDE": {alice, kgo.DialTLSConfig(clientTLS(t, ca.Path, ""))},
		"CERTS":   {kgo.DialTLSConfig(clientTLS(t, ca.Path, keystore))},
	} {
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr[name]))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		brokers, err := kadm.NewClient(cl).ListBrokers(ctx)
		if err != nil || len(brokers) != 1 || !strings.HasSuffix(addr[name], strings.TrimPrefix(net.JoinHostPort(brokers[0].Host, strconv.Itoa(int(brokers[0].Port))), "localhost")) {
			t.Errorf("%s: %v %v, want %s", name, brokers, err, addr[name])
		}
		// What is larger than a response's own buffer goes by sendfile or, encrypted, through a pooled one.
		topic := strings.ToLower(name)
		createTopic(t, n, topic, 1)
		big := strings.Repeat("x", 400_000)
		for i := range 5 {
			if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(big + strconv.Itoa(i))}).FirstErr(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		cl.AddConsumeTopics(topic)
		for i := 0; i < 5; {
			fs := cl.PollFetches(ctx)
			if err := fs.Err(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			fs.EachRecord(func(r *kgo.Record) {
				if string(r.Value) != big+strconv.Itoa(i) {
					t.Errorf("%s: record %d is another", name, i)
				}
				i++
			})
		}
	}
	for what, opts := range map[string][]kgo.Opt{
		"no TLS":         {alice, kgo.SeedBrokers(addr["OUTSIDE"])},
		"no SASL":        {kgo.DialTLSConfig(clientTLS(t, ca.Path, "")), kgo.SeedBrokers(addr["OUTSIDE"])},
		"no certificate": {kgo.DialTLSConfig(clientTLS(t, ca.Path, "")), kgo.SeedBrokers(addr["CERTS"])},
		"a stranger's":   {kgo.DialTLSConfig(clientTLS(t, ca.Path, testenv.NewAuthority(t).Keystore(pkix.Name{CommonName: "client"}))), kgo.SeedBrokers(addr["CERTS"])},
	} {
		cl, err := kgo.NewClient(append(opts, kgo.RetryTimeout(500*time.Millisecond), kgo.RequestRetries(1))...)
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		if err := cl.Ping(short); err == nil {
			t.Errorf("%s came in", what)
		}
		cancel()
		cl.Close()
	}
}

// A node without TLS or SASL of its own would replicate nothing: three nodes behind SASL_SSL copy each other's records, and elect.
func TestClusterBehindSASLAndTLS(t *testing.T) {
	ca := testenv.NewAuthority(t)
	set := map[string]string{
		"listener.security.protocol.map": "PLAINTEXT:SASL_SSL", "ssl.keystore.location": ca.Keystore(pkix.Name{CommonName: "node"}),
		"ssl.truststore.location": ca.Path, "sasl.enabled.mechanisms": "PLAIN", "sasl.mechanism.inter.broker.protocol": "PLAIN",
		"listener.name.plaintext.plain.sasl.jaas.config": plainUsers,
	}
	options := three(t)
	for i := range options {
		options[i].Set = set
	}
	nodes := startAll(t, options)
	ctx := within(t, time.Minute)
	cl, err := kgo.NewClient(seeds(nodes), kgo.SASL(plain.Auth{User: "alice", Pass: "alice-secret"}.AsMechanism()),
		kgo.DialTLSConfig(clientTLS(t, ca.Path, "")), kgo.TransactionalID("tx"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	replicate(ctx, t, nodes, cl, 20)
}

// replicate makes transactions over a new topic "orders", and looks whether all three nodes have copied them.
func replicate(ctx context.Context, t *testing.T, nodes []*node, cl *kgo.Client, transactions int) {
	t.Helper()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 6, 3, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	for range transactions {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for p := range 6 {
			cl.Produce(ctx, &kgo.Record{Topic: "orders", Key: []byte{byte(p)}, Value: []byte("v")}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range nodes[0].quorum.Image().Topics["orders"].Partitions {
		if len(p.ISR) != 3 {
			t.Errorf("partition %d has the ISR %v", p.Number, p.ISR)
		}
	}
}
