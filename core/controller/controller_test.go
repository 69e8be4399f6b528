package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/problem"
)

// quorum agrees with itself at once.
type quorum struct {
	mu    sync.Mutex
	image *metadata.Image
}

func (q *quorum) Propose(_ context.Context, c metadata.Command) (metadata.Result, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c, err := metadata.Decode(metadata.Encode(c))
	if err != nil {
		return metadata.Result{}, err
	}
	var r metadata.Result
	q.image, r = metadata.Apply(q.image, q.image.Index+1, c)
	return r, nil
}

func (q *quorum) Current(context.Context) error { return nil }

func (q *quorum) Image() *metadata.Image {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.image
}

func newController(t *testing.T, nodes int, static map[string]string) *Controller {
	t.Helper()
	q := &quorum{image: metadata.NewImage()}
	for n := range nodes {
		if _, err := q.Propose(t.Context(), &metadata.RegisterNode{ID: metadata.NodeID(n + 1), Host: "h", Port: 9092}); err != nil {
			t.Fatal(err)
		}
	}
	return New(Options{Quorum: q, NodeID: 1, Static: static})
}

func create(t *testing.T, c *Controller, n NewTopic) (*metadata.Topic, error) {
	t.Helper()
	topics, errs := c.CreateTopics(t.Context(), []NewTopic{n}, false)
	if errs[0] == nil && topics[0] == nil {
		t.Fatal("neither topic nor error")
	}
	return topics[0], errs[0]
}

func code(err error) int16 {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return -2
	}
	return 0
}

func TestCreateTopicsAsKafkaDoes(t *testing.T) {
	c := newController(t, 3, nil)
	if _, err := create(t, c, NewTopic{Name: "there.is", Partitions: 1, Replication: 1}); err != nil {
		t.Fatal(err)
	}
	by := func(parts ...[]metadata.NodeID) map[int32][]metadata.NodeID {
		m := map[int32][]metadata.NodeID{}
		for n, p := range parts {
			m[int32(n)] = p
		}
		return m
	}
	for _, tc := range []struct {
		topic NewTopic
		want  *kerr.Error
		text  string
	}{
		{NewTopic{Name: "there.is", Partitions: 1, Replication: 1}, kerr.TopicAlreadyExists, "already exists"},
		{NewTopic{Name: "there_is", Partitions: 1, Replication: 1}, kerr.InvalidTopicException, "collides"},
		{NewTopic{Name: "a b", Partitions: 1, Replication: 1}, kerr.InvalidTopicException, "ASCII"},
		{NewTopic{Name: "", Partitions: 1, Replication: 1}, kerr.InvalidTopicException, "empty"},
		{NewTopic{Name: "t", Partitions: 0, Replication: 1}, kerr.InvalidPartitions, "non-positive"},
		{NewTopic{Name: "t", Partitions: -2, Replication: 1}, kerr.InvalidPartitions, "non-positive"},
		{NewTopic{Name: "t", Partitions: 1 << 30, Replication: 1}, kerr.PolicyViolation, "at most"},
		{NewTopic{Name: "t", Partitions: 1, Replication: 0}, kerr.InvalidReplicationFactor, "larger than 0"},
		{NewTopic{Name: "t", Partitions: 1, Replication: 4}, kerr.InvalidReplicationFactor, "only 3 node"},
		{NewTopic{Name: "t", Partitions: 1, Replication: 1, Configs: map[string]string{"retention.msec": "1"}}, kerr.InvalidConfig, "retention.ms?"},
		{NewTopic{Name: "t", Partitions: 1, Replication: 1, Configs: map[string]string{"retention.ms": "x"}}, kerr.InvalidConfig, "Not a number"},
		{NewTopic{Name: "t", Partitions: 1, Replication: 1, Configs: map[string]string{"retention.ms": "-2"}}, kerr.InvalidConfig, "at least -1"},
		{NewTopic{Name: "t", Partitions: 1, Replication: 1, Configs: map[string]string{"cleanup.policy": "shred"}}, kerr.InvalidConfig, "one of"},
		{NewTopic{Name: "t", Partitions: 1, Replication: 1, Configs: map[string]string{"cleanup.policy": "delete,"}}, kerr.InvalidConfig, "not be empty"},
		{NewTopic{Name: "t", Partitions: 1, Replication: 1, Configs: map[string]string{"remote.storage.enable": "true"}}, kerr.InvalidConfig, "Tiered"},
		{NewTopic{Name: "t", Partitions: 1, Replication: 1, Configs: map[string]string{"min.compaction.lag.ms": "9", "max.compaction.lag.ms": "8"}}, kerr.InvalidConfig, "conflict"},
		{NewTopic{Name: "t", Partitions: 2, Replication: -1, Assignment: by([]metadata.NodeID{1})}, kerr.InvalidRequest, "by hand"},
		{NewTopic{Name: "t", Partitions: -1, Replication: -1, Assignment: by([]metadata.NodeID{1}, []metadata.NodeID{1, 2})}, kerr.InvalidReplicaAssignment, "others have"},
		{NewTopic{Name: "t", Partitions: -1, Replication: -1, Assignment: by([]metadata.NodeID{1, 1})}, kerr.InvalidReplicaAssignment, "twice"},
		{NewTopic{Name: "t", Partitions: -1, Replication: -1, Assignment: by([]metadata.NodeID{9})}, kerr.InvalidReplicaAssignment, "not registered"},
		{NewTopic{Name: "t", Partitions: -1, Replication: -1, Assignment: map[int32][]metadata.NodeID{1: {1}}}, kerr.InvalidReplicaAssignment, "consecutive"},
		{NewTopic{Name: "t", Partitions: -1, Replication: -1, Assignment: map[int32][]metadata.NodeID{0: {}}}, kerr.InvalidReplicaAssignment, "no replicas"},
	} {
		_, err := create(t, c, tc.topic)
		if code(err) != tc.want.Code || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%+v: %v (code %d), want %s, %q", tc.topic, err, code(err), tc.want.Message, tc.text)
		}
		_, errs := c.CreateTopics(t.Context(), []NewTopic{tc.topic}, true)
		if code(errs[0]) != tc.want.Code {
			t.Errorf("%+v, validate only: %v", tc.topic, errs[0])
		}
	}
	if got := len(c.Image().Topics); got != 1 {
		t.Errorf("%d topics", got)
	}
}

