package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAuditOfNothing: what was compared with nothing does not pass, and a source that has nothing to do with the sink and cannot be asked is left out.
func TestAuditOfNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const source, sink = "sources:\n  weblogs: {type: tail, paths: [\"DIR/*.log\"]}\n", "sinks:\n  lake: {type: file, url: DIR/lake, format: text, topics: "
	right := write("right.yaml", source+sink+"[weblogs]}\n")
	wrong := write("wrong.yaml", source+sink+"[wblogs, \"x.*\"]}\n")
	half := write("half.yaml", source+sink+"[weblogs, wblogs]}\n")
	const away = "  shop: {type: postgres, url: \"postgres://u@127.0.0.1:1/d\", tables: [public.t]}\n"
	beside := write("beside.yaml", source+away+sink+"[weblogs]}\n")
	feeding := write("feeding.yaml", source+away+sink+"[weblogs, \"s*\"]}\n")
	kafka, web := startUp(t, right)
	try := func(code int, job, name string, words ...string) string {
		t.Helper()
		out, got := command(t, "", "audit", job, name, "--bootstrap", kafka, "--http", web)
		if got != code {
			t.Errorf("%s: exit code %d, want %d\n%s", filepath.Base(job), got, code, out)
		}
		hasAll(t, out, words...)
		return out
	}
	try(0, right, "lake", "  weblogs ", "audit: 0 missing")
	if out := try(2, wrong, "lake", "lake: the log has no topic that matches wblogs\nforebay: the log has no topic that matches x.*"); strings.Contains(out, "0 missing") {
		t.Error(out)
	}
	if out, got := command(t, "", "audit", right, "weblogs", "--bootstrap", kafka, "--http", web, "--group", "another", "--wait", "1ms"); got != 1 || !strings.Contains(out, "stands at its start") {
		t.Errorf("exit code %d\n%s", got, out) // of that group nobody has read anything
	}
	try(2, half, "lake", "lake: the log has no topic that matches wblogs", "what was compared agrees")
	try(2, right, "nope", "no source or sink of that name in the config (it has weblogs, lake)")
	try(0, beside, "lake", "leaving out shop", "audit: 0 missing")
	out := try(3, feeding, "lake", "source shop: ", "refused", "`forebay doctor FILE`")
	if said := out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]; !strings.HasPrefix(said, "forebay: source shop: ") {
		t.Errorf("not in one line:\n%s", out)
	}
}
