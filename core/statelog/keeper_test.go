package statelog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/statelog"
	"github.com/forebayhub/forebay/core/statelog/statelogtest"
)

// counter is a State that notes what it was told.
type counter struct {
	mu    sync.Mutex
	seen  []string
	fails int
}

func (c *counter) Replay(b statelog.Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails > 0 {
		c.fails--
		return errors.New("unreadable")
	}
	for _, r := range b.Records {
		c.seen = append(c.seen, fmt.Sprintf("%d:%s", r.Offset, r.Key))
	}
	return nil
}
func (c *counter) Loaded()   { c.note("loaded") }
func (c *counter) Resigned() { c.note("resigned") }
func (c *counter) note(s string) {
	c.mu.Lock()
	c.seen = append(c.seen, s)
	c.mu.Unlock()
}

type house struct {
	log   *statelogtest.Memory
	state *counter
	lead  func(int32, bool, int32)
	here  bool
	k     *statelog.Keeper
}

func testKeeper(t *testing.T, fn func(t *testing.T, h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &house{log: &statelogtest.Memory{}, state: &counter{}, here: true}
		h.k, h.lead = keep(t, statelog.Options{
			Open:     func(int32) (statelog.Store, error) { return h.log, nil },
			Placed:   func(int32) (int32, bool) { return 1, h.here },
			NewState: func(*statelog.Shard) statelog.State { return h.state },
		})
		fn(t, h)
	})
}

// keep runs a Keeper until the bubble ends. lead tells it what this node leads.
func keep(t *testing.T, o statelog.Options) (k *statelog.Keeper, lead func(int32, bool, int32)) {
	t.Helper()
	o.Topic, o.Follow = "t", func(fn func(int32, bool, int32)) { lead = fn }
	k = statelog.NewKeeper(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = k.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return k, lead
}

func rec(key string) []statelog.Record { return []statelog.Record{{Key: []byte(key)}} }

// What no follower could take is not written.
func TestBatchThatIsTooLarge(t *testing.T) {
	testKeeper(t, func(t *testing.T, h *house) {
		h.lead(0, true, 1)
		s, err := h.k.Lock(context.Background(), "x")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Mu.Unlock()
		large := []statelog.Record{{Key: []byte("k"), Value: make([]byte, 64<<20)}}
		if err := s.Append(statelog.NoProducer, large, func(int64, error) { t.Error("applied") }); !errors.Is(err, commitlog.ErrTooLarge) {
			t.Errorf("64 MiB: %v", err)
		}
	})
}

// What may pass is no end of a client.
func TestCodes(t *testing.T) {
	for err, want := range map[error]*kerr.Error{
		commitlog.ErrTooLarge: kerr.UnknownServerError, commitlog.ErrNoFiles: kerr.CoordinatorNotAvailable, commitlog.ErrDiskFull: kerr.CoordinatorNotAvailable,
		partition.ErrNotEnough: kerr.CoordinatorNotAvailable, partition.ErrUnknownEpoch: kerr.NotCoordinator, partition.ErrFencedEpoch: kerr.NotCoordinator,
		commitlog.ErrFailed: kerr.NotCoordinator, commitlog.ErrInvalidTxnState: kerr.InvalidTxnState,
	} {
		if code := statelog.Code(fmt.Errorf("append: %w", err)); code != want.Code {
			t.Errorf("%v is told as %v, want %v", err, kerr.ErrorForCode(code), want)
		}
	}
}

// Applied in the order of the log, though acknowledged all at once and late.
func TestAppliesInOrder(t *testing.T) {
	testKeeper(t, func(t *testing.T, h *house) {
		h.lead(0, true, 1)
		s, err := h.k.Lock(context.Background(), "x")
		if err != nil {
			t.Fatal(err)
		}
		h.log.Hold()
		var got []int64
		for i := range 5 {
			if err := s.Append(statelog.NoProducer, append(rec("a"), rec("b")...), func(at int64, err error) {
				if err != nil {
					t.Error(err)
				}
				got = append(got, at)
			}); err != nil {
				t.Fatal(i, err)
			}
		}
		s.Mu.Unlock()
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("applied before the acknowledgement")
		}
		h.log.Release()
		synctest.Wait()
		s.Mu.Lock()
		defer s.Mu.Unlock()
		if fmt.Sprint(got) != "[1 3 5 7 9]" {
			t.Fatal(got)
		}
	})
}

