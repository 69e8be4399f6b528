package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestServerConfig: what a node's file may not say, before anything is opened.
func TestServerConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	node := write("node.yaml", "core: {id: 2, data: "+dir+"/data, http: \"127.0.0.1:0\", kafka: \"127.0.0.1:0\", set: [log.retention.hours=24]}\n")
	connectors := write("job.yaml", "sources: {app: {type: tail, paths: [x]}}\n")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"server", "--config", node, "--set", "log.retention.hours=25"}, "contradicts"},
		{[]string{"server", "--config", node, "--id", "-1"}, "0 or more"}, // the command line wins
		{[]string{"server", "--config", node, "--kafka", "0.0.0.0:9092"}, "not on loopback"},
		{[]string{"server", "--config", connectors}, "forebay apply"},
		{[]string{"server", "--config", write("far.yaml", "core: {bootstrap: [\"k:9092\"]}\n")}, "core.bootstrap"},
		{[]string{"server", "--config", write("open.yaml", "core: {kafka: \"0.0.0.0:9092\"}\n")}, "not on loopback"},
		{[]string{"server", "--config", write("typo.yaml", "core: {exspect: 3}\n")}, "did you mean 'expect'"},
		{[]string{"up", node}, "core.id"},
		{[]string{"worker", "--http", "0.0.0.0:80"}, "not on loopback"},
		{[]string{"worker", "--group", ""}, "--group"},
		{[]string{"apply", connectors, "--http", "127.0.0.1:1"}, "no node answers"},
		{[]string{"preview", connectors, "nobody"}, "no source or sink of that name"},
	} {
		var out, errw bytes.Buffer
		code := run(context.Background(), c.args, nil, &out, &errw)
		if !strings.Contains(errw.String(), c.want) || code != 2 && !strings.Contains(c.want, "answers") {
			t.Errorf("%v: exit code %d, %s", c.args, code, errw.String())
		}
	}
}

func TestPreviewLines(t *testing.T) {
	lines := previewOf(t, "1\n{\"a\":2}\n<three>\n", "3", "")
	if len(lines) != 3 || !strings.Contains(lines[0], `"value":"1"`) || !strings.Contains(lines[1], `"value":{"a":2}`) || !strings.Contains(lines[2], `"value":"<three>"`) {
		t.Errorf("%s", lines)
	}
}

// previewOf is what a preview shows of a log file with this text; more are fields of the source, behind the others.
func previewOf(t *testing.T, text, records, more string) (lines []string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	job := filepath.Join(dir, "job.yaml")
	if err := os.WriteFile(job, []byte("sources: {app: {type: tail, paths: ["+dir+"/*.log]"+more+"}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errw bytes.Buffer
	if code := run(context.Background(), []string{"preview", job, "app", "--records", records}, nil, &out, &errw); code != 0 {
		t.Fatalf("exit code %d: %s", code, errw.String())
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n")
}
