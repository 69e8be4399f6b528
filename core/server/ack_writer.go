package server

import (
	"sync/atomic"
	"time"

	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/wire"
	"github.com/twmb/franz-go/pkg/kerr"
)

// ackWriter sends the replies of Produce requests in order, each when its acks
// are in. So the requests of one connection are appended at once and share a group commit.
type ackWriter struct {
	c      *conn
	queue  chan *produced
	due    atomic.Int64 // replies pushed and not yet sent
	failed atomic.Bool  // a write failed: nothing more is sent
	gate   *produced
	done   chan struct{}
}

// maxOutstanding bounds the replies that a connection may have due; beyond it
// the client waits (invariant 9). What a reply holds is small: the record sets are in the log.
const maxOutstanding = 64

// coalesce is how many bytes of replies are sent with one system call.
const coalesce = 16 << 10

func newAckWriter(c *conn) *ackWriter {
	w := &ackWriter{c: c, queue: make(chan *produced, maxOutstanding), done: make(chan struct{}),
		gate: &produced{barrier: make(chan struct{}, 1)}}
	go w.run()
	return w
}

// busy says whether replies are due; the connection's own goroutine must not write then.
func (w *ackWriter) busy() bool { return w.due.Load() > 0 }

// push leaves a reply to the ackWriter; it waits while too many are due.
func (w *ackWriter) push(p *produced) error {
	if w.failed.Load() {
		return errQuiet
	}
	w.due.Add(1)
	w.queue <- p
	return nil
}

// wait blocks until every reply is sent.
func (w *ackWriter) wait() error {
	if w.busy() {
		w.queue <- w.gate
		<-w.gate.barrier
	}
	if w.failed.Load() {
		return errQuiet
	}
	return nil
}

// finish waits for what is due and ends the goroutine.
func (w *ackWriter) finish() {
	close(w.queue)
	<-w.done
}

func (w *ackWriter) run() {
	defer close(w.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	buf := wire.Get(1 << 10)
	defer func() { buf.Free() }()
	buf.B = buf.B[:0]
	unsent := int64(0)
	flush := func() {
		if unsent == 0 {
			return
		}
		if !w.failed.Load() {
			if err := w.c.write(buf.B); err != nil {
				w.failed.Store(true)
				w.c.close() // its reader notices
			}
		}
		buf.B = buf.B[:0]
		w.due.Add(-unsent)
		unsent = 0
	}
	for {
		var p *produced
		var ok bool
		select {
		case p, ok = <-w.queue:
		default:
			flush()
			p, ok = <-w.queue
		}
		if !ok {
			flush()
			return
		}
		if p.barrier != nil {
			flush()
			p.barrier <- struct{}{}
			continue
		}
		if !p.settled() {
			flush()
			w.await(p, timer)
		}
		at := len(buf.B)
		buf.B = append(buf.B[:at], w.c.s.appendProduceResponse(buf.B[at:], p)...)
		w.c.s.answeredProduce(p, len(buf.B)-at)
		unsent++
		p.free()
		if len(buf.B) >= coalesce {
			flush()
		}
	}
}

// settled says whether all acks are in.
func (p *produced) settled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left == 0
}

// await returns once every partition of p is acked, refused, or out of time.
func (w *ackWriter) await(p *produced, timer *time.Timer) {
	timer.Reset(time.Until(p.deadline))
	select {
	case <-p.ready:
	case <-timer.C:
		p.lapse(kerr.RequestTimedOut)
	case <-w.c.ctx.Done():
		p.lapse(partition.ErrNotLeader) // nobody reads it
	}
}
