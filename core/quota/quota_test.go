package quota

import (
	"math"
	"strconv"
	"sync"
	"testing"
	"time"
)

var (
	start = time.Unix(1_000_000, 0)
	alice = Key{Produce, "alice", ""}
)

func TestRateAsKafkaReckonsIt(t *testing.T) {
	b := New(Window{}, Window{})
	// The first value is one of a window of which ten samples were empty: 10 s (Rate.windowSize).
	if w := b.Record(alice, 100, 1000, start); w != 0 {
		t.Errorf("1000 in 10 s at 100/s waits %v", w)
	}
	// 1500 in 10 s is 150/s: (150-100)/100 × 10 s.
	if w := b.Record(alice, 100, 500, start); w != 5*time.Second {
		t.Errorf("1500 at 100/s waits %v, want 5s", w)
	}
	if w := b.Record(Key{Fetch, "alice", ""}, 100, 500, start); w != 0 {
		t.Errorf("another kind is summed up apart; it waits %v", w)
	}
	if w := b.Record(Key{Produce, "bob", ""}, 100, 500, start); w != 0 {
		t.Errorf("another user is summed up apart; he waits %v", w)
	}
	// What is taken back has not been.
	b.Unrecord(alice, 500, start)
	if w := b.Record(alice, 100, 0, start); w != 0 {
		t.Errorf("after taking back it waits %v", w)
	}
	// A raised quota counts at once.
	b.Record(alice, 100, 500, start)
	if w := b.Record(alice, 150, 0, start); w != 0 {
		t.Errorf("with the quota raised it waits %v", w)
	}
	// Everything leaves the window.
	if w := b.Record(alice, 100, 900, start.Add(12*time.Second)); w != 0 {
		t.Errorf("in an empty window it waits %v", w)
	}
}

// A client that always waits as it is told reaches its quota and no more, whatever the size of its requests.
func TestRateOfAnObedientClient(t *testing.T) {
	for _, size := range []float64{10, 333, 5_000} {
		b := New(Window{}, Window{})
		const bound = 1000.0
		now, sent := start, 0.0
		for now.Sub(start) < 5*time.Minute {
			sent += size
			now = now.Add(b.Record(alice, bound, size, now) + time.Millisecond)
		}
		if got := sent / now.Sub(start).Seconds(); math.Abs(got-bound) > bound/10 {
			t.Errorf("requests of %v: %v per second, want %v ± 10%%", size, got, bound)
		}
	}
}

func TestBucketKIP599(t *testing.T) {
	b, k := New(Window{}, Window{Samples: 10, Size: time.Second}), Key{Mutation, "u", "c"}
	take := func(at time.Duration, n float64, strict bool) (time.Duration, bool) {
		return b.Take(k, 5, n, strict, start.Add(at))
	}
	// It begins with a window's worth, 50, and a bucket that is not in debt gives any number.
	if w, ok := take(0, 60, true); w != 0 || !ok {
		t.Errorf("60 of 50: %v %v", w, ok)
	}
	// In debt by 10, at 5/s: two seconds; strict takes nothing until then.
	if w, ok := take(0, 1, true); w != 2*time.Second || ok {
		t.Errorf("in debt: %v %v", w, ok)
	}
	if w, ok := take(time.Second, 1, true); w != time.Second || ok {
		t.Errorf("a second later: %v %v", w, ok)
	}
	// Permissive takes all the same, and says what it costs.
	if w, ok := take(time.Second, 5, false); w != 2*time.Second || !ok {
		t.Errorf("permissive: %v %v", w, ok)
	}
	if w, ok := take(3*time.Second, 1, true); w != 0 || !ok {
		t.Errorf("out of debt: %v %v", w, ok)
	}
}

func TestIdleSensorsAreForgotten(t *testing.T) {
	b := New(Window{}, Window{})
	for n := range 5_000 {
		k := Key{Produce, "", strconv.Itoa(n)}
		b.Record(k, 1, 1, start)
		k.Kind = Mutation
		b.Take(k, 1, 1, true, start)
	}
	if len(b.sensors) != 10_000 {
		t.Fatalf("%d sensors", len(b.sensors))
	}
	later := start.Add(12 * time.Second)
	b.Record(Key{Produce, "", "new"}, 1, 1, later)
	if len(b.sensors) != 1 {
		t.Errorf("%d sensors after all have been idle for a window", len(b.sensors))
	}
}

func TestSensorsAreBounded(t *testing.T) {
	b := New(Window{}, Window{})
	for n := range 3 * MaxSensors {
		b.Record(Key{Produce, "", strconv.Itoa(n)}, 1, 1, start)
	}
	if len(b.sensors) > MaxSensors+1 {
		t.Errorf("%d sensors", len(b.sensors))
	}
	// Who comes beyond shares a sensor with those who do, and has its own one once there is room.
	if w := b.Record(Key{Produce, "", "one more"}, 1, 1, start); w == 0 {
		t.Error("a new name has a new quota, beyond the bound")
	}
	if w := b.Record(Key{Produce, "", "one more"}, 1, 1, start.Add(time.Minute)); w != 0 {
		t.Errorf("it waits %v when all others are idle", w)
	}
}

func TestBookConcurrently(t *testing.T) {
	b := New(Window{Samples: 2, Size: time.Millisecond}, Window{})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for n := range 2_000 {
				b.Record(Key{Produce, "", strconv.Itoa(n % 200)}, 1e12, 1, start.Add(time.Duration(n+g)*time.Millisecond))
			}
		})
	}
	all.Wait()
}
