package metadata

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Why a command changed nothing.
var (
	ErrTopicExists    = errors.New("topic exists")
	ErrUnknownTopic   = errors.New("unknown topic")
	ErrUnknownNode    = errors.New("unknown node")
	ErrStale          = errors.New("changed meanwhile")
	ErrIneligible     = errors.New("replica may not be in the ISR")
	ErrInvalidTopic   = errors.New("invalid topic")
	ErrInvalidCommand = errors.New("invalid command")
)

// Result is what a command came to, beside the new Image.
type Result struct {
	Err   error   // the whole command changed nothing
	Errs  []error // one for each topic of CreateTopics and DeleteTopics, each change of AlterPartition and ReassignPartitions
	First int64   // AllocateProducerIDs
	Epoch int64   // RegisterNode: the node epoch
}

// MaxDeleted is how many deleted topic ids an Image remembers.
const MaxDeleted = 1024

// Apply is the state machine: the same image, index and command give the same
// result on every node and in every run. It never changes image. A refused command gives an Image that
// differs only in its Index.
func Apply(image *Image, index uint64, c Command) (*Image, Result) {
	next := *image
	next.Index = index
	var r Result
	switch c := c.(type) {
	case *RegisterNode:
		r = next.registerNode(c)
	case *CreateTopics:
		r = next.createTopics(c)
	case *DeleteTopics:
		r = next.deleteTopics(c)
	case *CreatePartitions:
		r.Err = next.createPartitions(c)
	case *ChangePartition:
		r.Err = next.changePartition(c)
	case *AlterConfigs:
		r.Err = next.alterConfigs(c)
	case *AlterGroupConfigs:
		next.GroupConfigs = altered(next.GroupConfigs, c.Group, c.Set, c.Delete)
	case *AllocateProducerIDs:
		r = next.allocateProducerIDs(c)
	case *SetFeatures:
		r.Err = next.setFeatures(c)
	case *SetClusterID:
		r.Err = next.setClusterID(c)
	case *FenceNode:
		r.Err = next.fenceNode(c)
	case *AlterPartition:
		r = next.alterPartition(c)
	case *SetOffline:
		r.Err = next.setOffline(c)
	case *ReassignPartitions:
		r = next.reassignPartitions(c)
	case *UnregisterNode:
		r.Err = next.unregisterNode(c)
	case *ReadmitNode:
		next.readmitNode(c)
	case *AlterQuotas:
		r.Err = next.alterQuotas(c)
	case *AlterACLs:
		next.alterACLs(c)
	case *AlterScram:
		next.alterScram(c)
	default:
		r.Err = fmt.Errorf("%w: %T", ErrInvalidCommand, c)
	}
	return &next, r
}

func (i *Image) registerNode(c *RegisterNode) Result {
	if c.ID < 0 {
		return Result{Err: fmt.Errorf("%w: node id %d", ErrInvalidCommand, c.ID)}
	}
	if i.Removed(c.ID) {
		return Result{Err: fmt.Errorf("%w: %d", ErrRemovedNode, c.ID)}
	}
	if c.Level < i.Level() {
		return Result{Err: fmt.Errorf("%w: node %d knows metadata level %d and the cluster is at %d: start a newer version of forebay on it", ErrLevel, c.ID, c.Level, i.Level())}
	}
	epoch := int64(i.Index)
	i.setNode(&Node{ID: c.ID, Epoch: epoch, Host: c.Host, Port: c.Port, Rack: c.Rack, BootID: c.BootID, Endpoints: slices.Clone(c.Endpoints), MinISR: c.MinISR, Level: c.Level})
	i.raiseLevel()
	off := partitionSet(c.Offline)
	i.eachPartition(func(p *Partition) *Partition {
		was, is := slices.Contains(p.Offline, c.ID), off[p.ID()] && slices.Contains(p.Replicas, c.ID)
		switch {
		case is && !was:
			return i.thinned(i.withoutNode(p.offline(c.ID), c.ID, true))
		case is:
			return i.thinned(i.withoutNode(p, c.ID, true))
		case was:
			p = p.online(c.ID)
		}
		if i.keepsELR() {
			return i.thinned(i.returned(p, c))
		}
		return i.restarted(p, c.ID, c.TailLost)
	})
	return Result{Epoch: epoch}
}

