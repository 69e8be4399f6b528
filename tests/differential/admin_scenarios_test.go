package differential

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What tools and consoles ask: topics, configs, the cluster.

func apiVersionsScenario(s *side) {
	s.each(kmsg.ApiVersions, func(v int16) {
		s.do("asked", kmsg.ApiVersions, v, M{"ClientSoftwareName": "differ", "ClientSoftwareVersion": "1", "NodeID": -1})
		for _, name := range []string{"", "-x", "x-", "a b", "a.b-c", "ä"} {
			s.do(fmt.Sprintf("software %q", name), kmsg.ApiVersions, v, M{"ClientSoftwareName": name, "ClientSoftwareVersion": "1", "NodeID": -1})
		}
		if v >= 5 {
			s.do("another cluster", kmsg.ApiVersions, v, M{"ClientSoftwareName": "d", "ClientSoftwareVersion": "1", "ClusterID": "other", "NodeID": 1})
			s.do("another node", kmsg.ApiVersions, v, M{"ClientSoftwareName": "d", "ClientSoftwareVersion": "1", "ClusterID": s.cluster(), "NodeID": 9})
			s.do("this node", kmsg.ApiVersions, v, M{"ClientSoftwareName": "d", "ClientSoftwareVersion": "1", "ClusterID": s.cluster(), "NodeID": 1})
			s.do("a node without a cluster", kmsg.ApiVersions, v, M{"ClientSoftwareName": "d", "ClientSoftwareVersion": "1", "NodeID": 1})
			s.do("a cluster without a node", kmsg.ApiVersions, v, M{"ClientSoftwareName": "d", "ClientSoftwareVersion": "1", "ClusterID": s.cluster(), "NodeID": -1})
		}
	})
}

func (s *side) cluster() string {
	return s.ask(kmsg.DescribeCluster, 1, M{"EndpointType": 1}).(*kmsg.DescribeClusterResponse).ClusterID
}

func metadataScenario(s *side) {
	t := s.topic("meta", 3)
	s.ask(kmsg.FindCoordinator, 3, M{"CoordinatorKey": s.n("g")})
	s.led("__consumer_offsets", 5)
	s.each(kmsg.Metadata, func(v int16) {
		ask := func(label string, m M) { s.do(label, kmsg.Metadata, v, m) }
		name := func(n string) L { return L{M{"Topic": n}} }
		ask("all", M{})
		ask("none", M{"Topics": L{}})
		ask("one", M{"Topics": name(t)})
		ask("one twice", M{"Topics": append(name(t), name(t)...)})
		ask("with operations", M{"Topics": name(t), "IncludeClusterAuthorizedOperations": true, "IncludeTopicAuthorizedOperations": true})
		ask("internal", M{"Topics": name("__consumer_offsets")})
		if v >= 4 {
			ask("unknown", M{"Topics": name(s.n("nope"))})
			ask("unknown, twice", M{"Topics": append(name(s.n("nope")), name(s.n("nope"))...)})
		}
		for _, bad := range []string{"a b", "", ".", "..", "a/b", strings.Repeat("x", 250)} {
			ask(fmt.Sprintf("name %.9q", bad), M{"Topics": name(bad), "AllowAutoTopicCreation": true})
			ask(fmt.Sprintf("name %.9q, not to be made", bad), M{"Topics": name(bad)})
		}
		made := s.n(fmt.Sprintf("auto%d", v))
		if v >= 4 {
			ask("made by asking", M{"Topics": name(made), "AllowAutoTopicCreation": true})
			s.led(made, 1)
			ask("made, asked again", M{"Topics": name(made), "AllowAutoTopicCreation": true})
		}
		if v >= 10 {
			ask("by id", M{"Topics": L{M{"TopicID": s.ids[t]}}})
			ask("by an unknown id", M{"Topics": L{M{"TopicID": nobody}}})
			ask("by id and name", M{"Topics": L{M{"TopicID": s.ids[t], "Topic": t}}})
			ask("by id and another name", M{"Topics": L{M{"TopicID": s.ids[t], "Topic": s.n("nope")}}})
			ask("neither id nor name", M{"Topics": L{M{}}})
		}
	})
	s.each(kmsg.DescribeCluster, func(v int16) {
		for e := range int8(4) {
			s.do(fmt.Sprintf("endpoint %d", e), kmsg.DescribeCluster, v, M{"EndpointType": e})
		}
		s.do("with operations", kmsg.DescribeCluster, v, M{"EndpointType": 1, "IncludeClusterAuthorizedOperations": true})
		s.do("with fenced ones", kmsg.DescribeCluster, v, M{"EndpointType": 1, "IncludeFencedBrokers": true})
	})
	s.each(kmsg.DescribeTopicPartitions, func(v int16) {
		ask := func(label string, limit int32, cursor any, names ...string) {
			var topics L
			for _, n := range names {
				topics = append(topics, M{"Topic": n})
			}
			s.do(label, kmsg.DescribeTopicPartitions, v, M{"Topics": topics, "ResponsePartitionLimit": limit, "Cursor": cursor})
		}
		t2 := s.topic("meta2", 4)
		ask("one", 2000, nil, t)
		ask("two", 2000, nil, t2, t)
		ask("unknown", 2000, nil, s.n("nope"))
		ask("bad name", 2000, nil, "a b")
		ask("some", 2, nil, t, t2)
		ask("go on", 2, M{"Topic": t, "Partition": 2}, t, t2)
		ask("go on within", 3, M{"Topic": t, "Partition": 1}, t, t2)
		ask("go on with what is gone", 3, M{"Topic": s.n("metb"), "Partition": 1}, t, t2)
		ask("go on beyond", 3, M{"Topic": t, "Partition": 17}, t, t2)
		ask("go on at -1", 3, M{"Topic": t, "Partition": -1}, t, t2)
		ask("go on in one that is named not", 3, M{"Topic": t2, "Partition": 1}, t)
		ask("go on in an unknown one", 3, M{"Topic": s.n("nope"), "Partition": 1}, s.n("nope"), t)
		ask("go on in an unknown one, at -1", 3, M{"Topic": s.n("nope"), "Partition": -1}, s.n("nope"), t)
		ask("go on in a name that cannot be", 3, M{"Topic": "", "Partition": 0}, t)
		ask("go on at the end", 3, M{"Topic": t, "Partition": 3}, t, t2)
		ask("go on twice", 3, M{"Topic": t, "Partition": 1}, t, t, t2, t2)
		ask("an empty name", 3, nil, "")
		ask("an internal one", 3, nil, "__consumer_offsets")
		ask("limit 0", 0, nil, t)
		ask("limit -1", -1, nil, t)
		ask("with an unknown one", 3, nil, s.n("nope"), t, t2)
	})
	s.each(kmsg.DescribeLogDirs, func(v int16) {
		s.do("one", kmsg.DescribeLogDirs, v, M{"Topics": L{M{"Topic": t, "Partitions": []int32{0, 2, 77}}}})
		s.do("unknown", kmsg.DescribeLogDirs, v, M{"Topics": L{M{"Topic": s.n("nope"), "Partitions": []int32{0}}}})
		s.do("none", kmsg.DescribeLogDirs, v, M{"Topics": L{}})
		s.do("all", kmsg.DescribeLogDirs, v, M{})
	})
	s.each(kmsg.ElectLeaders, func(v int16) {
		for kind := range int8(3) {
			if kind > 0 && v == 0 {
				continue
			}
			s.do(fmt.Sprintf("kind %d", kind), kmsg.ElectLeaders, v, M{"ElectionType": kind, "TimeoutMillis": 5000, "Topics": L{M{"Topic": t, "Partitions": []int32{0, 9}}, M{"Topic": s.n("nope"), "Partitions": []int32{0}}}})
			s.do(fmt.Sprintf("kind %d, none", kind), kmsg.ElectLeaders, v, M{"ElectionType": kind, "TimeoutMillis": 5000, "Topics": L{}})
			s.do(fmt.Sprintf("kind %d, all", kind), kmsg.ElectLeaders, v, M{"ElectionType": kind, "TimeoutMillis": 5000})
		}
	})
}

