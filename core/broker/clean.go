package broker

import (
	"context"
	"sync"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
)

// clean looks after compaction, as Kafka's LogCleaner does: log.cleaner.threads at a time, each with its part of
// log.cleaner.dedupe.buffer.size, all together within log.cleaner.io.max.bytes.per.second; a round every log.cleaner.backoff.ms. The configs
// are read anew before each round.
func (b *Broker) clean(ctx context.Context) error {
	timer := time.NewTimer(min(firstMaintenance, b.control.Duration("log.cleaner.backoff.ms")))
	defer timer.Stop()
	p := &pace{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if threads := int(b.control.Int("log.cleaner.threads")); threads > 0 && b.control.Bool("log.cleaner.enable") {
			p.rate = b.control.Float("log.cleaner.io.max.bytes.per.second")
			b.replicas.Clean(ctx, threads, commitlog.Cleaning{
				Memory: b.control.Int("log.cleaner.dedupe.buffer.size") / int64(threads),
				Pace:   func(n int) error { return p.wait(ctx, n) },
			})
		}
		timer.Reset(max(b.control.Duration("log.cleaner.backoff.ms"), time.Millisecond))
	}
}

// pace spreads bytes over time.
type pace struct {
	rate float64 // bytes a second; 0: no bound; changed only between rounds

	mu   sync.Mutex
	free time.Time // when what was let through so far is paid for
}

// shortPace is a wait that is not worth a timer: it is waited for with the next.
const shortPace = 10 * time.Millisecond

// wait lets n bytes through.
func (p *pace) wait(ctx context.Context, n int) error {
	return p.spend(ctx, p.time(n))
}

// time is how long n bytes take.
func (p *pace) time(n int) time.Duration {
	if p.rate <= 0 {
		return 0
	}
	return time.Duration(min(float64(n)/p.rate, 3600) * float64(time.Second))
}

// spend lets through what takes so long.
func (p *pace) spend(ctx context.Context, took time.Duration) error {
	if took <= 0 {
		return ctx.Err()
	}
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	due := p.free.Sub(now)
	p.free = p.free.Add(took)
	p.mu.Unlock()
	if due < shortPace {
		return ctx.Err()
	}
	t := time.NewTimer(due)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