// Nobody is served before everything that is there has been acknowledged and replayed.
func TestServesNothingBeforeReplay(t *testing.T) {
	testKeeper(t, func(t *testing.T, h *house) {
		b, err := statelog.EncodeBatch(0, statelog.NoProducer, rec("old")...)
		if err != nil {
			t.Fatal(err)
		}
		h.log.Hold()
		if _, err := h.log.Append(b, 0, commitlog.Guard{}); err != nil {
			t.Fatal(err)
		}
		h.lead(0, true, 1)
		if _, err := h.k.Lock(context.Background(), "x"); !errors.Is(err, statelog.ErrLoading) {
			t.Fatal(err)
		}
		h.log.Release()
		s, err := h.k.Lock(context.Background(), "x")
		if err != nil {
			t.Fatal(err)
		}
		s.Mu.Unlock()
		if got := fmt.Sprint(h.state.seen); got != "[0:old loaded]" {
			t.Fatal(got)
		}
		h.lead(0, true, 1) // the same once more changes nothing
		h.lead(0, false, 2)
		synctest.Wait()
		h.here = false
		if _, err := h.k.Lock(context.Background(), "x"); !errors.Is(err, statelog.ErrNotCoordinator) {
			t.Fatal(err)
		}
		if got := fmt.Sprint(h.state.seen); got != "[0:old loaded resigned]" {
			t.Fatal(got)
		}
	})
}

func TestLoadIsTriedAgain(t *testing.T) {
	testKeeper(t, func(t *testing.T, h *house) {
		b, err := statelog.EncodeBatch(0, statelog.NoProducer, rec("old")...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.log.Append(b, 0, commitlog.Guard{}); err != nil {
			t.Fatal(err)
		}
		h.state.fails = 2
		began := time.Now()
		h.lead(0, true, 1)
		var s *statelog.Shard
		for s == nil {
			if s, err = h.k.Lock(context.Background(), "x"); err != nil && !errors.Is(err, statelog.ErrLoading) {
				t.Fatal(err)
			}
		}
		s.Mu.Unlock()
		if d := time.Since(began); d != 300*time.Millisecond {
			t.Fatalf("took %v", d)
		}
	})
}

// fewReplicas is a Store whose records are not acknowledged until a time, for want of in-sync replicas.
type fewReplicas struct {
	*statelogtest.Memory
	until time.Time
}

func (f *fewReplicas) WhenAcked(offset int64, epoch int32, done func(error)) func() {
	if time.Now().Before(f.until) {
		done(partition.ErrNotEnoughAfter)
		return func() {}
	}
	return f.Memory.WhenAcked(offset, epoch, done)
}

// TestLoadGoesOnWithTheISR: a coordinator is there again a second after enough replicas are, however long they were not, and no partition waits for another one's replicas.
func TestLoadGoesOnWithTheISR(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const whole, partitions = 9, 10 // more wait for their replicas than are read at a time
		back := time.Now().Add(40 * time.Second)
		logs := map[int32]*fewReplicas{}
		for n := range int32(partitions) {
			logs[n] = &fewReplicas{Memory: &statelogtest.Memory{}}
			b, err := statelog.EncodeBatch(0, statelog.NoProducer, rec("old")...)
			if err != nil {
				t.Fatal(err)
			}
			if n != whole {
				logs[n].until = back
			}
			if n%2 == 0 {
				logs[n].Hold() // its replicas count as in sync, and do not answer
				logs[n].until = time.Time{}
			}
			if _, err := logs[n].Append(b, 0, commitlog.Guard{}); err != nil {
				t.Fatal(err)
			}
		}
		k, lead := keep(t, statelog.Options{
			Open:     func(n int32) (statelog.Store, error) { return logs[n], nil },
			Placed:   func(int32) (int32, bool) { return partitions, true },
			NewState: func(*statelog.Shard) statelog.State { return &counter{} },
		})
		for n := range int32(partitions) {
			lead(n, true, 1)
			synctest.Wait()
		}
		served := func(n int32) bool { // waits for a while
			t.Helper()
			s, err := k.LockNumber(t.Context(), n)
			if errors.Is(err, statelog.ErrLoading) {
				return false
			}
			if err != nil {
				t.Fatal(err)
			}
			s.Mu.Unlock()
			return true
		}
		if !served(whole) {
			t.Error("a partition with its replicas waits for others")
		}
		if served(0) || served(1) {
			t.Error("a partition without its replicas is served")
		}
		<-time.After(time.Until(back)) // nothing is to happen but that the bubble's clock goes on
		for n := range int32(partitions) {
			logs[n].Release()
		}
		for n := range int32(partitions) {
			for !served(n) && time.Since(back) < time.Minute {
			}
			if d := time.Since(back); d > time.Second {
				t.Errorf("partition %d is served %v after its replicas were back", n, d)
			}
		}
	})
}