func createTopicsScenario(s *side) {
	s.each(kmsg.CreateTopics, func(v int16) {
		k := 0
		ask := func(label string, m M) {
			k++
			m = with(M{"Topic": s.n(fmt.Sprintf("t%d.%d", v, k)), "NumPartitions": 1, "ReplicationFactor": 1}, m)
			s.do(label, kmsg.CreateTopics, v, M{"Topics": L{m}, "TimeoutMillis": 5000})
			s.do(label+", validate only", kmsg.CreateTopics, v, M{"Topics": L{with(m, M{"Topic": m["Topic"].(string) + "v"})}, "TimeoutMillis": 5000, "ValidateOnly": true})
		}
		ask("plain", M{})
		ask("five", M{"NumPartitions": 5})
		ask("no partitions", M{"NumPartitions": 0})
		ask("-2 partitions", M{"NumPartitions": -2})
		ask("no replicas", M{"ReplicationFactor": 0})
		ask("-2 replicas", M{"ReplicationFactor": -2})
		ask("two replicas", M{"ReplicationFactor": 2})
		if v >= 4 {
			ask("as the broker has it", M{"NumPartitions": -1, "ReplicationFactor": -1})
		}
		auto := M{"NumPartitions": -1, "ReplicationFactor": -1}
		place := func(of ...[]int32) L {
			var l L
			for i, r := range of {
				l = append(l, M{"Partition": i, "Replicas": r})
			}
			return l
		}
		ask("placed", with(auto, M{"ReplicaAssignment": place([]int32{1}, []int32{1})}))
		ask("placed, with counts", M{"ReplicaAssignment": place([]int32{1})})
		ask("placed nowhere", with(auto, M{"ReplicaAssignment": place([]int32{})}))
		ask("placed twice", with(auto, M{"ReplicaAssignment": place([]int32{1, 1})}))
		ask("placed on an unknown node", with(auto, M{"ReplicaAssignment": place([]int32{7})}))
		ask("placed from 1", with(auto, M{"ReplicaAssignment": L{M{"Partition": 1, "Replicas": []int32{1}}}}))
		ask("placed with a gap", with(auto, M{"ReplicaAssignment": L{M{"Partition": 0, "Replicas": []int32{1}}, M{"Partition": 2, "Replicas": []int32{1}}}}))
		ask("placed in two sizes", with(auto, M{"ReplicaAssignment": place([]int32{1}, []int32{1, 2})}))
		ask("placed, one partition twice", with(auto, M{"ReplicaAssignment": L{M{"Partition": 0, "Replicas": []int32{1}}, M{"Partition": 0, "Replicas": []int32{1}}}}))
		for _, c := range [][2]string{
			{"retention.ms", "1000"}, {"retention.ms", "x"}, {"retention.ms", "-2"}, {"retention.ms", "-1"}, {"cleanup.policy", "compact,delete"}, {"cleanup.policy", "compact"},
			{"cleanup.policy", "nothing"}, {"cleanup.policy", ""}, {"no.such.config", "1"}, {"min.insync.replicas", "0"}, {"min.insync.replicas", "2"}, {"compression.type", "zstd"},
			{"compression.type", "rar"}, {"segment.bytes", "1"}, {"max.message.bytes", "-1"}, {"message.timestamp.type", "LogAppendTime"}, {"message.timestamp.type", "never"},
			{"min.cleanable.dirty.ratio", "0.7"}, {"min.cleanable.dirty.ratio", "2"}, {"preallocate", "maybe"}, {"remote.storage.enable", "true"}, {"message.format.version", "3.0"},
			{"message.downconversion.enable", "true"}, {"compression.gzip.level", "0"}, {"compression.zstd.level", "23"}, {"leader.replication.throttled.replicas", "*"},
			{"remote.copy.lag.bytes", "-1"}, {"remote.copy.lag.bytes", "-2"}, {"remote.copy.lag.bytes", "0"}, {"remote.copy.lag.ms", "-1"}, {"remote.copy.lag.ms", "-2"},
			{"remote.copy.lag.ms", "0"}, {"remote.log.copy.disable", "true"}, {"remote.log.delete.on.disable", "true"}, {"errors.deadletterqueue.group.enable", "true"},
			{"errors.deadletterqueue.group.enable", "x"}, {"max.decompressed.message.bytes", "0"}, {"max.decompressed.message.bytes", "-1"}, {"max.decompressed.message.bytes", "1"},
			{"max.decompressed.message.bytes", "2147483647"}, {"max.decompressed.message.bytes", "2147483639"}, {"max.decompressed.message.bytes", "2147483640"}, {"local.retention.bytes", "-3"}, {"local.retention.bytes", "7"}, {"local.retention.ms", "-1"},
			{"leader.replication.throttled.replicas", "x"}, {"local.retention.ms", "5"}, {"flush.messages", "0"}, {"delete.retention.ms", " 5 "}, {"unclean.leader.election.enable", "TRUE"},
		} {
			ask(fmt.Sprintf("config %s=%s", c[0], c[1]), M{"Configs": L{M{"Name": c[0], "Value": c[1]}}})
		}
		ask("config of null", M{"Configs": L{M{"Name": "retention.ms"}}})
		ask("a config twice", M{"Configs": L{M{"Name": "retention.ms", "Value": "1"}, M{"Name": "retention.ms", "Value": "2"}}})
		for i, name := range []string{"", ".", "..", "a b", "ä", strings.Repeat("n", 249), strings.Repeat("n", 250), "__consumer_offsets", "a:b"} {
			s.do(fmt.Sprintf("name %d", i), kmsg.CreateTopics, v, M{"Topics": L{M{"Topic": name, "NumPartitions": 1, "ReplicationFactor": 1}}, "TimeoutMillis": 5000, "ValidateOnly": true})
		}
		t := s.topic(fmt.Sprintf("dot.%d", v), 1)
		s.do("a name that is there", kmsg.CreateTopics, v, M{"Topics": L{M{"Topic": t, "NumPartitions": 1, "ReplicationFactor": 1}}, "TimeoutMillis": 5000})
		s.do("a name that collides", kmsg.CreateTopics, v, M{"Topics": L{M{"Topic": strings.Replace(t, ".", "_", 1), "NumPartitions": 1, "ReplicationFactor": 1}}, "TimeoutMillis": 5000})
		one := M{"Topic": s.n(fmt.Sprintf("twice%d", v)), "NumPartitions": 1, "ReplicationFactor": 1}
		s.do("a name twice", kmsg.CreateTopics, v, M{"Topics": L{one, one}, "TimeoutMillis": 5000})
		s.do("two of which one is bad", kmsg.CreateTopics, v, M{"Topics": L{with(one, M{"Topic": s.n(fmt.Sprintf("good%d", v))}), with(one, M{"Topic": "b d"})}, "TimeoutMillis": 5000})
		s.do("nothing", kmsg.CreateTopics, v, M{"TimeoutMillis": 5000})
	})
	s.each(kmsg.CreatePartitions, func(v int16) {
		t := s.topic(fmt.Sprintf("more%d", v), 2)
		ask := func(label string, m M) {
			for _, validate := range []bool{true, false} {
				s.do(fmt.Sprintf("%s, validate %v", label, validate), kmsg.CreatePartitions, v, M{"Topics": L{with(M{"Topic": t}, m)}, "TimeoutMillis": 5000, "ValidateOnly": validate})
			}
		}
		ask("to 2", M{"Count": 2})
		ask("to 1", M{"Count": 1})
		ask("to 0", M{"Count": 0})
		ask("to -1", M{"Count": -1})
		ask("to 3", M{"Count": 3})
		s.led(t, 3)
		ask("placed", M{"Count": 4, "Assignment": L{M{"Replicas": []int32{1}}}})
		s.led(t, 4)
		ask("placed on an unknown node", M{"Count": 5, "Assignment": L{M{"Replicas": []int32{9}}}})
		ask("too few placed", M{"Count": 6, "Assignment": L{M{"Replicas": []int32{1}}}})
		ask("too many placed", M{"Count": 5, "Assignment": L{M{"Replicas": []int32{1}}, M{"Replicas": []int32{1}}}})
		ask("placed in another size", M{"Count": 5, "Assignment": L{M{"Replicas": []int32{1, 2}}}})
		ask("placed twice", M{"Count": 5, "Assignment": L{M{"Replicas": []int32{1, 1}}}})
		ask("placed nowhere", M{"Count": 5, "Assignment": L{M{"Replicas": []int32{}}}})
		ask("unknown", M{"Topic": s.n("nope"), "Count": 5})
		s.do("what there is", kmsg.Metadata, 12, M{"Topics": L{M{"Topic": t}}})
		s.do("twice", kmsg.CreatePartitions, v, M{"Topics": L{M{"Topic": t, "Count": 9}, M{"Topic": t, "Count": 9}}, "TimeoutMillis": 5000})
	})
	s.each(kmsg.DeleteTopics, func(v int16) {
		t := s.topic(fmt.Sprintf("del%d", v), 1)
		u := s.topic(fmt.Sprintf("delid%d", v), 1)
		if v < 6 {
			s.do("unknown", kmsg.DeleteTopics, v, M{"TopicNames": []string{s.n("nope")}, "TimeoutMillis": 5000})
			s.do("bad name", kmsg.DeleteTopics, v, M{"TopicNames": []string{"a b"}, "TimeoutMillis": 5000})
			s.do("twice", kmsg.DeleteTopics, v, M{"TopicNames": []string{t, t}, "TimeoutMillis": 5000})
			s.do("one", kmsg.DeleteTopics, v, M{"TopicNames": []string{t}, "TimeoutMillis": 5000})
			s.do("none", kmsg.DeleteTopics, v, M{"TopicNames": []string{}, "TimeoutMillis": 5000})
		} else {
			ask := func(label string, topics ...any) {
				s.do(label, kmsg.DeleteTopics, v, M{"Topics": L(topics), "TimeoutMillis": 5000})
			}
			ask("unknown", M{"Topic": s.n("nope")})
			ask("unknown id", M{"TopicID": nobody})
			ask("neither", M{})
			ask("both", M{"Topic": t, "TopicID": s.ids[t]})
			ask("twice", M{"Topic": t}, M{"Topic": t})
			ask("id twice", M{"TopicID": s.ids[t]}, M{"TopicID": s.ids[t]})
			ask("by name and by id", M{"Topic": t}, M{"TopicID": s.ids[t]})
			ask("two", M{"Topic": t}, M{"TopicID": s.ids[u]})
		}
		s.eventually("after it", kmsg.Metadata, 12, M{"Topics": L{M{"Topic": t}}}, func(r kmsg.Response) bool {
			return r.(*kmsg.MetadataResponse).Topics[0].ErrorCode != 0
		})
	})
}

