package server

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/core/txn"
)

// These answers were compared with Apache Kafka 4.4's, request by request.

func createRequest(names ...string) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version = 7
	for _, name := range names {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, 2, 1
		req.Topics = append(req.Topics, t)
	}
	return req
}

func (n *node) setTopic(name, key, value string) {
	n.t.Helper()
	if _, err := n.quorum.Propose(n.t.Context(), &metadata.AlterConfigs{Name: name, Set: map[string]string{key: value}}); err != nil {
		n.t.Fatal(err)
	}
}

// The Java client reads the configs of every topic that is answered without an error, and fails on null (KIP-525).
func TestCreateTopicsShowsConfigsWhenItOnlyValidates(t *testing.T) {
	n := newNode(t, nodeOptions{})
	req := createRequest("orders", "bad name")
	req.ValidateOnly = true
	c := kmsg.NewCreateTopicsRequestTopicConfig()
	c.Name, c.Value = "retention.ms", kmsg.StringPtr("77")
	req.Topics[0].Configs = append(req.Topics[0].Configs, c)
	got := call[*kmsg.CreateTopicsResponse](n.dial(), req).Topics
	retention := ""
	for _, c := range got[0].Configs {
		if c.Name == "retention.ms" {
			retention = *c.Value
		}
	}
	if got[0].ErrorCode != 0 || got[0].NumPartitions != 2 || retention != "77" || len(got[0].Configs) < 20 {
		t.Errorf("%+v", got[0])
	}
	if got[1].ErrorCode != kerr.InvalidTopicException.Code || got[1].Configs == nil {
		t.Errorf("%+v", got[1])
	}
	if n.quorum.Image().Topics["orders"] != nil {
		t.Error("validating made the topic")
	}
}

func TestDeleteRecordsIsForTopicsThatDelete(t *testing.T) {
	n := newNode(t, nodeOptions{})
	n.topic("compacted", 1)
	n.setTopic("compacted", "cleanup.policy", "compact")
	n.topic("both", 1)
	n.setTopic("both", "cleanup.policy", "compact,delete")
	n.topic(controller.OffsetsTopic, 1)
	for name, code := range map[string]int16{
		"compacted": kerr.PolicyViolation.Code, "both": 0, controller.OffsetsTopic: kerr.InvalidTopicException.Code,
	} {
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.Version = 2
		topic := kmsg.NewDeleteRecordsRequestTopic()
		topic.Topic = name
		topic.Partitions = append(topic.Partitions, kmsg.NewDeleteRecordsRequestTopicPartition())
		req.Topics = append(req.Topics, topic)
		if p := call[*kmsg.DeleteRecordsResponse](n.dial(), req).Topics[0].Partitions[0]; p.ErrorCode != code {
			t.Errorf("%s: %v, want %v", name, kerr.ErrorForCode(p.ErrorCode), kerr.ErrorForCode(code))
		}
	}
}

