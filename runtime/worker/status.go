package worker

import (
	"time"

	"github.com/forebayhub/forebay/runtime/task"
)

// State is what a connector or a task is doing.
type State string

const (
	Starting   State = "STARTING"
	Running    State = "RUNNING"
	Paused     State = "PAUSED"
	Stopped    State = "STOPPED"
	Failed     State = "FAILED"     // a fatal error: waits for a restart
	Restarting State = "RESTARTING" // an error that will be tried again
)

// Status is a snapshot of one connector.
type Status struct {
	Name    string
	Type    string
	Sink    bool
	State   State
	Records int64   // appended, or written, since the worker started
	Bytes   int64   // of their keys and values
	Rate    float64 // records per second, over the last seconds
	Lag     int64   // sink: records of the log that are not committed to the target; -1: unknown, as while it does not run
	// Behind is how far it is behind. A sink: the age of the oldest record that it has read and not committed to the target; 0: there is
	// none. A source: the age, by the source's clock, that the last record had when it was committed to the log; 0: for a while none came. One
	// that does not run: at least how long it has not.
	Behind time.Duration
	Dead   int64  // records in its dead letters; -1: it keeps none
	Error  string // the last error; "" since a task runs well again. Of one that runs: what it cannot read
	Fenced bool   // that error is that another task has replaced this one's, in the log or in the target
	Since  time.Time
	Ailing time.Time // when the first error came of those between which it did not run for a minute, or since when it cannot read something; zero: there are none
	// Restarts counts the errors after which it began anew, since the worker started.
	Restarts int64
	Tasks    []TaskStatus

	stats *task.Stats
}

// Timely says whether Behind is known.
func (s Status) Timely() bool {
	return s.State != Stopped && (!s.Sink || s.Lag >= 0 || s.State != Running)
}

// TaskStatus is a snapshot of one task.
type TaskStatus struct {
	ID      int
	Split   string
	State   State
	Error   string
	Records int64
}
