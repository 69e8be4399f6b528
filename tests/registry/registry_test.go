// Package registry has nodes serve schemas: one, three that are asked in turn, and one that is killed.
package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// ask sends a request and reads the answer into out.
func ask(t *testing.T, n *node.Node, method, path string, body, out any) (int, error) {
	t.Helper()
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.HTTP+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if got := resp.Header.Get("Content-Type"); got != "application/vnd.schemaregistry.v1+json" {
		t.Errorf("%s %s: content type %q", method, path, got)
	}
	if resp.StatusCode >= 500 {
		return resp.StatusCode, fmt.Errorf("%s %s: %s", method, path, text)
	}
	if out != nil && resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
	return resp.StatusCode, nil
}

type registered struct{ ID, Version int }

// register registers an enum that is told from others by its symbols.
func register(t *testing.T, n *node.Node, subject string, i int) (registered, error) {
	t.Helper()
	text := fmt.Sprintf(`{"type":"enum","name":"E","symbols":["A","S%d"],"default":"A"}`, i)
	var out registered
	code, err := ask(t, n, "POST", "/subjects/"+url.PathEscape(subject)+"/versions", map[string]any{"schema": text}, &out)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status %d", code)
	}
	return out, err
}

// TestThreeNodes registers the same schemas through three nodes at once: each has one id, whoever was asked, ids have no gap, and all nodes say the same at
// once. Then the node that leads the topic is killed, and what was answered is there.
func TestThreeNodes(t *testing.T) {
	nodes := node.NewCluster(t, 3)
	node.StartAll(t, nodes)
	const schemas = 8
	ids := make([][3]int, schemas)
	var wg sync.WaitGroup
	for who, n := range nodes {
		wg.Go(func() {
			for i := range schemas {
				got, err := register(t, n, fmt.Sprintf("s%d", i%4), i)
				if err != nil {
					t.Error(err)
					return
				}
				ids[i][who] = got.ID
			}
		})
	}
	wg.Wait()
	var all []int
	for i, of := range ids {
		if of[0] != of[1] || of[1] != of[2] {
			t.Errorf("schema %d has the ids %v", i, of)
		}
		all = append(all, of[0])
	}
	slices.Sort(all)
	if all[0] != 1 || all[schemas-1] != schemas || len(slices.Compact(slices.Clone(all))) != schemas {
		t.Errorf("ids %v", all)
	}
	check := func(nodes []*node.Node) {
		t.Helper()
		for _, n := range nodes {
			var subjects []string
			if code, err := ask(t, n, "GET", "/subjects", nil, &subjects); err != nil || code != 200 || !slices.Equal(subjects, []string{"s0", "s1", "s2", "s3"}) {
				t.Errorf("node %s: %d %v %v", n.HTTP, code, err, subjects)
			}
			for i, of := range ids {
				got, err := register(t, n, fmt.Sprintf("s%d", i%4), i)
				if err != nil || got.ID != of[0] {
					t.Errorf("node %s: schema %d: %v %v", n.HTTP, i, got, err)
				}
			}
		}
	}
	check(nodes)
	leader := nodes[leaderOf(t, nodes[0], "_schemas")-1]
	leader.Kill()
	left := slices.DeleteFunc(slices.Clone(nodes), func(n *node.Node) bool { return n == leader })
	check(left)
	if got, err := register(t, left[0], "late", 1000); err != nil || got.ID != schemas+1 {
		t.Errorf("after the death of the leader: %v %v", got, err)
	}
	leader.Start()
	if got, err := register(t, leader, "late", 1000); err != nil || got.ID != schemas+1 {
		t.Errorf("the node that came back: %v %v", got, err)
	}
}

// leaderOf asks the command line.
func leaderOf(t *testing.T, n *node.Node, topic string) int {
	t.Helper()
	out, code := node.Run(t, nil, "topics", "describe", topic, "--bootstrap", n.Kafka, "--json")
	var body struct {
		Data []struct {
			Partitions []struct{ Leader int } `json:"partition_details"`
		}
	}
	if err := json.Unmarshal([]byte(out), &body); err != nil || code != 0 || len(body.Data) != 1 || len(body.Data[0].Partitions) != 1 {
		t.Fatalf("topics describe ended with %d: %v\n%s", code, err, out)
	}
	return body.Data[0].Partitions[0].Leader
}

// TestKill: a lone node is killed while schemas are registered; what was answered is there after the next start, with the same ids.
func TestKill(t *testing.T) {
	n := node.New(t, "--data", t.TempDir())
	n.Start()
	var mu sync.Mutex
	said := map[int]int{}
	var wg sync.WaitGroup
	enough := make(chan struct{})
	for who := range 3 {
		wg.Go(func() {
			for i := who; ; i += 3 {
				got, err := register(t, n, "s"+strconv.Itoa(i), i)
				if err != nil {
					return // it was killed
				}
				mu.Lock()
				said[i] = got.ID
				if len(said) == 30 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(time.Minute):
		t.Error("30 schemas are not registered within a minute")
	}
	n.Kill()
	wg.Wait()
	n.Start()
	seen := map[int]bool{}
	for i, id := range said {
		got, err := register(t, n, "s"+strconv.Itoa(i), i)
		if err != nil || got.ID != id || got.Version != 1 {
			t.Errorf("schema %d had id %d: %v %v", i, id, got, err)
		}
		if seen[id] {
			t.Errorf("id %d twice", id)
		}
		seen[id] = true
	}
}

// TestConfluentPython has confluent-kafka's registry client and its serializers work with a node.
func TestConfluentPython(t *testing.T) {
	python := testenv.Python(t)
	n := node.New(t, "--data", t.TempDir())
	n.Start()
	if out, err := exec.CommandContext(t.Context(), python, "confluent.py", n.Kafka, "http://"+n.HTTP).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTooLarge: what is too large is refused as the client's fault, by the body's size and by that of the record, and the node serves on.
func TestTooLarge(t *testing.T) {
	n := node.New(t, "--data", t.TempDir())
	n.Start()
	var b strings.Builder
	b.WriteString(`{"enum":[`)
	for i := 10_000; i < 110_000; i++ { // less than 900,000 bytes, in a record more than a million
		fmt.Fprintf(&b, `"%d",`, i)
	}
	b.WriteString(`""]}`)
	for what, c := range map[string]struct {
		text string
		want int
	}{"record": {b.String(), http.StatusUnprocessableEntity}, "body": {strings.Repeat("x", 5<<20), http.StatusRequestEntityTooLarge}} {
		code, err := ask(t, n, "POST", "/subjects/s/versions", map[string]any{"schemaType": "JSON", "schema": c.text}, nil)
		if err != nil || code != c.want {
			t.Errorf("%s: %d %v, want %d", what, code, err, c.want)
		}
	}
	if got, err := register(t, n, "s", 1); err != nil || got.ID != 1 {
		t.Errorf("the next one: %v %v", got, err)
	}
}
