package server

import (
	"errors"
	"os"
	"time"
)

// watcher notices that a client has gone while its request is being handled:
// it reads ahead, and ends the connection's context when there is nothing more to
// come. It starts only when a handler takes its time, so a quick one costs a timer.
type watcher struct {
	c     *conn
	timer *time.Timer
	begun chan struct{} // one token: the timer fired and run began
	done  chan struct{} // one token: run is over
}

// watchAfter is how long a request may take before its client is watched.
const watchAfter = 20 * time.Millisecond

func (w *watcher) start() {
	if w.timer == nil {
		w.begun, w.done = make(chan struct{}, 1), make(chan struct{}, 1)
		w.timer = time.AfterFunc(watchAfter, w.run)
		return
	}
	w.timer.Reset(watchAfter)
}

// stop ends the watch; the reader is the connection's own again.
func (w *watcher) stop() {
	if w.timer.Stop() {
		return
	}
	<-w.begun
	_ = w.c.nc.SetReadDeadline(time.Unix(1, 0)) // wakes run; an error shows there
	<-w.done
	w.c.readUntil = time.Time{}
	w.c.armIdle()
}

func (w *watcher) run() {
	w.begun <- struct{}{}
	for {
		full, err := w.c.in.AwaitMore()
		if full {
			break // a client that has pipelined so much is watched when its next request comes
		}
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				w.c.cancel()
			}
			break
		}
	}
	w.done <- struct{}{}
}