// A factor that is set is meant, for the coordinators' topics, too: they wait for the nodes. Only a default gives way.
func TestFactorOfInternalTopics(t *testing.T) {
	for name, topic := range map[string]string{"offsets.topic.replication.factor": OffsetsTopic, "transaction.state.log.replication.factor": TxnTopic} {
		for _, nodes := range []int{1, 2, 3, 4} {
			for _, set := range []string{"", "3"} {
				static := map[string]string{}
				if set != "" {
					static[name] = set
				}
				got, err := create(t, newController(t, nodes, static), NewTopic{Name: topic, Partitions: -1, Replication: -1})
				switch {
				case set != "" && nodes < 3:
					if code(err) != kerr.InvalidReplicationFactor.Code || !strings.Contains(err.Error(), "only") {
						t.Errorf("%s=%s with %d nodes: %v", name, set, nodes, err)
					}
				case err != nil || len(got.Partitions[0].Replicas) != min(nodes, 3):
					t.Errorf("%s=%q with %d nodes: %v %v", name, set, nodes, got, err)
				}
			}
		}
	}
}

func TestCreateTopicsDefaultsAndBatches(t *testing.T) {
	c := newController(t, 1, map[string]string{"num.partitions": "7"})
	topics, errs := c.CreateTopics(t.Context(), []NewTopic{
		{Name: "a", Partitions: -1, Replication: -1},
		{Name: "a", Partitions: 1, Replication: 1},
		{Name: "b", Partitions: 2, Replication: 1, Configs: map[string]string{"retention.ms": "5"}},
		{Name: OffsetsTopic, Partitions: -1, Replication: -1},
		{Name: TxnTopic, Partitions: 50, Replication: -1},
	}, false)
	if errs[0] != nil || code(errs[1]) != kerr.InvalidRequest.Code || errs[2] != nil || errs[3] != nil || errs[4] != nil {
		t.Fatal(errs)
	}
	if len(topics[0].Partitions) != 7 || len(topics[3].Partitions) != 50 || !topics[3].Internal || !topics[4].Internal {
		t.Error(topics)
	}
	if topics[0].ID.Version() != 4 {
		t.Error("topic id", topics[0].ID)
	}
	got := c.Settings(c.Image(), OffsetsTopic).Log
	if !got.Compact || got.Delete || got.SegmentBytes != 104857600 {
		t.Errorf("%+v", got)
	}
	if b := c.Settings(c.Image(), "b"); b.Log.RetentionAge != 5*time.Millisecond || b.MinInSync != 1 || !b.Log.Delete {
		t.Errorf("%+v", b)
	}
	v, errs := c.CreateTopics(t.Context(), []NewTopic{{Name: "dry", Partitions: 3, Replication: 1}}, true)
	if errs[0] != nil || len(v[0].Partitions) != 3 || c.Image().Topics["dry"] != nil {
		t.Error("validateOnly", errs, v)
	}
}