func TestProduceChecksTimestampsAndBaseOffset(t *testing.T) {
	n := newNode(t, nodeOptions{})
	plain, stamped, young := n.topic("plain", 1), n.topic("stamped", 1), n.topic("young", 1)
	n.setTopic("stamped", "message.timestamp.type", "LogAppendTime")
	n.setTopic("young", "message.timestamp.before.max.ms", "1000")
	at := func(ts int64) []byte {
		w := record.NewBuilder()
		w.Append(ts, nil, []byte("v"))
		b, err := w.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	now := time.Now().UnixMilli()
	later := at(now)
	later[7] = 9 // base offset
	for name, c := range map[string]struct {
		topic *metadata.Topic
		batch []byte
		code  int16
	}{
		"now":                      {plain, at(now), 0},
		"half an hour ahead":       {plain, at(now + 1_800_000), 0},
		"two hours ahead":          {plain, at(now + 7_200_000), kerr.InvalidTimestamp.Code},
		"microseconds":             {plain, at(now * 1000), kerr.InvalidTimestamp.Code},
		"long ago":                 {plain, at(5), 0},
		"no timestamp":             {plain, at(record.NoTimestamp), 0},
		"microseconds, log's time": {stamped, at(now * 1000), 0},
		"too old":                  {young, at(now - 60_000), kerr.InvalidTimestamp.Code},
		"not in a log yet":         {plain, later, kerr.InvalidRecord.Code},
	} {
		p := call[*kmsg.ProduceResponse](n.dial(), produceRequest(9, c.topic, 0, -1, c.batch)).Topics[0].Partitions[0]
		if p.ErrorCode != c.code {
			t.Errorf("%s: %v, want %v", name, kerr.ErrorForCode(p.ErrorCode), kerr.ErrorForCode(c.code))
		}
	}
}

// TRANSACTION_ABORTABLE is for clients of Produce v11 and later (KIP-890).
func TestProduceOutsideATransactionByVersion(t *testing.T) {
	n := newNode(t, nodeOptions{deps: func(d *Deps) { d.TxnGuard = refuser{} }})
	topic := n.topic("orders", 1)
	w := record.NewBuilder()
	w.Attributes, w.ProducerID, w.ProducerEpoch, w.BaseSequence = record.Transactional, 7, 0, 0
	w.Append(1000, nil, []byte("v"))
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for version, code := range map[int16]int16{9: kerr.InvalidTxnState.Code, 10: kerr.InvalidTxnState.Code, 11: kerr.TransactionAbortable.Code, 12: kerr.TransactionAbortable.Code} {
		req := produceRequest(version, topic, 0, -1, b)
		req.TransactionID = kmsg.StringPtr("tx")
		if p := call[*kmsg.ProduceResponse](n.dial(), req).Topics[0].Partitions[0]; p.ErrorCode != code {
			t.Errorf("version %d: %v", version, kerr.ErrorForCode(p.ErrorCode))
		}
	}
}

type refuser struct{}

func (refuser) VerifyOrAdd(_ context.Context, _ string, _ int64, _ int16, parts []txn.TopicPartition, _ bool) []int16 {
	codes := make([]int16, len(parts))
	for i := range codes {
		codes[i] = kerr.TransactionAbortable.Code
	}
	return codes
}

// What is named twice is ambiguous: nothing is done to it.
func TestNamedTwice(t *testing.T) {
	n := newNode(t, nodeOptions{})
	n.topic("orders", 1)
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Version = 6
	alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
	alter.Version = 1
	for range 2 {
		d := kmsg.NewDeleteTopicsRequestTopic()
		d.Topic = kmsg.StringPtr("orders")
		del.Topics = append(del.Topics, d)
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, "orders"
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = "retention.ms", kmsg.StringPtr("5")
		r.Configs = append(r.Configs, c)
		alter.Resources = append(alter.Resources, r)
	}
	for _, r := range call[*kmsg.IncrementalAlterConfigsResponse](n.dial(), alter).Resources {
		if r.ErrorCode != kerr.InvalidRequest.Code {
			t.Errorf("alter: %v", kerr.ErrorForCode(r.ErrorCode))
		}
	}
	for _, r := range call[*kmsg.DeleteTopicsResponse](n.dial(), del).Topics {
		if r.ErrorCode != kerr.InvalidRequest.Code {
			t.Errorf("delete: %v", kerr.ErrorForCode(r.ErrorCode))
		}
	}
	if n.quorum.Image().Topics["orders"] == nil || len(n.quorum.Image().TopicConfigs["orders"]) > 0 {
		t.Error("the topic was changed")
	}
}

func TestConfigsOfANameThatCannotBe(t *testing.T) {
	n := newNode(t, nodeOptions{})
	for name, code := range map[string]int16{"a b": kerr.InvalidTopicException.Code, "": kerr.InvalidTopicException.Code, "nope": kerr.UnknownTopicOrPartition.Code} {
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.Version = 4
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
		req.Resources = append(req.Resources, r)
		if got := call[*kmsg.DescribeConfigsResponse](n.dial(), req).Resources[0].ErrorCode; got != code {
			t.Errorf("%q: %v", name, kerr.ErrorForCode(got))
		}
	}
}

// Tools and consoles ask for these; they are answered, not cut off.
func TestWhatConsolesAsk(t *testing.T) {
	n := newNode(t, nodeOptions{})
	n.topic("orders", 2)
	c := n.dial()
	acls := kmsg.NewPtrDescribeACLsRequest()
	acls.Version, acls.ResourceType, acls.ResourcePatternType, acls.Operation, acls.PermissionType = 3, 1, 1, 1, 1
	if r := call[*kmsg.DescribeACLsResponse](c, acls); r.ErrorCode != kerr.SecurityDisabled.Code {
		t.Errorf("%+v", r)
	}
	elect := kmsg.NewPtrElectLeadersRequest()
	elect.Version = 2
	if r := call[*kmsg.ElectLeadersResponse](c, elect); len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 0 {
		t.Errorf("all: %+v", r)
	}
	topic := kmsg.NewElectLeadersRequestTopic()
	topic.Topic, topic.Partitions = "orders", []int32{1, 7}
	elect.Topics = append(elect.Topics, topic)
	if p := call[*kmsg.ElectLeadersResponse](c, elect).Topics[0].Partitions; p[0].ErrorCode != kerr.ElectionNotNeeded.Code || p[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("named: %+v", p)
	}
	list := kmsg.NewPtrListConfigResourcesRequest()
	list.Version = 1
	if r := call[*kmsg.ListConfigResourcesResponse](c, list).ConfigResources; len(r) != 3 || r[0].Name != "orders" || r[1].Name != "1" || r[2].Type != int8(loggerType) || r[2].Name != "1" {
		t.Errorf("%+v", r)
	}
	users := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
	users.Users = append(users.Users, kmsg.DescribeUserSCRAMCredentialsRequestUser{Name: "eve"})
	if r := call[*kmsg.DescribeUserSCRAMCredentialsResponse](c, users).Results; len(r) != 1 || r[0].ErrorCode != kerr.ResourceNotFound.Code {
		t.Errorf("%+v", r)
	}
	if r := call[*kmsg.DescribeClientQuotasResponse](c, kmsg.NewPtrDescribeClientQuotasRequest()); r.ErrorCode != 0 || r.Entries == nil {
		t.Errorf("%+v", r)
	}
}

// TestOneTimeForAllConfigs: a request that names many topics, of which a node without a quorum cannot say whether they are there, takes as long as one that names one.
func TestOneTimeForAllConfigs(t *testing.T) {
	n := newNode(t, nodeOptions{})
	ends := map[time.Time]int{}
	n.quorum.lost = func(ctx context.Context) {
		end, _ := ctx.Deadline()
		ends[end]++
	}
	c := n.dial()
	some, all := kmsg.NewPtrIncrementalAlterConfigsRequest(), kmsg.NewPtrAlterConfigsRequest()
	some.Version, all.Version = 1, 2
	for _, name := range []string{"a", "b", "c"} {
		x, y := kmsg.NewIncrementalAlterConfigsRequestResource(), kmsg.NewAlterConfigsRequestResource()
		x.ResourceType, x.ResourceName, y.ResourceType, y.ResourceName = kmsg.ConfigResourceTypeTopic, name, kmsg.ConfigResourceTypeTopic, name
		some.Resources, all.Resources = append(some.Resources, x), append(all.Resources, y)
	}
	for _, r := range call[*kmsg.IncrementalAlterConfigsResponse](c, some).Resources {
		if r.ErrorCode != kerr.RequestTimedOut.Code {
			t.Errorf("%s: %d", r.ResourceName, r.ErrorCode)
		}
	}
	for _, r := range call[*kmsg.AlterConfigsResponse](c, all).Resources {
		if r.ErrorCode != kerr.RequestTimedOut.Code {
			t.Errorf("%s: %d", r.ResourceName, r.ErrorCode)
		}
	}
	if len(ends) != 2 {
		t.Errorf("two requests had %d times to end at", len(ends))
	}
}

// What a client may not ask for.
func TestUnknownTypes(t *testing.T) {
	n := newNode(t, nodeOptions{})
	n.topic("orders", 3)
	c := n.dial()
	cluster := kmsg.NewPtrDescribeClusterRequest()
	cluster.Version = 2
	for kind, code := range map[int8]int16{0: kerr.UnsupportedEndpointType.Code, 1: 0, 2: kerr.MismatchedEndpointType.Code, 3: kerr.UnsupportedEndpointType.Code} {
		cluster.EndpointType = kind
		if r := call[*kmsg.DescribeClusterResponse](c, cluster); r.ErrorCode != code || (r.ClusterID == "") != (code != 0) || (r.ControllerID < 0) != (code != 0) {
			t.Errorf("endpoint type %d: %+v", kind, r)
		}
	}
	elect := kmsg.NewPtrElectLeadersRequest()
	elect.Version = 2
	for kind, code := range map[int8]int16{0: 0, 1: 0, 2: kerr.InvalidRequest.Code, -1: kerr.InvalidRequest.Code} {
		elect.ElectionType = kind
		if r := call[*kmsg.ElectLeadersResponse](c, elect); r.ErrorCode != code || code != 0 && len(r.Topics) != 0 {
			t.Errorf("election type %d: %+v", kind, r)
		}
	}
	elect.ElectionType = 2
	topic := kmsg.NewElectLeadersRequestTopic()
	topic.Topic, topic.Partitions = "orders", []int32{1}
	elect.Topics = append(elect.Topics, topic)
	if r := call[*kmsg.ElectLeadersResponse](c, elect); len(r.Topics) != 1 || r.Topics[0].Partitions[0].ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("election type 2, named: %+v", r)
	}
	describe := kmsg.NewPtrDescribeTopicPartitionsRequest()
	for _, limit := range []int32{0, -1, 1} {
		describe.ResponsePartitionLimit = limit
		r := call[*kmsg.DescribeTopicPartitionsResponse](c, describe)
		if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 || r.NextCursor == nil || r.NextCursor.Partition != 1 {
			t.Errorf("limit %d: %+v", limit, r)
		}
	}
}

