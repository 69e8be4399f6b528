package controller

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/record"
)

// The tables by name.
var (
	topicByName   = index(topicDefs)
	brokerByName  = index(brokerDefs)
	groupByName   = index(groupDefs)
	metricsByName = index(metricsDefs)
)

func index(defs []*def) map[string]*def {
	m := make(map[string]*def, len(defs))
	for _, d := range defs {
		m[d.name] = d
	}
	return m
}

func hint(name string, known map[string]*def) string {
	if near := spec.Nearest(name, slices.Sorted(maps.Keys(known))); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

func checkTopicConfig(name, value string) error {
	d := topicByName[name]
	if d == nil {
		return refuse(kerr.InvalidConfig, "Unknown topic config name: %s%s", name, hint(name, topicByName))
	}
	if err := d.check(value); err != nil {
		return refuse(kerr.InvalidConfig, "%s", err)
	}
	if name == "remote.storage.enable" && strings.EqualFold(value, "true") {
		return refuse(kerr.InvalidConfig, "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.")
	}
	return nil
}

// checkTogether refuses configs that are right alone but contradict one another.
func checkTogether(m map[string]string) error {
	lo, err1 := strconv.ParseInt(m["min.compaction.lag.ms"], 10, 64)
	hi, err2 := strconv.ParseInt(m["max.compaction.lag.ms"], 10, 64)
	if err1 == nil && err2 == nil && lo > hi {
		return refuse(kerr.InvalidConfig, "conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)", lo, hi)
	}
	return nil
}

// ConfigEntry is one config as DescribeConfigs shows it.
type ConfigEntry struct {
	Name, Value         string
	Null                bool
	Source              int8 // kmsg.ConfigSource
	Type                int8 // kmsg.ConfigType
	ReadOnly, Sensitive bool
	Doc                 string
	Synonyms            []ConfigSynonym
}

// ConfigSynonym is a place where a config's value could come from.
type ConfigSynonym struct {
	Name, Value string
	Source      int8
}

const (
	fromTopic   = int8(kmsg.ConfigSourceDynamicTopicConfig)
	fromNode    = int8(kmsg.ConfigSourceDynamicBrokerConfig)
	fromCluster = int8(kmsg.ConfigSourceDynamicDefaultBrokerConfig)
	fromStatic  = int8(kmsg.ConfigSourceStaticBrokerConfig)
	fromDefault = int8(kmsg.ConfigSourceDefaultConfig)
	fromGroup   = int8(kmsg.ConfigSourceGroupConfig)
	fromMetrics = int8(kmsg.ConfigSourceClientMetricsConfig)
)

// TopicConfigs lists every topic config that has a meaning here.
func (c *Controller) TopicConfigs(topic string) ([]ConfigEntry, error) {
	image := c.Image()
	if err := checkTopic(image, topic); err != nil {
		return nil, err
	}
	return c.topicConfigs(image, topic), nil
}

// checkTopic tells a name that no topic can have from one that none has.
func checkTopic(image *metadata.Image, topic string) error {
	if image.Topics[topic] != nil {
		return nil
	}
	if err := checkTopicName(topic); err != nil {
		return err
	}
	return refuse(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", topic)
}

func checkTopicName(topic string) error {
	if err := metadata.ValidateTopicName(topic); err != nil {
		return refuse(kerr.InvalidTopicException, "Topic name is invalid: %s", strings.TrimPrefix(err.Error(), metadata.ErrInvalidTopic.Error()+": "))
	}
	return nil
}

func (c *Controller) topicConfigs(image *metadata.Image, topic string) []ConfigEntry {
	entries := make([]ConfigEntry, 0, len(topicDefs))
	for _, d := range topicDefs {
		entries = append(entries, c.entry(image, image.TopicConfigs[topic], fromTopic, d))
	}
	return entries
}

// entry shows a config of a topic or a group: its value, and as synonyms its own and those of the broker's that gives the default.
func (c *Controller) entry(image *metadata.Image, own map[string]string, source int8, d *def) ConfigEntry {
	value, ok := c.overBroker(image, own, d)
	e := ConfigEntry{Name: d.name, Value: value, Null: !ok, Type: int8(d.typ), Sensitive: d.typ == password, Doc: d.doc, Source: fromDefault}
	if v, set := own[d.name]; set {
		e.Synonyms = append(e.Synonyms, ConfigSynonym{d.name, v, source})
	}
	if b := brokerByName[d.broker]; b != nil {
		e.Synonyms = append(e.Synonyms, c.synonyms(image, strconv.Itoa(int(c.node)), b)...)
	}
	if len(e.Synonyms) > 0 {
		e.Source = e.Synonyms[0].Source
	}
	return e
}

// PlannedConfigs lists what TopicConfigs would if a topic were made with these configs.
func (c *Controller) PlannedConfigs(topic string, configs map[string]string) ([]ConfigEntry, error) {
	all, err := c.topicDefaults(topic, configs)
	if err != nil {
		return nil, err
	}
	image := *c.Image() // the Image itself is never changed (invariant 2)
	image.TopicConfigs = map[string]map[string]string{topic: all}
	return c.topicConfigs(&image, topic), nil
}

// BrokerConfigs lists every broker config that has a meaning here. For "" it lists
// what is set for the whole cluster, as Kafka does.
func (c *Controller) BrokerConfigs(node string) ([]ConfigEntry, error) {
	image := c.Image()
	if err := c.checkNode(image, node, "Broker"); err != nil {
		return nil, err
	}
	var entries []ConfigEntry
	for _, d := range brokerDefs {
		if _, set := image.BrokerConfigs[""][d.name]; node == "" && !set {
			continue
		}
		e := ConfigEntry{Name: d.name, Null: true, Type: int8(d.typ), ReadOnly: !d.dynamic, Sensitive: d.typ == password, Doc: d.doc, Source: fromDefault}
		if e.Synonyms = c.synonyms(image, node, d); len(e.Synonyms) > 0 {
			e.Value, e.Source, e.Null = e.Synonyms[0].Value, e.Synonyms[0].Source, false
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// synonyms are the places from which a broker config's value could come, the one in force first, under the names that it has in each
// unit. Where the config itself is not set there are none. Like Kafka's ConfigHelper.configSynonyms.
func (c *Controller) synonyms(image *metadata.Image, node string, d *def) []ConfigSynonym {
	names := []*def{d}
	for _, u := range d.units {
		names = append(names, brokerByName[u.name])
	}
	var all []ConfigSynonym
	for _, source := range []int8{fromNode, fromCluster, fromStatic, fromDefault} {
		if node == "" && source != fromCluster {
			continue
		}
		for _, n := range names {
			if v, ok := c.set(image, node, n, source); ok {
				all = append(all, ConfigSynonym{n.name, v, source})
			}
		}
	}
	for n := range all {
		if all[n].Name == d.name {
			return all[n:]
		}
	}
	return nil
}

// set is what one source says of a broker config by its own name.
func (c *Controller) set(image *metadata.Image, node string, d *def, source int8) (v string, ok bool) {
	switch source {
	case fromNode:
		if node != "" {
			v, ok = image.BrokerConfigs[node][d.name]
		}
	case fromCluster:
		v, ok = image.BrokerConfigs[""][d.name]
	case fromStatic:
		v, ok = c.static[d.name]
	default:
		v, ok = d.value, !d.null
	}
	return v, ok
}

// topicValue is a topic config's value.
func (c *Controller) topicValue(image *metadata.Image, topic string, d *def) string {
	v, _ := c.overBroker(image, image.TopicConfigs[topic], d)
	return v
}

// overBroker is the value of a config that a broker's gives the default of; false: it has none.
func (c *Controller) overBroker(image *metadata.Image, own map[string]string, d *def) (string, bool) {
	if v, ok := own[d.name]; ok {
		return v, true
	}
	if b := brokerByName[d.broker]; b != nil {
		if v, _, ok := c.brokerValue(image, strconv.Itoa(int(c.node)), b); ok {
			return v, true
		}
	}
	return d.value, !d.null
}

// brokerValue is a broker config's value in force, in its own unit, and where it comes from; false: it has none.
func (c *Controller) brokerValue(image *metadata.Image, node string, d *def) (value string, source int8, ok bool) {
	for _, source := range []int8{fromNode, fromCluster, fromStatic, fromDefault} {
		if v, ok := c.set(image, node, d, source); ok {
			return v, source, true
		}
	}
	for _, u := range d.units {
		if v, source, ok := c.brokerValue(image, node, brokerByName[u.name]); ok {
			return scale(v, u.mult), source, true
		}
	}
	return "", fromDefault, false
}

// scale turns hours into milliseconds; -1 stays unlimited.
func scale(v string, mult int64) string {
	n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	switch {
	case err != nil || n < 0:
		return "-1"
	case n > maxLong/mult:
		return strconv.FormatInt(maxLong, 10)
	}
	return strconv.FormatInt(n*mult, 10)
}

// Value is a broker config's value on this node; "" when it has none. The name must be one of the table.
func (c *Controller) Value(name string) string {
	d := brokerByName[name]
	if d == nil {
		panic("controller: no broker config " + name)
	}
	v, _, _ := c.brokerValue(c.Image(), strconv.Itoa(int(c.node)), d)
	return v
}

// Int is Value as a number, for configs whose type is one.
func (c *Controller) Int(name string) int64 { return c.number(name) }

// Float and Bool are Value as what their configs' types say.
func (c *Controller) Float(name string) float64 {
	f, _ := strconv.ParseFloat(strings.TrimSpace(c.Value(name)), 64) // checked when it was set
	return f
}

// Bool is Value as a boolean; see Float.
func (c *Controller) Bool(name string) bool {
	return strings.EqualFold(strings.TrimSpace(c.Value(name)), "true")
}

// Duration is Value as milliseconds.
func (c *Controller) Duration(name string) time.Duration { return millis(c.number(name)) }

func (c *Controller) number(name string) int64 { return whole(c.Value(name)) }

// whole is a value as a whole number; it was checked when it was set.
func whole(v string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	return n
}

// millis is n milliseconds; -1 stays -1 and what does not fit is the longest there is.
func millis(n int64) time.Duration {
	switch {
	case n < 0:
		return -1
	case n > maxLong/int64(time.Millisecond):
		return time.Duration(maxLong)
	}
	return time.Duration(n) * time.Millisecond
}

// ReplicationRates are the bytes per second that this node may send to throttled followers, and fetch as one, in an Image; the largest
// int64: any (KIP-73).
func (c *Controller) ReplicationRates(image *metadata.Image) (leader, follower int64) {
	rate := func(name string) int64 {
		v, _, _ := c.brokerValue(image, strconv.Itoa(int(c.node)), brokerByName[name])
		return whole(v)
	}
	return rate("leader.replication.throttled.rate"), rate("follower.replication.throttled.rate")
}

// MinISR is this node's own default of min.insync.replicas: what nobody can change while it runs.
func (c *Controller) MinISR() int32 {
	d := brokerByName["min.insync.replicas"]
	v, ok := c.static[d.name]
	if !ok {
		v = d.value
	}
	return int32(whole(strings.TrimSpace(v)))
}

// TopicSettings is a topic's configuration as log and partition use it.
type TopicSettings struct {
	Log       commitlog.Config
	MinInSync int
	Unclean   bool // see Controller.Unclean
	// LeaderThrottled and FollowerThrottled are the replicas whose copying is throttled (KIP-73), in Kafka's notation.
	LeaderThrottled, FollowerThrottled string
}

// Settings resolves a topic's configuration in an Image.
func (c *Controller) Settings(image *metadata.Image, topic string) TopicSettings {
	value := func(name string) string {
		return strings.TrimSpace(c.topicValue(image, topic, topicByName[name]))
	}
	number := func(name string) int64 { return whole(value(name)) }
	// A Config takes 0 for its default; where Kafka's 0 means nothing at all, the smallest there is stands for it.
	tiny := func(d time.Duration) time.Duration {
		if d == 0 {
			return 1
		}
		return d
	}
	policy := splitList(value("cleanup.policy"))
	retentionBytes, retentionAge := number("retention.bytes"), tiny(millis(number("retention.ms")))
	if len(policy) == 0 { // nothing is removed but what DeleteRecords gives up (KIP-1161)
		policy, retentionBytes, retentionAge = []string{"delete"}, -1, -1
	}
	return TopicSettings{
		MinInSync:       int(number("min.insync.replicas")),
		Unclean:         strings.EqualFold(value("unclean.leader.election.enable"), "true"),
		LeaderThrottled: value("leader.replication.throttled.replicas"), FollowerThrottled: value("follower.replication.throttled.replicas"),
		Log: commitlog.Config{
			SegmentBytes: number("segment.bytes"), SegmentAge: millis(number("segment.ms")),
			IndexBytes:     max(number("index.interval.bytes"), 1),
			RetentionBytes: retentionBytes, RetentionAge: retentionAge,
			Delete: slices.Contains(policy, "delete"), Compact: slices.Contains(policy, "compact"),
			MaxBatchBytes:    int32(max(number("max.message.bytes"), 1)),
			MaxRecordBytes:   int32(number("max.decompressed.message.bytes")),
			LogAppendTime:    value("message.timestamp.type") == "LogAppendTime",
			TombstoneAge:     tiny(millis(number("delete.retention.ms"))),
			MinCompactionLag: millis(number("min.compaction.lag.ms")),
			FileDeleteDelay:  tiny(millis(number("file.delete.delay.ms"))),
			TimestampBefore:  tiny(millis(number("message.timestamp.before.max.ms"))),
			TimestampAfter:   tiny(millis(number("message.timestamp.after.max.ms"))),
			Conditional:      strings.EqualFold(value("forebay.append.condition"), "true"),
			SegmentJitter:    millis(number("segment.jitter.ms")),
			IndexFileBytes:   number("segment.index.bytes"),
			MinDirtyRatio:    ratio(value("min.cleanable.dirty.ratio")),
			MaxCompactionLag: bound(number("max.compaction.lag.ms")),
			FlushMessages:    count(number("flush.messages")),
			FlushAge:         bound(number("flush.ms")),
			Compression:      compression(value("compression.type"), func(codec string) int { return int(number("compression." + codec + ".level")) }),
		},
	}
}

// compression is what compression.type and its level mean to a log.
func compression(name string, level func(codec string) int) commitlog.Compression {
	c := commitlog.Compression{Set: name != "producer"}
	for codec := record.Gzip; codec <= record.Zstd; codec++ {
		if codec.String() == name {
			c.Codec = codec
			if codec != record.Snappy {
				c.Level = level(name)
			}
		}
	}
	return c
}

// ratio is a share of 1. A Config takes 0 for its default, so the least there is stands for it.
func ratio(v string) float64 {
	f, _ := strconv.ParseFloat(v, 64) // checked when it was set
	return max(f, math.SmallestNonzeroFloat64)
}

// bound is n milliseconds, and 0, no bound, for Kafka's way to say never.
func bound(n int64) time.Duration {
	if n == maxLong {
		return 0
	}
	return max(millis(n), 1)
}

// count is n, and 0, no bound, for Kafka's way to say never.
func count(n int64) int64 {
	if n == maxLong {
		return 0
	}
	return n
}
