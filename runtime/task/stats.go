// Package task runs one source split or one sink. It is the only owner of the
// order of acknowledgements: a source hears Committed only after the log has
// its records and position (invariant 5), a sink resumes only where its target
// says (invariant 6), and both are fenced by their transactional id (invariant 7).
package task

import "sync/atomic"

// Stats are counters that a task keeps for whoever watches it.
type Stats struct {
	Records atomic.Int64 // appended, or written
	Bytes   atomic.Int64 // of their keys and values
	Lag     atomic.Int64 // sink: records in the log that are not committed to the target
	Ready   atomic.Bool  // open and at work
}
