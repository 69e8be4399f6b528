package controller

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/metadata"
)

// NewTopic asks for a topic.
type NewTopic struct {
	Name        string
	Partitions  int32                       // -1: num.partitions
	Replication int16                       // -1: default.replication.factor
	Assignment  map[int32][]metadata.NodeID // instead of both
	Configs     map[string]string
	// Permit is asked, once nothing else is wrong, whether so many partitions may be made now. Nil: any.
	Permit func(partitions int) bool
}

// The topics that coordinators keep their state in. Their configs are Kafka's.
const (
	OffsetsTopic = "__consumer_offsets"
	TxnTopic     = "__transaction_state"
)

// Internal says whether a topic is Kafka's own.
func Internal(name string) bool { return name == OffsetsTopic || name == TxnTopic }

// MaxPartitions bounds the partitions that one request may ask for: each costs
// memory on every node before it has a record.
const MaxPartitions = 100_000

// CreateTopics creates each topic or says why not; nil in its place for success. validateOnly changes nothing.
func (c *Controller) CreateTopics(ctx context.Context, topics []NewTopic, validateOnly bool) ([]*metadata.Topic, []error) {
	created := make([]*metadata.Topic, len(topics))
	errs := c.surely(ctx, len(topics), func(which []int) []error {
		made, errs := c.createTopics(ctx, chosen(topics, which), validateOnly)
		for k, n := range which {
			created[n] = made[k]
		}
		return errs
	})
	return created, errs
}

func (c *Controller) createTopics(ctx context.Context, topics []NewTopic, validateOnly bool) ([]*metadata.Topic, []error) {
	if err := c.plan.take(ctx); err != nil {
		return make([]*metadata.Topic, len(topics)), alike(len(topics), err)
	}
	defer c.plan.give()
	created, errs := make([]*metadata.Topic, len(topics)), make([]error, len(topics))
	image := c.Image()
	var specs []metadata.TopicSpec
	var at []int // of each spec in topics
	budget := MaxPartitions
	before := make(map[string]struct{}, len(topics))
	for n, t := range topics {
		spec, err := c.planTopic(image, t, before, &budget)
		if err != nil {
			errs[n] = err
			continue
		}
		specs, at = append(specs, spec), append(at, n)
		before[t.Name] = struct{}{}
	}
	if len(specs) == 0 {
		return created, errs
	}
	if validateOnly {
		next, _ := metadata.Apply(image, image.Index, &metadata.CreateTopics{Topics: specs})
		for _, n := range at {
			created[n] = next.Topics[topics[n].Name]
		}
		return created, errs
	}
	r, err := c.propose(ctx, &metadata.CreateTopics{Topics: specs})
	image = c.Image()
	for k, n := range at {
		switch {
		case err != nil:
			errs[n] = err
		case r.Errs[k] != nil && image.TopicIDs[specs[k].ID] != nil:
			created[n] = image.TopicIDs[specs[k].ID] // proposed twice, because the first leader died over it
		case r.Errs[k] != nil:
			errs[n] = kafkaError(r.Errs[k])
		default:
			if created[n] = image.TopicIDs[specs[k].ID]; created[n] == nil {
				gone := refuse(kerr.UnknownTopicOrPartition, "topic %s was deleted as soon as it was created", topics[n].Name)
				gone.made = true
				errs[n] = gone
			}
		}
	}
	return created, errs
}

// planTopic checks one topic as Kafka does, in Kafka's order, and plans its replicas.
func (c *Controller) planTopic(image *metadata.Image, t NewTopic, before map[string]struct{}, budget *int) (metadata.TopicSpec, error) {
	spec := metadata.TopicSpec{Name: t.Name, ID: newTopicID(), Internal: Internal(t.Name)}
	if err := metadata.ValidateTopicName(t.Name); err != nil {
		return spec, kafkaError(err)
	}
	if image.Topics[t.Name] != nil {
		return spec, refuse(kerr.TopicAlreadyExists, "Topic '%s' already exists.", t.Name)
	}
	if _, twice := before[t.Name]; twice {
		return spec, refuse(kerr.InvalidRequest, "Duplicate topic name %s in the request.", t.Name)
	}
	if other := image.Collision(t.Name); other != "" {
		return spec, refuse(kerr.InvalidTopicException, "Topic '%s' collides with existing topic: %s", t.Name, other)
	}
	if *budget < 0 {
		return spec, tooMany()
	}
	var err error
	if spec.Configs, err = c.topicDefaults(t.Name, t.Configs); err != nil {
		return spec, err
	}
	if len(t.Assignment) > 0 {
		spec.Assignment, err = assigned(image, t)
	} else {
		spec.Assignment, err = c.spread(image, t)
	}
	if err != nil {
		return spec, err
	}
	if *budget -= len(spec.Assignment); *budget < 0 {
		return spec, tooMany()
	}
	if t.Permit != nil && !t.Permit(len(spec.Assignment)) {
		return spec, refuse(kerr.ThrottlingQuotaExceeded, "The throttling quota has been exceeded.")
	}
	return spec, nil
}

