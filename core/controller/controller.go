// Package controller turns wishes (create this topic) into commands on the
// metadata: it plans from the current Image and proposes.
//
// STUB: the signatures are the contract; the cluster room replaces the bodies.
package controller

import (
	"context"

	"github.com/forebayhub/forebay/core/metadata"
)

// Controller plans. All methods may be called concurrently; they return once the local Image shows the change.
type Controller struct{}

// Error is a refusal with Kafka's code.
type Error struct {
	Code    int16 // kerr code
	Message string
}

func (e *Error) Error() string { return e.Message }

// NewTopic asks for a topic.
type NewTopic struct {
	Name        string
	Partitions  int32                       // -1: num.partitions
	Replication int16                       // -1: default.replication.factor
	Assignment  map[int32][]metadata.NodeID // instead of both
	Configs     map[string]string
}

// Image is the newest state that this node has applied.
func (c *Controller) Image() *metadata.Image { panic("stub") }

// CreateTopics creates each topic or says why not; nil in its place for success. validateOnly changes nothing.
func (c *Controller) CreateTopics(ctx context.Context, topics []NewTopic, validateOnly bool) ([]*metadata.Topic, []error) {
	panic("stub")
}
func (c *Controller) DeleteTopics(ctx context.Context, names []string) []error { panic("stub") }

// CreatePartitions raises a topic's partition count.
func (c *Controller) CreatePartitions(ctx context.Context, topic string, total int32, assignment [][]metadata.NodeID, validateOnly bool) error {
	panic("stub")
}

// ConfigOp is one change of IncrementalAlterConfigs.
type ConfigOp struct {
	Name  string
	Op    int8 // 0 set, 1 delete, 2 append, 3 subtract
	Value *string
}

// AlterConfigs changes a topic's (or a broker's) configs.
func (c *Controller) AlterTopicConfigs(ctx context.Context, topic string, ops []ConfigOp, validateOnly bool) error {
	panic("stub")
}
func (c *Controller) AlterBrokerConfigs(ctx context.Context, node string, ops []ConfigOp, validateOnly bool) error {
	panic("stub")
}

// ConfigEntry is one config as DescribeConfigs shows it.
type ConfigEntry struct {
	Name, Value         string
	Null                bool
	Source              int8 // kmsg.ConfigSource
	Type                int8 // kmsg.ConfigType
	ReadOnly, Sensitive bool
	Doc                 string
	Synonyms            []ConfigSynonym
}

// ConfigSynonym is a place where a config's value could come from.
type ConfigSynonym struct {
	Name, Value string
	Source      int8
}

// TopicConfigs and BrokerConfigs list every config that has a meaning here.
func (c *Controller) TopicConfigs(topic string) ([]ConfigEntry, error) { panic("stub") }
func (c *Controller) BrokerConfigs(node string) ([]ConfigEntry, error) { panic("stub") }

// AllocateProducerIDs reserves a block of producer ids for this node.
func (c *Controller) AllocateProducerIDs(ctx context.Context) (first int64, count int32, err error) {
	panic("stub")
}
