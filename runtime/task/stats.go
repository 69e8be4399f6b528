// Package task runs one source split or one sink. It is the only owner of the
// order of acknowledgements: a source hears Committed only after the log has
// its records and position (invariant 5), a sink resumes only where its target
// says (invariant 6), and both are fenced by their transactional id (invariant 7).
package task

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are counters that a task keeps for whoever watches it.
type Stats struct {
	Records atomic.Int64 // appended, or written
	Bytes   atomic.Int64 // of their keys and values
	Lag     atomic.Int64 // sink: records in the log that are not committed to the target
	Dead    atomic.Int64 // records in its dead letters; -1: it keeps none
	Ready   atomic.Bool  // open and at work
	oldest  atomic.Int64 // sink: time of the oldest record that it holds uncommitted, in milliseconds; 0: none

	mu     sync.Mutex
	topics map[string]*atomic.Bool // true: records have gone through since ForgetTopics
}

// Behind is the age of the oldest record that a sink holds uncommitted.
func (s *Stats) Behind(now time.Time) time.Duration {
	if at := s.oldest.Load(); at > 0 {
		return max(0, now.Sub(time.UnixMilli(at)))
	}
	return 0
}

// topic is where it is noted that records of a topic have gone through.
func (s *Stats) topic(name string) *atomic.Bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.topics == nil {
		s.topics = map[string]*atomic.Bool{}
	}
	if s.topics[name] == nil {
		s.topics[name] = &atomic.Bool{}
	}
	return s.topics[name]
}

// Topics are those that records were appended to, or written from, since ForgetTopics. KIP-558 calls them active.
func (s *Stats) Topics() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{}
	for name, active := range s.topics {
		if active.Load() {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// ForgetTopics begins anew with Topics.
func (s *Stats) ForgetTopics() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, active := range s.topics {
		active.Store(false)
	}
}
