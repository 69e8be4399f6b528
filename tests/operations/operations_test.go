// Package operations does what docs/operations.md says, on three nodes, and looks at what is packaged.
package operations

import (
	"debug/elf"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

const root = "../../"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually asks again until ok says so.
func eventually(t *testing.T, what string, ok func() (bool, string)) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		fine, seen := ok()
		if fine {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s: %s", what, seen)
		}
	}
}

// shell runs a command line with the forebay of the tests.
func shell(t *testing.T, line string) (string, error) {
	c := exec.Command("sh", "-ec", line)
	c.Env = append(os.Environ(), "PATH="+filepath.Dir(testenv.Binary(t))+":"+os.Getenv("PATH"))
	out, err := c.CombinedOutput()
	return string(out), err
}

var commandLine = regexp.MustCompile("(?m)^    (forebay|curl) .*$")

func TestThePage(t *testing.T) {
	page, err := os.ReadFile(root + "docs/operations.md")
	must(t, err)
	nodes := node.NewCluster(t, 3)
	node.StartAll(t, nodes)
	forebay := testenv.Binary(t)
	run := func(at *node.Node, line string) (string, error) {
		if rest, ok := strings.CutPrefix(line, "forebay "); ok {
			line = forebay + " " + rest
			if !strings.HasPrefix(rest, "doctor") && !strings.HasPrefix(rest, "metadata") {
				line += " --bootstrap " + at.Kafka
			}
		}
		return shell(t, line)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(nodes[0].Kafka, nodes[1].Kafka, nodes[2].Kafka), kgo.DefaultProduceTopic("kept"))
	must(t, err)
	defer client.Close()
	admin := kadm.NewClient(client)
	for _, topic := range []string{"kept", "spare"} {
		r, err := admin.CreateTopic(t.Context(), 2, 3, map[string]*string{"min.insync.replicas": ptr("2")}, topic)
		must(t, err)
		must(t, r.Err)
	}
	send := func(n int) {
		t.Helper()
		for i := range n {
			must(t, client.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprint(i))).FirstErr())
		}
	}
	count := func() (n int64) {
		t.Helper()
		ends, err := admin.ListEndOffsets(t.Context(), "kept")
		must(t, err)
		must(t, ends.Error())
		ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
		return n
	}
	send(20)

	// Health in words, while a node is away.
	must(t, nodes[2].Stop())
	eventually(t, "topics describe says who is missing", func() (bool, string) {
		out, err := run(nodes[0], "forebay topics describe kept")
		return err == nil && strings.Contains(out, "node 3 is fenced: the active controller does not hear it"), out
	})
	dir := func(line string, n *node.Node) string {
		return strings.NewReplacer("DIR", n.Data, "HTTP", n.HTTP).Replace(line)
	}
	lines := map[string]bool{}
	for _, line := range commandLine.FindAllString(string(page), -1) {
		lines[strings.TrimSpace(line)] = true
	}
	take := func(line string) string {
		t.Helper()
		if _, ok := lines[line]; !ok {
			t.Errorf("not on the page: %s", line)
		}
		lines[line] = false
		return line
	}
	nodes[2].Start()
	eventually(t, "the node is back", func() (bool, string) {
		out, err := run(nil, dir(take("curl -fsS http://HTTP/readyz"), nodes[2]))
		return err == nil && out == "ok\n", out
	})
	for i, n := range nodes { // a rolling restart
		must(t, n.Stop())
		n.Start()
		eventually(t, fmt.Sprintf("node %d is ready and nothing is out of sync", i+1), func() (bool, string) {
			out, err := run(n, take("forebay nodes list"))
			rows := strings.Split(strings.TrimSpace(out), "\n")[1:]
			inSync := err == nil && len(rows) == len(nodes)
			for _, row := range rows { // it ends with how many replicas are out of sync
				inSync = inSync && strings.Contains(row, "alive") && strings.HasSuffix(strings.TrimSpace(row), " 0")
			}
			ready, err := run(nil, dir("curl -fsS http://HTTP/readyz", n))
			return inSync && err == nil && ready == "ok\n", out + ready
		})
	}
	for line, want := range map[string]string{
		"forebay groups list":                                      "GROUP",
		"curl -fsS http://HTTP/livez":                              "ok",
		"curl -fsS http://HTTP/metrics":                            "forebay_partitions_led",
		"forebay topics describe TOPIC":                            "min.insync.replicas=2",
		"forebay topics alter TOPIC --config retention.ms=3600000": "",
		"forebay topics delete TOPIC":                              "",
	} {
		topic := "kept"
		if strings.Contains(line, "delete") {
			topic = "spare"
		}
		out, err := run(nodes[1], strings.ReplaceAll(dir(take(line), nodes[1]), "TOPIC", topic))
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %s, %v", line, out, err)
		}
	}
	backup := filepath.Join(t.TempDir(), "metadata")
	for _, line := range []string{"forebay metadata backup FILE --http HTTP", "forebay metadata describe FILE"} {
		out, err := run(nil, strings.ReplaceAll(dir(take(line), nodes[2]), "FILE", backup))
		if err != nil || !strings.Contains(out, "3 nodes, 1 topics with 2 partitions") {
			t.Errorf("%s: %s, %v", line, out, err)
		}
	}
	// On the ports of a node that runs doctor finds something, and says so by its exit code.
	if out, err := run(nil, dir(take("forebay doctor --data DIR"), nodes[0])+" --kafka "+nodes[0].Kafka); err == nil || !strings.Contains(out, "bad") {
		t.Errorf("doctor: %s, %v", out, err)
	}

	if got := count(); got != 20 {
		t.Errorf("%d records after a rolling restart, of 20", got)
	}
	for line, left := range lines {
		if left {
			t.Errorf("the page has a command that nothing runs: %s", line)
		}
	}
}