func (i *Image) setNode(n *Node) {
	i.Nodes = maps.Clone(i.Nodes)
	i.Nodes[n.ID] = n
}

// eachPartition replaces every partition by what fn makes of it; fn gives the same one for no change.
func (i *Image) eachPartition(fn func(*Partition) *Partition) {
	topics, ids := maps.Clone(i.Topics), maps.Clone(i.TopicIDs)
	for _, t := range i.Topics {
		var parts []*Partition
		for n, p := range t.Partitions {
			q := fn(p)
			if q == p {
				continue
			}
			if parts == nil {
				parts = slices.Clone(t.Partitions)
			}
			parts[n] = q
		}
		if parts != nil {
			u := &Topic{Name: t.Name, ID: t.ID, Internal: t.Internal, Partitions: parts}
			topics[u.Name], ids[u.ID] = u, u
		}
	}
	i.Topics, i.TopicIDs = topics, ids
}

// setPartition replaces one partition.
func (i *Image) setPartition(p *Partition) {
	t := i.TopicIDs[p.TopicID]
	parts := slices.Clone(t.Partitions)
	parts[p.Number] = p
	i.Topics, i.TopicIDs = maps.Clone(i.Topics), maps.Clone(i.TopicIDs)
	u := &Topic{Name: t.Name, ID: t.ID, Internal: t.Internal, Partitions: parts}
	i.Topics[u.Name], i.TopicIDs[u.ID] = u, u
}

// restarted is p after node has come back. It leads in a new epoch, unless it may have
// lost its tail while others are in sync: then it leaves the ISR and one of them leads (invariant 4). Alone in the
// ISR it leads with what it has: nobody has more.
func (i *Image) restarted(p *Partition, node NodeID, tailLost bool) *Partition {
	q := *p
	if tailLost && len(p.ISR) > 1 && slices.Contains(p.ISR, node) {
		return i.withoutNode(p, node, true)
	}
	switch {
	case p.Leader == node:
	case p.Leader == -1 && slices.Contains(p.ISR, node):
		q.Leader = node
	default:
		return p
	}
	q.LeaderEpoch++
	q.PartitionEpoch++
	return &q
}

func (i *Image) createTopics(c *CreateTopics) Result {
	r := Result{Errs: make([]error, len(c.Topics))}
	i.Topics, i.TopicIDs, i.TopicConfigs = maps.Clone(i.Topics), maps.Clone(i.TopicIDs), maps.Clone(i.TopicConfigs)
	for n, spec := range c.Topics {
		if r.Errs[n] = i.checkTopic(&spec); r.Errs[n] != nil {
			continue
		}
		t := &Topic{Name: spec.Name, ID: spec.ID, Internal: spec.Internal}
		t.Partitions = i.appendPartitions(nil, t, spec.Assignment)
		i.Topics[t.Name], i.TopicIDs[t.ID] = t, t
		if len(spec.Configs) > 0 {
			i.TopicConfigs[t.Name] = maps.Clone(spec.Configs)
		}
	}
	return r
}

func (i *Image) checkTopic(spec *TopicSpec) error {
	if err := ValidateTopicName(spec.Name); err != nil {
		return err
	}
	if i.Topics[spec.Name] != nil {
		return fmt.Errorf("%w: %s", ErrTopicExists, spec.Name)
	}
	if other := i.Collision(spec.Name); other != "" {
		return fmt.Errorf("%w: '%s' collides with the existing topic '%s'", ErrInvalidTopic, spec.Name, other)
	}
	if spec.ID == (TopicID{}) || i.TopicIDs[spec.ID] != nil {
		return fmt.Errorf("%w: topic id %s", ErrInvalidCommand, spec.ID)
	}
	if len(spec.Assignment) == 0 {
		return fmt.Errorf("%w: no partitions", ErrInvalidCommand)
	}
	return i.checkAssignment(spec.Assignment)
}

