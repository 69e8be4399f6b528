package server

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/replica"
)

// codes maps the errors of the rooms below to Kafka's.
var codes = []struct {
	err  error
	code *kerr.Error
}{
	{replica.ErrUnknown, kerr.UnknownTopicOrPartition},
	{replica.ErrElsewhere, kerr.NotLeaderForPartition},
	{partition.ErrNotLeader, kerr.NotLeaderForPartition},
	{partition.ErrFencedEpoch, kerr.FencedLeaderEpoch},
	{partition.ErrUnknownEpoch, kerr.UnknownLeaderEpoch},
	{partition.ErrNotEnough, kerr.NotEnoughReplicas},
	{partition.ErrNotEnoughAfter, kerr.NotEnoughReplicasAfterAppend},
	{partition.ErrNotYet, kerr.OffsetNotAvailable},
	{commitlog.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
	{commitlog.ErrFailed, kerr.KafkaStorageError}, // before what its log has: a producer would take that for its own batch's
	{commitlog.ErrCorrupt, kerr.CorruptMessage},
	{commitlog.ErrTooLarge, kerr.MessageTooLarge},
	{commitlog.ErrInvalidTimestamp, kerr.InvalidTimestamp},
	{commitlog.ErrUnexpectedOffset, kerr.PolicyViolation},
	{commitlog.ErrInvalidRecord, kerr.InvalidRecord},
	{commitlog.ErrOldMagic, kerr.UnsupportedForMessageFormat},
	{commitlog.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
	{commitlog.ErrUnknownProducer, kerr.UnknownProducerID},
	{commitlog.ErrProducerFenced, kerr.InvalidProducerEpoch},
	{commitlog.ErrInvalidTxnState, kerr.InvalidTxnState},
	{commitlog.ErrDiskFull, kerr.KafkaStorageError},
	{commitlog.ErrNoFiles, kerr.KafkaStorageError},
	{commitlog.ErrClosed, kerr.NotLeaderForPartition}, // the node is going: the client looks elsewhere
	{context.DeadlineExceeded, kerr.RequestTimedOut},
	{context.Canceled, kerr.RequestTimedOut},
}

// codeOf is the Kafka error code of err; 0 for nil.
func codeOf(err error) int16 {
	if err == nil {
		return 0
	}
	var c *controller.Error
	if errors.As(err, &c) {
		return c.Code
	}
	var k *kerr.Error
	if errors.As(err, &k) {
		return k.Code
	}
	for _, e := range codes {
		if errors.Is(err, e.err) {
			return e.code.Code
		}
	}
	return kerr.UnknownServerError.Code
}

// messageOf is what a client is told beside the code; nil for nil. What an
// unexpected error says is for the node's own log.
func messageOf(err error) *string {
	if err == nil {
		return nil
	}
	m := err.Error()
	if codeOf(err) == kerr.UnknownServerError.Code {
		m = "an unexpected error; the node's log has it"
	}
	return &m
}

// refusal is a Kafka error with a message of ours.
type refusal struct {
	code *kerr.Error
	msg  string
}

func (r *refusal) Error() string { return r.msg }
func (r *refusal) Unwrap() error { return r.code }

func refuse(code *kerr.Error, msg string) error { return &refusal{code, msg} }

// unexpected logs an error that no client caused.
func (s *Server) unexpected(what string, err error, args ...any) {
	if codeOf(err) == kerr.UnknownServerError.Code {
		s.d.Logger.Error(what, append(args, "error", err)...)
	}
}
