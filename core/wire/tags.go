package wire

// Tagged fields of ours (KIP-482) in the answers of Kafka's APIs. Clients pass over tags that they do not know; Kafka counts its own from 0.
const (
	// DamagedTag of a DescribeLogDirs response are the node's replicas whose log was found damaged: a JSON object, what was found by TOPIC-PARTITION. Absent: there are none.
	DamagedTag = 1000
	// SinceTag of a broker in a DescribeCluster response is since when it is alive or fenced, and DrainingTag since when it is drained: 8 bytes, milliseconds since
	// 1970 by the clock of the controller of that time. Absent: it is not known, or not so.
	SinceTag, DrainingTag = 1001, 1002
)
