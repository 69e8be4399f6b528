// Package txn is the transaction coordinator (KIP-98, KIP-360, KIP-890).
//
// A transactional id lives in one partition of __transaction_state; the node
// that leads the partition coordinates the id's transactions. Every decision is
// in that partition, durable on every in-sync replica, before a marker or an
// answer tells of it. DESIGN.md tells why it is built this way.
package txn

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/core/statelog"
)

// Topic is where the state of transactional ids is kept.
const Topic = "__transaction_state"

// Deps are the rooms that a Coordinator calls, and its options.
type Deps struct {
	NodeID     metadata.NodeID
	Replicas   *replica.Set
	Controller *controller.Controller
	Groups     Groups           // of group.Coordinator; nil: none
	Peers      Peers            // nil: the only node
	Logger     *slog.Logger     // nil: silent
	Now        func() time.Time // nil: time.Now
	Turns      statelog.Turns   // nil: goroutines
	// Leased says that nobody else leads what this node leads, as far as a lease can tell (controller.Active.Leased). Nil: nobody ever does.
	Leased  func() bool
	Options Options
}

// Peers asks other nodes. Both calls go to the node's Kafka listener.
type Peers interface {
	WriteTxnMarkers(ctx context.Context, node metadata.NodeID, req *kmsg.WriteTxnMarkersRequest) (*kmsg.WriteTxnMarkersResponse, error)
	AddPartitionsToTxn(ctx context.Context, node metadata.NodeID, req *kmsg.AddPartitionsToTxnRequest) (*kmsg.AddPartitionsToTxnResponse, error)
}

// Options are Kafka's transaction settings; the zero value has Kafka's defaults.
type Options struct {
	// MaxTimeout is the longest transaction timeout that a producer may ask for. Zero: 15 min. Like transaction.max.timeout.ms.
	MaxTimeout time.Duration
	// IDExpiry is how long a transactional id is kept after its last transaction. Zero: 7 days. Like
	// transactional.id.expiration.ms.
	IDExpiry time.Duration
	// ExpiryInterval is the pause between two looks for expired ids. Zero: 1 h. Like
	// transaction.remove.expired.transaction.cleanup.interval.ms.
	ExpiryInterval time.Duration
	// ParkTime is how long a request waits for the producer's last transaction to be finished before it is answered
	// with CONCURRENT_TRANSACTIONS. Zero: 5 s. It holds up its connection for that time, which is what the client would
	// do anyway, only 20 ms at a time.
	ParkTime time.Duration
}

// WithDefaults fills in what is zero.
func (o Options) WithDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.MaxTimeout, 15*time.Minute)
	def(&o.IDExpiry, 7*24*time.Hour)
	def(&o.ExpiryInterval, time.Hour)
	def(&o.ParkTime, 5*time.Second)
	return o
}

// host is what a Coordinator needs of the rest of the node; tests have one in memory.
type host interface {
	image() *metadata.Image
	createTopic(ctx context.Context) error
	open(number int32) (statelog.Store, error)
	follow(fn func(number int32, leading bool, epoch int32))
	allocate(ctx context.Context) (first int64, count int32, err error)
	// data opens a partition that markers go to. producer is what its log knows of a producer.
	data(tp TopicPartition) (statelog.Store, error)
	producer(tp TopicPartition, id int64) (commitlog.Producer, bool)
	// decided says that the producer's transaction has its marker in a partition that is led here, in epoch, and has nothing come in after it: one per
	// transaction is enough.
	decided(tp TopicPartition, p statelog.Producer) (epoch int32, ok bool)
	groups() Groups
	peers() Peers
}

// Groups is what a Coordinator needs of the group coordinator, which stands on the same floor.
type Groups interface {
	EnsureTopic(ctx context.Context) error
	PartitionFor(group string) int32
	AppendMarker(ctx context.Context, number int32, p statelog.Producer, coordinatorEpoch int32, commit bool) error
}

// Coordinator coordinates the transactional ids whose __transaction_state partition this node leads. All methods may
// be called concurrently.
type Coordinator struct {
	node   metadata.NodeID
	host   host
	keeper *statelog.Keeper
	leased func() bool // nil: always
	o      Options
	turns  statelog.Turns
	log    *slog.Logger
	create sync.Mutex // one creation of the topic at a time

	ctx  context.Context // of Run: ends the jobs
	jobs struct {        // transactions whose markers are being written
		sync.Mutex
		sync.WaitGroup
		stopped bool
	}

	ids struct {
		sync.Mutex
		next, end int64
	}
}

// New makes a Coordinator; Run makes it work.
func New(d Deps) *Coordinator {
	return newCoordinator(d, nodeHost{d})
}

