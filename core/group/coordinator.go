// Package group is the group coordinator: classic groups (KIP-62, KIP-345,
// KIP-394, KIP-429), consumer groups (KIP-848) and committed offsets.
//
// A group lives in one partition of __consumer_offsets; the node that leads the
// partition coordinates the group. What it has answered is in that partition,
// in Kafka's own record formats, durable on every in-sync replica. DESIGN.md
// tells why it is built this way.
package group

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/core/statelog"
)

// Topic is where groups and offsets are kept.
const Topic = "__consumer_offsets"

// Deps are the rooms that a Coordinator calls, and its options.
type Deps struct {
	NodeID     metadata.NodeID
	Replicas   *replica.Set
	Controller *controller.Controller
	Lease      Lease            // nil: a node that is alone
	Logger     *slog.Logger     // nil: silent
	Now        func() time.Time // nil: time.Now
	Turns      statelog.Turns   // nil: goroutines. With it, offsets only: JoinGroup, SyncGroup and consumers' heartbeats wait as they do else
	Options    Options
}

// Lease says whether this node's registration holds. While it does, no other node coordinates what this one does.
type Lease interface {
	Leased() bool
	// AwaitLease waits until Leased, or until ctx ends.
	AwaitLease(ctx context.Context)
}

// Options are Kafka's group settings. The zero value has Kafka's defaults, but for the rebalance delay.
type Options struct {
	// MinSessionTimeout and MaxSessionTimeout bound what a member may ask for. Zero: 6 s and 30 min. Like
	// group.min.session.timeout.ms and group.max.session.timeout.ms.
	MinSessionTimeout, MaxSessionTimeout time.Duration
	// InitialRebalanceDelay is how long the first rebalance of an empty group waits for more members. Zero means no
	// wait, unlike Kafka's 3 s: a lone consumer starts at once, and ten that start together rebalance a few times
	// more. Like group.initial.rebalance.delay.ms.
	InitialRebalanceDelay time.Duration
	// MaxSize is the most members of a group. Zero: no limit. Like group.max.size.
	MaxSize int
	// OffsetRetention is how long committed offsets outlive the last member, or for a group without members the
	// commit. Zero: 7 days. Like offsets.retention.minutes.
	OffsetRetention time.Duration
	// ExpiryInterval is the pause between two looks for expired offsets. Zero: 10 min. Like
	// offsets.retention.check.interval.ms.
	ExpiryInterval time.Duration
	// Consumer are the settings of consumer groups (KIP-848).
	Consumer ConsumerOptions
	// MaxMetadata is the most characters of a commit's metadata. Zero: 4096. Like offset.metadata.max.bytes.
	MaxMetadata int
}

// ConsumerOptions are the settings of consumer groups, whose members do not choose them.
type ConsumerOptions struct {
	// SessionTimeout is how long a member may be silent. Zero: 45 s. Like group.consumer.session.timeout.ms.
	SessionTimeout time.Duration
	// HeartbeatInterval is what members are told to wait between heartbeats. Zero: 5 s. Like
	// group.consumer.heartbeat.interval.ms.
	HeartbeatInterval time.Duration
	// Bounds of what a group's own consumer.session.timeout.ms and consumer.heartbeat.interval.ms may say. Zero: 45 s to 60 s, and
	// 5 s to 15 s. Like group.consumer.min.session.timeout.ms and so on.
	MinSessionTimeout, MaxSessionTimeout       time.Duration
	MinHeartbeatInterval, MaxHeartbeatInterval time.Duration
	// MaxSize is the most members of a group. Zero: no limit. Like group.consumer.max.size.
	MaxSize int
	// Migration says whether a group may change its protocol while it has members. Zero: MigrateBoth. Like
	// group.consumer.migration.policy.
	Migration string
}

// WithDefaults fills in what is zero.
func (o Options) WithDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.MinSessionTimeout, 6*time.Second)
	def(&o.MaxSessionTimeout, 30*time.Minute)
	def(&o.OffsetRetention, 7*24*time.Hour)
	def(&o.ExpiryInterval, 10*time.Minute)
	if o.MaxSize == 0 {
		o.MaxSize = 1<<31 - 1
	}
	def(&o.Consumer.SessionTimeout, 45*time.Second)
	def(&o.Consumer.HeartbeatInterval, 5*time.Second)
	def(&o.Consumer.MinSessionTimeout, 45*time.Second)
	def(&o.Consumer.MaxSessionTimeout, time.Minute)
	def(&o.Consumer.MinHeartbeatInterval, 5*time.Second)
	def(&o.Consumer.MaxHeartbeatInterval, 15*time.Second)
	if o.Consumer.Migration == "" {
		o.Consumer.Migration = MigrateBoth
	}
	if o.Consumer.MaxSize == 0 {
		o.Consumer.MaxSize = 1<<31 - 1
	}
	if o.MaxMetadata == 0 {
		o.MaxMetadata = 4096
	}
	return o
}

// Client is who sent a request, as DescribeGroups shows it.
type Client struct {
	ID   string
	Host string // "/127.0.0.1"
}

