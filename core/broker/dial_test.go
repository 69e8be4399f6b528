package broker

import (
	"errors"
	"net"
	"sync"
	"testing"
)

// TestDialWhileItEnds: who dials in the moment in which a node ends is served to an end or refused; the race detector sees one that is neither.
func TestDialWhileItEnds(t *testing.T) {
	for range 10 {
		n := start(t, Options{DataDir: t.TempDir()})
		var dialers sync.WaitGroup
		for range 4 {
			dialers.Go(func() {
				for {
					c, err := n.Dial(t.Context())
					if errors.Is(err, net.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					_ = c.Close() // nothing was asked
				}
			})
		}
		n.end(t)
		dialers.Wait()
	}
}