// TestLiveWhileStarting: a node that waits for others is alive, and not ready.
func TestLiveWhileStarting(t *testing.T) {
	nodes := node.NewCluster(t, 2)
	must(t, nodes[0].Launch()) // and the other does not come
	web := nodes[0].Flag("--http")
	get := func(path string) int {
		resp, err := http.Get("http://" + web + path)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	eventually(t, "/livez", func() (bool, string) { return get("/livez") == 200, "" })
	if code := get("/readyz"); code != 503 {
		t.Errorf("/readyz: %d", code)
	}
	if code := get("/metrics"); code != 200 {
		t.Errorf("/metrics: %d", code)
	}
}

// TestPackaging: the image's parts are there, the binary needs nothing, and the unit calls it as it wants to be called.
func TestPackaging(t *testing.T) {
	f, err := elf.Open(testenv.Binary(t))
	must(t, err)
	defer f.Close()
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Errorf("the binary needs %v (%v)", libs, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary needs a dynamic loader")
		}
	}
	makefile, err := os.ReadFile(root + "Makefile")
	must(t, err)
	if !regexp.MustCompile(`CGO_ENABLED=0 .*-o bin/forebay `).Match(makefile) {
		t.Error("`make build` does not make bin/forebay without cgo")
	}
	image, err := os.ReadFile(root + "packaging/Containerfile")
	must(t, err)
	copies := 0
	for _, line := range strings.Split(string(image), "\n") {
		parts := strings.Fields(line)
		if len(parts) < 3 || parts[0] != "COPY" {
			continue
		}
		for _, from := range parts[1 : len(parts)-1] {
			copies++
			if _, err := os.Stat(root + from); err != nil && from != "bin/forebay" {
				t.Error(err)
			}
		}
	}
	if copies != 3 || !strings.Contains(string(image), "\nFROM scratch\n") {
		t.Errorf("%d files are copied:\n%s", copies, image)
	}
	unit, err := os.ReadFile(root + "packaging/forebay.service")
	must(t, err)
	start := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/forebay (.*)$`).FindSubmatch(unit)
	example := regexp.MustCompile(`(?m)^#   (core: .*)$`).FindSubmatch(unit)
	if start == nil || example == nil {
		t.Fatalf("%s", unit)
	}
	config := filepath.Join(t.TempDir(), "node.yaml")
	must(t, os.WriteFile(config, append(example[1], '\n'), 0o644))
	// With the example's addresses the node would listen where others reach it, unsecured, and it says so: everything before that was right.
	out, err := shell(t, testenv.Binary(t)+" "+strings.ReplaceAll(string(start[1]), "/etc/forebay/node.yaml", config))
	if err == nil || !strings.Contains(out, "is not on loopback, and nothing secures it") {
		t.Errorf("%s %v", out, err)
	}
}

func ptr(s string) *string { return &s }
