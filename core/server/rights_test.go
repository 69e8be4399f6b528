package server

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/forebayhub/forebay/core/auth"
	"github.com/forebayhub/forebay/core/metadata"
)

// Every API says what rights it needs; who adds one to the table adds it to needs. (The name has Doc in it so that it runs wherever the
// table's documentation is checked.)
func TestDocumentedRights(t *testing.T) {
	for _, a := range table {
		if needs[a.key] == nil {
			t.Errorf("%s (key %d) has no rights in needs (rights.go); KafkaApis says which", a.key.Name(), a.key)
		}
	}
}

// aclNode has an authorizer, a super user admin, and bob who may do what the test allows.
func aclNode(t *testing.T) *node {
	return saslNode(t, nil, func(d *Deps) { d.Policy = &auth.Policy{Supers: []auth.Principal{auth.User("admin")}} })
}

func (n *node) allow(resource, pattern int8, name string, operations ...int8) {
	n.t.Helper()
	var acls []auth.ACL
	for _, op := range operations {
		acls = append(acls, auth.ACL{Resource: resource, Pattern: pattern, Name: name, Principal: "User:bob", Host: "*", Operation: op, Permission: auth.Allow})
	}
	for _, err := range n.s.d.Controller.CreateACLs(n.t.Context(), acls) {
		if err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *node) bob() *client {
	n.t.Helper()
	c := n.dial()
	if r := c.login("bob", "bob-secret"); r.ErrorCode != 0 {
		n.t.Fatalf("%+v", r)
	}
	return c
}

// Without any ACL every API refuses bob, each with Kafka's code, and lets nothing through.
func TestNothingIsAllowedWithoutAnACL(t *testing.T) {
	n := aclNode(t)
	topic := n.topic("orders", 1)
	before := len(n.quorum.Image().Topics)
	str := kmsg.StringPtr
	mustCode := func(what string, got int16, want *kerr.Error) {
		t.Helper()
		if got != want.Code {
			t.Errorf("%s: %v, want %v", what, kerr.ErrorForCode(got), want)
		}
	}
	c := n.bob()
	produce := produceRequest(9, topic, 0, -1, batch(t, "v"))
	mustCode("produce", call[*kmsg.ProduceResponse](c, produce).Topics[0].Partitions[0].ErrorCode, kerr.TopicAuthorizationFailed)
	byID := produceRequest(13, topic, 0, -1, batch(t, "v"))
	mustCode("produce by id", call[*kmsg.ProduceResponse](c, byID).Topics[0].Partitions[0].ErrorCode, kerr.TopicAuthorizationFailed)
	mustCode("fetch", call[*kmsg.FetchResponse](c, fetchRequest(12, topic, 0)).Topics[0].Partitions[0].ErrorCode, kerr.TopicAuthorizationFailed)
	follower := fetchRequest(12, topic, 0)
	follower.ReplicaID = 2
	if r, err := n.quorum.Propose(t.Context(), &metadata.RegisterNode{ID: 2, Host: "h", Port: 1}); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	mustCode("fetch as a follower", call[*kmsg.FetchResponse](c, follower).Topics[0].Partitions[0].ErrorCode, kerr.TopicAuthorizationFailed)

	m := kmsg.NewPtrMetadataRequest()
	m.Version = 13
	m.Topics = []kmsg.MetadataRequestTopic{{Topic: str("orders")}, {Topic: str("new")}, {TopicID: topic.ID}}
	m.AllowAutoTopicCreation, m.IncludeTopicAuthorizedOperations = true, true
	md := call[*kmsg.MetadataResponse](c, m)
	for _, mt := range md.Topics {
		mustCode("metadata", mt.ErrorCode, kerr.TopicAuthorizationFailed)
		if len(mt.Partitions) != 0 || mt.TopicID != [16]byte{} && mt.Topic != nil {
			t.Errorf("metadata tells %+v", mt)
		}
	}
	if len(md.Topics) != 3 || len(n.quorum.Image().Topics) != before {
		t.Errorf("%d topics are described, %d are there", len(md.Topics), len(n.quorum.Image().Topics))
	}
	// An id goes before a name, so that name is neither asked about nor made.
	m.Topics = []kmsg.MetadataRequestTopic{{TopicID: [16]byte{1}, Topic: str("sneaked-1")}, {TopicID: topic.ID, Topic: str("sneaked-2")}}
	md = call[*kmsg.MetadataResponse](c, m)
	if len(md.Topics) != 2 || len(n.quorum.Image().Topics) != before {
		t.Errorf("%+v, and %d topics are there", md.Topics, len(n.quorum.Image().Topics))
	}
	for _, v := range []int16{0, 1, 12} {
		all := kmsg.NewPtrMetadataRequest()
		all.Version = v
		if r := c.receive(all, c.send(all)).(*kmsg.MetadataResponse); len(r.Topics) != 0 || len(r.Brokers) == 0 {
			t.Errorf("version %d: all topics are %+v", v, r.Topics)
		}
	}
	one := kmsg.NewPtrMetadataRequest()
	one.Topics = []kmsg.MetadataRequestTopic{{Topic: str("orders")}}
	if r := c.receive(one, c.send(one)).(*kmsg.MetadataResponse); len(r.Topics) != 1 || r.Topics[0].ErrorCode != topicRefused {
		t.Errorf("version 0, one topic: %+v", r.Topics)
	}

	dtp := kmsg.NewPtrDescribeTopicPartitionsRequest()
	dtp.ResponsePartitionLimit = 10
	if r := call[*kmsg.DescribeTopicPartitionsResponse](c, dtp); len(r.Topics) != 0 {
		t.Errorf("%+v", r.Topics)
	}
	dtp.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "orders"}}
	mustCode("describe topic partitions", call[*kmsg.DescribeTopicPartitionsResponse](c, dtp).Topics[0].ErrorCode, kerr.TopicAuthorizationFailed)

	lo := kmsg.NewPtrListOffsetsRequest()
	lo.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "orders", Partitions: make([]kmsg.ListOffsetsRequestTopicPartition, 1)}}
	mustCode("list offsets", call[*kmsg.ListOffsetsResponse](c, lo).Topics[0].Partitions[0].ErrorCode, kerr.TopicAuthorizationFailed)
	ole := kmsg.NewPtrOffsetForLeaderEpochRequest()
	ole.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "orders", Partitions: make([]kmsg.OffsetForLeaderEpochRequestTopicPartition, 1)}}
	mustCode("offset for leader epoch", call[*kmsg.OffsetForLeaderEpochResponse](c, ole).Topics[0].Partitions[0].ErrorCode, kerr.TopicAuthorizationFailed)
	mustCode("create topics", call[*kmsg.CreateTopicsResponse](c, createRequest("mine")).Topics[0].ErrorCode, kerr.TopicAuthorizationFailed)
	dt := kmsg.NewPtrDeleteTopicsRequest()
	dt.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: str("orders")}, {TopicID: topic.ID}}
	for _, x := range call[*kmsg.DeleteTopicsResponse](c, dt).Topics {
		mustCode("delete topics", x.ErrorCode, kerr.TopicAuthorizationFailed)
		if x.TopicID != [16]byte{} && x.Topic != nil {
			t.Errorf("an id tells the name %s", *x.Topic)
		}
	}
	dr := kmsg.NewPtrDeleteRecordsRequest()
	dr.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "orders", Partitions: make([]kmsg.DeleteRecordsRequestTopicPartition, 1)}}
	mustCode("delete records", call[*kmsg.DeleteRecordsResponse](c, dr).Topics[0].Partitions[0].ErrorCode, kerr.TopicAuthorizationFailed)
	cp := kmsg.NewPtrCreatePartitionsRequest()
	cp.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "orders", Count: 9}}
	mustCode("create partitions", call[*kmsg.CreatePartitionsResponse](c, cp).Topics[0].ErrorCode, kerr.TopicAuthorizationFailed)
	dp := kmsg.NewPtrDescribeProducersRequest()
	dp.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: "orders", Partitions: []int32{0}}}
	mustCode("describe producers", call[*kmsg.DescribeProducersResponse](c, dp).Topics[0].Partitions[0].ErrorCode, kerr.TopicAuthorizationFailed)

	for kind, want := range map[kmsg.ConfigResourceType]*kerr.Error{kmsg.ConfigResourceTypeTopic: kerr.TopicAuthorizationFailed,
		kmsg.ConfigResourceTypeBroker: kerr.ClusterAuthorizationFailed, kmsg.ConfigResourceTypeGroupConfig: kerr.GroupAuthorizationFailed} {
		dc := kmsg.NewPtrDescribeConfigsRequest()
		dc.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: "1"}}
		mustCode("describe configs", call[*kmsg.DescribeConfigsResponse](c, dc).Resources[0].ErrorCode, want)
		ac := kmsg.NewPtrAlterConfigsRequest()
		ac.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: kind, ResourceName: "1"}}
		mustCode("alter configs", call[*kmsg.AlterConfigsResponse](c, ac).Resources[0].ErrorCode, want)
		iac := kmsg.NewPtrIncrementalAlterConfigsRequest()
		iac.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: "1"}}
		mustCode("incremental alter configs", call[*kmsg.IncrementalAlterConfigsResponse](c, iac).Resources[0].ErrorCode, want)
	}

	cluster := kerr.ClusterAuthorizationFailed
	mustCode("log dirs", call[*kmsg.DescribeLogDirsResponse](c, kmsg.NewPtrDescribeLogDirsRequest()).ErrorCode, cluster)
	mustCode("elect leaders", call[*kmsg.ElectLeadersResponse](c, kmsg.NewPtrElectLeadersRequest()).ErrorCode, cluster)
	mustCode("unregister", call[*kmsg.UnregisterBrokerResponse](c, kmsg.NewPtrUnregisterBrokerRequest()).ErrorCode, cluster)
	mustCode("features", call[*kmsg.UpdateFeaturesResponse](c, kmsg.NewPtrUpdateFeaturesRequest()).ErrorCode, cluster)
	mustCode("reassign", call[*kmsg.AlterPartitionAssignmentsResponse](c, kmsg.NewPtrAlterPartitionAssignmentsRequest()).ErrorCode, cluster)
	mustCode("reassignments", call[*kmsg.ListPartitionReassignmentsResponse](c, kmsg.NewPtrListPartitionReassignmentsRequest()).ErrorCode, cluster)
	mustCode("quotas", call[*kmsg.DescribeClientQuotasResponse](c, kmsg.NewPtrDescribeClientQuotasRequest()).ErrorCode, cluster)
	mustCode("config resources", call[*kmsg.ListConfigResourcesResponse](c, kmsg.NewPtrListConfigResourcesRequest()).ErrorCode, cluster)
	mustCode("scram users", call[*kmsg.DescribeUserSCRAMCredentialsResponse](c, kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()).ErrorCode, cluster)
	as := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	as.Upsertions = []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{{Name: "bob", Mechanism: 1, Iterations: 4096, Salt: []byte("s"), SaltedPassword: []byte("p")}}
	mustCode("alter scram", call[*kmsg.AlterUserSCRAMCredentialsResponse](c, as).Results[0].ErrorCode, cluster)
	mustCode("describe ACLs", call[*kmsg.DescribeACLsResponse](c, describeAll()).ErrorCode, cluster)
	ca := kmsg.NewPtrCreateACLsRequest()
	ca.Creations = []kmsg.CreateACLsRequestCreation{{ResourceType: 2, ResourceName: "*", ResourcePatternType: 3, Principal: "User:bob", Host: "*", Operation: 2, PermissionType: 3}}
	mustCode("create ACLs", call[*kmsg.CreateACLsResponse](c, ca).Results[0].ErrorCode, cluster)
	da := kmsg.NewPtrDeleteACLsRequest()
	da.Filters = []kmsg.DeleteACLsRequestFilter{{ResourceType: 1, ResourcePatternType: 1, Operation: 1, PermissionType: 1}}
	mustCode("delete ACLs", call[*kmsg.DeleteACLsResponse](c, da).Results[0].ErrorCode, cluster)
	wm := kmsg.NewPtrWriteTxnMarkersRequest()
	wm.Markers = []kmsg.WriteTxnMarkersRequestMarker{{Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: "orders", Partitions: []int32{0}}}}}
	mustCode("markers", call[*kmsg.WriteTxnMarkersResponse](c, wm).Markers[0].Topics[0].Partitions[0].ErrorCode, cluster)
	dcl := kmsg.NewPtrDescribeClusterRequest()
	dcl.IncludeClusterAuthorizedOperations = true
	if r := call[*kmsg.DescribeClusterResponse](c, dcl); r.ErrorCode != 0 || r.ClusterAuthorizedOperations != 0 || len(r.Brokers) == 0 {
		t.Errorf("%+v", r)
	}

	group := kerr.GroupAuthorizationFailed
	fc := kmsg.NewPtrFindCoordinatorRequest()
	fc.CoordinatorKeys = []string{"g"}
	mustCode("find coordinator", call[*kmsg.FindCoordinatorResponse](c, fc).Coordinators[0].ErrorCode, group)
	fc.CoordinatorType = txnKey
	mustCode("find txn coordinator", call[*kmsg.FindCoordinatorResponse](c, fc).Coordinators[0].ErrorCode, kerr.TransactionalIDAuthorizationFailed)
	old := kmsg.NewPtrFindCoordinatorRequest()
	old.Version, old.CoordinatorKey = 3, "g"
	mustCode("find coordinator v3", c.receive(old, c.send(old)).(*kmsg.FindCoordinatorResponse).ErrorCode, group)
	jg := kmsg.NewPtrJoinGroupRequest()
	jg.Group, jg.SessionTimeoutMillis = "g", 10_000
	mustCode("join", call[*kmsg.JoinGroupResponse](c, jg).ErrorCode, group)
	mustCode("sync", call[*kmsg.SyncGroupResponse](c, kmsg.NewPtrSyncGroupRequest()).ErrorCode, group)
	mustCode("heartbeat", call[*kmsg.HeartbeatResponse](c, kmsg.NewPtrHeartbeatRequest()).ErrorCode, group)
	mustCode("leave", call[*kmsg.LeaveGroupResponse](c, kmsg.NewPtrLeaveGroupRequest()).ErrorCode, group)
	oc := kmsg.NewPtrOffsetCommitRequest()
	oc.Version, oc.Group = 9, "g"
	oc.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "orders", Partitions: make([]kmsg.OffsetCommitRequestTopicPartition, 1)}}
	mustCode("commit", call[*kmsg.OffsetCommitResponse](c, oc).Topics[0].Partitions[0].ErrorCode, group)
	of := kmsg.NewPtrOffsetFetchRequest()
	of.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g"}}
	mustCode("offset fetch", call[*kmsg.OffsetFetchResponse](c, of).Groups[0].ErrorCode, group)
	of7 := kmsg.NewPtrOffsetFetchRequest()
	of7.Version, of7.Group = 7, "g"
	mustCode("offset fetch v7", call[*kmsg.OffsetFetchResponse](c, of7).ErrorCode, group)
	mustCode("offset delete", call[*kmsg.OffsetDeleteResponse](c, kmsg.NewPtrOffsetDeleteRequest()).ErrorCode, group)
	dg := kmsg.NewPtrDescribeGroupsRequest()
	dg.Groups = []string{"g"}
	mustCode("describe groups", call[*kmsg.DescribeGroupsResponse](c, dg).Groups[0].ErrorCode, group)
	xg := kmsg.NewPtrDeleteGroupsRequest()
	xg.Groups = []string{"g"}
	mustCode("delete groups", call[*kmsg.DeleteGroupsResponse](c, xg).Groups[0].ErrorCode, group)
	cg := kmsg.NewPtrConsumerGroupDescribeRequest()
	cg.Groups = []string{"g"}
	mustCode("consumer group describe", call[*kmsg.ConsumerGroupDescribeResponse](c, cg).Groups[0].ErrorCode, group)

	txid := kerr.TransactionalIDAuthorizationFailed
	ip := kmsg.NewPtrInitProducerIDRequest()
	mustCode("init idempotent", call[*kmsg.InitProducerIDResponse](c, ip).ErrorCode, cluster)
	ip = kmsg.NewPtrInitProducerIDRequest()
	ip.TransactionalID, ip.TransactionTimeoutMillis = str("tx"), 1000
	mustCode("init transactional", call[*kmsg.InitProducerIDResponse](c, ip).ErrorCode, txid)
	ap := kmsg.NewPtrAddPartitionsToTxnRequest()
	ap.Version, ap.TransactionalID = 3, "tx"
	ap.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "orders", Partitions: []int32{0}}}
	mustCode("add partitions", call[*kmsg.AddPartitionsToTxnResponse](c, ap).Topics[0].Partitions[0].ErrorCode, txid)
	ap4 := kmsg.NewPtrAddPartitionsToTxnRequest()
	mustCode("add partitions v5", call[*kmsg.AddPartitionsToTxnResponse](c, ap4).ErrorCode, cluster)
	ao := kmsg.NewPtrAddOffsetsToTxnRequest()
	mustCode("add offsets", call[*kmsg.AddOffsetsToTxnResponse](c, ao).ErrorCode, txid)
	mustCode("end", call[*kmsg.EndTxnResponse](c, kmsg.NewPtrEndTxnRequest()).ErrorCode, txid)
	tc := kmsg.NewPtrTxnOffsetCommitRequest()
	tc.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "orders", Partitions: make([]kmsg.TxnOffsetCommitRequestTopicPartition, 1)}}
	mustCode("txn offset commit", call[*kmsg.TxnOffsetCommitResponse](c, tc).Topics[0].Partitions[0].ErrorCode, txid)
	dx := kmsg.NewPtrDescribeTransactionsRequest()
	dx.TransactionalIDs = []string{"tx"}
	mustCode("describe transactions", call[*kmsg.DescribeTransactionsResponse](c, dx).TransactionStates[0].ErrorCode, txid)

	if p, err := n.set.Partition("orders", 0); err != nil || p.Log().EndOffset() != 0 {
		t.Errorf("something was written: %v", err)
	}
	if n.quorum.Image().Topics["orders"] == nil || len(n.quorum.Image().Topics["orders"].Partitions) != 1 || len(n.quorum.Image().ACLs) != 0 || len(n.quorum.Image().Scram) != 0 {
		t.Error("something was changed")
	}
}

