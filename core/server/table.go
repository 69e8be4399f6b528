package server

import (
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/wire"
)

// api is one row of the dispatch table: what a client is told by ApiVersions,
// and who answers. The versions are those of Apache Kafka 4.4, as far as kmsg
// knows them.
type api struct {
	key kmsg.Key
	// min and max are the versions that are advertised.
	min, max int16
	// refuseBelow are versions that are advertised but answered with
	// UNSUPPORTED_VERSION. librdkafka stops compressing when Produce does not
	// start at 0 (confluentinc/librdkafka#4956), so Kafka 4 keeps up the appearance.
	refuseBelow int16
	// handle answers. Nil for Produce and Fetch, which have a path of their own.
	handle handler

	// Learnt from kmsg: the first flexible version of the request, and of the
	// response header (never for ApiVersions: KIP-511).
	flexibleFrom, flexibleReplyFrom int16
	shapes                          []atomic.Pointer[wire.Shape] // by version, once needed

	stats *apiStats
}

// never is a version above every version.
const never = 1<<15 - 1

// learn fills in what kmsg knows.
func (a *api) learn() {
	a.flexibleFrom, a.flexibleReplyFrom = never, never
	a.stats = &apiStats{}
	a.shapes = make([]atomic.Pointer[wire.Shape], a.max+1)
	req := a.key.Request()
	for v := range req.MaxVersion() + 1 {
		if req.SetVersion(v); req.IsFlexible() {
			a.flexibleFrom = v
			break
		}
	}
	if a.key != kmsg.ApiVersions {
		a.flexibleReplyFrom = a.flexibleFrom
	}
}

// serves says whether a version is answered.
func (a *api) serves(version int16) bool {
	return version >= a.min && version >= a.refuseBelow && version <= a.max
}

