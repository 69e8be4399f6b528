package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
)

// asker is who asks, and what the rules say of him. Without rules everybody may do everything.
type asker struct {
	rules     *auth.Rules
	principal auth.Principal
	host      string // without Kafka's slash
}

func (a *asker) may(operation, resource int8, name string) bool {
	return a.rules == nil || a.rules.Allows(a.principal, a.host, operation, resource, name)
}

func (a *asker) mayCluster(operation int8) bool {
	return a.may(operation, auth.Cluster, auth.ClusterName)
}

// rules are the newest Image's ACLs, compiled once; nil: there is no authorizer.
func (s *Server) rules() *auth.Rules {
	if s.d.Policy == nil {
		return nil
	}
	img := s.d.Controller.Image()
	if c := s.compiled.Load(); c != nil && c.index == img.ACLIndex {
		return c.rules
	}
	acls := make([]auth.ACL, len(img.ACLs))
	for n, a := range img.ACLs {
		acls[n] = auth.ACL(a)
	}
	c := &compiled{img.ACLIndex, auth.NewRules(*s.d.Policy, acls)}
	s.compiled.Store(c)
	return c.rules
}

// compiled are the rules of the ACLs that changed last at index.
type compiled struct {
	index uint64
	rules *auth.Rules
}

func (c *conn) asker() asker {
	return asker{rules: c.s.rules(), principal: c.principal, host: c.host[1:]}
}

// rights say what an API asks of a principal, before its handler sees the request, as Kafka's KafkaApis and ControllerApis do. They
// refuse the whole with a response, or take out of the request what is refused; amend then puts the refusals into the
// handler's response. They are not asked for super users, nor without an authorizer.
type rights func(s *Server, r *request) (refused kmsg.Response, amend func(kmsg.Response))

// needs are the rights of every API. An API that has none here is refused to everybody but super users.
var needs = map[kmsg.Key]rights{
	// These ask on the way: checkPart and find.
	kmsg.Produce: anybody,
	kmsg.Fetch:   anybody,

	kmsg.ApiVersions:      anybody,
	kmsg.SASLHandshake:    anybody,
	kmsg.SASLAuthenticate: anybody,

	kmsg.Metadata:                metadataRights,
	kmsg.DescribeTopicPartitions: describeTopicPartitionsRights,
	kmsg.DescribeCluster:         describeClusterRights,
	kmsg.ListOffsets:             listOffsetsRights,
	kmsg.OffsetForLeaderEpoch:    offsetForLeaderEpochRights,
	kmsg.CreateTopics:            createTopicsRights,
	kmsg.DeleteTopics:            deleteTopicsRights,
	kmsg.DeleteRecords:           deleteRecordsRights,
	kmsg.CreatePartitions:        createPartitionsRights,
	kmsg.DescribeProducers:       describeProducersRights,
	kmsg.DescribeConfigs:         describeConfigsRights,
	kmsg.AlterConfigs:            alterConfigsRights,
	kmsg.IncrementalAlterConfigs: incrementalAlterConfigsRights,

	kmsg.DescribeLogDirs:              onCluster(auth.Describe),
	kmsg.ElectLeaders:                 onCluster(auth.Alter),
	kmsg.UnregisterBroker:             onCluster(auth.Alter),
	kmsg.UpdateFeatures:               onCluster(auth.Alter),
	kmsg.ListPartitionReassignments:   onCluster(auth.Describe),
	kmsg.AlterPartitionAssignments:    onCluster(auth.Alter),
	kmsg.DescribeClientQuotas:         onCluster(auth.DescribeConfigs),
	kmsg.AlterClientQuotas:            onCluster(auth.AlterConfigs),
	kmsg.ListConfigResources:          onCluster(auth.DescribeConfigs),
	kmsg.DescribeUserSCRAMCredentials: onCluster(auth.Describe),
	kmsg.AlterUserSCRAMCredentials:    onCluster(auth.Alter),
	kmsg.DescribeACLs:                 onCluster(auth.Describe),
	kmsg.CreateACLs:                   onCluster(auth.Alter),
	kmsg.DeleteACLs:                   onCluster(auth.Alter),
	kmsg.DescribeQuorum:               onCluster(auth.Describe),
	kmsg.WriteTxnMarkers:              writeTxnMarkersRights,

	kmsg.FindCoordinator:        findCoordinatorRights,
	kmsg.JoinGroup:              joinGroupRights,
	kmsg.SyncGroup:              syncGroupRights,
	kmsg.Heartbeat:              heartbeatRights,
	kmsg.LeaveGroup:             leaveGroupRights,
	kmsg.OffsetCommit:           offsetCommitRights,
	kmsg.OffsetFetch:            offsetFetchRights,
	kmsg.OffsetDelete:           offsetDeleteRights,
	kmsg.DescribeGroups:         describeGroupsRights,
	kmsg.ListGroups:             listGroupsRights,
	kmsg.DeleteGroups:           deleteGroupsRights,
	kmsg.ConsumerGroupHeartbeat: consumerGroupHeartbeatRights,
	kmsg.ConsumerGroupDescribe:  consumerGroupDescribeRights,

	kmsg.InitProducerID:       initProducerIDRights,
	kmsg.AddPartitionsToTxn:   addPartitionsToTxnRights,
	kmsg.AddOffsetsToTxn:      addOffsetsToTxnRights,
	kmsg.EndTxn:               endTxnRights,
	kmsg.TxnOffsetCommit:      txnOffsetCommitRights,
	kmsg.DescribeTransactions: describeTransactionsRights,
	kmsg.ListTransactions:     listTransactionsRights,
}

// authorized hands a request to its handler as far as the principal may ask for it.
func (s *Server) authorized(a *api, r *request) kmsg.Response {
	if r.rules == nil || r.rules.Super(r.principal) {
		return a.handle(s, r)
	}
	need := needs[a.key]
	if need == nil {
		s.d.Logger.Error("no rights are written down for an API; it is refused", "api", a.key.Name())
		return nil
	}
	refused, amend := need(s, r)
	if refused != nil {
		return refused
	}
	resp := a.handle(s, r)
	if amend != nil && resp != nil {
		amend(resp)
	}
	return resp
}

func anybody(*Server, *request) (kmsg.Response, func(kmsg.Response)) { return nil, nil }

// part splits a list into what may be asked for and what not.
func part[T any](list []T, may func(*T) bool) (yes, no []T) {
	yes = list[:0:0]
	for i := range list {
		if may(&list[i]) {
			yes = append(yes, list[i])
		} else {
			no = append(no, list[i])
		}
	}
	if yes == nil && list != nil {
		yes = []T{} // null asks for everything, in some requests
	}
	return yes, no
}

// message is the text that Kafka has beside a code.
func message(err *kerr.Error) *string {
	var m string
	switch err {
	case kerr.TopicAuthorizationFailed:
		m = "Topic authorization failed."
	case kerr.GroupAuthorizationFailed:
		m = "Group authorization failed."
	case kerr.ClusterAuthorizationFailed:
		m = "Cluster authorization failed."
	case kerr.TransactionalIDAuthorizationFailed:
		m = "Transactional Id authorization failed."
	default:
		m = err.Description
	}
	return &m
}