func tooMany() error {
	return refuse(kerr.PolicyViolation, "More than %d partitions in one request.", MaxPartitions)
}

// topicDefaults checks the configs of a new topic; an internal one starts with Kafka's for it.
func (c *Controller) topicDefaults(name string, configs map[string]string) (map[string]string, error) {
	all := map[string]string{}
	switch name {
	case OffsetsTopic:
		all["cleanup.policy"], all["compression.type"] = "compact", "producer"
		all["segment.bytes"] = c.Value("offsets.topic.segment.bytes")
	case TxnTopic:
		all["cleanup.policy"], all["compression.type"] = "compact", "uncompressed"
		all["segment.bytes"] = c.Value("transaction.state.log.segment.bytes")
		all["min.insync.replicas"] = c.Value("transaction.state.log.min.isr")
		all["unclean.leader.election.enable"] = "false"
	}
	for k, v := range configs {
		if err := checkTopicConfig(k, v); err != nil {
			return nil, err
		}
		all[k] = v
	}
	return all, checkTogether(all)
}

func newTopicID() metadata.TopicID {
	for {
		// Kafka shows ids as base64; one that begins with '-' looks like a flag to its tools.
		if id := uuid.New(); id[0]>>2 != 62 {
			return id
		}
	}
}

// assigned checks an explicit assignment: partitions 0 to n-1, each with distinct, known nodes, all of one size.
func assigned(image *metadata.Image, t NewTopic) ([][]metadata.NodeID, error) {
	if t.Partitions != -1 || t.Replication != -1 {
		return nil, refuse(kerr.InvalidRequest, "Partitions and replication factor must be -1 when replicas are assigned by hand.")
	}
	list := make([][]metadata.NodeID, len(t.Assignment))
	for n, replicas := range t.Assignment {
		if n < 0 || int(n) >= len(list) {
			return nil, refuse(kerr.InvalidReplicaAssignment, "Partitions are not consecutive from 0.")
		}
		list[n] = slices.Clone(replicas)
	}
	return list, checkReplicas(image, list, len(list[0]))
}

func checkReplicas(image *metadata.Image, list [][]metadata.NodeID, factor int) error {
	for n, replicas := range list {
		switch {
		case len(replicas) == 0:
			return refuse(kerr.InvalidReplicaAssignment, "Partition %d has no replicas.", n)
		case len(replicas) != factor:
			return refuse(kerr.InvalidReplicaAssignment, "Partition %d has %d replicas, others have %d.", n, len(replicas), factor)
		}
		for k, node := range replicas {
			if image.Nodes[node] == nil {
				return refuse(kerr.InvalidReplicaAssignment, "Node %d of partition %d is not registered.", node, n)
			}
			if slices.Contains(replicas[:k], node) {
				return refuse(kerr.InvalidReplicaAssignment, "Node %d is twice in partition %d.", node, n)
			}
		}
	}
	return nil
}

