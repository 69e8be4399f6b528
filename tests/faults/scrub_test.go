package faults

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/tests/node"
)

// quickly is a scrub without a rest.
var quickly = []string{"--set", "log.scrub.interval.ms=100", "--set", "log.scrub.io.max.bytes.per.second=100000000"}

// TestTheScrubRepairsWhatNobodyReads: a bit of a closed segment of one of three replicas rots while the nodes run. Nobody reads it, and it is repaired.
func TestTheScrubRepairsWhatNobodyReads(t *testing.T) {
	c := newThree(t, quickly...)
	c.inSync()
	c.leads()
	c.more(600)
	closed := c.flip(0, 0, 0)
	was := c.content(closed)
	c.repaired(1)
	c.keeps(closed, was)
	if text := c.nodes[2].LogTail(1000); !strings.Contains(text, "damage was found on disk that nobody had read") || !strings.Contains(text, filepath.Base(closed)) {
		t.Error("the node's log does not name it")
	}
	if n := c.metric("forebay_scrub_damaged_segments_total"); n != 1 {
		t.Errorf("%d segments were found", n)
	}
	if err := c.readAt(0); err != nil {
		t.Errorf("after the repair: %v", err)
	}
	c.end()
}

// TestTheScrubNamesWhatNobodyReads: a lone node has nothing to repair it from, so it says where it is, wherever somebody may look.
func TestTheScrubNamesWhatNobodyReads(t *testing.T) {
	data := t.TempDir()
	n := node.New(t, append(quickly, "--data", data)...)
	n.Start()
	cl := client(t, n.Kafka, kgo.ProducerBatchCompression(kgo.NoCompression()))
	size := "1048576"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, map[string]*string{"segment.bytes": &size}, "t"); err != nil {
		t.Fatal(err)
	}
	for range 24 {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: make([]byte, 100<<10)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	list, err := filepath.Glob(filepath.Join(data, "log", "t-0", "*.log"))
	if err != nil || len(list) < 3 {
		t.Fatal("segments:", list, err)
	}
	rot(t, list[1], 0)
	eventually(t, 30*time.Second, "the scrub finds it", func() bool {
		resp, err := http.Get("http://" + n.HTTP + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(text), "the log of partition t-0 is damaged: "+list[1]+": byte ")
	})
	out, code := node.Run(t, nil, "topics", "describe", "t", "--bootstrap", n.Kafka)
	if code != 0 || !strings.Contains(out, "partition 0: node 1 has found the log of its replica damaged: "+list[1]) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	out, code = node.Run(t, nil, "doctor", "--data", t.TempDir(), "--kafka", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--http", "127.0.0.1:0", "--bootstrap", n.Kafka)
	if code == 0 || !strings.Contains(out, "node 1's log of t-0: damaged: "+list[1]) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if text := n.LogTail(1000); !strings.Contains(text, "forebay log repair") {
		t.Error("the node's log does not say what to do")
	}
}
