package broker

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/core/controller"
)

// fetchedFrom counts what a client's Fetches brought, by node.
type fetchedFrom struct {
	mu    sync.Mutex
	bytes map[int32]int
}

func (f *fetchedFrom) OnBrokerRead(meta kgo.BrokerMetadata, key int16, bytesRead int, _, _ time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if key == 1 && err == nil {
		f.bytes[meta.NodeID] += bytesRead
	}
}

func (f *fetchedFrom) of(node int32) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes[node]
}

// A consumer reads from the replica in its rack, and from another one when that dies; nothing is lost or doubled (KIP-392).
func TestFetchFromTheOwnRack(t *testing.T) {
	options := three(t)
	for i := range options {
		options[i].Set = map[string]string{"replica.selector.class": controller.RackAwareSelector}
	}
	nodes := startAll(t, options)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	p, err := kgo.NewClient(seeds(nodes), kgo.DefaultProduceTopic("near"), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	admin := kadm.NewClient(p)
	if _, err := admin.CreateTopic(ctx, 1, 3, nil, "near"); err != nil {
		t.Fatal(err)
	}
	topics, err := admin.ListTopics(ctx, "near")
	if err != nil {
		t.Fatal(err)
	}
	leader := topics["near"].Partitions[0].Leader
	follower := leader%3 + 1
	// This client asks its leader again only in this interval, even when the replica is gone.
	again := kgo.RecheckPreferredReplicaInterval(500 * time.Millisecond)
	from := &fetchedFrom{bytes: map[int32]int{}}
	c, err := kgo.NewClient(seeds(nodes), kgo.WithHooks(from), again, kgo.Rack(fmt.Sprint("rack-", follower-1)), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"near": {0: kgo.NewOffset().AtStart()}}), kgo.MetadataMinAge(50*time.Millisecond),
		kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, addr)
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	next := 0
	pass := func(n int) { // n records are produced and read, each once and in order
		t.Helper()
		for i := range n {
			r := &kgo.Record{Value: fmt.Appendf(make([]byte, 0, 1000), "%0900d", next+i)}
			if err := p.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		for end := next + n; next < end; {
			fetches := c.PollFetches(ctx)
			if ctx.Err() != nil {
				t.Fatalf("%d of %d were read", next, end)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				if want := fmt.Sprintf("%0900d", next); string(r.Value) != want || r.Offset != int64(next) {
					t.Fatalf("offset %d has %.9s…, want %d", r.Offset, r.Value[891:], next)
				}
				next++
			})
		}
	}
	pass(1) // the first Fetch is the leader's, which tells where to go
	at := from.of(leader)
	pass(40)
	if near, far := from.of(follower), from.of(leader)-at; near < 36_000 || far > 8_000 {
		t.Errorf("%d bytes came from the own rack, %d from the leader", near, far)
	}
	nodes[follower-1].end(t)
	at = from.of(follower)
	pass(40)
	if now := from.of(follower) - at; now > 0 {
		t.Errorf("%d bytes from a node that is gone", now)
	}
	nodes[follower-1] = start(t, options[follower-1])
	pass(20)
}
