// Package quota measures what clients use and says how long they are to be held back (KIP-13, KIP-124, KIP-219, KIP-599, KIP-612).
// It knows rates and names, not who set a limit: the limit comes with every call.
//
// All methods of Book may be called concurrently; the lock of one client's sensor is that client's own.
package quota

import (
	"maps"
	"sync"
	"time"
)

// Kind is what is measured.
type Kind uint8

// The kinds, by the quotas that limit them.
const (
	Produce    Kind = iota // producer_byte_rate, bytes
	Fetch                  // consumer_byte_rate, bytes
	Request                // request_percentage, percent of one core
	Mutation               // controller_mutation_rate, partitions
	Connection             // connection_creation_rate, connections
)

// Key names a sensor: whose use is summed up.
type Key struct {
	Kind           Kind
	User, ClientID string // or an address in ClientID
}

// Window is the time over which a rate is taken.
type Window struct {
	Samples int           // quota.window.num, 0: 11
	Size    time.Duration // of one sample; quota.window.size.seconds, 0: 1 s
}

func (w Window) withDefaults() Window {
	if w.Samples <= 0 {
		w.Samples = 11
	}
	if w.Size <= 0 {
		w.Size = time.Second
	}
	return w
}

func (w Window) total() time.Duration { return time.Duration(w.Samples) * w.Size }

// MaxSensors bounds the sensors. Whoever comes when so many are in use shares one with all the others who do, by kind: who
// invents client ids gets no new quota with each (invariant 9).
const MaxSensors = 10_000

// Book holds the sensors. One that has nothing to say any more, because what it saw has left its window, is forgotten.
type Book struct {
	clients, mutations Window

	mu      sync.RWMutex
	sensors map[Key]*sensor
	sweepAt int       // so many sensors are looked through for idle ones
	swept   time.Time // not twice within one sample: idle ones do not come faster
}

type sensor struct {
	mu     sync.Mutex
	gone   bool
	rate   rate
	bucket bucket
}

// New makes a Book. mutations is the window of Take (controller.quota.window.*).
func New(clients, mutations Window) *Book {
	return &Book{clients: clients.withDefaults(), mutations: mutations.withDefaults(), sensors: map[Key]*sensor{}, sweepAt: 64}
}

// ClientWindow is the window of all kinds but Mutation.
func (b *Book) ClientWindow() Window { return b.clients }

// Record adds value and says how long to wait until the rate is bound per second again; 0 while it is not above.
func (b *Book) Record(k Key, bound, value float64, now time.Time) (wait time.Duration) {
	b.with(k, now, func(s *sensor) {
		s.rate.record(b.clients, value, now)
		wait = s.rate.throttle(b.clients, bound, now)
	})
	return wait
}

// Unrecord takes back what was recorded and then not done.
func (b *Book) Unrecord(k Key, value float64, now time.Time) {
	b.with(k, now, func(s *sensor) { s.rate.record(b.clients, -value, now) })
}

// Take takes permits out of a bucket that fills at bound per second, and says how long it is until the bucket
// is no longer in debt. Strict takes nothing from a bucket that is in debt already, and then ok is false; a bucket that is not
// gives any number (KIP-599).
func (b *Book) Take(k Key, bound, permits float64, strict bool, now time.Time) (wait time.Duration, ok bool) {
	b.with(k, now, func(s *sensor) {
		s.bucket.fill(b.mutations, bound, now)
		if strict {
			if wait = s.bucket.debt(bound); wait > 0 {
				return
			}
		}
		ok = true
		s.bucket.tokens -= permits
		if !strict {
			wait = s.bucket.debt(bound)
		}
	})
	return wait, ok
}

func (b *Book) with(k Key, now time.Time, do func(*sensor)) {
	for {
		s := b.sensor(k, now)
		s.mu.Lock()
		if s.gone { // forgotten between look-up and lock
			s.mu.Unlock()
			continue
		}
		do(s)
		s.mu.Unlock()
		return
	}
}

func (b *Book) sensor(k Key, now time.Time) *sensor {
	b.mu.RLock()
	s := b.sensors[k]
	b.mu.RUnlock()
	if s != nil {
		return s
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.sensors[k]; s != nil {
		return s
	}
	if len(b.sensors) >= b.sweepAt && now.Sub(b.swept) >= b.clients.Size {
		b.sweepLocked(now)
	}
	if len(b.sensors) >= MaxSensors {
		k = Key{Kind: k.Kind}
		if s := b.sensors[k]; s != nil {
			return s
		}
	}
	s = &sensor{}
	b.sensors[k] = s
	return s
}

func (b *Book) sweepLocked(now time.Time) {
	maps.DeleteFunc(b.sensors, func(k Key, s *sensor) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gone = s.rate.idle(b.clients, now)
		if k.Kind == Mutation {
			s.gone = s.bucket.full(b.mutations, now)
		}
		return s.gone
	})
	b.swept = now
	b.sweepAt = min(max(64, 2*len(b.sensors)), MaxSensors)
}
