package quota

import (
	"testing"
	"time"
)

// Whoever waits for as long as Over says keeps the rate, and whoever uses less never waits.
func TestMeterKeepsItsRate(t *testing.T) {
	for _, bound := range []float64{1, 1000, 1 << 20} {
		m := NewMeter(Window{})
		now := time.Unix(1_700_000_000, 0)
		began, used := now, 0.0
		for now.Sub(began) < 5*time.Minute {
			if wait := m.Over(bound, now); wait > 0 {
				now = now.Add(wait)
				continue
			}
			m.Record(bound/3, now)
			used += bound / 3
			now = now.Add(time.Millisecond)
		}
		if got := used / now.Sub(began).Seconds(); got > bound*1.1 || got < bound*0.9 {
			t.Errorf("a rate of %.0f was %.0f", bound, got)
		}
		m = NewMeter(Window{})
		for range 1000 {
			if wait := m.Over(bound, now); wait > 0 {
				t.Fatalf("below %.0f, and to wait %v", bound, wait)
			}
			m.Record(bound/4, now)
			now = now.Add(time.Second / 2)
		}
	}
	// Nothing at all: the first use passes, as in Kafka, and then no more until it is forgotten.
	m, now := NewMeter(Window{}), time.Unix(1_700_000_000, 0)
	if m.Over(0, now) != 0 {
		t.Error("nothing was used")
	}
	m.Record(1, now)
	if m.Over(0, now.Add(5*time.Second)) <= 0 {
		t.Error("more than nothing was used")
	}
}
