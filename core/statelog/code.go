package statelog

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/partition"
)

// Code maps an error of the log under a coordinator to the code that the coordinator's clients understand, as Kafka's
// coordinators do: what may pass is told as such, never as an end.
func Code(err error) int16 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrNotCoordinator), errors.Is(err, partition.ErrNotLeader), errors.Is(err, partition.ErrFencedEpoch), errors.Is(err, partition.ErrUnknownEpoch),
		errors.Is(err, commitlog.ErrFailed), errors.Is(err, commitlog.ErrClosed):
		return kerr.NotCoordinator.Code
	case errors.Is(err, ErrLoading):
		return kerr.CoordinatorLoadInProgress.Code
	case errors.Is(err, commitlog.ErrProducerFenced):
		return kerr.InvalidProducerEpoch.Code
	case errors.Is(err, commitlog.ErrInvalidTxnState):
		return kerr.InvalidTxnState.Code
	case errors.Is(err, ErrUnavailable), errors.Is(err, partition.ErrNotEnough), errors.Is(err, commitlog.ErrDiskFull), errors.Is(err, commitlog.ErrNoFiles),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return kerr.CoordinatorNotAvailable.Code
	}
	return kerr.UnknownServerError.Code
}