// A topic is named by its id in TxnOffsetCommit 6, in what is allowed and in what is refused, and not at all by a member whose regular
// expression matches it: it gets what it may describe.
func TestRightsOfTopicsThatAreNotNamed(t *testing.T) {
	n := aclNode(t)
	n.topic("secret", 1)
	n.topic("orders-1", 2)
	admin := kadm.NewClient(newKgo(t, n, kgo.SASL(plain.Auth{User: "admin", Pass: "admin-secret"}.AsMechanism())))
	acls := kadm.NewACLs().Allow("User:bob").AllowHosts().Topics("orders-").Groups("g").TransactionalIDs("tx").ResourcePatternType(kadm.ACLPatternPrefixed).Operations(kadm.OpRead, kadm.OpWrite)
	if _, err := admin.CreateACLs(t.Context(), acls); err != nil {
		t.Fatal(err)
	}
	c := n.dial()
	c.login("bob", "bob-secret")
	image := n.quorum.Image()
	tc := kmsg.NewPtrTxnOffsetCommitRequest()
	tc.Version, tc.TransactionalID, tc.Group, tc.ProducerID = 6, "tx", "g", 1
	for _, name := range []string{"orders-1", "secret"} {
		tc.Topics = append(tc.Topics, kmsg.TxnOffsetCommitRequestTopic{TopicID: image.Topics[name].ID, Partitions: make([]kmsg.TxnOffsetCommitRequestTopicPartition, 1)})
	}
	for _, topic := range call[*kmsg.TxnOffsetCommitResponse](c, tc).Topics {
		refused := topic.Partitions[0].ErrorCode == kerr.TopicAuthorizationFailed.Code
		if known := image.TopicIDs[topic.TopicID]; known == nil || refused != (known.Name == "secret") {
			t.Errorf("%v: %v", topic.TopicID, kerr.ErrorForCode(topic.Partitions[0].ErrorCode))
		}
	}
	hb := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	all := ".*"
	hb.Version, hb.Group, hb.MemberID, hb.RebalanceTimeoutMillis, hb.SubscribedTopicRegex, hb.Topics = 1, "g", "m", 60_000, &all, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKey = 3, "g"
	var r *kmsg.ConsumerGroupHeartbeatResponse
	eventually(t, "the group is served", func() bool {
		call[*kmsg.FindCoordinatorResponse](c, find) // makes the coordinators' topic
		r = call[*kmsg.ConsumerGroupHeartbeatResponse](c, hb)
		return r.ErrorCode != kerr.CoordinatorNotAvailable.Code && r.ErrorCode != kerr.CoordinatorLoadInProgress.Code
	})
	if r.ErrorCode != 0 || r.Assignment == nil || len(r.Assignment.Topics) != 1 || r.Assignment.Topics[0].TopicID != image.Topics["orders-1"].ID || len(r.Assignment.Topics[0].Partitions) != 2 {
		t.Errorf("%v %+v", kerr.ErrorForCode(r.ErrorCode), r.Assignment)
	}
}

