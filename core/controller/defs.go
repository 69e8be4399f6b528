package controller

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/core/metadata"
)

// VoterDeadConfig is how long a voter is dead before it is replaced, in milliseconds.
const VoterDeadConfig = "controller.quorum.voter.dead.timeout.ms"

// ScrubConfig is how often the scrub reads all logs, in milliseconds; -1: never. ScrubRateConfig is how fast, in bytes a second.
const (
	ScrubConfig     = "log.scrub.interval.ms"
	ScrubRateConfig = "log.scrub.io.max.bytes.per.second"
)

// typ is a config's type, by kmsg.ConfigType's numbers.
type typ int8

const (
	boolean typ = iota + 1
	text
	integer
	short
	long
	double
	list
	_        // class
	password // shown to nobody
)

// def is one config: what it is called, means, allows and defaults to. From the same
// table come validation, DescribeConfigs and the hints for unknown names.
type def struct {
	name   string
	typ    typ
	value  string // default
	null   bool   // no default
	lo     int64
	hi     int64   // both 0: no bounds
	except []int64 // within the bounds and still refused
	enum   []string
	// form is what a list has to look like, its items joined by commas, and formSaid says so.
	form     *regexp.Regexp
	formSaid string
	doc      string
	// broker is, for a topic config, the broker config that gives its default.
	broker string
	// dynamic says whether IncrementalAlterConfigs may change a broker config; others need a restart.
	dynamic bool
	// units are other names of a broker config with what one of them is worth: log.retention.hours.
	units []unit
}

type unit struct {
	name string
	mult int64
}

func (d *def) check(v string) error {
	bad := func(why string) error { return fmt.Errorf("Invalid value %s for configuration %s: %s", v, d.name, why) } //nolint:staticcheck // Kafka's words, which tools show
	switch d.typ {
	case boolean:
		if l := strings.ToLower(strings.TrimSpace(v)); l != "true" && l != "false" {
			return bad("Expected value to be either true or false")
		}
	case integer, short, long:
		bits := map[typ]int{integer: 32, short: 16, long: 64}[d.typ]
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, bits)
		if err != nil {
			return bad(fmt.Sprintf("Not a number of type %s", map[typ]string{integer: "INT", short: "SHORT", long: "LONG"}[d.typ]))
		}
		if d.lo != 0 || d.hi != 0 {
			if d.except != nil && (n < d.lo || n > d.hi) {
				return bad(d.exception())
			}
			if n < d.lo {
				return bad(fmt.Sprintf("Value must be at least %d", d.lo))
			}
			if n > d.hi {
				return bad(fmt.Sprintf("Value must be no more than %d", d.hi))
			}
			if slices.Contains(d.except, n) {
				return bad(d.exception())
			}
		}
	case double:
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		switch {
		case err != nil || math.IsNaN(f):
			return bad("Not a number of type DOUBLE")
		case (d.lo != 0 || d.hi != 0) && f < float64(d.lo):
			return bad(fmt.Sprintf("Value must be at least %d", d.lo))
		case (d.lo != 0 || d.hi != 0) && f > float64(d.hi):
			return bad(fmt.Sprintf("Value must be no more than %d", d.hi))
		}
	case text:
		if d.enum != nil && !slices.Contains(d.enum, v) {
			return bad("String must be one of: " + strings.Join(d.enum, ", "))
		}
	case list:
		items := splitList(v)
		if d.form != nil && !d.form.MatchString(strings.Join(items, ",")) {
			return fmt.Errorf("Invalid value [%s] for configuration %s: %s", strings.Join(items, ", "), d.name, d.name+d.formSaid) //nolint:staticcheck // Kafka's words, which tools show
		}
		if d.enum != nil && len(items) > 0 && len(items) < strings.Count(v, ",")+1 {
			return fmt.Errorf("Configuration '%s' values must not be empty.", d.name) //nolint:staticcheck // Kafka's words, which tools show
		}
		for _, item := range items {
			if d.enum != nil && !slices.Contains(d.enum, item) {
				return fmt.Errorf("Invalid value %s for configuration %s: String must be one of: %s", item, d.name, strings.Join(d.enum, ", ")) //nolint:staticcheck // Kafka's words, which tools show
			}
		}
	}
	return nil
}

// exception says what is allowed of a number that may be its lowest or lies from 1 on.
func (d *def) exception() string {
	return fmt.Sprintf("Value must be between 1 and %d or equal to %d", d.hi, d.lo)
}

func splitList(v string) []string {
	var items []string
	for _, s := range strings.Split(v, ",") {
		if s = strings.TrimSpace(s); s != "" {
			items = append(items, s)
		}
	}
	return items
}

const (
	maxInt  = math.MaxInt32
	maxLong = math.MaxInt64

	maxArray = math.MaxInt32 - 8 // what a JVM makes an array of
)

