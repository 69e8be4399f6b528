// Package controller turns wishes (create this topic) into commands on the
// metadata: it plans from the current Image and proposes. It also owns the tables of Kafka's topic and broker
// configs: what each is called, means, allows and defaults to.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/metadata"
)

// Proposer is the metadata quorum as the controller needs it.
type Proposer interface {
	Propose(context.Context, metadata.Command) (metadata.Result, error)
	Image() *metadata.Image
	// Current returns once Image has all that was agreed on before the call, by any node.
	Current(context.Context) error
}

// Options make a Controller.
type Options struct {
	Quorum Proposer
	NodeID metadata.NodeID
	// Static are this node's broker properties by Kafka's names, checked by CheckStatic.
	Static map[string]string
	Logger *slog.Logger // nil: silent
}

// Controller plans. All methods may be called concurrently; they return once the local Image shows the change.
type Controller struct {
	quorum Proposer
	node   metadata.NodeID
	static map[string]string
	logger *slog.Logger

	// plan is held from reading the Image to the end of a proposal whose content
	// depends on more than Apply checks: configs that must fit together, spreading replicas.
	plan turn
}

// turn is a lock that is waited for no longer than a client waits: who holds it may wait for a quorum.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }

// alike is the same error n times.
func alike(n int, err error) []error { return slices.Repeat([]error{err}, n) }

// New makes a Controller.
func New(o Options) *Controller {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Controller{quorum: o.Quorum, node: o.NodeID, static: o.Static, logger: o.Logger, plan: make(turn, 1)}
}

// Error is a refusal with Kafka's code.
type Error struct {
	Code    int16 // kerr code
	Message string
	made    bool // what was asked for was done, and undone since by somebody else
}

func (e *Error) Error() string { return e.Message }

func refuse(k *kerr.Error, format string, args ...any) *Error {
	return &Error{Code: k.Code, Message: fmt.Sprintf(format, args...)}
}

// Image is the newest state that this node has applied.
func (c *Controller) Image() *metadata.Image { return c.quorum.Image() }

// Current returns once Image has all that was agreed on before the call, by any node.
func (c *Controller) Current(ctx context.Context) error {
	if err := c.quorum.Current(ctx); err != nil {
		return kafkaError(err)
	}
	return nil
}

// surely asks for each of n things. What is refused for what there is, or is not, is asked for once more by an Image that has all that was agreed on before: this
// node may be behind, and another one may have told its client of more. Who cannot learn it does not refuse.
func (c *Controller) surely(ctx context.Context, n int, ask func(which []int) []error) []error {
	all := make([]int, n)
	for k := range all {
		all[k] = k
	}
	errs := ask(all)
	var left []int
	for k, err := range errs {
		if depends(err) {
			left = append(left, k)
		}
	}
	if len(left) == 0 {
		return errs
	}
	again := make([]error, len(left))
	if err := c.Current(ctx); err != nil {
		for k := range again {
			again[k] = err
		}
	} else {
		again = ask(left)
	}
	for k, n := range left {
		errs[n] = again[k]
	}
	return errs
}

// depends says that a refusal follows from which topics, partitions and nodes there are.
func depends(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.made {
		return false
	}
	switch e.Code {
	case kerr.TopicAlreadyExists.Code, kerr.UnknownTopicOrPartition.Code, kerr.InvalidTopicException.Code, kerr.InvalidPartitions.Code,
		kerr.InvalidReplicationFactor.Code, kerr.InvalidReplicaAssignment.Code, kerr.NoReassignmentInProgress.Code:
		return true
	}
	return false
}

// chosen are the members of list that which names.
func chosen[T any](list []T, which []int) []T {
	picked := make([]T, len(which))
	for k, n := range which {
		picked[k] = list[n]
	}
	return picked
}

// propose maps what metadata and consensus refuse to Kafka's codes.
func (c *Controller) propose(ctx context.Context, cmd metadata.Command) (metadata.Result, error) {
	r, err := c.quorum.Propose(ctx, cmd)
	if err == nil {
		err = r.Err
	}
	if err != nil {
		return r, kafkaError(err)
	}
	return r, nil
}

func kafkaError(err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	code := kerr.UnknownServerError
	for _, m := range []struct {
		err  error
		code *kerr.Error
	}{
		{metadata.ErrTopicExists, kerr.TopicAlreadyExists},
		{metadata.ErrUnknownTopic, kerr.UnknownTopicOrPartition},
		{metadata.ErrInvalidTopic, kerr.InvalidTopicException},
		{metadata.ErrUnknownNode, kerr.InvalidReplicaAssignment},
		{metadata.ErrInvalidCommand, kerr.InvalidRequest},
		{metadata.ErrNodeInUse, kerr.InvalidRequest},
		{metadata.ErrRemovedNode, kerr.InvalidRequest},
		{metadata.ErrStale, kerr.InvalidUpdateVersion},
		{metadata.ErrLevel, kerr.UnsupportedVersion},
		{consensus.ErrNotLeader, kerr.NotController},
		{consensus.ErrDiskFull, kerr.KafkaStorageError},
		{consensus.ErrClosed, kerr.NotController},
		{context.DeadlineExceeded, kerr.RequestTimedOut},
		{context.Canceled, kerr.RequestTimedOut},
	} {
		if errors.Is(err, m.err) {
			code = m.code
			break
		}
	}
	return &Error{Code: code.Code, Message: err.Error()}
}

// ProducerIDBlock is how many producer ids a node reserves at once, as Kafka does.
const ProducerIDBlock = 1000

// AllocateProducerIDs reserves a block of producer ids for this node.
func (c *Controller) AllocateProducerIDs(ctx context.Context) (first int64, count int32, err error) {
	r, err := c.propose(ctx, &metadata.AllocateProducerIDs{Node: c.node, Count: ProducerIDBlock})
	if err != nil {
		return 0, 0, err
	}
	return r.First, ProducerIDBlock, nil
}

// AlterPartition has ISR changes agreed on, all in one command; one result for each, as replica.ISRAlterer says.
func (c *Controller) AlterPartition(ctx context.Context, changes []metadata.ISRChange) []error {
	r, err := c.quorum.Propose(ctx, &metadata.AlterPartition{Changes: changes})
	if err == nil && r.Err == nil && len(r.Errs) == len(changes) {
		return r.Errs
	}
	if err == nil {
		err = r.Err
	}
	if err == nil {
		err = fmt.Errorf("%d results for %d changes", len(r.Errs), len(changes))
	}
	errs := make([]error, len(changes))
	for n := range errs {
		errs[n] = err
	}
	return errs
}