func configsScenario(s *side) {
	t := s.topic("conf", 1, "retention.ms=5000")
	const (
		topicType, broker, logger, metrics, group = 2, 4, 8, 16, 32
	)
	// What each server logs from its start on is its own.
	s.ask(kmsg.IncrementalAlterConfigs, 1, M{"Resources": L{M{"ResourceType": logger, "ResourceName": "1", "Configs": L{M{"Name": "root", "Op": 0, "Value": "WARN"}}}}})
	s.each(kmsg.DescribeConfigs, func(v int16) {
		ask := func(label string, kind int8, name string, names any, more M) {
			s.do(label, kmsg.DescribeConfigs, v, with(M{"Resources": L{M{"ResourceType": kind, "ResourceName": name, "ConfigNames": names}}}, more))
		}
		ask("topic, all", topicType, t, nil, nil)
		ask("topic, all, with everything", topicType, t, nil, M{"IncludeSynonyms": true, "IncludeDocumentation": true})
		ask("topic, some", topicType, t, []string{"retention.ms", "no.such", "segment.bytes"}, M{"IncludeSynonyms": true})
		ask("topic, none", topicType, t, []string{}, nil)
		ask("topic, unknown", topicType, s.n("nope"), nil, nil)
		ask("topic, bad name", topicType, "a b", nil, nil)
		ask("topic, no name", topicType, "", nil, nil)
		some := []string{"log.retention.ms", "log.retention.hours", "log.segment.bytes", "message.max.bytes", "min.insync.replicas", "num.partitions", "log.cleanup.policy", "compression.type",
			"auto.create.topics.enable", "offsets.retention.minutes", "group.initial.rebalance.delay.ms", "no.such", "node.id", "default.replication.factor"}
		ask("broker, some", broker, "1", some, nil)
		ask("broker, some, with everything", broker, "1", some, M{"IncludeSynonyms": true, "IncludeDocumentation": true})
		ask("broker, all, with everything", broker, "1", nil, M{"IncludeSynonyms": true, "IncludeDocumentation": true})
		ask("broker default", broker, "", nil, M{"IncludeSynonyms": true})
		ask("broker, unknown", broker, "77", nil, nil)
		ask("broker, not a number", broker, "x", nil, nil)
		ask("logger, some", logger, "1", []string{"no.such"}, nil)
		ask("logger, root", logger, "1", []string{"root"}, M{"IncludeSynonyms": true, "IncludeDocumentation": true})
		ask("logger, no node", logger, "", nil, nil)
		ask("logger, not a number", logger, "x", nil, nil)
		ask("logger, unknown", logger, "9", []string{"no.such"}, nil)
		ask("metrics", metrics, s.n("sub"), nil, nil)
		ask("group", group, s.n("g"), nil, nil)
		ask("unknown kind", 77, "x", nil, nil)
		ask("kind 0", 0, "x", nil, nil)
		s.do("nothing", kmsg.DescribeConfigs, v, M{})
		s.do("two", kmsg.DescribeConfigs, v, M{"Resources": L{M{"ResourceType": topicType, "ResourceName": t, "ConfigNames": []string{"retention.ms"}}, M{"ResourceType": topicType, "ResourceName": t, "ConfigNames": []string{"retention.bytes"}}}})
	})
	bad := []struct {
		label      string
		kind       int8
		name, k, v string
	}{
		{"not a number", topicType, t, "retention.ms", "x"}, {"unknown config", topicType, t, "no.such", "x"}, {"unknown topic", topicType, s.n("nope"), "retention.ms", "1"},
		{"bad topic", topicType, "a b", "retention.ms", "1"}, {"no topic", topicType, "", "retention.ms", "1"}, {"broker unknown", broker, "77", "log.retention.ms", "100"},
		{"broker read only", broker, "1", "num.partitions", "3"}, {"broker default read only", broker, "", "num.partitions", "3"}, {"broker unknown config", broker, "1", "nobody.knows", "x"},
		{"broker not a number", broker, "1", "log.retention.ms", "x"}, {"broker bad id", broker, "x", "log.retention.ms", "100"}, {"logger unknown", logger, "1", "no.such", "INFO"},
		{"kind 77", 77, "x", "a", "b"}, {"kind 0", 0, "x", "a", "b"}, {"group unknown config", group, s.n("g"), "no.such", "b"},
		{"metrics unknown config", metrics, s.n("sub"), "no.such", "b"}, {"metrics too often", metrics, s.n("sub"), "interval.ms", "99"}, {"metrics not a number", metrics, s.n("sub"), "interval.ms", "x"},
		{"metrics without a name", metrics, "", "interval.ms", "100"}, {"metrics of nobody", metrics, s.n("sub"), "match", "client=x"}, {"metrics of what is no pattern", metrics, s.n("sub"), "match", "client_id=a("},
	}
	s.each(kmsg.IncrementalAlterConfigs, func(v int16) {
		t := s.topic(fmt.Sprintf("inc%d", v), 1)
		ask := func(label string, kind int8, name string, validate bool, configs ...any) {
			s.do(label, kmsg.IncrementalAlterConfigs, v, M{"ValidateOnly": validate, "Resources": L{M{"ResourceType": kind, "ResourceName": name, "Configs": L(configs)}}})
		}
		show := func(label, name, value string) {
			s.eventually(label, kmsg.DescribeConfigs, 4, M{"Resources": L{M{"ResourceType": topicType, "ResourceName": t, "ConfigNames": []string{name}}}, "IncludeSynonyms": true}, func(r kmsg.Response) bool {
				c := r.(*kmsg.DescribeConfigsResponse).Resources[0].Configs
				return len(c) == 1 && c[0].Value != nil && *c[0].Value == value
			})
		}
		sub := s.n(fmt.Sprintf("sub%d", v))
		ask("metrics, set", metrics, sub, false, M{"Name": "interval.ms", "Op": 0, "Value": "100"}, M{"Name": "metrics", "Op": 0, "Value": "a.,b."}, M{"Name": "match", "Op": 0, "Value": "client_id=a.*, client_software_name=Java"})
		s.eventually("metrics, are set", kmsg.DescribeConfigs, 4, M{"Resources": L{M{"ResourceType": metrics, "ResourceName": sub}}, "IncludeSynonyms": true}, func(r kmsg.Response) bool {
			return slices.ContainsFunc(r.(*kmsg.DescribeConfigsResponse).Resources[0].Configs, func(c kmsg.DescribeConfigsResponseResourceConfig) bool { return c.Value != nil && *c.Value == "100" })
		})
		ask("metrics, one more", metrics, sub, false, M{"Name": "metrics", "Op": 2, "Value": "c."})
		ask("metrics, all are deleted", metrics, sub, false, M{"Name": "interval.ms", "Op": 1}, M{"Name": "metrics", "Op": 1}, M{"Name": "match", "Op": 1}, M{"Name": "no.such", "Op": 1})
		ask("set, validate only", topicType, t, true, M{"Name": "retention.ms", "Op": 0, "Value": "1234"})
		ask("set", topicType, t, false, M{"Name": "retention.ms", "Op": 0, "Value": "12345"})
		show("is set", "retention.ms", "12345")
		ask("delete", topicType, t, false, M{"Name": "retention.ms", "Op": 1})
		show("is deleted", "retention.ms", "604800000")
		ask("append", topicType, t, false, M{"Name": "cleanup.policy", "Op": 2, "Value": "compact"})
		show("is appended", "cleanup.policy", "delete,compact")
		ask("append again", topicType, t, false, M{"Name": "cleanup.policy", "Op": 2, "Value": "compact"})
		ask("subtract", topicType, t, false, M{"Name": "cleanup.policy", "Op": 3, "Value": "delete"})
		show("is subtracted", "cleanup.policy", "compact")
		ask("subtract what is not there", topicType, t, false, M{"Name": "cleanup.policy", "Op": 3, "Value": "delete"})
		ask("append to a number", topicType, t, false, M{"Name": "retention.ms", "Op": 2, "Value": "5"})
		ask("append an unknown one", topicType, t, false, M{"Name": "cleanup.policy", "Op": 2, "Value": "x"})
		ask("operation 9", topicType, t, false, M{"Name": "retention.ms", "Op": 9, "Value": "5"})
		ask("set to null", topicType, t, false, M{"Name": "retention.ms", "Op": 0})
		ask("one twice", topicType, t, false, M{"Name": "retention.ms", "Op": 0, "Value": "5"}, M{"Name": "retention.ms", "Op": 1})
		ask("good and bad", topicType, t, false, M{"Name": "retention.ms", "Op": 0, "Value": "5"}, M{"Name": "segment.ms", "Op": 0, "Value": "x"})
		ask("nothing", topicType, t, false)
		ask("delete an unknown one", topicType, t, false, M{"Name": "no.such", "Op": 1})
		for _, b := range bad {
			ask(b.label, b.kind, b.name, false, M{"Name": b.k, "Op": 0, "Value": b.v})
			ask(b.label+", validate only", b.kind, b.name, true, M{"Name": b.k, "Op": 0, "Value": b.v})
		}
		root := func(label string) {
			s.do(label, kmsg.DescribeConfigs, 4, M{"Resources": L{M{"ResourceType": logger, "ResourceName": "1", "ConfigNames": []string{"root"}}}})
		}
		for _, level := range []string{"ERROR", "FATAL", "WARN", "INFO", "DEBUG", "TRACE", "OFF", "ALL", "info", "", "LOUD", "WARN"} {
			ask(fmt.Sprintf("logger, root %q", level), logger, "1", false, M{"Name": "root", "Op": 0, "Value": level})
			root(fmt.Sprintf("logger, root after %q", level))
		}
		for op := range 5 {
			ask(fmt.Sprintf("logger, root, operation %d", op), logger, "1", true, M{"Name": "root", "Op": op, "Value": "ERROR"})
			ask(fmt.Sprintf("logger, unknown, operation %d", op), logger, "1", true, M{"Name": "no.such", "Op": op, "Value": "ERROR"})
		}
		ask("logger, null", logger, "1", false, M{"Name": "root", "Op": 0})
		ask("logger, one twice", logger, "1", false, M{"Name": "root", "Op": 0, "Value": "INFO"}, M{"Name": "root", "Op": 0, "Value": "ERROR"})
		ask("logger, good and bad", logger, "1", false, M{"Name": "root", "Op": 0, "Value": "ERROR"}, M{"Name": "no.such", "Op": 0, "Value": "ERROR"})
		ask("logger, nothing", logger, "1", false)
		for _, node := range []string{"", "x", "9", "-1"} {
			ask(fmt.Sprintf("logger of %q", node), logger, node, false, M{"Name": "root", "Op": 0, "Value": "ERROR"})
		}
		root("logger, after all")
		ask("broker", broker, "1", false, M{"Name": "log.retention.ms", "Op": 0, "Value": "86400000"})
		ask("broker default", broker, "", false, M{"Name": "log.retention.ms", "Op": 0, "Value": "43200000"})
		s.eventually("topic, over brokers", kmsg.DescribeConfigs, 4, M{"Resources": L{M{"ResourceType": topicType, "ResourceName": t, "ConfigNames": []string{"retention.ms"}}}, "IncludeSynonyms": true}, func(r kmsg.Response) bool {
			c := r.(*kmsg.DescribeConfigsResponse).Resources[0].Configs[0]
			return len(c.ConfigSynonyms) == 3 && *c.Value == "86400000"
		})
		s.do("broker, set", kmsg.DescribeConfigs, 4, M{"Resources": L{M{"ResourceType": broker, "ResourceName": "1", "ConfigNames": []string{"log.retention.ms"}}}, "IncludeSynonyms": true})
		s.do("broker default, set", kmsg.DescribeConfigs, 4, M{"Resources": L{M{"ResourceType": broker, "ResourceName": ""}}, "IncludeSynonyms": true})
		ask("broker, deleted", broker, "1", false, M{"Name": "log.retention.ms", "Op": 1})
		ask("broker default, deleted", broker, "", false, M{"Name": "log.retention.ms", "Op": 1})
		s.await(kmsg.DescribeConfigs, 4, M{"Resources": L{M{"ResourceType": broker, "ResourceName": ""}}}, func(r kmsg.Response) bool {
			for _, c := range r.(*kmsg.DescribeConfigsResponse).Resources[0].Configs {
				if c.Name == "log.retention.ms" {
					return false
				}
			}
			return true
		})
	})
	s.each(kmsg.AlterConfigs, func(v int16) {
		t := s.topic(fmt.Sprintf("alter%d", v), 1, "segment.ms=7777777")
		ask := func(label string, kind int8, name string, validate bool, configs ...any) {
			s.do(label, kmsg.AlterConfigs, v, M{"ValidateOnly": validate, "Resources": L{M{"ResourceType": kind, "ResourceName": name, "Configs": L(configs)}}})
		}
		ask("set, validate only", topicType, t, true, M{"Name": "retention.ms", "Value": "1234"})
		ask("set", topicType, t, false, M{"Name": "retention.ms", "Value": "12345"})
		s.eventually("what is set", kmsg.DescribeConfigs, 4, M{"Resources": L{M{"ResourceType": topicType, "ResourceName": t}}}, func(r kmsg.Response) bool {
			for _, c := range r.(*kmsg.DescribeConfigsResponse).Resources[0].Configs {
				if c.Name == "retention.ms" {
					return *c.Value == "12345"
				}
			}
			return false
		})
		ask("null", topicType, t, false, M{"Name": "retention.ms"})
		ask("one twice", topicType, t, false, M{"Name": "retention.ms", "Value": "5"}, M{"Name": "retention.ms", "Value": "6"})
		ask("nothing", topicType, t, false)
		for _, b := range bad {
			ask(b.label, b.kind, b.name, false, M{"Name": b.k, "Value": b.v})
		}
		// Kafka does not answer when a resource is named twice.
	})
	s.each(kmsg.ListConfigResources, func(v int16) {
		s.do("all", kmsg.ListConfigResources, v, M{})
		if v > 0 {
			for _, k := range []int8{2, 4, 8, 16, 32, 77} {
				s.do(fmt.Sprintf("kind %d", k), kmsg.ListConfigResources, v, M{"ResourceTypes": []int8{k}})
			}
		}
	})
}