// table lists every API that this server serves, by key. One file per API key.
var table = []api{
	{key: kmsg.Produce, min: 0, max: 13, refuseBelow: 3}, // 00_produce.go
	{key: kmsg.Fetch, min: 4, max: 18},                   // 01_fetch.go
	{key: kmsg.ListOffsets, min: 1, max: 11, handle: (*Server).listOffsets},
	{key: kmsg.Metadata, min: 0, max: 13, handle: (*Server).metadata},
	{key: kmsg.ApiVersions, min: 0, max: 5, handle: (*Server).apiVersions},
	{key: kmsg.CreateTopics, min: 2, max: 7, handle: (*Server).createTopics},
	{key: kmsg.DeleteTopics, min: 1, max: 6, handle: (*Server).deleteTopics},
	{key: kmsg.DeleteRecords, min: 0, max: 2, handle: (*Server).deleteRecords},
	{key: kmsg.OffsetForLeaderEpoch, min: 2, max: 4, handle: (*Server).offsetForLeaderEpoch},
	{key: kmsg.DescribeConfigs, min: 1, max: 4, handle: (*Server).describeConfigs},
	{key: kmsg.AlterConfigs, min: 0, max: 2, handle: (*Server).alterConfigs},
	{key: kmsg.DescribeLogDirs, min: 1, max: 5, handle: (*Server).describeLogDirs},
	{key: kmsg.CreatePartitions, min: 0, max: 3, handle: (*Server).createPartitions},
	{key: kmsg.IncrementalAlterConfigs, min: 0, max: 1, handle: (*Server).incrementalAlterConfigs},
	{key: kmsg.DescribeCluster, min: 0, max: 2, handle: (*Server).describeCluster},
	{key: kmsg.DescribeClientQuotas, min: 0, max: 1, handle: (*Server).describeClientQuotas},
	{key: kmsg.AlterClientQuotas, min: 0, max: 1, handle: (*Server).alterClientQuotas},
	{key: kmsg.ElectLeaders, min: 0, max: 2, handle: (*Server).electLeaders},
	{key: kmsg.AlterPartitionAssignments, min: 0, max: 1, handle: (*Server).alterPartitionReassignments},
	{key: kmsg.ListPartitionReassignments, min: 0, max: 0, handle: (*Server).listPartitionReassignments},
	{key: kmsg.DescribeQuorum, min: 0, max: 2, handle: (*Server).describeQuorum},
	{key: kmsg.UpdateFeatures, min: 0, max: 2, handle: (*Server).updateFeatures},
	{key: kmsg.UnregisterBroker, min: 0, max: 0, handle: (*Server).unregisterBroker},
	{key: kmsg.DescribeProducers, min: 0, max: 0, handle: (*Server).describeProducers},
	{key: kmsg.DescribeTopicPartitions, min: 0, max: 0, handle: (*Server).describeTopicPartitions},

	// Who is there; login.go answers while that is still open.
	{key: kmsg.SASLHandshake, min: 0, max: 1, handle: (*Server).saslHandshake},
	{key: kmsg.SASLAuthenticate, min: 0, max: 2, handle: (*Server).saslAuthenticate},
	{key: kmsg.DescribeUserSCRAMCredentials, min: 0, max: 0, handle: (*Server).describeUserSCRAMCredentials},
	{key: kmsg.AlterUserSCRAMCredentials, min: 0, max: 0, handle: (*Server).alterUserSCRAMCredentials},

	{key: kmsg.DescribeACLs, min: 1, max: 3, handle: (*Server).describeACLs},
	{key: kmsg.CreateACLs, min: 1, max: 3, handle: (*Server).createACLs},
	{key: kmsg.DeleteACLs, min: 1, max: 3, handle: (*Server).deleteACLs},

	// What tools and consoles ask for, of which there is little to tell.
	{key: kmsg.ListConfigResources, min: 0, max: 1, handle: (*Server).listConfigResources},

	// Groups and transactions.
	{key: kmsg.OffsetCommit, min: 2, max: 10, handle: (*Server).offsetCommit},
	{key: kmsg.OffsetFetch, min: 1, max: 10, handle: (*Server).offsetFetch},
	{key: kmsg.FindCoordinator, min: 0, max: 6, handle: (*Server).findCoordinator},
	{key: kmsg.JoinGroup, min: 0, max: 9, handle: (*Server).joinGroup},
	{key: kmsg.Heartbeat, min: 0, max: 4, handle: (*Server).heartbeat},
	{key: kmsg.LeaveGroup, min: 0, max: 5, handle: (*Server).leaveGroup},
	{key: kmsg.SyncGroup, min: 0, max: 5, handle: (*Server).syncGroup},
	{key: kmsg.DescribeGroups, min: 0, max: 6, handle: (*Server).describeGroups},
	{key: kmsg.ListGroups, min: 0, max: 5, handle: (*Server).listGroups},
	{key: kmsg.InitProducerID, min: 0, max: 5, handle: (*Server).initProducerID},
	{key: kmsg.AddPartitionsToTxn, min: 0, max: 5, handle: (*Server).addPartitionsToTxn},
	{key: kmsg.AddOffsetsToTxn, min: 0, max: 4, handle: (*Server).addOffsetsToTxn},
	{key: kmsg.EndTxn, min: 0, max: 5, handle: (*Server).endTxn},
	{key: kmsg.WriteTxnMarkers, min: 1, max: 2, handle: (*Server).writeTxnMarkers},
	{key: kmsg.TxnOffsetCommit, min: 0, max: 6, handle: (*Server).txnOffsetCommit},
	{key: kmsg.DeleteGroups, min: 0, max: 3, handle: (*Server).deleteGroups},
	{key: kmsg.OffsetDelete, min: 0, max: 0, handle: (*Server).offsetDelete},
	{key: kmsg.DescribeTransactions, min: 0, max: 0, handle: (*Server).describeTransactions},
	{key: kmsg.ListTransactions, min: 0, max: 2, handle: (*Server).listTransactions},
	{key: kmsg.ConsumerGroupHeartbeat, min: 0, max: 1, handle: (*Server).consumerGroupHeartbeat},
	{key: kmsg.ConsumerGroupDescribe, min: 0, max: 1, handle: (*Server).consumerGroupDescribe},
}