func TestPlacementSpreads(t *testing.T) {
	c := newController(t, 4, nil)
	topic, err := create(t, c, NewTopic{Name: "t", Partitions: 24, Replication: 3})
	if err != nil {
		t.Fatal(err)
	}
	lead, follow := map[metadata.NodeID]int{}, map[[2]metadata.NodeID]int{}
	for _, p := range topic.Partitions {
		lead[p.Leader]++
		if r := slices.Compact(slices.Sorted(slices.Values(p.Replicas))); len(r) != 3 {
			t.Fatalf("replicas %v", p.Replicas)
		}
		for _, f := range p.Replicas[1:] {
			follow[[2]metadata.NodeID{p.Leader, f}]++
		}
	}
	for n := range 4 {
		if lead[metadata.NodeID(n+1)] != 6 {
			t.Error("leaders", lead)
		}
	}
	if len(follow) != 12 {
		t.Errorf("a failed leader's load goes to some only: %v", follow)
	}
}

func TestDeleteTopicsAndCreatePartitions(t *testing.T) {
	c := newController(t, 1, nil)
	for _, n := range []string{"a", OffsetsTopic} {
		if _, err := create(t, c, NewTopic{Name: n, Partitions: 2, Replication: 1}); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	for _, tc := range []struct {
		topic string
		total int32
		on    [][]metadata.NodeID
		want  *kerr.Error
	}{
		{"a", 2, nil, kerr.InvalidPartitions},
		{"a", 1, nil, kerr.InvalidPartitions},
		{"b", 3, nil, kerr.UnknownTopicOrPartition},
		{"a", 3, [][]metadata.NodeID{{1}, {1}}, kerr.InvalidReplicaAssignment},
		{"a", 3, [][]metadata.NodeID{{5}}, kerr.InvalidReplicaAssignment},
		{"a", 1 << 30, nil, kerr.PolicyViolation},
		{OffsetsTopic, 100, nil, kerr.InvalidPartitions},
	} {
		if err := c.CreatePartitions(ctx, tc.topic, tc.total, tc.on, false); code(err) != tc.want.Code {
			t.Errorf("%s to %d: %v", tc.topic, tc.total, err)
		}
	}
	if err := c.CreatePartitions(ctx, "a", 4, nil, true); err != nil || len(c.Image().Topics["a"].Partitions) != 2 {
		t.Error("validateOnly", err)
	}
	if err := c.CreatePartitions(ctx, "a", 4, [][]metadata.NodeID{{1}, {1}}, false); err != nil || len(c.Image().Topics["a"].Partitions) != 4 {
		t.Error(err)
	}
	errs := c.DeleteTopics(ctx, []string{"a", "b"})
	if errs[0] != nil || code(errs[1]) != kerr.UnknownTopicOrPartition.Code || c.Image().Topics["a"] != nil {
		t.Error(errs)
	}
	c = newController(t, 1, map[string]string{"delete.topic.enable": "false"})
	if _, err := create(t, c, NewTopic{Name: "a", Partitions: 2, Replication: 1}); err != nil {
		t.Fatal(err)
	}
	if errs := c.DeleteTopics(ctx, []string{"a"}); code(errs[0]) != kerr.TopicDeletionDisabled.Code {
		t.Error(errs)
	}
}

func str(s string) *string { return &s }

func find(t *testing.T, entries []ConfigEntry, name string) ConfigEntry {
	t.Helper()
	for _, e := range entries {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("no %s", name)
	return ConfigEntry{}
}

func TestConfigsComeFromTheNearestPlace(t *testing.T) {
	c := newController(t, 1, map[string]string{"log.retention.hours": "2", "message.max.bytes": "1000"})
	ctx := t.Context()
	if _, err := create(t, c, NewTopic{Name: "a", Partitions: 1, Replication: 1}); err != nil {
		t.Fatal(err)
	}
	look := func() string {
		t.Helper()
		entries, err := c.TopicConfigs("a")
		if err != nil {
			t.Fatal(err)
		}
		e := find(t, entries, "retention.ms")
		s := fmt.Sprintf("%s/%d", e.Value, e.Source)
		for _, y := range e.Synonyms {
			s += fmt.Sprintf(" %s=%s/%d", y.Name, y.Value, y.Source)
		}
		if want := fmt.Sprint(c.Settings(c.Image(), "a").Log.RetentionAge.Milliseconds()); want != e.Value {
			t.Errorf("the log has %s, the client sees %s", want, e.Value)
		}
		return s
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		do   func()
		want string
	}{
		{func() {}, "7200000/5"}, // as in Kafka: log.retention.ms itself is set nowhere,
		{func() {
			must(c.AlterBrokerConfigs(ctx, "", []ConfigOp{{Name: "log.retention.ms", Value: str("3")}}, false))
		},
			"3/3 log.retention.ms=3/3 log.retention.hours=2/4 log.retention.hours=168/5"},
		{func() {
			must(c.AlterBrokerConfigs(ctx, "1", []ConfigOp{{Name: "log.retention.ms", Value: str("4")}}, false))
		},
			"4/2 log.retention.ms=4/2 log.retention.ms=3/3 log.retention.hours=2/4 log.retention.hours=168/5"},
		{func() {
			must(c.AlterTopicConfigs(ctx, "a", []ConfigOp{{Name: "retention.ms", Value: str("5")}}, false))
		},
			"5/1 retention.ms=5/1 log.retention.ms=4/2 log.retention.ms=3/3 log.retention.hours=2/4 log.retention.hours=168/5"},
		{func() { must(c.AlterTopicConfigs(ctx, "a", []ConfigOp{{Name: "retention.ms", Op: 1}}, false)) },
			"4/2 log.retention.ms=4/2 log.retention.ms=3/3 log.retention.hours=2/4 log.retention.hours=168/5"},
	}
	for n, s := range steps {
		s.do()
		if got := look(); got != s.want {
			t.Errorf("step %d: %s\nwant %s", n, got, s.want)
		}
	}
	if got := c.Settings(c.Image(), "a").Log.MaxBatchBytes; got != 1000 {
		t.Error("max.message.bytes", got)
	}
	if got := c.Duration("log.retention.check.interval.ms"); got != 5*time.Minute {
		t.Error(got)
	}
	broker, err := c.BrokerConfigs("1")
	if err != nil || !find(t, broker, "num.partitions").ReadOnly || find(t, broker, "log.retention.ms").ReadOnly || !find(t, broker, "broker.rack").Null {
		t.Error(err)
	}
	cluster, err := c.BrokerConfigs("")
	if err != nil || len(cluster) != 1 || cluster[0].Name != "log.retention.ms" {
		t.Error(cluster, err)
	}
	if _, err := c.BrokerConfigs("7"); code(err) != kerr.InvalidRequest.Code {
		t.Error(err)
	}
	if _, err := c.TopicConfigs("none"); code(err) != kerr.UnknownTopicOrPartition.Code {
		t.Error(err)
	}
}

func TestAlterConfigsOperations(t *testing.T) {
	c := newController(t, 1, nil)
	ctx := t.Context()
	if _, err := create(t, c, NewTopic{Name: "a", Partitions: 1, Replication: 1}); err != nil {
		t.Fatal(err)
	}
	policy := func() string { return c.Image().TopicConfigs["a"]["cleanup.policy"] }
	for _, s := range []struct {
		op   int8
		v    string
		want string
	}{
		{2, "compact", "delete,compact"}, {2, "compact", "delete,compact"}, {3, "delete", "compact"}, {0, "delete,compact", "delete,compact"}, {1, "", ""},
	} {
		if err := c.AlterTopicConfigs(ctx, "a", []ConfigOp{{Name: "cleanup.policy", Op: s.op, Value: str(s.v)}}, false); err != nil || policy() != s.want {
			t.Errorf("%d %s: %q, %v", s.op, s.v, policy(), err)
		}
	}
	for _, s := range []struct {
		ops  []ConfigOp
		want *kerr.Error
	}{
		{[]ConfigOp{{Name: "nope", Value: str("1")}}, kerr.InvalidConfig},
		{[]ConfigOp{{Name: "retention.ms", Op: 2, Value: str("1")}}, kerr.InvalidConfig},
		{[]ConfigOp{{Name: "retention.ms"}}, kerr.InvalidRequest},
		{[]ConfigOp{{Name: "retention.ms", Op: 9, Value: str("1")}}, kerr.InvalidRequest},
		{[]ConfigOp{{Name: "retention.ms", Value: str("1")}, {Name: "retention.ms", Op: 1}}, kerr.InvalidRequest},
		{[]ConfigOp{{Name: "retention.ms", Value: str("1")}, {Name: "segment.bytes", Value: str("1")}}, kerr.InvalidConfig},
		{[]ConfigOp{{Name: "cleanup.policy", Op: 2, Value: str("shred")}}, kerr.InvalidConfig},
	} {
		if err := c.AlterTopicConfigs(ctx, "a", s.ops, false); code(err) != s.want.Code {
			t.Errorf("%+v: %v", s.ops, err)
		}
	}
	if len(c.Image().TopicConfigs["a"]) != 0 {
		t.Error("a refused change changed", c.Image().TopicConfigs["a"])
	}
	if err := c.AlterBrokerConfigs(ctx, "1", []ConfigOp{{Name: "num.partitions", Value: str("3")}}, false); code(err) != kerr.InvalidRequest.Code {
		t.Error(err)
	}
	if err := c.AlterBrokerConfigs(ctx, "9", []ConfigOp{{Name: "log.retention.ms", Value: str("3")}}, false); code(err) != kerr.InvalidRequest.Code {
		t.Error(err)
	}
	if err := c.AlterTopicConfigs(ctx, "none", nil, false); code(err) != kerr.UnknownTopicOrPartition.Code {
		t.Error(err)
	}
}

// The tables must agree with themselves: what is given as a default is allowed, and what gives a default is there.
func TestTables(t *testing.T) {
	for kind, defs := range map[string][]*def{"topic": topicDefs, "broker": brokerDefs, "group": groupDefs} {
		seen := map[string]bool{}
		for _, d := range defs {
			if seen[d.name] {
				t.Errorf("%s config %s twice", kind, d.name)
			}
			seen[d.name] = true
			if !d.null {
				if err := d.check(d.value); err != nil {
					t.Errorf("%s config %s: its default is refused: %v", kind, d.name, err)
				}
			}
			if d.doc == "" {
				t.Errorf("%s config %s has no doc", kind, d.name)
			}
			for _, u := range d.units {
				if brokerByName[u.name] == nil {
					t.Errorf("%s: no %s", d.name, u.name)
				}
			}
		}
	}
	for _, d := range topicDefs {
		if b := brokerByName[d.broker]; b != nil && !b.null && b.value != d.value {
			t.Errorf("%s defaults to %s, %s to %s", d.name, d.value, b.name, b.value)
		}
	}
}

func TestStaticProperties(t *testing.T) {
	for name, want := range map[string]string{
		"num.partition": "did you mean num.partitions?", "retention.ms": "retention.ms", "num.partitions": "Not a number",
	} {
		err := CheckStatic(map[string]string{name: "x"})
		var p *problem.Error
		if !errors.As(err, &p) || p.Class != problem.Input || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := CheckStatic(map[string]string{"num.partitions": "3", "log.retention.hours": "-1"}); err != nil {
		t.Error(err)
	}
}

func TestProducerIDsNeverRepeat(t *testing.T) {
	c := newController(t, 1, nil)
	seen := map[int64]bool{}
	for range 5 {
		first, count, err := c.AllocateProducerIDs(t.Context())
		if err != nil || count != ProducerIDBlock {
			t.Fatal(count, err)
		}
		for n := range int64(count) {
			if seen[first+n] {
				t.Fatal("twice", first+n)
			}
			seen[first+n] = true
		}
	}
	if len(slices.Collect(maps.Keys(seen))) != 5000 {
		t.Error(len(seen))
	}
}