// host is what a Coordinator needs of the rest of the node; tests have one in memory.
type host interface {
	image() *metadata.Image
	createTopic(ctx context.Context) error
	open(number int32) (statelog.Store, error)
	follow(fn func(number int32, leading bool, epoch int32))
}

// Coordinator coordinates the groups whose __consumer_offsets partition this node leads. All methods may be called
// concurrently.
type Coordinator struct {
	node   metadata.NodeID
	host   host
	lease  Lease // nil: always
	keeper *statelog.Keeper
	o      Options
	turns  statelog.Turns
	log    *slog.Logger
	newID  func() string
	create sync.Mutex // one creation of the topic at a time
}

// New makes a Coordinator; Run makes it work.
func New(d Deps) *Coordinator {
	return newCoordinator(d, nodeHost{d.Replicas, d.Controller})
}

func newCoordinator(d Deps, h host) *Coordinator {
	c := &Coordinator{node: d.NodeID, host: h, lease: d.Lease, o: d.Options.WithDefaults(), turns: d.Turns, log: d.Logger, newID: uuid.NewString}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.keeper = statelog.NewKeeper(statelog.Options{
		Topic:  Topic,
		Open:   h.open,
		Follow: h.follow,
		Placed: func(number int32) (int32, bool) {
			im := h.image()
			t := im.Topics[Topic]
			if t == nil {
				return 0, false
			}
			p := im.Partition(Topic, number)
			return int32(len(t.Partitions)), p != nil && p.Leader == c.node
		},
		NewState: func(s *statelog.Shard) statelog.State { return newState(c, s) },
		Now:      d.Now,
		Turns:    d.Turns,
		Logger:   c.log,
	})
	return c
}

// Run coordinates until ctx ends; it is called once and owns every goroutine of the Coordinator.
func (c *Coordinator) Run(ctx context.Context) error { return c.keeper.Run(ctx) }

// EnsureTopic creates __consumer_offsets when it is not there yet.
func (c *Coordinator) EnsureTopic(ctx context.Context) error {
	if c.host.image().Topics[Topic] != nil {
		return nil
	}
	c.create.Lock()
	defer c.create.Unlock()
	if c.host.image().Topics[Topic] != nil {
		return nil
	}
	return c.host.createTopic(ctx)
}

// PartitionFor is the partition of __consumer_offsets that a group belongs to; -1 while the topic does not exist.
func (c *Coordinator) PartitionFor(group string) int32 {
	t := c.host.image().Topics[Topic]
	if t == nil {
		return -1
	}
	return statelog.PartitionFor(group, int32(len(t.Partitions)))
}

// groupConfigs are the settings of one consumer group: its own configs, held to the bounds that the node has now, over the
// node's.
func (c *Coordinator) groupConfigs(group string) ConsumerOptions {
	o := c.o.Consumer
	own := c.host.image().GroupConfigs[group]
	over := func(to *time.Duration, name string, lo, hi time.Duration) {
		if n, err := strconv.ParseInt(strings.TrimSpace(own[name]), 10, 32); err == nil {
			*to = min(max(time.Duration(n)*time.Millisecond, lo), hi)
		}
	}
	over(&o.SessionTimeout, "consumer.session.timeout.ms", o.MinSessionTimeout, o.MaxSessionTimeout)
	over(&o.HeartbeatInterval, "consumer.heartbeat.interval.ms", o.MinHeartbeatInterval, o.MaxHeartbeatInterval)
	return o
}

// lock finds a group's state and locks its shard; the caller unlocks. The code is Kafka's.
func (c *Coordinator) lock(ctx context.Context, group string) (*state, int16) {
	s, err := c.keeper.Lock(ctx, group)
	if err != nil {
		return nil, codeOf(err)
	}
	return s.State.(*state), 0
}

// codeOf maps an error of the log or the Keeper to the code that a group's client understands, as Kafka's
// GroupMetadataManager does: never one that makes it give up.
func codeOf(err error) int16 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, statelog.ErrLoading):
		return kerr.CoordinatorLoadInProgress.Code
	case errors.Is(err, statelog.ErrUnavailable):
		return kerr.CoordinatorNotAvailable.Code
	case errors.Is(err, statelog.ErrNotCoordinator):
		return kerr.NotCoordinator.Code
	}
	return statelog.Code(err)
}

// nodeHost is the node.
type nodeHost struct {
	replicas   *replica.Set
	controller *controller.Controller
}

func (h nodeHost) image() *metadata.Image { return h.controller.Image() }

func (h nodeHost) createTopic(ctx context.Context) error {
	_, errs := h.controller.CreateTopics(ctx, []controller.NewTopic{{Name: Topic, Partitions: -1, Replication: -1}}, false)
	var e *controller.Error
	if errors.As(errs[0], &e) && e.Code == kerr.TopicAlreadyExists.Code {
		return nil
	}
	return errs[0]
}

func (h nodeHost) open(number int32) (statelog.Store, error) {
	p, err := h.replicas.Partition(Topic, number)
	if err != nil {
		return nil, err
	}
	return statelog.StoreOf(p), nil
}

func (h nodeHost) follow(fn func(int32, bool, int32)) { h.replicas.Leaders(Topic, fn) }
