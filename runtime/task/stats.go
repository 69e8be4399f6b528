// Package task runs one source split or one sink. It is the only owner of the
// order of acknowledgements: a source hears Committed only after the log has
// its records and position (invariant 5), a sink resumes only where its target
// says (invariant 6), and both are fenced by their transactional id (invariant 7).
package task

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forebayhub/forebay/internal/metrics"
)

// Stats are counters that a task keeps for whoever watches it.
type Stats struct {
	Records atomic.Int64    // appended, or written
	Bytes   atomic.Int64    // of their keys and values
	Lag     atomic.Int64    // sink: records in the log that are not committed to the target
	Dead    atomic.Int64    // records in its dead letters; -1: it keeps none
	Ready   atomic.Bool     // open and at work
	oldest  atomic.Int64    // sink: time of the oldest record that it holds uncommitted, in milliseconds; 0: none
	Commits metrics.Latency // of a source's transactions of the log, of a sink's commits to its target

	stuck atomic.Pointer[Stuck] // sink

	mu     sync.Mutex
	topics map[string]*topicStats
	rest   metrics.Latency // of the topics beyond the first told
	behind time.Duration   // source: how old the newest record was when it was committed
	at     time.Time       // of that commit
}

// Stuck is that a sink cannot read partitions of the log.
type Stuck struct {
	Text  string
	Since time.Time
}

// Stuck says what a sink that runs cannot read; nil: nothing is known to be so.
func (s *Stats) Stuck() *Stuck { return s.stuck.Load() }

// topicStats are what a task tells of one topic.
type topicStats struct {
	latency *metrics.Latency
	active  atomic.Bool // records have gone through since ForgetTopics
}

// quiet is after how long a source from which nothing comes counts as read to its end.
const quiet = 10 * time.Second

// Behind is how far the task is behind. A sink: the age of the oldest record that it holds uncommitted. A source: the age that the newest
// record had when it was committed to the log; 0 once nothing has come for a while.
func (s *Stats) Behind(now time.Time) time.Duration {
	if at := s.oldest.Load(); at > 0 {
		return max(0, now.Sub(time.UnixMilli(at)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.at) > quiet {
		return 0
	}
	return s.behind
}

// caught notes that a source has committed records of which the newest is as old as behind.
func (s *Stats) caught(now time.Time, behind time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind, s.at = max(0, behind), now
}

// told is the most topics of a connector whose latency is told apart: each has some twenty lines in the metrics.
const told = 100

// topic is what is counted of a topic.
func (s *Stats) topic(name string) *topicStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.topics == nil {
		s.topics = map[string]*topicStats{}
	}
	if s.topics[name] == nil {
		t := &topicStats{latency: &s.rest}
		if len(s.topics) < told {
			t.latency = &metrics.Latency{}
		}
		s.topics[name] = t
	}
	return s.topics[name]
}

// Latency calls fn with each topic's times from a record's coming to be at its source (connectors.Record.SourceTime) to its commit, of the
// oldest record in each commit. Those beyond the first hundred come together, as topic "".
func (s *Stats) Latency(fn func(topic string, l *metrics.Latency)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.topics)) {
		if l := s.topics[name].latency; l != &s.rest && l.Count() > 0 {
			fn(name, l)
		}
	}
	if s.rest.Count() > 0 {
		fn("", &s.rest)
	}
}

// Topics are those that records were appended to, or written from, since ForgetTopics. KIP-558 calls them active.
func (s *Stats) Topics() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{}
	for name, topic := range s.topics {
		if topic.active.Load() {
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
	for _, topic := range s.topics {
		topic.active.Store(false)
	}
}
