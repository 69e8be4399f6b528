package quota

import (
	"testing"
	"time"
)

// Whoever waits for as long as Over says keeps the rate, in whatever pieces; whoever uses less never waits.
func TestMeterKeepsItsRate(t *testing.T) {
	for _, bound := range []float64{1, 1000, 1 << 20} {
		for _, piece := range []float64{bound / 3, 40 * bound} {
			m := NewMeter(Window{Samples: 2, Size: time.Second})
			now := time.Unix(1_700_000_000, 0)
			began, used := now, 0.0
			for now.Sub(began) < time.Hour {
				if wait := m.Over(bound, now); wait > 0 {
					now = now.Add(wait)
					continue
				}
				m.Record(bound, piece, false, now)
				used += piece
				now = now.Add(time.Millisecond)
			}
			if got := used / now.Sub(began).Seconds(); got > bound*1.02 || got < bound*0.98 {
				t.Errorf("a rate of %.0f was %.0f, in pieces of %.0f", bound, got, piece)
			}
		}
		m, now := NewMeter(Window{}), time.Unix(1_700_000_000, 0)
		for range 1000 {
			if wait := m.Over(bound, now); wait > 0 {
				t.Fatalf("below %.0f, and to wait %v", bound, wait)
			}
			m.Record(bound, bound/4, false, now)
			now = now.Add(time.Second / 2)
		}
	}
	// Nothing at all: the first use passes, as in Kafka, and then no more until the bound is another.
	m, now := NewMeter(Window{}), time.Unix(1_700_000_000, 0)
	if m.Over(0, now) != 0 {
		t.Error("nothing was used")
	}
	m.Record(0, 1, false, now)
	if m.Over(0, now.Add(time.Hour)) <= 0 {
		t.Error("more than nothing was used")
	}
	if m.Over(1, now.Add(time.Hour+2*time.Second)) != 0 {
		t.Error("one is allowed now")
	}
	// Those who do not wait leave no more than a window's debt, and forgive none.
	m = NewMeter(Window{Samples: 5, Size: time.Second})
	for range 100 {
		m.Record(10, 1000, true, now)
	}
	if wait := m.Over(10, now); wait != 5*time.Second {
		t.Errorf("%v to wait after who did not", wait)
	}
	m.Record(10, 1000, false, now)
	m.Record(10, 1000, true, now)
	if wait := m.Over(10, now); wait != 105*time.Second {
		t.Errorf("%v to wait after both", wait)
	}
	if m.Reset(); m.Over(10, now) != 0 {
		t.Error("what was forgotten is waited for")
	}
}
