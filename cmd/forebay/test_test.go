package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTestCommand: what passes, what fails with a difference, and the exit codes.
func TestTestCommand(t *testing.T) {
	const job = "sources:\n  logs:\n    type: tail\n    paths: [x]\n    transforms:\n      - {type: drop, fields: [secret]}\n      - {type: extract, of: key, field: id}\ntests:\n"
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string
		code int
		want string
	}{
		"passes": {job + `  - {name: fine, connector: logs, input: '{"topic": "t", "key": {"id": 1}, "value": {"a": 1, "secret": 2}}', output: '{"topic": "t", "key": "1", "value": {"a": 1}}'}` + "\n",
			0, "ok    fine\n1 passed, 0 failed\n"},
		"expects an error": {job + `  - {name: fine, connector: logs, input: '{"topic": "t", "key": {"x": 1}, "value": {}}', error: "field 'id'"}` + "\n", 0, "1 passed"},
		"another value": {job + `  - {name: bad, connector: logs, input: '{"topic": "t", "value": {"a": 1, "secret": 2}}', output: '{"topic": "t", "value": {"a": 2}}'}` + "\n",
			1, "FAIL  bad (job.yaml:9)\n      - {\"topic\":\"t\",\"value\":{\"a\":2}}\n      + {\"topic\":\"t\",\"value\":{\"a\":1}}\n0 passed, 1 failed\n"},
		"one record too many": {job + `  - {name: bad, connector: logs, input: '{"topic": "t", "value": {"a": 1}}'}` + "\n", 1, "      + {\"topic\":\"t\",\"value\":{\"a\":1}}\n"},
		"no error":            {job + `  - {name: bad, connector: logs, input: '{"topic": "t", "value": {"a": 1}}', error: x}` + "\n", 1, "- error: x\n      + no error"},
		"another error":       {job + `  - {name: bad, connector: logs, input: '{"topic": "t", "key": {"x": 1}, "value": {}}'}` + "\n", 1, "record 1: transform 2 (extract): field 'id'"},
		"a transform without a value": {strings.Replace(job, "[secret]", "[\"${NOT_HERE}\"]", 1) + `  - {name: bad, connector: logs, input: '{"topic": "t", "value": {"secret": 1}}', output: '{"topic": "t", "value": {"secret": 1}}'}` + "\n",
			2, "logs: transform 1 has a reference without a value here"},
		"a source without a value": {strings.Replace(job, "[x]", "[\"${NOT_HERE}\"]", 1) + `  - {name: fine, connector: logs, input: '{"topic": "t", "key": {"id": 1}, "value": {"secret": 2}}', output: '{"topic": "t", "value": {}}'}` + "\n", 0, "1 passed"},
		"no tests":                 {job, 2, "no tests here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(dir)
			if err := os.WriteFile("job.yaml", []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			var out, errw bytes.Buffer
			if code := run(context.Background(), []string{"test", "job.yaml"}, nil, &out, &errw); code != c.code || !strings.Contains(out.String()+errw.String(), c.want) {
				t.Errorf("exit code %d\n%s%s", code, out.String(), errw.String())
			}
		})
	}
}

// TestExampleTests runs the tests of the example files.
func TestExampleTests(t *testing.T) {
	var out, errw bytes.Buffer
	if code := run(context.Background(), []string{"test", filepath.Join("..", "..", "configs", "orders-without-secrets.yaml")}, nil, &out, &errw); code != 0 {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errw.String())
	}
}

// TestPreviewTransforms: a preview shows records as they come out of the transforms.
func TestPreviewTransforms(t *testing.T) {
	lines := previewOf(t, "one\ntwo\n", "2", ", transforms: [{type: hoist, field: line}, {type: filter, when: {field: line, equals: [one]}}, {type: route, to: lines}]")
	if len(lines) != 1 || !strings.Contains(lines[0], `{"topic":"lines",`) || !strings.Contains(lines[0], `"value":{"line":"two"}`) {
		t.Errorf("%s", lines)
	}
}