// That replicas are missing is told once, and what is wrong besides is told nevertheless.
func TestLoadTellsWhatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := statelog.EncodeBatch(0, statelog.NoProducer, rec("old")...)
		if err != nil {
			t.Fatal(err)
		}
		log := &fewReplicas{Memory: &statelogtest.Memory{}, until: time.Now().Add(time.Second)}
		if _, err := log.Append(b, 0, commitlog.Guard{}); err != nil {
			t.Fatal(err)
		}
		var told bytes.Buffer
		state := &counter{fails: 2}
		k, lead := keep(t, statelog.Options{
			Open:     func(int32) (statelog.Store, error) { return log, nil },
			Placed:   func(int32) (int32, bool) { return 1, true },
			NewState: func(*statelog.Shard) statelog.State { return state },
			Logger:   slog.New(slog.NewTextHandler(&told, nil)),
		})
		lead(0, true, 1)
		s, err := k.Lock(t.Context(), "x")
		for ; errors.Is(err, statelog.ErrLoading); s, err = k.Lock(t.Context(), "x") {
		}
		if err != nil {
			t.Fatal(err)
		}
		s.Mu.Unlock()
		if text := told.String(); strings.Count(text, partition.ErrNotEnoughAfter.Error()) != 1 || strings.Count(text, "unreadable") != 2 {
			t.Error(text)
		}
	})
}

// Partitions that cannot be loaded keep no other from it while they pause, however many there are.
func TestFailedLoadsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions = 20
		k, lead := keep(t, statelog.Options{
			Open: func(n int32) (statelog.Store, error) {
				if n < partitions-1 {
					return nil, errors.New("unreadable")
				}
				return &statelogtest.Memory{}, nil
			},
			Placed:   func(int32) (int32, bool) { return partitions, true },
			NewState: func(*statelog.Shard) statelog.State { return &counter{} },
		})
		for n := range int32(partitions) {
			lead(n, true, 1)
		}
		began := time.Now()
		s, err := k.LockNumber(t.Context(), partitions-1)
		if err != nil {
			t.Fatal(err)
		}
		s.Mu.Unlock()
		if d := time.Since(began); d > 100*time.Millisecond {
			t.Errorf("loaded after %v", d)
		}
	})
}

func TestTimers(t *testing.T) {
	testKeeper(t, func(t *testing.T, h *house) {
		h.lead(0, true, 1)
		s, err := h.k.Lock(context.Background(), "x")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var fired []string
		timer := func(name string, d time.Duration) *statelog.Timer {
			tm := s.NewTimer(func() { fired = append(fired, fmt.Sprint(name, time.Since(began))) })
			tm.Arm(d)
			return tm
		}
		timer("c", 3*time.Second)
		timer("a", time.Second)
		moved := timer("b", time.Second)
		moved.Arm(2 * time.Second)
		gone := timer("x", time.Second)
		gone.Disarm()
		s.Mu.Unlock()
		<-time.After(time.Minute)
		s.Mu.Lock()
		defer s.Mu.Unlock()
		if got := fmt.Sprint(fired); got != "[a1s b2s c3s]" {
			t.Fatal(got)
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	b, err := statelog.EncodeBatch(0, statelog.NoProducer, append(rec("a"), rec("b")...)...)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(statelog.EncodeMarker(0, statelog.Producer{ID: 1, Epoch: 2}, 3, true))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, n, err := statelog.DecodeBatch(b); err == nil && (n <= 0 || n > len(b)) {
			t.Fatal(n)
		}
	})
}