// The classes of replica.selector.class: Kafka's names for what is built in here.
const (
	LeaderSelector    = "org.apache.kafka.common.replica.LeaderSelector"
	RackAwareSelector = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
)

// without is said of a config that is kept and shown, because tools set it, but changes nothing here.
const without = " Accepted so that tools can set it; it changes nothing in Forebay."

// throttled is a list of partition:replica pairs, or all. Like Kafka's ThrottledReplicaListValidator.
var throttled = regexp.MustCompile(`^(\*|([0-9]+:[0-9]+(,[0-9]+:[0-9]+)*)?)$`)

const throttledSaid = " must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."

// topicDefs are the topic configs (KIP-226's names; defaults of Kafka 4.4 unless the doc says otherwise).
var topicDefs = []*def{
	{name: "cleanup.policy", typ: list, value: "delete", enum: []string{"compact", "delete"}, broker: "log.cleanup.policy",
		doc: "What becomes of old segments: delete them by retention, compact them to the last record of each key, or both; empty: all are kept."},
	{name: "compression.type", typ: text, value: "producer", enum: []string{"uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"}, broker: "compression.type",
		doc: "How batches are compressed in the log: producer leaves them as they came; any other value has the broker compress what came otherwise."},
	{name: "compression.gzip.level", typ: integer, value: "-1", lo: -1, hi: 9, except: []int64{0}, broker: "compression.gzip.level", doc: "Level of gzip: 1 to 9, or -1 for its default."},
	{name: "compression.lz4.level", typ: integer, value: "9", lo: 1, hi: 17, broker: "compression.lz4.level", doc: "Level of lz4: 9 is the fast compressor, the others take more time for fewer bytes."},
	{name: "compression.zstd.level", typ: integer, value: "3", lo: -131072, hi: 22, broker: "compression.zstd.level", doc: "Level of zstd."},
	{name: "delete.retention.ms", typ: long, value: "86400000", lo: 0, hi: maxLong, broker: "log.cleaner.delete.retention.ms",
		doc: "How long a tombstone stays in a compacted topic."},
	{name: "errors.deadletterqueue.group.enable", typ: boolean, value: "false", doc: "Whether share groups may use the topic for dead letters." + without},
	{name: "file.delete.delay.ms", typ: long, value: "60000", lo: 0, hi: maxLong, broker: "log.segment.delete.delay.ms",
		doc: "How long a deleted segment's file stays on disk."},
	{name: "flush.messages", typ: long, value: "9223372036854775807", lo: 1, hi: maxLong, broker: "log.flush.interval.messages",
		doc: "With --durability relaxed: a batch that makes it so many records since the last sync is acknowledged only when it is synced; 1 syncs every batch. With power-safe every batch is."},
	{name: "flush.ms", typ: long, value: "9223372036854775807", lo: 0, hi: maxLong, broker: "log.flush.interval.ms",
		doc: "With --durability relaxed: how long a record may lie in the page cache before it is synced."},
	{name: "follower.replication.throttled.replicas", typ: list, value: "", form: throttled, formSaid: throttledSaid, doc: "Replicas that are copied at follower.replication.throttled.rate at most while they are out of sync, as partition:node,…, or * for all."},
	{name: "forebay.append.condition", typ: boolean, value: "false",
		doc: "Whether a record with the header forebay.expected.offset is appended only if it gets that offset. Forebay's own; see docs/conditional-append.md."},
	{name: "index.interval.bytes", typ: integer, value: "4096", lo: 0, hi: maxInt, broker: "log.index.interval.bytes",
		doc: "Bytes of records between two entries of the offset index."},
	{name: "leader.replication.throttled.replicas", typ: list, value: "", form: throttled, formSaid: throttledSaid, doc: "Replicas whose leaders send at leader.replication.throttled.rate at most to followers that are out of sync, as partition:node,…, or * for all."},
	{name: "local.retention.bytes", typ: long, value: "-2", lo: -2, hi: maxLong, broker: "log.local.retention.bytes", doc: "Bytes kept locally under tiered storage." + without},
	{name: "local.retention.ms", typ: long, value: "-2", lo: -2, hi: maxLong, broker: "log.local.retention.ms", doc: "Time kept locally under tiered storage." + without},
	{name: "max.compaction.lag.ms", typ: long, value: "9223372036854775807", lo: 1, hi: maxLong, broker: "log.cleaner.max.compaction.lag.ms",
		doc: "The longest time before a record is looked at for compaction; it also ends the segment that is written."},
	{name: "max.decompressed.message.bytes", typ: integer, value: "2147483639", lo: 1, hi: maxArray, broker: "max.decompressed.message.bytes",
		doc: "The largest record of a compressed batch, without compression. All records of a batch together are bounded by 256 MiB."},
	{name: "max.message.bytes", typ: integer, value: "1048588", lo: 0, hi: maxInt, broker: "message.max.bytes",
		doc: "The largest record batch, after compression."},
	{name: "message.timestamp.after.max.ms", typ: long, value: "3600000", lo: 0, hi: maxLong, broker: "log.message.timestamp.after.max.ms",
		doc: "How far in the future a batch's largest timestamp may lie; a batch beyond is refused."},
	{name: "message.timestamp.before.max.ms", typ: long, value: "9223372036854775807", lo: 0, hi: maxLong, broker: "log.message.timestamp.before.max.ms",
		doc: "How far in the past a batch's first timestamp may lie; a batch beyond is refused."},
	{name: "message.timestamp.type", typ: text, value: "CreateTime", enum: []string{"CreateTime", "LogAppendTime"}, broker: "log.message.timestamp.type",
		doc: "Whether a record carries its producer's time or the log's."},
	{name: "min.cleanable.dirty.ratio", typ: double, value: "0.5", lo: 0, hi: 1, broker: "log.cleaner.min.cleanable.ratio",
		doc: "How much of a compacted log must be uncompacted before it is compacted again."},
	{name: "min.compaction.lag.ms", typ: long, value: "0", lo: 0, hi: maxLong, broker: "log.cleaner.min.compaction.lag.ms",
		doc: "How long a record is safe from compaction."},
	{name: "min.insync.replicas", typ: integer, value: "1", lo: 1, hi: maxInt, broker: "min.insync.replicas",
		doc: "How many replicas must be in sync for acks=all to be accepted."},
	{name: "preallocate", typ: boolean, value: "false", broker: "log.preallocate", doc: "Whether segment files are allocated in full." + without},
	{name: "remote.copy.lag.bytes", typ: long, value: "-1", lo: -1, hi: maxLong, broker: "log.remote.copy.lag.bytes", doc: "Bytes that tiered storage may lag behind." + without},
	{name: "remote.copy.lag.ms", typ: long, value: "0", lo: -1, hi: maxLong, broker: "log.remote.copy.lag.ms", doc: "Time that tiered storage may lag behind." + without},
	{name: "remote.log.copy.disable", typ: boolean, value: "false", doc: "Whether tiered storage stops copying." + without},
	{name: "remote.log.delete.on.disable", typ: boolean, value: "false", doc: "Whether tiered data goes when tiered storage is turned off." + without},
	{name: "remote.storage.enable", typ: boolean, value: "false", enum: []string{"false"}, doc: "Tiered storage; there is none, so only false is accepted."},
	{name: "retention.bytes", typ: long, value: "-1", lo: -1, hi: maxLong, broker: "log.retention.bytes",
		doc: "Bytes of a partition above which old segments are deleted; -1: no limit."},
	{name: "retention.ms", typ: long, value: "604800000", lo: -1, hi: maxLong, broker: "log.retention.ms",
		doc: "Age above which segments are deleted; -1: no limit."},
	{name: "segment.bytes", typ: integer, value: "1073741824", lo: 1 << 20, hi: maxInt, broker: "log.segment.bytes",
		doc: "Size at which a segment is closed and a new one begun."},
	{name: "segment.index.bytes", typ: integer, value: "10485760", lo: 4, hi: maxInt, broker: "log.index.size.max.bytes", doc: "Size of an index at which its segment is closed and a new one begun."},
	{name: "segment.jitter.ms", typ: long, value: "0", lo: 0, hi: maxLong, broker: "log.roll.jitter.ms", doc: "The most that is taken off segment.ms, by chance, so that segments do not all end together."},
	{name: "segment.ms", typ: long, value: "604800000", lo: 1, hi: maxLong, broker: "log.roll.ms",
		doc: "Age at which a segment is closed and a new one begun."},
	{name: "unclean.leader.election.enable", typ: boolean, value: "false", broker: "unclean.leader.election.enable",
		doc: "Whether a replica that is out of sync may lead when nobody is left who has all that was acknowledged: the partition serves on, and records may be lost."},
}

