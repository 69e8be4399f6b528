package consensus

import (
	"context"
	"errors"

	"github.com/forebayhub/forebay/core/metadata"
)

// ErrOtherCluster is the answer of a peer that belongs to another cluster.
var ErrOtherCluster = errors.New("another cluster")

// ErrUnreached says that a peer was not asked: nothing has come of the call.
var ErrUnreached = errors.New("peer not reached")

// sentinels are the errors that keep their meaning on the way to another node. The numbers are part of the protocol.
var sentinels = map[int]error{
	1: ErrNotLeader, 2: ErrDiskFull, 3: ErrClosed, 4: ErrOtherCluster,
	10: metadata.ErrTopicExists, 11: metadata.ErrUnknownTopic, 12: metadata.ErrUnknownNode, 13: metadata.ErrStale,
	14: metadata.ErrIneligible, 15: metadata.ErrInvalidTopic, 16: metadata.ErrInvalidCommand, 17: metadata.ErrLevel,
	18: metadata.ErrNodeInUse, 19: metadata.ErrRemovedNode,
	20: context.DeadlineExceeded, 21: context.Canceled,
}

// wireError is an error on its way.
type wireError struct {
	Kind int    `json:"k,omitempty"` // of sentinels; 0: none
	Text string `json:"t"`
}

func encodeError(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error()}
	for k, s := range sentinels {
		if errors.Is(err, s) && (w.Kind == 0 || k < w.Kind) {
			w.Kind = k
		}
	}
	return w
}

func (w *wireError) decode() error {
	if w == nil {
		return nil
	}
	return &remoteError{text: w.Text, is: sentinels[w.Kind]}
}

// remoteError is an error of another node.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }
