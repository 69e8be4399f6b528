package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	topicType  = kmsg.ConfigResourceTypeTopic
	brokerType = kmsg.ConfigResourceTypeBroker
	loggerType = kmsg.ConfigResourceTypeBrokerLogger
	groupType  = kmsg.ConfigResourceTypeGroupConfig

	metricsType = kmsg.ConfigResourceTypeClientMetrics
)

type configChange struct {
	kind  kmsg.ConfigResourceType
	name  string
	key   string
	op    int8 // -2: by AlterConfigs
	value *string
}

const byAlterConfigs = -2

// change sends one change and gives its answer.
func (n *node) change(validateOnly bool, changes ...configChange) (int16, string) {
	n.t.Helper()
	said := func(code int16, text *string) (int16, string) {
		if text == nil {
			return code, ""
		}
		return code, *text
	}
	if changes[0].op == byAlterConfigs {
		req := kmsg.NewPtrAlterConfigsRequest()
		req.Version, req.ValidateOnly = 2, validateOnly
		res := kmsg.NewAlterConfigsRequestResource()
		res.ResourceType, res.ResourceName = changes[0].kind, changes[0].name
		for _, x := range changes {
			c := kmsg.NewAlterConfigsRequestResourceConfig()
			c.Name, c.Value = x.key, x.value
			res.Configs = append(res.Configs, c)
		}
		req.Resources = append(req.Resources, res)
		got := call[*kmsg.AlterConfigsResponse](n.dial(), req).Resources[0]
		return said(got.ErrorCode, got.ErrorMessage)
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version, req.ValidateOnly = 1, validateOnly
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = changes[0].kind, changes[0].name
	for _, x := range changes {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Op, c.Value = x.key, kmsg.IncrementalAlterConfigOp(x.op), x.value
		res.Configs = append(res.Configs, c)
	}
	req.Resources = append(req.Resources, res)
	got := call[*kmsg.IncrementalAlterConfigsResponse](n.dial(), req).Resources[0]
	return said(got.ErrorCode, got.ErrorMessage)
}

// Kafka 4.4 answers so, but for an operation that does not exist on a topic, which it answers with UNKNOWN_SERVER_ERROR.
func TestConfigChangesAreRefusedLikeKafka(t *testing.T) {
	n := newNode(t, nodeOptions{})
	n.topic("t", 1)
	v := kmsg.StringPtr
	const throttled = " must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."
	for _, c := range []struct {
		configChange
		code int16
		says string
	}{
		{configChange{brokerType, "", "log.cleaner.threads", 0, v("x")}, 42, "Invalid value x for configuration log.cleaner.threads: Not a number of type INT"},
		{configChange{brokerType, "1", "min.insync.replicas", 0, v("0")}, 42, "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1"},
		{configChange{brokerType, "1", "min.insync.replicas", byAlterConfigs, v("0")}, 42, "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1"},
		{configChange{brokerType, "1", "compression.type", 0, v("lzma")}, 42, "Invalid value lzma for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"},
		{configChange{brokerType, "1", "num.partitions", 0, v("x")}, 42, "Cannot update these configs dynamically: [num.partitions]"},
		{configChange{brokerType, "1", "num.partitions", 1, nil}, 0, ""},
		{configChange{brokerType, "1", "no.such.config", 1, nil}, 0, ""},
		{configChange{brokerType, "1", "log.cleaner.threads", 0, nil}, 42, "Null value not supported for : log.cleaner.threads"},
		{configChange{brokerType, "1", "log.cleaner.threads", 2, v("3")}, 40, "Config value append is not allowed for config key: log.cleaner.threads"},
		{configChange{brokerType, "1", "log.cleaner.threads", 7, v("3")}, 42, "Unknown operations type 7"},
		{configChange{brokerType, "1", "leader.replication.throttled.rate", 0, v("1000")}, 0, ""},
		{configChange{brokerType, "", "follower.replication.throttled.rate", 0, v("0")}, 0, ""},
		{configChange{brokerType, "", "replica.alter.log.dirs.io.max.bytes.per.second", 0, v("5")}, 0, ""},
		{configChange{brokerType, "", "num.io.threads", 0, v("9")}, 0, ""},
		{configChange{brokerType, "", "num.network.threads", 0, v("9")}, 0, ""},
		{configChange{brokerType, "x", "log.cleaner.threads", 0, v("1")}, 42, "Node id must be an integer, but it is: x"},
		{configChange{topicType, "t", "foo", 0, v("1")}, 40, "Unknown topic config name: foo"},
		{configChange{topicType, "t", "foo", 1, nil}, 0, ""},
		{configChange{topicType, "t", "foo", 2, v("1")}, 40, "Can't APPEND to key foo because its type is not LIST."},
		{configChange{topicType, "t", "retention.ms", 3, v("1")}, 40, "Can't SUBTRACT to key retention.ms because its type is not LIST."},
		{configChange{topicType, "t", "retention.ms", 7, v("1")}, 42, "Unknown operations type 7"},
		{configChange{topicType, "t", "retention.ms", byAlterConfigs, nil}, 42, "Null value not supported for : retention.ms"},
		{configChange{topicType, "t", "cleanup.policy", 0, v("foo")}, 40, "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete"},
		{configChange{topicType, "t", "cleanup.policy", 2, v("foo")}, 40, "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete"},
		{configChange{topicType, "t", "cleanup.policy", 2, v("")}, 40, "Configuration 'cleanup.policy' values must not be empty."},
		{configChange{topicType, "t", "cleanup.policy", 2, v("compact,compact")}, 0, ""},
		{configChange{topicType, "t", "cleanup.policy", 3, v("delete")}, 0, ""},
		{configChange{topicType, "t", "cleanup.policy", 3, v("")}, 0, ""},
		{configChange{topicType, "t", "cleanup.policy", 0, v("")}, 0, ""},
		{configChange{topicType, "t", "leader.replication.throttled.replicas", 0, v("foo")}, 40, "Invalid value [foo] for configuration leader.replication.throttled.replicas: leader.replication.throttled.replicas" + throttled},
		{configChange{topicType, "t", "follower.replication.throttled.replicas", 0, v("0:1,*")}, 40, "Invalid value [0:1, *] for configuration follower.replication.throttled.replicas: follower.replication.throttled.replicas" + throttled},
		{configChange{topicType, "t", "leader.replication.throttled.replicas", 0, v("*")}, 0, ""},
		{configChange{topicType, "t", "leader.replication.throttled.replicas", 0, v(" 0:1 , 1:2")}, 0, ""},
		{configChange{topicType, "t", "leader.replication.throttled.replicas", 0, v("")}, 0, ""},
		{configChange{topicType, "t", "compression.gzip.level", 0, v("0")}, 40, "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1"},
		{configChange{topicType, "t", "compression.gzip.level", 0, v("10")}, 40, "Invalid value 10 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1"},
		{configChange{topicType, "t", "min.cleanable.dirty.ratio", 0, v("2.0")}, 40, "Invalid value 2.0 for configuration min.cleanable.dirty.ratio: Value must be no more than 1"},
		{configChange{topicType, "t", "remote.storage.enable", 0, v("true")}, 40, "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."},
		{configChange{topicType, "", "retention.ms", 0, v("1")}, 42, "Default topic resources are not allowed."},
		{configChange{topicType, "a b", "retention.ms", 0, v("1")}, 17, "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"},
		{configChange{topicType, "none", "retention.ms", 0, v("1")}, 3, "The topic 'none' does not exist."},
		{configChange{topicType, "none", "retention.ms", byAlterConfigs, v("x")}, 40, "Invalid value x for configuration retention.ms: Not a number of type LONG"},
		{configChange{topicType, "none", "foo", 0, v("x")}, 40, "Unknown topic config name: foo"},
		{configChange{loggerType, "", "root", 0, v("INFO")}, 42, "Node id must be an integer, but it is: "},
		{configChange{loggerType, "x", "root", 0, v("INFO")}, 42, "Node id must be an integer, but it is: x"},
		{configChange{loggerType, "1", "foo.Bar", 0, v("INFO")}, 40, "Logger foo.Bar does not exist!"},
		{configChange{loggerType, "1", "foo.Bar", 2, v("INFO")}, 42, "APPEND operation is not allowed for the BROKER_LOGGER resource"},
		{configChange{loggerType, "1", "foo.Bar", byAlterConfigs, v("INFO")}, 42, "Unknown resource type 8"},
		{configChange{groupType, "g", "consumer.session.timeout.ms", 0, v("50000")}, 0, ""},
		{configChange{groupType, "g", "consumer.session.timeout.ms", 0, v("44000")}, 40, "consumer.session.timeout.ms must be in the range 45000 to 60000 inclusive."},
		{configChange{groupType, "g", "consumer.session.timeout.ms", byAlterConfigs, v("70000")}, 40, "consumer.session.timeout.ms must be in the range 45000 to 60000 inclusive."},
		{configChange{groupType, "g", "consumer.session.timeout.ms", 0, v("x")}, 40, "Invalid value x for configuration consumer.session.timeout.ms: Not a number of type INT"},
		{configChange{groupType, "g", "consumer.session.timeout.ms", 0, v("0")}, 40, "Invalid value 0 for configuration consumer.session.timeout.ms: Value must be at least 1"},
		{configChange{groupType, "g", "consumer.session.timeout.ms", 1, nil}, 0, ""},
		{configChange{groupType, "g", "consumer.session.timeout.ms", 0, nil}, 42, "Null value not supported for : consumer.session.timeout.ms"},
		{configChange{groupType, "g", "consumer.heartbeat.interval.ms", 0, v("4999")}, 40, "consumer.heartbeat.interval.ms must be in the range 5000 to 15000 inclusive."},
		{configChange{groupType, "g", "consumer.heartbeat.interval.ms", 0, v("15001")}, 40, "consumer.heartbeat.interval.ms must be in the range 5000 to 15000 inclusive."},
		{configChange{groupType, "g", "consumer.heartbeat.interval.ms", 2, v("6000")}, 40, "Can't APPEND to key consumer.heartbeat.interval.ms because its type is not LIST."},
		{configChange{groupType, "g", "foo", 0, v("1")}, 40, "Unknown group config name: foo"},
		{configChange{groupType, "g", "foo", 1, nil}, 0, ""},
		{configChange{groupType, "", "consumer.session.timeout.ms", 0, v("50000")}, 42, "Default group resources are not allowed."},
		{configChange{metricsType, "m", "interval.ms", 0, v("100")}, 0, ""},
		{configChange{metricsType, "m", "interval.ms", 0, v("99")}, 42, "Invalid value 99 for interval.ms, interval must be between 100 and 3600000 (1 hour)"},
		{configChange{metricsType, "m", "interval.ms", byAlterConfigs, v("3600001")}, 42, "Invalid value 3600001 for interval.ms, interval must be between 100 and 3600000 (1 hour)"},
		{configChange{metricsType, "m", "interval.ms", 0, v("x")}, 40, "Invalid value x for configuration interval.ms: Not a number of type INT"},
		{configChange{metricsType, "m", "match", 0, v("client_software_name = Java, client_software_version=11.1.*")}, 0, ""},
		{configChange{metricsType, "m", "match", 0, v("")}, 0, ""},
		{configChange{metricsType, "m", "match", 0, v("client=x")}, 40, "Illegal client matching pattern: client=x"},
		{configChange{metricsType, "m", "match", 0, v("client_id")}, 40, "Illegal client matching pattern: client_id"},
		{configChange{metricsType, "m", "match", 2, v("client_id=(")}, 40, "Illegal client matching pattern: client_id=("},
		{configChange{metricsType, "m", "foo", 0, v("1")}, 42, "Unknown client metrics configuration: foo"},
		{configChange{metricsType, "m", "foo", 1, nil}, 0, ""},
		{configChange{metricsType, "", "interval.ms", 0, v("100")}, 42, "Subscription name can't be empty"},
		{configChange{77, "x", "a", 0, v("1")}, 42, "Unknown resource type 77"},
	} {
		code, says := n.change(true, c.configChange)
		if code != c.code || !strings.HasPrefix(says, c.says) || c.code == 0 && says != "" {
			t.Errorf("%v: %d %q, want %d %q", c.configChange, code, says, c.code, c.says)
		}
	}
	for _, op := range []int8{0, byAlterConfigs} {
		if code, says := n.change(true, configChange{topicType, "t", "retention.ms", op, v("1")}, configChange{topicType, "t", "retention.ms", op, v("2")}); code != 42 || says != "Error due to duplicate config keys" {
			t.Error(code, says)
		}
		if code, says := n.change(true, configChange{topicType, "t", "retention.ms", op, nil}, configChange{topicType, "t", "segment.ms", op, nil}); code != 42 || says != "Null value not supported for : retention.ms, segment.ms" {
			t.Error(code, says)
		}
	}
	if len(n.quorum.Image().TopicConfigs["t"])+len(n.quorum.Image().BrokerConfigs)+len(n.quorum.Image().GroupConfigs) != 0 {
		t.Error("validating changed configs")
	}
}

func (n *node) describe(kind kmsg.ConfigResourceType, name string, keys ...string) kmsg.DescribeConfigsResponseResource {
	n.t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeSynonyms = 4, true
	res := kmsg.NewDescribeConfigsRequestResource()
	res.ResourceType, res.ResourceName, res.ConfigNames = kind, name, keys
	req.Resources = append(req.Resources, res)
	return call[*kmsg.DescribeConfigsResponse](n.dial(), req).Resources[0]
}

func TestDescribeConfigsRefusesLikeKafka(t *testing.T) {
	n := newNode(t, nodeOptions{})
	for _, c := range []struct {
		kind kmsg.ConfigResourceType
		name string
		code int16
		says string
	}{
		{topicType, "", 17, "Topic name is invalid: the empty string is not allowed"},
		{brokerType, "x", 42, "Broker id must be an integer, but it is: x"},
		{brokerType, "99", 42, "Unexpected broker id"},
		{loggerType, "", 42, "Broker id must not be empty"},
		{loggerType, "x", 42, "Broker id must be an integer, but it is: x"},
		{loggerType, "99", 42, "Unexpected broker id"},
		{groupType, "", 42, "Group name must not be empty"},
		{metricsType, "", 42, "Client metrics subscription name must not be empty"},
	} {
		got := n.describe(c.kind, c.name)
		says := ""
		if got.ErrorMessage != nil {
			says = *got.ErrorMessage
		}
		if got.ErrorCode != c.code || !strings.HasPrefix(says, c.says) || len(got.Configs) != 0 {
			t.Errorf("%v %q: %d %q", c.kind, c.name, got.ErrorCode, says)
		}
	}
}

// A topic without a cleanup.policy keeps its records for ever (KIP-1161).
func TestNoCleanupPolicyKeepsEverything(t *testing.T) {
	n := newNode(t, nodeOptions{})
	n.topic("t", 1)
	n.setTopic("t", "retention.bytes", "1")
	if code, says := n.change(false, configChange{topicType, "t", "cleanup.policy", 3, kmsg.StringPtr("delete")}); code != 0 {
		t.Fatal(code, says)
	}
	if s := n.s.d.Controller.Settings(n.quorum.Image(), "t").Log; s.Compact || s.RetentionBytes != -1 || s.RetentionAge != -1 {
		t.Errorf("%+v", s)
	}
}

// Configs of groups are set, shown with the broker's behind them, listed, replaced and removed.
func TestGroupConfigs(t *testing.T) {
	n := newNode(t, nodeOptions{})
	v := kmsg.StringPtr
	shown := func() string {
		t.Helper()
		out := ""
		for _, c := range n.describe(groupType, "g").Configs {
			out += c.Name + "=" + *c.Value + " " + c.Source.String() + ":"
			for _, s := range c.ConfigSynonyms {
				out += " " + s.Name + "=" + *s.Value
			}
			out += "\n"
		}
		return out
	}
	listed := func() (names []string) {
		t.Helper()
		req := kmsg.NewPtrListConfigResourcesRequest()
		req.Version, req.ResourceTypes = 1, []int8{int8(groupType)}
		for _, r := range call[*kmsg.ListConfigResourcesResponse](n.dial(), req).ConfigResources {
			names = append(names, r.Name)
		}
		return names
	}
	const heartbeat, session = "consumer.heartbeat.interval.ms", "consumer.session.timeout.ms"
	for _, s := range []struct {
		changes []configChange
		shown   string
		listed  int
	}{
		{nil, heartbeat + "=5000 DEFAULT_CONFIG: group." + heartbeat + "=5000\n" + session + "=45000 DEFAULT_CONFIG: group." + session + "=45000\n", 0},
		{
			[]configChange{{groupType, "g", session, 0, v("50000")}},
			heartbeat + "=5000 DEFAULT_CONFIG: group." + heartbeat + "=5000\n" + session + "=50000 GROUP_CONFIG: " + session + "=50000 group." + session + "=45000\n", 1,
		},
		{
			[]configChange{{groupType, "g", heartbeat, byAlterConfigs, v("6000")}},
			heartbeat + "=6000 GROUP_CONFIG: " + heartbeat + "=6000 group." + heartbeat + "=5000\n" + session + "=45000 DEFAULT_CONFIG: group." + session + "=45000\n", 1,
		},
		{
			[]configChange{{groupType, "g", heartbeat, 1, nil}},
			heartbeat + "=5000 DEFAULT_CONFIG: group." + heartbeat + "=5000\n" + session + "=45000 DEFAULT_CONFIG: group." + session + "=45000\n", 0,
		},
	} {
		if len(s.changes) > 0 {
			if code, says := n.change(false, s.changes...); code != 0 {
				t.Fatal(code, says)
			}
		}
		if got := shown(); got != s.shown {
			t.Errorf("after %v:\n%s", s.changes, got)
		}
		if got := listed(); len(got) != s.listed || len(got) == 1 && got[0] != "g" {
			t.Errorf("after %v: %v are listed", s.changes, got)
		}
	}
}

// The topics of coordinators have the configs that the node is told for them.
func TestInternalTopicsHaveTheirConfigs(t *testing.T) {
	n := newNode(t, nodeOptions{static: map[string]string{
		"offsets.topic.segment.bytes": "4194304", "transaction.state.log.segment.bytes": "5242880", "offsets.topic.num.partitions": "2", "transaction.state.log.num.partitions": "2",
	}})
	if err := errors.Join(n.s.d.Groups.EnsureTopic(t.Context()), n.s.d.Txns.EnsureTopic(t.Context())); err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]string{
		"__consumer_offsets":  "1 4194304 compact false producer",
		"__transaction_state": "1 5242880 compact false uncompressed",
	} {
		var values []string
		for _, c := range n.describe(topicType, topic, "cleanup.policy", "compression.type", "segment.bytes", "min.insync.replicas", "unclean.leader.election.enable").Configs {
			values = append(values, *c.Value)
		}
		slices.Sort(values)
		if got := strings.Join(values, " "); got != want {
			t.Errorf("%s: %s, want %s", topic, got, want)
		}
	}
}

