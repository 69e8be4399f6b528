package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/tlsdir"
)

// secretsFor makes an authority with a node and clients, and gives its folder and a file with a token.
func secretsFor(t *testing.T, clients ...string) (dir, tokenFile string) {
	t.Helper()
	dir = t.TempDir()
	p := tlsdir.Plan{Dir: dir, Nodes: []tlsdir.Node{{Name: "n1", Hosts: []string{"127.0.0.1"}}}, Clients: clients, Days: 1}
	if _, err := tlsdir.Init(p); err != nil {
		t.Fatal(err)
	}
	tokenFile = filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, tokenFile
}

// command runs another command and gives what it printed and its exit code.
func command(t *testing.T, stdin string, args ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	code := run(ctx, args, strings.NewReader(stdin), &out, &out)
	return out.String(), code
}

// TestSecuredNode: every port of a node with --tls-dir asks who is there, and the client commands can say it.
func TestSecuredNode(t *testing.T) {
	dir, tokenFile := secretsFor(t, "admin", "alice")
	kafka, web := startUp(t, "--tls-dir", filepath.Join(dir, "n1"), "--http-token", tokenFile, "--set", "super.users=User:CN=admin", "--set",
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer")
	props := func(who string) string { return filepath.Join(dir, who, "client.properties") }

	ask := func(path, certificate, authorization string) int {
		t.Helper()
		sec := tls.Config{InsecureSkipVerify: true} // the node's side is looked at by the commands
		if certificate != "" {
			cert, err := tls.LoadX509KeyPair(certificate, certificate)
			if err != nil {
				t.Fatal(err)
			}
			sec.Certificates = []tls.Certificate{cert}
		}
		client := http.Client{Transport: &http.Transport{TLSClientConfig: &sec, DisableKeepAlives: true}}
		req, err := http.NewRequest(http.MethodGet, "https://"+web+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body) // only the status is looked at
		return resp.StatusCode
	}
	certificate := func(who string) string { return filepath.Join(dir, who, "client.pem") }
	for _, c := range []struct {
		path, certificate, authorization string
		want                             int
	}{
		{"/livez", "", "", 200},
		{"/readyz", "", "", 200},
		{"/connectors", "", "", 401},
		{"/metrics", "", "", 401},
		{"/connectors", "", "Bearer 0123456789abcdef", 200},
		{"/metrics", "", "Basic YW55Ym9keTowMTIzNDU2Nzg5YWJjZGVm", 200}, // anybody:0123456789abcdef
		{"/connectors", "", "Bearer 0123456789abcdeF", 401},
		{"/connectors", "", "Bearer ", 401},
		{"/connectors", "", "0123456789abcdef", 401},
		{"/connectors", certificate("admin"), "", 200},
		{"/connectors", certificate("alice"), "", 401}, // what the REST API does it does as the node
		{"/connectors", filepath.Join(dir, "n1", "node.pem"), "", 200},
	} {
		if got := ask(c.path, c.certificate, c.authorization); got != c.want {
			t.Errorf("%s with %q %q: %d, want %d", c.path, filepath.Base(c.certificate), c.authorization, got, c.want)
		}
	}
	if resp, err := http.Get("http://" + web + "/livez"); err == nil {
		if resp.StatusCode == http.StatusOK {
			t.Error("the REST API speaks plainly")
		}
		_ = resp.Body.Close() // only the status is looked at
	}

	admin := []string{"--bootstrap", kafka, "--command-config", props("admin")}
	for _, c := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"", append([]string{"topics", "create", "orders"}, admin...), ""},
		{"one\ntwo\n", append([]string{"produce", "orders"}, admin...), ""},
		{"", append([]string{"topics", "list"}, admin...), "orders"},
		{"", append([]string{"topics", "describe", "orders"}, admin...), "orders"},
		{"", append([]string{"consume", "orders", "--records", "2"}, admin...), "two"},
		{"", append([]string{"groups", "list"}, admin...), "GROUP"},
		{"", append([]string{"nodes", "list"}, admin...), "alive"},
		{"", append([]string{"doctor", "--data", t.TempDir(), "--kafka", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--http", "127.0.0.1:0"}, admin...), "warning  node 1's certificate: ends at"},
		{"", []string{"metadata", "backup", filepath.Join(dir, "backup"), "--http", web, "--command-config", props("admin")}, "1 nodes, 1 topics"},
		{"", []string{"connectors", "list", "--http", web, "--command-config", props("admin")}, ""},
		{"", []string{"connectors", "list", "--http", web, "--command-config", props("alice"), "--http-token", tokenFile}, ""},
	} {
		if got, code := command(t, c.stdin, c.args...); code != 0 || !strings.Contains(got, c.want) {
			t.Errorf("%v: exit code %d, %s", c.args, code, got)
		}
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"topics", "list", "--bootstrap", kafka}, 3, "--command-config"},
		{[]string{"connectors", "list", "--http", web}, 3, "--command-config"},
		{[]string{"connectors", "list", "--http", web, "--command-config", props("alice")}, 1, "a super user is needed"},
		{[]string{"topics", "list", "--bootstrap", kafka, "--command-config", filepath.Join(dir, "none")}, 2, "no such file"},
		{[]string{"topics", "list", "--bootstrap", kafka, "--command-config", filepath.Join(dir, "ca.pem")}, 3, "no node answers"}, // properties of no meaning
		{[]string{"topics", "create", "mine", "--bootstrap", kafka, "--command-config", props("alice")}, 1, "uthoriz"},
	} {
		if got, code := command(t, "", c.args...); code != c.code || !strings.Contains(got, c.want) {
			t.Errorf("%v: exit code %d, %s", c.args, code, got)
		}
	}
}

