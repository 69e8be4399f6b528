package broker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestPace: ten million bytes at a million a second take ten seconds, however many ask; none at the default.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pace{rate: 1e6}
		start := time.Now()
		done := make(chan struct{})
		for range 2 {
			go func() {
				for range 500 {
					if err := p.wait(t.Context(), 10_000); err != nil {
						t.Error(err)
					}
				}
				done <- struct{}{}
			}()
		}
		<-done
		<-done
		if took := time.Since(start); took < 9900*time.Millisecond || took > 10*time.Second {
			t.Errorf("10 MB took %v", took)
		}
		p.rate = 1.7976931348623157e308
		start = time.Now()
		if err := p.wait(t.Context(), 1<<30); err != nil || time.Since(start) > 0 {
			t.Error(err, time.Since(start))
		}
		p.rate = 1
		ctx, cancel := context.WithCancel(t.Context())
		if err := p.wait(ctx, 1000); err != nil { // it is the next that waits
			t.Error(err)
		}
		cancel()
		if err := p.wait(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
