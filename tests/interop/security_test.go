package interop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// plainUsers are the users that a node knows from its properties: its own, which is a super user, and one who is not.
const plainUsers = `org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="admin-secret" user_admin="admin-secret" user_carol="carol-secret";`

// What docs/security.md shows: three nodes behind SASL_SSL with an authorizer, users and ACLs by Kafka's own tools, and clients that may do
// what they were allowed and nothing else.
func TestSecurity(t *testing.T) {
	ca := testenv.NewAuthority(t)
	nodes := node.NewCluster(t, 3,
		"--set", "listener.security.protocol.map=PLAINTEXT:SASL_SSL", "--set", "ssl.keystore.location="+ca.Keystore(pkix.Name{CommonName: "node"}),
		"--set", "ssl.truststore.location="+ca.Path, "--set", "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"--set", "sasl.mechanism.inter.broker.protocol=PLAIN", "--set", "listener.name.plaintext.plain.sasl.jaas.config="+plainUsers,
		"--set", "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "--set", "super.users=User:admin")
	node.StartAll(t, nodes)
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Kafka)
	}
	bootstrap := strings.Join(addrs, ",")
	dir := t.TempDir()
	client := func(user, mechanism, module string) string {
		return node.WriteFile(t, dir, user+mechanism+".properties", fmt.Sprintf("security.protocol=SASL_SSL\nsasl.mechanism=%s\nssl.truststore.type=PEM\nssl.truststore.location=%s\n"+
			"sasl.jaas.config=org.apache.kafka.common.security.%s required username=\"%s\" password=\"%s-secret\";\n", mechanism, ca.Path, module, user, user))
	}
	admin := client("admin", "PLAIN", "plain.PlainLoginModule")
	alice := client("alice", "SCRAM-SHA-512", "scram.ScramLoginModule")
	tools := testenv.KafkaTools(t)
	run := func(config, stdin, tool string, args ...string) string {
		t.Helper()
		return tools.Run(t, stdin, tool, append([]string{"--bootstrap-server", bootstrap, "--command-config", config}, args...)...)
	}
	trust := trusted(t, ca.Path)
	scramUser(t, addrs, trust)
	run(admin, "", "kafka-topics", "--create", "--topic", "orders", "--partitions", "3")
	run(admin, "", "kafka-topics", "--create", "--topic", "secret")
	run(admin, "", "org.apache.kafka.tools.AclCommand", "--add", "--allow-principal", "User:alice", "--producer", "--consumer", "--topic", "orders", "--group", "shop", "--resource-pattern-type", "prefixed")
	if got := run(admin, "", "org.apache.kafka.tools.AclCommand", "--list"); !strings.Contains(got, "principal=User:alice, host=*, operation=WRITE, permissionType=ALLOW") {
		t.Errorf("the ACLs are %s", got)
	}
	var in strings.Builder
	for i := range 300 {
		fmt.Fprintf(&in, "line %d\n", i)
	}
	run(alice, in.String(), "kafka-console-producer", "--topic", "orders")
	if got := run(alice, "", "kafka-console-consumer", "--topic", "orders", "--from-beginning", "--group", "shop-1", "--max-messages", "300", "--timeout-ms", "30000"); strings.Count(got, "line ") != 300 {
		t.Errorf("the console consumer printed %d lines", strings.Count(got, "line "))
	}
	if got := strings.TrimSpace(run(alice, "", "kafka-topics", "--list")); got != "orders" {
		t.Errorf("alice sees the topics %q", got)
	}

	if got, code := node.Run(t, nil, "topics", "list", "--bootstrap", bootstrap, "--command-config", alice); code != 0 || !strings.Contains(got, "orders") || strings.Contains(got, "secret") {
		t.Errorf("forebay topics list as alice: exit code %d, %s", code, got)
	}
	if got, code := node.Run(t, nil, "topics", "list", "--bootstrap", bootstrap, "--command-config", client("alice", "PLAIN", "plain.PlainLoginModule")); code != 1 || !strings.Contains(got, "does not believe who this is") {
		t.Errorf("forebay topics list with a wrong password: exit code %d, %s", code, got)
	}

	franz(t, addrs, trust)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, testenv.Python(t), "security.py", bootstrap, ca.Path).CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "ok\n") {
		t.Errorf("%v\n%s", err, out)
	}

	// What no log and no file of the nodes may have.
	for _, n := range nodes {
		if log := n.LogTail(100_000); strings.Contains(log, "-secret") {
			t.Error("a password is in a node's log")
		}
		err := filepath.Walk(n.Data, func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() {
				return nil //nolint:nilerr // files come and go
			}
			text, err := os.ReadFile(path)
			if err == nil && strings.Contains(string(text), "alice-secret") {
				t.Errorf("alice's password is in %s", path)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func trusted(t *testing.T, ca string) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	trust := &tls.Config{RootCAs: x509.NewCertPool()}
	trust.RootCAs.AppendCertsFromPEM(text)
	return trust
}

// scramUser makes alice.
func scramUser(t *testing.T, addrs []string, trust *tls.Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.DialTLSConfig(trust), kgo.SASL(plain.Auth{User: "admin", Pass: "admin-secret"}.AsMechanism()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		made, err := kadm.NewClient(cl).AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "alice", Mechanism: m, Iterations: 8192, Password: "alice-secret"}})
		if err != nil || made["alice"].Err != nil {
			t.Fatal(made, err)
		}
	}
}

// franz has franz-go come in with SCRAM, and be refused what alice may not have.
func franz(t *testing.T, addrs []string, trust *tls.Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dial := func(password string, opts ...kgo.Opt) *kgo.Client {
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addrs...), kgo.DialTLSConfig(trust), kgo.RecordRetries(1), kgo.RetryTimeout(2*time.Second),
			kgo.SASL(scram.Auth{User: "alice", Pass: password}.AsSha256Mechanism()))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	cl := dial("alice-secret")
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("line of franz-go")}).FirstErr(); err != nil {
		t.Error(err)
	}
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "secret", Value: []byte("v")}).FirstErr(); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("alice wrote to secret: %v", err)
	}
	if err := dial("wrong").Ping(ctx); !errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Errorf("a wrong password: %v", err)
	}
}
