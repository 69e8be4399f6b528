package metadata

// ISRChange is a leader's wish for another ISR (AlterPartition, KIP-497). It may be agreed to
// only while nothing has changed since the leader looked: else a replica could be counted on that is no longer what it was (invariant 4).
type ISRChange struct {
	Topic          TopicID
	Number         int32
	Leader         NodeID // who asks
	NodeEpoch      int64  // its registration
	LeaderEpoch    Epoch
	PartitionEpoch Epoch // the one that this changes
	ISR            []ISRMember
}

// ISRMember is a replica of the wished ISR, with the registration under which it fetched (KIP-903).
type ISRMember struct {
	ID    NodeID
	Epoch int64
}

// Nodes are the members' ids.
func (c *ISRChange) Nodes() []NodeID {
	ids := make([]NodeID, len(c.ISR))
	for i, m := range c.ISR {
		ids[i] = m.ID
	}
	return ids
}
