package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/vfs"
)

// fleet is one node after the other on the same address, as clients see it: each is killed by a power cut.
type fleet struct {
	disk *vfs.Memory
	now  atomic.Pointer[node]

	mu    sync.Mutex
	conns []net.Conn
}

func newFleet(t testing.TB) *fleet {
	f := &fleet{disk: vfs.NewCrash()}
	f.now.Store(start(t, Options{DataDir: "/data", FS: f.disk}))
	return f
}

// cut cuts the power and starts the node again. Connections go first: nobody is told anything that the disk does not keep.
func (f *fleet) cut(t testing.TB) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.conns = nil
	old := f.now.Load()
	after := f.disk.Crashed(nil)
	old.end(t)
	f.disk = after
	f.now.Store(start(t, Options{DataDir: "/data", FS: after}))
}

func (f *fleet) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.now.Load().Dial(ctx)
	if err == nil {
		f.conns = append(f.conns, c)
	}
	return c, err
}

func (f *fleet) client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	return f.now.Load().client(t, append([]kgo.Opt{kgo.Dialer(f.dial), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond })}, opts...)...)
}

// Two cooperative consumers share a topic; one leaves, one comes: no record is missed, none is read twice, and what is
// committed never steps back.
func TestCooperativeRebalance(t *testing.T) {
	n := start(t, Options{DataDir: "/data", FS: vfs.NewMemory()})
	createTopic(t, n, "orders", 6)
	ctx, stop := context.WithCancel(within(t, time.Minute))
	defer stop()
	var mu sync.Mutex
	seen := map[string]int{}
	progress := make(chan struct{}, 1)
	member := func(ctx context.Context, done *sync.WaitGroup) {
		cl := n.client(t, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("orders"), kgo.Balancers(kgo.CooperativeStickyBalancer()),
			kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.HeartbeatInterval(50*time.Millisecond))
		done.Go(func() {
			defer cl.Close()
			for ctx.Err() == nil {
				f := cl.PollFetches(ctx)
				var got []string
				f.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
				if err := cl.CommitUncommittedOffsets(context.Background()); err != nil {
					t.Error("commit:", err)
				}
				mu.Lock()
				for _, v := range got {
					seen[v]++
				}
				mu.Unlock()
				cl.AllowRebalance()
				select {
				case progress <- struct{}{}:
				default:
				}
			}
		})
	}
	reach := func(want int) {
		t.Helper()
		for {
			mu.Lock()
			have := len(seen)
			mu.Unlock()
			if have >= want {
				return
			}
			select {
			case <-progress:
			case <-ctx.Done():
				t.Fatalf("%d of %d records", have, want)
			}
		}
	}
	var first, others sync.WaitGroup
	leaving, leave := context.WithCancel(ctx)
	defer leave()
	member(leaving, &first)
	cl := n.client(t)
	total := 0
	send := func() {
		produce(t, cl, "orders", total, total+300)
		total += 300
		reach(total)
	}
	send()
	member(ctx, &others)
	send()
	leave()
	first.Wait()
	send()
	member(ctx, &others)
	send()
	stop()
	others.Wait()
	for v, count := range seen {
		if count != 1 {
			t.Errorf("%s was read %d times", v, count)
		}
	}
}

// A static member that is restarted within its session keeps its partitions, and the others notice nothing (KIP-345).
func TestStaticMemberRestarts(t *testing.T) {
	n := start(t, Options{DataDir: "/data", FS: vfs.NewMemory()})
	createTopic(t, n, "orders", 2)
	produce(t, n.client(t), "orders", 0, 100)
	ctx := within(t, time.Minute)
	adm := kadm.NewClient(n.client(t))
	member := func(instance string) *kgo.Client {
		return n.client(t, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("orders"), kgo.InstanceID(instance), kgo.Balancers(kgo.RangeBalancer()), kgo.HeartbeatInterval(50*time.Millisecond))
	}
	members := func() (ids []string) {
		ds, err := adm.DescribeGroups(ctx, "g")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ds["g"].Members {
			ids = append(ids, *m.InstanceID+"="+m.MemberID)
		}
		return append(ids, ds["g"].State)
	}
	a, b := member("a"), member("b")
	before := members()
	for before[len(before)-1] != "Stable" || len(before) != 3 {
		tick(ctx)
		before = members()
	}
	_, gen := a.GroupMetadata()
	b.Close() // a static member does not leave
	b = member("b")
	for ctx.Err() == nil {
		if id, now := b.GroupMetadata(); id != "" && now >= 0 {
			break
		}
		tick(ctx)
	}
	after := members()
	if len(after) != 3 || after[2] != "Stable" || after[0] != before[0] && after[1] != before[0] {
		t.Errorf("members were %v and are %v", before, after)
	}
	if _, now := a.GroupMetadata(); now != gen {
		t.Errorf("generation %d became %d", gen, now)
	}
}

