package broker

import (
	"context"
	"errors"
	"time"

	"github.com/forebayhub/forebay/core/controller"
)

const (
	// firstScrub is when the first pass begins: a start has caught up by then.
	firstScrub = 10 * time.Minute
	// scrubLook is how often it is looked whether a pass is due; its interval may change.
	scrubLook = time.Minute
	// scrubShare bounds the share of the time in which the scrub waits for the disk, one in so many: a busy disk takes longer over a read, and has a longer rest after
	// it, up to scrubRest.
	scrubShare = 10
	scrubRest  = time.Second
)

var errScrubOff = errors.New("it was turned off")

// scrub looks after the scrub: a pass each log.scrub.interval.ms. Both configs hold from the next read on.
func (b *Broker) scrub(ctx context.Context) error {
	every := func() time.Duration { return b.control.Duration(controller.ScrubConfig) }
	p := &pace{}
	step := func(n int, took time.Duration) error {
		if every() < 0 {
			return errScrubOff
		}
		p.rate = b.control.Float(controller.ScrubRateConfig)
		return p.spend(ctx, max(p.time(n), min(took*(scrubShare-1), scrubRest)))
	}
	began := time.Now().Add(-every() + min(firstScrub, every()))
	for {
		wait := scrubLook
		if every() >= 0 {
			wait = min(wait, max(every()-time.Since(began), shortPace))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if e := every(); e >= 0 && time.Since(began) >= e {
			began = time.Now()
			b.replicas.Scrub(ctx, step)
		}
	}
}
