package differential

import (
	"fmt"
	"strings"
	"time"
)

// symbols are fields whose value each server makes up. A value is compared by the step that
// showed it first, so that the same thing must have the same value everywhere.
var symbols = map[string]bool{
	"TopicID":    true, // random
	"ProducerID": true, // handed out in blocks (KIP-98)
	"MemberID":   true, // random
	"LeaderID":   true, // of a group: a member id; of a partition it is a node's
	"SessionID":  true, // random (KIP-227)
	"ClusterID":  true, // random
	"Host":       true, // of the server itself
	"Port":       true,
	"Dir":        true, // a path
}

// nothing are values that say that there is none.
var nothing = map[string]bool{"": true, "-1": true, "null": true, "00000000000000000000000000000000": true}

// words are texts for people: that there is one must agree, what it says may differ.
var words = map[string]bool{"ErrorMessage": true, "Documentation": true}

// sets are arrays that Kafka fills from a hash map, so that their order says nothing. They are sorted by the fields named.
var sets = map[string][]string{
	"Metadata.Topics":                                          {"Topic", "TopicID"},
	"Metadata.Topics.Partitions":                               {"Partition"},
	"Produce.Topics":                                           {"Topic", "TopicID"},
	"Produce.Topics.Partitions":                                {"Partition"},
	"Fetch.Topics":                                             {"Topic", "TopicID"},
	"Fetch.Topics.Partitions":                                  {"Partition"},
	"Fetch.Topics.Partitions.AbortedTransactions":              {"FirstOffset"},
	"TxnOffsetCommit.Topics.Partitions":                        {"Partition"},
	"ListOffsets.Topics":                                       {"Topic"},
	"ListOffsets.Topics.Partitions":                            {"Partition"},
	"OffsetCommit.Topics":                                      {"Topic"},
	"OffsetCommit.Topics.Partitions":                           {"Partition"},
	"OffsetFetch.Topics":                                       {"Topic"},
	"OffsetFetch.Topics.Partitions":                            {"Partition"},
	"OffsetFetch.Groups.Topics":                                {"Topic"},
	"OffsetFetch.Groups.Topics.Partitions":                     {"Partition"},
	"OffsetDelete.Topics":                                      {"Topic"},
	"OffsetDelete.Topics.Partitions":                           {"Partition"},
	"CreateTopics.Topics":                                      {"Topic"},
	"CreateTopics.Topics.Configs":                              {"Name"},
	"CreatePartitions.Topics":                                  {"Topic"},
	"DeleteTopics.Topics":                                      {"Topic", "ErrorCode"},
	"DeleteRecords.Topics":                                     {"Topic"},
	"DeleteRecords.Topics.Partitions":                          {"Partition"},
	"DeleteGroups.Groups":                                      {"Group"},
	"DescribeGroups.Groups":                                    {"Group"},
	"DescribeGroups.Groups.Members":                            {"InstanceID", "ClientID", "ProtocolMetadata"},
	"ListGroups.Groups":                                        {"Group"},
	"JoinGroup.Members":                                        {"InstanceID", "ProtocolMetadata"},
	"ApiVersions.ApiKeys":                                      {"ApiKey"},
	"ApiVersions.SupportedFeatures":                            {"Name"},
	"ApiVersions.FinalizedFeatures":                            {"Name"},
	"DescribeConfigs.Resources":                                {"ResourceType", "ResourceName"},
	"DescribeConfigs.Resources.Configs":                        {"Name"},
	"AlterConfigs.Resources":                                   {"ResourceType", "ResourceName"},
	"IncrementalAlterConfigs.Resources":                        {"ResourceType", "ResourceName"},
	"DescribeLogDirs.Dirs.Topics":                              {"Topic"},
	"DescribeLogDirs.Dirs.Topics.Partitions":                   {"Partition"},
	"DescribeProducers.Topics.Partitions.ActiveProducers":      {"LastSequence", "CoordinatorEpoch", "CurrentTxnStartOffset"},
	"DescribeTransactions.TransactionStates":                   {"TransactionalID"},
	"DescribeTransactions.TransactionStates.Topics.Partitions": {},
	"DescribeTransactions.TransactionStates.Topics":            {"Topic"},
	"ListTransactions.TransactionStates":                       {"TransactionalID"},
	"ListConfigResources.ConfigResources":                      {"Type", "Name"},
	"FindCoordinator.Coordinators":                             {"Key"},
	"ElectLeaders.Topics":                                      {"Topic"},
	"ElectLeaders.Topics.Partitions":                           {"Partition"},
	"AddPartitionsToTxn.Topics":                                {"Topic"},
	"AddPartitionsToTxn.Topics.Partitions":                     {"Partition"},
	"AddPartitionsToTxn.Transactions":                          {"TransactionalID"},
	"AddPartitionsToTxn.Transactions.Topics":                   {"Topic"},
	"TxnOffsetCommit.Topics":                                   {"Topic"},
	"WriteTxnMarkers.Markers.Topics":                           {"Topic"},
	"WriteTxnMarkers.Markers.Topics.Partitions":                {"Partition"},
	"OffsetForLeaderEpoch.Topics":                              {"Topic"},
	"OffsetForLeaderEpoch.Topics.Partitions":                   {"Partition"},
	"DescribeUserSCRAMCredentials.Results":                     {"User"},
	"AlterUserSCRAMCredentials.Results":                        {"User"},
	"DescribeUserSCRAMCredentials.Results.CredentialInfos":     {"Mechanism"},
	"ListPartitionReassignments.Topics":                        {"Topic"},
	"AlterPartitionAssignments.Topics":                         {"Topic"},
}

// own are arrays of what the server has beyond the scenario, from which only the scenario's own and the named entries are compared.
var own = map[string]string{
	"ListGroups.Groups":                   "Group",
	"ListTransactions.TransactionStates":  "TransactionalID",
	"ListConfigResources.ConfigResources": "Name",
	"Metadata.Topics":                     "Topic",
	"DescribeLogDirs.Dirs.Topics":         "Topic",
	"ElectLeaders.Topics":                 "Topic",
	"DescribeTopicPartitions.Topics":      "Topic",
}

// level is a value as it is compared.
func (s *side) level(path, field, value string) string {
	switch {
	case words[field] && value != "null" && value != "":
		return "some text"
	case field == "FinalizedFeaturesEpoch":
		return "some epoch" // counts changes of the metadata, of which each server has its own
	case field == "TotalBytes" || field == "UsableBytes":
		return "some bytes" // of the disk at that moment
	case field == "ThrottleMillis":
		return "0" // quotas are not at work here; Kafka's ClusterLink of it is always 0 too
	case strings.HasSuffix(field, "Timestamp") || field == "LogAppendTime":
		var ms int64
		if _, err := fmt.Sscan(value, &ms); err == nil && time.Since(time.UnixMilli(ms)).Abs() < time.Hour {
			return "now"
		}
	}
	if symbols[field] && !nothing[value] && (field == "ProducerID" || value != "0" && value != "1") {
		return s.symbol(field, value)
	}
	if value == "" {
		return "empty"
	}
	return strings.ReplaceAll(value, s.prefix, "~")
}

// symbol tells where a value was seen first.
func (s *side) symbol(field, value string) string {
	if field == "LeaderID" {
		field = "MemberID"
	}
	all := s.symbols[field]
	if all == nil {
		all = map[string]string{}
		s.symbols[field] = all
	}
	if all[value] == "" {
		all[value] = s.now
	}
	if all[value] == s.now {
		return "new"
	}
	return "as in " + all[value]
}