// What is consumed, transformed and produced in transactions is there exactly once, whatever happens to the node.
func TestExactlyOnceOverPowerCuts(t *testing.T) {
	const records, cuts = 3000, 5
	f := newFleet(t)
	createTopic(t, f.now.Load(), "in", 3)
	createTopic(t, f.now.Load(), "out", 3)
	ctx, stop := context.WithCancel(within(t, 2*time.Minute))
	defer stop()
	var workers sync.WaitGroup
	var copied atomic.Int64
	for w := range 2 {
		s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(f.now.Load().KafkaAddr()), kgo.Dialer(f.dial), kgo.TransactionalID("copy-"+strconv.Itoa(w)),
			kgo.ConsumerGroup("copy"), kgo.ConsumeTopics("in"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.HeartbeatInterval(50*time.Millisecond), kgo.FetchMaxWait(50*time.Millisecond), kgo.FetchMaxPartitionBytes(2000),
			kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }), kgo.Balancers(kgo.RoundRobinBalancer()))
		if err != nil {
			t.Fatal(err)
		}
		workers.Go(func() {
			defer s.Close()
			for ctx.Err() == nil {
				in := s.PollFetches(ctx)
				if in.NumRecords() == 0 {
					continue
				}
				if err := s.Begin(); err != nil {
					t.Error("begin:", err)
					return
				}
				failed := kgo.AbortingFirstErrPromise(s.Client())
				in.EachRecord(func(r *kgo.Record) {
					s.Produce(context.Background(), &kgo.Record{Topic: "out", Value: r.Value}, failed.Promise())
				})
				ok := failed.Err() == nil
				committed, err := s.End(context.Background(), kgo.TransactionEndTry(ok))
				if err != nil && !errors.Is(err, kerr.InvalidTxnState) && !errors.Is(err, context.Canceled) {
					t.Log("end:", err)
				}
				if committed {
					copied.Add(int64(in.NumRecords()))
				}
			}
		})
	}
	cl := f.client(t)
	for i := range cuts {
		produce(t, cl, "in", i*records/cuts, (i+1)*records/cuts)
		// Cut while some of this round is copied and some is not.
		target := int64(i)*records/cuts + records/cuts/3
		for copied.Load() < target && ctx.Err() == nil {
			tick(ctx)
		}
		f.cut(t)
	}
	for copied.Load() < records && ctx.Err() == nil {
		tick(ctx)
	}
	stop()
	workers.Wait()
	got := consume(t, f.now.Load(), "out", records, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	slices.Sort(got)
	inOrder(t, got, records)
}

// tick lets others work while a condition is polled.
func tick(ctx context.Context) {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Committed offsets only go up, over any number of power cuts.
func TestOffsetsNeverStepBack(t *testing.T) {
	f := newFleet(t)
	createTopic(t, f.now.Load(), "orders", 1)
	ctx := within(t, time.Minute)
	adm := kadm.NewClient(f.client(t))
	commit := func(at int64) {
		t.Helper()
		os := kadm.Offsets{}
		os.AddOffset("orders", 0, at, -1)
		if err := adm.CommitAllOffsets(ctx, "g", os); err != nil {
			t.Fatal(err)
		}
	}
	at := int64(0)
	for range 5 {
		for range 20 {
			at++
			commit(at)
		}
		f.cut(t)
		os, err := adm.FetchOffsets(ctx, "g")
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := os.Lookup("orders", 0); got.At != at {
			t.Fatalf("committed %d, and after the power cut it is %d", at, got.At)
		}
	}
}

// A transaction that was open when the power went is aborted for its successor; one that was committed is there.
func TestPowerCutInTransaction(t *testing.T) {
	f := newFleet(t)
	createTopic(t, f.now.Load(), "orders", 2)
	ctx := within(t, time.Minute)
	begin := func(values ...string) *kgo.Client {
		t.Helper()
		tx := f.client(t, kgo.TransactionalID("tx"), kgo.DefaultProduceTopic("orders"))
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			if err := tx.ProduceSync(ctx, kgo.StringRecord(v)).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		return tx
	}
	begin("lost-1", "lost-2")
	f.cut(t)
	tx := begin("kept-1")
	if err := tx.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	f.cut(t) // perhaps before the markers are written
	zombie := begin("lost-3")
	tx = begin("kept-2") // another process with the same transactional id
	if err := zombie.EndTransaction(ctx, kgo.TryCommit); err == nil {
		t.Error("a zombie committed")
	}
	if err := tx.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	got := consume(t, f.now.Load(), "orders", 2, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	slices.Sort(got)
	if fmt.Sprint(got) != "[kept-1 kept-2]" {
		t.Errorf("read_committed sees %v", got)
	}
	// The last stable offset is at the end: nothing hangs.
	adm := kadm.NewClient(f.client(t))
	stable, err := adm.ListCommittedOffsets(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	ends, err := adm.ListEndOffsets(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		if s, _ := stable.Lookup(o.Topic, o.Partition); s.Offset != o.Offset {
			t.Errorf("%s-%d: last stable offset %d, end %d", o.Topic, o.Partition, s.Offset, o.Offset)
		}
	})
}
