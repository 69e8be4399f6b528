package server

import (
	"container/list"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Fetch sessions (KIP-227): a consumer of many partitions names them once;
// after that a request carries only what it changes, and a response only what
// changed for it. The cache is bounded in sessions and in partitions
// (invariant 9); a client that finds no room fetches without one.

// Session epochs with a meaning of their own.
const (
	sessionInitial = 0  // full fetch, and make a session
	sessionNone    = -1 // full fetch, and close the session
)

const (
	// maxSessionParts bounds the partitions of all sessions together, about 40 MB.
	maxSessionParts = 256 << 10
	// sessionRest is how long a session must be unused before a new one may take
	// its place. Like min.incremental.fetch.session.eviction.ms.
	sessionRest = 2 * time.Minute
)

// fetchSessions is the cache.
type fetchSessions struct {
	slots int // negative: no sessions

	mu    sync.Mutex
	byID  map[int32]*fetchSession
	order list.List // the longest unused one first
	parts int       // of all sessions
}

// fetchSession is one client's. Its fields beyond the cache's own belong to the
// request that has it: begin hands it out to one at a time.
type fetchSession struct {
	cache *fetchSessions
	id    int32
	byID  bool // topics are named by id

	// Under the cache's lock:
	epoch int32
	used  time.Time
	at    *list.Element
	busy  bool
	size  int // partitions, as counted in the cache

	parts map[fetchKey]*sessionPart
	turn  []*sessionPart // the order in which partitions are read: those that gave data go last
	full  bool           // this response tells of all partitions
}

// sessionPart is a partition of a session and what its client was told of it.
type sessionPart struct {
	want      fetchTarget
	watermark int64 // -1: nothing told
	logStart  int64
	gone      bool
}

func newFetchSessions(slots int) *fetchSessions {
	return &fetchSessions{slots: slots, byID: map[int32]*fetchSession{}}
}

// begin finds or makes the session that f asks for and sets f.parts. Nil is a
// fetch without a session; a code refuses the fetch.
func (c *fetchSessions) begin(f *fetching) (*fetchSession, int16) {
	if f.epoch == sessionInitial || f.epoch == sessionNone {
		return c.beginFull(f), 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.byID[f.sessionID]
	if s == nil {
		return nil, kerr.FetchSessionIDNotFound.Code
	}
	// One that is busy has this epoch's request already: the client has given it up.
	if s.busy || s.epoch != f.epoch {
		return nil, kerr.InvalidFetchSessionEpoch.Code
	}
	if s.byID != (f.h.Version >= 13) {
		return nil, kerr.FetchSessionTopicIDError.Code
	}
	s.change(f)
	c.parts += len(s.parts) - s.size
	s.size = len(s.parts)
	if c.parts > maxSessionParts {
		c.dropLocked(s)
		return nil, kerr.FetchSessionIDNotFound.Code
	}
	s.epoch = nextEpoch(s.epoch)
	s.used, s.busy, s.full = time.Now(), true, false
	c.order.MoveToBack(s.at)
	for _, p := range s.turn {
		f.parts = append(f.parts, fetchPart{want: p.want, cached: p})
	}
	return s, 0
}

// beginFull starts over: what session there was is closed.
func (c *fetchSessions) beginFull(f *fetching) *fetchSession {
	f.once()
	for _, t := range f.targets {
		f.parts = append(f.parts, fetchPart{want: t})
	}
	if f.sessionID != 0 {
		c.mu.Lock()
		if s := c.byID[f.sessionID]; s != nil {
			c.dropLocked(s)
		}
		c.mu.Unlock()
	}
	if f.epoch == sessionNone || f.h.Version < 7 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.roomLocked(len(f.targets)) {
		return nil
	}
	s := &fetchSession{cache: c, byID: f.h.Version >= 13, epoch: 1, used: time.Now(), busy: true, full: true,
		parts: make(map[fetchKey]*sessionPart, len(f.targets))}
	for s.id == 0 || c.byID[s.id] != nil {
		s.id = rand.Int32()
	}
	for i := range f.parts {
		part := &f.parts[i]
		part.cached = s.add(part.want)
	}
	s.size = len(s.parts)
	c.parts += s.size
	c.byID[s.id] = s
	s.at = c.order.PushBack(s)
	return s
}

// roomLocked says whether a session of n partitions fits, after closing one that rests if need be.
func (c *fetchSessions) roomLocked(n int) bool {
	fits := func() bool { return len(c.byID) < c.slots && c.parts+n <= maxSessionParts }
	for !fits() {
		oldest := c.order.Front()
		if oldest == nil {
			return false
		}
		s := oldest.Value.(*fetchSession)
		if s.busy || time.Since(s.used) < sessionRest {
			return false
		}
		c.dropLocked(s)
	}
	return true
}

func (c *fetchSessions) dropLocked(s *fetchSession) {
	delete(c.byID, s.id)
	c.order.Remove(s.at)
	c.parts -= s.size
	s.size = 0
}

func nextEpoch(e int32) int32 {
	if e == 1<<31-1 {
		return 1
	}
	return e + 1
}

func (s *fetchSession) add(want fetchTarget) *sessionPart {
	if p := s.parts[want.fetchKey]; p != nil {
		p.want = want
		return p
	}
	p := &sessionPart{want: want, watermark: -1, logStart: -1}
	s.parts[want.fetchKey] = p
	s.turn = append(s.turn, p)
	return p
}

// change takes over what a request adds, moves and forgets.
func (s *fetchSession) change(f *fetching) {
	for _, t := range f.targets {
		s.add(t)
	}
	if len(f.forgotten) == 0 {
		return
	}
	for _, k := range f.forgotten {
		if p := s.parts[k]; p != nil {
			p.gone = true
			delete(s.parts, k)
		}
	}
	kept := s.turn[:0]
	for _, p := range s.turn {
		if !p.gone {
			kept = append(kept, p)
		}
	}
	clear(s.turn[len(kept):])
	s.turn = kept
}

// settle marks what the response tells, remembers it, and puts partitions that
// gave data at the end of the next turn, so that a busy one cannot starve the others.
func (s *fetchSession) settle(f *fetching) (id int32) {
	gave := 0
	for i := range f.parts {
		part := &f.parts[i]
		p, res := part.cached, &part.res
		part.tell = s.full || part.err != nil || res.Slice.Len > 0 || res.Diverging != nil || res.Elsewhere ||
			res.HighWatermark != p.watermark || res.LogStart != p.logStart
		if part.err != nil {
			p.watermark, p.logStart = -1, -1 // tell again once it is well
		} else {
			p.watermark, p.logStart = res.HighWatermark, res.LogStart
		}
		if res.Slice.Len > 0 {
			gave++
		}
	}
	if gave > 0 && gave < len(f.parts) {
		s.turn = s.turn[:0]
		for _, data := range []bool{false, true} {
			for i := range f.parts {
				if part := &f.parts[i]; (part.res.Slice.Len > 0) == data && !part.cached.gone {
					s.turn = append(s.turn, part.cached)
				}
			}
		}
	}
	return s.id
}

// spared is the id that a throttled response has. A client whose first request of a session is throttled
// begins another (KIP-219), so that there is none to keep.
func (s *fetchSession) spared() int32 {
	if !s.full {
		return s.id
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.cache.dropLocked(s)
	return 0
}

// end gives the session back to the cache.
func (s *fetchSession) end() {
	s.cache.mu.Lock()
	s.busy = false
	s.used = time.Now()
	s.cache.mu.Unlock()
}
