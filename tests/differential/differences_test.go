package differential

import (
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
)

// known is a difference that is known, either meant or a gap. Each pattern is path.Match's over the whole text, or several with |
// between them; empty matches all.
type known struct {
	scenario, step, shape string
	kafka, forebay        string // the values
	// api, what and why are what people read. A gap is what Forebay does not do and could: why says what is missing.
	api, what, why string
	gap            bool
}

func (k known) matches(d difference) bool {
	for _, p := range [][2]string{{k.scenario, d.scenario}, {k.step, d.step}, {k.shape, d.path}, {k.kafka, d.kafka}, {k.forebay, d.forebay}} {
		if p[0] == "" {
			continue
		}
		ok := false
		for _, alternative := range strings.Split(p[0], "|") {
			if hit, err := path.Match(alternative, strings.NewReplacer("/", ":", "[", "(", "]", ")").Replace(p[1])); err != nil {
				panic(err)
			} else if hit {
				ok = true
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

const (
	document = "../../docs/differences.md"
	remake   = "go test ./tests/differential -run TestLikeKafka -update"
)

func render(list []known) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Where Forebay answers differently from Apache Kafka

<!-- Made from tests/differential/differences_test.go: %s -->

The differential test sends the same requests, every version that both serve, to Apache Kafka 4.4 and to a Forebay node
and compares every field of every response. Ids, addresses, times of day and the wording of messages are left out, and the order of what
Kafka keeps in hash maps. Any difference that is not here fails the test, and so does one of these that is gone. What only one of the two
serves, and what takes more than one node or a lost message to see, is not compared.

## Meant

%s
## Meant, and not compared: it takes more than one node

| API | What differs | Why |
|---|---|---|
| Fetch | a follower answers consumers that name a rack, where replica.selector.class is set; others are NOT_LEADER_OR_FOLLOWER | Kafka's answers every consumer (KIP-392). Nobody is sent to a follower without a rack: who asks one has old metadata, and is to get new ones rather than a follower's older records |
| OffsetFetch | NOT_COORDINATOR from a coordinator that the controller has not answered for a second | it cannot know whether others have put another one in its place; Kafka's answers what it has in memory, until it hears of that, and offsets step back for its clients |
| Heartbeats of nodes | a node is fenced after 1 s, or at once when its process is gone | Kafka waits 9 s |

## Gaps

What Kafka does and Forebay does not yet.

%s`, remake, table(list, false), table(list, true))
	return b.String()
}

func table(list []known, gap bool) string {
	var b strings.Builder
	b.WriteString("| API | What differs | Why |\n|---|---|---|\n")
	for _, k := range list {
		if k.gap == gap && k.what != "" { // without words it is part of the one before
			fmt.Fprintf(&b, "| %s | %s | %s |\n", k.api, k.what, k.why)
		}
	}
	return b.String()
}

func checkDocument(t *testing.T, update bool) {
	t.Helper()
	want := render(differences)
	if update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(document); err != nil || string(got) != want {
		t.Errorf("docs/differences.md is not current (%v); run %s", err, remake)
	}
}

var differences = []known{
	{shape: "*ErrorMessage", kafka: "null|empty", forebay: "some text",
		api: "all", what: "more errors come with a message",
		why: "Kafka leaves it out in places; clients show it to people"},
	{shape: "*ErrorMessage", kafka: "empty", forebay: "null",
		api: "all", what: "without an error there is no message",
		why: "Kafka has an empty one in places; clients take them alike"},
	{scenario: "empty bodies|coordinators", step: "FindCoordinator v[123] *", shape: "FindCoordinator.ErrorMessage", kafka: "some text", forebay: "null",
		api: "FindCoordinator", what: "the same, where Kafka says \"NONE\"",
		why: "the same"},
	{scenario: "empty bodies|security", step: "DescribeACLs v? empty|DescribeACLs v? unknown kind", shape: "event", kafka: "closed", forebay: "answered",
		api: "DescribeAcls", what: "a filter of an unknown kind is INVALID_REQUEST",
		why: "Kafka closes the connection on it"},
	{scenario: "coordinators", step: "*kind 1, named false", shape: "FindCoordinator*ErrorCode", kafka: "0", forebay: "42",
		api: "FindCoordinator", what: "an empty transactional id is INVALID_REQUEST",
		why: "there is no coordinator for what InitProducerId refuses"},
	{scenario: "metadata", step: "*made by asking", shape: "Metadata.Topics(*).ErrorCode", kafka: "3", forebay: "0",
		api: "Metadata", what: "a topic that is made by asking is in the answer at once",
		why: "Kafka says UNKNOWN_TOPIC_OR_PARTITION first; the client is a request sooner at work"},
	{scenario: "metadata", step: "*made, asked again|*all", shape: "Metadata.Topics(*).TopicID", forebay: "as in*made by asking",
		api: "Metadata"},
	{scenario: "metadata", step: "Metadata v1[01] by *|Metadata v1[01] neither*", shape: "Metadata.*",
		api: "Metadata", what: "topic ids are answered from version 10 on",
		why: "they are in the request from there on; Kafka fails the whole request up to version 11"},
	{scenario: "metadata", step: "Metadata v1[23] neither id nor name", shape: "Metadata.*",
		api: "Metadata", what: "what has neither id nor name is UNKNOWN_TOPIC_ID",
		why: "Kafka fails the whole request, with UNKNOWN_SERVER_ERROR"},
	{scenario: "create topics", step: "*a config twice*", shape: "CreateTopics*ErrorCode", kafka: "0", forebay: "42",
		api: "CreateTopics", what: "a config named twice is refused",
		why: "which of the two is meant is not known; Kafka takes the last one"},
	{shape: "*Configs(forebay.*)", kafka: "absent", forebay: "there",
		api: "CreateTopics, DescribeConfigs", what: "topics have forebay.append.condition",
		why: "docs/conditional-append.md"},
	{scenario: "create topics", step: "CreatePartitions*twice", shape: "CreatePartitions.Topics*",
		api: "CreatePartitions", what: "of a topic named twice the first is done",
		why: "the second one is INVALID_REQUEST, so the client sees it"},
	{scenario: "create topics", step: "DeleteTopics*twice|DeleteTopics*by name and by id", shape: "DeleteTopics.Topics*",
		api: "DeleteTopics", what: "a topic named twice is refused twice",
		why: "each entry has its answer; nothing is deleted either way"},
	{scenario: "create topics", step: "DeleteTopics*neither", shape: "DeleteTopics*ErrorCode", kafka: "42", forebay: "100",
		api: "DeleteTopics", what: "what has neither name nor id is UNKNOWN_TOPIC_ID",
		why: "Kafka says INVALID_REQUEST; nothing is deleted either way"},
	{scenario: "produce", step: "*codec ? that is none|*plain bytes that say codec*", shape: "Produce*ErrorCode", kafka: "-1|2", forebay: "87",
		api: "Produce", what: "records that cannot be decompressed are INVALID_RECORD",
		why: "Kafka says UNKNOWN_SERVER_ERROR or CORRUPT_MESSAGE, of which clients try the latter again"},
	{scenario: "produce", step: "*log append time", shape: "Produce*ErrorCode", kafka: "0", forebay: "32",
		api: "Produce", what: "a batch that claims log append time is INVALID_TIMESTAMP where the topic has create time",
		why: "Kafka takes the claim for a real time"},
	{scenario: "produce", step: "*magic 3|*length zero", shape: "Produce*ErrorCode", kafka: "2", forebay: "87",
		api: "Produce", what: "a batch of an unknown format is INVALID_RECORD",
		why: "Kafka says CORRUPT_MESSAGE, which clients try again"},
	{scenario: "produce", step: "*trailing bytes", shape: "Produce*ErrorCode", kafka: "0", forebay: "87",
		api: "Produce", what: "bytes after the last batch are INVALID_RECORD",
		why: "Kafka drops them without a word"},
	{scenario: "idempotent|random*", step: "Produce*", shape: "Produce*LogAppendTime", forebay: "-1",
		api: "Produce", what: "a duplicate of a batch with create time has no log append time",
		why: "Kafka shows the batch's own time in its place"},
	{scenario: "idempotent", step: "*no epoch", shape: "Produce*ErrorCode", kafka: "47", forebay: "87",
		api: "Produce", what: "a producer id without an epoch is INVALID_RECORD",
		why: "it is not an old epoch but a wrong batch"},
	{shape: "DescribeProducers*LastTimestamp", forebay: "now",
		api: "DescribeProducers", what: "the last timestamp is that of the arrival",
		why: "a producer expires by the node's clock, not by the client's"},
	{scenario: "fetch|random*", shape: "Fetch*RecordBatches.rest", forebay: "0 bytes",
		api: "Fetch", what: "a response ends with a whole batch",
		why: "Kafka cuts the last one, and the client throws the piece away"},
	{scenario: "fetch", step: "*two partitions and an unknown one", shape: "Fetch*RecordBatches#", kafka: "0 batches", forebay: "1 batches",
		api: "Fetch", what: "what fits of a second partition is not lost to a piece of the first one's next batch",
		why: "the same"},
	{scenario: "markers|random*", shape: "Fetch*LastStableOffset",
		api: "Fetch", what: "the last stable offset is never below the log's start",
		why: "where DeleteRecords goes into an open transaction, Kafka gives the base offset of the batch that the log's start lies in"},
	{scenario: "markers|random*", step: "ListOffsets*the stable end*", shape: "ListOffsets*Offset",
		api: "Fetch"},
	{scenario: "fetch", step: "*max bytes -1|*max bytes of a partition -1", shape: "Fetch*ErrorCode", kafka: "-1", forebay: "0",
		api: "Fetch", what: "a negative limit of bytes is taken for 0",
		why: "a first batch is given as with any limit that is too small; Kafka says UNKNOWN_SERVER_ERROR"},
	{scenario: "metadata", step: "DescribeTopicPartitions*an empty name", shape: "DescribeTopicPartitions*ErrorCode", kafka: "-1", forebay: "17",
		api: "DescribeTopicPartitions", what: "an empty name is INVALID_TOPIC_EXCEPTION",
		why: "Kafka fails the whole request, with UNKNOWN_SERVER_ERROR"},
	{scenario: "list offsets|random*", step: "*the latest is deleted|*of the latest time", shape: "ListOffsets*", forebay: "-1",
		api: "ListOffsets", what: "the record with the largest timestamp is looked for from the log's start on",
		why: "Kafka names one that DeleteRecords has deleted, whose offset cannot be fetched"},
	{scenario: "transactions 1", step: "*long ones", shape: "ListTransactions.TransactionStates#", forebay: "0",
		api: "ListTransactions", what: "what is not ongoing has no duration",
		why: "Kafka lists every ended one whatever the duration"},
	{scenario: "transactional offsets", step: "*add, no group", shape: "AddOffsetsToTxn.ErrorCode", kafka: "0", forebay: "24",
		api: "AddOffsetsToTxn", what: "an empty group is INVALID_GROUP_ID",
		why: "what would commit to it is refused by Kafka too"},
	{scenario: "markers", step: "*old epoch", shape: "WriteTxnMarkers*ErrorCode", kafka: "-1", forebay: "47",
		api: "WriteTxnMarkers", what: "an old epoch is INVALID_PRODUCER_EPOCH",
		why: "Kafka's unknown error says less"},
	{scenario: "markers", step: "*after the end", shape: "ListOffsets*Offset", kafka: "3", forebay: "2",
		api: "EndTxn", what: "a partition where the producer has nothing open since its last marker (aborted by hand, or added and never written to) gets no second marker",
		why: "there is nothing left to end in it"},
	{scenario: "transactions 2", step: "*commit of nothing after it", shape: "EndTxn.ErrorCode", kafka: "48", forebay: "51",
		api: "EndTxn", what: "a commit of nothing, less than a second after another, is CONCURRENT_TRANSACTIONS",
		why: "Kafka's Java client sends it ahead of its records now and then; it tries again, and INVALID_TXN_STATE would end its producer"},
	{scenario: "configs", step: "*broker*with everything", shape: "DescribeConfigs*(default.replication.factor).ConfigSynonyms(1).Value|DescribeConfigs*(group.initial.rebalance.delay.ms).ConfigSynonyms(1).Value|DescribeConfigs*(transaction.state.log.min.isr).ConfigSynonyms(1).Value|DescribeConfigs*(leader.imbalance.check.interval.seconds).*",
		api: "DescribeConfigs", what: "defaults of default.replication.factor (3), group.initial.rebalance.delay.ms (200), transaction.state.log.min.isr (1) and leader.imbalance.check.interval.seconds (10)",
		why: "records are kept three times unless one says otherwise; a group waits as long as a client needs to learn of its topics; one node alone has transactions; leaders go back soon"},
	{scenario: "create topics|configs", shape: "*Configs(min.insync.replicas)*",
		api: "CreateTopics, DescribeConfigs", what: "min.insync.replicas is what the node is told, or the default",
		why: "Kafka stores it for the cluster when that is formatted (KIP-966) and does not hear of a node's property after that"},
	{scenario: "configs", step: "*broker, all*", shape: "DescribeConfigs*Configs(*)", kafka: "there", forebay: "absent",
		api: "DescribeConfigs", what: "only the broker configs that have a meaning here, or that tools set",
		why: "the others would change nothing; --set refuses them with a hint"},
	{scenario: "configs", step: "*broker, all*", shape: "DescribeConfigs*(allow.everyone.if.no.acl.found)|DescribeConfigs*(super.users)|DescribeConfigs*.throttled.rate)|DescribeConfigs*(replica.alter.log.dirs.io.max.bytes.per.second)|DescribeConfigs*(leader.imbalance.per.broker.percentage)", kafka: "absent", forebay: "there",
		api: "DescribeConfigs", what: "super.users, allow.everyone.if.no.acl.found, the replication throttles and leader.imbalance.per.broker.percentage are there",
		why: "Kafka has them too and shows them only once they are set, the last one not any more"},
	{scenario: "configs", step: "*broker, all*", shape: "DescribeConfigs*(broker.draining)|DescribeConfigs*(controller.quorum.voter.dead.timeout.ms)", kafka: "absent", forebay: "there",
		api: "DescribeConfigs", what: "broker.draining and controller.quorum.voter.dead.timeout.ms are there",
		why: "Forebay's own: a node empties itself before it goes, and a dead voter is replaced"},
	{api: "UnregisterBroker", what: "a broker that has replicas, or is alive and not drained, is INVALID_REQUEST",
		why: "Kafka lets it go, and its partitions are short of a replica until somebody sees it"},
	{scenario: "configs", step: "*broker, all*", shape: "DescribeConfigs*(listeners).*|DescribeConfigs*(advertised.listeners).*|DescribeConfigs*(log.dir).*|DescribeConfigs*(log.dirs).*",
		api: "DescribeConfigs", what: "listeners, advertised.listeners, log.dir and log.dirs",
		why: "each server's own; advertised.listeners is null unless it is set, log.dir is log.dirs"},
	{scenario: "configs", step: "*broker, all*", shape: "DescribeConfigs*(ssl.*store.type).*|DescribeConfigs*(sasl.enabled.mechanisms).*|DescribeConfigs*(sasl.mechanism.inter.broker.protocol).*",
		api: "DescribeConfigs", what: "keys and certificates are PEM, and there is no SASL mechanism unless one is set",
		why: "Kafka's defaults, JKS and GSSAPI, are not there"},
	{scenario: "configs", step: "*broker, all*", shape: "DescribeConfigs*(listener*).ReadOnly|DescribeConfigs*(ssl.*).ReadOnly|DescribeConfigs*(sasl.*).ReadOnly|DescribeConfigs*(max.connections).ReadOnly|DescribeConfigs*(producer.id.expiration.ms).ReadOnly", kafka: "true|false", forebay: "true",
		api: "DescribeConfigs", what: "configs of listeners, TLS and SASL, max.connections and producer.id.expiration.ms are read at the start",
		why: "a node starts in 50 ms, and the others lead meanwhile"},
	{scenario: "api versions|empty bodies", shape: "ApiVersions.ApiKeys(3[89])|ApiVersions.ApiKeys(4[01])|ApiVersions.ApiKeys(7[6-9])|ApiVersions.ApiKeys(8[013-9])|ApiVersions.ApiKeys(9[0-4])", kafka: "there", forebay: "absent",
		api: "ApiVersions", what: "share groups (KIP-932), Streams groups (KIP-1071), delegation tokens, AddRaftVoter, RemoveRaftVoter and UnregisterController are not served",
		why: "clients fall back on consumer groups and on the Streams that share theirs; SCRAM users are made as fast as tokens; the nodes choose the voters among themselves"},
	{scenario: "api versions|empty bodies", shape: "ApiVersions.*Features(share.version)|ApiVersions.*Features(streams.version)|ApiVersions.*Features(kraft.version)", kafka: "there", forebay: "absent",
		api: "ApiVersions", what: "nor are the features share.version, streams.version and kraft.version there",
		why: "a feature is shown only when what it stands for is served"},
	{scenario: "api versions|empty bodies", shape: "ApiVersions.ApiKeys(34)", kafka: "there", forebay: "absent",
		api: "ApiVersions", what: "AlterReplicaLogDirs is not served",
		why: "not yet: moving replicas between directories", gap: true},
	{scenario: "configs", step: "*group", shape: "DescribeConfigs*Configs(*)", kafka: "there", forebay: "absent",
		api: "DescribeConfigs", what: "no configs of share and Streams groups, and no consumer.assignment.interval.ms",
		why: "these groups are not served, and an assignment is made at once"},
	{scenario: "configs", shape: "DescribeConfigs*(offsets.retention.minutes).ReadOnly", kafka: "true", forebay: "false",
		api: "DescribeConfigs", what: "offsets.retention.minutes can be changed while the node runs",
		why: "it costs nothing"},
	{scenario: "configs", step: "*operation 9", shape: "IncrementalAlterConfigs*ErrorCode", kafka: "-1", forebay: "42",
		api: "IncrementalAlterConfigs", what: "an unknown operation is INVALID_REQUEST",
		why: "Kafka says UNKNOWN_SERVER_ERROR"},
	{scenario: "configs", step: "*unknown one|*broker unknown config*", shape: "*AlterConfigs*ErrorCode", kafka: "0", forebay: "40",
		api: "IncrementalAlterConfigs, AlterConfigs", what: "an unknown config of a broker, or to be deleted, is INVALID_CONFIG",
		why: "a name that is not known is a mistake (Kafka keeps it)"},
}