// TestRuntimeAtSecuredNode: connectors run at a secured cluster by core.tls and core.sasl.
func TestRuntimeAtSecuredNode(t *testing.T) {
	dir, _ := secretsFor(t, "admin")
	kafka, _ := startUp(t, "--tls-dir", filepath.Join(dir, "n1"), "--set", "listener.security.protocol.map=PLAINTEXT:SASL_SSL", "--set", "sasl.enabled.mechanisms=PLAIN",
		"--set", `listener.name.plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_hub="hub-secret";`)
	logs := t.TempDir()
	write := func(path, text string) string {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(filepath.Join(logs, "a.log"), "one\ntwo\n")
	t.Setenv("HUB_PASSWORD", "hub-secret")
	job := write(filepath.Join(logs, "job.yaml"), fmt.Sprintf(`core:
  bootstrap: ["%s"]
  tls: {ca: %s}
  sasl: {mechanism: plain, username: hub, password: "${HUB_PASSWORD}"}
sources:
  app: {type: tail, paths: ["%s/*.log"], topic: app}
sinks:
  out: {type: file, url: %s, topics: [app], format: text}
`, kafka, filepath.Join(dir, "ca.pem"), logs, t.TempDir()))
	_, web := startUp(t, job)
	config := write(filepath.Join(logs, "c.properties"), "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=hub\nsasl.password=hub-secret\nssl.ca.location="+filepath.Join(dir, "ca.pem")+"\n")
	for end := time.Now().Add(20 * time.Second); ; {
		got, code := command(t, "", "consume", "app", "--records", "2", "--bootstrap", kafka, "--command-config", config)
		if code == 0 && strings.Contains(got, "one") && strings.Contains(got, "two") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("exit code %d, %s", code, got)
		}
	}
	// preview and audit look at the log that the file names, unless the command line does.
	if got, code := command(t, "", "preview", job, "out", "--records", "2"); code != 0 || !strings.Contains(got, "one") {
		t.Errorf("exit code %d, %s", code, got)
	}
	if got, code := command(t, "", "audit", job, "out", "--http", web); code != 0 {
		t.Errorf("exit code %d, %s", code, got)
	}
	for _, args := range [][]string{{"preview", job, "out"}, {"audit", job, "out", "--http", web}} {
		if got, code := command(t, "", append(args, "--bootstrap", "127.0.0.1:1")...); code != 3 || !strings.Contains(got, "127.0.0.1:1: no node answers") {
			t.Errorf("%s: exit code %d, %s", args, code, got)
		}
	}
	// What cannot be meant is refused before anything is opened.
	for text, want := range map[string]string{
		"core: {tls: {enabled: true}}\nsources: {a: {type: tail, paths: [x]}}\n":                                         "no core.bootstrap",
		"core: {bootstrap: [\"a:1\"], sasl: {username: x}}\nsources: {a: {type: tail, paths: [x]}}\n":                    "a username and a password",
		"core: {bootstrap: [\"a:1\"], tls: {ca: /none}}\nsources: {a: {type: tail, paths: [x]}}\n":                       "no such file",
		"core: {bootstrap: [\"a:1\"], sasl: {mechanism: gssapi}}\nsources: {a: {type: tail, paths: [x]}}\n":              "scram-sha-512",
		"core: {bootstrap: [\"a:1\"], sasl: {mechanism: oauth, client_id: a}}\nsources: {a: {type: tail, paths: [x]}}\n": "token endpoint",
	} {
		if got, code := command(t, "", "up", write(filepath.Join(logs, "bad.yaml"), text), "--http", "127.0.0.1:0"); code != 2 || !strings.Contains(got, want) {
			t.Errorf("%s: exit code %d, %s", text, code, got)
		}
	}
	if got, code := command(t, "", "server", "--config", write(filepath.Join(logs, "node.yaml"), "core: {tls: {enabled: true}}\n")); code != 2 || !strings.Contains(got, "core.tls") {
		t.Errorf("exit code %d, %s", code, got)
	}
	// What would stand open is refused.
	for args, want := range map[string]string{
		"up --http 0.0.0.0:0":     "--http-token",
		"worker --http 0.0.0.0:0": "--http-token",
		"up --http 0.0.0.0:0 --http-token " + write(filepath.Join(logs, "short"), "secret"): "at least 16",
	} {
		if got, code := command(t, "", strings.Fields(args)...); code != 2 || !strings.Contains(got, want) {
			t.Errorf("%s: exit code %d, %s", args, code, got)
		}
	}
}

