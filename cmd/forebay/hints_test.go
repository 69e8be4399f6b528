package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestHints: what does not exist is answered with where to look, and a key that is not there is an error.
func TestHints(t *testing.T) {
	job := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(job, []byte("sources:\n  app: {type: tail, paths: [\"x*\"]}\n  shop: {type: postgres, url: \"postgres://u@127.0.0.1:1/d\", tables: [public.t]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	kafka, web := startUp(t)
	try := func(stdin string, code int, want string, args ...string) {
		t.Helper()
		out, got := command(t, stdin, args...)
		if got != code {
			t.Errorf("%v: exit code %d, want %d\n%s", args, got, code, out)
		}
		hasAll(t, out, want)
	}
	try("", 2, "`forebay connectors list` shows", "connectors", "pause", "nope", "--http", web)
	try("", 2, "there is no such file", "log", "dump", "nope")
	try("", 3, "-> see whether the server runs", "doctor", job, "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0")
	try("", 0, "CONNECTOR  KIND  TYPE  LAG  STATE", "connectors", "list", "--http", web)
	try("k1\tx\nk2\ty\n", 0, "", "produce", "t", "--key-separator", `\t`, "--bootstrap", kafka)
	try("", 0, `"key":"k1","value":"x"`, "consume", "t", "--format", "json", "--bootstrap", kafka)
	try("k3\tz\nno key\n", 2, `stdin:2: the line has no "\t", so no key`, "produce", "t", "--key-separator", `\t`, "--bootstrap", kafka)
	try("", 0, "warning: if files is a sink, it does not move", "groups", "reset", "forebay-files", "--offset", "t=earliest", "--bootstrap", kafka)
	try("", 1, "`forebay groups list` shows the groups", "groups", "describe", "nope", "--bootstrap", kafka)
}