// groupDefs are the configs of groups that have a meaning here (KIP-848).
var groupDefs = []*def{
	{name: "consumer.heartbeat.interval.ms", typ: integer, value: "5000", lo: 1, hi: maxInt, broker: "group.consumer.heartbeat.interval.ms",
		doc: "How often the group's members send heartbeats, under the consumer protocol."},
	{name: "consumer.session.timeout.ms", typ: integer, value: "45000", lo: 1, hi: maxInt, broker: "group.consumer.session.timeout.ms",
		doc: "How long a member of the group may be silent, under the consumer protocol."},
}

// metricsDefs are the configs of subscriptions to client metrics (KIP-714).
var metricsDefs = []*def{
	{name: "metrics", typ: list, doc: "The prefixes of the names of the metrics that clients are to send." + without},
	{name: "interval.ms", typ: integer, value: "300000", doc: "How often clients are to send their metrics." + without},
	{name: "match", typ: list, doc: "Which clients are meant: a comma separated list of selector=regular expression." + without},
}

// brokerDefs are the broker configs that have a meaning here, that give topics their defaults, or that clients and tools read.
var brokerDefs = []*def{
	{name: "node.id", typ: integer, null: true, lo: 0, hi: maxInt, doc: "This node's id; --id."},
	{name: "broker.id", typ: integer, value: "-1", lo: -1, hi: maxInt, doc: "The old name of node.id."},
	{name: "replica.selector.class", typ: text, null: true, enum: []string{LeaderSelector, RackAwareSelector},
		doc: "Whom consumers are to read from: the leader, unless it is " + RackAwareSelector + ": then a replica in sync in the consumer's rack (client.rack), as broker.rack tells where nodes stand (KIP-392)."},
	{name: "broker.rack", typ: text, null: true, doc: "The rack that this node stands in."},
	{name: "listeners", typ: list, value: "PLAINTEXT://127.0.0.1:9092", doc: "Where this node listens; --kafka."},
	{name: "advertised.listeners", typ: list, null: true, doc: "The address that clients are told, when it is not that of listeners."},
	{name: "log.dirs", typ: list, null: true, doc: "The directories for logs, separated by commas. Unless it is given they lie in the data directory (--data)."},
	{name: "log.dir", typ: list, null: true, doc: "The old name of log.dirs."},
	{name: "auto.create.topics.enable", typ: boolean, value: "true", doc: "Whether a topic that a client asks for is created."},
	{name: "delete.topic.enable", typ: boolean, value: "true", doc: "Whether topics can be deleted."},
	{name: "num.partitions", typ: integer, value: "1", lo: 1, hi: MaxPartitions, doc: "Partitions of a topic created without a number."},
	{name: "default.replication.factor", typ: integer, value: "3", lo: 1, hi: math.MaxInt16, doc: "Replicas of a topic created without a number; unless it is set, at most as many as there are nodes."},
	{name: "offsets.topic.num.partitions", typ: integer, value: "50", lo: 1, hi: MaxPartitions, doc: "Partitions of __consumer_offsets."},
	{name: "offsets.topic.replication.factor", typ: short, value: "3", lo: 1, hi: math.MaxInt16, doc: "Replicas of __consumer_offsets. Unless it is set, at most as many as there are nodes when it is created."},
	{name: "offsets.topic.segment.bytes", typ: integer, value: "104857600", lo: 1, hi: maxInt, doc: "Segment size of __consumer_offsets."},
	{name: "offsets.retention.minutes", typ: integer, value: "10080", lo: 1, hi: maxInt, dynamic: true, doc: "How long an empty group's offsets are kept."},
	{name: "offset.metadata.max.bytes", typ: integer, value: "4096", lo: 0, hi: maxInt, doc: "The longest metadata of an offset commit."},
	{name: "transaction.state.log.num.partitions", typ: integer, value: "50", lo: 1, hi: MaxPartitions, doc: "Partitions of __transaction_state."},
	{name: "transaction.state.log.replication.factor", typ: short, value: "3", lo: 1, hi: math.MaxInt16, doc: "Replicas of __transaction_state. Unless it is set, at most as many as there are nodes when it is created."},
	{name: "transaction.state.log.segment.bytes", typ: integer, value: "104857600", lo: 1, hi: maxInt, doc: "Segment size of __transaction_state."},
	{name: "transaction.state.log.min.isr", typ: integer, value: "1", lo: 1, hi: maxInt, doc: "min.insync.replicas of __transaction_state. Kafka's default is 2."},
	{name: "transaction.max.timeout.ms", typ: integer, value: "900000", lo: 1, hi: maxInt, doc: "The longest transaction timeout that a client may ask for."},
	{name: "transactional.id.expiration.ms", typ: integer, value: "604800000", lo: 1, hi: maxInt, doc: "How long an idle transactional id is remembered."},
	{name: "transaction.abort.timed.out.transaction.cleanup.interval.ms", typ: integer, value: "10000", lo: 1, hi: maxInt, doc: "How often transactions are looked at for a timeout."},
	{name: "producer.id.expiration.ms", typ: integer, value: "86400000", lo: 1, hi: maxInt, doc: "How long an idle producer is remembered."},
	{name: "group.initial.rebalance.delay.ms", typ: integer, value: "200", lo: 0, hi: maxInt, doc: "How long a new group waits for more members. Kafka's default is 3000."},
	{name: "group.min.session.timeout.ms", typ: integer, value: "6000", lo: 0, hi: maxInt, doc: "The shortest session timeout of a member."},
	{name: "group.max.session.timeout.ms", typ: integer, value: "1800000", lo: 0, hi: maxInt, doc: "The longest session timeout of a member."},
	{name: "group.max.size", typ: integer, value: "2147483647", lo: 1, hi: maxInt, doc: "The most members of a group."},
	{name: "group.consumer.session.timeout.ms", typ: integer, value: "45000", lo: 1, hi: maxInt, doc: "How long a member of a consumer group (KIP-848) may be silent."},
	{name: "group.consumer.min.session.timeout.ms", typ: integer, value: "45000", lo: 1, hi: maxInt, doc: "The least that a group's consumer.session.timeout.ms may be."},
	{name: "group.consumer.max.session.timeout.ms", typ: integer, value: "60000", lo: 1, hi: maxInt, doc: "The most that a group's consumer.session.timeout.ms may be."},
	{name: "group.consumer.min.heartbeat.interval.ms", typ: integer, value: "5000", lo: 1, hi: maxInt, doc: "The least that a group's consumer.heartbeat.interval.ms may be."},
	{name: "group.consumer.max.heartbeat.interval.ms", typ: integer, value: "15000", lo: 1, hi: maxInt, doc: "The most that a group's consumer.heartbeat.interval.ms may be."},
	{name: "group.consumer.heartbeat.interval.ms", typ: integer, value: "5000", lo: 1, hi: maxInt, doc: "How often the members of a consumer group (KIP-848) send heartbeats."},
	{name: "group.consumer.migration.policy", typ: text, value: "bidirectional", enum: []string{"disabled", "upgrade", "downgrade", "bidirectional"}, doc: "Whether a group changes between the classic and the consumer protocol while it has members."},
	{name: "group.consumer.max.size", typ: integer, value: "2147483647", lo: 1, hi: maxInt, doc: "The most members of a consumer group (KIP-848)."},
	{name: "socket.request.max.bytes", typ: integer, value: "104857600", lo: 1, hi: maxInt, doc: "The largest request."},
	{name: "fetch.max.bytes", typ: integer, value: "57671680", lo: 1024, hi: maxInt, doc: "The most bytes that a fetch returns."},
	{name: "queued.max.request.bytes", typ: long, value: "-1", lo: -1, hi: maxLong, doc: "Bytes of requests in flight over all connections; -1: a share of the memory."},
	{name: "connections.max.idle.ms", typ: long, value: "600000", lo: -1, hi: maxLong, doc: "How long an idle connection stays open."},
	{name: "max.connections", typ: integer, value: "2147483647", lo: 0, hi: maxInt, doc: "The most connections at a time."},
	{name: "max.incremental.fetch.session.cache.slots", typ: integer, value: "1000", lo: 0, hi: maxInt, doc: "The most fetch sessions that are remembered (KIP-227)."},
	{name: "quota.window.num", typ: integer, value: "11", lo: 1, hi: 3600, doc: "Samples over which a client's rate is taken."},
	{name: "quota.window.size.seconds", typ: integer, value: "1", lo: 1, hi: 3600, doc: "The time of one of them."},
	{name: "controller.quota.window.num", typ: integer, value: "11", lo: 1, hi: 3600, doc: "Samples over which controller_mutation_rate is taken."},
	{name: "controller.quota.window.size.seconds", typ: integer, value: "1", lo: 1, hi: 3600, doc: "The time of one of them."},
	{name: "log.retention.check.interval.ms", typ: long, value: "300000", lo: 1, hi: maxLong, doc: "How often retention and compaction look at the logs."},
	{name: "log.retention.ms", typ: long, null: true, lo: -1, hi: maxLong, dynamic: true, doc: "Default of retention.ms.",
		units: []unit{{"log.retention.minutes", 60_000}, {"log.retention.hours", 3_600_000}}},
	{name: "log.retention.minutes", typ: integer, null: true, doc: "log.retention.ms in minutes."},
	{name: "log.retention.hours", typ: integer, value: "168", doc: "log.retention.ms in hours."},
	{name: "log.retention.bytes", typ: long, value: "-1", lo: -1, hi: maxLong, dynamic: true, doc: "Default of retention.bytes."},
	{name: "log.roll.ms", typ: long, null: true, lo: 1, hi: maxLong, dynamic: true, doc: "Default of segment.ms.", units: []unit{{"log.roll.hours", 3_600_000}}},
	{name: "log.roll.hours", typ: integer, value: "168", lo: 1, hi: maxInt, doc: "log.roll.ms in hours."},
	{name: "log.segment.bytes", typ: integer, value: "1073741824", lo: 1 << 20, hi: maxInt, dynamic: true, doc: "Default of segment.bytes."},
	{name: "log.segment.delete.delay.ms", typ: long, value: "60000", lo: 0, hi: maxLong, dynamic: true, doc: "Default of file.delete.delay.ms."},
	{name: "log.cleanup.policy", typ: list, value: "delete", enum: []string{"compact", "delete"}, dynamic: true, doc: "Default of cleanup.policy."},
	{name: "log.cleaner.enable", typ: boolean, value: "true", doc: "Whether compaction runs."},
	{name: "log.cleaner.threads", typ: integer, value: "1", lo: 0, hi: maxInt, dynamic: true, doc: "How many logs are compacted at a time."},
	{name: "log.cleaner.dedupe.buffer.size", typ: long, value: "134217728", lo: 1, hi: maxLong, dynamic: true, doc: "Bytes of memory for keys, of all cleaner threads together; 24 for each key. More keys take more passes."},
	{name: "log.cleaner.io.max.bytes.per.second", typ: double, value: "1.7976931348623157E308", dynamic: true, doc: "The most bytes that compaction reads and writes in a second."},
	{name: "log.cleaner.backoff.ms", typ: long, value: "15000", lo: 0, hi: maxLong, dynamic: true, doc: "How long compaction rests before it looks at the logs again."},
	{name: "log.cleaner.min.cleanable.ratio", typ: double, value: "0.5", lo: 0, hi: 1, dynamic: true, doc: "Default of min.cleanable.dirty.ratio."},
	{name: "log.cleaner.max.compaction.lag.ms", typ: long, value: "9223372036854775807", lo: 1, hi: maxLong, dynamic: true, doc: "Default of max.compaction.lag.ms."},
	{name: ScrubConfig, typ: long, value: "604800000", lo: -1, hi: maxLong, dynamic: true, doc: "How long after a pass of the scrub has begun the next one begins; a pass reads every log and compares its CRCs, so that what has rotted on disk is found before it is needed. -1: no scrub."},
	{name: ScrubRateConfig, typ: long, value: "4194304", lo: 1, hi: maxLong, dynamic: true, doc: "The most bytes that the scrub reads in a second. On a busy disk it reads less."},
	{name: "log.index.size.max.bytes", typ: integer, value: "10485760", lo: 4, hi: maxInt, dynamic: true, doc: "Default of segment.index.bytes."},
	{name: "log.roll.jitter.ms", typ: long, null: true, lo: 0, hi: maxLong, dynamic: true, doc: "Default of segment.jitter.ms.", units: []unit{{"log.roll.jitter.hours", 3_600_000}}},
	{name: "log.roll.jitter.hours", typ: integer, value: "0", lo: 0, hi: maxInt, doc: "log.roll.jitter.ms in hours."},
	{name: "log.cleaner.delete.retention.ms", typ: long, value: "86400000", lo: 0, hi: maxLong, dynamic: true, doc: "Default of delete.retention.ms."},
	{name: "log.cleaner.min.compaction.lag.ms", typ: long, value: "0", lo: 0, hi: maxLong, dynamic: true, doc: "Default of min.compaction.lag.ms."},
	{name: "log.index.interval.bytes", typ: integer, value: "4096", lo: 0, hi: maxInt, dynamic: true, doc: "Default of index.interval.bytes."},
	{name: "log.message.timestamp.type", typ: text, value: "CreateTime", enum: []string{"CreateTime", "LogAppendTime"}, dynamic: true, doc: "Default of message.timestamp.type."},
	{name: "log.flush.interval.messages", typ: long, value: "9223372036854775807", lo: 1, hi: maxLong, dynamic: true, doc: "Default of flush.messages."},
	{name: "log.flush.interval.ms", typ: long, null: true, dynamic: true, doc: "Default of flush.ms.", units: []unit{{"log.flush.scheduler.interval.ms", 1}}},
	{name: "log.flush.scheduler.interval.ms", typ: long, value: "9223372036854775807", doc: "log.flush.interval.ms where that is not set."},
	{name: "log.preallocate", typ: boolean, value: "false", dynamic: true, doc: "Default of preallocate." + without},
	{name: "log.remote.copy.lag.bytes", typ: long, value: "-1", lo: -1, hi: maxLong, dynamic: true, doc: "Default of remote.copy.lag.bytes." + without},
	{name: "log.remote.copy.lag.ms", typ: long, value: "0", lo: -1, hi: maxLong, dynamic: true, doc: "Default of remote.copy.lag.ms." + without},
	{name: "log.local.retention.bytes", typ: long, value: "-2", lo: -2, hi: maxLong, dynamic: true, doc: "Default of local.retention.bytes." + without},
	{name: "log.local.retention.ms", typ: long, value: "-2", lo: -2, hi: maxLong, dynamic: true, doc: "Default of local.retention.ms." + without},
	{name: "max.decompressed.message.bytes", typ: integer, value: "2147483639", lo: 1, hi: maxArray, dynamic: true, doc: "Default of the topic's max.decompressed.message.bytes."},
	{name: "message.max.bytes", typ: integer, value: "1048588", lo: 0, hi: maxInt, dynamic: true, doc: "Default of max.message.bytes."},
	{name: "min.insync.replicas", typ: integer, value: "1", lo: 1, hi: maxInt, dynamic: true, doc: "Default of min.insync.replicas."},
	{name: "replica.lag.time.max.ms", typ: long, value: "30000", lo: 1, hi: maxLong, doc: "How long a replica may be behind before it leaves the in-sync replicas."},
	{name: "replica.fetch.wait.max.ms", typ: integer, value: "500", lo: 0, hi: maxInt, doc: "How long a follower's fetch waits for records."},
	{name: "replica.fetch.max.bytes", typ: integer, value: "1048576", lo: 0, hi: maxInt, doc: "The most bytes of a partition that a follower fetches at once; a larger batch comes alone."},
	{name: "replica.fetch.response.max.bytes", typ: integer, value: "10485760", lo: 0, hi: maxInt, doc: "The most bytes that a follower fetches at once."},
	{name: "compression.type", typ: text, value: "producer", enum: []string{"uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"}, dynamic: true, doc: "Default of compression.type."},
	{name: "compression.gzip.level", typ: integer, value: "-1", lo: -1, hi: 9, except: []int64{0}, dynamic: true, doc: "Default of the topic's compression.gzip.level."},
	{name: "compression.lz4.level", typ: integer, value: "9", lo: 1, hi: 17, dynamic: true, doc: "Default of the topic's compression.lz4.level."},
	{name: "compression.zstd.level", typ: integer, value: "3", lo: -131072, hi: 22, dynamic: true, doc: "Default of the topic's compression.zstd.level."},
	{name: "log.message.timestamp.before.max.ms", typ: long, value: "9223372036854775807", lo: 0, hi: maxLong, dynamic: true, doc: "Default of message.timestamp.before.max.ms."},
	{name: "log.message.timestamp.after.max.ms", typ: long, value: "3600000", lo: 0, hi: maxLong, dynamic: true, doc: "Default of message.timestamp.after.max.ms."},
	{name: "unclean.leader.election.enable", typ: boolean, value: "false", dynamic: true, doc: "Default of unclean.leader.election.enable."},
	{name: "listener.security.protocol.map", typ: text, value: "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", doc: "What each listener asks for, as NAME:PROTOCOL."},
	{name: "inter.broker.listener.name", typ: text, null: true, doc: "The listener by which nodes reach each other; the first of listeners unless it is set."},
	{name: "sasl.mechanism.inter.broker.protocol", typ: text, null: true, enum: []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}, doc: "The mechanism by which nodes authenticate to each other, with the username and password of its sasl.jaas.config."},
	{name: "sasl.enabled.mechanisms", typ: list, null: true, enum: []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"}, doc: "The SASL mechanisms that clients may use."},
	{name: "sasl.jaas.config", typ: password, null: true, doc: "Users and passwords of a mechanism, as listener.name.NAME.MECHANISM.sasl.jaas.config."},
	{name: "sasl.server.callback.handler.class", typ: text, null: true, enum: []string{"", "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler", "org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerValidatorCallbackHandler"}, doc: "Of OAUTHBEARER; it need not be set: there is no other."},
	{name: "sasl.oauthbearer.jwks.endpoint.url", typ: text, null: true, doc: "Where the keys are that tokens are checked with: https://, http:// or file://."},
	{name: "sasl.oauthbearer.jwks.endpoint.refresh.ms", typ: long, value: "3600000", lo: 1, hi: maxLong, doc: "How often those keys are fetched; a file is read again when it changes."},
	{name: "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", typ: long, value: "100", lo: 1, hi: maxLong, doc: "How long after a failure they are tried again at first; the time doubles."},
	{name: "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", typ: long, value: "10000", lo: 1, hi: maxLong, doc: "The most that it grows to."},
	{name: "sasl.oauthbearer.expected.audience", typ: list, null: true, doc: "Whom a token has to be for: one of these. Without it, tokens that are for somebody are refused."},
	{name: "sasl.oauthbearer.expected.issuer", typ: text, null: true, doc: "Who has to have made a token."},
	{name: "sasl.oauthbearer.clock.skew.seconds", typ: integer, value: "30", lo: 0, hi: maxInt, doc: "How far the clocks of this node and of who makes tokens may be apart."},
	{name: "sasl.oauthbearer.scope.claim.name", typ: text, value: "scope", doc: "The claim that has a token's scope."},
	{name: "sasl.oauthbearer.sub.claim.name", typ: text, value: "sub", doc: "The claim that has the principal's name."},
	{name: "connections.max.reauth.ms", typ: long, value: "0", lo: 0, hi: maxLong, doc: "How long a client may go on before it authenticates again (KIP-368); 0: for ever."},
	{name: "connection.failed.authentication.delay.ms", typ: integer, value: "100", lo: 0, hi: maxInt, doc: "How long a client whose authentication failed waits for the answer."},
	{name: "ssl.keystore.type", typ: text, value: "PEM", enum: []string{"PEM"}, doc: "Kafka's default is JKS; only PEM is there."},
	{name: "ssl.keystore.location", typ: text, null: true, doc: "A PEM file with the listener's private key and its certificate chain."},
	{name: "ssl.keystore.certificate.chain", typ: password, null: true, doc: "The certificate chain itself, in PEM."},
	{name: "ssl.keystore.key", typ: password, null: true, doc: "The private key itself, in PEM."},
	{name: "ssl.truststore.type", typ: text, value: "PEM", enum: []string{"PEM"}, doc: "Kafka's default is JKS; only PEM is there."},
	{name: "ssl.truststore.location", typ: text, null: true, doc: "A PEM file with the certificates that clients' and other nodes' certificates must come from."},
	{name: "ssl.truststore.certificates", typ: password, null: true, doc: "Those certificates themselves, in PEM."},
	{name: "ssl.client.auth", typ: text, value: "none", enum: []string{"none", "requested", "required"}, doc: "Whether clients have to show a certificate."},
	{name: "ssl.endpoint.identification.algorithm", typ: text, value: "https", enum: []string{"https", ""}, doc: "Whether a node checks the name in another node's certificate; empty: not."},
	{name: "ssl.principal.mapping.rules", typ: text, value: "DEFAULT", doc: "How a certificate's distinguished name becomes a principal's: RULE:pattern/replacement/[LU], …, DEFAULT."},
	{name: "authorizer.class.name", typ: text, value: "", enum: []string{"", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"}, doc: "Turns ACLs on; without it everybody may do everything."},
	{name: "super.users", typ: text, null: true, doc: "Principals that may do everything, as User:a;User:b."},
	{name: "allow.everyone.if.no.acl.found", typ: boolean, value: "false", doc: "Whether everybody may do everything to what no ACL names."},
	{name: "leader.replication.throttled.rate", typ: long, value: "9223372036854775807", lo: 0, hi: maxLong, dynamic: true, doc: "Bytes in a second that this node sends of the replicas in leader.replication.throttled.replicas."},
	{name: "follower.replication.throttled.rate", typ: long, value: "9223372036854775807", lo: 0, hi: maxLong, dynamic: true, doc: "Bytes in a second that this node fetches of the replicas in follower.replication.throttled.replicas."},
	{name: "replication.quota.window.num", typ: integer, value: "11", lo: 1, hi: 3600, doc: "Samples over which replication's rates are taken."},
	{name: "replication.quota.window.size.seconds", typ: integer, value: "1", lo: 1, hi: 3600, doc: "The time of one of them."},
	{name: "replica.alter.log.dirs.io.max.bytes.per.second", typ: long, value: "9223372036854775807", lo: 0, hi: maxLong, dynamic: true, doc: "Bytes that replicas may move between log directories in a second; none is moved." + without},
	{name: "auto.leader.rebalance.enable", typ: boolean, value: "true", doc: "Whether partitions go back to their preferred leaders by themselves."},
	{name: "leader.imbalance.check.interval.seconds", typ: long, value: "10", lo: 1, hi: maxInt, doc: "How often the controller looks for partitions that their preferred leaders could lead. Kafka's default is 300."},
	{name: "leader.imbalance.per.broker.percentage", typ: integer, value: "0", lo: 0, hi: 100,
		doc: "How many percent of the partitions that a node is preferred for others may lead before any is moved. Kafka had it, at 10, until KRaft came."},
	{name: metadata.DrainConfig, typ: boolean, value: "false", dynamic: true, doc: "Whether this node is being emptied: its partitions move to others, and it is given none. For one node, by `forebay nodes drain`. As Kafka's cordoned.log.dirs, and the moving with it."},
	{name: VoterDeadConfig, typ: long, value: "300000", lo: 1000, hi: maxLong, doc: "How long a node that votes on the metadata is dead before another one votes in its place."},
	{name: "num.io.threads", typ: integer, value: "8", lo: 1, hi: maxInt, dynamic: true, doc: "Go schedules its own." + without},
	{name: "num.network.threads", typ: integer, value: "3", lo: 1, hi: maxInt, dynamic: true, doc: "Go schedules its own." + without},
}
