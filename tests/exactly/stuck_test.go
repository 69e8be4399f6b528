//go:build synctests

package exactly

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/task"
	"github.com/forebayhub/forebay/runtime/worker"
)

// stage is a world to which nothing befalls but what a test does: one worker, a source with two topics of two partitions and, if sinks is 1, a sink.
func stage(t *testing.T, sinks int, play func(w *World, r *rand.Rand)) {
	synctest.Test(t, func(t *testing.T) {
		w, r := newWorld(1), rand.New(rand.NewPCG(1, 1))
		w.knobs = knobs{latency: 20 * time.Millisecond, bump: true, parts: 2, splits: 1, sources: 1, sinks: sinks, workers: 1, rows: 200, pace: 100 * time.Millisecond}
		w.populate(r)
		play(w, r)
		w.awaitAll()
		w.end()
		for _, v := range w.violations {
			t.Error(v)
		}
		if t.Failed() {
			t.Log(strings.Join(w.trace, "\n"))
		}
	})
}

// sink is what the worker says of it.
func (w *World) sink() worker.Status {
	for _, s := range w.latest("w1").crew.Status() {
		if s.Sink {
			return s
		}
	}
	return worker.Status{}
}

// opened is how many tasks the sink has had.
func (w *World) opened() int {
	g := w.targets["store1"]
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tasks
}

// lies is how many rows a partition has, and how many of them are not in the target.
func (w *World) lies(where place) (all, left int) {
	g := w.targets["store1"]
	g.mu.Lock()
	next := int64(0)
	if h := g.parts[connectors.TopicPartition{Topic: where.topic, Partition: where.part}]; h != nil {
		next = h.next
	}
	g.mu.Unlock()
	for _, e := range w.log.committed(where) {
		if all++; e.offset >= next {
			left++
		}
	}
	return all, left
}

// refused is how many fetches have met damage.
func (w *World) refused() int {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	return w.log.refused
}

var (
	hurt  = place{"src1.a", 0}
	sound = []place{{"src1.a", 1}, {"src1.b", 1}} // no key comes to the fourth
)

// others says that everything is in the target but what is in the partition that is hurt.
func (w *World) others(t *testing.T) {
	t.Helper()
	for _, where := range sound {
		if all, left := w.lies(where); left > 0 || all == 0 {
			t.Errorf("%d of %d rows of %v are not in the target", left, all, where)
		}
	}
	if s := w.sink(); s.State != worker.Running {
		t.Errorf("%+v", s)
	}
}

// A batch is damaged in the middle of a topic. Nobody is told by the reading itself: the client asks again for ever.
func TestAPartitionIsDamaged(t *testing.T) {
	stage(t, 1, func(w *World, _ *rand.Rand) {
		time.Sleep(5 * time.Second)
		w.log.damage(hurt)
		w.growing.Wait()
		time.Sleep(45 * time.Second)
		w.others(t)
		_, left := w.lies(hurt)
		s := w.sink()
		if !strings.HasPrefix(s.Error, "src1.a-0 at offset ") || !strings.Contains(s.Error, "CORRUPT_MESSAGE") || s.Lag < int64(left) || left == 0 || s.Behind < 20*time.Second {
			t.Errorf("%d rows lie there: %+v", left, s)
		}
		before := w.refused()
		time.Sleep(time.Minute)
		if n := w.refused() - before; n < 5 || n > 7 {
			t.Errorf("it is asked for %d times in a minute", n)
		}
		w.log.heal(hurt)
		time.Sleep(15 * time.Second)
		if s := w.sink(); s.Error != "" || s.Lag != 0 || !s.Ailing.IsZero() || w.opened() != 1 {
			t.Errorf("%d tasks; %+v", w.opened(), s)
		}
	})
}

// No node leads a partition. That is said though nothing is known to lie there, and it is so for no longer than it is true.
func TestAPartitionLosesItsLeader(t *testing.T) {
	stage(t, 1, func(w *World, _ *rand.Rand) {
		w.growing.Wait()
		time.Sleep(5 * time.Second)
		w.log.behead(hurt)
		time.Sleep(9 * time.Second) // an election takes less
		if s := w.sink(); s.Error != "" {
			t.Errorf("%+v", s)
		}
		time.Sleep(36 * time.Second)
		if s := w.sink(); !strings.HasPrefix(s.Error, "src1.a-0 at offset ") || !strings.Contains(s.Error, "LEADER_NOT_AVAILABLE") {
			t.Errorf("%+v", s)
		}
		w.log.heal(hurt)
		time.Sleep(15 * time.Second)
		if s := w.sink(); s.Error != "" || w.opened() != 1 {
			t.Errorf("%d tasks; %+v", w.opened(), s)
		}
	})
}

// A sink that starts while no node leads one of its partitions writes the others, and takes that one on when it can.
func TestASinkStartsWhileAPartitionHasNoLeader(t *testing.T) {
	stage(t, 0, func(w *World, r *rand.Rand) {
		w.growing.Wait()
		time.Sleep(5 * time.Second)
		w.log.behead(hurt)
		w.targets["store1"] = newTarget(w, "store1")
		w.knobs.sinks = 1
		w.declare(r, "")
		time.Sleep(45 * time.Second)
		w.others(t)
		if s := w.sink(); !strings.HasPrefix(s.Error, "src1.a-0 cannot be read: LEADER_NOT_AVAILABLE") {
			t.Errorf("%+v", s)
		}
		w.log.heal(hurt)
		time.Sleep(5 * time.Second)
		if all, left := w.lies(hurt); left > 0 || all == 0 || w.opened() != 1 {
			t.Errorf("%d of %d rows are left, and there were %d tasks", left, all, w.opened())
		}
	})
}

// A topic that no node leads comes up beside those that a sink reads: it goes on as if nothing had been.
func TestATopicWithoutALeaderComesUp(t *testing.T) {
	stage(t, 1, func(w *World, _ *rand.Rand) {
		time.Sleep(5 * time.Second)
		w.log.behead(place{"src1.c", 0})
		w.log.create("src1.c", 1)
		w.growing.Wait()
		time.Sleep(45 * time.Second)
		w.others(t)
		if s := w.sink(); !strings.HasPrefix(s.Error, "src1.c-0 cannot be read") || w.opened() != 1 {
			t.Errorf("%d tasks; %+v", w.opened(), s)
		}
		w.log.heal(place{"src1.c", 0})
	})
}

// The group that only people look at has no coordinator: nothing that the sink needs is late for that.
func TestTheLagGroupHasNoCoordinator(t *testing.T) {
	stage(t, 1, func(w *World, _ *rand.Rand) {
		w.log.silence(task.LagGroup("store1"))
		most := 0
		for range 30 {
			time.Sleep(time.Second)
			late := 0
			for _, where := range append(sound, hurt) {
				_, left := w.lies(where)
				late += left
			}
			most = max(most, late)
		}
		if most > 100 {
			t.Errorf("up to %d rows were late", most)
		}
	})
}