// securityScenario are requests to a cluster without an authorizer and without SASL.
func securityScenario(s *side) {
	s.each(kmsg.DescribeACLs, func(v int16) {
		s.do("any", kmsg.DescribeACLs, v, M{"ResourceType": 1, "ResourcePatternType": 1, "Operation": 1, "PermissionType": 1})
		s.do("unknown kind", kmsg.DescribeACLs, v, M{"ResourceType": 0, "ResourcePatternType": 1, "Operation": 1, "PermissionType": 1})
	})
	s.each(kmsg.CreateACLs, func(v int16) {
		s.do("one", kmsg.CreateACLs, v, M{"Creations": L{M{"ResourceType": 2, "ResourceName": "t", "ResourcePatternType": 3, "Principal": "User:x", "Host": "*", "Operation": 3, "PermissionType": 3}}})
	})
	s.each(kmsg.DeleteACLs, func(v int16) {
		s.do("any", kmsg.DeleteACLs, v, M{"Filters": L{M{"ResourceType": 1, "ResourcePatternType": 1, "Operation": 1, "PermissionType": 1}}})
	})
	s.each(kmsg.SASLHandshake, func(v int16) {
		s.do("plain", kmsg.SASLHandshake, v, M{"Mechanism": "PLAIN"})
	})
	s.each(kmsg.SASLAuthenticate, func(v int16) {
		s.do("something", kmsg.SASLAuthenticate, v, M{"SASLAuthBytes": []byte("\x00a\x00b")})
	})
	s.each(kmsg.DescribeUserSCRAMCredentials, func(v int16) {
		s.do("all", kmsg.DescribeUserSCRAMCredentials, v, M{})
		s.do("one", kmsg.DescribeUserSCRAMCredentials, v, M{"Users": L{M{"Name": "eve"}}})
		s.do("one twice", kmsg.DescribeUserSCRAMCredentials, v, M{"Users": L{M{"Name": "eve"}, M{"Name": "eve"}}})
		s.do("no name", kmsg.DescribeUserSCRAMCredentials, v, M{"Users": L{M{"Name": ""}}})
	})
	s.each(kmsg.AlterUserSCRAMCredentials, func(v int16) {
		up := M{"Name": s.n("u"), "Mechanism": 1, "Iterations": 4096, "Salt": []byte("salt"), "SaltedPassword": []byte("12345678901234567890123456789012")}
		ask := func(label string, m M) { s.do(label, kmsg.AlterUserSCRAMCredentials, v, m) }
		ask("too few iterations", M{"Upsertions": L{with(up, M{"Iterations": 1})}})
		ask("too many iterations", M{"Upsertions": L{with(up, M{"Iterations": 1_000_000})}})
		ask("unknown mechanism", M{"Upsertions": L{with(up, M{"Mechanism": 9})}})
		ask("no name", M{"Upsertions": L{with(up, M{"Name": ""})}})
		ask("good", M{"Upsertions": L{up}})
		s.eventually("is there", kmsg.DescribeUserSCRAMCredentials, 0, M{"Users": L{M{"Name": s.n("u")}}}, func(r kmsg.Response) bool {
			return len(r.(*kmsg.DescribeUserSCRAMCredentialsResponse).Results[0].CredentialInfos) > 0
		})
		ask("twice", M{"Upsertions": L{up, up}})
		ask("in and out", M{"Upsertions": L{up}, "Deletions": L{M{"Name": s.n("u"), "Mechanism": 1}}})
		ask("out", M{"Deletions": L{M{"Name": s.n("u"), "Mechanism": 1}}})
		ask("out again", M{"Deletions": L{M{"Name": s.n("u"), "Mechanism": 1}}})
	})
	s.each(kmsg.DescribeClientQuotas, func(v int16) {
		s.do("all", kmsg.DescribeClientQuotas, v, M{})
		s.do("of a user", kmsg.DescribeClientQuotas, v, M{"Components": L{M{"EntityType": "user", "MatchType": 0, "Match": "u"}}})
		s.do("unknown entity", kmsg.DescribeClientQuotas, v, M{"Components": L{M{"EntityType": "x", "MatchType": 0, "Match": "u"}}})
		s.do("unknown match", kmsg.DescribeClientQuotas, v, M{"Components": L{M{"EntityType": "user", "MatchType": 9, "Match": "u"}}})
	})
	s.each(kmsg.AlterClientQuotas, func(v int16) {
		ask := func(label string, kind, name, key string, value float64) {
			s.do(label, kmsg.AlterClientQuotas, v, M{"ValidateOnly": true, "Entries": L{M{"Entity": L{M{"Type": kind, "Name": name}}, "Ops": L{M{"Key": key, "Value": value}}}}})
		}
		ask("good", "user", "u", "producer_byte_rate", 1000)
		ask("unknown key", "user", "u", "x", 1000)
		ask("unknown entity", "x", "u", "producer_byte_rate", 1000)
		ask("negative", "user", "u", "producer_byte_rate", -5)
	})
	t := s.topic("reassign", 2)
	s.each(kmsg.ListPartitionReassignments, func(v int16) {
		s.do("all", kmsg.ListPartitionReassignments, v, M{"TimeoutMillis": 5000})
		s.do("one", kmsg.ListPartitionReassignments, v, M{"TimeoutMillis": 5000, "Topics": L{M{"Topic": t, "Partitions": []int32{0, 9}}}})
		s.do("unknown", kmsg.ListPartitionReassignments, v, M{"TimeoutMillis": 5000, "Topics": L{M{"Topic": s.n("nope"), "Partitions": []int32{0}}}})
	})
	s.each(kmsg.AlterPartitionAssignments, func(v int16) {
		ask := func(label, topic string, partition int32, replicas any) {
			s.do(label, kmsg.AlterPartitionAssignments, v, M{"TimeoutMillis": 5000, "Topics": L{M{"Topic": topic, "Partitions": L{M{"Partition": partition, "Replicas": replicas}}}}})
		}
		ask("where it is", t, 0, []int32{1})
		ask("cancel nothing", t, 0, nil)
		ask("unknown node", t, 0, []int32{9})
		ask("twice", t, 0, []int32{1, 1})
		ask("nowhere", t, 0, []int32{})
		ask("unknown partition", t, 9, []int32{1})
		if v >= 1 {
			for _, to := range [][]int32{{1}, {1, 1}, {}} {
				s.do(fmt.Sprintf("as many as before, %v", to), kmsg.AlterPartitionAssignments, v, M{"TimeoutMillis": 5000, "AllowReplicationFactorChange": false,
					"Topics": L{M{"Topic": t, "Partitions": L{M{"Partition": 0, "Replicas": to}}}}})
			}
		}
		ask("unknown topic", s.n("nope"), 0, []int32{1})
	})
}