// KIP-516: the Java client asks by id with an empty name.
func TestMetadataByTopicID(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 1)
	for version := int16(10); version <= 13; version++ {
		req := kmsg.NewPtrMetadataRequest()
		req.Version, req.AllowAutoTopicCreation = version, true
		for _, id := range [][16]byte{topic.ID, {1}} {
			w := kmsg.NewMetadataRequestTopic()
			w.Topic, w.TopicID = kmsg.StringPtr(""), id
			req.Topics = append(req.Topics, w)
		}
		got := call[*kmsg.MetadataResponse](n.dial(), req).Topics
		if got[0].ErrorCode != 0 || *got[0].Topic != "orders" || len(got[0].Partitions) != 1 {
			t.Errorf("version %d: %+v", version, got[0])
		}
		if got[1].ErrorCode != kerr.UnknownTopicID.Code || got[1].TopicID != [16]byte{1} {
			t.Errorf("version %d: %+v", version, got[1])
		}
	}
}

// Which records are at fault is told one by one, from version 8 on (KIP-467).
func TestProduceTellsRecordErrors(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("compacted", 1)
	n.setTopic("compacted", "cleanup.policy", "compact")
	w := record.NewBuilder()
	w.Append(time.Now().UnixMilli(), []byte("k"), []byte("v"))
	w.Append(time.Now().UnixMilli(), nil, []byte("v"))
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []int16{7, 8, 9, 13} {
		p := call[*kmsg.ProduceResponse](n.dial(), produceRequest(version, topic, 0, -1, slices.Clone(b))).Topics[0].Partitions[0]
		if p.ErrorCode != kerr.InvalidRecord.Code || p.BaseOffset != -1 {
			t.Fatalf("version %d: %+v", version, p)
		}
		told := version >= 8
		if told != (p.ErrorMessage != nil) || told != (len(p.ErrorRecords) == 1) || told && (p.ErrorRecords[0].RelativeOffset != 1 || p.ErrorRecords[0].ErrorMessage == nil) {
			t.Errorf("version %d: %+v", version, p)
		}
	}
}

