package main

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestOneSignalSentTwice: timeout(1) sends its signal to the process and to its group; only a later one ends without a clean end.
func TestOneSignalSentTwice(t *testing.T) {
	for _, c := range []struct {
		after []time.Duration // of each signal behind the one before
		want  bool
	}{
		{nil, false},
		{[]time.Duration{0}, false},
		{[]time.Duration{time.Millisecond, 200 * time.Millisecond}, false},
		{[]time.Duration{time.Millisecond, 400 * time.Millisecond}, true},
		{[]time.Duration{time.Second}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			signals, done, got := make(chan os.Signal, 2), make(chan struct{}), make(chan bool, 1)
			go func() { got <- again(signals, done) }()
			synctest.Wait()
			for _, d := range c.after {
				<-time.After(d) // of the bubble's clock
				signals <- syscall.SIGTERM
				synctest.Wait()
			}
			close(done)
			if g := <-got; g != c.want {
				t.Errorf("signals %v after the first: %v, want %v", c.after, g, c.want)
			}
		})
	}
}
