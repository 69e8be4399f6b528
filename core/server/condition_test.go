package server

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/core/commitlog"
)

// TestOptimisticConcurrency: writers of an account, unmodified idempotent clients, each read the balance, add one and append the new balance at the
// offset behind what they have read. Whoever was overtaken is told, reads on and tries again. No addition is lost.
func TestOptimisticConcurrency(t *testing.T) {
	const writers, rounds = 5, 40
	n := newServing(t)
	n.topic("account", 1)
	n.setTopic("account", "forebay.append.condition", "true")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var conflicts atomic.Int64
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			cl := newKgo(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
				kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"account": {0: kgo.NewOffset().AtStart()}}), kgo.FetchMaxWait(50*time.Millisecond))
			next, balance := int64(0), 0
			read := func(end int64) {
				for next < end && ctx.Err() == nil {
					cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
						balance, _ = strconv.Atoi(string(r.Value))
						next = r.Offset + 1
					})
				}
			}
			for range rounds {
				for {
					r := &kgo.Record{Topic: "account", Value: []byte(strconv.Itoa(balance + 1)),
						Headers: []kgo.RecordHeader{{Key: commitlog.ExpectedOffset, Value: []byte(strconv.FormatInt(next, 10))}}}
					err := cl.ProduceSync(ctx, r).FirstErr()
					if err == nil {
						read(r.Offset + 1)
						break
					}
					if !errors.Is(err, kerr.PolicyViolation) {
						t.Error(err)
						return
					}
					conflicts.Add(1)
					read(next + 1) // somebody was faster, so there is something
				}
			}
		})
	}
	wg.Wait()
	p, err := n.set.Partition("account", 0)
	if err != nil {
		t.Fatal(err)
	}
	cl := newKgo(t, n, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"account": {0: kgo.NewOffset().At(p.Log().EndOffset() - 1)}}))
	last := ""
	for last == "" && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { last = string(r.Value) })
	}
	if last != strconv.Itoa(writers*rounds) || p.Log().EndOffset() != writers*rounds {
		t.Fatalf("the balance is %s after %d records, want %d", last, p.Log().EndOffset(), writers*rounds)
	}
	if conflicts.Load() == 0 {
		t.Fatal("nobody was in anybody's way")
	}
	t.Logf("%d conflicts", conflicts.Load())
}