func newCoordinator(d Deps, h host) *Coordinator {
	c := &Coordinator{node: d.NodeID, host: h, o: d.Options.WithDefaults(), turns: d.Turns, leased: d.Leased, log: d.Logger, ctx: context.Background()}
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
		NewState: func(s *statelog.Shard) statelog.State { return &state{c: c, shard: s, txns: map[string]*txn{}} },
		Now:      d.Now,
		Turns:    d.Turns,
		Logger:   c.log,
	})
	return c
}

// sure is a code that can be told to a producer. What is final to it only a coordinator says whose lease holds: where others cannot hear this one
// any more, the producer may have its id and epoch from the next.
func (c *Coordinator) sure(code int16) int16 {
	switch code {
	case kerr.InvalidProducerIDMapping.Code, kerr.ProducerFenced.Code, kerr.InvalidProducerEpoch.Code, kerr.InvalidTxnState.Code, kerr.TransactionAbortable.Code:
		if c.leased != nil && !c.leased() {
			return kerr.NotCoordinator.Code
		}
	}
	return code
}

// Run coordinates until ctx ends; it is called once, before any other method, and owns every goroutine of the
// Coordinator.
func (c *Coordinator) Run(ctx context.Context) error {
	jobs, cancel := context.WithCancel(ctx)
	c.ctx = jobs
	err := c.keeper.Run(ctx)
	cancel()
	c.jobs.Lock()
	c.jobs.stopped = true
	c.jobs.Unlock()
	c.jobs.Wait()
	return err
}

// spawn runs a job that Run waits for; after Run it does nothing, and says so.
func (c *Coordinator) spawn(job func()) bool {
	c.jobs.Lock()
	defer c.jobs.Unlock()
	if c.jobs.stopped {
		return false
	}
	if c.turns != nil {
		c.turns.Go(job)
		return true
	}
	c.jobs.Go(job)
	return true
}

// EnsureTopic creates __transaction_state when it is not there yet.
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

// PartitionFor is the partition of __transaction_state that a transactional id belongs to; -1 while the topic does not exist.
func (c *Coordinator) PartitionFor(id string) int32 {
	t := c.host.image().Topics[Topic]
	if t == nil {
		return -1
	}
	return statelog.PartitionFor(id, int32(len(t.Partitions)))
}

// producerID takes one id out of this node's block.
func (c *Coordinator) producerID(ctx context.Context) (int64, error) {
	c.ids.Lock()
	defer c.ids.Unlock()
	if c.ids.next == c.ids.end {
		first, count, err := c.host.allocate(ctx)
		if err != nil {
			return -1, err
		}
		if count <= 0 {
			return -1, errors.New("controller gave an empty block of producer ids")
		}
		c.ids.next, c.ids.end = first, first+int64(count)
	}
	id := c.ids.next
	c.ids.next++
	return id, nil
}

// codeOf maps an error to the code that a transactional client understands.
func codeOf(err error) int16 {
	if errors.Is(err, statelog.ErrUnavailable) {
		return kerr.NotCoordinator.Code
	}
	return statelog.Code(err)
}

// nodeHost is the node.
type nodeHost struct{ d Deps }

func (h nodeHost) image() *metadata.Image { return h.d.Controller.Image() }

func (h nodeHost) createTopic(ctx context.Context) error {
	_, errs := h.d.Controller.CreateTopics(ctx, []controller.NewTopic{{Name: Topic, Partitions: -1, Replication: -1}}, false)
	var e *controller.Error
	if errors.As(errs[0], &e) && e.Code == kerr.TopicAlreadyExists.Code {
		return nil
	}
	return errs[0]
}

func (h nodeHost) open(number int32) (statelog.Store, error) {
	return h.data(TopicPartition{Topic, number})
}

func (h nodeHost) follow(fn func(int32, bool, int32)) { h.d.Replicas.Leaders(Topic, fn) }

func (h nodeHost) allocate(ctx context.Context) (int64, int32, error) {
	return h.d.Controller.AllocateProducerIDs(ctx)
}

func (h nodeHost) data(tp TopicPartition) (statelog.Store, error) {
	p, err := h.d.Replicas.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return nil, err
	}
	return statelog.StoreOf(p), nil
}

func (h nodeHost) producer(tp TopicPartition, id int64) (commitlog.Producer, bool) {
	p, err := h.d.Replicas.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return commitlog.Producer{}, false
	}
	return p.Log().ProducerState(id)
}

func (h nodeHost) decided(tp TopicPartition, p statelog.Producer) (int32, bool) {
	part, err := h.d.Replicas.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return -1, false
	}
	leading, epoch := part.Leader()
	return epoch, leading && part.Log().Decided(p.ID, p.Epoch)
}

func (h nodeHost) groups() Groups { return h.d.Groups }

func (h nodeHost) peers() Peers { return h.d.Peers }

// anyEpoch is the leader epoch that markers are appended with: it is the coordinator's epoch that fences them.
const anyEpoch = partition.AnyEpoch