// What kafka-client-metrics.sh does: a subscription is made, shown, listed and deleted, and is no broker meanwhile.
func TestClientMetricsSubscriptions(t *testing.T) {
	n := newNode(t, nodeOptions{})
	v := kmsg.StringPtr
	listed := func(version int16) (names []string) {
		t.Helper()
		req := kmsg.NewPtrListConfigResourcesRequest()
		req.Version = version
		c := n.dial()
		for _, r := range c.receive(req, c.send(req)).(*kmsg.ListConfigResourcesResponse).ConfigResources {
			if version == 0 || r.Type == int8(metricsType) {
				names = append(names, r.Name)
			}
		}
		return names
	}
	for _, s := range []struct {
		changes []configChange
		shown   string
		listed  []string
	}{
		{nil, "interval.ms=300000 match= metrics=", nil},
		{
			[]configChange{{metricsType, "1", "interval.ms", 0, v("1000")}, {metricsType, "1", "metrics", 0, v("a.")}},
			"interval.ms=1000 match= metrics=a.", []string{"1"},
		},
		{[]configChange{{metricsType, "1", "metrics", 2, v("b.")}}, "interval.ms=1000 match= metrics=a.,b.", []string{"1"}},
		{[]configChange{{metricsType, "1", "match", byAlterConfigs, v("client_id=x")}}, "interval.ms=300000 match=client_id=x metrics=", []string{"1"}},
		{[]configChange{{metricsType, "1", "interval.ms", 1, nil}, {metricsType, "1", "metrics", 1, nil}, {metricsType, "1", "match", 1, nil}}, "interval.ms=300000 match= metrics=", nil},
	} {
		if len(s.changes) > 0 {
			if code, says := n.change(false, s.changes...); code != 0 {
				t.Fatal(code, says)
			}
		}
		var shown []string
		for _, c := range n.describe(metricsType, "1").Configs {
			shown = append(shown, c.Name+"="+*c.Value)
		}
		slices.Sort(shown)
		if got := strings.Join(shown, " "); got != s.shown {
			t.Errorf("after %v: %s, want %s", s.changes, got, s.shown)
		}
		for _, version := range []int16{0, 1} {
			if got := listed(version); !slices.Equal(got, s.listed) {
				t.Errorf("after %v: version %d lists %v", s.changes, version, got)
			}
		}
		if len(n.quorum.Image().BrokerConfigs["1"]) != 0 {
			t.Error("a subscription's configs became the node's")
		}
	}
}

