package quota

import (
	"math"
	"time"
)

// rate sums up in samples, as Kafka's Rate over SampledStat does: the newest sample is partly over, the oldest may
// overlap the beginning of the window.
type rate struct {
	samples []sample // at most one more than the window has
	current int
}

type sample struct {
	start, last time.Time // of the sample, and of the last value in it
	sum         float64
}

func (r *rate) record(w Window, v float64, now time.Time) {
	if len(r.samples) == 0 {
		r.samples = append(r.samples, sample{start: now, last: now})
	}
	s := &r.samples[r.current]
	if now.Sub(s.start) >= w.Size {
		r.current = (r.current + 1) % (w.Samples + 1)
		if r.current == len(r.samples) {
			r.samples = append(r.samples, sample{})
		}
		s = &r.samples[r.current]
		*s = sample{start: now}
	}
	s.sum += v
	s.last = now
}

// throttle is how long nothing may come for the rate to be bound again.
func (r *rate) throttle(w Window, bound float64, now time.Time) time.Duration {
	per := r.span(w, now)
	sum := 0.0
	for i := range r.samples {
		sum += r.samples[i].sum
	}
	value := sum / per.Seconds()
	if value <= bound {
		return 0
	}
	return milliseconds((value - bound) / bound * float64(per.Milliseconds()))
}

// span is the time that the sum is of. With less than a window's worth of samples the missing ones count as
// empty: a first request would make an endless rate otherwise.
func (r *rate) span(w Window, now time.Time) time.Duration {
	oldest := now
	for i := range r.samples {
		s := &r.samples[i]
		if now.Sub(s.last) >= w.total() {
			*s = sample{start: now, last: now}
		}
		if s.start.Before(oldest) {
			oldest = s.start
		}
	}
	elapsed := now.Sub(oldest)
	if missing := w.Samples - 1 - int(elapsed/w.Size); missing > 0 {
		elapsed += time.Duration(missing) * w.Size
	}
	return max(elapsed, time.Millisecond)
}

// idle says that every value has left the window: a rate that is made anew says the same.
func (r *rate) idle(w Window, now time.Time) bool {
	for i := range r.samples {
		if now.Sub(r.samples[i].last) < w.total() {
			return false
		}
	}
	return true
}

// bucket holds tokens, as Kafka's TokenBucket: at most a whole window's. It begins full.
type bucket struct {
	tokens, bound float64
	at            time.Time
}

func (b *bucket) fill(w Window, bound float64, now time.Time) {
	most := w.total().Seconds() * bound
	if b.at.IsZero() {
		b.tokens = most
	} else {
		b.tokens += bound * now.Sub(b.at).Seconds()
	}
	b.tokens = min(most, b.tokens)
	b.at, b.bound = now, bound
}

func (b *bucket) full(w Window, now time.Time) bool {
	return b.tokens+b.bound*now.Sub(b.at).Seconds() >= w.total().Seconds()*b.bound
}

// debt is how long the bucket takes to be out of debt.
func (b *bucket) debt(bound float64) time.Duration {
	if b.tokens >= 0 {
		return 0
	}
	return milliseconds(-b.tokens / bound * 1000)
}

// milliseconds rounds to whole ones, which is what a client is told; at most what it can be told.
func milliseconds(ms float64) time.Duration {
	return time.Duration(min(math.Round(ms), math.MaxInt32)) * time.Millisecond
}
