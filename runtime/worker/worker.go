package worker

import (
	"context"
	"errors"

	"github.com/forebayhub/forebay/connectors"
)

var errPartitions = errors.New("from 1 to 10000")

type Worker struct{}

// New makes every configured source and sink; it does no I/O. An error that the
// user can mend is a *problem.Error.
func New(o Options) (*Worker, error) { panic("worker is being built") }

// Run runs the connectors until ctx ends, then lets the tasks commit what they
// have. It returns nil after a drain in good order. A connector's failure does not end it.
func (w *Worker) Run(ctx context.Context) error { panic("worker is being built") }

// Status is the state of every connector, in the order of the config.
func (w *Worker) Status() []Status { panic("worker is being built") }

// Pause, Resume, Stop and Restart change what a connector should be doing.
func (w *Worker) Pause(name string) error   { panic("worker is being built") }
func (w *Worker) Resume(name string) error  { panic("worker is being built") }
func (w *Worker) Stop(name string) error    { panic("worker is being built") }
func (w *Worker) Restart(name string) error { panic("worker is being built") }

// Flush commits what a sink has written so far and returns, for each partition,
// the offset up to which everything is in the target.
func (w *Worker) Flush(ctx context.Context, name string) (map[connectors.TopicPartition]int64, error) {
	panic("worker is being built")
}
