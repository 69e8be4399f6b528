package quota

import (
	"sync"
	"time"
)

// Meter is one rate that all who use it share, as replication's (KIP-73). All methods may be called concurrently.
type Meter struct {
	w  Window
	mu sync.Mutex
	r  rate
}

// NewMeter makes a Meter.
func NewMeter(w Window) *Meter { return &Meter{w: w.withDefaults()} }

// Record notes that so much was used.
func (m *Meter) Record(v float64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.r.record(m.w, v, now)
}

// Over is how long nothing more may be used for the rate to be within bound again; 0: it is.
func (m *Meter) Over(bound float64, now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.r.throttle(m.w, bound, now)
}