func (i *Image) checkAssignment(assignment [][]NodeID) error {
	for n, replicas := range assignment {
		if len(replicas) == 0 {
			return fmt.Errorf("%w: partition %d has no replicas", ErrInvalidCommand, n)
		}
		if err := i.checkReplicas(replicas); err != nil {
			return err
		}
		if !slices.ContainsFunc(replicas, i.alive) {
			return fmt.Errorf("%w: every replica of partition %d is fenced", ErrUnknownNode, n)
		}
	}
	return nil
}

func (i *Image) checkReplicas(replicas []NodeID) error {
	for k, node := range replicas {
		if i.Nodes[node] == nil {
			return fmt.Errorf("%w: %d", ErrUnknownNode, node)
		}
		if slices.Contains(replicas[:k], node) {
			return fmt.Errorf("%w: node %d twice", ErrInvalidCommand, node)
		}
	}
	return nil
}

// appendPartitions begins each new partition with an ISR of the replicas that are not fenced.
func (i *Image) appendPartitions(parts []*Partition, t *Topic, assignment [][]NodeID) []*Partition {
	for _, replicas := range assignment {
		isr := slices.DeleteFunc(slices.Clone(replicas), func(n NodeID) bool { return !i.alive(n) })
		parts = append(parts, &Partition{
			Topic: t.Name, TopicID: t.ID, Number: int32(len(parts)),
			Replicas: slices.Clone(replicas), ISR: isr, Leader: isr[0],
		})
	}
	return parts
}

func (i *Image) deleteTopics(c *DeleteTopics) Result {
	r := Result{Errs: make([]error, len(c.IDs))}
	i.Topics, i.TopicIDs, i.TopicConfigs = maps.Clone(i.Topics), maps.Clone(i.TopicIDs), maps.Clone(i.TopicConfigs)
	i.Deleted = slices.Clone(i.Deleted)
	for n, id := range c.IDs {
		t := i.TopicIDs[id]
		if t == nil {
			r.Errs[n] = fmt.Errorf("%w: id %s", ErrUnknownTopic, id)
			continue
		}
		delete(i.Topics, t.Name)
		delete(i.TopicIDs, id)
		delete(i.TopicConfigs, t.Name)
		i.Deleted = append(i.Deleted, id)
	}
	if over := len(i.Deleted) - MaxDeleted; over > 0 {
		i.Deleted = slices.Clone(i.Deleted[over:])
	}
	return r
}

func (i *Image) createPartitions(c *CreatePartitions) error {
	t := i.TopicIDs[c.Topic]
	if t == nil {
		return fmt.Errorf("%w: id %s", ErrUnknownTopic, c.Topic)
	}
	if int(c.From) != len(t.Partitions) {
		return fmt.Errorf("%w: %s has %d partitions, not %d", ErrStale, t.Name, len(t.Partitions), c.From)
	}
	if err := i.checkAssignment(c.Assignment); err != nil {
		return err
	}
	i.Topics, i.TopicIDs = maps.Clone(i.Topics), maps.Clone(i.TopicIDs)
	u := &Topic{Name: t.Name, ID: t.ID, Internal: t.Internal}
	u.Partitions = i.appendPartitions(slices.Clone(t.Partitions), u, c.Assignment)
	i.Topics[u.Name], i.TopicIDs[u.ID] = u, u
	return nil
}

