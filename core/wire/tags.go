package wire

// Tagged fields of ours (KIP-482) in the answers of Kafka's APIs. Clients pass over tags that they do not know; Kafka counts its own from 0.
const (
	// DamagedTag of a DescribeLogDirs response are the node's replicas whose log was found damaged: a JSON object, what was found by TOPIC-PARTITION. Absent: there are none.
	DamagedTag = 1000
)