// TestWorkerWithTLSDir: a worker apart from the nodes shares the declared connectors of a cluster that lets in nobody without a certificate, and a
// node's REST API tells of its tasks, over TLS.
func TestWorkerWithTLSDir(t *testing.T) {
	dir, _ := secretsFor(t, "admin")
	if _, err := tlsdir.Init(tlsdir.Plan{Dir: dir, Nodes: []tlsdir.Node{{Name: "w1", Hosts: []string{"127.0.0.1"}}}, Days: 1}); err != nil {
		t.Fatal(err)
	}
	kafka, web := startRun(t, "server", "--data", t.TempDir(), "--kafka", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--http", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--tls-dir", filepath.Join(dir, "n1"), "--set", "super.users=User:CN=admin", "--set",
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer")
	startRun(t, "worker", "--bootstrap", kafka, "--http", "127.0.0.1:0", "--tls-dir", filepath.Join(dir, "w1"))
	props := filepath.Join(dir, "admin", "client.properties")
	var yaml strings.Builder
	yaml.WriteString("sources:\n")
	for _, name := range []string{"a", "b"} {
		path := filepath.Join(dir, name+".log")
		if err := os.WriteFile(path, []byte("line of "+name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&yaml, "  %s: {type: tail, paths: [%q], topic: %s}\n", name, path, name)
	}
	file := filepath.Join(dir, "job.yaml")
	if err := os.WriteFile(file, []byte(yaml.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"--http", web, "--command-config", props}
	if out, code := command(t, "", append([]string{"apply", file}, at...)...); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	on := map[string]bool{}
	for deadline := time.Now().Add(40 * time.Second); len(on) < 2; {
		out, code := command(t, "", append([]string{"connectors", "describe", "a", "b"}, at...)...)
		if time.Now().After(deadline) {
			t.Fatalf("the two connectors are not on two workers: %d, %s", code, out)
		}
		on = map[string]bool{}
		for _, line := range strings.Split(out, "\n") {
			if head, place, ok := strings.Cut(line, "  on "); ok && strings.Contains(head, "RUNNING") {
				on[place] = true
			}
		}
	}
	for _, name := range []string{"a", "b"} {
		out, code := command(t, "", "consume", name, "--records", "1", "--bootstrap", kafka, "--command-config", props)
		if code != 0 || !strings.Contains(out, "line of "+name) {
			t.Errorf("%s: %d, %s", name, code, out)
		}
	}
}