// featuresScenario changes no feature: Kafka's stay as they are for the others.
func featuresScenario(s *side) {
	s.each(kmsg.UpdateFeatures, func(v int16) {
		for _, u := range []struct {
			label, feature string
			level, kind    int
		}{
			{"as it is", "group.version", 1, 1}, {"as it is, safe", "group.version", 1, 2}, {"as it is, unsafe", "transaction.version", 2, 3}, {"of no type", "group.version", 1, 0},
			{"of an unknown type", "group.version", 1, 4}, {"down by an upgrade", "transaction.version", 1, 1}, {"too high", "group.version", 99, 1}, {"too high, unsafe", "group.version", 99, 3},
			{"below 0", "group.version", -1, 3}, {"metadata too low", "metadata.version", 1, 3}, {"unknown", "no.such", 1, 1}, {"unknown, 0", "no.such", 0, 3},
		} {
			update := M{"Feature": u.feature, "MaxVersionLevel": u.level, "UpgradeType": u.kind}
			s.do(u.label, kmsg.UpdateFeatures, v, M{"FeatureUpdates": L{update}})
			s.do(u.label+", validate only", kmsg.UpdateFeatures, v, M{"FeatureUpdates": L{update}, "ValidateOnly": true})
			s.do(u.label+", and another", kmsg.UpdateFeatures, v, M{"FeatureUpdates": L{M{"Feature": "transaction.version", "MaxVersionLevel": 2, "UpgradeType": 1}, update}})
		}
	})
}