// compression.type takes effect on a log that is open.
func TestProduceRecompresses(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("packed", 1)
	values := slices.Repeat([]string{"the same value again and again"}, 20)
	c := n.dial()
	for i, name := range []string{"producer", "gzip", "snappy", "lz4", "zstd", "uncompressed"} {
		n.setTopic("packed", "compression.type", name)
		if p := call[*kmsg.ProduceResponse](c, produceRequest(9, topic, 0, -1, batch(t, values...))).Topics[0].Partitions[0]; p.ErrorCode != 0 {
			t.Fatal(name, kerr.ErrorForCode(p.ErrorCode))
		}
		got := call[*kmsg.FetchResponse](c, fetchRequest(12, topic, int64(20*i))).Topics[0].Partitions[0].RecordBatches
		h, err := record.Parse(got)
		if want := strings.NewReplacer("producer", "none", "uncompressed", "none").Replace(name); err != nil || h.Attributes.Codec().String() != want {
			t.Fatalf("%s: %+v, %v", name, h, err)
		}
	}
}

// An answer is longer than a name: what is named ten thousand times is told once.
func TestToldOnce(t *testing.T) {
	n := newNode(t, nodeOptions{})
	n.topic("t", 2)
	const times = 10_000
	repeat := func(s string) []string { return slices.Repeat([]string{s}, times) }
	md := kmsg.NewPtrMetadataRequest()
	md.Version = 12
	dp := kmsg.NewPtrDescribeProducersRequest()
	dc := kmsg.NewPtrDescribeConfigsRequest()
	dl := kmsg.NewPtrDescribeLogDirsRequest()
	dl.Version, dl.Topics = 4, []kmsg.DescribeLogDirsRequestTopic{}
	name := "t"
	for i := range times {
		mt := kmsg.NewMetadataRequestTopic()
		if mt.Topic = &name; i%2 == 0 {
			mt.Topic, mt.TopicID = nil, n.quorum.Image().Topics["t"].ID
		}
		md.Topics = append(md.Topics, mt)
		dp.Topics = append(dp.Topics, kmsg.DescribeProducersRequestTopic{Topic: "t", Partitions: []int32{0, 0}})
		dc.Resources = append(dc.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: "g"})
		dl.Topics = append(dl.Topics, kmsg.DescribeLogDirsRequestTopic{Topic: "t", Partitions: []int32{0, 0}})
	}
	dg, cd, dt := kmsg.NewPtrDescribeGroupsRequest(), kmsg.NewPtrConsumerGroupDescribeRequest(), kmsg.NewPtrDescribeTransactionsRequest()
	dg.Version, dg.Groups, cd.Groups, dt.TransactionalIDs = 5, repeat("g"), repeat("g"), repeat("x")
	r := func(req kmsg.Request) *request { return &request{ctx: t.Context(), body: req} }
	partitions := 0
	for _, topic := range n.s.describeProducers(r(dp)).(*kmsg.DescribeProducersResponse).Topics {
		partitions += len(topic.Partitions)
	}
	for what, got := range map[string]int{
		"Metadata, by name and by id": len(n.s.metadata(r(md)).(*kmsg.MetadataResponse).Topics) - 1,
		"DescribeProducers":           partitions,
		"DescribeConfigs":             len(n.s.describeConfigs(r(dc)).(*kmsg.DescribeConfigsResponse).Resources),
		"DescribeLogDirs":             len(n.s.describeLogDirs(r(dl)).(*kmsg.DescribeLogDirsResponse).Dirs[0].Topics[0].Partitions),
		"DescribeGroups":              len(n.s.d.Groups.DescribeGroups(t.Context(), dg).Groups),
		"ConsumerGroupDescribe":       len(n.s.d.Groups.ConsumerGroupDescribe(t.Context(), cd).Groups),
		"DescribeTransactions":        len(n.s.d.Txns.DescribeTransactions(t.Context(), dt).TransactionStates),
	} {
		if got != 1 {
			t.Errorf("%s tells %d times what was named %d times", what, got, times)
		}
	}
}

