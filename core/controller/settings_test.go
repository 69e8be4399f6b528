package controller

import (
	"strings"
	"testing"

	"github.com/forebayhub/forebay/core/metadata"
)

// TestTopicConfigsAreReal: a config whose documentation does not say that it changes nothing changes what the log is told, on a
// topic that is there, and so does the broker config that gives its default.
func TestTopicConfigsAreReal(t *testing.T) {
	c := newController(t, 1, nil)
	if _, err := create(t, c, NewTopic{Name: "a", Partitions: 1, Replication: 1}); err != nil {
		t.Fatal(err)
	}
	other := map[string]string{
		"leader.replication.throttled.replicas": "0:1,5:2", "follower.replication.throttled.replicas": "*",
		"cleanup.policy": "compact", "compression.type": "lz4", "message.timestamp.type": "LogAppendTime", "min.cleanable.dirty.ratio": "0.25",
		"forebay.append.condition": "true", "unclean.leader.election.enable": "true",
	}
	needs := map[string]string{"compression.gzip.level": "gzip", "compression.lz4.level": "lz4", "compression.zstd.level": "zstd"}
	set := func(name, value string) ConfigOp { return ConfigOp{Name: name, Value: &value} }
	for _, d := range topicDefs {
		if strings.HasSuffix(d.doc, without) || d.name == "remote.storage.enable" {
			continue
		}
		value := other[d.name]
		if value == "" {
			value = "5"
		}
		if d.name == "segment.bytes" {
			value = "2097152"
		}
		if codec := needs[d.name]; codec != "" {
			if err := c.AlterTopicConfigs(t.Context(), "a", []ConfigOp{set("compression.type", codec)}, false); err != nil {
				t.Fatal(err)
			}
		}
		before := c.Settings(c.Image(), "a")
		if err := c.AlterTopicConfigs(t.Context(), "a", []ConfigOp{set(d.name, value)}, false); err != nil {
			t.Fatal(err)
		}
		if c.Settings(c.Image(), "a") == before {
			t.Errorf("%s changes nothing", d.name)
		}
		if err := c.AlterTopicConfigs(t.Context(), "a", []ConfigOp{{Name: d.name, Op: 1}}, false); err != nil {
			t.Fatal(err)
		}
		if d.broker != "" {
			if brokerByName[d.broker] == nil {
				t.Errorf("%s has its default from %s, which is not there", d.name, d.broker)
				continue
			}
			if err := c.AlterBrokerConfigs(t.Context(), "", []ConfigOp{set(d.broker, value)}, false); err != nil {
				t.Errorf("%s: %v", d.broker, err)
				continue
			}
			if c.Settings(c.Image(), "a") == before {
				t.Errorf("%s changes nothing", d.broker)
			}
			if err := c.AlterBrokerConfigs(t.Context(), "", []ConfigOp{{Name: d.broker, Op: 1}}, false); err != nil {
				t.Fatal(err)
			}
		}
		if codec := needs[d.name]; codec != "" {
			if err := c.AlterTopicConfigs(t.Context(), "a", []ConfigOp{{Name: "compression.type", Op: 1}}, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, want := c.Settings(c.Image(), "a"), c.Settings(metadata.NewImage(), "a"); got != want {
		t.Errorf("after all were taken back: %+v, want %+v", got, want)
	}
}

// TestNeverIsNoBound: Kafka's largest number for never is no bound, and its 0 is not our default.
func TestNeverIsNoBound(t *testing.T) {
	c := newController(t, 1, nil)
	l := c.Settings(metadata.NewImage(), "a").Log
	if l.FlushMessages != 0 || l.FlushAge != 0 || l.MaxCompactionLag != 0 || l.Compression.Set || l.MinDirtyRatio != 0.5 {
		t.Errorf("%+v", l)
	}
	if ratio("0") == 0 || bound(0) == 0 {
		t.Error("0 would be taken for a default")
	}
}