// spread plans replicas over the nodes that are alive.
func (c *Controller) spread(image *metadata.Image, t NewTopic) ([][]metadata.NodeID, error) {
	partitions, factor := t.Partitions, int64(t.Replication)
	if partitions == -1 {
		n := c.number("num.partitions")
		switch t.Name {
		case OffsetsTopic:
			n = c.number("offsets.topic.num.partitions")
		case TxnTopic:
			n = c.number("transaction.state.log.num.partitions")
		}
		partitions = int32(n)
	}
	if partitions <= 0 {
		return nil, refuse(kerr.InvalidPartitions, "Number of partitions was set to an invalid non-positive value: %d.", t.Partitions)
	}
	if partitions > MaxPartitions {
		return nil, refuse(kerr.PolicyViolation, "%d partitions: at most %d in one request.", partitions, MaxPartitions)
	}
	if factor == -1 {
		factor = c.defaultFactor(image, t.Name)
	}
	if factor <= 0 {
		return nil, refuse(kerr.InvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
	}
	return place(image, int(partitions), int(factor))
}

// defaultFactor is the replicas of a topic that is created without a number. Kafka's defaults of 3 would refuse to
// work on fewer nodes; what is set is meant.
func (c *Controller) defaultFactor(image *metadata.Image, topic string) int64 {
	name := "default.replication.factor"
	switch topic {
	case OffsetsTopic:
		name = "offsets.topic.replication.factor"
	case TxnTopic:
		name = "transaction.state.log.replication.factor"
	}
	v, source, _ := c.brokerValue(image, strconv.Itoa(int(c.node)), brokerByName[name])
	if source == fromDefault {
		return min(whole(v), int64(staying(image)))
	}
	return whole(v)
}

// DeleteTopics deletes each topic or says why not.
func (c *Controller) DeleteTopics(ctx context.Context, names []string) []error {
	return c.surely(ctx, len(names), func(which []int) []error {
		return c.deleteTopics(ctx, which, func(image *metadata.Image, k int) *metadata.Topic { return image.Topics[names[k]] },
			refuse(kerr.UnknownTopicOrPartition, "This server does not host this topic-partition."))
	})
}

// DeleteTopicIDs is DeleteTopics of topics that are named by their ids (KIP-516): one that was made anew under the same name is another topic.
func (c *Controller) DeleteTopicIDs(ctx context.Context, ids []metadata.TopicID) []error {
	return c.surely(ctx, len(ids), func(which []int) []error {
		return c.deleteTopics(ctx, which, func(image *metadata.Image, k int) *metadata.Topic { return image.TopicIDs[ids[k]] },
			refuse(kerr.UnknownTopicID, "This server does not host this topic ID."))
	})
}

func (c *Controller) deleteTopics(ctx context.Context, which []int, find func(image *metadata.Image, k int) *metadata.Topic, missing error) []error {
	errs := make([]error, len(which))
	image := c.Image()
	var ids []metadata.TopicID
	var at []int
	for n, k := range which {
		if t := find(image, k); t != nil {
			ids, at = append(ids, t.ID), append(at, n)
		} else {
			errs[n] = missing
		}
	}
	if c.Value("delete.topic.enable") == "false" {
		for _, n := range at {
			errs[n] = refuse(kerr.TopicDeletionDisabled, "delete.topic.enable is false.")
		}
		return errs
	}
	if len(ids) == 0 {
		return errs
	}
	r, err := c.propose(ctx, &metadata.DeleteTopics{IDs: ids})
	for k, n := range at {
		if errs[n] = err; err == nil && r.Errs[k] != nil {
			errs[n] = kafkaError(r.Errs[k])
		}
	}
	return errs
}

// CreatePartitions raises a topic's partition count. assignment, unless nil, gives the replicas of each new partition.
func (c *Controller) CreatePartitions(ctx context.Context, topic string, total int32, assignment [][]metadata.NodeID, validateOnly bool) error {
	return c.surely(ctx, 1, func([]int) []error { return []error{c.createPartitions(ctx, topic, total, assignment, validateOnly)} })[0]
}

func (c *Controller) createPartitions(ctx context.Context, topic string, total int32, assignment [][]metadata.NodeID, validateOnly bool) error {
	if err := c.plan.take(ctx); err != nil {
		return err
	}
	defer c.plan.give()
	image := c.Image()
	t := image.Topics[topic]
	if t == nil {
		return refuse(kerr.UnknownTopicOrPartition, "This server does not host this topic-partition.")
	}
	if Internal(topic) {
		return refuse(kerr.InvalidPartitions, "The partition count of %s is what its keys are found by; it cannot change.", topic)
	}
	have := int32(len(t.Partitions))
	switch {
	case total == have:
		return refuse(kerr.InvalidPartitions, "Topic already has %d partition(s).", have)
	case total < have:
		return refuse(kerr.InvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.", topic, have, total)
	case total-have > MaxPartitions:
		return refuse(kerr.PolicyViolation, "%d new partitions: at most %d in one request.", total-have, MaxPartitions)
	}
	factor := len(t.Partitions[0].Target())
	if assignment == nil {
		var err error
		if assignment, err = place(image, int(total-have), factor); err != nil {
			return err
		}
	} else {
		if len(assignment) != int(total-have) {
			return refuse(kerr.InvalidReplicaAssignment, "Increasing the number of partitions by %d but %d assignments provided.", total-have, len(assignment))
		}
		if err := checkReplicas(image, assignment, factor); err != nil {
			return err
		}
	}
	if validateOnly {
		return nil
	}
	_, err := c.propose(ctx, &metadata.CreatePartitions{Topic: t.ID, From: have, Assignment: assignment})
	var e *Error
	if errors.As(err, &e) && e.Code == kerr.InvalidUpdateVersion.Code {
		return refuse(kerr.ConcurrentTransactions, "%s", e.Message)
	}
	return err
}
