package replica

import (
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

func TestThrottledReplicas(t *testing.T) {
	for _, x := range []struct {
		list string
		here []int32
	}{
		{"", nil}, {" ", nil}, {"0:1", []int32{0}}, {"0:2", nil}, {"0:1,1:2,3:1", []int32{0, 3}}, {"0:11,1:1", []int32{1}}, {"0:2, 2:1", []int32{2}}, {"*", []int32{0, 1, 2, 3}},
	} {
		here := parseThrottled(x.list, 1)
		for n := range int32(4) {
			want := false
			for _, k := range x.here {
				want = want || k == n
			}
			if here.has(n) != want {
				t.Errorf("%q: partition %d here: %v", x.list, n, !want)
			}
		}
	}
}

func FuzzThrottledReplicas(f *testing.F) {
	f.Add("0:1,1:2")
	f.Add("*")
	f.Fuzz(func(t *testing.T, list string) {
		here := parseThrottled(list, 1)
		if len(here.numbers) > len(list) {
			t.Errorf("%d partitions of %q", len(here.numbers), list)
		}
	})
}

// TestKIP73 names who is held back: replicas of the list that are out of sync, while the rate is over what the Image says. Whoever is
// in sync goes on, and what it is sent counts.
func TestKIP73(t *testing.T) {
	h := newHouse(t, vfs.NewMemory())
	h.o.Throttling.Rates = func(i *metadata.Image) (leader, follower int64) {
		if i.BrokerConfigs["1"]["rate"] == "" {
			return NoRate, NoRate
		}
		return 1000, 1000
	}
	h.settings = func(i *metadata.Image, s *topicSettings) { s.LeaderThrottled = i.TopicConfigs["a"]["leader"] }
	h.start()
	h.create("a", 2, 1, 2)
	h.append("a", 0, "x")
	p, err := h.Partition("a", 0)
	if err != nil {
		t.Fatal(err)
	}
	rate := func(v string) {
		h.apply(&metadata.AlterConfigs{Broker: true, Name: "1", Set: map[string]string{"rate": v}})
	}
	list := func(v string) { h.apply(&metadata.AlterConfigs{Name: "a", Set: map[string]string{"leader": v}}) }
	withheld := func() bool { return h.Withholds(p, 2) }

	h.Sent(p, 2, 1<<20)
	if h.Throttles() || withheld() {
		t.Error("no rate is set")
	}
	rate("1000")
	h.Sent(p, 2, 1<<20)
	if !h.Throttles() || withheld() {
		t.Error("no replica is listed")
	}
	list("0:1")
	h.Sent(p, 2, 1<<20)
	if withheld() {
		t.Error("who is in sync is held back")
	}
	h.inSync("a", 1)
	if !withheld() {
		t.Error("who is out of sync is not held back, over the rate")
	}
	if q, _ := h.Partition("a", 1); h.Withholds(q, 2) {
		t.Error("a partition that is not listed is held back")
	}
	list("1:1,0:2")
	if withheld() {
		t.Error("the list is of another node")
	}
	list("*")
	if !withheld() {
		t.Error("all are listed")
	}
	h.now = h.now.Add(time.Hour)
	if withheld() {
		t.Error("the rate is within its bound again")
	}
	h.Sent(p, 2, 1<<20)
	if !withheld() {
		t.Error("and over it again")
	}
	rate("")
	if h.Throttles() || withheld() {
		t.Error("the rate was taken back")
	}
	rate("1000")
	if withheld() {
		t.Error("a new rate pays for what came before it")
	}
}

// TestFollowersPause: the same on the other side; who has all that may be read is to ask on, or it would never be in sync.
func TestFollowersPause(t *testing.T) {
	h := newHouse(t, vfs.NewMemory())
	h.settings = func(i *metadata.Image, s *topicSettings) { s.FollowerThrottled = i.TopicConfigs["a"]["follower"] }
	h.start()
	h.create("a", 1, 2, 1)
	h.mu.RLock()
	part := &fetched{slot: h.mu.topics["a"].slots[0]}
	h.mu.RUnlock()
	x := newFetcher(h.followers, 2)
	paused := func() bool { return x.pausedFor(part, time.Second) > 0 }
	h.inSync("a", 2)
	if paused() {
		t.Error("it is not listed")
	}
	h.apply(&metadata.AlterConfigs{Name: "a", Set: map[string]string{"follower": "0:1"}})
	if !paused() {
		t.Error("it is out of sync, listed, and over the rate")
	}
	if x.pausedFor(part, 0) > 0 {
		t.Error("the rate is within its bound")
	}
	part.caughtUp = true
	if paused() {
		t.Error("it has all that may be read")
	}
	part.caughtUp = false
	h.inSync("a", 2, 1)
	if paused() {
		t.Error("it is in sync")
	}
}
