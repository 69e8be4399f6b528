package quota

import (
	"sync"
	"time"
)

// Meter keeps one rate that all who use it share, as replication's (KIP-73). What was used beyond it is paid for by waiting, however much it
// was at once; Kafka's rate forgets it with the window, so that a bound below the size of a response is not kept. All methods may be
// called concurrently.
type Meter struct {
	w  Window
	mu sync.Mutex
	b  bucket
}

// NewMeter makes a Meter that lets a whole window's worth pass at once.
func NewMeter(w Window) *Meter { return &Meter{w: w.withDefaults()} }

// Record notes that so much was used. What those use who do not wait (spared) counts no further than to a whole window's debt: else the others
// would wait for it long after it has ended, or after the bound was raised.
func (m *Meter) Record(bound, v float64, spared bool, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b.fill(m.w, bound, now)
	least := m.b.tokens - v
	if spared {
		least = max(least, min(m.b.tokens, -m.w.total().Seconds()*bound))
	}
	m.b.tokens = least
}

// Over is how long nothing more may be used for the rate to be within bound again; 0: it is.
func (m *Meter) Over(bound float64, now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b.fill(m.w, bound, now)
	return m.b.debt(bound)
}

// Reset forgets what was used.
func (m *Meter) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = bucket{}
}