func describeAll() *kmsg.DescribeACLsRequest {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.Version, req.ResourceType, req.ResourcePatternType, req.Operation, req.PermissionType = 3, 1, 1, 1, 1
	return req
}

// A client with the rights that Kafka's documentation asks for goes through a whole day's work, and no further.
func TestACLsOfFranzGo(t *testing.T) {
	n := aclNode(t)
	n.topic("secret", 1)
	n.topic("orders-1", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	as := func(user string, opts ...kgo.Opt) *kgo.Client {
		return newKgo(t, n, append(opts, kgo.SASL(plain.Auth{User: user, Pass: user + "-secret"}.AsMechanism()))...)
	}
	admin := kadm.NewClient(as("admin"))
	acls := kadm.NewACLs().Allow("User:bob").AllowHosts().Topics("orders-").Groups("g").TransactionalIDs("tx").ResourcePatternType(kadm.ACLPatternPrefixed).
		Operations(kadm.OpRead, kadm.OpWrite)
	made, err := admin.CreateACLs(ctx, acls)
	if err != nil || len(made) != 6 {
		t.Fatal(made, err)
	}
	for _, m := range made {
		if m.Err != nil {
			t.Fatal(m.Err)
		}
	}
	tx := as("bob", kgo.TransactionalID("tx-1"), kgo.DefaultProduceTopic("orders-1"))
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := tx.ProduceSync(ctx, kgo.StringRecord("v")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := tx.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	reader := as("bob", kgo.ConsumerGroup("g-1"), kgo.ConsumeTopics("orders-1"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if fs := reader.PollFetches(ctx); fs.Err() != nil || fs.NumRecords() != 1 {
		t.Fatal(fs.Err(), fs.NumRecords())
	}
	if err := reader.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	// What is read and committed within a transaction is named by the topic's id (TxnOffsetCommit 6).
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(n.addr), kgo.SASL(plain.Auth{User: "bob", Pass: "bob-secret"}.AsMechanism()), kgo.TransactionalID("tx-2"),
		kgo.ConsumerGroup("g-2"), kgo.ConsumeTopics("orders-1"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if err := session.Begin(); err != nil {
		t.Fatal(err)
	}
	if fs := session.PollFetches(ctx); fs.Err() != nil || fs.NumRecords() != 1 {
		t.Fatal(fs.Err(), fs.NumRecords())
	}
	if done, err := session.End(ctx, kgo.TryCommit); !done || err != nil {
		t.Fatal(done, err)
	}
	eventually(t, "the transaction's marker is with the offsets", func() bool {
		at, err := admin.FetchOffsets(ctx, "g-2")
		return err == nil && at["orders-1"][0].At == 1
	})
	if err := as("bob", kgo.DefaultProduceTopic("secret"), kgo.RecordRetries(1)).ProduceSync(ctx, kgo.StringRecord("v")).FirstErr(); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("produce: %v", err)
	}
	bob := kadm.NewClient(as("bob"))
	topics, err := bob.ListTopics(ctx)
	if err != nil || !slices.Equal(topics.Names(), []string{"orders-1"}) {
		t.Errorf("bob sees %v %v", topics.Names(), err)
	}
	if r, err := bob.DeleteTopics(ctx, "orders-1"); err != nil || !errors.Is(r["orders-1"].Err, kerr.TopicAuthorizationFailed) {
		t.Errorf("%v %v", r, err)
	}
	if groups, err := bob.ListGroups(ctx); err != nil || len(groups) != 2 {
		t.Errorf("%v %v", groups, err)
	}

	// What is denied is denied at once, on connections that are there; super users see all of it.
	deny := kadm.NewACLs().Deny("User:bob").DenyHosts("127.0.0.1").Topics("orders-1").Operations(kadm.OpRead)
	if made, err := admin.CreateACLs(ctx, deny); err != nil || made[0].Err != nil {
		t.Fatal(made, err)
	}
	for {
		fs := reader.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			if !errors.Is(err, kerr.TopicAuthorizationFailed) {
				t.Errorf("fetch: %v", err)
			}
			break
		}
	}
	described, err := admin.DescribeACLs(ctx, kadm.NewACLs().AnyResource("orders-1").Allow().AllowHosts().Deny().DenyHosts().Operations(kadm.OpAny).ResourcePatternType(kadm.ACLPatternMatch))
	found := 0
	for _, d := range described {
		found += len(d.Described)
	}
	if err != nil || found != 3 {
		t.Errorf("%d ACLs apply to orders-1, %v", found, err)
	}
	deleted, err := admin.DeleteACLs(ctx, deny)
	if err != nil || len(deleted) != 1 || len(deleted[0].Deleted) != 1 {
		t.Errorf("%+v %v", deleted, err)
	}
}

// KIP-430: the bits are what the principal may do.
func TestAuthorizedOperations(t *testing.T) {
	n := aclNode(t)
	n.topic("orders", 1)
	n.allow(auth.Topic, auth.Literal, "orders", auth.Read, auth.AlterConfigs)
	n.allow(auth.Cluster, auth.Literal, auth.ClusterName, auth.Describe, auth.Create)
	n.allow(auth.Group, auth.Literal, "*", auth.Read)
	c := n.bob()
	m := kmsg.NewPtrMetadataRequest()
	m.Version, m.IncludeClusterAuthorizedOperations, m.IncludeTopicAuthorizedOperations = 10, true, true
	r := call[*kmsg.MetadataResponse](c, m)
	if r.AuthorizedOperations != 1<<auth.Describe|1<<auth.Create || r.Topics[0].AuthorizedOperations != 1<<auth.Read|1<<auth.Describe|1<<auth.AlterConfigs|1<<auth.DescribeConfigs {
		t.Errorf("%b %b", r.AuthorizedOperations, r.Topics[0].AuthorizedOperations)
	}
	dg := kmsg.NewPtrDescribeGroupsRequest()
	dg.Version, dg.Groups, dg.IncludeAuthorizedOperations = 5, []string{"g"}, true
	if g := call[*kmsg.DescribeGroupsResponse](c, dg).Groups[0]; g.AuthorizedOperations != 1<<auth.Read|1<<auth.Describe {
		t.Errorf("%b", g.AuthorizedOperations)
	}
	if got := call[*kmsg.CreateTopicsResponse](c, createRequest("mine")).Topics[0]; got.ErrorCode != 0 || got.ConfigErrorCode != topicRefused || got.NumPartitions != -1 || len(got.Configs) != 0 {
		t.Errorf("who may not describe configs sees them: %+v", got)
	}
}

func TestACLsWithoutAnAuthorizer(t *testing.T) {
	c := newNode(t, nodeOptions{}).dial()
	if r := call[*kmsg.DescribeACLsResponse](c, describeAll()); r.ErrorCode != kerr.SecurityDisabled.Code {
		t.Errorf("%+v", r)
	}
	ca := kmsg.NewPtrCreateACLsRequest()
	ca.Creations = make([]kmsg.CreateACLsRequestCreation, 2)
	if r := call[*kmsg.CreateACLsResponse](c, ca); len(r.Results) != 2 || r.Results[0].ErrorCode != kerr.SecurityDisabled.Code {
		t.Errorf("%+v", r)
	}
}
