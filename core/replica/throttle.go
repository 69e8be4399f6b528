package replica

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/quota"
)

// Throttling bounds how fast replicas that are out of sync are copied (KIP-73). The zero value bounds nothing.
type Throttling struct {
	// Rates are bytes per second, by an Image: what this node sends to throttled followers, and what it fetches as one.
	// Like leader.replication.throttled.rate and follower.replication.throttled.rate; NoRate: as fast as it goes. Nil: the same.
	Rates func(image *metadata.Image) (leader, follower int64)
	// Window is what they are taken over: replication.quota.window.num and .size.seconds.
	Window quota.Window
}

// NoRate is the rate of who is not held back.
const NoRate = math.MaxInt64

// throttle is one side of it. In-sync replicas are never held back, or they would leave the ISR; what they get of a throttled
// partition counts all the same, so that the sum keeps the rate.
type throttle struct {
	rate  atomic.Int64
	meter *quota.Meter
}

func newThrottle(w quota.Window) *throttle {
	t := &throttle{meter: quota.NewMeter(w)}
	t.rate.Store(NoRate)
	return t
}

// set bounds it anew: another rate does not pay for what was let through under the one before.
func (t *throttle) set(rate int64) {
	if t.rate.Swap(rate) != rate {
		t.meter.Reset()
	}
}

func (t *throttle) on() bool { return t.rate.Load() != NoRate }

// over is how long nothing more may go; 0: it may.
func (t *throttle) over(now time.Time) time.Duration {
	if !t.on() {
		return 0
	}
	return t.meter.Over(float64(t.rate.Load()), now)
}

func (t *throttle) record(bytes int, spared bool, now time.Time) {
	if t.on() {
		t.meter.Record(float64(t.rate.Load()), float64(bytes), spared, now)
	}
}

// throttledHere are a topic's partitions whose replica on one node is throttled.
type throttledHere struct {
	all     bool
	numbers map[int32]bool
}

// parseThrottled reads partition:node,… or *, as controller has checked it.
func parseThrottled(list string, node metadata.NodeID) (t throttledHere) {
	if list = strings.TrimSpace(list); list == "*" {
		t.all = true
		return t
	}
	for item := range strings.SplitSeq(list, ",") {
		number, id, _ := strings.Cut(strings.TrimSpace(item), ":")
		n, err := strconv.ParseInt(number, 10, 32)
		if err != nil || id != strconv.Itoa(int(node)) {
			continue
		}
		if t.numbers == nil {
			t.numbers = map[int32]bool{}
		}
		t.numbers[int32(n)] = true
	}
	return t
}

func (t *throttledHere) has(number int32) bool { return t.all || t.numbers[number] }

// Throttles says whether what this node sends to followers is bound at all.
func (s *Set) Throttles() bool { return s.leading.on() }

// Withholds says that a follower is to be sent nothing of a partition for now.
func (s *Set) Withholds(p *partition.Partition, follower metadata.NodeID) bool {
	return s.leaderThrottled(p) && !slices.Contains(p.ISR(), follower) && s.leading.over(s.o.Now()) > 0
}

// Sent notes what a follower is sent of a partition.
func (s *Set) Sent(p *partition.Partition, follower metadata.NodeID, bytes int) {
	if bytes > 0 && s.leaderThrottled(p) {
		s.leading.record(bytes, slices.Contains(p.ISR(), follower), s.o.Now())
	}
}

func (s *Set) leaderThrottled(p *partition.Partition) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h := s.mu.topics[p.Topic]
	return h != nil && h.topic.ID == p.TopicID && h.throttledLeader.has(p.Number)
}

// pausedFor is how long a follower leaves a partition out of its fetches: not at all when it is in sync, or has all that may be read.
func (x *fetcher) pausedFor(part *fetched, over time.Duration) time.Duration {
	if over == 0 || !part.slot.throttled.Load() || x.spares(part) {
		return 0
	}
	return over
}

func (x *fetcher) spares(part *fetched) bool {
	return part.caughtUp || slices.Contains(part.slot.agreed().ISR, x.f.set.o.NodeID)
}
