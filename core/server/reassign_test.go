package server

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// reassign asks for the replicas of a partition; nil cancels.
func (n *node) reassign(version int16, keepFactor bool, topic string, replicas []int32) (int16, string) {
	n.t.Helper()
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.Version, req.AllowReplicationFactorChange = version, !keepFactor
	rt := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	rt.Topic = topic
	rt.Partitions = []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: 0, Replicas: replicas}}
	req.Topics = append(req.Topics, rt)
	resp := call[*kmsg.AlterPartitionAssignmentsResponse](n.dial(), req)
	if resp.ErrorCode != 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Topic != topic {
		n.t.Fatalf("%+v", resp)
	}
	if version >= 1 && resp.AllowReplicationFactorChange == keepFactor {
		n.t.Error("the answer is not to what was asked")
	}
	p := resp.Topics[0].Partitions[0]
	if p.ErrorMessage == nil {
		return p.ErrorCode, ""
	}
	return p.ErrorCode, *p.ErrorMessage
}

// TestKIP455 asks a node that is alone, and then beside one that is down: null cancels, an empty list is none.
func TestKIP455(t *testing.T) {
	n := newNode(t, nodeOptions{})
	n.topic("t", 2)
	check := func(version int16, keepFactor bool, topic string, replicas []int32, want *kerr.Error) {
		t.Helper()
		var code int16
		if want != nil {
			code = want.Code
		}
		if got, said := n.reassign(version, keepFactor, topic, replicas); got != code || (said == "") != (code == 0) {
			t.Errorf("%s to %v: %d %q, want %v", topic, replicas, got, said, want)
		}
	}
	for version := range int16(2) {
		check(version, false, "u", []int32{1}, kerr.UnknownTopicOrPartition)
		check(version, false, "t", nil, kerr.NoReassignmentInProgress)
		check(version, false, "t", []int32{}, kerr.InvalidReplicaAssignment)
		check(version, false, "t", []int32{1, 2}, kerr.InvalidReplicaAssignment)
		check(version, false, "t", []int32{1, 1}, kerr.InvalidReplicaAssignment)
		check(version, false, "t", []int32{1}, nil)
	}
	if r, err := n.quorum.Propose(t.Context(), &metadata.RegisterNode{ID: 2}); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	check(1, true, "t", []int32{1, 2}, kerr.InvalidReplicationFactor)
	check(1, true, "t", []int32{2}, nil)
	check(1, true, "t", []int32{1, 2}, kerr.InvalidReplicationFactor) // it is on its way to one
	list := func(topics ...kmsg.ListPartitionReassignmentsRequestTopic) []kmsg.ListPartitionReassignmentsResponseTopic {
		req := kmsg.NewPtrListPartitionReassignmentsRequest()
		req.Topics = topics
		return call[*kmsg.ListPartitionReassignmentsResponse](n.dial(), req).Topics
	}
	for _, got := range [][]kmsg.ListPartitionReassignmentsResponseTopic{
		list(), list(kmsg.ListPartitionReassignmentsRequestTopic{Topic: "t", Partitions: []int32{0, 1, 9}}, kmsg.ListPartitionReassignmentsRequestTopic{Topic: "u", Partitions: []int32{0}}),
	} {
		if len(got) != 1 || got[0].Topic != "t" || len(got[0].Partitions) != 1 {
			t.Fatalf("under way: %+v", got)
		}
		p := got[0].Partitions[0]
		if p.Partition != 0 || !slices.Equal(p.Replicas, []int32{2, 1}) || !slices.Equal(p.AddingReplicas, []int32{2}) || !slices.Equal(p.RemovingReplicas, []int32{1}) {
			t.Errorf("under way: %+v", p)
		}
	}
	if got := list(kmsg.ListPartitionReassignmentsRequestTopic{Topic: "t", Partitions: []int32{1}}); len(got) != 0 {
		t.Errorf("of a partition that stays: %+v", got)
	}
	md := kmsg.NewPtrMetadataRequest()
	md.Version = 12
	if got := call[*kmsg.MetadataResponse](n.dial(), md).Topics[0].Partitions[0].Replicas; !slices.Equal(got, []int32{2, 1}) {
		t.Errorf("metadata has the replicas %v", got)
	}
	described := call[*kmsg.DescribeTopicPartitionsResponse](n.dial(), kmsg.NewPtrDescribeTopicPartitionsRequest())
	if got := described.Topics[0].Partitions[0].Replicas; !slices.Equal(got, []int32{2, 1}) {
		t.Errorf("described with the replicas %v", got)
	}
	check(0, false, "t", nil, nil)
	check(0, false, "t", nil, kerr.NoReassignmentInProgress)
	if got := list(); len(got) != 0 {
		t.Errorf("cancelled, and still under way: %+v", got)
	}
	// A topic of one replica that is moved takes acks=all all the while, whatever min.insync.replicas says.
	if code, said := n.change(false, configChange{topicType, "t", "min.insync.replicas", 0, kmsg.StringPtr("2")}); code != 0 {
		t.Fatal(code, said)
	}
	check(1, false, "t", []int32{2}, nil)
	produced := call[*kmsg.ProduceResponse](n.dial(), produceRequest(9, n.quorum.Image().Topics["t"], 0, -1, batch(t, "a")))
	if code := produced.Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Errorf("a record to a partition that moves: %v", kerr.ErrorForCode(code))
	}
	if code, said := n.change(false, configChange{topicType, "t", "min.insync.replicas", 0, kmsg.StringPtr("1")}); code != 0 {
		t.Fatal(code, said)
	}
}
