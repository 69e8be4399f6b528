// Package replica holds the partitions that this node hosts and keeps them as
// the Image says.
//
// STUB: the signatures are the contract; the cluster room replaces the bodies.
package replica

import (
	"errors"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
)

// Set is the partitions of this node. All methods may be called concurrently.
type Set struct{}

// ErrUnknown is the answer for a partition that the Image does not have; ErrElsewhere for
// one that this node does not host.
var (
	ErrUnknown   = errors.New("unknown topic or partition")      // UNKNOWN_TOPIC_OR_PARTITION
	ErrElsewhere = errors.New("not a replica of this partition") // NOT_LEADER_OR_FOLLOWER
)

// Partition finds a hosted partition; its log is opened at the first call.
func (s *Set) Partition(topic string, number int32) (*partition.Partition, error) { panic("stub") }

// Leaders calls fn at once and again whenever this node starts or stops leading a
// partition of one of the topics: coordinators follow their partitions with it. fn must not block.
func (s *Set) Leaders(topic string, fn func(number int32, leading bool, epoch int32)) { panic("stub") }

var _ = metadata.NodeID(0)