func (i *Image) changePartition(c *ChangePartition) error {
	was, err := i.find(c.Topic, c.Number)
	if err != nil {
		return err
	}
	p := *was
	if p.PartitionEpoch != c.Expected {
		return fmt.Errorf("%w: %s-%d is at partition epoch %d, not %d", ErrStale, p.Topic, p.Number, p.PartitionEpoch, c.Expected)
	}
	if c.Replicas != nil {
		if err := i.checkReplicas(c.Replicas); err != nil {
			return err
		}
		p.Replicas, p.Adding, p.Removing = slices.Clone(c.Replicas), nil, nil
	}
	for _, n := range c.ISR {
		if !slices.Contains(p.Replicas, n) {
			return fmt.Errorf("%w: node %d of the ISR is no replica of %s-%d", ErrInvalidCommand, n, p.Topic, p.Number)
		}
	}
	if c.Leader != -1 && !slices.Contains(c.ISR, c.Leader) {
		return fmt.Errorf("%w: leader %d of %s-%d is not in the ISR", ErrInvalidCommand, c.Leader, p.Topic, p.Number)
	}
	if c.Leader != -1 && !i.Usable(&p, c.Leader) {
		// Whoever is neither in the ISR nor leads is fenced without a new partition epoch; and a leader that is fenced already is never replaced.
		return fmt.Errorf("%w: leader %d of %s-%d is fenced, or its log is offline", ErrStale, c.Leader, p.Topic, p.Number)
	}
	p.ISR, p.Offline = slices.Clone(c.ISR), among(p.Offline, p.Replicas)
	if i.keepELR(was, &p, -1); c.Leader >= 0 && !slices.Contains(was.ISR, c.Leader) && !slices.Contains(was.ELR, c.Leader) {
		p.ELR = nil // an unclean election: who was eligible is to follow it
	}
	if c.NewEpoch || c.Leader != p.Leader {
		p.LeaderEpoch++
	}
	p.Leader = c.Leader
	p.PartitionEpoch++
	if i.keepsELR() {
		i.keepLastLeader(was, &p)
	}

	i.setPartition(&p)
	return nil
}

func (i *Image) alterConfigs(c *AlterConfigs) error {
	all := &i.TopicConfigs
	if c.Broker {
		all = &i.BrokerConfigs
	} else if i.Topics[c.Name] == nil {
		return fmt.Errorf("%w: %s", ErrUnknownTopic, c.Name)
	}
	for k, was := range c.From {
		if v, set := (*all)[c.Name][k]; set != (was != nil) || set && v != *was {
			return fmt.Errorf("%w: %s", ErrStale, k)
		}
	}
	*all = altered(*all, c.Name, c.Set, c.Delete)
	if _, set := c.Set[minISRConfig]; set || slices.Contains(c.Delete, minISRConfig) {
		i.eachPartition(func(p *Partition) *Partition {
			if !c.Broker && p.Topic != c.Name {
				return p
			}
			return i.thinned(p)
		})
	}
	return nil
}

// altered is all with changes to the configs of name; who has none is not in it.
func altered(all map[string]map[string]string, name string, set map[string]string, remove []string) map[string]map[string]string {
	one := map[string]string{}
	maps.Copy(one, all[name])
	maps.Copy(one, set)
	for _, k := range remove {
		delete(one, k)
	}
	next := map[string]map[string]string{}
	maps.Copy(next, all)
	if len(one) == 0 {
		delete(next, name)
	} else {
		next[name] = one
	}
	return next
}

func (i *Image) allocateProducerIDs(c *AllocateProducerIDs) Result {
	if c.Count <= 0 || i.NextProducerID > math.MaxInt64-int64(c.Count) {
		return Result{Err: fmt.Errorf("%w: %d producer ids from %d", ErrInvalidCommand, c.Count, i.NextProducerID)}
	}
	r := Result{First: i.NextProducerID}
	i.NextProducerID += int64(c.Count)
	return r
}

func (i *Image) setFeatures(c *SetFeatures) error {
	if level, named := c.Levels[LevelFeature]; named && level != i.Level() {
		return fmt.Errorf("%w: %s follows from the nodes", ErrInvalidCommand, LevelFeature)
	}
	i.Features = maps.Clone(i.Features)
	for name, level := range c.Levels {
		if level == 0 {
			delete(i.Features, name)
		} else {
			i.Features[name] = level
		}
	}
	return nil
}

func (i *Image) setClusterID(c *SetClusterID) error {
	if i.ClusterID != "" && i.ClusterID != c.ID {
		return fmt.Errorf("%w: the cluster is %s already", ErrStale, i.ClusterID)
	}
	if c.ID == "" {
		return fmt.Errorf("%w: empty cluster id", ErrInvalidCommand)
	}
	i.ClusterID = c.ID
	return nil
}