// A level that a feature has already is given; all others are refused, and with one all of the request.
func TestUpdateFeaturesLikeKafka(t *testing.T) {
	n := newNode(t, nodeOptions{})
	c := n.dial()
	for _, u := range []struct {
		feature string
		level   int16
		kind    int8
		code    int16
	}{
		{"group.version", 1, 1, 0},
		{"group.version", 1, 2, 0},
		{"transaction.version", 2, 3, 0},
		{"metadata.version", 33, 1, 0},
		{"share.version", 0, 3, 0},
		{"share.version", 1, 1, kerr.InvalidUpdateVersion.Code},
		{"group.version", 1, 0, kerr.InvalidUpdateVersion.Code},
		{"group.version", 1, 4, kerr.InvalidUpdateVersion.Code},
		{"group.version", 0, 1, kerr.InvalidUpdateVersion.Code},
		{"group.version", 0, 3, kerr.InvalidUpdateVersion.Code},
		{"group.version", 2, 1, kerr.InvalidUpdateVersion.Code},
		{"group.version", -1, 3, kerr.InvalidUpdateVersion.Code},
		{"metadata.version", 34, 1, kerr.InvalidUpdateVersion.Code},
		{"metadata.version", 6, 3, kerr.InvalidUpdateVersion.Code},
		{"no.such", 0, 1, kerr.InvalidUpdateVersion.Code},
	} {
		for version := range int16(3) {
			req := kmsg.NewPtrUpdateFeaturesRequest()
			req.Version = version
			req.FeatureUpdates = []kmsg.UpdateFeaturesRequestFeatureUpdate{
				{Feature: "transaction.version", MaxVersionLevel: 2, UpgradeType: 1},
				{Feature: u.feature, MaxVersionLevel: u.level, UpgradeType: u.kind},
			}
			got := c.receive(req, c.send(req)).(*kmsg.UpdateFeaturesResponse)
			want, results := u.code, 2
			if version == 0 && u.level == 1 && u.feature == "group.version" {
				want = 0 // it has no types
			}
			if want != 0 || version == 2 {
				results = 0
			}
			if got.ErrorCode != want || len(got.Results) != results || (got.ErrorMessage != nil) != (want != 0) {
				t.Errorf("%+v, version %d: %d, %d results, %v", u, version, got.ErrorCode, len(got.Results), got.ErrorMessage)
			}
		}
	}
}
