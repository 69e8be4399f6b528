package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTLSInit: what the command makes, adds and refuses, and what a node's folder changes about listeners that others can reach.
func TestTLSInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	other := t.TempDir()
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"tls init", 2, "--dir"},
		{"tls init --dir DIR", 2, "nothing is named"},
		{"tls init --dir DIR --node n1", 2, "1 nodes, and hosts for 0"},
		{"tls init --dir DIR --node n1 --host a:1", 2, "without a port"},
		{"tls init --dir DIR --node n1 --host localhost,127.0.0.1", 0, "copy the folder to node n1"},
		{"tls init --dir DIR --node n1 --host localhost", 2, "nothing is overwritten"},
		{"tls init --dir DIR --node n1 --host localhost --renew --days 9", 0, "n1"},
		{"tls init --dir DIR --client alice --json", 0, `"authority_made":false`},
		{"tls revoke", 2, "--dir"},
		{"tls revoke --dir DIR", 2, "nothing is named"},
		{"tls revoke --dir OTHER --node n1", 2, "no authority's key"},
		{"tls revoke --dir DIR --node n7", 2, "n7"},
		{"tls revoke --dir DIR --client alice", 0, "DIR/ca.crl"},
		{"tls revoke --dir DIR --certificate DIR/n1/node.pem --json", 0, "DIR/n1"},
		{"tls init --dir DIR --node n1 --host localhost,127.0.0.1 --renew", 0, "n1"},
		{"server --tls-dir OTHER", 2, "tls init"},
		{"server --tls-dir DIR/n1 --gossip-key DIR/gossip.keys", 2, "contradicts --tls-dir"},
		{"server --tls-dir DIR/n1 --set listener.security.protocol.map=PLAINTEXT:PLAINTEXT --set listeners=PLAINTEXT://127.0.0.1:0", 2, "in the clear"},
		{"server --tls-dir DIR/n1 --kafka 0.0.0.0:1 --set ssl.client.auth=none", 2, "--kafka 0.0.0.0:1"},
		{"server --peer 0.0.0.0:0", 2, "--peer"},
		{"server --gossip-key DIR/ca.pem", 2, "base64"},
	} {
		args := strings.Fields(strings.NewReplacer("DIR", dir, "OTHER", other).Replace(c.args))
		var out, errw bytes.Buffer
		code := run(context.Background(), args, nil, &out, &errw)
		if code != c.code || !strings.Contains(out.String()+errw.String(), strings.ReplaceAll(c.want, "DIR", dir)) {
			t.Errorf("%s: exit code %d, %s%s", c.args, code, out.String(), errw.String())
		}
	}
	for _, f := range []string{"ca.pem", "ca.key", "gossip.keys", "n1/ca.pem", "n1/node.pem", "n1/gossip.keys", "alice/client.pem", "alice/client.properties"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			t.Error(err)
		}
	}
}