// What is so already is not agreed on anew. MirrorMaker sends all configs of all topics in one request every ten minutes, those that are not set as deletions: a
// commit for each topic took longer than it waits.
func TestVainChangesAreNotAgreedOn(t *testing.T) {
	n := newNode(t, nodeOptions{})
	all := func(retention string) *kmsg.IncrementalAlterConfigsRequest {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		for k := range 20 {
			res := kmsg.NewIncrementalAlterConfigsRequestResource()
			res.ResourceType, res.ResourceName = topicType, fmt.Sprint("t", k)
			for _, name := range []string{"segment.ms", "cleanup.policy", "max.message.bytes", "no.such"} {
				res.Configs = append(res.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Op: 1})
			}
			res.Configs = append(res.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: "retention.ms", Value: &retention})
			req.Resources = append(req.Resources, res)
		}
		return req
	}
	for k := range 20 {
		n.topic(fmt.Sprint("t", k), 1)
	}
	change := func(req *kmsg.IncrementalAlterConfigsRequest, commits int64) {
		t.Helper()
		before := n.quorum.Image().Index
		for _, r := range call[*kmsg.IncrementalAlterConfigsResponse](n.dial(), req).Resources {
			if r.ErrorCode != 0 {
				t.Fatalf("%s: %d %s", r.ResourceName, r.ErrorCode, *r.ErrorMessage)
			}
		}
		if got := int64(n.quorum.Image().Index - before); got != commits {
			t.Errorf("%d commits, want %d", got, commits)
		}
	}
	change(all("5000"), 20)
	change(all("5000"), 0)
	change(all("6000"), 20)

	// Another node has set something that this one has not heard of: it is deleted all the same.
	old := n.quorum.Image()
	n.setTopic("t3", "segment.ms", "7000")
	n.quorum.news = n.quorum.Image()
	n.quorum.image.Store(old)
	change(all("6000"), 2) // the other node's, and the deletion
	if v, set := n.quorum.Image().TopicConfigs["t3"]["segment.ms"]; set {
		t.Errorf("segment.ms of t3 is %s", v)
	}
	n.quorum.news = nil

	// Who cannot learn what others have done asks for all of it to be agreed on.
	n.quorum.lost = func(context.Context) {}
	change(all("6000"), 20)
	n.quorum.lost = nil

	// What cannot be is told all the same.
	for _, c := range []struct {
		topic string
		code  int16
	}{{"none", 3}, {"a b", 17}, {"", 42}} {
		if code, says := n.change(false, configChange{topicType, c.topic, "segment.ms", 1, nil}); code != c.code {
			t.Errorf("%q: %d %s", c.topic, code, says)
		}
	}
	if code, says := n.change(false, configChange{topicType, "t1", "segment.ms", 1, nil}, configChange{topicType, "t1", "segment.ms", 1, nil}); code != 42 {
		t.Error(code, says)
	}
}
